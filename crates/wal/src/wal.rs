//! The log that one member appends to. Never starts a thread, never retries a sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::Disk;

use crate::{Entry, Error, HardState, Mark};

/// An open log, locked and ready to append.
pub struct Wal {}

/// What a log held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// The metadata of all segments.
    pub metadata: Bytes,
    /// The last hard state.
    pub hard_state: HardState,
    /// The entries after the mark, without gaps. Those above `hard_state.commit` may be overwritten.
    pub entries: Vec<Entry>,
    /// Whether the log holds the mark from which it was opened. Go's etcd opens it either way.
    pub mark_found: bool,
    /// The untouched copy of the last segment, if its torn end was cut off.
    pub repaired: Option<PathBuf>,
}

/// What a save did.
#[derive(Debug, Default)]
pub struct Saved {
    /// Whether everything up to here is durable.
    pub synced: bool,
    /// Whether a new segment was begun.
    pub cut: bool,
    /// Why a new segment could not be begun. Nothing is lost: the old one goes on growing, and the
    /// next save tries again.
    pub cut_failed: Option<Error>,
}

/// A preallocated file that becomes the next segment.
pub struct Spare {}

/// The making of a spare: to be run where it delays nobody.
pub struct SpareJob {}

impl SpareJob {
    /// Makes and preallocates the file.
    pub fn run(self) -> Result<Spare, Error> {
        todo!()
    }
}

#[allow(unused_variables, clippy::todo)]
impl Wal {
    /// Makes a log whose first segment holds `metadata` and the mark 0/0, and returns when that is
    /// durable. What is at `dir` must not be a log; it is replaced.
    pub fn create(disk: &Arc<dyn Disk>, dir: &Path, metadata: &[u8]) -> Result<Wal, Error> {
        todo!()
    }
    /// As `create`, with first entries that are there if the log is.
    pub fn create_with(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        metadata: &[u8],
        state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<Wal, Error> {
        todo!()
    }
    /// Opens a log for appending and reads it from `from`. A torn end is cut off, after the segment
    /// was copied to `<name>.broken`.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, from: &Mark) -> Result<(Wal, Recovered), Error> {
        todo!()
    }
    /// Writes entries and hard state, not yet durable; says whether they must be made so by `sync`
    /// before anyone may rely on them (raft: MustSync). A state whose commit index alone moved is kept
    /// back and written with what comes next.
    pub fn append(&mut self, state: Option<&HardState>, entries: &[Entry]) -> Result<bool, Error> {
        todo!()
    }
    /// Makes durable all that was appended, one fdatasync if there is anything.
    pub fn sync(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// Begins a new segment if the current one has its size; says whether it did.
    pub fn cut_if_full(&mut self) -> Result<bool, Error> {
        todo!()
    }
    /// Appends, syncs if it must, cuts if the segment is full: etcd's Save.
    pub fn save(&mut self, state: Option<&HardState>, entries: &[Entry]) -> Result<Saved, Error> {
        todo!()
    }
    /// Writes a mark and makes it and all before it durable.
    pub fn save_mark(&mut self, mark: &Mark) -> Result<(), Error> {
        todo!()
    }
    /// Lets go of the segments that hold only entries below `index`, so that `purge` may remove them.
    pub fn release_to(&mut self, index: u64) {
        todo!()
    }
    /// The making of the next segment's file, if there is none: run it elsewhere, then `put_spare`.
    pub fn spare_job(&mut self) -> Option<SpareJob> {
        todo!()
    }
    /// Takes a spare that was made elsewhere.
    pub fn put_spare(&mut self, spare: Spare) {
        todo!()
    }
    /// Makes the next segment's file here and now, if there is none.
    pub fn prepare_spare(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// The encoded metadata of this log.
    pub fn metadata(&self) -> &Bytes {
        todo!()
    }
    /// The index of the entry (or higher mark) written last.
    pub fn last_index(&self) -> u64 {
        todo!()
    }
    /// Leaves syncs out (`--unsafe-no-fsync`).
    pub fn set_unsafe_no_sync(&mut self) {
        todo!()
    }
    /// Writes and syncs what is held back, and removes the spare.
    pub fn close(self) -> Result<(), Error> {
        todo!()
    }
}

/// Whether `dir` holds a log: any name that ends in `.wal`.
#[allow(unused_variables, clippy::todo)]
pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, Error> {
    todo!()
}

/// All marks that may be started from (those at or below the last commit index), oldest first, and
/// the last hard state. Takes no lock and changes nothing.
#[allow(unused_variables, clippy::todo)]
pub fn valid_marks(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Mark>, HardState), Error> {
    todo!()
}

/// Removes the oldest segments while there are more than `max` and nobody holds them; 0 keeps all.
/// Returns what was removed.
#[allow(unused_variables, clippy::todo)]
pub fn purge(disk: &dyn Disk, dir: &Path, max: usize) -> Result<Vec<PathBuf>, Error> {
    todo!()
}
