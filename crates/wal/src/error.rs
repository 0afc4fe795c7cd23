//! What can go wrong with the log and the snapshot files, and what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the log or of a snapshot file. Every variant that comes from a file names it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused an operation. Nothing is lost by it: what was not written is written at
    /// the next attempt. Look at the file system (full, read-only, permissions, failing device).
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A sync failed: what was written before it may or may not be on the disk, and no later sync can
    /// tell. Nothing more is taken; the process has to stop, and read what is there when it starts again.
    #[error("{}: a sync failed ({reason}); nothing more is accepted, restart the member", path.display())]
    Poisoned {
        /// The file or directory whose sync failed.
        path: PathBuf,
        /// What the system said then.
        reason: String,
    },
    /// A log is to be created where there is one.
    #[error("{}: there is a log already; remove the directory to begin a new one", dir.display())]
    Exists {
        /// The log's directory.
        dir: PathBuf,
    },
    /// No segment reaches back to where reading has to begin: older ones were removed, or the
    /// directory is the wrong one. Restore the missing files or the member from a snapshot.
    #[error("{}: no log segment covers index {index}; restore the missing segments, or the member from a snapshot", dir.display())]
    NoSegment {
        /// The log's directory.
        dir: PathBuf,
        /// The first index that is needed.
        index: u64,
    },
    /// A segment in the middle is missing. Restore it, or the member from a snapshot.
    #[error("{}: log segment {expected:016x} is missing before {found}; restore it, or the member from a snapshot", dir.display())]
    MissingSegment {
        /// The log's directory.
        dir: PathBuf,
        /// The sequence number that should come here.
        expected: u64,
        /// The name that comes instead.
        found: String,
    },
    /// Another process, or another handle of this one, writes to this log. Stop it first.
    #[error("{}: the log segment is locked by another process; stop it first", path.display())]
    Locked {
        /// The locked segment.
        path: PathBuf,
    },
    /// A record's checksum does not fit, and not in the way in which an unfinished write leaves it:
    /// the file was damaged. Nothing was changed. Restore the member from a snapshot or its peers.
    #[error("{} at byte {offset}: checksum mismatch (stored {stored:08x}, computed {computed:08x}); the file is damaged, restore the member from a snapshot or its peers", path.display())]
    Checksum {
        /// The damaged segment.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// The checksum in the file.
        stored: u32,
        /// The checksum of what is there.
        computed: u32,
    },
    /// A record ends beyond its file, where that cannot be an unfinished write: in a segment that
    /// others follow, or in the head of the only one. Restore the member from a snapshot or its peers.
    #[error("{} at byte {offset}: the file is cut short; restore the member from a snapshot or its peers", path.display())]
    Truncated {
        /// The segment.
        path: PathBuf,
        /// Where the unfinished record begins.
        offset: u64,
    },
    /// A record cannot be decoded though its checksum fits or it is not torn: written by a newer
    /// version, or damaged. Nothing was changed.
    #[error("{} at byte {offset}: {what} cannot be decoded; the file is damaged or from a newer version", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// Which part of it.
        what: &'static str,
    },
    /// A record of a type that does not exist: written by a newer version, or damaged.
    #[error("{} at byte {offset}: unexpected record type {kind}; the file is damaged or from a newer version", path.display())]
    UnknownRecord {
        /// The segment.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// The type found.
        kind: i64,
    },
    /// Segments of different members or clusters lie in one directory. Sort them out by hand.
    #[error("{} at byte {offset}: the segment belongs to another member or cluster than those before it", path.display())]
    MetadataConflict {
        /// The first segment that differs.
        path: PathBuf,
        /// Where its metadata record begins.
        offset: u64,
    },
    /// The log knows the index from which to read, but with another term: database and log do not
    /// belong together.
    #[error("{} at byte {offset}: the log has a snapshot at index {index} of term {found}, not {wanted}: log and database do not belong together", path.display())]
    MarkMismatch {
        /// The segment.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// The index asked for.
        index: u64,
        /// The term asked for.
        wanted: u64,
        /// The term in the log.
        found: u64,
    },
    /// Entries are missing between two that are there.
    #[error("{} at byte {offset}: entry {found} follows entry {last}: entries are missing; restore the member from a snapshot or its peers", path.display())]
    Gap {
        /// The segment.
        path: PathBuf,
        /// Where the entry's record begins.
        offset: u64,
        /// The last index before the gap.
        last: u64,
        /// The index found.
        found: u64,
    },
    /// A mark above index 0 needs the configuration at its index (etcd: ValidateSnapshotForWrite).
    #[error("snapshot mark {index} has no configuration: a defect in the caller")]
    MarkIncomplete {
        /// The mark's index.
        index: u64,
    },
    /// A snapshot file holds nothing, or cannot be what was written: it is put aside and an older one
    /// is taken.
    #[error("{}: not a valid snapshot file: {what}", path.display())]
    BadSnapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Error {
    /// Whether the log can take nothing more, as opposed to an attempt that may be repeated.
    pub fn is_poison(&self) -> bool {
        matches!(self, Error::Poisoned { .. })
    }

    /// Whether a file could not be opened for want of a descriptor: nothing is lost, and the attempt
    /// may be repeated.
    pub fn is_no_descriptor(&self) -> bool {
        matches!(self, Error::Io { source, .. } if disk::lacks_descriptor(source))
    }

    /// Whether the disk is full: nothing is lost, and the attempt may be repeated.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull
            || source.kind() == io::ErrorKind::QuotaExceeded)
    }
}

/// Gives a system error its place.
pub(crate) trait At<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            op,
            path: path.to_path_buf(),
            source,
        })
    }
}

/// A sync that failed: what it covered may be lost, and no later one can tell.
pub(crate) fn poisoned(path: &Path, error: &io::Error) -> Error {
    Error::Poisoned {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}
