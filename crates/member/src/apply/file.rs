//! When the data file is written, and what waits for that: pins, snapshot files, the stop.

use std::time::Duration;

use api::clock::Instant;
use api::error;
use bytes::Bytes;
use state::Hold;

use super::install::Packing;
use super::{Apply, Broken};
use crate::config::Config;
use crate::frontend::Tell;
use crate::log::LogLine;
use crate::measure::{Measure, Work};
use crate::message::{FullDisk, SnapshotFile, ToCommitter, ToDecide, ToPersist};
use crate::router::Router;

/// A batch of this many bytes is written without waiting for its time: what is not in the file is in
/// memory.
const COMMIT_BYTES: usize = 32 << 20;

/// While more bytes than this wait for the data file, proposals are refused.
const PENDING_BYTES_MAX: usize = 512 << 20;

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The data file as Apply drives it.
pub(super) struct DataFile {
    interval: Duration,
    ops_max: usize,
    snapshot_count: u64,
    /// Not before this moment do entries ask for a snapshot: the last could not be written.
    snapshot_at: Instant,
    /// When what is pending is to be written at the latest.
    due: Option<Instant>,
    /// Who waits for what is applied now to be in the file.
    waiting: Vec<Waiting>,
    /// Who waits for the commit that is out.
    on_the_way: Vec<Waiting>,
    /// Whether nothing is to be committed: a copy of the file is being made, or another takes its
    /// place.
    frozen: bool,
    /// A commit that waits until the member's own log holds all that is in it, up to this index.
    gated: Option<(u64, mvcc::CommitJob)>,
    /// Whether the last commit found the disk full.
    full: bool,
    /// Whether proposals are refused because too much waits.
    overloaded: bool,
    snapshot_index: u64,
    snapshot: Snapshotting,
}

/// How far a snapshot file is.
#[derive(Debug)]
enum Snapshotting {
    Idle,
    /// At the next commit.
    Wanted,
    /// Waits for the commit that makes the data file as new as it.
    Committing(Box<SnapshotFile>),
    /// Persist writes it.
    Saving,
}

/// Somebody who waits for a commit.
pub(super) enum Waiting {
    /// A front thread wants the file itself.
    Pin(u64),
    /// A physical compaction is done when its deletions are in the file.
    Compacted(i64),
    /// A defragmentation copies what is in the file.
    Defragment,
    /// Another member is to get the whole state.
    Send(Box<Packing>),
    /// The orderly stop.
    Stop,
}

impl DataFile {
    pub(super) fn new(config: &Config, snapshot_index: u64) -> DataFile {
        let default = Config::default();
        DataFile {
            interval: match config.backend_batch_interval {
                Duration::ZERO => default.backend_batch_interval,
                interval => interval,
            },
            ops_max: match config.backend_batch_limit {
                0 => default.backend_batch_limit,
                limit => limit,
            },
            snapshot_count: config.snapshot_count,
            snapshot_at: Instant::default(),
            due: None,
            waiting: Vec::new(),
            on_the_way: Vec::new(),
            frozen: false,
            gated: None,
            full: false,
            overloaded: false,
            snapshot_index,
            snapshot: Snapshotting::Idle,
        }
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot_index
    }

    pub(super) fn pin(&mut self, id: u64) {
        self.waiting.push(Waiting::Pin(id));
    }

    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    pub(super) fn want_snapshot(&mut self) {
        if matches!(self.snapshot, Snapshotting::Idle) {
            self.snapshot = Snapshotting::Wanted;
        }
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Another file has taken the place of this one; it is as new as the snapshot of `index`.
    pub(super) fn replaced(&mut self, index: u64, router: &dyn Router) {
        self.frozen = false;
        self.due = None;
        self.snapshot_index = index;
        self.snapshot = Snapshotting::Idle;
        // What did not fit into the old file is in the new one.
        self.has_space(router);
    }

    fn has_space(&mut self, router: &dyn Router) {
        if std::mem::take(&mut self.full) {
            router.log(LogLine::info("there is space for the data file again"));
            router.to_decide(ToDecide::DiskFull(FullDisk::DataFile, false));
        }
    }

    /// Asks for the last commit.
    pub(super) fn stop(&mut self) {
        self.waiting.push(Waiting::Stop);
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        if self.frozen || !self.on_the_way.is_empty() {
            return None;
        }
        self.due
    }
}

impl Apply {
    /// Begins a commit if one is due and none is out.
    pub(super) fn step_file(&mut self, now: Instant, router: &dyn Router) -> Result<(), Broken> {
        let (applied, term) = self.machine.store().consistent();
        let file = &mut self.file;
        let many = applied.saturating_sub(file.snapshot_index) > file.snapshot_count;
        if many && now >= file.snapshot_at {
            file.want_snapshot();
        }
        let store = self.machine.store();
        let bytes = store.pending().bytes;
        if file.overloaded != (bytes > PENDING_BYTES_MAX) {
            file.overloaded = !file.overloaded;
            router.to_decide(ToDecide::Overloaded(file.overloaded));
        }
        if file.frozen || store.is_committing() {
            return Ok(());
        }
        let pending = store.pending();
        if pending.ops > 0 && file.due.is_none() {
            file.due = Some(now + file.interval);
        }
        let wanted = matches!(file.snapshot, Snapshotting::Wanted);
        // Who is to be told that the disk is full is told so now. The others wait until it is tried again.
        let asks = |waiting: &Waiting| !file.full || !matches!(waiting, Waiting::Compacted(_));
        let asked = wanted || file.waiting.iter().any(asks);
        let due = file.due.is_some_and(|due| due <= now);
        let large = pending.ops >= file.ops_max || pending.bytes >= COMMIT_BYTES || pending.urgent;
        if !(asked || due || (large && !file.full)) {
            return Ok(());
        }
        // What found the disk full may have been an index alone.
        let force = wanted || !file.waiting.is_empty() || file.full;
        file.due = None;
        if wanted && applied > file.snapshot_index {
            // Exactly what is applied now: the machine moves on while the commit is on its way.
            let membership = self.machine.membership();
            router.measure(Measure::Begins(Work::MarshalSnapshot));
            let data = Bytes::from(state::v2store::document(membership));
            router.measure(Measure::Ends(Work::MarshalSnapshot));
            file.snapshot = Snapshotting::Committing(Box::new(SnapshotFile {
                index: applied,
                term,
                conf_state: membership.conf_state(),
                data,
            }));
        } else if wanted {
            file.snapshot = Snapshotting::Idle;
        }
        file.on_the_way.append(&mut file.waiting);
        self.fill_parcels((applied, term));
        match self.machine.store().take_commit(force) {
            Some(job) => {
                self.file.gated = Some((applied, job));
                self.commit_gated(router);
            }
            None => self.file_is_up_to_date(now, router),
        }
        Ok(())
    }

    /// Sends the commit that was taken on when the log holds all of it: a data file ahead of its own
    /// log would be of no use to a member that lost the entries.
    pub(super) fn commit_gated(&mut self, router: &dyn Router) {
        let Some((index, _)) = self.file.gated else { return };
        if self.shared.ask_durable(index)
            && let Some((_, job)) = self.file.gated.take()
        {
            router.to_committer(ToCommitter::Commit(job));
        }
    }

    fn fill_parcels(&mut self, at: (u64, u64)) {
        let membership = self.machine.membership().clone();
        let mut content = None;
        for waiting in &mut self.file.on_the_way {
            if let Waiting::Send(packing) = waiting {
                let (conf_state, data) = content.get_or_insert_with(|| {
                    let data = Bytes::from(state::v2store::document(&membership));
                    (membership.conf_state(), data)
                });
                packing.fill(at, conf_state, data);
            }
        }
    }

    pub(super) fn file_committed(
        &mut self,
        done: mvcc::CommitDone,
        now: Instant,
        router: &dyn Router,
    ) -> Result<(), Broken> {
        match self.machine.store().committed(done) {
            Ok(()) => {}
            Err(mvcc::Error::Backend(error)) if error.is_out_of_space() => {
                self.file_is_full(&error, now, router);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.file.has_space(router);
        // From here on readers take from the file what has reached it.
        self.unpublished += 1;
        self.publish(router);
        self.file_is_up_to_date(now, router);
        self.compaction.file_committed(now);
        Ok(())
    }

    /// Nothing is lost: what was to be written is pending again, and clients are told.
    fn file_is_full(&mut self, error: &bbolt::Error, now: Instant, router: &dyn Router) {
        if !self.file.full {
            self.file.full = true;
            router.log(
                LogLine::warn("no space for the data file; requests are refused until there is")
                    .with("error", error.to_string()),
            );
            router.to_decide(ToDecide::DiskFull(FullDisk::DataFile, true));
        }
        self.file.due = Some(now + FULL_RETRY);
        if let Snapshotting::Committing(_) = self.file.snapshot {
            self.file.snapshot = Snapshotting::Idle;
            self.file.snapshot_at = now + FULL_RETRY;
        }
        for waiting in std::mem::take(&mut self.file.on_the_way) {
            match waiting {
                Waiting::Pin(id) => {
                    let result = Err(error::NO_SPACE);
                    self.tell(id, Tell::Pinned { id, result });
                }
                Waiting::Defragment => self.defragment_failed(error::NO_SPACE),
                Waiting::Compacted(_) => self.file.waiting.push(waiting),
                Waiting::Send(packing) => router.to_decide(ToDecide::SnapshotSent {
                    id: packing.to(),
                    arrived: false,
                }),
                // The log has everything; the next start finds it there.
                Waiting::Stop => self.finish_stop(router),
            }
        }
        self.publish(router);
    }

    /// The file has all that was applied when the waiting began.
    fn file_is_up_to_date(&mut self, now: Instant, router: &dyn Router) {
        if let Snapshotting::Committing(_) = self.file.snapshot {
            let Snapshotting::Committing(snapshot) =
                std::mem::replace(&mut self.file.snapshot, Snapshotting::Saving)
            else {
                return;
            };
            router
                .log(LogLine::info("triggering snapshot").with("local-member-applied-index", snapshot.index));
            router.to_persist(ToPersist::Snapshot(*snapshot));
        }
        let mut stop = None;
        for waiting in std::mem::take(&mut self.file.on_the_way) {
            match waiting {
                Waiting::Pin(id) => {
                    let result = Ok(self.machine.store().db().snapshot());
                    self.tell(id, Tell::Pinned { id, result });
                }
                Waiting::Compacted(revision) => {
                    let ended = |hold: &Hold| matches!(hold, Hold::Compacted(at) if *at <= revision);
                    self.release_held(ended, now, router);
                }
                Waiting::Defragment => self.start_copy(now, router),
                Waiting::Send(packing) => self.packed(*packing, router),
                Waiting::Stop => stop = Some(waiting),
            }
        }
        match (stop, &self.file.snapshot) {
            (Some(_), Snapshotting::Idle) => self.finish_stop(router),
            (Some(stop), _) => self.file.on_the_way.push(stop),
            (None, _) => {}
        }
        self.publish(router);
    }

    pub(super) fn snapshot_saved(&mut self, index: u64, saved: bool, now: Instant, router: &dyn Router) {
        self.file.snapshot = Snapshotting::Idle;
        if saved {
            self.file.snapshot_index = index;
            self.monitor_at = now;
        } else {
            // What was in its way is hardly gone already.
            self.file.snapshot_at = now + FULL_RETRY;
            self.monitor_at = now + FULL_RETRY;
        }
        let before = self.file.on_the_way.len();
        self.file
            .on_the_way
            .retain(|waiting| !matches!(waiting, Waiting::Stop));
        if self.file.on_the_way.len() < before {
            self.finish_stop(router);
        }
    }
}
