//! The bytes of records: decoded without copying payloads, encoded into one growing buffer. Never
//! does I/O.
//!
//! All scalar fields of Record, Entry, HardState and Snapshot are written even if they are zero, as
//! etcd 3.5 and 3.6 do; a reader takes a missing one for zero, as 3.7 writes them.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use crate::{ConfState, Entry, EntryKind, HardState, Mark};

pub(crate) const METADATA: i64 = 1;
pub(crate) const ENTRY: i64 = 2;
pub(crate) const STATE: i64 = 3;
pub(crate) const CRC: i64 = 4;
pub(crate) const MARK: i64 = 5;

/// Bytes of the length field before each record.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// How deep unknown groups may nest.
const GROUP_DEPTH_MAX: u32 = 64;

/// These bytes are not a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A record's envelope.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) kind: i64,
    pub(crate) crc: u32,
    pub(crate) data: Range<usize>,
}

/// What a length field says: bytes of the record, bytes of padding.
pub(crate) fn frame_size(field: u64) -> (u64, u64) {
    let padding = if field >> 63 == 1 { field >> 56 & 7 } else { 0 };
    (field & (u64::MAX >> 8), padding)
}

pub(crate) fn decode_record(bytes: &[u8]) -> Result<RawRecord, Malformed> {
    let mut record = RawRecord::default();
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(kind)) => record.kind = kind as i64,
            (2, Value::Varint(crc)) => record.crc = crc as u32,
            (3, Value::Bytes(range)) => record.data = range,
            (1..=3, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok(record)
}

pub(crate) fn decode_entry(bytes: &Bytes) -> Result<Entry, Malformed> {
    let (mut kind, mut term, mut index, mut data) = (0, 0, 0, 0..0);
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(value)) => kind = value,
            (2, Value::Varint(value)) => term = value,
            (3, Value::Varint(value)) => index = value,
            (4, Value::Bytes(range)) => data = range,
            (1..=4, _) => return Err(Malformed),
            _ => {}
        }
    }
    let kind = match kind {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChange,
        2 => EntryKind::ConfChangeV2,
        _ => return Err(Malformed),
    };
    Ok(Entry {
        kind,
        term,
        index,
        data: bytes.slice(data),
    })
}

pub(crate) fn decode_state(bytes: &[u8]) -> Result<HardState, Malformed> {
    let mut state = HardState::default();
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(value)) => state.term = value,
            (2, Value::Varint(value)) => state.vote = value,
            (3, Value::Varint(value)) => state.commit = value,
            (1..=3, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok(state)
}

pub(crate) fn decode_mark(bytes: &[u8]) -> Result<Mark, Malformed> {
    let decoded = api::walpb::Snapshot::decode(bytes).map_err(|_| Malformed)?;
    Ok(Mark {
        index: decoded.index(),
        term: decoded.term(),
        conf_state: decoded.conf_state,
    })
}

enum Value {
    Varint(u64),
    Bytes(Range<usize>),
    Fixed,
    Group,
}

/// Walks the fields of one message.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0 }
    }

    fn next(&mut self) -> Result<Option<(u64, Value)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, wire_type) = (key >> 3, key & 7);
        if number == 0 || number > 0x1fff_ffff {
            return Err(Malformed);
        }
        Ok(Some((number, self.value(number, wire_type, 0)?)))
    }

    fn value(&mut self, number: u64, wire_type: u64, depth: u32) -> Result<Value, Malformed> {
        match wire_type {
            0 => Ok(Value::Varint(self.varint()?)),
            1 => self.skip(8).map(|_| Value::Fixed),
            2 => {
                let len = self.varint()?;
                Ok(Value::Bytes(self.skip(len)?))
            }
            3 => self.skip_group(number, depth).map(|()| Value::Group),
            5 => self.skip(4).map(|_| Value::Fixed),
            _ => Err(Malformed),
        }
    }

    fn skip_group(&mut self, number: u64, depth: u32) -> Result<(), Malformed> {
        if depth == GROUP_DEPTH_MAX {
            return Err(Malformed);
        }
        loop {
            let key = self.varint()?;
            match (key >> 3, key & 7) {
                (end, 4) if end == number => return Ok(()),
                (0, _) | (_, 4) => return Err(Malformed),
                (inner, wire_type) => self.value(inner, wire_type, depth + 1)?,
            };
        }
    }

    fn skip(&mut self, len: u64) -> Result<Range<usize>, Malformed> {
        let left = self.bytes.len() - self.at;
        if len > left as u64 {
            return Err(Malformed);
        }
        let start = self.at;
        self.at += len as usize;
        Ok(start..self.at)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

/// Encodes records one after the other and carries the running checksum along.
pub(crate) struct Encoder<'a> {
    pub(crate) buf: &'a mut Vec<u8>,
    pub(crate) crc: u32,
}

impl Encoder<'_> {
    pub(crate) fn crc_record(&mut self) {
        self.frame(CRC, false, &[], &[]);
    }

    pub(crate) fn metadata(&mut self, metadata: &[u8]) {
        self.record(METADATA, &[], metadata);
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        let mut head = Small::new();
        head.field(1, entry.kind as u64);
        head.field(2, entry.term);
        head.field(3, entry.index);
        if !entry.data.is_empty() {
            head.byte(4 << 3 | 2);
            head.varint(entry.data.len() as u64);
        }
        self.record(ENTRY, head.bytes(), &entry.data);
    }

    pub(crate) fn state(&mut self, state: &HardState) {
        let mut head = Small::new();
        head.field(1, state.term);
        head.field(2, state.vote);
        head.field(3, state.commit);
        self.record(STATE, head.bytes(), &[]);
    }

    pub(crate) fn mark(&mut self, mark: &Mark) {
        let mut head = Small::new();
        head.field(1, mark.index);
        head.field(2, mark.term);
        let conf_state = mark.conf_state.as_ref().map(encode_conf_state);
        if let Some(encoded) = &conf_state {
            head.byte(3 << 3 | 2);
            head.varint(encoded.len() as u64);
        }
        self.record(MARK, head.bytes(), &conf_state.unwrap_or_default());
    }

    /// A record whose data is `head` and then `tail`.
    fn record(&mut self, kind: i64, head: &[u8], tail: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, head);
        self.crc = crc32c::crc32c_append(self.crc, tail);
        self.frame(kind, true, head, tail);
    }

    fn frame(&mut self, kind: i64, has_data: bool, head: &[u8], tail: &[u8]) {
        let mut envelope = Small::new();
        envelope.field(1, kind as u64);
        envelope.field(2, u64::from(self.crc));
        if has_data {
            envelope.byte(3 << 3 | 2);
            envelope.varint((head.len() + tail.len()) as u64);
        }
        let len = envelope.bytes().len() + head.len() + tail.len();
        let padding = (8 - len % 8) % 8;
        let mark = if padding == 0 { 0 } else { 0x80 | padding as u64 };
        self.buf.reserve(8 + len + padding);
        self.buf
            .extend_from_slice(&(len as u64 | mark << 56).to_le_bytes());
        self.buf.extend_from_slice(envelope.bytes());
        self.buf.extend_from_slice(head);
        self.buf.extend_from_slice(tail);
        self.buf.resize(self.buf.len() + padding, 0);
    }
}

/// A configuration as etcd writes it: `auto_leave` always there.
pub(crate) fn encode_conf_state(conf_state: &ConfState) -> Vec<u8> {
    if conf_state.auto_leave.is_some() {
        return conf_state.encode_to_vec();
    }
    let complete = ConfState {
        auto_leave: Some(false),
        ..conf_state.clone()
    };
    complete.encode_to_vec()
}

/// The few bytes before a payload, on the stack.
struct Small {
    bytes: [u8; 48],
    len: usize,
}

impl Small {
    fn new() -> Small {
        Small {
            bytes: [0; 48],
            len: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn field(&mut self, number: u8, value: u64) {
        self.byte(number << 3);
        self.varint(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_sizes_follow_the_top_byte() {
        for (field, want) in [
            (0, (0, 0)),
            (4 | 0x84 << 56, (4, 4)),
            (0x20, (0x20, 0)),
            (5 | 0x07 << 56, (5, 0)),
            (u64::MAX, (u64::MAX >> 8, 7)),
        ] {
            assert_eq!(frame_size(field), want);
        }
    }

    #[test]
    fn messages_decode_in_any_shape_that_protobuf_allows() {
        // Out of order, a repeated field (the last counts), unknown fields of every wire type.
        let state = [
            0x18, 7, 0x10, 1, 0x10, 2, 0x25, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 0x33, 0x08, 1, 0x34,
            0x3a, 2, 1, 2,
        ];
        let want = HardState {
            term: 0,
            vote: 2,
            commit: 7,
        };
        assert_eq!(decode_state(&state), Ok(want));
        for broken in [
            &[0x18][..],
            &[0x18, 0x80],
            &[0x1a, 1],
            &[0x1a, 0],
            &[0x00, 0],
            &[0x34],
            &[0x33, 0x3c],
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert_eq!(decode_state(broken), Err(Malformed), "{broken:x?}");
        }
        let deep: Vec<u8> = [0x33].repeat(100_000);
        assert_eq!(decode_state(&deep), Err(Malformed));
        let unknown_kind = Bytes::from_static(&[0x08, 3]);
        assert_eq!(decode_entry(&unknown_kind), Err(Malformed));
    }
}
