//! The raft stage: proposals, ticks and acknowledgements in; entries to save and committed entries
//! out. Never does I/O, so a tick never waits for a disk.

mod resign;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};
use api::raftpb;
use bytes::Bytes;
use prost::Message;
use raft::Raft;

use crate::apply::{CommittedBatch, Role};
use crate::archive::Archive;
use crate::config::Config;
use crate::frontend::{AskDecide, Tell};
use crate::heartbeats::Heartbeats;
use crate::log::{Level, LogLine};
use crate::message::{FullDisk, SaveBatch, ToApply, ToDecide, ToFront, ToPersist};
use crate::peer;
use crate::router::Router;
use crate::shared::Shared;
use crate::unwritten::{self, Unwritten};

use resign::NoRoom;

/// Proposals that wait for a leader; more are refused as too many requests.
const WAITING_MAX: usize = 10_000;

/// How much of the leader's log a learner must have before it may become a voter, in percent (etcd:
/// server.go, readyPercentThreshold).
const LEARNER_READY_PERCENT: u64 = 90;

/// Bytes of proposals that may wait for a leader or for this member's own disk; beyond them proposals are
/// refused. In a cluster the others' disks may commit what this one's has not taken: a leader with a frozen disk would
/// fill its memory.
const UNWRITTEN_BYTES_MAX: u64 = 128 << 20;

/// A lone voter keeps this many applied entries in memory: nobody will ask for them.
const LONE_ENTRIES_KEPT: u64 = 64;

/// Entries that a learner may lack and still be waited for.
const LEARNER_LAG_MAX: u64 = 64;

/// How long a promotion waits for a learner that lacks no more than that.
const LEARNER_PATIENCE: Duration = Duration::from_millis(500);

/// Applied entries are dropped from memory at least every so many; where snapshots are more frequent, as
/// often as they are.
const COMPACT_EVERY_MAX: u64 = 1024;

/// The raft stage.
pub struct Decide {
    raft: Raft,
    archive: Archive,
    shared: Arc<Shared>,
    /// What a rule of raft that was broken is told with.
    place: String,
    /// How long a proposal may wait for a leader.
    request_timeout: Duration,
    election_ticks: u64,
    /// Entries kept in memory for members that lag.
    catchup_entries: u64,
    /// How many applied entries more make it worth to drop them from memory.
    compact_every: u64,
    heartbeats: Heartbeats,
    /// The role and the term that were told last.
    told: (raft::Role, u64),
    waiting: VecDeque<Waiting>,
    /// A lone voter campaigns as soon as it has applied what was committed at the start.
    campaign_at: Option<u64>,
    /// The leader that was announced last.
    leader: u64,
    log_full: bool,
    file_full: bool,
    overloaded: bool,
    unwritten: Unwritten,
    no_room: NoRoom,
    /// Promotions that have not been decided about.
    promotions: Vec<Promotion>,
    /// Bytes of the proposals that raft has not been given yet.
    pending_bytes: u64,
    stopping: Stopping,
}

/// What is to be put into the log, and who waits for it.
struct Proposal {
    id: u64,
    kind: raft::EntryKind,
    data: Bytes,
    /// It is dropped where this member does not lead.
    as_leader: bool,
}

/// A promotion, and until when it may wait for the learner's answer.
struct Promotion {
    id: u64,
    change: raftpb::ConfChange,
    refusal: Option<Status>,
    until: Instant,
}

/// A proposal that waits for a leader.
struct Waiting {
    proposal: Proposal,
    until: Instant,
}

/// How far the orderly stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// No proposals are taken; another voter is asked to lead, until this moment at the latest.
    HandingOver {
        until: Instant,
        asked: bool,
    },
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
    /// That of its entry.
    pub(crate) index: u64,
    pub(crate) change: raft::ConfChange,
}

/// What raft wants saved.
#[derive(Clone, Debug)]
pub(crate) struct Unsaved {
    /// The number to report when it is durable.
    pub(crate) write: Option<u64>,
    pub(crate) hard_state: Option<wal::HardState>,
    pub(crate) entries: Vec<wal::Entry>,
    /// The leader's state, of which file and mark are saved before the entries.
    pub(crate) snapshot: Option<Box<raft::Snapshot>>,
    /// What may leave when this and all before it is durable.
    pub(crate) messages: Vec<raft::Message>,
}

impl Unsaved {
    pub(crate) fn is_urgent(&self) -> bool {
        self.write.is_some() || !self.messages.is_empty()
    }
}

impl Decide {
    pub(crate) fn new(mut raft: Raft, archive: Archive, shared: Arc<Shared>, config: &Config) -> Decide {
        let campaign_at = Some(raft.commit_index());
        raft.use_archive();
        Decide {
            raft,
            archive,
            shared,
            place: format!("raft, log in {}", config.wal_dir().display()),
            request_timeout: config.request_timeout(),
            election_ticks: u64::from(config.election_ticks),
            catchup_entries: config.snapshot_catchup_entries,
            compact_every: config.snapshot_count.clamp(1, COMPACT_EVERY_MAX),
            heartbeats: Heartbeats::new(config.tick),
            told: (raft::Role::Follower, 0),
            waiting: VecDeque::new(),
            campaign_at,
            leader: raft::NONE,
            log_full: false,
            file_full: false,
            overloaded: false,
            unwritten: Unwritten::default(),
            no_room: NoRoom::new(u64::from(config.election_ticks)),
            promotions: Vec::new(),
            pending_bytes: 0,
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
        self.promote_waiting(&mut proposals, now, router);
        self.propose(&mut proposals, now, router);
        self.campaign();
        self.hand_over(now, router);
        self.pump(now, router);
        self.compact();
        self.finish_stop(router);
    }

    fn take(&mut self, input: ToDecide, proposals: &mut Vec<Proposal>, now: Instant, router: &dyn Router) {
        match input {
            ToDecide::Ask(asks) => {
                for ask in asks {
                    self.take_ask(ask, proposals, now, router);
                }
            }
            ToDecide::Tick => {
                self.raft.tick();
                self.expire(now, router);
                self.unwritten.tick();
                self.leave_stuck_disk(router);
                self.leave_full_disk(router);
                let raft = &self.raft;
                self.archive.release(|id| raft.reads_archive_for(id), router);
            }
            ToDecide::Persisted(Persisted { write }) => {
                self.raft.persisted(write);
                self.unwritten.ended(write);
                if self.shared.set_durable(self.raft.durable_index()) {
                    router.to_apply(ToApply::Durable);
                }
            }
            ToDecide::Applied { index } => self.raft.applied(index),
            ToDecide::ConfApplied(ConfApplied { index, change }) => {
                if let Err(fatal) = self.raft.apply_conf_change(index, change) {
                    self.shared.fail(router, &self.place, fatal.to_string());
                }
                // A learner that became a voter serves from now on.
                self.publish();
            }
            ToDecide::Peer(message) => self.take_message(*message, router),
            ToDecide::Unreachable { id } => self.raft.report_unreachable(id),
            ToDecide::SnapshotSent { id, arrived } => self.raft.report_snapshot(id, arrived),
            ToDecide::Fetched(fetched) => self.raft.fetched(fetched.wanted, fetched.entries),
            ToDecide::Installed { index } => self.raft.snapshot_installed(index),
            ToDecide::DiskFull(FullDisk::Log, full) => self.log_full = full,
            ToDecide::DiskFull(FullDisk::DataFile, full) => self.file_full = full,
            ToDecide::Overloaded(overloaded) => self.overloaded = overloaded,
            ToDecide::Stop => {
                if self.stopping == Stopping::No {
                    let until = now + self.request_timeout;
                    self.stopping = Stopping::HandingOver { until, asked: false };
                    for waiting in std::mem::take(&mut self.waiting) {
                        self.pending_bytes -= cost(&waiting.proposal.data);
                        self.refuse(waiting.proposal.id, error::STOPPED, router);
                    }
                }
            }
        }
    }

    /// A message of another member. What makes no sense changed nothing; what shows that the cluster
    /// itself is broken ends the member.
    fn take_message(&mut self, message: raft::Message, router: &dyn Router) {
        let from = message.from;
        // Whoever waits for a proposal of another member is told by nobody, and gives up in time.
        if message.kind == raft::MessageKind::Propose && self.refusal().is_some() {
            return;
        }
        match self.raft.step(message) {
            Ok(()) => {}
            Err(error) if error.is_fatal() => self.shared.fail(router, &self.place, error.to_string()),
            Err(raft::Error::PeerMisbehaved { .. }) => router.log(
                LogLine::warn("dropped a message that makes no sense")
                    .with("remote-peer-id", format!("{from:x}")),
            ),
            // Usual around elections and removals: the sender asks again, or gives up.
            Err(_) => {}
        }
    }

    fn take_ask(&mut self, ask: AskDecide, proposals: &mut Vec<Proposal>, now: Instant, router: &dyn Router) {
        match ask {
            AskDecide::Propose { id, data } => {
                self.admit(id, raft::EntryKind::Normal, data, proposals, router);
            }
            AskDecide::ProposeAsLeader { id, term, data } => {
                if !self.leads() || self.raft.term() != term {
                    return self.refuse(id, error::NOT_LEADER, router);
                }
                self.admit_as_leader(id, raft::EntryKind::Normal, data, proposals, router);
            }
            AskDecide::ProposeConfChange { id, change } => {
                let data = Bytes::from(change.encode_to_vec());
                self.admit(id, raft::EntryKind::ConfChange, data, proposals, router);
            }
            AskDecide::Promote { id, change, refusal } => {
                let until = now + LEARNER_PATIENCE;
                self.promotions.push(Promotion {
                    id,
                    change,
                    refusal,
                    until,
                });
            }
            // A dropped read is asked again by the front thread.
            AskDecide::ReadIndex { id } => drop(self.raft.read_index(id)),
            AskDecide::TransferLeader { to } => self.raft.transfer(to),
        }
    }

    fn admit(
        &mut self,
        id: u64,
        kind: raft::EntryKind,
        data: Bytes,
        proposals: &mut Vec<Proposal>,
        router: &dyn Router,
    ) {
        match self.refusal() {
            Some(status) => self.refuse(id, status, router),
            None => {
                self.pending_bytes += cost(&data);
                let as_leader = false;
                proposals.push(Proposal {
                    id,
                    kind,
                    data,
                    as_leader,
                });
            }
        }
    }

    fn admit_as_leader(
        &mut self,
        id: u64,
        kind: raft::EntryKind,
        data: Bytes,
        proposals: &mut Vec<Proposal>,
        router: &dyn Router,
    ) {
        let before = proposals.len();
        self.admit(id, kind, data, proposals, router);
        if let Some(admitted) = proposals.get_mut(before) {
            admitted.as_leader = true;
        }
    }

    /// Whom raft counts as members, and the entries of which one was the last to decide about them: for who holds it
    /// against the log.
    pub fn members(&self) -> (raft::ConfState, std::ops::RangeInclusive<u64>) {
        // Behind a received state, which may not be applied yet, the members are those of the state.
        let before = self.raft.first_index().saturating_sub(1);
        let from = self.raft.applied_index().max(before);
        (self.raft.conf_state(), from..=self.raft.commit_index())
    }

    fn leads(&self) -> bool {
        self.raft.soft_state().role == raft::Role::Leader
    }

    /// What the leader's log has, and what a member has of it, where this one leads.
    fn progress_of(&self, id: u64) -> Option<(u64, u64)> {
        let status = self.raft.status();
        let matched = |id| {
            status
                .peers
                .iter()
                .find(|peer| peer.id == id)
                .map(|peer| peer.matched)
        };
        let has = matched(id).filter(|_| self.leads())?;
        Some((matched(status.id).unwrap_or_default(), has))
    }

    /// Whether a learner is not in sync, but will be as soon as what is on its way to it is answered: a
    /// small log moves by more than a tenth with an entry or two.
    fn is_nearly_ready(&self, learner: u64) -> bool {
        self.progress_of(learner).is_some_and(|(all, has)| {
            has > 0 && has * 100 < all * LEARNER_READY_PERCENT && all - has <= LEARNER_LAG_MAX
        })
    }

    /// Decides about promotions, but for those of learners that have nearly caught up.
    fn promote_waiting(&mut self, proposals: &mut Vec<Proposal>, now: Instant, router: &dyn Router) {
        for promotion in std::mem::take(&mut self.promotions) {
            let learner = promotion.change.node_id();
            if promotion.until > now && self.is_nearly_ready(learner) {
                self.promotions.push(promotion);
                continue;
            }
            let Promotion {
                id, change, refusal, ..
            } = promotion;
            match self.refuse_promotion(learner, refusal, router) {
                Some(status) => self.refuse(id, status, router),
                None => {
                    let data = Bytes::from(change.encode_to_vec());
                    self.admit_as_leader(id, raft::EntryKind::ConfChange, data, proposals, router);
                }
            }
        }
    }

    /// Why a learner may not become a voter now (etcd: server.go, isLearnerReady): only a leader
    /// knows how far it has come. `otherwise` is why not although it has caught up.
    fn refuse_promotion(
        &self,
        learner: u64,
        otherwise: Option<Status>,
        router: &dyn Router,
    ) -> Option<Status> {
        if !self.leads() {
            return Some(error::NOT_LEADER);
        }
        let Some((all, has)) = self.progress_of(learner) else {
            return Some(error::MEMBER_NOT_FOUND);
        };
        if has * 100 < all * LEARNER_READY_PERCENT {
            router.log(
                LogLine::new(Level::Error, "rejecting promote learner: learner is not ready")
                    .with("learner-match", has)
                    .with("leader-match", all)
                    .with("ready-percent-threshold", LEARNER_READY_PERCENT),
            );
            return Some(error::LEARNER_NOT_READY);
        }
        otherwise
    }

    /// Why no proposal is taken now, if none is.
    fn refusal(&self) -> Option<Status> {
        if self.stopping != Stopping::No {
            Some(error::STOPPED)
        } else if self.log_full || self.file_full {
            Some(error::NO_SPACE)
        } else if self.overloaded || self.unwritten.bytes() + self.pending_bytes > UNWRITTEN_BYTES_MAX {
            Some(error::REQUEST_TOO_MANY_REQUESTS)
        } else {
            None
        }
    }

    /// Gives a batch of proposals to raft; without a leader they wait for one.
    fn propose(&mut self, proposals: &mut Vec<Proposal>, now: Instant, router: &dyn Router) {
        if proposals.is_empty() {
            return;
        }
        if self.waiting.is_empty() {
            self.submit(proposals);
        }
        for proposal in proposals.drain(..) {
            let status = match proposal.as_leader {
                // A leader that hands over takes nothing; who is told that it does not lead would ask
                // it again at once.
                true if self.leads() => Some(error::LEADER_CHANGED),
                true => Some(error::NOT_LEADER),
                false if self.waiting.len() >= WAITING_MAX => Some(error::REQUEST_TOO_MANY_REQUESTS),
                false => None,
            };
            if let Some(status) = status {
                self.pending_bytes -= cost(&proposal.data);
                self.refuse(proposal.id, status, router);
                continue;
            }
            let until = now + self.request_timeout;
            self.waiting.push_back(Waiting { proposal, until });
        }
    }

    /// Takes out what raft takes: neighbours of one kind together, the rest stays.
    fn submit(&mut self, proposals: &mut Vec<Proposal>) {
        let mut taken = 0;
        while taken < proposals.len() {
            let normal = |proposal: &&Proposal| proposal.kind == raft::EntryKind::Normal;
            let data: Vec<Bytes> = proposals[taken..]
                .iter()
                .take_while(normal)
                .map(|proposal| proposal.data.clone())
                .collect();
            let count = data.len().max(1);
            let result = match data.is_empty() {
                true => self.raft.propose_conf_change(proposals[taken].data.clone()),
                false => self.raft.propose(data),
            };
            if result.is_err() {
                break;
            }
            taken += count;
        }
        for proposal in proposals.drain(..taken) {
            self.pending_bytes -= cost(&proposal.data);
        }
    }

    /// Refuses what has waited too long for a leader.
    fn expire(&mut self, now: Instant, router: &dyn Router) {
        while self.waiting.front().is_some_and(|waiting| waiting.until <= now) {
            let waiting = self.waiting.pop_front().expect("just looked at");
            self.pending_bytes -= cost(&waiting.proposal.data);
            self.refuse(waiting.proposal.id, error::TIMEOUT, router);
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
                self.send_on(output, now, router);
            }
            for wanted in self.raft.take_wanted() {
                self.archive.fetch(wanted, router);
            }
            if self.waiting.is_empty() || self.raft.soft_state().leader == raft::NONE {
                return;
            }
            let waiting = self.waiting.drain(..);
            let (mut proposals, mut untils): (Vec<Proposal>, Vec<Instant>) =
                waiting.map(|waiting| (waiting.proposal, waiting.until)).unzip();
            self.submit(&mut proposals);
            // The first ones are taken. The others wait no longer than they would have.
            let untils = untils.split_off(untils.len() - proposals.len());
            let left = proposals.into_iter().zip(untils);
            self.waiting = left
                .map(|(proposal, until)| Waiting { proposal, until })
                .collect();
            if !self.waiting.is_empty() {
                return;
            }
        }
    }

    fn send_on(&mut self, output: raft::Output, now: Instant, router: &dyn Router) {
        // Before anything that makes the commit visible leaves this stage.
        self.publish();
        if let Some(soft_state) = output.soft_state {
            self.heartbeats.reset();
            self.announce(soft_state, router);
        }
        let mut waiting = Vec::new();
        for raft::Outgoing { message, after } in output.messages {
            if message.kind == raft::MessageKind::Heartbeat
                && let Some(late) = self.heartbeats.sent(message.to, now)
            {
                self.shared.tallies.heartbeats_late.add(1);
                router.log(late);
            }
            match after {
                0 => peer::send(message, router),
                _ => waiting.push(message),
            }
        }
        if let Some(write) = output.write {
            self.unwritten.began(write, &output.entries);
        }
        if output.write.is_some() || output.hard_state.is_some() || !waiting.is_empty() {
            let unsaved = Unsaved {
                write: output.write,
                hard_state: output.hard_state.map(hard_state_of),
                entries: output.entries.into_iter().map(wal_entry_of).collect(),
                snapshot: output.snapshot.map(Box::new),
                messages: waiting,
            };
            router.to_persist(ToPersist::Save(SaveBatch { output: unsaved }));
        }
        if !output.committed.is_empty() {
            let entries = output.committed;
            router.to_apply(ToApply::Committed(CommittedBatch { entries }));
        }
        for read in output.read_states {
            let (id, index) = (read.context, read.index);
            match self.shared.front_of(id) {
                Some(front) => {
                    router.to_front(front, ToFront::Tell(vec![Tell::ReadIndex { id, index }]));
                }
                None => router.to_apply(ToApply::ReadConfirmed { id, index }),
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

    fn announce(&mut self, soft_state: raft::SoftState, router: &dyn Router) {
        let (id, term, leader) = (self.raft.id(), self.raft.term(), soft_state.leader);
        let before = std::mem::replace(&mut self.leader, leader);
        if leader != raft::NONE && leader != before {
            self.shared.tallies.leader_changes.add(1);
        }
        self.tell_role(soft_state.role, router);
        // The texts of raft's node: raft/node.go.
        let change = match (before, leader) {
            _ if before == leader => None,
            (raft::NONE, _) => Some(format!("elected leader {leader:x}")),
            (_, raft::NONE) => Some(format!("lost leader {before:x}")),
            _ => Some(format!("changed leader from {before:x} to {leader:x}")),
        };
        if let Some(change) = change {
            let text = format!("raft.node: {id:x} {change} at term {term}");
            router.log(LogLine::info(text).with("logger", "raft"));
        }
        router.to_apply(ToApply::Role(Role { term, leader }));
        for front in 0..self.shared.fronts {
            router.to_front(front, ToFront::Tell(vec![Tell::LeaderChanged]));
        }
    }

    /// The texts of raft itself (raft/raft.go). What came and went within one step is not told.
    fn tell_role(&mut self, role: raft::Role, router: &dyn Router) {
        let (id, term) = (self.raft.id(), self.raft.term());
        let before = std::mem::replace(&mut self.told, (role, term));
        if before == self.told {
            return;
        }
        let line = |text: String| router.log(LogLine::info(text).with("logger", "raft"));
        let name = match role {
            raft::Role::Follower => "follower",
            raft::Role::PreCandidate => "pre-candidate",
            raft::Role::Candidate => "candidate",
            raft::Role::Leader => "leader",
        };
        if matches!(role, raft::Role::PreCandidate | raft::Role::Candidate)
            && before.0 == raft::Role::Follower
        {
            line(format!("{id:x} is starting a new election at term {}", before.1));
        }
        line(format!("{id:x} became {name} at term {term}"));
    }

    /// Drops applied entries from memory.
    fn compact(&mut self) {
        let (applied, first) = (self.raft.applied_index(), self.raft.first_index());
        if applied < first + self.compact_every {
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

    /// Ends the stream of entries to Apply when nothing is on its way to the disk any more. In a
    /// larger cluster that may never be so, and what is missing here is with the others.
    fn finish_stop(&mut self, router: &dyn Router) {
        if self.stopping != Stopping::Draining {
            return;
        }
        let alone = self.raft.conf_state().voters == [self.raft.id()];
        if !alone || self.raft.commit_index() == self.raft.last_index() {
            self.stopping = Stopping::Done;
            router.to_apply(ToApply::Stop);
        }
    }
}

fn cost(data: &Bytes) -> u64 {
    unwritten::cost(data.len())
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
