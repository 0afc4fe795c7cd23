//! Lines on the standard error that say what a tool does, in the two forms in which etcd's tools write
//! them: `etcdctl` in JSON, `etcdutl` for people (zap's encoders). Never decides what is worth a line.

use std::fmt::Arguments;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::json;

/// What a line says beside its text.
pub(crate) type Fields<'a> = &'a [(&'a str, Value)];

/// A line of `etcdctl`.
#[track_caller]
pub(crate) fn json_info(text: &str, fields: Fields<'_>) {
    let mut line = Map::new();
    line.insert("level".into(), json!("info"));
    line.insert("ts".into(), json!(timestamp(now(), true)));
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
    let at = timestamp(now(), false);
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

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment in RFC 3339 in UTC, to the microsecond or to the second.
fn timestamp(since_epoch: std::time::Duration, fine: bool) -> String {
    let seconds = since_epoch.as_secs();
    let (days, rest) = (i64::try_from(seconds / 86_400).unwrap_or(0), seconds % 86_400);
    // Days since 0000-03-01 in eras of 400 years (Howard Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let fraction = match fine {
        true => format!(".{:06}", since_epoch.subsec_micros()),
        false => String::new(),
    };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_zap_writes_them() {
        let at = std::time::Duration::new(951_782_400, 42_000);
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
