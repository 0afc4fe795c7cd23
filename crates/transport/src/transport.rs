//! The transport: its thread, and what other threads may do with it. Nothing here waits but the end of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use api::url::{self, Url};
use api::version::Version;
use disk::Disk;
use member::{LogLine, Parcel};
use raft::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::client::{Call, CallError};
use crate::core::Core;
use crate::dial::Dialer;
use crate::headers::Identity;
use crate::host::{Answer, Host};
use crate::io::Connection;
use crate::lane::lock;
use crate::peer::{Peer, StreamKind};
use crate::pool::Pool;
use crate::{pipeline, prober, reader, serve, shipping};

/// Those that are reached without being known as members: each costs a few tasks.
const REMOTES_MAX: usize = 32;

/// What a transport is made with.
pub struct Options {
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// The release that it says it is.
    pub version: Version,
    /// Where others reach it.
    pub peer_urls: Vec<String>,
    /// How it reaches others.
    pub dialer: Dialer,
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// Where snapshots that come are put.
    pub snap_dir: PathBuf,
}

/// The connections of one member. Dropping it ends them.
pub struct Transport {
    core: Arc<Core>,
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// Where accepted connections go: inside the transport's thread.
#[derive(Clone)]
pub struct Doorway {
    core: Arc<Core>,
    remotes: Remotes,
}

impl Doorway {
    /// Serves one connection to its end. It comes from `address`, if that is one of TCP.
    pub async fn serve(&self, socket: impl Connection + 'static, address: Option<SocketAddr>) {
        serve::serve(self.core.clone(), self.remotes.clone(), socket, address).await;
    }
}

/// What runs inside the transport's thread, for as long as that does.
pub type Door = Box<dyn FnOnce(Doorway) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send>;

type Then = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

enum Command {
    Start(Arc<Peer>),
    Stop(Arc<Peer>),
    /// A member has taken the place of a remote: what waits there still goes out.
    Retire(Arc<Peer>),
    Ship(Arc<Peer>, Box<Parcel>),
    Call(Box<(Url, Call, Then)>),
    Open(Door),
    Quit,
}

/// The way to those who are no members yet.
#[derive(Clone)]
pub(crate) struct Remotes {
    core: Arc<Core>,
    commands: UnboundedSender<Command>,
}

impl Remotes {
    /// Reaches somebody by posts, until it is a member or the transport ends (rafthttp/transport.go,
    /// AddRemote).
    pub(crate) fn add(&self, id: u64, urls: Vec<Url>) {
        let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
        let peer = {
            let mut peers = self.core.peers_mut();
            let remotes = peers.values().filter(|peer| peer.is_remote).count();
            if peers.contains_key(&id) || remotes >= REMOTES_MAX || urls.is_empty() {
                return;
            }
            let peer = Arc::new(Peer::new(id, urls, true));
            peers.insert(id, peer.clone());
            peer
        };
        let _ = self.commands.send(Command::Start(peer));
        self.core.log(
            LogLine::info("added new remote peer")
                .with("local-member-id", format!("{:x}", self.core.identity.id))
                .with("remote-peer-id", format!("{id:x}"))
                .with("remote-peer-urls", texts),
        );
    }
}

impl Transport {
    /// Starts the thread. It knows nobody yet, and has no listeners.
    ///
    /// # Errors
    /// If the system refuses a thread or what the runtime needs.
    pub fn start(options: Options, host: Arc<dyn Host>) -> io::Result<Transport> {
        let identity = Identity {
            id: options.member_id,
            cluster_id: options.cluster_id,
            version: options.version,
            peer_urls: options.peer_urls,
        };
        let files = (options.disk, options.snap_dir);
        let core = Arc::new(Core::new(host, identity, options.dialer, files));
        let (commands, queue) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let remotes = Remotes {
            core: core.clone(),
            commands: commands.clone(),
        };
        let thread = thread::Builder::new().name("transport".into()).spawn(move || {
            let set = LocalSet::new();
            set.block_on(&runtime, run(remotes, queue));
            drop(set);
        })?;
        Ok(Transport {
            core,
            commands,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs what accepts connections.
    pub fn open(&self, door: Door) {
        let _ = self.commands.send(Command::Open(door));
    }

    /// Sends a message on its way. Never waits: what finds no room is dropped, and the host is told.
    pub fn send(&self, message: Box<Message>) {
        if message.to == raft::NONE {
            return;
        }
        match self.core.peer(message.to) {
            Some(peer) => peer.send(&self.core, message),
            None => self.core.host.unreachable(message.to),
        }
    }

    /// Sends a snapshot on its way. Never waits; the host is told what became of it.
    pub fn ship(&self, parcel: Box<Parcel>) {
        let to = parcel.message.to;
        let peer = self.core.peer(to);
        let sent = peer.map(|peer| self.commands.send(Command::Ship(peer, parcel)));
        if !matches!(sent, Some(Ok(()))) {
            self.core.host.snapshot_sent(to, false);
        }
    }

    /// The members of the cluster and their URLs: who is new is reached from now on, who is missing no
    /// longer. This member itself may be among them.
    pub fn set_members<'a>(&self, members: impl IntoIterator<Item = (u64, &'a [String])>) {
        let mut wanted = BTreeMap::new();
        for (id, urls) in members {
            if id == self.core.identity.id {
                continue;
            }
            match url::parse_all(urls.iter().map(String::as_str)) {
                Ok(urls) => drop(wanted.insert(id, urls)),
                Err(error) => self.core.log(
                    LogLine::warn("a member cannot be reached: its URLs are none")
                        .with("remote-peer-id", format!("{id:x}"))
                        .with("remote-peer-urls", urls.to_vec())
                        .with("error", error),
                ),
            }
        }
        let gone: Vec<Arc<Peer>> = {
            let peers = self.core.peers();
            let gone = peers
                .values()
                .filter(|peer| !peer.is_remote && !wanted.contains_key(&peer.id));
            gone.cloned().collect()
        };
        for peer in gone {
            self.remove(&peer);
        }
        for (id, urls) in wanted {
            self.set_member(id, urls);
        }
    }

    fn set_member(&self, id: u64, urls: Vec<Url>) {
        let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
        let own = format!("{:x}", self.core.identity.id);
        match self.core.peer(id) {
            Some(peer) if !peer.is_remote => {
                if peer.set_urls(urls) {
                    self.core.log(
                        LogLine::info("updated remote peer")
                            .with("local-member-id", own)
                            .with("updated-remote-peer-id", format!("{id:x}"))
                            .with("updated-remote-peer-urls", texts),
                    );
                }
                return;
            }
            Some(remote) => {
                // Its answers to the leader may still be on their way: etcd's remotes stay beside the members.
                let _ = self.commands.send(Command::Retire(remote));
            }
            None => {}
        }
        let peer = Arc::new(Peer::new(id, urls, false));
        self.core
            .log(LogLine::info("starting remote peer").with("remote-peer-id", format!("{id:x}")));
        self.core.peers_mut().insert(id, peer.clone());
        let _ = self.commands.send(Command::Start(peer));
        self.core.log(
            LogLine::info("added remote peer")
                .with("local-member-id", own)
                .with("remote-peer-id", format!("{id:x}"))
                .with("remote-peer-urls", texts),
        );
    }

    fn remove(&self, peer: &Arc<Peer>) {
        self.core.peers_mut().remove(&peer.id);
        let _ = self.commands.send(Command::Stop(peer.clone()));
        self.core.log(
            LogLine::info("removed remote peer")
                .with("local-member-id", format!("{:x}", self.core.identity.id))
                .with("removed-remote-peer-id", format!("{:x}", peer.id)),
        );
    }

    /// Reaches somebody who is not known as a member by posts: those of a cluster that this member joins.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        if id == self.core.identity.id {
            return;
        }
        if let Ok(urls) = url::parse_all(urls.iter().map(String::as_str)) {
            self.remotes().add(id, urls);
        }
    }

    fn remotes(&self) -> Remotes {
        Remotes {
            core: self.core.clone(),
            commands: self.commands.clone(),
        }
    }

    /// Since when a member can be reached; `None` if it cannot.
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.core.peer(id).and_then(|peer| peer.active_since())
    }

    /// Where a member can be reached; the one that works at present comes first.
    pub fn urls_of(&self, id: u64) -> Vec<Url> {
        self.core.peer(id).map(|peer| peer.urls()).unwrap_or_default()
    }

    /// Sends a request to another member's `url`; `then` gets the answer, on the transport's thread, where
    /// it may not wait.
    pub fn call(&self, url: Url, call: Call, then: impl FnOnce(Result<Answer, CallError>) + Send + 'static) {
        let command = Command::Call(Box::new((url, call, Box::new(then))));
        if let Err(unsent) = self.commands.send(command)
            && let Command::Call(unsent) = unsent.0
        {
            (unsent.2)(Err(CallError::Failed("the server is stopping".to_owned())));
        }
    }

    /// Ends all connections and the thread, and waits for that. Not to be called on it.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Quit);
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Quit);
    }
}

/// The life of the thread.
async fn run(remotes: Remotes, mut queue: UnboundedReceiver<Command>) {
    let core = remotes.core.clone();
    let doorway = Doorway {
        core: core.clone(),
        remotes,
    };
    let pool = Rc::new(Pool::default());
    let mut tasks: BTreeMap<u64, (Arc<Peer>, Vec<AbortHandle>)> = BTreeMap::new();
    while let Some(command) = queue.recv().await {
        match command {
            // Who was replaced before its turn came is not started: it would end its successor.
            Command::Start(peer) if !core.peer(peer.id).is_some_and(|now| Arc::ptr_eq(&now, &peer)) => {}
            Command::Start(peer) => {
                let started = start(&core, &peer);
                if let Some((before, handles)) = tasks.insert(peer.id, (peer, started)) {
                    stop(&core, &before, &handles);
                }
            }
            Command::Stop(peer) => {
                let is_same = |(running, _): &(Arc<Peer>, _)| Arc::ptr_eq(running, &peer);
                if tasks.get(&peer.id).is_some_and(is_same)
                    && let Some((_, handles)) = tasks.remove(&peer.id)
                {
                    stop(&core, &peer, &handles);
                }
            }
            Command::Retire(remote) => {
                let is_same = |(running, _): &(Arc<Peer>, _)| Arc::ptr_eq(running, &remote);
                remote.posts.close();
                match tasks.get(&remote.id).is_some_and(is_same) {
                    // They end when all is out.
                    true => drop(tasks.remove(&remote.id)),
                    // Its turn never came, and will not.
                    false => drop(post_all(&core, &remote)),
                }
                remote.forget(&core);
            }
            Command::Ship(peer, parcel) => {
                spawn_local(shipping::run(core.clone(), peer, *parcel));
            }
            Command::Call(call) => {
                let (core, pool) = (core.clone(), pool.clone());
                spawn_local(async move {
                    let (url, call, then) = *call;
                    then(pool.ask(&core.dialer, &url, call).await);
                });
            }
            Command::Open(door) => {
                spawn_local(door(doorway.clone()));
            }
            Command::Quit => break,
        }
    }
    for (peer, handles) in tasks.into_values() {
        stop(&core, &peer, &handles);
    }
}

fn start(core: &Arc<Core>, peer: &Arc<Peer>) -> Vec<AbortHandle> {
    let line = |text: &'static str| {
        LogLine::info(text)
            .with("local-member-id", format!("{:x}", core.identity.id))
            .with("remote-peer-id", format!("{:x}", peer.id))
    };
    let mut handles = Vec::new();
    core.log(line("started HTTP pipelining with remote peer"));
    handles.extend(post_all(core, peer));
    if peer.is_remote {
        return handles;
    }
    for kind in StreamKind::ALL {
        core.log(line("started stream writer with remote peer"));
        handles.push(spawn_local(reader::run(core.clone(), peer.clone(), kind)).abort_handle());
    }
    for way in prober::WAYS {
        handles.push(spawn_local(prober::run(core.clone(), peer.clone(), way)).abort_handle());
    }
    core.log(LogLine::info("started remote peer").with("remote-peer-id", format!("{:x}", peer.id)));
    handles
}

fn post_all(core: &Arc<Core>, peer: &Arc<Peer>) -> Vec<AbortHandle> {
    let run = |_| spawn_local(pipeline::run(core.clone(), peer.clone())).abort_handle();
    (0..pipeline::CONNECTIONS).map(run).collect()
}

fn stop(core: &Core, peer: &Peer, handles: &[AbortHandle]) {
    let id = format!("{:x}", peer.id);
    core.log(LogLine::info("stopping remote peer").with("remote-peer-id", id.clone()));
    for kind in StreamKind::ALL.into_iter().filter(|_| !peer.is_remote) {
        let line = |line: LogLine| {
            line.with("stream-writer-type", kind.name())
                .with("remote-peer-id", id.clone())
        };
        if peer.lane(kind).close() {
            core.log(line(LogLine::warn(
                "closed TCP streaming connection with remote peer",
            )));
        }
        core.log(line(LogLine::info(
            "stopped TCP streaming connection with remote peer",
        )));
    }
    for handle in handles {
        handle.abort();
    }
    let own = format!("{:x}", core.identity.id);
    core.log(
        LogLine::info("stopped HTTP pipelining with remote peer")
            .with("local-member-id", own.clone())
            .with("remote-peer-id", id.clone()),
    );
    for kind in StreamKind::ALL.into_iter().filter(|_| !peer.is_remote) {
        core.log(
            LogLine::info("stopped stream reader with remote peer")
                .with("stream-reader-type", kind.name())
                .with("local-member-id", own.clone())
                .with("remote-peer-id", id.clone()),
        );
    }
    peer.forget(core);
    core.log(LogLine::info("stopped remote peer").with("remote-peer-id", id));
}
