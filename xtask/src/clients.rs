//! Client libraries of other languages, each driven by a program in `interop/clients`: first at real
//! etcd, so that a program that is wrong shows there, then at the store. All that they need is
//! installed below `target/clients`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bench::{Scratch, Server};
use crate::{root, run, target};

/// One language: the tools that must be on the machine, how to install, and the program to run.
struct Client {
    name: &'static str,
    tools: &'static [&'static str],
    /// From the folder of the sources and the folder to install into, to the command that runs the
    /// program. It finds the server in `ENDPOINT`.
    install: fn(&Path, &Path) -> Result<Command, String>,
}

const CLIENTS: [Client; 4] = [
    Client {
        name: "python",
        tools: &["python3"],
        install: python,
    },
    Client {
        name: "node",
        tools: &["node", "npm"],
        install: node,
    },
    Client {
        name: "java",
        tools: &["java", "mvn"],
        install: java,
    },
    Client {
        name: "rust",
        tools: &["cargo"],
        install: rust,
    },
];

/// Runs every client whose tools are there with a fresh server of each binary.
pub fn run_all(binaries: &[PathBuf]) -> Result<(), String> {
    for client in &CLIENTS {
        if let Some(missing) = client.tools.iter().find(|tool| !is_installed(tool)) {
            eprintln!(
                "client library of {}: skipped, {missing} is not installed",
                client.name
            );
            continue;
        }
        let output = target().join("clients").join(client.name);
        fs::create_dir_all(&output).map_err(|error| format!("{}: {error}", output.display()))?;
        let source = root().join("interop/clients").join(client.name);
        let mut command = (client.install)(&source, &output)?;
        for binary in binaries {
            println!("client library of {} at {}:", client.name, binary.display());
            let dir = Scratch::new()?;
            let server = Server::start(binary, &dir.0)?;
            run(command.env("ENDPOINT", format!("http://127.0.0.1:{}", server.port)))?;
        }
    }
    Ok(())
}

fn is_installed(tool: &str) -> bool {
    Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn python(source: &Path, output: &Path) -> Result<Command, String> {
    let python = output.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(output))?;
    }
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(source.join("requirements.txt")))?;
    let mut command = Command::new(python);
    command.arg(source.join("client.py"));
    Ok(command)
}

fn node(source: &Path, output: &Path) -> Result<Command, String> {
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), output.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    run(Command::new("npm")
        .args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(output))?;
    let mut command = Command::new("node");
    command.arg(source.join("client.js")).current_dir(output);
    Ok(command)
}

fn java(source: &Path, output: &Path) -> Result<Command, String> {
    let mut command = Command::new("mvn");
    command
        .args(["--quiet", "--batch-mode", "compile", "exec:java"])
        .arg(format!("-Doutput={}", output.display()))
        .current_dir(source);
    Ok(command)
}

fn rust(source: &Path, output: &Path) -> Result<Command, String> {
    let mut build = Command::new("cargo");
    build
        .args(["build", "--quiet", "--locked"])
        .env("CARGO_TARGET_DIR", output)
        .current_dir(source);
    // The client's build wants a protoc; protox takes the same arguments and is pure Rust.
    if !is_installed("protoc") {
        let protox = output.join("bin/protox");
        if !protox.exists() {
            run(Command::new("cargo")
                .args([
                    "install",
                    "--quiet",
                    "--locked",
                    "protox@0.9.1",
                    "--features=bin",
                    "--root",
                ])
                .arg(output)
                .env("CARGO_TARGET_DIR", output))?;
        }
        build.env("PROTOC", protox);
    }
    run(&mut build)?;
    Ok(Command::new(output.join("debug/client-rust")))
}
