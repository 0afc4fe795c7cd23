//! Finds the JSON values in the bytes of a body, with the judgement and the words of Go's
//! encoding/json, which grpc-gateway reads with. Never looks at what a value means.

use bytes::{Buf, Bytes, BytesMut};

/// How deep values may nest: encoding/json scanner.go.
const DEPTH_MAX: usize = 10_000;

/// Splits a body, of which more and more comes, into values.
#[derive(Debug)]
pub struct Scanner {
    buffer: BytesMut,
    /// Bytes of the buffer that the value under way has used.
    at: usize,
    state: State,
    stack: Vec<Inside>,
    failure: Option<String>,
}

/// What a value is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    ObjectKey,
    ObjectValue,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEmpty,
    Key,
    KeyOrEmpty,
    EndValue,
    Text,
    Escape,
    /// Of the four digits behind `\u`, so many have been.
    Hex(u8),
    Minus,
    /// Digits of a number that does not begin with 0.
    Digits,
    Zero,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// `true`, `false` or `null`, of which so many letters have been.
    Word(&'static str, usize),
}

enum Step {
    Go,
    /// The value ended before this byte.
    Ended,
    /// The value ends with this byte.
    Ends,
}

impl Scanner {
    /// Nothing read.
    pub fn new() -> Scanner {
        Scanner {
            buffer: BytesMut::new(),
            at: 0,
            state: State::Value,
            stack: Vec::new(),
            failure: None,
        }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait to become a value.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The next value, without the spaces around it; `None` if more bytes are needed, or, of a body that
    /// `ended`, that there is no further one. An error is final.
    pub fn next(&mut self, ended: bool) -> Result<Option<Bytes>, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let scanned = self.scan(ended);
        if let Err(failure) = &scanned {
            self.failure = Some(failure.clone());
        }
        scanned
    }

    fn scan(&mut self, ended: bool) -> Result<Option<Bytes>, String> {
        while let Some(&byte) = self.buffer.get(self.at) {
            match self.step(byte)? {
                Step::Go => self.at += 1,
                Step::Ended => return Ok(Some(self.take(self.at))),
                Step::Ends => return Ok(Some(self.take(self.at + 1))),
            }
        }
        if !ended {
            return Ok(None);
        }
        // A number ends where the body does.
        if self.stack.is_empty() && matches!(self.step(b' '), Ok(Step::Ended)) {
            return Ok(Some(self.take(self.at)));
        }
        match self.buffer.iter().all(|byte| is_space(*byte)) {
            true => Ok(None),
            false => Err("unexpected EOF".to_string()),
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        let mut value = self.buffer.split_to(length).freeze();
        let spaces = value.iter().take_while(|byte| is_space(**byte)).count();
        value.advance(spaces);
        (self.at, self.state) = (0, State::Value);
        self.stack.clear();
        value
    }

    fn step(&mut self, byte: u8) -> Result<Step, String> {
        match self.state {
            State::Value | State::ValueOrEmpty | State::Key | State::KeyOrEmpty if is_space(byte) => {}
            State::ValueOrEmpty if byte == b']' => return self.end_value(byte),
            State::Value | State::ValueOrEmpty => self.begin_value(byte)?,
            State::KeyOrEmpty if byte == b'}' => {
                self.inside(Inside::ObjectValue);
                return self.end_value(byte);
            }
            State::Key | State::KeyOrEmpty => match byte {
                b'"' => self.state = State::Text,
                _ => return Err(invalid(byte, "looking for beginning of object key string")),
            },
            State::EndValue => return self.end_value(byte),
            State::Text => match byte {
                b'"' => self.state = State::EndValue,
                b'\\' => self.state = State::Escape,
                0..0x20 => return Err(invalid(byte, "in string literal")),
                _ => {}
            },
            State::Escape => match byte {
                b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.state = State::Text,
                b'u' => self.state = State::Hex(0),
                _ => return Err(invalid(byte, "in string escape code")),
            },
            State::Hex(count) => match (byte.is_ascii_hexdigit(), count) {
                (true, 3) => self.state = State::Text,
                (true, _) => self.state = State::Hex(count + 1),
                (false, _) => return Err(invalid(byte, "in \\u hexadecimal character escape")),
            },
            State::Word(word, count) => match word.as_bytes().get(count) {
                Some(wanted) if *wanted == byte && count + 1 == word.len() => self.state = State::EndValue,
                Some(wanted) if *wanted == byte => self.state = State::Word(word, count + 1),
                wanted => {
                    let wanted = char::from(wanted.copied().unwrap_or_default());
                    return Err(invalid(
                        byte,
                        &format!("in literal {word} (expecting '{wanted}')"),
                    ));
                }
            },
            _ => return self.number(byte),
        }
        Ok(Step::Go)
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), String> {
        self.state = match byte {
            b'{' => {
                self.open(byte, Inside::ObjectKey)?;
                State::KeyOrEmpty
            }
            b'[' => {
                self.open(byte, Inside::Array)?;
                State::ValueOrEmpty
            }
            b'"' => State::Text,
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return Err(invalid(byte, "looking for beginning of value")),
        };
        Ok(())
    }

    fn open(&mut self, byte: u8, inside: Inside) -> Result<(), String> {
        self.stack.push(inside);
        match self.stack.len() <= DEPTH_MAX {
            true => Ok(()),
            false => Err(invalid(byte, "exceeded max depth")),
        }
    }

    fn number(&mut self, byte: u8) -> Result<Step, String> {
        let digit = byte.is_ascii_digit();
        let exponent = matches!(byte, b'e' | b'E');
        self.state = match self.state {
            State::Minus if byte == b'0' => State::Zero,
            State::Minus if digit => State::Digits,
            State::Minus => return Err(invalid(byte, "in numeric literal")),
            State::Digits if digit => State::Digits,
            State::Digits | State::Zero if byte == b'.' => State::Dot,
            State::Digits | State::Zero | State::Fraction if exponent => State::Exponent,
            State::Dot if digit => State::Fraction,
            State::Dot => return Err(invalid(byte, "after decimal point in numeric literal")),
            State::Fraction if digit => State::Fraction,
            State::Exponent if matches!(byte, b'+' | b'-') => State::ExponentSign,
            State::Exponent | State::ExponentSign | State::ExponentDigits if digit => State::ExponentDigits,
            State::Exponent | State::ExponentSign => {
                return Err(invalid(byte, "in exponent of numeric literal"));
            }
            _ => return self.end_value(byte),
        };
        Ok(Step::Go)
    }

    /// What comes after a value, or ends what it is in.
    fn end_value(&mut self, byte: u8) -> Result<Step, String> {
        let Some(inside) = self.stack.last().copied() else {
            return Ok(Step::Ended);
        };
        self.state = match (inside, byte) {
            (_, byte) if is_space(byte) => State::EndValue,
            (Inside::ObjectKey, b':') => {
                self.inside(Inside::ObjectValue);
                State::Value
            }
            (Inside::ObjectKey, _) => return Err(invalid(byte, "after object key")),
            (Inside::ObjectValue, b',') => {
                self.inside(Inside::ObjectKey);
                State::Key
            }
            (Inside::Array, b',') => State::Value,
            (Inside::ObjectValue, b'}') | (Inside::Array, b']') => {
                self.stack.pop();
                if self.stack.is_empty() {
                    return Ok(Step::Ends);
                }
                State::EndValue
            }
            (Inside::ObjectValue, _) => return Err(invalid(byte, "after object key:value pair")),
            (Inside::Array, _) => return Err(invalid(byte, "after array element")),
        };
        Ok(Step::Go)
    }

    fn inside(&mut self, inside: Inside) {
        if let Some(top) = self.stack.last_mut() {
            *top = inside;
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn invalid(byte: u8, place: &str) -> String {
    format!("invalid character {} {place}", quoted(byte))
}

/// A byte as Go quotes a character, taking it for one of Latin-1.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_string(),
        b'\\' => r"'\\'".to_string(),
        0x07 => r"'\a'".to_string(),
        0x08 => r"'\b'".to_string(),
        0x0c => r"'\f'".to_string(),
        b'\n' => r"'\n'".to_string(),
        b'\r' => r"'\r'".to_string(),
        b'\t' => r"'\t'".to_string(),
        0x0b => r"'\v'".to_string(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(body: &[u8], piece: usize) -> (Vec<String>, Option<String>) {
        let (mut scanner, mut values) = (Scanner::new(), Vec::new());
        let mut pieces = body.chunks(piece.max(1));
        loop {
            let piece = pieces.next();
            scanner.push(piece.unwrap_or_default());
            loop {
                match scanner.next(piece.is_none()) {
                    Ok(Some(value)) => values.push(String::from_utf8_lossy(&value).into_owned()),
                    Ok(None) => break,
                    Err(error) => return (values, Some(error)),
                }
            }
            if piece.is_none() {
                return (values, None);
            }
        }
    }

    /// As Go 1.26's encoding/json has it.
    #[test]
    fn values_are_found_and_errors_told_as_go_does() {
        for (body, values, error) in [
            ("", &[][..], None),
            (" \n", &[], None),
            ("{} {}", &["{}", "{}"], None),
            (
                "{\"a\" : [1, true,null,{}],\"b\":\"x\\u00e4\\n\"}[]",
                &["{\"a\" : [1, true,null,{}],\"b\":\"x\\u00e4\\n\"}", "[]"],
                None,
            ),
            ("5", &["5"], None),
            (" -0.5e+7 null", &["-0.5e+7", "null"], None),
            (
                "5x",
                &["5"],
                Some("invalid character 'x' looking for beginning of value"),
            ),
            ("{", &[], Some("unexpected EOF")),
            (
                "{} x",
                &["{}"],
                Some("invalid character 'x' looking for beginning of value"),
            ),
            (
                "xx",
                &[],
                Some("invalid character 'x' looking for beginning of value"),
            ),
            (
                "{1}",
                &[],
                Some("invalid character '1' looking for beginning of object key string"),
            ),
            ("{\"a\"1}", &[], Some("invalid character '1' after object key")),
            (
                "{\"a\":1]",
                &[],
                Some("invalid character ']' after object key:value pair"),
            ),
            ("[1}", &[], Some("invalid character '}' after array element")),
            (
                "[1,]",
                &[],
                Some("invalid character ']' looking for beginning of value"),
            ),
            (
                "nul!",
                &[],
                Some("invalid character '!' in literal null (expecting 'l')"),
            ),
            ("\"a\nb\"", &[], Some("invalid character '\\n' in string literal")),
            (
                "\"\\x\"",
                &[],
                Some("invalid character 'x' in string escape code"),
            ),
            (
                "\"\\u12g4\"",
                &[],
                Some("invalid character 'g' in \\u hexadecimal character escape"),
            ),
            ("-x", &[], Some("invalid character 'x' in numeric literal")),
            (
                "1.x",
                &[],
                Some("invalid character 'x' after decimal point in numeric literal"),
            ),
            ("1e+", &[], Some("unexpected EOF")),
            (
                "1e-'",
                &[],
                Some("invalid character '\\'' in exponent of numeric literal"),
            ),
            (
                "\u{e4}",
                &[],
                Some("invalid character 'Ã' looking for beginning of value"),
            ),
            ("\"open", &[], Some("unexpected EOF")),
        ] {
            for piece in [1, 3, 1000] {
                let (found, failure) = all(body.as_bytes(), piece);
                assert_eq!(
                    (&found[..], failure.as_deref()),
                    (
                        &values.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
                        error
                    ),
                    "{body} in {piece}"
                );
            }
        }
        let deep = "[".repeat(20_000);
        assert_eq!(
            all(deep.as_bytes(), 999).1.as_deref(),
            Some("invalid character '[' exceeded max depth")
        );
    }
}
