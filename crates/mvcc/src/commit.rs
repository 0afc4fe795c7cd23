//! Pending writes on their way to the data file.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bbolt::{Batch, Db, Snapshot};
use bytes::{Bytes, BytesMut};

use crate::recent::RecentWrites;
use crate::schema::{KEY, META};
use crate::{Rev, RevKey, schema};

/// One commit of the data file, to be run on any thread: the revisions written since the last one, the rows of the other
/// buckets, and the raft index and term that belong to them.
pub struct CommitJob {
    db: Db,
    rows: Arc<Batch>,
    recent: RecentWrites,
    revisions: RangeInclusive<i64>,
    consistent: (u64, u64),
    ops: usize,
}

/// A commit that was tried.
pub struct CommitDone {
    pub(crate) result: Result<Snapshot, bbolt::Error>,
}

impl CommitJob {
    pub(crate) fn new(
        db: Db,
        rows: Arc<Batch>,
        recent: RecentWrites,
        revisions: RangeInclusive<i64>,
        consistent: (u64, u64),
        ops: usize,
    ) -> CommitJob {
        let ops = ops + rows.len();
        CommitJob {
            db,
            rows,
            recent,
            revisions,
            consistent,
            ops,
        }
    }

    /// Raft index that the file will have after it.
    pub fn index(&self) -> u64 {
        self.consistent.0
    }

    /// Rows written or deleted.
    pub fn ops(&self) -> usize {
        self.ops
    }

    /// Commits. Waits for the device. The outcome goes to [`crate::Store::committed`].
    pub fn run(self) -> CommitDone {
        let batch = self.batch();
        let result = self.db.commit(&batch).map(|_| self.db.snapshot());
        CommitDone { result }
    }

    /// All that the commit writes, in the order of the rows.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::clone(&self.rows);
        let mut row_keys = BytesMut::with_capacity(self.ops.min(1 << 16) * (RevKey::LEN + 1));
        let from = Rev::new(*self.revisions.start(), 0);
        let taken = |main: i64| main <= *self.revisions.end();
        for recent in self
            .recent
            .iter_from(from)
            .take_while(|recent| taken(recent.key.rev.main))
        {
            batch.put(
                KEY.as_bytes(),
                row_key(&mut row_keys, recent.key),
                recent.record.clone(),
            );
        }
        let (index, term) = self.consistent;
        for (key, number) in [(schema::CONSISTENT_INDEX, index), (schema::TERM, term)] {
            // 0 means "not known yet" and is never written: schema/cindex.go.
            if index > 0 && number > 0 {
                let value = Bytes::copy_from_slice(&number.to_be_bytes());
                batch.put(META.as_bytes(), Bytes::from_static(key), value);
            }
        }
        batch
    }
}

fn row_key(arena: &mut BytesMut, key: RevKey) -> Bytes {
    arena.extend_from_slice(&key.rev.to_bytes());
    if key.tombstone {
        arena.extend_from_slice(b"t");
    }
    arena.split().freeze()
}

impl CommitDone {
    /// Whether the file has the writes.
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }
}
