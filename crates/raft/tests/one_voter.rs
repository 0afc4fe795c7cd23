//! A cluster of one: the path that every write of a single member takes.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeKind, ConfState, Config, Entry, EntryKind, Fatal, HardState, Output, Raft,
    ReadState, Restored, Role,
};

fn lone(hard_state: HardState, entries: Vec<Entry>, applied: u64) -> Raft {
    let conf_state = ConfState {
        voters: vec![1],
        ..ConfState::default()
    };
    Raft::new(
        Config::new(1, 7),
        Restored {
            hard_state,
            conf_state,
            entries,
            applied,
            ..Restored::default()
        },
    )
    .unwrap()
}

fn entry(term: u64, index: u64, data: &'static str) -> Entry {
    Entry {
        kind: EntryKind::Normal,
        term,
        index,
        data: Bytes::from_static(data.as_bytes()),
    }
}

/// Polls until there is nothing more, syncing and applying at once; returns what was committed.
fn settle(raft: &mut Raft) -> Vec<Entry> {
    let mut committed = Vec::new();
    while let Some(output) = raft.poll() {
        if let Some(write) = output.write {
            raft.persisted(write);
        }
        if let Some(last) = output.committed.last() {
            raft.applied(last.index);
        }
        committed.extend(output.committed);
    }
    committed
}

#[test]
fn it_elects_itself_when_its_vote_is_durable_and_commits_when_its_log_is() {
    let mut raft = lone(HardState::default(), Vec::new(), 0);
    assert_eq!(raft.poll(), None);
    raft.campaign();
    let Output {
        write, hard_state, ..
    } = raft.poll().unwrap();
    assert_eq!(
        (write, hard_state),
        (
            Some(1),
            Some(HardState {
                term: 1,
                vote: 1,
                commit: 0
            })
        )
    );
    assert_eq!(raft.soft_state().role, Role::Candidate);
    raft.persisted(1);
    assert_eq!(raft.soft_state().role, Role::Leader);

    raft.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")])
        .unwrap();
    let Output {
        write,
        entries,
        committed,
        soft_state,
        ..
    } = raft.poll().unwrap();
    assert_eq!(write, Some(2));
    assert_eq!(entries, vec![entry(1, 1, ""), entry(1, 2, "a"), entry(1, 3, "b")]);
    assert_eq!(committed, vec![]);
    assert_eq!(soft_state.unwrap().leader, 1);
    assert_eq!(raft.poll(), None);
    assert_eq!(raft.lone_commit(), None);

    raft.persisted(2);
    let Output {
        write,
        hard_state,
        committed,
        ..
    } = raft.poll().unwrap();
    assert_eq!((write, hard_state.unwrap().commit), (None, 3));
    assert_eq!(committed.len(), 3);
    assert_eq!(raft.lone_commit(), Some(3));
    raft.applied(3);
    assert_eq!((raft.applied_index(), raft.durable_index()), (3, 3));
    assert_eq!(raft.poll(), None);
}

#[test]
fn writes_may_overlap_and_each_commits_its_own() {
    let mut raft = lone(HardState::default(), Vec::new(), 0);
    raft.campaign();
    settle(&mut raft);
    raft.propose(vec![Bytes::from_static(b"a")]).unwrap();
    let first = raft.poll().unwrap().write.unwrap();
    raft.propose(vec![Bytes::from_static(b"b")]).unwrap();
    let second = raft.poll().unwrap().write.unwrap();
    raft.persisted(first);
    assert_eq!(raft.poll().unwrap().committed, vec![entry(1, 2, "a")]);
    raft.persisted(second);
    assert_eq!(raft.poll().unwrap().committed, vec![entry(1, 3, "b")]);
    raft.persisted(second);
    assert_eq!(raft.poll(), None);
}

#[test]
fn it_answers_reads_at_once_but_not_before_the_first_commit_of_its_term() {
    // The commit index on disk lags: entry 2 was acknowledged before the restart, and only the new term proves it.
    let hard_state = HardState {
        term: 1,
        vote: 1,
        commit: 1,
    };
    let mut raft = lone(hard_state, vec![entry(1, 1, ""), entry(1, 2, "a")], 1);
    assert!(raft.read_index(8).is_err());
    raft.campaign();
    let write = raft.poll().unwrap().write.unwrap();
    raft.persisted(write);
    raft.read_index(9).unwrap();
    let output = raft.poll().unwrap();
    assert_eq!(output.read_states, vec![]);
    assert_eq!(raft.lone_commit(), None);
    raft.persisted(output.write.unwrap());
    let output = raft.poll().unwrap();
    assert_eq!(output.read_states, vec![ReadState { context: 9, index: 3 }]);
    assert_eq!(output.committed, vec![entry(1, 2, "a"), entry(2, 3, "")]);
    raft.read_index(10).unwrap();
    assert_eq!(
        raft.poll().unwrap().read_states,
        vec![ReadState {
            context: 10,
            index: 3
        }]
    );
}

#[test]
fn a_cluster_begins_with_the_changes_that_made_it() {
    let mut raft = Raft::bootstrap(Config::new(1, 7), vec![(1, Bytes::from_static(b"add 1"))]).unwrap();
    raft.campaign();
    assert_eq!(
        raft.soft_state().role,
        Role::Follower,
        "the change is committed but not applied"
    );
    let output = raft.poll().unwrap();
    assert_eq!(
        output.hard_state,
        Some(HardState {
            term: 1,
            vote: 0,
            commit: 1
        })
    );
    assert_eq!(output.entries.len(), 1);
    assert_eq!(output.committed, vec![], "the only disk does not have it yet");
    raft.persisted(output.write.unwrap());
    let output = raft.poll().unwrap();
    assert_eq!(output.committed[0].kind, EntryKind::ConfChange);
    let conf_state = raft
        .apply_conf_change(
            1,
            ConfChange {
                node_id: 1,
                ..ConfChange::default()
            },
        )
        .unwrap();
    assert_eq!(conf_state.voters, vec![1]);
    raft.applied(1);
    raft.campaign();
    settle(&mut raft);
    assert_eq!(
        (raft.soft_state().role, raft.term(), raft.commit_index()),
        (Role::Leader, 2, 2)
    );
}

#[test]
fn a_first_start_can_also_be_told_as_a_restart() {
    let change = Entry {
        kind: EntryKind::ConfChange,
        term: 1,
        index: 1,
        data: Bytes::new(),
    };
    let mut raft = lone(
        HardState {
            term: 1,
            vote: 0,
            commit: 1,
        },
        vec![change],
        1,
    );
    raft.campaign();
    assert_eq!(settle(&mut raft), vec![entry(2, 2, "")]);
    assert_eq!(raft.soft_state().role, Role::Leader);
}

#[test]
fn ticks_alone_elect_it_within_twice_the_timeout() {
    let mut raft = lone(HardState::default(), Vec::new(), 0);
    let mut ticks = 0;
    while raft.soft_state().role != Role::Leader {
        raft.tick();
        settle(&mut raft);
        ticks += 1;
        assert!(ticks < 20);
    }
    assert!(ticks >= 10);
    for _ in 0..100 {
        raft.tick();
        assert_eq!(
            raft.poll(),
            None,
            "an idle leader without followers has nothing to do"
        );
    }
}

#[test]
fn both_ways_to_restart() {
    let log = || vec![entry(1, 1, ""), entry(1, 2, "a"), entry(2, 3, "b")];
    // All after the snapshot again.
    let mut raft = lone(
        HardState {
            term: 2,
            vote: 1,
            commit: 3,
        },
        log(),
        0,
    );
    assert_eq!(settle(&mut raft).len(), 3);
    // From the application's own index, which may be ahead of the commit index on disk.
    let mut raft = lone(
        HardState {
            term: 2,
            vote: 1,
            commit: 1,
        },
        log(),
        3,
    );
    assert_eq!(raft.commit_index(), 3);
    let output = raft.poll().unwrap();
    assert_eq!(
        (output.write, output.hard_state.unwrap().commit, output.committed),
        (None, 3, vec![])
    );
}

#[test]
fn a_write_whose_hard_state_was_lost_still_tells_the_term() {
    let mut raft = lone(
        HardState {
            term: 3,
            vote: 1,
            commit: 1,
        },
        vec![entry(1, 1, ""), entry(5, 2, "")],
        1,
    );
    let output = raft.poll().unwrap();
    assert_eq!(
        (output.write, output.hard_state),
        (
            Some(1),
            Some(HardState {
                term: 5,
                vote: 0,
                commit: 1
            })
        )
    );
}

#[test]
fn the_log_is_compacted_no_further_than_applied() {
    let mut raft = lone(
        HardState {
            term: 2,
            vote: 1,
            commit: 2,
        },
        vec![entry(1, 1, ""), entry(1, 2, "a")],
        1,
    );
    assert_eq!(raft.compact(9), 1);
    assert_eq!(
        (raft.first_index(), raft.term_at(1), raft.term_at(0)),
        (2, Some(1), None)
    );
    assert_eq!(raft.entries(0, u64::MAX), vec![entry(1, 2, "a")]);
}

#[test]
fn a_broken_log_is_refused() {
    let refuse = |hard_state, entries: Vec<Entry>, applied, text: &str| {
        let conf_state = ConfState {
            voters: vec![1],
            ..ConfState::default()
        };
        let restored = Restored {
            hard_state,
            conf_state,
            entries,
            applied,
            ..Restored::default()
        };
        let error = Raft::new(Config::new(1, 7), restored).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    let hard_state = |term, commit| HardState {
        term,
        vote: 0,
        commit,
    };
    refuse(hard_state(1, 1), vec![], 0, "commit 1 is beyond the last entry 0");
    refuse(
        hard_state(1, 0),
        vec![],
        1,
        "applied 1 is beyond the last entry 0",
    );
    refuse(
        hard_state(1, 0),
        vec![entry(1, 2, "")],
        0,
        "entry 2 follows entry 0",
    );
    refuse(
        hard_state(2, 0),
        vec![entry(2, 1, ""), entry(1, 2, "")],
        0,
        "falls from 2 to 1 at entry 2",
    );
    let joint = Entry {
        kind: EntryKind::ConfChangeV2,
        ..entry(1, 1, "")
    };
    refuse(hard_state(1, 0), vec![joint], 0, "ConfChangeV2 at index 1");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refuse = |change: fn(&mut Config), text: &str| {
        let mut config = Config::new(1, 7);
        change(&mut config);
        let error = Raft::new(config, Restored::default()).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    refuse(|config| config.id = 0, "id");
    refuse(|config| config.heartbeat_ticks = 0, "heartbeat_ticks");
    refuse(|config| config.election_ticks = 1, "election_ticks");
    refuse(|config| config.election_ticks = u32::MAX, "too large");
    refuse(|config| config.inflight_messages_max = 0, "inflight_messages_max");
    refuse(|config| config.inflight_bytes_max = 1, "inflight_bytes_max");
    refuse(|config| config.reads_max = 0, "reads_max");
}

#[test]
fn the_last_voter_cannot_be_taken_away() {
    let mut raft = lone(HardState::default(), Vec::new(), 0);
    for kind in [ConfChangeKind::RemoveNode, ConfChangeKind::AddLearnerNode] {
        let error = raft
            .apply_conf_change(1, ConfChange { kind, node_id: 1 })
            .unwrap_err();
        assert_eq!(error, Fatal::LastVoter { id: 1 });
        assert_eq!(raft.conf_state().voters, vec![1]);
    }
    let unknown = ConfChange {
        kind: ConfChangeKind::RemoveNode,
        node_id: 9,
    };
    assert_eq!(raft.apply_conf_change(2, unknown).unwrap().voters, vec![1]);
}

#[test]
fn entries_weigh_what_they_weigh_in_protobuf() {
    let check = |kind, term, index, data: usize, expected| {
        let entry = Entry {
            kind,
            term,
            index,
            data: Bytes::from(vec![0; data]),
        };
        assert_eq!(entry.encoded_bytes(), expected);
    };
    check(EntryKind::Normal, 0, 0, 0, 0);
    check(EntryKind::Normal, 1, 127, 0, 4);
    check(EntryKind::ConfChange, 1, 128, 1, 2 + 2 + 3 + 3);
    check(EntryKind::Normal, u64::MAX, 1, 200, 11 + 2 + 3 + 200);
}
