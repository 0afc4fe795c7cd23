//! What others send that no correct member sends: each gets its answer, and disturbs nobody.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use bytes::BytesMut;
use common::{CLUSTER, Member, append, identity, pair, raw};
use raft::{Message, MessageKind};

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {len}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Method, path, headers, body; status and text of the answer.
type Row<'a> = (&'a str, &'a str, &'a str, &'a [u8], &'a str, &'a str);

/// Texts and codes of rafthttp/http.go, as executed on 3.5.33, 3.6.14 and 3.7.1.
#[test]
fn refusals_are_those_of_go() {
    let (one, _other) = pair();
    one.host.set(|told| told.removed.push(7));
    let valid = transport::message::encode(&append(1, 2, 1, 1));
    let known = identity(2);
    let to_me = format!("{known}X-Raft-To: 1\r\n");
    let mut snapshot_of_wrong_kind = BytesMut::new();
    transport::framing::encode(&append(1, 2, 1, 1), &mut snapshot_of_wrong_kind);
    let absurd = [&0x7f_0000_0000_0002u64.to_be_bytes()[..], b"x"].concat();
    let snapshot_without_file = transport::message::encode(&Message::new(MessageKind::Snapshot, 1, 2, 5));
    let wrong_to = transport::message::encode(&append(3, 2, 1, 1));
    let removed = transport::message::encode(&append(1, 7, 1, 1));
    let old = known.replace("3.7.1", "2.3.0");
    let new = known.replace("3.0.0", "9.0.0");
    let other_cluster = known.replace(&format!("{CLUSTER:x}"), "bad");
    let no_version = known.replace("3.7.1", "what");
    #[rustfmt::skip]
    let table: &[Row] = &[
        ("GET", "/raft", &known, b"", "405", "Method Not Allowed"),
        ("POST", "/raft", &old, &valid, "412", "incompatible version"),
        ("POST", "/raft", &new, &valid, "412", "incompatible version"),
        ("POST", "/raft", &no_version, &valid, "412", "incompatible version"),
        ("POST", "/raft", "Host: x\r\n", &valid, "412", "incompatible version"),
        ("POST", "/raft", &other_cluster, &valid, "412", "cluster ID mismatch"),
        ("POST", "/raft", &known, &[0xff], "400", "error unmarshalling raft message"),
        ("POST", "/raft", &known, &wrong_to, "500", "error processing raft message"),
        ("POST", "/raft", &known, &removed, "500", "error processing raft message"),
        ("POST", "/raft", &known, &snapshot_without_file, "500", "error processing raft message"),
        ("POST", "/raft", &known, &[0x08, 0], "204", ""),
        ("POST", "/raft", &known, b"", "204", ""),
        ("POST", "/raft", &known, &valid, "204", ""),
        ("GET", "/raft/snapshot", &known, b"", "405", "Method Not Allowed"),
        ("POST", "/raft/snapshot", &other_cluster, b"", "412", "cluster ID mismatch"),
        ("POST", "/raft/snapshot", &known, b"", "400", "failed to decode raft message (EOF)"),
        ("POST", "/raft/snapshot", &known, &absurd, "400", "failed to decode raft message (rafthttp: error limit exceeded)"),
        ("POST", "/raft/snapshot", &known, &[0; 5], "400", "failed to decode raft message (unexpected EOF)"),
        ("POST", "/raft/snapshot", &known, &snapshot_of_wrong_kind, "400", "wrong raft message type"),
        ("POST", "/raft/stream/msgapp/2", &to_me, b"", "405", "Method Not Allowed"),
        ("GET", "/raft/stream/msgapp/2", &known, b"", "412", "to field mismatch"),
        ("GET", "/raft/stream/msgapp/2", &other_cluster, b"", "412", "cluster ID mismatch"),
        ("GET", "/raft/stream/other/2", &to_me, b"", "404", "invalid path"),
        ("GET", "/raft/stream/msgapp/2/3", &to_me, b"", "404", "invalid path"),
        ("GET", "/raft/stream/msgapp/xyz", &to_me, b"", "404", "invalid from"),
        ("GET", "/raft/stream/message/7", &to_me, b"", "410", "removed member"),
        ("GET", "/raft/stream/message/9", &to_me, b"", "404", "error sender not found"),
        ("GET", "/raft/else", &known, b"", "404", "404 page not found"),
        ("GET", "/raft/probing", "", b"", "400", "400 Bad Request: missing required Host header"),
        ("GET", "/raft/probing", "Host: a/b\r\n", b"", "400", "400 Bad Request: malformed Host header"),
        ("POST", "/raft", "Host: a\r\nHost: b\r\n", b"", "400", "400 Bad Request"),
    ];
    for (method, path, headers, body, status, text) in table {
        let answer = raw(one.address, &request(method, path, headers, body));
        let place = format!("{method} {path} {headers}: {answer}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{place}");
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        let is_of_http = text.starts_with("400 Bad");
        let expected = if text.is_empty() || is_of_http {
            (*text).to_owned()
        } else {
            format!("{text}\n")
        };
        assert_eq!(found, expected, "{place}");
        let has_cluster = head.contains(&format!("x-etcd-cluster-id: {CLUSTER:x}"));
        let is_ours = path.starts_with("/raft/else") || is_of_http;
        assert_eq!(has_cluster, !matches!(*status, "405") && !is_ours, "{place}");
    }
    // Of all these one message was for raft.
    assert_eq!(one.host.wait("", |told| Some(told.delivered.len())), 1);
    assert_eq!(one.host.files(), [""; 0]);
}

#[test]
fn others_urls_are_no_reason_to_fail() {
    let one = Member::start(1);
    let message = transport::message::encode(&append(1, 9, 1, 1));
    for urls in [
        "",
        "what",
        "http://a",
        "ftp://a:1",
        "http://127.0.0.1:1/path",
        ",",
    ] {
        let headers = format!("{}X-PeerURLs: {urls}\r\n", identity(9));
        let answer = raw(one.address, &request("POST", "/raft", &headers, &message));
        assert!(answer.starts_with("HTTP/1.1 204 "), "{urls}: {answer}");
    }
    assert!(one.transport.urls_of(9).is_empty());
    // Nor do strangers without number cost anything.
    for id in 10..100 {
        let headers = format!("{}X-PeerURLs: http://127.0.0.1:1\r\n", identity(id));
        raw(one.address, &request("POST", "/raft", &headers, &message));
    }
    let known = (10..100)
        .filter(|id| !one.transport.urls_of(*id).is_empty())
        .count();
    assert_eq!(known, 32);
}

#[test]
fn streams_that_make_no_sense_are_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let one = Member::start(1);
    one.transport.set_members([(2, &[url][..])]);
    let mut unknown_kind = BytesMut::new();
    transport::framing::encode(&append(1, 2, 1, 1), &mut unknown_kind);
    let wrong = |to: u64, from: u64| {
        let mut bytes = BytesMut::new();
        transport::framing::encode(&append(to, from, 1, 1), &mut bytes);
        bytes.to_vec()
    };
    one.host.set(|told| told.removed.push(7));
    let bodies: Vec<Vec<u8>> = vec![
        u64::MAX.to_be_bytes().to_vec(),
        (1u64 << 29).to_be_bytes().to_vec(),
        [&3u64.to_be_bytes()[..], &[0xff; 3]].concat(),
        vec![3],
        vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        wrong(5, 2),
        wrong(1, 7),
        Vec::new(),
    ];
    let answers = bodies.len() * 2;
    for (number, connection) in listener.incoming().take(answers).enumerate() {
        let mut connection = connection.unwrap();
        let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(
            first.starts_with("GET /raft/stream/") || first.starts_with("GET /raft/probing"),
            "{first}"
        );
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let body = &bodies[number % bodies.len()];
        let head = "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write_all(head.as_bytes()).unwrap();
        if !body.is_empty() {
            write!(connection, "{:x}\r\n", body.len()).unwrap();
            connection.write_all(body).unwrap();
        }
    }
    assert_eq!(one.host.wait("", |told| Some(told.delivered.len())), 0);
}

#[test]
fn two_streams_of_one_kind_do_not_live_together() {
    let (one, other) = pair();
    let ask = || {
        let headers = format!("{}X-Raft-To: 1\r\n", identity(2));
        let mut stream = std::net::TcpStream::connect(one.address).unwrap();
        let head = format!("GET /raft/stream/message/2 HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut stream = ask();
    // The real one lost its stream, and takes it back.
    other.host.wait("the loss", |told| {
        let text = "lost TCP streaming connection with remote peer";
        told.lines.iter().any(|line| line.msg == text).then_some(())
    });
    one.host.wait("its return", |told| {
        let text = "closed TCP streaming connection with remote peer";
        (told.lines.iter().filter(|line| line.msg == text).count() >= 2).then_some(())
    });
    // The other one ends as a body does.
    let mut seen = Vec::new();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    stream.read_to_end(&mut seen).unwrap();
    assert!(seen.ends_with(b"\r\n0\r\n\r\n"), "{seen:?}");
    one.send(Message::new(MessageKind::Heartbeat, 2, 1, 5));
    other
        .host
        .wait("a message", |told| (!told.delivered.is_empty()).then_some(()));
}

/// The beginning of a snapshot of a few megabytes from `from`, of which no more will come.
fn begin_snapshot(to: &Member, from: u64) -> std::net::TcpStream {
    let mut message = Message::new(MessageKind::Snapshot, to.id, from, 5);
    message.snapshot = Some(raft::Snapshot {
        index: 9,
        term: 5,
        ..raft::Snapshot::default()
    });
    let mut body = BytesMut::new();
    transport::framing::encode(&message, &mut body);
    body.extend_from_slice(&[1; 1000]);
    let head = format!(
        "POST /raft/snapshot HTTP/1.1\r\n{}Connection: close\r\nContent-Length: 5000000\r\n\r\n",
        identity(from)
    );
    let mut stream = std::net::TcpStream::connect(to.address).unwrap();
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    stream
}

#[test]
fn snapshots_of_strangers_take_no_place_of_a_member() {
    let (one, other) = pair();
    let is_coming = |count: usize| {
        other.host.wait("snapshots that come", |told| {
            let text = "receiving database snapshot";
            (told.lines.iter().filter(|line| line.msg == text).count() == count).then_some(())
        });
    };
    let mut strangers: Vec<_> = (11..15).map(|id| begin_snapshot(&other, id)).collect();
    is_coming(4);
    let mut answer = String::new();
    let mut fifth = begin_snapshot(&other, 15);
    fifth.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("too many snapshots are coming at once"),
        "{answer}"
    );
    let member = begin_snapshot(&other, one.id);
    is_coming(5);
    answer.clear();
    let mut twice = begin_snapshot(&other, one.id);
    twice.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("another snapshot of this member is coming"),
        "{answer}"
    );
    // A place is free again when its snapshot has ended.
    drop(member);
    strangers.pop();
    let ended = |id: u64| {
        other.host.wait("the end of a snapshot", |told| {
            let failed = transport::Count::SnapshotReceiveFailed(Some(id));
            told.counts.contains(&failed).then_some(())
        });
    };
    ended(14);
    let _next = begin_snapshot(&other, 16);
    is_coming(6);
}

#[test]
fn posts_without_end_do_not_fill_the_memory() {
    let one = Member::start(1);
    let head = format!(
        "POST /raft HTTP/1.1\r\n{}Connection: close\r\nContent-Length: 500000000\r\n\r\n",
        identity(9)
    );
    let begin = || {
        let mut stream = std::net::TcpStream::connect(one.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let piece = vec![7; 1 << 20];
    let (mut first, mut second) = (begin(), begin());
    // Both go on until one of them has no more room, which it is told.
    let mut sent = 0;
    while first.write_all(&piece).is_ok() && second.write_all(&piece).is_ok() {
        sent += 2;
        assert!(sent < 300, "{sent} MiB of two posts");
    }
    let failed = one.host.wait("a failure", |told| {
        let is_failure = |count: &&transport::Count| matches!(count, transport::Count::ReceiveFailed(_));
        told.counts.iter().find(is_failure).cloned()
    });
    assert!(matches!(failed, transport::Count::ReceiveFailed(_)));
}

#[test]
fn strangers_without_end_hold_back_no_member() {
    let (one, other) = pair();
    let open = || {
        let head = format!(
            "POST /raft HTTP/1.1\r\n{}Connection: close\r\nContent-Length: 500000000\r\n\r\n",
            identity(9)
        );
        let mut stream = std::net::TcpStream::connect(one.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut held = [open(), open()];
    for stream in &mut held {
        stream.write_all(&vec![7; (32 << 20) - (8 << 10)]).unwrap();
    }
    let garbage = vec![0xff; 32 << 10];
    let post = |from: u64, body: &[u8]| raw(one.address, &request("POST", "/raft", &identity(from), body));
    // They have all the room of strangers from their address once one more finds none.
    let mut found = String::new();
    for _ in 0..4000 {
        found = post(9, &garbage);
        if found.contains("error reading raft message") {
            break;
        }
        assert!(found.contains("error unmarshalling raft message"), "{found}");
        for stream in &mut held {
            stream.write_all(&[7]).unwrap();
        }
    }
    assert!(found.contains("error reading raft message"), "{found}");
    let mut message = append(1, other.id, 1, 1);
    message.entries[0].data = garbage.clone().into();
    let answer = post(other.id, &transport::message::encode(&message));
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    one.host.wait("the member's message", |told| {
        told.delivered.contains(&message).then_some(())
    });
    let answer = raw(one.address, &request("POST", "/leases", "Host: x\r\n", &garbage));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
