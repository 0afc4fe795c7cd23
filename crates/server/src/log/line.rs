//! One line, built field by field, in zap's JSON or console form.

use std::fmt::{Display, Write};
use std::panic::Location;
use std::time::SystemTime;

use super::{Level, Log, clock};

/// A line being built; `emit` hands it to the writer. Costs nothing if its level is off.
#[must_use = "a line is written by `emit`"]
#[derive(Debug)]
pub struct Line<'a> {
    log: &'a Log,
    level: Level,
    body: Option<Body>,
}

impl<'a> Line<'a> {
    pub(super) fn new(
        log: &'a Log,
        level: Level,
        time: SystemTime,
        caller: &Location<'_>,
        text: &str,
    ) -> Line<'a> {
        let body = log
            .is_on(level)
            .then(|| Body::new(log.shared.json, level, time, caller, text));
        Line { log, level, body }
    }

    /// A text field.
    pub fn text(mut self, key: &str, value: impl AsRef<str>) -> Line<'a> {
        if let Some(body) = &mut self.body {
            body.key(key);
            quote(&mut body.out, value.as_ref());
        }
        self
    }

    /// A text field made of anything that prints.
    pub fn show(self, key: &str, value: impl Display) -> Line<'a> {
        match self.body {
            Some(_) => self.text(key, value.to_string()),
            None => self,
        }
    }

    /// The field `error`.
    pub fn error(self, error: impl Display) -> Line<'a> {
        self.show("error", error)
    }

    /// A number.
    pub fn num(mut self, key: &str, value: impl Into<i128>) -> Line<'a> {
        if let Some(body) = &mut self.body {
            body.raw(key, &value.into().to_string());
        }
        self
    }

    /// True or false.
    pub fn flag(mut self, key: &str, value: bool) -> Line<'a> {
        if let Some(body) = &mut self.body {
            body.raw(key, if value { "true" } else { "false" });
        }
        self
    }

    /// A list of texts.
    pub fn list<T: AsRef<str>>(mut self, key: &str, values: impl IntoIterator<Item = T>) -> Line<'a> {
        if let Some(body) = &mut self.body {
            body.key(key);
            body.out.push('[');
            for (at, value) in values.into_iter().enumerate() {
                if at > 0 {
                    body.out.push(',');
                }
                quote(&mut body.out, value.as_ref());
            }
            body.out.push(']');
        }
        self
    }

    /// Hands the line to the writer.
    pub fn emit(self) {
        if let Some(body) = self.body {
            self.log.send(self.level, body.finish());
        }
    }
}

/// The bytes of a line.
#[derive(Debug)]
pub(super) struct Body {
    out: String,
    json: bool,
    fields: usize,
}

impl Body {
    pub(super) fn new(json: bool, level: Level, time: SystemTime, caller: &Location<'_>, text: &str) -> Body {
        let mut out = String::with_capacity(256);
        let time = clock::timestamp(time);
        let (file, number) = (short(caller.file()), caller.line());
        let level = level.name();
        if json {
            let _ = write!(
                out,
                "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":\"{file}:{number}\",\"msg\":"
            );
            quote(&mut out, text);
        } else {
            let _ = write!(out, "{time}\t{level}\t{file}:{number}\t{text}");
        }
        Body { out, json, fields: 0 }
    }

    /// Starts a field: zap's console form has spaces after colons and commas.
    fn key(&mut self, key: &str) {
        self.out.push_str(match (self.json, self.fields) {
            (true, _) => ",",
            (false, 0) => "\t{",
            (false, _) => ", ",
        });
        self.fields += 1;
        quote(&mut self.out, key);
        self.out.push_str(if self.json { ":" } else { ": " });
    }

    pub(super) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.json || self.fields > 0 {
            self.out.push('}');
        }
        self.out.push('\n');
        self.out.into_bytes()
    }
}

/// The file with its directory, as zap shortens paths.
fn short(path: &str) -> &str {
    let mut slashes = path.rmatch_indices('/').map(|(at, _)| at);
    slashes.next();
    slashes.next().map_or(path, |at| &path[at + 1..])
}

/// A JSON string, with what JSON demands escaped.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
