//! A leaf of the index: some neighbouring keys, packed.
//!
//! The keys' bytes stand in one vector and 32 bytes a key in another, so that copying a leaf that a reader holds is
//! a few block copies. Only keys with older revisions have a [`History`], in a third vector. What all keys of the leaf
//! begin with is kept once:
//!
//! ```text
//! keys: | prefix | rest of key 0 | rest of key 1 | ...      slots[n].key_end: end of the rest of key n
//! ```

use std::cmp::Ordering;
use std::ops::Range;

use super::history::{History, Past};
use super::{KeyInfo, Totals};
use crate::Rev;

/// Keys per leaf, and with it histories, which are numbered in 7 bits.
pub(super) const LEAF_KEYS_MAX: usize = 64;
/// Bytes of keys per leaf, unless it has only one.
const LEAF_BYTES_MAX: usize = 16 << 10;
/// Room that a vector gets when it must grow: a doubled one would waste what the packing saves.
const SPARE_KEYS: usize = 4;
const SPARE_BYTES: usize = 96;

const HISTORY_MASK: u64 = 0x7f;
const DEAD: u64 = 1 << 7;
const LEASED: u64 = 1 << 8;
const VERSION_SHIFT: u32 = 9;

/// Versions at and above this do not fit; no key is ever written that often.
pub(crate) const VERSION_LIMIT: i64 = 1 << 54;

/// The newest revision of a key.
#[derive(Clone, Copy, Debug)]
struct Slot {
    main: i64,
    create: i64,
    /// Version, lease flag, whether the newest revision is a deletion, place of the history plus 1.
    bits: u64,
    sub: u32,
    key_end: u32,
}

impl Slot {
    fn is_dead(&self) -> bool {
        self.bits & DEAD != 0
    }

    fn version(&self) -> i64 {
        (self.bits >> VERSION_SHIFT) as i64
    }

    fn history(&self) -> Option<usize> {
        ((self.bits & HISTORY_MASK) as usize).checked_sub(1)
    }

    fn set_history(&mut self, place: Option<usize>) {
        self.bits = self.bits & !HISTORY_MASK | place.map_or(0, |place| place as u64 + 1);
    }

    fn past(&self) -> Past {
        Past::new((self.main, self.sub), self.create, self.version(), self.is_dead())
    }

    fn is_old(&self) -> bool {
        self.bits & (DEAD | HISTORY_MASK) != 0
    }
}

/// What the first revision of a key says.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub create: i64,
    pub version: i64,
    pub leased: bool,
    pub tombstone: bool,
}

/// Neighbouring keys, ascending.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    keys: Vec<u8>,
    /// Bytes of the prefix, at the head of `keys`.
    prefix_len: usize,
    slots: Vec<Slot>,
    histories: Vec<History>,
    totals: Totals,
}

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        let mut keys = Vec::with_capacity(self.keys.len() + SPARE_BYTES / 2);
        keys.extend_from_slice(&self.keys);
        let mut slots = Vec::with_capacity(self.slots.len() + 1);
        slots.extend_from_slice(&self.slots);
        Leaf {
            keys,
            slots,
            histories: self.histories.clone(),
            ..*self
        }
    }
}

impl Leaf {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn is_overfull(&self) -> bool {
        self.slots.len() > LEAF_KEYS_MAX || self.keys.len() > LEAF_BYTES_MAX && self.slots.len() > 1
    }

    /// Whether `other` fits in as well, with room to spare.
    pub(super) fn takes(&self, other: &Leaf) -> bool {
        self.slots.len() + other.slots.len() <= LEAF_KEYS_MAX / 2
            && self.keys.len() + other.keys.len() <= LEAF_BYTES_MAX / 2
    }

    fn prefix(&self) -> &[u8] {
        &self.keys[..self.prefix_len]
    }

    fn rest_start(&self, place: usize) -> usize {
        place
            .checked_sub(1)
            .map_or(self.prefix_len, |before| self.slots[before].key_end as usize)
    }

    /// The key without the prefix.
    fn rest(&self, place: usize) -> &[u8] {
        &self.keys[self.rest_start(place)..self.slots[place].key_end as usize]
    }

    pub(super) fn key(&self, place: usize) -> Vec<u8> {
        [self.prefix(), self.rest(place)].concat()
    }

    /// The keys of some places, each put together in the same buffer.
    pub(super) fn for_keys(&self, places: Range<usize>, mut each: impl FnMut(usize, &[u8]) -> bool) -> bool {
        let mut key = self.prefix().to_vec();
        for place in places {
            key.truncate(self.prefix_len);
            key.extend_from_slice(self.rest(place));
            if !each(place, &key) {
                return false;
            }
        }
        true
    }

    pub(super) fn is_at(&self, place: usize, key: &[u8]) -> bool {
        key.strip_prefix(self.prefix())
            .is_some_and(|rest| rest == self.rest(place))
    }

    /// Where the key is, or where it would be.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(rest) = key.strip_prefix(self.prefix()) else {
            return Err(if key < self.prefix() { 0 } else { self.slots.len() });
        };
        let (mut low, mut high) = (0, self.slots.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.rest(middle).cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The newest revision of a key, unless it is deleted.
    pub(super) fn current(&self, place: usize) -> Option<KeyInfo> {
        let slot = &self.slots[place];
        let info = KeyInfo {
            modified: Rev::new(slot.main, i64::from(slot.sub)),
            create: slot.create,
            version: slot.version(),
            leased: slot.bits & LEASED != 0,
        };
        (!slot.is_dead()).then_some(info)
    }

    /// What there was of the key at revision `at`.
    pub(super) fn get(&self, place: usize, at: i64) -> Option<KeyInfo> {
        let slot = &self.slots[place];
        if slot.main <= at {
            return self.current(place);
        }
        self.histories[slot.history()?].find(at)?.info()
    }

    /// The revision of the key that a compaction at `at` keeps, of those up to `at`; and whether it is a deletion.
    pub(super) fn kept(&self, place: usize, at: i64) -> Option<(Rev, bool)> {
        let slot = &self.slots[place];
        let past = if slot.main <= at {
            slot.past()
        } else {
            self.histories[slot.history()?].find(at)?
        };
        past.outlives(at).then(|| (past.rev(), past.is_tombstone()))
    }

    /// Puts in a key that is not there, with its first revision.
    pub(super) fn insert(&mut self, place: usize, key: &[u8], rev: (i64, u32), first: First) {
        if self.slots.is_empty() {
            self.keys = key.to_vec();
            self.prefix_len = key.len();
        }
        let common = common_len(self.prefix(), key);
        if common < self.prefix_len {
            self.shorten_prefix(common);
        }
        let rest = &key[self.prefix_len..];
        let start = self.rest_start(place);
        if self.keys.capacity() - self.keys.len() < rest.len() {
            self.keys.reserve_exact(rest.len() + SPARE_BYTES);
        }
        if self.slots.capacity() == self.slots.len() {
            self.slots.reserve_exact(SPARE_KEYS);
        }
        if place == self.slots.len() {
            self.keys.extend_from_slice(rest);
        } else {
            self.keys.splice(start..start, rest.iter().copied());
        }
        let mut bits = (first.version as u64) << VERSION_SHIFT;
        bits |= if first.tombstone { DEAD } else { 0 } | if first.leased { LEASED } else { 0 };
        let slot = Slot {
            main: rev.0,
            sub: rev.1,
            create: first.create,
            bits,
            key_end: start as u32,
        };
        self.slots.insert(place, slot);
        for slot in &mut self.slots[place..] {
            slot.key_end += rest.len() as u32;
        }
        self.totals.live += u64::from(!first.tombstone);
        self.totals.old += u64::from(first.tombstone);
        self.totals.newest = self.totals.newest.max(rev.0);
    }

    fn shorten_prefix(&mut self, len: usize) {
        let grown = self.prefix_len - len;
        let mut keys = Vec::with_capacity(self.keys.len() + grown * self.slots.len() + SPARE_BYTES);
        keys.extend_from_slice(&self.keys[..len]);
        for place in 0..self.slots.len() {
            keys.extend_from_slice(&self.keys[len..self.prefix_len]);
            keys.extend_from_slice(self.rest(place));
        }
        for (place, slot) in self.slots.iter_mut().enumerate() {
            slot.key_end += (grown * place) as u32;
        }
        self.keys = keys;
        self.prefix_len = len;
    }

    /// A put of a key that is there, dead or alive.
    pub(super) fn put(&mut self, place: usize, rev: (i64, u32), leased: bool) {
        self.remember(place);
        let slot = &mut self.slots[place];
        let version = if slot.is_dead() { 1 } else { slot.version() + 1 };
        if slot.is_dead() {
            slot.create = rev.0;
            self.totals.live += 1;
        }
        (slot.main, slot.sub) = rev;
        let lease = if leased { LEASED } else { 0 };
        slot.bits = slot.bits & HISTORY_MASK | lease | (version as u64) << VERSION_SHIFT;
        self.totals.newest = self.totals.newest.max(rev.0);
    }

    /// A deletion of a key that is alive.
    pub(super) fn delete(&mut self, place: usize, rev: (i64, u32)) {
        self.remember(place);
        let slot = &mut self.slots[place];
        let version = slot.version() + 1;
        (slot.main, slot.sub) = rev;
        slot.bits = slot.bits & HISTORY_MASK | DEAD | (version as u64) << VERSION_SHIFT;
        self.totals.live -= 1;
        self.totals.newest = self.totals.newest.max(rev.0);
    }

    /// Moves the newest revision of a key into its history.
    fn remember(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        let past = slot.past();
        self.totals.old += u64::from(!slot.is_old());
        match slot.history() {
            Some(history) => self.histories[history].push(past),
            None => {
                slot.set_history(Some(self.histories.len()));
                if self.histories.capacity() == self.histories.len() {
                    self.histories.reserve_exact(SPARE_KEYS);
                }
                self.histories.push(History::new(past));
            }
        }
    }

    /// Drops what a compaction at `at` drops.
    pub(super) fn compact(&mut self, at: i64) {
        let is_kept = |slot: &Slot| slot.main > at || slot.past().outlives(at);
        let kept: Vec<usize> = (0..self.len())
            .filter(|&place| is_kept(&self.slots[place]))
            .collect();
        let mut compacted = Leaf::over(
            kept.first()
                .zip(kept.last())
                .map(|(&a, &b)| [(&*self, a), (&*self, b)]),
        );
        for place in kept {
            let slot = self.slots[place];
            let history = slot.history().filter(|_| slot.main > at).and_then(|history| {
                let mut history = self.histories[history].clone();
                history.compact(at).then_some(history)
            });
            compacted.push(slot, history, self.prefix(), self.rest(place));
        }
        compacted.shrink();
        *self = compacted;
    }

    /// An empty leaf for keys from the first to the last of these places.
    fn over(ends: Option<[(&Leaf, usize); 2]>) -> Leaf {
        let Some([first, last]) = ends.map(|ends| ends.map(|(leaf, place)| leaf.key(place))) else {
            return Leaf::default();
        };
        let prefix_len = common_len(&first, &last);
        Leaf {
            keys: first[..prefix_len].to_vec(),
            prefix_len,
            ..Leaf::default()
        }
    }

    /// Appends a key, given in two parts, with what is known of it.
    fn push(&mut self, mut slot: Slot, history: Option<History>, head: &[u8], rest: &[u8]) {
        self.keys
            .extend_from_slice(&head[self.prefix_len.min(head.len())..]);
        self.keys
            .extend_from_slice(&rest[self.prefix_len.saturating_sub(head.len())..]);
        slot.key_end = self.keys.len() as u32;
        slot.set_history(history.is_some().then_some(self.histories.len()));
        self.histories.extend(history);
        self.totals.live += u64::from(!slot.is_dead());
        self.totals.old += u64::from(slot.is_old());
        self.totals.newest = self.totals.newest.max(slot.main);
        self.slots.push(slot);
    }

    /// Takes away the keys from `place` on; some must stay, and some go.
    pub(super) fn split_off(&mut self, place: usize) -> Leaf {
        let mut left = Leaf::over(Some([(self, 0), (self, place - 1)]));
        left.copy_from(self, 0..place);
        let mut right = Leaf::over(Some([(self, place), (self, self.len() - 1)]));
        right.copy_from(self, place..self.len());
        *self = left;
        right
    }

    /// Takes in the keys of the leaf to the right.
    pub(super) fn append(&mut self, right: &Leaf) {
        if right.len() == 0 {
            return;
        }
        let first = if self.len() == 0 { (right, 0) } else { (&*self, 0) };
        let mut joined = Leaf::over(Some([first, (right, right.len() - 1)]));
        joined.copy_from(self, 0..self.len());
        joined.copy_from(right, 0..right.len());
        *self = joined;
    }

    fn copy_from(&mut self, other: &Leaf, places: Range<usize>) {
        let rests = other.rest_start(places.end) - other.rest_start(places.start);
        let heads = other.prefix_len.saturating_sub(self.prefix_len) * places.len();
        self.keys.reserve_exact(rests + heads + SPARE_BYTES);
        self.slots.reserve_exact(places.len() + SPARE_KEYS);
        for place in places {
            let slot = other.slots[place];
            let history = slot.history().map(|history| other.histories[history].clone());
            self.push(slot, history, other.prefix(), other.rest(place));
        }
    }

    /// Gives back room that is not needed soon.
    pub(super) fn shrink(&mut self) {
        self.keys.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.histories.shrink_to_fit();
    }

    /// Bytes on the heap, histories' chains not counted.
    pub(super) fn heap_bytes(&self) -> usize {
        self.keys.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.histories.capacity() * size_of::<History>()
    }

    /// All revisions of a key, oldest first, with whether each is a deletion; for tests.
    #[cfg(test)]
    pub(super) fn revisions(&self, place: usize) -> Vec<Past> {
        let slot = &self.slots[place];
        let mut pasts = slot
            .history()
            .map_or_else(Vec::new, |history| self.histories[history].to_vec());
        pasts.push(slot.past());
        pasts
    }
}

/// Bytes that two keys begin with in common.
pub(super) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

const _: () = assert!(size_of::<Slot>() == 32);
const _: () = assert!(LEAF_KEYS_MAX < HISTORY_MASK as usize);
