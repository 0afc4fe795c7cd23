//! The older revisions of one key, newest first at hand.
//!
//! Most keys have none, many have one or two, and a few have thousands. So the newest is held in place and the
//! rest in a chain of shared chunks: adding one copies at most one chunk, whoever else holds the chain.

use std::sync::Arc;

use super::KeyInfo;
use crate::Rev;

/// Revisions per chunk.
const CHUNK_LEN: usize = 32;

/// One revision of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// Main revision.
    pub main: i64,
    /// Main revision of the put that made the key; for a deletion, of what it deleted.
    pub create: i64,
    /// Twice the version, plus 1 for a deletion.
    version: u64,
    /// Sub revision.
    pub sub: u32,
}

impl Past {
    pub(super) fn new(rev: (i64, u32), create: i64, version: i64, tombstone: bool) -> Past {
        Past {
            main: rev.0,
            sub: rev.1,
            create,
            version: (version as u64) << 1 | u64::from(tombstone),
        }
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.version & 1 == 1
    }

    pub(super) fn rev(&self) -> Rev {
        Rev::new(self.main, i64::from(self.sub))
    }

    /// What there was of the key at this revision; `None` after a deletion.
    pub(super) fn info(&self) -> Option<KeyInfo> {
        let info = KeyInfo {
            modified: self.rev(),
            create: self.create,
            version: (self.version >> 1) as i64,
            leased: false,
        };
        (!self.is_tombstone()).then_some(info)
    }

    /// Whether a compaction at `at` keeps this revision, if it is the newest up to there.
    pub(super) fn outlives(&self, at: i64) -> bool {
        // A deletion at the very revision is kept since 3.5.16: mvcc/key_index.go.
        !self.is_tombstone() || self.main == at
    }
}

/// The older revisions of a key; at least one.
#[derive(Clone, Debug)]
pub(super) struct History {
    newest: Past,
    older: Option<Arc<Chunk>>,
}

/// Some revisions, ascending, and the chunk before.
#[derive(Clone, Debug)]
struct Chunk {
    pasts: Vec<Past>,
    older: Option<Arc<Chunk>>,
}

impl History {
    pub(super) fn new(past: Past) -> History {
        History {
            newest: past,
            older: None,
        }
    }

    /// Adds a revision newer than all.
    pub(super) fn push(&mut self, past: Past) {
        let pushed = std::mem::replace(&mut self.newest, past);
        match &mut self.older {
            Some(chunk) if chunk.pasts.len() < CHUNK_LEN => Arc::make_mut(chunk).pasts.push(pushed),
            older => {
                let chunk = Chunk {
                    pasts: vec![pushed],
                    older: older.take(),
                };
                *older = Some(Arc::new(chunk));
            }
        }
    }

    /// The newest revision whose main is not above `at`.
    pub(super) fn find(&self, at: i64) -> Option<Past> {
        if self.newest.main <= at {
            return Some(self.newest);
        }
        let mut next = &self.older;
        while let Some(chunk) = next {
            if chunk.pasts.first().is_some_and(|past| past.main <= at) {
                let up_to = chunk.pasts.partition_point(|past| past.main <= at);
                return chunk.pasts.get(up_to - 1).copied();
            }
            next = &chunk.older;
        }
        None
    }

    /// Drops what a compaction at `at` drops; `false` if nothing is left.
    pub(super) fn compact(&mut self, at: i64) -> bool {
        if self.newest.main <= at {
            self.older = None;
            return self.newest.outlives(at);
        }
        let mut next = &mut self.older;
        // Chunks that are wholly newer than `at` stay; only those on the way are copied if they are shared.
        while next
            .as_ref()
            .is_some_and(|chunk| chunk.pasts.first().is_some_and(|past| past.main > at))
        {
            let chunk = next.as_mut().expect("just seen");
            next = &mut Arc::make_mut(chunk).older;
        }
        let Some(chunk) = next else { return true };
        let up_to = chunk.pasts.partition_point(|past| past.main <= at);
        let keep = if chunk.pasts[up_to - 1].outlives(at) {
            up_to - 1
        } else {
            up_to
        };
        if keep == chunk.pasts.len() {
            *next = None;
        } else if keep > 0 || chunk.older.is_some() {
            let pasts = chunk.pasts[keep..].to_vec();
            *next = Some(Arc::new(Chunk { pasts, older: None }));
        }
        true
    }

    /// All revisions, oldest first; for tests.
    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<Past> {
        let mut pasts = vec![self.newest];
        let mut next = &self.older;
        while let Some(chunk) = next {
            pasts.extend(chunk.pasts.iter().rev());
            next = &chunk.older;
        }
        pasts.reverse();
        pasts
    }
}

impl Drop for Chunk {
    /// One by one: a chain of a million chunks would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut chunk) = next.and_then(Arc::into_inner) {
            next = chunk.older.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(mains: std::ops::Range<i64>) -> History {
        let mut history = History::new(Past::new((mains.start, 0), 1, 1, false));
        for main in mains.skip(1) {
            history.push(Past::new((main, 0), 1, main, false));
        }
        history
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut all = history(1..100);
        let before = all.clone();
        all.push(Past::new((200, 0), 1, 1, false));
        all.compact(150);
        assert_eq!(before.to_vec().len(), 99);
        assert_eq!(before.find(40).map(|past| past.main), Some(40));
        assert_eq!(
            all.to_vec().iter().map(|past| past.main).collect::<Vec<_>>(),
            [99, 200]
        );
    }

    #[test]
    fn every_cut_is_found() {
        for at in 0..140 {
            let mut all = history(10..120);
            assert_eq!(
                all.find(at).map(|past| past.main),
                (at >= 10).then_some(at.min(119))
            );
            assert!(all.compact(at));
            let left: Vec<i64> = all.to_vec().iter().map(|past| past.main).collect();
            assert_eq!(left, (at.clamp(10, 119)..120).collect::<Vec<_>>(), "at {at}");
        }
    }

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        drop(history(0..3_000_000));
    }
}
