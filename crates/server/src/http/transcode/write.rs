//! An encoded message as JSON, with etcd's options of grpc-gateway: names as in the .proto files, 64-bit
//! numbers as texts, bytes in base64, defaults left out.

use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

/// Who will read a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// What JSON demands: protojson.
    Json,
    /// What HTML would take for its own as well: encoding/json, through which the answers of streams go.
    Html,
}

/// Writes the message that `encoded` is.
pub fn write(descriptor: MessageDescriptor, encoded: Bytes, escapes: Escapes) -> Result<String, String> {
    let message = DynamicMessage::decode(descriptor, encoded).map_err(|error| error.to_string())?;
    let mut writer = Writer {
        out: String::new(),
        escapes,
    };
    writer.message(&message);
    Ok(writer.out)
}

/// Writes a text with its quotes.
pub fn text(value: &str, escapes: Escapes) -> String {
    let mut writer = Writer {
        out: String::new(),
        escapes,
    };
    writer.text(value);
    writer.out
}

struct Writer {
    out: String,
    escapes: Escapes,
}

impl Writer {
    /// Fields in the order of their numbers, which is the one in which etcd's files declare them.
    fn message(&mut self, message: &DynamicMessage) {
        self.out.push('{');
        let mut first = true;
        for field in message
            .descriptor()
            .fields()
            .filter(|field| message.has_field(field))
        {
            if !std::mem::take(&mut first) {
                self.out.push(',');
            }
            self.text(field.name());
            self.out.push(':');
            match &*message.get_field(&field) {
                Value::List(items) => self.list(&field, items),
                value => self.value(&field, value),
            }
        }
        self.out.push('}');
    }

    fn list(&mut self, field: &FieldDescriptor, items: &[Value]) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.value(field, item);
        }
        self.out.push(']');
    }

    fn value(&mut self, field: &FieldDescriptor, value: &Value) {
        match value {
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::I32(value) => self.out.push_str(&value.to_string()),
            Value::U32(value) => self.out.push_str(&value.to_string()),
            Value::I64(value) => self.out.push_str(&format!("\"{value}\"")),
            Value::U64(value) => self.out.push_str(&format!("\"{value}\"")),
            Value::F32(value) => self.out.push_str(&value.to_string()),
            Value::F64(value) => self.out.push_str(&value.to_string()),
            Value::String(value) => self.text(value),
            Value::Bytes(value) => {
                self.out.push('"');
                self.out.push_str(&base64(value));
                self.out.push('"');
            }
            Value::EnumNumber(number) => match field.kind() {
                Kind::Enum(names) => self.enumerated(&names, *number),
                _ => self.out.push_str(&number.to_string()),
            },
            Value::Message(message) => self.message(message),
            // Lists have been seen to, and no message of etcd's API has maps.
            Value::List(_) | Value::Map(_) => self.out.push_str("null"),
        }
    }

    fn enumerated(&mut self, names: &EnumDescriptor, number: i32) {
        match names.get_value(number) {
            Some(value) => self.text(value.name()),
            None => self.out.push_str(&number.to_string()),
        }
    }

    fn text(&mut self, value: &str) {
        self.out.push('"');
        for letter in value.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\0'..' ' => self.out.push_str(&format!("\\u{:04x}", u32::from(letter))),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if self.escapes == Escapes::Html => {
                    self.out.push_str(&format!("\\u{:04x}", u32::from(letter)));
                }
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

/// Base64 with its padding.
pub fn base64(value: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(value.len().div_ceil(3) * 4);
    for three in value.chunks(3) {
        let bits = three.iter().enumerate().fold(0_u32, |bits, (index, byte)| {
            bits | u32::from(*byte) << (16 - 8 * index)
        });
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            out.push(if index <= three.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_for_who_reads_them() {
        let odd = "a\"\\\n\u{1}<\u{2028}\u{e4}";
        assert_eq!(text(odd, Escapes::Json), "\"a\\\"\\\\\\n\\u0001<\u{2028}\u{e4}\"");
        assert_eq!(
            text(odd, Escapes::Html),
            "\"a\\\"\\\\\\n\\u0001\\u003c\\u2028\u{e4}\""
        );
    }

    #[test]
    fn bytes_are_padded() {
        for (bytes, expect) in [
            (&b""[..], ""),
            (b"a", "YQ=="),
            (b"ab", "YWI="),
            (b"abc", "YWJj"),
            (&[0xff, 0xef], "/+8="),
        ] {
            assert_eq!(base64(bytes), expect);
        }
    }
}
