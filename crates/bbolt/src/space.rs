//! Which pages are free, which will be, and which one is taken next. Does no I/O.

use std::collections::{BTreeMap, HashMap};

/// A run of pages: first number, length.
pub(crate) type Run = (u64, u64);

/// Longest run length that has a hint of its own.
const HINTED_MAX: usize = 32;

/// A set of page numbers.
#[derive(Clone, Debug)]
pub(crate) struct PageSet {
    words: Vec<u64>,
    count: u64,
    /// No run of `n` free pages begins below `hints[n]`; the last entry serves all longer runs.
    hints: [u64; HINTED_MAX + 1],
}

impl Default for PageSet {
    fn default() -> PageSet {
        PageSet {
            words: Vec::new(),
            count: 0,
            hints: [0; HINTED_MAX + 1],
        }
    }
}

impl PageSet {
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.words
            .get((id / 64) as usize)
            .is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    /// Adds a page; `false` if it was there.
    pub(crate) fn insert(&mut self, id: u64) -> bool {
        let word = (id / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (id % 64);
        if self.words[word] & bit != 0 {
            return false;
        }
        self.words[word] |= bit;
        self.count += 1;
        // A run that this page completes began at most its own length before.
        for (length, hint) in self.hints.iter_mut().enumerate() {
            *hint = (*hint).min((id + 1).saturating_sub(length.max(1) as u64));
        }
        true
    }

    pub(crate) fn remove(&mut self, id: u64) {
        if self.contains(id) {
            self.words[(id / 64) as usize] &= !(1 << (id % 64));
            self.count -= 1;
        }
    }

    /// Adds a run; `false` if any of it was there.
    pub(crate) fn insert_run(&mut self, (id, length): Run) -> bool {
        let mut fresh = true;
        for id in id..id + length {
            fresh &= self.insert(id);
        }
        fresh
    }

    /// The lowest run of `length` pages that ends at or below `ceiling`.
    fn find(&mut self, length: u64, ceiling: u64) -> Option<u64> {
        let hint = (length as usize).min(HINTED_MAX);
        let mut from = self.hints[1..=hint].iter().copied().max().unwrap_or(0);
        loop {
            let start = self.next(from, true)?;
            if start + length > ceiling {
                return None;
            }
            let end = self.next(start, false).unwrap_or(self.words.len() as u64 * 64);
            if end - start >= length {
                self.hints[hint] = self.hints[hint].max(if length as usize == hint { start } else { 0 });
                return Some(start);
            }
            from = end;
            if length as usize == hint {
                self.hints[hint] = end;
            }
        }
    }

    /// The lowest number from `from` on that is in the set (or is not).
    fn next(&self, from: u64, present: bool) -> Option<u64> {
        let mut word = (from / 64) as usize;
        let mut mask = u64::MAX << (from % 64);
        while word < self.words.len() {
            let bits = if present {
                self.words[word]
            } else {
                !self.words[word]
            } & mask;
            if bits != 0 {
                return Some(word as u64 * 64 + u64::from(bits.trailing_zeros()));
            }
            mask = u64::MAX;
            word += 1;
        }
        None
    }
}

/// The allocator. A commit takes and frees pages; [`Space::keep`] or [`Space::undo`] ends it.
#[derive(Debug)]
pub(crate) struct Space {
    /// Pages that may be taken now.
    free: PageSet,
    /// First page that was never allocated.
    high_water: u64,
    /// Pages that left the tree, by (commit that freed them, commit that wrote them): a reader at any
    /// state from the second up to before the first still reaches them.
    pending: BTreeMap<(u64, u64), Vec<Run>>,
    /// Which commit wrote a run; known only of those written while an older reader was there. Only looked up.
    born: HashMap<u64, u64>,
    /// Whether the commit under way notes what it writes in `born`.
    note_born: bool,
    taken: Vec<Run>,
    freed: Vec<Run>,
    high_water_before: u64,
}

impl Space {
    pub(crate) fn new(high_water: u64) -> Space {
        Space {
            free: PageSet::default(),
            high_water,
            pending: BTreeMap::new(),
            born: HashMap::new(),
            note_born: false,
            taken: Vec::new(),
            freed: Vec::new(),
            high_water_before: high_water,
        }
    }

    /// Adds pages that no state reaches.
    pub(crate) fn add_free(&mut self, id: u64) {
        self.free.insert(id);
    }

    /// Starts the commit after `current`: what no reader reaches any more becomes free. `pins` are the states
    /// that readers hold, ascending.
    pub(crate) fn begin(&mut self, current: u64, pins: &[u64]) {
        let reaches = |freed: u64, born: u64| {
            let at = pins.partition_point(|pin| *pin < born);
            pins.get(at).is_some_and(|pin| *pin < freed)
        };
        let free = &mut self.free;
        self.pending.retain(|(freed, born), runs| {
            let keep = reaches(*freed, *born);
            if !keep {
                for run in runs {
                    free.insert_run(*run);
                }
            }
            keep
        });
        self.note_born = pins.first().is_some_and(|oldest| *oldest < current);
        if !self.note_born {
            self.born = HashMap::new();
        }
        self.high_water_before = self.high_water;
    }

    /// Takes a run of pages, the lowest there is, else from above the high-water mark.
    pub(crate) fn take(&mut self, length: u64) -> u64 {
        let id = self.free.find(length, self.high_water).unwrap_or(self.high_water);
        if id == self.high_water {
            self.high_water += length;
        } else {
            (id..id + length).for_each(|id| self.free.remove(id));
        }
        self.taken.push((id, length));
        id
    }

    /// A run left the tree in this commit.
    pub(crate) fn give(&mut self, run: Run) {
        self.freed.push(run);
    }

    /// The commit is durable. Returns how many pages it freed.
    pub(crate) fn keep(&mut self, txid: u64) -> u64 {
        let mut pages = 0;
        for run in std::mem::take(&mut self.freed) {
            pages += run.1;
            let born = self.born.remove(&run.0).unwrap_or(0);
            self.pending.entry((txid, born)).or_default().push(run);
        }
        for (id, _) in self.taken.drain(..) {
            if self.note_born {
                self.born.insert(id, txid);
            }
        }
        pages
    }

    /// The commit did not happen.
    pub(crate) fn undo(&mut self) {
        self.freed.clear();
        for (id, length) in std::mem::take(&mut self.taken) {
            if id < self.high_water_before {
                self.free.insert_run((id, length));
            }
        }
        self.high_water = self.high_water_before;
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Pages that may be taken now; those still waiting for readers are not counted, as in bbolt.
    pub(crate) fn free_pages(&self) -> u64 {
        self.free.len()
    }

    /// Free pages and those that wait for readers: all that the current state does not reach.
    pub(crate) fn unreached(&self) -> PageSet {
        let mut all = self.free.clone();
        for run in self.pending.values().flatten() {
            all.insert_run(*run);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(high_water: u64, free: &[u64]) -> Space {
        let mut space = Space::new(high_water);
        free.iter().for_each(|id| space.add_free(*id));
        space
    }

    #[test]
    fn takes_the_lowest_run_that_is_long_enough() {
        let mut space = space(200, &[5, 7, 8, 63, 64, 65, 66, 100]);
        space.begin(1, &[]);
        assert_eq!(space.take(2), 7);
        assert_eq!(space.take(1), 5);
        assert_eq!(space.take(3), 63);
        assert_eq!(space.take(2), 200);
        assert_eq!(space.take(1), 66);
        assert_eq!(space.take(40), 202);
        assert_eq!(space.take(1), 100);
        assert_eq!((space.take(1), space.high_water()), (242, 243));
        space.undo();
        assert_eq!((space.high_water(), space.free_pages()), (200, 8));
        space.begin(1, &[]);
        assert_eq!((space.take(4), space.take(2)), (63, 7));
    }

    #[test]
    fn finds_what_a_plain_search_finds() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut set = PageSet::default();
            for _ in 0..300 {
                let id = random.u64(2..500);
                match random.u8(0..3) {
                    0 => set.remove(id),
                    1 => {
                        set.insert_run((id, random.u64(1..5)));
                    }
                    _ => {
                        let length = random.u64(1..40);
                        let plain = (0..490).find(|at| (*at..at + length).all(|id| set.contains(id)));
                        let plain = plain.filter(|at| at + length <= 490);
                        assert_eq!(set.find(length, 490), plain, "seed {seed}");
                        if let Some(at) = plain {
                            (at..at + length).for_each(|id| set.remove(id));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_freed_page_waits_for_the_readers_that_reach_it() {
        let mut space = space(10, &[]);
        space.begin(1, &[1]);
        space.give((5, 2));
        assert_eq!(space.keep(2), 2);
        space.begin(2, &[1, 2]);
        assert_eq!(space.free_pages(), 0);
        // Written by commit 3, freed by commit 4, while the reader of state 1 is still there.
        let id = space.take(1);
        space.keep(3);
        space.begin(3, &[1]);
        space.give((id, 1));
        space.keep(4);
        space.begin(4, &[1, 3]);
        assert_eq!(space.free_pages(), 0, "state 3 reaches it");
        space.keep(5);
        space.begin(5, &[1, 4]);
        assert_eq!(space.free_pages(), 1, "state 1 never did");
        assert_eq!(space.unreached().len(), 3);
        space.begin(5, &[4]);
        assert_eq!(space.free_pages(), 3);
    }
}
