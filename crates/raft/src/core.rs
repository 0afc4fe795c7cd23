//! The member's state machine and its doors: what goes in, what comes out.

use bytes::Bytes;

use crate::config::{Config, Restored};
use crate::error::{Dropped, Error, Fatal};
use crate::message::{ConfChange, ConfState, Entry, HardState, Message, Snapshot};

/// The greatest term and index that are believed. Beyond it a number is garbage, and below it sums cannot overflow.
pub(crate) const NUMBER_MAX: u64 = u64::MAX >> 2;

/// What a member is in its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks to be elected.
    Candidate,
    /// Leads.
    Leader,
}

/// What changes often and need not be remembered over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SoftState {
    /// Who leads; [`crate::NONE`] if nobody is known.
    pub leader: u64,
    /// What this member is.
    pub role: Role,
}

/// The answer to a read request of this member: a read may be served once `index` is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// As given to [`Raft::read_index`].
    pub context: u64,
    /// What must be applied first.
    pub index: u64,
}

/// A message to another member, and when it may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The message.
    pub message: Message,
    /// The write that must be durable first, with all before it; 0 if the message may leave at once. The message
    /// itself need not wait for a turn through [`Raft::persisted`]: whoever syncs may send it.
    pub after: u64,
}

/// Work for the caller, from [`Raft::poll`]. Empty parts mean nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// `Some` if `snapshot`, `entries` or the term or vote in `hard_state` must be made durable: sync, then call
    /// [`Raft::persisted`] with this number. Numbers grow by one from 1. `None` with a `hard_state`: write it in its
    /// order, no sync, no call (only the commit index moved).
    pub write: Option<u64>,
    /// A snapshot to save before `entries`, to install into the application, and then to report by
    /// [`Raft::snapshot_installed`]. Whatever the log held before is void.
    pub snapshot: Option<Snapshot>,
    /// Entries to append to the log; if the first of them has an index that is already there, it and all after it
    /// are replaced.
    pub entries: Vec<Entry>,
    /// To be written after the entries.
    pub hard_state: Option<HardState>,
    /// Messages in the order in which they should leave.
    pub messages: Vec<Outgoing>,
    /// Entries to apply, in order, each once. On a member of a larger cluster they may be on other disks before they
    /// are on its own: what is made of them must not become durable before [`Raft::durable_index`] has reached them.
    /// The only voter gets them after [`Raft::persisted`].
    pub committed: Vec<Entry>,
    /// Reads that may be served.
    pub read_states: Vec<ReadState>,
    /// The new leader or role, if one of them changed.
    pub soft_state: Option<SoftState>,
}

/// How the leader sends to a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PeerState {
    /// One message at a time, to find where the logs agree.
    #[default]
    Probe,
    /// A stream of messages without waiting for answers.
    Replicate,
    /// Nothing until a snapshot has arrived or failed.
    Snapshot,
}

/// What the leader knows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub id: u64,
    /// Whether it is a learner.
    pub learner: bool,
    /// Its log is known to agree up to here.
    pub matched: u64,
    /// The next entry to send.
    pub next: u64,
    /// How it is sent to.
    pub state: PeerState,
    /// Whether it was heard of since the last check of the quorum.
    pub recent_active: bool,
    /// Whether nothing is sent until it answers.
    pub paused: bool,
    /// The index of the snapshot on its way; 0 if none.
    pub pending_snapshot: u64,
    /// Append messages on their way.
    pub inflight_messages: usize,
}

/// A look at a member, for people, metrics and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The member.
    pub id: u64,
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// Leader and role.
    pub soft_state: SoftState,
    /// How far it has applied.
    pub applied: u64,
    /// The last entry.
    pub last_index: u64,
    /// To whom leadership is being transferred; [`crate::NONE`] if to nobody.
    pub transferee: u64,
    /// The members, sorted by id. Progress is meaningful on a leader only.
    pub peers: Vec<PeerStatus>,
}

/// One member's part in consensus.
///
/// Call [`Raft::poll`] after calls that go in, until it returns `None`; several calls may go in before one poll, and
/// then share its write. Nothing here blocks or fails for reasons outside the arguments.
#[derive(Debug)]
pub struct Raft {
    config: Config,
}

impl Raft {
    /// A member with what it finds on its disk. It starts as a follower without a leader.
    pub fn new(config: Config, restored: Restored) -> Result<Raft, Error> {
        config.validate()?;
        restored.validate()?;
        Ok(Raft { config })
    }

    /// A member of a cluster that begins: for each member (id, encoded membership change) an entry of term 1, all
    /// committed and the changes already in effect for the core (go: bootstrap.go). The first [`Output`] holds them and
    /// the hard state {1, 0, n} to persist; then they come as committed entries, whose changes may be given to
    /// [`Raft::apply_conf_change`] again. [`Raft::campaign`] works once they are applied.
    pub fn bootstrap(config: Config, members: Vec<(u64, Bytes)>) -> Result<Raft, Error> {
        let _ = members;
        Raft::new(config, Restored::default())
    }

    /// One unit of time has passed.
    pub fn tick(&mut self) {
        todo!()
    }

    /// A message has come from another member. Errors that are not [`Error::is_fatal`] mean that it was ignored.
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        let _ = message;
        todo!()
    }

    /// Campaigns at once, without waiting for the election timeout. The only voter is elected as soon as its vote is
    /// durable. Nothing happens on a leader, a learner, or while membership changes are committed and not applied.
    pub fn campaign(&mut self) {
        todo!()
    }

    /// Proposes data for the log, in order, as one batch; forwarded by followers. Taken means no more than that: the
    /// entries may still be lost with the leader.
    pub fn propose(&mut self, data: Vec<Bytes>) -> Result<(), Dropped> {
        let _ = data;
        todo!()
    }

    /// Proposes an encoded membership change. While another one is not yet applied, the leader replaces it by an
    /// empty entry, as Go does.
    pub fn propose_conf_change(&mut self, data: Bytes) -> Result<(), Dropped> {
        let _ = data;
        todo!()
    }

    /// Asks for an index at which a read is linearizable; the answer is a [`ReadState`] with the same context, or
    /// never comes (lost messages, lost leader): ask again with another context.
    pub fn read_index(&mut self, context: u64) -> Result<(), Dropped> {
        let _ = context;
        todo!()
    }

    /// If this member leads, is the only voter, and has committed in its term: the commit index, at which any read
    /// that begins now is linearizable without further ado. `None`: use [`Raft::read_index`].
    pub fn lone_commit(&self) -> Option<u64> {
        todo!()
    }

    /// All writes up to this number are durable ([`Output::write`]).
    pub fn persisted(&mut self, write: u64) {
        let _ = write;
        todo!()
    }

    /// The application has applied all entries up to this index.
    pub fn applied(&mut self, index: u64) {
        let _ = index;
        todo!()
    }

    /// Takes a committed change into effect and returns the new membership. To be called for each committed
    /// [`crate::EntryKind::ConfChange`] entry before [`Raft::applied`] covers it; for one that the application
    /// refused, with `node_id` [`crate::NONE`].
    pub fn apply_conf_change(&mut self, change: ConfChange) -> Result<ConfState, Fatal> {
        let _ = change;
        todo!()
    }

    /// The application has installed the snapshot of [`Output::snapshot`] with this index.
    pub fn snapshot_installed(&mut self, index: u64) {
        let _ = index;
        todo!()
    }

    /// Hands leadership to a member, if this one leads or knows who does. It ends when another leads, or after an
    /// election timeout.
    pub fn transfer(&mut self, to: u64) {
        let _ = to;
        todo!()
    }

    /// The last message to a member could not be sent.
    pub fn report_unreachable(&mut self, id: u64) {
        let _ = id;
        todo!()
    }

    /// A snapshot message to a member has left completely, or not.
    pub fn report_snapshot(&mut self, id: u64, sent: bool) {
        let _ = (id, sent);
        todo!()
    }

    /// Forgets entries up to this index; at most what is applied and durable goes. Returns what the log now begins
    /// after.
    pub fn compact(&mut self, index: u64) -> u64 {
        let _ = index;
        todo!()
    }

    /// What there is to do now, if anything.
    pub fn poll(&mut self) -> Option<Output> {
        todo!()
    }

    /// This member.
    pub fn id(&self) -> u64 {
        self.config.id
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        todo!()
    }

    /// Leader and role.
    pub fn soft_state(&self) -> SoftState {
        todo!()
    }

    /// Term, vote and commit.
    pub fn hard_state(&self) -> HardState {
        todo!()
    }

    /// How far the log is committed.
    pub fn commit_index(&self) -> u64 {
        todo!()
    }

    /// How far the application has applied.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }

    /// How far the log is on this member's own disk.
    pub fn durable_index(&self) -> u64 {
        todo!()
    }

    /// The first entry in memory (one past the last compaction or snapshot).
    pub fn first_index(&self) -> u64 {
        todo!()
    }

    /// The last entry.
    pub fn last_index(&self) -> u64 {
        todo!()
    }

    /// The term of an entry in memory, or of the one before the first.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        let _ = index;
        todo!()
    }

    /// The membership now in effect.
    pub fn conf_state(&self) -> ConfState {
        todo!()
    }

    /// Whether this member is a learner.
    pub fn is_learner(&self) -> bool {
        todo!()
    }

    /// A look inside.
    pub fn status(&self) -> Status {
        todo!()
    }
}
