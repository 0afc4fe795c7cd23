//! The replicated part of leases: which exist, with what time to live, and which keys hang on
//! them. Knows no clock: what expires is decided elsewhere and comes back as an entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

/// The longest time to live that a lease may have, in seconds.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// A lease as the log has made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its time to live, in seconds.
    pub ttl: i64,
    /// What remained when it was last recorded, in seconds; 0 if nothing is recorded.
    pub remaining: i64,
    /// The keys that go when it goes.
    pub keys: BTreeSet<Bytes>,
}

/// All leases, and for each key the one it hangs on.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<i64, Lease>,
    // Looked up by key for every write and never iterated, so its order can not matter.
    by_key: HashMap<Bytes, i64>,
}

impl Leases {
    /// The lease with this id.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Whether there is a lease with this id.
    pub fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// All leases in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.by_id.iter().map(|(&id, lease)| (id, lease))
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The lease that a key hangs on, 0 if none.
    pub fn of_key(&self, key: &[u8]) -> i64 {
        self.by_key.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn insert(&mut self, id: i64, ttl: i64, remaining: i64) {
        let keys = BTreeSet::new();
        self.by_id.insert(id, Lease { ttl, remaining, keys });
    }

    /// Takes a lease away, with what hangs on it.
    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        for key in &lease.keys {
            self.by_key.remove(key);
        }
        Some(lease)
    }

    pub(crate) fn set_remaining(&mut self, id: i64, remaining: i64) -> Option<&Lease> {
        let lease = self.by_id.get_mut(&id)?;
        lease.remaining = remaining;
        Some(lease)
    }

    /// Hangs a key on a lease, and takes it from the one it hung on; 0 is no lease. A lease that
    /// does not exist (after a restart: a key whose lease was revoked) holds nothing.
    pub(crate) fn attach(&mut self, key: &[u8], id: i64) {
        if id == 0 && self.by_key.is_empty() {
            return;
        }
        let before = self.of_key(key);
        if before == id {
            return;
        }
        if before != 0 {
            self.detach_from(key, before);
        }
        if let Some(lease) = self.by_id.get_mut(&id) {
            // A copy: the request that the slice came from need not live as long as the lease.
            let key = Bytes::copy_from_slice(key);
            lease.keys.insert(key.clone());
            self.by_key.insert(key, id);
        }
    }

    /// Takes a deleted key from its lease.
    pub(crate) fn detach(&mut self, key: &[u8]) {
        self.attach(key, 0);
    }

    fn detach_from(&mut self, key: &[u8], id: i64) {
        self.by_key.remove(key);
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(leases: &Leases, id: i64) -> Vec<&[u8]> {
        leases
            .get(id)
            .unwrap()
            .keys
            .iter()
            .map(|key| key.as_ref())
            .collect()
    }

    #[test]
    fn a_key_hangs_on_one_lease_at_a_time() {
        let mut leases = Leases::default();
        leases.insert(7, 10, 0);
        leases.insert(8, 10, 0);
        leases.attach(b"b", 7);
        leases.attach(b"a", 7);
        leases.attach(b"b", 8);
        assert_eq!(keys(&leases, 7), [b"a"]);
        assert_eq!(keys(&leases, 8), [b"b"]);
        leases.attach(b"b", 0);
        leases.detach(b"never attached");
        assert!(keys(&leases, 8).is_empty());
        assert_eq!(leases.of_key(b"b"), 0);
        leases.attach(b"c", 99);
        assert_eq!(leases.of_key(b"c"), 0);
        assert_eq!(leases.remove(7).unwrap().keys.len(), 1);
        assert_eq!(leases.of_key(b"a"), 0);
        assert!(leases.remove(7).is_none());
    }
}
