//! The messages of a `Snapshot` stream: the data file piece by piece, and its SHA-256 at the end
//! (etcd: v3rpc/maintenance.go Snapshot). Reads a pinned state; writers go on.

use api::etcdserverpb::SnapshotResponse;
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

/// Bytes that one job reads, about.
const JOB_BYTES_MAX: usize = 512 * 1024;

/// Reads the pinned file.
pub(super) struct SnapshotReader {
    stream: bbolt::Stream,
    hash: Sha256,
    remaining: u64,
    version: String,
    finished: bool,
}

impl SnapshotReader {
    /// `version` is the storage version, empty where the line does not tell it.
    pub(super) fn new(snapshot: &bbolt::Snapshot, version: String) -> SnapshotReader {
        SnapshotReader {
            stream: snapshot.stream(),
            hash: Sha256::new(),
            remaining: snapshot.size(),
            version,
            finished: false,
        }
    }

    /// Whether the last message was made.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next messages, encoded.
    pub(super) fn read(&mut self) -> Result<Vec<Bytes>, mvcc::Error> {
        let mut messages = Vec::new();
        let mut bytes = 0;
        while bytes < JOB_BYTES_MAX && !self.finished {
            let blob = match self.stream.next_chunk()? {
                Some(chunk) => {
                    self.hash.update(&chunk);
                    self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
                    chunk
                }
                None => {
                    self.finished = true;
                    Bytes::copy_from_slice(&self.hash.finalize_reset())
                }
            };
            bytes += blob.len();
            let message = SnapshotResponse {
                header: None,
                remaining_bytes: self.remaining,
                blob,
                version: self.version.clone(),
            };
            messages.push(message.encode_to_vec().into());
        }
        Ok(messages)
    }
}
