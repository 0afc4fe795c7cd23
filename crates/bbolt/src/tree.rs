//! Copy-on-write change of one tree: walks down to the leaves that the writes touch and builds new
//! pages from there up. Never writes to the file: new pages collect in `dirty`.

use bytes::Bytes;

use crate::node::{Branch, Child, Leaf, Node, Op};
use crate::page::{BUCKET_BYTES, BucketRoot, Page, parse_bucket};
use crate::pager::{Dirty, Pager};
use crate::space::{PageSet, Space};
use crate::{Error, Wait};

/// Deeper trees do not exist: two children a branch would make 2^64 pages.
pub(crate) const DEPTH_MAX: usize = 64;

/// The change that a commit makes: pages taken, pages given back, pages to write.
pub(crate) struct Edit<'a> {
    pub(crate) pager: &'a Pager,
    /// Of the state that is changed.
    pub(crate) high_water: u64,
    pub(crate) space: &'a mut Space,
    pub(crate) dirty: Vec<Dirty>,
}

/// A child of a branch under change: as it was, or with new content.
enum Piece {
    Kept(Child),
    New(Node),
}

impl Edit<'_> {
    /// Changes a bucket and gives the new value of its element; `None` if nothing changed.
    /// `root` is `None` for a bucket that is new.
    pub(crate) fn bucket(
        &mut self,
        root: Option<&BucketRoot>,
        sequence: u64,
        ops: &[Op],
    ) -> Result<Option<Bytes>, Error> {
        let node = match root {
            None => self
                .merge_leaf(&empty_leaf(), ops, 0, ops.len())?
                .or(Some(Node::Leaf(Leaf::default()))),
            Some(BucketRoot::Inline(page)) => self.merge_leaf(page, ops, 0, ops.len())?,
            Some(BucketRoot::Tree(id)) => match self.root_node(*id, ops)? {
                Changed::Unchanged => None,
                Changed::New(node) => Some(node),
                Changed::Page(id) => return Ok(Some(tree_header(id, sequence))),
            },
        };
        let Some(node) = node else { return Ok(None) };
        if let Node::Leaf(leaf) = &node
            && leaf.is_inlineable(ops, self.pager.page_size)
        {
            return Ok(Some(leaf.encode_inline(ops, sequence)));
        }
        let id = self.write_root(node, ops)?;
        Ok(Some(tree_header(id, sequence)))
    }

    /// Changes the tree of buckets and gives its root page.
    pub(crate) fn top(&mut self, root: u64, ops: &[Op]) -> Result<u64, Error> {
        match self.root_node(root, ops)? {
            Changed::Unchanged => Ok(root),
            Changed::Page(id) => Ok(id),
            Changed::New(node) => self.write_root(node, ops),
        }
    }

    /// Gives back all pages of a bucket, with the buckets in it.
    pub(crate) fn free_tree(&mut self, root: u64) -> Result<(), Error> {
        let mut pages = vec![root];
        let mut seen = PageSet::default();
        while let Some(id) = pages.pop() {
            if !seen.insert(id) {
                return Err(self.pager.corrupt(id, "reached in two ways"));
            }
            let page = self.pager.page_from_file(id, self.high_water, Wait::Yes)?;
            self.free(id, &page);
            for at in 0..page.len() {
                if !page.is_leaf() {
                    pages.push(page.child(at));
                } else if page.is_bucket(at) {
                    let (root, _) = parse_bucket(&page.value_shared(at), self.high_water)
                        .map_err(|what| self.pager.corrupt(id, what))?;
                    if let BucketRoot::Tree(root) = root {
                        pages.push(root);
                    }
                }
            }
        }
        Ok(())
    }

    fn root_node(&mut self, id: u64, ops: &[Op]) -> Result<Changed, Error> {
        let page = self.load(id)?;
        if page.is_leaf() {
            let merged = self.merge_leaf(&page, ops, 0, ops.len())?;
            return Ok(merged.map_or(Changed::Unchanged, |node| {
                self.free(id, &page);
                Changed::New(node)
            }));
        }
        let Some(mut pieces) = self.children(id, &page, ops, 0, ops.len(), 0)? else {
            return Ok(Changed::Unchanged);
        };
        if pieces.len() > 1 {
            return Ok(Changed::New(Node::Branch(self.write_pieces(pieces, ops, &page)?)));
        }
        // A root with one child gives way to it, down to the first that has more.
        match pieces.pop() {
            None => Ok(Changed::New(Node::Leaf(Leaf::default()))),
            Some(Piece::New(Node::Branch(branch))) if branch.children.len() == 1 => {
                Ok(Changed::Page(branch.children[0].id))
            }
            Some(Piece::New(node)) => Ok(Changed::New(node)),
            Some(Piece::Kept(child)) => {
                let page = self.load(child.id)?;
                if !page.is_leaf() {
                    return Ok(Changed::Page(child.id));
                }
                // It may be small enough now to live in its bucket's element.
                self.free(child.id, &page);
                Ok(Changed::New(Node::Leaf(Leaf::from_page(&page))))
            }
        }
    }

    /// Changes the children of a branch that `ops[from..to]` touch; `None` if nothing changed. Otherwise
    /// the branch is freed, empty children are gone and underfull ones merged.
    fn children(
        &mut self,
        id: u64,
        page: &Page,
        ops: &[Op],
        from: usize,
        to: usize,
        depth: usize,
    ) -> Result<Option<Vec<Piece>>, Error> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(page.len());
        let mut changed = false;
        let (mut child, mut op) = (0, from);
        while op < to {
            let target = page.child_for(ops[op].key);
            let end = if target + 1 < page.len() {
                let bound = page.key(target + 1);
                op + ops[op..to].partition_point(|op| op.key[..] < *bound)
            } else {
                to
            };
            pieces.extend((child..target).map(|at| kept(page, at)));
            self.check_place(page, target, ops[end - 1].key)?;
            match self.node(page.child(target), ops, op, end, depth + 1)? {
                None => pieces.push(kept(page, target)),
                Some(node) => {
                    changed = true;
                    pieces.push(Piece::New(node));
                }
            }
            (child, op) = (target + 1, end);
        }
        if !changed {
            return Ok(None);
        }
        pieces.extend((child..page.len()).map(|at| kept(page, at)));
        self.free(id, page);
        self.balance(id, pieces).map(Some)
    }

    /// Whether a child is where a key belongs, as far as it and the child after it can tell: what is in the wrong
    /// place must not be written anew as if it were in the right one.
    fn check_place(&self, branch: &Page, at: usize, key: &[u8]) -> Result<(), Error> {
        let child = self.pager.child(branch, at, self.high_water, Wait::Yes)?;
        let is_behind = child
            .len()
            .checked_sub(1)
            .is_none_or(|last| *key > *child.key(last));
        if is_behind && at + 1 < branch.len() {
            self.pager.child(branch, at + 1, self.high_water, Wait::Yes)?;
        }
        Ok(())
    }

    /// The new content of a page that is not a root; `None` if nothing changed.
    fn node(
        &mut self,
        id: u64,
        ops: &[Op],
        from: usize,
        to: usize,
        depth: usize,
    ) -> Result<Option<Node>, Error> {
        if depth > DEPTH_MAX {
            return Err(self.pager.corrupt(id, "deeper than a tree can be"));
        }
        let page = self.load(id)?;
        if page.is_leaf() {
            let merged = self.merge_leaf(&page, ops, from, to)?;
            if merged.is_some() {
                self.free(id, &page);
            }
            return Ok(merged);
        }
        match self.children(id, &page, ops, from, to, depth)? {
            None => Ok(None),
            Some(pieces) => Ok(Some(Node::Branch(self.write_pieces(pieces, ops, &page)?))),
        }
    }

    /// Drops empty pieces and merges underfull ones with a neighbour under the same parent, left before
    /// right.
    fn balance(&mut self, parent: u64, pieces: Vec<Piece>) -> Result<Vec<Piece>, Error> {
        let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            if matches!(&piece, Piece::New(node) if node.is_empty()) {
                continue;
            }
            out.push(piece);
            while out.len() > 1
                && (self.is_underfull(out.last()) || self.is_underfull(out.get(out.len() - 2)))
            {
                let right = out.pop().expect("two pieces");
                let left = out.pop().expect("two pieces");
                let (right, mut left) = (self.take_apart(right)?, self.take_apart(left)?);
                if !left.join(right) {
                    return Err(self.pager.corrupt(parent, "a branch and a leaf under one parent"));
                }
                out.push(Piece::New(left));
            }
        }
        Ok(out)
    }

    fn is_underfull(&self, piece: Option<&Piece>) -> bool {
        matches!(piece, Some(Piece::New(node)) if node.is_underfull(self.pager.page_size))
    }

    /// The content of a piece; a kept page is freed, as its content will go elsewhere.
    fn take_apart(&mut self, piece: Piece) -> Result<Node, Error> {
        match piece {
            Piece::New(node) => Ok(node),
            Piece::Kept(child) => {
                let page = self.load(child.id)?;
                self.free(child.id, &page);
                Ok(if page.is_leaf() {
                    Node::Leaf(Leaf::from_page(&page))
                } else {
                    Node::Branch(Branch::from_page(&page))
                })
            }
        }
    }

    /// Gives new content its pages; the result is the content of the parent, which was `parent`.
    fn write_pieces(&mut self, pieces: Vec<Piece>, ops: &[Op], parent: &Page) -> Result<Branch, Error> {
        let mut branch = Branch {
            children: Vec::with_capacity(pieces.len() + 2),
            ..Branch::default()
        };
        for piece in pieces {
            // Growth at the right edge alone is what ascending keys look like from here.
            branch.append = branch.children.len() < parent.len();
            match piece {
                Piece::Kept(child) => branch.children.push(child),
                Piece::New(node) => self.write_node(&node, ops, &mut branch.children),
            }
        }
        branch.shrunk = branch.children.len() < parent.len();
        Ok(branch)
    }

    /// Gives a root its pages, with as many levels above as it takes.
    fn write_root(&mut self, mut node: Node, ops: &[Op]) -> Result<u64, Error> {
        loop {
            let mut children = Vec::new();
            self.write_node(&node, ops, &mut children);
            if let [child] = &children[..] {
                return Ok(child.id);
            }
            node = Node::Branch(Branch {
                children,
                append: true,
                ..Branch::default()
            });
        }
    }

    fn write_node(&mut self, node: &Node, ops: &[Op], children: &mut Vec<Child>) {
        let page_size = self.pager.page_size;
        let mut from = 0;
        for to in node.cuts(page_size) {
            let pages = node.pages(from, to, page_size);
            let id = self.space.take(pages as u64);
            let bytes = node.encode(from, to, id, pages, page_size, ops);
            self.dirty.push(Dirty { id, bytes });
            // Only an empty root has no key, and nobody asks for it.
            let key = if to > from {
                node.key(from, ops)
            } else {
                Bytes::new()
            };
            children.push(Child { key, id });
            from = to;
        }
    }

    fn merge_leaf(&self, page: &Page, ops: &[Op], from: usize, to: usize) -> Result<Option<Node>, Error> {
        let merged = Leaf::merge(page, ops, from, to).map_err(|key| self.pager.incompatible(&key))?;
        Ok(merged.map(Node::Leaf))
    }

    fn load(&self, id: u64) -> Result<Page, Error> {
        self.pager.page(id, self.high_water, Wait::Yes)
    }

    fn free(&mut self, id: u64, page: &Page) {
        self.space
            .give((id, (page.byte_len() / self.pager.page_size) as u64));
    }
}

/// What became of a tree's root.
enum Changed {
    Unchanged,
    /// This page, which is there already.
    Page(u64),
    New(Node),
}

fn kept(page: &Page, at: usize) -> Piece {
    Piece::Kept(Child {
        key: page.key_shared(at),
        id: page.child(at),
    })
}

/// The value of the element of a bucket that has a tree.
fn tree_header(root: u64, sequence: u64) -> Bytes {
    let mut value = vec![0; BUCKET_BYTES];
    value[..8].copy_from_slice(&root.to_le_bytes());
    value[8..].copy_from_slice(&sequence.to_le_bytes());
    Bytes::from(value)
}

fn empty_leaf() -> Page {
    let mut bytes = vec![0; crate::page::HEADER_BYTES];
    crate::page::write_header(&mut bytes, 0, crate::page::LEAF, 0, 0);
    Page::trusted(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use disk::mem::MemDisk;

    use super::*;
    use crate::{Batch, Db, Options};

    /// bbolt bucket.go inlineable: 16 bytes of page header, 16 of element header, key and value
    /// take at most a quarter of a page.
    #[test]
    fn a_bucket_lives_in_its_element_up_to_a_quarter_of_a_page() {
        for page_size in [1024, 4096, 65536] {
            let options = Options {
                page_size: Some(page_size),
                ..Options::default()
            };
            let db = Db::open(&MemDisk::new().shared(), Path::new("/db"), options).unwrap();
            let room = page_size as usize / 4 - 16 - 16 - 1;
            for (value_bytes, inline) in [(room, true), (room + 1, false), (room, true), (0, true)] {
                let mut batch = Batch::new();
                batch.create_bucket(b"b");
                batch.put(b"b", Bytes::from_static(b"k"), Bytes::from(vec![1; value_bytes]));
                db.commit(&batch).unwrap();
                let (root, _) = db.snapshot().bucket(b"b", Wait::Yes).unwrap().unwrap();
                assert_eq!(
                    matches!(root, BucketRoot::Inline(_)),
                    inline,
                    "{page_size} {value_bytes}"
                );
                assert!(db.check().is_empty());
            }
        }
    }
}
