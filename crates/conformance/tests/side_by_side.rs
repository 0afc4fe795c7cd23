//! Real etcd 3.7 and ours, each started fresh and asked the same: flags, wrong flags, metrics, endpoints,
//! the gateway and gRPC. What differs must be listed with its reason in docs/differences.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use conformance::differences::Differences;
use conformance::{Answer, Home, Program, Question, Rig, Stop, eventually, run};
use serde_json::{Value, json};

const THEIRS: Program = Program::Go("3.7");
const OURS: Program = Program::Ours("3.7");

/// What both say, by name; where only one has something to say, the other is "-".
type Sayings = BTreeMap<String, String>;

/// Settles what differs between both.
fn settle(kind: &str, theirs: &Sayings, ours: &Sayings) {
    assert!(
        theirs.len() > 5,
        "real etcd says too little of {kind}: {theirs:?}"
    );
    let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let found = names
        .into_iter()
        .filter(|name| theirs.get(*name) != ours.get(*name))
        .map(|name| {
            let say = |sayings: &Sayings| sayings.get(name).map_or("-", String::as_str).to_string();
            (name.clone(), (say(theirs), say(ours)))
        })
        .collect();
    Differences::of(kind).settle(&found);
}

/// Runs one look at both at the same time.
fn both(rig: &Rig, look: impl Fn(&Rig, Program) -> Sayings + Sync) -> (Sayings, Sayings) {
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| look(rig, THEIRS));
        let ours = look(rig, OURS);
        (theirs.join().expect("real etcd can be looked at"), ours)
    })
}

fn program(rig: &Rig, program: Program) -> Command {
    let mut command = match program {
        Program::Go(line) => Command::new(rig.go(line, "etcd")),
        Program::Ours(_) => Command::new(&rig.mainstay),
    };
    command.stdin(Stdio::null());
    command
}

fn side(program: Program) -> &'static str {
    if program == THEIRS { "etcd" } else { "ours" }
}

// ---- flags

/// The flags that --help lists, with the default each shows. Real etcd puts some in quotes, some not, and
/// shows none for some.
fn help(rig: &Rig, which: Program) -> Sayings {
    let output = program(rig, which).arg("--help").output().expect("it runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("  --")?;
            let (name, default) = line.split_once(' ').unwrap_or((line, ""));
            let default = default.trim().trim_matches('\'');
            // `1m` and `1m0s` are the same.
            let short = default.strip_suffix("m0s").map(|minutes| {
                minutes
                    .strip_suffix("h0")
                    .map_or(format!("{minutes}m"), |h| format!("{h}h"))
            });
            Some((format!("--{name}"), short.unwrap_or_else(|| default.to_string())))
        })
        .collect()
}

#[test]
fn flags_and_their_defaults() {
    let Some(rig) = Rig::find("help") else { return };
    let (theirs, mut ours) = both(&rig, help);
    for (name, default) in &mut ours {
        // Where etcd's page shows no default, one may be shown.
        if theirs.get(name).is_some_and(String::is_empty) {
            default.clear();
        }
    }
    settle("help", &theirs, &ours);
}

/// What a start with one more flag comes to: it serves, or its exit code and last words.
fn outcome(rig: &Rig, which: Program, home: &Home, flags: &[&str]) -> String {
    let log = home.dir.join("wrong.log");
    let file = fs::File::create(&log).expect("a log file");
    let (client, peer) = (home.endpoint(), home.peer());
    let mut child = program(rig, which)
        .env_clear()
        .current_dir(&home.dir)
        .arg(format!("--data-dir={}", home.data().display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args(flags)
        .stdout(file.try_clone().expect("a log file"))
        .stderr(file)
        .stdin(Stdio::null())
        .spawn()
        .expect("it starts");
    let said = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let code = eventually(&format!("{which:?} {flags:?} serves or ends"), || {
        if let Some(status) = child.try_wait().expect("its state is known") {
            return Some(format!(
                "exit {}",
                status.code().map_or("by signal".into(), |c| c.to_string())
            ));
        }
        let serves = said().contains("ready to serve client requests") || home.healthy();
        serves.then(|| "serves".to_string())
    });
    let _ = child.kill();
    let _ = child.wait();
    let _ = fs::remove_dir_all(home.data());
    if code == "serves" {
        return code;
    }
    let here = home.dir.display().to_string();
    format!("{code}: {}", last_words(&said()).replace(&here, "DIR"))
}

/// What a program said before it ended: its last complaint in the log, or else the first line, which
/// stands above the usage.
fn last_words(text: &str) -> String {
    let complaint = text.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let level = line["level"].as_str()?;
        let part = |name: &str| line[name].as_str().map(str::to_string);
        let words: Vec<String> = [part("msg"), part("error")].into_iter().flatten().collect();
        (!["debug", "info"].contains(&level)).then(|| words.join(": "))
    });
    let first = || {
        text.lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default()
    };
    // Go's panics come on plain lines after the log.
    let panic = text.lines().find(|line| line.starts_with("panic: "));
    panic
        .map(str::to_string)
        .or(complaint)
        .unwrap_or_else(|| first().to_string())
}

/// Values that are wrong in other ways than "x" is, and flags that are wrong together.
const WRONG: &[&[&str]] = &[
    &["--nope"],
    &["--nope=1"],
    &["---name=x"],
    &["positional"],
    &["--name"],
    &["--snapshot-count=-1"],
    &["--heartbeat-interval=0"],
    &["--heartbeat-interval=-1"],
    &["--heartbeat-interval=1000"],
    &["--election-timeout=100"],
    &["--election-timeout=60000"],
    &["--election-timeout=0"],
    &["--max-request-bytes=-1"],
    &["--max-txn-ops=0"],
    &["--quota-backend-bytes=-1"],
    &["--listen-client-urls=127.0.0.1:2379"],
    &["--listen-client-urls=http://example.com:1"],
    &["--listen-client-urls=http://127.0.0.1"],
    &["--listen-client-urls=http://127.0.0.1:1/path"],
    &["--listen-client-urls="],
    &["--advertise-client-urls="],
    &["--listen-peer-urls="],
    &["--initial-cluster="],
    &["--initial-cluster=other=http://127.0.0.1:1"],
    &["--initial-cluster-state=both"],
    &["--name="],
    &["--name=other"],
    &["--data-dir=/proc/nope"],
    &[
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=-1",
    ],
    &[
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1h",
    ],
    &["--auto-compaction-retention=1x"],
    &["--log-outputs=stdout,default"],
    &["--log-outputs=/nope/log"],
    &["--log-format=text"],
    &["--log-level=trace"],
    &["--enable-log-rotation"],
    &[
        "--enable-log-rotation",
        "--log-outputs=DIR/a.log",
        "--log-rotation-config-json=x",
    ],
    &["--log-rotation-config-json={\"maxsize\": \"x\"}"],
    &["--config-file=/nope"],
    &["--config-file=/dev/null"],
    &["--cert-file=/nope"],
    &[
        "--cert-file=/nope",
        "--key-file=/nope",
        "--listen-client-urls=https://127.0.0.1:0",
    ],
    &["--listen-client-urls=https://127.0.0.1:0"],
    &["--client-cert-auth"],
    &["--peer-client-cert-auth"],
    &["--trusted-ca-file=/nope"],
    &["--peer-trusted-ca-file=/nope"],
    &["--cipher-suites=TLS_NOPE"],
    &[
        "--cipher-suites=TLS_AES_128_GCM_SHA256",
        "--tls-min-version=TLS1.3",
    ],
    &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
    &["--tls-min-version=SSL3"],
    &["--client-cert-allowed-hostname=x"],
    &["--peer-cert-allowed-cn=x", "--peer-cert-allowed-hostname=y"],
    &["--discovery=http://127.0.0.1:1"],
    &["--discovery-token=x"],
    &["--discovery-endpoints=127.0.0.1:1"],
    &["--discovery-srv=nope.invalid"],
    &["--force-new-cluster=x"],
    &["--feature-gates=Nope=true"],
    &["--feature-gates=InitialCorruptCheck=x"],
    &["--feature-gates=InitialCorruptCheck"],
    &["--feature-gates=AllAlpha=true"],
    &["--metrics=all"],
    &["--listen-metrics-urls=https://127.0.0.1:0"],
    &["--auth-token=nope"],
    &["--auth-token=jwt"],
    &["--bcrypt-cost=1"],
    &["--bcrypt-cost=99"],
    &["--max-learners=0"],
    &["--grpc-keepalive-min-time=-1s"],
    &["--grpc-keepalive-interval=1"],
    &["--compaction-batch-limit=-1"],
    &["--compaction-sleep-interval=-1s"],
    &["--watch-progress-notify-interval=1ns"],
    &["--watch-progress-notify-interval=-1s"],
    &["--corrupt-check-time=-1s"],
    &["--compact-hash-check-time=0s"],
    &["--downgrade-check-time=0s"],
    &["--socket-reuse-port=x"],
    &["--v2-deprecation=gone"],
    &["--pre-vote=x"],
    &["--host-whitelist="],
    &["--cors=nope"],
    &["--enable-pprof=maybe"],
    &["--unsafe-no-fsync=2"],
    &["--backend-bbolt-freelist-type=list"],
    &["--backend-batch-interval=-1ms"],
    &["--memory-mlock=x"],
    &["--distributed-tracing-sampling-rate=-1"],
    &["--distributed-tracing-sampling-rate=1000001"],
    &[
        "--enable-distributed-tracing",
        "--distributed-tracing-address=nope",
    ],
    &["--warning-apply-duration=x"],
    &["--max-concurrent-streams=-1"],
    &["--experimental-initial-corrupt-check"],
    &["--experimental-nope"],
    &["--enable-v2=false"],
    &["--enable-v2=true"],
    &["--proxy=off"],
    &["--proxy=on"],
    &["--v2-deprecation=not-yet"],
    &["--wal-dir=/proc/nope"],
    &["--version", "--nope"],
];

/// Each flag with the value "x", and the table.
fn wrong_flags(rig: &Rig, which: Program, names: &BTreeSet<String>) -> Sayings {
    let home = Home::new(&format!("wrong-flags-{}", side(which)));
    let single = names.iter().map(|name| vec![format!("{name}=x")]);
    let table = WRONG
        .iter()
        .map(|flags| flags.iter().map(ToString::to_string).collect());
    single
        .chain(table)
        .map(|flags: Vec<String>| {
            let here = home.dir.display().to_string();
            let given: Vec<String> = flags.iter().map(|flag| flag.replace("DIR", &here)).collect();
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            (flags.join(" "), outcome(rig, which, &home, &given))
        })
        .collect()
}

#[test]
fn flags_that_are_wrong() {
    let Some(rig) = Rig::find("wrong flags") else {
        return;
    };
    let names: BTreeSet<String> = help(&rig, THEIRS).into_keys().collect();
    let (theirs, ours) = both(&rig, |rig, which| wrong_flags(rig, which, &names));
    settle("flag", &theirs, &ours);
}

// ---- metrics

/// Each metric's type, and the names of the labels and the bounds of the buckets of its series.
fn metrics(rig: &Rig, which: Program) -> Sayings {
    let home = Home::new(&format!("metrics-{}", side(which)));
    let server = home.start(rig, which, &["--metrics=extensive"]);
    for args in [
        &["put", "a", "1"][..],
        &["get", "a"],
        &["del", "a"],
        &["lease", "grant", "100"],
    ] {
        home.ctl(rig, args);
    }
    let page = conformance::http(
        home.client_port(),
        // By HTTP/1.0, which knows no chunks.
        "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n",
    )
    .expect("an answer");
    server.stop(Stop::Term);
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        } else if !line.starts_with('#')
            && let Some((series, _)) = line.rsplit_once(' ')
        {
            let (name, set) = series.split_once('{').unwrap_or((series, ""));
            let of = ["", "_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|end| name.strip_suffix(end))
                .find_map(|base| types.get_key_value(base));
            if let Some((base, _)) = of {
                labels.entry(base).or_default().extend(label_names(set));
            }
        }
    }
    types
        .iter()
        .map(|(name, kind)| {
            let labels: Vec<&str> = labels
                .get(name)
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            ((*name).to_string(), format!("{kind} {{{}}}", labels.join(",")))
        })
        .collect()
}

/// The names of labels; bounds and quantiles with their values, which are part of what a name means.
fn label_names(set: &str) -> Vec<String> {
    set.trim_end_matches('}')
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(name, value)| match name {
            "le" | "quantile" => format!("{name}={}", value.trim_end_matches('"')),
            _ => name.to_string(),
        })
        .collect()
}

#[test]
fn names_and_types_of_metrics() {
    let Some(rig) = Rig::find("metrics") else { return };
    let (theirs, ours) = both(&rig, metrics);
    settle("metric", &theirs, &ours);
}

// ---- questions

/// An answer as far as two programs can be compared: code and message whole, of the rest the shape.
fn shape(answer: &Answer) -> String {
    let mut answers: Vec<Value> = answer.answers.iter().map(shape_of).collect();
    answers.dedup();
    format!(
        "{} {} {}",
        answer.code,
        words(&answer.message),
        Value::Array(answers)
    )
}

/// Go's protobuf writes one space or two, plain or unbreakable, so that nobody relies on its words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shape_of(value: &Value) -> Value {
    match value {
        Value::String(_) => json!("text"),
        Value::Number(_) => json!(0),
        Value::Array(list) => {
            // Members come in the order of their IDs, which are chance.
            let mut shapes: Vec<Value> = list.iter().map(shape_of).collect();
            shapes.sort_by_key(ToString::to_string);
            shapes.dedup();
            Value::Array(shapes)
        }
        Value::Object(map) => map
            .iter()
            // Whether a snapshot has more than one chunk is a question of the file's pages; whether a
            // compaction has left its hash yet, one of time.
            .filter(|(key, _)| !key.starts_with("remaining") && !key.starts_with("compact"))
            .map(|(key, value)| {
                let said = value
                    .as_str()
                    .filter(|_| ["message", "error", "reason"].contains(&key.as_str()));
                let shape = match (key.as_str(), said) {
                    ("code", _) => value.clone(),
                    (_, Some(text)) => json!(parser_words(text)),
                    _ => shape_of(value),
                };
                (key.clone(), shape)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// What a parser says of bad JSON is its own affair, but not that it is bad.
fn parser_words(text: &str) -> String {
    let text = words(text);
    let of_parser = [
        "proto:",
        "syntax error",
        "unexpected",
        "invalid character",
        "EOF",
        "parse",
    ];
    if of_parser.iter().any(|word| text.starts_with(word)) && !text.starts_with("etcdserver") {
        return "bad JSON".to_string();
    }
    text
}

fn ask(rig: &Rig, endpoint: &str, names: Vec<String>, questions: &[Question]) -> Sayings {
    let answers = rig.ask(endpoint, questions);
    names.into_iter().zip(answers.iter().map(shape)).collect()
}

/// What the tool knows to ask about every method of every service.
fn edges(rig: &Rig, form: &[&str]) -> (Vec<String>, Vec<Question>) {
    let text = rig.tool(&[&["edges"], form].concat());
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("the tool prints JSON");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            let question = Question {
                method: text(&line["method"]),
                request: line["request"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(text)
                    .collect(),
                answers: line["answers"].as_u64().map_or(0, |n| n as usize),
                wait_ms: line["wait_ms"].as_u64().unwrap_or_default(),
            };
            (text(&line["label"]), question)
        })
        .unzip()
}

fn edge_answers(rig: &Rig, form: &[&str], name: &str) -> (Sayings, Sayings) {
    let (labels, questions) = edges(rig, form);
    both(rig, |rig, which| {
        let home = Home::new(&format!("{name}-{}", side(which)));
        let server = home.start(rig, which, &[]);
        let answers = ask(rig, &home.endpoint(), labels.clone(), &questions);
        server.stop(Stop::Term);
        answers
    })
}

#[test]
fn odd_requests_of_every_method() {
    let Some(rig) = Rig::find("grpc edges") else {
        return;
    };
    let (theirs, ours) = edge_answers(&rig, &[], "grpc-edges");
    settle("grpc", &theirs, &ours);
}

#[test]
fn good_and_bad_bodies_of_every_route() {
    let Some(rig) = Rig::find("gateway edges") else {
        return;
    };
    let (mut theirs, mut ours) = edge_answers(&rig, &["-gateway"], "gateway-edges");
    // Whether somebody leads at the moment of the question depends on how fast an earlier candidate,
    // whose client has gone, is noticed: `locks.rs` observes elections.
    for sayings in [&mut theirs, &mut ours] {
        sayings.retain(|label, _| !label.starts_with("Election/Observe"));
    }
    settle("json", &theirs, &ours);
}

// ---- endpoints

const PATHS: &[&str] = &[
    "/",
    "/health",
    "/health?serializable=true",
    "/health?serializable=nope",
    "/health?exclude=NOSPACE",
    "/health?exclude=NOPE",
    "/health/",
    "/livez",
    "/livez?verbose",
    "/livez?exclude=serializable_read",
    "/livez?exclude=serializable_read&verbose",
    "/livez?exclude=nope",
    "/livez?allowlist=serializable_read",
    "/livez/serializable_read",
    "/livez/serializable_read?verbose",
    "/livez/data_corruption",
    "/livez/nope",
    "/livez/",
    "/readyz",
    "/readyz?exclude=data_corruption",
    "/readyz?exclude=nope&verbose",
    "/readyz/data_corruption",
    "/readyz/serializable_read",
    "/readyz/linearizable_read",
    "/readyz/non_learner",
    "/readyz/nope",
    "/version",
    "/version/",
    "/debug/vars",
    "/debug/requests",
    "/debug/pprof/",
    "/debug/pprof/cmdline",
    "/debug/pprof/nope",
    "/config/local/log",
    "/v2",
    "/v2/keys",
    "/v2/members",
    "/v3",
    "/v3/",
    "/v3/nope",
    "/v3alpha/kv/range",
    "/v3beta/kv/range",
    "/etcdserverpb.KV/Range",
    "/nope",
    "//version",
    "/a/../version",
];

const PEER_PATHS: &[&str] = &[
    "/",
    "/version",
    "/health",
    "/livez",
    "/metrics",
    "/members",
    "/members/",
    "/members/promote/1",
    "/members/promote/x",
    "/leases",
    "/leases/internal",
    "/downgrade/enabled",
    "/members/hashkv",
    "/raft",
    "/raft/probing",
    "/raft/stream/message/1",
    "/raft/snapshot",
    "/v3/kv/range",
    "/nope",
];

fn endpoints(rig: &Rig, which: Program) -> Sayings {
    let home = Home::new(&format!("endpoints-{}", side(which)));
    let server = home.start(rig, which, &[]);
    let mut all = Sayings::new();
    for (place, endpoint, paths) in [
        ("client", home.endpoint(), PATHS),
        ("peer", home.peer(), PEER_PATHS),
    ] {
        let (names, questions): (Vec<_>, Vec<_>) = paths
            .iter()
            .flat_map(|path| {
                ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"].map(|verb| format!("{verb} {path}"))
            })
            .map(|method| (format!("{place} {method}"), Question::new(&method, "")))
            .unzip();
        all.extend(ask(rig, &endpoint, names, &questions));
    }
    server.stop(Stop::Term);
    all
}

#[test]
fn answers_of_every_endpoint() {
    let Some(rig) = Rig::find("endpoints") else { return };
    let (theirs, ours) = both(&rig, endpoints);
    settle("http", &theirs, &ours);
}

// ---- versions

#[test]
fn versions_that_are_told() {
    let Some(rig) = Rig::find("version") else { return };
    let (_, theirs) = run(&rig.go("3.7", "etcd"), &["--version"]);
    let (_, ours) = run(&rig.mainstay, &["--version"]);
    let first = |text: &str| text.lines().next().map(str::to_string);
    assert_eq!(first(&theirs), first(&ours));
    assert!(Path::new(&rig.mainstay).exists());
}
