//! The apply stage: the replicated machine, and beside it lessor, compactor, version monitor and
//! snapshot decision. Waits for cold pages at most, never for a sync.

mod cluster;
mod compaction;
mod corruption;
pub(crate) mod defrag;
mod file;
mod install;
mod leases;
mod own;
mod questions;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb::AlarmType;
use api::version::{Line, Version};
use bytes::Bytes;
use disk::Disk;
use state::{Committed, Effect, EntryKind, Hold, Machine};

use crate::compactor::Compactor;
use crate::config::{AutoCompaction, Config};
use crate::frontend::{AskApply, Asker, Tell};
use crate::lessor::{CHECKPOINT_INTERVAL, Lessor, LessorConfig};
use crate::log::{Level, LogLine};
use crate::measure::{AppliedEntry, Measure, Work};
use crate::message::{ToApply, ToDecide, ToFront, ToPersist};
use crate::monitor;
use crate::peer::PeerQuestion;
use crate::router::{Job, JobKind, Router};
use crate::shared::{Facts, Shared};

use compaction::Compaction;
use corruption::{Corruption, Hashed};
use defrag::Defrag;
use file::DataFile;
use install::Installing;
use own::OwnRequests;
use questions::{Question, Questions};
pub(crate) use window::VersionWindow;

/// After so many entries the state is published even if more are waiting.
const PUBLISH_EVERY: usize = 1024;

/// How often versions are looked at (etcd: server/etcdserver/server.go, monitorVersionInterval).
const MONITOR_EVERY: Duration = Duration::from_secs(4);

/// How often files that are no longer needed are looked for (etcd: purgeFileInterval).
const PURGE_EVERY: Duration = Duration::from_secs(30);

/// The apply stage.
pub struct Apply {
    machine: Machine,
    shared: Arc<Shared>,
    config: Arc<Config>,
    disk: Arc<dyn Disk>,
    role: Role,
    own: OwnRequests,
    file: DataFile,
    compaction: Compaction,
    corruption: Corruption,
    defrag: Defrag,
    installing: Installing,
    /// Where readers look: a store that takes another's place publishes there.
    views: mvcc::ViewSource,
    lessor: Lessor<Question>,
    questions: Questions,
    compactor: Option<Compactor>,
    window: VersionWindow,
    versions: monitor::MemberVersions,
    storage_version: Option<Version>,
    /// Whether what the log has decided about the cluster changed since the last publication.
    facts_changed: bool,
    /// This member's NOSPACE alarm is on.
    out_of_space: bool,
    /// Entries applied since the last publication.
    unpublished: usize,
    /// Answers to be sent after the next publication, by front thread.
    answers: Vec<Vec<Tell>>,
    /// Answers that wait for more than the publication.
    held: Vec<Held>,
    monitor_at: Instant,
    /// The term that this member began as its leader, and until when the first version of a new cluster waits
    /// for what the others run.
    first_version: Option<(u64, Instant)>,
    downgrade_check_at: Instant,
    /// The attributes are in the log: the member serves when the versions are known, or then.
    ready_until: Option<Instant>,
    purge_at: Instant,
    stopping: bool,
    failed: bool,
}

/// An answer that waits.
struct Held {
    hold: Hold,
    id: u64,
    result: Result<Bytes, Status>,
}

/// Committed entries.
#[derive(Clone, Debug)]
pub struct CommittedBatch {
    pub(crate) entries: Vec<raft::Entry>,
}

impl CommittedBatch {
    /// What is to be applied, in log order.
    pub fn entries(&self) -> &[raft::Entry] {
        &self.entries
    }
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub(crate) term: u64,
    pub(crate) leader: u64,
}

/// What became of a batch for the data file.
pub struct FileCommitted(pub(crate) mvcc::CommitDone);

/// What a job of Apply found.
pub struct JobDone(pub(crate) Found);

/// See [`JobDone`].
pub(crate) enum Found {
    /// A step of a compaction was read.
    Scanned(Box<mvcc::CompactionScan>, Result<(), mvcc::Error>),
    /// The data file was copied, and the copy has taken its place.
    Defragmented(Result<bbolt::Db, defrag::Failure>),
    /// A piece of the store was hashed.
    Hashed(Hashed),
    /// The store of the leader's state was read.
    Installed(Result<Box<Machine>, crate::Error>),
}

/// Why the stage cannot go on.
pub(crate) struct Broken {
    what: String,
    reason: String,
}

impl From<state::Error> for Broken {
    fn from(error: state::Error) -> Broken {
        Broken {
            what: "apply".to_owned(),
            reason: error.to_string(),
        }
    }
}

impl From<mvcc::Error> for Broken {
    fn from(error: mvcc::Error) -> Broken {
        Broken {
            what: "data file".to_owned(),
            reason: error.to_string(),
        }
    }
}

/// What Apply starts with.
pub(crate) struct Parts {
    pub(crate) machine: Machine,
    pub(crate) views: mvcc::ViewSource,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<Config>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) window: VersionWindow,
    pub(crate) storage_version: Option<Version>,
    /// The index of the newest snapshot file and mark.
    pub(crate) snapshot_index: u64,
}

fn lessor_config(config: &Config) -> LessorConfig {
    LessorConfig {
        checkpoint: config.lease_checkpoint,
        checkpoint_interval: CHECKPOINT_INTERVAL,
        retry_interval: config.request_timeout(),
    }
}

/// Whether a member's NOSPACE alarm is on.
fn out_of_space(machine: &Machine, member_id: u64) -> bool {
    let mut raised = machine.alarms().list(AlarmType::Nospace as i32);
    raised.any(|alarm| alarm.member_id == member_id)
}

impl Apply {
    pub(crate) fn new(mut parts: Parts, now: Instant) -> Apply {
        let fronts = parts.shared.fronts;
        let leases = parts.machine.leases().iter();
        let lessor = Lessor::new(
            lessor_config(&parts.config),
            leases.map(|(id, lease)| (id, lease.ttl, lease.remaining)),
        );
        let revision = parts.machine.store().revision();
        let compactor = match parts.config.auto_compaction {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => Some(Compactor::periodic(period, revision, now)),
            AutoCompaction::Revision(count) => Some(Compactor::revision(count, revision, now)),
        };
        let own = OwnRequests::new(parts.shared.own_ids(), parts.config.request_timeout());
        let out_of_space = out_of_space(&parts.machine, parts.shared.member_id);
        Apply {
            machine: parts.machine,
            role: Role::default(),
            own,
            file: DataFile::new(&parts.config, parts.snapshot_index),
            compaction: Compaction::new(now),
            corruption: Corruption::new(&parts.config, now),
            defrag: Defrag::default(),
            installing: Installing::No,
            views: parts.views,
            lessor,
            questions: Questions::default(),
            compactor,
            window: parts.window,
            versions: monitor::MemberVersions::own(parts.shared.member_id, parts.config.line),
            storage_version: parts.storage_version,
            facts_changed: false,
            out_of_space,
            unpublished: 0,
            answers: vec![Vec::new(); fronts],
            held: Vec::new(),
            monitor_at: now + MONITOR_EVERY,
            first_version: None,
            downgrade_check_at: now + parts.config.downgrade_check_time,
            ready_until: None,
            // A member that is restarted often would never purge if the first time were later.
            purge_at: now,
            stopping: false,
            failed: false,
            shared: parts.shared,
            config: parts.config,
            disk: parts.disk,
        }
    }

    /// Takes a batch of messages (it may be empty: then only time has passed), and sends on what
    /// follows. `inputs` is drained. May wait for cold pages, never for a sync.
    pub fn handle(&mut self, inputs: &mut Vec<ToApply>, now: Instant, router: &dyn Router) {
        let inputs: VecDeque<ToApply> = inputs.drain(..).collect();
        if self.failed {
            return;
        }
        if let Err(broken) = self.handle_all(inputs, now, router) {
            self.failed = true;
            router.log(LogLine::new(Level::Error, "failed to apply").with("error", broken.reason.clone()));
            self.shared.fail(router, &broken.what, broken.reason);
        }
    }

    fn handle_all(
        &mut self,
        inputs: VecDeque<ToApply>,
        now: Instant,
        router: &dyn Router,
    ) -> Result<(), Broken> {
        for input in inputs {
            self.take(input, now, router)?;
        }
        self.publish(router);
        self.run_timers(now, router);
        // What they change is seen before anybody is told that the member is ready.
        self.publish(router);
        self.look_at_readiness(now);
        if !self.stopping {
            self.step_corruption(now, router);
        }
        if matches!(self.installing, Installing::No) {
            self.step_compaction(now, router);
        } else {
            self.step_install(router);
        }
        self.step_file(now, router)
    }

    /// The file that holds what was committed to it.
    pub(crate) fn data_file(&mut self) -> &bbolt::Db {
        self.machine.store().db()
    }

    pub(crate) fn leases(&self) -> &state::Leases {
        self.machine.leases()
    }

    /// When `handle` must be called although nothing came in.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.failed {
            return None;
        }
        if self.stopping {
            return self.file.next_wake();
        }
        let timers = [
            Some(self.monitor_at),
            Some(self.purge_at),
            self.own.next_wake(),
            self.file.next_wake(),
            // A new store begins with its own.
            self.compaction
                .next_wake()
                .filter(|_| matches!(self.installing, Installing::No)),
            self.corruption.next_wake(),
            self.questions.next_wake(),
            self.lessor.next_wake(),
            self.ready_until,
            self.compactor.as_ref().and_then(Compactor::next_wake),
            (!self.config.downgrade_check_time.is_zero()).then_some(self.downgrade_check_at),
        ];
        timers.into_iter().flatten().min()
    }

    fn take(&mut self, input: ToApply, now: Instant, router: &dyn Router) -> Result<(), Broken> {
        match input {
            ToApply::Committed(batch) => {
                router.measure(Measure::Begins(Work::Applying));
                for entry in batch.entries {
                    self.apply_entry(entry, now, router)?;
                    if self.unpublished >= PUBLISH_EVERY {
                        self.publish(router);
                        router.measure(Measure::Begins(Work::Applying));
                    }
                }
            }
            ToApply::Role(role) => self.set_role(role, now, router),
            ToApply::Ask(asks) => {
                for ask in asks {
                    self.take_ask(ask, now, router);
                }
            }
            ToApply::FileCommitted(FileCommitted(done)) => self.file_committed(done, now, router)?,
            ToApply::JobDone(JobDone(found)) => match found {
                Found::Scanned(scan, result) => self.compaction_scanned(*scan, result, now, router)?,
                Found::Defragmented(result) => self.defragmented(result, now, router)?,
                Found::Hashed(hashed) => self.own_hashed(hashed, now, router),
                Found::Installed(machine) => self.installed(machine, now, router)?,
            },
            ToApply::SendSnapshot(message) => self.send_snapshot(message, router),
            ToApply::Install(snapshot) => self.install(snapshot, router),
            ToApply::PeerVersions(others) => self.peer_versions(others, now, router),
            ToApply::PeerHash(answer) => self.peer_hash(&answer, now, router),
            ToApply::PeerAnswered { id, answer } => self.peer_answered(id, answer, now),
            ToApply::ReadConfirmed { id, index } => {
                self.read_confirmed(id, index);
                self.leadership_confirmed(id, now, router);
            }
            ToApply::Durable => self.commit_gated(router),
            ToApply::Dropped { id } => self.own_done(id, Err(error::TIMEOUT), now, router),
            ToApply::SnapshotSaved { index, saved } => self.snapshot_saved(index, saved, now, router),
            ToApply::Stop => self.stop(),
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: raft::Entry, now: Instant, router: &dyn Router) -> Result<(), Broken> {
        let committed = Committed {
            index: entry.index,
            term: entry.term,
            kind: match entry.kind {
                raft::EntryKind::Normal => EntryKind::Normal,
                raft::EntryKind::ConfChange => EntryKind::ConfChange,
                raft::EntryKind::ConfChangeV2 => EntryKind::ConfChangeV2,
            },
            data: entry.data,
        };
        self.window
            .observe(committed.index, committed.kind, &committed.data);
        let shared = &self.shared;
        let applied = self.machine.apply(&committed, |id| shared.is_local(id))?;
        self.unpublished += 1;
        if let Some(op) = applied.op {
            router.measure(Measure::Applied(AppliedEntry {
                op,
                data: &committed.data,
                answer_bytes: applied
                    .reply
                    .as_ref()
                    .and_then(|reply| reply.result.as_ref().ok())
                    .map(Bytes::len),
                refused: applied.refused.as_ref(),
            }));
        }
        for effect in applied.effects {
            self.take_effect(committed.index, effect, now, router);
        }
        if let Some(reply) = applied.reply {
            self.take_reply(reply, now, router);
        }
        Ok(())
    }

    fn take_reply(&mut self, reply: state::Reply, now: Instant, router: &dyn Router) {
        let state::Reply { id, result, hold } = reply;
        match hold {
            Hold::No => self.answer(id, result, now, router),
            Hold::Compacted(_) => {
                self.tell(id, Tell::Compacting { id });
                self.held.push(Held { hold, id, result });
            }
            Hold::NoSpaceRaised => self.held.push(Held { hold, id, result }),
        }
    }

    /// An answer for the front thread that waits, or for the member itself.
    fn answer(&mut self, id: u64, result: Result<Bytes, Status>, now: Instant, router: &dyn Router) {
        match self.shared.front_of(id) {
            Some(front) => self.answers[front].push(Tell::Done { id, result }),
            None => self.own_done(id, result, now, router),
        }
    }

    /// An answer to a question that a front thread asked.
    fn tell(&mut self, id: u64, tell: Tell) {
        if let Some(front) = self.shared.front_of(id) {
            self.answers[front].push(tell);
        }
    }

    /// Lets answers go whose wait has ended.
    fn release_held(&mut self, ended: impl Fn(&Hold) -> bool, now: Instant, router: &dyn Router) {
        let (go, stay) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| ended(&held.hold));
        self.held = stay;
        let go: Vec<Held> = go;
        for held in go {
            self.answer(held.id, held.result, now, router);
        }
    }

    fn take_effect(&mut self, index: u64, effect: Effect, now: Instant, router: &dyn Router) {
        match effect {
            Effect::TermStarted { term } => self.term_started(term, now, router),
            Effect::ConfChange(change) => self.conf_change_applied(index, &change, router),
            Effect::MembershipChanged(_) => {
                self.facts_changed = true;
                self.monitor_at = now;
            }
            Effect::SelfRemoved => {
                router.log(LogLine::info(
                    "the local member has been removed from the cluster",
                ));
                router.to_decide(ToDecide::Stop);
            }
            Effect::ClusterVersionLowered { from, to } => {
                router.log(
                    LogLine::info("the cluster version went down; writing a snapshot")
                        .with("from", from.to_string())
                        .with("to", to.to_string()),
                );
                self.file.want_snapshot();
            }
            Effect::RaiseNoSpace => self.raise_no_space(now, router),
            Effect::AlarmsChanged => self.alarms_changed(router),
            Effect::AuthChanged => self.auth_changed(router),
            Effect::LeaseGranted { id, ttl } => {
                self.shared.tallies.lease_granted(ttl);
                self.lessor.granted(id, ttl, now);
            }
            Effect::LeaseRevoked { id } => self.lease_revoked(id),
            Effect::LeaseCheckpointed { id, remaining } => self.lessor.checkpointed(id, remaining, now),
            Effect::CompactionScheduled { revision } => self.compaction.scheduled(revision, now),
        }
    }

    /// Says once that this member's quota is used up, whoever noticed it: a front thread that
    /// refuses a request has no log.
    fn alarms_changed(&mut self, router: &dyn Router) {
        self.facts_changed = true;
        let exceeded = out_of_space(&self.machine, self.shared.member_id);
        if exceeded && !self.out_of_space {
            router.log(LogLine::warn("database space exceeded; raising the alarm"));
        }
        self.out_of_space = exceeded;
    }

    /// Before the view of the batch is published: who reads that must not be served as if nobody had to be known.
    fn auth_changed(&mut self, router: &dyn Router) {
        let enabled = self.machine.auth_enabled();
        if enabled != self.shared.pulse.auth_is_on() {
            self.shared.pulse.set_auth(enabled);
            router.log(match enabled {
                true => LogLine::warn(
                    "enabled authentication; this release does not enforce it yet and refuses all clients",
                ),
                false => LogLine::info("disabled authentication"),
            });
        }
    }

    fn set_role(&mut self, role: Role, now: Instant, router: &dyn Router) {
        self.role = role;
        self.own.term = role.term;
        if !self.is_leader() {
            self.corruption.abandon();
            self.leadership_lost(now, router);
            if self.lessor.is_primary() {
                self.demote(now, router);
            }
        }
        if role.leader != raft::NONE {
            self.leader_known(now, router);
        }
        if role.leader != raft::NONE && !self.shared.is_ready() {
            self.publish_attributes(now, router);
        }
    }

    fn is_leader(&self) -> bool {
        self.role.leader == self.shared.member_id
    }

    /// The first entry of a term is applied: whoever leads knows now what is committed.
    fn term_started(&mut self, term: u64, now: Instant, router: &dyn Router) {
        for front in 0..self.shared.fronts {
            self.answers[front].push(Tell::FirstCommitInTerm);
        }
        if self.is_leader() && self.role.term == term {
            self.promote(now, router);
            self.first_version = Some((term, now + MONITOR_EVERY));
            self.look_at_cluster_version(now, router);
        }
    }

    fn take_ask(&mut self, ask: AskApply, now: Instant, router: &dyn Router) {
        match ask {
            AskApply::Renew { id, lease, of } => {
                let what = PeerQuestion::Renew { lease };
                self.ask_leader(self.question(id, what, of, now), now, router);
            }
            AskApply::TimeToLive { id, lease, keys, of } => {
                let what = PeerQuestion::TimeToLive { lease, keys };
                self.ask_leader(self.question(id, what, of, now), now, router);
            }
            AskApply::Promote { id, member } => {
                let what = PeerQuestion::Promote { member };
                self.ask_leader(self.question(id, what, Asker::Client, now), now, router);
            }
            AskApply::Leases { id } => self.list_leases(id),
            AskApply::Pin { id } => self.file.pin(id),
            AskApply::Defragment { id } => self.ask_defragment(id, router),
        }
    }

    /// Makes what was applied visible, and only then answers.
    fn publish(&mut self, router: &dyn Router) {
        if self.unpublished > 0 {
            self.unpublished = 0;
            if std::mem::take(&mut self.facts_changed) {
                self.shared
                    .set_facts(Facts::of(&self.machine, self.storage_version));
            }
            let published = self.machine.publish();
            self.shared.tallies.note_store(self.machine.store().counts());
            let index = published.view.applied_index;
            self.shared.set_applied(index);
            let events = (!published.events.events.is_empty()).then_some(published.events);
            for front in 0..self.shared.fronts {
                if self.shared.wants_views(front) {
                    router.to_front(
                        front,
                        ToFront::Published {
                            view: published.view.clone(),
                            events: events.clone(),
                        },
                    );
                }
            }
            router.to_decide(ToDecide::Applied { index });
        }
        for front in 0..self.answers.len() {
            if !self.answers[front].is_empty() {
                let tells = std::mem::take(&mut self.answers[front]);
                router.to_front(front, ToFront::Tell(tells));
            }
        }
    }

    fn run_timers(&mut self, now: Instant, router: &dyn Router) {
        if self.stopping {
            return;
        }
        self.own_timeouts(now, router);
        self.step_questions(now, router);
        self.step_leases(now, router);
        self.step_compactor(now, router);
        if self.monitor_at <= now {
            self.monitor_at = now + MONITOR_EVERY;
            if self.is_leader() {
                self.look_at_cluster_version(now, router);
            }
            self.look_at_storage_version(router);
        }
        if self.downgrade_check_at <= now && !self.config.downgrade_check_time.is_zero() {
            self.downgrade_check_at = now + self.config.downgrade_check_time;
            self.end_downgrade(now, router);
        }
        if self.purge_at <= now {
            self.purge_at = now + PURGE_EVERY;
            self.purge(router);
        }
    }

    /// Brings the version of the data file in line with the cluster's. A local matter of each member
    /// (etcd: server/etcdserver/version/monitor.go, UpdateStorageVersionIfNeeded).
    fn look_at_storage_version(&mut self, router: &dyn Router) {
        let membership = self.machine.membership().clone();
        let stored = self.storage_version;
        let Some(target) = monitor::storage_version(&membership, stored, self.config.line) else {
            return;
        };
        if let Some(stored) = stored {
            router.log(
                LogLine::info("cluster version differs from storage version.")
                    .with("cluster-version", target.to_string())
                    .with("storage-version", stored.to_string()),
            );
        }
        let needed = self.window.minimal_version(self.file.snapshot_index());
        if needed > target {
            router.log(
                LogLine::new(Level::Error, "failed to update storage version")
                    .with("cluster-version", target.to_string())
                    .with(
                        "error",
                        format!("cannot downgrade storage, WAL contains newer entries, as the minimum version is {needed}"),
                    ),
            );
            return;
        }
        let from = stored.unwrap_or(Line::V3_5.version());
        if let Err(error) =
            mvcc::schema::migrate(self.machine.store().backend(), from, target, self.config.line)
        {
            router.log(
                LogLine::new(Level::Error, "failed to update storage version")
                    .with("cluster-version", target.to_string())
                    .with("error", error.to_string()),
            );
            return;
        }
        self.storage_version = Some(target);
        self.facts_changed = true;
        self.unpublished += 1;
        router.log(LogLine::info("updated storage version").with("new-storage-version", target.to_string()));
        if let Some(downgrade) = monitor::downgrade_target(&membership) {
            router.log(
                LogLine::info("The server is ready to downgrade")
                    .with("target-version", downgrade.to_string())
                    .with("server-version", self.config.line.release().to_string()),
            );
        }
    }

    fn purge(&self, router: &dyn Router) {
        let (disk, config) = (self.disk.clone(), self.config.clone());
        router.job(Job::new(JobKind::Purge, move |router: &dyn Router| {
            let log = |removed: Result<Vec<std::path::PathBuf>, wal::Error>| match removed {
                Ok(paths) => {
                    for path in paths {
                        router.log(LogLine::info("purged").with("path", path.display().to_string()));
                    }
                }
                Err(error) => {
                    router.log(LogLine::warn("failed to purge files").with("error", error.to_string()));
                }
            };
            log(wal::purge(&*disk, &config.wal_dir(), config.wals_max));
            log(wal::snapfile::purge(
                &*disk,
                &config.snap_dir(),
                config.snapshots_max,
            ));
        }));
    }

    /// The last entry is applied: what remains is to write it all down.
    fn stop(&mut self) {
        self.stopping = true;
        if self.window.holds_v2_request(self.file.snapshot_index()) {
            // 3.7 may start here next. etcd leaves no snapshot at its stop, so that 3.7 dies of what 3.6 took over from
            // 3.5 and wrote little to.
            self.file.want_snapshot();
        }
        self.file.stop();
    }

    fn finish_stop(&mut self, router: &dyn Router) {
        router.to_persist(ToPersist::Stop);
    }
}
