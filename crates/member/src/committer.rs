//! Puts batches into the data file: one transaction each, with its sync. Never looks into them.

use crate::apply::FileCommitted;
use crate::measure::{Measure, Work};
use crate::message::{ToApply, ToCommitter};
use crate::router::Router;

/// The stage that writes the data file.
#[derive(Debug, Default)]
pub struct Committer {}

impl Committer {
    /// Takes messages and answers each to Apply. `inputs` is drained. Waits for the disk.
    pub fn handle(&mut self, inputs: &mut Vec<ToCommitter>, router: &dyn Router) {
        for ToCommitter::Commit(job) in inputs.drain(..) {
            router.measure(Measure::Begins(Work::Commit));
            let done = job.run();
            router.measure(Measure::Ends(Work::Commit));
            router.to_apply(ToApply::FileCommitted(FileCommitted(done)));
        }
    }
}
