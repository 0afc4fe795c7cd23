//! Protobuf by hand, where decoding a whole message would be waste: the top level of an entry is
//! looked at, and replies are written around stored bytes. Knows no meaning of fields.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint};

/// A field's payload: the number, or the bytes after the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Varint(u64),
    Bytes(Bytes),
    Fixed,
}

/// The fields of a message at its top level, in the order of the bytes. An error ends it.
pub(crate) struct Fields(Bytes);

impl Fields {
    pub(crate) fn of(message: Bytes) -> Fields {
        Fields(message)
    }

    fn read(&mut self) -> Result<(u32, Payload), String> {
        let (number, wire) = decode_key(&mut self.0).map_err(|error| error.to_string())?;
        let payload = match wire {
            WireType::Varint => {
                Payload::Varint(decode_varint(&mut self.0).map_err(|error| error.to_string())?)
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.0).map_err(|error| error.to_string())?;
                if length > self.0.remaining() as u64 {
                    return Err(format!("field {number} is cut short"));
                }
                Payload::Bytes(self.0.split_to(length as usize))
            }
            WireType::ThirtyTwoBit | WireType::SixtyFourBit => {
                let length = if wire == WireType::ThirtyTwoBit { 4 } else { 8 };
                if length > self.0.remaining() {
                    return Err(format!("field {number} is cut short"));
                }
                self.0.advance(length);
                Payload::Fixed
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(format!("field {number} is a group"));
            }
        };
        Ok((number, payload))
    }
}

impl Iterator for Fields {
    type Item = Result<(u32, Payload), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0.clear();
        }
        Some(field)
    }
}

/// Appends field `number` with a varint, unless it is 0: proto3 leaves out default values.
pub(crate) fn put_u64(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        encode_key(number, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// Appends field `number` with a signed number, unless it is 0.
pub(crate) fn put_i64(out: &mut Vec<u8>, number: u32, value: i64) {
    put_u64(out, number, value as u64);
}

/// Appends field `number` with a truth value, unless it is false.
pub(crate) fn put_bool(out: &mut Vec<u8>, number: u32, value: bool) {
    put_u64(out, number, u64::from(value));
}

/// Appends field `number` with an encoded message, also if it is empty.
pub(crate) fn put_message(out: &mut Vec<u8>, number: u32, message: &[u8]) {
    put_prefix(out, number, message.len());
    out.put_slice(message);
}

/// Appends what comes before a message of this length in field `number`.
pub(crate) fn put_prefix(out: &mut Vec<u8>, number: u32, length: usize) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// The length that [`put_message`] appends.
pub(crate) fn message_len(number: u32, length: usize) -> usize {
    encoded_len_varint(u64::from(number) << 3) + encoded_len_varint(length as u64) + length
}

/// The length of a number as a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    encoded_len_varint(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Vec<Result<(u32, Payload), String>> {
        Fields::of(Bytes::copy_from_slice(bytes)).collect()
    }

    #[test]
    fn the_top_level_is_walked() {
        let mut message = Vec::new();
        put_u64(&mut message, 1, 300);
        put_message(&mut message, 100, b"ab");
        put_u64(&mut message, 5, 0);
        message.extend_from_slice(&[0x35, 1, 2, 3, 4]);
        assert_eq!(
            fields(&message),
            [
                Ok((1, Payload::Varint(300))),
                Ok((100, Payload::Bytes(Bytes::from_static(b"ab")))),
                Ok((6, Payload::Fixed)),
            ]
        );
        assert_eq!(message_len(100, 2), 5);
    }

    #[test]
    fn damage_ends_the_walk() {
        for bytes in [&[0x0a, 5, 1][..], &[0x0b], &[0xff], &[0x00, 0x01], &[0x35, 1]] {
            let seen = fields(bytes);
            assert_eq!(seen.len(), 1, "{bytes:?}");
            assert!(seen[0].is_err(), "{bytes:?}");
        }
    }
}
