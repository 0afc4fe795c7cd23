//! etcdutl: works on files while no member runs on them.

use crate::Failure;

pub(crate) fn run(_args: &[String]) -> Result<(), Failure> {
    Err(Failure::bad_args("none"))
}
