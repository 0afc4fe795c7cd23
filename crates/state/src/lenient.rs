//! Reads entries that prost refuses and Go etcd does not. Some of a request's bytes come to the log as a client sent
//! them: a known field of another wire type is one more unknown field there, which every member skips (3.7), the key or
//! the number of an unknown field may be longer than it has to be (up to 3.6), and txns nest as deep as the flags of the
//! member that was asked let them. Slow, and only for what the usual way refuses. Never decides what an entry means.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

use crate::request::InternalRequest;
use crate::wire::put_message;

/// How deep txns may nest. Twice what Go's protobuf reads, since 3.7, and more than what is done with them later could
/// bear on a usual thread: see [`APPLY_STACK_BYTES`].
const TXN_DEPTH_MAX: usize = 10_000;

/// The stack in bytes of a thread that applies entries: validating, applying, answering and dropping a txn recurse.
pub const APPLY_STACK_BYTES: usize = 64 << 20;

/// The txn's field number in an InternalRaftRequest.
const TXN_FIELD: u32 = 6;

/// Decodes an InternalRaftRequest.
pub(crate) fn decode(data: &[u8]) -> Result<InternalRequest, String> {
    let mut txn: Option<Vec<u8>> = None;
    for field in Walk(data) {
        if let (TXN_FIELD, Payload::Bytes(bytes)) = field? {
            // Pieces of one message are as good as the whole.
            txn.get_or_insert_default().extend_from_slice(bytes);
        }
    }
    let mut request = merge("InternalRaftRequest", InternalRequest::default(), data)?;
    request.txn = txn.map(|bytes| decode_txn(&bytes)).transpose()?;
    Ok(request)
}

/// Decodes a txn, with those nested in it on a stack that is not the thread's.
fn decode_txn(data: &[u8]) -> Result<TxnRequest, String> {
    let mut outer: Vec<Level<'_>> = Vec::new();
    let mut level = Level::new(data, TxnRequest::default());
    loop {
        match level.step()? {
            Step::Stay => {}
            Step::Into(_) if outer.len() >= TXN_DEPTH_MAX => return Err("txns nest too deep".to_string()),
            Step::Into(inner) => outer.push(std::mem::replace(&mut level, *inner)),
            Step::Done => {
                let Some(back) = outer.pop() else {
                    return Ok(level.txn);
                };
                let txn = std::mem::replace(&mut level, back).txn;
                let op = level.op.as_mut().expect("a txn is nested in an operation");
                op.request = Some(Request::RequestTxn(txn));
            }
        }
    }
}

/// A txn that is being read.
struct Level<'a> {
    rest: Walk<'a>,
    txn: TxnRequest,
    /// The operation of it that is being read.
    op: Option<Op<'a>>,
}

struct Op<'a> {
    rest: Walk<'a>,
    is_success: bool,
    request: Option<Request>,
}

enum Step<'a> {
    Stay,
    Into(Box<Level<'a>>),
    Done,
}

impl<'a> Level<'a> {
    fn new(data: &'a [u8], txn: TxnRequest) -> Level<'a> {
        let (rest, op) = (Walk(data), None);
        Level { rest, txn, op }
    }

    /// Reads one field of the operation, or of the txn.
    fn step(&mut self) -> Result<Step<'a>, String> {
        if let Some(op) = &mut self.op {
            if let Some(field) = op.rest.next() {
                return op.read(field?);
            }
            let branch = match op.is_success {
                true => &mut self.txn.success,
                false => &mut self.txn.failure,
            };
            let request = op.request.take();
            branch.push(RequestOp { request });
            self.op = None;
            return Ok(Step::Stay);
        }
        let Some(field) = self.rest.next() else {
            return Ok(Step::Done);
        };
        match field? {
            (1, Payload::Bytes(bytes)) => self
                .txn
                .compare
                .push(merge("Compare", Compare::default(), bytes)?),
            (number @ 2..=3, Payload::Bytes(bytes)) => {
                self.op = Some(Op {
                    rest: Walk(bytes),
                    is_success: number == 2,
                    request: None,
                });
            }
            _ => {}
        }
        Ok(Step::Stay)
    }
}

impl<'a> Op<'a> {
    /// Reads a field: a request in pieces is put together, and of several the last one counts.
    fn read(&mut self, field: (u32, Payload<'a>)) -> Result<Step<'a>, String> {
        let (number, Payload::Bytes(bytes)) = field else {
            return Ok(Step::Stay);
        };
        let before = match number {
            1..=4 => self.request.take(),
            _ => return Ok(Step::Stay),
        };
        self.request = Some(match (number, before) {
            (1, Some(Request::RequestRange(range))) => range_of(range, bytes)?,
            (1, _) => range_of(RangeRequest::default(), bytes)?,
            (2, Some(Request::RequestPut(put))) => put_of(put, bytes)?,
            (2, _) => put_of(PutRequest::default(), bytes)?,
            (3, Some(Request::RequestDeleteRange(delete))) => delete_of(delete, bytes)?,
            (3, _) => delete_of(DeleteRangeRequest::default(), bytes)?,
            (_, before) => {
                let txn = match before {
                    Some(Request::RequestTxn(txn)) => txn,
                    _ => TxnRequest::default(),
                };
                return Ok(Step::Into(Box::new(Level::new(bytes, txn))));
            }
        });
        Ok(Step::Stay)
    }
}

fn range_of(range: RangeRequest, bytes: &[u8]) -> Result<Request, String> {
    Ok(Request::RequestRange(merge("RangeRequest", range, bytes)?))
}

fn put_of(put: PutRequest, bytes: &[u8]) -> Result<Request, String> {
    Ok(Request::RequestPut(merge("PutRequest", put, bytes)?))
}

fn delete_of(delete: DeleteRangeRequest, bytes: &[u8]) -> Result<Request, String> {
    let delete = merge("DeleteRangeRequest", delete, bytes)?;
    Ok(Request::RequestDeleteRange(delete))
}

/// Adds to a message what prost can read of its bytes.
fn merge<M: Message>(name: &str, mut message: M, data: &[u8]) -> Result<M, String> {
    let mut clean = Vec::with_capacity(data.len());
    keep_known(&format!(".etcdserverpb.{name}"), data, &mut clean)?;
    message.merge(&clean[..]).map_err(|error| error.to_string())?;
    Ok(message)
}

/// Copies the fields that a message has, of the wire type that they have in it. Leaves out txns, which are read in
/// another way, and so recurses no deeper than messages of fixed depth nest.
fn keep_known(name: &str, data: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let fields = MESSAGES.get(name);
    let fields = fields.ok_or_else(|| format!("there is no message {name}"))?;
    for field in Walk(data) {
        let (number, payload) = field?;
        match (fields.get(&number), payload) {
            (Some(Kind::Varint), Payload::Varint(value)) => {
                encode_key(number, WireType::Varint, out);
                encode_varint(value, out);
            }
            (Some(Kind::Bytes), Payload::Bytes(bytes)) => put_message(out, number, bytes),
            (Some(Kind::Message(inner)), Payload::Bytes(bytes)) => {
                let mut kept = Vec::with_capacity(bytes.len());
                keep_known(inner, bytes, &mut kept)?;
                put_message(out, number, &kept);
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a known field holds. Nothing in the log has numbers of fixed length, or lists of numbers.
enum Kind {
    Varint,
    Bytes,
    Message(String),
}

/// Every message's fields by their numbers; names begin with a dot.
type Messages = BTreeMap<String, BTreeMap<u32, Kind>>;

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(api::DESCRIPTORS).expect("the build has made it");
    let mut messages = Messages::new();
    for file in &files.file {
        for message in &file.message_type {
            let name = format!(".{}.{}", file.package(), message.name());
            let kinds = message.field.iter().filter_map(|field| {
                Some((field.number() as u32, kind_of(field.r#type(), field.type_name())?))
            });
            messages.insert(name, kinds.collect());
        }
    }
    messages
});

fn kind_of(kind: Type, name: &str) -> Option<Kind> {
    match kind {
        Type::String | Type::Bytes => Some(Kind::Bytes),
        Type::Message if name == ".etcdserverpb.TxnRequest" => None,
        Type::Message => Some(Kind::Message(name.to_string())),
        Type::Bool | Type::Enum | Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => {
            Some(Kind::Varint)
        }
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message at its top level, unknown groups too. An error ends it.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(u32, Payload<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "a field is cut short or no field".to_string()))
    }
}

impl<'a> Walk<'a> {
    fn read(&mut self) -> Option<(u32, Payload<'a>)> {
        let (number, wire) = self.key()?;
        if wire != 3 {
            return Some((number, self.payload(wire)?));
        }
        let mut open = 1u32;
        while open > 0 {
            match self.key()?.1 {
                3 => open += 1,
                4 => open -= 1,
                wire => drop(self.payload(wire)?),
            }
        }
        Some((number, Payload::Other))
    }

    /// A field's number and wire type. A number that no field may have is 0, which no message has.
    fn key(&mut self) -> Option<(u32, u64)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).unwrap_or(0);
        (key >> 3 != 0).then_some((number, key & 7))
    }

    fn payload(&mut self, wire: u64) -> Option<Payload<'a>> {
        Some(match wire {
            0 => Payload::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Payload::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return None,
        })
    }

    fn skip(&mut self, length: usize) -> Option<Payload<'a>> {
        self.0 = self.0.get(length..)?;
        Some(Payload::Other)
    }

    /// Ten bytes at most; bits beyond the 64th are lost, as they are in etcd up to 3.6.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for at in 0..10u32 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::encoding::encode_varint as number;
    use prost_types::field_descriptor_proto::Label;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn what_has_wrong_wire_types_reads_as_in_go() {
        let golden = include_str!("../tests/golden/wire-3.7.txt");
        for line in golden.lines() {
            let (data, known) = line.split_once(' ').unwrap();
            let expected = InternalRequest::decode(&bytes(known)[..]).unwrap();
            assert_eq!(decode(&bytes(data)), Ok(expected), "{line}");
        }
        let refused =
            |line: &&str| InternalRequest::decode(&bytes(line.split(' ').next().unwrap())[..]).is_err();
        assert!(golden.lines().filter(refused).count() > 100);
    }

    #[test]
    fn what_prost_reads_is_read_alike() {
        let golden = include_str!("../tests/golden/wire-3.7.txt");
        let mut dice = fastrand::Rng::with_seed(5);
        let mut read = 0;
        for line in golden.lines() {
            for _ in 0..200 {
                let mut data = bytes(line.split(' ').next().unwrap());
                for _ in 0..dice.usize(1..4) {
                    let at = dice.usize(0..data.len());
                    data[at] = dice.u8(..);
                }
                if let Ok(usual) = InternalRequest::decode(&data[..]) {
                    read += 1;
                    assert_eq!(decode(&data), Ok(usual), "{data:02x?}");
                } else {
                    let _ = decode(&data);
                }
            }
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn up_to_3_6_unknown_numbers_may_be_longer_than_they_have_to_be() {
        // A key of more than 32 bits, and a varint whose last byte is lost.
        let mut put = vec![0x0a, 1, b'k'];
        number((1 << 35) | (2000 << 3), &mut put);
        put.push(7);
        put.extend_from_slice(&[
            0xb8, 0x3e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
        ]);
        let mut data = Vec::new();
        put_message(&mut data, 4, &put);
        assert!(InternalRequest::decode(&data[..]).is_err());
        let put = decode(&data).unwrap().put.unwrap();
        assert_eq!(put.key, "k");
    }

    #[test]
    fn damage_is_refused() {
        for data in [
            &[0x0a, 5, 1][..],
            &[0x0c],
            &[0x0b],
            &[0x0b, 0x0b, 0x0c],
            &[0x07],
            &[0x00, 0x01],
            &[0x0d, 1, 2, 3],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x32, 2, 0x12, 5],
            &[0x22, 1, 0x0a],
        ] {
            assert!(decode(data).is_err(), "{data:02x?}");
        }
    }

    #[test]
    fn nothing_in_the_log_is_of_a_kind_that_is_not_known_here() {
        let files = FileDescriptorSet::decode(api::DESCRIPTORS).unwrap();
        let all = files.file.iter().flat_map(|file| {
            let name = |message: &str| format!(".{}.{message}", file.package());
            file.message_type
                .iter()
                .map(move |message| (name(message.name()), message))
        });
        let all: BTreeMap<String, _> = all.collect();
        let mut open = vec![".etcdserverpb.InternalRaftRequest".to_string()];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for field in &all[&name].field {
                let (kind, inner) = (field.r#type(), field.type_name());
                assert!(
                    kind_of(kind, inner).is_some() || inner.ends_with("TxnRequest"),
                    "{name} {field:?}"
                );
                let is_scalar = !matches!(kind, Type::Message | Type::String | Type::Bytes);
                assert!(!is_scalar || field.label() != Label::Repeated, "{name} {field:?}");
                if kind == Type::Message {
                    open.push(inner.to_string());
                }
            }
        }
        assert!(seen.len() > 30, "{seen:?}");
    }
}
