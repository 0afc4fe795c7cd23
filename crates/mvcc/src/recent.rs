//! The newest revisions, in memory: all that is not yet in the data file, and a little more.
//!
//! A log in blocks of slots that are filled once and never change. The writer fills slots while readers look at earlier
//! ones: a slot that a reader's view covers was filled before the view was published. So sharing the log
//! costs nothing at a publication, and a look-up takes no lock.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{Rev, RevKey};

/// Revisions per block.
const BLOCK_LEN: usize = 256;
/// Blocks that a new directory has room for, at least.
const DIRECTORY_LEN_MIN: usize = 128;

/// One revision as it is, or will be, in the bucket `key`.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    /// The row's key.
    pub key: RevKey,
    /// The row's value.
    pub record: Bytes,
}

#[derive(Debug)]
struct Block {
    first: Rev,
    slots: Box<[OnceLock<Recent>]>,
}

impl Block {
    fn new(first: Rev) -> Arc<Block> {
        Arc::new(Block {
            first,
            slots: (0..BLOCK_LEN).map(|_| OnceLock::new()).collect(),
        })
    }
}

#[derive(Debug)]
struct Directory {
    blocks: Box<[OnceLock<Arc<Block>>]>,
}

impl Directory {
    /// The given blocks, with room for as many again.
    fn new(blocks: impl ExactSizeIterator<Item = Arc<Block>>) -> Arc<Directory> {
        let len = (blocks.len() * 2).max(DIRECTORY_LEN_MIN);
        let cells: Box<[OnceLock<Arc<Block>>]> = (0..len).map(|_| OnceLock::new()).collect();
        for (cell, block) in cells.iter().zip(blocks) {
            cell.get_or_init(|| block);
        }
        Arc::new(Directory { blocks: cells })
    }
}

/// A reader's hold on the log: what was in it when the view was made, and what came after (which the reader's
/// revision keeps it from looking at).
#[derive(Clone, Debug)]
pub(crate) struct RecentWrites {
    directory: Arc<Directory>,
}

impl RecentWrites {
    /// A log without revisions.
    pub(crate) fn empty() -> RecentWrites {
        RecentWrites {
            directory: Directory::new([].into_iter()),
        }
    }

    /// The oldest revision held.
    pub(crate) fn oldest(&self) -> Option<Rev> {
        self.directory.blocks.first()?.get().map(|block| block.first)
    }

    /// The record of exactly this revision; of a put, not of a deletion.
    pub(crate) fn get(&self, rev: Rev) -> Option<&Bytes> {
        let blocks = &self.directory.blocks;
        let after = blocks.partition_point(|block| block.get().is_some_and(|block| block.first <= rev));
        let slots = &blocks[after.checked_sub(1)?].get()?.slots;
        let before = slots.partition_point(|slot| slot.get().is_some_and(|recent| recent.key.rev < rev));
        let found = slots.get(before)?.get()?;
        (found.key
            == RevKey {
                rev,
                tombstone: false,
            })
        .then_some(&found.record)
    }

    /// The revisions from `from` on, ascending.
    pub(crate) fn iter_from(&self, from: Rev) -> impl Iterator<Item = &Recent> {
        let blocks = &self.directory.blocks;
        let after = blocks.partition_point(|block| block.get().is_some_and(|block| block.first <= from));
        let start = after.saturating_sub(1);
        let skipped = blocks[start].get().map_or(0, |block| {
            block
                .slots
                .partition_point(|slot| slot.get().is_some_and(|recent| recent.key.rev < from))
        });
        let slots = blocks[start..]
            .iter()
            .map_while(OnceLock::get)
            .flat_map(|block| block.slots.iter());
        slots.skip(skipped).map_while(OnceLock::get)
    }
}

/// The writer's end of the log.
#[derive(Debug)]
pub(crate) struct RecentLog {
    shared: RecentWrites,
    /// Of each block: its first revision and the bytes it holds.
    blocks: VecDeque<(Rev, usize)>,
    /// Slots filled in the last block.
    filled: usize,
}

impl RecentLog {
    pub(crate) fn new() -> RecentLog {
        RecentLog {
            shared: RecentWrites::empty(),
            blocks: VecDeque::new(),
            filled: BLOCK_LEN,
        }
    }

    pub(crate) fn reader(&self) -> &RecentWrites {
        &self.shared
    }

    /// Adds a revision, newer than all.
    pub(crate) fn push(&mut self, key: RevKey, record: Bytes) {
        if self.filled == BLOCK_LEN {
            if self.blocks.len() == self.shared.directory.blocks.len() {
                self.shared.directory = Directory::new(self.kept_blocks(0));
            }
            self.shared.directory.blocks[self.blocks.len()].get_or_init(|| Block::new(key.rev));
            self.blocks.push_back((key.rev, 0));
            self.filled = 0;
        }
        let bytes = size_of::<OnceLock<Recent>>() + record.len();
        let last = self.blocks.len() - 1;
        let block = self.shared.directory.blocks[last]
            .get()
            .expect("the last block was just made");
        block.slots[self.filled].get_or_init(|| Recent { key, record });
        self.blocks[last].1 += bytes;
        self.filled += 1;
    }

    /// Drops the oldest blocks, as long as what is left is more than `bytes_max` and the dropped block holds only
    /// revisions with a main up to `committed`.
    pub(crate) fn trim(&mut self, committed: i64, bytes_max: usize) {
        let mut bytes: usize = self.blocks.iter().map(|block| block.1).sum();
        let mut dropped = 0;
        // A block ends where the next one begins, so the last one stays.
        while bytes > bytes_max
            && self
                .blocks
                .get(dropped + 1)
                .is_some_and(|next| next.0.main <= committed)
        {
            bytes -= self.blocks[dropped].1;
            dropped += 1;
        }
        if dropped > 0 {
            self.blocks.drain(..dropped);
            self.shared.directory = Directory::new(self.kept_blocks(dropped));
        }
    }

    fn kept_blocks(&self, skip: usize) -> impl ExactSizeIterator<Item = Arc<Block>> {
        let filled = self
            .shared
            .directory
            .blocks
            .iter()
            .map_while(OnceLock::get)
            .count();
        (skip..filled).map(|place| {
            self.shared.directory.blocks[place]
                .get()
                .expect("counted as filled")
                .clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(main: i64, sub: i64) -> RevKey {
        RevKey {
            rev: Rev::new(main, sub),
            tombstone: main % 7 == 0,
        }
    }

    fn filled(mains: std::ops::Range<i64>) -> RecentLog {
        let mut log = RecentLog::new();
        for main in mains {
            for sub in 0..main % 3 + 1 {
                log.push(key(main, sub), Bytes::from(format!("{main}.{sub}")));
            }
        }
        log
    }

    #[test]
    fn finds_what_was_pushed() {
        let log = filled(5..100_000);
        let reader = log.reader();
        assert_eq!(reader.oldest(), Some(Rev::new(5, 0)));
        for main in (0..100_010).step_by(37).chain([4, 5, 99_998]) {
            for sub in 0..3 {
                let there = (5..100_000).contains(&main) && sub <= main % 3 && main % 7 != 0;
                let expected = there.then(|| format!("{main}.{sub}"));
                let found = reader
                    .get(Rev::new(main, sub))
                    .map(|record| String::from_utf8(record.to_vec()).unwrap());
                assert_eq!(found, expected, "{main}.{sub}");
            }
            let next = reader
                .iter_from(Rev::new(main, 0))
                .next()
                .map(|recent| recent.key.rev.main);
            assert_eq!(next, (main < 100_000).then_some(main.max(5)));
        }
        assert_eq!(RecentLog::new().reader().oldest(), None);
        assert!(
            RecentLog::new()
                .reader()
                .iter_from(Rev::default())
                .next()
                .is_none()
        );
    }

    #[test]
    fn trims_only_what_is_committed_and_too_much() {
        let mut log = filled(1..10_000);
        let before = log.reader().clone();
        log.trim(5_000, usize::MAX);
        assert_eq!(log.reader().oldest(), Some(Rev::new(1, 0)));
        log.trim(5_000, 0);
        let oldest = log.reader().oldest().unwrap();
        assert!((4_000..=5_000).contains(&oldest.main), "{oldest:?}");
        assert_eq!(
            log.reader().iter_from(Rev::new(5_001, 0)).count(),
            before.iter_from(Rev::new(5_001, 0)).count()
        );
        assert_eq!(before.oldest(), Some(Rev::new(1, 0)));
        log.push(key(10_000, 0), Bytes::new());
        assert!(log.reader().get(Rev::new(10_000, 0)).is_some());
        log.trim(i64::MAX, 0);
        assert!(
            log.reader().get(Rev::new(10_000, 0)).is_some(),
            "the last block stays"
        );
    }
}
