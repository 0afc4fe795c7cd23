//! Answers of writes that are longer than a message may be: refused, while what is written is what every member writes.

#![allow(clippy::unwrap_used)]

mod common;

use api::error::Code;
use api::etcdserverpb::{self as pb, InternalRaftRequest, request_op::Request};
use api::version::Line;
use common::Rig;

const VALUE_BYTES: usize = 1000;

/// What a pair of such a value takes in an answer: 3 bytes for a key of one, 2 for each of three small numbers, 3 before the
/// value, and 3 before it all.
const PAIR_BYTES: usize = 3 + 3 * 2 + 3 + VALUE_BYTES + 3;

fn put(key: &str, prev_kv: bool) -> Request {
    Request::RequestPut(pb::PutRequest {
        key: key.to_string().into(),
        value: vec![b'v'; VALUE_BYTES].into(),
        prev_kv,
        ..Default::default()
    })
}

fn all() -> Request {
    Request::RequestRange(pb::RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    })
}

fn delete(key: &str, range_end: &str) -> Request {
    Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key: key.to_string().into(),
        range_end: range_end.to_string().into(),
        prev_kv: true,
    })
}

fn txn(ops: Vec<Request>) -> InternalRaftRequest {
    let ops = ops.into_iter().map(|request| pb::RequestOp {
        request: Some(request),
    });
    let txn = pb::TxnRequest {
        success: ops.collect(),
        ..Default::default()
    };
    InternalRaftRequest {
        txn: Some(txn),
        ..Default::default()
    }
}

fn nested(ops: Vec<Request>) -> Request {
    Request::RequestTxn(txn(ops).txn.unwrap())
}

/// Two members apply the same, one with room for the answers that `kept` pairs take. Whether it answers.
fn check(kept: usize, request: &InternalRaftRequest, answers: bool) {
    let mut limited = Rig::new(Line::V3_7);
    let mut other = Rig::new(Line::V3_7);
    limited.machine.limit_answers(kept * (VALUE_BYTES + 40));
    for rig in [&mut limited, &mut other] {
        for key in ["a", "b", "c"] {
            rig.apply(txn(vec![put(key, false)]), false).unwrap();
        }
    }
    let reply = limited.apply(request.clone(), true).unwrap().reply.unwrap();
    other.apply(request.clone(), false).unwrap();
    match reply.result {
        Ok(_) => assert!(answers, "{request:?}"),
        Err(status) => {
            assert!(!answers, "{status:?}");
            assert_eq!(status.code, Code::ResourceExhausted);
            assert!(
                status
                    .message
                    .starts_with("grpc: trying to send message larger than max ("),
                "{status:?}"
            );
        }
    }
    assert_eq!(limited.rows("key"), other.rows("key"));
    assert_eq!(limited.view().revision, other.view().revision);
    // And it goes on.
    let next = limited.apply(txn(vec![put("z", false)]), true).unwrap();
    assert!(next.reply.unwrap().result.is_ok());
}

#[test]
fn what_finds_no_room_is_not_answered_and_is_written() {
    let reads = || vec![put("d", false), all(), put("e", false), all(), put("f", false)];
    check(9, &txn(reads()), true);
    check(8, &txn(reads()), false);
    check(3, &txn(reads()), false);
    check(9, &txn(vec![nested(reads()), put("g", true)]), true);
    check(
        8,
        &txn(vec![all(), nested(reads()), put("g", false), all()]),
        false,
    );
    let deletes = || {
        vec![
            delete("a", "c"),
            put("d", false),
            delete("c", ""),
            put("e", false),
        ]
    };
    check(3, &txn(deletes()), true);
    check(2, &txn(deletes()), false);
    check(1, &txn(vec![put("a", true)]), true);
    check(
        1,
        &txn(vec![put("a", true), put("b", true), put("c", true)]),
        false,
    );
}

#[test]
fn a_request_by_itself_has_the_same_room() {
    let Request::RequestDeleteRange(gone) = delete("a", "z") else {
        panic!("it is a delete");
    };
    let gone = InternalRaftRequest {
        delete_range: Some(gone),
        ..Default::default()
    };
    check(3, &gone, true);
    check(2, &gone, false);
    let Request::RequestRange(range) = all() else {
        panic!("it is a range");
    };
    let range = InternalRaftRequest {
        range: Some(range),
        ..Default::default()
    };
    check(3, &range, true);
    check(2, &range, false);
}

/// A request to a member that has three pairs and room for so many bytes: how long its answer is, or how many bytes were
/// counted until there was no room.
fn answer(bytes_max: usize, request: &InternalRaftRequest) -> Result<usize, usize> {
    let mut rig = Rig::new(Line::V3_7);
    rig.machine.limit_answers(bytes_max);
    for key in ["a", "b", "c"] {
        rig.apply(txn(vec![put(key, false)]), false).unwrap();
    }
    let reply = rig.apply(request.clone(), true).unwrap().reply.unwrap();
    reply.result.map(|bytes| bytes.len()).map_err(|status| {
        let numbers = status.message.rsplit_once('(').unwrap().1;
        let (counted, max) = numbers.trim_end_matches(')').split_once(" vs. ").unwrap();
        assert_eq!(max.parse(), Ok(bytes_max));
        counted.parse().unwrap()
    })
}

#[test]
fn the_bound_is_that_of_the_pairs_to_the_byte() {
    for (pairs, request) in [
        (3, txn(vec![all()])),
        (3, txn(vec![delete("a", "d")])),
        (2, txn(vec![nested(vec![delete("a", "c")])])),
        (1, txn(vec![put("b", true)])),
    ] {
        let counted = answer(0, &request).unwrap_err();
        assert_eq!(counted, pairs * PAIR_BYTES);
        let whole = answer(counted, &request).unwrap();
        assert!(
            whole >= counted && whole < counted + 100,
            "{whole} bytes for {counted}"
        );
        assert_eq!(answer(counted - 1, &request), Err(counted));
    }
}

/// What would be read for an answer that nobody gets is not read.
#[test]
fn nothing_is_counted_behind_what_found_no_room() {
    for later in [
        vec![all(), all()],
        vec![put("a", true)],
        vec![delete("a", "d"), nested(vec![all()])],
    ] {
        let ops = [vec![all(), all()], later].concat();
        assert_eq!(answer(3 * PAIR_BYTES, &txn(ops)), Err(6 * PAIR_BYTES));
    }
}
