//! Building the index from the rows of the data file.
//!
//! Rows come in revision order, the index wants key order: a run of rows is collected in packed form, sorted by key, and
//! laid down leaf by leaf. Runs after the first are added to the tree, so that memory stays bounded.

use std::sync::Arc;

use super::KeyIndex;
use super::branch::{Branch, Node, separator};
use super::leaf::{First, LEAF_KEYS_MAX, Leaf};

/// Rows per run: about 70 bytes each, with their keys.
const RUN_ROWS_MAX: usize = 1 << 20;
/// How full leaves and branches are made, so that the first changes do not split them all.
const LEAF_FILL: usize = LEAF_KEYS_MAX * 7 / 8;
const BRANCH_FILL: usize = 20;

/// One row of the bucket `key`, reduced to what the index needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub main: i64,
    pub sub: u32,
    pub create: i64,
    pub version: i64,
    pub leased: bool,
    pub tombstone: bool,
}

/// An index under construction.
#[derive(Default)]
pub(crate) struct Bulk {
    keys: Vec<u8>,
    /// Start of the key in `keys`, its length, and the row.
    rows: Vec<(u64, u32, Row)>,
    index: KeyIndex,
}

impl Bulk {
    /// Adds a row; rows come in ascending revision order.
    pub(crate) fn push(&mut self, key: &[u8], row: Row) {
        if self.rows.len() == RUN_ROWS_MAX {
            self.flush();
        }
        self.rows.push((self.keys.len() as u64, key.len() as u32, row));
        self.keys.extend_from_slice(key);
    }

    pub(crate) fn finish(mut self) -> KeyIndex {
        self.flush();
        self.index
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let keys = std::mem::take(&mut self.keys);
        let key_of = |row: &(u64, u32, Row)| &keys[row.0 as usize..row.0 as usize + row.1 as usize];
        // Sorted by the first bytes after what all keys share; whole keys are only looked at when those are equal.
        let shared = rows.split_first().map_or(0, |(first, rest)| {
            let first = key_of(first);
            rest.iter().fold(first.len(), |len, row| {
                first[..len]
                    .iter()
                    .zip(key_of(row))
                    .take_while(|(a, b)| a == b)
                    .count()
            })
        });
        let mut order: Vec<(u128, u32)> = (0u32..)
            .zip(&rows)
            .map(|(place, row)| {
                let tail = &key_of(row)[shared..];
                let mut head = [0; 16];
                let len = tail.len().min(16);
                head[..len].copy_from_slice(&tail[..len]);
                (u128::from_be_bytes(head), place)
            })
            .collect();
        order.sort_unstable_by(|a, b| {
            let whole = || key_of(&rows[a.1 as usize]).cmp(key_of(&rows[b.1 as usize]));
            a.0.cmp(&b.0).then_with(whole).then_with(|| a.1.cmp(&b.1))
        });
        let sorted = order.iter().map(|&(_, place)| {
            let row = &rows[place as usize];
            (key_of(row), row.2)
        });
        if self.index.root.totals() == super::Totals::default() {
            self.index = build(sorted);
        } else {
            for (key, row) in sorted {
                self.index
                    .change(key, |leaf, place| restore(leaf, place, key, row));
            }
        }
    }
}

/// Adds a row to a leaf by etcd's rules: mvcc/kvstore.go restoreIntoIndex.
fn restore(leaf: &mut Leaf, place: Result<usize, usize>, key: &[u8], row: Row) {
    let rev = (row.main, row.sub);
    match place {
        Err(place) => {
            // What a deletion deleted is compacted away; its generation counts one revision.
            let (create, version) = if row.tombstone {
                (0, 1)
            } else {
                (row.create, row.version)
            };
            let first = First {
                create,
                version,
                leased: row.leased,
                tombstone: row.tombstone,
            };
            leaf.insert(place, key, rev, first);
        }
        Ok(place) if !row.tombstone => leaf.put(place, rev, row.leased),
        // A second deletion in a row is nothing.
        Ok(place) if leaf.current(place).is_some() => leaf.delete(place, rev),
        Ok(_) => {}
    }
}

fn build<'a>(sorted: impl Iterator<Item = (&'a [u8], Row)>) -> KeyIndex {
    let mut level: Vec<(Vec<u8>, Arc<Node>)> = Vec::new();
    let mut leaf = Leaf::default();
    let mut before = Vec::new();
    for (key, row) in sorted {
        let last = leaf.len().checked_sub(1).filter(|&last| leaf.is_at(last, key));
        if last.is_none() && (leaf.len() >= LEAF_FILL || leaf.is_overfull()) {
            let next = separator(&leaf.key(leaf.len() - 1), key).to_vec();
            leaf.shrink();
            level.push((before, Arc::new(Node::Leaf(std::mem::take(&mut leaf)))));
            before = next;
        }
        let place = last.ok_or(leaf.len());
        restore(&mut leaf, place, key, row);
    }
    leaf.shrink();
    level.push((before, Arc::new(Node::Leaf(leaf))));
    while level.len() > 1 {
        level = level_above(level);
    }
    let root = level.pop().map_or_else(Arc::default, |(_, root)| root);
    KeyIndex { root }
}

fn level_above(level: Vec<(Vec<u8>, Arc<Node>)>) -> Vec<(Vec<u8>, Arc<Node>)> {
    let mut above = Vec::with_capacity(level.len() / BRANCH_FILL + 1);
    let mut before = Vec::new();
    let mut branch = Branch::new();
    let mut len = 0;
    for (separator, node) in level {
        if len >= BRANCH_FILL || branch.is_full() {
            above.push((
                before,
                Arc::new(Node::Branch(std::mem::replace(&mut branch, Branch::new()))),
            ));
            before = separator.clone();
            len = 0;
        }
        branch.push(&separator, node);
        len += 1;
    }
    above.push((before, Arc::new(Node::Branch(branch))));
    above
}
