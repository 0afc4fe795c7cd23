//! The content of a page to be: elements taken from old pages and from the batch. Decides where to
//! cut and writes page images. Does no I/O and allocates no page numbers.

use bytes::Bytes;

use crate::page::{
    BRANCH, BUCKET, BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, LEAF, Page, pages_for, write_header,
};

/// A page is filled to this many tenths when keys arrive in ascending order.
const APPEND_FILL_TENTHS: usize = 9;
/// Otherwise a content is cut into equal parts of about this many quarters of a page.
const SPLIT_FILL_QUARTERS: usize = 3;
/// Elements larger than a page share a run with others if that saves pages, up to this many; longer runs
/// would
/// be rewritten as a whole for every change of a neighbour.
const SHARED_RUN_PAGES_MAX: usize = 4;

/// One write to a tree. Buckets are written by their header as value.
pub(crate) struct Op<'a> {
    pub(crate) key: &'a Bytes,
    /// `None` removes the key.
    pub(crate) value: Option<&'a Bytes>,
    /// Leaf element flags.
    pub(crate) flags: u32,
}

/// A leaf element by where it comes from.
#[derive(Clone, Copy)]
struct Element {
    /// Index in [`Leaf::pages`], or [`FROM_OPS`].
    source: u32,
    at: u32,
    /// Bytes with its element header.
    size: usize,
}

const FROM_OPS: u32 = u32::MAX;

/// Elements of one or more leaves to be.
#[derive(Default)]
pub(crate) struct Leaf {
    elements: Vec<Element>,
    pages: Vec<Page>,
    bytes: usize,
    /// Something was removed, so that it may have become too small.
    shrunk: bool,
    /// All that is new comes after all that is old.
    append: bool,
}

/// A child of a branch.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) key: Bytes,
    pub(crate) id: u64,
}

/// Children of one or more branches to be.
#[derive(Default)]
pub(crate) struct Branch {
    pub(crate) children: Vec<Child>,
    pub(crate) shrunk: bool,
    pub(crate) append: bool,
}

/// Content that has no page yet.
pub(crate) enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

impl Leaf {
    /// Merges writes (`ops[from..to]`) into a leaf; `None` if they change nothing. `Err` is the key of a
    /// bucket that would be overwritten by a key, or the other way round.
    pub(crate) fn merge(page: &Page, ops: &[Op], from: usize, to: usize) -> Result<Option<Leaf>, Bytes> {
        let mut leaf = Leaf {
            pages: vec![page.clone()],
            append: true,
            ..Leaf::default()
        };
        leaf.elements.reserve(page.len() + to - from);
        let (mut at, mut changed, mut inserted) = (0, false, false);
        for (index, op) in ops.iter().enumerate().take(to).skip(from) {
            let found = page.search(at, op.key);
            let place = found.unwrap_or_else(|place| place);
            leaf.append &= !inserted || (place == at && found.is_err());
            leaf.keep(page, at, place);
            at = place;
            if found.is_ok() {
                if page.flags(place) != op.flags {
                    return Err(op.key.clone());
                }
                at += 1;
                changed = true;
                leaf.shrunk |= op.value.is_none_or(|value| value.len() < page.sizes(place).1);
            }
            if let Some(value) = op.value {
                let size = ELEMENT_BYTES + op.key.len() + value.len();
                leaf.elements.push(Element {
                    source: FROM_OPS,
                    at: index as u32,
                    size,
                });
                leaf.bytes += size;
                inserted |= found.is_err();
                changed = true;
            }
        }
        leaf.append &= inserted && at == page.len();
        leaf.keep(page, at, page.len());
        Ok(changed.then_some(leaf))
    }

    /// A leaf of an old page as it is.
    pub(crate) fn from_page(page: &Page) -> Leaf {
        let mut leaf = Leaf {
            pages: vec![page.clone()],
            ..Leaf::default()
        };
        leaf.keep(page, 0, page.len());
        leaf
    }

    fn keep(&mut self, page: &Page, from: usize, to: usize) {
        for at in from..to {
            let (key, value) = page.sizes(at);
            let size = ELEMENT_BYTES + key + value;
            self.elements.push(Element {
                source: 0,
                at: at as u32,
                size,
            });
            self.bytes += size;
        }
    }

    /// Takes over a right neighbour.
    fn join(&mut self, right: Leaf) {
        let base = self.pages.len() as u32;
        self.pages.extend(right.pages);
        self.elements
            .extend(right.elements.into_iter().map(|element| match element.source {
                FROM_OPS => element,
                source => Element {
                    source: source + base,
                    ..element
                },
            }));
        self.bytes += right.bytes;
        self.shrunk |= right.shrunk;
        self.append = right.append;
    }

    /// Whether it may live within its bucket's element: bbolt bucket.go inlineable.
    pub(crate) fn is_inlineable(&self, ops: &[Op], page_size: usize) -> bool {
        HEADER_BYTES + self.bytes <= page_size / 4
            && self
                .elements
                .iter()
                .all(|element| self.flags(element, ops) & BUCKET == 0)
    }

    /// The value of an inline bucket's element.
    pub(crate) fn encode_inline(&self, ops: &[Op], sequence: u64) -> Bytes {
        let mut value = vec![0; BUCKET_BYTES + HEADER_BYTES + self.bytes];
        value[8..16].copy_from_slice(&sequence.to_le_bytes());
        self.fill(&mut value[BUCKET_BYTES..], 0, 0, &self.elements, ops);
        Bytes::from(value)
    }

    fn flags(&self, element: &Element, ops: &[Op]) -> u32 {
        match element.source {
            FROM_OPS => ops[element.at as usize].flags,
            source => self.pages[source as usize].flags(element.at as usize),
        }
    }

    fn key(&self, element: &Element, ops: &[Op]) -> Bytes {
        match element.source {
            FROM_OPS => ops[element.at as usize].key.clone(),
            source => self.pages[source as usize].key_shared(element.at as usize),
        }
    }

    fn fill(&self, page: &mut [u8], id: u64, overflow: usize, elements: &[Element], ops: &[Op]) {
        write_header(page, id, LEAF, elements.len(), overflow);
        let mut header = HEADER_BYTES;
        let mut data = HEADER_BYTES + ELEMENT_BYTES * elements.len();
        for element in elements {
            let (flags, key_bytes) = match element.source {
                FROM_OPS => {
                    let op = &ops[element.at as usize];
                    let value = op.value.expect("a removed key leaves no element");
                    let middle = data + op.key.len();
                    page[data..middle].copy_from_slice(op.key);
                    page[middle..middle + value.len()].copy_from_slice(value);
                    (op.flags, op.key.len())
                }
                source => {
                    let (old, at) = (&self.pages[source as usize], element.at as usize);
                    let both = old.key_and_value(at);
                    page[data..data + both.len()].copy_from_slice(both);
                    (old.flags(at), old.sizes(at).0)
                }
            };
            let size = element.size - ELEMENT_BYTES;
            for (word, value) in [flags as usize, data - header, key_bytes, size - key_bytes]
                .into_iter()
                .enumerate()
            {
                let value = u32::try_from(value).expect("a run has fewer than 2^32 bytes");
                page[header + 4 * word..header + 4 * word + 4].copy_from_slice(&value.to_le_bytes());
            }
            header += ELEMENT_BYTES;
            data += size;
        }
    }
}

impl Branch {
    pub(crate) fn from_page(page: &Page) -> Branch {
        let child = |at| Child {
            key: page.key_shared(at),
            id: page.child(at),
        };
        Branch {
            children: (0..page.len()).map(child).collect(),
            ..Branch::default()
        }
    }

    fn bytes(&self) -> usize {
        self.children.iter().map(Child::size).sum()
    }

    fn fill(page: &mut [u8], id: u64, overflow: usize, children: &[Child]) {
        write_header(page, id, BRANCH, children.len(), overflow);
        let mut header = HEADER_BYTES;
        let mut data = HEADER_BYTES + ELEMENT_BYTES * children.len();
        for child in children {
            let pos = u32::try_from(data - header).expect("a branch has far fewer than 2^32 bytes");
            let key_bytes = u32::try_from(child.key.len()).expect("keys have at most 32,768 bytes");
            page[header..header + 4].copy_from_slice(&pos.to_le_bytes());
            page[header + 4..header + 8].copy_from_slice(&key_bytes.to_le_bytes());
            page[header + 8..header + 16].copy_from_slice(&child.id.to_le_bytes());
            page[data..data + child.key.len()].copy_from_slice(&child.key);
            header += ELEMENT_BYTES;
            data += child.key.len();
        }
    }
}

impl Child {
    fn size(&self) -> usize {
        ELEMENT_BYTES + self.key.len()
    }
}

impl Node {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.elements.is_empty(),
            Node::Branch(branch) => branch.children.is_empty(),
        }
    }

    /// Whether it should be merged with a neighbour: bbolt's rule (node.go rebalance), a quarter of a page.
    /// Only for what lost something: the tail that appends fill is small too.
    pub(crate) fn is_underfull(&self, page_size: usize) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.shrunk && HEADER_BYTES + leaf.bytes <= page_size / 4,
            Node::Branch(branch) => {
                branch.children.len() < 2 || (branch.shrunk && HEADER_BYTES + branch.bytes() <= page_size / 4)
            }
        }
    }

    /// Takes over the right neighbour; `false` if that is of another kind.
    pub(crate) fn join(&mut self, right: Node) -> bool {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.join(right),
            (Node::Branch(left), Node::Branch(right)) => {
                left.children.extend(right.children);
                left.shrunk |= right.shrunk;
                left.append = right.append;
            }
            _ => return false,
        }
        true
    }

    /// Where pages end, as element indices; the last one is the number of elements.
    pub(crate) fn cuts(&self, page_size: usize) -> Vec<usize> {
        match self {
            Node::Leaf(leaf) => {
                let size = |at: usize| leaf.elements[at].size;
                cuts(size, leaf.elements.len(), leaf.bytes, page_size, 1, leaf.append)
            }
            Node::Branch(branch) => {
                let size = |at: usize| branch.children[at].size();
                cuts(
                    size,
                    branch.children.len(),
                    branch.bytes(),
                    page_size,
                    2,
                    branch.append,
                )
            }
        }
    }

    /// Pages that elements `from..to` take.
    pub(crate) fn pages(&self, from: usize, to: usize, page_size: usize) -> usize {
        let bytes: usize = match self {
            Node::Leaf(leaf) => leaf.elements[from..to].iter().map(|element| element.size).sum(),
            Node::Branch(branch) => branch.children[from..to].iter().map(Child::size).sum(),
        };
        pages_for(HEADER_BYTES + bytes, page_size)
    }

    /// The page image of elements `from..to`, numbered `id`, `pages` long.
    pub(crate) fn encode(
        &self,
        from: usize,
        to: usize,
        id: u64,
        pages: usize,
        page_size: usize,
        ops: &[Op],
    ) -> Vec<u8> {
        let mut page = vec![0; pages * page_size];
        match self {
            Node::Leaf(leaf) => leaf.fill(&mut page, id, pages - 1, &leaf.elements[from..to], ops),
            Node::Branch(branch) => Branch::fill(&mut page, id, pages - 1, &branch.children[from..to]),
        }
        page
    }

    /// Key of an element.
    pub(crate) fn key(&self, at: usize, ops: &[Op]) -> Bytes {
        match self {
            Node::Leaf(leaf) => leaf.key(&leaf.elements[at], ops),
            Node::Branch(branch) => branch.children[at].key.clone(),
        }
    }
}

/// Cuts `count` elements of `total` bytes into pages of at least `count_min` elements.
fn cuts(
    size: impl Fn(usize) -> usize,
    count: usize,
    total: usize,
    page_size: usize,
    count_min: usize,
    append: bool,
) -> Vec<usize> {
    if HEADER_BYTES + total <= page_size {
        return vec![count];
    }
    // A page is closed once it has reached `enough`, or before an element would bring it beyond `limit`.
    let (enough, limit) = if append {
        (usize::MAX, page_size * APPEND_FILL_TENTHS / 10)
    } else {
        let parts = (4 * total).div_ceil(SPLIT_FILL_QUARTERS * page_size).max(2);
        (HEADER_BYTES + total / parts, page_size)
    };
    let mut ends = Vec::new();
    let (mut start, mut bytes) = (0, HEADER_BYTES);
    for at in 0..count {
        let next = size(at);
        let full = bytes >= enough || bytes + next > limit;
        if at - start >= count_min && count - at >= count_min && full && !shares_run(bytes, next, page_size) {
            ends.push(at);
            (start, bytes) = (at, HEADER_BYTES);
        }
        bytes += next;
    }
    ends.push(count);
    ends
}

/// Whether an element larger than a page, and its neighbour, take fewer pages together.
fn shares_run(bytes: usize, next: usize, page_size: usize) -> bool {
    let alone = HEADER_BYTES + next;
    if bytes <= page_size && alone <= page_size {
        return false;
    }
    let together = pages_for(bytes + next, page_size);
    together <= SHARED_RUN_PAGES_MAX && together < pages_for(bytes, page_size) + pages_for(alone, page_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[usize], count_min: usize, append: bool, want: &[usize]) {
        let total = sizes.iter().sum();
        assert_eq!(
            cuts(|at| sizes[at], sizes.len(), total, 1024, count_min, append),
            want,
            "{sizes:?}"
        );
    }

    #[test]
    fn cuts_are_where_they_should_be() {
        check(&[100; 10], 1, false, &[10]);
        check(&[100; 11], 1, false, &[6, 11]);
        check(&[100; 11], 1, true, &[9, 11]);
        check(&[100; 20], 1, true, &[9, 18, 20]);
        // Larger than a page: alone if that costs no more pages, else together.
        check(&[100, 5000, 100], 1, false, &[1, 2, 3]);
        check(&[1300, 1300, 100], 1, false, &[3]);
        check(&[100, 1100, 100], 1, true, &[3]);
        // A branch keeps two children in each page, whatever their keys.
        check(&[900, 900, 900, 900, 900], 2, true, &[2, 5]);
        check(&[900, 900, 900], 2, false, &[3]);
    }
}
