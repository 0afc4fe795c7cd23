//! Answers and log entries written by hand, where bytes that are stored already are embedded as
//! they are: one copy, from the page or the shared event to the message.

use bytes::Bytes;
use mvcc::RangeResult;
use prost::Message;

use super::Frame;

const LEN: u32 = 2;
const VARINT: u32 = 0;

/// Parts of a frame shorter than this are joined: an allocation and a copy are cheaper than one
/// more element on the way to the socket.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// A response header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    pub(super) revision: i64,
    pub(super) raft_term: u64,
}

impl Header {
    pub(super) fn with_revision(self, revision: i64) -> Header {
        Header { revision, ..self }
    }

    pub(super) fn to_message(self) -> api::etcdserverpb::ResponseHeader {
        api::etcdserverpb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: self.revision,
            raft_term: self.raft_term,
        }
    }

    fn len(self) -> usize {
        varint_field_len(1, self.cluster_id)
            + varint_field_len(2, self.member_id)
            + varint_field_len(3, self.revision as u64)
            + varint_field_len(4, self.raft_term)
    }

    /// The header as field 1 of the message around it.
    fn put_field(self, out: &mut Vec<u8>) {
        put_tag(out, 1, LEN);
        put_varint(out, self.len() as u64);
        put_varint_field(out, 1, self.cluster_id);
        put_varint_field(out, 2, self.member_id);
        put_varint_field(out, 3, self.revision as u64);
        put_varint_field(out, 4, self.raft_term);
    }

    fn field_len(self) -> usize {
        len_field_len(1, self.len())
    }
}

pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_tag(out: &mut Vec<u8>, field: u32, kind: u32) {
    put_varint(out, u64::from(field << 3 | kind));
}

fn tag_len(field: u32) -> usize {
    varint_len(u64::from(field << 3))
}

/// A varint field; a zero is left out.
fn put_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, VARINT);
        put_varint(out, value);
    }
}

fn varint_field_len(field: u32, value: u64) -> usize {
    match value {
        0 => 0,
        _ => tag_len(field) + varint_len(value),
    }
}

/// A field of bytes, also when there are none.
fn put_len_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, LEN);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn len_field_len(field: u32, len: usize) -> usize {
    tag_len(field) + varint_len(len as u64) + len
}

/// An `InternalRaftRequest` with one request field and the header that carries the ID. The request is encoded anew, never
/// the bytes that a client sent: what protobuf's libraries disagree about (a oneof given twice is merged by some and
/// replaced by others, depending on the version a member runs) must not reach the log, where each member reads it alone.
/// Fields ascend, as Go writes them: the header is number 100.
pub(super) fn internal_request(field: u32, request: &impl Message, id: u64) -> Bytes {
    const HEADER: u32 = 100;
    let header_len = varint_field_len(1, id);
    let len = len_field_len(field, request.encoded_len()) + len_field_len(HEADER, header_len);
    let mut out = Vec::with_capacity(len);
    let put_header = |out: &mut Vec<u8>| {
        put_tag(out, HEADER, LEN);
        put_varint(out, header_len as u64);
        put_varint_field(out, 1, id);
    };
    let put_request = |out: &mut Vec<u8>| prost::encoding::message::encode(field, request, out);
    if field > HEADER {
        put_header(&mut out);
        put_request(&mut out);
    } else {
        put_request(&mut out);
        put_header(&mut out);
    }
    out.into()
}

/// What a `RangeResponse` says beside its pairs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RangeTail {
    pub(super) header: Option<Header>,
    pub(super) more: bool,
    pub(super) count: i64,
}

impl RangeTail {
    pub(super) fn of(header: Header, result: &RangeResult) -> RangeTail {
        RangeTail {
            header: Some(header.with_revision(result.revision)),
            more: result.more,
            count: result.count,
        }
    }
}

/// Bytes of a `RangeResponse`.
pub(super) fn range_response_len(kvs: &[Bytes], tail: &RangeTail) -> usize {
    tail.header.map_or(0, Header::field_len)
        + kvs.iter().map(|kv| len_field_len(2, kv.len())).sum::<usize>()
        + varint_field_len(3, u64::from(tail.more))
        + varint_field_len(4, tail.count as u64)
}

fn put_range_response(out: &mut Vec<u8>, kvs: &[Bytes], tail: &RangeTail) {
    if let Some(header) = tail.header {
        header.put_field(out);
    }
    for kv in kvs {
        put_len_field(out, 2, kv);
    }
    put_varint_field(out, 3, u64::from(tail.more));
    put_varint_field(out, 4, tail.count as u64);
}

/// A `RangeResponse`.
pub(super) fn range_response(kvs: &[Bytes], tail: &RangeTail) -> Bytes {
    let mut out = Vec::with_capacity(range_response_len(kvs, tail));
    put_range_response(&mut out, kvs, tail);
    out.into()
}

/// A `RangeStreamResponse` around a `RangeResponse`.
pub(super) fn range_stream_response(kvs: &[Bytes], tail: &RangeTail) -> Bytes {
    let len = range_response_len(kvs, tail);
    let mut out = Vec::with_capacity(len_field_len(1, len));
    put_tag(&mut out, 1, LEN);
    put_varint(&mut out, len as u64);
    put_range_response(&mut out, kvs, tail);
    out.into()
}

/// A `TxnResponse` of ranges. Their own headers show the revision alone, as etcd's do.
pub(super) fn read_txn_response(header: Header, succeeded: bool, results: &[RangeResult]) -> Bytes {
    const RESPONSES: u32 = 3;
    const RESPONSE_RANGE: u32 = 1;
    let parts: Vec<(RangeTail, usize)> = results
        .iter()
        .map(|result| {
            let tail = RangeTail::of(Header::default(), result);
            let len = range_response_len(&result.kvs, &tail);
            (tail, len)
        })
        .collect();
    let op_len = |len: usize| len_field_len(RESPONSE_RANGE, len);
    let total = header.field_len()
        + varint_field_len(2, u64::from(succeeded))
        + parts
            .iter()
            .map(|(_, len)| len_field_len(RESPONSES, op_len(*len)))
            .sum::<usize>();
    let mut out = Vec::with_capacity(total);
    header.put_field(&mut out);
    put_varint_field(&mut out, 2, u64::from(succeeded));
    for (result, (tail, len)) in results.iter().zip(&parts) {
        put_tag(&mut out, RESPONSES, LEN);
        put_varint(&mut out, op_len(*len) as u64);
        put_tag(&mut out, RESPONSE_RANGE, LEN);
        put_varint(&mut out, *len as u64);
        put_range_response(&mut out, &result.kvs, tail);
    }
    out.into()
}

/// What a `WatchResponse` says beside its events.
#[derive(Clone, Debug, Default)]
pub(super) struct WatchHead {
    pub(super) header: Header,
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: &'static str,
    pub(super) fragment: bool,
}

const EVENTS: u32 = 11;

impl WatchHead {
    /// Bytes of the response without events.
    pub(super) fn len(&self) -> usize {
        self.header.field_len()
            + varint_field_len(2, self.watch_id as u64)
            + varint_field_len(3, u64::from(self.created))
            + varint_field_len(4, u64::from(self.canceled))
            + varint_field_len(5, self.compact_revision as u64)
            + match self.cancel_reason.len() {
                0 => 0,
                len => len_field_len(6, len),
            }
            + varint_field_len(7, u64::from(self.fragment))
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.header.put_field(out);
        put_varint_field(out, 2, self.watch_id as u64);
        put_varint_field(out, 3, u64::from(self.created));
        put_varint_field(out, 4, u64::from(self.canceled));
        put_varint_field(out, 5, self.compact_revision as u64);
        if !self.cancel_reason.is_empty() {
            put_len_field(out, 6, self.cancel_reason.as_bytes());
        }
        put_varint_field(out, 7, u64::from(self.fragment));
    }
}

/// Bytes that an event takes in a response.
pub(super) fn event_field_len(event: &Bytes) -> usize {
    len_field_len(EVENTS, event.len())
}

/// A `WatchResponse`. Long events are parts of their own, shared by all who see them.
pub(super) fn watch_response(head: &WatchHead, events: &[Bytes]) -> Frame {
    let mut parts = Vec::new();
    let total = head.len() + events.iter().map(event_field_len).sum::<usize>();
    let mut joined = Vec::with_capacity(total.min(JOIN_BYTES_MAX + 64));
    head.put(&mut joined);
    for event in events {
        put_tag(&mut joined, EVENTS, LEN);
        put_varint(&mut joined, event.len() as u64);
        if event.len() < JOIN_BYTES_MAX {
            joined.extend_from_slice(event);
        } else {
            parts.push(std::mem::take(&mut joined).into());
            parts.push(event.clone());
        }
    }
    if !joined.is_empty() {
        parts.push(joined.into());
    }
    Frame { parts }
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb as pb;
    use prost::Message;

    use super::*;

    fn headers() -> Vec<Header> {
        vec![
            Header::default(),
            Header {
                cluster_id: u64::MAX,
                member_id: 1,
                revision: 127,
                raft_term: 128,
            },
            Header {
                cluster_id: 5,
                member_id: 1 << 35,
                revision: i64::MAX,
                raft_term: 0,
            },
        ]
    }

    fn pairs(rng: &mut fastrand::Rng) -> Vec<api::mvccpb::KeyValue> {
        (0..rng.usize(0..20))
            .map(|i| api::mvccpb::KeyValue {
                key: format!("key-{i}").into(),
                value: vec![i as u8; rng.usize(0..300)].into(),
                create_revision: rng.i64(1..1000),
                mod_revision: rng.i64(1..1 << 40),
                version: rng.i64(1..10),
                lease: rng.i64(-1..5),
            })
            .collect()
    }

    #[test]
    fn range_answers_are_what_protobuf_makes_of_them() {
        let mut rng = fastrand::Rng::with_seed(1);
        for header in headers() {
            for more in [false, true] {
                for count in [0, 1, 300, -1] {
                    let kvs = pairs(&mut rng);
                    let encoded: Vec<Bytes> = kvs.iter().map(|kv| kv.encode_to_vec().into()).collect();
                    let with_header = rng.bool();
                    let tail = RangeTail {
                        header: with_header.then_some(header),
                        more,
                        count,
                    };
                    let expected = pb::RangeResponse {
                        header: with_header.then_some(header.to_message()),
                        kvs,
                        more,
                        count,
                    };
                    let got = range_response(&encoded, &tail);
                    assert_eq!(got, expected.encode_to_vec());
                    assert_eq!(got.len(), range_response_len(&encoded, &tail));
                    let stream = pb::RangeStreamResponse {
                        range_response: Some(expected),
                    };
                    assert_eq!(range_stream_response(&encoded, &tail), stream.encode_to_vec());
                }
            }
        }
    }

    #[test]
    fn watch_answers_are_what_protobuf_makes_of_them() {
        let mut rng = fastrand::Rng::with_seed(2);
        for header in headers() {
            for (created, canceled, fragment) in
                [(true, false, false), (true, true, false), (false, false, true)]
            {
                let events: Vec<api::mvccpb::Event> = pairs(&mut rng)
                    .into_iter()
                    .map(|mut kv| {
                        if rng.u8(0..5) == 0 {
                            kv.value = vec![1; JOIN_BYTES_MAX + rng.usize(0..10)].into();
                        }
                        api::mvccpb::Event {
                            r#type: rng.i32(0..2),
                            prev_kv: rng.bool().then(|| kv.clone()),
                            kv: Some(kv),
                        }
                    })
                    .collect();
                let encoded: Vec<Bytes> = events.iter().map(|event| event.encode_to_vec().into()).collect();
                let head = WatchHead {
                    header,
                    watch_id: rng.i64(-1..5),
                    created,
                    canceled,
                    compact_revision: rng.i64(0..3),
                    cancel_reason: if canceled { "no reason" } else { "" },
                    fragment,
                };
                let expected = pb::WatchResponse {
                    header: Some(header.to_message()),
                    watch_id: head.watch_id,
                    created,
                    canceled,
                    compact_revision: head.compact_revision,
                    cancel_reason: head.cancel_reason.to_owned(),
                    fragment,
                    events,
                };
                let frame = watch_response(&head, &encoded);
                assert_eq!(frame.parts.concat(), expected.encode_to_vec());
                assert_eq!(
                    frame.len(),
                    head.len() + encoded.iter().map(event_field_len).sum::<usize>()
                );
            }
        }
    }

    #[test]
    fn log_entries_are_what_protobuf_makes_of_them() {
        let put = pb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 7,
            ..Default::default()
        };
        let expected = pb::InternalRaftRequest {
            header: Some(pb::RequestHeader {
                id: 1 << 60,
                ..Default::default()
            }),
            put: Some(put.clone()),
            ..Default::default()
        };
        let mut go_order = Vec::new();
        prost::encoding::message::encode(4, &put, &mut go_order);
        let header = expected.header.clone().unwrap();
        prost::encoding::message::encode(100, &header, &mut go_order);
        let got = internal_request(4, &put, 1 << 60);
        assert_eq!(got, go_order);
        assert_eq!(pb::InternalRaftRequest::decode(got).unwrap(), expected);

        let status = internal_request(1013, &pb::AuthStatusRequest {}, 3);
        let decoded = pb::InternalRaftRequest::decode(status.clone()).unwrap();
        assert_eq!(decoded.header.unwrap().id, 3);
        assert!(decoded.auth_status.is_some());
        assert_eq!(
            status[..2],
            [0xa2, 0x06],
            "the header comes before a higher number"
        );
    }
}
