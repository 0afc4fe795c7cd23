//! The member's state machine and its doors: what goes in, what comes out.
//!
//! The rules behind the doors stand in their own files: `election`, `replication`, `reading`, `membership`; `step` tells
//! messages apart.

use bytes::Bytes;

use crate::archive::Wanted;
use crate::config::{Config, Restored};
use crate::error::{Dropped, Error};
use crate::jitter::Jitter;
use crate::log::Log;
use crate::message::{ConfState, Entry, EntryKind, HardState, Message, MessageKind, NONE};
use crate::output::{Outgoing, Output, PeerStatus, ReadState, Role, SoftState, Status};
use crate::progress::{Inflights, Progress};
use crate::reads::Reads;

/// The greatest term and index that are believed. Beyond it a number is garbage, and below it sums cannot overflow.
pub(crate) const NUMBER_MAX: u64 = u64::MAX >> 2;

/// One member's part in consensus.
///
/// Call [`Raft::poll`] after calls that go in, until it returns `None`; several calls may go in before one poll, and
/// then share its write. Nothing here blocks or fails for reasons outside the arguments.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) term: u64,
    pub(crate) vote: u64,
    /// The term of the last hard state that is durable. Only in it may this member lead.
    pub(crate) durable_term: u64,
    pub(crate) leader: u64,
    pub(crate) role: Role,
    pub(crate) log: Log,
    /// The members, sorted by id. Voters are those that are not learners.
    pub(crate) peers: Vec<Progress>,
    /// The snapshot from the leader that the members were taken from last.
    pub(crate) members_index: u64,

    /// Ticks since the last election timeout, or since the leader was last heard of.
    pub(crate) election_elapsed: u32,
    pub(crate) heartbeat_elapsed: u32,
    /// The election timeout with its jitter, drawn anew with each change of role or term.
    pub(crate) election_timeout: u32,
    jitter: Jitter,

    /// To whom leadership is being transferred.
    pub(crate) transferee: u64,
    /// A membership change may be in the log up to here; another one must wait until it is applied.
    pub(crate) pending_conf_index: u64,
    /// Bytes of data that this leader took in its term and that are not committed.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) reads: Reads,
    /// For finding what a majority has reached, without allocating.
    pub(crate) scratch: Vec<u64>,

    /// Messages to go out; true: only when all that is now to be persisted is durable.
    pub(crate) messages: Vec<(Message, bool)>,
    pub(crate) read_states: Vec<ReadState>,
    /// Whether the caller reads from the disk what members lack.
    pub(crate) archive: bool,
    /// What it is to read.
    pub(crate) wanted: Vec<Wanted>,
    /// What the last output said, to tell changes.
    told_hard_state: HardState,
    told_soft_state: SoftState,
}

impl Raft {
    /// A member with what it finds on its disk. It starts as a follower without a leader.
    pub fn new(config: Config, restored: Restored) -> Result<Raft, Error> {
        config.validate()?;
        restored.validate()?;
        let Restored {
            hard_state,
            conf_state,
            snapshot_index,
            snapshot_term,
            entries,
            applied,
        } = restored;
        let applied = applied.max(snapshot_index);
        let commit = hard_state.commit.max(applied);
        let last_term = entries.last().map_or(snapshot_term, |entry| entry.term);
        let (term, vote) = if hard_state.term < last_term {
            (last_term, NONE)
        } else {
            (hard_state.term, hard_state.vote)
        };
        let mut raft = Raft {
            term,
            vote,
            durable_term: hard_state.term,
            leader: NONE,
            role: Role::Follower,
            log: Log::new((snapshot_index, snapshot_term), entries, commit, applied),
            peers: Vec::new(),
            members_index: 0,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            election_timeout: 0,
            jitter: Jitter::new(config.seed),
            transferee: NONE,
            pending_conf_index: 0,
            uncommitted_bytes: 0,
            reads: Reads::default(),
            scratch: Vec::new(),
            messages: Vec::new(),
            read_states: Vec::new(),
            archive: false,
            wanted: Vec::new(),
            told_hard_state: hard_state,
            told_soft_state: SoftState::default(),
            config,
        };
        raft.restore_members(&conf_state);
        raft.become_follower(raft.term, NONE);
        raft.check();
        Ok(raft)
    }

    /// A member of a cluster that begins: for each member (id, encoded membership change) an entry of term 1, all
    /// committed and the changes already in effect for the core (go: bootstrap.go). The first [`Output`] holds them and
    /// the hard state {1, 0, n} to persist; then they come as committed entries, whose changes may be given to
    /// [`Raft::apply_conf_change`] again. [`Raft::campaign`] works once they are applied.
    pub fn bootstrap(config: Config, members: Vec<(u64, Bytes)>) -> Result<Raft, Error> {
        if members.is_empty() {
            return Err(Error::Config("a cluster begins with at least one member"));
        }
        let mut raft = Raft::new(config, Restored::default())?;
        let mut conf_state = ConfState::default();
        raft.become_follower(1, NONE);
        for (place, (id, data)) in members.into_iter().enumerate() {
            if id == NONE || conf_state.voters.contains(&id) {
                return Err(Error::Config("the first members need ids of their own"));
            }
            conf_state.voters.push(id);
            raft.log.append(Entry {
                kind: EntryKind::ConfChange,
                term: 1,
                index: place as u64 + 1,
                data,
            });
        }
        raft.log.commit_to(raft.log.last());
        raft.restore_members(&conf_state);
        raft.check();
        Ok(raft)
    }

    /// One unit of time has passed.
    pub fn tick(&mut self) {
        match self.role {
            Role::Leader => self.tick_leader(),
            _ => self.tick_election(),
        }
        self.check();
    }

    /// A message has come from another member. Errors that are not [`Error::is_fatal`] mean that it was ignored.
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        let result = self.handle(message);
        self.check();
        result
    }

    /// Campaigns at once, without waiting for the election timeout. The only voter is elected as soon as its vote is
    /// durable. Nothing happens on a leader, a learner, or while membership changes are committed and not applied.
    pub fn campaign(&mut self) {
        self.hup(false);
        self.check();
    }

    /// Proposes data for the log, in order, as one batch; forwarded by followers. Taken means no more than that: the
    /// entries may still be lost with the leader.
    pub fn propose(&mut self, data: Vec<Bytes>) -> Result<(), Dropped> {
        if data.is_empty() {
            return Ok(());
        }
        let entries = data
            .into_iter()
            .map(|data| Entry {
                data,
                ..Entry::default()
            })
            .collect();
        let result = self.handle_propose(self.config.id, entries);
        self.check();
        result
    }

    /// Proposes an encoded membership change. While another one is not yet applied, the leader replaces it by an
    /// empty entry, as Go does.
    pub fn propose_conf_change(&mut self, data: Bytes) -> Result<(), Dropped> {
        let entry = Entry {
            kind: EntryKind::ConfChange,
            data,
            ..Entry::default()
        };
        let result = self.handle_propose(self.config.id, vec![entry]);
        self.check();
        result
    }

    /// Asks for an index at which a read is linearizable; the answer is a [`ReadState`] with the same context, or
    /// never comes (lost messages, lost leader): ask again with another context.
    pub fn read_index(&mut self, context: u64) -> Result<(), Dropped> {
        let result = self.handle_read_index(self.config.id, Bytes::copy_from_slice(&context.to_be_bytes()));
        self.check();
        result
    }

    /// If this member leads, is the only voter, and has committed in its term: the commit index, at which any read
    /// that begins now is linearizable without further ado. `None`: use [`Raft::read_index`].
    pub fn lone_commit(&self) -> Option<u64> {
        (self.role == Role::Leader && self.is_lone_voter() && self.has_committed_in_term())
            .then(|| self.log.commit())
    }

    /// All writes up to this number are durable ([`Output::write`]).
    pub fn persisted(&mut self, write: u64) {
        if let Some(term) = self.log.persisted(write) {
            self.durable_term = term;
            match self.role {
                Role::Leader => self.acknowledge_own_log(),
                Role::Candidate => self.acknowledge_own_vote(),
                _ => {}
            }
        }
        self.check();
    }

    /// The application has applied all entries up to this index.
    pub fn applied(&mut self, index: u64) {
        self.log.applied_to(index);
        self.check();
    }

    /// The application has installed the snapshot of [`Output::snapshot`] with this index.
    pub fn snapshot_installed(&mut self, index: u64) {
        self.log.installed(index);
        self.check();
    }

    /// Forgets entries up to this index; at most what is applied and durable goes. Returns what the log now begins
    /// after.
    pub fn compact(&mut self, index: u64) -> u64 {
        let base = self.log.compact(index);
        self.check();
        base
    }

    /// What there is to do now, if anything.
    pub fn poll(&mut self) -> Option<Output> {
        // The only voter's word is the commit itself, so nobody else could give an entry back that its disk lost.
        let own_disk = self.is_lone_voter();
        let hard_state = self.hard_state();
        let soft_state = self.soft_state();
        let idle = self.messages.is_empty()
            && self.read_states.is_empty()
            && hard_state == self.told_hard_state
            && soft_state == self.told_soft_state
            && !self.log.has_unpersisted()
            && !self.log.has_committed(own_disk);
        if idle {
            return None;
        }
        let (snapshot, entries) = self.log.take_unpersisted();
        let told = std::mem::replace(&mut self.told_hard_state, hard_state);
        let must_sync = snapshot.is_some()
            || !entries.is_empty()
            || (hard_state.term, hard_state.vote) != (told.term, told.vote);
        let write = must_sync.then(|| self.log.begin_write(hard_state.term));
        let after = self.log.unfinished_write();
        let messages = std::mem::take(&mut self.messages)
            .into_iter()
            .map(|(message, waits)| Outgoing {
                message,
                after: if waits { after } else { 0 },
            })
            .collect();
        let output = Output {
            write,
            snapshot,
            entries,
            hard_state: (hard_state != told).then_some(hard_state),
            messages,
            committed: self.log.take_committed(own_disk, self.config.committed_bytes_max),
            read_states: std::mem::take(&mut self.read_states),
            soft_state: (soft_state != self.told_soft_state).then_some(soft_state),
        };
        self.told_soft_state = soft_state;
        self.check();
        Some(output)
    }

    /// This member.
    pub fn id(&self) -> u64 {
        self.config.id
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Leader and role.
    pub fn soft_state(&self) -> SoftState {
        SoftState {
            leader: self.leader,
            role: self.role,
        }
    }

    /// Term, vote and commit.
    pub fn hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.commit(),
        }
    }

    /// How far the log is committed.
    pub fn commit_index(&self) -> u64 {
        self.log.commit()
    }

    /// How far the application has applied.
    pub fn applied_index(&self) -> u64 {
        self.log.applied()
    }

    /// How far the log is on this member's own disk.
    pub fn durable_index(&self) -> u64 {
        self.log.durable()
    }

    /// The first entry in memory (one past the last compaction or snapshot).
    pub fn first_index(&self) -> u64 {
        self.log.first()
    }

    /// The last entry.
    pub fn last_index(&self) -> u64 {
        self.log.last()
    }

    /// The term of an entry in memory, or of the one before the first.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.log.term(index)
    }

    /// Entries in memory from `from` on: at least one if there is one, then as many as `bytes_max` allows.
    pub fn entries(&self, from: u64, bytes_max: u64) -> Vec<Entry> {
        self.log.from(from.max(self.log.first()), bytes_max)
    }

    /// The membership now in effect.
    pub fn conf_state(&self) -> ConfState {
        let ids = |learner| {
            self.peers
                .iter()
                .filter(|peer| peer.learner == learner)
                .map(|peer| peer.id)
                .collect()
        };
        ConfState {
            voters: ids(false),
            learners: ids(true),
            ..ConfState::default()
        }
    }

    /// Whether this member is a learner.
    pub fn is_learner(&self) -> bool {
        self.peer(self.config.id).is_some_and(|peer| peer.learner)
    }

    /// A look inside.
    pub fn status(&self) -> Status {
        let peers = self.peers.iter().map(|peer| PeerStatus {
            id: peer.id,
            learner: peer.learner,
            matched: peer.matched,
            next: peer.next,
            state: peer.state,
            recent_active: peer.recent_active,
            paused: peer.is_paused(),
            pending_snapshot: peer.pending_snapshot,
            inflight_messages: peer.inflights.len(),
        });
        Status {
            id: self.config.id,
            hard_state: self.hard_state(),
            soft_state: self.soft_state(),
            applied: self.log.applied(),
            last_index: self.log.last(),
            transferee: self.transferee,
            election_timeout: self.election_timeout,
            peers: peers.collect(),
        }
    }

    pub(crate) fn peer(&self, id: u64) -> Option<&Progress> {
        self.place(id).map(|place| &self.peers[place])
    }

    /// Where a member stands in `peers`.
    pub(crate) fn place(&self, id: u64) -> Option<usize> {
        self.peers.binary_search_by_key(&id, |peer| peer.id).ok()
    }

    pub(crate) fn new_progress(&self, id: u64, learner: bool) -> Progress {
        let inflights = Inflights::new(self.config.inflight_messages_max, self.config.inflight_bytes_max);
        Progress::new(id, learner, self.log.last(), inflights)
    }

    /// Whether this member is the only voter.
    pub(crate) fn is_lone_voter(&self) -> bool {
        let mut voters = self.peers.iter().filter(|peer| !peer.learner);
        voters.next().is_some_and(|peer| peer.id == self.config.id) && voters.next().is_none()
    }

    /// What a majority of the voters has reached of some number.
    pub(crate) fn reached(&mut self, number: impl Fn(&Progress) -> u64) -> u64 {
        self.scratch.clear();
        self.scratch
            .extend(self.peers.iter().filter(|peer| !peer.learner).map(number));
        crate::quorum::reached(&mut self.scratch)
    }

    /// Draws a new election timeout from `[n, 2n - 1]` ticks.
    pub(crate) fn draw_election_timeout(&mut self) {
        self.election_timeout = self.config.election_ticks + self.jitter.below(self.config.election_ticks);
    }

    /// Sends a message that needs nothing of this member's disk.
    ///
    /// A leader's appends are among them: its own disk is one of the quorum's and counts when it is ready. So are echoes
    /// of heartbeats: they promise nothing that a restart could break.
    pub(crate) fn send(&mut self, message: Message) {
        debug_assert_ne!(message.to, self.config.id, "nobody writes to himself");
        self.messages.push((message, false));
    }

    /// Sends a message that promises something: that entries are stored, or whom this member votes for. It leaves after
    /// all that is now to be persisted.
    ///
    /// A request for votes is such a promise too: it says "I vote for myself in this term". (Go's asynchronous mode lets
    /// it leave at once; then a candidate that is elected by others, appends, and crashes before its own disk knows of
    /// the term could lead the same term again with another log. etcd, which writes first, never does.)
    pub(crate) fn send_durably(&mut self, message: Message) {
        debug_assert_ne!(message.to, self.config.id, "nobody writes to himself");
        self.messages.push((message, true));
    }

    /// A message of this member in its term.
    pub(crate) fn message(&self, kind: MessageKind, to: u64) -> Message {
        Message::new(kind, to, self.config.id, self.term)
    }

    /// What must hold between any two calls, in debug builds.
    pub(crate) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        self.log.check();
        assert!(
            self.durable_term <= self.term,
            "term {} durable {}",
            self.term,
            self.durable_term
        );
        assert!(
            self.log.last_term() <= self.term,
            "an entry is of a later term than {}",
            self.term
        );
        assert!(
            self.peers.is_sorted_by(|a, b| a.id < b.id),
            "members are sorted and differ"
        );
        match self.role {
            Role::Leader => {
                assert_eq!(self.leader, self.config.id, "a leader follows itself");
                assert_eq!(
                    self.durable_term, self.term,
                    "nobody leads before its term is durable"
                );
                for peer in &self.peers {
                    assert!(
                        peer.matched < peer.next,
                        "matched {} next {}",
                        peer.matched,
                        peer.next
                    );
                    assert!(
                        peer.matched <= self.log.last(),
                        "{:x} matches what is not there",
                        peer.id
                    );
                }
            }
            Role::Candidate => assert_eq!(self.vote, self.config.id, "a candidate votes for itself"),
            Role::PreCandidate => assert_eq!(self.leader, NONE, "a pre-candidate has no leader"),
            Role::Follower => assert_ne!(self.leader, self.config.id, "a follower does not follow itself"),
        }
    }
}
