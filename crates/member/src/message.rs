//! What the stages tell each other. Plain data; each message may carry a batch.
//!
//! ```text
//!  front ──Ask──▶ Decide ──Save──▶ Persist ──Persisted──▶ Decide ──Committed──▶ Apply ──Published, Tell──▶ front
//!                                        ▲                                           │
//!                                        └──────────────── Snapshot ─────────────────┤
//!                                                                 Committer ◀─Commit─┘
//! ```

use std::sync::Arc;

use crate::pending::{EventBatch, View};
use api::version::Version;
use bytes::Bytes;

use crate::apply::{CommittedBatch, FileCommitted, JobDone, Role};
use crate::decide::{ConfApplied, Persisted};
use crate::frontend::{AskApply, AskDecide, Tell};

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
    /// The log before this index (and it) may be dropped from memory.
    Compact {
        /// The index.
        index: u64,
    },
    /// Begin the orderly stop: take no more proposals, apply what is committed, write everything.
    Stop,
}

/// What the log stage takes.
pub enum ToPersist {
    /// Entries and state of the log.
    Save(SaveBatch),
    /// A snapshot file, its mark in the log, then release and removal of what is older.
    Snapshot(SnapshotFile),
    /// Removes segments and snapshot files above their bounds; due every 30 s.
    Purge,
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
    /// A snapshot file and its mark are durable.
    SnapshotSaved {
        /// The index it stands for.
        index: u64,
    },
    /// Begin the orderly stop; no `Committed` comes after it.
    Stop,
}

/// What the thread that writes the data file takes.
pub enum ToCommitter {
    /// One transaction.
    Commit(crate::pending::CommitJob),
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
    /// Answers and changes, in order.
    Tell(Vec<Tell>),
}

/// The part of a version that a downgrade names: `X.Y.0`.
pub(crate) fn downgrade_target(text: &str) -> Option<Version> {
    // etcd accepts "3.6" as well as "3.6.0" here: server/etcdserver/version/downgrade.go.
    let full = if text.matches('.').count() == 1 {
        format!("{text}.0")
    } else {
        text.to_owned()
    };
    full.parse::<Version>().ok().map(Version::minor_only)
}
