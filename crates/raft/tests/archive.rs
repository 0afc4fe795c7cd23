//! Who was sent a snapshot gets what was written meanwhile from the leader's disk, and another snapshot only when
//! the disk no longer has it.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use raft::{ConfState, Config, Entry, Message, MessageKind, Raft, Restored, Wanted};

/// A leader that is the only voter, with a learner 2, and all that it ever wrote.
struct Leader {
    raft: Raft,
    disk: Vec<Entry>,
    sent: Vec<Message>,
}

impl Leader {
    fn new() -> Leader {
        let conf_state = ConfState {
            voters: vec![1],
            learners: vec![2],
            ..ConfState::default()
        };
        let restored = Restored {
            conf_state,
            ..Restored::default()
        };
        let mut raft = Raft::new(Config::new(1, 7), restored).unwrap();
        raft.use_archive();
        raft.campaign();
        let mut leader = Leader {
            raft,
            disk: Vec::new(),
            sent: Vec::new(),
        };
        leader.settle();
        leader
    }

    fn settle(&mut self) {
        while let Some(output) = self.raft.poll() {
            self.disk.extend(output.entries);
            if let Some(write) = output.write {
                self.raft.persisted(write);
            }
            if let Some(last) = output.committed.last() {
                self.raft.applied(last.index);
            }
            let messages = output.messages.into_iter().map(|outgoing| outgoing.message);
            self.sent
                .extend(messages.filter(|message| message.kind != MessageKind::Heartbeat));
        }
    }

    /// Writes up to this index, and forgets all but the last two.
    fn write_to(&mut self, index: u64) {
        while self.raft.last_index() < index {
            self.raft.propose(vec![Bytes::from_static(b"data")]).unwrap();
            self.settle();
        }
        self.raft.compact(index - 2);
    }

    fn hear(&mut self, index: u64, reject: bool) {
        let mut answer = Message::new(MessageKind::AppendResponse, 1, 2, self.raft.term());
        answer.index = index;
        answer.reject = reject;
        self.raft.step(answer).unwrap();
        self.settle();
    }

    /// Answers what is wanted with the entries up to this index.
    fn fetch(&mut self, upto: u64) -> Wanted {
        let wanted = self.raft.take_wanted();
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        let found = self.disk.iter();
        let found = found.filter(|entry| entry.index > wanted[0].previous && entry.index <= upto);
        self.raft.fetched(wanted[0], found.cloned().collect());
        self.settle();
        wanted[0]
    }

    fn sent(&mut self) -> Vec<(MessageKind, u64, Vec<u64>)> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter()
            .map(|message| {
                let indexes = message.entries.iter().map(|entry| entry.index).collect();
                (message.kind, message.index, indexes)
            })
            .collect()
    }
}

/// A learner that has nothing was sent the state of entry 10, and 20 more entries were written meanwhile.
fn behind_a_snapshot() -> Leader {
    let mut leader = Leader::new();
    leader.write_to(10);
    leader.sent();
    // What was on its way to it is lost, and what it needs is gone.
    leader.hear(leader.raft.last_index(), true);
    leader.hear(0, true);
    leader.raft.report_unreachable(2);
    leader.hear(1, true);
    let snapshots = leader.sent();
    assert!(
        snapshots.iter().any(|sent| sent.0 == MessageKind::Snapshot),
        "{snapshots:?}"
    );
    leader.write_to(30);
    leader.raft.report_snapshot(2, true);
    leader.hear(10, false);
    leader
}

#[test]
fn what_was_written_meanwhile_comes_from_the_disk() {
    let mut leader = behind_a_snapshot();
    assert_eq!(leader.sent(), []);
    let wanted = leader.fetch(20);
    assert_eq!((wanted.id, wanted.previous, wanted.last), (2, 10, 28));
    assert_eq!(leader.sent(), [(MessageKind::Append, 10, (11..=20).collect())]);
    // The next piece is wanted at once; after it memory takes over.
    let wanted = leader.fetch(28);
    assert_eq!(wanted.previous, 20);
    assert_eq!(
        leader.sent(),
        [
            (MessageKind::Append, 20, (21..=28).collect()),
            (MessageKind::Append, 28, vec![29, 30]),
        ]
    );
    assert_eq!(leader.raft.take_wanted(), []);
}

#[test]
fn the_disk_is_read_until_memory_takes_over() {
    let mut leader = behind_a_snapshot();
    assert!(leader.raft.reads_archive_for(2));
    assert!(!leader.raft.reads_archive_for(1), "itself");
    assert!(!leader.raft.reads_archive_for(3), "nobody");
    leader.fetch(20);
    assert!(leader.raft.reads_archive_for(2));
    leader.fetch(28);
    assert!(!leader.raft.reads_archive_for(2));
    // What was lost may be needed once more.
    leader.hear(20, true);
    assert!(leader.raft.reads_archive_for(2));
    let newer = Message::new(MessageKind::Heartbeat, 1, 2, leader.raft.term() + 1);
    leader.raft.step(newer).unwrap();
    assert!(!leader.raft.reads_archive_for(2), "it leads no longer");
}

#[test]
fn lost_messages_are_noticed() {
    let mut leader = behind_a_snapshot();
    // As many as may be on their way at once, and all of them get lost.
    for upto in 11..=14 {
        leader.fetch(upto);
    }
    leader.sent();
    assert_eq!(leader.raft.take_wanted(), []);
    let heard = Message::new(MessageKind::HeartbeatResponse, 1, 2, leader.raft.term());
    leader.raft.step(heard).unwrap();
    leader.settle();
    assert_eq!(leader.sent(), [(MessageKind::Append, 14, vec![])]);
    // Not one with each proposal.
    leader.write_to(31);
    assert_eq!(leader.sent(), []);
    leader.hear(14, true);
    assert_eq!(leader.fetch(20).previous, 10);
}

#[test]
fn what_the_disk_does_not_have_needs_another_snapshot() {
    let mut leader = behind_a_snapshot();
    leader.fetch(0);
    assert_eq!(leader.sent(), [(MessageKind::Snapshot, 0, vec![])]);
    assert_eq!(leader.raft.take_wanted(), []);
}

#[test]
fn an_answer_of_another_term_or_place_is_not_sent() {
    let mut leader = behind_a_snapshot();
    let wanted = leader.raft.take_wanted()[0];
    for stale in [
        Wanted {
            term: wanted.term + 1,
            ..wanted
        },
        Wanted {
            previous: wanted.previous + 1,
            ..wanted
        },
        Wanted { id: 3, ..wanted },
    ] {
        leader.raft.fetched(stale, leader.disk[20..22].to_vec());
        leader.settle();
        assert_eq!(leader.sent(), []);
    }
}
