//! Two members that speak with each other, on real sockets.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::{Member, append, introduce, pair};
use disk::mem::MemDisk;
use member::Parcel;
use raft::{Message, MessageKind};
use transport::{Call, CallError, Count};

#[test]
fn messages_of_each_kind_arrive_in_order() {
    let (one, other) = pair();
    let mut appends = Vec::new();
    let mut others = Vec::new();
    for number in 1..=500 {
        appends.push(append(2, 1, number, number % 3));
        let kind = MessageKind::ALL[usize::try_from(number).unwrap() % MessageKind::ALL.len()];
        if !matches!(kind, MessageKind::Append | MessageKind::Snapshot) {
            let mut message = Message::new(kind, 2, 1, number);
            message.context = Bytes::from(vec![1; 3]);
            message.reject = number % 2 == 0;
            message.entries = append(2, 1, 0, 1).entries;
            others.push(message);
        }
    }
    for message in appends.iter().chain(&others) {
        one.send(message.clone());
    }
    let all = appends.len() + others.len();
    let delivered = other.host.wait("all messages", |told| {
        (told.delivered.len() == all).then(|| told.delivered.clone())
    });
    let (found_appends, found_others): (Vec<Message>, Vec<Message>) = delivered
        .into_iter()
        .partition(|message| message.kind == MessageKind::Append);
    assert_eq!(found_appends, appends);
    assert_eq!(found_others, others);
    // And back.
    other.send(Message::new(MessageKind::HeartbeatResponse, 1, 2, 5));
    one.host.wait("an answer", |told| {
        (told.delivered.len() == 1 && told.unreachable.is_empty()).then_some(())
    });
    assert!(one.transport.active_since(2).is_some() && other.transport.active_since(1).is_some());
    assert_eq!(one.transport.active_since(1), None);
}

#[test]
fn a_message_as_large_as_a_whole_queue_goes_through() {
    let (one, other) = pair();
    let mut message = append(2, 1, 10, 1);
    message.entries[0].data = vec![0xab; 40 << 20].into();
    one.send(message.clone());
    one.send(append(2, 1, 11, 1));
    let delivered = other.host.wait("both messages", |told| {
        (told.delivered.len() == 2).then(|| told.delivered.clone())
    });
    assert_eq!(delivered[0], message);
}

#[test]
fn who_is_no_member_yet_is_reached_by_posts() {
    let (one, other) = (Member::start(1), Member::start(2));
    one.transport.add_remote(2, &[other.url()]);
    for number in 1..=20 {
        one.send(append(2, 1, number, 1));
    }
    let delivered = other.host.wait("posts", |told| {
        (told.delivered.len() == 20).then(|| told.delivered.clone())
    });
    for number in 1..=20 {
        assert!(delivered.contains(&append(2, 1, number, 1)), "{number}");
    }
    // It has heard who posts, and may answer.
    other.send(Message::new(MessageKind::AppendResponse, 1, 2, 5));
    one.host
        .wait("an answer", |told| (!told.delivered.is_empty()).then_some(()));
    // Nobody answers those who are not known at all.
    other.send(Message::new(MessageKind::AppendResponse, 9, 2, 5));
    other
        .host
        .wait("a report", |told| told.unreachable.contains(&9).then_some(()));
}

#[test]
fn what_waits_for_one_that_becomes_a_member_goes_out() {
    let (one, other) = (Member::start(1), Member::start(2));
    // The transport's thread has its hands full until it has become a member.
    let (release, released) = std::sync::mpsc::channel();
    one.transport
        .open(Box::new(|_| Box::pin(async move { released.recv().unwrap() })));
    one.transport.add_remote(2, &[other.url()]);
    for number in 1..=20 {
        one.send(append(2, 1, number, 1));
    }
    one.transport.set_members([(2, &[other.url()][..])]);
    release.send(()).unwrap();
    let delivered = other.host.wait("posts", |told| {
        (told.delivered.len() == 20).then(|| told.delivered.clone())
    });
    for number in 1..=20 {
        assert!(delivered.contains(&append(2, 1, number, 1)), "{number}");
    }
}

#[test]
fn one_that_goes_is_reported_and_one_that_comes_back_is_found() {
    let (one, other) = pair();
    let address = other.address;
    drop(other);
    one.host.wait("the loss", |told| {
        (told.unreachable.contains(&2) && told.counts.contains(&Count::Disconnected(2))).then_some(())
    });
    assert_eq!(one.transport.active_since(2), None);
    one.host.set(|told| told.lines.clear());
    let again = Member::start_on(2, TcpListener::bind(address).unwrap());
    introduce(&one, &again);
    one.wait_for_streams(&again);
    one.send(append(2, 1, 1, 1));
    again
        .host
        .wait("a message", |told| (!told.delivered.is_empty()).then_some(()));
}

#[test]
fn a_member_may_move() {
    let (one, other) = pair();
    let third = Member::start(3);
    let (old, new) = (third.url(), Member::start(4));
    one.transport
        .set_members([(2, &[other.url()][..]), (3, &[old][..])]);
    one.host.wait("a stream's dial", |told| {
        let text = "added remote peer";
        (told.lines.iter().filter(|line| line.msg == text).count() == 2).then_some(())
    });
    drop(third);
    // Now it is where 4 was, whose port goes with it.
    let address = new.address;
    drop(new);
    let moved = Member::start_on(3, TcpListener::bind(address).unwrap());
    one.transport
        .set_members([(2, &[other.url()][..]), (3, &[moved.url()][..])]);
    moved.transport.set_members([(1, &[one.url()][..])]);
    moved.host.wait("its streams", |told| {
        let text = "established TCP streaming connection with remote peer";
        (told.lines.iter().filter(|line| line.msg == text).count() == 4).then_some(())
    });
    one.send(append(3, 1, 1, 1));
    moved
        .host
        .wait("a message", |told| (!told.delivered.is_empty()).then_some(()));
}

#[test]
fn what_finds_no_room_is_reported() {
    let one = Member::start(1);
    // Nobody ever answers there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    one.transport.add_remote(2, &[url]);
    for number in 1..=100 {
        one.send(append(2, 1, number, 1));
    }
    // 64 wait, 4 may have been taken already.
    one.host.wait("the drops", |told| {
        let reports = told.unreachable.len();
        assert!(reports <= 36, "{reports}");
        (reports >= 32).then_some(())
    });
    assert_eq!(one.transport.active_since(2), None);
}

#[test]
fn a_removed_member_is_told_so() {
    let (one, other) = pair();
    one.host.set(|told| told.removed.push(2));
    one.transport.set_members([]);
    other
        .host
        .wait("the news", |told| (told.told_removed > 0).then_some(()));
    // And nothing that it sends counts.
    let before = one.host.wait("", |told| Some(told.delivered.len()));
    let answer = common::raw(
        one.address,
        &post("/raft", 2, &transport::message::encode(&append(1, 2, 1, 1))),
    );
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("error processing raft message\n"), "{answer}");
    assert_eq!(one.host.wait("", |told| Some(told.delivered.len())), before);
}

fn post(path: &str, from: u64, body: &[u8]) -> Vec<u8> {
    let identity = common::identity(from);
    let head = format!(
        "POST {path} HTTP/1.1\r\n{identity}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A data file of a few megabytes, and its bytes.
fn data_file() -> (bbolt::Snapshot, Vec<u8>) {
    let disk = MemDisk::new().shared();
    let db = bbolt::Db::open(&disk, Path::new("/db"), bbolt::Options::default()).unwrap();
    let mut batch = bbolt::Batch::new();
    batch.create_bucket(b"key");
    for number in 0..3000u32 {
        let value = vec![number as u8; 1000];
        batch.put(b"key", number.to_be_bytes().to_vec().into(), value.into());
    }
    db.commit(&batch).unwrap();
    let snapshot = db.snapshot();
    let mut bytes = Vec::new();
    let mut stream = snapshot.stream();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    (snapshot, bytes)
}

fn snapshot_message(index: u64) -> Message {
    let mut message = Message::new(MessageKind::Snapshot, 2, 1, 5);
    message.snapshot = Some(raft::Snapshot {
        index,
        term: 5,
        conf_state: raft::ConfState {
            voters: vec![1, 2],
            ..raft::ConfState::default()
        },
        data: Bytes::from_static(b"{}"),
    });
    message
}

#[test]
fn a_snapshot_arrives_as_a_whole() {
    let (one, other) = pair();
    let (db, bytes) = data_file();
    let message = snapshot_message(9);
    one.transport.ship(Box::new(Parcel {
        message: message.clone(),
        db,
    }));
    one.host.wait("a report", |told| {
        (told.snapshots_sent == [(2, true)]).then_some(())
    });
    other.host.wait("a snapshot", |told| {
        let (file, with) = told.accepted.first()?;
        assert!(*file == bytes && *with == message);
        Some(())
    });
    assert_eq!(other.host.files(), [""; 0]);
}

#[test]
fn a_snapshot_to_nobody_is_reported() {
    let (one, other) = pair();
    let to = |id| Message {
        to: id,
        ..snapshot_message(9)
    };
    let (db, _) = data_file();
    one.transport.ship(Box::new(Parcel {
        message: to(7),
        db: db.clone(),
    }));
    one.host.wait("a report", |told| {
        (told.snapshots_sent == [(7, false)]).then_some(())
    });
    drop(other);
    one.transport.ship(Box::new(Parcel { message: to(2), db }));
    one.host.wait("a second report", |told| {
        (told.snapshots_sent == [(7, false), (2, false)]).then_some(())
    });
}

#[test]
fn a_snapshot_that_is_cut_leaves_nothing() {
    let (_one, other) = pair();
    let mut body = bytes::BytesMut::new();
    transport::framing::encode(&snapshot_message(9), &mut body);
    body.extend_from_slice(&[1; 100_000]);
    // Ten bytes more are announced than come.
    let mut request = post("/raft/snapshot", 1, &[&body[..], &[0; 10]].concat());
    request.truncate(request.len() - 10);
    {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(other.address).unwrap();
        stream.write_all(&request).unwrap();
    }
    other.host.wait("a failure", |told| {
        told.counts
            .contains(&Count::SnapshotReceiveFailed(Some(1)))
            .then_some(())
    });
    assert_eq!(other.host.files(), [""; 0]);
    // One that is not what it should be.
    let mut body = bytes::BytesMut::new();
    transport::framing::encode(&snapshot_message(9), &mut body);
    body.extend_from_slice(b"damaged");
    let answer = common::raw(other.address, &post("/raft/snapshot", 1, &body));
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(
        answer.contains("failed to save KV snapshot (it is damaged)"),
        "{answer}"
    );
    assert_eq!(other.host.wait("", |told| Some(told.accepted.len())), 1);
}

#[test]
fn questions_go_to_the_host() {
    let (one, other) = pair();
    let patience = Duration::from_secs(10);
    let mut call = Call::get("/members/hashkv?x=y", patience);
    call.headers = vec![("authorization".into(), "token".into())];
    call.body = Bytes::from_static(b"{}");
    let answer = one.call(&other.url(), call).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-kind"), Some("answer"));
    assert_eq!(answer.body, "GET /members/hashkv b\"{}\"");
    other.host.wait("the question", |told| {
        let question = told.questions.first()?;
        assert_eq!(question.query, "x=y");
        assert_eq!(question.header("authorization"), Some("token"));
        Some(())
    });
    // As where Go's handler panics.
    assert_eq!(
        one.call(&other.url(), Call::get("/silent", patience)),
        Err(CallError::Failed("EOF".into()))
    );
    let url = api::url::parse_list(&other.url()).unwrap().remove(0);
    let answer = transport::call_and_wait(&common::dialer(), &url, Call::get("/a", patience)).unwrap();
    assert_eq!(answer.body, "GET /a b\"\"");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = one.call(&format!("http://{nobody}"), Call::get("/a", patience));
    assert_eq!(
        refused,
        Err(CallError::Failed(format!(
            "dial tcp {nobody}: connect: connection refused"
        )))
    );
}
