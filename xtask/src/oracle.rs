//! The long form of the comparison of our raft core with Go's (crates/raft/tests/oracle.rs). Its short form is a test.

use std::process::Command;

use crate::{root, run};

const STEPS: u64 = 10_000_000;
/// Steps of one cluster; then another begins, with other settings.
const STEPS_A_SEED: u64 = 10_000;

/// Runs so many steps with each version of the module, beginning with a seed.
pub fn run_all(args: &[String]) -> Result<(), String> {
    let number = |place: usize, default: u64| {
        args.get(place).map_or(Ok(default), |text| {
            text.parse().map_err(|_| format!("oracle: {text:?} is no number"))
        })
    };
    let (steps, first) = (number(0, STEPS)?, number(1, 0)?);
    run(Command::new("cargo")
        .args([
            "test",
            "--package",
            "raft",
            "--test",
            "oracle",
            "--",
            "--nocapture",
        ])
        .env("ORACLE_FIRST", first.to_string())
        .env("ORACLE_SEEDS", steps.div_ceil(STEPS_A_SEED).to_string())
        .env("ORACLE_STEPS", STEPS_A_SEED.to_string())
        .current_dir(root()))
}
