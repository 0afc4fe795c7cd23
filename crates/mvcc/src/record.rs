//! The stored form of one revision: an encoded `mvccpb.KeyValue`.
//!
//! These bytes enter the hashes that members compare, so they are written exactly as Go writes
//! them: fields ascending, defaults left out. They are read without a copy: a [`Record`] borrows.

use bytes::{BufMut, BytesMut};

/// A key-value pair at one revision, borrowing from its encoded form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key. A stored tombstone has nothing else.
    pub key: &'a [u8],
    /// The main revision of the put that made the key.
    pub create: i64,
    /// The main revision of this put.
    pub modified: i64,
    /// The number of puts since the key was made.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease the key is attached to; 0 for none.
    pub lease: i64,
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

impl<'a> Record<'a> {
    /// Reads an encoded pair; `None` if it is not one. Unknown fields are skipped, and of a
    /// repeated field the last counts, as protobuf has it.
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let mut record = Record::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            match ((tag >> 3) as u32, (tag & 7) as u8) {
                (0, _) => return None,
                (1, BYTES) => record.key = take_bytes(&mut rest)?,
                (2, VARINT) => record.create = take_varint(&mut rest)? as i64,
                (3, VARINT) => record.modified = take_varint(&mut rest)? as i64,
                (4, VARINT) => record.version = take_varint(&mut rest)? as i64,
                (5, BYTES) => record.value = take_bytes(&mut rest)?,
                (6, VARINT) => record.lease = take_varint(&mut rest)? as i64,
                (_, VARINT) => drop(take_varint(&mut rest)?),
                (_, FIXED64) => drop(take(&mut rest, 8)?),
                (_, BYTES) => drop(take_bytes(&mut rest)?),
                (_, FIXED32) => drop(take(&mut rest, 4)?),
                _ => return None,
            }
        }
        Some(record)
    }

    /// Bytes of the encoded form.
    pub fn encoded_len(&self) -> usize {
        bytes_len(self.key)
            + varint_field_len(self.create)
            + varint_field_len(self.modified)
            + varint_field_len(self.version)
            + bytes_len(self.value)
            + varint_field_len(self.lease)
    }

    /// Appends the encoded form.
    pub fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, 1, self.key);
        put_varint_field(out, 2, self.create);
        put_varint_field(out, 3, self.modified);
        put_varint_field(out, 4, self.version);
        put_bytes(out, 5, self.value);
        put_varint_field(out, 6, self.lease);
    }

    /// The encoded form by itself.
    pub fn to_bytes(&self) -> bytes::Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out.freeze()
    }
}

/// An encoded pair without its value, as `keys_only` answers it; `None` if it is not a pair.
pub fn strip_value(bytes: &[u8]) -> Option<bytes::Bytes> {
    let record = Record::decode(bytes)?;
    Some(Record { value: &[], ..record }.to_bytes())
}

/// Bytes of a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_field_len(value: i64) -> usize {
    if value == 0 {
        0
    } else {
        1 + varint_len(value as u64)
    }
}

fn bytes_len(value: &[u8]) -> usize {
    if value.is_empty() {
        0
    } else {
        1 + varint_len(value.len() as u64) + value.len()
    }
}

/// Appends a bytes field (number below 16); an empty one is left out.
pub(crate) fn put_bytes(out: &mut BytesMut, field: u8, value: &[u8]) {
    if !value.is_empty() {
        out.put_u8(field << 3 | BYTES);
        put_varint(out, value.len() as u64);
        out.put_slice(value);
    }
}

/// Appends a varint field (number below 16); a zero is left out.
pub(crate) fn put_varint_field(out: &mut BytesMut, field: u8, value: i64) {
    if value != 0 {
        out.put_u8(field << 3 | VARINT);
        put_varint(out, value as u64);
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(rest)?;
    take(rest, usize::try_from(len).ok()?)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (place, &byte) in rest.iter().take(10).enumerate() {
        // The tenth byte holds the 64th bit alone.
        if place == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            *rest = &rest[place + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::mvccpb::KeyValue;
    use prost::Message;

    fn owned(record: &Record<'_>) -> KeyValue {
        KeyValue {
            key: record.key.to_vec().into(),
            create_revision: record.create,
            mod_revision: record.modified,
            version: record.version,
            value: record.value.to_vec().into(),
            lease: record.lease,
        }
    }

    #[test]
    fn the_first_put_is_as_etcd_writes_it() {
        let record = Record {
            key: b"foo",
            create: 2,
            modified: 2,
            version: 1,
            value: b"bar",
            lease: 0,
        };
        assert_eq!(
            record.to_bytes().as_ref(),
            b"\x0a\x03foo\x10\x02\x18\x02\x20\x01\x2a\x03bar"
        );
        let deleted = Record {
            key: b"foo",
            ..Record::default()
        };
        assert_eq!(deleted.to_bytes().as_ref(), b"\x0a\x03foo");
    }

    #[test]
    fn agrees_with_protobuf() {
        let numbers = [0, 1, 127, 128, 1 << 20, i64::MAX, -1];
        for (turn, &number) in numbers.iter().enumerate() {
            let value = vec![7; [0, 1, 127, 128, 70_000][turn % 5]];
            let record = Record {
                key: b"some key",
                create: number,
                modified: numbers[(turn + 1) % 7],
                version: numbers[(turn + 2) % 7],
                value: &value,
                lease: numbers[(turn + 3) % 7],
            };
            let bytes = record.to_bytes();
            assert_eq!(bytes.len(), record.encoded_len());
            assert_eq!(bytes, owned(&record).encode_to_vec());
            assert_eq!(Record::decode(&bytes), Some(record));
            let stripped = KeyValue {
                value: Default::default(),
                ..owned(&record)
            };
            assert_eq!(strip_value(&bytes).unwrap(), stripped.encode_to_vec());
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_broken_ones_refused() {
        let good = b"\x10\x05\x0a\x01k\x3d1234\x39abcdefgh\x42\x02zz\x48\x80\x01\x10\x06";
        let record = Record::decode(good).unwrap();
        assert_eq!((record.key, record.create), (&b"k"[..], 6));
        for cut in 1..good.len() {
            if let Some(record) = Record::decode(&good[..cut]) {
                assert!(KeyValue::decode(&good[..cut]).is_ok(), "cut at {cut}: {record:?}");
            } else {
                assert!(KeyValue::decode(&good[..cut]).is_err(), "cut at {cut}");
            }
        }
        for bad in [
            &b"\x00"[..],
            b"\x0a\x7f",
            b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x0b",
            b"\x0a",
        ] {
            assert_eq!(Record::decode(bad), None);
        }
    }
}
