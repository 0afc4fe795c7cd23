//! A learner joins a cluster that holds much and is written to all the time: it catches up by a snapshot and
//! is promoted, and neither side holds the snapshot in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use conformance::group::Group;
use conformance::{Home, Program, Rig, Server, Stop, eventually};

const ADD: &str = "etcdserverpb.Cluster/MemberAdd";
const PROMOTE: &str = "etcdserverpb.Cluster/MemberPromote";
const STATUS: &str = "etcdserverpb.Maintenance/Status";
const HASH: &str = "etcdserverpb.Maintenance/HashKV";
const QUOTA: &str = "--quota-backend-bytes=8589934592";
const OURS: Program = Program::Ours("3.7");

/// What the anonymous memory of either side may grow by, in kB.
const GROWTH_KILOBYTES_MAX: u64 = 64 << 10;

/// Looks at the memory of a server until `is_over` says so; the most that was seen.
fn most(server: &Server, is_over: impl Fn() -> bool) -> u64 {
    let mut most = 0;
    while !is_over() {
        most = most.max(server.anonymous_kilobytes());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    most
}

/// Tells that it is over, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Fills a cluster with so many values of 1 KiB, and has a learner join it under load.
fn join(rig: &Rig, writes: u32) {
    let mut group = Group::start(rig, "catch-up", &[OURS; 3], &[QUOTA]);
    let endpoints: Vec<String> = group.homes.iter().map(Home::endpoint).collect();
    let endpoints = endpoints.join(",");
    fill(rig, &mut group, &endpoints, writes);
    group.make_leader(0);
    let load = rig.beside(&["overwrite", "-endpoint", &endpoints, "-clients=64"]);
    // Before anything is measured, the log in memory is as long as it gets, and the load has its buffers.
    grow(&group, 7_000);

    let home = Home::new("catch-up-learner");
    let added = format!("peerURLs: '{}' isLearner: true", home.peer());
    let added = eventually("the learner is added", || group.ask(0, ADD, &added));
    let id = added["member"]["ID"].as_str().expect("an ID").to_owned();
    let flags = [
        "--name=learner".to_owned(),
        format!("{},learner={}", group.initial(&group.all()), home.peer()),
        "--initial-cluster-state=existing".to_owned(),
        QUOTA.to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let is_over = AtomicBool::new(false);
    let (sender, began) = (group.servers[0].as_ref().expect("it runs"), Instant::now());
    let before = sender.anonymous_kilobytes();
    let (learner, at_start, received, sent) = std::thread::scope(|scope| {
        let end = End(&is_over);
        let sent = scope.spawn(|| most(sender, || is_over.load(Ordering::SeqCst)));
        let learner = home.spawn(rig, OURS, &flags);
        let at_start = eventually("the learner serves its peers", || {
            let log = learner.log();
            log.contains("serving peer traffic")
                .then(|| learner.anonymous_kilobytes())
        });
        let received = most(&learner, || learner.log().contains("\"applying snapshot\""));
        eprintln!("catch-up: received after {:.1?}", began.elapsed());
        eventually("the learner is promoted", || {
            group.ask(0, PROMOTE, &format!("ID: {id}"))
        });
        // Its log was complete. Now it takes the state, and what was written meanwhile.
        eventually("the new voter answers as of now", || home.healthy().then_some(()));
        drop(end);
        (
            learner,
            at_start,
            received,
            sent.join().expect("the memory was looked at"),
        )
    });
    eprintln!(
        "catch-up: a voter that serves after {:.1?}; sender {before} kB, at most {sent} kB; receiver {at_start} kB, at most {received} kB \
         until it applies",
        began.elapsed()
    );
    load.end();
    let snapshots = learner.log().matches("\"applied snapshot\"").count();
    eprintln!("catch-up: it took {snapshots} snapshot(s)");
    same(rig, &group, &home);
    learner.stop(Stop::Term);
    home.check_file(rig);
    for at in 0..3 {
        group.stop(at, Stop::Term);
    }
    assert!(
        sent.saturating_sub(before) < GROWTH_KILOBYTES_MAX,
        "the sender grew"
    );
    assert!(
        received.saturating_sub(at_start) < GROWTH_KILOBYTES_MAX,
        "the receiver grew"
    );
}

/// Writes much in large requests, moves these out of the log, and starts all members anew: what filling them
/// took is not to be taken for room that they need.
fn fill(rig: &Rig, group: &mut Group<'_>, endpoints: &str, writes: u32) {
    let began = Instant::now();
    let write = |args: &[&str]| rig.tool(&[&["overwrite", "-endpoint", endpoints], args].concat());
    write(&["-clients=16", "-batch=100", &format!("-writes={writes}")]);
    write(&["-writes=7000"]);
    for at in 0..3 {
        group.stop(at, Stop::Term);
        group.spawn(at, &[]);
        group.wait(at);
    }
    let size = group.ask(0, STATUS, "").expect("a status")["dbSize"].clone();
    eprintln!("catch-up: filled, dbSize {size}, in {:.1?}", began.elapsed());
}

/// Waits until the load has made so many more revisions.
fn grow(group: &Group<'_>, by: i64) {
    let revision = || {
        let status = group.ask(0, STATUS, "")?;
        status["header"]["revision"].as_str()?.parse::<i64>().ok()
    };
    let start = eventually("a revision", revision);
    eventually("the load gets on", || (revision()? >= start + by).then_some(()));
}

/// The new voter holds what the others hold.
fn same(rig: &Rig, group: &Group<'_>, home: &Home) {
    eventually("all hold the same", || {
        let hash = group.ask(0, HASH, "")?;
        let own = rig.ask_one(&home.endpoint(), HASH, "");
        (own["hash"] == hash["hash"] && own["header"]["revision"] == hash["header"]["revision"]).then_some(())
    });
    assert_eq!(group.agree(&group.all()), 4);
}

#[test]
fn a_learner_catches_up_without_holding_the_snapshot_in_memory() {
    let Some(rig) = Rig::find("catch-up") else { return };
    join(&rig, if rig.all { 1_000_000 } else { 60_000 });
}
