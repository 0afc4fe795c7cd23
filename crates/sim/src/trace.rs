//! What happened, for people and for comparing runs.

use std::collections::{BTreeMap, VecDeque};

use api::clock::Instant;
use member::{Level, LogLine};

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
        let line = format!("{:>10.4} {what}", now.since_start().as_secs_f64());
        self.sum(&line);
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
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
