//! A write transaction: the changes of one raft entry, all with one main revision.

use bytes::Bytes;

use crate::{Error, KeyInfo, RangeOptions, RangeResult, Reader, Wait};

/// The changes of one entry. Ranges within it see the changes made so far. Ends when dropped or by
/// [`WriteTxn::end`]; the store's revision grows by one if there was a change.
pub struct WriteTxn<'a> {
    _todo: &'a (),
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct Put {
    /// Main revision of the change: what the response header shows.
    pub revision: i64,
    /// What the index knew of the key before; [`KeyInfo::leased`] tells whether it held a lease.
    pub previous: Option<KeyInfo>,
    /// The encoded pair as stored.
    pub record: Bytes,
}

/// A key that a delete removed.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// What the index knew of it before.
    pub previous: KeyInfo,
}

impl WriteTxn<'_> {
    /// The store's revision when the transaction began.
    pub fn begin_revision(&self) -> i64 {
        todo!()
    }

    /// The revision that a response header shows now: one more than at the beginning once there was a change.
    pub fn revision(&self) -> i64 {
        todo!()
    }

    /// Number of changes so far.
    pub fn changes(&self) -> usize {
        todo!()
    }

    /// Writes a pair. Cannot fail; needs no file access.
    pub fn put(&mut self, _key: &[u8], _value: &[u8], _lease: i64) -> Put {
        todo!()
    }

    /// Deletes all keys of the range (see [`RangeOptions::range_end`]) in ascending order; needs no file access.
    pub fn delete_range(&mut self, _key: &[u8], _range_end: &[u8]) -> Vec<Deleted> {
        todo!()
    }

    /// Answers a range request; the changes made so far are seen.
    pub fn range(&self, options: &RangeOptions<'_>) -> Result<RangeResult, Error> {
        self.reader().range(options, Wait::Yes)
    }

    /// Reads of the state with the changes made so far.
    pub fn reader(&self) -> Reader<'_> {
        todo!()
    }

    /// Ends the transaction; whether it changed anything.
    pub fn end(self) -> bool {
        todo!()
    }
}
