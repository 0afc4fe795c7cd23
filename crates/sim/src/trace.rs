//! What happened, for people and for comparing runs.

use std::collections::{BTreeMap, VecDeque};

use api::clock::Instant;
use member::{Level, LogLine};

/// The first digit that is no place.
const PLACES_END: char = '6';

/// Lines that are kept.
const KEPT: usize = 4000;

/// See the module.
#[derive(Default)]
pub struct Trace {
    lines: VecDeque<String>,
    digest: u64,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Something worth a line.
    pub fn tell(&mut self, now: Instant, what: String) {
        self.sum(&format!("{} {what}", now.since_start().as_nanos()));
        self.tell_unsummed(now, &what);
    }

    /// Something worth a line only for who asked for it: it does not make another run of this one.
    pub fn tell_unsummed(&mut self, now: Instant, what: &str) {
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        let gutter = gutter(what);
        let line = format!("{:>10.4} {gutter} {what}", now.since_start().as_secs_f64());
        self.lines.push_back(line);
    }

    /// A line of a member's log.
    pub fn log(&mut self, now: Instant, place: usize, line: &LogLine) {
        let counted = match line.msg.as_ref() {
            "applied snapshot" => Some("snapshots installed"),
            "promote member" => Some("promotions applied"),
            "added member" => Some("additions applied"),
            "removed member" => Some("removals applied"),
            "saved snapshot to disk" => Some("snapshot files"),
            text if text.starts_with("a newer snapshot has come") => {
                Some("states overtaken while they were opened")
            }
            "finished scheduled compaction" => Some("compactions"),
            "finished defragmenting directory" => Some("defragmentations"),
            text if text.starts_with("repaired WAL") => Some("torn tails repaired"),
            text if text.starts_with("Recovering from snapshot backend") => Some("received files recovered"),
            text if text.starts_with("no space") => Some("full disks noticed"),
            _ => None,
        };
        if let Some(what) = counted {
            self.count(what);
        }
        let fields: String = line
            .fields
            .iter()
            .map(|(name, value)| format!(" {name}={value:?}"))
            .collect();
        if line.level >= Level::Info {
            self.tell(now, format!("m{place} says {}{fields}", line.msg));
        }
    }

    /// Something that is only counted.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
        self.sum(what);
    }

    /// Something that happened so often.
    pub fn count_many(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    /// Adds to the sum over all that happened (FNV-1a).
    pub fn sum(&mut self, text: &str) {
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The sum.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The last lines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// A column for each place, marked where a line speaks of it.
fn gutter(what: &str) -> String {
    let names = |place: char| {
        let name = format!("m{place}");
        let mut words = what.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.any(|word| word == name)
    };
    let mark = |place: char| if names(place) { place } else { '.' };
    ('0'..PLACES_END).map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_in_the_columns_of_those_it_speaks_of() {
        assert_eq!(gutter("m1 to m3: Append term 2"), ".1.3..");
        assert_eq!(gutter("all machines die, also 4m0"), "......");
    }
}
