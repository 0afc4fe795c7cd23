//! What applying an entry leaves for others to do: a reply for who waits, and effects. The machine
//! never does these itself; the member does, in the order given.

use std::sync::Arc;

use api::error::Status;
use api::raftpb;
use api::version::Version;
use bytes::Bytes;

use crate::membership::Membership;
use crate::op::OpKind;

/// What came of one entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// The answer, if somebody waits for it here.
    pub reply: Option<Reply>,
    /// What the member has to do now, in this order.
    pub effects: Vec<Effect>,
    /// What the entry asked for; `None` if it was known already, or asked for nothing.
    pub op: Option<OpKind>,
    /// Why it was refused, also where nobody waits for the answer.
    pub refused: Option<Status>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Reply {
    /// The request's id, by which its waiter is found.
    pub id: u64,
    /// The encoded response message of the request's method, with its header; or what the client
    /// did wrong. A configuration change answers header and members (fields 1 and 2), which is the
    /// response of MemberRemove, MemberUpdate and MemberPromote. Empty for requests that members
    /// make for themselves.
    pub result: Result<Bytes, Status>,
    /// What must have happened before the waiter may get it.
    pub hold: Hold,
}

/// What a reply waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Nothing.
    #[default]
    No,
    /// The compaction to this revision is done and committed to the file (a physical compaction).
    Compacted(i64),
    /// The alarm that the effect `RaiseNoSpace` of the same entry asks for is raised, or was refused.
    NoSpaceRaised,
}

/// What the member has to do because of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The first entry of a term: its leader may now be sure of what was committed before, and
    /// becomes the one that lets leases expire (`Lessor::promote`).
    TermStarted {
        /// The term.
        term: u64,
    },
    /// Raft's configuration changes: hand the change to `raft.apply_conf_change`. A change that was
    /// refused comes emptied (node 0), so that raft opens its gate for the next one.
    ConfChange(raftpb::ConfChange),
    /// Members, their URLs or names, the cluster version or a downgrade are no longer the same.
    MembershipChanged(Arc<Membership>),
    /// This member was removed: it stops, after the time that the entry needs to reach the others.
    SelfRemoved,
    /// The cluster's version went down: write a snapshot at once, so that no older binary has to
    /// read the log before this entry.
    ClusterVersionLowered {
        /// The version before.
        from: Version,
        /// The version now.
        to: Version,
    },
    /// A request found the quota used up, and no alarm says so yet: propose the activation of
    /// NOSPACE for this member.
    RaiseNoSpace,
    /// Alarms were raised or cleared.
    AlarmsChanged,
    /// Users, roles or whether authentication is on are no longer the same.
    AuthChanged,
    /// A lease now exists.
    LeaseGranted {
        /// Its id.
        id: i64,
        /// Its time to live, in seconds.
        ttl: i64,
    },
    /// A lease and its keys are gone.
    LeaseRevoked {
        /// Its id.
        id: i64,
    },
    /// A lease's remaining time was recorded.
    LeaseCheckpointed {
        /// Its id.
        id: i64,
        /// What remains, in seconds; 0 clears what was recorded.
        remaining: i64,
    },
    /// A compaction was scheduled: the store's compaction job has to be run in bounded batches.
    CompactionScheduled {
        /// The revision to which history is dropped.
        revision: i64,
    },
}
