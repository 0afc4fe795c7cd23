//! Lines on the standard error that say what a tool does, in the two forms in which etcd's tools write
//! them: `etcdctl` in JSON, `etcdutl` for people (zap's encoders). Never decides what is worth a line.

use std::fmt::Arguments;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::json;

/// What a line says beside its text.
pub(crate) type Fields<'a> = &'a [(&'a str, Value)];

/// A line of `etcdctl`.
#[track_caller]
pub(crate) fn json_info(text: &str, fields: Fields<'_>) {
    let mut line = Map::new();
    line.insert("level".into(), json!("info"));
    line.insert("ts".into(), json!(timestamp(SystemTime::now(), true)));
    line.insert("caller".into(), json!(caller()));
    line.insert("msg".into(), json!(text));
    line.extend(
        fields
            .iter()
            .map(|(name, value)| ((*name).to_string(), value.clone())),
    );
    say(format_args!("{}", json::line(&Value::Object(line))));
}

/// A line of `etcdutl`.
#[track_caller]
pub(crate) fn info(text: &str, fields: Fields<'_>) {
    console("info", &caller(), text, fields);
}

/// A line of `etcdutl` about something to beware of.
#[track_caller]
pub(crate) fn warn(text: &str, fields: Fields<'_>) {
    console("warn", &caller(), text, fields);
}

/// A line of `etcdutl` about something that went wrong.
#[track_caller]
pub(crate) fn error(text: &str, fields: Fields<'_>) {
    console("error", &caller(), text, fields);
}

fn console(level: &str, caller: &str, text: &str, fields: Fields<'_>) {
    let at = timestamp(SystemTime::now(), false);
    say(format_args!(
        "{at}\t{level}\t{caller}\t{text}{}",
        console_fields(fields)
    ));
}

/// The fields behind a line for people: JSON with a space behind each colon and comma.
fn console_fields(fields: Fields<'_>) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Array(items) => {
                    let items: Vec<String> = items.iter().map(json::line).collect();
                    format!("[{}]", items.join(", "))
                }
                other => json::line(other),
            };
            format!("{}: {value}", json!(name))
        })
        .collect();
    match fields.is_empty() {
        true => String::new(),
        false => format!("\t{{{}}}", fields.join(", ")),
    }
}

/// The line of source that speaks, with the folder that it lies in.
#[track_caller]
fn caller() -> String {
    let place = std::panic::Location::caller();
    let file: Vec<&str> = place.file().rsplit('/').take(2).collect();
    let file: Vec<&str> = file.into_iter().rev().collect();
    format!("{}:{}", file.join("/"), place.line())
}

/// Nobody who reads the standard error is no reason to stop.
fn say(line: Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A moment in RFC 3339 in UTC, to the microsecond or to the second.
fn timestamp(time: SystemTime, fine: bool) -> String {
    let time = OffsetDateTime::from(time);
    let (date, month) = (time.date(), u8::from(time.month()));
    let fraction = match fine {
        true => format!(".{:06}", time.microsecond()),
        false => String::new(),
    };
    format!(
        "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        date.year(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn moments_are_written_as_zap_writes_them() {
        let at = UNIX_EPOCH + std::time::Duration::new(951_782_400, 42_000);
        assert_eq!(timestamp(at, false), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(at, true), "2000-02-29T00:00:00.000042Z");
    }

    #[test]
    fn fields_are_written_as_zaps_console_writes_them() {
        assert_eq!(console_fields(&[]), "");
        assert_eq!(
            console_fields(&[
                ("path", json!("a<b")),
                ("urls", json!(["x", "y"])),
                ("n", json!(3))
            ]),
            "\t{\"path\": \"a\\u003cb\", \"urls\": [\"x\", \"y\"], \"n\": 3}"
        );
    }
}
