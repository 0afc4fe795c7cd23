//! Prometheus' text format, as Go's client writes it: families sorted by name, numbers in Go's
//! shortest form.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A page of metrics being written, family by family in any order.
#[derive(Debug, Default)]
pub struct Text {
    families: BTreeMap<String, String>,
    current: String,
}

impl Text {
    /// Begins a family; the values that follow are its own.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.current = name.to_string();
        let family = self.families.entry(name.to_string()).or_default();
        family.clear();
        let _ = writeln!(family, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let family = self.families.entry(self.current.clone()).or_default();
        family.push_str(name);
        if !labels.is_empty() {
            let _ = write!(family, "{{{labels}}}");
        }
        family.push(' ');
        push_number(family, value);
        family.push('\n');
    }

    /// A value without labels.
    pub fn plain(&mut self, name: &str, value: impl Number) {
        self.line(name, "", value.into_f64());
    }

    /// A value with labels, written as they stand.
    pub fn labelled(&mut self, name: &str, labels: &str, value: impl Number) {
        self.line(name, labels, value.into_f64());
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Number) {
        self.head(name, "counter", help);
        self.plain(name, value);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Number) {
        self.head(name, "gauge", help);
        self.plain(name, value);
    }

    /// The page. A family without values is left out, as Go's client leaves it out.
    pub fn finish(self) -> String {
        let families = self.families.into_values();
        let filled = families.filter(|family| family.lines().nth(2).is_some());
        filled.collect()
    }
}

/// What may be a value: all of them are 64-bit floats to Prometheus.
pub trait Number {
    /// The value as Prometheus has it.
    fn into_f64(self) -> f64;
}

macro_rules! numbers {
    ($($kind:ty)*) => {
        $(impl Number for $kind {
            #[allow(clippy::cast_precision_loss, clippy::cast_lossless)] // Prometheus knows floats only.
            fn into_f64(self) -> f64 {
                self as f64
            }
        })*
    };
}

numbers!(u8 u32 u64 usize i64 f64);

/// A label's value between its quotes.
pub fn label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// A number as Go's `strconv.FormatFloat(f, 'g', -1, 64)` writes it: with an exponent below 1e-4
/// and from the seventh digit before the point on.
pub fn push_number(out: &mut String, value: f64) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value == 0.0 {
        out.push('0');
        return;
    }
    // Rust's form with an exponent has the shortest digits that read back the same, as Go's has.
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs());
    } else {
        let _ = write!(out, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        // Made with Go's strconv.FormatFloat(f, 'g', -1, 64).
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (20480.0, "20480"),
            (524_288.0, "524288"),
            (1_048_576.0, "1.048576e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (1e6, "1e+06"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.000_018_054, "1.8054e-05"),
            (163.84, "163.84"),
            (1_795_276_253.68, "1.79527625368e+09"),
            (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
            (1_234.567_891, "1234.567891"),
            (1_234_567.5, "1.2345675e+06"),
            (9_999_999.0, "9.999999e+06"),
        ] {
            let mut out = String::new();
            push_number(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn families_come_sorted_and_empty_ones_not_at_all() {
        let mut text = Text::default();
        text.gauge("b", "Second.", 2u64);
        text.head("empty", "counter", "Nothing.");
        text.head("a", "counter", "First.");
        text.labelled("a", "x=\"1\"", 1u64);
        assert_eq!(
            text.finish(),
            "# HELP a First.\n# TYPE a counter\na{x=\"1\"} 1\n# HELP b Second.\n# TYPE b gauge\nb 2\n"
        );
    }
}
