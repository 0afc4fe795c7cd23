//! Pending writes in key order: what one commit takes. Holds no page and does no I/O.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Puts and deletes per bucket; the last write of a key wins. Keys that arrive in ascending order
/// are only appended to a vector.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    buckets: BTreeMap<Bytes, BucketBatch>,
}

/// A value, or `None` for a delete.
pub(crate) type Write = Option<Bytes>;

/// What happens to one bucket: first `clear`, then `create`, then the writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketBatch {
    /// Removes the bucket with all it holds, before anything else.
    pub(crate) clear: bool,
    /// Makes the bucket if it is not there.
    pub(crate) create: bool,
    /// Sequence number to set; etcd uses none.
    pub(crate) sequence: Option<u64>,
    /// Strictly ascending keys.
    ascending: Vec<(Bytes, Write)>,
    /// Keys that came out of order; none of them is in `ascending`.
    scattered: BTreeMap<Bytes, Write>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Makes the bucket if it is not there.
    pub fn create_bucket(&mut self, bucket: &[u8]) {
        self.bucket(bucket).create = true;
    }

    /// Removes the bucket with all it holds, also what this batch has put there so far.
    pub fn delete_bucket(&mut self, bucket: &[u8]) {
        *self.bucket(bucket) = BucketBatch {
            clear: true,
            ..BucketBatch::default()
        };
    }

    /// Writes a key. The bucket must exist or be created by this batch.
    pub fn put(&mut self, bucket: &[u8], key: Bytes, value: Bytes) {
        self.bucket(bucket).write(key, Some(value));
    }

    /// Removes a key; it need not be there.
    pub fn delete(&mut self, bucket: &[u8], key: Bytes) {
        self.bucket(bucket).write(key, None);
    }

    /// What this batch does to a key: `None` nothing, `Some(None)` removes it, `Some(Some(value))` writes it.
    /// In a bucket that this batch removes first, what it does not write is removed.
    #[must_use]
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Option<Option<&Bytes>> {
        let pending = self.buckets.get(bucket)?;
        match pending.find(key) {
            Some(write) => Some(write.as_ref()),
            None => pending.clear.then_some(None),
        }
    }

    /// The writes to a bucket in key order, from `start` on: `(key, None)` is a delete.
    pub fn range<'a>(
        &'a self,
        bucket: &[u8],
        start: &[u8],
    ) -> impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> + use<'a> {
        self.buckets
            .get(bucket)
            .map(|pending| pending.iter_from(start))
            .into_iter()
            .flatten()
    }

    /// Adds what came later: where both write a key, `later` wins.
    pub fn merge(&mut self, later: Batch) {
        for (name, newer) in later.buckets {
            let older = self.buckets.entry(name).or_default();
            if newer.clear {
                *older = newer;
                continue;
            }
            older.create |= newer.create;
            older.sequence = newer.sequence.or(older.sequence);
            let BucketBatch {
                ascending, scattered, ..
            } = newer;
            for (key, write) in ascending.into_iter().chain(scattered) {
                older.write(key, write);
            }
        }
    }

    /// Number of keys written or deleted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets
            .values()
            .map(|bucket| bucket.ascending.len() + bucket.scattered.len())
            .sum()
    }

    /// Whether a commit of this would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.values().all(BucketBatch::is_empty)
    }

    pub(crate) fn buckets(&self) -> impl Iterator<Item = (&Bytes, &BucketBatch)> {
        self.buckets.iter()
    }

    pub(crate) fn set_sequence(&mut self, bucket: &[u8], sequence: u64) {
        self.bucket(bucket).sequence = Some(sequence);
    }

    fn bucket(&mut self, name: &[u8]) -> &mut BucketBatch {
        // Two look-ups, but no allocation for a name that is there: this runs once per write.
        if !self.buckets.contains_key(name) {
            self.buckets
                .insert(Bytes::copy_from_slice(name), BucketBatch::default());
        }
        self.buckets
            .get_mut(name)
            .expect("inserted above if it was missing")
    }
}

impl BucketBatch {
    fn write(&mut self, key: Bytes, write: Write) {
        match self.ascending.last() {
            Some((last, _)) if *last >= key => {}
            _ => return self.ascending.push((key, write)),
        }
        match self.ascending.binary_search_by(|(have, _)| have.cmp(&key)) {
            Ok(at) => self.ascending[at].1 = write,
            Err(_) => {
                self.scattered.insert(key, write);
            }
        }
    }

    fn find(&self, key: &[u8]) -> Option<&Write> {
        match self.ascending.binary_search_by(|(have, _)| have[..].cmp(key)) {
            Ok(at) => Some(&self.ascending[at].1),
            Err(_) => self.scattered.get(key),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.clear
            && !self.create
            && self.sequence.is_none()
            && self.ascending.is_empty()
            && self.scattered.is_empty()
    }

    /// All writes in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.iter_from(b"")
    }

    fn iter_from(&self, start: &[u8]) -> Merge<'_> {
        let from = self.ascending.partition_point(|(key, _)| key[..] < *start);
        Merge {
            ascending: self.ascending[from..].iter(),
            scattered: self
                .scattered
                .range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded))
                .peekable(),
        }
    }
}

/// Both parts of a bucket's writes as one ascending sequence.
struct Merge<'a> {
    ascending: std::slice::Iter<'a, (Bytes, Write)>,
    scattered: std::iter::Peekable<std::collections::btree_map::Range<'a, Bytes, Write>>,
}

impl<'a> Iterator for Merge<'a> {
    type Item = (&'a Bytes, Option<&'a Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        let take_scattered = match (self.ascending.as_slice().first(), self.scattered.peek()) {
            (Some((ascending, _)), Some((scattered, _))) => *scattered < ascending,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if take_scattered {
            self.scattered.next().map(|(key, write)| (key, write.as_ref()))
        } else {
            self.ascending.next().map(|(key, write)| (key, write.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(batch: &Batch, start: &str) -> String {
        batch
            .range(b"b", start.as_bytes())
            .map(|(key, value)| {
                let value = value.map_or("-", |v| std::str::from_utf8(v).unwrap());
                format!("{}={value} ", std::str::from_utf8(key).unwrap())
            })
            .collect()
    }

    /// `script` is words `key=value` and `key-`.
    fn check(script: &str, start: &str, want: &str) {
        let mut batch = Batch::new();
        for word in script.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => batch.put(
                    b"b",
                    Bytes::copy_from_slice(key.as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes()),
                ),
                None => batch.delete(
                    b"b",
                    Bytes::copy_from_slice(word.trim_end_matches('-').as_bytes()),
                ),
            }
        }
        assert_eq!(rows(&batch, start).trim_end(), want, "{script}");
        assert_eq!(batch.len(), batch.range(b"b", b"").count());
    }

    #[test]
    fn last_write_wins_and_order_is_by_key() {
        check("a=1 b=2 c=3", "", "a=1 b=2 c=3");
        check("c=3 a=1 b=2 d=4", "", "a=1 b=2 c=3 d=4");
        check("c=3 a=1 a- c=5 a=7", "", "a=7 c=5");
        check("c=3 a=1 b- e=5 d=4", "b", "b=- c=3 d=4 e=5");
    }

    #[test]
    fn merge_lets_the_later_batch_win() {
        let mut older = Batch::new();
        older.put(b"b", Bytes::from("k"), Bytes::from("old"));
        older.put(b"b", Bytes::from("m"), Bytes::from("kept"));
        let mut newer = Batch::new();
        newer.put(b"b", Bytes::from("k"), Bytes::from("new"));
        older.merge(newer);
        assert_eq!(rows(&older, ""), "k=new m=kept ");
        let mut gone = Batch::new();
        gone.delete_bucket(b"b");
        older.merge(gone);
        assert_eq!(older.get(b"b", b"k"), Some(None));
        assert_eq!(older.get(b"c", b"k"), None);
        assert!(!older.is_empty());
        assert_eq!(older.len(), 0);
    }
}
