//! What can go wrong with a data file, and what a person does about it.

use std::io;
use std::path::PathBuf;

/// Why a call on a data file failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused. During a commit, as long as nothing of its meta page is written, nothing has
    /// changed: the same batch may be committed again (see [`Error::is_out_of_space`]).
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The data file.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A page does not hold what the format demands.
    #[error("{}: page {page} is damaged: {what}; restore the member from a snapshot or remove and re-add it", file.display())]
    Corrupt {
        /// The data file.
        file: PathBuf,
        /// Number of the page.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Neither meta page is valid: it is not a bbolt file, or both were destroyed.
    #[error("{}: neither meta page is valid (page 0: {meta0}; page 1: {meta1}); this is not a bbolt file or it was overwritten: \
             restore the member from a snapshot or remove and re-add it", file.display())]
    BadMetas {
        /// The data file.
        file: PathBuf,
        /// What is wrong with page 0.
        meta0: &'static str,
        /// What is wrong with page 1.
        meta1: &'static str,
    },
    /// The file is shorter than its own meta page says, also if that happened while it was open.
    #[error("{}: the file was cut short: it has {has} bytes and needs {needs}; restore the member from a snapshot or remove and re-add it", file.display())]
    Truncated {
        /// The data file.
        file: PathBuf,
        /// Bytes that its pages take.
        needs: u64,
        /// Bytes that are there.
        has: u64,
    },
    /// Another process holds the lock of the file. Wait and open again.
    #[error("{}: another process holds the lock of the file", file.display())]
    Locked {
        /// The data file.
        file: PathBuf,
    },
    /// What was asked for is not in memory, and the caller said [`crate::Wait::No`]. Ask again where
    /// waiting is allowed.
    #[error("the page is not in memory")]
    WouldBlock,
    /// This commit's sync, or the write of its meta page, failed: whether the commit is durable is
    /// unknown, and nothing more will be committed. Stop the process; a restart reads what is there.
    #[error("{}: cannot make a commit durable: {source}; the process must be restarted", file.display())]
    SyncFailed {
        /// The data file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier commit ended with [`Error::SyncFailed`].
    #[error("{}: an earlier commit could not be made durable; the process must be restarted", file.display())]
    Poisoned {
        /// The data file.
        file: PathBuf,
    },
    /// A commit on a file that was opened for reading only.
    #[error("{}: opened for reading only", file.display())]
    ReadOnly {
        /// The data file.
        file: PathBuf,
    },
    /// A page size that is not a power of two from 1,024 to 65,536.
    #[error("page size {0} is not a power of two from 1024 to 65536")]
    PageSize(u32),
    /// A put into a bucket that neither exists nor is created by the same batch.
    #[error("{}: there is no bucket {}", file.display(), name.escape_ascii())]
    BucketMissing {
        /// The data file.
        file: PathBuf,
        /// The bucket.
        name: Vec<u8>,
    },
    /// A bucket is where a key was meant, or a key where a bucket was meant, or a bucket holds buckets where only
    /// keys are supported (compacting copy): a mistake of the caller, or damage of the file.
    #[error("{}: {} is a bucket where a key was meant or a key where a bucket was meant: the file is damaged, or not etcd's; \
             restore the member from a snapshot or remove and re-add it", file.display(), name.escape_ascii())]
    Incompatible {
        /// The data file.
        file: PathBuf,
        /// The bucket or key.
        name: Vec<u8>,
    },
    /// A key is empty or longer than 32,768 bytes, or a value is longer than 2^31 - 1 bytes.
    #[error("a key of {key_bytes} bytes with a value of {value_bytes} bytes cannot be stored")]
    Size {
        /// Bytes of the key.
        key_bytes: usize,
        /// Bytes of the value.
        value_bytes: usize,
    },
}

impl Error {
    /// Whether the disk is full: an error to clients that passes when there is room again.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Error::Io { source, .. } if is_out_of_space(source))
    }
}

pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// One thing that [`crate::Db::check`] found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the page.
    pub page: u64,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page {}: {}", self.page, self.what)
    }
}
