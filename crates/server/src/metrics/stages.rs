//! How long the member's stages take, put together from what they say at their beginnings and
//! ends. The only place where the clock is read for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::clock::Instant;
use member::{AppliedEntry, Measure, Work};
use state::OpKind;

use super::calls::{REQUESTS, RequestKind};
use super::histogram::{APPLY, COMPACTION, DEFRAG, Histogram, INDEX_PAUSE, ROW_PAUSE, USUAL};
use crate::config::Span;
use crate::log::{Log, request};

const WORKS: usize = Work::SaveSnapshot as usize + 1;

/// See the module.
#[derive(Debug)]
pub struct StageMetrics {
    /// `etcd_server_apply_duration_seconds` by the number of the operation, refused and done.
    pub apply: Vec<[Histogram; 2]>,
    /// Requests of the member itself, by the number of the kind, failed and answered.
    pub own_requests: Vec<[Histogram; 2]>,
    /// `etcd_server_slow_apply_total`, without the reads.
    pub slow_applies: AtomicU64,
    /// Transactions of the data file.
    pub commit: Histogram,
    /// Of these, waiting for the disk.
    pub commit_write: Histogram,
    /// Of these, making pages.
    pub commit_spill: Histogram,
    /// Of these, joining pages that have become small: a part of making pages here.
    pub commit_rebalance: Histogram,
    /// Copies of the data file.
    pub defrag: Histogram,
    /// Whether one is being made.
    pub defrag_inflight: AtomicU64,
    /// Steps of compactions in the index.
    pub compact_index: Histogram,
    /// Steps of compactions in the data file.
    pub compact_rows: Histogram,
    /// Whole compactions.
    pub compaction: Histogram,
    /// When the last one ended, in seconds since 1970.
    pub compaction_last: AtomicU64,
    /// Snapshot files written.
    pub snap_save: Histogram,
    /// Their contents made.
    pub snap_marshal: Histogram,
    /// When each kind of work began, in nanoseconds of the clock.
    began: [AtomicU64; WORKS],
}

impl Default for StageMetrics {
    fn default() -> StageMetrics {
        let usual = || Histogram::new(USUAL);
        StageMetrics {
            apply: (0..OpKind::ALL.len())
                .map(|_| [Histogram::new(APPLY), Histogram::new(APPLY)])
                .collect(),
            own_requests: (0..REQUESTS).map(|_| [usual(), usual()]).collect(),
            slow_applies: AtomicU64::new(0),
            commit: usual(),
            commit_write: usual(),
            commit_spill: usual(),
            commit_rebalance: usual(),
            defrag: Histogram::new(DEFRAG),
            defrag_inflight: AtomicU64::new(0),
            compact_index: Histogram::new(INDEX_PAUSE),
            compact_rows: Histogram::new(ROW_PAUSE),
            compaction: Histogram::new(COMPACTION),
            compaction_last: AtomicU64::new(0),
            snap_save: usual(),
            snap_marshal: usual(),
            began: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

fn nanos(at: Instant) -> u64 {
    u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX)
}

impl StageMetrics {
    /// Sets a beginning, and says how long ago the one before was.
    fn mark(&self, work: Work, now: Instant) -> Duration {
        let now = nanos(now);
        let began = self.began[work as usize].swap(now, Ordering::Relaxed);
        Duration::from_nanos(now.saturating_sub(began))
    }

    /// What a stage says at the moment `now`. `disk` is the time spent so far in waiting for the data
    /// file's disk, and `apply_max` the longest that an entry may take without a line in the log.
    pub fn measure(
        &self,
        measure: Measure<'_>,
        now: Instant,
        disk: &super::DiskMetrics,
        log: &Log,
        apply_max: Duration,
    ) {
        match measure {
            Measure::Begins(work) => {
                self.mark(work, now);
                match work {
                    Work::Commit => {
                        disk.forget_data_time();
                    }
                    Work::Defragment => self.defrag_inflight.store(1, Ordering::Relaxed),
                    _ => {}
                }
            }
            Measure::Ends(work) => self.ends(work, now, disk),
            Measure::Applied(entry) => {
                let took = self.mark(Work::Applying, now);
                self.applied(&entry, took, log, apply_max);
            }
            Measure::Compacted { took } => {
                self.compaction.observe(took);
                let seconds = crate::driver::unix_ms() / 1000;
                self.compaction_last.store(seconds, Ordering::Relaxed);
            }
            Measure::OwnRequest { op, took, answered } => {
                let kind = RequestKind::Op(op).number();
                self.own_requests[kind][usize::from(answered)].observe(took);
            }
        }
    }

    fn ends(&self, work: Work, now: Instant, disk: &super::DiskMetrics) {
        let took = self.mark(work, now);
        match work {
            Work::Applying => {}
            Work::Commit => {
                let waited = disk.forget_data_time().min(took);
                self.commit.observe(took);
                self.commit_write.observe(waited);
                self.commit_spill.observe(took - waited);
                self.commit_rebalance.observe(Duration::ZERO);
            }
            Work::Defragment => {
                self.defrag_inflight.store(0, Ordering::Relaxed);
                self.defrag.observe(took);
            }
            Work::CompactIndex => self.compact_index.observe(took),
            Work::CompactRows => self.compact_rows.observe(took),
            Work::MarshalSnapshot => self.snap_marshal.observe(took),
            Work::SaveSnapshot => self.snap_save.observe(took),
        }
    }

    /// etcd: apply/uber_applier.go, dispatch; txn/util.go.
    fn applied(&self, entry: &AppliedEntry<'_>, took: Duration, log: &Log, apply_max: Duration) {
        let done = entry
            .refused
            .is_none_or(|status| *status == api::error::COMPACTED);
        self.apply[entry.op as usize][usize::from(done)].observe_alone(took);
        let slow = took > apply_max;
        if !slow && done {
            return;
        }
        let text = request::entry(entry.data);
        let response = entry
            .answer_bytes
            .map(|bytes| format!("size:{bytes}"))
            .unwrap_or_default();
        if slow {
            self.slow_applies.fetch_add(1, Ordering::Relaxed);
            let line = log
                .warn("apply request took too long")
                .show("took", span(took))
                .show("expected-duration", span(apply_max))
                .text("prefix", "")
                .text("request", &text)
                .text("response", &response);
            match entry.refused {
                Some(status) => line.error(&status.message).emit(),
                None => line.emit(),
            }
        }
        if let Some(status) = entry.refused.filter(|_| !done) {
            log.warn("failed to apply request")
                .show("took", span(took))
                .text("request", &text)
                .text("response", &response)
                .error(&status.message)
                .emit();
        }
    }
}

/// A duration as Go prints it.
pub fn span(took: Duration) -> Span {
    Span(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX))
}
