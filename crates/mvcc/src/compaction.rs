//! Deleting what a compaction leaves behind, in bounded steps.
//!
//! A compaction goes through three phases: it takes the old revisions out of the index, some keys a step; it waits until
//! its schedule is in the file; it scans the rows up to its revision, a batch a step, deletes those that the index does not
//! keep, and hashes all. etcd: server/storage/mvcc/kvstore_compaction.go.

use std::collections::VecDeque;

use bbolt::{Snapshot, Wait};
use bytes::Bytes;

use crate::hash::KvHasher;
use crate::index::KeyIndex;
use crate::schema::{Compactions, FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT};
use crate::{Backend, Error, KeyValueHash, Rev, RevKey};

/// Keys of the index that one step regards.
const INDEX_STEP_KEYS: usize = 2000;

/// What the compaction in hand needs.
pub enum CompactionNext {
    /// There is none.
    Idle,
    /// A step was done in memory; there is more, ask again when convenient.
    Again,
    /// It waits for a commit of what is pending, or for a scan that is out.
    Waits,
    /// A scan to run on a thread that may wait, and then to give to [`crate::Store::compaction_scanned`].
    Scan(Box<CompactionScan>),
}

/// A step that reads rows of the data file.
pub struct CompactionScan {
    work: Work,
    db: Snapshot,
    deleted: Vec<Bytes>,
}

/// A finished compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionDone {
    /// The revision compacted to.
    pub revision: i64,
    /// The hash of what was scanned.
    pub hash: KeyValueHash,
    /// Whether the hash says all of these revisions: not if an earlier compaction was not finished.
    pub covers_all: bool,
    /// Rows deleted.
    pub deleted: u64,
}

/// What goes from scan to scan.
struct Work {
    at: i64,
    batch_rows: usize,
    /// Whether the hash is worth keeping.
    keeps_hash: bool,
    /// The index from which the kept revisions are still to be taken.
    index: Option<KeyIndex>,
    /// The kept revisions, ascending, and how many of them are passed.
    kept: Vec<Rev>,
    passed: usize,
    hasher: KvHasher,
    /// Where to go on.
    from: Rev,
    deleted: u64,
    finished: bool,
}

impl CompactionScan {
    /// Reads the next rows. May wait for the device. After an error, nothing of this step has happened.
    pub fn run(&mut self) -> Result<(), Error> {
        let work = &mut self.work;
        if let Some(index) = work.index.take() {
            index.visit_kept(&[], work.at, usize::MAX, |rev, _| work.kept.push(rev));
            work.kept.sort_unstable();
            work.hasher.keeps_any = !work.kept.is_empty();
        }
        let mut cursor = self.db.cursor(KEY.as_bytes(), Wait::Yes)?;
        let mut next = cursor.seek(&work.from.to_bytes())?;
        let (mut from, mut passed, mut rows) = (work.from, work.passed, 0);
        let mut hasher = work.hasher.clone();
        let mut deleted = Vec::new();
        while let Some((key, value)) = next.take() {
            let at = RevKey::decode(&key)?;
            if at.rev.main > work.at {
                break;
            }
            passed += work.kept[passed..]
                .iter()
                .take_while(|kept| **kept < at.rev)
                .count();
            let is_kept = work.kept.get(passed) == Some(&at.rev);
            if !is_kept {
                // A copy: the slice would keep its page in memory.
                deleted.push(Bytes::copy_from_slice(&key));
            }
            hasher.row(at, is_kept, &key, &value);
            from = Rev::new(at.rev.main, at.rev.sub.saturating_add(1));
            rows += 1;
            if rows == work.batch_rows {
                break;
            }
            next = cursor.next()?;
        }
        (work.from, work.passed, work.hasher) = (from, passed, hasher);
        work.deleted += deleted.len() as u64;
        work.finished = rows < work.batch_rows;
        self.deleted = deleted;
        Ok(())
    }
}

enum State {
    /// Old revisions are being taken out of the index, from this key on.
    Index(Vec<u8>),
    /// The next scan may go.
    Ready(Box<Work>),
    /// A scan is out.
    Out,
}

/// The compactions scheduled and not finished; the first is in hand.
pub(crate) struct Compactor {
    marks: Compactions,
    batch_rows: usize,
    /// Revision, the one before it, whether the hash will cover all.
    queue: VecDeque<(i64, i64, bool)>,
    state: State,
}

impl Compactor {
    pub(crate) fn new(marks: Compactions, batch_rows: usize) -> Compactor {
        let batch_rows = batch_rows.max(1);
        Compactor {
            marks,
            batch_rows,
            queue: VecDeque::new(),
            state: State::Index(Vec::new()),
        }
    }

    pub(crate) fn schedule(&mut self, at: i64, previous: i64, backend: &mut Backend) {
        // If the one before is not finished, some rows are gone that its hash would have to cover.
        let keeps_hash = self.marks.scheduled == self.marks.finished;
        self.marks.scheduled = Some(at);
        backend.put(META, SCHEDULED_COMPACT, &Rev::new(at, 0).to_bytes());
        self.queue.push_back((at, previous, keeps_hash));
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn is_scanning(&self) -> bool {
        matches!(self.state, State::Out)
    }

    /// The newest revision that a compaction was scheduled for, ever.
    pub(crate) fn scheduled(&self) -> Option<i64> {
        self.marks.scheduled
    }

    pub(crate) fn revisions(&self) -> VecDeque<i64> {
        self.queue.iter().map(|job| job.0).collect()
    }

    pub(crate) fn next(
        &mut self,
        index: &mut KeyIndex,
        db: &Snapshot,
        durable_schedule: Option<i64>,
    ) -> CompactionNext {
        let Some(&(at, previous, keeps_hash)) = self.queue.front() else {
            return CompactionNext::Idle;
        };
        match std::mem::replace(&mut self.state, State::Out) {
            State::Out => CompactionNext::Waits,
            State::Index(from) => {
                self.state = match index.compact(&from, at, INDEX_STEP_KEYS) {
                    Some(next) => State::Index(next),
                    None => State::Ready(Box::new(Work {
                        at,
                        batch_rows: self.batch_rows,
                        keeps_hash,
                        index: Some(index.clone()),
                        kept: Vec::new(),
                        passed: 0,
                        hasher: KvHasher::new(previous, at),
                        from: Rev::default(),
                        deleted: 0,
                        finished: false,
                    })),
                };
                CompactionNext::Again
            }
            // No row goes before the schedule is in the file; with it are all revisions that it is about.
            State::Ready(work) if durable_schedule < Some(at) => {
                self.state = State::Ready(work);
                CompactionNext::Waits
            }
            State::Ready(work) => CompactionNext::Scan(Box::new(CompactionScan {
                work: *work,
                db: db.clone(),
                deleted: Vec::new(),
            })),
        }
    }

    pub(crate) fn scanned(&mut self, scan: CompactionScan, backend: &mut Backend) -> Option<CompactionDone> {
        let CompactionScan { work, deleted, .. } = scan;
        for key in deleted {
            backend.delete_revision(key);
        }
        if !work.finished {
            self.state = State::Ready(Box::new(work));
            return None;
        }
        backend.put(META, FINISHED_COMPACT, &Rev::new(work.at, 0).to_bytes());
        self.marks.finished = Some(work.at);
        self.queue.pop_front();
        self.state = State::Index(Vec::new());
        Some(CompactionDone {
            revision: work.at,
            hash: work.hasher.finish(),
            covers_all: work.keeps_hash,
            deleted: work.deleted,
        })
    }
}
