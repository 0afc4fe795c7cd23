//! The order in which Go's `sort.Sort` leaves elements that compare as equal. It shows in the rows of roles: etcd sorts
//! permissions by key alone and looks at the first one with a key, so that members that order equal keys otherwise
//! would end with other permissions. A pattern-defeating quicksort (go: src/sort, since 1.19); up to 12 elements it is an
//! insertion sort, and so stable.

/// Up to so many elements are sorted by insertion.
const INSERTION_MAX: usize = 12;

/// From so many elements on, nearly sorted ones are mended in place, and pivots are chosen among nine.
const LONG: usize = 50;

/// Places that are mended before a nearly sorted slice is given up.
const MENDED_MAX: usize = 5;

/// Sorts as Go does, where `less` compares.
pub(super) fn sort<T>(data: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let bad_pivots_max = usize::BITS - data.len().leading_zeros();
    let end = data.len();
    Sorter { data, less }.quick(0, end, bad_pivots_max);
}

struct Sorter<'a, T, L> {
    data: &'a mut [T],
    less: L,
}

impl<T, L: Fn(&T, &T) -> bool> Sorter<'_, T, L> {
    fn less(&self, one: usize, other: usize) -> bool {
        (self.less)(&self.data[one], &self.data[other])
    }

    fn quick(&mut self, mut from: usize, mut to: usize, mut bad_pivots_max: u32) {
        let (mut balanced, mut in_order) = (true, true);
        loop {
            let len = to - from;
            if len <= INSERTION_MAX {
                return self.insertion(from, to);
            }
            if bad_pivots_max == 0 {
                return self.heap(from, to);
            }
            if !balanced {
                self.shuffle(from, to);
                bad_pivots_max -= 1;
            }
            let (mut pivot, swaps) = self.choose_pivot(from, to);
            let falling = swaps == if len >= LONG { 12 } else { usize::MAX };
            if falling {
                self.data[from..to].reverse();
                pivot = (to - 1) - (pivot - from);
            }
            if balanced && in_order && (swaps == 0 || falling) && self.mend(from, to) {
                return;
            }
            if from > 0 && !self.less(from - 1, pivot) {
                from = self.partition_equal(from, to, pivot);
                continue;
            }
            let (middle, was_partitioned) = self.partition(from, to, pivot);
            in_order = was_partitioned;
            let (left, right) = (middle - from, to - middle);
            balanced = left.min(right) >= len / 8;
            if left < right {
                self.quick(from, middle, bad_pivots_max);
                from = middle + 1;
            } else {
                self.quick(middle + 1, to, bad_pivots_max);
                to = middle;
            }
        }
    }

    fn insertion(&mut self, from: usize, to: usize) {
        for place in from + 1..to {
            self.sink_left(place, from);
        }
    }

    /// Moves an element to the left while it is less than its neighbour.
    fn sink_left(&mut self, mut place: usize, from: usize) {
        while place > from && self.less(place, place - 1) {
            self.data.swap(place, place - 1);
            place -= 1;
        }
    }

    /// Sorts what is nearly sorted; false if too much is out of order.
    fn mend(&mut self, from: usize, to: usize) -> bool {
        let mut at = from + 1;
        for _ in 0..MENDED_MAX {
            while at < to && !self.less(at, at - 1) {
                at += 1;
            }
            if at == to {
                return true;
            }
            if to - from < LONG {
                return false;
            }
            self.data.swap(at, at - 1);
            if at - from >= 2 {
                // Down to the very first element, as Go does: what lies before `from` is never greater.
                self.sink_left(at - 1, 0);
            }
            let mut right = at + 1;
            while right < to && self.less(right, right - 1) {
                self.data.swap(right, right - 1);
                right += 1;
            }
        }
        false
    }

    /// Which element to divide by, and how often elements had to change places to find it.
    fn choose_pivot(&self, from: usize, to: usize) -> (usize, usize) {
        let (len, mut swaps) = (to - from, 0);
        let quarter = len / 4;
        let mut of = [from + quarter, from + quarter * 2, from + quarter * 3];
        if len >= LONG {
            of = of.map(|at| self.median([at - 1, at, at + 1], &mut swaps));
        }
        (self.median(of, &mut swaps), swaps)
    }

    fn median(&self, mut of: [usize; 3], swaps: &mut usize) -> usize {
        for (one, other) in [(0, 1), (1, 2), (0, 1)] {
            if self.less(of[other], of[one]) {
                *swaps += 1;
                of.swap(one, other);
            }
        }
        of[1]
    }

    /// Elements less than the pivot to its left, all others to its right. Where it ends, and whether it was so before.
    fn partition(&mut self, from: usize, to: usize, pivot: usize) -> (usize, bool) {
        self.data.swap(from, pivot);
        let (mut left, mut right) = (from + 1, to - 1);
        let mut was_partitioned = true;
        loop {
            while left <= right && self.less(left, from) {
                left += 1;
            }
            while left <= right && !self.less(right, from) {
                right -= 1;
            }
            if left > right {
                break;
            }
            was_partitioned = false;
            self.data.swap(left, right);
            left += 1;
            right -= 1;
        }
        self.data.swap(right, from);
        (right, was_partitioned)
    }

    /// Elements equal to the pivot to the left, greater ones to the right, where none is less. Where these begin.
    fn partition_equal(&mut self, from: usize, to: usize, pivot: usize) -> usize {
        self.data.swap(from, pivot);
        let (mut left, mut right) = (from + 1, to - 1);
        loop {
            while left <= right && !self.less(from, left) {
                left += 1;
            }
            while left <= right && self.less(from, right) {
                right -= 1;
            }
            if left > right {
                return left;
            }
            self.data.swap(left, right);
            left += 1;
            right -= 1;
        }
    }

    /// Moves three elements from the middle elsewhere, by numbers that depend on nothing but the length.
    fn shuffle(&mut self, from: usize, to: usize) {
        let len = to - from;
        let mut random = len as u64;
        let mask = (1_u64 << (u64::BITS - random.leading_zeros())) - 1;
        let middle = from + len / 4 * 2;
        for place in middle - 1..=middle + 1 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let other = (random & mask) as usize;
            let other = if other >= len { other - len } else { other };
            self.data.swap(place, from + other);
        }
    }

    fn heap(&mut self, from: usize, to: usize) {
        let len = to - from;
        for root in (0..=(len - 1) / 2).rev() {
            self.sift_down(root, len, from);
        }
        for end in (0..len).rev() {
            self.data.swap(from, from + end);
            self.sift_down(0, end, from);
        }
    }

    fn sift_down(&mut self, mut root: usize, end: usize, from: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= end {
                return;
            }
            if child + 1 < end && self.less(from + child, from + child + 1) {
                child += 1;
            }
            if !self.less(from + root, from + child) {
                return;
            }
            self.data.swap(from + root, from + child);
            root = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Go's `sort.Sort`: seed, and how the numbers of the elements end.
    const GOLDEN: &str = include_str!("../../tests/golden/go_sort.txt");

    /// The same pseudo-random numbers as in the program that made the golden file (tests/golden/go_sort.go.txt).
    fn next(state: &mut u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn equal_elements_are_left_where_go_leaves_them() {
        let mut lines = 0;
        for line in GOLDEN.lines() {
            let mut words = line.split(' ').map(|word| word.parse::<u64>().unwrap());
            let (seed, len, kinds, way) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            let expected: Vec<u64> = words.collect();
            let mut state = seed;
            let mut data: Vec<(u64, u64)> = (0..len)
                .map(|number| (next(&mut state) % kinds, number))
                .collect();
            match way {
                // All but the last in order, as the permissions of a role are.
                1 => data[..len as usize - 1].sort_by_key(|element| element.0),
                2 => data.sort_by_key(|element| std::cmp::Reverse(element.0)),
                _ => {}
            }
            sort(&mut data, |one, other| one.0 < other.0);
            let found: Vec<u64> = data.iter().map(|element| element.1).collect();
            assert_eq!(
                found, expected,
                "seed {seed}, {len} elements of {kinds} kinds, way {way}"
            );
            lines += 1;
        }
        assert!(lines > 100);
    }
}
