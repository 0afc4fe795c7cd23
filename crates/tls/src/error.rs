//! What can be wrong with settings and files, in the words of etcd and of Go's library.

use std::path::{Path, PathBuf};

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A certificate without its key or the reverse.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    Half {
        /// The key's file.
        key: String,
        /// The certificate's file.
        cert: String,
    },
    /// The same for the certificate shown to servers. The odd bracket is etcd's.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    ClientHalf {
        /// The key's file.
        key: String,
        /// The certificate's file.
        cert: String,
    },
    /// A file cannot be read.
    #[error("{operation} {}: {reason}", path.display())]
    File {
        /// What failed: a directory can be opened, and not read.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, in Go's words.
        reason: String,
        /// It is not there.
        missing: bool,
    },
    /// What a file holds is not what it should, or two files do not belong together.
    #[error("{0}")]
    Content(
        /// Go's text.
        String,
    ),
    /// The settings allow nothing that both sides could speak.
    #[error("{0}")]
    Settings(
        /// Why.
        String,
    ),
}

impl Error {
    /// A failure to read a file, with Go's words for the usual reasons.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Error {
        use std::io::ErrorKind;
        let reason = match error.kind() {
            ErrorKind::NotFound => "no such file or directory".to_string(),
            ErrorKind::PermissionDenied => "permission denied".to_string(),
            ErrorKind::IsADirectory => "is a directory".to_string(),
            _ => error.to_string(),
        };
        Error::File {
            operation: match error.kind() {
                ErrorKind::IsADirectory => "read",
                _ => "open",
            },
            path: path.to_path_buf(),
            reason,
            missing: error.kind() == ErrorKind::NotFound,
        }
    }

    /// Whether a file is not there, which etcd logs in other words.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Error::File { missing: true, .. })
    }
}
