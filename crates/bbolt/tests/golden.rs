//! Files made by bbolt (see golden/make.go): we read what it wrote, stream what it streams, and go on
//! from there.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use bbolt::{Batch, Db, Options, Snapshot, Wait};
use bytes::Bytes;

const NAMES: [&str; 10] = [
    "fresh-4096",
    "etcd-4096-none",
    "etcd-1024-none",
    "etcd-1024-stored",
    "etcd-16384-stored",
    "etcd-65536-none",
    "nested-1024-none",
    "nested-1024-stored",
    "overflow-1024-none",
    "overflow-2048-stored",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// What make.go says of a file, from our reading of it.
fn describe(snapshot: &Snapshot) -> String {
    let mut out = format!("txid {}\nsize {}\n", snapshot.txid(), snapshot.size());
    out += &format!("stream {:016x}\n", fnv1a(&common::stream(snapshot)));
    for name in snapshot.buckets(Wait::Yes).unwrap() {
        out += &format!("bucket {}\n", String::from_utf8_lossy(&name));
        let mut cursor = snapshot.cursor(&name, Wait::Yes).unwrap();
        let mut row = cursor.first().unwrap();
        while let Some((key, value)) = row {
            let key = String::from_utf8_lossy(&key).into_owned();
            out += &if cursor.is_at_bucket() {
                format!("{key} is a bucket\n")
            } else {
                format!("{key} {} {:016x}\n", value.len(), fnv1a(&value))
            };
            row = cursor.next().unwrap();
        }
    }
    out
}

fn copy(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::copy(golden(&format!("{name}.db")), &path).unwrap();
    path
}

fn small() -> Options {
    Options {
        growth_bytes: 1 << 16,
        sync: false,
        ..Options::default()
    }
}

#[test]
fn we_read_what_bbolt_wrote() {
    for name in NAMES {
        let want = std::fs::read_to_string(golden(&format!("{name}.expect"))).unwrap();
        for read_only in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let db = common::open(&copy(dir.path(), name), Options { read_only, ..small() });
            common::assert_sound(&db, name);
            assert!(describe(&db.snapshot()) == want, "{name}");
        }
    }
}

#[test]
fn a_fresh_file_is_the_one_bbolt_makes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(common::open(&path, Options::default()));
    assert!(std::fs::read(&path).unwrap() == std::fs::read(golden("fresh-4096.db")).unwrap());
}

#[test]
fn we_go_on_from_what_bbolt_wrote() {
    for name in NAMES {
        let dir = tempfile::tempdir().unwrap();
        let path = copy(dir.path(), name);
        let mut random = fastrand::Rng::with_seed(7);
        for later in [false, true] {
            let db = common::open(
                &path,
                Options {
                    find_free_pages_later: later,
                    ..small()
                },
            );
            let mut model = common::dump(&db.snapshot());
            for round in 0..10 {
                let mut batch = Batch::new();
                batch.create_bucket(b"key");
                let rows = model.entry(b"key".to_vec()).or_default();
                for _ in 0..60 {
                    let key = common::key(random.u64(0..400));
                    if random.bool() {
                        batch.delete(b"key", Bytes::from(key.clone()));
                        rows.remove(&key);
                    } else {
                        batch.put(b"key", Bytes::from(key.clone()), Bytes::from_static(b"ours"));
                        rows.insert(key, b"ours".to_vec());
                    }
                }
                db.commit(&batch).unwrap();
                db.find_free_pages().unwrap();
                common::assert_sound(&db, &format!("{name} round {round}"));
                assert_eq!(common::dump(&db.snapshot()), model, "{name} round {round}");
            }
            drop(db);
            common::go_check(&path);
        }
    }
}

#[test]
fn buckets_within_buckets_are_kept_and_freed_whole() {
    for name in ["nested-1024-none", "nested-1024-stored"] {
        let dir = tempfile::tempdir().unwrap();
        let path = copy(dir.path(), name);
        let db = common::open(&path, small());
        let mut batch = Batch::new();
        batch.put(b"outer", Bytes::from_static(b"tree"), Bytes::from_static(b"no"));
        assert!(matches!(
            db.commit(&batch),
            Err(bbolt::Error::Incompatible { .. })
        ));
        common::assert_sound(&db, name);
        let mut batch = Batch::new();
        for n in 0..40 {
            batch.delete(b"outer", Bytes::from(common::key(n)));
        }
        db.commit(&batch).unwrap();
        let left: Vec<Vec<u8>> = common::dump(&db.snapshot())[&b"outer"[..]]
            .keys()
            .cloned()
            .collect();
        assert_eq!(left, [b"inline".to_vec(), b"tree".to_vec()]);
        common::assert_sound(&db, name);
        let copy = common::open(&dir.path().join("copy"), small());
        assert!(matches!(
            bbolt::compact(&db.snapshot(), &copy),
            Err(bbolt::Error::Incompatible { .. })
        ));
        let mut batch = Batch::new();
        batch.delete_bucket(b"outer");
        db.commit(&batch).unwrap();
        common::assert_sound(&db, name);
        batch.create_bucket(b"x");
        db.commit(&batch).unwrap();
        assert!(db.size_in_use() <= 7 * 1024, "{name}: {}", db.size_in_use());
        drop(db);
        common::go_check(&path);
    }
}

#[test]
fn one_bad_meta_is_tolerated_and_two_are_an_error() {
    for name in ["etcd-1024-none", "etcd-65536-none"] {
        let page_size: u64 = name.split('-').nth(1).unwrap().parse().unwrap();
        let whole = common::open(
            &golden(&format!("{name}.db")),
            Options {
                read_only: true,
                ..small()
            },
        );
        let newest = whole.snapshot().txid();
        for bad in [vec![newest % 2], vec![(newest + 1) % 2], vec![0, 1]] {
            let dir = tempfile::tempdir().unwrap();
            let path = copy(dir.path(), name);
            let mut bytes = std::fs::read(&path).unwrap();
            for slot in &bad {
                bytes[(slot * page_size) as usize + 64] ^= 1;
            }
            std::fs::write(&path, &bytes).unwrap();
            match Db::open(&disk::RealDisk::shared(), &path, small()) {
                Ok(db) => {
                    assert_eq!(bad.len(), 1);
                    let txid = if bad[0] == newest % 2 { newest - 1 } else { newest };
                    assert_eq!(db.snapshot().txid(), txid);
                }
                Err(error) => {
                    assert_eq!(bad.len(), 2, "{error}");
                    assert!(error.to_string().contains("restore the member"), "{error}");
                    assert!(std::fs::read(&path).unwrap() == bytes, "nothing is overwritten");
                }
            }
        }
    }
}

#[test]
fn refusals_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path(), "etcd-1024-none");
    let refuse = |want: &str| {
        let error = Db::open(&disk::RealDisk::shared(), &path, small())
            .err()
            .expect(want)
            .to_string();
        assert!(
            error.contains(want) && error.contains("etcd-1024-none"),
            "{error}"
        );
    };
    let db = common::open(&path, small());
    refuse("another process holds the lock");
    drop(db);
    let mut bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    refuse("was cut short");
    for page in bytes.chunks_mut(1024).skip(2) {
        page[8] = 7;
    }
    std::fs::write(&path, &bytes).unwrap();
    refuse("is damaged");
    std::fs::write(&path, b"not a database").unwrap();
    refuse("neither meta page is valid");
}

/// Our files under the real tool, for every page size.
#[test]
fn bbolt_reads_what_we_wrote() {
    for shift in 10..=16 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = common::open(
            &path,
            Options {
                page_size: Some(1 << shift),
                ..small()
            },
        );
        let mut random = fastrand::Rng::with_seed(shift);
        for round in 0..20 {
            let mut batch = Batch::new();
            for name in [&b"key"[..], b"meta", b"lease"] {
                batch.create_bucket(name);
            }
            for _ in 0..random.usize(1..300) {
                let key = Bytes::from(common::key(random.u64(0..2000)));
                let most = if random.u8(0..50) == 0 { 9000 } else { 100 };
                let size = random.usize(0..most);
                match random.u8(0..4) {
                    0 => batch.delete(b"key", key),
                    _ => batch.put(b"key", key, Bytes::from(vec![1; size])),
                }
            }
            batch.put(
                b"meta",
                Bytes::from_static(b"consistent_index"),
                Bytes::from(vec![round; 8]),
            );
            db.commit(&batch).unwrap();
            if round % 5 == 4 {
                common::assert_sound(&db, "before bbolt looks at it");
                common::go_check(&path);
            }
        }
        let keys: Vec<String> = common::dump(&db.snapshot())[&b"key"[..]]
            .keys()
            .map(|key| String::from_utf8(key.clone()).unwrap())
            .collect();
        drop(db);
        if let Some(listed) = common::go_bbolt(&["keys", path.to_str().unwrap(), "key"]) {
            assert!(listed.lines().eq(keys.iter()), "page size {}", 1 << shift);
        }
    }
}
