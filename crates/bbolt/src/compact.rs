//! A copy without free pages, through ordinary commits. Never changes the source.

use crate::snapshot::{Snapshot, Wait};
use crate::{Batch, Db, Error};

/// What one commit of the copy holds at most; etcd's defrag commits every 10,000 keys.
const KEYS_MAX: usize = 10_000;
const BYTES_MAX: usize = 16 << 20;

/// Copies all that `src` holds into `dst`, which should be new, in bounded commits and tightly packed pages.
/// Buckets within buckets are refused, as etcd has none.
pub fn compact(src: &Snapshot, dst: &Db) -> Result<(), Error> {
    let mut batch = Batch::new();
    let mut bytes = 0;
    for name in src.buckets(Wait::Yes)? {
        batch.create_bucket(&name);
        if let Some((_, sequence)) = src.bucket(&name, Wait::Yes)?
            && sequence != 0
        {
            batch.set_sequence(&name, sequence);
        }
        let mut cursor = src.cursor(&name, Wait::Yes)?;
        let mut row = cursor.first()?;
        while let Some((key, value)) = row {
            if cursor.is_at_bucket() {
                return Err(src.pin.inner.pager.incompatible(&key));
            }
            bytes += key.len() + value.len();
            batch.put(&name, key, value);
            if batch.len() >= KEYS_MAX || bytes >= BYTES_MAX {
                dst.commit(&batch)?;
                (batch, bytes) = (Batch::new(), 0);
            }
            row = cursor.next()?;
        }
    }
    dst.commit(&batch)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use disk::mem::MemDisk;

    use super::*;
    use crate::Options;

    #[test]
    fn sequence_numbers_survive_commits_and_the_copy() {
        let disk = MemDisk::new().shared();
        let open = |path| Db::open(&disk, Path::new(path), Options::default()).unwrap();
        let db = open("/a");
        let mut batch = Batch::new();
        batch.create_bucket(b"b");
        batch.set_sequence(b"b", 77);
        db.commit(&batch).unwrap();
        let mut batch = Batch::new();
        for n in 0..2000u32 {
            batch.put(
                b"b",
                Bytes::copy_from_slice(&n.to_be_bytes()),
                Bytes::from_static(b"value"),
            );
        }
        db.commit(&batch).unwrap();
        let copy = open("/b");
        compact(&db.snapshot(), &copy).unwrap();
        for db in [&db, &copy] {
            assert_eq!(db.snapshot().bucket(b"b", Wait::Yes).unwrap().unwrap().1, 77);
        }
    }
}
