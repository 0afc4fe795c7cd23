//! The ranges that a user may read, or write, as a tree: etcd asks a red-black tree whose nodes know how far the ranges
//! below them reach. For a range that begins before it ends the tree is but a way to be quick. One that ends before it
//! begins is found or not by the shape of the tree, which the order decides in which ranges came, and so must ours be.
//!
//! etcd: pkg/adt/interval_tree.go.

use std::cmp::Ordering;

use bytes::Bytes;

/// From a key to before another; an empty one stands behind all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    from: Bytes,
    to: Bytes,
}

impl Span {
    /// What the fields of a request or a permission mean.
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Span {
        let to = match &range_end[..] {
            [] => [key, &[0][..]].concat().into(),
            [0] => Bytes::new(),
            _ => range_end.clone(),
        };
        Span {
            from: key.clone(),
            to,
        }
    }

    /// Equal means that they overlap. The questions come in Go's order, which decides about those that end before they
    /// begin.
    fn order(&self, other: &Span) -> Ordering {
        if order(&self.from, &other.from).is_lt() && order(&self.to, &other.from).is_le() {
            return Ordering::Less;
        }
        match order(&self.from, &other.to) {
            Ordering::Less => Ordering::Equal,
            _ => Ordering::Greater,
        }
    }
}

fn order(one: &[u8], other: &[u8]) -> Ordering {
    (one.is_empty(), one).cmp(&(other.is_empty(), other))
}

/// Where a range goes that begins as one in the tree does. Otherwise it is left if it begins before that, or right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ties {
    /// Right: up to 3.6.
    #[default]
    Behind,
    /// By the ends: from 3.7 on.
    ByEnd,
}

/// The ranges of one user. See the module.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    nodes: Vec<Node>,
    root: Option<usize>,
}

#[derive(Debug)]
struct Node {
    span: Span,
    /// How far this range and those below it reach.
    reach: Bytes,
    /// By `LEFT` and `RIGHT`.
    children: [Option<usize>; 2],
    is_red: bool,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl Ranges {
    /// The tree that comes of ranges in this order.
    pub(super) fn new(spans: impl Iterator<Item = Span>, ties: Ties) -> Ranges {
        let mut ranges = Ranges::default();
        for span in spans {
            ranges.insert(span, ties);
        }
        // Only where all are in place does anybody ask how far they reach.
        ranges.measure(ranges.root);
        ranges
    }

    /// Whether the range is held whole, with no gap between those that it meets.
    pub(super) fn hold(&self, wanted: &Span) -> bool {
        let mut held: Option<Span> = None;
        let has_no_gap = self.visit(self.root, wanted, &mut |span| {
            let Some(held) = &mut held else {
                held = Some(span.clone());
                return true;
            };
            if order(&held.to, &span.from).is_lt() {
                return false;
            }
            if order(&span.to, &held.to).is_gt() {
                held.to = span.to.clone();
            }
            true
        });
        let is_in =
            |held: Span| order(&held.from, &wanted.from).is_le() && order(&held.to, &wanted.to).is_ge();
        has_no_gap && held.is_some_and(is_in)
    }

    /// Whether any range meets this one: for one key, whether it is held. Goes one way down and never back.
    pub(super) fn meet(&self, wanted: &Span) -> bool {
        let mut at = self.root;
        while let Some(node) = at.map(|at| &self.nodes[at]) {
            if wanted.order(&node.span).is_eq() {
                return true;
            }
            let left = node.children[LEFT];
            let reaches = |left: usize| order(&self.nodes[left].reach, &wanted.from).is_gt();
            at = left.filter(|left| reaches(*left)).or(node.children[RIGHT]);
        }
        false
    }

    /// Shows the ranges below a node that meet this one, in the order in which they begin, until `show` says that it
    /// has seen enough. Whether it never did.
    fn visit(&self, at: Option<usize>, wanted: &Span, show: &mut dyn FnMut(&Span) -> bool) -> bool {
        let Some(node) = at.map(|at| &self.nodes[at]) else {
            return true;
        };
        let [left, right] = node.children;
        match wanted.order(&node.span) {
            Ordering::Less => self.visit(left, wanted, show),
            Ordering::Equal => {
                self.visit(left, wanted, show) && show(&node.span) && self.visit(right, wanted, show)
            }
            Ordering::Greater => {
                let all = Span {
                    from: node.span.from.clone(),
                    to: node.reach.clone(),
                };
                !all.order(wanted).is_eq()
                    || self.visit(left, wanted, show) && self.visit(right, wanted, show)
            }
        }
    }

    fn measure(&mut self, at: Option<usize>) -> Option<Bytes> {
        let at = at?;
        let below = self.nodes[at].children.map(|child| self.measure(child));
        let node = &mut self.nodes[at];
        for reach in below.into_iter().flatten() {
            if order(&reach, &node.reach).is_gt() {
                node.reach = reach;
            }
        }
        Some(node.reach.clone())
    }

    fn insert(&mut self, span: Span, ties: Ties) {
        let mut path = Vec::new();
        let mut next = self.root;
        while let Some(at) = next {
            let there = &self.nodes[at].span;
            let side = match (order(&span.from, &there.from), ties) {
                (Ordering::Less, _) => LEFT,
                (Ordering::Equal, Ties::ByEnd) if order(&span.to, &there.to).is_lt() => LEFT,
                _ => RIGHT,
            };
            path.push((at, side));
            next = self.nodes[at].children[side];
        }
        let node = self.nodes.len();
        self.nodes.push(Node {
            reach: span.to.clone(),
            span,
            children: [None; 2],
            is_red: true,
        });
        self.link(path.last(), node);
        self.mend(node, path);
        if let Some(root) = self.root {
            self.nodes[root].is_red = false;
        }
    }

    /// Puts a node where the path ends.
    fn link(&mut self, above: Option<&(usize, usize)>, node: usize) {
        match above {
            Some((above, side)) => self.nodes[*above].children[*side] = Some(node),
            None => self.root = Some(node),
        }
    }

    /// Parts a red node from a red one above it: by colours alone as long as the sibling above is red too, and then by
    /// turning at most twice.
    fn mend(&mut self, mut node: usize, mut path: Vec<(usize, usize)>) {
        while let Some((parent, inner)) = path.pop()
            && self.nodes[parent].is_red
        {
            // The root is black, so there is one above.
            let Some((grandparent, side)) = path.pop() else {
                return;
            };
            let uncle = self.nodes[grandparent].children[1 - side];
            if let Some(uncle) = uncle.filter(|uncle| self.nodes[*uncle].is_red) {
                self.nodes[parent].is_red = false;
                self.nodes[uncle].is_red = false;
                self.nodes[grandparent].is_red = true;
                node = grandparent;
                continue;
            }
            let mut top = parent;
            if inner != side {
                self.turn(parent, side);
                self.nodes[grandparent].children[side] = Some(node);
                top = node;
            }
            self.nodes[top].is_red = false;
            self.nodes[grandparent].is_red = true;
            self.turn(grandparent, 1 - side);
            self.link(path.last(), top);
            return;
        }
    }

    /// Moves a node to this side of its child on the other one, which takes its place once the caller has linked it.
    fn turn(&mut self, at: usize, side: usize) {
        let Some(child) = self.nodes[at].children[1 - side] else {
            return;
        };
        self.nodes[at].children[1 - side] = self.nodes[child].children[side];
        self.nodes[child].children[side] = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd's own tree answers, by release line (tests/golden/permit/main.go).
    const GOLDEN: [(Ties, &str); 3] = [
        (Ties::Behind, include_str!("../../tests/golden/permit/3.5.txt")),
        (Ties::Behind, include_str!("../../tests/golden/permit/3.6.txt")),
        (Ties::ByEnd, include_str!("../../tests/golden/permit/3.7.txt")),
    ];

    /// The same pseudo-random permissions and questions as in the program that made the golden files.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }

        fn key(&mut self, letters: u64) -> Vec<u8> {
            let len = self.below(3);
            let letter = |letter: u64| match letter {
                0 => 0,
                letter => b'a' + letter as u8 - 1,
            };
            (0..len).map(|_| letter(self.below(letters))).collect()
        }

        fn span(&mut self, letters: u64, tidy: bool) -> (Bytes, Bytes) {
            let (mut key, mut end) = (self.key(letters), self.key(letters));
            match self.below(12) {
                0..=3 => end.clear(),
                4 => end = vec![0],
                _ => {}
            }
            if tidy && key.is_empty() {
                key.push(0);
            }
            if tidy && !end.is_empty() && end != [0] {
                match key.cmp(&end) {
                    Ordering::Greater => std::mem::swap(&mut key, &mut end),
                    Ordering::Equal => end.clear(),
                    Ordering::Less => {}
                }
            }
            (key.into(), end.into())
        }
    }

    fn answers(seed: u64, ties: Ties) -> String {
        let mut chance = Chance(seed);
        let (letters, count, tidy) = (
            2 + seed % 12,
            1 + seed * 7 % (6 + seed / 3),
            !seed.is_multiple_of(3),
        );
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (key, end) = chance.span(letters, tidy);
            let kind = chance.below(3);
            if kind != 1 {
                read.push(Span::new(&key, &end));
            }
            if kind != 0 {
                write.push(Span::new(&key, &end));
            }
        }
        let trees = [read, write].map(|spans| Ranges::new(spans.into_iter(), ties));
        let mut answers = String::new();
        for _ in 0..40 {
            let (key, end) = chance.span(letters, seed % 3 == 2);
            let wanted = Span::new(&key, &end);
            let [read, write] = trees.each_ref().map(|tree| match end.is_empty() {
                true => tree.meet(&wanted),
                false => tree.hold(&wanted),
            });
            answers.push(char::from(b'0' + u8::from(read) + 2 * u8::from(write)));
        }
        answers
    }

    #[test]
    fn ranges_are_held_as_in_etcds_tree() {
        for (ties, golden) in GOLDEN {
            let mut lines = 0;
            for line in golden.lines() {
                let (seed, expected) = line.split_once(' ').unwrap();
                let found = answers(seed.parse().unwrap(), ties);
                assert_eq!(found, expected, "seed {seed}, {ties:?}");
                lines += 1;
            }
            assert!(lines > 100);
        }
        // The files can tell the two rules apart.
        assert_ne!(GOLDEN[1].1, GOLDEN[2].1);
    }

    #[test]
    fn ranges_together_hold_what_none_holds_alone() {
        let span = |(from, to): &(&'static str, &'static str)| Span::new(&(*from).into(), &(*to).into());
        let check = |ranges: &[(&'static str, &'static str)], from, to: &'static str, expected: bool| {
            let ranges = Ranges::new(ranges.iter().map(span), Ties::ByEnd);
            let wanted = span(&(from, to));
            let found = match to.is_empty() {
                true => ranges.meet(&wanted),
                false => ranges.hold(&wanted),
            };
            assert_eq!(found, expected, "{ranges:?}: {from:?} to {to:?}");
        };
        check(&[("a", "c"), ("c", "f")], "b", "e", true);
        check(&[("a", "c"), ("d", "f")], "b", "e", false);
        check(&[("a", "z"), ("b", "c")], "b", "y", true);
        check(&[("b", "z")], "a", "y", false);
        check(&[("a", "\0")], "b", "\0", true);
        check(&[("a", "z")], "b", "\0", false);
        // A key alone holds the range to its successor.
        check(&[("a", "")], "a", "a\0", true);
        check(&[("a", "")], "a", "b", false);
        // No key is the least one here, but the greatest.
        check(&[("a", "\0")], "", "\0", false);
        check(&[("\0", "\0")], "\0", "\0", true);
        // What ends before it begins is allowed where it begins.
        check(&[("a", "c")], "b", "a", true);
        check(&[("a", "c")], "b", "", true);
        check(&[("a", "c")], "c", "", false);
        check(&[("a", "\0")], "zz", "", true);
        check(&[("\0", "\0")], "", "", false);
        check(&[], "a", "", false);
    }
}
