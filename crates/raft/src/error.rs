//! What can go wrong, and who is to blame.

use thiserror::Error;

/// Why a proposal, a read request or a transfer was not taken. Nothing has happened; the caller may try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Dropped {
    /// This member knows of no leader now: wait for a change of [`crate::SoftState`].
    #[error("there is no leader")]
    NoLeader,
    /// The leader is handing over: try again when the transfer has ended.
    #[error("leadership is being transferred")]
    Transferring,
    /// More is proposed than commits: let commits come first.
    #[error("too many bytes are proposed and not yet committed")]
    Uncommitted,
    /// More read requests wait than may: try again after the next heartbeat.
    #[error("too many read requests are waiting")]
    Reads,
    /// This member leads, but has been removed.
    #[error("the leader is no longer a member")]
    Removed,
}

/// What this core cannot go on after. The member must stop; its log and commit index are as before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fatal {
    /// The log or a snapshot holds a membership change of the second format, which no etcd writes.
    #[error("a joint configuration or ConfChangeV2 at index {index}: written by something that is not etcd")]
    JointConsensus {
        /// Where it is.
        index: u64,
    },
    /// The leader knows that this member had entries that are gone. The disk lost acknowledged writes, or the
    /// directory is an old copy: remove the member and add it anew with an empty directory.
    #[error("commit {commit} is beyond the last entry {last}: the log was damaged, truncated or lost")]
    LogLost {
        /// What the leader says is committed here.
        commit: u64,
        /// The last entry that is here.
        last: u64,
    },
    /// The leader sends an entry that contradicts one that is committed here: two clusters were mixed, or a disk lost
    /// acknowledged writes.
    #[error("entry {index} of the leader contradicts a committed entry (commit {commit})")]
    CommittedConflict {
        /// The first entry that differs.
        index: u64,
        /// How far this member has committed.
        commit: u64,
    },
    /// A committed change would leave no voter.
    #[error("the membership change would remove the last voter {id}")]
    LastVoter {
        /// Who would go.
        id: u64,
    },
}

/// What a call may return.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The settings contradict each other: fix the caller.
    #[error("raft configuration: {0}")]
    Config(&'static str),
    /// Hard state, snapshot and entries do not fit together: the log is damaged.
    #[error("restored log: {0}")]
    Restore(String),
    /// See [`Dropped`].
    #[error("dropped: {0}")]
    Dropped(#[from] Dropped),
    /// A response from somebody who is not a member, by what this member knows. It was ignored; usual after removals.
    #[error("response from {0:x}, which is not a member")]
    UnknownPeer(u64),
    /// A message that no correct member sends. It was ignored and nothing was changed.
    #[error("message from {from:x} makes no sense: {what}")]
    PeerMisbehaved {
        /// Who sent it.
        from: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// See [`Fatal`].
    #[error("fatal: {0}")]
    Fatal(#[from] Fatal),
}

impl Error {
    /// Whether the member must stop. Other errors of [`crate::Raft::step`] are for a debug log at most.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Fatal(_))
    }
}
