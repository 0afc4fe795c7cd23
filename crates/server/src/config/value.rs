//! Values of flags, read as Go's `flag` and `strconv` packages read them. Never looks at names.

use std::fmt;
use std::time::Duration;

use api::url::{self, Url};

/// What kind of value a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false` and Go's other spellings; a bare flag means `true`.
    Bool,
    /// An unsigned number, also in hex, octal or binary.
    Uint,
    /// An unsigned number below 2^32.
    Uint32,
    /// A signed number.
    Int,
    /// Any text.
    Text,
    /// A span of time in Go's syntax: `1h30m`, `100ms`.
    Span,
    /// URLs separated by commas, each once, sorted.
    Urls,
    /// As `Urls`, or `*`, or nothing.
    Origins,
    /// Texts separated by commas, each once, sorted.
    Set,
    /// Texts separated by commas, in their order.
    List,
    /// One of the given texts.
    OneOf(&'static [&'static str]),
    /// Some of the given texts, separated by commas.
    SomeOf(&'static [&'static str]),
    /// `Gate=true,Gate2=false`, of the known feature gates.
    Gates,
    /// Taken and thrown away; a bare flag.
    Nothing,
}

impl Kind {
    /// Whether the flag stands alone, without a following value.
    pub fn is_bare(self) -> bool {
        matches!(self, Kind::Bool | Kind::Nothing)
    }
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of `Kind::Bool`.
    Bool(bool),
    /// Of `Kind::Uint` and `Kind::Uint32`.
    Uint(u64),
    /// Of `Kind::Int`.
    Int(i64),
    /// Of `Kind::Text` and `Kind::OneOf`.
    Text(String),
    /// Of `Kind::Span`.
    Span(Span),
    /// Of `Kind::Urls`.
    Urls(Vec<Url>),
    /// Of `Kind::Origins`, `Kind::Set` and `Kind::List`.
    List(Vec<String>),
    /// Of `Kind::Gates`, in the order given.
    Gates(Vec<(&'static str, bool)>),
    /// Of `Kind::Nothing`.
    Nothing,
}

/// A signed span in nanoseconds, Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i64);

impl Span {
    /// The span of so many milliseconds.
    pub const fn from_millis(millis: i64) -> Span {
        Span(millis * 1_000_000)
    }

    /// The span as a duration; a negative one is zero.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl fmt::Display for Span {
    /// As Go prints it: `1m0s`, `100ms`, `1.5µs`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(nanos, 1_000_000)),
            _ => {
                let seconds = nanos / 1_000_000_000;
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                let rest = decimal(nanos % 60_000_000_000, 1_000_000_000);
                match (hours, minutes) {
                    (0, 0) => write!(f, "{rest}s"),
                    (0, _) => write!(f, "{minutes}m{rest}s"),
                    _ => write!(f, "{hours}h{minutes}m{rest}s"),
                }
            }
        }
    }
}

/// `value / unit` with the fraction that is not zero.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Reads the text of a flag or of its environment variable. The error is Go's text.
pub fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Bool => parse_bool(text).map(Value::Bool),
        Kind::Uint => parse_uint(text, 64).map(Value::Uint),
        Kind::Uint32 => parse_uint(text, 32)
            .map(Value::Uint)
            .map_err(|error| uint32_error(text, &error)),
        Kind::Int => parse_int(text).map(Value::Int),
        Kind::Text => Ok(Value::Text(text.to_string())),
        Kind::Span => parse_span(text)
            .map(Value::Span)
            .ok_or_else(|| PARSE_ERROR.to_string()),
        Kind::Urls if text.is_empty() => Ok(Value::Urls(Vec::new())),
        Kind::Urls => url::parse_list(text).map(Value::Urls),
        Kind::Origins if text.is_empty() || text == "*" => Ok(Value::List(vec![text.to_string()])),
        Kind::Origins => {
            let urls = url::parse_list(text)?;
            Ok(Value::List(urls.iter().map(Url::to_string).collect()))
        }
        Kind::Set => {
            let mut items: Vec<String> = text.split(',').map(str::to_string).collect();
            items.sort();
            items.dedup();
            Ok(Value::List(items))
        }
        Kind::List if text.is_empty() => Ok(Value::List(Vec::new())),
        Kind::List => Ok(Value::List(text.split(',').map(str::to_string).collect())),
        Kind::OneOf(choices) if choices.contains(&text) => Ok(Value::Text(text.to_string())),
        Kind::OneOf(_) => Err("invalid value".to_string()),
        Kind::SomeOf(choices) => match text.split(',').find(|item| !choices.contains(item)) {
            Some(wrong) => Err(format!("invalid value {}", quote(wrong))),
            None => Ok(Value::Text(text.to_string())),
        },
        Kind::Gates => parse_gates(text).map(Value::Gates),
        Kind::Nothing => Ok(Value::Nothing),
    }
}

const PARSE_ERROR: &str = "parse error";
const RANGE_ERROR: &str = "value out of range";

/// This one flag passes the words of Go's `strconv` on: pkg/flags/uint32.go.
fn uint32_error(text: &str, error: &str) -> String {
    let words = if error == PARSE_ERROR {
        "invalid syntax"
    } else {
        error
    };
    format!("strconv.ParseUint: parsing {}: {words}", quote(text))
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(PARSE_ERROR.to_string()),
    }
}

/// Go's `ParseUint(text, 0, bits)`: the base by prefix, underscores between digits.
fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // A single underscore may stand between digits, and after a base's prefix.
    let prefixed = digits.len() < lower.len();
    let misplaced = digits.ends_with('_') || digits.contains("__") || (!prefixed && digits.starts_with('_'));
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if plain.is_empty() || misplaced || !plain.chars().all(|c| c.is_digit(base)) {
        return Err(PARSE_ERROR.to_string());
    }
    let value = u64::from_str_radix(&plain, base).map_err(|_| RANGE_ERROR.to_string())?;
    if bits < 64 && value >> bits != 0 {
        return Err(RANGE_ERROR.to_string());
    }
    Ok(value)
}

fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_uint(digits, 64)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| RANGE_ERROR.to_string())
}

/// Go's `time.ParseDuration`. `None` if it would fail.
pub fn parse_span(text: &str) -> Option<Span> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(Span(0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        total = total.checked_add(parts(number, unit)?)?;
        rest = after;
    }
    let nanos = i128::try_from(total).ok()?;
    i64::try_from(if negative { -nanos } else { nanos })
        .ok()
        .map(Span)
}

/// Nanoseconds of one number with its unit.
fn parts(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let mut nanos = whole
        .parse::<u128>()
        .or(if whole.is_empty() { Ok(0) } else { Err(()) })
        .ok()?
        * unit;
    let mut scale = unit;
    // Digits below a nanosecond are cut off, as Go cuts them.
    for digit in fraction.bytes() {
        scale /= 10;
        nanos += u128::from(digit - b'0') * scale;
    }
    Some(nanos)
}

/// How far a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// May go again; off by default.
    Alpha,
    /// Here to stay; on by default.
    Beta,
}

impl Stage {
    /// The name in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

/// A feature gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// How far it is.
    pub stage: Stage,
}

const fn alpha(name: &'static str) -> Gate {
    let stage = Stage::Alpha;
    Gate { name, stage }
}

const fn beta(name: &'static str) -> Gate {
    let stage = Stage::Beta;
    Gate { name, stage }
}

/// The feature gates of etcd 3.7, by name. Those called `All` stand for all of a stage.
pub const ALL_GATES: [Gate; 11] = [
    alpha("AllAlpha"),
    beta("AllBeta"),
    alpha("CompactHashCheck"),
    beta("FastLeaseKeepAlive"),
    alpha("InitialCorruptCheck"),
    alpha("LeaseCheckpoint"),
    alpha("LeaseCheckpointPersist"),
    alpha("PriorityRequest"),
    alpha("SetMemberLocalAddr"),
    alpha("StopGRPCServiceOnDefrag"),
    beta("TxnModeWriteWithSharedBuffer"),
];

/// The gates that are on, of those given: what a gate itself was set to wins over what all of its
/// stage were set to, that over the default, which is on from the second stage on.
pub fn gates_on(given: &[(&'static str, bool)]) -> Vec<&'static str> {
    let last = |name: &str| {
        let found = given.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, on)| *on)
    };
    let is_on = |gate: &Gate| {
        let (all, default) = match gate.stage {
            _ if gate.name.starts_with("All") => ("", false),
            Stage::Alpha => ("AllAlpha", false),
            Stage::Beta => ("AllBeta", true),
        };
        last(gate.name).or_else(|| last(all)).unwrap_or(default)
    };
    let on = ALL_GATES.iter().filter(|gate| is_on(gate));
    on.map(|gate| gate.name).collect()
}

fn parse_gates(text: &str) -> Result<Vec<(&'static str, bool)>, String> {
    let mut gates = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let Some((name, on)) = item.split_once('=') else {
            return Err(format!("missing bool value for {}", item.trim()));
        };
        let (name, on) = (name.trim(), on.trim());
        let Ok(on_value) = parse_bool(on) else {
            return Err(format!(
                "invalid value of {name}={on}, err: strconv.ParseBool: parsing {}: invalid syntax",
                quote(on)
            ));
        };
        let known = ALL_GATES.iter().find(|gate| gate.name == name);
        let gate = known.ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
        gates.push((gate.name, on_value));
    }
    Ok(gates)
}

/// A text in double quotes as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_printed_as_go_does() {
        // Made with Go's time.ParseDuration and Duration.String.
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("1m", 60_000_000_000, "1m0s"),
            ("-2s", -2_000_000_000, "-2s"),
            ("1us", 1_000, "1µs"),
            ("1500ns", 1_500, "1.5µs"),
            ("72h3m0.5s", 259_380_500_000_000, "72h3m0.5s"),
        ] {
            let span = parse_span(text);
            assert_eq!(span, Some(Span(nanos)), "{text}");
            assert_eq!(Span(nanos).to_string(), printed, "{text}");
        }
        for text in ["", "5", "s", "1", "1.s.", "1x", "-", "9999999h", "1h 2m", "1..5s"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_go_does() {
        for (text, expect) in [
            ("10", Ok(10)),
            ("0x1f", Ok(31)),
            ("010", Ok(8)),
            ("0b11", Ok(3)),
            ("1_000", Ok(1000)),
            ("0x_ff", Ok(255)),
            ("", Err(PARSE_ERROR)),
            ("-1", Err(PARSE_ERROR)),
            ("1_", Err(PARSE_ERROR)),
            ("_1", Err(PARSE_ERROR)),
            ("08", Err(PARSE_ERROR)),
            ("18446744073709551616", Err(RANGE_ERROR)),
        ] {
            assert_eq!(parse_uint(text, 64), expect.map_err(str::to_string), "{text}");
        }
        assert_eq!(parse_int("-5"), Ok(-5));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(RANGE_ERROR.to_string()));
        assert_eq!(parse_int("--1"), Err(PARSE_ERROR.to_string()));
        assert_eq!(
            parse(Kind::Uint32, "x"),
            Err("strconv.ParseUint: parsing \"x\": invalid syntax".to_string())
        );
    }

    #[test]
    fn a_gate_itself_wins_over_all_of_its_stage() {
        let on = |given: &[(&'static str, bool)], gate: &str| gates_on(given).contains(&gate);
        assert!(on(&[], "FastLeaseKeepAlive") && !on(&[], "LeaseCheckpoint"));
        assert!(!on(&[], "AllBeta"));
        let given = [("AllAlpha", true), ("LeaseCheckpoint", false), ("AllBeta", false)];
        assert!(on(&given, "CompactHashCheck") && !on(&given, "LeaseCheckpoint"));
        assert!(!on(&given, "FastLeaseKeepAlive") && on(&given, "AllAlpha"));
        assert!(on(
            &[("LeaseCheckpoint", false), ("LeaseCheckpoint", true)],
            "LeaseCheckpoint"
        ));
    }

    #[test]
    fn gates_are_known_or_refused() {
        assert_eq!(
            parse(Kind::Gates, "InitialCorruptCheck=true,,LeaseCheckpoint=0"),
            Ok(Value::Gates(vec![
                ("InitialCorruptCheck", true),
                ("LeaseCheckpoint", false)
            ]))
        );
        for (text, error) in [
            ("X=true", "unrecognized feature gate: X"),
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
        ] {
            assert_eq!(parse(Kind::Gates, text), Err(error.to_string()));
        }
    }
}
