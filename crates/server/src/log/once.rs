//! A log for what is tried again and again: it says each line once. Changes no line.

use std::collections::BTreeSet;
use std::sync::Mutex;

use member::{Log, LogLine};

use crate::driver::lock;

/// Different lines that are remembered.
const LINES_MAX: usize = 256;

/// See the module.
pub struct Once<'a> {
    log: &'a dyn Log,
    said: Mutex<BTreeSet<String>>,
}

impl<'a> Once<'a> {
    /// Nothing was said yet.
    pub fn new(log: &'a dyn Log) -> Once<'a> {
        Once {
            log,
            said: Mutex::default(),
        }
    }

    fn is_new(&self, line: &LogLine) -> bool {
        let mut said = lock(&self.said);
        let text = format!("{} {:?}", line.msg, line.fields);
        said.len() >= LINES_MAX || said.insert(text)
    }
}

impl Log for Once<'_> {
    fn log(&self, line: LogLine) {
        if self.is_new(&line) {
            self.log.log(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<LogLine>>);

    impl Log for Recorder {
        fn log(&self, line: LogLine) {
            lock(&self.0).push(line);
        }
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let recorder = Recorder::default();
        let once = Once::new(&recorder);
        let line = |mode: u64| LogLine::warn("check file permission").with("mode", mode);
        for mode in [7, 7, 5, 7, 5] {
            once.log(line(mode));
        }
        once.log(LogLine::warn("check"));
        let said = lock(&recorder.0).len();
        assert_eq!(said, 3, "two modes and another text");
    }
}
