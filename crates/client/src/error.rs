//! Why there is no connection.

use api::error::Status;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings of the client are wrong.
    #[error("{0}")]
    Settings(String),
    /// An endpoint that nobody can reach, whoever tries.
    #[error("{0}")]
    Unreachable(String),
    /// No connection within the time given.
    #[error("context deadline exceeded")]
    TimedOut {
        /// The endpoint that was tried last, and what came of it.
        last: String,
    },
    /// The server does not take who asks for who that claims to be.
    #[error("{0}")]
    Identity(Status),
    /// A connection that was tried once did not come about.
    #[error("{0}")]
    Failed(String),
}
