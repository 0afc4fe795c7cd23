//! A JSON value as an encoded message, with the judgement and the words of Go's protojson, with which
//! etcd 3.6 and 3.7 read (encoding/protojson decode.go). Never recurses: bodies may nest deeply.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost_reflect::{FieldDescriptor, Kind as Type, MessageDescriptor};

use super::token::{Kind, Token, Tokens, number_length};

/// How deep messages may nest: protowire.DefaultRecursionLimit.
const DEPTH_MAX: usize = 10_000;

/// Reads `json`, which is one value, as a message.
pub fn read(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Bytes, String> {
    let mut reader = Reader {
        tokens: Tokens::new(json),
        frames: Vec::new(),
        depth: 0,
        out: Out::default(),
    };
    reader.open(descriptor.clone(), None)?;
    while let Some(frame) = reader.frames.last() {
        match frame {
            Frame::Message { .. } => reader.field()?,
            Frame::List(field) => {
                let field = field.clone();
                reader.item(field)?;
            }
        }
    }
    let end = reader.tokens.read()?;
    match end.kind {
        Kind::End => Ok(reader.out.finish()),
        _ => Err(reader.tokens.unexpected(&end)),
    }
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    frames: Vec<Frame>,
    /// Messages among the frames.
    depth: usize,
    out: Out,
}

/// What is being read.
enum Frame {
    Message {
        descriptor: MessageDescriptor,
        /// Numbers of fields that have been.
        seen: Vec<u32>,
        /// Names of oneofs that have been.
        oneofs: Vec<String>,
    },
    List(FieldDescriptor),
}

impl Reader<'_> {
    /// Begins a message: the whole one, or the value of a field.
    fn open(&mut self, descriptor: MessageDescriptor, field: Option<&FieldDescriptor>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("proto: exceeded max recursion depth".to_string());
        }
        let token = self.tokens.read()?;
        if token.kind != Kind::ObjectOpen {
            return Err(self.tokens.unexpected(&token));
        }
        self.out.open(field.map(FieldDescriptor::number));
        self.frames.push(Frame::Message {
            descriptor,
            seen: Vec::new(),
            oneofs: Vec::new(),
        });
        Ok(())
    }

    /// The next field of the message on top, or its end.
    fn field(&mut self) -> Result<(), String> {
        let name = self.tokens.read()?;
        match name.kind {
            Kind::Name => {}
            Kind::ObjectClose => {
                self.frames.pop();
                self.depth -= 1;
                self.out.close();
                return Ok(());
            }
            _ => return Err(self.tokens.unexpected(&name)),
        }
        let Some(Frame::Message { descriptor, seen, .. }) = self.frames.last_mut() else {
            return Ok(());
        };
        let found = descriptor.get_field_by_json_name(&name.text);
        let Some(field) = found.or_else(|| descriptor.get_field_by_name(&name.text)) else {
            return self.skip();
        };
        if seen.contains(&field.number()) {
            return Err(self.wrong(&name, &format!("duplicate field {}", name.written())));
        }
        seen.push(field.number());
        if self.tokens.peek() == Ok(Kind::Null) {
            self.tokens.read()?;
            return Ok(());
        }
        if field.is_list() {
            let token = self.tokens.read()?;
            if token.kind != Kind::ArrayOpen {
                return Err(self.tokens.unexpected(&token));
            }
            self.frames.push(Frame::List(field));
            return Ok(());
        }
        self.note_oneof(&name, &field)?;
        self.value(&field, field.containing_oneof().is_some())
    }

    /// Of the fields of a oneof there may be one.
    fn note_oneof(&mut self, name: &Token<'_>, field: &FieldDescriptor) -> Result<(), String> {
        let (Some(oneof), Some(Frame::Message { oneofs, .. })) =
            (field.containing_oneof(), self.frames.last_mut())
        else {
            return Ok(());
        };
        if oneofs.iter().any(|seen| seen == oneof.name()) {
            let text = format!(
                "error parsing {}, oneof {} is already set",
                name.written(),
                oneof.full_name()
            );
            return Err(self.wrong(name, &text));
        }
        oneofs.push(oneof.name().to_string());
        Ok(())
    }

    /// The next item of the list on top, or its end.
    fn item(&mut self, field: FieldDescriptor) -> Result<(), String> {
        if self.tokens.peek()? == Kind::ArrayClose {
            self.tokens.read()?;
            self.frames.pop();
            return Ok(());
        }
        self.value(&field, true)
    }

    /// A value; one that is the default is written if it is `explicit`.
    fn value(&mut self, field: &FieldDescriptor, explicit: bool) -> Result<(), String> {
        if let Type::Message(descriptor) = field.kind() {
            return self.open(descriptor, Some(field));
        }
        let token = self.tokens.read()?;
        let number = field.number();
        let value = match field.kind() {
            Type::Bool if token.kind == Kind::Bool => Value::Number(u64::from(token.raw == b"true")),
            Type::Int32 => integer(&token)
                .and_then(|n| i32::try_from(n).ok())
                .map_or(Value::Wrong, Value::signed),
            Type::Int64 => integer(&token)
                .and_then(|n| i64::try_from(n).ok())
                .map_or(Value::Wrong, Value::signed),
            Type::Uint32 => {
                let read = integer(&token).and_then(|n| u32::try_from(n).ok());
                read.map_or(Value::Wrong, |n| Value::Number(n.into()))
            }
            Type::Uint64 => {
                let read = integer(&token).and_then(|n| u64::try_from(n).ok());
                read.map_or(Value::Wrong, Value::Number)
            }
            Type::String if token.kind == Kind::Text => Value::Bytes(token.text.clone().into_bytes()),
            Type::Bytes if token.kind == Kind::Text => base64(&token.text).map_or(Value::Wrong, Value::Bytes),
            Type::Enum(names) => match token.kind {
                Kind::Text => match names.get_value_by_name(&token.text) {
                    Some(value) => Value::signed(value.number()),
                    None => return Ok(()),
                },
                Kind::Number => {
                    let read = integer(&token).and_then(|n| i32::try_from(n).ok());
                    read.map_or(Value::Wrong, Value::signed)
                }
                _ => Value::Wrong,
            },
            // No message of etcd's API has fields of other types.
            _ => Value::Wrong,
        };
        match value {
            Value::Wrong => {
                let (kind, name) = (type_name(&field.kind()), field.json_name());
                let text = format!("invalid value for {kind} field {name}: {}", token.written());
                return Err(self.wrong(&token, &text));
            }
            Value::Number(0) if !explicit => {}
            Value::Number(value) => self.out.number(number, value),
            Value::Bytes(bytes) if bytes.is_empty() && !explicit => {}
            Value::Bytes(bytes) => self.out.bytes(number, &bytes),
        }
        Ok(())
    }

    /// Passes over the value of a field that is not known.
    fn skip(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        loop {
            match self.tokens.read()?.kind {
                Kind::ObjectOpen | Kind::ArrayOpen => open += 1,
                Kind::ObjectClose | Kind::ArrayClose => open = open.saturating_sub(1),
                _ => {}
            }
            if open > DEPTH_MAX - self.depth {
                return Err("proto: exceeded max recursion depth".to_string());
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn wrong(&self, token: &Token<'_>, text: &str) -> String {
        self.tokens.error(token.at, text)
    }
}

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    /// Not of the field's type.
    Wrong,
}

impl Value {
    fn signed(value: impl Into<i64>) -> Value {
        Value::Number(value.into().cast_unsigned())
    }
}

/// The encoded message. Lengths of messages within are known when they end, and are put in at last.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    /// Messages that have not ended: their marks, and the bytes of the lengths within.
    open: Vec<(Option<usize>, usize)>,
}

struct Mark {
    /// Where in the bytes the length belongs.
    at: usize,
    length: usize,
}

impl Out {
    fn open(&mut self, field: Option<u32>) {
        let mark = field.map(|number| {
            encode_key(number, WireType::LengthDelimited, &mut self.bytes);
            self.marks.push(Mark {
                at: self.bytes.len(),
                length: 0,
            });
            self.marks.len() - 1
        });
        self.open.push((mark, 0));
    }

    fn close(&mut self) {
        let Some((Some(mark), lengths)) = self.open.pop() else {
            return;
        };
        let mark = &mut self.marks[mark];
        mark.length = self.bytes.len() - mark.at + lengths;
        if let Some((_, outer)) = self.open.last_mut() {
            *outer += lengths + encoded_len_varint(mark.length as u64);
        }
    }

    fn number(&mut self, field: u32, value: u64) {
        encode_key(field, WireType::Varint, &mut self.bytes);
        encode_varint(value, &mut self.bytes);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(value.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(value);
    }

    fn finish(self) -> Bytes {
        if self.marks.is_empty() {
            return self.bytes.into();
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 5 * self.marks.len());
        let mut from = 0;
        for mark in self.marks {
            out.extend_from_slice(&self.bytes[from..mark.at]);
            encode_varint(mark.length as u64, &mut out);
            from = mark.at;
        }
        out.extend_from_slice(&self.bytes[from..]);
        out.into()
    }
}

/// As messages of Go's protobuf name types.
fn type_name(kind: &Type) -> &'static str {
    match kind {
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Enum(_) => "enum",
        _ => "message",
    }
}

/// The integer that a number or a text is; one of 64 bits, signed or not, fits.
fn integer(token: &Token<'_>) -> Option<i128> {
    match token.kind {
        Kind::Number => whole(token.raw),
        // Go reads the first token of a text, and does not look at what follows.
        Kind::Text if token.text.trim() == token.text => {
            let text = token.text.as_bytes();
            number_length(text).and_then(|length| whole(&text[..length]))
        }
        _ => None,
    }
}

/// The integer that a JSON number is, however it is written: internal/encoding/json decode_number.go.
fn whole(number: &[u8]) -> Option<i128> {
    const DIGITS_MAX: usize = 20;
    let number = std::str::from_utf8(number).ok()?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, ""));
    let (digits, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = if digits == "0" { "" } else { digits };
    let fraction = fraction.trim_end_matches('0');
    if digits.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    let exponent: i32 = match exponent {
        "" => 0,
        text => text.parse().ok()?,
    };
    let shift = usize::try_from(exponent.unsigned_abs()).ok()?;
    let digits = if exponent >= 0 {
        if fraction.len() > shift || digits.len() + shift > DIGITS_MAX {
            return None;
        }
        format!("{digits}{fraction}{}", "0".repeat(shift - fraction.len()))
    } else {
        let kept = digits.len().checked_sub(shift)?;
        if !fraction.is_empty() || digits[kept..].bytes().any(|digit| digit != b'0') {
            return None;
        }
        digits[..kept].to_string()
    };
    let value: i128 = Some(digits)
        .filter(|digits| digits.len() <= DIGITS_MAX)?
        .parse()
        .ok()?;
    Some(if negative { -value } else { value })
}

/// Base64 in either alphabet, as Go reads it: line ends are passed over, the last bits may be any.
fn base64(text: &str) -> Option<Vec<u8>> {
    let url = text.contains(['-', '_']);
    let padded = text.len().is_multiple_of(4);
    let mut letters = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0_u32);
    while let Some(letter) = letters.next() {
        let six = match (letter, url) {
            (b'A'..=b'Z', _) => letter - b'A',
            (b'a'..=b'z', _) => letter - b'a' + 26,
            (b'0'..=b'9', _) => letter - b'0' + 52,
            (b'+', false) | (b'-', true) => 62,
            (b'/', false) | (b'_', true) => 63,
            (b'=', _) if padded && count >= 2 => {
                let more = 3 - count;
                let rest: Vec<u8> = letters.collect();
                let good = rest.len() == more as usize && rest.iter().all(|letter| *letter == b'=');
                return good.then(|| last(out, bits, count));
            }
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(six), count + 1);
        if count == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padded) {
        (0, _) => Some(out),
        (2 | 3, false) => Some(last(out, bits, count)),
        _ => None,
    }
}

/// The one or two bytes of the last letters.
fn last(mut out: Vec<u8>, bits: u32, count: u32) -> Vec<u8> {
    let bytes = (bits << (6 * (4 - count))).to_be_bytes();
    out.extend_from_slice(&bytes[1..count as usize]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_however_written() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0.00", Some(0)),
            ("12", Some(12)),
            ("-1.5e1", Some(-15)),
            ("1200e-2", Some(12)),
            ("1201e-2", None),
            ("1.5", None),
            ("1e19", Some(10_000_000_000_000_000_000)),
            ("1e20", None),
            ("1e9999999999", None),
            ("0e9999999999", Some(0)),
            ("5e-1", None),
        ] {
            assert_eq!(whole(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("YQ==", Some(b"a")),
            ("YQ", Some(b"a")),
            ("YWI", Some(b"ab")),
            ("YWJj", Some(b"abc")),
            ("YWJjZA==", Some(b"abcd")),
            ("YR==", Some(b"a")),
            ("_-8=", Some(&[0xff, 0xef])),
            ("/+8=", Some(&[0xff, 0xef])),
            ("/-8=", None),
            ("YQ=", None),
            ("YQ=a", None),
            ("Y===", None),
            ("YQ==YQ==", None),
            ("Y", None),
            ("Y\nQ\r=", None),
            ("YW\nJj\r\n\n", Some(b"abc")),
            ("!!!!", None),
        ] {
            assert_eq!(base64(text).as_deref(), bytes, "{text:?}");
        }
    }
}
