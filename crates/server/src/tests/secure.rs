//! The same server behind TLS.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ::tls::{ClientSide, Info, rustls};
use tokio_rustls::TlsConnector;

use super::*;

/// A client that trusts the certificate that the server made for itself.
fn side(cert: PathBuf) -> ClientSide {
    let info = Info {
        trusted_ca_file: cert.to_string_lossy().into_owned(),
        ..Info::default()
    };
    ClientSide::new(&info, &["h2", "http/1.1"]).unwrap()
}

fn connection(side: &ClientSide) -> rustls::ClientConnection {
    let mut config = (*side.config().unwrap()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    rustls::ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap()
}

fn get_secure(address: &str, side: &ClientSide, path: &str) -> String {
    let mut connection = connection(side);
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Client {
    fn connect_secure(address: &str, side: &ClientSide) -> Client {
        let connector = TlsConnector::from(side.config().unwrap());
        Client::connect_by(address, async move |socket| {
            let name = "127.0.0.1".try_into().unwrap();
            connector.connect(name, socket).await.unwrap()
        })
    }
}

#[test]
fn one_address_serves_both_kinds_of_connections() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(
        dir.path(),
        &[
            "--listen-client-urls=https://127.0.0.1:0,http://127.0.0.1:0",
            "--listen-peer-urls=https://127.0.0.1:0",
            "--auto-tls",
            "--peer-auto-tls",
        ],
    );
    let client = side(dir.path().join("fixtures/client/cert.pem"));
    let peer = side(dir.path().join("fixtures/peer/cert.pem"));
    let answer = get_secure(&running.client, &client, "/version");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"etcdserver\":\"3.7.1\""),
        "{answer}"
    );
    let answer = get_secure(&running.peer, &peer, "/members");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(get(&running.client, "/version").0, 200);

    let mut plain = Client::connect(&running.client);
    plain.put("foo", "bar");
    let mut secure = Client::connect_secure(&running.client, &client);
    assert_eq!(secure.get("foo").as_deref(), Some("bar"));
    // More than the system's buffers take at once: what is held back must come without being asked
    // for.
    let value = "x".repeat(1 << 20);
    for at in 0..24 {
        secure.put(&format!("large{at}"), &value);
    }
    let all = pb::RangeRequest {
        key: Bytes::from_static(b"large"),
        range_end: Bytes::from_static(b"largf"),
        ..Default::default()
    };
    let answer: pb::RangeResponse = secure.unary("/etcdserverpb.KV/Range", &all).unwrap();
    assert_eq!(answer.kvs.len(), 24);
    assert!(answer.kvs.iter().all(|kv| kv.value == value));
    drop((plain, secure));
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn what_is_no_handshake_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--listen-client-urls=https://127.0.0.1:0", "--auto-tls"];
    let running = start(dir.path(), &more);
    let cert = dir.path().join("fixtures/client/cert.pem");
    let (client, first) = (side(cert.clone()), fs::read(&cert).unwrap());
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x80; 100],
        &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5],
    ] {
        let mut socket = TcpStream::connect(&running.client).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too: the server has not read all.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() <= 7, "an alert at most: {answer:?}");
    }
    assert!(get_secure(&running.client, &client, "/health").starts_with("HTTP/1.1 200"));
    running.server.stop(PATIENCE).unwrap();
    drop(running);
    let running = start(dir.path(), &more);
    assert_eq!(fs::read(&cert).unwrap(), first, "it is kept");
    running.server.stop(PATIENCE).unwrap();
}
