//! The index: for each key, its revisions since the last compaction.
//!
//! A B+-tree whose nodes are shared: a clone is a snapshot made in constant time, and a change after it copies the
//! path from the root to one leaf. Each child entry carries [`Totals`], so that counting a range needs only the nodes
//! at its two ends. Semantics of generations and compaction: etcd server/storage/mvcc/key_index.go.
//!
//! Differs from etcd in one case: a key deleted (by a delete up to the end of all keys, all others are refused) and put
//! in one transaction, at exactly the revision compacted to. etcd drops the put there and ends at the next read of the
//! key; this keeps it.

mod branch;
mod bulk;
mod history;
mod leaf;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use branch::{Branch, Node};
pub(crate) use leaf::VERSION_LIMIT;
use leaf::{First, Leaf};

pub(crate) use bulk::{Bulk, Row};

use crate::Rev;

/// What the index knows of a key at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The revision of the newest put at or before the revision asked for.
    pub modified: Rev,
    /// Main revision of the put that made the key.
    pub create: i64,
    /// Puts since then.
    pub version: i64,
    /// Whether the newest put named a lease; only meaningful for the key's newest revision.
    pub leased: bool,
}

/// Sums over the keys of a subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    /// Keys that are there now.
    live: u64,
    /// Keys that a compaction may have to touch: deleted, or with older revisions.
    old: u64,
    /// No revision here has a larger main.
    newest: i64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.live += other.live;
        self.old += other.old;
        self.newest = self.newest.max(other.newest);
    }
}

/// A range of keys, as requests name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRange<'a> {
    start: &'a [u8],
    end: End<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End<'a> {
    Single,
    Before(&'a [u8]),
    Open,
}

impl<'a> KeyRange<'a> {
    /// `range_end`: empty for the one key, a zero byte for all keys from `start` on.
    pub(crate) fn new(start: &'a [u8], range_end: &'a [u8]) -> KeyRange<'a> {
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            end => End::Before(end),
        };
        KeyRange { start, end }
    }

    fn is_past(&self, key: &[u8]) -> bool {
        match self.end {
            End::Single => key > self.start,
            End::Before(end) => key >= end,
            End::Open => false,
        }
    }
}

/// An ordered map from keys to their revisions. A clone is a snapshot, made in constant time.
#[derive(Clone, Default)]
pub struct KeyIndex {
    root: Arc<Node>,
}

impl KeyIndex {
    /// Keys that are there now.
    pub fn len(&self) -> u64 {
        self.root.totals().live
    }

    /// Whether no key is there now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What there was of a key at revision `at`.
    pub fn get(&self, key: &[u8], at: i64) -> Option<KeyInfo> {
        let leaf = self.leaf_of(key);
        leaf.get(leaf.find(key).ok()?, at)
    }

    fn leaf_of(&self, key: &[u8]) -> &Leaf {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Branch(branch) => node = branch.child(branch.place_of(key)),
            }
        }
    }

    /// Writes a key. Returns what there was of it.
    pub(crate) fn put(&mut self, key: &[u8], rev: (i64, u32), leased: bool) -> Option<KeyInfo> {
        let first = First {
            create: rev.0,
            version: 1,
            leased,
            tombstone: false,
        };
        let mut previous = None;
        self.change(key, |leaf, place| match place {
            Ok(place) => {
                previous = leaf.current(place);
                leaf.put(place, rev, leased);
            }
            Err(place) => leaf.insert(place, key, rev, first),
        });
        previous
    }

    /// Deletes a key. Returns what there was of it; if there was nothing, nothing changes.
    pub(crate) fn delete(&mut self, key: &[u8], rev: (i64, u32)) -> Option<KeyInfo> {
        let previous = self.get(key, i64::MAX)?;
        self.change(key, |leaf, place| {
            leaf.delete(place.expect("the key has just been found"), rev);
        });
        Some(previous)
    }

    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Leaf, Result<usize, usize>)) {
        if let Some(right) = branch::change(Arc::make_mut(&mut self.root), key, change) {
            let left = std::mem::take(&mut self.root);
            self.root = Arc::new(Node::Branch(Branch::above(left, right)));
        }
    }

    /// Calls `found` with each key of the range that is there at revision `at`, ascending, until it returns `false`.
    pub(crate) fn visit(&self, range: KeyRange<'_>, at: i64, mut found: impl FnMut(&[u8], &KeyInfo) -> bool) {
        if range.end == End::Single {
            if let Some(info) = self.get(range.start, at) {
                found(range.start, &info);
            }
        } else {
            branch::visit(&self.root, self.root.totals(), range, at, &mut found);
        }
    }

    /// How many keys of the range are there at revision `at`.
    pub(crate) fn count(&self, range: KeyRange<'_>, at: i64) -> u64 {
        if range.end == End::Single {
            u64::from(self.get(range.start, at).is_some())
        } else {
            branch::count(&self.root, self.root.totals(), range, at, true, true)
        }
    }

    /// How many keys of the range, up to `keys_max`, are in leaves that have a revision newer than `newer_than`,
    /// whether the keys are there or deleted. Looks at leaves, not at keys.
    pub(crate) fn walk_len(&self, range: KeyRange<'_>, newer_than: i64, keys_max: usize) -> usize {
        if range.end == End::Single {
            return 1.min(keys_max);
        }
        let mut left = keys_max;
        branch::walk(&self.root, self.root.totals(), range, newer_than, &mut left);
        keys_max - left
    }

    /// For up to about `keys_max` keys from `from` on: calls `kept` with the revision that a compaction at `at` keeps, of those up
    /// to `at`, and whether it is a deletion. Returns the key to go on from.
    pub(crate) fn visit_kept(
        &self,
        from: &[u8],
        at: i64,
        keys_max: usize,
        mut kept: impl FnMut(Rev, bool),
    ) -> Option<Vec<u8>> {
        let mut budget = keys_max.max(1);
        branch::visit_kept(&self.root, from, at, &mut budget, &mut kept)
    }

    /// Drops, for some keys from `from` on, what a compaction at `at` drops: about `keys_max` keys, those without
    /// older revisions not counted. Returns the key to go on from.
    pub(crate) fn compact(&mut self, from: &[u8], at: i64, keys_max: usize) -> Option<Vec<u8>> {
        let mut budget = keys_max.max(1);
        let next = branch::compact(&mut self.root, from, at, &mut budget);
        while let Node::Branch(branch) = &*self.root {
            match branch.only_child() {
                Some(child) => self.root = child,
                None if branch.is_empty() => self.root = Arc::default(),
                None => break,
            }
        }
        next
    }

    /// Bytes on the heap, long histories not counted.
    pub fn heap_bytes(&self) -> usize {
        branch::heap_bytes(&self.root)
    }
}
