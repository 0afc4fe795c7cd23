//! From a data directory and a configuration to a member that can run.
//!
//! ```text
//! directories ─▶ data file (locked) ─▶ log, read ─▶ checks that refuse ─▶ log, locked and repaired ─▶ stages
//!                                                   └── nothing is written above this line
//! ```

mod datafile;
mod dirs;
mod log_dir;
mod membership;

use std::sync::Arc;

use api::clock::Instant;
use disk::Disk;
use mvcc::{Store, StoreOptions, ViewSource};
use raft::Raft;
use state::{Machine, Mending};

use crate::apply::{Apply, Parts, defrag};
use crate::archive::Archive;
use crate::committer::Committer;
use crate::config::Config;
use crate::decide::Decide;
use crate::error::Error;
use crate::frontend;
use crate::log::{Log, LogLine};
use crate::message::ToDecide;
use crate::persist::Persist;
use crate::router::{Job, JobKind, Router};
use crate::shared::{Facts, Shared};

pub(crate) use datafile::{db_options, storage_version};
use log_dir::OpenedLog;
pub(crate) use log_dir::raft_entry;

/// What a front end gets: its settings, and what it may read.
pub struct FrontSeat {
    /// The number of the front thread.
    pub front: usize,
    /// Its settings.
    pub config: frontend::Config,
    /// What every thread may read.
    pub shared: Arc<Shared>,
    /// The newest view.
    pub views: ViewSource,
}

/// A member that can run: the driver gives each stage a thread or a turn, and begins with
/// [`Opened::start`].
pub struct Opened {
    /// The raft stage.
    pub decide: Decide,
    /// The log stage.
    pub persist: Persist,
    /// The apply stage.
    pub apply: Apply,
    /// The stage that writes the data file.
    pub committer: Committer,
    /// One seat for each of `Config::fronts`.
    pub fronts: Vec<FrontSeat>,
    /// What every thread may read.
    pub shared: Arc<Shared>,
    /// The newest view.
    pub views: ViewSource,
    db: bbolt::Db,
}

impl Opened {
    /// Holds the data file against the rules of its format, as far as it is committed: for tests.
    pub fn check_file(&mut self) -> Vec<bbolt::Violation> {
        self.apply.data_file().check()
    }

    /// The leases as of the newest view: for tests.
    pub fn leases(&self) -> &state::Leases {
        self.apply.leases()
    }

    /// Sends the first messages: entries of the log that wait to be applied, the election of a lone
    /// voter. The driver's queues must exist.
    pub fn start(&mut self, now: Instant, router: &dyn Router) {
        router.job(find_free_pages(self.db.clone(), self.shared.clone()));
        let mut nothing: Vec<ToDecide> = Vec::new();
        self.decide.handle(&mut nothing, now, router);
    }
}

/// Looks for the pages of a data file that may be written again; until then it grows. The walk meets every
/// page: damage that it finds ends the member, as it keeps etcd from opening the file (bbolt: db.go, freepages).
pub(crate) fn find_free_pages(db: bbolt::Db, shared: Arc<Shared>) -> Job {
    Job::new(JobKind::Read, move |router: &dyn Router| {
        let error = match db.find_free_pages() {
            Ok(()) => return,
            Err(error @ bbolt::Error::Io { .. }) => error,
            Err(error) => return shared.fail(router, "data file", error.to_string()),
        };
        router.log(
            LogLine::warn("failed to look for free pages; the file grows instead")
                .with("error", error.to_string()),
        );
    })
}

/// Opens or makes the member of `config`: locks, repairs a torn log, checks versions, replays.
/// `unix_ms` is the time of day in milliseconds, `seed` decides about election timeouts.
///
/// # Errors
/// [`Error::Locked`] if another process holds the directory: the driver waits and tries again. With
/// any other error nothing in the directory was overwritten, and trying again does not help.
pub fn open(
    disk: &Arc<dyn Disk>,
    config: &Config,
    now: Instant,
    unix_ms: u64,
    seed: u64,
    log: &dyn Log,
) -> Result<Opened, Error> {
    dirs::prepare(&**disk, config, log)?;
    let have_log = wal::exists(&**disk, &config.wal_dir())?;
    let (db, opened_log) = match have_log {
        true => {
            let db = datafile::open_with_log(disk, config, log)?;
            let opened_log = log_dir::open(disk, config, &db, log)?;
            (db, opened_log)
        }
        false => {
            let new = log_dir::plan_new(config)?;
            let db = datafile::open_new(disk, config)?;
            (db, log_dir::create(disk, config, new, log)?)
        }
    };
    dirs::remove_leftovers(&**disk, config, log)?;
    let db = defrag::at_start(disk, config, db, log)?;
    assemble(disk, config, db, opened_log, (now, unix_ms, seed), log)
}

fn assemble(
    disk: &Arc<dyn Disk>,
    config: &Config,
    db: bbolt::Db,
    log: OpenedLog,
    (now, unix_ms, seed): (Instant, u64, u64),
    logger: &dyn Log,
) -> Result<Opened, Error> {
    let path = config.db_path();
    let (store, views) =
        Store::open(db.clone(), store_options(config)).map_err(|error| Error::damaged(&path, error))?;
    let mut machine = Machine::restore(
        store,
        state::Options {
            line: config.line,
            cluster_id: log.cluster_id,
            member_id: log.member_id,
            quota: state::Quota::from_config(config.quota_backend_bytes),
            min_ttl: crate::lessor::min_ttl_seconds(config.election_ticks, config.tick),
            checkpoint_persist: config.lease_checkpoint_persist,
            learners_max: config.learners_max,
            seed: log.seed,
        },
    )
    .map_err(|error| Error::damaged(&path, error))?;
    mend_members(&mut machine, &log.mending, logger);
    let shared = Arc::new(Shared::new(
        config.line,
        (log.cluster_id, log.member_id),
        config.fronts,
        unix_ms,
    ));
    let storage_version = storage_version(&db, config)?;
    shared.set_facts(Facts::of(&machine, storage_version));
    shared.pulse.set_auth(machine.auth_enabled());
    shared.set_applied(log.restored.applied);
    let raft = Raft::new(raft_config(config, log.member_id, seed), log.restored)
        .map_err(|error| Error::damaged(&config.wal_dir(), error))?;
    shared.pulse.set_committed(raft.commit_index());
    shared.set_durable(raft.durable_index());
    shared.pulse.set_leader(raft.term(), raft::NONE);
    let config = Arc::new(config.clone());
    let apply = Apply::new(
        Parts {
            machine,
            views: views.clone(),
            shared: shared.clone(),
            config: config.clone(),
            disk: disk.clone(),
            window: log.window,
            storage_version,
            snapshot_index: log.snapshot_index,
        },
        now,
    );
    let dirs = (config.wal_dir(), config.snap_dir());
    let archive = Archive::new(disk.clone(), config.wal_dir());
    let fronts = (0..config.fronts).map(|front| front_seat(front, &config, &shared, &views, (unix_ms, seed)));
    Ok(Opened {
        decide: Decide::new(raft, archive, shared.clone(), &config),
        persist: Persist::new(disk.clone(), dirs, shared.clone(), log.wal),
        apply,
        committer: Committer::default(),
        fronts: fronts.collect(),
        shared,
        views,
        db,
    })
}

/// Brings the members of the data file in line with what raft counts, and says so in etcd's words (etcd:
/// membership/cluster.go, SyncLearnerPromotionIfNeeded and CleanupZombieMembersIfNeeded).
fn mend_members(machine: &mut Machine, mending: &Mending, log: &dyn Log) {
    let words = [
        ("Syncing member in v3store", &mending.promoted),
        ("Removing zombie member from v3store", &mending.zombies),
    ];
    for (msg, ids) in words {
        for id in ids {
            log.log(LogLine::warn(msg).with("member", format!("{id:x}")));
        }
    }
    machine.mend_members(mending);
}

/// The same for the state of a leader, which counted so when it sent it.
pub(crate) fn mend_received(machine: &mut Machine, state: &raft::Snapshot, log: &dyn Log) {
    if machine.store().consistent().0 > state.index {
        return;
    }
    let counted = &state.conf_state;
    let members = machine.membership().members.values();
    let members = members.map(|member| (member.id, member.is_learner));
    let of = |ids: &[u64]| ids.iter().copied().collect();
    let mending = Mending::find(members, &of(&counted.voters), &of(&counted.learners));
    mend_members(machine, &mending, log);
}

/// How the store of a member is opened.
pub(crate) fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        compaction_batch: config.compaction_batch_limit.max(1),
        ..StoreOptions::default()
    }
}

fn raft_config(config: &Config, member_id: u64, seed: u64) -> raft::Config {
    raft::Config {
        election_ticks: config.election_ticks,
        pre_vote: config.pre_vote,
        ..raft::Config::new(member_id, seed)
    }
}

fn front_seat(
    front: usize,
    config: &Config,
    shared: &Arc<Shared>,
    views: &ViewSource,
    (unix_ms, seed): (u64, u64),
) -> FrontSeat {
    FrontSeat {
        front,
        config: frontend::Config {
            line: config.line,
            cluster_id: shared.cluster_id,
            member_id: shared.member_id,
            slot: front,
            slots: shared.slots(),
            start_unix_ms: unix_ms,
            request_bytes_max: config.request_bytes_max,
            txn_ops_max: config.txn_ops_max,
            strict_reconfig_check: config.strict_reconfig_check,
            quota_bytes: config.quota_backend_bytes,
            request_timeout: config.request_timeout(),
            election_timeout: config.election_timeout(),
            progress_interval: config.watch_progress_interval,
            seed: seed ^ (front as u64 + 1),
        },
        shared: shared.clone(),
        views: views.clone(),
    }
}
