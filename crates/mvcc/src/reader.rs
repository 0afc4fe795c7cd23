//! Reading at a revision: the same code for published views and for the store's own state.

use bytes::Bytes;

use crate::index::{KeyIndex, KeyRange};
use crate::recent::RecentWrites;
use crate::schema::KEY;
use crate::{Error, KeyInfo, RangeOptions, RangeResult, Rev, Wait, range};

/// Reads keys and pairs at any revision between the compacted and the current one.
pub struct Reader<'a> {
    pub(crate) index: &'a KeyIndex,
    pub(crate) recent: &'a RecentWrites,
    pub(crate) db: &'a bbolt::Snapshot,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

impl Reader<'_> {
    /// The current revision: the newest that can be read.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision of the last compaction; −1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Refuses a revision that is compacted or in the future; 0 and less means the current one. Returns the
    /// revision to read at.
    pub fn check_revision(&self, revision: i64) -> Result<i64, Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        let at = if revision <= 0 { self.revision } else { revision };
        if at < self.compact_revision {
            return Err(Error::Compacted);
        }
        Ok(at)
    }

    /// Answers a range request, with etcd's rules for limit, order, filters and count.
    pub fn range(&self, options: &RangeOptions<'_>, wait: Wait) -> Result<RangeResult, Error> {
        range::execute(self, options, wait)
    }

    /// What the index knows of a key at a revision (which must be readable); needs no file access.
    pub fn info(&self, key: &[u8], at: i64) -> Option<KeyInfo> {
        self.index.get(key, at)
    }

    /// Calls `found` with each key of the range that is there at revision `at`, ascending, until it
    /// returns `false`; needs no file access.
    pub fn visit(&self, key: &[u8], range_end: &[u8], at: i64, found: impl FnMut(&[u8], &KeyInfo) -> bool) {
        self.index.visit(KeyRange::new(key, range_end), at, found);
    }

    /// How many keys of the range are there at a revision (which must be readable); needs no file access.
    pub fn count(&self, key: &[u8], range_end: &[u8], at: i64) -> i64 {
        self.index.count(KeyRange::new(key, range_end), at) as i64
    }

    /// How many keys [`Reader::visit`] looks at for the whole range at most, counted up to `keys_max`.
    pub fn visit_cost(&self, key: &[u8], range_end: &[u8], keys_max: usize) -> usize {
        self.index
            .walk_len(KeyRange::new(key, range_end), i64::MIN, keys_max)
    }

    /// How many keys [`Reader::count`] looks at, counted up to `keys_max`: where nothing is newer than `at`, sums are
    /// kept.
    pub fn count_cost(&self, key: &[u8], range_end: &[u8], at: i64, keys_max: usize) -> usize {
        self.index.walk_len(KeyRange::new(key, range_end), at, keys_max)
    }

    /// The encoded pair of a put at exactly this revision, which the index has named.
    pub fn record(&self, rev: Rev, wait: Wait) -> Result<Bytes, Error> {
        if let Some(record) = self.recent.get(rev) {
            return Ok(record.clone());
        }
        let row = rev.to_bytes();
        self.db
            .get(KEY.as_bytes(), &row, wait)?
            .ok_or_else(|| missing(rev))
    }

    /// The encoded pairs of many revisions, in the order asked for; each page of the file is visited once.
    pub fn records(&self, revs: &[Rev], wait: Wait) -> Result<Vec<Bytes>, Error> {
        let oldest = self.recent.oldest().unwrap_or(Rev::new(i64::MAX, 0));
        let mut records = vec![Bytes::new(); revs.len()];
        let mut in_file: Vec<(Rev, usize)> = Vec::new();
        for (place, &rev) in revs.iter().enumerate() {
            let in_memory = if rev < oldest { None } else { self.recent.get(rev) };
            match in_memory {
                Some(record) => records[place] = record.clone(),
                None => in_file.push((rev, place)),
            }
        }
        in_file.sort_unstable();
        in_file.dedup_by_key(|(rev, _)| *rev);
        let rows: Vec<[u8; 17]> = in_file.iter().map(|(rev, _)| rev.to_bytes()).collect();
        let mut found = 0;
        let mut skipped = None;
        self.db.get_many(KEY.as_bytes(), &rows, wait, |at, record| {
            if at != found {
                skipped.get_or_insert(found);
            }
            found = at + 1;
            records[in_file[at].1] = record;
        })?;
        if found < rows.len() {
            skipped.get_or_insert(found);
        }
        match skipped {
            Some(at) => Err(missing(in_file[at].0)),
            None => Ok(records),
        }
    }

    /// The encoded pair of a key at a revision (which must be readable).
    pub fn get(&self, key: &[u8], at: i64, wait: Wait) -> Result<Option<Bytes>, Error> {
        self.info(key, at)
            .map(|info| self.record(info.modified, wait))
            .transpose()
    }
}

/// The index names a revision that is nowhere.
fn missing(rev: Rev) -> Error {
    Error::corrupt(KEY, &rev.to_bytes(), "a revision that the index names is missing")
}
