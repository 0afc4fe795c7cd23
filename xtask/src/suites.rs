//! etcd's own black-box suites (its packages tests/e2e and tests/common), judging the built binary with
//! Go's etcdctl and etcdutl beside it. The tests only start programs and look at them from outside.
//!
//! Each test is a process of its own with a time limit, in a folder of its own and, where the kernel lets
//! us, in namespaces of its own for network and processes: the tests use fixed ports.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::{peers, root, run, target};

/// The slowest test of the lists takes half of this with real etcd, but for those that are called long.
const TEST_SECONDS_MAX: u64 = 120;

/// TestMemberAdd, which starts some hundred members, takes a third of this with real etcd.
const LONG_SECONDS_MAX: u64 = 900;

/// What the test program may take after its own limit, to say where it hangs.
const GRACE_SECONDS: u64 = 15;

/// The environment variable that marks all processes of a run: the suites hand on what begins so.
const MARK: &str = "EXPECT_SUITES_MARK";

const USAGE: &str = "\
usage: cargo xtask suites [--scope NAME] [--quick] [--etcd PATH] [--jobs N] [--out FILE] [--debug] [TEST ...]

  --scope NAME  the tests listed in interop/suites/NAME.txt (default: member)
  --quick       without those that the list calls long
  --etcd PATH   judge this program (default: our release build); real etcd is the measure of the list
  --jobs N      tests at the same time, where each can have a network of its own (default: one a processor)
  --out FILE    write the table there as well
  --debug       keep all output of the spawned programs in the logs
  TEST ...      these tests of the scope only, also those that the list skips
";

struct Options {
    scope: String,
    quick: bool,
    etcd: Option<PathBuf>,
    jobs: usize,
    out: Option<PathBuf>,
    debug: bool,
    tests: Vec<String>,
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        scope: "member".to_string(),
        quick: false,
        etcd: None,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        out: None,
        debug: false,
        tests: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--scope" => options.scope = value()?,
            "--quick" => options.quick = true,
            "--etcd" => options.etcd = Some(value()?.into()),
            "--jobs" => options.jobs = value()?.parse().map_err(|_| "--jobs wants a number")?,
            "--out" => options.out = Some(value()?.into()),
            "--debug" => options.debug = true,
            flag if flag.starts_with('-') => return Err(USAGE.to_string()),
            test => options.tests.push(test.to_string()),
        }
    }
    Ok(options)
}

/// One line of a list: `SUITE TEST [skip|long|race|clock: REASON]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    suite: String,
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Runs always.
    Usual,
    /// Is left out of the quick form, and may take longer.
    Long,
    /// Runs always and, where it fails, again alone: it is a race that a busy machine can lose.
    Race,
    /// Measures time: left out of the quick form, and a race.
    Clock,
    /// Does not run; why.
    Skip(String),
}

fn read_list(text: &str) -> Result<Vec<Test>, String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| {
            let wrong = || format!("not `SUITE TEST [skip|long|race|clock: REASON]`: {line}");
            let (suite, rest) = line.split_once(' ').ok_or_else(wrong)?;
            let (name, note) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
            let kind = match note.trim().split_once(": ") {
                None if note.trim().is_empty() => Kind::Usual,
                Some(("long", _)) => Kind::Long,
                Some(("race", _)) => Kind::Race,
                Some(("clock", _)) => Kind::Clock,
                Some(("skip", reason)) => Kind::Skip(reason.to_string()),
                _ => return Err(wrong()),
            };
            if !["e2e", "common"].contains(&suite) {
                return Err(wrong());
            }
            Ok(Test {
                suite: suite.to_string(),
                name: name.to_string(),
                kind,
            })
        })
        .collect()
}

/// What runs of the list, and what is left out and why.
fn select(list: Vec<Test>, options: &Options) -> Result<(Vec<Test>, Vec<String>), String> {
    let unknown: Vec<&String> = options
        .tests
        .iter()
        .filter(|name| !list.iter().any(|test| test.name == **name))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("scope {} does not list {unknown:?}", options.scope));
    }
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for test in list {
        if !options.tests.is_empty() {
            if options.tests.contains(&test.name) {
                chosen.push(test);
            }
            continue;
        }
        match &test.kind {
            Kind::Skip(reason) => left_out.push(format!("{}: {reason}", test.name)),
            Kind::Long | Kind::Clock if options.quick => {
                left_out.push(format!("{}: not in the quick form", test.name));
            }
            _ => chosen.push(test),
        }
    }
    Ok((chosen, left_out))
}

/// Where the suites' sources and programs are.
struct Site {
    /// The module of the tests, in Go's cache.
    tests: PathBuf,
    /// The root module, which holds the sample of a configuration file.
    etcd: PathBuf,
    /// etcd, etcdctl, etcdutl.
    bin: PathBuf,
    /// The server of the release before.
    last_release: PathBuf,
    /// Test programs, scratch folders and logs.
    work: PathBuf,
    /// The words that put a program into namespaces of its own.
    isolation: Option<Vec<String>>,
    mark: String,
    debug: bool,
}

/// Runs a scope; fails when a test fails.
pub fn run_all(args: &[String]) -> Result<(), String> {
    let options = parse(args)?;
    let list = root().join(format!("interop/suites/{}.txt", options.scope));
    let text = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let (tests, left_out) = select(read_list(&text)?, &options)?;
    let site = prepare(&options, &tests)?;
    check_names(&site, &tests)?;
    for line in &left_out {
        println!("left out: {line}");
    }
    let jobs = if site.isolation.is_some() { options.jobs } else { 1 };
    let started = Instant::now();
    let mut results = in_parallel(&site, &tests, jobs);
    for result in &mut results {
        if result.outcome.is_bad() && [Kind::Clock, Kind::Race].contains(&result.test.kind) {
            println!("{} again, alone: a busy machine can lose it", result.test.name);
            *result = site.run_test(&result.test, jobs);
            println!("{}", result.line());
        }
    }
    finish(&site, &results, &options, started.elapsed())
}

fn finish(site: &Site, results: &[Finished], options: &Options, took: Duration) -> Result<(), String> {
    let count = |outcome| results.iter().filter(|result| result.outcome == outcome).count();
    let summary = format!(
        "# scope {}: {} tests, {} pass, {} skip themselves, {} fail, {} take too long; {:.0} s",
        options.scope,
        results.len(),
        count(Outcome::Pass),
        count(Outcome::Skip),
        count(Outcome::Fail),
        count(Outcome::TimedOut),
        took.as_secs_f64()
    );
    println!("{summary}");
    if let Some(out) = &options.out {
        let mut table: Vec<String> = results.iter().map(Finished::line).collect();
        table.push(summary + "\n");
        fs::write(out, table.join("\n")).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    let bad: Vec<&str> = results
        .iter()
        .filter(|result| result.outcome.is_bad())
        .map(|result| result.test.name.as_str())
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    let logs = site.work.join("logs");
    Err(format!("failed: {}; logs in {}", bad.join(" "), logs.display()))
}

/// Builds what is needed and lays out `target/suites`.
fn prepare(options: &Options, tests: &[Test]) -> Result<Site, String> {
    let peers = peers::build()?;
    let etcd = match &options.etcd {
        Some(path) => fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => {
            run(Command::new("cargo")
                .args(["build", "--release", "--package", "mainstay"])
                .current_dir(root()))?;
            target().join("release/mainstay")
        }
    };
    let work = target().join("suites");
    let bin = work.join("bin");
    let _ = fs::remove_dir_all(&bin);
    let _ = fs::remove_dir_all(work.join("logs"));
    for folder in [&bin, &work.join("logs")] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    for (name, program) in [
        ("etcd", etcd),
        ("etcdctl", peers.join("3.7/etcdctl")),
        ("etcdutl", peers.join("3.7/etcdutl")),
    ] {
        let link = bin.join(name);
        std::os::unix::fs::symlink(program, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    }
    let module = root().join("interop/suites");
    let suites: BTreeSet<&str> = tests.iter().map(|test| test.suite.as_str()).collect();
    for suite in suites {
        eprintln!("building etcd's suite {suite} ...");
        run(Command::new("go")
            .args(["test", "-c", "-tags", tags(suite), "-o"])
            .arg(work.join(format!("{suite}.test")))
            .arg(format!("go.etcd.io/etcd/tests/v3/{suite}"))
            .current_dir(&module))?;
    }
    let isolation = isolation();
    if isolation.is_none() {
        eprintln!("no network namespaces on this machine: one test at a time");
    }
    Ok(Site {
        tests: module_folder(&module, "go.etcd.io/etcd/tests/v3")?,
        etcd: module_folder(&module, "go.etcd.io/etcd/v3")?,
        bin,
        last_release: peers.join("3.6/etcd"),
        work,
        isolation,
        mark: format!("{}", std::process::id()),
        debug: options.debug,
    })
}

/// `common` asks for the tag of what it shall run against.
fn tags(suite: &str) -> &'static str {
    if suite == "common" { "e2e" } else { "" }
}

/// Where Go keeps a module that `go.mod` names; fetched if it is not there.
pub fn module_folder(within: &Path, module: &str) -> Result<PathBuf, String> {
    run(Command::new("go")
        .args(["mod", "download", module])
        .current_dir(within))?;
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", module])
        .current_dir(within)
        .output()
        .map_err(|error| format!("go list: {error}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(format!(
        "go does not say where {module} is: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// A list must not name what is not there: a test that was renamed would silently be lost.
fn check_names(site: &Site, tests: &[Test]) -> Result<(), String> {
    let suites: BTreeSet<&str> = tests.iter().map(|test| test.suite.as_str()).collect();
    for suite in suites {
        let scratch = Scratch::new(site, &format!("list-{suite}"))?;
        let output = Command::new(site.work.join(format!("{suite}.test")))
            .args(["-test.list", "^Test"])
            .current_dir(scratch.lay_out(site, suite)?)
            .output()
            .map_err(|error| format!("{suite}: {error}"))?;
        let known = String::from_utf8_lossy(&output.stdout).into_owned();
        let known: BTreeSet<&str> = known.lines().map(str::trim).collect();
        let lost: Vec<&str> = tests
            .iter()
            .filter(|test| test.suite == suite && !known.contains(test.name.as_str()))
            .map(|test| test.name.as_str())
            .collect();
        if !lost.is_empty() {
            return Err(format!("suite {suite} has no tests {lost:?}"));
        }
    }
    Ok(())
}

/// Words before a program that give it networks and processes of its own, if the kernel lets us.
///
/// 8.8.8.8 becomes an address of the namespace, since TestEtcdPeerLocalAddr takes the address from which
/// it would reach that one for the machine's own. There is no default route, so that name servers are
/// unreachable at once and not after a time-out: Go's gRPC asks them for service records of localhost.
fn isolation() -> Option<Vec<String>> {
    let script = "ip link set lo up && ip addr add 8.8.8.8/32 dev lo && exec \"$@\"";
    let alone = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    [&[][..], &["--map-root-user"][..]]
        .into_iter()
        .find_map(|rights| {
            let words: Vec<String> = ["unshare"]
                .iter()
                .chain(rights)
                .chain(&alone)
                .chain(&["sh", "-c", script, "sh"])
                .map(ToString::to_string)
                .collect();
            let works = Command::new(&words[0])
                .args(&words[1..])
                .arg("true")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
            works.then_some(words)
        })
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    Skip,
    Fail,
    TimedOut,
}

impl Outcome {
    fn is_bad(self) -> bool {
        matches!(self, Outcome::Fail | Outcome::TimedOut)
    }
}

struct Finished {
    test: Test,
    outcome: Outcome,
    seconds: f64,
}

impl Finished {
    fn line(&self) -> String {
        let word = match self.outcome {
            Outcome::Pass => "PASS",
            Outcome::Skip => "SKIP",
            Outcome::Fail => "FAIL",
            Outcome::TimedOut => "TIMEOUT",
        };
        format!("{} {word} {:.1}", self.test.name, self.seconds)
    }
}

fn in_parallel(site: &Site, tests: &[Test], jobs: usize) -> Vec<Finished> {
    let queue: Mutex<VecDeque<(usize, &Test)>> = Mutex::new(tests.iter().enumerate().collect());
    let done: Mutex<Vec<(usize, Finished)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for job in 0..jobs.max(1) {
            let (queue, done) = (&queue, &done);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some((number, test)) = next else { return };
                    let result = site.run_test(test, job);
                    println!("{}", result.line());
                    if let Ok(mut done) = done.lock() {
                        done.push((number, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

impl Test {
    /// After how many seconds it hangs.
    fn seconds_max(&self) -> u64 {
        match self.kind {
            Kind::Long => LONG_SECONDS_MAX,
            _ => TEST_SECONDS_MAX,
        }
    }
}

impl Site {
    fn run_test(&self, test: &Test, job: usize) -> Finished {
        let started = Instant::now();
        let (outcome, log) = match self.try_test(test, job) {
            Ok((ended, log)) => (judge(&test.name, ended, &log), log),
            Err(error) => (Outcome::Fail, error),
        };
        if outcome.is_bad() {
            let path = self.work.join("logs").join(format!("{}.log", test.name));
            if let Err(error) = fs::write(&path, log) {
                eprintln!("{}: {error}", path.display());
            }
        }
        Finished {
            test: test.clone(),
            outcome,
            seconds: started.elapsed().as_secs_f64(),
        }
    }

    /// Whether the process ended well (`None`: it had to be killed), and what it said.
    fn try_test(&self, test: &Test, job: usize) -> Result<(Option<bool>, String), String> {
        let scratch = Scratch::new(self, &job.to_string())?;
        let folder = scratch.lay_out(self, &test.suite)?;
        let program = self.work.join(format!("{}.test", test.suite));
        let mut command = match &self.isolation {
            Some(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let foreign = ["ETCD_", "ETCDCTL_", "EXPECT_", "GOFAIL_"];
        for (name, _) in std::env::vars() {
            if foreign.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let log = scratch.0.join("log");
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command
            .arg(format!("-test.run=^{}$", test.name))
            .args(["-test.v", "-test.count=1"])
            .arg(format!("-test.timeout={}s", test.seconds_max()))
            .arg("-bin-dir")
            .arg(&self.bin)
            .arg("-bin-last-release")
            .arg(&self.last_release)
            .arg("-cert-dir")
            .arg(self.tests.join("fixtures"))
            .env("TMPDIR", scratch.0.join("tmp"))
            .env("HOME", scratch.0.join("home"))
            .env(MARK, format!("{}-{job}", self.mark))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(|error| error.to_string())?)
            .stderr(file);
        if self.debug {
            command.env("EXPECT_DEBUG", "1");
        }
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let ended = wait(
            &mut child,
            Duration::from_secs(test.seconds_max() + GRACE_SECONDS),
        );
        self.sweep(job);
        let mut bytes = Vec::new();
        fs::File::open(&log)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| format!("{}: {error}", log.display()))?;
        Ok((ended, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Kills what a test left behind; a namespace of processes leaves nothing.
    fn sweep(&self, job: usize) {
        let wanted = format!("{MARK}={}-{job}", self.mark);
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        for process in processes.flatten() {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let ours = environment
                .split(|byte| *byte == 0)
                .any(|setting| setting == wanted.as_bytes());
            if ours {
                let id = process.file_name();
                let _ = Command::new("kill").arg("-KILL").arg(id).status();
            }
        }
    }
}

/// Whether the child ended well; `None` when it was killed after the limit.
fn wait(child: &mut Child, limit: Duration) -> Option<bool> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The folder of one test; gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(site: &Site, name: &str) -> Result<Scratch, String> {
        // Paths of unix sockets lie in it and must be short.
        let folder = std::env::temp_dir().join(format!("es{}-{name}", site.mark));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Scratch(folder))
    }

    /// The shape of etcd's tree as far as tests look around in it; gives the folder to start in.
    fn lay_out(&self, site: &Site, suite: &str) -> Result<PathBuf, String> {
        let start = self.0.join("etcd/tests").join(suite);
        let make = || -> std::io::Result<()> {
            for folder in [&start, &self.0.join("tmp"), &self.0.join("home")] {
                fs::create_dir_all(folder)?;
            }
            let sample = "etcd.conf.yml.sample";
            std::os::unix::fs::symlink(site.etcd.join(sample), self.0.join("etcd").join(sample))?;
            std::os::unix::fs::symlink(site.tests.join("fixtures"), self.0.join("etcd/tests/fixtures"))
        };
        make().map_err(|error| format!("{}: {error}", start.display()))?;
        Ok(start)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads the verdict from what a test program said.
fn judge(name: &str, ended: Option<bool>, log: &str) -> Outcome {
    if ended.is_none() || log.contains("\npanic: test timed out after") {
        return Outcome::TimedOut;
    }
    let verdicts: Vec<(&str, &str)> = log.lines().filter_map(verdict).collect();
    let top = verdicts.iter().find(|(_, of)| *of == name).map(|(word, _)| *word);
    let mut parts = verdicts.iter().filter(|(_, of)| *of != name).peekable();
    // A test all of whose parts were skipped has shown nothing; Go calls it passed.
    let nothing_ran = parts.peek().is_some() && parts.all(|(word, _)| *word == "SKIP");
    // The suite looks at the very end of its process for goroutines that are left. Some tests stop a
    // program without waiting for it, which is noticed only in the last test, as each is here.
    let leak = "\nPASS\nUnexpected goroutines running after all test(s).";
    match top {
        Some("PASS" | "SKIP") if ended != Some(true) && !log.contains(leak) => Outcome::Fail,
        Some("PASS") if !nothing_ran => Outcome::Pass,
        Some("PASS" | "SKIP") => Outcome::Skip,
        _ => Outcome::Fail,
    }
}

/// `    --- PASS: TestA/part (0.10s)`: the word and the name.
fn verdict(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
    let (name, _) = rest.split_once(" (")?;
    ["PASS", "FAIL", "SKIP"].contains(&word).then_some((word, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read() {
        let check = |log: &str, ended, expected| assert_eq!(judge("TestA", ended, log), expected, "{log}");
        let pass = "=== RUN TestA\n--- PASS: TestA (0.10s)\nPASS\n";
        check(pass, Some(true), Outcome::Pass);
        check(pass, Some(false), Outcome::Fail);
        check(pass, None, Outcome::TimedOut);
        check("PASS\n", Some(true), Outcome::Fail);
        check("--- FAIL: TestA (0.1s)\n", Some(false), Outcome::Fail);
        check("--- SKIP: TestA (0.1s)\nPASS\n", Some(true), Outcome::Skip);
        check(
            "--- PASS: TestA (0.1s)\n    --- SKIP: TestA/b (0.0s)\n",
            Some(true),
            Outcome::Skip,
        );
        check(
            "--- PASS: TestA (0.1s)\n    --- SKIP: TestA/b (0.0s)\n    --- PASS: TestA/c (0.0s)\n",
            Some(true),
            Outcome::Pass,
        );
        check(
            "--- PASS: TestA (0.1s)\nPASS\nUnexpected goroutines running after all test(s).\n",
            Some(false),
            Outcome::Pass,
        );
        check(
            "x\npanic: test timed out after 5m0s\n",
            Some(false),
            Outcome::TimedOut,
        );
    }

    #[test]
    fn lists_are_read() {
        let list = read_list("# a\ne2e TestA\ncommon TestB long: reason # b\n\ne2e TestC skip: why: so\n");
        let kinds: Vec<Kind> = list
            .expect("it is right")
            .into_iter()
            .map(|test| test.kind)
            .collect();
        assert_eq!(
            kinds,
            [Kind::Usual, Kind::Long, Kind::Skip("why: so".to_string())]
        );
        for wrong in ["TestA", "unit TestA", "e2e TestA slow: x", "e2e TestA skip"] {
            assert!(read_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_lists_of_the_repository_are_right() {
        for entry in fs::read_dir(root().join("interop/suites"))
            .expect("the lists")
            .flatten()
        {
            if entry.path().extension().is_some_and(|end| end == "txt") {
                let text = fs::read_to_string(entry.path()).expect("a list");
                let list = read_list(&text).expect("it is right");
                let names: BTreeSet<&str> = list.iter().map(|test| test.name.as_str()).collect();
                assert_eq!(names.len(), list.len(), "{:?} names a test twice", entry.path());
            }
        }
    }
}
