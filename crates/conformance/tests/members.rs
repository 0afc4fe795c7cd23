//! Members that come and go: what a lone voter answers about learners, beside real etcd, and that
//! either program goes on where the other stopped.

use conformance::{Home, Program, Question, Rig, Stop, without};
use serde_json::{Value, json};

const ADD: &str = "etcdserverpb.Cluster/MemberAdd";
const UPDATE: &str = "etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "etcdserverpb.Cluster/MemberPromote";
const REMOVE: &str = "etcdserverpb.Cluster/MemberRemove";
const LIST: &str = "etcdserverpb.Cluster/MemberList";
const MOVE: &str = "etcdserverpb.Maintenance/MoveLeader";

/// Asks, remembers code, text and answer without what differs from run to run, and gives the answer.
fn ask(rig: &Rig, home: &Home, seen: &mut Vec<Value>, method: &str, request: &str) -> Value {
    let mut answer = rig
        .ask(&home.endpoint(), &[Question::new(method, request)])
        .remove(0);
    let whole = answer.answers.first().cloned().unwrap_or_default();
    for value in &mut answer.answers {
        without(
            value,
            &[
                "ID",
                "memberId",
                "clusterId",
                "raftTerm",
                "peerURLs",
                "clientURLs",
            ],
        );
    }
    // They come in the order of their ids, which depend on the second in which they were made.
    for members in answer
        .answers
        .iter_mut()
        .filter_map(|answer| answer["members"].as_array_mut())
    {
        members.sort_by_key(Value::to_string);
    }
    seen.push(json!([method, answer.code, answer.message, answer.answers]));
    whole
}

fn id_of(member: &Value) -> String {
    member["ID"].as_str().expect("a member has an ID").to_owned()
}

/// Adds a learner, changes it, fails to promote it, and removes it; restarts in between.
fn learners(rig: &Rig, home: &Home, first: Program, then: Program) -> Vec<Value> {
    let mut seen = Vec::new();
    let server = home.start(rig, first, &[]);
    let own = id_of(&ask(rig, home, &mut seen, LIST, "")["members"][0]);
    for bad in [
        "",
        "peerURLs: 'zz'",
        "peerURLs: 'http://a'",
        "peerURLs: 'http://a:1/path' isLearner: true",
    ] {
        ask(rig, home, &mut seen, ADD, bad);
    }
    let added = ask(
        rig,
        home,
        &mut seen,
        ADD,
        "peerURLs: 'http://127.0.0.1:9' isLearner: true",
    );
    assert_eq!(added["member"]["peerURLs"], json!(["http://127.0.0.1:9"]));
    let learner = id_of(&added["member"]);
    // A URL that is taken (with another one: alone and in the same second it would make the same id,
    // which is refused first), and more learners than are allowed.
    ask(
        rig,
        home,
        &mut seen,
        ADD,
        "peerURLs: 'http://127.0.0.1:9' peerURLs: 'http://127.0.0.1:10' isLearner: true",
    );
    ask(
        rig,
        home,
        &mut seen,
        ADD,
        "peerURLs: 'http://127.0.0.1:8' isLearner: true",
    );
    for (method, request) in [
        (PROMOTE, format!("ID: {learner}")),
        (PROMOTE, format!("ID: {own}")),
        (PROMOTE, "ID: 5".to_owned()),
        (UPDATE, format!("ID: {learner} peerURLs: 'http://127.0.0.1:7'")),
        (UPDATE, "ID: 5 peerURLs: 'http://127.0.0.1:6'".to_owned()),
        (UPDATE, "".to_owned()),
        (REMOVE, "ID: 5".to_owned()),
        (REMOVE, "".to_owned()),
        (REMOVE, format!("ID: {own}")),
        (MOVE, format!("targetID: {learner}")),
        (MOVE, "targetID: 5".to_owned()),
        ("etcdserverpb.KV/Put", "key: 'k' value: 'v'".to_owned()),
        (LIST, "linearizable: true".to_owned()),
    ] {
        ask(rig, home, &mut seen, method, &request);
    }
    server.stop(Stop::Kill);
    let server = home.start(rig, then, &[]);
    let list = ask(rig, home, &mut seen, LIST, "linearizable: true");
    assert!(list.to_string().contains("http://127.0.0.1:7"), "{list}");
    ask(
        rig,
        home,
        &mut seen,
        "etcdserverpb.KV/Put",
        "key: 'k' value: 'v2'",
    );
    ask(rig, home, &mut seen, REMOVE, &format!("ID: {learner}"));
    ask(rig, home, &mut seen, REMOVE, &format!("ID: {learner}"));
    ask(rig, home, &mut seen, PROMOTE, &format!("ID: {learner}"));
    server.stop(Stop::Term);
    let server = home.start(rig, first, &[]);
    ask(rig, home, &mut seen, LIST, "linearizable: true");
    ask(rig, home, &mut seen, "etcdserverpb.KV/Range", "key: 'k'");
    // What the log itself refuses comes after the last restart: etcd takes refused changes for
    // accepted ones when it reads its log again. The URLs are new ones: with those of the first
    // learner and in the same second, its id would come back.
    ask(
        rig,
        home,
        &mut seen,
        ADD,
        "peerURLs: 'http://127.0.0.1:19' isLearner: true",
    );
    let own_url = format!("peerURLs: '{}' isLearner: true", home.peer());
    for refused in [
        "peerURLs: 'http://127.0.0.1:19' peerURLs: 'http://127.0.0.1:20' isLearner: true",
        "peerURLs: 'http://127.0.0.1:18' isLearner: true",
        &own_url,
    ] {
        ask(rig, home, &mut seen, ADD, refused);
    }
    let list = ask(rig, home, &mut seen, LIST, "");
    let learner = list["members"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|member| member["isLearner"] == true);
    let learner = id_of(learner.expect("it was added"));
    ask(
        rig,
        home,
        &mut seen,
        UPDATE,
        &format!("ID: {learner} peerURLs: '{}'", home.peer()),
    );
    server.stop(Stop::Term);
    home.check_file(rig);
    seen
}

#[test]
fn learners_come_and_go_as_with_etcd() {
    let Some(rig) = Rig::find("learners") else { return };
    for line in ["3.7", "3.6", "3.5"] {
        let home = Home::new(&format!("learners-{line}"));
        let expected = learners(&rig, &home, Program::Go(line), Program::Go(line));
        for (n, (first, then)) in [
            (Program::Ours(line), Program::Ours(line)),
            (Program::Ours(line), Program::Go(line)),
            (Program::Go(line), Program::Ours(line)),
        ]
        .into_iter()
        .enumerate()
        {
            if line != "3.7" && n == 0 && !rig.all {
                continue;
            }
            let home = home.twin(&format!("learners-{line}-{n}"));
            let found = learners(&rig, &home, first, then);
            for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
                assert_eq!(
                    expected, found,
                    "{line}, way {n}, answer {place}: etcd on the left"
                );
            }
        }
    }
}
