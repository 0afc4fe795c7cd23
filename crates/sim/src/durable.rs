//! Whether an entry would survive if all machines died now: what a quorum's disks hold without anything that was not
//! synced.

use disk::mem::{CrashMode, MemDisk};
use member::Config;
use wal::{EntryKind, Record, Records};

/// Whether a crash now would leave an entry on this disk: in the log, or before a mark.
pub fn holds(disk: &MemDisk, config: &Config, index: u64, term: u64) -> bool {
    let left = disk.crash(0, CrashMode::LoseUnsynced);
    let Ok(mut records) = Records::open(&left, &config.wal_dir()) else {
        return false;
    };
    let mut found = false;
    while let Ok(Some(located)) = records.next() {
        match located.record() {
            Ok(Record::Entry(entry)) if entry.index <= index => {
                // Whatever is written at or before it takes it away, unless it is that entry.
                let is_it = entry.index == index && entry.term == term;
                found = is_it && entry.kind != EntryKind::ConfChangeV2;
            }
            Ok(Record::Mark(mark)) => found |= mark.index >= index,
            _ => {}
        }
    }
    found
}
