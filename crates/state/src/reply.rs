//! Replies as bytes: response messages written around stored pairs, which are embedded as they are.
//! Field order and left-out defaults are those of Go's encoder.

use api::etcdserverpb::AlarmMember;
use bytes::Bytes;
use mvcc::RangeResult;
use prost::Message;

use crate::membership::{Member, Membership};
use crate::wire::{message_len, put_bool, put_i64, put_message, put_u64, varint_len};

/// What every response header says, but for the revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The id of the member that answers.
    pub member_id: u64,
    /// The raft term.
    pub raft_term: u64,
}

impl Header {
    /// The encoded header.
    pub fn encode(&self, revision: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(44);
        put_u64(&mut out, 1, self.cluster_id);
        put_u64(&mut out, 2, self.member_id);
        put_i64(&mut out, 3, revision);
        put_u64(&mut out, 4, self.raft_term);
        out
    }

    /// A response that has nothing but a header in field 1.
    pub fn response(&self, revision: i64) -> Bytes {
        let mut out = Vec::with_capacity(48);
        put_message(&mut out, 1, &self.encode(revision));
        out.into()
    }

    /// A response of a range.
    pub fn range_response(&self, range: RangeResult) -> Bytes {
        let header = self.encode(range.revision);
        Op::Range(range.into()).response(&header)
    }

    pub(crate) fn lease_grant_response(&self, revision: i64, id: i64, ttl: i64) -> Bytes {
        let mut out = Vec::with_capacity(64);
        put_message(&mut out, 1, &self.encode(revision));
        put_i64(&mut out, 2, id);
        put_i64(&mut out, 3, ttl);
        out.into()
    }

    pub(crate) fn alarm_response(&self, revision: i64, alarms: &[AlarmMember]) -> Bytes {
        let mut out = Vec::with_capacity(64);
        put_message(&mut out, 1, &self.encode(revision));
        for alarm in alarms {
            put_message(&mut out, 2, &alarm.encode_to_vec());
        }
        out.into()
    }

    pub(crate) fn auth_status_response(&self, revision: i64, enabled: bool, auth_revision: u64) -> Bytes {
        let mut out = Vec::with_capacity(64);
        put_message(&mut out, 1, &self.encode(revision));
        put_bool(&mut out, 2, enabled);
        put_u64(&mut out, 3, auth_revision);
        out.into()
    }

    /// Header and members, as MemberList, MemberRemove, MemberUpdate and MemberPromote answer. The
    /// header of these has no revision.
    pub fn members_response(&self, membership: &Membership) -> Bytes {
        let mut out = Vec::new();
        put_message(&mut out, 1, &self.encode(0));
        for member in membership.members.values() {
            put_message(&mut out, 2, &wire_member(member).encode_to_vec());
        }
        out.into()
    }
}

/// A member as the client API shows it.
pub fn wire_member(member: &Member) -> api::etcdserverpb::Member {
    api::etcdserverpb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

/// The answer to one operation, or to a txn of them, before it is bytes.
#[derive(Debug)]
pub(crate) enum Op {
    Range(RangeReply),
    Put {
        revision: i64,
        prev_kv: Option<Bytes>,
    },
    DeleteRange {
        revision: i64,
        deleted: i64,
        prev_kvs: Vec<Bytes>,
    },
    Txn {
        succeeded: bool,
        responses: Vec<Op>,
    },
    /// An operation without a request: no client can send one, but a log might have it.
    Nothing,
}

/// A range's part of an answer.
#[derive(Debug, Default)]
pub(crate) struct RangeReply {
    pub(crate) revision: i64,
    pub(crate) kvs: Vec<Bytes>,
    pub(crate) more: bool,
    pub(crate) count: i64,
}

impl From<RangeResult> for RangeReply {
    fn from(range: RangeResult) -> RangeReply {
        RangeReply {
            revision: range.revision,
            kvs: range.kvs,
            more: range.more,
            count: range.count,
        }
    }
}

impl Op {
    /// The response by itself, with this encoded header.
    pub(crate) fn response(&self, header: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(self.len(header.len()));
        self.encode(header, &mut out);
        out.into()
    }

    /// The header inside a txn's answer: it shows the revision alone, and that of a nested txn
    /// nothing (etcd: txn/txn.go, newTxnResp).
    fn inner_revision(&self) -> i64 {
        match self {
            Op::Range(range) => range.revision,
            Op::Put { revision, .. } | Op::DeleteRange { revision, .. } => *revision,
            Op::Txn { .. } | Op::Nothing => 0,
        }
    }

    fn field(&self) -> Option<u32> {
        match self {
            Op::Range(_) => Some(1),
            Op::Put { .. } => Some(2),
            Op::DeleteRange { .. } => Some(3),
            Op::Txn { .. } => Some(4),
            Op::Nothing => None,
        }
    }

    /// The length as an element of a txn's responses.
    fn wrapped_len(&self) -> usize {
        match self.field() {
            Some(field) => message_len(field, self.len(inner_header_len(self.inner_revision()))),
            None => 0,
        }
    }

    fn encode_wrapped(&self, out: &mut Vec<u8>) {
        if let Some(field) = self.field() {
            let mut header = Vec::with_capacity(11);
            put_i64(&mut header, 3, self.inner_revision());
            crate::wire::put_prefix(out, field, self.len(header.len()));
            self.encode(&header, out);
        }
    }

    fn len(&self, header_len: usize) -> usize {
        let header = message_len(1, header_len);
        let pairs = |kvs: &[Bytes]| kvs.iter().map(|kv| message_len(2, kv.len())).sum::<usize>();
        let number = |value: i64| {
            if value == 0 {
                0
            } else {
                1 + varint_len(value as u64)
            }
        };
        header
            + match self {
                Op::Range(range) => pairs(&range.kvs) + number(range.more.into()) + number(range.count),
                Op::Put { prev_kv, .. } => pairs(prev_kv.as_slice()),
                Op::DeleteRange {
                    deleted, prev_kvs, ..
                } => number(*deleted) + pairs(prev_kvs),
                Op::Txn { succeeded, responses } => {
                    let wrapped = responses.iter().map(|op| message_len(3, op.wrapped_len()));
                    number((*succeeded).into()) + wrapped.sum::<usize>()
                }
                Op::Nothing => 0,
            }
    }

    fn encode(&self, header: &[u8], out: &mut Vec<u8>) {
        put_message(out, 1, header);
        match self {
            Op::Range(range) => {
                range.kvs.iter().for_each(|kv| put_message(out, 2, kv));
                put_bool(out, 3, range.more);
                put_i64(out, 4, range.count);
            }
            Op::Put { prev_kv, .. } => prev_kv.iter().for_each(|kv| put_message(out, 2, kv)),
            Op::DeleteRange {
                deleted, prev_kvs, ..
            } => {
                put_i64(out, 2, *deleted);
                prev_kvs.iter().for_each(|kv| put_message(out, 3, kv));
            }
            Op::Txn { succeeded, responses } => {
                put_bool(out, 2, *succeeded);
                for op in responses {
                    crate::wire::put_prefix(out, 3, op.wrapped_len());
                    op.encode_wrapped(out);
                }
            }
            Op::Nothing => {}
        }
    }
}

fn inner_header_len(revision: i64) -> usize {
    if revision == 0 {
        0
    } else {
        1 + varint_len(revision as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb as pb;

    fn kv(key: &str) -> (Bytes, api::mvccpb::KeyValue) {
        let decoded = api::mvccpb::KeyValue {
            key: key.to_string().into(),
            value: vec![7; 200].into(),
            mod_revision: 300,
            ..Default::default()
        };
        (decoded.encode_to_vec().into(), decoded)
    }

    fn inner(revision: i64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            revision,
            ..Default::default()
        })
    }

    #[test]
    fn txn_answers_are_what_protobuf_makes_of_them() {
        use pb::response_op::Response;
        let (bytes, pair) = kv("a");
        let range = RangeReply {
            revision: 9,
            kvs: vec![bytes.clone(); 2],
            more: true,
            count: 400,
        };
        let reply = Op::Txn {
            succeeded: true,
            responses: vec![
                Op::Range(range),
                Op::Put {
                    revision: 10,
                    prev_kv: Some(bytes.clone()),
                },
                Op::DeleteRange {
                    revision: 10,
                    deleted: 1,
                    prev_kvs: vec![bytes],
                },
                Op::Txn {
                    succeeded: false,
                    responses: vec![Op::Put {
                        revision: 300,
                        prev_kv: None,
                    }],
                },
                Op::Nothing,
            ],
        };
        let op = |response| pb::ResponseOp {
            response: Some(response),
        };
        let nested = pb::TxnResponse {
            header: inner(0),
            succeeded: false,
            responses: vec![op(Response::ResponsePut(pb::PutResponse {
                header: inner(300),
                prev_kv: None,
            }))],
        };
        let header = Header {
            cluster_id: u64::MAX,
            member_id: 2,
            raft_term: 3,
        };
        let expected = pb::TxnResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                member_id: 2,
                revision: 10,
                raft_term: 3,
            }),
            succeeded: true,
            responses: vec![
                op(Response::ResponseRange(pb::RangeResponse {
                    header: inner(9),
                    kvs: vec![pair.clone(), pair.clone()],
                    more: true,
                    count: 400,
                })),
                op(Response::ResponsePut(pb::PutResponse {
                    header: inner(10),
                    prev_kv: Some(pair.clone()),
                })),
                op(Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                    header: inner(10),
                    deleted: 1,
                    prev_kvs: vec![pair],
                })),
                op(Response::ResponseTxn(nested)),
                pb::ResponseOp { response: None },
            ],
        };
        let bytes = reply.response(&header.encode(10));
        assert_eq!(bytes, expected.encode_to_vec());
        assert_eq!(reply.len(header.encode(10).len()), bytes.len());
    }
}
