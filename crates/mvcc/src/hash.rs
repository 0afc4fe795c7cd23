//! The hashes by which members compare their stores: CRC-32C over rows as they are stored.
//! etcd: server/storage/mvcc/hash.go, server/storage/backend/backend.go.

use bbolt::{Snapshot, Wait};
use bytes::Bytes;

use crate::index::KeyIndex;
use crate::recent::RecentWrites;
use crate::restore::restore;
use crate::schema::{self, KEY, META};
use crate::{Error, Record, Rev, RevKey, View};

/// Hashes of compactions that are kept.
pub(crate) const HASHES_MAX: usize = 10;
/// Rows a step of a hash that is computed in one go.
const STEP_ROWS: usize = 1 << 16;

/// A hash of the bucket `key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction it regards: rows that it deletes are left out.
    pub compact_revision: i64,
    /// The revision up to which rows count.
    pub revision: i64,
}

/// Decides which rows count, and hashes them.
#[derive(Clone, Debug)]
pub(crate) struct KvHasher {
    crc: u32,
    compact_revision: i64,
    revision: i64,
    /// Whether anything is kept at all; if not, compacted rows count.
    pub(crate) keeps_any: bool,
}

impl KvHasher {
    pub(crate) fn new(compact_revision: i64, revision: i64) -> KvHasher {
        KvHasher {
            crc: crc32c::crc32c(KEY.as_bytes()),
            compact_revision,
            revision,
            keeps_any: false,
        }
    }

    /// Regards a row. `is_kept` matters only for rows up to the compaction.
    pub(crate) fn row(&mut self, at: RevKey, is_kept: bool, key: &[u8], value: &[u8]) {
        let main = at.rev.main;
        if main > self.revision || main <= self.compact_revision && self.keeps_any && !is_kept {
            return;
        }
        // Versions before 3.5.16 delete a deletion at the very revision compacted to.
        if main == self.compact_revision && at.tombstone {
            return;
        }
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, key), value);
    }

    pub(crate) fn finish(&self) -> KeyValueHash {
        KeyValueHash {
            hash: self.crc,
            compact_revision: self.compact_revision,
            revision: self.revision,
        }
    }
}

/// A HashKV under way, over one view; takes steps of bounded length.
pub struct HashKv {
    index: KeyIndex,
    recent: RecentWrites,
    db: Snapshot,
    committed: i64,
    current: i64,
    hasher: KvHasher,
    /// Revisions up to the compaction that are kept, descending once the rows are being read.
    kept: Vec<Rev>,
    stage: Stage,
}

enum Stage {
    /// Collects what is kept, from this key on.
    Keys(Vec<u8>),
    /// Hashes rows of the file, from this revision on.
    File(Rev),
    /// Hashes rows that are not in the file yet.
    Memory(Rev),
    Done(KeyValueHash),
}

impl HashKv {
    pub(crate) fn new(view: &View, revision: i64) -> Result<HashKv, Error> {
        // A compaction's hash regards the compaction before it: what is asked for is what it found.
        let cached = view.hashes.iter().find(|hash| hash.revision == revision);
        if cached.is_none() && revision > 0 && revision < view.compact_revision {
            return Err(Error::Compacted);
        }
        if cached.is_none() && revision > view.revision {
            return Err(Error::FutureRevision);
        }
        let up_to = if revision == 0 { view.revision } else { revision };
        Ok(HashKv {
            index: view.index.clone(),
            recent: view.recent.clone(),
            db: view.db.clone(),
            committed: view.committed_revision,
            current: view.revision,
            hasher: KvHasher::new(view.compact_revision, up_to),
            kept: Vec::new(),
            stage: cached.map_or(Stage::Keys(Vec::new()), |hash| Stage::Done(*hash)),
        })
    }

    /// The store's revision, for the response header.
    pub fn current_revision(&self) -> i64 {
        self.current
    }

    /// Regards at most `rows_max` more rows or keys; the hash when done. After [`Error::WouldBlock`], call again with `Wait::Yes`.
    pub fn step(&mut self, rows_max: usize, wait: Wait) -> Result<Option<KeyValueHash>, Error> {
        match &self.stage {
            Stage::Keys(from) => {
                let from = from.clone();
                self.stage = self.keys(&from, rows_max);
            }
            Stage::File(from) => self.stage = self.file(*from, rows_max.max(1), wait)?,
            Stage::Memory(from) => self.stage = self.memory(*from, rows_max.max(1)),
            Stage::Done(hash) => return Ok(Some(*hash)),
        }
        match &self.stage {
            Stage::Done(hash) => Ok(Some(*hash)),
            _ => Ok(None),
        }
    }

    /// The hash, in one go.
    pub fn finish(mut self, wait: Wait) -> Result<KeyValueHash, Error> {
        loop {
            if let Some(hash) = self.step(STEP_ROWS, wait)? {
                return Ok(hash);
            }
        }
    }

    fn keys(&mut self, from: &[u8], keys_max: usize) -> Stage {
        let compact_revision = self.hasher.compact_revision;
        let next = self
            .index
            .visit_kept(from, self.hasher.revision, keys_max, |rev, tombstone| {
                // Unlike for a compaction, a deletion does not count as kept: mvcc/key_index.go keep.
                if !tombstone {
                    self.hasher.keeps_any = true;
                    // What came after the compaction counts, kept or not.
                    self.kept.extend((rev.main <= compact_revision).then_some(rev));
                }
            });
        match next {
            Some(next) => Stage::Keys(next),
            None => {
                self.kept.sort_unstable_by(|a, b| b.cmp(a));
                Stage::File(Rev::default())
            }
        }
    }

    fn file(&mut self, from: Rev, rows_max: usize, wait: Wait) -> Result<Stage, Error> {
        let after = Rev::new(self.committed.saturating_add(1), 0);
        let mut cursor = self.db.cursor(KEY.as_bytes(), wait)?;
        let mut next = cursor.seek(&from.to_bytes())?;
        let mut from = from;
        for _ in 0..rows_max {
            let Some((key, value)) = next else {
                return Ok(Stage::Memory(after));
            };
            let at = RevKey::decode(&key)?;
            if at.rev.main > self.hasher.revision {
                return Ok(Stage::Done(self.hasher.finish()));
            }
            self.row(at, &key, &value);
            from = Rev::new(at.rev.main, at.rev.sub.saturating_add(1));
            next = match cursor.next() {
                Ok(next) => next,
                // What is hashed so far stays hashed: go on from here.
                Err(bbolt::Error::WouldBlock) => {
                    self.stage = Stage::File(from);
                    return Err(Error::WouldBlock);
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Stage::File(from))
    }

    fn memory(&mut self, from: Rev, rows_max: usize) -> Stage {
        let recent = self.recent.clone();
        let up_to = self.hasher.revision;
        let mut rows = recent
            .iter_from(from)
            .take_while(|row| row.key.rev.main <= up_to)
            .peekable();
        for _ in 0..rows_max {
            let Some(row) = rows.next() else { break };
            let key = row.key.rev.to_tombstone_bytes();
            let len = RevKey::LEN + usize::from(row.key.tombstone);
            let is_kept =
                row.key.rev.main <= self.hasher.compact_revision && is_next(&mut self.kept, row.key.rev);
            self.hasher.row(row.key, is_kept, &key[..len], &row.record);
        }
        let next = rows.peek().map(|row| row.key.rev);
        next.map_or_else(|| Stage::Done(self.hasher.finish()), Stage::Memory)
    }

    fn row(&mut self, at: RevKey, key: &[u8], value: &[u8]) {
        let is_kept = at.rev.main <= self.hasher.compact_revision && is_next(&mut self.kept, at.rev);
        self.hasher.row(at, is_kept, key, value);
    }
}

/// Whether `rev` is the next of the kept ones; those before are passed.
fn is_next(kept: &mut Vec<Rev>, rev: Rev) -> bool {
    while kept.last().is_some_and(|kept| *kept < rev) {
        kept.pop();
    }
    kept.last() == Some(&rev)
}

/// A hash of all buckets under way.
pub struct Hash {
    db: Snapshot,
    /// Whether rows are left out that members need not agree on.
    for_members: bool,
    crc: u32,
    /// Buckets yet to do, the last first; where in it to go on.
    buckets: Option<Vec<Bytes>>,
    after: Option<Bytes>,
}

impl Hash {
    pub(crate) fn new(db: Snapshot, for_members: bool) -> Hash {
        Hash {
            db,
            for_members,
            crc: 0,
            buckets: None,
            after: None,
        }
    }

    /// Regards at most `rows_max` more rows; the hash when done.
    pub fn step(&mut self, rows_max: usize, wait: Wait) -> Result<Option<u32>, Error> {
        let buckets = match &mut self.buckets {
            Some(buckets) => buckets,
            none => {
                let mut names = self.db.buckets(wait)?;
                names.reverse();
                none.insert(names)
            }
        };
        let Some(bucket) = buckets.last().cloned() else {
            return Ok(Some(self.crc));
        };
        let mut cursor = self.db.cursor(&bucket, wait)?;
        let mut crc = self.crc;
        let mut next = match &self.after {
            None => {
                crc = crc32c::crc32c_append(crc, &bucket);
                cursor.first()?
            }
            Some(after) => {
                cursor.seek(after)?;
                cursor.next()?
            }
        };
        let mut after = self.after.clone();
        for _ in 0..rows_max.max(1) {
            let Some((key, value)) = next else { break };
            if !self.for_members || !is_own(&bucket, &key) {
                crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &key), &value);
            }
            after = Some(key);
            next = cursor.next()?;
        }
        self.crc = crc;
        self.after = after;
        if next.is_none() {
            self.after = None;
            buckets.pop();
            if buckets.is_empty() {
                return Ok(Some(self.crc));
            }
        }
        Ok(None)
    }
}

/// Rows that differ between members that agree. etcd: storage/schema/bucket.go DefaultIgnores.
fn is_own(bucket: &[u8], key: &[u8]) -> bool {
    let own: [&[u8]; 3] = [schema::CONSISTENT_INDEX, schema::TERM, schema::STORAGE_VERSION];
    bucket == META.as_bytes() && own.contains(&key)
}

/// HashKV of a file that no member has open, as `etcdutl hashkv` computes it (0: the newest revision).
pub fn hash_kv_of_file(db: &Snapshot, revision: i64) -> Result<KeyValueHash, Error> {
    let restored = restore(db)?;
    // A scheduled compaction counts as soon as the store is open.
    let scheduled = restored.compactions.scheduled.unwrap_or(-1);
    let view = View {
        revision: restored.revision,
        compact_revision: restored.compact_revision.max(scheduled),
        applied_index: 0,
        applied_term: 0,
        db: db.clone(),
        extra: std::sync::Arc::new(()),
        hashes: std::sync::Arc::default(),
        index: restored.index,
        recent: RecentWrites::empty(),
        committed_revision: restored.revision,
    };
    view.hash_kv(revision)?.finish(Wait::Yes)
}

/// What a walk over a whole file finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// CRC-32C over all buckets and rows.
    pub hash: u32,
    /// Main revision of the last row of the bucket `key`; 0 if it has none.
    pub revision: i64,
    /// Keys that are there at that revision.
    pub keys: u64,
    /// Rows of all buckets.
    pub rows: u64,
    /// Rows of the bucket `key`.
    pub revisions: u64,
}

/// Walks a whole file, as `etcdutl snapshot status` does. Every row of the bucket `key` is decoded.
pub fn status_of_file(db: &Snapshot) -> Result<FileStatus, Error> {
    let mut status = FileStatus::default();
    let mut keys = std::collections::BTreeSet::new();
    for bucket in db.buckets(Wait::Yes)? {
        status.hash = crc32c::crc32c_append(status.hash, &bucket);
        let mut cursor = db.cursor(&bucket, Wait::Yes)?;
        let mut next = cursor.first()?;
        while let Some((key, value)) = next {
            status.hash = crc32c::crc32c_append(crc32c::crc32c_append(status.hash, &key), &value);
            status.rows += 1;
            if bucket[..] == *KEY.as_bytes() {
                let at = RevKey::decode(&key)?;
                let record = Record::decode(&value)
                    .ok_or_else(|| Error::corrupt(KEY, &key, "the value is not a key-value pair"))?;
                status.revision = at.rev.main;
                status.revisions += 1;
                if at.tombstone {
                    keys.remove(record.key);
                } else if !keys.contains(record.key) {
                    keys.insert(record.key.to_vec());
                }
            }
            next = cursor.next()?;
        }
    }
    status.keys = keys.len() as u64;
    Ok(status)
}
