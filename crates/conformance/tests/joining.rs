//! Who joins a cluster that runs, who must not, and who is told to leave: ours among real etcd and the other way round.

use std::fs;

use conformance::group::Group;
use conformance::{Home, Program, Rig, Stop, eventually};
use serde_json::Value;

const OURS: Program = Program::Ours("3.7");
const GO: Program = Program::Go("3.7");

/// The fields of the last line that a member logged.
fn last_line(log: &str) -> Value {
    let line = log
        .lines()
        .rev()
        .find(|line| line.starts_with('{'))
        .unwrap_or_default();
    serde_json::from_str(line).unwrap_or_default()
}

fn line_with(log: &str, text: &str) -> Option<Value> {
    let line = log.lines().find(|line| line.contains(text))?;
    serde_json::from_str(line).ok()
}

#[test]
fn each_program_joins_the_others_cluster() {
    let Some(rig) = Rig::find("joining") else { return };
    let lines: &[&str] = if rig.all { &["3.7", "3.6", "3.5"] } else { &["3.7"] };
    for &line in lines {
        let (go, ours) = (Program::Go(line), Program::Ours(line));
        for (was, joins) in [(go, ours), (ours, go)] {
            let name = format!("joining-{line}-{was:?}").replace(['(', ')', '"'], "");
            let mut group = Group::start(&rig, &name, &[was; 3], &[]);
            group.put(0, "before");
            let joining: &[usize] = if rig.all { &[2, 1] } else { &[2] };
            for &at in joining {
                group.replace(at, 0, joins, &[]);
                group.wait(at);
                group.put(at, &format!("joined-{at}"));
                group.agree(&[0, 1, 2]);
            }
            // Who has joined knows the cluster after a restart without being told of it.
            group.restart(2, Stop::Kill);
            group.make_leader(2);
            group.put(2, "after");
            group.agree(&[0, 1, 2]);
            group.end();
        }
    }
}

/// A third member is started against two in ways that cannot be: both programs end, with the same words.
#[test]
fn who_cannot_join_is_told_why_as_by_etcd() {
    let Some(rig) = Rig::find("not-joining") else {
        return;
    };
    for others in [GO, OURS] {
        let group = Group::start(
            &rig,
            &format!("not-joining-{others:?}").replace(['(', ')', '"'], ""),
            &[others; 2],
            &[],
        );
        let newcomer = Home::new("newcomer");
        let (peer, dead) = (newcomer.peer(), "http://127.0.0.1:1");
        let known = format!("{},m2={peer}", group.initial(&[0, 1]));
        let wrong = format!("--initial-cluster=m0={},m2={peer}", group.peer(0));
        let nobody = format!("--initial-cluster=m0={dead},m2={peer}");
        for cluster in [known, wrong, nobody] {
            let told = [GO, OURS].map(|program| {
                let home = newcomer.twin("newcomer-of");
                let flags = ["--name=m2", &cluster, "--initial-cluster-state=existing"];
                let mut server = home.spawn(&rig, program, &flags);
                let status = server.wait();
                let line = last_line(&server.log());
                (
                    status.code(),
                    line["level"].clone(),
                    line["msg"].clone(),
                    sorted(&line["error"]),
                )
            });
            eprintln!("{others:?}: {:?}", told[1]);
            assert_eq!(told[0], told[1], "{others:?}, {cluster}: etcd on the left");
        }
        group.end();
    }
}

/// Members in a text come in no order in Go, and which of them it compared last is chance: these URLs are quoted.
fn sorted(error: &Value) -> Vec<String> {
    let text = error.as_str().unwrap_or_default();
    let mut words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || "[]{},&".contains(c))
        .filter(|word| !word.starts_with("\"http"))
        .map(str::to_owned)
        .collect();
    words.sort();
    words
}

/// A member that was removed while it was down is told so, and goes for good.
#[test]
fn a_removed_member_is_told_so() {
    let Some(rig) = Rig::find("removed") else { return };
    let mixes = [(GO, OURS), (OURS, GO), (OURS, OURS)];
    for &(others, gone) in &mixes[..if rig.all { 3 } else { 2 }] {
        let name = format!("removed-{others:?}-{gone:?}").replace(['(', ')', '"'], "");
        let mut group = Group::start(&rig, &name, &[others, others, gone], &[]);
        let id = group.id(2);
        group.stop(2, Stop::Kill);
        group.ctl_at_last(0, &["member", "remove", &id]);
        group.spawn(2, &[]);
        let status = group.server(2).wait();
        let log = group.server(2).log();
        let words = "the member has been permanently removed from the cluster";
        assert!(log.contains(words), "{others:?}, {gone:?}: {status}\n{log}");
        // etcd ends with 0 or with 1, whichever of its threads comes first.
        assert!(
            gone == GO || status.code() == Some(0),
            "{others:?}, {gone:?}: {status}"
        );
        group.servers[2] = None;
        group.put(0, "two are left");
        group.agree(&[0, 1]);
        group.end();
    }
}

/// A member of another cluster that knocks at the wrong doors is turned away, and disturbs nobody.
#[test]
fn a_member_of_another_cluster_is_turned_away() {
    let Some(rig) = Rig::find("stranger") else { return };
    for (others, stranger) in [(GO, OURS), (OURS, GO)] {
        let name = format!("stranger-{others:?}").replace(['(', ')', '"'], "");
        let mut group = Group::new(&rig, &name, &[others, others, stranger], &[]);
        for at in [0, 1] {
            group.spawn(at, &[]);
        }
        for at in [0, 1] {
            group.wait(at);
        }
        let term = |group: &Group<'_>| group.status(0).expect("a status")["raftTerm"].clone();
        let before = term(&group);
        group.spawn(2, &["--initial-cluster-token=another"]);
        eventually("the stranger is seen", || {
            let seen =
                |group: &mut Group<'_>, at: usize| group.server(at).log().contains("cluster ID mismatch");
            (seen(&mut group, 0) && seen(&mut group, 1)).then_some(())
        });
        assert!(group.server(2).ended().is_none(), "{}", group.server(2).log());
        assert!(!group.homes[2].healthy());
        group.put(0, "undisturbed");
        assert_eq!(term(&group), before, "no election for a stranger");
        group.stop(2, Stop::Kill);
        group.end();
    }
}

/// A member whose store differs from the others' does not serve, in the words of etcd.
#[test]
fn a_member_whose_data_differs_does_not_start() {
    let Some(rig) = Rig::find("first-check") else {
        return;
    };
    const CHECK: &str = "--feature-gates=InitialCorruptCheck=true";
    let mut told = Vec::new();
    let mixes = [(GO, GO), (GO, OURS), (OURS, OURS), (OURS, GO)];
    for &(others, damaged) in &mixes[..if rig.all { 4 } else { 3 }] {
        let name = format!("first-check-{others:?}-{damaged:?}").replace(['(', ')', '"'], "");
        let mut group = Group::start(&rig, &name, &[others, others, damaged], &[CHECK]);
        group.put(0, "needle-in-the-haystack");
        group.put(0, "and-another");
        group.agree(&[0, 1, 2]);
        // A sound member passes.
        group.restart(2, Stop::Term);
        group.stop(2, Stop::Term);
        let db = group.homes[2].db();
        let mut bytes = fs::read(&db).expect("the data file");
        let places: Vec<usize> = (0..bytes.len() - 30)
            .filter(|&at| bytes[at..].starts_with(b"needle-in-the-haystack"))
            .collect();
        assert!(!places.is_empty());
        for at in places {
            // The same change in keys and values, so that nothing but the hash is wrong.
            bytes[at + 1] ^= 1;
        }
        fs::write(&db, bytes).expect("written");
        group.spawn(2, &[]);
        let status = group.server(2).wait();
        let log = group.server(2).log();
        let line = line_with(&log, "checkInitialHashKV failed");
        let line = line.unwrap_or_else(|| panic!("{others:?}, {damaged:?}: {status}\n{log}"));
        let found = line_with(&log, "found different hash values from remote peer");
        told.push((
            status.code(),
            line["level"].clone(),
            line["error"]
                .as_str()
                .map(|error| error.contains("found data inconsistency with peers")),
            found.map(|line| line["level"].clone()),
        ));
        group.servers[2] = None;
        group.put(0, "two go on");
        group.end();
    }
    eprintln!("{:?}", told[0]);
    assert!(told.iter().all(|other| *other == told[0]), "{told:?}");
}
