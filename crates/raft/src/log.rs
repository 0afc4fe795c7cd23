//! The tail of the log in memory, and how far each of its readers has come: disk, commit, application.
//!
//! Never touches a disk: it hands out entries to persist under numbers and hears which numbers are durable.
//!
//! ```text
//!   base  <=  applied  <=  handed  <=  commit  <=  last        (base may be ahead of applied while a snapshot installs)
//!             durable  <=  taken               <=  last
//! ```
//! `base` is the entry before the first in memory, `handed` was given out to be applied, `taken` was given out to be
//! persisted. When entries are replaced, writes that are still on their way count only as far as they were not
//! replaced: the disk may reach (1,2,3), (1',2') and (1,2,3) again in that order, and only the last of these three
//! writes proves that the last (1,2,3) stays. (go: the comment on newStorageAppendRespMsg in rawnode.go solves the same
//! with terms.)

use std::collections::VecDeque;

use crate::error::Fatal;
use crate::message::{Entry, EntryKind, Message, Snapshot};

/// What became of a snapshot from the leader.
#[derive(Debug)]
enum Pending {
    None,
    /// Not yet handed out.
    New(Snapshot),
    /// Handed out; the application is installing it.
    Installing(u64),
}

/// A write on its way to disk.
#[derive(Debug)]
struct Write {
    number: u64,
    /// Entries up to here are durable when the write is.
    last: u64,
    /// The term that is durable when the write is.
    term: u64,
}

/// The log. See the file's head for its marks.
#[derive(Debug)]
pub(crate) struct Log {
    base: (u64, u64),
    entries: VecDeque<Entry>,
    commit: u64,
    handed: u64,
    applied: u64,
    taken: u64,
    durable: u64,
    writes: VecDeque<Write>,
    writes_begun: u64,
    pending: Pending,
}

impl Log {
    /// A log that is on disk as a whole. `base` is (index, term) of the newest snapshot.
    pub(crate) fn new(base: (u64, u64), entries: Vec<Entry>, commit: u64, applied: u64) -> Log {
        let last = base.0 + entries.len() as u64;
        Log {
            base,
            entries: entries.into(),
            commit,
            handed: applied,
            applied,
            taken: last,
            durable: last,
            writes: VecDeque::new(),
            writes_begun: 0,
            pending: Pending::None,
        }
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    pub(crate) fn first(&self) -> u64 {
        self.base.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(crate) fn last_term(&self) -> u64 {
        self.entries.back().map_or(self.base.1, |entry| entry.term)
    }

    /// The term of an entry; `None` if it is compacted or not there.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entry(index).map(|entry| entry.term)
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.base.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    pub(crate) fn matches(&self, index: u64, term: u64) -> bool {
        self.term(index) == Some(term)
    }

    /// Whether a log that ends in (index, term) holds at least what this one holds.
    pub(crate) fn is_up_to_date(&self, index: u64, term: u64) -> bool {
        (term, index) >= (self.last_term(), self.last())
    }

    /// The place where another log may still agree with this one, if all that is known of it is one entry: the
    /// greatest index up to `index` whose term here is at most `term`, and that term; 0 if the term is not known here.
    /// (go: findConflictByTerm. Terms never fall along a log, so this can bisect.)
    pub(crate) fn find_conflict_by_term(&self, index: u64, term: u64) -> (u64, u64) {
        let Some(own) = self.term(index) else {
            return (index, 0);
        };
        if own <= term {
            return (index, own);
        }
        let upto = usize::try_from(index - self.base.0)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let (mut low, mut high) = (0, upto);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entries[middle].term <= term {
                low = middle + 1
            } else {
                high = middle
            }
        }
        let found = self.base.0 + low as u64;
        match self.term(found) {
            Some(own) if own <= term => (found, own),
            // Not even the compacted end agrees; what lies before it is not known here. Place 0 agrees always.
            _ => (found.saturating_sub(1), 0),
        }
    }

    /// Entries from `from` on: at least one if there is one, then as many as weigh at most `bytes_max` together.
    pub(crate) fn from(&self, from: u64, bytes_max: u64) -> Vec<Entry> {
        self.range(from, self.last(), bytes_max)
    }

    fn range(&self, from: u64, to: u64, bytes_max: u64) -> Vec<Entry> {
        debug_assert!(
            from >= self.first(),
            "entries {from}.. are asked for, but begin at {}",
            self.first()
        );
        if from > to {
            return Vec::new();
        }
        let begin = usize::try_from(from - self.first())
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let end = usize::try_from(to - self.base.0)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let mut bytes = 0u64;
        let mut count = 0;
        for entry in self.entries.range(begin..end) {
            bytes = bytes.saturating_add(entry.encoded_bytes());
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        self.entries.range(begin..begin + count).cloned().collect()
    }

    /// Bytes of data in the entries (from, to] of one term.
    pub(crate) fn payload_bytes(&self, from: u64, to: u64, term: u64) -> u64 {
        (from + 1..=to)
            .filter_map(|index| self.entry(index))
            .filter(|entry| entry.term == term)
            .map(|entry| entry.data.len() as u64)
            .sum()
    }

    /// Appends entries of this leader, which continue the log.
    pub(crate) fn append(&mut self, entry: Entry) {
        debug_assert_eq!(entry.index, self.last() + 1, "a leader only appends");
        debug_assert!(entry.term >= self.last_term(), "terms never fall along a log");
        self.entries.push_back(entry);
    }

    /// Refuses a leader whose log contradicts what is committed here. Every leader holds all that is committed, so this is
    /// another cluster's, or a disk has lost what it acknowledged. (Go would answer that all is well.)
    pub(crate) fn refuse_conflict(&self, append: &Message) -> Result<(), Fatal> {
        let previous = (append.index, append.log_term);
        let places = append.entries.iter().map(|entry| (entry.index, entry.term));
        let committed = std::iter::once(previous)
            .chain(places)
            .take_while(|(index, _)| *index <= self.commit);
        for (index, term) in committed {
            if self.term(index).is_some_and(|own| own != term) {
                return Err(Fatal::CommittedConflict {
                    index,
                    commit: self.commit,
                });
            }
        }
        Ok(())
    }

    /// Takes entries from a leader that follow (index, term), if that entry is here, and replaces what differs. Returns
    /// the last index that now agrees with the leader's log, or `None` if the logs do not agree at `index`.
    ///
    /// The entries are consecutive from `index + 1` (checked at the door).
    pub(crate) fn maybe_append(
        &mut self,
        index: u64,
        term: u64,
        mut entries: Vec<Entry>,
        commit: u64,
    ) -> Option<u64> {
        if !self.matches(index, term) {
            return None;
        }
        let last_new = index + entries.len() as u64;
        let known = entries
            .iter()
            .take_while(|entry| self.matches(entry.index, entry.term))
            .count();
        if let Some(conflict) = entries.get(known) {
            self.truncate(conflict.index);
            self.entries.extend(entries.drain(known..));
        }
        self.commit_to(commit.min(last_new));
        Some(last_new)
    }

    /// Drops the entry at `from` and all after it, and with them the claims of writes on their way.
    fn truncate(&mut self, from: u64) {
        debug_assert!(from > self.commit, "what is committed is never replaced");
        let keep = usize::try_from(from - self.first()).unwrap_or(usize::MAX);
        if keep < self.entries.len() {
            self.entries.truncate(keep);
            self.forget_writes_from(from);
        }
    }

    fn forget_writes_from(&mut self, from: u64) {
        self.taken = self.taken.min(from - 1);
        self.durable = self.durable.min(from - 1);
        for write in &mut self.writes {
            write.last = write.last.min(from - 1);
        }
    }

    /// Raises the commit index; what it reaches is here (the callers have checked).
    pub(crate) fn commit_to(&mut self, commit: u64) {
        debug_assert!(
            commit <= self.last(),
            "commit {commit} is beyond the last entry {}",
            self.last()
        );
        self.commit = self.commit.max(commit.min(self.last()));
    }

    /// Replaces the whole log by a snapshot from the leader.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        debug_assert!(
            snapshot.index > self.commit,
            "a snapshot behind the commit index is refused"
        );
        // What was committed before is part of the snapshot, so it stays proved by its writes; what came after may
        // differ.
        self.forget_writes_from(self.commit + 1);
        self.base = (snapshot.index, snapshot.term);
        self.entries.clear();
        self.commit = snapshot.index;
        self.taken = snapshot.index;
        self.pending = Pending::New(snapshot);
    }

    /// Whether a snapshot has come that the application has not yet installed.
    pub(crate) fn is_restoring(&self) -> bool {
        !matches!(self.pending, Pending::None)
    }

    /// The application has installed a snapshot. It is applied also if a newer one has come meanwhile, but then nothing
    /// follows it: the newer one is awaited.
    pub(crate) fn installed(&mut self, index: u64) {
        debug_assert!(index <= self.commit, "snapshot {index} was never handed out");
        if matches!(self.pending, Pending::Installing(awaited) if awaited == index) {
            self.pending = Pending::None;
        }
        let index = index.min(self.commit);
        self.applied = self.applied.max(index);
        self.handed = self.handed.max(index);
    }

    /// The application has applied up to `index`.
    pub(crate) fn applied_to(&mut self, index: u64) {
        debug_assert!(
            index <= self.handed,
            "applied {index}, but only {} was handed out",
            self.handed
        );
        self.applied = self.applied.max(index.min(self.handed));
    }

    /// Whether a membership change is committed but not yet applied.
    pub(crate) fn has_unapplied_conf_change(&self) -> bool {
        (self.applied + 1..=self.commit)
            .filter_map(|index| self.entry(index))
            .any(|entry| entry.kind != EntryKind::Normal)
    }

    /// Forgets entries up to `index`, but nothing that is still needed. Returns the new base.
    pub(crate) fn compact(&mut self, index: u64) -> u64 {
        let index = index.min(self.applied).min(self.durable);
        if index > self.base.0
            && let Some(term) = self.term(index)
        {
            let gone = usize::try_from(index - self.base.0).unwrap_or(usize::MAX);
            self.entries.drain(..gone.min(self.entries.len()));
            self.base = (index, term);
            // A log that was long once must not keep its memory for ever.
            if self.entries.len() * 4 < self.entries.capacity() {
                self.entries.shrink_to(self.entries.len() * 2);
            }
        }
        self.base.0
    }

    /// The last entry that may be applied; `own_disk` if it must be on this member's disk first.
    fn appliable(&self, own_disk: bool) -> u64 {
        match self.pending {
            Pending::None if own_disk => self.commit.min(self.durable),
            Pending::None => self.commit,
            _ => 0,
        }
    }

    pub(crate) fn has_committed(&self, own_disk: bool) -> bool {
        self.handed < self.appliable(own_disk)
    }

    /// Hands out committed entries to be applied.
    pub(crate) fn take_committed(&mut self, own_disk: bool, bytes_max: u64) -> Vec<Entry> {
        if !self.has_committed(own_disk) {
            return Vec::new();
        }
        let entries = self.range(self.handed + 1, self.appliable(own_disk), bytes_max);
        if let Some(last) = entries.last() {
            self.handed = last.index;
        }
        entries
    }

    pub(crate) fn has_unpersisted(&self) -> bool {
        self.taken < self.last() || matches!(self.pending, Pending::New(_))
    }

    /// Hands out a new snapshot and the entries that were not yet handed out to be persisted.
    pub(crate) fn take_unpersisted(&mut self) -> (Option<Snapshot>, Vec<Entry>) {
        let snapshot = match std::mem::replace(&mut self.pending, Pending::None) {
            Pending::New(snapshot) => {
                self.pending = Pending::Installing(snapshot.index);
                Some(snapshot)
            }
            other => {
                self.pending = other;
                None
            }
        };
        let entries = self.range(self.taken + 1, self.last(), u64::MAX);
        self.taken = self.last();
        (snapshot, entries)
    }

    /// Numbers a write that makes everything taken so far, and this term, durable.
    pub(crate) fn begin_write(&mut self, term: u64) -> u64 {
        debug_assert_eq!(self.taken, self.last(), "a write covers all of the log");
        self.writes_begun += 1;
        self.writes.push_back(Write {
            number: self.writes_begun,
            last: self.taken,
            term,
        });
        self.writes_begun
    }

    /// The latest write that is not yet durable; 0 if there is none.
    pub(crate) fn unfinished_write(&self) -> u64 {
        self.writes.back().map_or(0, |write| write.number)
    }

    /// Writes up to this number are durable. Returns the term that now is, if any write was still on its way.
    pub(crate) fn persisted(&mut self, number: u64) -> Option<u64> {
        debug_assert!(number <= self.writes_begun, "write {number} was never begun");
        let mut term = None;
        while let Some(write) = self.writes.front()
            && write.number <= number
        {
            self.durable = self.durable.max(write.last);
            term = Some(write.term);
            self.writes.pop_front();
        }
        term
    }

    /// The marks stand in their order.
    pub(crate) fn check(&self) {
        debug_assert!(
            self.applied <= self.handed,
            "applied {} handed {}",
            self.applied,
            self.handed
        );
        debug_assert!(
            self.handed <= self.commit,
            "handed {} commit {}",
            self.handed,
            self.commit
        );
        debug_assert!(
            self.commit <= self.last(),
            "commit {} last {}",
            self.commit,
            self.last()
        );
        debug_assert!(
            self.durable <= self.taken,
            "durable {} taken {}",
            self.durable,
            self.taken
        );
        debug_assert!(
            self.taken <= self.last(),
            "taken {} last {}",
            self.taken,
            self.last()
        );
        debug_assert!(
            self.is_restoring() || self.base.0 <= self.applied,
            "base {} applied {}",
            self.base.0,
            self.applied
        );
    }
}
