//! Random batches against a plain map, on the real file system.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use bbolt::{Batch, Db, Options, Snapshot, Wait};
use bytes::Bytes;
use common::{Model, dump, open};

/// What a run looks like.
#[derive(Clone, Copy)]
struct Shape {
    page_size: u32,
    commits: usize,
    writes_max: usize,
    keys: u64,
    value_bytes_max: usize,
    delete_percent: u8,
}

fn check(seed: u64, shape: Shape) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut random = fastrand::Rng::with_seed(seed);
    let options = Options {
        page_size: Some(shape.page_size),
        growth_bytes: 1 << 16,
        cache_bytes_max: 1 << 18,
        sync: false,
        ..Options::default()
    };
    let mut db = open(&path, options.clone());
    let mut model = Model::default();
    let mut held: Vec<(Snapshot, Model, Vec<u8>)> = Vec::new();
    for commit in 0..shape.commits {
        let batch = random_batch(&mut random, shape, &mut model);
        let before = db.snapshot().txid();
        let done = db.commit(&batch).unwrap();
        assert_eq!(
            done.txid,
            before + u64::from(!batch.is_empty()),
            "seed {seed} commit {commit}"
        );
        common::assert_sound(&db, &format!("seed {seed} commit {commit}"));
        assert_eq!(dump(&db.snapshot()), model, "seed {seed} commit {commit}");
        look_up(&mut random, &db.snapshot(), &model, shape);
        if random.u8(0..5) == 0 {
            let snapshot = db.snapshot();
            let bytes = common::stream(&snapshot);
            held.push((snapshot, model.clone(), bytes));
        }
        if held.len() > 3 {
            let (snapshot, then, bytes) = held.swap_remove(random.usize(0..held.len()));
            assert_eq!(
                dump(&snapshot),
                then,
                "seed {seed} commit {commit}: a snapshot changed"
            );
            common::assert_reachable_unchanged(&snapshot, &bytes);
        }
        if random.u8(0..8) == 0 {
            held.clear();
            drop(db);
            let later = random.bool();
            db = open(
                &path,
                Options {
                    find_free_pages_later: later,
                    ..options.clone()
                },
            );
            assert_eq!(
                dump(&db.snapshot()),
                model,
                "seed {seed} commit {commit}: after reopening"
            );
            if later {
                db.commit(&random_batch(&mut random, shape, &mut model)).unwrap();
                db.find_free_pages().unwrap();
            }
            common::assert_sound(&db, &format!("seed {seed} commit {commit}: after reopening"));
        }
    }
}

fn random_batch(random: &mut fastrand::Rng, shape: Shape, model: &mut Model) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..random.usize(1..4) {
        let name: &[u8] = [&b"key"[..], b"meta", b"lease"][random.usize(0..3)];
        let percent = random.u8(0..100);
        if percent < 3 {
            batch.delete_bucket(name);
            model.remove(name);
        }
        batch.create_bucket(name);
        let rows = model.entry(name.to_vec()).or_default();
        let delete_percent = if percent < 15 { 95 } else { shape.delete_percent };
        let sequential = random.bool();
        let mut next = random.u64(0..shape.keys);
        for _ in 0..random.usize(0..shape.writes_max) {
            next = if sequential {
                next + 1
            } else {
                random.u64(0..shape.keys)
            };
            let key = common::key(next);
            if random.u8(0..100) < delete_percent {
                batch.delete(name, Bytes::from(key.clone()));
                rows.remove(&key);
            } else {
                let most = if random.u8(0..40) == 0 {
                    shape.value_bytes_max * 20
                } else {
                    shape.value_bytes_max
                };
                let value = vec![random.u8(..); random.usize(0..most)];
                batch.put(name, Bytes::from(key.clone()), Bytes::from(value.clone()));
                rows.insert(key, value);
            }
        }
    }
    batch
}

fn look_up(random: &mut fastrand::Rng, snapshot: &Snapshot, model: &Model, shape: Shape) {
    let empty = BTreeMap::new();
    for name in [&b"key"[..], b"meta", b"none"] {
        let rows = model.get(name).unwrap_or(&empty);
        let mut keys: Vec<Vec<u8>> = (0..random.usize(0..60))
            .map(|_| common::key(random.u64(0..shape.keys)))
            .collect();
        keys.sort();
        if random.u8(0..10) == 0 {
            random.shuffle(&mut keys);
        }
        let mut found = Vec::new();
        snapshot
            .get_many(name, &keys, Wait::Yes, |at, value| {
                found.push((at, value.to_vec()))
            })
            .unwrap();
        let want: Vec<(usize, Vec<u8>)> = keys
            .iter()
            .enumerate()
            .filter_map(|(at, key)| Some((at, rows.get(key)?.clone())))
            .collect();
        assert_eq!(found, want);
        for key in keys.iter().take(10) {
            assert_eq!(
                snapshot.get(name, key, Wait::Yes).unwrap().map(Vec::from),
                rows.get(key).cloned()
            );
            let mut cursor = snapshot.cursor(name, Wait::Yes).unwrap();
            let at = cursor.seek(key).unwrap().map(|(key, _)| key.to_vec());
            assert_eq!(at.as_ref(), rows.range(key.clone()..).next().map(|(key, _)| key));
            if let Some(at) = at {
                let before = cursor.prev().unwrap().map(|(key, _)| key.to_vec());
                assert_eq!(before.as_ref(), rows.range(..at).next_back().map(|(key, _)| key));
            }
        }
        let mut cursor = snapshot.cursor(name, Wait::Yes).unwrap();
        let mut backward = Vec::new();
        let mut row = cursor.last().unwrap();
        while let Some((key, _)) = row {
            backward.push(key.to_vec());
            row = cursor.prev().unwrap();
        }
        assert!(backward.iter().rev().eq(rows.keys()));
    }
}

fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("MAINSTAY_BBOLT_SEEDS").map_or(6, |seeds| seeds.parse().unwrap())
}

#[test]
fn small_pages_deep_trees() {
    for seed in seeds() {
        check(
            seed,
            Shape {
                page_size: 1024,
                commits: 60,
                writes_max: 120,
                keys: 3000,
                value_bytes_max: 60,
                delete_percent: 30,
            },
        );
    }
}

#[test]
fn large_values_overflow() {
    for seed in seeds() {
        check(
            seed,
            Shape {
                page_size: 1024,
                commits: 40,
                writes_max: 40,
                keys: 200,
                value_bytes_max: 900,
                delete_percent: 40,
            },
        );
    }
}

#[test]
fn usual_pages() {
    for seed in seeds() {
        check(
            seed,
            Shape {
                page_size: 4096,
                commits: 25,
                writes_max: 600,
                keys: 6000,
                value_bytes_max: 100,
                delete_percent: 20,
            },
        );
    }
}

#[test]
fn largest_pages() {
    for seed in seeds() {
        check(
            seed,
            Shape {
                page_size: 65536,
                commits: 20,
                writes_max: 600,
                keys: 4000,
                value_bytes_max: 300,
                delete_percent: 35,
            },
        );
    }
}

#[test]
fn a_copy_holds_the_same_in_fewer_pages() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(
        &dir.path().join("db"),
        Options {
            sync: false,
            ..Options::default()
        },
    );
    let mut random = fastrand::Rng::with_seed(1);
    let shape = Shape {
        page_size: 4096,
        commits: 0,
        writes_max: 3000,
        keys: 5000,
        value_bytes_max: 300,
        delete_percent: 40,
    };
    let mut model = Model::default();
    for _ in 0..20 {
        db.commit(&random_batch(&mut random, shape, &mut model)).unwrap();
    }
    let copy = open(
        &dir.path().join("copy"),
        Options {
            sync: false,
            ..Options::default()
        },
    );
    bbolt::compact(&db.snapshot(), &copy).unwrap();
    common::assert_sound(&copy, "copy");
    assert_eq!(dump(&copy.snapshot()), model);
    assert!(copy.size() < db.size(), "{} {}", copy.size(), db.size());
    let _: &Db = &copy;
}

/// What compaction leaves behind takes few pages, whether it deletes neighbours together or scattered keys.
#[test]
fn deletes_give_pages_back() {
    const ROWS: u64 = 20_000;
    for stride in [1, 997] {
        let dir = tempfile::tempdir().unwrap();
        let db = open(
            &dir.path().join("db"),
            Options {
                sync: false,
                ..Options::default()
            },
        );
        let mut batch = Batch::new();
        batch.create_bucket(b"key");
        for n in 0..ROWS {
            batch.put(b"key", Bytes::from(common::key(n)), Bytes::from(vec![1; 300]));
        }
        db.commit(&batch).unwrap();
        let full = db.size_in_use();
        // Ten rows or eleven fill nine tenths of a page.
        assert!(full < ROWS / 10 * 4096 * 102 / 100, "{full}");
        let gone: Vec<u64> = (0..ROWS)
            .map(|n| n * stride % ROWS)
            .filter(|n| n % 100 != 0)
            .collect();
        for part in gone.chunks(1000) {
            let mut batch = Batch::new();
            for n in part {
                batch.delete(b"key", Bytes::from(common::key(*n)));
            }
            db.commit(&batch).unwrap();
        }
        common::assert_sound(&db, "after all deletes");
        db.commit(&batch_of_one()).unwrap();
        assert!(
            db.size_in_use() * 20 < full,
            "stride {stride}: {} of {full}",
            db.size_in_use()
        );
        assert_eq!(dump(&db.snapshot())[&b"key"[..]].len() as u64, ROWS / 100 + 1);
    }
}

/// Frees what the commit before gave back.
fn batch_of_one() -> Batch {
    let mut batch = Batch::new();
    batch.put(b"key", Bytes::from_static(b"one more"), Bytes::new());
    batch
}

/// While one reader stays, commits reuse the pages of the states that no reader holds.
#[test]
fn one_long_reader_does_not_make_the_file_grow_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(
        &dir.path().join("db"),
        Options {
            sync: false,
            ..Options::default()
        },
    );
    let mut batch = Batch::new();
    batch.create_bucket(b"key");
    for n in 0..500 {
        batch.put(b"key", Bytes::from(common::key(n)), Bytes::from(vec![1; 300]));
    }
    db.commit(&batch).unwrap();
    let held = db.snapshot();
    let before = dump(&held);
    let mut size = 0;
    for round in 0..300 {
        let mut batch = Batch::new();
        batch.put(
            b"key",
            Bytes::from(common::key(round % 10)),
            Bytes::from(vec![2; 300]),
        );
        db.commit(&batch).unwrap();
        if round == 20 {
            size = db.size();
        }
    }
    assert_eq!(db.size(), size);
    assert!(dump(&held) == before);
    common::assert_sound(&db, "with a reader");
}

/// The search for free pages does not give away pages that commits since the opening freed and a reader still
/// reaches.
#[test]
fn free_pages_found_later_leave_readers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let small = Options {
        growth_bytes: 1 << 16,
        cache_bytes_max: 0,
        sync: false,
        ..Options::default()
    };
    let put_all = |db: &Db, value: u8| {
        let mut batch = Batch::new();
        batch.create_bucket(b"key");
        for n in 0..300 {
            batch.put(b"key", Bytes::from(common::key(n)), Bytes::from(vec![value; 200]));
        }
        db.commit(&batch).unwrap();
    };
    let db = open(&path, small.clone());
    (0..3).for_each(|value| put_all(&db, value));
    let size = db.size();
    drop(db);
    let db = open(
        &path,
        Options {
            find_free_pages_later: true,
            ..small
        },
    );
    let held = db.snapshot();
    let before = dump(&held);
    put_all(&db, 3);
    assert!(db.size() > size, "nothing is known to be free yet");
    db.find_free_pages().unwrap();
    assert!(db.size_in_use() < db.size());
    put_all(&db, 4);
    assert!(dump(&held) == before);
    common::assert_sound(&db, "at the end");
}
