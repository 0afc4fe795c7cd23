//! Consensus without I/O, clock or threads, by the rules of etcd's raft.
//!
//! [`Raft`] is a plain struct. What happens to a member goes in by method calls ([`Raft::tick`], [`Raft::step`],
//! [`Raft::propose`], [`Raft::read_index`], [`Raft::persisted`], [`Raft::applied`], ...); what a member has to do
//! comes out of [`Raft::poll`]: entries and a hard state to persist, messages to send, committed entries to apply,
//! read states, a change of leader. Time is counted in ticks that the caller makes, and chance comes from a seed.
//!
//! Storage is asynchronous: the caller may go on feeding and polling while earlier writes are on their way to disk.
//! Each [`Output`] that has to be synced carries a write number; a message that must not overtake a write names that
//! number; and [`Raft::persisted`] tells the core how far the disk has come.
//!
//! The crate never opens a file or a socket, never reads a clock, never starts a thread, and knows nothing of what
//! the entries mean.
//!
//! The rules are those of go.etcd.io/raft/v3 v3.7.0. `tests/oracle.rs` holds this core to it and to v3.6.0 step by step,
//! `tests/interactions.rs` to the stories that the Go module tells of itself, and `cargo xtask mutants raft` shows that the
//! tests see what breaks. It differs on purpose where Go leaves a gap or relies on its peers:
//! - Requests for votes wait for the candidate's own disk, as etcd does around Go's core.
//! - Committed entries come out before the own disk has them, if others' disks do.
//! - A write is durable by its number, whatever term has begun since; entries that were replaced meanwhile are told apart.
//! - A lone voter answers reads only after a commit in its term, since its commit index on disk lags.
//! - A leader that was removed asks the last voter before it answers a read.
//! - Reads that a smaller majority confirms are answered when the membership changes, not with the next heartbeat.
//! - A restart takes what was applied as committed, and the last entry's term as the least term.
//! - What no correct member sends is refused before it changes anything; a leader that contradicts what is committed is
//!   fatal, where Go would answer that all is well.
//! - Who gets a snapshot gets what was written meanwhile from the leader's disk ([`Raft::use_archive`]).
//! - A ConfChangeV2 or a joint configuration is fatal: no etcd writes one.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod config;
mod core;
mod election;
mod error;
mod jitter;
mod log;
mod membership;
mod message;
mod output;
mod progress;
mod quorum;
mod reading;
mod reads;
mod replication;
mod step;

pub use archive::Wanted;
pub use config::{Config, Restored};
pub use core::Raft;
pub use error::{Dropped, Error, Fatal};
pub use message::{
    ConfChange, ConfChangeKind, ConfState, Entry, EntryKind, HardState, Message, MessageKind, NONE, Snapshot,
};
pub use output::{Outgoing, Output, PeerState, PeerStatus, ReadState, Role, SoftState, Status};
