//! Entries of any bytes: decoded or refused, never a panic.

#![allow(clippy::unwrap_used)]

mod common;

use api::etcdserverpb::{self as pb, InternalRaftRequest, RequestHeader};
use api::raftpb;
use api::version::Line;
use bytes::Bytes;
use common::{Rig, TERM};
use prost::Message;
use state::{Committed, EntryKind, Error, contains_v2_request, minimal_version, request_id, v2store};

/// The fuzz body: whatever the bytes are, they are applied or refused with an error.
fn fuzz(data: &[u8], rig: &mut Rig) {
    let data = Bytes::copy_from_slice(data);
    let id = request_id(&data);
    let is_v2 = contains_v2_request(&data);
    for kind in [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2] {
        let _ = minimal_version(1, kind, &data);
        let entry = Committed {
            index: rig.index + 1,
            term: TERM,
            kind,
            data: data.clone(),
        };
        let mut asked = None;
        let applied = rig.machine.apply(&entry, |id| {
            asked = Some(id);
            true
        });
        match applied {
            Ok(applied) => {
                rig.index += 1;
                let told = applied.reply.map(|reply| reply.id);
                assert_eq!(told, asked, "{data:?}");
                if kind == EntryKind::Normal && !data.is_empty() && !is_v2 {
                    assert!(id.is_some(), "{data:?}");
                    assert_eq!(asked, id, "{data:?}");
                    // What prost refuses and etcd does not, all releases of it taken together.
                    let refused = InternalRaftRequest::decode(data.clone()).err();
                    let known = ["UTF-8", "wire type", "invalid key", "invalid varint", "end group"];
                    let is_known = |error: prost::DecodeError| {
                        let text = error.to_string();
                        known.iter().any(|reason| text.contains(reason))
                    };
                    assert!(refused.is_none_or(is_known), "{data:?}");
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let _ = v2store::parse(&data);
}

/// One request of each kind, as etcd logs it.
fn corpus() -> Vec<Vec<u8>> {
    let json = br#"{"method":"see below"}"#.to_vec();
    let document = v2store::document(&state::Membership::default()).into_bytes();
    let change = raftpb::ConfChange {
        id: Some(5),
        r#type: Some(0),
        node_id: Some(9),
        context: Some(r#"{"id":9,"peerURLs":["http://a:1"]}"#.into()),
    };
    let mut corpus = vec![Vec::new(), json, document, change.encode_to_vec()];
    corpus.push(b"\x08\x07\x12\x03PUT\x1a\x0a/0/version\x22\x053.5.0\x28\x00".to_vec());
    let put = pb::PutRequest {
        key: "a".into(),
        value: "b".into(),
        ..Default::default()
    };
    let op = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put.clone())),
    };
    let compare = pb::Compare {
        key: "a".into(),
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op.clone()],
        failure: vec![op],
    };
    let with = |fill: &dyn Fn(&mut InternalRaftRequest)| {
        let header = RequestHeader {
            id: 300,
            username: "root".into(),
            auth_revision: 1,
        };
        let mut request = InternalRaftRequest {
            header: Some(header),
            ..Default::default()
        };
        fill(&mut request);
        request.encode_to_vec()
    };
    corpus.push(with(&|request| request.put = Some(put.clone())));
    corpus.push(with(&|request| request.txn = Some(txn.clone())));
    corpus.push(with(&|request| request.range = Some(Default::default())));
    corpus.push(with(&|request| request.delete_range = Some(Default::default())));
    corpus.push(with(&|request| {
        request.compaction = Some(pb::CompactionRequest {
            revision: 1,
            physical: true,
        })
    }));
    corpus.push(with(&|request| {
        request.lease_grant = Some(pb::LeaseGrantRequest { ttl: 5, id: 7 })
    }));
    corpus.push(with(&|request| {
        request.lease_revoke = Some(pb::LeaseRevokeRequest { id: 7 })
    }));
    corpus.push(with(&|request| {
        request.lease_checkpoint = Some(Default::default())
    }));
    corpus.push(with(&|request| request.alarm = Some(Default::default())));
    corpus.push(with(&|request| request.auth_user_list = Some(Default::default())));
    corpus.push(with(&|request| {
        request.downgrade_info_set = Some(Default::default())
    }));
    corpus.push(with(&|request| {
        request.downgrade_version_test = Some(Default::default())
    }));
    corpus
}

#[test]
fn any_bytes_are_applied_or_refused() {
    let rounds = std::env::var("STATE_FUZZ").map_or(300, |n| n.parse().expect("STATE_FUZZ is a number"));
    let mut rig = Rig::new(Line::V3_7);
    let mut dice = fastrand::Rng::with_seed(7);
    for seed in corpus() {
        fuzz(&seed, &mut rig);
        for _ in 0..rounds {
            let mut data = seed.clone();
            for _ in 0..dice.usize(1..4) {
                let at = dice.usize(0..=data.len());
                match dice.u8(0..4) {
                    0 => data.insert(at, dice.u8(..)),
                    1 => data.truncate(at),
                    2 if at < data.len() => data[at] = dice.u8(..),
                    _ if at < data.len() => data[at] ^= 1 << dice.u8(0..8),
                    _ => {}
                }
            }
            fuzz(&data, &mut rig);
        }
    }
}

/// Applies these bytes as the first normal entry.
fn check(data: &[u8], expected: &str) {
    let mut rig = Rig::new(Line::V3_7);
    let entry = rig.entry(EntryKind::Normal, Bytes::copy_from_slice(data));
    let error = rig
        .machine
        .apply(&entry, |_| true)
        .err()
        .map(|error| error.to_string());
    assert!(
        error.as_ref().is_some_and(|error| error.contains(expected)),
        "{error:?}"
    );
    assert_eq!(
        rig.machine.store().consistent().0,
        0,
        "a refused entry is not applied"
    );
}

#[test]
fn what_is_unknown_is_fatal_and_named() {
    // A header alone; a request of a release to come; one without id; damage; v2 of a user.
    check(&[0xa2, 0x06, 2, 8, 1], "entry 1: unknown request (field 0)");
    check(
        &[0xa2, 0x06, 2, 8, 1, 0xf2, 0x07, 0],
        "unknown request (field 126)",
    );
    check(&[0x22, 0], "entry 1: the request has no header");
    check(&[0x22, 9], "the log is damaged");
    check(b"\x08\x07\x12\x04SYNC\x1a\x00", "v2 request SYNC");
    let mut rig = Rig::new(Line::V3_7);
    let joint = rig.entry(EntryKind::ConfChangeV2, Bytes::new());
    assert!(matches!(
        rig.machine.apply(&joint, |_| true),
        Err(Error::ConfChangeV2 { index: 1 })
    ));
}

#[test]
fn of_several_requests_the_first_in_etcds_order_counts() {
    let put = pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    let mut rig = Rig::new(Line::V3_7);
    let both = InternalRaftRequest {
        put: Some(put),
        lease_grant: Some(pb::LeaseGrantRequest { ttl: 5, id: 7 }),
        ..Default::default()
    };
    rig.apply(both, true).unwrap();
    assert!(rig.machine.leases().is_empty());
    assert_eq!(rig.view().revision, 2);
}
