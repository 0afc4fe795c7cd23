//! Why a member does not start, and why one stops.

use std::path::PathBuf;

/// Why a member could not be opened. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the data directory: wait, warn after 10 s as etcd does, try again.
    #[error("{} is in use by another process", path.display())]
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
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The log or a snapshot file cannot be read; the text names it and says what to do. Nothing was
    /// overwritten.
    #[error("{0}")]
    Log(wal::Error),
    /// A directory of the member cannot be made or written to.
    #[error(
        "cannot access data directory: {}: {source}; make it and let this user write to it, or choose another by --data-dir",
        path.display()
    )]
    Directory {
        /// The directory, or what was tried in it.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
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

impl Error {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Error {
        Error::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whatever a file's own reader says, with the file's name in front.
    pub(crate) fn damaged(path: &std::path::Path, error: impl std::fmt::Display) -> Error {
        // Most readers name their file themselves.
        let text = error.to_string();
        let prefix = format!("{}: ", path.display());
        Error::Damaged {
            path: path.to_path_buf(),
            reason: text.strip_prefix(&prefix).unwrap_or(&text).to_owned(),
        }
    }
}

impl From<wal::Error> for Error {
    /// The log's errors name their files themselves.
    fn from(error: wal::Error) -> Error {
        Error::Log(error)
    }
}
