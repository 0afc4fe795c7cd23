//! What stands around the core in tests: a disk that is slow and loses what was not synced, an application that applies
//! late, and a process that can crash. Nothing here decides anything by itself: the tests say what happens when.
#![allow(dead_code, clippy::unwrap_used)]

pub mod history;
pub mod show;

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeKind, ConfState, Config, Entry, EntryKind, HardState, Message, MessageKind, NONE,
    Output, Raft, ReadState, Restored, Snapshot, SoftState,
};

/// The application: how far it has applied, a digest of all that it has applied, and the membership.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct App {
    pub index: u64,
    pub term: u64,
    pub digest: u64,
    pub members: ConfState,
}

impl App {
    fn absorb(&mut self, entry: &Entry) {
        assert_eq!(
            entry.index,
            self.index + 1,
            "committed entries come in order, each once"
        );
        assert!(entry.term >= self.term, "terms never fall along a log");
        (self.index, self.term) = (entry.index, entry.term);
        let mut mix = |number: u64| {
            self.digest = (self.digest ^ number)
                .wrapping_mul(0x100_0000_01b3)
                .rotate_left(17)
        };
        mix(entry.term);
        mix(u64::from(entry.kind.wire()));
        entry.data.iter().for_each(|byte| mix(u64::from(*byte)));
    }

    fn snapshot(&self) -> Snapshot {
        let data = Bytes::copy_from_slice(&self.digest.to_be_bytes());
        Snapshot {
            index: self.index,
            term: self.term,
            conf_state: self.members.clone(),
            data,
        }
    }

    fn from_snapshot(snapshot: &Snapshot) -> App {
        let digest = u64::from_be_bytes(snapshot.data[..].try_into().unwrap());
        App {
            index: snapshot.index,
            term: snapshot.term,
            digest,
            members: snapshot.conf_state.clone(),
        }
    }
}

/// What is durable: a snapshot (with which the log begins), the log after it, the hard state; and the application's own
/// file, which lags.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub mark: App,
    pub entries: Vec<Entry>,
    pub app: App,
}

impl Disk {
    pub fn last(&self) -> u64 {
        self.mark.index + self.entries.len() as u64
    }

    /// Whether the entry is stored, in the log or in the snapshot.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        if index <= self.mark.index {
            return true;
        }
        self.entries
            .get((index - self.mark.index - 1) as usize)
            .is_some_and(|entry| entry.term == term)
    }

    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            self.mark = App::from_snapshot(snapshot);
            self.entries.clear();
            if self.app.index < self.mark.index {
                self.app = self.mark.clone();
            }
        }
        self.append(&write.entries);
        if let Some(hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the term never falls");
            if hard_state.term == self.hard_state.term && self.hard_state.vote != NONE {
                assert_eq!(hard_state.vote, self.hard_state.vote, "a vote is never changed");
            }
            assert!(hard_state.commit <= self.last(), "what is committed is there");
            self.hard_state = hard_state;
        }
    }

    fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.mark.index && first.index <= self.last() + 1,
            "no gap before {}",
            first.index
        );
        self.entries
            .truncate((first.index - self.mark.index - 1) as usize);
        self.entries.extend_from_slice(entries);
    }
}

/// A write that the core has asked for and that is not yet durable.
#[derive(Debug, Clone)]
pub struct Write {
    pub number: Option<u64>,
    pub snapshot: Option<Snapshot>,
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
}

/// How a member restarts; see `Restored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// From the snapshot, with everything after it again (etcd 3.5 and 3.6).
    FromSnapshot,
    /// From the application's own file (etcd 3.7).
    FromApplication,
}

/// One member with all that stands around it.
#[derive(Debug)]
pub struct Node {
    pub config: Config,
    pub disk: Disk,
    /// `None` while it is down.
    pub raft: Option<Raft>,
    pub app: App,
    pub writes: VecDeque<Write>,
    pub written: u64,
    /// Messages that wait for a write.
    pub held: Vec<(u64, Message)>,
    /// Messages that may leave.
    pub outbox: Vec<Message>,
    pub to_apply: VecDeque<Entry>,
    pub to_install: Option<Snapshot>,
    pub read_states: Vec<ReadState>,
    pub soft_state: SoftState,
    /// Removals that would leave fewer voters are refused by the application.
    pub voters_min: usize,
}

impl Node {
    /// A member that is down and has this disk.
    pub fn new(config: Config, disk: Disk) -> Node {
        Node {
            config,
            disk,
            raft: None,
            app: App::default(),
            writes: VecDeque::new(),
            written: 0,
            held: Vec::new(),
            outbox: Vec::new(),
            to_apply: VecDeque::new(),
            to_install: None,
            read_states: Vec::new(),
            soft_state: SoftState::default(),
            voters_min: 1,
        }
    }

    /// A first member of a cluster: its log holds one membership change for each voter and learner.
    pub fn founding(config: Config, members: &ConfState) -> Node {
        let mut disk = Disk::default();
        let voters = members.voters.iter().map(|id| (ConfChangeKind::AddNode, *id));
        let learners = members
            .learners
            .iter()
            .map(|id| (ConfChangeKind::AddLearnerNode, *id));
        for (kind, id) in voters.chain(learners) {
            let index = disk.entries.len() as u64 + 1;
            disk.entries.push(Entry {
                kind: EntryKind::ConfChange,
                term: 1,
                index,
                data: encode_change(kind, id),
            });
        }
        disk.hard_state = HardState {
            term: 1,
            vote: NONE,
            commit: disk.last(),
        };
        for entry in &disk.entries {
            disk.app.absorb(entry);
        }
        disk.app.members = members.clone();
        Node::new(config, disk)
    }

    pub fn id(&self) -> u64 {
        self.config.id
    }

    pub fn raft(&mut self) -> &mut Raft {
        self.raft.as_mut().expect("the member is up")
    }

    pub fn start(&mut self, how: Restart) {
        assert!(self.raft.is_none());
        self.app = match how {
            Restart::FromSnapshot => self.disk.mark.clone(),
            Restart::FromApplication => self.disk.app.clone(),
        };
        let restored = Restored {
            hard_state: HardState {
                commit: self.disk.hard_state.commit.max(self.disk.mark.index),
                ..self.disk.hard_state
            },
            conf_state: self.app.members.clone(),
            snapshot_index: self.disk.mark.index,
            snapshot_term: self.disk.mark.term,
            entries: self.disk.entries.clone(),
            applied: self.app.index,
        };
        let raft = Raft::new(self.config.clone(), restored).expect("the disk is whole");
        self.soft_state = raft.soft_state();
        self.raft = Some(raft);
    }

    /// Stops at once. Of the writes on their way the first `whole` reach the disk, and of the next one the first
    /// `torn` entries.
    pub fn crash(&mut self, whole: usize, torn: usize) {
        self.raft = None;
        for _ in 0..whole.min(self.writes.len()) {
            let write = self.writes.pop_front().unwrap();
            self.disk.write(&write);
        }
        if let Some(write) = self.writes.pop_front()
            && write.snapshot.is_none()
        {
            self.disk.append(&write.entries[..torn.min(write.entries.len())]);
        }
        self.writes.clear();
        self.held.clear();
        self.outbox.clear();
        self.to_apply.clear();
        self.to_install = None;
        self.read_states.clear();
        self.written = 0;
        self.soft_state = SoftState::default();
    }

    /// Takes what the core has to say.
    pub fn poll(&mut self) -> Option<Output> {
        let mut output = self.raft().poll()?;
        for outgoing in &mut output.messages {
            if outgoing.message.kind == MessageKind::Snapshot {
                outgoing.message.snapshot = Some(self.app.snapshot());
            }
            if outgoing.after <= self.written {
                self.outbox.push(outgoing.message.clone());
            } else {
                self.held.push((outgoing.after, outgoing.message.clone()));
            }
        }
        if output.write.is_some() || output.hard_state.is_some() {
            self.writes.push_back(Write {
                number: output.write,
                snapshot: output.snapshot.clone(),
                entries: output.entries.clone(),
                hard_state: output.hard_state,
            });
        } else {
            assert!(
                output.entries.is_empty() && output.snapshot.is_none(),
                "what is to be persisted has a number"
            );
        }
        if let Some(snapshot) = &output.snapshot {
            self.to_install = Some(snapshot.clone());
        }
        self.to_apply.extend(output.committed.iter().cloned());
        self.read_states.append(&mut output.read_states.clone());
        if let Some(soft_state) = output.soft_state {
            assert_ne!(soft_state, self.soft_state, "only changes are told");
            self.soft_state = soft_state;
        }
        Some(output)
    }

    /// The oldest write becomes durable.
    pub fn persist(&mut self) -> bool {
        let Some(write) = self.writes.pop_front() else {
            return false;
        };
        self.disk.write(&write);
        if let Some(number) = write.number {
            self.written = number;
            self.raft().persisted(number);
            let (leaving, held) = std::mem::take(&mut self.held)
                .into_iter()
                .partition(|(after, _)| *after <= number);
            self.held = held;
            self.outbox
                .extend(Vec::into_iter(leaving).map(|(_, message)| message));
        }
        true
    }

    /// Applies up to so many entries, or installs a snapshot. Returns whether there was something to do.
    pub fn apply(&mut self, count: usize) -> bool {
        if let Some(snapshot) = self.to_install.take() {
            self.app = App::from_snapshot(&snapshot);
            self.to_apply.retain(|entry| entry.index > snapshot.index);
            self.raft().snapshot_installed(snapshot.index);
            return true;
        }
        let mut any = false;
        for _ in 0..count {
            let Some(entry) = self.to_apply.pop_front() else {
                break;
            };
            any = true;
            self.app.absorb(&entry);
            if entry.kind == EntryKind::ConfChange {
                let change = self.accept(decode_change(&entry.data));
                self.app.members = self
                    .raft()
                    .apply_conf_change(entry.index, change)
                    .expect("the application refused what is fatal");
            }
            self.raft().applied(entry.index);
        }
        any
    }

    /// As etcd does, the application makes changes that it must refuse into no-ops.
    pub fn accept(&self, change: ConfChange) -> ConfChange {
        let voters = &self.app.members.voters;
        let last = voters.len() <= self.voters_min && voters.contains(&change.node_id);
        let removes = matches!(
            change.kind,
            ConfChangeKind::RemoveNode | ConfChangeKind::AddLearnerNode
        );
        if last && removes {
            ConfChange {
                node_id: NONE,
                ..change
            }
        } else {
            change
        }
    }

    /// The application's file catches up, if the log allows it.
    pub fn commit_app(&mut self) {
        let durable = self.raft.as_ref().unwrap().durable_index();
        if self.app.index <= durable && self.app.index > self.disk.app.index {
            self.disk.app = self.app.clone();
        }
    }

    /// A snapshot is taken, and the log before it forgotten but for `keep` entries in memory.
    pub fn compact(&mut self, keep: u64) {
        if self.app.index > self.raft().durable_index() || self.app.index <= self.disk.mark.index {
            return;
        }
        // The snapshot must not be ahead of the commit index that is on disk: as in etcd, where it is written later.
        self.disk.app = self.app.clone();
        self.disk
            .entries
            .drain(..(self.app.index - self.disk.mark.index) as usize);
        self.disk.mark = self.app.clone();
        let index = self.app.index.saturating_sub(keep);
        self.raft().compact(index);
    }
}

pub fn encode_change(kind: ConfChangeKind, id: u64) -> Bytes {
    // As protobuf writes a raftpb.ConfChange: field 2 is the type, field 3 the member.
    Bytes::copy_from_slice(&[0x10, kind.wire(), 0x18, u8::try_from(id).unwrap()])
}

pub fn decode_change(data: &[u8]) -> ConfChange {
    ConfChange {
        kind: ConfChangeKind::from_wire(u64::from(data[1])).unwrap(),
        node_id: u64::from(data[3]),
    }
}
