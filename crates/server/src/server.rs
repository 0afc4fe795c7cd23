//! A server: the member with its driver, its front threads and its listeners.

use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use disk::Disk;
use member::{Fatal, InitialMember, Shared};
use tokio::sync::Semaphore;

use crate::config::{self, Config, Span, Url, arch};
use crate::descriptors::{self, Room, TooLow};
use crate::discovery;
use crate::driver::{
    Clock, Driver, Event, Inbox, LONG_THREADS, Pool, READ_THREADS, Surroundings, lock, unix_ms,
};
use crate::front::{self, Common, Order, Orders};
use crate::guard::Guards;
use crate::listen::{self, Door, ListenError, Listener};
use crate::log::{Log, Once};
use crate::metrics::{MeasuredDisk, Metrics, span};
use crate::peers;

/// Pause between attempts on a directory that another process holds.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Time after which that is worth a warning: etcd's server/storage/backend.go.
const LOCK_WARNING: Duration = Duration::from_secs(10);
/// Time that the stages have to write what they hold when the server stops.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The process may have too few file descriptors.
    #[error(transparent)]
    Descriptors(#[from] TooLow),
    /// The settings do not fit together.
    #[error("{0}")]
    Settings(String),
    /// The discovery service did not let the member in.
    #[error("{0}")]
    Discovery(String),
    /// The data directory could not be opened; the text says what to do.
    #[error(transparent)]
    Member(#[from] member::Error),
    /// The system refused a thread or a runtime.
    #[error("cannot start threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// A running server.
pub struct Server {
    driver: Arc<Driver>,
    fronts: Arc<Vec<Orders>>,
    /// Those that open when the member is ready.
    client_doors: Mutex<Vec<Listener>>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    log: Log,
    /// Where each listener listens, with the ports that the system has chosen.
    #[cfg(test)]
    pub addresses: Vec<(Door, String)>,
}

impl Server {
    /// Opens the listeners and the member, and starts all threads. Clients are let in by
    /// `open_doors`.
    pub fn start(mut config: Config, log: Log, disk: Arc<dyn Disk>) -> Result<Server, StartError> {
        let fronts = thread::available_parallelism().map_or(1, usize::from);
        let is_initialized = announce_directory(&config, &log, &*disk);
        log.info("configuring peer listeners")
            .list("listen-peer-urls", texts(&config.listen_peer_urls))
            .emit();
        let mut guards = Guards::default();
        guards.peers(&config, &log).map_err(StartError::Settings)?;
        if config.max_learners < 0 {
            // No number of learners is low enough (etcd: membership.ValidateMaxLearnerConfig).
            let text = "membership: too many learner members in cluster";
            return Err(StartError::Settings(text.to_string()));
        }
        log.info("configuring client listeners")
            .list("listen-client-urls", texts(&config.listen_client_urls))
            .emit();
        guards.clients(&config, &log).map_err(StartError::Settings)?;
        let listeners = listen::open_all(&config, &guards, &Room::within(descriptors::limit())?)?;
        #[cfg(test)]
        let addresses = listeners
            .iter()
            .map(|listener| (listener.door, listener.address.clone()))
            .collect();
        if !has_log(&config, &*disk) || config.force_new_cluster {
            discovery::prepare(&mut config, &log).map_err(StartError::Settings)?;
        }
        let metrics = Arc::new(Metrics::new(fronts, config.metrics_extensive));
        let disk: Arc<dyn Disk> = Arc::new(MeasuredDisk::new(disk, metrics.clone(), log.clone()));
        announce_start(&config, &log, fronts, is_initialized);
        let clock = Clock::start();
        let mut member_config = member_config(&config, fronts)?;
        let server_name = &config.peer_tls.server_name;
        let dialer = peers::dialer(
            &config,
            guards.dialing(server_name).map_err(StartError::Settings)?,
        );
        peers::before_opening(&mut member_config, &config.discovery, &*disk, &dialer, &log)?;
        let mut opened = open_patiently(&disk, &member_config, clock, &log)?;
        if is_initialized && config.gates.is_on("InitialCorruptCheck") {
            peers::before_serving(&opened, &member_config, &dialer, &log).map_err(StartError::Settings)?;
        }
        let seats = std::mem::take(&mut opened.fronts);
        let shared = opened.shared.clone();
        let views = seats.first().map(|seat| seat.views.clone());
        let views = views.expect("a member has as many seats as it was asked for");
        let inboxes: Vec<Arc<Inbox>> = seats.iter().map(|_| Arc::new(Inbox::default())).collect();
        let (sender, events) = channel();
        let driver = Driver::start(
            opened,
            inboxes.clone(),
            Surroundings {
                clock,
                log: log.clone(),
                metrics: metrics.clone(),
                warning_apply_duration: config.warning_apply_duration,
                events: sender.clone(),
                request_timeout: member_config.request_timeout(),
                tick: Duration::from_millis(config.heartbeat_ms),
                reads: Pool::start("read", READ_THREADS)?,
                long: Pool::start("long", LONG_THREADS)?,
            },
        )?;
        announce_serving(&config, &log, &shared);
        let calls_max = usize::try_from(config.max_concurrent_streams).unwrap_or(usize::MAX);
        guards.announce_clients(&config, &log);
        let around = peers::Around {
            config: member_config,
            dialer,
            disk,
            log: log.clone(),
            metrics: metrics.clone(),
            shared: shared.clone(),
            clock,
        };
        let common = Arc::new(Common {
            gateway_calls: Semaphore::new(calls_max.min(Semaphore::MAX_PERMITS)),
            config,
            shared,
            views,
            driver: driver.clone(),
            clock,
            log: log.clone(),
            metrics,
        });
        let mut orders = Vec::new();
        for (seat, inbox) in seats.into_iter().zip(inboxes) {
            orders.push(front::start(common.clone(), seat, inbox, sender.clone())?);
        }
        let (peer_doors, client_doors): (Vec<_>, Vec<_>) = listeners
            .into_iter()
            .partition(|listener| listener.door == Door::Peer);
        let server = Server {
            driver,
            fronts: Arc::new(orders),
            client_doors: Mutex::new(client_doors),
            events,
            sender,
            log,
            #[cfg(test)]
            addresses,
        };
        for listener in &peer_doors {
            server
                .log
                .info("serving peer traffic")
                .text("address", &listener.address)
                .emit();
        }
        let front = server.fronts.first().expect("there is a front thread at least");
        peers::start(&server.driver, around, front, peer_doors)?;
        Ok(server)
    }

    fn accept(&self, listeners: Vec<Listener>) {
        if let Some(first) = self.fronts.first() {
            let _ = first.send(Order::Accept(listeners, self.fronts.clone()));
        }
    }

    /// Lets clients in.
    pub fn open_doors(&self) {
        let doors = std::mem::take(&mut *lock(&self.client_doors));
        for listener in &doors {
            self.announce_door(listener);
        }
        self.accept(doors);
    }

    /// embed/serve.go and embed/etcd.go: a listener for both kinds has two lines.
    fn announce_door(&self, listener: &Listener) {
        let traffic = match listener.door {
            Door::Client { http: true } => "grpc+http",
            Door::Client { http: false } => "grpc",
            Door::Metrics => {
                let scheme = if listener.guard.is_some() { "https" } else { "http" };
                let url = format!("{scheme}://{}", listener.address);
                self.log.info("serving metrics").text("address", url).emit();
                return;
            }
            Door::ClientHttp | Door::Peer => "http",
        };
        let serving = |text: &str| {
            self.log
                .info(text)
                .text("traffic", traffic)
                .text("address", &listener.address)
                .emit();
        };
        if listener.guard.as_ref().is_none_or(|guard| guard.plain_too) {
            serving("serving client traffic insecurely; this is strongly discouraged!");
        }
        if listener.guard.is_some() {
            serving("serving client traffic securely");
        }
    }

    /// Waits for the next event.
    pub fn next_event(&self) -> Event {
        self.events.recv().expect("the server itself holds a sender")
    }

    /// Where events go.
    pub fn events(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Stops in order: no new clients, what is in flight finishes (for `patience` at most), the
    /// member writes everything.
    pub fn stop(&self, patience: Duration) -> Result<(), Fatal> {
        for front in self.fronts.iter() {
            let _ = front.send(Order::Stop);
        }
        let deadline = Instant::now() + patience;
        if drain(&self.events, self.fronts.len(), deadline)? == Drained::Fronts {
            self.driver.stop();
            until_stopped(&self.events, Instant::now() + STOP_MAX)?;
        }
        self.driver.close();
        Ok(())
    }
}

/// What ended while the fronts were waited for.
#[derive(Debug, PartialEq, Eq)]
enum Drained {
    /// The fronts have answered their clients, or their time is over.
    Fronts,
    /// The member has stopped by itself, since it was removed from its cluster at the same time. It says so once.
    Member,
}

fn drain(events: &Receiver<Event>, fronts: usize, deadline: Instant) -> Result<Drained, Fatal> {
    let mut busy = fronts;
    while busy > 0 {
        match event_until(events, deadline) {
            Some(Event::Drained) => busy -= 1,
            Some(Event::Stopped) => return Ok(Drained::Member),
            Some(Event::Fatal(fatal)) => return Err(fatal),
            Some(_) => {}
            None => break,
        }
    }
    Ok(Drained::Fronts)
}

fn until_stopped(events: &Receiver<Event>, deadline: Instant) -> Result<(), Fatal> {
    loop {
        match event_until(events, deadline) {
            Some(Event::Stopped) => return Ok(()),
            Some(Event::Fatal(fatal)) => return Err(fatal),
            Some(_) => {}
            None => {
                return Err(Fatal {
                    what: "member".to_string(),
                    reason: "it did not stop in time; the log has all that was acknowledged".to_string(),
                });
            }
        }
    }
}

fn event_until(events: &Receiver<Event>, deadline: Instant) -> Option<Event> {
    let left = deadline.saturating_duration_since(Instant::now());
    events.recv_timeout(left).ok()
}

/// Whether the member has been here before. What is damaged is told when it is opened.
fn has_log(config: &Config, disk: &dyn Disk) -> bool {
    let usual = || config.data_dir.join("member/wal");
    let dir = config.wal_dir.clone().unwrap_or_else(usual);
    wal::exists(disk, &dir).unwrap_or(true)
}

/// Opens the member, waiting without limit while another process holds the directory.
fn open_patiently(
    disk: &Arc<dyn Disk>,
    config: &member::Config,
    clock: Clock,
    log: &Log,
) -> Result<member::Opened, StartError> {
    let start = Instant::now();
    let mut warned = false;
    // What is told of the directories is told at the first attempt.
    let told = Once::new(log);
    let seed = u64::from(std::process::id()) ^ unix_ms().rotate_left(20);
    loop {
        match member::open(disk, config, clock.now(), unix_ms(), seed, &told) {
            Err(member::Error::Locked { path }) => {
                if !warned && start.elapsed() >= LOCK_WARNING {
                    warned = true;
                    log.info("db file is flocked by another process, or taking too long")
                        .show("path", path.display())
                        .text("took", "10s")
                        .emit();
                }
                thread::sleep(LOCK_PAUSE);
            }
            other => return Ok(other?),
        }
    }
}

fn member_config(config: &Config, fronts: usize) -> Result<member::Config, StartError> {
    Ok(member::Config {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        wal_dir: config.wal_dir.clone(),
        line: config.emulated,
        initial_cluster: initial_cluster(&config.initial_cluster).map_err(StartError::Settings)?,
        initial_cluster_token: config.initial_cluster_token.clone(),
        new_cluster: config.initial_cluster_state == "new",
        advertise_peer_urls: texts(&config.initial_advertise_peer_urls),
        advertise_client_urls: texts(&config.advertise_client_urls),
        force_new_cluster: config.force_new_cluster,
        tick: Duration::from_millis(config.heartbeat_ms),
        election_ticks: u32::try_from(config.election_ms / config.heartbeat_ms).unwrap_or(u32::MAX),
        initial_election_tick_advance: config.initial_election_tick_advance,
        pre_vote: config.pre_vote,
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        snapshots_max: size(config.max_snapshots),
        wals_max: size(config.max_wals),
        quota_backend_bytes: config.quota_backend_bytes,
        backend_batch_interval: config.backend_batch_interval,
        backend_batch_limit: config.backend_batch_limit,
        request_bytes_max: config.max_request_bytes,
        txn_ops_max: config.max_txn_ops,
        strict_reconfig_check: config.strict_reconfig_check,
        learners_max: usize::try_from(config.max_learners).unwrap_or(0),
        compaction_batch_limit: config.compaction_batch_limit,
        compaction_sleep_interval: config.compaction_sleep_interval,
        auto_compaction: match config.auto_compaction {
            config::AutoCompaction::Off => member::AutoCompaction::Off,
            config::AutoCompaction::Periodic(span) => member::AutoCompaction::Periodic(span),
            config::AutoCompaction::Revision(kept) => member::AutoCompaction::Revision(kept),
        },
        warning_apply_duration: config.warning_apply_duration,
        lease_checkpoint: config.gates.is_on("LeaseCheckpoint"),
        lease_checkpoint_persist: config.gates.is_on("LeaseCheckpointPersist"),
        corrupt_check_time: config.corrupt_check_time,
        compact_hash_check_time: match config.gates.is_on("CompactHashCheck") {
            true => config.compact_hash_check_time,
            false => Duration::ZERO,
        },
        downgrade_check_time: config.downgrade_check_time,
        watch_progress_interval: config.watch_progress_notify_interval,
        bootstrap_defrag_threshold_megabytes: config.bootstrap_defrag_threshold_megabytes,
        unsafe_no_fsync: config.unsafe_no_fsync,
        fronts,
        ..member::Config::default()
    })
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `name=url,name=url`, a name once for each of its URLs: client/pkg/types/urlsmap.go.
/// Reads `--initial-cluster`.
///
/// # Errors
/// In etcd's words.
pub fn initial_cluster(text: &str) -> Result<Vec<InitialMember>, String> {
    let mut members: Vec<InitialMember> = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (name, url) = item.split_once('=').unwrap_or((item, ""));
        api::url::parse_list(url).map_err(|error| format!("error setting up initial cluster: {error}"))?;
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url.to_string()),
            None => members.push(InitialMember {
                name: name.to_string(),
                peer_urls: vec![url.to_string()],
            }),
        }
    }
    for member in &mut members {
        member.peer_urls.sort();
    }
    Ok(members)
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn announce_directory(config: &Config, log: &Log, disk: &dyn Disk) -> bool {
    let is_member = matches!(disk.metadata(&config.data_dir.join("member")), Ok(Some(_)));
    let (text, kind) = match is_member {
        true => ("server has already been initialized", "member"),
        false => ("Initialize and start etcd server", "empty"),
    };
    log.info(text)
        .show("data-dir", config.data_dir.display())
        .text("dir-type", kind)
        .emit();
    is_member
}

/// In etcd's order: embed/etcd.go print.
fn announce_start(config: &Config, log: &Log, cores: usize, is_initialized: bool) {
    let millis = |number: u64| Span::from_millis(i64::try_from(number).unwrap_or(i64::MAX));
    let number = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    let wal_dir = config.wal_dir.as_ref();
    let wal_dir = wal_dir.map(|dir| dir.display().to_string()).unwrap_or_default();
    let retention = match config.auto_compaction {
        config::AutoCompaction::Off => Duration::ZERO,
        config::AutoCompaction::Periodic(span) => span,
        // Revisions go through a number of nanoseconds in etcd, and are printed as one.
        config::AutoCompaction::Revision(kept) => Duration::from_nanos(u64::try_from(kept).unwrap_or(0)),
    };
    log.info("starting an etcd server")
        .show("etcd-version", config.emulated.release())
        .text("mainstay-version", env!("CARGO_PKG_VERSION"))
        .text("os", std::env::consts::OS)
        .text("arch", arch())
        .num("max-cpu-set", number(cores))
        .num("max-cpu-available", number(cores))
        .flag("member-initialized", is_initialized)
        .text("name", &config.name)
        .show("data-dir", config.data_dir.display())
        .text("wal-dir", &wal_dir)
        .text("wal-dir-dedicated", &wal_dir)
        .show("member-dir", config.data_dir.join("member").display())
        .flag("force-new-cluster", config.force_new_cluster)
        .show("heartbeat-interval", millis(config.heartbeat_ms))
        .show("election-timeout", millis(config.election_ms))
        .flag(
            "initial-election-tick-advance",
            config.initial_election_tick_advance,
        )
        .num("snapshot-count", config.snapshot_count)
        .num("max-wals", config.max_wals)
        .num("max-snapshots", config.max_snapshots)
        .num("snapshot-catchup-entries", config.snapshot_catchup_entries)
        .list(
            "initial-advertise-peer-urls",
            texts(&config.initial_advertise_peer_urls),
        )
        .list("listen-peer-urls", texts(&config.listen_peer_urls))
        .list("advertise-client-urls", texts(&config.advertise_client_urls))
        .list("listen-client-urls", texts(&config.listen_client_urls))
        .list("listen-metrics-urls", texts(&config.listen_metrics_urls))
        .list("cors", &config.cors)
        .list("host-whitelist", &config.host_whitelist)
        .text("initial-cluster", &config.initial_cluster)
        .text("initial-cluster-state", &config.initial_cluster_state)
        .text("initial-cluster-token", &config.initial_cluster_token)
        .num("quota-backend-bytes", quota(config.quota_backend_bytes))
        .num("max-request-bytes", number(config.max_request_bytes))
        .num("max-concurrent-streams", config.max_concurrent_streams)
        .flag("pre-vote", config.pre_vote)
        .text("feature-gates", &config.gates.given)
        .flag("initial-corrupt-check", config.gates.is_on("InitialCorruptCheck"))
        .show("corrupt-check-time-interval", span(config.corrupt_check_time))
        .show(
            "compact-check-time-interval",
            span(config.compact_hash_check_time),
        )
        .text("auto-compaction-mode", &config.auto_compaction_mode)
        .show("auto-compaction-retention", span(retention))
        .show("auto-compaction-interval", span(retention))
        .text("discovery-token", &config.discovery.token)
        .text("discovery-endpoints", config.discovery.endpoints.join(","))
        .show("discovery-dial-timeout", span(config.discovery.dial_timeout))
        .show(
            "discovery-request-timeout",
            span(config.discovery.request_timeout),
        )
        .show("discovery-keepalive-time", span(config.discovery.keepalive_time))
        .show(
            "discovery-keepalive-timeout",
            span(config.discovery.keepalive_timeout),
        )
        .flag(
            "discovery-insecure-transport",
            config.discovery.insecure_transport,
        )
        .flag(
            "discovery-insecure-skip-tls-verify",
            config.discovery.insecure_skip_tls_verify,
        )
        .text("discovery-cert", &config.discovery.cert)
        .text("discovery-key", &config.discovery.key)
        .text("discovery-cacert", &config.discovery.cacert)
        .text("discovery-user", &config.discovery.user)
        .show("downgrade-check-interval", span(config.downgrade_check_time))
        .num("max-learners", config.max_learners)
        .text("v2-deprecation", "write-only")
        .emit();
}

/// The quota in effect: 0 stands for the default of 2 GiB.
fn quota(given: i64) -> i64 {
    if given == 0 { 2 << 30 } else { given }
}

fn announce_serving(config: &Config, log: &Log, shared: &Shared) {
    log.info("now serving peer/client/metrics")
        .text("local-member-id", format!("{:x}", shared.member_id))
        .list(
            "initial-advertise-peer-urls",
            texts(&config.initial_advertise_peer_urls),
        )
        .list("listen-peer-urls", texts(&config.listen_peer_urls))
        .list("advertise-client-urls", texts(&config.advertise_client_urls))
        .list("listen-client-urls", texts(&config.listen_client_urls))
        .list("listen-metrics-urls", texts(&config.listen_metrics_urls))
        .emit();
}

/// The address by which this machine reaches others, which is how they reach it. Nothing is sent:
/// a datagram socket only looks its route up.
pub fn default_host() -> Option<String> {
    // An address for documentation (RFC 5737): it stands for "anywhere".
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that is removed and told to stop at the same time has nothing more to say.
    #[test]
    fn a_member_that_stops_by_itself_meanwhile_is_not_waited_for() {
        let (tell, events) = std::sync::mpsc::channel();
        let far = Instant::now() + STOP_MAX;
        for event in [Event::Drained, Event::Ready, Event::Stopped] {
            tell.send(event).unwrap();
        }
        assert_eq!(drain(&events, 2, far).unwrap(), Drained::Member);
        for event in [Event::Drained, Event::Drained, Event::Stopped] {
            tell.send(event).unwrap();
        }
        assert_eq!(drain(&events, 2, far).unwrap(), Drained::Fronts);
        until_stopped(&events, far).unwrap();
        assert!(until_stopped(&events, Instant::now()).is_err());
    }

    #[test]
    fn initial_clusters_are_read() {
        let members = initial_cluster("b=http://x:2,a=http://y:1,b=http://x:1").unwrap();
        assert_eq!(members[0].name, "b");
        assert_eq!(members[0].peer_urls, ["http://x:1", "http://x:2"]);
        assert_eq!(members[1].peer_urls, ["http://y:1"]);
        for text in ["a", "a=", "a=b"] {
            assert!(initial_cluster(text).is_err(), "{text}");
        }
    }
}
