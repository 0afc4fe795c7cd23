//! The nodes above the leaves, and the walks over the tree.

use std::ops::Range;
use std::sync::Arc;

use super::leaf::{Leaf, common_len};
use super::{End, KeyInfo, KeyRange, Totals};
use crate::Rev;

/// Children per branch. Few, since copying a branch counts a reference for each.
pub(super) const CHILDREN_MAX: usize = 24;
/// Bytes of separators per branch, unless it has few children.
const SEPARATOR_BYTES_MAX: usize = 64 << 10;

/// A node. All leaves are equally deep, except after compactions, which only ever take nodes out.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Leaf::default())
    }
}

#[derive(Clone, Debug)]
struct Child {
    totals: Totals,
    node: Arc<Node>,
    /// End of the separator before this child, in `separators`; the first child's is empty.
    separator_end: u32,
}

/// Children in key order. The separator before a child is above all keys to its left, and not above its own.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    children: Vec<Child>,
    separators: Vec<u8>,
}

impl Node {
    pub(super) fn totals(&self) -> Totals {
        match self {
            Node::Leaf(leaf) => leaf.totals(),
            Node::Branch(branch) => {
                let mut totals = Totals::default();
                branch.children.iter().for_each(|child| totals.add(child.totals));
                totals
            }
        }
    }
}

impl Branch {
    pub(super) fn above(left: Arc<Node>, right: Split) -> Branch {
        let mut branch = Branch::new();
        branch.push(&[], left);
        branch.push(&right.separator, right.node);
        branch
    }

    pub(super) fn new() -> Branch {
        Branch {
            children: Vec::with_capacity(CHILDREN_MAX + 1),
            separators: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, separator: &[u8], node: Arc<Node>) {
        let separator = if self.children.is_empty() { &[] } else { separator };
        self.separators.extend_from_slice(separator);
        let separator_end = self.separators.len() as u32;
        self.children.push(Child {
            totals: node.totals(),
            node,
            separator_end,
        });
    }

    fn is_overfull(&self) -> bool {
        self.children.len() > CHILDREN_MAX
            || self.separators.len() > SEPARATOR_BYTES_MAX && self.children.len() > 3
    }

    /// Whether no child should be added.
    pub(super) fn is_full(&self) -> bool {
        self.children.len() >= CHILDREN_MAX
            || self.separators.len() > SEPARATOR_BYTES_MAX && self.children.len() > 3
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn only_child(&self) -> Option<Arc<Node>> {
        match &self.children[..] {
            [child] => Some(child.node.clone()),
            _ => None,
        }
    }

    pub(super) fn child(&self, place: usize) -> &Node {
        &self.children[place].node
    }

    fn separator(&self, place: usize) -> &[u8] {
        let start = place
            .checked_sub(1)
            .map_or(0, |before| self.children[before].separator_end as usize);
        &self.separators[start..self.children[place].separator_end as usize]
    }

    /// The child whose keys a key belongs among.
    pub(super) fn place_of(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (1, self.children.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.separator(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - 1
    }

    fn insert(&mut self, place: usize, split: Split) {
        let start = self.children[place - 1].separator_end;
        let len = split.separator.len() as u32;
        self.separators
            .splice(start as usize..start as usize, split.separator);
        let child = Child {
            totals: split.node.totals(),
            node: split.node,
            separator_end: start,
        };
        self.children.insert(place, child);
        for child in &mut self.children[place..] {
            child.separator_end += len;
        }
    }

    /// The same children from `from` to `to`.
    fn part(&self, from: usize, to: usize) -> Branch {
        let mut part = Branch::new();
        for place in from..to {
            part.push(self.separator(place), self.children[place].node.clone());
        }
        part
    }

    fn split(&mut self, place: usize) -> Split {
        let separator = self.separator(place).to_vec();
        let right = self.part(place, self.children.len());
        *self = self.part(0, place);
        Split {
            separator,
            node: Arc::new(Node::Branch(right)),
        }
    }

    /// Puts small neighbours together and takes empty children out.
    fn tidy(&mut self) {
        let mut tidied = Branch::new();
        for place in 0..self.children.len() {
            let child = &self.children[place].node;
            if child.is_hollow() {
                continue;
            }
            let joined = tidied.children.last_mut().is_some_and(|last| last.join(child));
            if !joined {
                tidied.push(self.separator(place), child.clone());
            }
        }
        *self = tidied;
    }
}

impl Child {
    /// Takes in the node to the right, if both are small.
    fn join(&mut self, right: &Node) -> bool {
        let (Node::Leaf(left), Node::Leaf(right)) = (&*self.node, right) else {
            return false;
        };
        if !left.takes(right) {
            return false;
        }
        let Node::Leaf(left) = Arc::make_mut(&mut self.node) else {
            return false;
        };
        left.append(right);
        self.totals = left.totals();
        true
    }
}

impl Node {
    fn is_hollow(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len() == 0,
            Node::Branch(branch) => branch.is_empty(),
        }
    }
}

/// The right half of a node that became too large.
pub(super) struct Split {
    pub separator: Vec<u8>,
    pub node: Arc<Node>,
}

/// The shortest text above `left` and not above `right`.
pub(super) fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    let common = common_len(left, right);
    &right[..(common + 1).min(right.len())]
}

/// Finds the place of a key and changes its leaf there. Nodes that a snapshot holds are copied on the way.
pub(super) fn change(
    node: &mut Node,
    key: &[u8],
    change_leaf: impl FnOnce(&mut Leaf, Result<usize, usize>),
) -> Option<Split> {
    let branch = match node {
        Node::Leaf(leaf) => {
            let place = leaf.find(key);
            change_leaf(leaf, place);
            return leaf.is_overfull().then(|| split_leaf(leaf, place));
        }
        Node::Branch(branch) => branch,
    };
    let place = branch.place_of(key);
    let child = &mut branch.children[place];
    let split = change(Arc::make_mut(&mut child.node), key, change_leaf);
    child.totals = child.node.totals();
    let split = split?;
    branch.insert(place + 1, split);
    if !branch.is_overfull() {
        return None;
    }
    // Keys that arrive in order fill branches as well as leaves.
    let len = branch.children.len();
    Some(branch.split(if place + 2 == len { len - 1 } else { len / 2 }))
}

fn split_leaf(leaf: &mut Leaf, inserted: Result<usize, usize>) -> Split {
    // Keys that arrive in order leave full leaves behind them, not half-full ones.
    let at = match inserted {
        Err(place) if place + 1 == leaf.len() => place,
        _ => leaf.len() / 2,
    };
    let right = leaf.split_off(at);
    let separator = separator(&leaf.key(leaf.len() - 1), &right.key(0)).to_vec();
    Split {
        separator,
        node: Arc::new(Node::Leaf(right)),
    }
}

/// See [`super::KeyIndex::visit`]; `false` if the walk is over.
pub(super) fn visit(
    node: &Node,
    totals: Totals,
    range: KeyRange<'_>,
    at: i64,
    found: &mut impl FnMut(&[u8], &KeyInfo) -> bool,
) -> bool {
    if totals.live == 0 && totals.newest <= at {
        return true;
    }
    match node {
        Node::Leaf(leaf) => {
            let (places, ends) = places(leaf, range);
            let goes_on = leaf.for_keys(places, |place, key| {
                leaf.get(place, at).is_none_or(|info| found(key, &info))
            });
            goes_on && !ends
        }
        Node::Branch(branch) => {
            let first = branch.place_of(range.start);
            for place in first..branch.children.len() {
                if place > first && range.is_past(branch.separator(place)) {
                    return false;
                }
                let child = &branch.children[place];
                if !visit(&child.node, child.totals, range, at, found) {
                    return false;
                }
            }
            true
        }
    }
}

/// The places of a leaf that are in the range, and whether the range ends there.
fn places(leaf: &Leaf, range: KeyRange<'_>) -> (Range<usize>, bool) {
    let place_of = |key: &[u8]| leaf.find(key).unwrap_or_else(|place| place);
    let start = place_of(range.start);
    let end = match range.end {
        End::Before(end) => place_of(end),
        End::Open => leaf.len(),
        End::Single => leaf.find(range.start).map_or(start, |place| place + 1),
    };
    (start..end.max(start), end < leaf.len())
}

/// See [`super::KeyIndex::count`]. `left_open`: the range may begin within this node; `right_open`: it may end here.
pub(super) fn count(
    node: &Node,
    totals: Totals,
    range: KeyRange<'_>,
    at: i64,
    left_open: bool,
    right_open: bool,
) -> u64 {
    if totals.newest <= at && (totals.live == 0 || !left_open && !right_open) {
        return totals.live;
    }
    match node {
        Node::Leaf(leaf) => {
            let (places, _) = places(leaf, range);
            places.filter(|&place| leaf.get(place, at).is_some()).count() as u64
        }
        Node::Branch(branch) => {
            let first = if left_open {
                branch.place_of(range.start)
            } else {
                0
            };
            let len = branch.children.len();
            let mut sum = 0;
            for place in first..len {
                if right_open && place > first && range.is_past(branch.separator(place)) {
                    break;
                }
                let child = &branch.children[place];
                // A child ends within the range if the next one's separator is not past it.
                let ends_inside = place + 1 < len && !range.is_past(branch.separator(place + 1));
                let child_left = left_open && place == first;
                sum += count(
                    &child.node,
                    child.totals,
                    range,
                    at,
                    child_left,
                    right_open && !ends_inside,
                );
            }
            sum
        }
    }
}

/// See [`super::KeyIndex::walk_len`]: takes what is walked off `left`; `false` if the walk is over.
pub(super) fn walk(
    node: &Node,
    totals: Totals,
    range: KeyRange<'_>,
    newer_than: i64,
    left: &mut usize,
) -> bool {
    if totals.newest <= newer_than {
        return true;
    }
    match node {
        Node::Leaf(leaf) => {
            let (places, ends) = places(leaf, range);
            *left = left.saturating_sub(places.len());
            *left > 0 && !ends
        }
        Node::Branch(branch) => {
            let first = branch.place_of(range.start);
            for place in first..branch.children.len() {
                if place > first && range.is_past(branch.separator(place)) {
                    return false;
                }
                let child = &branch.children[place];
                if !walk(&child.node, child.totals, range, newer_than, left) {
                    return false;
                }
            }
            true
        }
    }
}

/// See [`super::KeyIndex::visit_kept`].
pub(super) fn visit_kept(
    node: &Node,
    from: &[u8],
    at: i64,
    budget: &mut usize,
    kept: &mut impl FnMut(Rev, bool),
) -> Option<Vec<u8>> {
    match node {
        Node::Leaf(leaf) => {
            let start = leaf.find(from).unwrap_or_else(|place| place);
            for place in start..leaf.len() {
                if *budget == 0 {
                    return Some(leaf.key(place));
                }
                *budget -= 1;
                if let Some((rev, tombstone)) = leaf.kept(place, at) {
                    kept(rev, tombstone);
                }
            }
            None
        }
        Node::Branch(branch) => {
            let first = branch.place_of(from);
            (first..branch.children.len())
                .find_map(|place| visit_kept(branch.child(place), from, at, budget, kept))
        }
    }
}

/// See [`super::KeyIndex::compact`]. Works leaf by leaf.
pub(super) fn compact(node: &mut Arc<Node>, from: &[u8], at: i64, budget: &mut usize) -> Option<Vec<u8>> {
    if node.totals().old == 0 {
        return None;
    }
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            *budget = budget.saturating_sub(leaf.len());
            leaf.compact(at);
            None
        }
        Node::Branch(branch) => {
            let mut next = None;
            for place in branch.place_of(from)..branch.children.len() {
                if branch.children[place].totals.old == 0 {
                    continue;
                }
                if *budget == 0 {
                    next = Some(branch.separator(place).to_vec());
                    break;
                }
                let child = &mut branch.children[place];
                next = compact(&mut child.node, from, at, budget);
                child.totals = child.node.totals();
                if next.is_some() {
                    break;
                }
            }
            branch.tidy();
            next
        }
    }
}

pub(super) fn heap_bytes(node: &Node) -> usize {
    size_of::<Node>()
        + 16
        + match node {
            Node::Leaf(leaf) => leaf.heap_bytes(),
            Node::Branch(branch) => {
                let own = branch.children.capacity() * size_of::<Child>() + branch.separators.capacity();
                own + branch
                    .children
                    .iter()
                    .map(|child| heap_bytes(&child.node))
                    .sum::<usize>()
            }
        }
}
