//! What a test of a whole cluster knows of it.

use std::collections::BTreeMap;

use raft::Entry;

/// What is known to have happened, from all members together.
#[derive(Default)]
pub struct History {
    /// Who led in a term.
    pub leaders: BTreeMap<u64, u64>,
    /// Whom a member voted for in a term.
    pub votes: BTreeMap<(u64, u64), u64>,
    /// Each entry ever appended anywhere, and the term of the one before it.
    pub entries: BTreeMap<(u64, u64), (u64, Entry)>,
    /// Each committed entry, and the lowest term in which somebody knew that it is committed.
    pub committed: BTreeMap<u64, (Entry, u64)>,
    /// The digest of the application after each index.
    pub digests: BTreeMap<u64, u64>,
    /// The highest index that a leader has committed.
    pub acknowledged: u64,
    /// Reads that wait: (member, context) to what had been acknowledged when they began.
    pub reads: BTreeMap<(u64, u64), u64>,
    /// How often things happened that the test must not miss.
    pub seen: BTreeMap<&'static str, u64>,
}

impl History {
    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}
