//! A walk over a bucket's keys in order. Never writes.

use bytes::Bytes;

use crate::Error;
use crate::page::{BucketRoot, Page};
use crate::snapshot::{Snapshot, Wait};
use crate::tree::DEPTH_MAX;

/// Walks a bucket's keys in order. Keys and values are slices of pages, which stay in memory as long as one
/// of their slices does (in long walks, with their neighbours up to 64 KiB): copy what is kept for long. After an error it
/// stands where it stood; after the end, too (so that `prev` gives the last but one).
pub struct Cursor {
    snapshot: Snapshot,
    /// `None` for a bucket that is not there.
    root: Option<BucketRoot>,
    wait: Wait,
    /// From the root down; the last one is a leaf. Empty if the cursor stands nowhere.
    frames: Vec<Frame>,
    ahead: Ahead,
}

/// Leaves read before they are asked for: a walk over many leaves takes one read for many, and does not
/// empty the cache.
#[derive(Default)]
struct Ahead {
    /// Leaves that the walk has gone over in a row, forward.
    run: u32,
    /// Pages and their numbers, the nearest last.
    pages: Vec<(u64, Page)>,
}

/// After this many leaves in a row a walk is taken for a long one.
const AHEAD_AFTER_LEAVES: u32 = 2;
/// At most so many pages are read at once, at most so many bytes.
const AHEAD_PAGES_MAX: u64 = 64;
const AHEAD_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone)]
struct Frame {
    page: Page,
    at: usize,
}

/// Which end of a subtree to go to.
#[derive(Clone, Copy)]
enum Toward<'a> {
    First,
    Last,
    Key(&'a [u8]),
}

impl Cursor {
    pub(crate) fn new(snapshot: Snapshot, root: Option<BucketRoot>, wait: Wait) -> Cursor {
        Cursor {
            snapshot,
            root,
            wait,
            frames: Vec::new(),
            ahead: Ahead::default(),
        }
    }

    /// To the first key that is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.go(Toward::Key(key), true)
    }

    /// To the first key.
    pub fn first(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.go(Toward::First, true)
    }

    /// To the last key.
    pub fn last(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.go(Toward::Last, false)
    }

    /// To the next key; `None` after the last one, and for a cursor that stands nowhere.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and prev is its twin")]
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.step(true)
    }

    /// To the key before; `None` before the first one, and for a cursor that stands nowhere.
    pub fn prev(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.step(false)
    }

    /// From here on, whether reads may wait.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// Whether what it stands at is a bucket within the bucket, which etcd has not; the value is then the
    /// bucket's header as stored.
    #[must_use]
    pub fn is_at_bucket(&self) -> bool {
        self.frames
            .last()
            .is_some_and(|frame| frame.at < frame.page.len() && frame.page.is_bucket(frame.at))
    }

    fn go(&mut self, toward: Toward, forward: bool) -> Result<Option<(Bytes, Bytes)>, Error> {
        let Some(root) = &self.root else { return Ok(None) };
        let root = self.snapshot.root_page(root, self.wait)?;
        self.ahead = Ahead::default();
        let frames = self.descend(Vec::new(), root, toward)?;
        let before = std::mem::replace(&mut self.frames, frames);
        if self.stands() {
            return Ok(self.row());
        }
        // An empty leaf, or a key beyond its leaf's last one.
        match self.step(forward) {
            Ok(row) => Ok(row),
            Err(error) => {
                self.frames = before;
                Err(error)
            }
        }
    }

    fn step(&mut self, forward: bool) -> Result<Option<(Bytes, Bytes)>, Error> {
        if let Some(leaf) = self.frames.last_mut() {
            let next = if forward {
                leaf.at + 1
            } else {
                leaf.at.wrapping_sub(1)
            };
            if next < leaf.page.len() {
                leaf.at = next;
                return Ok(self.row());
            }
        }
        // Over empty leaves, which bbolt's readers skip as well.
        let mut frames = self.frames.clone();
        while let Some(found) = self.next_leaf(&frames, forward)? {
            frames = found;
            if frames.last().is_some_and(|leaf| leaf.page.len() > 0) {
                self.frames = frames;
                return Ok(self.row());
            }
        }
        Ok(None)
    }

    /// The path to the leaf after (or before) the one that `frames` lead to.
    fn next_leaf(&mut self, frames: &[Frame], forward: bool) -> Result<Option<Vec<Frame>>, Error> {
        let Some((_, branches)) = frames.split_last() else {
            return Ok(None);
        };
        for (level, frame) in branches.iter().enumerate().rev() {
            let at = if forward {
                frame.at + 1
            } else {
                frame.at.wrapping_sub(1)
            };
            if at < frame.page.len() {
                let mut path = branches[..level].to_vec();
                let page = frame.page.clone();
                let next = if !forward {
                    self.ahead = Ahead::default();
                    self.snapshot.child(&page, at, self.wait)?
                } else if level + 1 == branches.len() {
                    self.leaf_ahead(&page, at)?
                } else {
                    self.snapshot.child(&page, at, self.wait)?
                };
                path.push(Frame { page, at });
                let toward = if forward { Toward::First } else { Toward::Last };
                return self.descend(path, next, toward).map(Some);
            }
        }
        Ok(None)
    }

    /// The leaf that is child `at` of a branch, in a walk forward.
    fn leaf_ahead(&mut self, branch: &Page, at: usize) -> Result<Page, Error> {
        let id = branch.child(at);
        self.ahead.run += 1;
        if let Some((next, page)) = self.ahead.pages.pop()
            && next == id
        {
            let high_water = self.snapshot.pin.state.meta.high_water;
            let pager = &self.snapshot.pin.inner.pager;
            pager.check_child(branch, at, &page, high_water, self.wait)?;
            return Ok(page);
        }
        self.ahead.pages.clear();
        let pager = &self.snapshot.pin.inner.pager;
        let page_bytes = pager.page_size as u64;
        if self.wait == Wait::No || self.ahead.run <= AHEAD_AFTER_LEAVES || pager.cache.contains(id) {
            return self.snapshot.child(branch, at, self.wait);
        }
        // Children that lie near each other in ascending order; what grew by appending mostly does.
        let pages_max = AHEAD_PAGES_MAX.min(AHEAD_BYTES_MAX / page_bytes).max(1);
        let mut ids = vec![id];
        for next in (at + 1..branch.len()).map(|at| branch.child(at)) {
            if next <= ids[ids.len() - 1] || next - id >= pages_max {
                break;
            }
            ids.push(next);
        }
        if ids.len() == 1 {
            return self.snapshot.child(branch, at, self.wait);
        }
        let high_water = self.snapshot.pin.state.meta.high_water;
        self.ahead.pages = pager.pages_from_file(&ids, high_water)?;
        match self.ahead.pages.pop() {
            Some((_, page)) => {
                pager.check_child(branch, at, &page, high_water, self.wait)?;
                Ok(page)
            }
            None => self.snapshot.child(branch, at, self.wait),
        }
    }

    fn descend(&self, mut frames: Vec<Frame>, mut page: Page, toward: Toward) -> Result<Vec<Frame>, Error> {
        loop {
            let last = page.len().saturating_sub(1);
            let at = match toward {
                Toward::First => 0,
                Toward::Last => last,
                Toward::Key(key) if page.is_leaf() => page.search(0, key).unwrap_or_else(|at| at),
                Toward::Key(key) => page.child_for(key),
            };
            if page.is_leaf() {
                frames.push(Frame { page, at });
                return Ok(frames);
            }
            if frames.len() >= DEPTH_MAX {
                return Err(self.snapshot.too_deep(page.child(at)));
            }
            let child = self.snapshot.child(&page, at, self.wait)?;
            frames.push(Frame { page, at });
            page = child;
        }
    }

    fn stands(&self) -> bool {
        self.frames.last().is_some_and(|leaf| leaf.at < leaf.page.len())
    }

    fn row(&self) -> Option<(Bytes, Bytes)> {
        let leaf = self.frames.last()?;
        Some((leaf.page.key_shared(leaf.at), leaf.page.value_shared(leaf.at)))
    }
}
