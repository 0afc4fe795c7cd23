//! Prometheus' text format.

use std::fmt::{Display, Write};

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// The lines before a metric's values.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A value without labels.
    pub fn plain(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// A value with labels, written as they stand.
    pub fn labelled(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.plain(name, value);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.plain(name, value);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }
}
