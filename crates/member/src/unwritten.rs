//! What is on its way to the log's disk: how much that is, and for how long the oldest of it has been. Never touches
//! the disk.

use std::collections::VecDeque;

/// What an entry costs in memory beside its data, about.
const ENTRY_BYTES: u64 = 64;

/// Writes that are not durable yet. Their age is counted in ticks, so that a process that stood still does not blame
/// its disk.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    writes: VecDeque<Write>,
    bytes: u64,
    /// Ticks so far.
    now: u64,
    /// When a write ended last.
    moved: u64,
    /// From this tick on a stuck disk may be complained of again.
    next_complaint: u64,
}

#[derive(Debug)]
struct Write {
    number: u64,
    bytes: u64,
    began: u64,
}

impl Unwritten {
    pub(crate) fn began(&mut self, number: u64, entries: &[raft::Entry]) {
        let bytes = entries.iter().map(|entry| cost(entry.data.len())).sum();
        let began = self.now;
        self.writes.push_back(Write { number, bytes, began });
        self.bytes += bytes;
    }

    /// All writes up to this number are durable.
    pub(crate) fn ended(&mut self, number: u64) {
        while self.writes.front().is_some_and(|write| write.number <= number) {
            self.moved = self.now;
            let write = self.writes.pop_front().expect("just looked at");
            self.bytes -= write.bytes;
        }
    }

    pub(crate) fn tick(&mut self) {
        self.now += 1;
    }

    /// What the writes cost in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there are writes on their way and for more than `patience` ticks none has ended: a disk that is slow is
    /// not stuck.
    pub(crate) fn is_stuck(&self, patience: u64) -> bool {
        let stuck = |write: &Write| self.now - write.began.max(self.moved) > patience;
        self.now >= self.next_complaint && self.writes.front().is_some_and(stuck)
    }

    /// Something is done about the stuck disk: for so many ticks nothing more is.
    pub(crate) fn complained(&mut self, ticks: u64) {
        self.next_complaint = self.now + ticks;
    }
}

/// What an entry with so much data costs.
pub(crate) fn cost(data_bytes: usize) -> u64 {
    data_bytes as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_write_tells_whether_the_disk_is_stuck() {
        let entry = raft::Entry::default();
        let mut unwritten = Unwritten::default();
        let pass = |unwritten: &mut Unwritten, ticks: u64| (0..ticks).for_each(|_| unwritten.tick());
        pass(&mut unwritten, 50);
        assert!(!unwritten.is_stuck(10), "nothing is on its way");
        unwritten.began(1, std::slice::from_ref(&entry));
        pass(&mut unwritten, 10);
        unwritten.began(2, std::slice::from_ref(&entry));
        assert!(!unwritten.is_stuck(10));
        pass(&mut unwritten, 1);
        assert!(unwritten.is_stuck(10));
        unwritten.complained(20);
        pass(&mut unwritten, 19);
        assert!(!unwritten.is_stuck(10));
        pass(&mut unwritten, 1);
        assert!(unwritten.is_stuck(10));
        // The disk moves, if slowly.
        unwritten.ended(1);
        unwritten.began(3, &[]);
        assert!(!unwritten.is_stuck(10));
        pass(&mut unwritten, 11);
        assert!(unwritten.is_stuck(10));
        unwritten.ended(2);
        assert!(!unwritten.is_stuck(10));
        assert_eq!(unwritten.bytes(), 0);
    }
}
