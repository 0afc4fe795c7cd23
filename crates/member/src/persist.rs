//! The log stage: writes each batch with one sync and says so. Never decides anything, never tries
//! a failed sync again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use disk::Disk;
use wal::{Mark, SpareJob, Wal, snapfile};

use crate::decide::{Persisted, Unsaved};
use crate::log::{Level, LogLine};
use crate::measure::{Measure, Work};
use crate::message::{FullDisk, SnapshotFile, ToApply, ToDecide, ToPersist};
use crate::peer;
use crate::router::{Job, JobKind, Router};
use crate::shared::Shared;

/// How often writing is tried again while the disk is full.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// How long the log does without a spare or new segment after one could not be made.
const SPARE_RETRY: Duration = Duration::from_secs(1);

/// The log stage.
pub struct Persist {
    disk: Arc<dyn Disk>,
    wal_dir: PathBuf,
    snap_dir: PathBuf,
    shared: Arc<Shared>,
    /// `None` after the stop, and after a failure: then nothing is acknowledged any more.
    wal: Option<Wal>,
    /// What a full disk has refused, in order.
    refused: VecDeque<Unsaved>,
    /// When to try again; `Some` while the disk is full.
    retry_at: Option<Instant>,
    /// Set when the member stops: how long a full disk is waited for that a leader may hand over meanwhile.
    stopping: Option<Instant>,
    /// Whether a spare segment is being made.
    spare_out: bool,
    /// Not before this moment is the making of a spare segment tried again.
    spare_at: Instant,
    /// The same for a new segment in the place of the full one.
    segment_at: Instant,
    told: Told,
    /// The number of the last write that was appended and waits for the sync.
    unsynced: Option<u64>,
    /// What leaves after the sync.
    messages: Vec<raft::Message>,
    /// The state that is installed after the sync.
    snapshot: Option<Box<raft::Snapshot>>,
    /// The index of the newest state that the leader sent.
    received: u64,
}

/// What failed the last time that it was tried: it is tried often, and told once, until it has worked.
#[derive(Debug, Default)]
struct Told {
    segment: bool,
    spare: bool,
    snapshot: bool,
}

impl Persist {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        (wal_dir, snap_dir): (PathBuf, PathBuf),
        shared: Arc<Shared>,
        wal: Wal,
    ) -> Persist {
        Persist {
            disk,
            wal_dir,
            snap_dir,
            shared,
            wal: Some(wal),
            refused: VecDeque::new(),
            retry_at: None,
            stopping: None,
            spare_out: false,
            spare_at: Instant::default(),
            segment_at: Instant::default(),
            told: Told::default(),
            unsynced: None,
            messages: Vec::new(),
            snapshot: None,
            received: 0,
        }
    }

    /// Takes a batch of messages, writes it with one sync, and sends on what follows. `inputs` is
    /// drained. Waits for the disk.
    pub fn handle(&mut self, inputs: &mut Vec<ToPersist>, now: Instant, router: &dyn Router) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry(now, router);
        }
        for input in inputs.drain(..) {
            match input {
                ToPersist::Save(batch) => self.save(batch.output, now, router),
                ToPersist::Snapshot(file) => {
                    self.sync(now, router);
                    self.save_snapshot(&file, router);
                }
                ToPersist::Installed { index } => self.release(index, router),
                ToPersist::Spare(done) => self.take_spare(done, now, router),
                ToPersist::Stopping { until } => {
                    self.stopping = Some(until);
                    if self.retry_at.is_some() {
                        self.retry(now, router);
                    }
                }
                ToPersist::Stop => {
                    self.sync(now, router);
                    self.stop(router);
                }
            }
        }
        self.sync(now, router);
        if self.retry_at.is_some() && self.stopping.is_some_and(|until| self.gives_up(until, now)) {
            self.give_up(router);
        }
        self.grow(now, router);
    }

    /// When `handle` must be called although nothing came in.
    pub fn next_wake(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Appends a batch, or keeps it while the disk is full: order is never broken.
    fn save(&mut self, batch: Unsaved, now: Instant, router: &dyn Router) {
        if self.retry_at.is_some() {
            self.refused.push_back(batch);
            return;
        }
        if let Err(batch) = self.append(batch, router) {
            self.refused.push_back(batch);
            self.wait_for_space(now, router);
        }
    }

    /// Tries again later what a full disk refused.
    fn wait_for_space(&mut self, now: Instant, router: &dyn Router) {
        if self.retry_at.replace(now + FULL_RETRY).is_none() {
            router.log(
                LogLine::warn("no space for the log; requests are refused until there is")
                    .with("path", self.wal_dir.display().to_string()),
            );
            router.to_decide(ToDecide::DiskFull(FullDisk::Log, true));
        }
    }

    /// Whether nobody is served by waiting for room any longer: the member stops, and does not lead others.
    fn gives_up(&self, until: Instant, now: Instant) -> bool {
        let leads = self.shared.pulse.leader() == self.shared.member_id;
        let is_alone = self.shared.facts().members.len() < 2;
        !leads || is_alone || now >= until
    }

    /// Ends the log without what a full disk refuses. Nothing of that was ever acknowledged: it was not synced.
    fn give_up(&mut self, router: &dyn Router) {
        router.log(
            LogLine::warn(
                "stopping without space for the log; what it could not take was never acknowledged",
            )
            .with("path", self.wal_dir.display().to_string())
            .with("refused-writes", self.refused.len() as u64),
        );
        self.forget();
        self.stop(router);
    }

    /// Appends a batch; gives it back if the disk is full.
    fn append(&mut self, mut batch: Unsaved, router: &dyn Router) -> Result<(), Unsaved> {
        if let Some(snapshot) = &batch.snapshot {
            match self.save_received(snapshot, batch.hard_state.as_ref()) {
                Ok(()) => {}
                Err(error) if error.is_no_space() || error.is_no_descriptor() => return Err(batch),
                Err(error) => {
                    self.fail(&error, router);
                    return Ok(());
                }
            }
        }
        let Some(wal) = &mut self.wal else { return Ok(()) };
        match wal.append(batch.hard_state.as_ref(), &batch.entries) {
            Ok(_) => {
                self.unsynced = batch.write.or(self.unsynced);
                self.messages.append(&mut batch.messages);
                self.snapshot = batch.snapshot.take().or(self.snapshot.take());
                Ok(())
            }
            Err(error) if error.is_no_space() => Err(batch),
            Err(error) => {
                self.fail(&error, router);
                Ok(())
            }
        }
    }

    fn retry(&mut self, now: Instant, router: &dyn Router) {
        self.retry_at = Some(now + FULL_RETRY);
        if !self.sync(now, router) {
            return;
        }
        while let Some(batch) = self.refused.pop_front() {
            if let Err(batch) = self.append(batch, router) {
                self.refused.push_front(batch);
                return;
            }
        }
        self.retry_at = None;
        router.log(LogLine::info("there is space for the log again"));
        router.to_decide(ToDecide::DiskFull(FullDisk::Log, false));
    }

    /// Makes durable what was appended, and only then says so. `false` if there is no space for what the log holds
    /// back: then nothing is said.
    fn sync(&mut self, now: Instant, router: &dyn Router) -> bool {
        if let (Some(write), Some(wal)) = (self.unsynced, &mut self.wal) {
            match wal.sync() {
                Ok(()) => {}
                Err(error) if error.is_no_space() => {
                    self.wait_for_space(now, router);
                    return false;
                }
                Err(error) => {
                    self.fail(&error, router);
                    return false;
                }
            }
            self.unsynced = None;
            // The others first: they wait for this member's word, and it waits for theirs.
            self.send(router);
            router.to_decide(ToDecide::Persisted(Persisted { write }));
        } else {
            self.send(router);
        }
        if let Some(snapshot) = self.snapshot.take() {
            router.to_apply(ToApply::Install(snapshot));
        }
        true
    }

    fn send(&mut self, router: &dyn Router) {
        for message in self.messages.drain(..) {
            peer::send(message, router);
        }
    }

    /// The leader's state: its file and mark, before any entry that follows it. The data file itself
    /// is there already, under its own name, so that a start from this mark finds it.
    fn save_received(
        &mut self,
        snapshot: &raft::Snapshot,
        hard_state: Option<&wal::HardState>,
    ) -> Result<(), wal::Error> {
        let Some(wal) = &mut self.wal else { return Ok(()) };
        let conf_state = api::raftpb::ConfState {
            voters: snapshot.conf_state.voters.clone(),
            learners: snapshot.conf_state.learners.clone(),
            auto_leave: Some(false),
            ..api::raftpb::ConfState::default()
        };
        let file = snapfile::Snapshot {
            index: snapshot.index,
            term: snapshot.term,
            conf_state: conf_state.clone(),
            data: snapshot.data.clone(),
        };
        snapfile::write(&*self.disk, &self.snap_dir, &file)?;
        self.received = snapshot.index;
        wal.save_mark(&Mark {
            index: snapshot.index,
            term: snapshot.term,
            conf_state: Some(conf_state),
        })?;
        // The mark counts for nothing without the hard state that commits it, and what follows the mark would then
        // follow nothing.
        wal.append(hard_state, &[])?;
        wal.sync()
    }

    /// Begins a new segment when this one is full, and has the one after it made in good time.
    fn grow(&mut self, now: Instant, router: &dyn Router) {
        let Some(wal) = &mut self.wal else { return };
        let cut = match now < self.segment_at {
            true => Ok(false),
            false => wal.cut_if_full(),
        };
        match cut {
            Ok(false) => {}
            Ok(true) => {
                self.told.segment = false;
                router.log(LogLine::info("created a new WAL segment"));
            }
            Err(error) if error.is_poison() => return self.fail(&error, router),
            // The old segment goes on growing; a later batch tries again.
            Err(error) => {
                self.segment_at = now + SPARE_RETRY;
                warn_once(&mut self.told.segment, router, || {
                    LogLine::warn("failed to begin a new WAL segment").with("error", error.to_string())
                });
            }
        }
        let Some(wal) = &mut self.wal else { return };
        if self.spare_out || now < self.spare_at {
            return;
        }
        if let Some(job) = wal.spare_job() {
            self.spare_out = true;
            router.job(Job::new(JobKind::Spare, move |router: &dyn Router| {
                router.to_persist(ToPersist::Spare(SpareMade(SpareJob::run(job))));
            }));
        }
    }

    fn take_spare(&mut self, made: SpareMade, now: Instant, router: &dyn Router) {
        self.spare_out = false;
        let Some(wal) = &mut self.wal else { return };
        match made.0 {
            Ok(spare) => {
                self.told.spare = false;
                wal.put_spare(spare);
            }
            Err(error) => {
                wal.spare_failed();
                self.spare_at = now + SPARE_RETRY;
                warn_once(&mut self.told.spare, router, || {
                    LogLine::warn("failed to preallocate a WAL segment").with("error", error.to_string())
                });
            }
        }
    }

    /// In etcd's order: the file, the mark, then what may go. The data file has been committed up to
    /// the index before (etcd: server/storage/storage.go, SaveSnap and Release).
    fn save_snapshot(&mut self, file: &SnapshotFile, router: &dyn Router) {
        if self.wal.is_none() {
            return;
        }
        // The log goes on from what the leader sent, which is to be installed yet: behind an older mark the entries
        // after that would follow nothing. And what commits this one may be what a full disk has refused: a mark
        // beyond the commit counts for nothing, and what it replaces must not go.
        let commit = self.wal.as_ref().map_or(0, |wal| wal.hard_state().commit);
        if file.index <= self.received || file.index > commit {
            return router.to_apply(ToApply::SnapshotSaved {
                index: file.index,
                saved: false,
            });
        }
        router.measure(Measure::Begins(Work::SaveSnapshot));
        let result = self.write_snapshot(file);
        router.measure(Measure::Ends(Work::SaveSnapshot));
        let saved = result.is_ok();
        match result {
            Ok(()) => {
                self.told.snapshot = false;
                router.log(LogLine::info("saved snapshot to disk").with("snapshot-index", file.index));
            }
            Err(error) if error.is_no_space() || error.is_no_descriptor() => {
                let what = match error.is_no_space() {
                    true => "no space for a snapshot; it is tried again later",
                    false => "no file descriptor for a snapshot; it is tried again later",
                };
                warn_once(&mut self.told.snapshot, router, || {
                    LogLine::warn(what)
                        .with("snapshot-index", file.index)
                        .with("error", error.to_string())
                });
            }
            Err(error) => return self.fail(&error, router),
        }
        router.to_apply(ToApply::SnapshotSaved {
            index: file.index,
            saved,
        });
    }

    fn write_snapshot(&mut self, file: &SnapshotFile) -> Result<(), wal::Error> {
        let Some(wal) = &mut self.wal else { return Ok(()) };
        let snapshot = snapfile::Snapshot {
            index: file.index,
            term: file.term,
            conf_state: file.conf_state.clone(),
            data: file.data.clone(),
        };
        snapfile::write(&*self.disk, &self.snap_dir, &snapshot)?;
        wal.save_mark(&Mark {
            index: file.index,
            term: file.term,
            conf_state: Some(file.conf_state.clone()),
        })?;
        wal.release_to(file.index);
        snapfile::release_db(&*self.disk, &self.snap_dir, file.index)?;
        Ok(())
    }

    /// Nothing older than the state that was installed is needed any more.
    fn release(&mut self, index: u64, router: &dyn Router) {
        let Some(wal) = &mut self.wal else { return };
        wal.release_to(index);
        if let Err(error) = snapfile::release_db(&*self.disk, &self.snap_dir, index) {
            router.log(LogLine::warn("failed to remove files").with("error", error.to_string()));
        }
    }

    fn stop(&mut self, router: &dyn Router) {
        let Some(wal) = self.wal.take() else { return };
        match wal.close() {
            Ok(()) => router.stopped(),
            // What did not fit is a commit index, which the log can do without, or the cutting of half a record off
            // its end, which the next start does.
            Err(error) if error.is_no_space() => {
                router.log(LogLine::warn("no space to end the log").with("error", error.to_string()));
                router.stopped();
            }
            Err(error) => self.fail(&error, router),
        }
    }

    /// Nothing is written or said any more.
    fn forget(&mut self) {
        self.refused.clear();
        self.retry_at = None;
        self.unsynced = None;
        self.messages.clear();
        self.snapshot = None;
    }

    fn fail(&mut self, error: &wal::Error, router: &dyn Router) {
        self.wal = None;
        self.forget();
        router.log(LogLine::new(Level::Error, "failed to write the log").with("error", error.to_string()));
        self.shared
            .fail(router, &self.wal_dir.display().to_string(), error.to_string());
    }
}

/// Tells what is tried again and again.
fn warn_once(told: &mut bool, router: &dyn Router, line: impl FnOnce() -> LogLine) {
    if !std::mem::replace(told, true) {
        router.log(line());
    }
}

/// A preallocated segment, or why there is none.
pub struct SpareMade(Result<wal::Spare, wal::Error>);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::{Cell, RefCell};
    use std::path::Path;

    use api::version::Line;
    use disk::mem::MemDisk;

    use super::*;
    use crate::error::Fatal;
    use crate::message::{SaveBatch, ToCommitter, ToFront};
    use crate::peer::ToPeer;

    /// Keeps what goes to the apply stage, why the member ended, and how often it said that it had stopped.
    #[derive(Default)]
    struct Kept(RefCell<Vec<ToApply>>, RefCell<Vec<Fatal>>, Cell<usize>);

    impl crate::log::Log for Kept {
        fn log(&self, _line: LogLine) {}
    }

    impl Router for Kept {
        fn to_decide(&self, _message: ToDecide) {}
        fn to_persist(&self, _message: ToPersist) {}
        fn to_apply(&self, message: ToApply) {
            self.0.borrow_mut().push(message);
        }
        fn to_committer(&self, _message: ToCommitter) {}
        fn to_front(&self, _front: usize, _message: ToFront) {}
        fn to_peer(&self, _message: ToPeer) {}
        fn job(&self, _job: Job) {}
        fn fatal(&self, fatal: Fatal) {
            self.1.borrow_mut().push(fatal);
        }
        fn stopped(&self) {
            self.2.set(self.2.get() + 1);
        }
    }

    const WAL: &str = "/data/wal";

    fn entry(index: u64) -> wal::Entry {
        wal::Entry {
            kind: wal::EntryKind::Normal,
            term: 2,
            index,
            data: bytes::Bytes::new(),
        }
    }

    fn persist(disk: &MemDisk) -> Persist {
        disk.shared().create_dir_all(Path::new("/data/snap")).unwrap();
        let wal = Wal::create(&disk.shared(), Path::new(WAL), b"").unwrap();
        disk.settle();
        let shared = Arc::new(Shared::new(Line::V3_7, (1, 1), 1, 0));
        let dirs = (PathBuf::from(WAL), PathBuf::from("/data/snap"));
        Persist::new(disk.shared(), dirs, shared, wal)
    }

    fn received(index: u64) -> Option<Box<raft::Snapshot>> {
        Some(Box::new(raft::Snapshot {
            index,
            term: 2,
            conf_state: raft::ConfState::default(),
            data: bytes::Bytes::new(),
        }))
    }

    fn installed(told: &[ToApply]) -> usize {
        let install = |told: &&ToApply| matches!(told, ToApply::Install(_));
        told.iter().filter(install).count()
    }

    /// Whichever write finds the disk full: the data file must not get ahead of a log that cannot start from it.
    #[test]
    fn a_state_is_installed_when_the_log_can_start_from_it() {
        let mut refused = 0;
        // A commit alone is held back until the sync, a new term is not.
        for (term, step) in (1..20).flat_map(|step| [(0, step), (2, step)]) {
            let disk = MemDisk::new();
            let mut persist = persist(&disk);
            disk.fail_at(disk.steps() + step, 28);
            let output = Unsaved {
                write: Some(1),
                hard_state: Some(wal::HardState {
                    term,
                    vote: 0,
                    commit: 297,
                }),
                entries: Vec::new(),
                snapshot: received(297),
                messages: Vec::new(),
            };
            let router = Kept::default();
            let mut now = Instant::default();
            let mut inputs = vec![ToPersist::Save(SaveBatch { output })];
            for _ in 0..3 {
                persist.handle(&mut inputs, now, &router);
                now = now + FULL_RETRY;
                if installed(&router.0.borrow()) == 0 {
                    refused += 1;
                    continue;
                }
                let left = disk.crash(1, disk::mem::CrashMode::LoseUnsynced);
                let (marks, _) = wal::valid_marks(&left, Path::new(WAL)).unwrap();
                assert_eq!(marks.last().map(|mark| mark.index), Some(297), "step {step}");
            }
            // After a failed sync nobody knows what is on the disk.
            let ended = router.1.borrow();
            assert!(ended.iter().all(|fatal| fatal.reason.contains("a sync failed")));
            assert_eq!(installed(&router.0.borrow()) + ended.len(), 1, "step {step}");
        }
        assert!(refused > 3, "{refused} writes found the disk full");
    }

    fn batch(commit: u64, entries: Vec<wal::Entry>, snapshot: Option<Box<raft::Snapshot>>) -> ToPersist {
        let output = Unsaved {
            write: Some(1),
            hard_state: Some(wal::HardState {
                term: 2,
                vote: 0,
                commit,
            }),
            entries,
            snapshot,
            messages: Vec::new(),
        };
        ToPersist::Save(SaveBatch { output })
    }

    /// Power fails within the writing of a state and the entries that came right after it.
    #[test]
    fn a_log_opens_wherever_power_failed_behind_a_received_state() {
        // More than a device writes at once.
        let large = |index| wal::Entry {
            data: vec![7; 700].into(),
            ..entry(index)
        };
        for (step, seed) in (1..24).flat_map(|step| (0..20).map(move |seed| (step, seed))) {
            let disk = MemDisk::new();
            let mut persist = persist(&disk);
            let router = Kept::default();
            let own = vec![entry(1), entry(2)];
            persist.handle(&mut vec![batch(2, own, None)], Instant::default(), &router);
            disk.stop_at(disk.steps() + step);
            let mut inputs = vec![
                batch(297, Vec::new(), received(297)),
                batch(300, (298..=300).map(large).collect(), None),
            ];
            persist.handle(&mut inputs, Instant::default(), &router);
            let left = disk.crash(seed, disk::mem::CrashMode::Any);
            let (marks, _) = wal::valid_marks(&left, Path::new(WAL)).unwrap();
            let mark = marks.into_iter().next_back().unwrap_or_default();
            let opened = Wal::open(&left.shared(), Path::new(WAL), &mark);
            let found = opened.map(|(_, found)| found.entries.len());
            assert!(found.is_ok(), "step {step}, seed {seed}: {found:?}");
        }
    }

    /// What commits it waits for room.
    #[test]
    fn no_mark_is_set_beyond_the_commit_of_the_log() {
        let disk = MemDisk::new();
        let mut persist = persist(&disk);
        let router = Kept::default();
        disk.fail_at(disk.steps() + 1, 28);
        let own = SnapshotFile {
            index: 2,
            term: 2,
            conf_state: api::raftpb::ConfState::default(),
            data: bytes::Bytes::new(),
        };
        let mut inputs = vec![batch(2, vec![entry(1), entry(2)], None), ToPersist::Snapshot(own)];
        persist.handle(&mut inputs, Instant::default(), &router);
        let told = router.0.borrow();
        assert!(matches!(
            told[..],
            [ToApply::SnapshotSaved {
                index: 2,
                saved: false
            }]
        ));
    }

    /// A log of two entries, on whose disk there is no room for a third; a later one must not get in its place.
    fn full(disk: &MemDisk, router: &Kept) -> Persist {
        let mut persist = persist(disk);
        let own = vec![entry(1), entry(2)];
        persist.handle(&mut vec![batch(2, own, None)], Instant::default(), router);
        disk.set_copy_on_write(true);
        disk.set_space(Some(0));
        let mut inputs = vec![batch(2, vec![entry(3)], None), batch(2, vec![entry(4)], None)];
        persist.handle(&mut inputs, Instant::default(), router);
        assert!(persist.next_wake().is_some());
        persist
    }

    fn entries_left(disk: &MemDisk) -> usize {
        let left = disk.crash(0, disk::mem::CrashMode::LoseUnsynced);
        let (_, found) = Wal::open(&left.shared(), Path::new(WAL), &Mark::default()).unwrap();
        found.entries.len()
    }

    #[test]
    fn a_stop_beside_a_full_disk_waits_for_nothing() {
        for room in [false, true] {
            let (disk, router) = (MemDisk::new(), Kept::default());
            let mut persist = full(&disk, &router);
            if room {
                disk.set_space(None);
            }
            let until = Instant::default();
            persist.handle(&mut vec![ToPersist::Stopping { until }], until, &router);
            assert_eq!(persist.next_wake(), None);
            assert_eq!(router.2.get(), usize::from(!room), "with room it ends in order");
            persist.handle(&mut vec![ToPersist::Stop], until, &router);
            assert!(router.1.borrow().is_empty());
            assert_eq!(router.2.get(), 1);
            assert_eq!(entries_left(&disk), if room { 4 } else { 2 });
        }
    }

    /// The disk may become full after the stop began, too.
    #[test]
    fn a_disk_that_is_full_during_a_stop_is_not_waited_for() {
        let (disk, router) = (MemDisk::new(), Kept::default());
        let mut persist = persist(&disk);
        let until = Instant::default();
        persist.handle(&mut vec![ToPersist::Stopping { until }], until, &router);
        assert_eq!(router.2.get(), 0);
        disk.fail_at(disk.steps() + 1, 28);
        persist.handle(&mut vec![batch(1, vec![entry(1)], None)], until, &router);
        assert_eq!(router.2.get(), 1);
        assert_eq!(entries_left(&disk), 0);
    }

    #[test]
    fn a_leader_beside_a_full_disk_has_time_to_hand_over() {
        for hands_over in [false, true] {
            let (disk, router) = (MemDisk::new(), Kept::default());
            let mut persist = full(&disk, &router);
            let member = |id| crate::shared::Member {
                id,
                name: String::new(),
                peer_urls: Vec::new(),
                client_urls: Vec::new(),
                is_learner: false,
            };
            persist.shared.set_facts(crate::shared::Facts {
                members: vec![member(1), member(2)],
                ..crate::shared::Facts::default()
            });
            persist.shared.pulse.set_leader(2, 1);
            let until = Instant::default() + FULL_RETRY * 3;
            persist.handle(
                &mut vec![ToPersist::Stopping { until }],
                Instant::default(),
                &router,
            );
            let mut waited = 0;
            while router.2.get() == 0 {
                let now = persist.next_wake().unwrap();
                waited += 1;
                if hands_over && waited == 2 {
                    persist.shared.pulse.set_leader(3, 2);
                }
                persist.handle(&mut Vec::new(), now, &router);
            }
            assert_eq!(waited, if hands_over { 2 } else { 3 });
            assert_eq!(entries_left(&disk), 2);
        }
    }

    /// The apply stage asks for a mark at what it has applied while the leader's newer state is on its way to it.
    #[test]
    fn no_mark_is_set_behind_a_received_state() {
        let disk = MemDisk::new();
        let mut persist = persist(&disk);
        let output = Unsaved {
            write: Some(1),
            hard_state: None,
            entries: vec![entry(298)],
            snapshot: received(297),
            messages: Vec::new(),
        };
        let own = SnapshotFile {
            index: 222,
            term: 2,
            conf_state: api::raftpb::ConfState::default(),
            data: bytes::Bytes::new(),
        };
        let router = Kept::default();
        let mut inputs = vec![
            ToPersist::Save(SaveBatch { output }),
            ToPersist::Snapshot(own),
            ToPersist::Stop,
        ];
        persist.handle(&mut inputs, Instant::default(), &router);

        assert!(router.1.borrow().is_empty());
        let told = router.0.into_inner();
        let refused = |told: &ToApply| {
            matches!(
                told,
                ToApply::SnapshotSaved {
                    index: 222,
                    saved: false
                }
            )
        };
        assert!(told.iter().any(refused));
        let mark = Mark {
            index: 297,
            term: 2,
            conf_state: None,
        };
        let (_, found) = Wal::open(&disk.shared(), Path::new(WAL), &mark).unwrap();
        assert!(found.mark_found);
        assert_eq!(found.entries, [entry(298)]);
    }
}
