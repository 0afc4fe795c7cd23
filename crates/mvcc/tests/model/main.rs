//! The store against a plain list of all revisions: random writes, reads of every kind, compactions, commits that
//! succeed, lag or fail, restarts.
//!
//! `MVCC_MODEL_STEPS` and `MVCC_MODEL_SEED` make it longer, and other.

#![allow(clippy::unwrap_used)]

mod naive;

use std::path::Path;
use std::sync::Arc;

use api::mvccpb::KeyValue;
use bytes::Bytes;
use disk::Disk;
use disk::mem::{CrashMode, MemDisk};
use mvcc::{
    CommitJob, CompactionNext, CompactionScan, Error, HistoryLimits, RangeOptions, Reader, Rev, SortOrder,
    SortTarget, Store, StoreOptions, View, ViewSource, Wait,
};
use naive::Naive;
use prost::Message;

const ENOSPC: i32 = 28;

struct Run {
    random: fastrand::Rng,
    disk: MemDisk,
    options: StoreOptions,
    store: Store,
    source: ViewSource,
    naive: Naive,
    /// What the file holds.
    durable: Naive,
    job: Option<(CommitJob, Naive)>,
    scan: Option<Box<CompactionScan>>,
    /// What a compaction that is scheduled and not finished must find as its hash.
    hashes_due: Vec<(i64, Option<mvcc::KeyValueHash>)>,
    hashes: Vec<mvcc::KeyValueHash>,
    views: Vec<(Arc<View>, Naive, Vec<mvcc::KeyValueHash>)>,
    index: u64,
    published: i64,
    failed_commits: usize,
}

fn open(disk: &MemDisk, options: &StoreOptions) -> (Store, ViewSource) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let bolt = bbolt::Options {
        page_size: Some(1024),
        cache_bytes_max: 1 << 20,
        ..bbolt::Options::default()
    };
    let db = bbolt::Db::open(&shared, Path::new("/d/db"), bolt).unwrap();
    Store::open(db, options.clone()).unwrap()
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.settle();
        let mut random = fastrand::Rng::with_seed(seed);
        let options = StoreOptions {
            recent_bytes_max: random.usize(0..40_000),
            compaction_batch: random.usize(1..50),
        };
        let (store, source) = open(&disk, &options);
        Run {
            random,
            disk,
            options,
            store,
            source,
            naive: Naive::new(),
            durable: Naive::new(),
            job: None,
            scan: None,
            hashes_due: Vec::new(),
            hashes: Vec::new(),
            views: Vec::new(),
            index: 0,
            published: 1,
            failed_commits: 0,
        }
    }

    fn step(&mut self) {
        match self.random.u8(0..100) {
            0..50 => self.write(),
            50..65 => self.publish(),
            65..75 => self.commit(),
            75..78 => self.schedule(),
            78..90 => self.compact(),
            90..98 => self.check_current(),
            98 => self.check_old_view(),
            _ if self.random.u8(0..4) == 0 => self.reopen(),
            _ => self.backend(),
        }
    }

    /// One entry: some puts and deletions, with ranges between.
    fn write(&mut self) {
        let mut txn = self.store.begin();
        let main = txn.begin_revision() + 1;
        assert_eq!(main, self.naive.revision + 1);
        let mut touched: Vec<Vec<u8>> = Vec::new();
        let mut sub = 0;
        for _ in 0..self.random.usize(1..4) {
            let number = self.random.u8(0..40);
            let key = format!("k{number:02}").into_bytes();
            let len = [0, 1, 20, 200, 3000][self.random.usize(0..5)];
            let value = vec![self.random.alphanumeric() as u8; len];
            if self.random.u8(0..4) > 0 {
                if touched.contains(&key) {
                    continue;
                }
                let lease = i64::from(self.random.u8(0..3));
                let before = self.naive.get(&key, main).cloned();
                self.naive.put(Rev::new(main, sub), &key, &value, lease);
                let put = txn.put(&key, &value, lease);
                assert_eq!(
                    (put.revision, put.record.as_ref()),
                    (main, &self.naive.rows.last().unwrap().kv.encode_to_vec()[..])
                );
                let previous = put
                    .previous
                    .map(|info| (info.modified.main, info.create, info.version, info.leased));
                let expected =
                    before.map(|kv| (kv.mod_revision, kv.create_revision, kv.version, kv.lease != 0));
                assert_eq!(previous, expected);
                touched.push(key);
                sub += 1;
            } else {
                let end = if self.random.bool() {
                    Vec::new()
                } else {
                    format!("k{:02}", number + 3).into_bytes()
                };
                // A key is written once in a transaction: the front sees to it.
                if touched.iter().any(|touched| mvcc::covers(&key, &end, touched)) {
                    continue;
                }
                let victims = self.naive.keys(&key, &end, main);
                let deleted = txn.delete_range(&key, &end);
                let keys: Vec<_> = deleted
                    .iter()
                    .map(|deleted| (deleted.key.clone(), deleted.previous.version))
                    .collect();
                assert_eq!(
                    keys,
                    victims
                        .iter()
                        .map(|kv| (kv.key.clone(), kv.version))
                        .collect::<Vec<_>>()
                );
                for kv in victims {
                    self.naive.delete(Rev::new(main, sub), &kv.key);
                    touched.push(kv.key.to_vec());
                    sub += 1;
                }
            }
            assert_eq!(txn.revision(), main - i64::from(sub == 0));
            let all = txn
                .range(&RangeOptions {
                    range_end: &[0],
                    ..RangeOptions::default()
                })
                .unwrap();
            assert_eq!(decode(&all.kvs), self.naive.keys(b"", &[0], main));
        }
        assert_eq!((txn.changes() as i64, txn.end()), (sub, sub > 0));
        self.naive.revision = main - i64::from(sub == 0);
        self.applied();
    }

    fn applied(&mut self) {
        self.index += 1;
        self.naive.consistent = (self.index, 1 + self.index / 100);
        self.store.set_consistent(self.index, 1 + self.index / 100);
    }

    fn backend(&mut self) {
        let key = format!("row{}", self.random.u8(0..5)).into_bytes();
        if self.random.bool() {
            self.store.backend().put("lease", &key, b"value");
            self.naive.meta.insert(key, b"value".to_vec());
        } else {
            self.store.backend().delete("lease", &key);
            self.naive.meta.remove(&key);
        }
        self.applied();
        self.check_backend();
    }

    fn check_backend(&mut self) {
        let rows: Vec<(Vec<u8>, Vec<u8>)> = self
            .store
            .backend()
            .scan("lease")
            .unwrap()
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(rows, self.naive.meta.clone().into_iter().collect::<Vec<_>>());
        for number in 0..5 {
            let key = format!("row{number}").into_bytes();
            let value = self.store.backend().get("lease", &key).unwrap();
            assert_eq!(
                value.map(|value| value.to_vec()),
                self.naive.meta.get(&key).cloned()
            );
        }
    }

    fn publish(&mut self) {
        let published = self.store.publish();
        let events: Vec<(Rev, Vec<u8>, Vec<u8>)> = published
            .events
            .events
            .iter()
            .map(|event| {
                let view = &published.view;
                let with_previous = event
                    .encoded_with_previous(|| view.previous(event, Wait::Yes))
                    .unwrap()
                    .to_vec();
                (event.rev, event.encoded().to_vec(), with_previous)
            })
            .collect();
        assert_eq!(events, self.naive.events(self.published + 1, self.naive.revision));
        self.published = self.naive.revision;
        assert_eq!(
            (published.view.applied_index, published.view.applied_term),
            self.naive.consistent
        );
        if self.random.u8(0..10) == 0 {
            self.views
                .push((published.view, self.naive.clone(), self.hashes.clone()));
        }
    }

    fn commit(&mut self) {
        let Some((job, durable)) = self.job.take() else {
            let force = self.random.bool();
            self.job = self.store.take_commit(force).map(|job| (job, self.naive.clone()));
            assert!(self.job.is_some() || !force || self.durable.consistent == self.naive.consistent);
            return;
        };
        if self.random.u8(0..5) == 0 {
            self.disk.fail_at(self.disk.steps() + 1, ENOSPC);
        }
        let index = job.index();
        let done = job.run();
        if done.is_ok() {
            self.store.committed(done).unwrap();
            self.durable = durable;
            assert_eq!(self.store.committed_consistent().0, index);
        } else {
            self.failed_commits += 1;
            let Err(Error::Backend(error)) = self.store.committed(done) else {
                panic!("a full disk")
            };
            assert!(error.is_out_of_space(), "{error}");
        }
        self.check_backend();
    }

    fn commit_all(&mut self) {
        if let Some((job, _)) = self.job.take() {
            self.store.committed(job.run()).unwrap();
        }
        if let Some(job) = self.store.take_commit(true) {
            self.store.committed(job.run()).unwrap();
        }
        self.durable = self.naive.clone();
    }

    fn schedule(&mut self) {
        let newest = self.naive.revision;
        let at = self.random.i64((newest - 60).max(0)..=newest + 1);
        let result = self.store.schedule_compaction(at);
        if at <= self.naive.compact_revision {
            assert!(matches!(result, Err(Error::Compacted)));
        } else if at > newest {
            assert!(matches!(result, Err(Error::FutureRevision)));
        } else {
            result.unwrap();
            let kept = self.naive.kept(at, true);
            let hash = self.naive.hash(self.naive.compact_revision, at, &kept);
            self.hashes_due
                .push((at, self.hashes_due.is_empty().then_some(hash)));
            self.naive.compact_revision = at;
        }
        self.applied();
    }

    fn compact(&mut self) {
        for _ in 0..self.random.usize(1..20) {
            if let Some(mut scan) = self.scan.take() {
                scan.run().unwrap();
                if let Some(done) = self.store.compaction_scanned(*scan).unwrap() {
                    let (revision, hash) = self.hashes_due.remove(0);
                    let kept = done.covers_all.then_some(done.hash);
                    assert_eq!((done.revision, kept), (revision, hash));
                    self.hashes.extend(hash);
                    if self.hashes.len() > 10 {
                        self.hashes.remove(0);
                    }
                }
            }
            match self.store.compaction_next() {
                CompactionNext::Idle => assert!(self.hashes_due.is_empty()),
                CompactionNext::Again => {}
                CompactionNext::Waits => assert!(self.store.pending().urgent),
                CompactionNext::Scan(scan) => {
                    if self.random.bool() {
                        assert!(matches!(self.store.compaction_next(), CompactionNext::Waits));
                    }
                    self.scan = Some(scan);
                }
            }
        }
    }

    fn check_current(&mut self) {
        let Run {
            random, store, naive, ..
        } = self;
        check_ranges(random, &store.reader(), naive);
        if self.random.u8(0..5) == 0 {
            self.publish();
            let (view, naive, hashes) = (self.source.load(), self.naive.clone(), self.hashes.clone());
            self.check_view(&view, &naive, &hashes);
        }
    }

    fn check_old_view(&mut self) {
        if !self.views.is_empty() {
            let place = self.random.usize(0..self.views.len());
            let (view, naive, hashes) = self.views.swap_remove(place);
            check_ranges(&mut self.random, &view.reader(), &naive);
            self.check_view(&view, &naive, &hashes);
        }
    }

    fn check_view(&mut self, view: &View, naive: &Naive, hashes: &[mvcc::KeyValueHash]) {
        assert_eq!(
            (view.revision, view.compact_revision),
            (naive.revision, naive.compact_revision)
        );
        assert_eq!(view.hashes.as_slice(), hashes);
        for _ in 0..3 {
            let at = if self.random.bool() {
                0
            } else {
                self.random.i64(0..=naive.revision + 1)
            };
            let expected = hashes
                .iter()
                .find(|hash| hash.revision == at)
                .map_or_else(|| naive.hash_kv(at), |hash| Ok(*hash));
            let rows = self.random.usize(1..200);
            assert_eq!(
                hash_kv(view, at, rows),
                expected,
                "hash at {at}, {rows} rows a step"
            );
        }
        let from = self
            .random
            .i64(naive.compact_revision.max(0)..=naive.revision + 1);
        let to = self.random.i64(from - 1..=naive.revision + 2);
        let limits = HistoryLimits {
            bytes_max: self.random.usize(0..5000),
            rows_max: self.random.usize(1..60),
        };
        let mut next = from;
        let mut events = Vec::new();
        while next <= to.min(naive.revision) {
            let history = view
                .history(next, to, limits, &mut |key| key != b"k05", Wait::Yes)
                .unwrap();
            assert!(history.next > next);
            next = history.next;
            assert!(history.events.iter().all(|event| event.rev.main < next));
            for event in &history.events {
                let with_previous = event
                    .encoded_with_previous(|| view.previous(event, Wait::Yes))
                    .unwrap();
                events.push((event.rev, event.encoded().to_vec(), with_previous.to_vec()));
            }
        }
        let mut expected = naive.events(from, to);
        expected.retain(|(rev, ..)| {
            naive
                .rows
                .iter()
                .any(|row| row.rev == *rev && row.kv.key != b"k05"[..])
        });
        assert_eq!(events, expected, "history {from}..={to}, {limits:?}");
        if naive.compact_revision > 0 {
            let compacted = view.history(naive.compact_revision - 1, to, limits, &mut |_| true, Wait::Yes);
            assert!(matches!(compacted, Err(Error::Compacted)));
        }
    }

    fn reopen(&mut self) {
        if self.random.bool() {
            self.commit_all();
        }
        (self.job, self.scan) = (None, None);
        self.views.clear();
        self.naive = self.durable.clone();
        // A crash: what was not synced may be there or not. The old store's lock stays with the old disk.
        self.disk = self.disk.crash(self.random.u64(..), CrashMode::Any);
        let (store, source) = open(&self.disk, &self.options);
        (self.store, self.source) = (store, source);
        (self.hashes, self.index, self.published) =
            (Vec::new(), self.naive.consistent.0, self.naive.revision);
        assert_eq!(
            (self.store.revision(), self.store.compact_revision()),
            (self.naive.revision, self.naive.compact_revision)
        );
        assert_eq!(self.store.consistent(), self.naive.consistent);
        let mut attached: Vec<(i64, Bytes)> = self
            .naive
            .keys(b"", &[0], self.naive.revision)
            .into_iter()
            .map(|kv| (kv.lease, kv.key))
            .collect();
        attached.retain(|(lease, _)| *lease != 0);
        attached.sort();
        assert_eq!(self.store.take_attached(), attached);
        // A resumed compaction's hash is not kept.
        self.hashes_due = self
            .store
            .compactions()
            .into_iter()
            .map(|at| (at, None))
            .collect();
        self.check_backend();
        self.check_current();
    }

    /// Finishes everything, and looks at the file itself.
    fn finish(&mut self) {
        self.compact_all();
        self.commit_all();
        self.publish();
        let view = self.source.load();
        let mut cursor = view.db.cursor(b"key", Wait::Yes).unwrap();
        let mut row = cursor.first().unwrap();
        for left in self.naive.left() {
            let (key, value) = row.unwrap();
            let expected = if left.tombstone {
                left.rev.to_tombstone_bytes().to_vec()
            } else {
                left.rev.to_bytes().to_vec()
            };
            assert_eq!(
                (key.to_vec(), value.to_vec()),
                (expected, left.kv.encode_to_vec())
            );
            row = cursor.next().unwrap();
        }
        assert_eq!(row, None);
        for at in [0, self.naive.compact_revision.max(1), self.naive.revision] {
            assert_eq!(
                mvcc::hash_kv_of_file(&view.db, at).unwrap(),
                self.naive.hash_kv(at).unwrap()
            );
        }
        let status = mvcc::status_of_file(&view.db).unwrap();
        assert_eq!(
            status.keys as usize,
            self.naive.keys(b"", &[0], self.naive.revision).len()
        );
        assert_eq!(status.hash, whole_file_hash(&view.db, false));
        let mut hash = view.hash();
        let hash = std::iter::repeat_with(|| hash.step(7, Wait::Yes).unwrap()).find_map(|hash| hash);
        assert_eq!(hash, Some(whole_file_hash(&view.db, true)));
        assert_eq!(self.store.db().check(), []);
    }

    fn compact_all(&mut self) {
        while self.store.is_compacting() {
            self.compact();
            self.commit_all();
        }
    }
}

/// All buckets and rows in order, those of each member alone left out or not.
fn whole_file_hash(db: &bbolt::Snapshot, for_members: bool) -> u32 {
    let mut all = Vec::new();
    for bucket in db.buckets(Wait::Yes).unwrap() {
        all.extend_from_slice(&bucket);
        let mut cursor = db.cursor(&bucket, Wait::Yes).unwrap();
        let mut row = cursor.first().unwrap();
        while let Some((key, value)) = row {
            let own = ["consistent_index", "term", "storageVersion"]
                .iter()
                .any(|name| key[..] == *name.as_bytes());
            if !(for_members && own && bucket[..] == b"meta"[..]) {
                all.extend_from_slice(&key);
                all.extend_from_slice(&value);
            }
            row = cursor.next().unwrap();
        }
    }
    crc32c::crc32c(&all)
}

fn decode(kvs: &[Bytes]) -> Vec<KeyValue> {
    kvs.iter().map(|kv| KeyValue::decode(&kv[..]).unwrap()).collect()
}

fn hash_kv(view: &View, at: i64, rows: usize) -> Result<mvcc::KeyValueHash, &'static str> {
    let mut hash = match view.hash_kv(at) {
        Ok(hash) => hash,
        Err(Error::Compacted) => return Err("compacted"),
        Err(Error::FutureRevision) => return Err("future"),
        Err(error) => panic!("{error}"),
    };
    Ok(std::iter::repeat_with(|| hash.step(rows, Wait::Yes).unwrap())
        .find_map(|hash| hash)
        .unwrap())
}

fn check_ranges(random: &mut fastrand::Rng, reader: &Reader<'_>, naive: &Naive) {
    for _ in 0..8 {
        let key = format!("k{:02}", random.u8(0..42)).into_bytes();
        let end = match random.u8(0..4) {
            0 => Vec::new(),
            1 | 2 => vec![0],
            _ => format!("k{:02}", random.u8(0..42)).into_bytes(),
        };
        let key = if random.u8(0..3) == 0 { vec![0] } else { key };
        let mut revision = |often: u8| {
            if random.u8(0..often) > 0 {
                0
            } else {
                random.i64(0..=naive.revision + 1)
            }
        };
        let ask = RangeOptions {
            key: &key,
            range_end: &end,
            revision: revision(2),
            min_mod_revision: revision(10),
            max_mod_revision: revision(10),
            min_create_revision: revision(10),
            max_create_revision: revision(10),
            limit: if random.bool() { 0 } else { random.i64(-1..12) },
            sort_order: [
                SortOrder::None,
                SortOrder::None,
                SortOrder::Ascend,
                SortOrder::Descend,
            ][random.usize(0..4)],
            sort_target: [
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ][random.usize(0..5) * usize::from(random.bool())],
            keys_only: random.u8(0..4) == 0,
            fast_keys_only: random.bool(),
            count_only: random.u8(0..8) == 0,
            skip_total: random.u8(0..4) == 0,
        };
        match (reader.range(&ask, Wait::Yes), naive.range(&ask)) {
            (Ok(result), Ok((kvs, count, more))) => {
                assert_eq!(decode(&result.kvs), kvs, "{ask:?}");
                assert_eq!(
                    (result.count, result.more, result.revision),
                    (count, more, naive.revision),
                    "{ask:?}"
                );
                assert!(
                    result
                        .kvs
                        .iter()
                        .zip(&kvs)
                        .all(|(ours, theirs)| ours[..] == theirs.encode_to_vec()[..])
                );
            }
            (Err(Error::Compacted), Err("compacted")) | (Err(Error::FutureRevision), Err("future")) => {}
            (ours, theirs) => panic!("{ask:?}: {ours:?}, not {theirs:?}"),
        }
    }
}

fn run(seed: u64, steps: usize) {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.finish();
    assert!(run.failed_commits > 0, "the disk was never full");
}

/// etcd issue 17230: deletions not yet in the file are seen by every read.
#[test]
fn agrees_with_a_list_of_all_revisions() {
    let from_env = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let steps = from_env("MVCC_MODEL_STEPS").unwrap_or(1500);
    let seed = from_env("MVCC_MODEL_SEED").unwrap_or(1) as u64;
    for seed in seed..seed + 4 {
        run(seed, steps);
    }
}
