//! A leader whose data file finds no room, while other members have some: who leads then, and what clients get.
#![allow(clippy::unwrap_used)]

mod driver;

use std::time::Duration;

use api::error;
use api::etcdserverpb::{InternalRaftRequest, PutRequest};
use driver::trio::Trio;

const ELECTION: Duration = Duration::from_secs(1);

const FULL: &str = "no space for the data file; requests are refused until there is";
const HANDS_OVER: &str = "no space for the data file; leadership transfer starting";

fn put(key: &str, bytes: usize) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            value: vec![b'x'; bytes].into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

/// Logs have room in the segments that they reserved: what a disk lacks is lacked by the data file alone.
fn start() -> Trio {
    Trio::start(|config| config.segment_bytes = wal::SEGMENT_BYTES)
}

fn others(at: usize) -> [usize; 2] {
    [(at + 1) % 3, (at + 2) % 3]
}

/// How often a member said something.
fn said(trio: &Trio, at: usize, text: &str) -> usize {
    let texts = trio.members[at].log_texts();
    texts.iter().filter(|line| *line == text).count()
}

fn hand_overs(trio: &Trio) -> [usize; 3] {
    [0, 1, 2].map(|at| said(trio, at, HANDS_OVER))
}

/// Takes the room of these members, and writes until their data files know it.
fn fill(trio: &mut Trio, full: &[usize]) {
    let leader = trio.leader();
    for &at in full {
        let disk = &trio.disks[at];
        disk.set_space(Some(disk.used_bytes() + 40_000));
    }
    trio.until("the disks are full", |trio| {
        trio.members[leader].propose(put("large", 500_000));
        trio.settle();
        trio.pass(ELECTION / 20);
        full.iter().all(|&at| said(trio, at, FULL) == 1)
    });
}

/// A client's write through a member, or why it is not taken.
fn write(trio: &mut Trio, at: usize) -> Result<(), error::Status> {
    let id = trio.members[at].propose(put("small", 10));
    trio.until("an answer", |trio| trio.members[at].answers.contains_key(&id));
    trio.members[at].answers.remove(&id).unwrap().map(drop)
}

fn has_led_on(trio: &Trio, before: usize) -> bool {
    let now = trio.leader_of(before);
    now != Some(before) && now.is_some() && (0..3).all(|at| trio.leader_of(at) == now)
}

#[test]
fn a_leader_without_room_lets_one_lead_that_has_it() {
    let mut trio = start();
    let full = trio.leader();
    fill(&mut trio, &[full]);
    assert_eq!(write(&mut trio, full), Err(error::NO_SPACE));
    trio.pass(ELECTION);
    assert_eq!(trio.leader(), full, "room may come back soon");
    trio.until("another one leads", |trio| has_led_on(trio, full));
    for at in others(full) {
        assert_eq!(write(&mut trio, at), Ok(()));
    }
    // Who comes to the full one is told so. It follows the others, and reads are served.
    assert_eq!(write(&mut trio, full), Err(error::NO_SPACE));
    let asked = trio.ask_read(full);
    trio.settle();
    let index = trio.read_index(full, asked).expect("the read is answered");
    assert_eq!(trio.members[full].member.shared.applied(), index);
    trio.pass(ELECTION * 200);
    assert!(has_led_on(&trio, full));
    assert_eq!(hand_overs(&trio).iter().sum::<usize>(), 1);

    trio.disks[full].set_space(None);
    trio.pass(ELECTION * 2);
    assert_eq!(write(&mut trio, full), Ok(()));
    trio.pass(ELECTION);
    let revisions = [0, 1, 2].map(|at| trio.members[at].member.views.load().revision);
    assert_eq!(revisions, [revisions[0]; 3]);
}

#[test]
fn the_one_who_has_room_is_found() {
    let mut trio = start();
    let leader = trio.leader();
    let [other, last] = others(leader);
    for full in [[leader, other], [leader, last]] {
        let mut trio = start();
        assert_eq!(trio.leader(), leader);
        fill(&mut trio, &full);
        let free = (0..3).find(|at| !full.contains(at)).unwrap();
        trio.until("the one leads that has room", |trio| {
            has_led_on(trio, leader) && trio.leader_of(free) == Some(free)
        });
        assert_eq!(write(&mut trio, free), Ok(()));
        trio.pass(ELECTION * 200);
        assert_eq!(trio.leader(), free);
    }
}

/// They find out in turn, and then nothing changes for long.
#[test]
fn where_nobody_has_room_the_leader_changes_seldom() {
    let mut trio = start();
    let leader = trio.leader();
    fill(&mut trio, &[0, 1, 2]);
    trio.pass(ELECTION * 50);
    assert_eq!(hand_overs(&trio), [1, 1, 1]);
    let leader_now = trio.leader();
    assert_eq!(leader_now, leader, "each was asked once, and the first one stays");
    for rounds in 2..5 {
        trio.pass(ELECTION * 100);
        let most = hand_overs(&trio).into_iter().max();
        assert!(most <= Some(rounds), "{:?}", hand_overs(&trio));
    }
    let reader = trio.leader();
    for at in 0..3 {
        let asked = trio.ask_read(at);
        trio.settle();
        assert!(trio.read_index(at, asked).is_some(), "led by {reader}");
    }
    // Somebody gets room.
    let lucky = others(reader)[0];
    trio.disks[lucky].set_space(None);
    trio.until("it leads", |trio| {
        (0..3).all(|at| trio.leader_of(at) == Some(lucky))
    });
    assert_eq!(write(&mut trio, lucky), Ok(()));
    trio.pass(ELECTION * 200);
    assert_eq!(trio.leader(), lucky);
}

/// Nobody hears that it is to lead: each is asked once, and the leader goes on when it has room.
#[test]
fn a_hand_over_that_fails_harms_nobody() {
    let mut trio = start();
    let leader = trio.leader();
    fill(&mut trio, &[leader]);
    trio.lost = Some(raft::MessageKind::TimeoutNow);
    trio.pass(ELECTION * 50);
    assert_eq!(said(&trio, leader, HANDS_OVER), 2);
    assert_eq!(trio.leader(), leader);
    trio.disks[leader].set_space(None);
    trio.pass(ELECTION * 2);
    assert_eq!(write(&mut trio, leader), Ok(()));
    trio.lost = None;
    trio.pass(ELECTION * 200);
    assert_eq!(trio.leader(), leader);
    assert_eq!(hand_overs(&trio).iter().sum::<usize>(), 2);
}
