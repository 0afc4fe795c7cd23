//! Connections to other members. Says why there is none in the words of Go.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::url::{Scheme, Url};
use socket2::{SockRef, TcpKeepalive};
use tls::ClientSide;
use tls::rustls::{self, pki_types::ServerName};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::io::Connection;
use crate::names::Names;

/// How long a handshake may take: client/pkg/transport/transport.go.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Idle time after which the system looks whether the other machine is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How other members are reached.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Certificates, and whom to trust. Without settings this machine's authorities are trusted.
    pub tls: Option<Arc<ClientSide>>,
    /// How long a connection may take to come about: one second more than the election timeout.
    pub patience: Duration,
    /// The address of this member that connections go out from, if it matters.
    pub local_address: Option<IpAddr>,
    names: Names,
}

impl Dialer {
    /// A way to reach others.
    pub fn new(tls: Option<Arc<ClientSide>>, patience: Duration, local_address: Option<IpAddr>) -> Dialer {
        Dialer {
            tls,
            patience,
            local_address,
            names: Names::default(),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn dial(&self, url: &Url) -> Result<Box<dyn Connection>, String> {
        match url.scheme() {
            Scheme::Http => Ok(Box::new(self.tcp(url).await?)),
            Scheme::Unix => Ok(Box::new(self.unix(url).await?)),
            Scheme::Https => {
                let stream = self.tcp(url).await?;
                self.shake(url.host(), stream).await
            }
            Scheme::Unixs => {
                let stream = self.unix(url).await?;
                self.shake(url.address(), stream).await
            }
        }
    }

    async fn tcp(&self, url: &Url) -> Result<TcpStream, String> {
        let timed = tokio::time::timeout(self.patience, self.connect(url)).await;
        let stream = timed.unwrap_or_else(|_| Err(format!("dial tcp {}: i/o timeout", url.address())))?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        // Without either the connection works, too.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Ok(stream)
    }

    async fn connect(&self, url: &Url) -> Result<TcpStream, String> {
        let port: u16 = match url.port().parse() {
            Ok(port) => port,
            Err(_) => return Err(format!("dial tcp: address {}: invalid port", url.port())),
        };
        let mut failure = String::new();
        for address in self.names.find(url.host()).await?.iter() {
            let address = SocketAddr::new(*address, port);
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = format!("dial tcp {address}: {}", words(&error)),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(local) = self
            .local_address
            .filter(|local| local.is_ipv4() == address.is_ipv4())
        {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        socket.connect(address).await
    }

    async fn unix(&self, url: &Url) -> Result<UnixStream, String> {
        let path = url.address();
        let timed = tokio::time::timeout(self.patience, UnixStream::connect(path)).await;
        let connected = timed.map_err(|_| format!("dial unix {path}: i/o timeout"))?;
        connected.map_err(|error| format!("dial unix {path}: {}", words(&error)))
    }

    async fn shake<S: Connection + 'static>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<Box<dyn Connection>, String> {
        let side = match &self.tls {
            Some(side) => side.clone(),
            None => by_default()?,
        };
        let config = side.config().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("tls: {host:?} is no name that a certificate could have"))?;
        let shaken = TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_MAX, shaken).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(tls_words(&error)),
            Err(_) => Err("net/http: TLS handshake timeout".to_owned()),
        }
    }
}

/// The authorities of the machine are read once, and only if they are needed.
fn by_default() -> Result<Arc<ClientSide>, String> {
    static SIDE: OnceLock<Result<Arc<ClientSide>, String>> = OnceLock::new();
    let make = || ClientSide::new(&tls::Info::default(), &[]).map_err(|error| error.to_string());
    SIDE.get_or_init(|| make().map(Arc::new)).clone()
}

fn tls_words(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.map_or_else(|| words(error), tls::words::of)
}

/// What Go says of a failure of the system.
pub(crate) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        io::ErrorKind::BrokenPipe => "write: broken pipe".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::NotFound => "connect: no such file or directory".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}
