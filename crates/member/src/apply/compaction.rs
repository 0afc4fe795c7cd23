//! Runs the store's compaction in bounded steps, with etcd's pauses between them.

use api::clock::Instant;

use super::file::Waiting;
use super::{Apply, Broken, Found, JobDone};
use crate::log::{LogLine, human_bytes};
use crate::measure::{Measure, Work};
use crate::message::ToApply;
use crate::router::{Job, JobKind, Router};

/// How far the compaction in hand is.
pub(super) struct Compaction {
    /// When the next step is due; `None` while it waits for a scan or a commit, or there is none.
    next: Option<Instant>,
    /// Whether a scan is out.
    scanning: bool,
    started: Instant,
}

impl Compaction {
    /// A compaction that an earlier process did not finish goes on at once.
    pub(super) fn new(now: Instant) -> Compaction {
        Compaction {
            next: Some(now),
            scanning: false,
            started: now,
        }
    }

    /// What was asked for while a scan is out begins when that has ended.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.next.filter(|_| !self.scanning)
    }

    pub(super) fn is_scanning(&self) -> bool {
        self.scanning
    }

    pub(super) fn scheduled(&mut self, _revision: i64, now: Instant) {
        self.next = Some(now);
        self.started = now;
    }

    /// A commit may be what it waited for.
    pub(super) fn file_committed(&mut self, now: Instant) {
        if !self.scanning && self.next.is_none() {
            self.next = Some(now);
        }
    }
}

impl Apply {
    pub(super) fn step_compaction(&mut self, now: Instant, router: &dyn Router) {
        if self.stopping || self.compaction.scanning || self.compaction.next.is_none_or(|next| next > now) {
            return;
        }
        router.measure(Measure::Begins(Work::CompactIndex));
        let next = self.machine.store().compaction_next();
        // The scan, or a wait, is not of the index.
        if matches!(next, mvcc::CompactionNext::Again) {
            router.measure(Measure::Ends(Work::CompactIndex));
        }
        self.compaction.next = match next {
            mvcc::CompactionNext::Idle | mvcc::CompactionNext::Waits => None,
            mvcc::CompactionNext::Again => Some(now),
            mvcc::CompactionNext::Scan(mut scan) => {
                self.compaction.scanning = true;
                router.job(Job::new(JobKind::Compact, move |router: &dyn Router| {
                    router.measure(Measure::Begins(Work::CompactRows));
                    let result = scan.run();
                    router.measure(Measure::Ends(Work::CompactRows));
                    router.to_apply(ToApply::JobDone(JobDone(Found::Scanned(scan, result))));
                }));
                None
            }
        };
    }

    pub(super) fn compaction_scanned(
        &mut self,
        scan: mvcc::CompactionScan,
        result: Result<(), mvcc::Error>,
        now: Instant,
        router: &dyn Router,
    ) -> Result<(), Broken> {
        self.compaction.scanning = false;
        result?;
        if let Some(done) = self.machine.store().compaction_scanned(scan)? {
            let took = now - self.compaction.started;
            router.measure(Measure::Compacted { took });
            self.shared.tallies.compacted_rows.add(done.deleted);
            let db = self.machine.store().db();
            let (size, size_in_use) = (db.size(), db.size_in_use());
            // Scripts read this line by the position of its fields.
            router.log(
                LogLine::info("finished scheduled compaction")
                    .with("compact-revision", done.revision)
                    .with("took", took)
                    .with("number-of-keys-compacted", done.deleted)
                    .with("hash", u64::from(done.hash.hash))
                    .with("current-db-size-bytes", size)
                    .with("current-db-size", human_bytes(size))
                    .with("current-db-size-in-use-bytes", size_in_use)
                    .with("current-db-size-in-use", human_bytes(size_in_use)),
            );
            if done.covers_all {
                router.log(
                    LogLine::info("storing new hash")
                        .with("hash", u64::from(done.hash.hash))
                        .with("revision", done.revision)
                        .with("compact-revision", done.hash.compact_revision),
                );
            }
            self.file.wait(Waiting::Compacted(done.revision));
        }
        self.compaction.next = Some(now + self.config.compaction_sleep_interval);
        Ok(())
    }
}
