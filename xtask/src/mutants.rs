//! Mutants: single faults put into a copy of the sources, each of which the tests, or the simulation, must find. What
//! survives shows what they do not look at. Never touches the sources themselves.

mod raft;
mod sim;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::{root, target};

/// One fault.
pub struct Mutant {
    /// What goes wrong, as a person says it.
    name: &'static str,
    /// The file, from the root of the repository.
    file: &'static str,
    /// What is replaced; there exactly once.
    from: &'static str,
    /// What it becomes.
    to: &'static str,
}

/// Single faults, and who must find them.
struct Package {
    name: &'static str,
    finder: Finder,
    mutants: &'static [Mutant],
}

/// Who must find a fault.
enum Finder {
    /// Tests of the package: arguments of `cargo test`.
    Tests(&'static [&'static str]),
    /// Seeds of the package's program, so many: less than half a second of a processor each.
    Seeds { count: u32 },
}

const PACKAGES: [Package; 2] = [
    Package {
        name: "raft",
        finder: Finder::Tests(raft::TESTS),
        mutants: raft::MUTANTS,
    },
    Package {
        name: "sim",
        finder: Finder::Seeds { count: 600 },
        mutants: sim::MUTANTS,
    },
];

/// Seeds that must show nothing where there is no fault.
const SOUND_SEEDS: u32 = 20;

/// Runs the mutants of a package, or those of them whose name has all the words given after it.
pub fn run_all(args: &[String]) -> Result<(), String> {
    let packages = PACKAGES.map(|package| package.name).join(", ");
    let Some((name, words)) = args.split_first() else {
        return Err(format!("mutants: name a package: {packages}"));
    };
    let package = PACKAGES
        .iter()
        .find(|package| package.name == name)
        .ok_or_else(|| format!("mutants: no package {name}; there are {packages}"))?;
    let tree = target().join("mutants/tree");
    copy_tree(&tree)?;
    if let Some(failed) = look(&tree, package, true)? {
        return Err(format!("mutants: without any fault fails: {failed}"));
    }
    let mut survived = Vec::new();
    let chosen = |mutant: &&Mutant| words.iter().all(|word| mutant.name.contains(word.as_str()));
    for mutant in package.mutants.iter().filter(chosen) {
        match with_mutant(&tree, mutant, || look(&tree, package, false))? {
            Some(failed) => println!("found     {}: {failed}", mutant.name),
            None => {
                println!("SURVIVED  {}", mutant.name);
                survived.push(mutant.name);
            }
        }
    }
    if survived.is_empty() {
        Ok(())
    } else {
        Err(format!("mutants: no test finds: {}", survived.join("; ")))
    }
}

/// Puts the fault in, runs, and takes it out again.
fn with_mutant<T>(
    tree: &Path,
    mutant: &Mutant,
    run: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let path = tree.join(mutant.file);
    let source = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let places = source.matches(mutant.from).count();
    if places != 1 {
        return Err(format!(
            "mutant {:?}: {} has its text {places} times, not once",
            mutant.name, mutant.file
        ));
    }
    let write = |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    write(&source.replace(mutant.from, mutant.to))?;
    let result = run();
    write(&source)?;
    result.map_err(|text| format!("mutant {:?}: {text}", mutant.name))
}

/// Runs whoever must find the fault. Returns what was found, `None` if nothing was. `sound`: there is no fault.
fn look(tree: &Path, package: &Package, sound: bool) -> Result<Option<String>, String> {
    match package.finder {
        Finder::Tests(tests) => test(tree, package.name, tests),
        Finder::Seeds { count } => simulate(tree, package.name, if sound { SOUND_SEEDS } else { count }),
    }
}

fn cargo(tree: &Path, args: &[&str]) -> Result<Output, String> {
    Command::new("cargo")
        .args(args)
        .env("CARGO_TARGET_DIR", target().join("mutants/build"))
        .env("RUST_BACKTRACE", "0")
        // A fault may be the code's last use of something.
        .env("RUSTFLAGS", "--cap-lints=warn")
        .current_dir(tree)
        .output()
        .map_err(|error| error.to_string())
}

fn built(output: &Output) -> Result<(), String> {
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Builds the tests, which must work, and runs them. Returns the names of those that failed, `None` if all passed.
fn test(tree: &Path, package: &str, tests: &[&str]) -> Result<Option<String>, String> {
    let args = |more: &[&'static str]| [&["test", "--package", package], tests, more].concat();
    built(&cargo(tree, &args(&["--no-run"]))?)?;
    let run = cargo(tree, &args(&["--no-fail-fast"]))?;
    if run.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let failed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .collect();
    Ok(Some(failed.join(", ")))
}

/// Builds the program and runs so many seeds, or until one shows a violation.
fn simulate(tree: &Path, package: &str, count: u32) -> Result<Option<String>, String> {
    built(&cargo(tree, &["build", "--package", package])?)?;
    let begin = Instant::now();
    let mut run = Command::new(target().join("mutants/build/debug").join(package));
    run.args(["--until-violation", "--count", &count.to_string()]);
    let output = run.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(None);
    }
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    // The violation, or the panic.
    let mut lines = out.lines().chain(err.lines());
    let first = lines.find(|line| line.starts_with("seed ") || line.contains("panicked"));
    let took = begin.elapsed().as_secs();
    Ok(Some(format!("{} (after {took} s)", first.unwrap_or("it ended"))))
}

/// Copies all files that are part of the repository, and only those that differ, so that a second run builds little.
fn copy_tree(tree: &Path) -> Result<(), String> {
    let list = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("git: {error}"))?;
    for name in String::from_utf8_lossy(&list.stdout).lines() {
        let (from, to) = (root().join(name), tree.join(name));
        // A link or a file that was just removed is of no use here.
        let Ok(data) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|known| known == data) {
            continue;
        }
        let folder = to.parent().expect("a file is in a folder");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&to, data))
            .map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the long form stops at it, which runs seldom.
    #[test]
    fn what_is_replaced_is_there_exactly_once() {
        for mutant in raft::MUTANTS.iter().chain(sim::MUTANTS) {
            let text = fs::read_to_string(root().join(mutant.file)).expect("a file of the repository");
            assert_eq!(
                text.matches(mutant.from).count(),
                1,
                "{}: {}",
                mutant.file,
                mutant.name
            );
        }
    }
}
