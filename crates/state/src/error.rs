//! Why the machine can not go on. Everything here is fatal: a member that skipped an entry would
//! differ from the others for ever. What a client did wrong is a `Status` in its reply instead.

use api::version::Version;

/// Why an entry, or the stored state, can not be taken. The member stops; its files stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store below failed: a file that can not be read, a row that does not decode.
    #[error("store: {0}")]
    Store(#[from] mvcc::Error),
    /// The data of an entry is no message that any etcd writes. The log is damaged, or written by
    /// a release that this one does not know.
    #[error(
        "entry {index}: the data is not a known request ({reason}); the log is damaged or from a newer release"
    )]
    Undecodable {
        /// The entry's index in the log.
        index: u64,
        /// What was wrong with the bytes.
        reason: String,
    },
    /// A well-formed entry with none of the requests that this release knows.
    #[error(
        "entry {index}: unknown request (field {field}); a newer release wrote this log, run that release"
    )]
    UnknownRequest {
        /// The entry's index in the log.
        index: u64,
        /// The number of the first unknown field, 0 if there is none at all.
        field: u32,
    },
    /// A legacy v2 request other than the two that members of 3.5 write for themselves.
    #[error(
        "entry {index}: v2 request {method} {path:?} is not supported; only etcd 3.5 with --enable-v2 applies it"
    )]
    V2Request {
        /// The entry's index in the log.
        index: u64,
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// A request without an id: neither its own field nor a header.
    #[error("entry {index}: the request has no header")]
    NoHeader {
        /// The entry's index in the log.
        index: u64,
    },
    /// A joint configuration change, which no etcd writes.
    #[error(
        "entry {index}: configuration changes of the second form are not supported by any etcd; the log is not etcd's"
    )]
    ConfChangeV2 {
        /// The entry's index in the log.
        index: u64,
    },
    /// A configuration change whose context does not fit it.
    #[error("entry {index}: configuration change of member {node_id:x}: {reason}")]
    ConfChange {
        /// The entry's index in the log.
        index: u64,
        /// The member that the change names.
        node_id: u64,
        /// What does not fit.
        reason: String,
    },
    /// Attributes for a member that never was.
    #[error("entry {index}: attributes of member {id:x}, which was never part of the cluster")]
    UnknownMember {
        /// The entry's index in the log.
        index: u64,
        /// The unknown member.
        id: u64,
    },
    /// The cluster's version is above this member's: its data may have what this release can not read.
    #[error("invalid downgrade; server version {server} is lower than determined cluster version {cluster}")]
    ClusterVersionAbove {
        /// The release that this member is.
        server: Version,
        /// The cluster's version.
        cluster: Version,
    },
    /// A text that should be a version.
    #[error("entry {index}: {text:?} is not a version")]
    BadVersion {
        /// The entry's index in the log.
        index: u64,
        /// The text.
        text: String,
    },
    /// An operation of a txn could not be done after others were. Only what no front of ours lets into the log does
    /// this (a value is kept that the txn deleted before); etcd stops there too.
    #[error("entry {index}: an operation failed after the txn had begun to write: {status}")]
    PartialTxn {
        /// The entry's index in the log.
        index: u64,
        /// What the operation failed with.
        status: api::error::Status,
    },
    /// A password as releases before 3.5 wrote it: each member would store another hash of it.
    #[error(
        "entry {index}: {what} has a password that is not hashed, as releases before etcd 3.5 wrote it; start this \
         directory with etcd until a snapshot lies behind the entry"
    )]
    PlainPassword {
        /// The entry's index in the log.
        index: u64,
        /// The request's name.
        what: &'static str,
    },
    /// The v2 store document of a snapshot file does not decode.
    #[error("v2 store document: {0}")]
    V2Store(String),
}
