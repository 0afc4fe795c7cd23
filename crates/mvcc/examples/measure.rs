//! What the store costs: prints nanoseconds of processor time per put and get, bytes per key, milliseconds per list and
//! restart. Processor time is Linux's (`/proc/thread-self/schedstat`), so that a busy machine does not disturb.
//!
//! `cargo run --release -p mvcc --example measure [keys [value-bytes]]`

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use disk::{Disk, RealDisk};
use mvcc::{CompactionNext, RangeOptions, Store, StoreOptions, Wait};

fn bbolt_options() -> bbolt::Options {
    bbolt::Options {
        cache_bytes_max: 8 << 20,
        ..bbolt::Options::default()
    }
}

fn open(disk: &Arc<dyn Disk>, path: &Path) -> (Store, mvcc::ViewSource) {
    let db = bbolt::Db::open(disk, path, bbolt_options()).unwrap();
    Store::open(db, StoreOptions::default()).unwrap()
}

/// Processor time of this thread so far.
#[derive(Clone, Copy)]
struct Instant(u64);

impl Instant {
    fn now() -> Instant {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Instant(text.split_whitespace().next().unwrap().parse().unwrap())
    }

    fn elapsed(self) -> std::time::Duration {
        std::time::Duration::from_nanos(Instant::now().0 - self.0)
    }
}

fn report(what: &str, since: Instant, per: u32) {
    let took = since.elapsed();
    println!(
        "{what:<44} {:>10.3} ms {:>10.0} ns each",
        took.as_secs_f64() * 1e3,
        took.as_nanos() as f64 / f64::from(per)
    );
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn commit(store: &mut Store) {
    if let Some(job) = store.take_commit(true) {
        store.committed(job.run()).unwrap();
        store.publish();
    }
}

/// Writes in batches of 64, as a busy member applies them, with a commit every 10,000.
fn write(store: &mut Store, keys: impl Iterator<Item = u32>, value: &[u8]) -> std::time::Duration {
    let mut spent = std::time::Duration::ZERO;
    let mut keys = keys.peekable();
    let mut index = store.consistent().0;
    while keys.peek().is_some() {
        let start = Instant::now();
        for key in keys.by_ref().take(64) {
            store.begin().put(key_of(key).as_bytes(), value, 0);
            index += 1;
        }
        store.set_consistent(index, 1);
        black_box(store.publish());
        spent += start.elapsed();
        if store.pending().ops >= 10_000 {
            commit(store);
        }
    }
    commit(store);
    spent
}

fn key_of(number: u32) -> String {
    format!("/registry/pods/namespace-{:03}/pod-{number:07}", number / 2000)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().unwrap());
    let keys = arguments.next().unwrap_or(200_000);
    let value = vec![b'v'; arguments.next().unwrap_or(1024) as usize];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut store, source) = open(&disk, &path);

    let spent = write(&mut store, 0..keys, &value);
    println!(
        "{:<44} {:>24.0} ns each",
        "put, new key, batches of 64",
        spent.as_nanos() as f64 / f64::from(keys)
    );
    let mut random = fastrand::Rng::with_seed(1);
    let overwrites = keys / 2;
    let spent = write(&mut store, (0..overwrites).map(|_| random.u32(0..keys)), &value);
    println!(
        "{:<44} {:>24.0} ns each",
        "put, random overwrite, batches of 64",
        spent.as_nanos() as f64 / f64::from(overwrites)
    );
    println!("{:<44} {:>10} KiB", "anonymous memory", anonymous_kib());

    let view = source.load();
    let gets = 100_000u32;
    let names: Vec<String> = (0..gets).map(|_| key_of(random.u32(0..keys))).collect();
    let start = Instant::now();
    for name in &names {
        black_box(view.reader().info(name.as_bytes(), view.revision));
    }
    report("index look-up", start, gets);
    for turn in ["get, cold", "get, warm"] {
        let start = Instant::now();
        for name in &names[..20_000] {
            let ask = RangeOptions {
                key: name.as_bytes(),
                ..RangeOptions::default()
            };
            black_box(source.load().range(&ask, Wait::Yes).unwrap());
        }
        report(turn, start, 20_000);
    }
    let end = [b"/registry/pods/namespace-0".as_slice(), b"5"].concat();
    let list = RangeOptions {
        key: b"/registry/pods/namespace-0",
        range_end: &end,
        limit: 10_000,
        ..RangeOptions::default()
    };
    for turn in [
        "list of 10,000, cold",
        "list of 10,000, warm",
        "list of 10,000, warm",
    ] {
        let start = Instant::now();
        let result = view.range(&list, Wait::Yes).unwrap();
        assert_eq!(
            (result.kvs.len(), result.more),
            (10_000.min(keys as usize / 2), keys > 20_000)
        );
        report(turn, start, 10_000);
    }
    let start = Instant::now();
    let fast = RangeOptions {
        keys_only: true,
        fast_keys_only: true,
        ..list
    };
    black_box(view.range(&fast, Wait::Yes).unwrap());
    report("list of 10,000, keys only", start, 10_000);
    let start = Instant::now();
    black_box(view.reader().count(b"/registry/pods/", b"\0", view.revision));
    report("count of all", start, 1);
    let start = Instant::now();
    black_box(view.hash_kv(0).unwrap().finish(Wait::Yes).unwrap());
    report("HashKV", start, keys + overwrites);
    println!("{:<44} {:>10} KiB", "anonymous memory", anonymous_kib());
    drop(view);

    drop((store, source));
    println!("{:<44} {:>10} KiB", "anonymous memory, closed", anonymous_kib());
    let start = Instant::now();
    let db = bbolt::Db::open(&disk, &path, bbolt_options()).unwrap();
    report("open the file", start, 1);
    let start = Instant::now();
    let snapshot = db.snapshot();
    let mut cursor = snapshot.cursor(b"key", Wait::Yes).unwrap();
    let mut row = cursor.first().unwrap();
    while row.is_some() {
        row = black_box(cursor.next().unwrap());
    }
    report("bare scan of the file", start, keys + overwrites);
    drop((cursor, snapshot));
    let start = Instant::now();
    let (mut store, _source) = Store::open(db, StoreOptions::default()).unwrap();
    report("restore the index", start, keys + overwrites);
    println!("{:<44} {:>10} KiB", "anonymous memory, restored", anonymous_kib());
    let bytes = store.publish().view.index_bytes();
    println!(
        "{:<44} {:>10.1} bytes (key: {})",
        "index, per key",
        bytes as f64 / f64::from(keys),
        key_of(0).len()
    );

    let start = Instant::now();
    store.schedule_compaction(store.revision()).unwrap();
    loop {
        match store.compaction_next() {
            CompactionNext::Idle => break,
            CompactionNext::Again => {}
            CompactionNext::Waits => commit(&mut store),
            CompactionNext::Scan(mut scan) => {
                scan.run().unwrap();
                store.compaction_scanned(*scan).unwrap();
                if store.pending().ops > 10_000 {
                    commit(&mut store);
                }
            }
        }
    }
    commit(&mut store);
    report("compaction", start, keys + overwrites);
}
