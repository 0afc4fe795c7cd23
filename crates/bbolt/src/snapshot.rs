//! A pinned state of the file. Never writes.

use bytes::Bytes;

use crate::{Db, Error};

/// Whether a read may wait for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Only what is in memory (ours or the system's); otherwise [`Error::WouldBlock`].
    No,
    /// May wait.
    Yes,
}

/// The file as one commit left it. Clones share one pin; the last one dropped lets go of the pages.
#[derive(Clone)]
pub struct Snapshot {
    _todo: (),
}

impl Snapshot {
    /// The value of a key; a missing bucket is an empty one. The bytes are a slice of a cached page.
    pub fn get(&self, _bucket: &[u8], _key: &[u8], _wait: Wait) -> Result<Option<Bytes>, Error> {
        todo!()
    }

    /// Looks up many ascending keys in one walk and calls `found` with the position of each key that is there, in order.
    /// On an error it may have been called for some.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        _bucket: &[u8],
        _keys: &[K],
        _wait: Wait,
        _found: impl FnMut(usize, Bytes),
    ) -> Result<(), Error> {
        todo!()
    }

    /// A cursor that stands nowhere yet; over a missing bucket, it finds nothing.
    pub fn cursor(&self, _bucket: &[u8], _wait: Wait) -> Result<Cursor, Error> {
        todo!()
    }

    /// Names of the top-level buckets, ascending.
    pub fn buckets(&self, _wait: Wait) -> Result<Vec<Bytes>, Error> {
        todo!()
    }

    /// Number of the commit that made this state.
    #[must_use]
    pub fn txid(&self) -> u64 {
        todo!()
    }

    /// Bytes up to the high-water mark.
    #[must_use]
    pub fn size(&self) -> u64 {
        todo!()
    }

    /// `size` without the pages that were free when this state was made.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        todo!()
    }

    /// The file as bbolt's `Tx.WriteTo` copies it: exactly [`Snapshot::size`] bytes.
    #[must_use]
    pub fn stream(&self) -> Stream {
        todo!()
    }
}

/// Walks a bucket's keys in order. Keys and values are slices of cached pages. After [`Error::WouldBlock`] it
/// stands where it stood.
pub struct Cursor {
    _todo: (),
}

impl Cursor {
    /// To the first key that is not below `key`.
    pub fn seek(&mut self, _key: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        todo!()
    }
    /// To the first key.
    pub fn first(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        todo!()
    }
    /// To the last key.
    pub fn last(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        todo!()
    }
    /// To the next key; `None` after the last one (and for a cursor that stands nowhere).
    #[expect(clippy::should_implement_trait, reason = "it can fail, and prev is its twin")]
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        todo!()
    }
    /// To the key before.
    pub fn prev(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        todo!()
    }
}

/// The bytes of a snapshot, chunk by chunk. Waits for the device.
pub struct Stream {
    _todo: (),
}

impl Stream {
    /// The next at most 64 KiB; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        todo!()
    }
}

/// Copies all that `src` holds into `dst`, which should be new, in bounded commits and tightly packed pages.
pub fn compact(_src: &Snapshot, _dst: &Db) -> Result<(), Error> {
    todo!()
}
