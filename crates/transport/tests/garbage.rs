//! The parsers on random bytes, and on messages with some of their bytes changed.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::BytesMut;
use common::append;
use raft::{Message, MessageKind};
use transport::{appends, framing, fuzz};

fn messages(random: &mut fastrand::Rng) -> Vec<Message> {
    (0..random.usize(1..6))
        .map(|_| {
            let kind = MessageKind::ALL[random.usize(..MessageKind::ALL.len())];
            let mut message = append(2, 1, random.u64(..9), random.u64(..4));
            message.kind = kind;
            message.term = random.u64(4..7);
            message.reject = random.bool();
            message.context = vec![1; random.usize(..4)].into();
            if kind == MessageKind::Snapshot {
                message.snapshot = Some(raft::Snapshot {
                    index: random.u64(..9),
                    term: 3,
                    conf_state: raft::ConfState {
                        voters: vec![1, 2, 3],
                        learners: vec![4],
                        ..raft::ConfState::default()
                    },
                    data: b"{}".to_vec().into(),
                });
            }
            message
        })
        .collect()
}

fn change(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, random.u8(..)),
        }
    }
}

#[test]
fn no_bytes_break_a_parser() {
    for seed in 0..3000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let messages = messages(&mut random);
        let mut encoder = appends::Encoder::default();
        let (mut stream, mut short) = (BytesMut::new(), BytesMut::new());
        for message in &messages {
            framing::encode(message, &mut stream);
            framing::encode_heartbeat(&mut stream);
            encoder.encode(message, &mut short);
        }
        let mut bodies = [
            transport::message::encode(&messages[0]),
            stream.to_vec(),
            short.to_vec(),
            (0..random.usize(..40)).map(|_| random.u8(..)).collect(),
        ];
        for body in &mut bodies {
            change(body, &mut random);
            fuzz::fuzz_message(body);
            fuzz::fuzz_stream(body);
            fuzz::fuzz_appends(body);
        }
    }
}
