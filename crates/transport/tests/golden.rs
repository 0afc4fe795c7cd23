//! Bytes that members of real etcd sent each other. `golden/<line>/` holds what a recorder between two
//! members of etcd 3.5.33, 3.6.14 and 3.7.1 saw: the streams that a leader and its follower gave each other
//! while keys were put, one of them through the follower, which was asked for one as well; and the
//! snapshot by which the follower had joined, up to the beginning of its data file.

#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use raft::{Message, MessageKind};
use transport::message::Received;
use transport::{appends, framing};

const LINES: [&str; 3] = ["3.5", "3.6", "3.7"];

fn golden(line: &str, name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{line}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is in a stream of entries, with the bytes of each frame.
fn frames_of_appends(bytes: &[u8], ends: (u64, u64)) -> Vec<(Received, Vec<u8>)> {
    let mut decoder = appends::Decoder::new(ends.0, ends.1);
    let mut frames = Vec::new();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        decoder.push(&[*byte]);
        if let Some(received) = decoder.next_message().unwrap() {
            frames.push((received, bytes[from..=at].to_vec()));
            from = at + 1;
        }
    }
    frames
}

#[test]
fn entries_are_read_and_written_as_by_etcd() {
    for line in LINES {
        let bytes = golden(line, "msgapp");
        // The first append is a whole message, which names both ends.
        let whole = frames_of_appends(&bytes, (0, 0));
        let ends = whole.iter().find_map(|(received, _)| match received {
            Received::Message(message) if message.from != 0 => Some((message.from, message.to)),
            _ => None,
        });
        let ends = ends.unwrap();
        let mut encoder = appends::Encoder::default();
        let (mut heartbeats, mut short, mut last) = (0, 0, 0);
        for (received, frame) in frames_of_appends(&bytes, ends) {
            let mut written = BytesMut::new();
            match &received {
                Received::LinkHeartbeat => {
                    heartbeats += 1;
                    appends::Encoder::encode_heartbeat(&mut written);
                    assert_eq!(written, frame);
                }
                Received::Message(message) => {
                    assert_eq!(
                        (message.kind, message.from, message.to),
                        (MessageKind::Append, ends.0, ends.1)
                    );
                    encoder.encode(message, &mut written);
                    assert_eq!(written[0], frame[0], "{line}: {message:?}");
                    short += usize::from(frame[0] == 1);
                    // Whole messages, and all of 3.7, leave out fields that are zero.
                    if frame[0] == 1 && line != "3.7" {
                        assert_eq!(written, frame, "{line}: {message:?}");
                    }
                    last = message.entries.last().map_or(last, |entry| entry.index.max(last));
                }
                Received::Ignored(kind) => panic!("{kind}"),
            }
        }
        assert!(
            heartbeats > 0 && short > 3 && last > 355,
            "{line}: {heartbeats} {short} {last}"
        );
    }
}

fn messages(bytes: &[u8]) -> (Vec<Message>, usize) {
    let mut decoder = framing::Decoder::new(framing::MESSAGE_BYTES_MAX);
    decoder.push(bytes);
    let (mut messages, mut heartbeats) = (Vec::new(), 0);
    while let Some(received) = decoder.next_message().unwrap() {
        match received {
            Received::Message(message) => messages.push(message),
            Received::LinkHeartbeat => heartbeats += 1,
            Received::Ignored(kind) => panic!("{kind}"),
        }
    }
    (messages, heartbeats)
}

#[test]
fn messages_of_all_lines_are_read() {
    for line in LINES {
        let (of_leader, heartbeats) = messages(&golden(line, "message-leader"));
        assert!(heartbeats > 0, "{line}");
        let (of_follower, heartbeats) = messages(&golden(line, "message-follower"));
        assert!(heartbeats > 0, "{line}");
        let count =
            |messages: &[Message], kind| messages.iter().filter(|message| message.kind == kind).count();
        assert!(count(&of_leader, MessageKind::Heartbeat) > 5, "{line}");
        assert_eq!(count(&of_leader, MessageKind::ReadIndexResponse), 1, "{line}");
        assert!(count(&of_follower, MessageKind::AppendResponse) > 5, "{line}");
        assert!(count(&of_follower, MessageKind::HeartbeatResponse) > 5, "{line}");
        assert_eq!(count(&of_follower, MessageKind::ReadIndex), 1, "{line}");
        assert!(count(&of_follower, MessageKind::Propose) >= 1, "{line}");
        for message in of_leader.iter().chain(&of_follower) {
            assert!(message.from != 0 && message.to != 0, "{line}: {message:?}");
            assert_eq!(message.snapshot, None, "{line}: 3.5 has an empty one");
            // What we make of it reads the same.
            let mut written = BytesMut::new();
            framing::encode(message, &mut written);
            assert_eq!(messages_of(&written), std::slice::from_ref(message), "{line}");
        }
    }
}

fn messages_of(bytes: &[u8]) -> Vec<Message> {
    messages(bytes).0
}

#[test]
fn snapshots_of_all_lines_are_read() {
    for line in LINES {
        let mut decoder = framing::Decoder::new(framing::SNAPSHOT_MESSAGE_BYTES_MAX);
        decoder.push(&golden(line, "snapshot"));
        let Some(Received::Message(message)) = decoder.next_message().unwrap() else {
            panic!("{line}");
        };
        assert_eq!(message.kind, MessageKind::Snapshot);
        let snapshot = message.snapshot.unwrap();
        assert!(snapshot.index > 350 && snapshot.term == 2, "{line}");
        assert_eq!(snapshot.conf_state.voters.len(), 2, "{line}");
        assert!(!snapshot.conf_state.is_joint(), "{line}");
        let tree: serde_json::Value = serde_json::from_slice(&snapshot.data).unwrap();
        assert!(tree["Root"]["Children"]["0"].is_object(), "{line}");
        // bbolt's magic number, behind the head of the first page.
        let file = decoder.take_rest();
        assert_eq!(file[16..20], 0xED0C_DAEDu32.to_le_bytes(), "{line}");
    }
}
