//! The one error type of the crate.

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for has been compacted away. A client's fault; nothing to do.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision asked for is not written yet. A client's fault; nothing to do.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// A page that is needed is not in memory, and the caller refused to wait ([`bbolt::Wait::No`]).
    /// Do the same again with `Wait::Yes` on a thread that may wait.
    #[error("a page of the data file is not in memory")]
    WouldBlock,
    /// A row of the data file cannot be what etcd wrote. The member must stop; the directory
    /// is to be restored from a snapshot or from the other members.
    #[error("bucket {bucket:?}, key {key}: {why}; restore the member from a snapshot or from its peers")]
    Corrupt {
        /// The bucket of the row.
        bucket: &'static str,
        /// The row's key in hex, cut to 64 bytes.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The data file failed; see [`bbolt::Error`] for what to do.
    #[error(transparent)]
    Backend(bbolt::Error),
}

impl From<bbolt::Error> for Error {
    fn from(error: bbolt::Error) -> Error {
        match error {
            bbolt::Error::WouldBlock => Error::WouldBlock,
            other => Error::Backend(other),
        }
    }
}

impl Error {
    /// A row that etcd cannot have written.
    pub(crate) fn corrupt(bucket: &'static str, key: &[u8], why: impl Into<String>) -> Error {
        let shown = &key[..key.len().min(64)];
        let key = shown.iter().map(|byte| format!("{byte:02x}")).collect();
        Error::Corrupt {
            bucket,
            key,
            why: why.into(),
        }
    }
}
