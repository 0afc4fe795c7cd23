//! Real etcd as peer: builds the releases that the interop tests need, then runs those tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{clients, kubernetes, root, run, target};

const LINES: [&str; 3] = ["3.5", "3.6", "3.7"];
const PROGRAMS: [(&str, &str); 3] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
    ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
];

/// Builds what is not there yet and says where it is.
pub fn build() -> Result<PathBuf, String> {
    let peers = target().join("peers");
    for line in LINES {
        let module = root().join("interop/peers").join(line);
        let wanted = fs::read_to_string(module.join("go.mod")).map_err(|error| error.to_string())?;
        let stamp = peers.join(line).join("go.mod");
        if fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
            continue;
        }
        eprintln!("building etcd {line} ...");
        fs::create_dir_all(peers.join(line)).map_err(|error| error.to_string())?;
        for (program, package) in PROGRAMS {
            go(&module, &peers.join(line).join(program), &[package])?;
        }
        fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    }
    let tools = root().join("interop/tool");
    go(&tools, &peers.join("tool"), &["."])?;
    go(&tools, &peers.join("bbolt"), &["go.etcd.io/bbolt/cmd/bbolt"])?;
    Ok(peers)
}

/// Builds what the tests of the log compare with, and runs the tests of the formats: bbolt's own tool over
/// our data files, etcd's own log package over our logs and the other way round.
fn formats(peers: &Path) -> Result<(), String> {
    let sources = root().join("crates/wal/tests/go");
    let source = |name: &str| sources.join(name).display().to_string();
    let (main, v36, v37) = (source("main.go"), source("v36.go"), source("v37.go"));
    let tools = [peers.join("waltool-3.6"), peers.join("waltool-3.7")];
    go(&root().join("interop/peers/3.6"), &tools[0], &[&main, &v36])?;
    go(
        &root().join("interop/peers/3.7"),
        &tools[1],
        &["-tags=etcd37", &main, &v37],
    )?;
    let tools: Vec<String> = tools.iter().map(|tool| tool.display().to_string()).collect();
    run(Command::new("cargo")
        .args(["test", "--package", "bbolt", "--package", "wal"])
        .env("MAINSTAY_BBOLT", peers.join("bbolt"))
        .env("MAINSTAY_GO_WALTOOL", tools.join(":"))
        .current_dir(root()))
}

fn go(module: &Path, output: &Path, packages: &[&str]) -> Result<(), String> {
    run(Command::new("go")
        .args(["build", "-o"])
        .arg(output)
        .args(packages)
        .current_dir(module))
    .map_err(|error| format!("{error}\nThe interop tests need Go 1.24 or newer on the PATH."))
}

/// Builds the peers and the release binary, runs the tests of crate `conformance` with both, and
/// Kubernetes' storage tests; with `--all` the long form of these, the tests of the formats and the
/// client libraries of other languages as well.
pub fn interop(args: &[String]) -> Result<(), String> {
    let all = match args {
        [] => false,
        [flag] if flag == "--all" => true,
        _ => return Err("usage: cargo xtask interop [--all]".to_string()),
    };
    let peers = build()?;
    run(Command::new("cargo")
        .args(["build", "--release", "--package", "mainstay"])
        .current_dir(root()))?;
    let mut tests = Command::new("cargo");
    tests
        .args([
            "test",
            "--package",
            "conformance",
            "--",
            "--nocapture",
            "--test-threads=2",
        ])
        .env("MAINSTAY_BIN", target().join("release/mainstay"))
        .env("MAINSTAY_PEERS", &peers)
        .current_dir(root());
    if all {
        tests.env("MAINSTAY_INTEROP", "all");
    }
    run(&mut tests)?;
    let ours = target().join("release/mainstay");
    kubernetes::judge(&ours, !all, &[])?;
    if all {
        formats(&peers)?;
        clients::run_all(&[peers.join("3.7/etcd"), ours])?;
    }
    Ok(())
}
