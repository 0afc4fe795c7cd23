//! Opening files that are not as a running store leaves them: the cases of etcd's restore, and damage.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use bbolt::{Batch, Db};
use bytes::Bytes;
use disk::Disk;
use disk::mem::MemDisk;
use mvcc::{CompactionNext, Error, RangeOptions, Record, Rev, Store, StoreOptions, ViewSource, Wait};

/// A file with these rows of the bucket `key`, and these marks of compactions.
fn file(rows: &[(Vec<u8>, Vec<u8>)], scheduled: Option<i64>, finished: Option<i64>) -> Db {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir_all(Path::new("/d")).unwrap();
    let db = Db::open(&disk, Path::new("/d/db"), bbolt::Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.create_bucket(b"key");
    batch.create_bucket(b"meta");
    for (key, value) in rows {
        batch.put(b"key", Bytes::from(key.clone()), Bytes::from(value.clone()));
    }
    for (name, at) in [
        (&b"scheduledCompactRev"[..], scheduled),
        (b"finishedCompactRev", finished),
    ] {
        if let Some(at) = at {
            let value = Bytes::copy_from_slice(&Rev::new(at, 0).to_bytes());
            batch.put(b"meta", Bytes::copy_from_slice(name), value);
        }
    }
    db.commit(&batch).unwrap();
    db
}

fn put(main: i64, sub: i64, key: &str, create: i64, version: i64, lease: i64) -> (Vec<u8>, Vec<u8>) {
    let record = Record {
        key: key.as_bytes(),
        create,
        modified: main,
        version,
        value: b"v",
        lease,
    };
    (
        Rev::new(main, sub).to_bytes().to_vec(),
        record.to_bytes().to_vec(),
    )
}

fn deletion(main: i64, key: &str) -> (Vec<u8>, Vec<u8>) {
    let record = Record {
        key: key.as_bytes(),
        ..Record::default()
    };
    (
        Rev::new(main, 0).to_tombstone_bytes().to_vec(),
        record.to_bytes().to_vec(),
    )
}

fn open(db: Db) -> (Store, ViewSource) {
    Store::open(db, StoreOptions::default()).unwrap()
}

fn keys(source: &ViewSource, revision: i64) -> Vec<(i64, i64, i64)> {
    let ask = RangeOptions {
        range_end: b"\0",
        revision,
        ..RangeOptions::default()
    };
    let kvs = source.load().range(&ask, Wait::Yes).unwrap().kvs;
    kvs.iter()
        .map(|kv| {
            Record::decode(kv)
                .map(|kv| (kv.modified, kv.create, kv.version))
                .unwrap()
        })
        .collect()
}

/// Runs the compaction in hand to its end; rows deleted, and whether it has a hash.
fn compact(store: &mut Store) -> Vec<(i64, u64, bool)> {
    let mut all = Vec::new();
    loop {
        match store.compaction_next() {
            CompactionNext::Idle => return all,
            CompactionNext::Again => {}
            CompactionNext::Waits => {
                let job = store.take_commit(true).unwrap();
                store.committed(job.run()).unwrap();
            }
            CompactionNext::Scan(mut scan) => {
                scan.run().unwrap();
                let done = store.compaction_scanned(*scan).unwrap();
                all.extend(done.map(|done| (done.revision, done.deleted, done.covers_all)));
            }
        }
    }
}

#[test]
fn an_empty_file_is_at_revision_one() {
    let (mut store, source) = open(file(&[], None, None));
    assert_eq!(
        (store.revision(), store.compact_revision(), store.consistent()),
        (1, -1, (0, 0))
    );
    // The eight buckets that are missing come with the first commit, and with it alone.
    let job = store.take_commit(false).unwrap();
    store.committed(job.run()).unwrap();
    store.publish();
    assert_eq!(source.load().db.buckets(Wait::Yes).unwrap().len(), 10);
    assert!(store.take_commit(true).is_none());
}

#[test]
fn a_forced_commit_makes_durable_what_was_found() {
    let disk = disk::mem::MemDisk::new();
    let path = std::path::Path::new("db");
    let open = || {
        let db = bbolt::Db::open(&disk.shared(), path, bbolt::Options::default()).unwrap();
        let (mut store, _) = Store::open(db.clone(), StoreOptions::default()).unwrap();
        store.set_consistent(7, 2);
        (store, db)
    };
    let (mut store, db) = open();
    let job = store.take_commit(true).unwrap();
    store.committed(job.run()).unwrap();
    drop((store, db));
    disk.set_copy_on_write(true);
    disk.set_space(Some(disk.used_bytes()));
    let (mut store, db) = open();
    assert!(store.take_commit(false).is_none(), "nothing is pending");
    let job = store.take_commit(true).unwrap();
    let error = store.committed(job.run()).unwrap_err();
    assert!(matches!(error, mvcc::Error::Backend(error) if error.is_out_of_space()));
    disk.set_space(None);
    let job = store.take_commit(true).unwrap();
    store.committed(job.run()).unwrap();
    assert!(db.is_settled());
    assert!(store.take_commit(true).is_none());
}

#[test]
fn a_key_whose_first_revisions_are_gone_keeps_its_numbers() {
    let rows = [
        put(10, 0, "a", 4, 7, 5),
        put(11, 0, "b", 11, 1, 6),
        put(11, 1, "c", 3, 2, 5),
        put(12, 0, "a", 4, 8, 0),
    ];
    let (mut store, source) = open(file(&rows, Some(9), Some(9)));
    assert_eq!((store.revision(), store.compact_revision()), (12, 9));
    assert_eq!(keys(&source, 10), [(10, 4, 7)]);
    assert_eq!(keys(&source, 0), [(12, 4, 8), (11, 11, 1), (11, 3, 2)]);
    let attached: Vec<(i64, Bytes)> = vec![(5, "c".into()), (6, "b".into())];
    assert_eq!(store.take_attached(), attached);
    assert_eq!(compact(&mut store), []);
    let put = store.begin().put(b"c", b"", 0);
    assert_eq!(
        put.previous.map(|info| (info.create, info.version, info.leased)),
        Some((3, 2, true))
    );
}

#[test]
fn a_lone_tombstone_is_a_key_that_is_gone() {
    let rows = [
        deletion(10, "a"),
        put(11, 0, "b", 11, 1, 0),
        put(12, 0, "a", 12, 1, 0),
        deletion(13, "b"),
    ];
    let (_store, source) = open(file(&rows, Some(10), Some(10)));
    assert_eq!(keys(&source, 10), []);
    assert_eq!(keys(&source, 11), [(11, 11, 1)]);
    assert_eq!(keys(&source, 0), [(12, 12, 1)]);
}

/// etcd issue 17780: the latest deletion is compacted, and its revision is not given twice.
#[test]
fn the_revision_is_not_lost_with_the_last_rows() {
    for (rows, scheduled, finished, revision) in [
        (vec![put(3, 0, "a", 3, 1, 0)], Some(7), Some(7), 7),
        // 3.5.15 and older deleted a last tombstone, and may have crashed before they said so.
        (vec![put(3, 0, "a", 3, 1, 0)], Some(8), Some(2), 8),
        (vec![], Some(9), None, 9),
        (vec![put(12, 3, "a", 3, 1, 0)], Some(7), Some(7), 12),
    ] {
        let (store, source) = open(file(&rows, scheduled, finished));
        assert_eq!(store.revision(), revision);
        assert_eq!(source.load().compact_revision, scheduled.unwrap());
    }
}

#[test]
fn a_compaction_that_was_cut_short_goes_on() {
    let rows = [
        put(2, 0, "a", 2, 1, 0),
        put(3, 0, "a", 2, 2, 0),
        deletion(4, "a"),
        put(5, 0, "b", 5, 1, 0),
    ];
    let (mut store, source) = open(file(&rows, Some(4), None));
    assert_eq!((store.revision(), store.compact_revision()), (5, 4));
    assert!(store.is_compacting());
    assert!(matches!(store.schedule_compaction(4), Err(Error::Compacted)));
    store.schedule_compaction(5).unwrap();
    // The hash of the first is not kept, since some rows may be gone already; nor that of the second, which
    // was asked for before the first was done.
    assert_eq!(compact(&mut store), [(4, 2, false), (5, 1, false)]);
    let done = store.take_commit(false).unwrap().run();
    store.committed(done).unwrap();
    store.publish();
    let view = source.load();
    let mut cursor = view.db.cursor(b"key", Wait::Yes).unwrap();
    assert_eq!(
        cursor.first().unwrap().unwrap().0.to_vec(),
        Rev::new(5, 0).to_bytes().to_vec()
    );
    assert_eq!(cursor.next().unwrap(), None);
}

/// etcd issue 18089.
#[test]
fn a_tombstone_at_the_very_revision_stays_and_is_not_hashed() {
    let (mut store, source) = open(file(&[put(2, 0, "foo", 2, 1, 0), deletion(3, "foo")], None, None));
    store.schedule_compaction(3).unwrap();
    assert_eq!(compact(&mut store), [(3, 1, true)]);
    store
        .take_commit(true)
        .map(|job| store.committed(job.run()))
        .unwrap()
        .unwrap();
    store.publish();
    let view = source.load();
    assert_eq!(mvcc::status_of_file(&view.db).unwrap().revisions, 1);
    let after_restart = mvcc::hash_kv_of_file(&view.db, 3).unwrap();
    assert_eq!(
        (after_restart.hash, after_restart.compact_revision),
        (crc32c::crc32c(b"key"), 3)
    );
}

/// `etcdutl snapshot restore --bump-revision=1000 --mark-compacted` leaves a row without a value.
#[test]
fn a_bumped_revision_is_held_by_an_empty_row() {
    let bump = (Rev::new(1002, 0).to_bytes().to_vec(), Vec::new());
    let (mut store, source) = open(file(&[put(2, 0, "a", 2, 1, 0), bump], Some(1002), None));
    assert_eq!((store.revision(), store.compact_revision()), (1002, 1002));
    assert_eq!(compact(&mut store), [(1002, 0, false)]);
    let mut txn = store.begin();
    txn.put(b"b", b"v", 0);
    txn.end();
    store.publish();
    let ask = RangeOptions {
        key: b"\0",
        range_end: b"\0",
        ..RangeOptions::default()
    };
    let found = source.load().range(&ask, Wait::Yes).unwrap();
    assert_eq!(
        (found.kvs.len(), found.count, source.load().revision),
        (2, 2, 1003)
    );
    // The row stays, as it does in etcd: hashes count it.
    let job = store.take_commit(true).unwrap();
    store.committed(job.run()).unwrap();
    store.publish();
    assert_eq!(mvcc::status_of_file(&source.load().db).unwrap().revisions, 3);
}

#[test]
fn damage_is_an_error_that_names_the_row() {
    let good = put(5, 0, "a", 5, 1, 0);
    let check = |row: (Vec<u8>, Vec<u8>), what: &str| match Store::open(
        file(&[row], None, None),
        StoreOptions::default(),
    ) {
        Err(error @ Error::Corrupt { .. }) => assert!(error.to_string().contains(what), "{error}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened: {what}"),
    };
    check((good.0[..16].to_vec(), good.1.clone()), "17 or 18 bytes");
    check(
        ([&good.0[..8], b"-", &good.0[9..]].concat(), good.1.clone()),
        "separator",
    );
    check(([&good.0[..], b"u"].concat(), good.1.clone()), "mark");
    check(
        (Rev::new(-1, 0).to_bytes().to_vec(), good.1.clone()),
        "not negative",
    );
    check((Rev::new(5, 1 << 40).to_bytes().to_vec(), good.1.clone()), "2^32");
    check(
        (good.0.clone(), good.1[..good.1.len() - 1].to_vec()),
        "not a key-value pair",
    );
    check((good.0.clone(), put(5, 0, "", 5, 1, 0).1), "no key");
    check(
        (Rev::new(6, 0).to_bytes().to_vec(), good.1.clone()),
        "another revision",
    );
    check(put(5, 0, "a", 5, 1 << 60, 0), "version");
    check(put(5, 0, "a", 5, 0, 0), "version");
    let db = file(&[], None, None);
    let mut batch = Batch::new();
    batch.put(
        b"meta",
        Bytes::from_static(b"finishedCompactRev"),
        Bytes::from_static(b"x"),
    );
    db.commit(&batch).unwrap();
    assert!(matches!(
        Store::open(db, StoreOptions::default()),
        Err(Error::Corrupt { bucket: "meta", .. })
    ));
    let db = file(&[], None, None);
    let mut batch = Batch::new();
    batch.put(
        b"meta",
        Bytes::from_static(b"consistent_index"),
        Bytes::from_static(b"1234567"),
    );
    db.commit(&batch).unwrap();
    assert!(matches!(
        Store::open(db, StoreOptions::default()),
        Err(Error::Corrupt { bucket: "meta", .. })
    ));
}

#[test]
fn what_is_not_in_memory_is_not_waited_for() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let options = || bbolt::Options {
        cache_bytes_max: 0,
        ..bbolt::Options::default()
    };
    let db = Db::open(&disk.shared(), Path::new("/d/db"), options()).unwrap();
    let quiet = StoreOptions {
        recent_bytes_max: 0,
        ..StoreOptions::default()
    };
    let (mut store, source) = Store::open(db, quiet).unwrap();
    for number in 0..600 {
        store
            .begin()
            .put(format!("k{number:04}").as_bytes(), &[b'v'; 400], 0);
    }
    let job = store.take_commit(true).unwrap();
    store.committed(job.run()).unwrap();
    store.publish();
    let view = source.load();
    disk.set_cold(true);
    let cold = RangeOptions {
        key: b"k0000",
        ..RangeOptions::default()
    };
    assert!(matches!(view.range(&cold, Wait::No), Err(Error::WouldBlock)));
    assert_eq!(view.range(&cold, Wait::Yes).unwrap().kvs.len(), 1);
    let newest = RangeOptions {
        key: b"k0599",
        ..RangeOptions::default()
    };
    assert_eq!(view.range(&newest, Wait::No).unwrap().kvs.len(), 1);
    // A hash that was refused goes on where it was.
    let mut hash = view.hash_kv(0).unwrap();
    let mut refused = 0;
    let hash = loop {
        match hash.step(50, Wait::No) {
            Ok(Some(hash)) => break hash,
            Ok(None) => {}
            Err(Error::WouldBlock) => {
                refused += 1;
                assert_eq!(hash.step(50, Wait::Yes).unwrap(), None);
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(refused > 0);
    assert_eq!(hash, view.hash_kv(0).unwrap().finish(Wait::Yes).unwrap());
}
