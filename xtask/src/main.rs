//! Tasks of the repository, one command each; `cargo xtask` lists them.

#![allow(clippy::print_stdout)] // A command for people prints.

mod bench;
mod clients;
mod history;
mod kubernetes;
mod mutants;
mod oracle;
mod peers;
mod sim;
mod suites;
mod tidy;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <task>

  check            all that a change must pass and that writes nothing: formatting, lints, tidy, licences
  fix              format, and apply what the lints can mend by themselves
  tidy             the rules of the tree: what a crate may use, file heads, words that may not stay
  peers            build real etcd 3.5, 3.6, 3.7 and the interop tool into target/peers (needs Go)
  interop [--all]  black-box tests of the built binary, with real etcd beside it, and the quick form of
                   `kubernetes`; --all: the long forms, and the task `clients`
  suites [--scope NAME] [--quick] [TEST ...]
                   etcd's own end-to-end suite, judging the built binary; `suites --help` lists the rest
  kubernetes [--quick] [--etcd PATH] [GO-TEST-ARGUMENT ...]
                   the storage tests of Kubernetes' API server with the built binary as their etcd
  clients PATH...  the client libraries of Python, Node, Java and Rust, as far as their tools are installed,
                   at each of these programs
  oracle [STEPS [SEED]]
                   our raft core beside Go's, of etcd 3.6 and 3.7: as many random steps on each, ten million unless told,
                   from this seed on (needs Go)
  mutants PACKAGE [WORD ...]
                   puts single faults into a copy of the sources (those whose name has the words): the tests of the
                   package must find each; for `sim`, its seeds
  sim [--minutes N] [--seed N [--count N]] [--span SECONDS] [--shrink] [--until-violation]
                   whole clusters in one thread, seed after seed, with every fault there is: a minute unless told;
                   what fails is told with its story, shrunk if asked
  bench [--against PATH_TO_ETCD] [--members N] [--scale F] [SCENARIO ...]
                   CPU per operation, memory and restart time, side by side with real etcd 3.7 unless told; with members,
                   what a cluster of so many costs in CPU, all of them together
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let result = match args.first().map(String::as_str) {
        Some("check") => check(),
        Some("fix") => fix(),
        Some("tidy") => tidy::run(),
        Some("peers") => peers::build().map(|_| ()),
        Some("interop") => peers::interop(rest),
        Some("suites") => suites::run_all(rest),
        Some("kubernetes") => kubernetes::run_all(rest),
        Some("clients") => clients::run_all(&rest.iter().map(PathBuf::from).collect::<Vec<_>>()),
        Some("oracle") => oracle::run_all(rest),
        Some("sim") => sim::run_all(rest),
        Some("mutants") => mutants::run_all(rest),
        Some("bench") => bench::run_all(rest),
        _ => Err(USAGE.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    tidy::run()?;
    cargo(&[
        "deny",
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ])
}

fn fix() -> Result<(), String> {
    cargo(&["fmt", "--all"])?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ])
}

/// Runs cargo in the repository's root.
fn cargo(args: &[&str]) -> Result<(), String> {
    run(Command::new("cargo").args(args).current_dir(root()))
}

/// Runs a command; its failure names it.
fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("failed ({status}): {command:?}"))
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the repository")
        .to_path_buf()
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
