//! The storage tests of Kubernetes' API server, judging the built binary. Their test server lives in the
//! test process; in a copy of the module it is replaced by one that starts a program
//! (`interop/kubernetes/testserver`). Nothing else of the copy is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::suites::module_folder;
use crate::{root, run, target};

const MODULE: &str = "k8s.io/apiserver";

/// What stores, caches and serves objects; the last one also by TLS.
const PACKAGES: [&str; 4] = [
    "./pkg/storage/etcd3/...",
    "./pkg/storage/cacher/...",
    "./pkg/registry/generic/registry/...",
    "./pkg/storage/storagebackend/factory/...",
];

/// Tests of the watch cache that mostly wait for its own clocks to pass; the short form goes without.
const WAITING: &str = "^(TestConsistencyCheckerDigestMatches|TestCacher(NoLeakWithMultipleWatchers|Sends?.*)|\
TestWaitUntilWatchCacheFresh.*|TestBookmark.*|TestEmptyWatchEventCache|TestDispatchEventWillNotBe.*|\
TestGuaranteedUpdateWithTTL|TestCreateWithTTL)$";

const USAGE: &str = "usage: cargo xtask kubernetes [--quick] [--etcd PATH] [GO-TEST-ARGUMENT ...]";

/// `cargo xtask kubernetes`.
pub fn run_all(args: &[String]) -> Result<(), String> {
    let (mut quick, mut etcd, mut rest) = (false, None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--etcd" => etcd = Some(args.next().ok_or(USAGE)?),
            "--help" => return Err(USAGE.to_string()),
            other => rest.push(other),
        }
    }
    let etcd = match etcd {
        Some(path) => fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?,
        None => {
            run(Command::new("cargo")
                .args(["build", "--release", "--package", "mainstay"])
                .current_dir(root()))?;
            target().join("release/mainstay")
        }
    };
    judge(&etcd, quick, &rest)
}

/// Runs the tests at one program.
pub fn judge(etcd: &Path, quick: bool, arguments: &[&str]) -> Result<(), String> {
    let copy = copy_module()?;
    let mut command = Command::new("go");
    command.args(["test", "-count=1", "-timeout=20m"]);
    if quick {
        command.arg(format!("-skip={WAITING}"));
    }
    if arguments.iter().all(|argument| argument.starts_with('-')) {
        command.args(PACKAGES);
    }
    run(command
        .args(arguments)
        .env("ETCD_PROGRAM", etcd)
        // The versions are those of the module's own go.mod, whatever else is on the machine.
        .env("GOWORK", "off")
        .current_dir(copy))
    .map_err(|error| format!("Kubernetes' storage tests at {}: {error}", etcd.display()))
}

/// The module with our test server in it. Its path stays, so that Go builds only what changed.
fn copy_module() -> Result<PathBuf, String> {
    let ours = root().join("interop/kubernetes");
    let original = module_folder(&ours, MODULE)?;
    let copy = target().join("kubernetes");
    let stamp = copy.join("copied-from");
    let wanted = original.display().to_string();
    if !fs::read_to_string(&stamp).is_ok_and(|from| from == wanted) {
        let _ = fs::remove_dir_all(&copy);
        let parent = target();
        fs::create_dir_all(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        run(Command::new("cp").arg("-r").arg(&original).arg(&copy))?;
        // Go keeps its modules read-only.
        run(Command::new("chmod").args(["-R", "u+w"]).arg(&copy))?;
        fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    }
    let server = copy.join("pkg/storage/etcd3/testserver/test_server.go");
    if !server.exists() {
        return Err(format!("{MODULE} has no longer a file {}", server.display()));
    }
    let replacement = ours.join("testserver/testserver.go");
    fs::copy(&replacement, &server).map_err(|error| format!("{}: {error}", replacement.display()))?;
    Ok(copy)
}
