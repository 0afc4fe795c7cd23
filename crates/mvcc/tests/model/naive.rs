//! A plain rendering of etcd's store: a list of all revisions, searched from end to end.

use std::collections::BTreeMap;

use api::mvccpb::KeyValue;
use mvcc::{KeyValueHash, RangeOptions, Rev, SortOrder, SortTarget};
use prost::Message;

#[derive(Clone, Debug)]
pub struct Row {
    pub rev: Rev,
    pub tombstone: bool,
    pub kv: KeyValue,
    /// Version that etcd's index counts, also for a deletion.
    pub create: i64,
    pub version: i64,
}

#[derive(Clone, Debug)]
pub struct Naive {
    /// All revisions ever, compacted or not.
    pub rows: Vec<Row>,
    pub revision: i64,
    pub compact_revision: i64,
    pub consistent: (u64, u64),
    pub meta: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Naive {
    pub fn new() -> Naive {
        Naive {
            rows: Vec::new(),
            revision: 1,
            compact_revision: -1,
            consistent: (0, 0),
            meta: BTreeMap::new(),
        }
    }

    pub fn newest(&self, key: &[u8], at: i64) -> Option<&Row> {
        self.rows
            .iter()
            .rev()
            .find(|row| row.rev.main <= at && row.kv.key == key)
    }

    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.newest(key, at)
            .filter(|row| !row.tombstone)
            .map(|row| &row.kv)
    }

    pub fn put(&mut self, rev: Rev, key: &[u8], value: &[u8], lease: i64) {
        let before = self.newest(key, rev.main).filter(|row| !row.tombstone);
        let (create, version) = before.map_or((rev.main, 1), |row| (row.create, row.version + 1));
        let kv = KeyValue {
            key: key.to_vec().into(),
            create_revision: create,
            mod_revision: rev.main,
            version,
            value: value.to_vec().into(),
            lease,
        };
        self.rows.push(Row {
            rev,
            tombstone: false,
            kv,
            create,
            version,
        });
    }

    pub fn delete(&mut self, rev: Rev, key: &[u8]) {
        let before = self.newest(key, rev.main).expect("only what is there is deleted");
        let (create, version) = (before.create, before.version + 1);
        let kv = KeyValue {
            key: key.to_vec().into(),
            ..KeyValue::default()
        };
        self.rows.push(Row {
            rev,
            tombstone: true,
            kv,
            create,
            version,
        });
    }

    pub fn keys(&self, key: &[u8], range_end: &[u8], at: i64) -> Vec<KeyValue> {
        let mut newest: BTreeMap<&[u8], &Row> = BTreeMap::new();
        for row in self
            .rows
            .iter()
            .filter(|row| row.rev.main <= at && mvcc::covers(key, range_end, &row.kv.key))
        {
            newest.insert(&row.kv.key, row);
        }
        newest
            .into_values()
            .filter(|row| !row.tombstone)
            .map(|row| row.kv.clone())
            .collect()
    }

    /// Pairs, count and more; or the name of the error. Written after etcdserver/txn/range.go.
    pub fn range(&self, ask: &RangeOptions<'_>) -> Result<(Vec<KeyValue>, i64, bool), &'static str> {
        if ask.revision > self.revision {
            return Err("future");
        }
        let at = if ask.revision <= 0 {
            self.revision
        } else {
            ask.revision
        };
        if at < self.compact_revision {
            return Err("compacted");
        }
        let mut kvs = self.keys(ask.key, ask.range_end, at);
        let mut count = kvs.len() as i64;
        if ask.count_only {
            return Ok((Vec::new(), count, false));
        }
        let default_order = ask.sort_order == SortOrder::None
            || ask.sort_target == SortTarget::Key && ask.sort_order == SortOrder::Ascend;
        let filtered =
            ask.min_mod_revision + ask.max_mod_revision + ask.min_create_revision + ask.max_create_revision
                != 0;
        if default_order && !filtered && ask.limit > 0 {
            kvs.truncate(ask.limit as usize + 1);
            if ask.skip_total {
                count = kvs.len() as i64;
            }
        }
        kvs.retain(|kv| ask.max_mod_revision == 0 || kv.mod_revision <= ask.max_mod_revision);
        kvs.retain(|kv| ask.min_mod_revision == 0 || kv.mod_revision >= ask.min_mod_revision);
        kvs.retain(|kv| ask.max_create_revision == 0 || kv.create_revision <= ask.max_create_revision);
        kvs.retain(|kv| ask.min_create_revision == 0 || kv.create_revision >= ask.min_create_revision);
        let mut order = ask.sort_order;
        if ask.sort_target != SortTarget::Key && order == SortOrder::None {
            order = SortOrder::Ascend;
        }
        let compare = |a: &KeyValue, b: &KeyValue| match ask.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match order {
            SortOrder::None => {}
            SortOrder::Ascend => kvs.sort_by(compare),
            SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
        }
        let more = ask.limit > 0 && kvs.len() as i64 > ask.limit;
        if more {
            kvs.truncate(ask.limit as usize);
        }
        for kv in kvs.iter_mut().filter(|_| ask.keys_only) {
            kv.value.clear();
            if ask.fast_keys_only && ask.sort_target != SortTarget::Value {
                kv.lease = 0;
            }
        }
        Ok((kvs, count, more))
    }

    /// The revisions that a compaction at `at` keeps, of those up to it. With `tombstones`, a deletion exactly there too.
    pub fn kept(&self, at: i64, tombstones: bool) -> Vec<Rev> {
        let mut newest: BTreeMap<&[u8], &Row> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.rev.main <= at) {
            newest.insert(&row.kv.key, row);
        }
        let kept = newest
            .into_values()
            .filter(|row| !row.tombstone || tombstones && row.rev.main == at);
        kept.map(|row| row.rev).collect()
    }

    /// The rows that are in the file when all compactions are done.
    pub fn left(&self) -> Vec<&Row> {
        let kept = self.kept(self.compact_revision, true);
        self.rows
            .iter()
            .filter(|row| row.rev.main > self.compact_revision || kept.contains(&row.rev))
            .collect()
    }

    pub fn hash(&self, compact_revision: i64, revision: i64, kept: &[Rev]) -> KeyValueHash {
        let mut hash = crc32c::crc32c(b"key");
        for row in self.rows.iter().filter(|row| row.rev.main <= revision) {
            let is_compacted =
                row.rev.main <= compact_revision && !kept.is_empty() && !kept.contains(&row.rev);
            if is_compacted || row.rev.main == compact_revision && row.tombstone {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &row.rev.to_bytes());
            if row.tombstone {
                hash = crc32c::crc32c_append(hash, b"t");
            }
            hash = crc32c::crc32c_append(hash, &row.kv.encode_to_vec());
        }
        KeyValueHash {
            hash,
            compact_revision,
            revision,
        }
    }

    pub fn hash_kv(&self, revision: i64) -> Result<KeyValueHash, &'static str> {
        if revision > 0 && revision < self.compact_revision {
            return Err("compacted");
        }
        if revision > self.revision {
            return Err("future");
        }
        let revision = if revision == 0 { self.revision } else { revision };
        Ok(self.hash(self.compact_revision, revision, &self.kept(revision, false)))
    }

    /// The events of the revisions `from..=to`: type, pair, previous pair as a watcher sees it.
    pub fn events(&self, from: i64, to: i64) -> Vec<(Rev, Vec<u8>, Vec<u8>)> {
        let rows = self.rows.iter().filter(|row| (from..=to).contains(&row.rev.main));
        rows.map(|row| {
            let mut kv = row.kv.clone();
            kv.mod_revision = row.rev.main;
            let is_create = !row.tombstone && row.kv.create_revision == row.kv.mod_revision;
            let before = row.rev.main - 1;
            let readable = before >= self.compact_revision && !is_create;
            let previous = if readable {
                self.get(&row.kv.key, before).cloned()
            } else {
                None
            };
            let event = api::mvccpb::Event {
                r#type: i32::from(row.tombstone),
                kv: Some(kv),
                prev_kv: None,
            };
            let with_previous = api::mvccpb::Event {
                prev_kv: previous,
                ..event.clone()
            };
            (row.rev, event.encode_to_vec(), with_previous.encode_to_vec())
        })
        .collect()
    }
}
