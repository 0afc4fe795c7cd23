//! Listeners: opened before the member is, so that a port in use stops the start; served when it
//! is ready.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::config::{Config, Scheme, Url};
use crate::front::Socket;

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;
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

/// Opens all listeners of the settings.
pub fn open_all(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let http = config.listen_client_http_urls.is_empty();
    let all = [
        (&config.listen_peer_urls, Door::Peer),
        (&config.listen_client_urls, Door::Client { http }),
        (&config.listen_client_http_urls, Door::ClientHttp),
        (&config.listen_metrics_urls, Door::Metrics),
    ];
    let mut listeners = Vec::new();
    for (urls, door) in all {
        for url in urls {
            listeners.push(open(url, door, config)?);
        }
    }
    Ok(listeners)
}

fn open(url: &Url, door: Door, config: &Config) -> Result<Listener, ListenError> {
    match url.scheme() {
        Scheme::Unix | Scheme::Unixs => {
            let address = url.address().to_string();
            let listener = open_unix(&address).map_err(|error| ListenError {
                kind: "unix",
                address: address.clone(),
                reason: format!("bind: {}", reason(&error)),
            })?;
            Ok(Listener {
                door,
                address,
                kind: Kind::Unix(listener),
            })
        }
        Scheme::Http | Scheme::Https => {
            let listener = open_tcp(url, config).map_err(|error| ListenError {
                kind: "tcp",
                address: url.address().to_string(),
                reason: format!("bind: {}", reason(&error)),
            })?;
            let bound = listener.local_addr();
            Ok(Listener {
                door,
                address: bound.map_or_else(|_| url.address().to_string(), |bound| bound.to_string()),
                kind: Kind::Tcp(listener),
            })
        }
    }
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
            kind: match listener.kind {
                Kind::Tcp(listener) => AsyncKind::Tcp(tokio::net::TcpListener::from_std(listener)?),
                Kind::Unix(listener) => AsyncKind::Unix(tokio::net::UnixListener::from_std(listener)?),
            },
        })
    }

    /// The next connection, free of this runtime.
    pub async fn accept(&self) -> io::Result<Incoming> {
        match &self.kind {
            AsyncKind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Incoming::Tcp(stream.into_std()?))
            }
            AsyncKind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Incoming::Unix(stream.into_std()?))
            }
        }
    }
}

/// A connection on its way to the thread that will serve it.
pub enum Incoming {
    /// By TCP.
    Tcp(std::net::TcpStream),
    /// In the file system.
    Unix(std::os::unix::net::UnixStream),
}

impl Incoming {
    /// The socket in the runtime of the thread that serves it.
    pub fn settle(self) -> io::Result<Socket> {
        match self {
            Incoming::Tcp(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Socket::tcp(TcpStream::from_std(stream)?))
            }
            Incoming::Unix(stream) => Ok(Socket::unix(tokio::net::UnixStream::from_std(stream)?)),
        }
    }
}
