//! From a connection to one that is ready to be served: the TLS handshake, where the listener asks
//! for one, and the line in the log where it fails (transport/listener_tls.go).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tls::rustls::{self, server::Acceptor};
use tls::{Names, ServerSide, words};
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::{Plain, Socket};
use super::thread::FIRST_WORDS_MAX;
use crate::config::quote;
use crate::guard::Guard;
use crate::log::Log;

/// How long a client may take over its handshake: transport/listener_tls.go tlsHandshakeTimeout.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Header of a TLS record: kind, version, length.
const RECORD_HEADER_LEN: usize = 5;
/// An alert that says "internal error", as a record in the clear.
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// An alert that says "protocol version not supported".
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// Makes a connection ready. `None` if it is over, of which the log has a line.
pub async fn admit(log: &Log, mut plain: Plain, guard: Option<&Guard>) -> Option<Socket> {
    let Some(guard) = guard else {
        return Some(Socket::Plain(plain));
    };
    if guard.plain_too {
        match tokio::time::timeout(FIRST_WORDS_MAX, speaks_tls(&mut plain)).await {
            Ok(true) => {}
            Ok(false) => return Some(Socket::Plain(plain)),
            Err(_) => return None,
        }
    }
    let ends = plain.ends();
    let shaken = match tokio::time::timeout(HANDSHAKE_MAX, shake(plain, &guard.side, log)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(Rejection::new(io_words(ends, "i/o timeout"))),
    };
    let checked = match shaken {
        Ok(stream) if guard.check_san => check_san(stream, ends).await,
        other => other,
    };
    match checked {
        Ok(stream) => Some(Socket::tls(stream)),
        Err(rejection) => {
            rejection.write(log, guard.rejected, ends);
            None
        }
    }
}

/// On a port for both kinds, whoever does not begin with a letter begins with a handshake.
async fn speaks_tls(plain: &mut Plain) -> bool {
    match plain.peek(1).await {
        Ok([first, ..]) => !first.is_ascii_alphabetic(),
        _ => false,
    }
}

/// Why a connection was turned away.
struct Rejection {
    error: String,
    /// The client hung up: nothing to disturb anybody with.
    hung_up: bool,
    server_name: String,
    names: Option<Names>,
}

impl Rejection {
    fn new(error: impl Into<String>) -> Rejection {
        Rejection {
            error: error.into(),
            hung_up: false,
            server_name: String::new(),
            names: None,
        }
    }

    fn eof() -> Rejection {
        Rejection {
            hung_up: true,
            ..Rejection::new("EOF")
        }
    }

    /// embed/config_logging.go logTLSHandshakeFailureFunc.
    fn write(self, log: &Log, text: &str, ends: Option<(SocketAddr, SocketAddr)>) {
        let mut line = match self.hung_up {
            true => log.debug(text),
            false => log.warn(text),
        };
        // Go has "@" for a client of a unix socket.
        let remote = ends.map_or("@".to_string(), |(_, remote)| remote.to_string());
        line = line
            .text("remote-addr", remote)
            .text("server-name", &self.server_name);
        if let Some(names) = &self.names {
            line = line
                .list("ip-addresses", names.ips.iter().map(ToString::to_string))
                .list("dns-names", &names.dns);
        }
        line.error(self.error).emit();
    }
}

/// Go names both ends before what the system says.
fn io_words(ends: Option<(SocketAddr, SocketAddr)>, what: &str) -> String {
    match ends {
        Some((local, remote)) => format!("read tcp {local}->{remote}: {what}"),
        None => format!("read unix: {what}"),
    }
}

fn of_io(error: &io::Error, ends: Option<(SocketAddr, SocketAddr)>) -> Rejection {
    if let Some(error) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return Rejection::new(words::of(error));
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Rejection::eof(),
        io::ErrorKind::ConnectionReset => Rejection::new(io_words(ends, "read: connection reset by peer")),
        io::ErrorKind::BrokenPipe => Rejection::new(io_words(ends, "write: broken pipe")),
        _ => Rejection::new(io_words(ends, &error.to_string())),
    }
}

/// crypto/tls/conn.go readRecordOrCCS: what cannot be TLS is told apart by its first bytes.
async fn check_first_record(plain: &mut Plain) -> Result<(), Rejection> {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const SSL2: u8 = 0x80;
    const VERSION_TOO_HIGH: u16 = 0x1000;
    let ends = plain.ends();
    let first = plain
        .peek(RECORD_HEADER_LEN)
        .await
        .map_err(|error| of_io(&error, ends))?;
    let [kind, major, minor, _, _, ..] = *first else {
        return Err(match first.is_empty() {
            true => Rejection::eof(),
            false => Rejection::new("unexpected EOF"),
        });
    };
    if kind == SSL2 {
        // The client is gone if this fails.
        let _ = plain.write_all(&PROTOCOL_VERSION).await;
        return Err(Rejection::new("tls: unsupported SSLv2 handshake received"));
    }
    let version = u16::from_be_bytes([major, minor]);
    if kind == HANDSHAKE {
        check_hello(plain).await?;
    }
    if !matches!(kind, ALERT | HANDSHAKE) || version >= VERSION_TOO_HIGH {
        return Err(Rejection::new(
            "tls: first record does not look like a TLS handshake",
        ));
    }
    Ok(())
}

/// A client that has nothing newer than TLS 1.1 is told so. To rustls its first message is one without
/// what TLS 1.2 asks of it, and its answer would be that nothing fits.
async fn check_hello(plain: &mut Plain) -> Result<(), Rejection> {
    /// The record's header, kind and length of the message, and the version in it.
    const VERSION_END: usize = RECORD_HEADER_LEN + 4 + 2;
    const CLIENT_HELLO: u8 = 1;
    const TLS10: u16 = 0x0301;
    const TLS11: u16 = 0x0302;
    let ends = plain.ends();
    let first = plain
        .peek(VERSION_END)
        .await
        .map_err(|error| of_io(&error, ends))?;
    let Some([CLIENT_HELLO, _, _, _, major, minor]) = first.get(RECORD_HEADER_LEN..VERSION_END) else {
        // What is wrong with it is for rustls to say.
        return Ok(());
    };
    let offered = match u16::from_be_bytes([*major, *minor]) {
        ..TLS10 => "[]",
        TLS10 => "[301]",
        TLS11 => "[302 301]",
        _ => return Ok(()),
    };
    // The client is gone if this fails.
    let _ = plain.write_all(&PROTOCOL_VERSION).await;
    Err(Rejection::new(format!(
        "tls: client offered only unsupported versions: {offered}"
    )))
}

async fn shake(mut plain: Plain, side: &ServerSide, log: &Log) -> Result<TlsStream<Plain>, Rejection> {
    let ends = plain.ends();
    check_first_record(&mut plain).await?;
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), plain)
        .await
        .map_err(|error| of_io(&error, ends))?;
    let hello = start.client_hello();
    let server_name = hello.server_name().unwrap_or_default().to_string();
    let protocols: Vec<String> = hello
        .alpn()
        .into_iter()
        .flatten()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let suites: Vec<u16> = hello
        .cipher_suites()
        .iter()
        .map(|suite| u16::from(*suite))
        .collect();
    let config = match side.config() {
        Ok(config) => config,
        Err(error) => {
            report_files(log, side, &error);
            let _ = start.io.write_all(&INTERNAL_ERROR).await;
            return Err(Rejection {
                server_name,
                ..Rejection::new(error.to_string())
            });
        }
    };
    start.into_stream(config).await.map_err(|error| {
        let mut rejection = of_io(&error, ends);
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::NoApplicationProtocol) => {
                rejection.error = format!("{} ({})", rejection.error, quoted(&protocols));
            }
            Some(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::NoCipherSuitesInCommon)) => {
                let suites: Vec<String> = suites.iter().map(|suite| format!("{suite:x}")).collect();
                let suites = suites.join(" ");
                rejection.error = format!("{}; client offered: [{suites}]", rejection.error);
            }
            _ => {}
        }
        Rejection {
            server_name,
            ..rejection
        }
    })
}

fn report_files(log: &Log, side: &ServerSide, error: &tls::Error) {
    let text = match error.is_missing_file() {
        true => "failed to find peer cert files",
        false => "failed to create peer certificate",
    };
    log.warn(text)
        .text("cert-file", &side.info().cert_file)
        .text("key-file", &side.info().key_file)
        .error(error)
        .emit();
}

/// A certificate that says where its holder is must come from there
/// (transport/listener_tls.go checkCertSAN).
async fn check_san(
    stream: TlsStream<Plain>,
    ends: Option<(SocketAddr, SocketAddr)>,
) -> Result<TlsStream<Plain>, Rejection> {
    let connection = stream.get_ref().1;
    let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) else {
        return Ok(stream);
    };
    let names = Names::of(leaf);
    let Some((_, remote)) = ends else {
        return Ok(stream);
    };
    match names_match(&names, remote.ip()).await {
        Ok(()) => Ok(stream),
        Err(error) => Err(Rejection {
            server_name: connection.server_name().unwrap_or_default().to_string(),
            names: Some(names),
            ..Rejection::new(error)
        }),
    }
}

async fn names_match(names: &Names, remote: IpAddr) -> Result<(), String> {
    let remote = remote.to_canonical();
    if names.ips.is_empty() && names.dns.is_empty() {
        return Ok(());
    }
    if !names.ips.is_empty() {
        match names.check_ip(remote) {
            Err(error) if names.dns.is_empty() => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
    // First by the names that the address has, then by the addresses that the names have.
    let (wildcards, whole): (Vec<&String>, Vec<&String>) =
        names.dns.iter().partition(|name| name.starts_with("*."));
    let mut failure = None;
    match tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&remote)).await {
        // The address itself comes back where it has no name.
        Ok(Ok(name)) if name.parse::<IpAddr>().is_err() => {
            let name = name.trim_end_matches('.');
            if wildcards.iter().any(|wildcard| name.ends_with(&wildcard[1..]))
                || whole.iter().any(|whole| *whole == name)
            {
                return Ok(());
            }
        }
        Ok(Err(error)) => failure = Some(format!("lookup {remote}: {error}")),
        Ok(Ok(_)) | Err(_) => failure = Some(format!("lookup {remote}: no such host")),
    }
    for name in whole {
        match tokio::net::lookup_host((name.as_str(), 0)).await {
            Ok(mut found) => {
                if found.any(|address| address.ip().to_canonical() == remote) {
                    return Ok(());
                }
            }
            Err(_) => failure = Some(format!("lookup {name}: no such host")),
        }
    }
    let failure = failure.map_or_else(String::new, |failure| format!(" ({failure})"));
    Err(format!(
        "tls: \"{remote}\" does not match any of DNSNames {}{failure}",
        quoted(&names.dns)
    ))
}

/// A list as Go's `%q` prints it.
fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of Go's library and of transport/listener_tls.go.
    #[test]
    fn certificates_must_name_where_their_holders_are() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let check = |ips: &[[u8; 4]], dns: &[&str], expect: Result<(), &str>| {
            let names = Names {
                ips: ips.iter().map(|ip| IpAddr::from(*ip)).collect(),
                dns: dns.iter().map(|name| (*name).to_string()).collect(),
            };
            let told = runtime.block_on(names_match(&names, IpAddr::from([127, 0, 0, 1])));
            // What the resolver says comes behind, and differs by machine.
            let begins = match (&told, expect) {
                (Err(told), Err(expect)) => told.starts_with(expect),
                (told, expect) => told.is_ok() == expect.is_ok(),
            };
            assert!(begins, "{names:?}: {told:?}");
        };
        check(&[], &[], Ok(()));
        check(&[[127, 0, 0, 1]], &[], Ok(()));
        check(&[[10, 0, 0, 1]], &["localhost"], Ok(()));
        check(
            &[[10, 0, 0, 1]],
            &[],
            Err("x509: certificate is valid for 10.0.0.1, not 127.0.0.1"),
        );
        check(&[], &["*.nowhere.invalid", "localhost"], Ok(()));
        check(
            &[],
            &["*.nowhere.invalid", "*.x"],
            Err("tls: \"127.0.0.1\" does not match any of DNSNames [\"*.nowhere.invalid\" \"*.x\"]"),
        );
    }
}
