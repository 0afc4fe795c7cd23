//! Pages kept in memory, bounded in bytes. Does no I/O; locks are held for a look-up or an exchange only.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

use crate::lock;
use crate::page::Page;

const SHARDS: usize = 16;
/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 128;
/// How many times the clock hand passes a page before it goes. A branch page is on the way to many leaves.
const BRANCH_LIVES: u8 = 3;
const LEAF_LIVES: u8 = 1;

/// Second-chance cache, by page number.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
}

struct Shard {
    bytes_max: usize,
    bytes: usize,
    /// Only looked up, never walked.
    places: HashMap<u64, usize, BuildHasherDefault<PageHasher>>,
    slots: Vec<Slot>,
    hand: usize,
}

struct Slot {
    id: u64,
    lives: u8,
    page: Page,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Cache {
        let shard = || {
            Mutex::new(Shard {
                bytes_max: bytes_max / SHARDS,
                bytes: 0,
                places: HashMap::default(),
                slots: Vec::new(),
                hand: 0,
            })
        };
        Cache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<Page> {
        lock(self.shard(id)).get(id)
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        lock(self.shard(id)).places.contains_key(&id)
    }

    /// Puts a page in, in place of what was there under this number.
    pub(crate) fn insert(&self, id: u64, page: Page) {
        lock(self.shard(id)).insert(id, page);
    }

    /// Forgets a page whose number is about to mean another one.
    pub(crate) fn remove(&self, id: u64) {
        lock(self.shard(id)).remove(id);
    }

    fn shard(&self, id: u64) -> &Mutex<Shard> {
        &self.shards[id as usize % SHARDS]
    }
}

impl Shard {
    fn get(&mut self, id: u64) -> Option<Page> {
        let place = *self.places.get(&id)?;
        let slot = &mut self.slots[place];
        slot.lives = if slot.page.is_leaf() {
            LEAF_LIVES
        } else {
            BRANCH_LIVES
        };
        Some(slot.page.clone())
    }

    fn insert(&mut self, id: u64, page: Page) {
        self.remove(id);
        let cost = page.byte_len() + ENTRY_BYTES;
        if cost > self.bytes_max {
            return;
        }
        while self.bytes + cost > self.bytes_max {
            self.evict_one();
        }
        self.bytes += cost;
        self.places.insert(id, self.slots.len());
        // A leaf earns its second chance by a second visit, so that one long scan does not empty the cache.
        let lives = if page.is_leaf() { 0 } else { BRANCH_LIVES };
        self.slots.push(Slot { id, lives, page });
    }

    fn remove(&mut self, id: u64) {
        if let Some(place) = self.places.get(&id).copied() {
            self.take_out(place);
        }
    }

    /// Ends: every step lowers a page's lives or takes one out. Called only while there is a page.
    fn evict_one(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            match &mut self.slots[self.hand].lives {
                0 => return self.take_out(self.hand),
                lives => *lives -= 1,
            }
            self.hand += 1;
        }
    }

    fn take_out(&mut self, place: usize) {
        let slot = self.slots.swap_remove(place);
        self.places.remove(&slot.id);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.id, place);
        }
        self.bytes -= slot.page.byte_len() + ENTRY_BYTES;
    }
}

/// Page numbers are small and dense: one multiplication spreads them.
#[derive(Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::page::{BRANCH, LEAF, write_header};

    fn page(id: u64, flags: u16) -> Page {
        let mut bytes = vec![0; 1024];
        write_header(&mut bytes, id, flags, 0, 0);
        Page::trusted(Bytes::from(bytes))
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_branches_longest() {
        let room = 8;
        let cache = Cache::new(SHARDS * room * (1024 + ENTRY_BYTES));
        // All in one shard.
        let ids = |from: u64| (from..from + 100).map(|n| n * SHARDS as u64);
        cache.insert(0, page(0, BRANCH));
        let mut held = 0;
        for id in ids(1) {
            cache.insert(id, page(id, LEAF));
            cache.get(0).expect("a branch that is used stays");
            held = ids(1)
                .filter(|id| lock(cache.shard(*id)).places.contains_key(id))
                .count();
            assert!(held < room);
        }
        assert_eq!(held, room - 1);
        cache.remove(0);
        assert!(cache.get(0).is_none());
    }

    #[test]
    fn a_page_too_large_for_its_shard_replaces_what_was_there() {
        let cache = Cache::new(SHARDS * 2000);
        cache.insert(5, page(5, LEAF));
        let mut large = vec![0; 4096];
        write_header(&mut large, 5, LEAF, 0, 3);
        cache.insert(5, Page::trusted(Bytes::from(large)));
        assert!(cache.get(5).is_none());
    }
}
