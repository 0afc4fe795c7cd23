//! Small texts as Go prints and reads them: quoted strings, durations, sizes for people.

use std::time::Duration;

/// `%q`: a string as Go quotes it; bytes that are not UTF-8 as `\xNN`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\x0b' => out.push_str("\\v"),
                c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// Reads one Go-quoted string at the start of `text`; the string and what follows it.
pub(crate) fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let body = text.strip_prefix('"')?;
    let mut out = Vec::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &body[at + 1..])),
            '\\' => {
                let (_, escape) = chars.next()?;
                let mut hex = |digits: usize| -> Option<u32> {
                    let mut value = 0;
                    for _ in 0..digits {
                        value = value * 16 + chars.next()?.1.to_digit(16)?;
                    }
                    Some(value)
                };
                let c = match escape {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'v' => '\x0b',
                    '\\' | '"' | '\'' => escape,
                    'x' => {
                        out.push(u8::try_from(hex(2)?).ok()?);
                        continue;
                    }
                    'u' => char::from_u32(hex(4)?)?,
                    'U' => char::from_u32(hex(8)?)?,
                    _ => return None,
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    None
}

/// A Go duration: `300ms`, `1.5h`, `2h45m`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[unit_len..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A duration as Go prints it: `4.842775ms`, `1m2.5s`.
pub(crate) fn duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    let trim = |value: f64, digits: usize| {
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            text
        }
    };
    if nanos == 0 {
        "0s".to_string()
    } else if nanos < 1_000 {
        format!("{nanos}ns")
    } else if nanos < 1_000_000 {
        format!("{}µs", trim(nanos as f64 / 1e3, 3))
    } else if nanos < 1_000_000_000 {
        format!("{}ms", trim(nanos as f64 / 1e6, 6))
    } else {
        let (hours, minutes) = (span.as_secs() / 3600, span.as_secs() / 60 % 60);
        let seconds = trim(
            (span.as_secs() % 60) as f64 + f64::from(span.subsec_nanos()) / 1e9,
            9,
        );
        match (hours, minutes) {
            (0, 0) => format!("{seconds}s"),
            (0, m) => format!("{m}m{seconds}s"),
            (h, m) => format!("{h}h{m}m{seconds}s"),
        }
    }
}

/// Bytes for people, in powers of 1000: `20 kB`, `2.1 GB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 10 {
        return format!("{count} B");
    }
    let exponent = (count as f64).log(1000.0).floor().min(6.0);
    let value = (count as f64 / 1000f64.powf(exponent) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// What the system says, as Go says it: in small letters, without its number.
pub(crate) fn of_system(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(&*text, |(text, _)| text);
    match error.raw_os_error() {
        Some(_) => text.to_lowercase(),
        None => text.to_string(),
    }
}

/// `\x61\x62`: what `--hex` prints for a key or value.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// Splits a line into words; single and double quotes keep what they enclose together.
pub(crate) fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (word, tail) = unquote(rest)?;
            words.push(String::from_utf8_lossy(&word).into_owned());
            rest = tail;
        } else if let Some(body) = rest.strip_prefix('\'') {
            let end = body.find('\'')?;
            words.push(body[..end].to_string());
            rest = &body[end + 1..];
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(rest[..end].to_string());
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20480, "20 kB"),
            (16384, "16 kB"),
            (2147483648, "2.1 GB"),
            (82854982, "83 MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5ms", 1_500_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text).map(|d| d.as_nanos()), Some(nanos), "{text}");
        }
        for text in ["", "5", "s", "5x", "1m3", "."] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for (nanos, text) in [
            (0, "0s"),
            (12, "12ns"),
            (4_842_775, "4.842775ms"),
            (1_500, "1.5µs"),
            (2_000_000_000, "2s"),
            (62_500_000_000, "1m2.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn the_system_speaks_as_to_go() {
        let missing = std::fs::File::open("/nowhere").unwrap_err();
        assert_eq!(of_system(&missing), "no such file or directory");
        assert_eq!(of_system(&std::io::Error::other("A (b)")), "A (b)");
    }

    #[test]
    fn quoting_goes_both_ways() {
        for (bytes, text) in [
            (&b"a\"b\\c\n"[..], r#""a\"b\\c\n""#),
            (b"\x00\x7f\xff", r#""\x00\x7f\xff""#),
            ("grüße".as_bytes(), "\"grüße\""),
        ] {
            assert_eq!(quote(bytes), text);
            assert_eq!(unquote(&quote(bytes)), Some((bytes.to_vec(), "")));
        }
        assert_eq!(unquote("\"a"), None);
    }

    #[test]
    fn words() {
        let split = |line| split_words(line).unwrap_or_default();
        assert_eq!(
            split(r#"put key1 "over \"it\"" 'a b'"#),
            ["put", "key1", "over \"it\"", "a b"]
        );
        assert_eq!(split("  "), Vec::<String>::new());
        assert_eq!(split_words("put 'a"), None);
    }
}
