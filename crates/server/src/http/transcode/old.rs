//! A JSON value as an encoded message, as Go's old jsonpb reads it, which is in grpc-gateway v1 and so
//! in etcd 3.5 (github.com/golang/protobuf jsonpb/decode.go).

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value, json};

/// Reads `json`, which is one value, as a message.
pub fn read(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Bytes, String> {
    let json: Json = serde_json::from_slice(&whole_letters(json)).map_err(|error| error.to_string())?;
    let value = message(descriptor, json)?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options)
        .map_err(|error| error.to_string())?;
    Ok(prost::Message::encode_to_vec(&message).into())
}

/// The text with a replacement for each half of a letter that stands alone, as Go reads it.
fn whole_letters(json: &[u8]) -> Vec<u8> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut out, mut at) = (Vec::with_capacity(json.len()), 0);
    while at < json.len() {
        let length = match (json[at], unit(at)) {
            (b'\\', Some(0xd800..0xdc00)) if matches!(unit(at + 6), Some(0xdc00..0xe000)) => 12,
            (b'\\', Some(0xd800..0xe000)) => {
                out.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            (b'\\', Some(_)) => 6,
            (b'\\', None) => 2,
            _ => 1,
        };
        let end = json.len().min(at + length);
        out.extend_from_slice(&json[at..end]);
        at = end;
    }
    out
}

/// JSON as it was written: a `Value` would keep one of two fields of the same name.
enum Json {
    Scalar(Value),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

/// A message in the spelling of today's JSON of protobuf, which jsonpb is more lenient than.
fn message(descriptor: &MessageDescriptor, json: Json) -> Result<Value, String> {
    let object = match json {
        Json::Object(object) => object,
        Json::Scalar(Value::Null) => Vec::new(),
        _ => return Err(format!("expected an object for {}", descriptor.full_name())),
    };
    // By number, in which order etcd declares its fields, and whether the name is the one of JSON.
    let mut written: BTreeMap<u32, (FieldDescriptor, bool, Json)> = BTreeMap::new();
    for (name, json) in object {
        let field = descriptor.get_field_by_json_name(&name);
        let Some(field) = field.or_else(|| descriptor.get_field_by_name(&name)) else {
            continue;
        };
        let of_json = field.json_name() == name;
        // The last one, but the name of JSON goes first: unmarshalMessage.
        if !matches!(written.get(&field.number()), Some((_, true, _)) if !of_json) {
            written.insert(field.number(), (field, of_json, json));
        }
    }
    let mut message = serde_json::Map::new();
    for (field, _, json) in written.into_values() {
        if matches!(json, Json::Scalar(Value::Null)) {
            continue;
        }
        let value = match json {
            Json::List(items) if field.is_list() => {
                let items = items.into_iter().map(|item| single(&field.kind(), item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            _ if field.is_list() => return Err(format!("expected a list for {}", field.full_name())),
            json => single(&field.kind(), json)?,
        };
        // jsonpb sets one after the other; what reads this refuses a second one.
        if let Some(oneof) = field.containing_oneof() {
            for other in oneof.fields() {
                message.remove(other.name());
            }
        }
        message.insert(field.name().into(), value);
    }
    Ok(Value::Object(message))
}

/// One value of a field.
fn single(kind: &Kind, json: Json) -> Result<Value, String> {
    let scalar = match (kind, json) {
        (Kind::Message(descriptor), json) => return message(descriptor, json),
        // To Go's encoding/json, bytes are a list of numbers as well.
        (Kind::Bytes, Json::List(items)) => return numbers(items).map(Value::String),
        (_, Json::Scalar(scalar)) => scalar,
        (kind, Json::List(_) | Json::Object(_)) => {
            return Err(format!("expected a single value for {kind:?}"));
        }
    };
    match (kind, scalar) {
        // Go's encoding/json leaves a number as it was where there is a null, which is in lists alone.
        (kind, Value::Null) => Ok(match kind {
            Kind::String | Kind::Bytes => json!(""),
            Kind::Bool => json!(false),
            _ => json!(0),
        }),
        (Kind::Bytes, Value::String(text)) => base64(&text).map(Value::String),
        (Kind::Enum(names), Value::String(name)) => match names.get_value_by_name(&name) {
            None => {
                let quoted = format!("{name:?}");
                Err(format!("unknown value {quoted:?} for enum {}", names.full_name()))
            }
            Some(_) => Ok(Value::String(name)),
        },
        (Kind::String | Kind::Bytes | Kind::Bool | Kind::Float | Kind::Double, scalar) => Ok(scalar),
        (_, scalar) => integer(scalar),
    }
}

/// A list of numbers as bytes, in base64.
fn numbers(items: Vec<Json>) -> Result<String, String> {
    let byte = |item| match item {
        Json::Scalar(Value::Null) => Some(0),
        Json::Scalar(Value::Number(number)) => u8::try_from(number.as_u64()?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = items.into_iter().map(byte).collect();
    let bytes = bytes.ok_or("cannot read a list as bytes")?;
    Ok(super::write::base64(&bytes))
}

/// An integer of a number or a text; what is neither is for others to refuse.
fn integer(scalar: Value) -> Result<Value, String> {
    let number = match scalar {
        // jsonpb takes the quotes away and reads what is left as JSON.
        Value::String(text) if text.trim() == "null" => return Ok(json!(0)),
        Value::String(text) => serde_json::from_str::<Number>(&text).map_err(|error| error.to_string())?,
        Value::Number(number) => number,
        other => return Ok(other),
    };
    match number.as_f64().filter(|_| number.is_f64()) {
        None => Ok(number.into()),
        // serde_json reads -0 as a float.
        Some(float) if float == 0.0 && float.is_sign_negative() => Ok(json!(0)),
        Some(_) => Err(format!("cannot read the number {number} as an integer")),
    }
}

/// Base64 without the line ends that Go passes over. Letters that are of no alphabet are left to the
/// decoder.
fn base64(text: &str) -> Result<String, String> {
    let letters = text.replace(['\r', '\n'], "");
    if !letters.len().is_multiple_of(4) || letters.contains(['-', '_']) {
        return Err(format!("illegal base64 data: {text:?}"));
    }
    Ok(letters)
}
