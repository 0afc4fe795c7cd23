//! What a majority of the voters says. Pure functions; joint quorums do not exist here.

/// How an election stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A majority granted.
    Won,
    /// A majority can no longer grant.
    Lost,
    /// More votes must come.
    Pending,
}

/// The voters that make a majority of `voters`.
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Counts votes: one item for each voter, `None` if it has not answered. Without voters nothing is ever won.
pub(crate) fn tally(votes: impl Iterator<Item = Option<bool>>) -> Tally {
    let (mut voters, mut granted, mut missing) = (0, 0, 0);
    for vote in votes {
        voters += 1;
        match vote {
            Some(true) => granted += 1,
            Some(false) => {}
            None => missing += 1,
        }
    }
    let needed = majority(voters);
    if granted >= needed {
        Tally::Won
    } else if granted + missing >= needed {
        Tally::Pending
    } else {
        Tally::Lost
    }
}

/// The greatest number that a majority has reached, one number for each voter; 0 without voters. Sorts `numbers`.
pub(crate) fn reached(numbers: &mut [u64]) -> u64 {
    if numbers.is_empty() {
        return 0;
    }
    numbers.sort_unstable();
    numbers[numbers.len() - majority(numbers.len())]
}

#[cfg(test)]
mod tests {
    use super::{Tally, reached, tally};

    #[test]
    fn a_majority_has_reached_the_number() {
        let check =
            |numbers: &[u64], expected| assert_eq!(reached(&mut numbers.to_vec()), expected, "{numbers:?}");
        check(&[], 0);
        check(&[7], 7);
        check(&[7, 3], 3);
        check(&[7, 3, 5], 5);
        check(&[9, 0, 0], 0);
        check(&[4, 9, 9, 1], 4);
        check(&[9, 8, 7, 1, 2], 7);
    }

    #[test]
    fn an_election_is_won_lost_or_open() {
        let check = |votes: &str, expected| {
            let votes = votes.chars().map(|vote| match vote {
                'y' => Some(true),
                'n' => Some(false),
                _ => None,
            });
            assert_eq!(tally(votes), expected);
        };
        check("", Tally::Lost);
        check("y", Tally::Won);
        check("n", Tally::Lost);
        check("?", Tally::Pending);
        check("y?", Tally::Pending);
        check("yn", Tally::Lost);
        check("yy?", Tally::Won);
        check("yn?", Tally::Pending);
        check("nn?", Tally::Lost);
        check("yy??", Tally::Pending);
        check("yynn", Tally::Lost);
        check("yyynn", Tally::Won);
    }
}
