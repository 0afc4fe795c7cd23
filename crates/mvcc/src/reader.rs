//! Reading at a revision: the same code for published views and for the store's own state.

use bytes::Bytes;

use crate::{Error, KeyInfo, RangeOptions, RangeResult, Rev, Wait};

/// Reads keys and pairs at any revision between the compacted and the current one.
pub struct Reader<'a> {
    _todo: &'a (),
}

impl Reader<'_> {
    /// The current revision: the newest that can be read.
    pub fn revision(&self) -> i64 {
        todo!()
    }

    /// The revision of the last compaction; −1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        todo!()
    }

    /// Refuses a revision that is compacted or in the future; 0 and less means the current one. Returns the
    /// revision to read at.
    pub fn check_revision(&self, _revision: i64) -> Result<i64, Error> {
        todo!()
    }

    /// Answers a range request, with etcd's rules for limit, order, filters and count.
    pub fn range(&self, _options: &RangeOptions<'_>, _wait: Wait) -> Result<RangeResult, Error> {
        todo!()
    }

    /// What the index knows of a key at a revision (which must be readable); needs no file access.
    pub fn info(&self, _key: &[u8], _at: i64) -> Option<KeyInfo> {
        todo!()
    }

    /// Calls `found` with each key of the range that is there at revision `at`, ascending, until it
    /// returns `false`; needs no file access.
    pub fn visit(
        &self,
        _key: &[u8],
        _range_end: &[u8],
        _at: i64,
        _found: impl FnMut(&[u8], &KeyInfo) -> bool,
    ) {
        todo!()
    }

    /// How many keys of the range are there at a revision (which must be readable); needs no file access.
    pub fn count(&self, _key: &[u8], _range_end: &[u8], _at: i64) -> i64 {
        todo!()
    }

    /// The encoded pair of a put at exactly this revision, which the index has named.
    pub fn record(&self, _rev: Rev, _wait: Wait) -> Result<Bytes, Error> {
        todo!()
    }

    /// The encoded pairs of many revisions, in the order asked for; each page of the file is visited once.
    pub fn records(&self, _revs: &[Rev], _wait: Wait) -> Result<Vec<Bytes>, Error> {
        todo!()
    }

    /// The encoded pair of a key at a revision (which must be readable).
    pub fn get(&self, _key: &[u8], _at: i64, _wait: Wait) -> Result<Option<Bytes>, Error> {
        todo!()
    }
}
