//! JSON as Go's encoding/json reads it, for documents that Go etcd shares. Writing is with what is
//! written. Never decides what a document means.

use serde_json::{Map, Value};

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
