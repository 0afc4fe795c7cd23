//! What the stages tell each other. Plain data; each message may carry a batch.
//!
//! ```text
//!  front ──Ask──▶ Decide ──Save──▶ Persist ──Persisted──▶ Decide ──Committed──▶ Apply ──Published, Tell──▶ front
//!                                        ▲                                           │
//!                                        └──────────────── Snapshot ─────────────────┤
//!                                                                 Committer ◀─Commit─┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use api::clock::Instant;
use api::version::Version;
use bytes::Bytes;
use mvcc::{EventBatch, View};

use crate::apply::{CommittedBatch, FileCommitted, JobDone, Role};
use crate::corruption::HashAnswer;
use crate::decide::{ConfApplied, Persisted};
use crate::frontend::{AskApply, AskDecide, Tell};
use crate::peer::PeerAnswer;
use crate::persist::SpareMade;

/// What the raft stage takes.
pub enum ToDecide {
    /// What front threads (and Apply, for the member itself) ask, in the order in which proposals
    /// should go to the log.
    Ask(Vec<AskDecide>),
    /// A tick of the clock: one heartbeat interval.
    Tick,
    /// Persist made something durable.
    Persisted(Persisted),
    /// Apply has applied up to here.
    Applied {
        /// The index.
        index: u64,
    },
    /// Apply has decided about a configuration change.
    ConfApplied(ConfApplied),
    /// Whether a disk is full: proposals are refused while one is.
    DiskFull(FullDisk, bool),
    /// Whether more is applied than the data file can take for now: proposals are refused while it
    /// is so, since what is not in the file is in memory.
    Overloaded(bool),
    /// A message of another member. A snapshot's data file has been accepted before.
    Peer(Box<raft::Message>),
    /// A message to a member was dropped, or its connection broke.
    Unreachable {
        /// The member.
        id: u64,
    },
    /// What became of a snapshot.
    SnapshotSent {
        /// To whom it went.
        id: u64,
        /// Whether all of it arrived.
        arrived: bool,
    },
    /// What the log's files have for a member that lacks it.
    Fetched(Box<crate::Fetched>),
    /// The state that the leader sent is in place.
    Installed {
        /// Its index.
        index: u64,
    },
    /// Begin the orderly stop: take no more proposals, apply what is committed, write everything.
    Stop,
}

/// Which disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullDisk {
    /// That of the log.
    Log,
    /// That of the data file.
    DataFile,
}

/// What the log stage takes.
pub enum ToPersist {
    /// Entries and state of the log.
    Save(SaveBatch),
    /// A snapshot file, its mark in the log, then release and removal of what is older.
    Snapshot(SnapshotFile),
    /// The leader's state is in place: what is older may go.
    Installed {
        /// Its index.
        index: u64,
    },
    /// A segment was preallocated.
    Spare(SpareMade),
    /// The member stops. What a full disk refuses is given up from now on, but for a leader that may yet hand
    /// leadership on: it has time for that until then.
    Stopping {
        /// When the time for the hand-over ends.
        until: Instant,
    },
    /// The last message: writes what is pending and ends in [`crate::Router::stopped`].
    Stop,
}

/// Entries to append, and the hard state that goes with them.
#[derive(Clone, Debug)]
pub struct SaveBatch {
    pub(crate) output: crate::decide::Unsaved,
}

impl SaveBatch {
    /// Whether somebody waits for this batch. If not (a commit index alone), the driver need not
    /// wake the log's thread for it.
    pub fn is_urgent(&self) -> bool {
        self.output.is_urgent()
    }
}

/// What goes into a `.snap` file.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) conf_state: api::raftpb::ConfState,
    /// The v2 store as JSON.
    pub(crate) data: Bytes,
}

/// What the apply stage takes.
pub enum ToApply {
    /// Committed entries, in log order.
    Committed(CommittedBatch),
    /// Who leads changed, or this member's own role.
    Role(Role),
    /// What front threads ask.
    Ask(Vec<AskApply>),
    /// The data file has a batch, or refused it.
    FileCommitted(FileCommitted),
    /// A job ended.
    JobDone(JobDone),
    /// A proposal of the member itself was dropped before it reached the log.
    Dropped {
        /// Its ID.
        id: u64,
    },
    /// A snapshot file and its mark are durable, or the disk was full.
    SnapshotSaved {
        /// The index it stands for.
        index: u64,
        /// Whether it is there.
        saved: bool,
    },
    /// Raft wants a member to get the state instead of entries: the message to fill.
    SendSnapshot(Box<raft::Message>),
    /// The leader's state, whose mark is durable, takes the place of this member's.
    Install(Box<raft::Snapshot>),
    /// Which versions other members run, as they said when they were asked; all that answered.
    PeerVersions(BTreeMap<u64, Version>),
    /// What the leader answered to a question ([`crate::ToPeer::Ask`]).
    PeerAnswered {
        /// The ID asked with.
        id: u64,
        /// The answer.
        answer: PeerAnswer,
    },
    /// What another member said of its store.
    PeerHash(HashAnswer),
    /// The answer to a `ReadIndex` of the stage itself: the member leads, and what was committed when
    /// it was asked ends here.
    ReadConfirmed {
        /// The ID asked with.
        id: u64,
        /// The index.
        index: u64,
    },
    /// The member's own log is durable as far as was asked (`Shared::ask_durable`).
    Durable,
    /// Begin the orderly stop; no `Committed` comes after it.
    Stop,
}

/// What the thread that writes the data file takes.
pub enum ToCommitter {
    /// One transaction.
    Commit(mvcc::CommitJob),
}

/// What a front thread takes.
#[derive(Clone)]
pub enum ToFront {
    /// Applied entries became visible. Sent before the answers to them, and only to front
    /// threads that want it (`Shared::want_views`): the front calls `Frontend::published`.
    Published {
        /// The state after the batch.
        view: Arc<View>,
        /// What watchers see; `None` if no key changed.
        events: Option<Arc<EventBatch>>,
    },
    /// The whole state was replaced by the leader's: watchers that have not seen all of it read it
    /// from the store. The front calls `Frontend::replaced`.
    Replaced {
        /// The new state.
        view: Arc<View>,
    },
    /// Answers and changes, in order.
    Tell(Vec<Tell>),
}

/// The version that a downgrade names, `X.Y.0`. etcd takes "3.6" as well as "3.6.0": server/etcdserver/cluster_util.go.
pub(crate) fn downgrade_target(text: &str) -> Option<Version> {
    let full = if text.matches('.').count() == 1 {
        format!("{text}.0")
    } else {
        text.to_owned()
    };
    full.parse::<Version>().ok().map(Version::minor_only)
}
