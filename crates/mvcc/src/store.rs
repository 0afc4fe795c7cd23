//! The store: the one writer of revisions, and the state that is not yet in the data file.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::compaction::Compactor;
use crate::index::KeyIndex;
use crate::recent::RecentLog;
use crate::restore::{Restored, restore};
use crate::{
    Backend, CommitDone, CommitJob, CompactionDone, CompactionNext, CompactionScan, Error, Event, EventBatch,
    Extra, KeyValueHash, OpCounts, Reader, View, ViewSource, WriteTxn,
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

/// A commit that is under way.
struct InFlight {
    revision: i64,
    consistent: (u64, u64),
    schedule: Option<i64>,
    pending: Pending,
}

/// All revisions of all keys, and the buckets beside them. Driven by one thread.
pub struct Store {
    db: bbolt::Db,
    options: StoreOptions,
    source: ViewSource,
    pub(crate) index: KeyIndex,
    pub(crate) recent: RecentLog,
    backend: Backend,
    /// The file as of the last commit: it holds all revisions up to `committed_revision`.
    snapshot: bbolt::Snapshot,
    committed_revision: i64,
    committed_consistent: (u64, u64),
    pub(crate) revision: i64,
    compact_revision: i64,
    consistent: (u64, u64),
    /// Of the revisions that no commit has taken.
    pub(crate) pending: Pending,
    in_flight: Option<InFlight>,
    compactor: Compactor,
    /// The newest compaction that the file knows of.
    durable_schedule: Option<i64>,
    hashes: Arc<Vec<KeyValueHash>>,
    pub(crate) events: Vec<Event>,
    /// Where records are encoded, many to an allocation.
    pub(crate) arena: BytesMut,
    extra: Extra,
    attached: Vec<(i64, Bytes)>,
    pub(crate) counts: OpCounts,
}

impl Store {
    /// Opens the store of a data file, making buckets that are missing (with the first commit), and reads
    /// the index. A compaction that was scheduled and not finished is taken up again.
    pub fn open(db: bbolt::Db, options: StoreOptions) -> Result<(Store, ViewSource), Error> {
        let mut store = Store::build(db, options, None)?;
        if store.resume_compaction()? {
            store.publish();
        }
        let source = store.source.clone();
        Ok((store, source))
    }

    /// Opens the store of a data file that takes the place of another: its first publication goes to the readers
    /// of `source`, who see the old store until then.
    pub fn succeed(db: bbolt::Db, options: StoreOptions, source: &ViewSource) -> Result<Store, Error> {
        let mut store = Store::build(db, options, Some(source))?;
        store.resume_compaction()?;
        Ok(store)
    }

    /// Takes up again a compaction that was scheduled and not finished.
    fn resume_compaction(&mut self) -> Result<bool, Error> {
        let scheduled = self
            .durable_schedule
            .filter(|&scheduled| scheduled > self.compact_revision);
        if let Some(scheduled) = scheduled {
            self.schedule_compaction(scheduled)?;
        }
        Ok(scheduled.is_some())
    }

    fn build(db: bbolt::Db, options: StoreOptions, source: Option<&ViewSource>) -> Result<Store, Error> {
        let snapshot = db.snapshot();
        let restored = restore(&snapshot)?;
        let backend = Backend::new(snapshot.clone())?;
        let consistent = crate::schema::consistent_index(&snapshot)?;
        let Restored {
            index,
            revision,
            compact_revision,
            compactions,
            attached,
        } = restored;
        let recent = RecentLog::new();
        let extra: Extra = Arc::new(());
        let hashes = Arc::new(Vec::new());
        let view = View {
            revision,
            compact_revision,
            applied_index: consistent.0,
            applied_term: consistent.1,
            db: snapshot.clone(),
            extra: extra.clone(),
            hashes: hashes.clone(),
            index: index.clone(),
            recent: recent.reader().clone(),
            committed_revision: revision,
        };
        let source = source.map_or_else(|| ViewSource::new(Arc::new(view)), ViewSource::clone);
        Ok(Store {
            db,
            source,
            index,
            recent,
            backend,
            snapshot,
            committed_revision: revision,
            committed_consistent: consistent,
            revision,
            compact_revision,
            consistent,
            pending: Pending::default(),
            in_flight: None,
            compactor: Compactor::new(compactions, options.compaction_batch),
            durable_schedule: compactions.scheduled,
            hashes,
            events: Vec::new(),
            arena: BytesMut::new(),
            extra,
            attached,
            counts: OpCounts::default(),
            options,
        })
    }

    /// Main revision of the last change; 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Operations since the store was opened.
    pub fn counts(&self) -> OpCounts {
        self.counts
    }

    /// Counts a read of so many ranges that was not made through a transaction of this store.
    pub fn count_reads(&mut self, ranges: u64) {
        self.counts.add(OpCounts {
            ranges,
            ..OpCounts::default()
        });
    }

    /// Revision of the last compaction; −1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Raft index and term of the last entry applied: at open what the file says, then what
    /// [`Store::set_consistent`] was told.
    pub fn consistent(&self) -> (u64, u64) {
        self.consistent
    }

    /// Raft index and term that the data file has: what a crash now would leave.
    pub fn committed_consistent(&self) -> (u64, u64) {
        self.committed_consistent
    }

    /// The keys that hold a lease, as `(lease, key)` sorted by lease and key. Given once, after open.
    pub fn take_attached(&mut self) -> Vec<(i64, Bytes)> {
        std::mem::take(&mut self.attached)
    }

    /// Keys that are there now.
    pub fn keys(&self) -> u64 {
        self.index.len()
    }

    /// Reads of the state as it is now, published or not.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            index: &self.index,
            recent: self.recent.reader(),
            db: &self.snapshot,
            revision: self.revision,
            compact_revision: self.compact_revision,
        }
    }

    /// Begins a write transaction. Its changes are in the store at once; there is no way back.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// The buckets other than `key`, with the writes not yet committed.
    pub fn backend(&mut self) -> &mut Backend {
        &mut self.backend
    }

    /// The same, for reading.
    pub fn backend_ref(&self) -> &Backend {
        &self.backend
    }

    /// Says that all entries up to `index` (of `term`) are applied. The next commit records it, with all their writes.
    pub fn set_consistent(&mut self, index: u64, term: u64) {
        debug_assert!(index >= self.consistent.0, "entries are applied in order");
        self.consistent = (index, term);
    }

    /// What the next views carry for the upper layer.
    pub fn set_extra(&mut self, extra: Extra) {
        self.extra = extra;
    }

    /// Makes everything done so far visible to readers, by one swap.
    pub fn publish(&mut self) -> Published {
        let view = Arc::new(View {
            revision: self.revision,
            compact_revision: self.compact_revision,
            applied_index: self.consistent.0,
            applied_term: self.consistent.1,
            db: self.snapshot.clone(),
            extra: self.extra.clone(),
            hashes: self.hashes.clone(),
            index: self.index.clone(),
            recent: self.recent.reader().clone(),
            committed_revision: self.committed_revision,
        });
        self.source.swap(view.clone());
        let events = EventBatch {
            events: std::mem::take(&mut self.events),
            revision: self.revision,
        };
        Published {
            view,
            events: Arc::new(events),
        }
    }

    /// How much waits for a commit.
    pub fn pending(&self) -> Pending {
        Pending {
            ops: self.pending.ops + self.backend.pending_len(),
            ..self.pending
        }
    }

    /// Takes all pending writes, with the raft index and term they belong to; `None` while another job is
    /// out, or when nothing is pending (an advanced index alone, and a file of which it is not sure that what it holds is
    /// durable, count only with `force`).
    /// Call it between entries, never within one.
    pub fn take_commit(&mut self, force: bool) -> Option<CommitJob> {
        if self.in_flight.is_some() {
            return None;
        }
        let written = self.revision > self.committed_revision || self.backend.is_dirty();
        let advanced = force && (self.consistent != self.committed_consistent || !self.db.is_settled());
        if !written && !advanced {
            return None;
        }
        let (revision, consistent) = (self.revision, self.consistent);
        let pending = std::mem::take(&mut self.pending);
        let job = CommitJob::new(
            self.db.clone(),
            self.backend.take(),
            self.recent.reader().clone(),
            self.committed_revision + 1..=revision,
            consistent,
            pending.ops,
        );
        let schedule = self.compactor.scheduled();
        self.in_flight = Some(InFlight {
            revision,
            consistent,
            schedule,
            pending,
        });
        Some(job)
    }

    /// Takes a job back. After a success, the next publication reads from the new root; after a
    /// failure that changed nothing, the writes are pending again, and the error is returned: the caller decides by
    /// [`bbolt::Error::is_out_of_space`] whether to go on.
    pub fn committed(&mut self, done: CommitDone) -> Result<(), Error> {
        let taken = self
            .in_flight
            .take()
            .expect("only one job is out, and it comes back once");
        match done.result {
            Ok(snapshot) => {
                self.committed_revision = taken.revision;
                self.committed_consistent = taken.consistent;
                self.durable_schedule = taken.schedule;
                self.backend.committed(snapshot.clone());
                self.snapshot = snapshot;
                self.recent.trim(taken.revision, self.options.recent_bytes_max);
                Ok(())
            }
            Err(error) => {
                self.backend.failed();
                self.pending.ops += taken.pending.ops;
                self.pending.bytes += taken.pending.bytes;
                self.pending.urgent |= taken.pending.urgent;
                Err(Error::Backend(error))
            }
        }
    }

    /// Whether a job is out.
    pub fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Goes on with another file that holds the same as this one after its last commit: a defragmented copy. No job
    /// may be out. What is pending stays pending; published views keep the old file as long as they live.
    pub fn replace_db(&mut self, db: bbolt::Db) {
        assert!(
            self.in_flight.is_none(),
            "no commit is on its way to the old file"
        );
        self.snapshot = db.snapshot();
        self.backend.committed(self.snapshot.clone());
        self.db = db;
    }

    /// The file, for its sizes.
    pub fn db(&self) -> &bbolt::Db {
        &self.db
    }

    /// Compacts away what is older than `at`: reads below fail from now on, the rows are deleted in steps
    /// ([`Store::compaction_next`]). Make the schedule durable soon: [`Pending::urgent`].
    pub fn schedule_compaction(&mut self, at: i64) -> Result<(), Error> {
        if at <= self.compact_revision {
            return Err(Error::Compacted);
        }
        if at > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compactor
            .schedule(at, self.compact_revision, &mut self.backend);
        self.compact_revision = at;
        self.pending.urgent = true;
        Ok(())
    }

    /// Does one bounded step of the compaction in hand, or says what it waits for. Between steps that scan, etcd
    /// pauses 10 ms.
    pub fn compaction_next(&mut self) -> CompactionNext {
        let next = self
            .compactor
            .next(&mut self.index, &self.snapshot, self.durable_schedule);
        if matches!(next, CompactionNext::Waits) && !self.compactor.is_scanning() {
            self.pending.urgent = true;
        }
        next
    }

    /// Takes a scan back; its deletions become pending. `Some` when the compaction is finished.
    pub fn compaction_scanned(&mut self, scan: CompactionScan) -> Result<Option<CompactionDone>, Error> {
        let done = self.compactor.scanned(scan, &mut self.backend);
        if let Some(hash) = done.filter(|done| done.covers_all).map(|done| done.hash) {
            let mut hashes = self.hashes.to_vec();
            hashes.push(hash);
            hashes.sort_by_key(|hash| hash.revision);
            hashes.drain(..hashes.len().saturating_sub(crate::hash::HASHES_MAX));
            self.hashes = Arc::new(hashes);
        }
        Ok(done)
    }

    /// Whether a compaction is scheduled and not finished.
    pub fn is_compacting(&self) -> bool {
        self.compactor.is_busy()
    }

    /// The revisions of compactions scheduled and not finished, in order.
    pub fn compactions(&self) -> VecDeque<i64> {
        self.compactor.revisions()
    }
}
