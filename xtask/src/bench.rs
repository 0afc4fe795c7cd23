//! Measures this server beside real etcd in one run: CPU per operation, memory, time to restart; of one member, or of
//! a whole cluster. Compares by ratio, since machines differ.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{peers, root, run, target};

const SCENARIOS: [&str; 10] = [
    "put-1",
    "put-64",
    "put-512",
    "kubernetes-txn-256",
    "get-linearizable-256",
    "get-serializable-256",
    "list-10000",
    "list-500",
    "watch-200",
    "put-lease-64",
];

/// Members of a measured cluster at most.
const MEMBERS_MAX: usize = 7;

struct Options {
    against: PathBuf,
    scale: String,
    members: usize,
    scenarios: Vec<String>,
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        against: PathBuf::new(),
        scale: "1".to_string(),
        members: 1,
        scenarios: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--against" => options.against = PathBuf::from(value()?),
            "--scale" => options.scale = value()?,
            "--members" => options.members = members(&value()?)?,
            name => options.scenarios.push(name.to_string()),
        }
    }
    if options.against.as_os_str().is_empty() {
        options.against = peers::build()?.join("3.7/etcd");
    }
    if options.scenarios.is_empty() {
        let alone = options.members == 1;
        // What members do with each other has no part in lists and watches.
        let differs = |name: &&&str| alone || !name.starts_with("list") && !name.starts_with("watch");
        let scenarios = SCENARIOS.iter().filter(differs).chain(alone.then_some(&"memory"));
        options.scenarios = scenarios.map(ToString::to_string).collect();
    }
    Ok(options)
}

fn members(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MEMBERS_MAX).contains(&count) => Ok(count),
        _ => Err(format!("--members wants a number from 1 to {MEMBERS_MAX}")),
    }
}

/// Runs every scenario on both servers, each on a fresh directory, and prints the table.
pub fn run_all(args: &[String]) -> Result<(), String> {
    let options = parse(args)?;
    let tool = peers::build()?.join("tool");
    run(Command::new("cargo")
        .args(["build", "--release", "--package", "mainstay"])
        .current_dir(root()))?;
    let ours = target().join("release/mainstay");
    println!(
        "{:<22} {:>12} {:>12} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "scenario", "etcd µs/op", "ours µs/op", "ratio", "etcd p50", "ours p50", "etcd p99", "ours p99"
    );
    for scenario in &options.scenarios {
        if scenario == "memory" {
            memory(&options, &tool, &ours)?;
            continue;
        }
        let theirs = measure(&options.against, &tool, scenario, &options)?;
        let own = measure(&ours, &tool, scenario, &options)?;
        println!(
            "{:<22} {:>12.1} {:>12.1} {:>7.2}x {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            scenario,
            theirs.cpu,
            own.cpu,
            theirs.cpu / own.cpu,
            theirs.p50,
            own.p50,
            theirs.p99,
            own.p99
        );
    }
    Ok(())
}

struct Measure {
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// What a scenario costs a fresh cluster, all its members together.
fn measure(binary: &Path, tool: &Path, scenario: &str, options: &Options) -> Result<Measure, String> {
    let dir = Scratch::new()?;
    let servers = start_cluster(binary, &dir.0, options.members)?;
    let text = load(&servers, tool, scenario, &options.scale)?;
    let number = |field: &str| -> Result<f64, String> {
        let at = text
            .find(&format!("\"{field}\":"))
            .ok_or_else(|| format!("no {field} in {text}"))?;
        let rest = &text[at + field.len() + 3..];
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        rest[..end]
            .trim()
            .parse()
            .map_err(|error| format!("{field}: {error}"))
    };
    Ok(Measure {
        cpu: number("cpu_us_per_op")?,
        p50: number("p50_us")?,
        p99: number("p99_us")?,
    })
}

/// The rows that take the large data set: anonymous memory after writing it, and the time from a
/// start after SIGKILL to the first answer.
fn memory(options: &Options, tool: &Path, ours: &Path) -> Result<(), String> {
    let mut rows = Vec::new();
    for binary in [options.against.as_path(), ours] {
        let dir = Scratch::new()?;
        let mut server = Server::start(binary, &dir.0)?;
        load(std::slice::from_ref(&server), tool, "fill-300000", "1")?;
        let anonymous = server.anonymous_kilobytes()?;
        server.kill();
        let start = Instant::now();
        let server = Server::start(binary, &dir.0)?;
        let ready = start.elapsed();
        let after = server.anonymous_kilobytes()?;
        rows.push((anonymous, ready, after));
    }
    let row = |name: &str, theirs: f64, own: f64, unit: &str| {
        println!(
            "{name:<22} {theirs:>9.1} {unit} {own:>9.1} {unit} {:>7.2}x",
            theirs / own
        );
    };
    let (theirs, own) = (rows[0], rows[1]);
    row(
        "memory after fill",
        theirs.0 as f64 / 1024.0,
        own.0 as f64 / 1024.0,
        "MB",
    );
    row(
        "memory after restart",
        theirs.2 as f64 / 1024.0,
        own.2 as f64 / 1024.0,
        "MB",
    );
    row(
        "restart after kill",
        theirs.1.as_secs_f64(),
        own.1.as_secs_f64(),
        "s ",
    );
    Ok(())
}

/// A folder that goes with the value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Result<Scratch, String> {
        let dir = target().join(format!("bench-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server, killed with the value.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(binary: &Path, dir: &Path) -> Result<Server, String> {
        // The peer URL of an existing directory stays what it was: only a new one takes it.
        let peer = url(free_port()?);
        let mut server = Server::spawn(binary, dir, "default", &peer, &format!("default={peer}"))?;
        server.wait_until_ready()?;
        Ok(server)
    }

    fn spawn(binary: &Path, dir: &Path, name: &str, peer: &str, cluster: &str) -> Result<Server, String> {
        let port = free_port()?;
        let client = url(port);
        let log = fs::File::create(dir.join("log")).map_err(|error| error.to_string())?;
        let child = Command::new(binary)
            .arg(format!("--data-dir={}", dir.join("data").display()))
            .args([
                format!("--name={name}"),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={cluster}"),
            ])
            .args(["--quota-backend-bytes=8589934592", "--log-level=error"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        Ok(Server { child, port })
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server stopped: {status}"));
            }
            if healthy(self.port) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the server did not get ready within 60 s".to_string())
    }

    fn anonymous_kilobytes(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("RssAnon:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| format!("{path}: no RssAnon"))
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts members of one cluster, each in a folder of its own, and waits for all of them.
fn start_cluster(binary: &Path, dir: &Path, members: usize) -> Result<Vec<Server>, String> {
    let mut peers = Vec::new();
    for n in 0..members {
        peers.push((format!("m{n}"), url(free_port()?)));
    }
    let cluster: Vec<String> = peers.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let cluster = cluster.join(",");
    let mut servers = Vec::new();
    for (name, peer) in &peers {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        servers.push(Server::spawn(binary, &dir, name, peer, &cluster)?);
    }
    for server in &mut servers {
        server.wait_until_ready()?;
    }
    Ok(servers)
}

/// Makes load on all members alike, and tells what it cost them together.
fn load(servers: &[Server], tool: &Path, scenario: &str, scale: &str) -> Result<String, String> {
    let endpoints: Vec<String> = servers.iter().map(|server| url(server.port)).collect();
    let ids: Vec<String> = servers
        .iter()
        .map(|server| server.child.id().to_string())
        .collect();
    let output = Command::new(tool)
        .args(["bench", "-scenario", scenario, "-scale", scale])
        .args(["-endpoint", &endpoints.join(","), "-pid", &ids.join(",")])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", tool.display()))?;
    if !output.status.success() {
        return Err(format!("{scenario}: the load failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(|error| error.to_string())
}

/// Whether GET /health says so: a linearizable read works.
fn healthy(port: u16) -> bool {
    use std::io::Write;
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.contains("\"health\":\"true\"")
}
