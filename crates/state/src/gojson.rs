//! JSON as Go's encoding/json writes and reads it, for the rows and documents that Go etcd shares.
//! Never decides what a document means.

use serde_json::{Map, Value};

/// Appends `text` as a JSON string with Go's escapes: also `<`, `>`, `&` and the two line
/// separators, so that the bytes of a row are the same whoever wrote it.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Appends a list of strings, `null` if it is empty (Go: a nil slice).
pub(crate) fn push_strings(out: &mut String, texts: &[String]) {
    if texts.is_empty() {
        out.push_str("null");
        return;
    }
    for (at, text) in texts.iter().enumerate() {
        out.push(if at == 0 { '[' } else { ',' });
        push_string(out, text);
    }
    out.push(']');
}

/// An object whose fields are found as Go finds them: by exact name, else without regard to case.
pub(crate) struct Object(Map<String, Value>);

impl Object {
    /// Parses a document that must be one object.
    pub(crate) fn parse(data: &[u8]) -> Result<Object, String> {
        match serde_json::from_slice(data) {
            Ok(Value::Object(map)) => Ok(Object(map)),
            Ok(_) => Err("not a JSON object".to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The object in a value, `None` for null.
    pub(crate) fn from_value(value: Value) -> Result<Option<Object>, String> {
        match value {
            Value::Object(map) => Ok(Some(Object(map))),
            Value::Null => Ok(None),
            _ => Err("not a JSON object".to_string()),
        }
    }

    /// Takes a field out, `None` if it is absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let found = match self.0.contains_key(name) {
            true => Some(name.to_string()),
            false => self.0.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned(),
        };
        found
            .and_then(|key| self.0.remove(&key))
            .filter(|value| !value.is_null())
    }

    /// A number, 0 if absent.
    pub(crate) fn u64(&mut self, name: &str) -> Result<u64, String> {
        match self.take(name) {
            None => Ok(0),
            Some(value) => value
                .as_u64()
                .ok_or_else(|| format!("field {name} is not an unsigned number")),
        }
    }

    /// A truth value, false if absent.
    pub(crate) fn bool(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| format!("field {name} is not a boolean")),
        }
    }

    /// A text, empty if absent.
    pub(crate) fn string(&mut self, name: &str) -> Result<String, String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("field {name} is not a string")),
        }
    }

    /// A list of texts, empty if absent.
    pub(crate) fn strings(&mut self, name: &str) -> Result<Vec<String>, String> {
        let Some(value) = self.take(name) else {
            return Ok(Vec::new());
        };
        let Value::Array(items) = value else {
            return Err(format!("field {name} is not a list"));
        };
        items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(format!("field {name} has an item that is not a string")),
            })
            .collect()
    }

    /// What is left, in order of names.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        // Printed by Go 1.26: json.Marshal("a\"\\<>&\u2028\x01\n\t\b\f\x7fé").
        let mut out = String::new();
        push_string(&mut out, "a\"\\<>&\u{2028}\u{1}\n\t\u{8}\u{c}\u{7f}é");
        assert_eq!(
            out,
            "\"a\\\"\\\\\\u003c\\u003e\\u0026\\u2028\\u0001\\n\\t\\b\\f\u{7f}é\""
        );
    }

    #[test]
    fn fields_are_found_as_go_finds_them() {
        let mut object = Object::parse(br#"{"ID":7,"PEERURLS":["a"],"name":null,"isLearner":true}"#).unwrap();
        assert_eq!(object.u64("id"), Ok(7));
        assert_eq!(object.strings("peerURLs"), Ok(vec!["a".to_string()]));
        assert_eq!(object.string("name"), Ok(String::new()));
        assert_eq!(object.bool("isLearner"), Ok(true));
        assert!(Object::parse(b"[]").is_err());
        assert!(Object::parse(br#"{"id":-1}"#).unwrap().u64("id").is_err());
    }
}
