//! Readers beside a writer, readers that refuse to wait, and readers of a device that fails.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bbolt::{Batch, Db, Error, Options, Wait};
use bytes::Bytes;
use disk::mem::MemDisk;

const PATH: &str = "/db";

fn options() -> Options {
    Options {
        page_size: Some(1024),
        growth_bytes: 64 << 10,
        ..Options::default()
    }
}

fn filled(disk: &MemDisk, rows: u64, options: Options) -> Db {
    let db = Db::open(&disk.shared(), Path::new(PATH), options).unwrap();
    let mut batch = Batch::new();
    batch.create_bucket(b"key");
    for n in 0..rows {
        batch.put(
            b"key",
            Bytes::from(common::key(n)),
            Bytes::from(vec![n as u8; 50]),
        );
    }
    db.commit(&batch).unwrap();
    db
}

/// Every state is one where all values are the same; a reader never sees two of them mixed.
#[test]
fn readers_see_one_state_while_a_writer_reuses_pages() {
    const ROWS: u64 = 400;
    let disk = MemDisk::new();
    let db = filled(
        &disk,
        0,
        Options {
            cache_bytes_max: 64 << 10,
            ..options()
        },
    );
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut walks = 0;
                    while !done.load(Ordering::Relaxed) || walks < 3 {
                        let snapshot = db.snapshot();
                        let rows = common::dump(&snapshot).remove(&b"key"[..]).unwrap();
                        let Some(first) = rows.values().next() else {
                            continue;
                        };
                        assert_eq!(rows.len() as u64, ROWS);
                        assert!(
                            rows.values().all(|value| value == first),
                            "state {}",
                            snapshot.txid()
                        );
                        for n in (0..ROWS).step_by(37) {
                            let value = snapshot.get(b"key", &common::key(n), Wait::Yes).unwrap().unwrap();
                            assert_eq!(value, first);
                        }
                        walks += 1;
                    }
                })
            })
            .collect();
        for round in 0..200u64 {
            let mut batch = Batch::new();
            for n in 0..ROWS {
                batch.put(
                    b"key",
                    Bytes::from(common::key(n)),
                    Bytes::from(vec![round as u8; 10 + round as usize]),
                );
            }
            db.commit(&batch).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    common::assert_sound(&db, "after all");
    assert!(db.size() < 20 * 200 * ROWS, "pages are used again: {}", db.size());
}

#[test]
fn who_refuses_to_wait_is_told_and_can_go_on() {
    let disk = MemDisk::new();
    drop(filled(&disk, 2000, options()));
    let db = Db::open(&disk.shared(), Path::new(PATH), options()).unwrap();
    let snapshot = db.snapshot();
    let key = common::key(1000);
    disk.set_cold(true);
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::WouldBlock)));
    refused(snapshot.get(b"key", &key, Wait::No).map(drop));
    refused(snapshot.get_many(b"key", &[&key], Wait::No, |_, _| ()));
    refused(snapshot.cursor(b"key", Wait::No).map(drop));
    assert!(snapshot.get(b"key", &key, Wait::Yes).unwrap().is_some());
    // Now it is in the cache, and so are the pages above it, but not those of other keys.
    assert!(snapshot.get(b"key", &key, Wait::No).unwrap().is_some());
    refused(snapshot.get(b"key", &common::key(3), Wait::No).map(drop));
    let mut cursor = snapshot.cursor(b"key", Wait::No).unwrap();
    let mut next = cursor.seek(&key);
    // At every refusal the cursor stands where it stood.
    for at in 1000..2000 {
        if matches!(next, Err(Error::WouldBlock)) {
            cursor.set_wait(Wait::Yes);
            next = cursor.next();
            cursor.set_wait(Wait::No);
        }
        assert_eq!(next.unwrap().unwrap().0, common::key(at));
        next = cursor.next();
    }
    assert_eq!(next.unwrap(), None);
}

#[test]
fn a_read_error_or_a_shortened_file_is_an_error() {
    let disk = MemDisk::new();
    drop(filled(&disk, 2000, options()));
    let options = Options {
        find_free_pages_later: true,
        cache_bytes_max: 0,
        ..options()
    };
    let db = Db::open(&disk.shared(), Path::new(PATH), options).unwrap();
    let path = Path::new(PATH);
    let snapshot = db.snapshot();
    disk.fail_reads(path, 2048..u64::MAX).unwrap();
    assert!(matches!(
        snapshot.get(b"key", b"x", Wait::Yes),
        Err(Error::Io { .. })
    ));
    assert!(matches!(db.find_free_pages(), Err(Error::Io { .. })));
    assert!(!db.check().is_empty());
    disk.heal_reads();
    db.find_free_pages().unwrap();
    common::assert_sound(&db, "healed");
    let file = disk.shared().open(path, disk::Open::Write).unwrap();
    file.set_len(20 << 10).unwrap();
    let error = common::try_dump(&snapshot).expect_err("most pages are gone");
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    let mut stream = snapshot.stream();
    let end = std::iter::from_fn(|| stream.next_chunk().transpose()).find_map(Result::err);
    assert!(matches!(end, Some(Error::Truncated { .. })));
}

#[test]
fn sizes_and_kinds_that_cannot_be_stored_are_refused() {
    let disk = MemDisk::new();
    let db = filled(&disk, 3, options());
    let put = |bucket: &[u8], key: usize| {
        let mut batch = Batch::new();
        batch.put(bucket, Bytes::from(vec![b'k'; key]), Bytes::new());
        db.commit(&batch)
    };
    assert!(matches!(put(b"key", 0), Err(Error::Size { .. })));
    assert!(matches!(put(b"key", 32_769), Err(Error::Size { .. })));
    assert!(matches!(put(b"", 1), Err(Error::Size { .. })));
    assert!(matches!(put(b"none", 1), Err(Error::BucketMissing { .. })));
    for _ in 0..5 {
        put(b"key", 32_768).unwrap();
        put(b"key", 32_767).unwrap();
        put(b"key", 32_766).unwrap();
    }
    common::assert_sound(&db, "with the longest keys");
    let before = db.snapshot().txid();
    assert_eq!(
        db.commit(&Batch::new()).unwrap().txid,
        before,
        "an empty batch writes nothing"
    );
    assert!(matches!(
        Db::open(
            &disk.shared(),
            Path::new("/x"),
            Options {
                page_size: Some(3000),
                ..options()
            }
        ),
        Err(Error::PageSize(3000))
    ));
    let read_only = Options {
        read_only: true,
        ..options()
    };
    assert!(matches!(
        Db::open(&disk.shared(), Path::new("/x"), read_only),
        Err(Error::Io { .. })
    ));
}

/// Long runs forward (which read ahead), short ones back, and jumps.
#[test]
fn a_cursor_goes_to_and_fro() {
    const ROWS: u64 = 3000;
    let disk = MemDisk::new();
    let db = filled(
        &disk,
        ROWS,
        Options {
            cache_bytes_max: 0,
            ..options()
        },
    );
    let snapshot = db.snapshot();
    let mut random = fastrand::Rng::with_seed(5);
    let mut cursor = snapshot.cursor(b"key", Wait::Yes).unwrap();
    let mut at = random.u64(0..ROWS);
    let mut row = cursor.seek(&common::key(at)).unwrap();
    for _ in 0..300 {
        let steps = random.u64(0..200);
        match random.u8(0..8) {
            0 => {
                at = random.u64(0..ROWS);
                row = cursor.seek(&common::key(at)).unwrap();
            }
            1 | 2 => {
                for _ in 0..steps.min(at) {
                    row = cursor.prev().unwrap();
                    at -= 1;
                }
            }
            _ => {
                for _ in 0..steps.min(ROWS - 1 - at) {
                    row = cursor.next().unwrap();
                    at += 1;
                }
            }
        }
        assert_eq!(row.as_ref().unwrap().0, common::key(at));
    }
}
