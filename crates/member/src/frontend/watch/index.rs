//! Which watchers want a key: exact keys in a map, ranges in an interval tree.
//! Knows nothing of revisions.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

/// Names a watcher within one front thread.
pub(super) type WatcherId = u64;

/// The keys that a watcher wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// One key.
    Key(Bytes),
    /// From the first key up to, not including, the second; `None` is the end of all keys.
    Range(Bytes, Option<Bytes>),
}

/// Watchers by the keys that they want.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Only looked up, never walked.
    keys: HashMap<Bytes, BTreeSet<WatcherId>>,
    ranges: IntervalTree,
}

impl Index {
    pub(super) fn insert(&mut self, span: &Span, id: WatcherId) {
        match span {
            Span::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(id);
            }
            Span::Range(start, end) => self.ranges.insert(start, end.as_ref(), id),
        }
    }

    pub(super) fn remove(&mut self, span: &Span, id: WatcherId) {
        match span {
            Span::Key(key) => {
                if let Some(ids) = self.keys.get_mut(key) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            Span::Range(start, end) => self.ranges.remove(start, end.as_ref(), id),
        }
    }

    /// Calls `found` for each watcher that wants `key`: always in the same order.
    pub(super) fn for_each(&self, key: &[u8], mut found: impl FnMut(WatcherId)) {
        if let Some(ids) = self.keys.get(key) {
            ids.iter().copied().for_each(&mut found);
        }
        self.ranges.for_each(key, &mut found);
    }
}

type NodeId = u32;
const NIL: NodeId = NodeId::MAX;

/// A treap over (start, end), each node knowing the furthest end below it.
#[derive(Debug)]
struct IntervalTree {
    root: NodeId,
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// Where the priorities come from: a fixed sequence, so that a run can be replayed.
    sequence: u64,
}

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: Option<Bytes>,
    /// The furthest end in this subtree.
    furthest: Option<Bytes>,
    ids: BTreeSet<WatcherId>,
    priority: u64,
    left: NodeId,
    right: NodeId,
}

impl Default for IntervalTree {
    fn default() -> IntervalTree {
        IntervalTree {
            root: NIL,
            nodes: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }
}

/// Orders ends; `None` is behind all others.
fn compare_ends(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

impl IntervalTree {
    fn node(&self, at: NodeId) -> &Node {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: NodeId) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    fn compare(&self, start: &Bytes, end: Option<&Bytes>, at: NodeId) -> Ordering {
        let node = self.node(at);
        start
            .cmp(&node.start)
            .then_with(|| compare_ends(end, node.end.as_ref()))
    }

    fn find(&self, start: &Bytes, end: Option<&Bytes>) -> NodeId {
        let mut at = self.root;
        while at != NIL {
            match self.compare(start, end, at) {
                Ordering::Equal => break,
                Ordering::Less => at = self.node(at).left,
                Ordering::Greater => at = self.node(at).right,
            }
        }
        at
    }

    fn insert(&mut self, start: &Bytes, end: Option<&Bytes>, id: WatcherId) {
        let found = self.find(start, end);
        if found != NIL {
            self.node_mut(found).ids.insert(id);
            return;
        }
        let new = self.new_node(start.clone(), end.cloned(), id);
        let (left, right) = self.split(self.root, start, end);
        let joined = self.join(left, new);
        self.root = self.join(joined, right);
    }

    fn new_node(&mut self, start: Bytes, end: Option<Bytes>, id: WatcherId) -> NodeId {
        self.sequence = self.sequence.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let node = Node {
            start,
            furthest: end.clone(),
            end,
            ids: BTreeSet::from([id]),
            priority: scramble(self.sequence),
            left: NIL,
            right: NIL,
        };
        if let Some(free) = self.free.pop() {
            *self.node_mut(free) = node;
            return free;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    fn remove(&mut self, start: &Bytes, end: Option<&Bytes>, id: WatcherId) {
        let found = self.find(start, end);
        if found == NIL || !self.node_mut(found).ids.remove(&id) || !self.node(found).ids.is_empty() {
            return;
        }
        self.root = self.unlink(self.root, start, end);
        let node = self.node_mut(found);
        (node.start, node.end, node.furthest) = (Bytes::new(), None, None);
        self.free.push(found);
    }

    /// Takes the node of an interval out of the subtree `at`; what is left of it.
    fn unlink(&mut self, at: NodeId, start: &Bytes, end: Option<&Bytes>) -> NodeId {
        match self.compare(start, end, at) {
            Ordering::Equal => return self.join(self.node(at).left, self.node(at).right),
            Ordering::Less => {
                let left = self.unlink(self.node(at).left, start, end);
                self.node_mut(at).left = left;
            }
            Ordering::Greater => {
                let right = self.unlink(self.node(at).right, start, end);
                self.node_mut(at).right = right;
            }
        }
        self.refresh(at);
        at
    }

    /// The intervals before the given one, and those after it.
    fn split(&mut self, at: NodeId, start: &Bytes, end: Option<&Bytes>) -> (NodeId, NodeId) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.compare(start, end, at) == Ordering::Less {
            let (left, right) = self.split(self.node(at).left, start, end);
            self.node_mut(at).left = right;
            self.refresh(at);
            (left, at)
        } else {
            let (left, right) = self.split(self.node(at).right, start, end);
            self.node_mut(at).right = left;
            self.refresh(at);
            (at, right)
        }
    }

    /// One tree of two, all of whose intervals are in order.
    fn join(&mut self, left: NodeId, right: NodeId) -> NodeId {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.node(left).priority > self.node(right).priority {
            let joined = self.join(self.node(left).right, right);
            self.node_mut(left).right = joined;
            self.refresh(left);
            left
        } else {
            let joined = self.join(left, self.node(right).left);
            self.node_mut(right).left = joined;
            self.refresh(right);
            right
        }
    }

    fn refresh(&mut self, at: NodeId) {
        let node = self.node(at);
        let mut furthest = node.end.clone();
        for child in [node.left, node.right] {
            if child != NIL {
                let theirs = &self.node(child).furthest;
                if compare_ends(theirs.as_ref(), furthest.as_ref()) == Ordering::Greater {
                    furthest.clone_from(theirs);
                }
            }
        }
        self.node_mut(at).furthest = furthest;
    }

    fn for_each(&self, key: &[u8], found: &mut impl FnMut(WatcherId)) {
        // As deep as the tree, which is logarithmic but for astronomic bad luck.
        let mut open = vec![self.root];
        while let Some(at) = open.pop() {
            if at == NIL {
                continue;
            }
            let node = self.node(at);
            let before = |end: &Option<Bytes>| end.as_ref().is_none_or(|end| key < &end[..]);
            if !before(&node.furthest) {
                continue;
            }
            open.push(node.left);
            if node.start[..] <= *key {
                open.push(node.right);
                if before(&node.end) {
                    node.ids.iter().copied().for_each(&mut *found);
                }
            }
        }
    }
}

/// The mixing function of splitmix64.
fn scramble(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(rng: &mut fastrand::Rng) -> Bytes {
        let len = rng.usize(1..4);
        Bytes::from((0..len).map(|_| rng.u8(b'a'..=b'e')).collect::<Vec<_>>())
    }

    fn wants(span: &Span, key: &[u8]) -> bool {
        match span {
            Span::Key(k) => k[..] == *key,
            Span::Range(start, end) => start[..] <= *key && end.as_ref().is_none_or(|end| *key < end[..]),
        }
    }

    /// Random inserts and removes, against a plain list.
    #[test]
    fn finds_what_a_list_finds() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut index = Index::default();
            let mut list: Vec<(Span, WatcherId)> = Vec::new();
            for step in 0..400 {
                if rng.u8(0..3) > 0 || list.is_empty() {
                    let (a, b) = (word(&mut rng), word(&mut rng));
                    let span = match rng.u8(0..4) {
                        0 => Span::Key(a),
                        1 => Span::Range(a, None),
                        _ => Span::Range(a.clone().min(b.clone()), Some(a.max(b))),
                    };
                    index.insert(&span, step);
                    list.push((span, step));
                } else {
                    let (span, id) = list.swap_remove(rng.usize(0..list.len()));
                    index.remove(&span, id);
                }
                let key = word(&mut rng);
                let mut found = Vec::new();
                index.for_each(&key, |id| found.push(id));
                found.sort_unstable();
                let mut expected: Vec<_> = list
                    .iter()
                    .filter(|(span, _)| wants(span, &key))
                    .map(|(_, id)| *id)
                    .collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "seed {seed} step {step} key {key:?}");
            }
            assert!(index.ranges.nodes.len() <= 400);
        }
    }

    /// Ten thousand ordered ranges: the tree must stay shallow, or the recursion of an insert
    /// would be as deep as the list.
    #[test]
    fn many_ordered_ranges_stay_shallow() {
        let mut index = Index::default();
        for i in 0..10_000u64 {
            let start = Bytes::from(format!("/registry/{i:06}/"));
            let end = Bytes::from(format!("/registry/{i:06}0"));
            index.insert(&Span::Range(start, Some(end)), i);
        }
        fn depth(tree: &IntervalTree, at: NodeId) -> usize {
            match at {
                NIL => 0,
                _ => 1 + depth(tree, tree.node(at).left).max(depth(tree, tree.node(at).right)),
            }
        }
        assert!(depth(&index.ranges, index.ranges.root) < 60);
        let mut found = Vec::new();
        index.for_each(b"/registry/007777/x", |id| found.push(id));
        assert_eq!(found, [7777]);
    }
}
