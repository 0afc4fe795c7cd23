//! The member as its connections to others see it: what comes from them goes to the stages, what they ask
//! is answered. Opens no socket of its own.

pub mod answers;
pub mod asks;
mod begin;
mod first_check;
mod join;
mod same_urls;
mod versions;
mod words;

pub use begin::{before_opening, before_serving};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use api::clock::Instant;
use disk::Disk;
use member::{LogLine, Router, Shared, ToDecide};
use raft::Message;
use tls::ClientSide;
use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::task::spawn_local;
use transport::{Count, Dialer, Door, Host, Options, Question, Reply, Transport};

use crate::config::Config;
use crate::driver::{Clock, Driver, lock};
use crate::front::{Order, Orders, handshake};
use crate::listen::{self, Listener};
use crate::log::Log;
use crate::metrics::Metrics;

/// What a connection to another member may take longer than an election: config/config.go,
/// PeerDialTimeout.
const DIAL_MORE: Duration = Duration::from_secs(1);

/// See the module.
pub struct Peers {
    driver: Weak<Driver>,
    shared: Arc<Shared>,
    config: member::Config,
    disk: Arc<dyn Disk>,
    log: Log,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Who answers other members. It ends when nobody can give it orders any more.
    front: WeakUnboundedSender<Order>,
    /// Since when others can be reached.
    active: Mutex<BTreeMap<u64, Instant>>,
    /// That this member was removed has been said.
    is_leaving: AtomicBool,
}

/// What the connections need beside the driver.
pub struct Around {
    /// The settings of the member.
    pub config: member::Config,
    /// How others are dialled.
    pub dialer: Dialer,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// The log.
    pub log: Log,
    /// The registry.
    pub metrics: Arc<Metrics>,
    /// What the member shows.
    pub shared: Arc<Shared>,
    /// The clock whose times the member has seen.
    pub clock: Clock,
}

/// How this member dials others.
pub fn dialer(config: &Config, side: Option<Arc<ClientSide>>) -> Dialer {
    let urls = &config.initial_advertise_peer_urls;
    let address = config.gates.is_on("SetMemberLocalAddr").then(|| {
        let hosts = urls.iter().map(|url| url.host().parse::<std::net::IpAddr>());
        hosts
            .flatten()
            .find(|address| !address.is_loopback() && !address.is_unspecified())
    });
    let patience = DIAL_MORE + Duration::from_millis(config.election_ms);
    Dialer::new(side, patience, address.flatten())
}

/// Starts the connections of a member that runs; what others ask is answered by `front`.
pub fn start(
    driver: &Arc<Driver>,
    around: Around,
    front: &Orders,
    doors: Vec<Listener>,
) -> std::io::Result<()> {
    let shared = around.shared;
    let options = Options {
        member_id: shared.member_id,
        cluster_id: shared.cluster_id,
        version: shared.line.release(),
        peer_urls: around.config.advertise_peer_urls.clone(),
        dialer: around.dialer,
        disk: around.disk.clone(),
        snap_dir: around.config.snap_dir(),
    };
    let joined = around.config.join.clone();
    let log = around.log.clone();
    let peers = Arc::new(Peers {
        driver: Arc::downgrade(driver),
        shared,
        config: around.config,
        disk: around.disk,
        log: around.log,
        metrics: around.metrics,
        clock: around.clock,
        front: front.downgrade(),
        active: Mutex::default(),
        is_leaving: AtomicBool::new(false),
    });
    let transport = Transport::start(options, peers.clone())?;
    for member in joined.iter().flat_map(|join| &join.members) {
        transport.add_remote(member.id, &member.peer_urls);
    }
    for listener in doors {
        transport.open(door(listener, log.clone()));
    }
    transport.open(versions::task(peers));
    driver.connect(transport);
    Ok(())
}

/// Accepts connections of other members, on the transport's thread.
fn door(listener: Listener, log: Log) -> Door {
    Box::new(move |doorway| {
        Box::pin(async move {
            listen::accept_all(&log, listener, |incoming, acceptor| {
                let (doorway, guard, log) = (doorway.clone(), acceptor.guard.clone(), log.clone());
                spawn_local(async move {
                    let Ok(plain) = incoming.settle() else { return };
                    let address = plain.ends().map(|(_, remote)| remote);
                    if let Some(socket) = handshake::admit(&log, plain, guard.as_deref()).await {
                        doorway.serve(socket, address).await;
                    }
                });
            })
            .await;
        })
    })
}

impl Peers {
    fn tell(&self, message: ToDecide) {
        if let Some(driver) = self.driver.upgrade() {
            driver.to_decide(message);
            driver.settle();
        }
    }
}

impl member::Log for Peers {
    fn log(&self, line: LogLine) {
        self.log.log(line);
    }
}

impl Host for Peers {
    fn deliver(&self, messages: &mut Vec<Message>) {
        if let Some(driver) = self.driver.upgrade() {
            driver.deliver(messages);
        }
    }

    fn unreachable(&self, id: u64) {
        self.tell(ToDecide::Unreachable { id });
    }

    fn snapshot_sent(&self, id: u64, arrived: bool) {
        self.tell(ToDecide::SnapshotSent { id, arrived });
    }

    fn accept_snapshot(&self, received: PathBuf, message: Message) -> Result<(), String> {
        member::peer::accept_snapshot(&self.disk, &received, &message, &self.config)
            .map_err(|error| error.to_string())?;
        if let Some(driver) = self.driver.upgrade() {
            driver.deliver_snapshot(message);
        }
        Ok(())
    }

    fn is_removed(&self, id: u64) -> bool {
        self.shared.facts().removed.binary_search(&id).is_ok()
    }

    fn told_removed(&self) {
        if self.is_leaving.swap(true, Ordering::SeqCst) {
            return;
        }
        // etcdserver/server.go run, and rafthttp's errMemberRemoved.
        self.log
            .warn("server error")
            .error("the member has been permanently removed from the cluster")
            .emit();
        self.log
            .warn("data-dir used by this member must be removed")
            .emit();
        self.tell(ToDecide::Stop);
    }

    fn answer(&self, question: Question, reply: Reply) {
        // Where the front thread has ended, the connection ends without an answer.
        if let Some(front) = self.front.upgrade() {
            let _ = front.send(Order::Answer(question, reply));
        }
    }

    fn count(&self, count: Count) {
        if let Count::Active(id, is_active) = count {
            let mut active = lock(&self.active);
            match is_active {
                true => drop(active.insert(id, self.clock.now())),
                false => drop(active.remove(&id)),
            }
            self.shared.set_active(active.clone());
        }
        self.metrics.network.count(count);
    }
}
