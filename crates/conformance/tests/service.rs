//! What a running member does over time: quota, leases, compaction, snapshots, downgrade, rescue.
//! Each scenario runs against real etcd as well, and both must tell the same.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use conformance::{Home, Program, Question, Rig, Stop, agree, copy, eventually, run, without};
use serde_json::{Value, json};

const KV_PUT: &str = "etcdserverpb.KV/Put";
const KV_RANGE: &str = "etcdserverpb.KV/Range";
const STATUS: &str = "etcdserverpb.Maintenance/Status";
const DOWNGRADE: &str = "etcdserverpb.Maintenance/Downgrade";

/// The answers without what differs between two runs of one program.
fn facts(rig: &Rig, home: &Home, questions: &[(&str, &str)]) -> Vec<Value> {
    let questions: Vec<Question> = questions
        .iter()
        .map(|(method, request)| Question::new(method, request))
        .collect();
    rig.ask(&home.endpoint(), &questions)
        .into_iter()
        .zip(&questions)
        .map(|(mut answer, question)| {
            for value in &mut answer.answers {
                without(
                    value,
                    &[
                        "clusterId",
                        "memberId",
                        "memberID",
                        "raftTerm",
                        "raftIndex",
                        "raftAppliedIndex",
                        "dbSize",
                        "dbSizeInUse",
                        "leader",
                    ],
                );
            }
            let request: String = question.request.join(" ").chars().take(60).collect();
            json!([
                question.method,
                request,
                answer.code,
                answer.message,
                answer.answers
            ])
        })
        .collect()
}

fn nospace(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let flags = ["--quota-backend-bytes=1048576"];
    let server = home.start(rig, program, &flags);
    let value = "v".repeat(100_000);
    let full = (0..50)
        .find_map(|n| {
            let put = Question::new(KV_PUT, &format!("key: 'big{n}' value: '{value}'"));
            let answer = rig.ask(&home.endpoint(), &[put]).remove(0);
            (answer.code != "OK").then_some(answer)
        })
        .expect("the quota is reached");
    let mut seen = vec![json!([full.code, full.message])];
    let look = [
        ("etcdserverpb.Maintenance/Alarm", ""),
        ("GET /health", ""),
        ("GET /health?exclude=NOSPACE", ""),
        (KV_PUT, "key: 's' value: 'x'"),
        ("etcdserverpb.Lease/LeaseGrant", "ID: 5 TTL: 100"),
        ("etcdserverpb.KV/Txn", "success: { request_put: { key: 's' } }"),
        ("etcdserverpb.KV/Txn", "success: { request_range: { key: 's' } }"),
        (KV_RANGE, "key: 's'"),
    ];
    seen.extend(facts(rig, home, &look));
    server.stop(Stop::Term);
    let server = home.spawn(rig, program, &flags);
    eventually("it answers", || {
        let answer = rig
            .ask(&home.endpoint(), &[Question::new(KV_RANGE, "key: 's'")])
            .remove(0);
        (answer.code == "OK").then_some(())
    });
    seen.extend(facts(rig, home, &look));
    let revision = rig.ask_one(&home.endpoint(), KV_RANGE, "key: 's'")["header"]["revision"]
        .as_str()
        .and_then(|text| text.parse::<i64>().ok())
        .expect("a revision");
    let compact = format!("revision: {} physical: true", revision + 1);
    // How many puts fit is not part of the contract, so revisions are left out from here on.
    let mut way_back = facts(
        rig,
        home,
        &[
            ("etcdserverpb.KV/DeleteRange", "key: 'big' range_end: 'bih'"),
            ("etcdserverpb.KV/Compact", &compact),
            ("etcdserverpb.Maintenance/Defragment", ""),
            (KV_PUT, "key: 's' value: 'still refused'"),
            (
                "etcdserverpb.Maintenance/Alarm",
                "action: DEACTIVATE alarm: NOSPACE",
            ),
            ("etcdserverpb.Maintenance/Alarm", ""),
            (KV_PUT, "key: 's' value: 'back'"),
            (KV_RANGE, "key: 's' count_only: true"),
            ("GET /health", ""),
        ],
    );
    seen.append(&mut way_back);
    server.stop(Stop::Term);
    for fact in &mut seen {
        without(fact, &["revision", "deleted"]);
        if let Some(list) = fact.as_array_mut()
            && list[0] == json!("etcdserverpb.KV/Compact")
        {
            list[1] = Value::Null;
        }
    }
    seen
}

#[test]
fn a_full_member_refuses_and_comes_back() {
    agree("nospace", nospace);
}

fn leases(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let server = home.start(rig, program, &[]);
    let mut seen = facts(
        rig,
        home,
        &[
            ("etcdserverpb.Lease/LeaseGrant", "ID: 7 TTL: 1"),
            (KV_PUT, "key: 'x' lease: 7"),
            (KV_PUT, "key: 'y' lease: 7"),
            (KV_PUT, "key: 'w' lease: 7"),
            ("etcdserverpb.Lease/LeaseGrant", "ID: 9 TTL: 1000"),
            (KV_PUT, "key: 'z' lease: 9"),
            ("etcdserverpb.Lease/LeaseLeases", ""),
        ],
    );
    eventually("the lease expires", || {
        let left = rig.ask_one(&home.endpoint(), KV_RANGE, "key: 'w' range_end: 'z'");
        left["kvs"].is_null().then_some(())
    });
    let mut events = rig.ask(
        &home.endpoint(),
        &[Question {
            answers: 2,
            wait_ms: 0,
            ..Question::new(
                "etcdserverpb.Watch/Watch",
                "create_request: { key: '\\000' range_end: '\\000' start_revision: 6 }",
            )
        }],
    );
    let first = events.remove(0);
    let mut history = json!([first.code, first.answers]);
    without(&mut history, &["clusterId", "memberId", "raftTerm"]);
    seen.push(history);
    seen.extend(facts(
        rig,
        home,
        &[
            (KV_RANGE, "key: '\\000' range_end: '\\000'"),
            ("etcdserverpb.Lease/LeaseTimeToLive", "ID: 7 keys: true"),
        ],
    ));
    let mut server = server;
    for stop in [Stop::Term, Stop::Kill] {
        server.stop(stop);
        server = home.start(rig, program, &[]);
        let time = rig.ask_one(
            &home.endpoint(),
            "etcdserverpb.Lease/LeaseTimeToLive",
            "ID: 9 keys: true",
        );
        let left: i64 = time["TTL"]
            .as_str()
            .and_then(|ttl| ttl.parse().ok())
            .unwrap_or(-1);
        assert!(
            (800..=1000).contains(&left),
            "{program:?} after a restart: {time}"
        );
        seen.push(json!([time["grantedTTL"], time["keys"]]));
    }
    seen.extend(facts(rig, home, &[("etcdserverpb.Lease/LeaseLeases", "")]));
    server.stop(Stop::Term);
    seen
}

#[test]
fn leases_expire_at_once_and_outlive_restarts() {
    agree("leases", leases);
}

#[test]
fn sigterm_loses_nothing_that_was_acknowledged() {
    let Some(rig) = Rig::find("sigterm") else { return };
    let home = Home::new("sigterm");
    for round in 0..3 {
        let server = home.start(&rig, Program::Ours("3.7"), &[]);
        if home.account().exists() {
            eprintln!("sigterm round {round}: {}", home.verify(&rig).trim());
        }
        let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", &round.to_string()]);
        load.wait_for_lines(&home.account(), 200);
        let status = server.stop(Stop::Term);
        assert_eq!(status.signal(), Some(15), "{status}");
        load.end();
    }
    let server = home.start(&rig, Program::Ours("3.7"), &[]);
    home.verify(&rig);
    server.stop(Stop::Term);
    home.check_file(&rig);
}

fn storage(rig: &Rig, home: &Home, wanted: &str) {
    eventually(&format!("storage version {wanted}"), || {
        let status = rig.ask_one(&home.endpoint(), STATUS, "");
        (status["storageVersion"] == json!(wanted)).then_some(())
    });
}

fn downgrade(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let server = home.start(rig, program, &[]);
    home.ctl(rig, &["put", "a", "1"]);
    storage(rig, home, "3.7.0");
    let mut seen = facts(
        rig,
        home,
        &[
            (DOWNGRADE, "action: VALIDATE version: '3.6.0'"),
            (DOWNGRADE, "action: VALIDATE version: '3.6'"),
            (DOWNGRADE, "action: VALIDATE version: '3.5.0'"),
            (DOWNGRADE, "action: VALIDATE version: '3.7.0'"),
            (DOWNGRADE, "action: VALIDATE version: 'what'"),
            (DOWNGRADE, "action: VALIDATE"),
            (DOWNGRADE, "action: CANCEL"),
            (DOWNGRADE, "action: 9 version: '3.6.0'"),
            (DOWNGRADE, "action: ENABLE version: '3.5.0'"),
            (DOWNGRADE, "action: ENABLE version: '3.6.0'"),
        ],
    );
    storage(rig, home, "3.6.0");
    eventually("the cluster version follows", || {
        let version = rig.ask_one(&home.endpoint(), "GET /version", "");
        (version["etcdcluster"] == json!("3.6.0")).then_some(())
    });
    seen.extend(facts(
        rig,
        home,
        &[
            (DOWNGRADE, "action: ENABLE version: '3.6.0'"),
            (DOWNGRADE, "action: VALIDATE version: '3.6.0'"),
            (STATUS, ""),
            ("GET /version", ""),
            (DOWNGRADE, "action: CANCEL"),
        ],
    ));
    storage(rig, home, "3.7.0");
    seen.extend(facts(
        rig,
        home,
        &[
            (STATUS, ""),
            ("GET /version", ""),
            (DOWNGRADE, "action: ENABLE version: '3.6.0'"),
        ],
    ));
    storage(rig, home, "3.6.0");
    home.ctl(rig, &["put", "b", "2"]);
    server.stop(Stop::Term);
    let server = home.start(rig, Program::Go("3.6"), &[]);
    seen.extend(facts(
        rig,
        home,
        &[(KV_RANGE, "key: 'a' range_end: 'z'"), ("GET /version", "")],
    ));
    home.ctl(rig, &["put", "c", "3"]);
    server.stop(Stop::Term);
    home.check_file(rig);
    seen
}

#[test]
fn a_member_is_downgraded_to_3_6() {
    agree("downgrade", downgrade);
}

#[test]
fn one_of_three_becomes_a_cluster_of_its_own() {
    let Some(rig) = Rig::find("force-new-cluster") else {
        return;
    };
    let homes: Vec<Home> = (0..3).map(|n| Home::new(&format!("three-{n}"))).collect();
    let cluster: Vec<String> = homes
        .iter()
        .enumerate()
        .map(|(n, home)| format!("m{n}={}", home.peer()))
        .collect();
    let cluster = format!("--initial-cluster={}", cluster.join(","));
    let mut servers: Vec<_> = homes
        .iter()
        .enumerate()
        .map(|(n, home)| home.spawn(&rig, Program::Go("3.7"), &[&format!("--name=m{n}"), &cluster]))
        .collect();
    for server in &mut servers {
        server.wait_until_ready();
    }
    let home = &homes[0];
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "3"]);
    load.wait_for_lines(&home.account(), 400);
    load.end();
    for server in servers {
        server.stop(Stop::Term);
    }
    let state = |program| {
        let twin = home.twin("three-alone");
        copy(&home.data(), &twin.data());
        copy(&home.account(), &twin.account());
        let server = twin.start(&rig, program, &["--name=m0", "--force-new-cluster"]);
        twin.verify(&rig);
        twin.ctl(&rig, &["put", "after", "1"]);
        let first = twin.state(&rig, &[]);
        server.stop(Stop::Term);
        // Once is enough; and the other program goes on with what was made.
        for program in [Program::Ours("3.7"), Program::Go("3.7")] {
            let server = twin.start(&rig, program, &["--name=m0"]);
            assert_eq!(twin.state(&rig, &[]), first, "{program:?} after the rescue");
            server.stop(Stop::Term);
        }
        twin.check_file(&rig);
        first
    };
    let (theirs, ours) = (state(Program::Go("3.7")), state(Program::Ours("3.7")));
    assert_eq!(theirs["members"].as_array().map(Vec::len), Some(1), "{theirs}");
    assert_eq!(theirs, ours);
}

fn compacts(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let server = home.start(
        rig,
        program,
        &[
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=2s",
        ],
    );
    for n in 0..5 {
        home.ctl(rig, &["put", "a", &n.to_string()]);
    }
    let seen = eventually("the past is compacted", || {
        let old = rig
            .ask(
                &home.endpoint(),
                &[Question::new(KV_RANGE, "key: 'a' revision: 3")],
            )
            .remove(0);
        (old.code != "OK").then(|| vec![json!([old.code, old.message])])
    });
    let now = rig.ask_one(&home.endpoint(), KV_RANGE, "key: 'a'");
    assert_eq!(now["header"]["revision"], json!("6"));
    server.stop(Stop::Term);
    seen
}

#[test]
fn the_past_is_compacted_by_period() {
    agree("compacts", compacts);
}

fn count(home: &Home, folder: &str, end: &str) -> usize {
    fs::read_dir(home.data().join("member").join(folder)).map_or(0, |entries| {
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(end))
            .count()
    })
}

#[test]
fn old_snapshots_and_logs_go_and_real_etcd_goes_on() {
    let Some(rig) = Rig::find("purge") else { return };
    let home = Home::new("purge");
    let flags = [
        "--snapshot-count=10",
        "--snapshot-catchup-entries=10",
        "--max-snapshots=2",
        "--max-wals=2",
    ];
    for round in 0..3 {
        for program in [Program::Ours("3.7"), Program::Go("3.7")] {
            let server = home.start(&rig, program, &flags);
            if home.account().exists() {
                home.verify(&rig);
            }
            let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", &round.to_string()]);
            load.wait_for_lines(&home.account(), 200);
            load.end();
            server.stop(if round == 1 { Stop::Kill } else { Stop::Term });
            home.check_file(&rig);
        }
    }
    // Made with no bound, so that there is something to take away.
    let server = home.start(
        &rig,
        Program::Ours("3.7"),
        &["--snapshot-count=10", "--max-snapshots=0"],
    );
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "9"]);
    load.wait_for_lines(&home.account(), 200);
    load.end();
    server.stop(Stop::Term);
    assert!(
        count(&home, "snap", ".snap") > 2,
        "there is something to take away"
    );
    let server = home.start(&rig, Program::Ours("3.7"), &flags);
    eventually("two snapshots are left", || {
        (count(&home, "snap", ".snap") <= 2 && count(&home, "wal", ".wal") <= 2).then_some(())
    });
    home.verify(&rig);
    server.stop(Stop::Term);
    let server = home.start(&rig, Program::Go("3.7"), &flags);
    home.verify(&rig);
    server.stop(Stop::Term);
}

#[test]
fn a_snapshot_taken_under_load_is_whole() {
    let Some(rig) = Rig::find("snapshot") else { return };
    let home = Home::new("snapshot");
    let server = home.start(&rig, Program::Ours("3.7"), &[]);
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "1"]);
    load.wait_for_lines(&home.account(), 500);
    for (n, program) in [
        rig.go("3.7", "etcdctl"),
        rig.go("3.5", "etcdctl"),
        rig.mainstay.clone(),
    ]
    .into_iter()
    .enumerate()
    {
        let file = home.dir.join(format!("snapshot-{n}.db"));
        let file = file.to_string_lossy();
        let endpoint = format!("--endpoints={}", home.endpoint());
        let mut args = vec!["snapshot", "save", &*file, &endpoint];
        if program == rig.mainstay {
            args.insert(0, "ctl");
        }
        let (done, text) = run(&program, &args);
        assert!(done, "{program:?}: {text}");
        load.wait_for_lines(&home.account(), 50);
        let (done, text) = run(
            &rig.go("3.7", "etcdutl"),
            &["snapshot", "status", &file, "-w", "json"],
        );
        assert!(done, "{text}");
        let text = text.lines().find(|line| line.starts_with('{')).expect("JSON");
        let status: Value = serde_json::from_str(text).expect("JSON");
        assert!(
            status["revision"].as_i64().is_some_and(|rev| rev > 100),
            "{status}"
        );

        let restored = Home::new(&format!("restored-{n}"));
        let data = restored.data();
        let data = format!("--data-dir={}", data.display());
        let initial = format!("--initial-cluster=default={}", restored.peer());
        let advertise = format!("--initial-advertise-peer-urls={}", restored.peer());
        let (done, text) = run(
            &rig.go("3.7", "etcdutl"),
            &["snapshot", "restore", &file, &data, &initial, &advertise],
        );
        assert!(done, "{text}");
        let go = restored.start(&rig, Program::Go("3.7"), &[]);
        let now = rig.ask_one(
            &restored.endpoint(),
            KV_RANGE,
            "key: 'load' range_end: 'loae' count_only: true",
        );
        assert_eq!(now["header"]["revision"], json!(status["revision"].to_string()));
        go.stop(Stop::Term);
    }
    load.end();
    server.stop(Stop::Term);
}

/// What a start, a few writes and a stop say above the level of information.
fn complaints(rig: &Rig, home: &Home, program: Program) -> Vec<Value> {
    let mut said = Vec::new();
    for _ in 0..2 {
        let server = home.start(rig, program, &[]);
        for n in 0..5 {
            home.ctl(rig, &["put", "a", &n.to_string()]);
        }
        said.extend(server.log().lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).expect("each line is JSON");
            (line["level"] != json!("info")).then(|| line["msg"].clone())
        }));
        server.stop(Stop::Term);
    }
    said
}

#[test]
fn normal_operation_is_no_reason_to_complain() {
    let Some(rig) = Rig::find("complaints") else {
        return;
    };
    let theirs = Home::new("complaints-go");
    let ours = theirs.twin("complaints-ours");
    let usual = complaints(&rig, &theirs, Program::Go("3.7"));
    let mut found = complaints(&rig, &ours, Program::Ours("3.7"));
    found.retain(|line| !usual.contains(line));
    assert!(found.is_empty(), "ours alone complains: {found:?}");
}
