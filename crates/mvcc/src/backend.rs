//! The buckets beside `key`: meta, leases, alarms, members, auth. Small, and written rarely.

use bytes::Bytes;

use crate::Error;

/// Reads see the writes not yet committed. Reads may wait for the device.
pub struct Backend {
    _todo: (),
}

impl Backend {
    /// Writes a row.
    pub fn put(&mut self, _bucket: &'static str, _key: &[u8], _value: &[u8]) {
        todo!()
    }

    /// Deletes a row; it need not be there.
    pub fn delete(&mut self, _bucket: &'static str, _key: &[u8]) {
        todo!()
    }

    /// The value of a row.
    pub fn get(&self, _bucket: &'static str, _key: &[u8]) -> Result<Option<Bytes>, Error> {
        todo!()
    }

    /// All rows of a bucket, ascending.
    pub fn scan(&self, _bucket: &'static str) -> Result<Vec<(Bytes, Bytes)>, Error> {
        todo!()
    }
}
