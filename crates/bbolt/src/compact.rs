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
                return Err(Error::Incompatible(key.to_vec()));
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
