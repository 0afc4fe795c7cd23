//! What comes out of a member: work for the caller, and looks at its state.

use crate::message::{Entry, HardState, Message, Snapshot};

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
    /// As given to [`crate::Raft::read_index`].
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
    /// itself need not wait for a turn through [`crate::Raft::persisted`]: whoever syncs may send it.
    pub after: u64,
}

/// Work for the caller, from [`crate::Raft::poll`]. Empty parts mean nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// `Some` if `snapshot`, `entries` or the term or vote in `hard_state` must be made durable: sync, then call
    /// [`crate::Raft::persisted`] with this number. Numbers grow by one from 1. `None` with a `hard_state`: write it in its
    /// order, no sync, no call (only the commit index moved).
    pub write: Option<u64>,
    /// A snapshot to save before `entries`, to install into the application, and then to report by
    /// [`crate::Raft::snapshot_installed`]. Whatever the log held before is void.
    pub snapshot: Option<Snapshot>,
    /// Entries to append to the log; if the first of them has an index that is already there, it and all after it
    /// are replaced.
    pub entries: Vec<Entry>,
    /// To be written after the entries.
    pub hard_state: Option<HardState>,
    /// Messages in the order in which they should leave.
    pub messages: Vec<Outgoing>,
    /// Entries to apply, in order, each once. On a member of a larger cluster they may be on other disks before they
    /// are on its own: what is made of them must not become durable before [`crate::Raft::durable_index`] has reached them.
    /// The only voter gets them after [`crate::Raft::persisted`].
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
    /// Ticks without a leader after which it campaigns, with the jitter that was drawn last.
    pub election_timeout: u32,
    /// The members, sorted by id. Progress is meaningful on a leader only.
    pub peers: Vec<PeerStatus>,
}
