//! A leader whose own disk is slow: what the others' disks hold is committed, applied and answered all the same, what is
//! its own is told by `durable_index`, and nothing is lost if the leader falls before its disk has caught up.
#![allow(clippy::unwrap_used)]

mod harness;

use bytes::Bytes;
use fastrand::Rng;
use harness::{Node, Restart};
use raft::{ConfState, Config, Message, MessageKind, Role};

/// Members 1 to n, all voters, and messages that never fail.
struct Cluster {
    nodes: Vec<Node>,
    network: Vec<Message>,
    /// This member's writes stay on their way.
    frozen: u64,
}

impl Cluster {
    fn new(size: u64) -> Cluster {
        let members = ConfState {
            voters: (1..=size).collect(),
            ..ConfState::default()
        };
        let start = |id| {
            let mut node = Node::founding(Config::new(id, id), &members);
            node.start(Restart::FromApplication);
            node
        };
        Cluster {
            nodes: (1..=size).map(start).collect(),
            network: Vec::new(),
            frozen: 0,
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// All happens that can without time passing.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for node in self.nodes.iter_mut().filter(|node| node.raft.is_some()) {
                while node.poll().is_some() {
                    busy = true;
                }
                while node.id() != self.frozen && node.persist() {
                    busy = true;
                }
                busy |= node.apply(1000);
                node.commit_app();
                self.network.append(&mut node.outbox);
            }
            for message in std::mem::take(&mut self.network) {
                busy = true;
                if let Some(raft) = &mut self.node(message.to).raft {
                    raft.step(message).unwrap();
                }
            }
        }
    }

    fn elect(&mut self, id: u64) {
        self.node(id).raft().campaign();
        self.settle();
        assert_eq!(self.node(id).raft().soft_state().role, Role::Leader);
    }

    fn propose(&mut self, id: u64, data: &'static str) -> u64 {
        let raft = self.node(id).raft();
        raft.propose(vec![Bytes::from_static(data.as_bytes())]).unwrap();
        let index = raft.last_index();
        self.settle();
        index
    }
}

/// etcd issue 22214.
#[test]
fn others_disks_commit_for_a_leader_whose_own_is_frozen() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let before = cluster.node(1).raft().durable_index();
    cluster.frozen = 1;
    let index = cluster.propose(1, "a");
    for id in 1..=3 {
        let node = cluster.node(id);
        if id == 1 {
            assert_eq!(
                node.raft().durable_index(),
                before,
                "the own disk has nothing new"
            );
            assert!(node.disk.last() < index);
            assert!(
                node.disk.app.index <= before,
                "the application's file waits for the log"
            );
        }
    }
    let node = cluster.node(1);
    assert_eq!((node.raft().commit_index(), node.app.index), (index, index));
    // What is on no disk of its own is not forgotten, though it is applied.
    assert_eq!(node.raft().compact(index), before);
    // Reads are served as well.
    node.raft().read_index(7).unwrap();
    cluster.settle();
    let node = cluster.node(1);
    assert_eq!(
        node.read_states.last().map(|read| (read.context, read.index)),
        Some((7, index))
    );
    // The disk comes back.
    cluster.frozen = 0;
    cluster.settle();
    let node = cluster.node(1);
    assert_eq!(node.raft().durable_index(), index);
    assert_eq!((node.disk.last(), node.disk.app.index), (index, index));
}

#[test]
fn what_a_frozen_disk_lost_comes_back_from_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.frozen = 1;
    let index = cluster.propose(1, "a");
    let digest = cluster.node(1).app.digest;
    cluster.node(1).crash(0, 0);
    cluster.node(1).start(Restart::FromApplication);
    assert!(cluster.node(1).raft().last_index() < index);
    assert!(
        cluster.node(1).app.index < index,
        "the file was not ahead of the log"
    );
    cluster.frozen = 0;
    for _ in 0..40 {
        cluster.node(2).raft().tick();
        cluster.node(3).raft().tick();
        cluster.settle();
    }
    let leader = cluster.node(1).raft().soft_state().leader;
    assert!(leader == 2 || leader == 3);
    for _ in 0..3 {
        cluster.node(leader).raft().tick();
        cluster.settle();
    }
    // The digest is of all that was applied up to the entry, and the leader's own empty one after it.
    let (own, others) = (cluster.node(1).app.clone(), cluster.node(leader).app.clone());
    assert_eq!(own, others);
    assert!(own.index > index && own.digest != digest);
    assert_eq!(cluster.node(leader).raft().entries(index, 0)[0].data, "a");
}

#[test]
fn of_two_voters_both_disks_are_needed_and_a_lone_voters_own() {
    for size in 1..=2 {
        let mut cluster = Cluster::new(size);
        cluster.elect(1);
        let before = cluster.node(1).raft().commit_index();
        cluster.frozen = 1;
        let index = cluster.propose(1, "a");
        let node = cluster.node(1);
        assert_eq!(
            (node.raft().commit_index(), node.app.index),
            (before, before),
            "{size}"
        );
        cluster.frozen = 0;
        cluster.settle();
        let node = cluster.node(1);
        assert_eq!(
            (node.raft().commit_index(), node.app.index),
            (index, index),
            "{size}"
        );
    }
}

/// A frozen follower promises nothing: neither entries nor votes.
#[test]
fn a_frozen_follower_does_not_count() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.node(3).crash(0, 0);
    cluster.frozen = 2;
    let before = cluster.node(1).raft().commit_index();
    let index = cluster.propose(1, "a");
    assert_eq!(cluster.node(1).raft().commit_index(), before);
    assert_eq!(
        cluster.node(2).raft().last_index(),
        index,
        "it has the entry, but not on its disk"
    );
    // Nor can it be elected, or elect, before its disk knows of the term.
    cluster.node(1).crash(0, 0);
    cluster.node(3).start(Restart::FromApplication);
    for _ in 0..30 {
        cluster.node(2).raft().tick();
        cluster.settle();
    }
    assert_ne!(cluster.node(2).raft().soft_state().role, Role::Leader);
    cluster.frozen = 0;
    cluster.settle();
    for _ in 0..30 {
        cluster.node(2).raft().tick();
        cluster.settle();
    }
    assert_eq!(cluster.node(2).raft().soft_state().role, Role::Leader);
    assert!(cluster.node(2).raft().commit_index() > index);
}

/// Whoever syncs may send what waited for it at once, so answers may come before the core hears of its own disk.
#[test]
fn votes_that_outrun_the_own_disk_elect_when_it_has_caught_up() {
    let members = ConfState {
        voters: vec![1, 2, 3],
        ..ConfState::default()
    };
    let mut config = Config::new(1, 1);
    config.pre_vote = false;
    let mut node = Node::founding(config, &members);
    node.start(Restart::FromApplication);
    let raft = node.raft();
    raft.campaign();
    let write = raft.poll().unwrap().write.unwrap();
    for from in 2..=3 {
        raft.step(Message::new(MessageKind::VoteResponse, 1, from, 2))
            .unwrap();
    }
    assert_eq!((raft.term(), raft.soft_state().role), (2, Role::Candidate));
    raft.persisted(write);
    assert_eq!(raft.soft_state().role, Role::Leader);
}

/// Disks that lag at random, and leaders that come and go: `durable_index` never says more than the disk holds.
#[test]
fn the_durable_index_is_what_the_disk_holds() {
    let mut behind = 0;
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let mut cluster = Cluster::new(3);
        for step in 0..1500 {
            let id = rng.u64(1..=3);
            let node = cluster.node(id);
            match rng.u8(..20) {
                0 => node.raft().tick(),
                1 if rng.u8(..4) == 0 => node.raft().campaign(),
                2 => drop(node.raft().propose(vec![Bytes::from(step.to_string())])),
                // The first disk is slower than the others.
                3..=6 if id > 1 || rng.u8(..6) == 0 => drop(node.persist()),
                7..=8 => drop(node.apply(2)),
                9 if rng.u8(..8) == 0 => {
                    node.crash(rng.usize(..3), rng.usize(..3));
                    node.start(Restart::FromApplication);
                }
                _ if !cluster.network.is_empty() => {
                    let message = cluster.network.swap_remove(rng.usize(..cluster.network.len()));
                    let result = cluster.node(message.to).raft().step(message);
                    assert!(!result.is_err_and(|error| error.is_fatal()));
                }
                _ => {}
            }
            let node = cluster.node(id);
            while node.poll().is_some() {}
            cluster.network.append(&mut cluster.nodes[id as usize - 1].outbox);
            for node in &cluster.nodes {
                let raft = node.raft.as_ref().unwrap();
                let durable = raft.durable_index();
                for index in raft.first_index()..=durable {
                    let term = raft.term_at(index).unwrap();
                    assert!(
                        node.disk.holds(index, term),
                        "seed {seed} step {step}: entry {index}"
                    );
                }
                behind += u64::from(durable < raft.commit_index());
            }
        }
        assert!(
            behind > 0,
            "seed {seed}: no disk was ever behind the commit index"
        );
    }
}
