//! Text as Go's encoding/json writes it.

use std::fmt::Write;

/// Appends `text` as Go quotes it: also `<`, `>`, `&` and the two line separators are escaped, so that our
/// rows and files have the same bytes as etcd's.
pub fn push_go_string(out: &mut String, text: &str) {
    out.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", symbol as u32).expect("a String takes all that is written");
            }
            _ => out.push(symbol),
        }
    }
    out.push('"');
}

/// Appends a list of texts.
pub(super) fn push_go_strings(out: &mut String, texts: &[String]) {
    out.push('[');
    for (place, text) in texts.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        push_go_string(out, text);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        let mut out = String::new();
        push_go_string(&mut out, "a\"\\\n\u{1}\u{7f}<&>\u{2028}é");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001\u{7f}\\u003c\\u0026\\u003e\\u2028é\"");
    }
}
