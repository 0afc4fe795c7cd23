//! What the data file costs: microseconds per commit, get and list. `cargo run --release -p bbolt --example bench -- DIR [KEYS]`
#![allow(clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bbolt::{Batch, Db, Options, Wait};
use bytes::Bytes;

/// A revision as etcd writes it: main, underscore, sub.
fn key(revision: u64) -> Bytes {
    let mut key = revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(0u64.to_be_bytes());
    Bytes::from(key)
}

/// Time passed, and processor time used, since it was made.
struct Watch(Instant, u64);

impl Watch {
    fn start() -> Watch {
        Watch(Instant::now(), cpu_nanos())
    }

    fn report(&self, what: &str, times: u64) {
        let micros = |elapsed: Duration| elapsed.as_secs_f64() * 1e6 / times as f64;
        let cpu = Duration::from_nanos(cpu_nanos().saturating_sub(self.1));
        println!(
            "{what:<44} {:>10.2} us, processor {:>10.2} us",
            micros(self.0.elapsed()),
            micros(cpu)
        );
    }
}

/// Processor time of this thread by Linux's count; zero elsewhere.
fn cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or(0)
}

fn main() -> Result<(), bbolt::Error> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let keys: u64 = args.next().and_then(|keys| keys.parse().ok()).unwrap_or(200_000);
    let path = dir.join("bbolt-bench.db");
    let disk = disk::RealDisk::shared();
    for sync in [true, false] {
        let _ = std::fs::remove_file(&path);
        let db = Db::open(
            &disk,
            &path,
            Options {
                sync,
                ..Options::default()
            },
        )?;
        let mut batch = Batch::new();
        for bucket in ["key", "meta", "lease", "auth", "members"] {
            batch.create_bucket(bucket.as_bytes());
        }
        db.commit(&batch)?;
        let value = Bytes::from(vec![b'v'; 300]);
        let mut revision = 0;
        for (puts, rounds) in [(1, 200), (32, 200), (1000, 100)] {
            let start = Watch::start();
            for _ in 0..rounds {
                let mut batch = Batch::new();
                for _ in 0..puts {
                    revision += 1;
                    batch.put(b"key", key(revision), value.clone());
                }
                batch.put(b"meta", Bytes::from_static(b"consistent_index"), key(revision));
                db.commit(&batch)?;
            }
            start.report(&format!("commit of {puts} puts, sync {sync}"), rounds);
        }
        if sync {
            continue;
        }
        while revision < keys {
            let mut batch = Batch::new();
            for _ in 0..10_000 {
                revision += 1;
                batch.put(b"key", key(revision), value.clone());
            }
            db.commit(&batch)?;
        }
        reads(&db, revision)?;
        let start = Watch::start();
        let rounds = 20;
        for round in 0..rounds {
            let mut batch = Batch::new();
            for at in 0..1000 {
                batch.delete(b"key", key(1 + at * (revision / 1000) + round));
            }
            db.commit(&batch)?;
        }
        start.report("commit of 1000 scattered deletes", rounds);
        println!("size {} in use {}", db.size(), db.size_in_use());
    }
    for later in [false, true] {
        let start = Watch::start();
        let db = Db::open(
            &disk,
            &path,
            Options {
                find_free_pages_later: later,
                ..Options::default()
            },
        )?;
        start.report(&format!("open, find free pages later {later}"), 1);
        let start = Watch::start();
        let violations = db.check();
        start.report(&format!("check ({} violations)", violations.len()), 1);
    }
    let _ = std::fs::remove_file(&path);
    Ok(())
}

fn reads(db: &Db, revision: u64) -> Result<(), bbolt::Error> {
    let snapshot = db.snapshot();
    let mut state: u64 = 1;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        1 + (state >> 33) % revision
    };
    for (what, span) in [("get, few pages", 10_000), ("get, all pages", u64::MAX)] {
        let times = 300_000;
        let mut found = 0;
        let start = Watch::start();
        for _ in 0..times {
            found += u64::from(
                snapshot
                    .get(b"key", &key(1 + random() % span.min(revision)), Wait::No)?
                    .is_some(),
            );
        }
        start.report(what, times);
        assert!(found > 0);
    }
    for (what, step) in [
        ("get_many of 10,000, adjacent", 1),
        ("get_many of 10,000, scattered", revision / 10_000),
    ] {
        let keys: Vec<Bytes> = (0..10_000).map(|at| key(1 + at * step)).collect();
        let rounds = 20;
        let mut bytes = 0;
        let start = Watch::start();
        for _ in 0..rounds {
            snapshot.get_many(b"key", &keys, Wait::Yes, |_, value| bytes += value.len())?;
        }
        start.report(what, rounds);
        assert!(bytes > 0);
    }
    let start = Watch::start();
    let mut cursor = snapshot.cursor(b"key", Wait::Yes)?;
    let mut rows = 0;
    let mut row = cursor.first()?;
    while row.is_some() {
        rows += 1;
        row = cursor.next()?;
    }
    start.report("cursor, a step", rows);
    Ok(())
}
