//! Txns against a model that is as plain as can be: a map, copied before each txn.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use api::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use api::mvccpb::KeyValue;
use api::version::Line;
use bytes::Bytes;
use common::Rig;
use prost::Message;

type Map = BTreeMap<Bytes, KeyValue>;

#[derive(Clone, Default)]
struct Model {
    now: Map,
    revision: i64,
}

/// A txn under way: the state before it, and what it has done.
struct Turn<'a> {
    before: &'a Model,
    now: Map,
    changes: i64,
}

fn covered<'a>(map: &'a Map, key: &'a Bytes, end: &'a Bytes) -> impl Iterator<Item = &'a KeyValue> {
    map.values().filter(move |kv| match end.as_ref() {
        [] => kv.key == key,
        [0] => kv.key >= key,
        end => kv.key >= key && kv.key.as_ref() < end,
    })
}

impl Model {
    fn holds(&self, compare: &Compare) -> bool {
        let mut found: Vec<KeyValue> = covered(&self.now, &compare.key, &compare.range_end)
            .cloned()
            .collect();
        if found.is_empty() {
            if compare.target() == CompareTarget::Value {
                return false;
            }
            found.push(KeyValue::default());
        }
        let wanted = compare.target_union.clone();
        found.iter().all(|kv| {
            let order = match (compare.target(), &wanted) {
                (CompareTarget::Version, Some(TargetUnion::Version(wanted))) => kv.version.cmp(wanted),
                (CompareTarget::Create, Some(TargetUnion::CreateRevision(wanted))) => {
                    kv.create_revision.cmp(wanted)
                }
                (CompareTarget::Mod, Some(TargetUnion::ModRevision(wanted))) => kv.mod_revision.cmp(wanted),
                (CompareTarget::Value, Some(TargetUnion::Value(wanted))) => kv.value.cmp(wanted),
                (target, union) => panic!("{target:?} with {union:?}"),
            };
            match compare.result() {
                CompareResult::Equal => order.is_eq(),
                CompareResult::NotEqual => order.is_ne(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
            }
        })
    }

    fn branch<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    /// Whether nothing on the way of a txn fails.
    fn passes(&self, txn: &TxnRequest) -> bool {
        self.branch(txn)
            .1
            .iter()
            .all(|op| match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => !put.ignore_value || self.now.contains_key(&put.key),
                Request::RequestRange(range) => range.revision <= self.revision,
                Request::RequestTxn(nested) => self.passes(nested),
                Request::RequestDeleteRange(_) => true,
            })
    }

    fn apply(&mut self, txn: &TxnRequest) -> Option<TxnResponse> {
        if !self.passes(txn) {
            return None;
        }
        let before = self.clone();
        let mut turn = Turn {
            before: &before,
            now: self.now.clone(),
            changes: 0,
        };
        let mut response = turn.txn(txn);
        self.now = turn.now;
        self.revision += i64::from(turn.changes > 0);
        response.header = header(self.revision);
        Some(response)
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

impl Turn<'_> {
    fn revision(&self) -> i64 {
        self.before.revision + i64::from(self.changes > 0)
    }

    fn txn(&mut self, txn: &TxnRequest) -> TxnResponse {
        // Also a nested txn compares with what was before the outermost one.
        let (succeeded, ops) = self.before.branch(txn);
        let responses = ops.iter().map(|op| {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Request::RequestRange(range) => Response::ResponseRange(self.range(range)),
                Request::RequestTxn(nested) => Response::ResponseTxn(self.txn(nested)),
            };
            ResponseOp {
                response: Some(response),
            }
        });
        let responses = responses.collect();
        TxnResponse {
            header: header(0),
            succeeded,
            responses,
        }
    }

    fn put(&mut self, put: &PutRequest) -> PutResponse {
        let revision = self.before.revision + 1;
        let old = self.now.get(&put.key).cloned();
        let kept = old.clone().unwrap_or_default();
        let new = KeyValue {
            key: put.key.clone(),
            create_revision: if old.is_some() {
                kept.create_revision
            } else {
                revision
            },
            mod_revision: revision,
            version: kept.version + 1,
            value: if put.ignore_value {
                kept.value
            } else {
                put.value.clone()
            },
            lease: 0,
        };
        self.now.insert(put.key.clone(), new);
        self.changes += 1;
        PutResponse {
            header: header(revision),
            prev_kv: old.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> = covered(&self.now, &delete.key, &delete.range_end)
            .cloned()
            .collect();
        gone.iter().for_each(|kv| drop(self.now.remove(&kv.key)));
        self.changes += gone.len() as i64;
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: gone.len() as i64,
            prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
        }
    }

    fn range(&self, range: &RangeRequest) -> RangeResponse {
        let kvs: Vec<KeyValue> = covered(&self.now, &range.key, &range.range_end)
            .cloned()
            .collect();
        RangeResponse {
            header: header(self.revision()),
            count: kvs.len() as i64,
            kvs,
            more: false,
        }
    }
}

struct Dice(fastrand::Rng);

impl Dice {
    fn one_in(&mut self, n: u32) -> bool {
        self.0.u32(0..n) == 0
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.0.u8(0..6)).into()
    }

    fn end(&mut self) -> Bytes {
        match self.0.u8(0..4) {
            0 => self.key(),
            1 => Bytes::from_static(&[0]),
            _ => Bytes::new(),
        }
    }

    fn value(&mut self) -> Bytes {
        format!("{}", self.0.u8(0..4)).into()
    }

    fn compare(&mut self, revision: i64) -> Compare {
        let at = self.0.i64(0..=revision + 1);
        let (target, union) = match self.0.u8(0..4) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.0.i64(0..4))),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(at)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(at)),
            _ => (CompareTarget::Value, TargetUnion::Value(self.value())),
        };
        Compare {
            result: self.0.i32(0..4),
            target: target as i32,
            key: self.key(),
            range_end: self.end(),
            target_union: Some(union),
        }
    }

    fn op(&mut self, revision: i64, depth: u32) -> RequestOp {
        let request = match self.0.u8(0..if depth > 0 { 7 } else { 5 }) {
            0..=2 => {
                let ignore_value = self.one_in(6);
                let value = if ignore_value { Bytes::new() } else { self.value() };
                let prev_kv = self.one_in(2);
                Request::RequestPut(PutRequest {
                    key: self.key(),
                    value,
                    prev_kv,
                    ignore_value,
                    ..Default::default()
                })
            }
            3 => Request::RequestRange(RangeRequest {
                key: self.key(),
                range_end: self.end(),
                revision: if self.one_in(8) { revision + 1 } else { 0 },
                ..Default::default()
            }),
            4 => {
                let prev_kv = self.one_in(2);
                Request::RequestDeleteRange(DeleteRangeRequest {
                    key: self.key(),
                    range_end: self.end(),
                    prev_kv,
                })
            }
            _ => Request::RequestTxn(self.txn(revision, depth - 1)),
        };
        RequestOp {
            request: Some(request),
        }
    }

    fn txn(&mut self, revision: i64, depth: u32) -> TxnRequest {
        let mut many = |n: usize| self.0.usize(0..n);
        let (compares, success, failure) = (many(3), many(4), many(4));
        TxnRequest {
            compare: (0..compares).map(|_| self.compare(revision)).collect(),
            success: (0..success).map(|_| self.op(revision, depth)).collect(),
            failure: (0..failure).map(|_| self.op(revision, depth)).collect(),
        }
    }
}

/// What no front lets through: a key that is put where it was deleted or put before in the txn.
/// The log may have it all the same, but then a put that keeps the value may find none.
fn is_sound(model: &Model, txn: &TxnRequest) -> bool {
    fn visit(model: &Model, txn: &TxnRequest, deleted: &mut Vec<(Bytes, Bytes)>) -> bool {
        model
            .branch(txn)
            .1
            .iter()
            .all(|op| match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => {
                    let single: Map = [(
                        put.key.clone(),
                        KeyValue {
                            key: put.key.clone(),
                            ..Default::default()
                        },
                    )]
                    .into();
                    !put.ignore_value
                        || !deleted
                            .iter()
                            .any(|(key, end)| covered(&single, key, end).next().is_some())
                }
                Request::RequestDeleteRange(delete) => {
                    deleted.push((delete.key.clone(), delete.range_end.clone()));
                    true
                }
                Request::RequestTxn(nested) => visit(model, nested, deleted),
                Request::RequestRange(_) => true,
            })
    }
    visit(model, txn, &mut Vec::new())
}

fn run(seed: u64, txns: usize) {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let mut rig = Rig::new(Line::V3_7);
    let mut model = Model {
        revision: 1,
        ..Model::default()
    };
    let (mut refused, mut done) = (0, 0);
    for turn in 0..txns {
        let txn = dice.txn(model.revision, 3);
        if !is_sound(&model, &txn) {
            continue;
        }
        let request = InternalRaftRequest {
            txn: Some(txn.clone()),
            ..Default::default()
        };
        let expected = model.apply(&txn);
        let reply = rig.apply(request, true).unwrap().reply.unwrap();
        let found = reply.result.ok().map(|bytes| {
            let mut response = TxnResponse::decode(bytes).unwrap();
            response.header = header(response.header.unwrap().revision);
            response
        });
        assert_eq!(found, expected, "seed {seed}, turn {turn}, {txn:?}");
        if found.is_some() {
            done += 1
        } else {
            refused += 1
        }
        let view = rig.view();
        assert_eq!(view.revision, model.revision);
        let all = mvcc::RangeOptions {
            key: b"k",
            range_end: &[0],
            ..Default::default()
        };
        let kvs = view.range(&all, mvcc::Wait::Yes).unwrap().kvs.into_iter();
        let kvs: Vec<KeyValue> = kvs.map(|kv| KeyValue::decode(kv).unwrap()).collect();
        assert_eq!(
            kvs,
            model.now.values().cloned().collect::<Vec<_>>(),
            "seed {seed}, turn {turn}"
        );
        if dice.one_in(20) {
            rig.commit();
        }
    }
    assert!(
        refused > txns / 100 && done > txns / 2,
        "{refused} refused, {done} done"
    );
}

/// etcd issue 18679: a txn that fails writes nothing.
#[test]
fn txns_are_atomic_and_do_what_the_model_does() {
    let txns = std::env::var("STATE_TXNS").map_or(1500, |n| n.parse().expect("STATE_TXNS is a number"));
    for seed in 1..=3 {
        run(seed, txns);
    }
}
