//! What an operator sees of one member: metrics, endpoints, log lines. Real etcd runs beside ours;
//! shapes must be the same, and so must the numbers that count what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::{Home, Program, Question, Rig, Stop, eventually, http};

const KV: &str = "etcdserverpb.KV";

/// A page of metrics: kinds by family, and values by series.
struct Page {
    kinds: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

impl Page {
    fn of(port: u16) -> Page {
        // Without chunks, which may begin within a line.
        let text = http(port, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a page");
        let (_, body) = text.split_once("\r\n\r\n").expect("headers and a body");
        let (mut kinds, mut series) = (BTreeMap::new(), BTreeMap::new());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                kinds.insert(name.to_string(), kind.to_string());
            } else if !line.starts_with('#')
                && let Some((name, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse()
            {
                series.insert(name.to_string(), value);
            }
        }
        Page { kinds, series }
    }

    fn value(&self, series: &str) -> f64 {
        let found = self.series.get(series);
        *found.unwrap_or_else(|| panic!("{series} is not on the page"))
    }

    /// The names of all series, without what differs between two members.
    fn shape(&self) -> BTreeSet<String> {
        self.series.keys().map(|series| without_ids(series)).collect()
    }
}

fn without_ids(series: &str) -> String {
    let mut out = series.to_string();
    for label in ["server_id", "Local", "Remote", "server_go_version"] {
        out = blank(&out, label);
    }
    if series.starts_with("go_info") {
        out = blank(&out, "version");
    }
    out
}

/// The text with the value of a label left out.
fn blank(text: &str, label: &str) -> String {
    let start = format!("{label}=\"");
    let Some(at) = text.find(&start) else {
        return text.to_string();
    };
    let rest = &text[at + start.len()..];
    let end = rest.find('"').unwrap_or(rest.len());
    format!("{}{}", &text[..at + start.len()], &rest[end..])
}

fn get(port: u16, path: &str) -> String {
    request(port, "GET", path)
}

fn request(port: u16, method: &str, path: &str) -> String {
    let text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    http(port, &text).expect("an answer")
}

#[test]
fn metrics_have_etcds_names_kinds_labels_and_bounds_from_the_start() {
    let Some(rig) = Rig::find("metrics-shape") else {
        return;
    };
    for flag in ["--metrics=basic", "--metrics=extensive"] {
        let look = |name: &str, program| {
            let home = Home::new(name);
            let server = home.start(&rig, program, &[flag]);
            // The cluster's version is set a moment after the start.
            let page = eventually("the version is set", || {
                let page = Page::of(home.client_port());
                let set = page
                    .series
                    .keys()
                    .any(|name| name.contains("op=\"ClusterVersionSet\""));
                (set && page.kinds.contains_key("etcd_cluster_version")).then_some(page)
            });
            server.stop(Stop::Term);
            page
        };
        let theirs = look("metrics-shape-go", Program::Go("3.7"));
        let ours = look("metrics-shape-ours", Program::Ours("3.7"));
        assert_eq!(theirs.kinds, ours.kinds, "{flag}");
        let (theirs, ours) = (theirs.shape(), ours.shape());
        let missing: Vec<&String> = theirs.difference(&ours).collect();
        let more: Vec<&String> = ours.difference(&theirs).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "{flag}: missing {missing:?}, more {more:?}"
        );
    }
}

/// Series that count what was done, and are the same for the same deeds.
const COUNTED: &[&str] = &[
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_ttl_total_count",
    "etcd_debugging_lease_ttl_total_sum",
    "etcd_debugging_server_lease_expired_total",
    "etcd_disk_backend_defrag_duration_seconds_count",
    "etcd_disk_backend_snapshot_duration_seconds_count",
    "etcd_disk_defrag_inflight",
    "etcd_mvcc_hash_rev_duration_seconds_count",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_slow_apply_total",
    "etcd_server_health_failures",
    "etcd_server_client_requests_total{client_api_version=\"3.7\",type=\"stream\"}",
    "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"}",
    "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"false\",version=\"v3\"}",
    "etcd_server_apply_duration_seconds_count{op=\"LeaseRevoke\",success=\"true\",version=\"v3\"}",
    "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Put\"}",
    "etcd_server_request_duration_seconds_count{success=\"true\",type=\"ReadonlyTxn\"}",
    "etcd_server_request_duration_seconds_count{success=\"false\",type=\"Range\"}",
    "etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"success\",type=\"readyz\"}",
    "etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"}",
];

/// What clients do, and what is counted then: all calls of etcd's own services among it.
fn deeds(rig: &Rig, home: &Home, program: Program) -> BTreeMap<String, f64> {
    let server = home.start(rig, program, &["--metrics=extensive"]);
    for n in 0..5 {
        home.ctl(rig, &["put", &format!("key{n}"), &"v".repeat(n)]);
    }
    home.ctl(rig, &["get", "key", "--prefix"]);
    home.ctl(rig, &["del", "key4"]);
    home.ctl(rig, &["del", "nothing"]);
    let ask = |method: &str, request: &str| rig.ask(&home.endpoint(), &[Question::new(method, request)]);
    let compare = "compare: { target: MOD result: GREATER key: 'key0' mod_revision: 0 }";
    let put = "success: { request_put: { key: 'a' value: 'bc' } }";
    let range = "success: { request_range: { key: 'key0' } }";
    ask(&format!("{KV}/Txn"), &format!("{compare} {put} {range}"));
    ask(&format!("{KV}/Txn"), &format!("{compare} {range}"));
    ask(&format!("{KV}/Put"), "key: 'x' lease: 77");
    ask(&format!("{KV}/Range"), "key: 'x' revision: 1000");
    ask(&format!("{KV}/Put"), "");
    for method in ["MemberPromote", "MemberRemove"] {
        ask(&format!("etcdserverpb.Cluster/{method}"), "ID: 77");
    }
    let list = rig.ask_one(&home.endpoint(), "etcdserverpb.Cluster/MemberList", "");
    let own = list["members"][0]["ID"].as_str().expect("an ID").to_string();
    ask("etcdserverpb.Cluster/MemberPromote", &format!("ID: {own}"));
    home.ctl(rig, &["compaction", "4", "--physical"]);
    let granted = home.ctl(rig, &["lease", "grant", "100"]);
    let lease = granted.split_whitespace().nth(1).expect("an ID").to_string();
    home.ctl(rig, &["put", "leased", "v", "--lease", &lease]);
    home.ctl(rig, &["lease", "keep-alive", "--once", &lease]);
    home.ctl(rig, &["lease", "revoke", &lease]);
    home.ctl(rig, &["lease", "grant", "1"]);
    watch(rig, home);
    home.ctl(rig, &["defrag"]);
    let saved = home.dir.join("saved");
    home.ctl(rig, &["snapshot", "save", &saved.to_string_lossy()]);
    home.ctl(rig, &["endpoint", "hashkv"]);
    get(home.client_port(), "/readyz");
    get(home.client_port(), "/livez");
    let page = eventually("the short lease expires", || {
        let page = Page::of(home.client_port());
        (page.value("etcd_debugging_server_lease_expired_total") >= 1.0).then_some(page)
    });
    check_sizes(rig, home, &page);
    server.stop(Stop::Term);
    let calls = page.series.iter().filter(|(name, _)| {
        let counts = [
            "grpc_server_started",
            "grpc_server_handled_total",
            "grpc_server_msg_received",
            "grpc_server_msg_sent",
        ];
        let of_call = counts.iter().any(|start| name.starts_with(start)) && name.contains("etcdserverpb");
        // Whether a client that hangs up is seen to have ended or to have given up is a matter of chance.
        let of_call = of_call && !(name.contains("handled_total") && name.contains("\"LeaseKeepAlive\""));
        // In how many pieces a file of another size comes is nobody's affair.
        let of_call = of_call && !(name.contains("msg_sent") && name.contains("\"Snapshot\""));
        of_call || name.starts_with("etcd_server_learner_promote_failures")
    });
    let calls: BTreeMap<String, f64> = calls.map(|(name, count)| (name.clone(), *count)).collect();
    let counted = COUNTED.iter().map(|name| ((*name).to_string(), page.value(name)));
    counted.chain(calls).collect()
}

/// Two events for a watcher, which is counted as long as it is there.
fn watch(rig: &Rig, home: &Home) {
    let mut watcher = Watcher(
        Command::new(rig.go("3.7", "etcdctl"))
            .args(["--endpoints", &home.endpoint(), "watch", "watched"])
            .stdout(Stdio::null())
            .spawn()
            .expect("etcdctl runs"),
    );
    let counts = |name: &str, count: f64| {
        eventually(name, || {
            (Page::of(home.client_port()).value(name) == count).then_some(())
        });
    };
    counts("etcd_debugging_mvcc_watcher_total", 1.0);
    counts("etcd_debugging_mvcc_watch_stream_total", 1.0);
    home.ctl(rig, &["put", "watched", "1"]);
    home.ctl(rig, &["put", "watched", "2"]);
    counts("etcd_debugging_mvcc_events_total", 2.0);
    watcher.end();
    counts("etcd_debugging_mvcc_watch_stream_total", 0.0);
}

struct Watcher(Child);

impl Watcher {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sizes are each program's own, but must be what Status says, and descriptors what the system says.
fn check_sizes(rig: &Rig, home: &Home, page: &Page) {
    let status = rig.ask_one(&home.endpoint(), "etcdserverpb.Maintenance/Status", "");
    let size = status["dbSize"].as_str().and_then(|text| text.parse().ok());
    assert_eq!(Some(page.value("etcd_mvcc_db_total_size_in_bytes")), size);
    assert!(page.value("etcd_mvcc_db_total_size_in_use_in_bytes") <= size.unwrap_or_default());
    let (used, limit) = (page.value("os_fd_used"), page.value("os_fd_limit"));
    assert!(used > 5.0 && used < limit, "{used} of {limit}");
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_disk_backend_commit_duration_seconds_sum",
        "etcd_network_client_grpc_sent_bytes_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "go_threads",
        "etcd_debugging_mvcc_db_compaction_last",
    ] {
        assert!(page.value(name) > 0.0, "{name}");
    }
}

#[test]
fn metrics_count_what_was_done() {
    let Some(rig) = Rig::find("metrics-values") else {
        return;
    };
    let home = Home::new("metrics-values-go");
    let theirs = deeds(&rig, &home, Program::Go("3.7"));
    // At the same addresses, so that the member has the same ID, which takes as many bytes.
    let twin = home.twin("metrics-values-ours");
    let ours = deeds(&rig, &twin, Program::Ours("3.7"));
    let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let wrong: Vec<String> = names
        .into_iter()
        .filter(|name| theirs.get(*name) != ours.get(*name))
        .map(|name| format!("{name}: etcd {:?}, ours {:?}", theirs.get(name), ours.get(name)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Status, the headers that matter and the body of an answer.
fn told(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.lines().next().unwrap_or_default();
    let mut out = status.to_string();
    for wanted in ["content-type:", "allow:", "x-content-type-options:"] {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(wanted));
        out.push_str(&format!(" | {}", line.unwrap_or_default().to_ascii_lowercase()));
    }
    // Checks are made in any order, and metrics are other tests' matter.
    let mut lines: Vec<&str> = body.lines().collect();
    lines.sort_unstable();
    if !head.contains("version=0.0.4") && !head.contains("application/json; charset=utf-8") {
        out.push_str(&format!(" | {}", lines.join(" / ")));
    }
    out
}

/// Requests that name no host, or more than one, or none that could be.
/// CVE-2018-1098, CVE-2018-1099.
#[test]
fn hosts_are_asked_for_as_etcd_asks() {
    let Some(rig) = Rig::find("hosts") else { return };
    let heads = [
        "GET /version HTTP/1.1",
        "GET http://x/version HTTP/1.1",
        "GET /version HTTP/1.1\r\nHost: a\r\nHost: b",
        "GET /version HTTP/1.1\r\nHost: a b",
        "GET /version HTTP/1.1\r\nHost: a/b",
        "GET /version HTTP/1.0",
        "GET /version HTTP/1.1\r\nHost:",
    ];
    let look = |name: &str, program| {
        let home = Home::new(name);
        let server = home.start(&rig, program, &[]);
        let peer = home.peer().rsplit(':').next().and_then(|port| port.parse().ok());
        let ports = [home.client_port(), peer.expect("a port")];
        let answers = ports.map(|port| {
            heads.map(|head| {
                let request = format!("{head}\r\nConnection: close\r\n\r\n");
                let answer = http(port, &request).expect("an answer");
                let status = answer.lines().next().unwrap_or_default();
                // The versions of an etcd that has just started are its own matter.
                let told = told(&answer);
                let told = told.split('{').next().unwrap_or_default();
                format!("{head}: {status} {told}")
            })
        });
        server.stop(Stop::Term);
        answers
    };
    let theirs = look("hosts-go", Program::Go("3.7"));
    let ours = look("hosts-ours", Program::Ours("3.7"));
    assert_eq!(ours, theirs);
}

#[test]
fn endpoints_answer_as_etcds_do() {
    let Some(rig) = Rig::find("endpoints") else { return };
    let paths = [
        "/health",
        "/health?serializable=true",
        "/health?exclude=NOSPACE",
        "/health?exclude=NOSPACE&exclude=CORRUPT",
        "/livez",
        "/livez?verbose",
        "/livez?exclude=serializable_read",
        "/livez/serializable_read",
        "/livez/zz",
        "/livez/",
        "/readyz",
        "/readyz?verbose",
        "/readyz?verbose&exclude=non_learner&exclude=zz",
        "/readyz/data_corruption",
        "/readyz/linearizable_read?verbose",
        "/readyz/non_learner",
        "/livezz",
        "/version",
        "/metrics",
        "/debug/vars",
        "/debug/pprof/",
        "/",
        "/v2/keys",
        "/nothing",
    ];
    let look = |name: &str, program, alarm: bool| {
        let home = Home::new(name);
        let (only_http, metrics) = (conformance::free_port(), conformance::free_port());
        let flags = [
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
            format!("--listen-client-http-urls=http://127.0.0.1:{only_http}"),
            "--quota-backend-bytes=100000".to_string(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut server = home.spawn(&rig, program, &flags);
        eventually("the server is ready", || {
            assert!(server.ended().is_none(), "{}", server.log());
            http(
                only_http,
                "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .is_ok_and(|answer| answer.contains("\"true\""))
            .then_some(())
        });
        eventually("the storage has a version", || {
            (!get(only_http, "/version").contains("unknown")).then_some(())
        });
        if alarm {
            let put = Question::new(
                &format!("{KV}/Put"),
                &format!("key: 'k' value: '{}'", "v".repeat(90_000)),
            );
            eventually("the quota is reached", || {
                (rig.ask(&home.endpoint(), std::slice::from_ref(&put))
                    .remove(0)
                    .code
                    != "OK")
                    .then_some(())
            });
        }
        let mut seen = Vec::new();
        for (door, port) in [("http", only_http), ("metrics", metrics)] {
            for path in paths {
                for method in ["GET", "POST", "HEAD"] {
                    seen.push(format!(
                        "{door} {method} {path}: {}",
                        told(&request(port, method, path))
                    ));
                }
            }
        }
        server.stop(Stop::Term);
        seen
    };
    for alarm in [false, true] {
        let theirs = look("endpoints-go", Program::Go("3.7"), alarm);
        let ours = look("endpoints-ours", Program::Ours("3.7"), alarm);
        let wrong: Vec<String> = theirs
            .iter()
            .zip(&ours)
            .filter(|(theirs, ours)| theirs != ours)
            .map(|(theirs, ours)| format!("etcd {theirs}\nours {ours}"))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The names of a JSON object's fields, in their order.
fn field_names(line: &str) -> Vec<String> {
    let (mut names, mut depth, mut chars) = (Vec::new(), 0, line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => {
                            chars.next();
                        }
                        '"' => break,
                        c => text.push(c),
                    }
                }
                if depth == 1 && chars.peek() == Some(&':') {
                    names.push(text);
                }
            }
            _ => {}
        }
    }
    names
}

/// The first line with a message, and its fields.
fn line_of(log: &str, message: &str) -> Option<String> {
    let wanted = format!("\"msg\":\"{message}\"");
    log.lines()
        .find(|line| line.contains(&wanted))
        .map(str::to_string)
}

#[test]
fn lines_that_scripts_read_have_etcds_fields() {
    let Some(rig) = Rig::find("log-lines") else { return };
    let messages = [
        "request stats",
        "finished scheduled compaction",
        "defragmenting",
        "finished defragmenting directory",
        "published local member to cluster through raft",
        "ready to serve client requests",
        "Skipping defragmentation",
        "failed to apply request",
        "apply request took too long",
        "storing new hash",
        "starting defragment",
        "finished defragment",
        "sending database snapshot to client",
        "successfully sent database snapshot to client",
        "updated storage version",
        "cluster version is updated",
    ];
    let look = |name: &str, program| {
        let home = Home::new(name);
        let flags = [
            "--warning-apply-duration=1ns",
            "--log-level=debug",
            "--bootstrap-defrag-threshold-megabytes=1000",
        ];
        let server = home.start(&rig, program, &flags);
        home.ctl(&rig, &["put", "k", "secret"]);
        home.ctl(&rig, &["get", "k"]);
        rig.ask(
            &home.endpoint(),
            &[Question::new(&format!("{KV}/Put"), "key: 'x' lease: 77")],
        );
        home.ctl(&rig, &["compaction", "2", "--physical"]);
        home.ctl(&rig, &["defrag"]);
        let saved = home.dir.join("saved");
        home.ctl(&rig, &["snapshot", "save", &saved.to_string_lossy()]);
        let log = eventually("all lines are there", || {
            let log = server.log();
            messages
                .iter()
                .all(|message| line_of(&log, message).is_some())
                .then_some(log)
        });
        server.stop(Stop::Term);
        log
    };
    let theirs = look("log-lines-go", Program::Go("3.7"));
    let ours = look("log-lines-ours", Program::Ours("3.7"));
    for message in messages {
        let fields = |log: &str| field_names(&line_of(log, message).unwrap_or_default());
        assert_eq!(fields(&theirs), fields(&ours), "{message}");
    }
    // A slow read is told apart by its prefix, and no value is in the log.
    for log in [&theirs, &ours] {
        assert!(
            log.contains("\"prefix\":\"read-only range \",\"request\":\"key:\\\"k\\\""),
            "{log}"
        );
        assert!(log.contains("put:<key:\\\"k\\\" value_size:6 >"), "{log}");
    }
    assert!(!ours.contains("secret"), "{ours}");
    for line in ours.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        let parsed = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_ne!(parsed["level"], "error", "{line}");
        assert!(
            !line.contains("driver/router.rs"),
            "a line of a stage names its own place: {line}"
        );
    }
}

#[test]
fn logs_go_to_files_that_rotate_and_read_well_on_a_console() {
    let Some(rig) = Rig::find("log-files") else { return };
    let home = Home::new("log-files");
    let path = home.dir.join("logs/etcd.log");
    let outputs = format!("--log-outputs={},stderr", path.display());
    let rotation = "--log-rotation-config-json={\"maxsize\": 1, \"maxbackups\": 2, \"compress\": true}";
    let flags = [
        &outputs,
        "--enable-log-rotation",
        rotation,
        "--log-format=console",
        "--log-level=debug",
    ];
    let server = home.start(&rig, Program::Ours("3.7"), &flags);
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(home.dir.join("logs")).expect("the folder of the log");
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    // Each call is a line of more than its key.
    let key = "k".repeat(6000);
    let puts = vec![Question::new(&format!("{KV}/Put"), &format!("key: '{key}'")); 100];
    eventually("a file was put aside and compressed", || {
        rig.ask(&home.endpoint(), &puts);
        names().iter().any(|name| name.ends_with(".log.gz")).then_some(())
    });
    server.stop(Stop::Term);
    assert!(names().len() <= 4, "{:?}", names());
    let log = std::fs::read_to_string(&path).expect("the log");
    let stopped = log
        .lines()
        .find(|line| line.contains("\tclosed etcd server\t"))
        .expect("the last words");
    let parts: Vec<&str> = stopped.split('\t').collect();
    assert_eq!(
        (parts.len(), parts[1], parts[3]),
        (5, "info", "closed etcd server")
    );
    assert!(
        parts[4].starts_with("{\"name\": \"default\", \"data-dir\": "),
        "{stopped}"
    );
}

#[test]
fn a_file_with_much_free_space_is_defragmented_at_the_start() {
    let Some(rig) = Rig::find("bootstrap-defrag") else {
        return;
    };
    let scenario = |name: &str, program| {
        let home = Home::new(name);
        let server = home.start(&rig, program, &[]);
        let value = "v".repeat(1_000_000);
        for n in 0..5 {
            let put = Question::new(&format!("{KV}/Put"), &format!("key: 'k{n}' value: '{value}'"));
            rig.ask(&home.endpoint(), &[put]);
        }
        home.ctl(&rig, &["put", "other", "kept"]);
        home.ctl(&rig, &["del", "k", "--prefix"]);
        home.ctl(&rig, &["compaction", "8", "--physical"]);
        server.stop(Stop::Term);
        let size = |home: &Home| -> u64 {
            let status = rig.ask_one(&home.endpoint(), "etcdserverpb.Maintenance/Status", "");
            let size = status["dbSize"].as_str().and_then(|text| text.parse().ok());
            size.expect("a size")
        };
        // Too little to be worth it, and then enough.
        let mut seen = Vec::new();
        for megabytes in [100, 3] {
            let flag = format!("--bootstrap-defrag-threshold-megabytes={megabytes}");
            let server = home.start(&rig, program, &[&flag]);
            let log = server.log();
            for message in ["Skipping defragmentation", "finished defragmenting directory"] {
                seen.push(line_of(&log, message).is_some());
            }
            assert_eq!(
                home.ctl(&rig, &["get", "other", "--print-value-only"]).trim(),
                "kept"
            );
            seen.push(size(&home) < 1_000_000);
            server.stop(Stop::Term);
        }
        home.check_file(&rig);
        seen
    };
    let expected = [true, false, false, false, true, true];
    assert_eq!(scenario("bootstrap-defrag-go", Program::Go("3.7")), expected);
    assert_eq!(scenario("bootstrap-defrag-ours", Program::Ours("3.7")), expected);
}

#[test]
fn the_init_daemon_hears_when_clients_are_served() {
    let Some(rig) = Rig::find("notify") else {
        return;
    };
    for (program, args) in [
        (rig.go("3.7", "etcd"), [].as_slice()),
        (rig.mainstay.clone(), &["server"]),
    ] {
        let home = Home::new("notify");
        let socket = home.dir.join("socket");
        let daemon = UnixDatagram::bind(&socket).expect("a socket");
        daemon
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket with a limit");
        let (client, peer) = (home.endpoint(), home.peer());
        let mut child = Watcher(
            Command::new(&program)
                .args(args)
                .arg(format!("--data-dir={}", home.data().display()))
                .args([
                    format!("--listen-client-urls={client}"),
                    format!("--advertise-client-urls={client}"),
                    format!("--listen-peer-urls={peer}"),
                    format!("--initial-advertise-peer-urls={peer}"),
                    format!("--initial-cluster=default={peer}"),
                    "--log-outputs=/dev/null".to_string(),
                ])
                .env("NOTIFY_SOCKET", &socket)
                .spawn()
                .expect("a server"),
        );
        let mut message = [0; 64];
        let len = daemon.recv(&mut message).expect("a message");
        assert_eq!(&message[..len], b"READY=1", "{program:?}");
        // Whoever was told so finds a server.
        home.ctl(&rig, &["put", "k", "v"]);
        child.end();
    }
}
