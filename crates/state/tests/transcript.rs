//! What a real etcd answered to random requests, and what we answer: byte for byte the same, ids
//! and term included. The golden file says which; `golden/gen` made it.

#![allow(clippy::unwrap_used)]

mod common;

use api::error::from_message;
use api::etcdserverpb::{self as pb, InternalRaftRequest};
use api::version::Line;
use bytes::{Buf, Bytes};
use common::{CLUSTER, MEMBER, Rig, TERM};
use prost::Message;
use state::{Header, Hold, read};

struct Record {
    kind: u8,
    code: u8,
    request: Bytes,
    answer: Bytes,
}

fn records(mut file: Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    while file.has_remaining() {
        let (kind, code) = (file.get_u8(), file.get_u8());
        let mut part = || {
            let length = file.get_u32() as usize;
            file.split_to(length)
        };
        let (request, answer) = (part(), part());
        records.push(Record {
            kind,
            code,
            request,
            answer,
        });
    }
    records
}

/// What we answer: the encoded response, or the text of an error.
fn answer(rig: &mut Rig, record: &Record) -> Result<Bytes, String> {
    let mut request = InternalRaftRequest::default();
    let data = record.request.clone();
    match record.kind {
        1 => request.put = Some(Message::decode(data).unwrap()),
        2 => request.delete_range = Some(Message::decode(data).unwrap()),
        3 => {
            let txn = pb::TxnRequest::decode(data).unwrap();
            if read::is_read_only(&txn) {
                return read_now(rig, |reader, header| {
                    read::read_only_txn(reader, &txn, Line::V3_7, header, mvcc::Wait::Yes)
                });
            }
            request.txn = Some(txn);
        }
        4 => request.compaction = Some(Message::decode(data).unwrap()),
        5 => request.lease_grant = Some(Message::decode(data).unwrap()),
        6 => request.lease_revoke = Some(Message::decode(data).unwrap()),
        7 => request.alarm = Some(Message::decode(data).unwrap()),
        8 => return Ok(hash(rig)),
        _ => {
            let range = pb::RangeRequest::decode(data).unwrap();
            return read_now(rig, |reader, header| {
                read::range(reader, &range, Line::V3_7, header, mvcc::Wait::Yes)
            });
        }
    }
    let physical = request
        .compaction
        .as_ref()
        .filter(|compaction| compaction.physical);
    let hold = physical.map_or(Hold::No, |compaction| Hold::Compacted(compaction.revision));
    let reply = rig.apply(request, true).unwrap().reply.unwrap();
    assert_eq!(reply.id, rig.index);
    if reply.result.is_ok() {
        assert_eq!(reply.hold, hold);
    }
    reply.result.map_err(|status| status.message.into_owned())
}

fn header() -> Header {
    Header {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        raft_term: TERM,
    }
}

fn read_now(
    rig: &mut Rig,
    read: impl FnOnce(&mvcc::Reader<'_>, &Header) -> Result<Bytes, mvcc::Error>,
) -> Result<Bytes, String> {
    let view = rig.view();
    read(&view.reader(), &header()).map_err(|error| {
        read::refusal(&error)
            .expect("the store does not fail")
            .message
            .into_owned()
    })
}

fn hash(rig: &mut Rig) -> Bytes {
    let view = rig.view();
    let hash = view.hash_kv(0).unwrap().finish(mvcc::Wait::Yes).unwrap();
    let header = pb::ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision: view.revision,
        raft_term: TERM,
    };
    let response = pb::HashKvResponse {
        header: Some(header),
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    };
    response.encode_to_vec().into()
}

/// Replays the transcript, with a commit to the file after every `commit_every` entries.
fn replay(commit_every: usize) {
    let file = Bytes::from_static(include_bytes!("golden/transcript-3.7.bin"));
    let records = records(file);
    assert_eq!(records.len(), 1500);
    let mut rig = Rig::new(Line::V3_7);
    for (at, record) in records.iter().enumerate() {
        let ours = answer(&mut rig, record);
        let theirs = match record.code {
            0 => Ok(record.answer.clone()),
            code => {
                let text = String::from_utf8(record.answer.to_vec()).unwrap();
                assert_eq!(from_message(&text).unwrap().code.number(), code);
                Err(text)
            }
        };
        if ours != theirs {
            let kind = record.kind;
            panic!(
                "record {at}, kind {kind}, request {:?}: ours {ours:?}, etcd's {theirs:?}",
                record.request
            );
        }
        if at % commit_every == commit_every - 1 {
            rig.commit();
        }
    }
}

#[test]
fn answers_are_those_of_etcd_from_memory() {
    replay(usize::MAX);
}

#[test]
fn answers_are_those_of_etcd_from_the_file() {
    replay(7);
}
