//! Chance from a seed: the jitter of election timeouts, the same on every machine. Never for secrets.

/// A SplitMix64 sequence.
#[derive(Debug)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    /// A number below `bound`, which is not 0. The bias of the remainder is below 2^-37 for bounds of 27 bits.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u32::try_from(mixed % u64::from(bound)).expect("a remainder is below its 32-bit divisor")
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;

    #[test]
    fn stays_below_the_bound_reaches_all_and_depends_on_the_seed() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..200).map(|_| jitter.below(10)).collect::<Vec<_>>()
        };
        let first = draw(1);
        assert!((0..10).all(|number| first.contains(&number)));
        assert!(first.iter().all(|number| *number < 10));
        assert_eq!(first, draw(1));
        assert_ne!(first, draw(2));
    }
}
