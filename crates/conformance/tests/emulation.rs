//! A member that emulates a line says and stores what real etcd of that line says and stores, and
//! refuses the directories that it refuses.

use conformance::{Answer, Home, Program, Question, Rig, Stop, copy, differences, eventually, without};
use serde_json::{Value, json};

/// Differs between two runs of one and the same program.
const CHANCE: [&str; 6] = [
    "dbSize",
    "dbSizeInUse",
    "clusterId",
    "memberId",
    "raftTerm",
    "leader",
];

/// What one program shows of itself after the same few writes.
fn portrait(rig: &Rig, home: &Home, program: Program, line: &str) -> Vec<Answer> {
    let server = home.start(rig, program, &[]);
    home.ctl(rig, &["put", "a", "1"]);
    home.ctl(rig, &["put", "b", "2"]);
    // The versions are agreed on after the start.
    eventually("the cluster version is known", || {
        let version = rig.ask_one(&home.endpoint(), "GET /version", "");
        (version["etcdcluster"] == json!(format!("{line}.0"))).then_some(())
    });
    if line != "3.5" {
        eventually("the storage version is known", || {
            let status = rig.ask_one(&home.endpoint(), "etcdserverpb.Maintenance/Status", "");
            (status["storageVersion"] == json!(format!("{line}.0"))).then_some(())
        });
    }
    let questions = [
        ("etcdserverpb.Maintenance/Status", ""),
        ("etcdserverpb.Maintenance/HashKV", ""),
        ("etcdserverpb.Maintenance/HashKV", "revision: 2"),
        ("etcdserverpb.KV/RangeStream", "key: \"a\" range_end: \"z\""),
        ("etcdserverpb.Cluster/MemberList", ""),
        ("etcdserverpb.Auth/AuthStatus", ""),
        ("GET /version", ""),
        ("GET /health", ""),
        ("POST /v3/maintenance/status", "{}"),
        ("POST /v3/maintenance/hashkv", "{\"revision\": \"2\"}"),
    ]
    .map(|(method, request)| Question::new(method, request));
    let mut answers = rig.ask(&home.endpoint(), &questions);
    let metrics = rig.ask(&home.endpoint(), &[Question::new("GET /metrics", "")]);
    let mut versions: Vec<Value> = metrics[0]
        .answers
        .iter()
        .filter(|line| {
            line.as_str().is_some_and(|line| {
                line.starts_with("etcd_server_version") || line.starts_with("etcd_cluster_version")
            })
        })
        .cloned()
        .collect();
    versions.sort_by_key(ToString::to_string);
    answers.push(Answer {
        code: metrics[0].code.clone(),
        message: "versions in /metrics".into(),
        answers: versions,
    });
    for answer in &mut answers {
        for value in &mut answer.answers {
            without(value, &CHANCE);
        }
    }
    server.stop(Stop::Term);
    answers
}

fn shows_the_same(line: &'static str) {
    let Some(rig) = Rig::find("emulation") else { return };
    let theirs = Home::new(&format!("emulation-go-{line}"));
    let ours = theirs.twin(&format!("emulation-ours-{line}"));
    let expected = portrait(&rig, &theirs, Program::Go(line), line);
    let found = portrait(&rig, &ours, Program::Ours(line), line);
    assert_eq!(expected.len(), found.len());
    let differing: Vec<String> = expected
        .iter()
        .zip(&found)
        .filter(|(expected, found)| expected != found)
        .map(|(expected, found)| format!("etcd: {expected:?}\nours: {found:?}"))
        .collect();
    assert!(differing.is_empty(), "{line}:\n{}", differing.join("\n"));
}

#[test]
fn as_3_5_it_shows_what_3_5_shows() {
    shows_the_same("3.5");
}

#[test]
fn as_3_6_it_shows_what_3_6_shows() {
    shows_the_same("3.6");
}

#[test]
fn as_3_7_it_shows_what_3_7_shows() {
    shows_the_same("3.7");
}

/// A directory of `newer` is refused by `older`, by real etcd and by ours; nothing is changed.
fn refuses_newer(newer: &'static str, older: &'static str, words: &str) {
    let Some(rig) = Rig::find("emulation") else { return };
    let home = Home::new(&format!("newer-{newer}-{older}"));
    let server = home.start(&rig, Program::Go(newer), &[]);
    home.ctl(&rig, &["put", "a", "1"]);
    eventually("the storage version is known", || {
        let status = rig.ask_one(&home.endpoint(), "etcdserverpb.Maintenance/Status", "");
        (status["storageVersion"] == json!(format!("{newer}.0"))).then_some(())
    });
    server.stop(Stop::Term);
    for program in [Program::Go(older), Program::Ours(older)] {
        let twin = home.twin(&format!(
            "newer-{newer}-{older}-{}",
            program == Program::Go(older)
        ));
        copy(&home.data(), &twin.data());
        let mut server = twin.spawn(&rig, program, &[]);
        let status = server.wait();
        let log = server.log();
        assert!(
            !status.success(),
            "{program:?} took a directory of {newer}:\n{log}"
        );
        assert_eq!(status.code(), Some(1), "{program:?}:\n{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains(words), "{program:?} says {words:?}: {last}");
        if program == Program::Ours(older) {
            assert!(
                last.contains(newer) && last.contains(older) && !last.contains("panic"),
                "the last line names both versions: {last}"
            );
            assert_eq!(differences(&home.data(), &twin.data()), "", "{program:?}");
        }
    }
}

#[test]
fn as_3_6_it_refuses_a_directory_of_3_7() {
    refuses_newer("3.7", "3.6", "version \\\"3.7.0\\\" is not supported");
}

#[test]
fn as_3_5_it_refuses_a_directory_of_3_6() {
    refuses_newer(
        "3.6",
        "3.5",
        "invalid downgrade; server version is lower than determined cluster version",
    );
}

#[test]
fn a_cluster_of_an_emulated_line_stays_there() {
    let Some(rig) = Rig::find("emulation") else { return };
    let home = Home::new("stays");
    let show = |home: &Home| {
        let status = rig.ask_one(&home.endpoint(), "etcdserverpb.Maintenance/Status", "");
        let version = rig.ask_one(&home.endpoint(), "GET /version", "");
        (version["etcdcluster"].clone(), status["storageVersion"].clone())
    };
    // Each line is reached from the one before it; twice the same, as a restart must not raise it.
    for (line, stored) in [
        ("3.5", json!("")),
        ("3.5", json!("")),
        ("3.6", json!("3.6.0")),
        ("3.6", json!("3.6.0")),
        ("3.7", json!("3.7.0")),
    ] {
        let server = home.start(&rig, Program::Ours(line), &["--snapshot-count=10"]);
        eventually(&format!("versions of {line}"), || {
            let (cluster, storage) = show(&home);
            let stored = if line == "3.5" {
                Value::Null
            } else {
                stored.clone()
            };
            (cluster == json!(format!("{line}.0")) && storage == stored).then_some(())
        });
        for key in 0..25 {
            home.ctl(&rig, &["put", &format!("key{key}"), line]);
        }
        let (cluster, _) = show(&home);
        assert_eq!(cluster, json!(format!("{line}.0")), "after writes");
        server.stop(Stop::Term);
    }
}

#[test]
fn raw_v2_entries_of_3_5_are_refused_until_a_snapshot_lies_behind_them() {
    let Some(rig) = Rig::find("emulation") else { return };
    let home = Home::new("v2-entries");
    let server = home.start(&rig, Program::Go("3.5"), &[]);
    home.ctl(&rig, &["put", "a", "1"]);
    server.stop(Stop::Term);
    let pristine = home.dir.join("pristine");
    copy(&home.data(), &pristine);
    let mut server = home.spawn(&rig, Program::Ours("3.7"), &[]);
    let status = server.wait();
    let log = server.log();
    assert!(
        !status.success(),
        "raw v2 entries were taken by ours as 3.7:\n{log}"
    );
    let last = log.lines().last().unwrap_or_default();
    for way in ["--emulated-version=3.5", "3.6", ".wal"] {
        assert!(last.contains(way), "the error names {way}: {last}");
    }
    assert_eq!(differences(&pristine, &home.data()), "");

    let server = home.start(&rig, Program::Go("3.6"), &["--snapshot-count=10"]);
    for key in 0..25 {
        home.ctl(&rig, &["put", &format!("key{key}"), "1"]);
    }
    server.stop(Stop::Term);
    let server = home.start(&rig, Program::Ours("3.7"), &[]);
    assert!(home.ctl(&rig, &["get", "a"]).contains('1'));
    assert!(home.ctl(&rig, &["get", "key24"]).contains('1'));
    server.stop(Stop::Term);
    home.check_file(&rig);
}
