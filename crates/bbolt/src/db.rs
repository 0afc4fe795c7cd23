//! An open data file: its current root, its one writer.

use std::path::Path;
use std::sync::Arc;

use disk::Disk;

use crate::{Batch, Error, Snapshot, Violation};

/// How a data file is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Page size in bytes of a file that does not exist yet; 4,096 if not given. An existing file keeps its own.
    pub page_size: Option<u32>,
    /// Bytes of pages kept in memory.
    pub cache_bytes_max: usize,
    /// Refuses commits, takes only a shared lock, and makes no file.
    pub read_only: bool,
    /// Whether commits are made durable; `false` is etcd's `--unsafe-no-fsync`.
    pub sync: bool,
    /// Bytes by which the file grows at once (etcd: 16 MiB).
    pub growth_bytes: u64,
    /// Leaves the search for free pages in a file that has no stored freelist to a later call of
    /// [`Db::find_free_pages`]; until then commits only append. Opening then costs the same for any size of file.
    pub find_free_pages_later: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            page_size: None,
            cache_bytes_max: 64 << 20,
            read_only: false,
            sync: true,
            growth_bytes: 16 << 20,
            find_free_pages_later: false,
        }
    }
}

/// An open data file. Cheap to clone; the last clone (or snapshot) closes it and gives up the lock.
#[derive(Clone)]
pub struct Db {
    _inner: Arc<()>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Number of the commit: one more than that of the one before.
    pub txid: u64,
    /// Pages written, the meta page not counted.
    pub pages_written: u64,
    /// Pages taken out of the tree.
    pub pages_freed: u64,
}

impl Db {
    /// Opens the file, or makes it. [`Error::Locked`] if another process has it: wait and try again.
    pub fn open(_disk: &Arc<dyn Disk>, _path: &Path, _options: Options) -> Result<Db, Error> {
        todo!()
    }

    /// Pins the current state for reading.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }

    /// Makes the batch durable. One caller at a time; others wait. An empty batch writes nothing.
    pub fn commit(&self, _batch: &Batch) -> Result<Commit, Error> {
        todo!()
    }

    /// Walks the file for its free pages, if opened with `find_free_pages_later`. Any thread may do it, once; commits go on meanwhile.
    pub fn find_free_pages(&self) -> Result<(), Error> {
        todo!()
    }

    /// Bytes up to the high-water mark (etcd's "db size", not the length of the file).
    #[must_use]
    pub fn size(&self) -> u64 {
        todo!()
    }

    /// `size` without the free pages.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        todo!()
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        todo!()
    }

    /// Reads every page and names what is wrong: all that `bbolt check` finds, and element bounds. Commits wait meanwhile.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        todo!()
    }
}
