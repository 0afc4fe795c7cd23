//! What a member tells its operator, as structured lines. Never formats, never writes.

use std::borrow::Cow;
use std::panic::Location;

/// How much a line matters, in zap's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for a fault.
    Debug,
    /// Normal operation.
    Info,
    /// Something an operator should look at some time.
    Warn,
    /// Something failed.
    Error,
    /// The member stops.
    Fatal,
}

/// The value of a field of a line, printed as zap prints the type.
#[derive(Clone, Debug, PartialEq)]
pub enum LogValue {
    /// Text.
    Text(String),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A truth value.
    Bool(bool),
    /// A list of texts.
    List(Vec<String>),
    /// A span of time, printed as Go prints a `time.Duration`.
    Span(std::time::Duration),
}

/// One line: etcd's text where scripts look for it, and its fields in order.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub msg: Cow<'static, str>,
    /// Names and values, in the order in which they are printed.
    pub fields: Vec<(&'static str, LogValue)>,
    /// Where in the source it was made.
    pub caller: &'static Location<'static>,
}

impl LogLine {
    /// A line without fields.
    #[track_caller]
    pub fn new(level: Level, msg: impl Into<Cow<'static, str>>) -> LogLine {
        LogLine {
            level,
            msg: msg.into(),
            fields: Vec::new(),
            caller: Location::caller(),
        }
    }

    /// An `info` line.
    #[track_caller]
    pub fn info(msg: impl Into<Cow<'static, str>>) -> LogLine {
        LogLine::new(Level::Info, msg)
    }

    /// A `warn` line.
    #[track_caller]
    pub fn warn(msg: impl Into<Cow<'static, str>>) -> LogLine {
        LogLine::new(Level::Warn, msg)
    }

    /// The line with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<LogValue>) -> LogLine {
        self.fields.push((name, value.into()));
        self
    }
}

/// Takes lines. Must not wait: a line that cannot be kept is counted and dropped.
pub trait Log {
    /// Takes one line.
    fn log(&self, line: LogLine);
}

impl From<&str> for LogValue {
    fn from(text: &str) -> LogValue {
        LogValue::Text(text.to_owned())
    }
}

impl From<String> for LogValue {
    fn from(text: String) -> LogValue {
        LogValue::Text(text)
    }
}

impl From<i64> for LogValue {
    fn from(number: i64) -> LogValue {
        LogValue::Int(number)
    }
}

impl From<u64> for LogValue {
    fn from(number: u64) -> LogValue {
        LogValue::Uint(number)
    }
}

impl From<bool> for LogValue {
    fn from(value: bool) -> LogValue {
        LogValue::Bool(value)
    }
}

impl From<Vec<String>> for LogValue {
    fn from(list: Vec<String>) -> LogValue {
        LogValue::List(list)
    }
}

impl From<std::time::Duration> for LogValue {
    fn from(span: std::time::Duration) -> LogValue {
        LogValue::Span(span)
    }
}

/// Bytes as Go's humanize prints them: decimal units, one digit behind the point below ten.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 {
        format!("{rounded:.1} {}", UNITS[unit])
    } else {
        format!("{rounded:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn sizes_read_as_go_prints_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (20_480, "20 kB"),
            (1_500, "1.5 kB"),
            (9_949, "9.9 kB"),
            (82_854_982, "83 MB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
