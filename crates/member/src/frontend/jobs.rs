//! Work that a front thread hands to the pool: reads that need the disk or are large, hashes,
//! pieces of a snapshot, scans of the past. Each piece is bounded; long work comes back in between.

use std::sync::Arc;

use api::etcdserverpb::{RangeRequest, TxnRequest};
use api::version::Line;
use bytes::Bytes;
use mvcc::{View, Wait};

use super::encode::Header;
use super::snapshot::SnapshotReader;
use super::watch::{HistoryDone, HistoryJob};
use super::{Token, read};
use crate::router::JobKind;

/// Rows that a hash regards in one piece.
const HASH_ROWS_MAX: usize = 20_000;

/// A piece of work for a pool thread.
pub struct Job(pub(super) Work);

pub(super) enum Work {
    Range {
        id: u64,
        request: Box<RangeRequest>,
        view: Arc<View>,
        header: Header,
        line: Line,
    },
    Txn {
        id: u64,
        request: Box<TxnRequest>,
        view: Arc<View>,
        header: Header,
        line: Line,
    },
    RangeStream {
        token: Token,
        serial: u64,
        chunk: Box<read::Chunk>,
        view: Arc<View>,
    },
    HashKv {
        id: u64,
        hash: Box<mvcc::HashKv>,
    },
    Hash {
        id: u64,
        hash: Box<mvcc::Hash>,
        revision: i64,
    },
    Snapshot {
        token: Token,
        serial: u64,
        reader: Box<SnapshotReader>,
    },
    History(HistoryJob),
}

/// What a job found.
pub struct JobDone(pub(super) Found);

pub(super) enum Found {
    Answer {
        id: u64,
        result: Result<Bytes, read::Failure>,
    },
    RangeStream {
        token: Token,
        serial: u64,
        chunk: Box<read::Chunk>,
        result: Result<Bytes, mvcc::Error>,
    },
    HashKv {
        id: u64,
        hash: Box<mvcc::HashKv>,
        result: Result<Option<mvcc::KeyValueHash>, mvcc::Error>,
    },
    Hash {
        id: u64,
        hash: Box<mvcc::Hash>,
        revision: i64,
        result: Result<Option<u32>, mvcc::Error>,
    },
    Snapshot {
        token: Token,
        serial: u64,
        reader: Box<SnapshotReader>,
        result: Result<Vec<Bytes>, mvcc::Error>,
    },
    History(HistoryDone),
}

impl Job {
    /// What kind of work it is.
    pub fn kind(&self) -> JobKind {
        match &self.0 {
            Work::Range { .. } | Work::Txn { .. } | Work::RangeStream { .. } | Work::History(_) => {
                JobKind::Read
            }
            Work::HashKv { .. } | Work::Hash { .. } => JobKind::Hash,
            Work::Snapshot { .. } => JobKind::SnapshotStream,
        }
    }

    /// Does the work. May wait for the disk.
    pub fn run(self) -> JobDone {
        JobDone(match self.0 {
            Work::Range {
                id,
                request,
                view,
                header,
                line,
            } => Found::Answer {
                id,
                result: read::range(&view, &request, header, line, Wait::Yes),
            },
            Work::Txn {
                id,
                request,
                view,
                header,
                line,
            } => Found::Answer {
                id,
                result: read::txn(&view, &request, header, line, Wait::Yes),
            },
            Work::RangeStream {
                token,
                serial,
                mut chunk,
                view,
            } => {
                let result = chunk.read(&view, Wait::Yes);
                Found::RangeStream {
                    token,
                    serial,
                    chunk,
                    result,
                }
            }
            Work::HashKv { id, mut hash } => {
                let result = hash.step(HASH_ROWS_MAX, Wait::Yes);
                Found::HashKv { id, hash, result }
            }
            Work::Hash {
                id,
                mut hash,
                revision,
            } => {
                let result = hash.step(HASH_ROWS_MAX, Wait::Yes);
                Found::Hash {
                    id,
                    hash,
                    revision,
                    result,
                }
            }
            Work::Snapshot {
                token,
                serial,
                mut reader,
            } => {
                let result = reader.read();
                Found::Snapshot {
                    token,
                    serial,
                    reader,
                    result,
                }
            }
            Work::History(job) => Found::History(job.run()),
        })
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Job").field(&self.kind()).finish()
    }
}
