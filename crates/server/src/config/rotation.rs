//! `--log-rotation-config-json`, with the errors of etcd (embed/config_logging.go, setupLogRotation).

use serde_json::Value;

use super::Rotation;

/// etcd: embed.ErrLogRotationInvalidLogOutput, with its slip in the flag's name.
const ONE_FILE: &str = "--log-outputs requires a single file path when --log-rotate-config-json is defined";
/// Megabytes of a file where nothing else is said: lumberjack's default.
const MEGABYTES_DEFAULT: i64 = 100;

/// Reads the settings for the one file among the outputs.
pub(super) fn read(outputs: &[String], json: &str) -> Result<Rotation, String> {
    let files = outputs
        .iter()
        .filter(|output| !matches!(output.as_str(), "default" | "stderr" | "stdout"))
        .count();
    if files > 1 || (outputs.len() == 1 && files == 0) {
        return Err(ONE_FILE.to_string());
    }
    let value: Value = serde_json::from_str(json).map_err(|error| {
        let words = match error.is_eof() {
            true => "unexpected end of JSON input".to_string(),
            false => error.to_string(),
        };
        format!("improperly formatted log rotation config: {words}")
    })?;
    let Value::Object(fields) = &value else {
        let kind = kind(&value);
        return match value {
            Value::Null => Ok(rotation(0, 0, 0, false)),
            _ => Err(format!(
                "invalid log rotation config: json: cannot unmarshal {kind} into Go value of type embed.logRotationConfig"
            )),
        };
    };
    // Go's decoder does not mind the case of names.
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next_back().map(|(_, value)| value)
    };
    let wrong = |name: &str, value: &Value, wanted: &str| {
        let kind = kind(value);
        format!(
            "invalid log rotation config: json: cannot unmarshal {kind} into Go struct field logRotationConfig.Logger.{name} of type {wanted}"
        )
    };
    let number = |name: &str| match field(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or_else(|| wrong(name, value, "int")),
    };
    let flag = |name: &str| match field(name) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong(name, value, "bool")),
    };
    // The times in names are always UTC here; the files are found by them either way.
    flag("localtime")?;
    Ok(rotation(
        number("maxsize")?,
        number("maxage")?,
        number("maxbackups")?,
        flag("compress")?,
    ))
}

fn rotation(megabytes: i64, days: i64, backups: i64, compress: bool) -> Rotation {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let megabytes = if megabytes == 0 {
        MEGABYTES_DEFAULT
    } else {
        megabytes
    };
    Rotation {
        bytes_max: positive(megabytes).saturating_mul(1 << 20),
        age_days_max: positive(days),
        backups_max: positive(backups),
        compress,
    }
}

/// The kind of a value in Go's words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    #[test]
    fn settings_are_those_of_lumberjack() {
        let read = |json| read(&outputs(&["/tmp/x"]), json).unwrap();
        assert_eq!(read("{}"), rotation(100, 0, 0, false));
        assert_eq!(
            read(r#"{"MaxSize": 1, "maxage": 2, "maxbackups": 3, "compress": true, "localtime": true}"#),
            rotation(1, 2, 3, true)
        );
        assert_eq!(rotation(1, 0, 0, false).bytes_max, 1 << 20);
    }

    /// Texts of etcd 3.7.1.
    #[test]
    fn errors_are_those_of_etcd() {
        for (names, json, error) in [
            (&["default"][..], "{}", ONE_FILE),
            (&["/a", "/b"], "{}", ONE_FILE),
            (
                &["/a"],
                "{",
                "improperly formatted log rotation config: unexpected end of JSON input",
            ),
            (
                &["/a"],
                r#"{"maxsize":"a"}"#,
                "invalid log rotation config: json: cannot unmarshal string into Go struct field logRotationConfig.Logger.maxsize of type int",
            ),
        ] {
            assert_eq!(read(&outputs(names), json), Err(error.to_string()), "{json}");
        }
        assert!(read(&outputs(&["stderr", "/a"]), "{}").is_ok());
    }
}
