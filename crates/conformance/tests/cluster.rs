//! Clusters of three, of ours and of real etcd in any mix: they elect and replicate, go on while any member
//! is down, take it back, and bring up one that missed more than the leader's log holds.

use conformance::group::{Eager, Group};
use conformance::{Program, Rig, Stop};

const ALL: [usize; 3] = [0, 1, 2];

/// Every member leads, is stopped in both ways, and comes back to what was written meanwhile.
fn survive(rig: &Rig, name: &str, programs: [Program; 3]) {
    let mut group = Group::start(rig, name, &programs, &[]);
    for (round, how) in [Stop::Kill, Stop::Term].into_iter().enumerate() {
        for at in 0..3 {
            group.make_leader(at);
            for through in 0..3 {
                group.put(through, &format!("led-{round}-{at}-{through}"));
            }
            group.stop(at, how);
            for other in [(at + 1) % 3, (at + 2) % 3] {
                group.put(other, &format!("without-{round}-{at}-{other}"));
            }
            group.spawn(at, &[]);
            group.wait(at);
            assert_eq!(group.agree(&ALL), 3);
        }
    }
    // And all at once.
    for at in 0..3 {
        group.stop(at, Stop::Kill);
    }
    for at in 0..3 {
        group.spawn(at, &[]);
    }
    for at in 0..3 {
        group.wait(at);
    }
    group.put(0, "after all");
    assert_eq!(group.agree(&ALL), 3);
    group.end();
}

/// Snapshots are due soon, and little is kept for those that lag.
const EAGER: Eager = Eager { every: 10, kept: 5 };

/// A member that missed more than the leader keeps gets a snapshot, and goes on from it: also after it was
/// killed at once.
fn catch_up(rig: &Rig, name: &str, leader: Program, lagging: Program, third: Program) {
    let mut group = Group::start_eager(rig, name, &[leader, lagging, third], EAGER);
    group.make_leader(0);
    group.stop(1, Stop::Kill);
    let home = &group.homes[0];
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "7"]);
    load.wait_for_lines(&home.account(), 2500);
    load.end();
    group.make_leader(0);
    group.spawn(1, &[]);
    group.wait(1);
    assert_eq!(group.agree(&ALL), 3);
    let log = group.server(1).log();
    assert!(log.contains("\"applied snapshot\""), "{name}: {log}");
    group.stop(1, Stop::Kill);
    group.put(0, "later");
    group.spawn(1, &[]);
    group.wait(1);
    group.put(1, "last");
    assert_eq!(group.agree(&ALL), 3);
    group.end();
}

/// The release lines that are tried.
fn lines(rig: &Rig) -> &'static [&'static str] {
    if rig.all { &["3.7", "3.6", "3.5"] } else { &["3.7"] }
}

#[test]
fn three_of_ours_survive() {
    let Some(rig) = Rig::find("cluster-ours") else {
        return;
    };
    for &line in lines(&rig) {
        let ours = Program::Ours(line);
        survive(&rig, &format!("cluster-ours-{line}"), [ours, ours, ours]);
    }
}

#[test]
fn ours_among_members_of_etcd_survive() {
    let Some(rig) = Rig::find("cluster-mixed") else {
        return;
    };
    for &line in lines(&rig) {
        let (go, ours) = (Program::Go(line), Program::Ours(line));
        survive(&rig, &format!("cluster-one-{line}"), [go, ours, go]);
        if rig.all {
            survive(&rig, &format!("cluster-two-{line}"), [ours, go, ours]);
        }
    }
}

#[test]
fn who_missed_much_gets_a_snapshot() {
    let Some(rig) = Rig::find("cluster-snapshot") else {
        return;
    };
    for &line in lines(&rig) {
        let (go, ours) = (Program::Go(line), Program::Ours(line));
        catch_up(&rig, &format!("cluster-to-ours-{line}"), go, ours, ours);
        catch_up(&rig, &format!("cluster-to-go-{line}"), ours, go, ours);
        if rig.all {
            catch_up(&rig, &format!("cluster-among-ours-{line}"), ours, ours, ours);
        }
    }
}
