//! Connections to one endpoint: `host:port`, `http(s)://host:port`, `unix(s)://path`.

use std::time::Duration;

use bytes::Bytes;
use h2::Ping;
use h2::client::Connection;
use tls::rustls::{self, pki_types::ServerName};
use tls::{ClientSide, words};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::security::{is_socket, scheme};
use crate::{Client, Config, Error, Keepalive};

const WINDOW_BYTES: u32 = 4 << 20;
/// google.golang.org/grpc/internal/internal.go, KeepaliveMinPingTime.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Why one attempt failed.
pub enum Dial {
    /// No attempt ever succeeds.
    Never(String),
    /// A later one may.
    NotNow(String),
}

/// A connection that is ready to be spoken on.
pub struct Opened {
    /// What carries it.
    pub io: Box<dyn Io>,
    /// What requests name as their host.
    pub authority: String,
}

/// What carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// Opens a connection to the first endpoint, for HTTP/1.
///
/// # Errors
/// Why there is none.
pub async fn open(config: &Config) -> Result<Opened, Error> {
    let tls = config.security.for_endpoints(&config.endpoints, "http/1.1")?;
    let endpoint = config.endpoints.first().map_or("", String::as_str);
    open_one(endpoint, tls.as_deref())
        .await
        .map_err(|error| match error {
            Dial::Never(text) => Error::Unreachable(text),
            Dial::NotNow(text) => Error::Failed(text),
        })
}

/// Connects to one endpoint.
pub async fn connect(endpoint: &str, tls: Option<&ClientSide>, config: &Config) -> Result<Client, Dial> {
    let opened = open_one(endpoint, tls).await?;
    handshake(opened, config).await
}

async fn open_one(endpoint: &str, tls: Option<&ClientSide>) -> Result<Opened, Dial> {
    let not_now = |error: &dyn std::fmt::Display| Dial::NotNow(error.to_string());
    let (_, rest) = scheme(endpoint);
    if is_socket(endpoint) {
        let stream = UnixStream::connect(rest).await.map_err(|error| not_now(&error))?;
        // The name of the file stands for the server's: client/v3/internal/endpoint.
        let file = rest.rsplit('/').next().unwrap_or_default();
        let name = file.split(':').next().unwrap_or_default();
        return secure(stream, name, "localhost", tls).await;
    }
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() {
        return Err(Dial::Never("etcdclient: no available endpoints".to_string()));
    }
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| not_now(&error))?;
    stream.set_nodelay(true).map_err(|error| not_now(&error))?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    secure(stream, host, authority, tls).await
}

async fn secure<S>(stream: S, server: &str, authority: &str, tls: Option<&ClientSide>) -> Result<Opened, Dial>
where
    S: Io + 'static,
{
    let authority = authority.to_string();
    let Some(tls) = tls else {
        return Ok(Opened {
            io: Box::new(stream),
            authority,
        });
    };
    let failed = |why: &dyn std::fmt::Display| {
        Dial::NotNow(format!(
            "connection error: desc = \"transport: authentication handshake failed: {why}\""
        ))
    };
    // A name from DNS may end in a dot, which no certificate has.
    let server = server.strip_suffix('.').unwrap_or(server);
    let name = ServerName::try_from(server.to_string()).map_err(|error| failed(&error))?;
    let connector = TlsConnector::from(tls.config().map_err(|error| failed(&error))?);
    let stream = connector.connect(name, stream).await.map_err(|error| {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.map_or_else(|| failed(&error), |error| failed(&words::of(error)))
    })?;
    Ok(Opened {
        io: Box::new(stream),
        authority,
    })
}

async fn handshake(opened: Opened, config: &Config) -> Result<Client, Dial> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(opened.io)
        .await
        .map_err(|error| Dial::NotNow(error.to_string()))?;
    tokio::spawn(carry(connection, config.keepalive));
    Ok(Client {
        sender,
        authority: opened.authority,
        token: None,
        receive_bytes_max: config.receive_bytes_max,
    })
}

/// Carries a connection until it ends, or until the server leaves a ping unanswered.
async fn carry(mut connection: Connection<Box<dyn Io>, Bytes>, keepalive: Keepalive) {
    let pings = connection.ping_pong().filter(|_| !keepalive.time.is_zero());
    let Some(mut pings) = pings else {
        let _ = connection.await;
        return;
    };
    // As grpc-go does, which gives a timeout of nothing its usual one.
    let patience = match keepalive.timeout.is_zero() {
        true => Duration::from_secs(20),
        false => keepalive.timeout,
    };
    let silent = async {
        loop {
            tokio::time::sleep(keepalive.time.max(PING_INTERVAL_MIN)).await;
            let ping = pings.ping(Ping::opaque());
            match tokio::time::timeout(patience, ping).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        _ = connection => {}
        () = silent => {}
    }
}
