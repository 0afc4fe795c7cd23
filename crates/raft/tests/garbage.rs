//! Whatever a peer sends: no panic, no promise to the disk broken, no boundless memory. Debug assertions are on.
//!
//! `RAFT_SEEDS` makes it longer.
#![allow(clippy::unwrap_used)]

mod harness;

use bytes::Bytes;
use fastrand::Rng;
use harness::{Node, Restart};
use raft::{ConfState, Config, Entry, EntryKind, Message, MessageKind, Snapshot};

/// Numbers that are wrong in interesting ways.
fn number(rng: &mut Rng, near: u64) -> u64 {
    match rng.u8(..16) {
        0 => 0,
        1..=7 => near.saturating_add(rng.u64(..4)).saturating_sub(2),
        8..=13 => rng.u64(..12),
        14 => [
            u64::MAX,
            u64::MAX - 1,
            u64::MAX >> 1,
            (u64::MAX >> 2) + 1,
            u64::MAX >> 2,
        ][rng.usize(..5)],
        _ => rng.u64(..),
    }
}

fn entries(rng: &mut Rng, after: u64, log_term: u64) -> Vec<Entry> {
    let consecutive = rng.u8(..8) > 0;
    let mut term = log_term;
    (1..=rng.u64(..5))
        .map(|place| {
            term = term.wrapping_add(u64::from(rng.u8(..4) == 0));
            let index = if consecutive {
                after.wrapping_add(place)
            } else {
                number(rng, after)
            };
            let kind = match rng.u8(..64) {
                0 => EntryKind::ConfChangeV2,
                _ => EntryKind::Normal,
            };
            Entry {
                kind,
                term,
                index,
                data: Bytes::from(vec![7; rng.usize(..20)]),
            }
        })
        .collect()
}

fn message(rng: &mut Rng, node: &mut Node) -> Message {
    let raft = node.raft();
    let (term, last, commit) = (raft.term(), raft.last_index(), raft.commit_index());
    let kind = MessageKind::ALL[rng.usize(..MessageKind::ALL.len())];
    let mut message = Message::new(kind, 1, rng.u64(0..5), number(rng, term + 1));
    message.index = if rng.bool() {
        rng.u64(commit..=last)
    } else {
        number(rng, last)
    };
    message.log_term = match raft.term_at(message.index) {
        Some(term) if rng.u8(..4) > 0 => term,
        _ => number(rng, term),
    };
    message.entries = entries(rng, message.index, message.log_term);
    if matches!(kind, MessageKind::ReadIndex | MessageKind::ReadIndexResponse) && rng.u8(..4) > 0 {
        message.entries.truncate(1);
    }
    message.commit = number(rng, commit + 1);
    message.reject = rng.bool();
    message.reject_hint = number(rng, last);
    message.context = Bytes::from(vec![rng.u8(..3); [0, 1, 7, 8, 8, 9, 1000][rng.usize(..7)]]);
    if rng.bool() {
        message.snapshot = Some(Snapshot {
            index: number(rng, last),
            term: number(rng, term),
            conf_state: ConfState {
                voters: (0..rng.u64(0..4)).map(|id| number(rng, id + 1)).collect(),
                learners: (0..rng.u64(0..2)).map(|_| number(rng, 4)).collect(),
                voters_outgoing: if rng.u8(..16) == 0 { vec![1] } else { Vec::new() },
                ..ConfState::default()
            },
            data: Bytes::from_static(&[0; 8]),
        });
    }
    message
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let members = ConfState {
        voters: vec![1, 2, 3],
        learners: vec![4],
        ..ConfState::default()
    };
    let mut config = Config::new(1, seed);
    config.inflight_messages_max = 3;
    config.message_bytes_max = 50;
    config.reads_max = 5;
    let mut node = Node::founding(config, &members);
    node.start(Restart::FromApplication);
    for step in 0..1500 {
        match rng.u8(..32) {
            0..=19 => {
                let message = message(&mut rng, &mut node);
                let before = (node.raft().hard_state().commit, node.raft().last_index());
                if let Err(error) = node.raft().step(message)
                    && error.is_fatal()
                {
                    let after = (node.raft().hard_state().commit, node.raft().last_index());
                    assert_eq!(before, after, "seed {seed} step {step}: {error}");
                }
            }
            20..=22 => node.raft().tick(),
            23 => node.raft().campaign(),
            24 => drop(node.raft().propose(vec![Bytes::from_static(b"data")])),
            25 => drop(node.raft().read_index(step)),
            26..=27 => drop(node.persist()),
            28 => drop(node.apply(3)),
            29 => node.raft().transfer(rng.u64(..6)),
            30 => node.compact(rng.u64(..3)),
            _ if rng.u8(..4) == 0 => {
                node.crash(rng.usize(..3), rng.usize(..3));
                node.start(if rng.bool() {
                    Restart::FromSnapshot
                } else {
                    Restart::FromApplication
                });
            }
            _ => {}
        }
        if rng.bool() {
            while node.poll().is_some() {}
            node.outbox.clear();
            node.read_states.clear();
        }
    }
}

#[test]
fn nothing_that_comes_can_break_a_member() {
    let seeds = std::env::var("RAFT_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200);
    for seed in 0..seeds {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("seed {seed}");
        }
    }
}
