//! Txns that nest deeper than protobuf's decoder goes, as members of Go etcd log them: applied, answered and let go on
//! the stack that threads have that apply entries.

#![allow(clippy::unwrap_used)]

mod common;

use std::thread;

use api::etcdserverpb as pb;
use api::version::Line;
use bytes::Bytes;
use common::Rig;
use prost::Message;
use prost::encoding::encode_varint;
use state::{APPLY_STACK_BYTES, EntryKind, Error, minimal_version, request_id};

/// A message around another.
fn wrap(key: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut outer = key.to_vec();
    encode_varint(inner.len() as u64, &mut outer);
    outer.extend_from_slice(inner);
    outer
}

/// An entry of the user root with a txn that nests `depth` times and puts the key `k` at last.
fn entry(depth: usize) -> Bytes {
    let put = wrap(&[0x12], &[0x0a, 1, b'k', 0x12, 1, b'v']);
    let mut txn = wrap(&[0x12], &put);
    for level in 0..depth {
        let inner = wrap(&[0x22], &txn);
        txn = match level % 2 {
            0 => wrap(&[0x12], &inner),
            // A compare that fails: no key has the version 1.
            _ => [wrap(&[0x0a], &[0x1a, 1, b'n', 0x20, 1]), wrap(&[0x1a], &inner)].concat(),
        };
    }
    let header = [&[0x08, 9, 0x12, 4][..], b"root", &[0x18, 100]].concat();
    [wrap(&[0x32], &txn), wrap(&[0xa2, 0x06], &header)]
        .concat()
        .into()
}

/// With authentication on: it looks at all operations too.
fn enable_auth(rig: &mut Rig) -> Result<(), Error> {
    let (name, role) = ("root".to_string(), "root".to_string());
    let user = pb::AuthUserAddRequest {
        name: name.clone(),
        hashed_password: "JDJhJA==".to_string(),
        ..Default::default()
    };
    let grant = pb::AuthUserGrantRoleRequest {
        user: name.clone(),
        role,
    };
    let mut requests = vec![pb::InternalRaftRequest::default(); 4];
    requests[0].auth_role_add = Some(pb::AuthRoleAddRequest { name });
    requests[1].auth_user_add = Some(user);
    requests[2].auth_user_grant_role = Some(grant);
    requests[3].auth_enable = Some(Default::default());
    for request in requests {
        let applied = rig.apply(request, false)?;
        assert_eq!(applied.refused, None);
    }
    assert!(rig.machine.auth_enabled());
    Ok(())
}

/// Applies the entry where stacks are as large as where members apply: the answer, and how often the key was put.
fn apply(depth: usize) -> Result<(Bytes, i64), Error> {
    let run = move || {
        let mut rig = Rig::new(Line::V3_7);
        enable_auth(&mut rig)?;
        let data = entry(depth);
        assert_eq!(request_id(&data), Some(9));
        minimal_version(1, EntryKind::Normal, &data)?;
        let entry = rig.entry(EntryKind::Normal, data);
        let applied = rig.machine.apply(&entry, |_| true)?;
        let answer = applied.reply.unwrap().result.unwrap();
        let view = rig.view();
        Ok((answer, view.reader().count(b"k", b"", view.revision)))
    };
    let stack = std::env::var("STATE_STACK").map_or(APPLY_STACK_BYTES, |n| n.parse().expect("a number"));
    let thread = thread::Builder::new().stack_size(stack).spawn(run);
    thread.unwrap().join().unwrap()
}

#[test]
fn deep_txns_are_applied_and_answered() {
    for depth in [0, 10, 48, 49, 60, 127, 4_999, 10_000] {
        let (answer, count) = apply(depth).unwrap();
        assert_eq!(count, 1, "{depth}");
        if depth < 20 {
            let mut answer = pb::TxnResponse::decode(answer).unwrap();
            for _ in 0..depth {
                let response = answer.responses.pop().unwrap().response;
                let Some(pb::response_op::Response::ResponseTxn(inner)) = response else {
                    panic!("{response:?}");
                };
                answer = inner;
            }
            assert_eq!(answer.responses.len(), 1);
        }
    }
}

#[test]
fn what_nests_deeper_than_that_is_refused() {
    let refused = apply(10_001).err().unwrap();
    assert!(matches!(refused, Error::Undecodable { .. }), "{refused}");
}
