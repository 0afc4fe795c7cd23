//! What a member's log says on its disk, apart from the process that wrote it: what it has promised to the
//! others is all in there. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use disk::mem::{CrashMode, MemDisk};
use wal::{HardState, Record, Records};

/// The entries, the votes and the snapshots of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promise {
    /// By index: term and content.
    entries: BTreeMap<u64, (u64, bytes::Bytes)>,
    /// The newest mark that the commit reaches: what is below it may be gone. A mark beyond the commit counts for
    /// nothing when the member starts (etcd: server/storage/wal/wal.go, ValidSnapshotEntries).
    mark: u64,
    hard_state: HardState,
}

impl Promise {
    /// Reads a log up to where it ends or is damaged, through whatever keeps its process from reading it now.
    pub fn read(disk: &MemDisk, wal_dir: &Path) -> Promise {
        let disk = disk.crash(0, CrashMode::KeepAll);
        let mut promise = Promise::default();
        let mut marks = Vec::new();
        let Ok(mut records) = Records::open(&disk, wal_dir) else {
            return promise;
        };
        while let Ok(Some(located)) = records.next() {
            match located.record() {
                Ok(Record::Entry(entry)) => {
                    promise.entries.split_off(&entry.index);
                    promise.entries.insert(entry.index, (entry.term, entry.data));
                }
                Ok(Record::State(state)) => promise.hard_state = state,
                Ok(Record::Mark(mark)) => marks.push(mark.index),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let commit = promise.hard_state.commit;
        promise.mark = marks
            .into_iter()
            .filter(|mark| *mark <= commit)
            .max()
            .unwrap_or_default();
        promise
    }

    /// What the log of a later process does not keep of this; nothing if it keeps all.
    pub fn broken_by(&self, later: &Promise) -> Option<String> {
        let (before, after) = (self.hard_state, later.hard_state);
        let votes_kept = after.term > before.term
            || after.term == before.term && (before.vote == 0 || after.vote == before.vote);
        if !votes_kept || after.commit > before.commit.max(later.mark) {
            return Some(format!("{before:?} became {after:?}"));
        }
        for (index, entry) in self.entries.range(later.mark + 1..) {
            match later.entries.get(index) {
                Some(kept) if kept == entry => {}
                Some(kept) => {
                    return Some(format!(
                        "entry {index} of term {} became one of term {}",
                        entry.0, kept.0
                    ));
                }
                None => return Some(format!("entry {index} of term {} is gone", entry.0)),
            }
        }
        let newer = later.entries.last_key_value().map(|(index, _)| *index);
        let reaches = later.mark.max(newer.unwrap_or_default());
        if self.mark > reaches {
            return Some(format!("the state of index {} is gone", self.mark));
        }
        let last = self
            .entries
            .last_key_value()
            .map_or(self.mark, |(index, _)| *index);
        newer
            .filter(|newer| *newer > last)
            .map(|newer| format!("entry {newer} came from nowhere"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_changed_breaks_a_promise() {
        let promise = |term: u64, vote: u64, entries: &[(u64, u64)]| Promise {
            entries: entries
                .iter()
                .map(|(index, term)| (*index, (*term, bytes::Bytes::new())))
                .collect(),
            mark: 0,
            hard_state: HardState {
                term,
                vote,
                commit: 1,
            },
        };
        let before = promise(3, 7, &[(1, 1), (2, 3)]);
        let check = |after: Promise, wanted: Option<&str>| {
            assert_eq!(before.broken_by(&after).as_deref(), wanted);
        };
        check(before.clone(), None);
        check(promise(4, 0, &[(1, 1), (2, 3)]), None);
        check(promise(3, 7, &[(1, 1)]), Some("entry 2 of term 3 is gone"));
        check(
            promise(3, 7, &[(1, 1), (2, 2)]),
            Some("entry 2 of term 3 became one of term 2"),
        );
        check(
            promise(3, 7, &[(1, 1), (2, 3), (3, 3)]),
            Some("entry 3 came from nowhere"),
        );
        for forgotten in [promise(3, 0, &[(1, 1), (2, 3)]), promise(2, 7, &[(1, 1), (2, 3)])] {
            assert!(before.broken_by(&forgotten).is_some());
        }
        let mut received = before.clone();
        received.mark = 9;
        let lost = received.broken_by(&before);
        assert_eq!(lost.as_deref(), Some("the state of index 9 is gone"));
        let mut behind_a_snapshot = promise(3, 7, &[(2, 3)]);
        behind_a_snapshot.mark = 1;
        check(behind_a_snapshot, None);
    }
}
