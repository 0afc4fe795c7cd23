//! The store: the one writer of revisions, and the state that is not yet in the data file.

use std::sync::Arc;

use crate::{
    Backend, CommitDone, CommitJob, CompactionDone, CompactionNext, CompactionScan, Error, EventBatch, Extra,
    Reader, View, ViewSource, WriteTxn,
};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of the newest revisions kept in memory although they are in the data file.
    pub recent_bytes_max: usize,
    /// Rows that one step of a compaction scans (etcd: `--compaction-batch-limit`).
    pub compaction_batch: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            recent_bytes_max: 4 << 20,
            compaction_batch: 1000,
        }
    }
}

/// What [`Store::publish`] made public.
pub struct Published {
    /// The new view; [`ViewSource::load`] gives the same.
    pub view: Arc<View>,
    /// The events since the last publication, for the watchers.
    pub events: Arc<EventBatch>,
}

/// How much waits to be committed to the data file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Rows written or deleted.
    pub ops: usize,
    /// Bytes of the revisions among them.
    pub bytes: usize,
    /// Whether it should not wait for the next turn: a compaction has been scheduled.
    pub urgent: bool,
}

/// All revisions of all keys, and the buckets beside them. Driven by one thread.
pub struct Store {
    _todo: (),
}

impl Store {
    /// Opens the store of a data file, making buckets that are missing (with the first commit), and reads
    /// the index. A compaction that was scheduled and not finished is taken up again.
    pub fn open(_db: bbolt::Db, _options: StoreOptions) -> Result<(Store, ViewSource), Error> {
        todo!()
    }

    /// Main revision of the last change; 1 in an empty store.
    pub fn revision(&self) -> i64 {
        todo!()
    }

    /// Revision of the last compaction; −1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        todo!()
    }

    /// Raft index and term of the last entry applied: at open what the file says, then what
    /// [`Store::set_consistent`] was told.
    pub fn consistent(&self) -> (u64, u64) {
        todo!()
    }

    /// The keys that hold a lease, as `(lease, key)` sorted by lease and key. Given once, after open.
    pub fn take_attached(&mut self) -> Vec<(i64, bytes::Bytes)> {
        todo!()
    }

    /// Reads of the state as it is now, published or not.
    pub fn reader(&self) -> Reader<'_> {
        todo!()
    }

    /// Begins a write transaction. Its changes are in the store at once; there is no way back.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        todo!()
    }

    /// The buckets other than `key`, with the writes not yet committed.
    pub fn backend(&mut self) -> &mut Backend {
        todo!()
    }

    /// Says that all entries up to `index` (of `term`) are applied. The next commit records it, with all their writes.
    pub fn set_consistent(&mut self, _index: u64, _term: u64) {
        todo!()
    }

    /// What the next views carry for the upper layer.
    pub fn set_extra(&mut self, _extra: Extra) {
        todo!()
    }

    /// Makes everything done so far visible to readers, by one swap.
    pub fn publish(&mut self) -> Published {
        todo!()
    }

    /// How much waits for a commit.
    pub fn pending(&self) -> Pending {
        todo!()
    }

    /// Takes all pending writes, with the raft index and term they belong to; `None` while another job is
    /// out, or when nothing is pending (an advanced index alone counts only with `force`).
    /// Call it between entries, never within one.
    pub fn take_commit(&mut self, _force: bool) -> Option<CommitJob> {
        todo!()
    }

    /// Takes a job back. After a success, the next publication reads from the new root; after a
    /// failure that changed nothing, the writes are pending again, and the error is returned: the caller decides by
    /// [`bbolt::Error::is_out_of_space`] whether to go on.
    pub fn committed(&mut self, _done: CommitDone) -> Result<(), Error> {
        todo!()
    }

    /// Whether a job is out.
    pub fn is_committing(&self) -> bool {
        todo!()
    }

    /// The file, for its sizes.
    pub fn db(&self) -> &bbolt::Db {
        todo!()
    }

    /// Compacts away what is older than `at`: reads below fail from now on, the rows are deleted in steps
    /// ([`Store::compaction_next`]). Make the schedule durable soon: [`Pending::urgent`].
    pub fn schedule_compaction(&mut self, _at: i64) -> Result<(), Error> {
        todo!()
    }

    /// Does one bounded step of the compaction in hand, or says what it waits for. Between steps that scan, etcd
    /// pauses 10 ms.
    pub fn compaction_next(&mut self) -> CompactionNext {
        todo!()
    }

    /// Takes a scan back; its deletions become pending. `Some` when the compaction is finished.
    pub fn compaction_scanned(&mut self, _scan: CompactionScan) -> Result<Option<CompactionDone>, Error> {
        todo!()
    }

    /// Whether a compaction is scheduled and not finished.
    pub fn is_compacting(&self) -> bool {
        todo!()
    }
}
