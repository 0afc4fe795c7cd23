//! The raft stage: proposals, ticks and acknowledgements in; entries to save and committed entries
//! out. Never does I/O, so a tick never waits for a disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Code, Status};
use api::raftpb;
use bytes::Bytes;
use prost::Message;
use raft::Raft;

use crate::apply::{CommittedBatch, Role};
use crate::frontend::{AskDecide, Tell};
use crate::log::LogLine;
use crate::message::{FullDisk, SaveBatch, ToApply, ToDecide, ToFront, ToPersist};
use crate::router::Router;
use crate::shared::Shared;

/// Proposals that wait for a leader; more are refused as too many requests.
const WAITING_MAX: usize = 10_000;

/// A lone voter keeps this many applied entries in memory: nobody will ask for them.
const LONE_ENTRIES_KEPT: u64 = 64;

/// How many applied entries more make it worth to drop them from memory.
const COMPACT_EVERY: u64 = 1024;

/// The raft stage.
pub struct Decide {
    raft: Raft,
    shared: Arc<Shared>,
    /// How long a proposal may wait for a leader.
    request_timeout: Duration,
    /// Entries kept in memory for members that lag.
    catchup_entries: u64,
    waiting: VecDeque<Waiting>,
    /// A lone voter campaigns as soon as it has applied what was committed at the start.
    campaign_at: Option<u64>,
    log_full: bool,
    file_full: bool,
    overloaded: bool,
    stopping: Stopping,
}

/// A proposal that waits for a leader.
struct Waiting {
    id: u64,
    data: Bytes,
    until: Instant,
}

/// How far the orderly stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// No proposals are taken; entries on their way to the disk are awaited.
    Draining,
    /// Apply has its last entry.
    Done,
}

/// What Persist has made durable: all writes of raft up to this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    pub(crate) write: u64,
}

/// A configuration change that Apply has decided about, in log order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfApplied {
    pub(crate) change: raft::ConfChange,
}

/// What raft wants saved.
#[derive(Clone, Debug)]
pub(crate) struct Unsaved {
    /// The number to report when it is durable.
    pub(crate) write: Option<u64>,
    pub(crate) hard_state: Option<wal::HardState>,
    pub(crate) entries: Vec<wal::Entry>,
}

impl Unsaved {
    pub(crate) fn is_urgent(&self) -> bool {
        self.write.is_some()
    }
}

impl Decide {
    pub(crate) fn new(
        raft: Raft,
        shared: Arc<Shared>,
        request_timeout: Duration,
        catchup_entries: u64,
    ) -> Decide {
        let campaign_at = Some(raft.commit_index());
        Decide {
            raft,
            shared,
            request_timeout,
            catchup_entries,
            waiting: VecDeque::new(),
            campaign_at,
            log_full: false,
            file_full: false,
            overloaded: false,
            stopping: Stopping::No,
        }
    }

    /// Takes a batch of messages (it may be empty: then only time has passed), and sends on what
    /// follows from them. `inputs` is drained.
    pub fn handle(&mut self, inputs: &mut Vec<ToDecide>, now: Instant, router: &dyn Router) {
        let mut proposals = Vec::new();
        for input in inputs.drain(..) {
            if !matches!(input, ToDecide::Ask(_)) {
                self.propose(&mut proposals, now, router);
            }
            self.take(input, &mut proposals, now, router);
        }
        self.propose(&mut proposals, now, router);
        self.campaign();
        self.pump(now, router);
        self.compact();
        self.finish_stop(router);
    }

    fn take(
        &mut self,
        input: ToDecide,
        proposals: &mut Vec<(u64, Bytes)>,
        now: Instant,
        router: &dyn Router,
    ) {
        match input {
            ToDecide::Ask(asks) => {
                for ask in asks {
                    self.take_ask(ask, proposals, now, router);
                }
            }
            ToDecide::Tick => {
                self.raft.tick();
                self.expire(now, router);
            }
            ToDecide::Persisted(Persisted { write }) => self.raft.persisted(write),
            ToDecide::Applied { index } => self.raft.applied(index),
            ToDecide::ConfApplied(ConfApplied { change }) => {
                if let Err(fatal) = self.raft.apply_conf_change(change) {
                    self.shared.fail(router, "raft", fatal.to_string());
                }
            }
            ToDecide::DiskFull(FullDisk::Log, full) => self.log_full = full,
            ToDecide::DiskFull(FullDisk::DataFile, full) => self.file_full = full,
            ToDecide::Overloaded(overloaded) => self.overloaded = overloaded,
            ToDecide::Stop => {
                if self.stopping == Stopping::No {
                    self.stopping = Stopping::Draining;
                    for waiting in std::mem::take(&mut self.waiting) {
                        self.refuse(waiting.id, error::STOPPED, router);
                    }
                }
            }
        }
    }

    fn take_ask(
        &mut self,
        ask: AskDecide,
        proposals: &mut Vec<(u64, Bytes)>,
        now: Instant,
        router: &dyn Router,
    ) {
        match ask {
            AskDecide::Propose { id, data } => match self.refusal() {
                Some(status) => self.refuse(id, status, router),
                None => proposals.push((id, data)),
            },
            AskDecide::ProposeConfChange { id, change } => {
                self.propose(proposals, now, router);
                self.propose_conf_change(id, &change, router);
            }
            // A dropped read is asked again by the front thread.
            AskDecide::ReadIndex { id } => drop(self.raft.read_index(id)),
            AskDecide::TransferLeader { to } => self.raft.transfer(to),
        }
    }

    /// Why no proposal is taken now, if none is.
    fn refusal(&self) -> Option<Status> {
        if self.stopping != Stopping::No {
            Some(error::STOPPED)
        } else if self.log_full || self.file_full {
            Some(error::NO_SPACE)
        } else if self.overloaded {
            Some(error::REQUEST_TOO_MANY_REQUESTS)
        } else {
            None
        }
    }

    /// Gives a batch of proposals to raft; without a leader they wait for one.
    fn propose(&mut self, proposals: &mut Vec<(u64, Bytes)>, now: Instant, router: &dyn Router) {
        if proposals.is_empty() {
            return;
        }
        if self.waiting.is_empty() {
            let data = proposals.iter().map(|(_, data)| data.clone()).collect();
            if self.raft.propose(data).is_ok() {
                proposals.clear();
                return;
            }
        }
        for (id, data) in proposals.drain(..) {
            if self.waiting.len() >= WAITING_MAX {
                self.refuse(id, error::REQUEST_TOO_MANY_REQUESTS, router);
                continue;
            }
            let until = now + self.request_timeout;
            self.waiting.push_back(Waiting { id, data, until });
        }
    }

    fn propose_conf_change(&mut self, id: u64, change: &raftpb::ConfChange, router: &dyn Router) {
        if let Some(status) = self.refusal() {
            return self.refuse(id, status, router);
        }
        // What changes the voters needs the transport between members.
        if change.r#type() != raftpb::ConfChangeType::ConfChangeUpdateNode {
            let status = Status::new(
                Code::Unimplemented,
                "etcdserver: members cannot be added, promoted or removed: this release serves one-member clusters only",
            );
            return self.refuse(id, status, router);
        }
        let data = Bytes::from(change.encode_to_vec());
        if self.raft.propose_conf_change(data).is_err() {
            self.refuse(id, error::NO_LEADER, router);
        }
    }

    /// Refuses what has waited too long for a leader.
    fn expire(&mut self, now: Instant, router: &dyn Router) {
        while self.waiting.front().is_some_and(|waiting| waiting.until <= now) {
            let waiting = self.waiting.pop_front().expect("just looked at");
            self.refuse(waiting.id, error::TIMEOUT, router);
        }
    }

    /// Tells who waits for a proposal that it will never be in the log.
    fn refuse(&self, id: u64, status: Status, router: &dyn Router) {
        match self.shared.front_of(id) {
            Some(front) => {
                let tell = Tell::Done {
                    id,
                    result: Err(status),
                };
                router.to_front(front, ToFront::Tell(vec![tell]));
            }
            None => router.to_apply(ToApply::Dropped { id }),
        }
    }

    /// A lone voter needs no election timeout, but must know first that it is the only one: the
    /// changes that were committed at the start must be applied.
    fn campaign(&mut self) {
        let Some(commit) = self.campaign_at else { return };
        if self.raft.applied_index() >= commit && self.raft.conf_state().voters == [self.raft.id()] {
            self.campaign_at = None;
            self.raft.campaign();
        }
    }

    /// Sends on what raft has for others, until it has nothing more.
    fn pump(&mut self, now: Instant, router: &dyn Router) {
        loop {
            while let Some(output) = self.raft.poll() {
                self.send_on(output, router);
            }
            if self.waiting.is_empty() || self.raft.soft_state().leader == raft::NONE {
                return;
            }
            let mut proposals = Vec::with_capacity(self.waiting.len());
            proposals.extend(self.waiting.drain(..).map(|waiting| (waiting.id, waiting.data)));
            self.propose(&mut proposals, now, router);
            if !self.waiting.is_empty() {
                return;
            }
        }
    }

    fn send_on(&mut self, output: raft::Output, router: &dyn Router) {
        // Before anything that makes the commit visible leaves this stage.
        self.publish();
        if let Some(soft_state) = output.soft_state {
            self.announce(soft_state, router);
        }
        if output.write.is_some() || output.hard_state.is_some() {
            let unsaved = Unsaved {
                write: output.write,
                hard_state: output.hard_state.map(hard_state_of),
                entries: output.entries.into_iter().map(wal_entry_of).collect(),
            };
            router.to_persist(ToPersist::Save(SaveBatch { output: unsaved }));
        }
        if !output.committed.is_empty() {
            let entries = output.committed;
            router.to_apply(ToApply::Committed(CommittedBatch { entries }));
        }
        for read in output.read_states {
            if let Some(front) = self.shared.front_of(read.context) {
                let tell = Tell::ReadIndex {
                    id: read.context,
                    index: read.index,
                };
                router.to_front(front, ToFront::Tell(vec![tell]));
            }
        }
    }

    fn publish(&self) {
        let pulse = &self.shared.pulse;
        pulse.set_leader(self.raft.term(), self.raft.soft_state().leader);
        pulse.set_committed(self.raft.commit_index());
        pulse.set_read_gate(self.raft.lone_commit().is_some());
        pulse.set_learner(self.raft.is_learner());
    }

    fn announce(&self, soft_state: raft::SoftState, router: &dyn Router) {
        let (id, term, leader) = (self.raft.id(), self.raft.term(), soft_state.leader);
        if leader != raft::NONE {
            router.log(LogLine::info(format!(
                "raft.node: {id:x} elected leader {leader:x} at term {term}"
            )));
        }
        router.to_apply(ToApply::Role(Role { term, leader }));
        for front in 0..self.shared.fronts {
            router.to_front(front, ToFront::Tell(vec![Tell::LeaderChanged]));
        }
    }

    /// Drops applied entries from memory.
    fn compact(&mut self) {
        let (applied, first) = (self.raft.applied_index(), self.raft.first_index());
        if applied < first + COMPACT_EVERY {
            return;
        }
        let state = self.raft.conf_state();
        let alone = state.voters.len() == 1 && state.learners.is_empty();
        let kept = if alone {
            LONE_ENTRIES_KEPT
        } else {
            self.catchup_entries
        };
        let target = applied.saturating_sub(kept);
        if target >= first {
            self.raft.compact(target);
        }
    }

    /// Ends the stream of entries to Apply when nothing is on its way to the disk any more.
    fn finish_stop(&mut self, router: &dyn Router) {
        if self.stopping == Stopping::Draining && self.raft.commit_index() == self.raft.last_index() {
            self.stopping = Stopping::Done;
            router.to_apply(ToApply::Stop);
        }
    }
}

fn hard_state_of(state: raft::HardState) -> wal::HardState {
    wal::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
}

fn wal_entry_of(entry: raft::Entry) -> wal::Entry {
    wal::Entry {
        kind: match entry.kind {
            raft::EntryKind::Normal => wal::EntryKind::Normal,
            raft::EntryKind::ConfChange => wal::EntryKind::ConfChange,
            raft::EntryKind::ConfChangeV2 => wal::EntryKind::ConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data,
    }
}
