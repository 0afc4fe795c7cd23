//! Mutants: single faults put into a copy of the sources, each of which the tests must find. What survives shows what the
//! tests do not look at. Never touches the sources themselves.

mod raft;

use std::fs;
use std::path::Path;
use std::process::Command;

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

/// The faults of a package, and the tests that must find them (arguments of `cargo test`).
struct Package {
    name: &'static str,
    tests: &'static [&'static str],
    mutants: &'static [Mutant],
}

const PACKAGES: [Package; 1] = [Package {
    name: "raft",
    tests: raft::TESTS,
    mutants: raft::MUTANTS,
}];

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
    if let Some(failed) = test(&tree, package)? {
        return Err(format!("mutants: without any fault fails: {failed}"));
    }
    let mut survived = Vec::new();
    let chosen = |mutant: &&Mutant| words.iter().all(|word| mutant.name.contains(word.as_str()));
    for mutant in package.mutants.iter().filter(chosen) {
        match with_mutant(&tree, mutant, || test(&tree, package))? {
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

/// Builds the tests, which must work, and runs them. Returns the names of those that failed, `None` if all passed.
fn test(tree: &Path, package: &Package) -> Result<Option<String>, String> {
    let cargo = |more: &[&str]| {
        Command::new("cargo")
            .args(["test", "--package", package.name])
            .args(package.tests)
            .args(more)
            .env("CARGO_TARGET_DIR", target().join("mutants/build"))
            .env("RUST_BACKTRACE", "0")
            // A fault may be the code's last use of something.
            .env("RUSTFLAGS", "--cap-lints=warn")
            .current_dir(tree)
            .output()
            .map_err(|error| error.to_string())
    };
    let built = cargo(&["--no-run"])?;
    if !built.status.success() {
        return Err(format!(
            "does not build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        ));
    }
    let run = cargo(&["--no-fail-fast"])?;
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
