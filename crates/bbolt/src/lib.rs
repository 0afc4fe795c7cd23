//! The data file in bbolt's format: read snapshots, batch commits, check, compacting copy.
//!
//! The engine is our own; the file is bbolt's, page for page. It knows nothing of keys and
//! revisions of the store above, never maps the file, starts no thread and reads no clock.
//!
//! # How a commit works
//! A [`Batch`] holds, per bucket, puts and deletes in key order. [`Db::commit`] walks down only to the
//! leaves that the batch touches, merges them with the batch, cuts the result into new pages and
//! rewrites the branch path above: a new copy-on-write tree, from the leaves up. Then: write the new
//! pages, sync, write the meta page `txid % 2`, sync. What the previous meta reaches is not touched before
//! the second sync returns, so a crash at any moment leaves the old state or the new one.
//!
//! # Which page may be used again, and the rules for moving pages
//! A page that commit T took out of the tree is free for commit T+1 and later as soon as no [`Snapshot`]
//! exists whose state reaches it, that is one with `born <= txid < T`, where `born` is the commit
//! that wrote the page (0 if that was before the file was opened). Allocation takes the lowest run of free
//! pages that is long
//! enough, and grows the high-water mark only if there is none below the ceiling it was given.
//! An online defrag is therefore an ordinary commit that rewrites, in key order, pages above a target: its
//! allocations carry the target as ceiling, so that no page moves up, and it stops when there is no room left
//! below. Once nothing above
//! the target is in use, commit T lowers the high-water mark, and the file is cut after commit T+1, so that
//! both metas stay within it.
//!
//! # Trust
//! A page is validated once, when it is read: type, own number, element bounds, key order, page
//! numbers below the high-water mark. Garbage is [`Error::Corrupt`], never a panic and never an allocation
//! larger than the file.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod cache;
mod check;
mod compact;
mod cursor;
mod db;
mod error;
mod free_pages;
mod meta;
mod node;
mod open;
mod page;
mod pager;
mod snapshot;
mod space;
mod stream;
mod tree;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use batch::Batch;
pub use compact::compact;
pub use cursor::Cursor;
pub use db::{Commit, Db, Options};
pub use error::{Error, Violation};
pub use snapshot::{Snapshot, Wait};
pub use stream::Stream;

/// Locks; what is behind our locks is whole between any two statements that can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
