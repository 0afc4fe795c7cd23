//! The first version of a new cluster: the leader waits for what the others run, and not for ever.
#![allow(clippy::unwrap_used)]

mod driver;

use std::collections::BTreeMap;
use std::time::Duration;

use api::version::Version;
use driver::trio::Trio;
use member::{Router, ToApply};

/// etcd: server.go, monitorVersionInterval.
const ROUND: Duration = Duration::from_secs(4);

const SET: &str = "setting up initial cluster version using v3 API";

fn versions(trio: &Trio) -> Vec<Option<Version>> {
    let version = |at: usize| trio.members[at].member.shared.facts().cluster_version;
    (0..3).map(version).collect()
}

fn hears(trio: &mut Trio, at: usize, others: &[(usize, Version)]) {
    let others: BTreeMap<u64, Version> = others
        .iter()
        .map(|(other, version)| (trio.id(*other), *version))
        .collect();
    trio.members[at].queues.to_apply(ToApply::PeerVersions(others));
    trio.settle();
}

fn told(trio: &Trio, at: usize, text: &str) -> usize {
    let lines = trio.members[at].queues.log.borrow();
    lines.iter().filter(|line| line.msg == text).count()
}

#[test]
fn the_first_version_is_the_lowest_that_members_run() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    assert_eq!(versions(&trio), [None; 3], "nobody has been asked");
    hears(
        &mut trio,
        leader,
        &[(one, Version::new(3, 7, 1)), (two, Version::new(3, 6, 14))],
    );
    trio.pass(Duration::from_secs(1));
    assert_eq!(versions(&trio), [Some(Version::new(3, 6, 0)); 3]);
    assert_eq!(told(&trio, leader, SET), 1);
}

#[test]
fn a_member_that_does_not_answer_is_not_waited_for() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    let one = (leader + 1) % 3;
    hears(&mut trio, leader, &[(one, Version::new(3, 7, 1))]);
    trio.pass(Duration::from_secs(1));
    assert_eq!(versions(&trio), [Some(Version::new(3, 0, 0)); 3]);
}

#[test]
fn the_first_version_comes_also_where_no_answers_come() {
    let mut trio = Trio::start(|_| {});
    assert_eq!(versions(&trio), [None; 3]);
    trio.pass(ROUND);
    assert_eq!(versions(&trio), [Some(Version::new(3, 0, 0)); 3]);
}
