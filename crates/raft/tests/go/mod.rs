//! The Go that tests compare with: the module go.etcd.io/raft/v3 of a release line of etcd, and the program built on it.
//! Never needed: without Go, or without the module, callers say so and pass.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)]

pub mod reads;
pub mod text;

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const MODULE: &str = "go.etcd.io/raft/v3";

/// The module's version that a release line of etcd requires (server/go.mod).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// etcd 3.6: raft v3.6.0.
    V3_6,
    /// etcd 3.7: raft v3.7.0.
    V3_7,
}

impl Line {
    pub fn name(self) -> &'static str {
        match self {
            Line::V3_6 => "v3.6",
            Line::V3_7 => "v3.7",
        }
    }
}

fn go(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let run = Command::new("go")
        .args(arguments)
        .current_dir(folder)
        .env("GOFLAGS", "-mod=mod")
        .output();
    match run {
        Ok(run) if run.status.success() => Ok(String::from_utf8(run.stdout).unwrap()),
        Ok(run) => Err(String::from_utf8_lossy(&run.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder of our own with the oracle's sources for this line, and the folder of the module, downloaded if need be.
/// `purpose` keeps tests that run at the same time apart.
fn prepare(line: Line, purpose: &str) -> Option<(PathBuf, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go-oracle");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-{purpose}-{}", line.name()));
    std::fs::create_dir_all(&target).unwrap();
    for file in ["main.go", "storage.go", "text.go"] {
        std::fs::copy(source.join(file), target.join(file)).unwrap();
    }
    for file in ["core.go", "go.mod", "go.sum"] {
        std::fs::copy(source.join(line.name()).join(file), target.join(file)).unwrap();
    }
    if let Err(error) = go(&target, &["mod", "download"]) {
        println!("skipped: no Go, or no module: {error}");
        return None;
    }
    let folder = go(&target, &["list", "-m", "-f", "{{.Dir}}", MODULE]).unwrap();
    Some((target, PathBuf::from(folder.trim())))
}

/// The folder of the module, with its test data.
pub fn module(line: Line, purpose: &str) -> Option<PathBuf> {
    prepare(line, purpose).map(|(_, module)| module)
}

/// Builds the oracle on a copy of the module that has one file more. `None` if there is no Go here.
pub fn build(line: Line) -> Option<PathBuf> {
    let (target, module) = prepare(line, "oracle")?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go-oracle");
    let copy = target.join("raft");
    copy_sources(&module, &copy);
    std::fs::copy(
        source.join(line.name()).join("hooks.go.txt"),
        copy.join("hooks.go"),
    )
    .unwrap();
    go(&target, &["mod", "edit", "-replace", &format!("{MODULE}=./raft")]).unwrap();
    go(&target, &["build", "-o", "oracle", "."]).unwrap();
    Some(target.join("oracle"))
}

/// Copies the Go files of a module that are no tests.
fn copy_sources(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !["testdata", "rafttest", "tla", "tools", "scripts"].contains(&name.as_str()) {
                copy_sources(&path, &to.join(name));
            }
        } else if (name.ends_with(".go") && !name.ends_with("_test.go")) || name.starts_with("go.") {
            let copy = to.join(name);
            std::fs::write(copy, std::fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// The running program.
pub struct Go {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Go {
    pub fn start(program: &Path) -> Go {
        let mut child = Command::new(program)
            // It lives in turns with us, and not for long.
            .env("GOMAXPROCS", "1")
            .env("GOGC", "800")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        Go { child, input, output }
    }

    /// Gives a command and returns what came of it.
    pub fn ask(&mut self, command: &str) -> Vec<String> {
        self.input.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "Go died of {command:?}"
            );
            let line = line.trim_end();
            if line == "." {
                return lines;
            }
            lines.push(line.to_owned());
        }
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
