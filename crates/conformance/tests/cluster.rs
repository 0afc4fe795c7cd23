//! Clusters of three, of ours and of real etcd in any mix: they elect and replicate, go on while any member
//! is down, take it back, and bring up one that missed more than the leader's log holds.

use conformance::cluster::{Cluster, Eager};
use conformance::{Program, Rig, Stop};

/// Every member leads, is stopped in both ways, and comes back to what was written meanwhile.
fn survive(rig: &Rig, name: &str, programs: [Program; 3]) {
    let mut cluster = Cluster::start(rig, name, programs, None);
    for (round, how) in [Stop::Kill, Stop::Term].into_iter().enumerate() {
        for at in 0..3 {
            cluster.make_leader(at);
            for through in 0..3 {
                cluster.put(through, &format!("led-{round}-{at}-{through}"));
            }
            cluster.stop(at, how);
            for other in [(at + 1) % 3, (at + 2) % 3] {
                cluster.put(other, &format!("without-{round}-{at}-{other}"));
            }
            cluster.spawn(at);
            cluster.wait(at);
            cluster.agree();
        }
    }
    // And all at once.
    for at in 0..3 {
        cluster.stop(at, Stop::Kill);
    }
    for at in 0..3 {
        cluster.spawn(at);
    }
    for at in 0..3 {
        cluster.wait(at);
    }
    cluster.put(0, "after all");
    cluster.agree();
    for at in 0..3 {
        cluster.stop(at, Stop::Term);
        cluster.homes[at].check_file(rig);
    }
}

/// Snapshots are due soon, and little is kept for those that lag.
const EAGER: Eager = Eager { every: 10, kept: 5 };

/// A member that missed more than the leader keeps gets a snapshot, and goes on from it: also after it was
/// killed at once.
fn catch_up(rig: &Rig, name: &str, leader: Program, lagging: Program, third: Program) {
    let mut cluster = Cluster::start(rig, name, [leader, lagging, third], Some(EAGER));
    cluster.make_leader(0);
    cluster.stop(1, Stop::Kill);
    let home = &cluster.homes[0];
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "7"]);
    load.wait_for_lines(&home.account(), 2500);
    load.end();
    cluster.make_leader(0);
    cluster.spawn(1);
    cluster.wait(1);
    cluster.agree();
    let log = cluster.servers[1].as_ref().expect("it runs").log();
    assert!(log.contains("\"applied snapshot\""), "{name}: {log}");
    cluster.stop(1, Stop::Kill);
    cluster.put(0, "later");
    cluster.spawn(1);
    cluster.wait(1);
    cluster.put(1, "last");
    cluster.agree();
    for at in 0..3 {
        cluster.stop(at, Stop::Term);
        cluster.homes[at].check_file(rig);
    }
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
