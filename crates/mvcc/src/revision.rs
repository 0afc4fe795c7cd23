//! Revisions, and their form as keys of the bucket `key`.
//!
//! ```text
//! 0        8   9        17  18
//! | main BE | _ | sub BE | t |     the `t` only for a tombstone (a deletion)
//! ```

use crate::Error;

/// A revision: `main` counts write transactions, `sub` the changes within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev {
    /// The revision that clients see.
    pub main: i64,
    /// The place of the change within its transaction, from 0.
    pub sub: i64,
}

impl Rev {
    /// The revision `main`.`sub`.
    pub const fn new(main: i64, sub: i64) -> Rev {
        Rev { main, sub }
    }

    /// The row key of a put at this revision.
    pub fn to_bytes(self) -> [u8; RevKey::LEN] {
        let mut bytes = [b'_'; RevKey::LEN];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[9..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// The row key of a deletion at this revision.
    pub fn to_tombstone_bytes(self) -> [u8; RevKey::LEN + 1] {
        let mut bytes = [b't'; RevKey::LEN + 1];
        bytes[..RevKey::LEN].copy_from_slice(&self.to_bytes());
        bytes
    }
}

/// A row key of the bucket `key`: a revision, and whether it is a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevKey {
    /// The revision.
    pub rev: Rev,
    /// Whether the row marks a deletion.
    pub tombstone: bool,
}

impl RevKey {
    /// Bytes of a row key that is not a tombstone.
    pub const LEN: usize = 17;

    /// Reads a row key; what etcd panics on is an error. etcd: server/storage/mvcc/revision.go.
    pub fn decode(key: &[u8]) -> Result<RevKey, Error> {
        let corrupt = |why: &str| Error::corrupt("key", key, why);
        if key.len() != Self::LEN && key.len() != Self::LEN + 1 {
            return Err(corrupt("a revision has 17 or 18 bytes"));
        }
        let number = |from: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&key[from..from + 8]);
            i64::from_be_bytes(bytes)
        };
        let rev = Rev::new(number(0), number(9));
        if key[8] != b'_' {
            return Err(corrupt("the separator of a revision is '_'"));
        }
        if rev.main < 0 || rev.sub < 0 {
            return Err(corrupt("a revision is not negative"));
        }
        // etcd takes 18 bytes with another mark for an ordinary row; no etcd writes one.
        let tombstone = key.len() > Self::LEN;
        if tombstone && key[Self::LEN] != b't' {
            return Err(corrupt("the mark of a deletion is 't'"));
        }
        Ok(RevKey { rev, tombstone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_are_as_etcd_writes_them() {
        let put: Vec<u8> = vec![0, 0, 0, 0, 0, 0, 0, 2, 0x5f, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Rev::new(2, 0).to_bytes().to_vec(), put);
        let mut deleted = Rev::new(2, 0).to_bytes().to_vec();
        deleted.push(0x74);
        assert_eq!(Rev::new(2, 0).to_tombstone_bytes().to_vec(), deleted);
        assert_eq!(
            RevKey::decode(&deleted).unwrap(),
            RevKey {
                rev: Rev::new(2, 0),
                tombstone: true
            }
        );
        assert_eq!(
            RevKey::decode(&Rev::new(i64::MAX, 7).to_bytes()).unwrap().rev,
            Rev::new(i64::MAX, 7)
        );
    }

    #[test]
    fn what_etcd_cannot_have_written_is_refused() {
        let good = Rev::new(2, 1).to_tombstone_bytes();
        for (place, value) in [(0, 0x80), (8, b'-'), (9, 0x80), (17, b'u')] {
            let mut bad = good;
            bad[place] = value;
            assert!(RevKey::decode(&bad).is_err(), "byte {place}");
        }
        assert!(RevKey::decode(&good[..16]).is_err());
        assert!(RevKey::decode(&[]).is_err());
        assert!(RevKey::decode(&[b'_'; 19]).is_err());
    }
}
