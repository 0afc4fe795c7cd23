//! The rig of the black-box tests: starts the built binary and real etcd on the same directories,
//! stops them as operators and accidents do, and asks the interop tool what clients see.
//! Never looks into a server.

pub mod differences;
pub mod group;
pub mod witness;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where the programs are; made by `cargo xtask interop`.
#[derive(Clone, Debug)]
pub struct Rig {
    /// The `mainstay` binary.
    pub mainstay: PathBuf,
    /// The folder of real etcd, `3.5/etcd` and so on, and of the tool.
    pub peers: PathBuf,
    /// Whether the long forms are asked for.
    pub all: bool,
}

impl Rig {
    /// The rig, or `None` (and a line that says so) where the peers are not built.
    pub fn find(test: &str) -> Option<Rig> {
        let (Some(mainstay), Some(peers)) = (
            std::env::var_os("MAINSTAY_BIN"),
            std::env::var_os("MAINSTAY_PEERS"),
        ) else {
            eprintln!("{test}: skipped, it needs real etcd: run `cargo xtask interop`");
            return None;
        };
        let all = std::env::var("MAINSTAY_INTEROP").is_ok_and(|form| form == "all");
        Some(Rig {
            mainstay: mainstay.into(),
            peers: peers.into(),
            all,
        })
    }

    /// A program of real etcd: `go("3.6", "etcdctl")`.
    pub fn go(&self, line: &str, program: &str) -> PathBuf {
        self.peers.join(line).join(program)
    }

    /// Runs the interop tool and gives its output; panics with what it said when it fails.
    pub fn tool(&self, args: &[&str]) -> String {
        let output = Command::new(self.peers.join("tool"))
            .args(args)
            .output()
            .expect("the tool runs");
        assert!(
            output.status.success(),
            "tool {args:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Asks a server raw questions, one after another.
    pub fn ask(&self, endpoint: &str, questions: &[Question]) -> Vec<Answer> {
        let mut child = Command::new(self.peers.join("tool"))
            .args(["call", "-endpoint", endpoint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let mut input = child.stdin.take().expect("a pipe");
        let lines: String = questions
            .iter()
            .map(|q| {
                let line =
                    serde_json::json!({"method": q.method, "request": q.request, "answers": q.answers, "wait_ms": q.wait_ms});
                format!("{line}\n")
            })
            .collect();
        // Answers may fill their pipe while questions are still written.
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("the tool ends");
        writer
            .join()
            .expect("the writer ends")
            .expect("the tool reads all questions");
        assert!(output.status.success(), "the tool failed: {questions:?}");
        let answers: Vec<Answer> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).expect("the tool prints JSON");
                let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
                Answer {
                    code: text("code"),
                    message: text("message"),
                    answers: value["answers"].as_array().cloned().unwrap_or_default(),
                }
            })
            .collect();
        assert_eq!(answers.len(), questions.len(), "an answer to each question");
        answers
    }

    /// Asks one raw question and gives its one answer; panics with what came instead.
    pub fn ask_one(&self, endpoint: &str, method: &str, request: &str) -> serde_json::Value {
        let answer = self.ask(endpoint, &[Question::new(method, request)]).remove(0);
        assert!(
            answer.answers.len() == 1 && (answer.code == "OK" || answer.code == "200 OK"),
            "{method} {request}: {answer:?}"
        );
        answer.answers[0].clone()
    }

    /// Starts the tool's load beside the test.
    pub fn load(&self, endpoint: &str, account: &Path, args: &[&str]) -> Load {
        let account = account.to_string_lossy();
        self.beside(&[&["load", "-endpoint", endpoint, "-account", &account], args].concat())
    }

    /// Starts the tool beside the test: what it does goes on until it is ended.
    pub fn beside(&self, args: &[&str]) -> Load {
        let child = Command::new(self.peers.join("tool"))
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .expect("the tool runs");
        Load(child)
    }
}

/// One raw call: gRPC ("etcdserverpb.KV/Range" with messages in prototext) or HTTP ("POST
/// /v3/kv/range" with a body).
#[derive(Clone, Debug)]
pub struct Question {
    /// What is called.
    pub method: String,
    /// The messages of a stream, or one message, or one body.
    pub request: Vec<String>,
    /// How many answers of a stream are awaited; 0: all.
    pub answers: usize,
    /// How many milliseconds they may take; 0: as the tool likes.
    pub wait_ms: u64,
}

impl Question {
    /// A question with one message.
    pub fn new(method: &str, request: &str) -> Question {
        Question {
            method: method.into(),
            request: vec![request.into()],
            answers: 0,
            wait_ms: 0,
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The gRPC code, or the HTTP status.
    pub code: String,
    /// The gRPC message, or the content type.
    pub message: String,
    /// The messages as JSON.
    pub answers: Vec<serde_json::Value>,
}

/// Takes the named fields out, wherever they are.
pub fn without(value: &mut serde_json::Value, fields: &[&str]) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| !fields.contains(&key.as_str()));
            map.values_mut().for_each(|value| without(value, fields));
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|value| without(value, fields)),
        _ => {}
    }
}

/// Waits until `look` finds something; panics with `what` after 60 s.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "after 60 s still not: {what}");
        pause();
    }
}

/// Runs a program to its end; its output, both streams, and whether it succeeded.
pub fn run(program: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Copies a folder with all that is in it; holes stay holes.
pub fn copy(from: &Path, to: &Path) {
    let (done, text) = run(
        Path::new("cp"),
        &[
            "-a",
            "--sparse=always",
            &from.to_string_lossy(),
            &to.to_string_lossy(),
        ],
    );
    assert!(done, "{text}");
}

/// How two folders differ; empty when they hold the same files with the same bytes.
pub fn differences(one: &Path, other: &Path) -> String {
    run(
        Path::new("diff"),
        &["-rq", &one.to_string_lossy(), &other.to_string_lossy()],
    )
    .1
}

/// A load that goes on until it is ended.
pub struct Load(Child);

impl Load {
    /// Tells the load to stop and waits for it.
    pub fn end(mut self) {
        signal(&self.0, "TERM");
        let status = self.0.wait().expect("the load ends");
        assert!(status.success(), "the load failed: {status}");
    }

    /// Waits until the account has grown by `lines` lines.
    pub fn wait_for_lines(&mut self, account: &Path, lines: usize) {
        let count = || fs::read(account).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count());
        let (start, deadline) = (count(), Instant::now() + Duration::from_secs(60));
        while count() < start + lines {
            assert!(Instant::now() < deadline, "the load does not get on");
            assert!(
                self.0.try_wait().expect("its state is known").is_none(),
                "the load ended early"
            );
            pause();
        }
    }
}

/// Which server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Real etcd of a line: "3.5", "3.6" or "3.7".
    Go(&'static str),
    /// Mainstay, emulating a line; "3.7" is what it is by itself.
    Ours(&'static str),
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM, and wait.
    Term,
    /// SIGKILL.
    Kill,
}

/// A data directory with the addresses that its member keeps.
pub struct Home {
    /// The folder of this test.
    pub dir: PathBuf,
    client: u16,
    peer: u16,
}

impl Home {
    /// A fresh folder.
    pub fn new(name: &str) -> Home {
        let dir = std::env::temp_dir().join(format!("mainstay-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a folder for the test");
        Home {
            dir,
            client: free_port(),
            peer: free_port(),
        }
    }

    /// A folder of its own for the same member: same addresses, no data. Only one of both may run.
    pub fn twin(&self, name: &str) -> Home {
        Home {
            dir: Home::new(name).keep(),
            client: self.client,
            peer: self.peer,
        }
    }

    /// The same directory for another process, with addresses of its own.
    pub fn elsewhere(&self) -> Home {
        Home {
            dir: self.dir.clone(),
            client: free_port(),
            peer: free_port(),
        }
    }

    /// Whether a server answers on the directory's address and says that it is well.
    pub fn healthy(&self) -> bool {
        healthy(self.client)
    }

    fn keep(self) -> PathBuf {
        let dir = self.dir.clone();
        std::mem::forget(self);
        dir
    }

    /// The client URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// The peer URL.
    pub fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    /// Runs real etcdctl 3.7 against the server; what it printed.
    pub fn ctl(&self, rig: &Rig, args: &[&str]) -> String {
        let endpoint = format!("--endpoints={}", self.endpoint());
        let args: Vec<&str> = [&[endpoint.as_str()], args].concat();
        let (done, text) = run(&rig.go("3.7", "etcdctl"), &args);
        assert!(done, "etcdctl {args:?}: {text}");
        text
    }

    /// The port of the client URL.
    pub fn client_port(&self) -> u16 {
        self.client
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The account of the load.
    pub fn account(&self) -> PathBuf {
        self.dir.join("account.jsonl")
    }

    /// The bbolt file.
    pub fn db(&self) -> PathBuf {
        self.data().join("member/snap/db")
    }

    /// Starts a server on the directory; it need not get ready.
    pub fn spawn(&self, rig: &Rig, program: Program, flags: &[&str]) -> Server {
        let (client, peer) = (self.endpoint(), self.peer());
        let mut command = match program {
            Program::Go(line) => Command::new(rig.go(line, "etcd")),
            Program::Ours(line) => {
                let mut command = Command::new(&rig.mainstay);
                command.arg("server");
                if line != "3.7" {
                    command.env("ETCD_EMULATED_VERSION", line);
                }
                command
            }
        };
        let log = self.dir.join("log");
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let from = file.metadata().map_or(0, |m| m.len());
        let child = command
            .arg(format!("--data-dir={}", self.data().display()))
            .args([
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
            ])
            .args([
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
            ])
            .arg(format!("--initial-cluster=default={peer}"))
            .args(flags)
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Server {
            child,
            program,
            log,
            from,
            client: self.client,
        }
    }

    /// Starts a server and waits until it answers.
    pub fn start(&self, rig: &Rig, program: Program, flags: &[&str]) -> Server {
        let mut server = self.spawn(rig, program, flags);
        server.wait_until_ready();
        server
    }

    /// What clients see, as JSON, at the present revision and the given ones.
    pub fn state(&self, rig: &Rig, revisions: &[i64]) -> serde_json::Value {
        let revisions: Vec<String> = revisions.iter().map(ToString::to_string).collect();
        let text = rig.tool(&[
            "state",
            "-endpoint",
            &self.endpoint(),
            "-revs",
            &revisions.join(","),
        ]);
        serde_json::from_str(&text).expect("the tool prints JSON")
    }

    /// Holds the account against the server.
    pub fn verify(&self, rig: &Rig) -> String {
        let account = self.account();
        rig.tool(&[
            "verify",
            "-endpoint",
            &self.endpoint(),
            "-account",
            &account.to_string_lossy(),
        ])
    }

    /// Runs bbolt's check over the data file of a stopped server, and etcdutl's look at it.
    pub fn check_file(&self, rig: &Rig) {
        let db = self.db();
        rig.tool(&["check", &db.to_string_lossy()]);
        let output = Command::new(rig.go("3.7", "etcdutl"))
            .args(["hashkv", "-w", "json"])
            .arg(&db)
            .output()
            .expect("etcdutl runs");
        assert!(
            output.status.success(),
            "etcdutl hashkv: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs a scenario with real etcd, then with ours; what they tell must be the same.
pub fn agree(name: &str, scenario: fn(&Rig, &Home, Program) -> Vec<serde_json::Value>) {
    let Some(rig) = Rig::find(name) else { return };
    let theirs = Home::new(&format!("{name}-go"));
    let ours = theirs.twin(&format!("{name}-ours"));
    let expected = scenario(&rig, &theirs, Program::Go("3.7"));
    let found = scenario(&rig, &ours, Program::Ours("3.7"));
    for (n, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert_eq!(
            expected, found,
            "{name}, fact {n}: etcd on the left, ours on the right"
        );
    }
    assert_eq!(expected.len(), found.len(), "{name}: as many facts");
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    program: Program,
    log: PathBuf,
    from: u64,
    client: u16,
}

impl Server {
    /// Waits until /health says that a linearizable read works.
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !healthy(self.client) {
            if let Some(status) = self.child.try_wait().expect("its state is known") {
                panic!(
                    "{:?} stopped ({status}) before it was ready:\n{}",
                    self.program,
                    self.log()
                );
            }
            assert!(
                Instant::now() < deadline,
                "{:?} is not ready after 60 s:\n{}",
                self.program,
                self.log()
            );
            pause();
        }
    }

    /// Stops the server and gives its exit status.
    pub fn stop(mut self, how: Stop) -> ExitStatus {
        signal(&self.child, if how == Stop::Term { "TERM" } else { "KILL" });
        self.wait()
    }

    /// Waits until the server ends by itself; panics after 60 s.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("its state is known") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{:?} does not stop:\n{}",
                self.program,
                self.log()
            );
            pause();
        }
    }

    /// The exit status, when the server has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its state is known")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The anonymous memory of the process, in kB; 0 when it has ended.
    pub fn anonymous_kilobytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or_default()
    }

    /// What this server logged.
    pub fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.from).unwrap_or_default().min(text.len());
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP/1.1 request to a server on this machine; the whole answer.
pub fn http(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn healthy(port: u16) -> bool {
    http(
        port,
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(child.id().to_string())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "kill -{name} {}",
        child.id()
    );
}

/// A port that was free a moment ago, below those that the kernel gives to connections: one of these would take it
/// while its server is down.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test programs that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(331);
    loop {
        let next = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(next % 20_000).expect("it is below 20000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A look at another process costs little; this is how often one is taken.
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
