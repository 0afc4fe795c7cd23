//! A pinned state of the file: look-ups of keys. Never writes.

use std::sync::Arc;

use bytes::Bytes;

use crate::Error;
use crate::cursor::Cursor;
use crate::db::Pin;
use crate::page::{BucketRoot, Page, parse_bucket};
use crate::stream::Stream;
use crate::tree::DEPTH_MAX;

/// Whether a read may wait for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Only what is in memory (ours or the system's); otherwise [`Error::WouldBlock`].
    No,
    /// May wait.
    Yes,
}

/// The file as one commit left it. Clones share one pin; the last one dropped lets go of the pages.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) pin: Arc<Pin>,
}

impl Snapshot {
    /// The value of a key; a missing bucket is an empty one. The bytes are a slice of a cached page.
    pub fn get(&self, bucket: &[u8], key: &[u8], wait: Wait) -> Result<Option<Bytes>, Error> {
        let Some((root, _)) = self.bucket(bucket, wait)? else {
            return Ok(None);
        };
        let leaf = self.leaf_for(self.root_page(&root, wait)?, key, wait)?;
        Ok(leaf
            .search(0, key)
            .ok()
            .filter(|at| !leaf.is_bucket(*at))
            .map(|at| leaf.value_shared(at)))
    }

    /// Looks up many ascending keys in one walk and calls `found` with the position of each key that is
    /// there, in
    /// the order of the keys. On an error it may have been called for some.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        bucket: &[u8],
        keys: &[K],
        wait: Wait,
        mut found: impl FnMut(usize, Bytes),
    ) -> Result<(), Error> {
        let Some((root, _)) = self.bucket(bucket, wait)? else {
            return Ok(());
        };
        let mut path = Path {
            snapshot: self,
            wait,
            branches: Vec::new(),
            leaf: self.root_page(&root, wait)?,
            at: 0,
        };
        if !path.leaf.is_leaf() {
            let Some(first) = keys.first() else { return Ok(()) };
            let root = path.leaf.clone();
            path.descend(root, None, first.as_ref())?;
        }
        let mut before: &[u8] = &[];
        for (index, key) in keys.iter().enumerate() {
            let key = key.as_ref();
            if key < before {
                path.rewind(key)?;
            }
            before = key;
            path.advance(key)?;
            match path.leaf.search(path.at, key) {
                Ok(at) => {
                    path.at = at;
                    if !path.leaf.is_bucket(at) {
                        found(index, path.leaf.value_shared(at));
                    }
                }
                Err(at) => path.at = at,
            }
        }
        Ok(())
    }

    /// A cursor that stands nowhere yet; over a missing bucket, it finds nothing.
    pub fn cursor(&self, bucket: &[u8], wait: Wait) -> Result<Cursor, Error> {
        let root = self.bucket(bucket, wait)?.map(|(root, _)| root);
        Ok(Cursor::new(self.clone(), root, wait))
    }

    /// Names of the top-level buckets, ascending.
    pub fn buckets(&self, wait: Wait) -> Result<Vec<Bytes>, Error> {
        let mut cursor = self.top(wait);
        let mut names = Vec::new();
        let mut row = cursor.first()?;
        while let Some((name, _)) = row {
            if cursor.is_at_bucket() {
                names.push(name);
            }
            row = cursor.next()?;
        }
        Ok(names)
    }

    /// Number of the commit that made this state.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.pin.state.meta.txid
    }

    /// Bytes up to the high-water mark.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pin.inner.size(&self.pin.state)
    }

    /// `size` without the pages that were free when this state was made.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.pin.inner.size_in_use(&self.pin.state)
    }

    /// The file as bbolt's `Tx.WriteTo` copies it: exactly [`Snapshot::size`] bytes.
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }

    /// A cursor over the tree of buckets.
    pub(crate) fn top(&self, wait: Wait) -> Cursor {
        Cursor::new(
            self.clone(),
            Some(BucketRoot::Tree(self.pin.state.meta.root)),
            wait,
        )
    }

    /// Root and sequence number of a top-level bucket.
    pub(crate) fn bucket(&self, name: &[u8], wait: Wait) -> Result<Option<(BucketRoot, u64)>, Error> {
        let meta = &self.pin.state.meta;
        let root = match self.pin.state.root.get() {
            Some(root) => root.clone(),
            None => {
                let root = self.page(meta.root, wait)?;
                self.pin.state.root.get_or_init(|| root).clone()
            }
        };
        let leaf = self.leaf_for(root, name, wait)?;
        match leaf.search(0, name) {
            Ok(at) if leaf.is_bucket(at) => parse_bucket(&leaf.value_shared(at), meta.high_water)
                .map(Some)
                .map_err(|what| self.pin.inner.pager.corrupt(meta.root, what)),
            Ok(_) => Err(self.pin.inner.pager.incompatible(name)),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn root_page(&self, root: &BucketRoot, wait: Wait) -> Result<Page, Error> {
        match root {
            BucketRoot::Inline(page) => Ok(page.clone()),
            BucketRoot::Tree(id) => self.page(*id, wait),
        }
    }

    pub(crate) fn page(&self, id: u64, wait: Wait) -> Result<Page, Error> {
        self.pin
            .inner
            .pager
            .page(id, self.pin.state.meta.high_water, wait)
    }

    /// A child of a branch.
    pub(crate) fn child(&self, branch: &Page, at: usize, wait: Wait) -> Result<Page, Error> {
        let pager = &self.pin.inner.pager;
        pager.child(branch, at, self.pin.state.meta.high_water, wait)
    }

    pub(crate) fn too_deep(&self, id: u64) -> Error {
        self.pin.inner.pager.corrupt(id, "deeper than a tree can be")
    }

    /// The leaf below `page` that would hold the key.
    fn leaf_for(&self, mut page: Page, key: &[u8], wait: Wait) -> Result<Page, Error> {
        let mut depth = 0;
        while !page.is_leaf() {
            let at = page.child_for(key);
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(self.too_deep(page.child(at)));
            }
            page = self.child(&page, at, wait)?;
        }
        Ok(page)
    }
}

/// Where a walk over ascending keys stands.
struct Path<'a> {
    snapshot: &'a Snapshot,
    wait: Wait,
    /// From the root down: a branch, and which of its children the walk is in.
    branches: Vec<(Page, usize)>,
    leaf: Page,
    /// Keys before this element are behind the walk.
    at: usize,
}

impl Path<'_> {
    /// To the leaf that would hold the key, which is not below any key before.
    fn advance(&mut self, key: &[u8]) -> Result<(), Error> {
        // From the bottom, since most keys stay in their leaf: a branch whose next child begins above the key
        // is
        // left as it is; below one whose next child does not, the way is another.
        let mut keep = self.branches.len();
        while let Some((page, at)) = keep.checked_sub(1).map(|level| &self.branches[level]) {
            if at + 1 < page.len() && *key < *page.key(at + 1) {
                break;
            }
            keep -= 1;
        }
        if keep == self.branches.len() {
            return Ok(());
        }
        let (page, at) = self.branches[keep].clone();
        self.branches.truncate(keep);
        self.descend(page, Some(at), key)
    }

    /// Back to the root, for a key that is below the one before.
    fn rewind(&mut self, key: &[u8]) -> Result<(), Error> {
        self.at = 0;
        if self.branches.is_empty() {
            return Ok(());
        }
        let root = self.branches.swap_remove(0).0;
        self.branches.clear();
        self.descend(root, None, key)
    }

    fn descend(&mut self, mut page: Page, mut from: Option<usize>, key: &[u8]) -> Result<(), Error> {
        while !page.is_leaf() {
            let at = match page.search(from.take().unwrap_or(0), key) {
                Ok(at) => at,
                Err(at) => at.saturating_sub(1),
            };
            if self.branches.len() >= DEPTH_MAX {
                return Err(self.snapshot.too_deep(page.child(at)));
            }
            let child = self.snapshot.child(&page, at, self.wait)?;
            self.branches.push((page, at));
            page = child;
        }
        self.leaf = page;
        self.at = 0;
        Ok(())
    }
}
