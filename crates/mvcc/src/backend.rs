//! The buckets beside `key`: meta, leases, alarms, members, auth. Small, and written rarely.

use std::sync::Arc;

use bbolt::{Batch, Snapshot, Wait};
use bytes::Bytes;

use crate::Error;
use crate::schema::{BUCKETS, KEY};

/// The rows beside the history of keys. Reads see the writes not yet committed, and may wait for the device.
pub struct Backend {
    /// Writes since the last commit was taken, also deletions of compacted rows in the bucket `key`.
    pending: Batch,
    /// Writes of a commit that is under way.
    in_flight: Option<Arc<Batch>>,
    /// The file as of the last commit.
    snapshot: Snapshot,
}

impl Backend {
    /// The rows of a file; buckets that are missing will come with the first commit.
    pub(crate) fn new(snapshot: Snapshot) -> Result<Backend, Error> {
        let there = snapshot.buckets(Wait::Yes)?;
        let mut pending = Batch::new();
        for bucket in BUCKETS
            .iter()
            .filter(|bucket| !there.iter().any(|name| name[..] == *bucket.as_bytes()))
        {
            pending.create_bucket(bucket.as_bytes());
        }
        Ok(Backend {
            pending,
            in_flight: None,
            snapshot,
        })
    }

    /// Writes a row.
    pub fn put(&mut self, bucket: &'static str, key: &[u8], value: &[u8]) {
        debug_assert_ne!(bucket, KEY, "only transactions write revisions");
        self.pending.put(
            bucket.as_bytes(),
            Bytes::copy_from_slice(key),
            Bytes::copy_from_slice(value),
        );
    }

    /// Deletes a row; it need not be there.
    pub fn delete(&mut self, bucket: &'static str, key: &[u8]) {
        debug_assert_ne!(bucket, KEY, "only transactions write revisions");
        self.pending
            .delete(bucket.as_bytes(), Bytes::copy_from_slice(key));
    }

    /// Deletes a compacted revision.
    pub(crate) fn delete_revision(&mut self, key: Bytes) {
        self.pending.delete(KEY.as_bytes(), key);
    }

    /// The value of a row.
    pub fn get(&self, bucket: &'static str, key: &[u8]) -> Result<Option<Bytes>, Error> {
        for batch in [Some(&self.pending), self.in_flight.as_deref()]
            .into_iter()
            .flatten()
        {
            if let Some(written) = batch.get(bucket.as_bytes(), key) {
                return Ok(written.cloned());
            }
        }
        Ok(self.snapshot.get(bucket.as_bytes(), key, Wait::Yes)?)
    }

    /// All rows of a bucket, ascending.
    pub fn scan(&self, bucket: &'static str) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut rows = std::collections::BTreeMap::new();
        let mut cursor = self.snapshot.cursor(bucket.as_bytes(), Wait::Yes)?;
        let mut row = cursor.first()?;
        while let Some((key, value)) = row {
            rows.insert(key, value);
            row = cursor.next()?;
        }
        for batch in [self.in_flight.as_deref(), Some(&self.pending)]
            .into_iter()
            .flatten()
        {
            for (key, written) in batch.range(bucket.as_bytes(), b"") {
                match written {
                    Some(value) => drop(rows.insert(key.clone(), value.clone())),
                    None => drop(rows.remove(key)),
                }
            }
        }
        Ok(rows.into_iter().collect())
    }

    /// Whether the next commit would write something.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Rows that the next commit would write or delete.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Takes the pending writes for a commit.
    pub(crate) fn take(&mut self) -> Arc<Batch> {
        let batch = Arc::new(std::mem::take(&mut self.pending));
        self.in_flight = Some(batch.clone());
        batch
    }

    /// The commit is in the file.
    pub(crate) fn committed(&mut self, snapshot: Snapshot) {
        self.in_flight = None;
        self.snapshot = snapshot;
    }

    /// The commit is not in the file: its writes are pending again, under those that came since.
    pub(crate) fn failed(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            let mut merged = Arc::unwrap_or_clone(batch);
            merged.merge(std::mem::take(&mut self.pending));
            self.pending = merged;
        }
    }
}
