//! Reading the index from the data file. etcd: server/storage/mvcc/kvstore.go restore.

use bbolt::{Snapshot, Wait};
use bytes::Bytes;

use crate::index::{Bulk, KeyIndex, Row, VERSION_LIMIT};
use crate::schema::{self, Compactions, KEY};
use crate::{Error, Record, Rev, RevKey};

/// What a data file says.
pub(crate) struct Restored {
    pub index: KeyIndex,
    /// Main revision of the last change.
    pub revision: i64,
    /// Revision of the last finished compaction; −1 if there was none.
    pub compact_revision: i64,
    pub compactions: Compactions,
    /// The keys that hold a lease, by lease and key.
    pub attached: Vec<(i64, Bytes)>,
}

/// Walks all revisions once.
pub(crate) fn restore(db: &Snapshot) -> Result<Restored, Error> {
    let compactions = schema::compactions(db)?;
    let compact_revision = compactions.finished.unwrap_or(-1);
    let mut bulk = Bulk::default();
    let mut leased: Vec<(i64, Rev, Bytes)> = Vec::new();
    let mut last = 1;
    let mut cursor = db.cursor(KEY.as_bytes(), Wait::Yes)?;
    let mut next = cursor.seek(&Rev::new(1, 0).to_bytes())?;
    while let Some((row_key, value)) = next {
        let at = RevKey::decode(&row_key)?;
        let record = decode(&row_key, at, &value)?;
        let sub = u32::try_from(at.rev.sub)
            .map_err(|_| Error::corrupt(KEY, &row_key, "a transaction has fewer than 2^32 changes"))?;
        let row = Row {
            main: at.rev.main,
            sub,
            create: record.create,
            version: record.version,
            leased: record.lease != 0,
            tombstone: at.tombstone,
        };
        if row.leased && !row.tombstone {
            leased.push((record.lease, at.rev, Bytes::copy_from_slice(record.key)));
        }
        bulk.push(record.key, row);
        last = at.rev.main;
        next = cursor.next()?;
    }
    let index = bulk.finish();
    // Only what the newest revision of a key says of leases counts.
    let newest = |key: &[u8]| index.get(key, i64::MAX).map(|info| info.modified);
    let mut attached: Vec<_> = leased
        .into_iter()
        .filter(|(_, rev, key)| newest(key) == Some(*rev))
        .map(|(lease, _, key)| (lease, key))
        .collect();
    attached.sort_unstable();
    // The last rows may all be compacted away, also by a compaction that was not finished.
    let revision = last.max(compact_revision).max(compactions.scheduled.unwrap_or(0));
    Ok(Restored {
        index,
        revision,
        compact_revision,
        compactions,
        attached,
    })
}

/// A row's value, as far as its form can tell whether it is what etcd wrote.
fn decode<'a>(row_key: &[u8], at: RevKey, value: &'a [u8]) -> Result<Record<'a>, Error> {
    let corrupt = |why: &str| Error::corrupt(KEY, row_key, why);
    if value.is_empty() && !at.tombstone {
        // `etcdutl snapshot restore --bump-revision` leaves such a row to hold the new revision.
        // It belongs to the key that no client can name, so only hashes and compactions meet it.
        let main = at.rev.main;
        return Ok(Record {
            create: main,
            modified: main,
            version: 1,
            ..Record::default()
        });
    }
    let record = Record::decode(value).ok_or_else(|| corrupt("the value is not a key-value pair"))?;
    if record.key.is_empty() {
        return Err(corrupt("the pair has no key"));
    }
    if !at.tombstone && record.modified != at.rev.main {
        return Err(corrupt("the pair names another revision"));
    }
    if !at.tombstone && !(1..VERSION_LIMIT).contains(&record.version) {
        return Err(corrupt("the pair's version is out of range"));
    }
    Ok(record)
}
