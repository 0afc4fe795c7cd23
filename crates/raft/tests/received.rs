//! States that the leader sends, beside an application that takes its time.
#![allow(clippy::unwrap_used)]

use raft::{ConfChange, ConfChangeKind, ConfState, Config, Message, MessageKind, Raft, Restored, Snapshot};

fn follower() -> Raft {
    let restored = Restored {
        conf_state: members(&[]),
        ..Restored::default()
    };
    Raft::new(Config::new(1, 7), restored).unwrap()
}

fn members(learners: &[u64]) -> ConfState {
    ConfState {
        voters: vec![1, 2, 3],
        learners: learners.to_vec(),
        ..ConfState::default()
    }
}

/// A snapshot comes from member 2 and is handed out.
fn receive(raft: &mut Raft, index: u64, conf_state: ConfState) {
    let mut message = Message::new(MessageKind::Snapshot, 1, 2, 1);
    message.snapshot = Some(Snapshot {
        index,
        term: 1,
        conf_state,
        ..Snapshot::default()
    });
    raft.step(message).unwrap();
    let output = raft.poll().unwrap();
    assert_eq!(output.snapshot.unwrap().index, index);
    raft.persisted(output.write.unwrap());
}

#[test]
fn what_is_installed_is_applied_though_a_newer_state_has_come() {
    let mut raft = follower();
    receive(&mut raft, 10, members(&[]));
    receive(&mut raft, 20, members(&[]));
    raft.snapshot_installed(10);
    raft.applied(10);
    assert_eq!(raft.applied_index(), 10);
    let mut append = Message::new(MessageKind::Append, 1, 2, 1);
    (append.index, append.log_term, append.commit) = (20, 1, 21);
    append.entries = vec![raft::Entry {
        term: 1,
        index: 21,
        ..raft::Entry::default()
    }];
    raft.step(append).unwrap();
    assert_eq!(raft.poll().unwrap().committed, []);
    raft.snapshot_installed(20);
    assert_eq!(raft.poll().unwrap().committed[0].index, 21);
}

#[test]
fn a_change_that_a_received_state_holds_already_comes_too_late() {
    let mut raft = follower();
    let add = |kind, node_id| ConfChange { kind, node_id };
    raft.apply_conf_change(4, add(ConfChangeKind::AddLearnerNode, 4))
        .unwrap();
    assert_eq!(raft.conf_state(), members(&[4]));
    receive(&mut raft, 10, members(&[5]));
    let left = raft.apply_conf_change(5, add(ConfChangeKind::AddLearnerNode, 3));
    assert_eq!(left.unwrap(), members(&[5]));
    let last = raft.apply_conf_change(10, add(ConfChangeKind::RemoveNode, 5));
    assert_eq!(last.unwrap(), members(&[5]));
    let next = raft.apply_conf_change(11, add(ConfChangeKind::AddLearnerNode, 6));
    assert_eq!(next.unwrap(), members(&[5, 6]));
}
