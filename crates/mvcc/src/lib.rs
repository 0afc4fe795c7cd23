//! Revisions, key index, store, compaction, hashes and the schema of the data file.
//!
//! The store keeps every revision of every key as an encoded `mvccpb.KeyValue` in the bucket
//! `key` of the data file, and an index of all keys in memory. One [`Store`] writes; any number
//! of readers hold a [`View`], published by one atomic swap a batch, and take no lock.
//!
//! Never opens a file, starts a thread or reads a clock: commits and scans are values
//! ([`CommitJob`], [`CompactionScan`], [`HashKv`]) that the caller runs where it likes.
//! Knows nothing of clients' and peers' messages.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod commit;
mod compaction;
mod error;
mod events;
mod hash;
mod index;
mod range;
mod reader;
mod recent;
mod record;
mod restore;
mod revision;
pub mod schema;
mod store;
mod txn;
mod view;

pub use backend::Backend;
pub use bbolt::Wait;
pub use commit::{CommitDone, CommitJob};
pub use compaction::{CompactionDone, CompactionNext, CompactionScan};
pub use error::Error;
pub use events::{Event, EventBatch, EventKind, History, HistoryLimits};
pub use hash::{FileStatus, Hash, HashKv, KeyValueHash, hash_kv_of_file, status_of_file};
pub use index::{KeyIndex, KeyInfo};
pub use range::{RangeOptions, RangeResult, SortOrder, SortTarget, covers};
pub use reader::Reader;
pub use record::{Record, strip_value};
pub use revision::{Rev, RevKey};
pub use store::{Pending, Published, Store, StoreOptions};
pub use txn::{Deleted, OpCounts, Put, WriteTxn};
pub use view::{Extra, View, ViewSource};
