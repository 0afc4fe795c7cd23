//! The bucket `lease`: a row for each granted lease.
//!
//! ```text
//! key:   lease id, 8 bytes big-endian
//! value: leasepb.Lease {1 id, 2 ttl, 3 remaining ttl}, zeros left out
//! ```

use bytes::BytesMut;

use super::{LEASE, Rows};
use crate::record::put_varint_field;
use crate::{Backend, Error};

/// A granted lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// The granted time to live, in seconds.
    pub ttl: i64,
    /// What was left of it at the last checkpoint, in seconds; 0 if there was none.
    pub remaining_ttl: i64,
}

impl Lease {
    fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(33);
        put_varint_field(&mut out, 1, self.id);
        put_varint_field(&mut out, 2, self.ttl);
        put_varint_field(&mut out, 3, self.remaining_ttl);
        out
    }

    fn decode(value: &[u8]) -> Option<Lease> {
        use prost::Message;
        let lease = api::leasepb::Lease::decode(value).ok()?;
        Some(Lease {
            id: lease.id,
            ttl: lease.ttl,
            remaining_ttl: lease.remaining_ttl,
        })
    }
}

/// All leases, by id.
pub fn leases(rows: &impl Rows) -> Result<Vec<Lease>, Error> {
    let decode = |(key, value): (bytes::Bytes, bytes::Bytes)| {
        if key.len() != 8 {
            return Err(Error::corrupt(LEASE, &key, "a lease id has 8 bytes"));
        }
        Lease::decode(&value).ok_or_else(|| Error::corrupt(LEASE, &key, "not a lease"))
    };
    rows.rows(LEASE)?.into_iter().map(decode).collect()
}

/// Stores a lease: at its grant, and when a checkpoint is to be kept.
pub fn put_lease(backend: &mut Backend, lease: &Lease) {
    backend.put(LEASE, &lease.id.to_be_bytes(), &lease.encode());
}

/// Removes a lease.
pub fn delete_lease(backend: &mut Backend, id: i64) {
    backend.delete(LEASE, &id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn rows_are_protobuf() {
        for lease in [
            Lease {
                id: 1,
                ttl: 60,
                remaining_ttl: 0,
            },
            Lease {
                id: 0x326f_9f1b_0e3d_3c03,
                ttl: 9_000_000_000,
                remaining_ttl: 7,
            },
            Lease {
                id: -5,
                ttl: 0,
                remaining_ttl: 0,
            },
        ] {
            let theirs = api::leasepb::Lease {
                id: lease.id,
                ttl: lease.ttl,
                remaining_ttl: lease.remaining_ttl,
            };
            assert_eq!(lease.encode(), theirs.encode_to_vec());
            assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        }
        assert_eq!(Lease::decode(b"\x08"), None);
    }
}
