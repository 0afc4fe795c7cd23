//! Runs the simulated cluster: `crates/sim`.

use std::process::Command;

use crate::{root, run};

/// Builds it and passes the arguments on; without any, a minute of seeds.
pub fn run_all(args: &[String]) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command
        .args(["run", "--quiet", "--package", "sim", "--"])
        .current_dir(root());
    match args.is_empty() {
        true => command.args(["--minutes", "1"]),
        false => command.args(args),
    };
    run(&mut command)
}
