//! The hashes by which members compare their stores.

use crate::{Error, Wait};

/// A hash of the bucket `key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction it regards: rows that it deletes are left out.
    pub compact_revision: i64,
    /// The revision up to which rows count.
    pub revision: i64,
}

/// A HashKV under way, over one view; takes steps of bounded length.
pub struct HashKv {
    _todo: (),
}

impl HashKv {
    /// Regards at most `rows_max` more rows or keys; the hash when done. After [`Error::WouldBlock`], call again with `Wait::Yes`.
    pub fn step(&mut self, _rows_max: usize, _wait: Wait) -> Result<Option<KeyValueHash>, Error> {
        todo!()
    }

    /// The store's revision, for the response header.
    pub fn current_revision(&self) -> i64 {
        todo!()
    }
}

/// A hash of all buckets under way.
pub struct Hash {
    _todo: (),
}

impl Hash {
    /// Regards at most `rows_max` more rows; the hash when done.
    pub fn step(&mut self, _rows_max: usize, _wait: Wait) -> Result<Option<u32>, Error> {
        todo!()
    }
}

/// HashKV of a file that no member has open, as `etcdutl hashkv` computes it (0: the newest revision).
pub fn hash_kv_of_file(_db: &bbolt::Snapshot, _revision: i64) -> Result<KeyValueHash, Error> {
    todo!()
}

/// The hash of all buckets of a file, as `etcdutl snapshot status` computes it.
pub fn hash_of_file(_db: &bbolt::Snapshot) -> Result<u32, Error> {
    todo!()
}
