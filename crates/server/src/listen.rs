//! Listeners: opened before the member is, so that a port in use stops the start; served when it
//! is ready.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::config::{Config, Scheme, Url};
use crate::descriptors::{Place, Room};
use crate::front::Plain;
use crate::guard::{Guard, Guards};
use crate::log::Log;

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;
/// Pause after the first failure to accept, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Each further failure doubles it, up to this.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Idle time after which the system looks whether a client's machine is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// gRPC, and HTTP if `http`.
    Client {
        /// Whether HTTP is served as well.
        http: bool,
    },
    /// HTTP for clients, without gRPC.
    ClientHttp,
    /// Metrics and health.
    Metrics,
    /// Other members.
    Peer,
}

/// An open listener.
pub struct Listener {
    /// What it offers.
    pub door: Door,
    /// Where it listens, as it is logged.
    pub address: String,
    /// What it asks of connections; nothing if all are in the clear.
    pub guard: Option<Arc<Guard>>,
    /// Where its connections need a place; nothing if any number may come.
    room: Option<Room>,
    kind: Kind,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen {kind} {address}: {reason}")]
pub struct ListenError {
    kind: &'static str,
    address: String,
    reason: String,
}

impl ListenError {
    fn new(kind: &'static str, address: &str, error: &io::Error) -> ListenError {
        ListenError {
            kind,
            address: address.to_string(),
            reason: format!("bind: {}", reason(error)),
        }
    }
}

/// Opens all listeners of the settings. Clients have to find a place in `room`; as in etcd, members
/// and who looks at metrics do not, so that clients cannot shut them out.
pub fn open_all(config: &Config, guards: &Guards, room: &Room) -> Result<Vec<Listener>, ListenError> {
    let http = config.listen_client_http_urls.is_empty();
    let mut listeners = Vec::new();
    for url in &config.listen_peer_urls {
        // A unix socket of members has no TLS in etcd, whatever its scheme.
        let guard = (url.scheme() == Scheme::Https)
            .then(|| guards.of_peers())
            .flatten();
        listeners.push(open(url, Door::Peer, guard, config)?);
    }
    for (urls, door) in [
        (&config.listen_client_urls, Door::Client { http }),
        (&config.listen_client_http_urls, Door::ClientHttp),
    ] {
        for (at, url) in urls.iter().enumerate() {
            let same = |other: &&Url| other.address() == url.address();
            // URLs that differ in the scheme alone share a listener: embed/etcd.go configureClientListeners.
            if urls[..at].iter().any(|other| same(&other)) {
                continue;
            }
            let secure = urls.iter().filter(same).any(|url| url.scheme().is_tls());
            let plain_too = urls.iter().filter(same).any(|url| !url.scheme().is_tls());
            let guard = secure.then(|| guards.of_clients(plain_too)).flatten();
            listeners.push(open(url, door, guard, config)?);
        }
    }
    for url in &config.listen_metrics_urls {
        let guard = (url.scheme() == Scheme::Https)
            .then(|| guards.of_metrics())
            .flatten();
        listeners.push(open(url, Door::Metrics, guard, config)?);
    }
    for listener in &mut listeners {
        if matches!(listener.door, Door::Client { .. } | Door::ClientHttp) {
            listener.room = Some(room.clone());
        }
    }
    Ok(listeners)
}

fn open(url: &Url, door: Door, guard: Option<Guard>, config: &Config) -> Result<Listener, ListenError> {
    let given = url.address();
    let (address, kind) = match url.scheme() {
        Scheme::Unix | Scheme::Unixs => {
            let listener = open_unix(given).map_err(|error| ListenError::new("unix", given, &error))?;
            (given.to_string(), Kind::Unix(listener))
        }
        Scheme::Http | Scheme::Https => {
            let listener = open_tcp(url, config).map_err(|error| ListenError::new("tcp", given, &error))?;
            let bound = listener.local_addr();
            let address = bound.map_or_else(|_| given.to_string(), |bound| bound.to_string());
            (address, Kind::Tcp(listener))
        }
    };
    Ok(Listener {
        door,
        address,
        guard: guard.map(Arc::new),
        room: None,
        kind,
    })
}

/// Go's words where scripts look for them.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_string(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    }
}

fn open_unix(path: &str) -> io::Result<UnixListener> {
    // What an earlier process left: client/pkg/transport/unix_listener.go.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn open_tcp(url: &Url, config: &Config) -> io::Result<TcpListener> {
    let host = if url.host() == "localhost" {
        "127.0.0.1"
    } else {
        url.host()
    };
    let ip = host.parse().map_err(io::Error::other)?;
    let port = url.port().parse().map_err(io::Error::other)?;
    let address = SocketAddr::new(ip, port);
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Go's listeners always have it; --socket-reuse-address asks for what is so already.
    socket.set_reuse_address(true)?;
    if config.socket_reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A listener in a runtime.
pub struct Acceptor {
    /// What it offers.
    pub door: Door,
    /// What it asks of connections.
    pub guard: Option<Arc<Guard>>,
    room: Option<Room>,
    kind: AsyncKind,
}

enum AsyncKind {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// To be called inside the runtime that accepts.
    pub fn new(listener: Listener) -> io::Result<Acceptor> {
        Ok(Acceptor {
            door: listener.door,
            guard: listener.guard,
            room: listener.room,
            kind: match listener.kind {
                Kind::Tcp(listener) => AsyncKind::Tcp(tokio::net::TcpListener::from_std(listener)?),
                Kind::Unix(listener) => AsyncKind::Unix(tokio::net::UnixListener::from_std(listener)?),
            },
        })
    }

    /// The next connection, free of this runtime. If there is no place for it, this waits until
    /// another ends, and the system keeps those that come after it. A listener to which nobody comes
    /// holds no place.
    pub async fn accept(&self) -> io::Result<Incoming> {
        let stream = match &self.kind {
            AsyncKind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Stream::Tcp(stream.into_std()?)
            }
            AsyncKind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Stream::Unix(stream.into_std()?)
            }
        };
        let place = match &self.room {
            Some(room) => Some(room.place().await),
            None => None,
        };
        Ok(Incoming { stream, place })
    }
}

/// Accepts connections for as long as the runtime runs, and gives each to `take`.
pub async fn accept_all(log: &Log, listener: Listener, mut take: impl FnMut(Incoming, &Acceptor)) {
    let acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            log.error("listener failed").error(error).emit();
            return;
        }
    };
    // In a row.
    let mut failures: u64 = 0;
    let mut pause = ACCEPT_PAUSE;
    loop {
        match acceptor.accept().await {
            Ok(incoming) => {
                take(incoming, &acceptor);
                (failures, pause) = (0, ACCEPT_PAUSE);
            }
            Err(error) => {
                failures += 1;
                // What goes on is said ever more rarely.
                if failures.is_power_of_two() {
                    let line = log.warn("failed to accept a connection");
                    line.num("failures", failures).error(error).emit();
                }
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// A connection on its way to the thread that will serve it.
pub struct Incoming {
    stream: Stream,
    place: Option<Place>,
}

enum Stream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Incoming {
    /// The socket in the runtime of the thread that serves it.
    pub fn settle(self) -> io::Result<Plain> {
        match self.stream {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Plain::tcp(TcpStream::from_std(stream)?, self.place))
            }
            Stream::Unix(stream) => {
                let stream = tokio::net::UnixStream::from_std(stream)?;
                Ok(Plain::unix(stream, self.place))
            }
        }
    }
}
