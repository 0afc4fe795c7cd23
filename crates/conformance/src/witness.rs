//! The tool's witness: load on all members and watchers on each from the first revision on, which outlast
//! every member and judge what they are told. Never starts or stops a member.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Rig;

/// A running witness; killed when dropped.
pub struct Witness {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Witness {
    /// Starts the load and the watchers.
    pub fn start(rig: &Rig, endpoints: &[String], args: &[&str]) -> Witness {
        let mut child = Command::new(rig.peers.join("tool"))
            .args(["endurance", "-endpoint", &endpoints.join(",")])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Witness { child, input, output }
    }

    /// Waits until so many more operations were acknowledged through each member.
    pub fn wait(&mut self, operations: u32) {
        self.command(&format!("wait {operations}"));
    }

    /// All members must agree now, and with all that was ever told; what was counted so far.
    pub fn check(&mut self) -> String {
        self.command("check")
    }

    /// Ends the load and checks a last time.
    pub fn end(mut self) -> String {
        self.command("end")
    }

    /// A violation ends the witness, with the story on its standard error.
    fn command(&mut self, command: &str) -> String {
        let sent = writeln!(self.input, "{command}");
        let mut line = String::new();
        let got = self.output.read_line(&mut line);
        assert!(
            sent.is_ok() && got.is_ok() && !line.is_empty(),
            "the witness says no at {command:?}: see above"
        );
        line.trim().to_owned()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
