//! Files written by etcd 3.5, 3.6 and 3.7, and what etcd answered from them. `golden/make.py` makes both.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use api::mvccpb::KeyValue;
use disk::mem::MemDisk;
use disk::{Disk, Open};
use mvcc::{CompactionNext, KeyValueHash, RangeOptions, Store, StoreOptions, View, ViewSource, Wait, schema};
use prost::Message;

struct Golden {
    version: &'static str,
    full: &'static [u8],
    compacted: &'static [u8],
    answers: &'static str,
}

macro_rules! golden {
    ($version:literal) => {
        Golden {
            version: $version,
            full: include_bytes!(concat!("golden/", $version, "-full.db")),
            compacted: include_bytes!(concat!("golden/", $version, "-compacted.db")),
            answers: include_str!(concat!("golden/", $version, ".txt")),
        }
    };
}

const ALL: [Golden; 3] = [golden!("3.5"), golden!("3.6"), golden!("3.7")];

fn open(bytes: &[u8]) -> (Store, ViewSource) {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.open(Path::new("/d/db"), Open::CreateNew)
        .unwrap()
        .write_at(bytes, 0)
        .unwrap();
    let db = bbolt::Db::open(&disk, Path::new("/d/db"), bbolt::Options::default()).unwrap();
    Store::open(db, StoreOptions::default()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.trim_start_matches('-').as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The lines of one kind and state, by revision.
fn lines<'a>(golden: &'a Golden, kind: &str, state: &str) -> Vec<(i64, Vec<&'a str>)> {
    let words = golden
        .answers
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let wanted = words.filter(|words| words[0] == kind && words[1] == state);
    wanted
        .map(|words| (words[2].parse().unwrap(), words[3..].to_vec()))
        .collect()
}

fn hashes(golden: &Golden, state: &str) -> Vec<KeyValueHash> {
    let hash = |(revision, words): (i64, Vec<&str>)| KeyValueHash {
        hash: words[0].parse().unwrap(),
        compact_revision: words[1].parse().unwrap(),
        revision,
    };
    let hashes: Vec<_> = lines(golden, "hashkv", state).into_iter().map(hash).collect();
    assert!(hashes.len() > 3, "{} {state}", golden.version);
    hashes
}

fn check_hashes(golden: &Golden, state: &str, view: &View) {
    for expected in hashes(golden, state) {
        let hash = view
            .hash_kv(expected.revision)
            .unwrap()
            .finish(Wait::Yes)
            .unwrap();
        assert_eq!(hash, expected, "{} {state}", golden.version);
    }
}

fn check_ranges(golden: &Golden, state: &str, view: &View) {
    let lines = lines(golden, "range", state);
    for revision in lines
        .iter()
        .map(|line| line.0)
        .collect::<std::collections::BTreeSet<_>>()
    {
        let expected: Vec<KeyValue> = lines
            .iter()
            .filter(|line| line.0 == revision)
            .map(|(_, words)| KeyValue {
                key: bytes(words[0]).into(),
                create_revision: words[1].parse().unwrap(),
                mod_revision: words[2].parse().unwrap(),
                version: words[3].parse().unwrap(),
                value: bytes(words[4]).into(),
                lease: words[5].parse().unwrap(),
            })
            .collect();
        let ask = RangeOptions {
            range_end: b"\0",
            revision,
            ..RangeOptions::default()
        };
        let kvs = view.range(&ask, Wait::Yes).unwrap().kvs;
        let kvs: Vec<_> = kvs.iter().map(|kv| KeyValue::decode(&kv[..]).unwrap()).collect();
        assert_eq!(kvs, expected, "{} {state} at {revision}", golden.version);
    }
}

#[test]
fn what_etcd_wrote_reads_as_etcd_reads_it() {
    for golden in &ALL {
        for (state, file) in [("full", golden.full), ("compacted", golden.compacted)] {
            let (mut store, source) = open(file);
            let view = source.load();
            assert_eq!(view.revision, hashes(golden, state).last().unwrap().revision);
            check_ranges(golden, state, &view);
            check_hashes(golden, state, &view);
            for expected in hashes(golden, state) {
                assert_eq!(
                    mvcc::hash_kv_of_file(&view.db, expected.revision).unwrap(),
                    expected
                );
            }
            let attached = store.take_attached();
            let keys: Vec<&[u8]> = attached.iter().map(|(_, key)| &key[..]).collect();
            assert_eq!(keys, [b"leased"]);
            assert_eq!(schema::leases(&view.db).unwrap()[0].id, attached[0].0);
        }
    }
}

#[test]
fn compacts_what_etcd_wrote_as_etcd_does() {
    for golden in &ALL {
        let (mut store, source) = open(golden.full);
        store
            .schedule_compaction(hashes(golden, "cached")[0].revision)
            .unwrap();
        loop {
            match store.compaction_next() {
                CompactionNext::Idle => break,
                CompactionNext::Again => {}
                CompactionNext::Waits => commit(&mut store),
                CompactionNext::Scan(mut scan) => {
                    scan.run().unwrap();
                    store.compaction_scanned(*scan).unwrap();
                }
            }
        }
        commit(&mut store);
        store.publish();
        let view = source.load();
        check_hashes(golden, "cached", &view);
        check_ranges(golden, "compacted", &view);
        let rows = |db: &bbolt::Snapshot| schema::Rows::rows(db, schema::KEY).unwrap();
        assert_eq!(
            rows(&view.db),
            rows(&open(golden.compacted).1.load().db),
            "{}",
            golden.version
        );
    }
}

fn commit(store: &mut Store) {
    let done = store.take_commit(true).unwrap().run();
    store.committed(done).unwrap();
}

#[test]
fn reads_the_other_buckets() {
    for golden in &ALL {
        let db = &open(golden.full).1.load().db.clone();
        let version = golden.version;
        let (index, term) = schema::consistent_index(db).unwrap();
        assert!(index > 20 && term >= 2, "{version}: {index} {term}");
        let members = schema::members(db).unwrap();
        assert_eq!((members.len(), members[0].name.as_str()), (1, "default"));
        let row = db
            .get(
                b"members",
                schema::member_id_text(members[0].id).as_bytes(),
                Wait::Yes,
            )
            .unwrap()
            .unwrap();
        assert_eq!(row, members[0].to_json());
        let conf_state = schema::conf_state(db).unwrap().unwrap();
        assert_eq!(conf_state.voters, [members[0].id]);
        let row = db.get(b"meta", b"confState", Wait::Yes).unwrap().unwrap();
        assert_eq!(row, schema::encode_conf_state(&conf_state));
        let full: api::version::Version = format!("{version}.0").parse().unwrap();
        assert_eq!(schema::cluster_version(db).unwrap(), Some(full));
        assert_eq!(schema::storage_version(db).unwrap(), Some(full));
        assert_eq!(schema::alarms(db).unwrap(), []);
        assert!(!schema::auth_enabled(db).unwrap());
        assert!(schema::removed_members(db).unwrap().is_empty());
        assert!(schema::downgrade(db).unwrap().is_none());
    }
}
