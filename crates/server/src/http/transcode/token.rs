//! The tokens of one JSON value, with the judgement and the words of Go's protojson
//! (google.golang.org/protobuf/internal/encoding/json), which is stricter than encoding/json.

/// A kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    End,
    Null,
    Bool,
    Number,
    Text,
    /// A text with the colon behind it.
    Name,
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
    Comma,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Where it begins.
    pub at: usize,
    /// As it is written.
    pub raw: &'a [u8],
    /// What a text or a name says.
    pub text: String,
}

impl Token<'_> {
    /// As it is written.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(self.raw).into_owned()
    }
}

/// Reads tokens.
#[derive(Debug)]
pub struct Tokens<'a> {
    input: &'a [u8],
    at: usize,
    last: Option<Kind>,
    open: Vec<Kind>,
    peeked: Option<Token<'a>>,
}

impl<'a> Tokens<'a> {
    /// At the beginning.
    pub fn new(input: &'a [u8]) -> Tokens<'a> {
        Tokens {
            input,
            at: 0,
            last: None,
            open: Vec::new(),
            peeked: None,
        }
    }

    /// The kind of the next token, which is not taken.
    pub fn peek(&mut self) -> Result<Kind, String> {
        let token = self.read()?;
        let kind = token.kind;
        self.peeked = Some(token);
        Ok(kind)
    }

    /// Takes the next token.
    pub fn read(&mut self) -> Result<Token<'a>, String> {
        if let Some(token) = self.peeked.take() {
            return Ok(token);
        }
        loop {
            let mut token = self.parse()?;
            self.check(&mut token)?;
            self.last = Some(token.kind);
            if token.kind != Kind::Comma {
                return Ok(token);
            }
        }
    }

    /// Whether the token may come here.
    fn check(&mut self, token: &mut Token<'a>) -> Result<(), String> {
        let ended_value = matches!(
            self.last,
            Some(Kind::Null | Kind::Bool | Kind::Number | Kind::Text | Kind::ObjectClose | Kind::ArrayClose)
        );
        let inside = self.open.last().copied();
        let fits = match token.kind {
            Kind::End if inside.is_some() => return Err(unexpected_end()),
            Kind::End | Kind::Name => true,
            Kind::Null | Kind::Bool | Kind::Number => self.is_value_next(),
            Kind::Text if self.is_value_next() => true,
            Kind::Text if matches!(self.last, Some(Kind::ObjectOpen | Kind::Comma)) => {
                match self.input.get(self.at) {
                    None => return Err(unexpected_end()),
                    Some(b':') => {
                        token.kind = Kind::Name;
                        self.skip(1);
                        true
                    }
                    Some(other) => {
                        let other = char::from(*other);
                        let text = format!("unexpected character {other}, missing \":\" after field name");
                        return Err(self.syntax(self.at, &text));
                    }
                }
            }
            Kind::Text => false,
            Kind::ObjectOpen | Kind::ArrayOpen => {
                let fits = self.is_value_next();
                self.open.push(token.kind);
                fits
            }
            Kind::ObjectClose => {
                self.open.pop();
                inside == Some(Kind::ObjectOpen) && !matches!(self.last, Some(Kind::Name | Kind::Comma))
            }
            Kind::ArrayClose => {
                self.open.pop();
                inside == Some(Kind::ArrayOpen) && self.last != Some(Kind::Comma)
            }
            Kind::Comma => inside.is_some() && ended_value,
        };
        match fits {
            true => Ok(()),
            false => Err(self.unexpected(token)),
        }
    }

    fn is_value_next(&self) -> bool {
        match self.open.last() {
            None => self.last.is_none(),
            Some(Kind::ObjectOpen) => self.last == Some(Kind::Name),
            Some(_) => matches!(self.last, Some(Kind::ArrayOpen | Kind::Comma)),
        }
    }

    fn parse(&mut self) -> Result<Token<'a>, String> {
        self.skip(0);
        let rest = &self.input[self.at..];
        let word =
            |word: &[u8]| rest.starts_with(word) && !rest.get(word.len()).is_some_and(|b| is_joined(*b));
        let (kind, length, text) = match rest.first() {
            None => (Kind::End, 0, String::new()),
            Some(b'{') => (Kind::ObjectOpen, 1, String::new()),
            Some(b'}') => (Kind::ObjectClose, 1, String::new()),
            Some(b'[') => (Kind::ArrayOpen, 1, String::new()),
            Some(b']') => (Kind::ArrayClose, 1, String::new()),
            Some(b',') => (Kind::Comma, 1, String::new()),
            Some(b'"') => {
                let (text, length) = self.text(rest)?;
                (Kind::Text, length, text)
            }
            Some(b'n') if word(b"null") => (Kind::Null, 4, String::new()),
            Some(b't') if word(b"true") => (Kind::Bool, 4, String::new()),
            Some(b'f') if word(b"false") => (Kind::Bool, 5, String::new()),
            Some(_) => match number_length(rest) {
                Some(length) => (Kind::Number, length, String::new()),
                None => {
                    let text = format!("invalid value {}", first_word(rest));
                    return Err(self.syntax(self.at, &text));
                }
            },
        };
        let (at, raw) = (self.at, &rest[..length]);
        self.skip(length);
        Ok(Token { kind, at, raw, text })
    }

    /// Passes over so many bytes and the spaces behind them.
    fn skip(&mut self, count: usize) {
        self.at += count;
        while matches!(self.input.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// What a text says, and how many bytes it has.
    fn text(&self, rest: &[u8]) -> Result<(String, usize), String> {
        let (mut out, mut at) = (String::new(), 1);
        loop {
            let run = rest[at..]
                .iter()
                .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20));
            let run = run.count();
            match std::str::from_utf8(&rest[at..at + run]) {
                Ok(text) => out.push_str(text),
                Err(_) => return Err(self.syntax(self.at, "invalid UTF-8 in string")),
            }
            at += run;
            match rest.get(at) {
                None => return Err(unexpected_end()),
                Some(b'"') => return Ok((out, at + 1)),
                Some(b'\\') => {
                    let (letter, length) = self.escape(&rest[at..])?;
                    out.push(letter);
                    at += length;
                }
                Some(other) => {
                    let other = char::from(*other).escape_default();
                    return Err(self.syntax(self.at, &format!("invalid character '{other}' in string")));
                }
            }
        }
    }

    fn escape(&self, rest: &[u8]) -> Result<(char, usize), String> {
        let wrong = |count: usize| {
            let code = String::from_utf8_lossy(&rest[..count.min(rest.len())]).into_owned();
            Err(self.syntax(self.at, &format!("invalid escape code {code:?} in string")))
        };
        let letter = match rest.get(1) {
            None => return Err(unexpected_end()),
            Some(b'u') => {
                let Some(unit) = rest.get(2..6) else {
                    return Err(unexpected_end());
                };
                let Some(unit) = hex(unit) else {
                    return wrong(6);
                };
                if let Some(letter) = char::from_u32(unit) {
                    return Ok((letter, 6));
                }
                // Half of a letter: the other half must follow.
                let Some(second) = rest.get(6..12) else {
                    return Err(unexpected_end());
                };
                let low = second.strip_prefix(b"\\u").and_then(hex);
                let letter = low.filter(|low| unit < 0xdc00 && (0xdc00..0xe000).contains(low));
                let letter =
                    letter.and_then(|low| char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
                return match letter {
                    Some(letter) => Ok((letter, 12)),
                    None => {
                        let code = String::from_utf8_lossy(second).into_owned();
                        Err(self.syntax(self.at, &format!("invalid escape code {code:?} in string")))
                    }
                };
            }
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(*letter),
            Some(_) => return wrong(2),
        };
        Ok((letter, 2))
    }

    /// The error of a token that may not be where it is.
    pub fn unexpected(&self, token: &Token<'_>) -> String {
        self.syntax(token.at, &format!("unexpected token {}", token.written()))
    }

    fn syntax(&self, at: usize, text: &str) -> String {
        let (line, column) = self.place(at);
        format!("proto: syntax error (line {line}:{column}): {text}")
    }

    /// An error of what a token means.
    pub fn error(&self, at: usize, text: &str) -> String {
        let (line, column) = self.place(at);
        format!("proto: (line {line}:{column}): {text}")
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.input[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        (
            line,
            String::from_utf8_lossy(&before[start..]).chars().count() + 1,
        )
    }
}

fn unexpected_end() -> String {
    "proto: unexpected EOF".to_string()
}

fn hex(digits: &[u8]) -> Option<u32> {
    let all = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u32::from_str_radix(digits, 16).ok()
}

/// Whether a byte would go on a number or a word.
fn is_joined(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

/// What is wrong, up to where it probably ends.
fn first_word(rest: &[u8]) -> String {
    let count = rest.iter().take(32).take_while(|byte| is_joined(**byte)).count();
    let text = String::from_utf8_lossy(&rest[..rest.len().min(32)]).into_owned();
    match count {
        0 => text.chars().take(1).collect(),
        count => text[..count].to_string(),
    }
}

/// How long the number is with which `rest` begins.
pub fn number_length(rest: &[u8]) -> Option<usize> {
    let digits = |at: usize| {
        rest[at.min(rest.len())..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut at = usize::from(rest.first() == Some(&b'-'));
    at += match rest.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if rest.get(at) == Some(&b'.') && digits(at + 1) > 0 {
        at += 1 + digits(at + 1);
    }
    if matches!(rest.get(at), Some(b'e' | b'E')) && rest.len() > at + 1 {
        at += 1;
        if matches!(rest[at], b'+' | b'-') {
            at += 1;
            rest.get(at)?;
        }
        at += digits(at);
    }
    match rest.get(at) {
        Some(byte) if is_joined(*byte) => None,
        _ => Some(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(input: &str) -> Result<Vec<Kind>, String> {
        let (mut tokens, mut kinds) = (Tokens::new(input.as_bytes()), Vec::new());
        loop {
            let token = tokens.read()?;
            if token.kind == Kind::End {
                return Ok(kinds);
            }
            kinds.push(token.kind);
        }
    }

    #[test]
    fn tokens_are_told_apart() {
        use Kind::{ArrayClose, ArrayOpen, Bool, Name, Null, Number, ObjectClose, ObjectOpen, Text};
        assert_eq!(
            kinds(r#" {"a":[1,-2.5e3, true ,null,"x"]}"#).unwrap(),
            [
                ObjectOpen,
                Name,
                ArrayOpen,
                Number,
                Number,
                Bool,
                Null,
                Text,
                ArrayClose,
                ObjectClose
            ]
        );
        let mut tokens = Tokens::new(br#""\ud83d\ude00\u00e4\n\/""#);
        assert_eq!(tokens.peek(), Ok(Text));
        assert_eq!(tokens.read().unwrap().text, "\u{1f600}\u{e4}\n/");
    }

    /// Errors as protojson 1.36 has them.
    #[test]
    fn errors_have_their_place() {
        for (input, error) in [
            (
                "{\n \"a\" 1}",
                "proto: syntax error (line 2:6): unexpected character 1, missing \":\" after field name",
            ),
            (
                "{\"\u{e4}\":1 2}",
                "proto: syntax error (line 1:8): unexpected token 2",
            ),
            ("[1,]", "proto: syntax error (line 1:4): unexpected token ]"),
            ("{\"a\":nul}", "proto: syntax error (line 1:6): invalid value nul"),
            ("{\"a\":01}", "proto: syntax error (line 1:6): invalid value 01"),
            (
                "[\"\\ud800\\u0041\"]",
                "proto: syntax error (line 1:2): invalid escape code \"\\\\u0041\" in string",
            ),
            ("[\"\\ud800\"", "proto: unexpected EOF"),
            ("[", "proto: unexpected EOF"),
            ("?", "proto: syntax error (line 1:1): invalid value ?"),
        ] {
            assert_eq!(kinds(input), Err(error.to_string()), "{input}");
        }
        let mut wrong = Tokens::new(b"\"\xff\"");
        assert_eq!(
            wrong.read().unwrap_err(),
            "proto: syntax error (line 1:1): invalid UTF-8 in string"
        );
    }

    #[test]
    fn tokens_take_anything() {
        let mut random = fastrand::Rng::with_seed(21);
        let letters = b"{}[]:,\"\\u0d8n-1.e+ tf\n\xff";
        for _ in 0..5000 {
            let input: Vec<u8> = (0..random.usize(..30))
                .map(|_| letters[random.usize(..letters.len())])
                .collect();
            let mut tokens = Tokens::new(&input);
            while tokens.read().is_ok_and(|token| token.kind != Kind::End) {}
        }
    }
}
