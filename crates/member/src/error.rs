//! Why a member does not start, and why one stops.

use std::path::PathBuf;

/// Why a member could not be opened. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the data directory: wait, warn after 10 s as etcd does, try again.
    #[error("{path} is in use by another process")]
    Locked {
        /// The file whose lock is held.
        path: PathBuf,
    },
    /// The directory is sound but must not be opened by this member, or the configuration cannot
    /// be served. Nothing was written. The text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// The directory is damaged. Nothing was overwritten. Restore the member from a snapshot, or
    /// remove and add it again.
    #[error("{path}: {reason}")]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
}

/// Why a running member must stop: it acknowledges nothing more, and its process must exit with a
/// code other than 0. Never tried again: after a failed sync nobody knows what the disk holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Fatal {
    /// The file, or the part of the member.
    pub what: String,
    /// What happened.
    pub reason: String,
}
