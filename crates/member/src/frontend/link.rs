//! What goes between a front thread and the stages. Plain data; the wiring decides how it travels.

use api::error::Status;
use bytes::Bytes;

/// What a front thread asks of the decide stage.
#[derive(Clone, Debug, PartialEq)]
pub enum AskDecide {
    /// Put an encoded `InternalRaftRequest` into the log. Answered by `Tell::Done` with `id`: by
    /// the apply stage when it is applied, by the decide stage with an error if it is dropped for
    /// good. No answer is allowed where the fate is unknown: the caller times out.
    Propose {
        /// The ID in the request's header.
        id: u64,
        /// The encoded request.
        data: Bytes,
    },
    /// As `Propose`, but only if this member leads in this term, and never handed on to another
    /// leader: what a leader decided for itself means nothing after its time.
    ProposeAsLeader {
        /// The ID in the request's header.
        id: u64,
        /// The term.
        term: u64,
        /// The encoded request.
        data: Bytes,
    },
    /// As `Propose`, for a change of the membership: `raftpb::ConfChange`.
    ProposeConfChange {
        /// The ID in the change.
        id: u64,
        /// The change.
        change: api::raftpb::ConfChange,
    },
    /// As `ProposeConfChange`, for the promotion of a learner, which only a leader may propose and
    /// only when the learner has caught up.
    Promote {
        /// The ID in the change.
        id: u64,
        /// The change.
        change: api::raftpb::ConfChange,
        /// Why it is refused although the learner has caught up.
        refusal: Option<Status>,
    },
    /// Confirm leadership and say the index that linearizable reads have to wait for:
    /// `Tell::ReadIndex`. May stay unanswered; the front thread asks again with a new `id`.
    ReadIndex {
        /// Unique among all fronts and attempts (etcd issue 20418).
        id: u64,
    },
    /// Hand leadership to another voter. No answer; the front thread looks at the leader.
    TransferLeader {
        /// The member that shall lead.
        to: u64,
    },
}

/// What a front thread asks of the apply stage, which owns store, lessor and backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskApply {
    /// Renew a lease: `Tell::Renewed`.
    Renew {
        /// Echoed in the answer.
        id: u64,
        /// The lease.
        lease: i64,
        /// For whom.
        of: Asker,
    },
    /// Look a lease up: `Tell::Lease`.
    TimeToLive {
        /// Echoed in the answer.
        id: u64,
        /// The lease.
        lease: i64,
        /// Whether its keys are wanted.
        keys: bool,
        /// For whom.
        of: Asker,
    },
    /// Have the leader promote a learner: `Tell::Promoted`.
    Promote {
        /// Echoed in the answer.
        id: u64,
        /// The learner.
        member: u64,
    },
    /// All leases: `Tell::Leases`.
    Leases {
        /// Echoed in the answer.
        id: u64,
    },
    /// Commit all that is applied to the data file and pin what it then holds:
    /// `Tell::Pinned`. For `Snapshot` and `Hash`, which read the file itself.
    Pin {
        /// Echoed in the answer.
        id: u64,
    },
    /// Rewrite the data file: `Tell::Done` with an empty message when that has finished.
    Defragment {
        /// Echoed in the answer.
        id: u64,
    },
}

/// Whose question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client of this member: where another one leads, that one is asked.
    Client,
    /// Another member, which takes this one for the leader.
    Peer,
}

/// A lease as `LeaseTimeToLive` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Whole seconds left; may be negative when it has expired and is not revoked yet.
    pub remaining_seconds: i64,
    /// The seconds it was granted.
    pub granted_seconds: i64,
    /// Its keys, sorted, if asked for.
    pub keys: Vec<Bytes>,
}

/// What the stages tell a front thread.
#[derive(Clone)]
pub enum Tell {
    /// The answer to what was asked with `id`: the encoded response message of the client API
    /// (header included), or why it failed.
    Done {
        /// The ID of the proposal.
        id: u64,
        /// The answer.
        result: Result<Bytes, Status>,
    },
    /// The entry of a physical compaction is applied; its `Done` comes when all it deletes is deleted.
    Compacting {
        /// The ID of the proposal.
        id: u64,
    },
    /// The answer to `AskDecide::ReadIndex`.
    ReadIndex {
        /// The ID asked with.
        id: u64,
        /// Reads may be served once this index is applied.
        index: u64,
    },
    /// A lease was renewed to so many seconds; `None`: there is no such lease.
    Renewed {
        /// The ID asked with.
        id: u64,
        /// The new time to live in seconds, `None` if the lease is gone.
        result: Result<Option<i64>, Status>,
    },
    /// The answer to `AskApply::TimeToLive`; `None`: there is no such lease.
    Lease {
        /// The ID asked with.
        id: u64,
        /// The lease.
        result: Result<Option<LeaseInfo>, Status>,
    },
    /// The answer to `AskApply::Promote`: the members, or why not. `NOT_LEADER` says that this member
    /// leads meanwhile.
    Promoted {
        /// The ID asked with.
        id: u64,
        /// The members after it.
        result: Result<Vec<crate::Member>, Status>,
    },
    /// The answer to `AskApply::Leases`: the IDs, in the order of expiry.
    Leases {
        /// The ID asked with.
        id: u64,
        /// Lease IDs.
        leases: Vec<i64>,
    },
    /// The answer to `AskApply::Pin`.
    Pinned {
        /// The ID asked with.
        id: u64,
        /// The data file with everything that was applied when the question came.
        result: Result<bbolt::Snapshot, Status>,
    },
    /// The leader or the term changed; `Pulse` has the new values.
    LeaderChanged,
    /// An entry of the current term is committed for the first time: reads that wait ask again.
    FirstCommitInTerm,
    /// The member stops, or failed: everything that waits is refused.
    Stopped,
}
