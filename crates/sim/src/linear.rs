//! Whether there is an order of calls to one key that explains all answers: the search of Wing and Gong with Lowe's
//! memory of states, on short histories. Knows nothing of revisions and of the log, so that it can be wrong in other
//! ways than the other judges.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// Calls that a search takes at most: one bit each.
const CALLS_MAX: usize = 128;

/// Configurations that a search looks at before it gives up.
const STEPS_MAX: usize = 200_000;

/// What was asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Set it; `None` deletes it.
    Write(Option<Bytes>),
    /// What it is.
    Read(Option<Bytes>),
}

/// A call and when it was under way. The moments are numbers that grow with time.
#[derive(Clone, Debug)]
struct Timed {
    call: Call,
    began: u64,
    /// `None`: nobody knows whether it happened, or when.
    ended: Option<u64>,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An order that explains all.
    Order,
    /// There is none.
    Nothing,
    /// It was too much to look at.
    TooLong,
}

/// The calls to each key.
#[derive(Default)]
pub struct Histories {
    moment: u64,
    keys: BTreeMap<Bytes, Vec<Timed>>,
}

/// A call on its way: its key, and when it began.
#[derive(Clone, Debug)]
pub struct Open {
    key: Bytes,
    began: u64,
}

impl Histories {
    /// A call begins.
    pub fn begin(&mut self, key: Bytes) -> Open {
        self.moment += 1;
        Open {
            key,
            began: self.moment,
        }
    }

    /// It was answered.
    pub fn end(&mut self, open: Open, call: Call) {
        self.moment += 1;
        let ended = Some(self.moment);
        self.push(open, call, ended);
    }

    /// Nobody knows what became of it. (Reads need not be told of then.)
    pub fn unknown(&mut self, open: Open, call: Call) {
        self.push(open, call, None);
    }

    fn push(&mut self, open: Open, call: Call, ended: Option<u64>) {
        let began = open.began;
        let calls = self.keys.entry(open.key).or_default();
        calls.push(Timed { call, began, ended });
    }

    /// Searches them all.
    pub fn judge(&self) -> impl Iterator<Item = (&Bytes, Found)> {
        self.keys.iter().map(|(key, calls)| (key, search(calls)))
    }
}

/// Where a search is: which calls have happened, and what the key is.
type Configuration = (u128, Option<Bytes>);

fn search(calls: &[Timed]) -> Found {
    if calls.len() > CALLS_MAX {
        return Found::TooLong;
    }
    let answered = calls
        .iter()
        .enumerate()
        .filter(|(_, timed)| timed.ended.is_some())
        .fold(0u128, |mask, (place, _)| mask | 1 << place);
    let mut seen: BTreeSet<Configuration> = BTreeSet::new();
    let mut todo: Vec<Configuration> = vec![(0, None)];
    while let Some((done, value)) = todo.pop() {
        if done & answered == answered {
            return Found::Order;
        }
        if !seen.insert((done, value.clone())) {
            continue;
        }
        if seen.len() > STEPS_MAX {
            return Found::TooLong;
        }
        let is_open = |place: &usize| done & 1 << place == 0;
        // The next to happen began before the first of the others ended.
        let first_end = (0..calls.len())
            .filter(is_open)
            .filter_map(|place| calls[place].ended)
            .min()
            .unwrap_or(u64::MAX);
        for place in (0..calls.len()).filter(is_open) {
            let timed = &calls[place];
            if timed.began < first_end
                && let Some(next) = happen(timed, &value)
            {
                todo.push((done | 1 << place, next));
            }
        }
    }
    Found::Nothing
}

/// What the key is after a call, if its answer fits.
fn happen(timed: &Timed, value: &Option<Bytes>) -> Option<Option<Bytes>> {
    match &timed.call {
        Call::Write(new) => Some(new.clone()),
        Call::Read(read) => (read == value).then(|| value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Option<Bytes> {
        (!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()))
    }

    /// Calls as `(began, ended or 0, what, value)`: `w` writes, `r` reads.
    fn check(calls: &[(u64, u64, char, &'static str)], wanted: Found) {
        let calls: Vec<Timed> = calls
            .iter()
            .map(|&(began, ended, what, value)| Timed {
                call: match what {
                    'w' => Call::Write(bytes(value)),
                    _ => Call::Read(bytes(value)),
                },
                began,
                ended: (ended > 0).then_some(ended),
            })
            .collect();
        assert_eq!(search(&calls), wanted, "{calls:?}");
    }

    #[test]
    fn an_order_is_found_where_there_is_one() {
        check(&[(1, 2, 'w', "a"), (3, 4, 'r', "a")], Found::Order);
        // The write is seen by one of two reads at the same time, and by the later one.
        check(
            &[(1, 9, 'w', "a"), (2, 3, 'r', ""), (4, 5, 'r', "a")],
            Found::Order,
        );
        // Of unknown fate: it happened late, or never.
        check(
            &[(1, 0, 'w', "a"), (2, 3, 'r', ""), (4, 5, 'r', "a")],
            Found::Order,
        );
        check(
            &[(1, 0, 'w', "a"), (2, 3, 'w', "b"), (4, 5, 'r', "b")],
            Found::Order,
        );
        check(
            &[(1, 2, 'w', "a"), (3, 4, 'w', ""), (5, 6, 'r', "")],
            Found::Order,
        );
    }

    #[test]
    fn what_no_order_explains_is_seen() {
        // A read of what was overwritten before it was asked.
        check(
            &[(1, 2, 'w', "a"), (3, 4, 'w', "b"), (5, 6, 'r', "a")],
            Found::Nothing,
        );
        // Two reads, one after the other, that see two writes the wrong way round.
        check(
            &[
                (1, 10, 'w', "a"),
                (2, 11, 'w', "b"),
                (3, 4, 'r', "a"),
                (5, 6, 'r', "b"),
                (7, 8, 'r', "a"),
            ],
            Found::Nothing,
        );
        // A write that was seen cannot be undone, also if its fate was unknown.
        check(
            &[(1, 0, 'w', "a"), (2, 3, 'r', "a"), (4, 5, 'r', "")],
            Found::Nothing,
        );
    }
}
