//! What an operator may choose of a member. Never reads a flag or a file.

use std::path::PathBuf;
use std::time::Duration;

use api::version::Line;

/// One member of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its `--name`.
    pub name: String,
    /// Its advertised peer URLs as Go prints them.
    pub peer_urls: Vec<String>,
}

/// What a running cluster says of itself to one who joins it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its ID.
    pub cluster_id: u64,
    /// Its members, the new one among them.
    pub members: Vec<state::Member>,
}

/// `--auto-compaction-mode` and `--auto-compaction-retention`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Retention 0.
    #[default]
    Off,
    /// Keep this span of time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

/// The settings of one member. `Default` is etcd's default for each.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--wal-dir`; `None` for `member/wal` in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `--emulated-version`.
    pub line: Line,
    /// `--initial-cluster`, used only to make a new cluster.
    pub initial_cluster: Vec<InitialMember>,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--initial-cluster-state=new`; false for `existing`.
    pub new_cluster: bool,
    /// `--initial-advertise-peer-urls`.
    pub advertise_peer_urls: Vec<String>,
    /// `--advertise-client-urls`.
    pub advertise_client_urls: Vec<String>,
    /// `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// `--heartbeat-interval`: the length of a tick.
    pub tick: Duration,
    /// `--election-timeout` in ticks.
    pub election_ticks: u32,
    /// `--initial-election-tick-advance`.
    pub initial_election_tick_advance: bool,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--snapshot-count`.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`.
    pub snapshot_catchup_entries: u64,
    /// `--max-snapshots`; 0 keeps all.
    pub snapshots_max: usize,
    /// `--max-wals`; 0 keeps all.
    pub wals_max: usize,
    /// `--quota-backend-bytes`: 0 is the default of 2 GiB, negative is none.
    pub quota_backend_bytes: i64,
    /// `--backend-batch-interval`; 0 is the default.
    pub backend_batch_interval: Duration,
    /// `--backend-batch-limit`; 0 is the default.
    pub backend_batch_limit: usize,
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// What is advertised leads to what `--initial-cluster` says of this member, as their names are looked up:
    /// the texts need not be the same.
    pub advertised_is_same: bool,
    /// `--initial-cluster-state=existing`: what the running cluster said of itself. Only looked at
    /// where there is no log.
    pub join: Option<Join>,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--max-learners`.
    pub learners_max: usize,
    /// `--compaction-batch-limit`.
    pub compaction_batch_limit: usize,
    /// `--compaction-sleep-interval`.
    pub compaction_sleep_interval: Duration,
    /// `--auto-compaction-mode` with its retention.
    pub auto_compaction: AutoCompaction,
    /// `--warning-apply-duration`.
    pub warning_apply_duration: Duration,
    /// Feature gate `LeaseCheckpoint`.
    pub lease_checkpoint: bool,
    /// Feature gate `LeaseCheckpointPersist`.
    pub lease_checkpoint_persist: bool,
    /// `--corrupt-check-time`: how often the leader compares the members' stores; 0 is never.
    pub corrupt_check_time: Duration,
    /// `--compact-hash-check-time` where the feature gate `CompactHashCheck` is on: how often the leader
    /// compares the hashes of compactions; 0 is never.
    pub compact_hash_check_time: Duration,
    /// `--downgrade-check-time`.
    pub downgrade_check_time: Duration,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// `--bootstrap-defrag-threshold-megabytes`; 0 never defragments at the start.
    pub bootstrap_defrag_threshold_megabytes: u64,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// Bytes of pages of the data file kept in memory.
    pub page_cache_bytes_max: usize,
    /// The size at which a log segment ends: etcd's, but for tests and the simulator.
    pub segment_bytes: u64,
    /// How many front threads there will be.
    pub fronts: usize,
}

impl Config {
    /// `member` in the data directory.
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// Where the log segments are.
    pub fn wal_dir(&self) -> PathBuf {
        self.wal_dir
            .clone()
            .unwrap_or_else(|| self.member_dir().join("wal"))
    }

    /// Where the snapshot files and the data file are.
    pub fn snap_dir(&self) -> PathBuf {
        self.member_dir().join("snap")
    }

    /// The data file.
    pub fn db_path(&self) -> PathBuf {
        self.snap_dir().join("db")
    }

    /// The election timeout.
    pub fn election_timeout(&self) -> Duration {
        self.tick * self.election_ticks
    }

    /// How long a request may wait for consensus: 5 s and two election timeouts
    /// (etcd: server/config/config.go ReqTimeout).
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "default".to_owned(),
            data_dir: PathBuf::from("default.etcd"),
            wal_dir: None,
            line: Line::default(),
            initial_cluster: vec![InitialMember {
                name: "default".to_owned(),
                peer_urls: vec!["http://localhost:2380".to_owned()],
            }],
            initial_cluster_token: "etcd-cluster".to_owned(),
            new_cluster: true,
            advertise_peer_urls: vec!["http://localhost:2380".to_owned()],
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            force_new_cluster: false,
            tick: Duration::from_millis(100),
            election_ticks: 10,
            initial_election_tick_advance: true,
            pre_vote: true,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            snapshots_max: 5,
            wals_max: 5,
            quota_backend_bytes: 0,
            backend_batch_interval: Duration::from_millis(100),
            backend_batch_limit: 10_000,
            request_bytes_max: 1_572_864,
            txn_ops_max: 128,
            advertised_is_same: false,
            join: None,
            strict_reconfig_check: true,
            learners_max: 1,
            compaction_batch_limit: 1_000,
            compaction_sleep_interval: Duration::from_millis(10),
            auto_compaction: AutoCompaction::Off,
            warning_apply_duration: Duration::from_millis(100),
            lease_checkpoint: false,
            lease_checkpoint_persist: false,
            corrupt_check_time: Duration::ZERO,
            compact_hash_check_time: Duration::ZERO,
            downgrade_check_time: Duration::from_secs(5),
            watch_progress_interval: Duration::from_secs(600),
            bootstrap_defrag_threshold_megabytes: 0,
            unsafe_no_fsync: false,
            page_cache_bytes_max: 16 << 20,
            segment_bytes: wal::SEGMENT_BYTES,
            fronts: 1,
        }
    }
}
