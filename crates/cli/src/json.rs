//! `-w json`: messages as Go's encoding/json prints them: field names of the .proto files, 64-bit
//! integers as numbers, bytes in base64, enums as numbers, zero fields left out.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use crate::{EXIT_ERROR, Failure};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(api::DESCRIPTORS).expect("the descriptors are compiled in"));

/// An encoded message of the named type as JSON.
pub(crate) fn message(name: &str, encoded: &[u8]) -> Result<Value, Failure> {
    let descriptor = POOL
        .get_message_by_name(name)
        .ok_or_else(|| Failure::new(EXIT_ERROR, format!("no message {name}")))?;
    let message = DynamicMessage::decode(descriptor, encoded).map_err(|error| {
        Failure::new(
            EXIT_ERROR,
            format!("the server's {name} cannot be decoded: {error}"),
        )
    })?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .use_enum_numbers(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| Failure::new(EXIT_ERROR, error.to_string()))
}

/// One line of JSON; `<`, `>` and `&` escaped as Go does.
pub(crate) fn line(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// A message whose header's fields stand beside its own, as clientv3's lease answers have it.
pub(crate) fn with_flat_header(header: &Value, fields: Vec<(&str, Value)>) -> Value {
    let mut out: Map<String, Value> = header.as_object().cloned().unwrap_or_default();
    for (name, value) in fields {
        out.insert(name.to_string(), value);
    }
    Value::Object(out)
}
