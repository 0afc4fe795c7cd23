//! Directories that Go etcd made: opened, compared with what etcd said of them, written to, refused.
#![allow(clippy::unwrap_used)]

mod driver;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{InternalRaftRequest, PutRequest};
use api::version::Line;
use disk::mem::MemDisk;
use disk::{Disk, Open};
use driver::Driver;
use member::Config;
use member::frontend::{AskApply, Tell};

fn config(line: Line) -> Config {
    Config {
        data_dir: PathBuf::from("/data"),
        line,
        ..Config::default()
    }
}

/// The golden directory of this name on a disk in memory.
fn load(name: &str) -> MemDisk {
    let disk = MemDisk::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    for part in ["snap", "wal"] {
        let to = Path::new("/data/member").join(part);
        disk.create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(golden.join(part)).unwrap() {
            let entry = entry.unwrap();
            let file = disk.open(&to.join(entry.file_name()), Open::CreateNew).unwrap();
            file.write_at(&std::fs::read(entry.path()).unwrap(), 0).unwrap();
        }
    }
    disk.settle();
    disk
}

/// All files with their bytes, zeros at the end left out.
fn files(disk: &dyn Disk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in ["/data/member/snap", "/data/member/wal"] {
        for entry in disk.list(Path::new(dir)).unwrap() {
            let path = Path::new(dir).join(entry.name);
            let file = disk.open(&path, Open::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

/// What etcd answered about the directory: revision, hash, compact revision.
fn hash_of(name: &str) -> (i64, u32, i64) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .join("hashkv.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let answer = &json[0]["HashKV"];
    (
        answer["header"]["revision"].as_i64().unwrap(),
        answer["hash"].as_u64().unwrap() as u32,
        answer["compact_revision"].as_i64().unwrap_or(-1),
    )
}

fn hash(driver: &Driver, revision: i64) -> (i64, u32, i64) {
    let mut hash = driver.member.views.load().hash_kv(revision).unwrap();
    loop {
        if let Some(hash) = hash.step(100, mvcc::Wait::Yes).unwrap() {
            return (hash.revision, hash.hash, hash.compact_revision);
        }
    }
}

fn put(key: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            value: "ours".into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

fn leases(driver: &mut Driver) -> Vec<i64> {
    driver.ask(|id| AskApply::Leases { id });
    let mut found = None;
    driver.advance_until(|driver| {
        for tell in driver.tells.drain(..) {
            if let Tell::Leases { leases, .. } = tell {
                found = Some(leases);
            }
        }
        found.is_some()
    });
    found.unwrap()
}

/// Opens the directory as `line`, compares, writes, stops; twice. Says the versions of cluster and storage in the end.
fn check_opens(name: &str, line: Line) -> (Option<String>, Option<String>) {
    let disk = load(name);
    let shared: Arc<dyn Disk> = disk.shared();
    let mut versions = (None, None);
    for round in 1..=2 {
        let mut driver = Driver::open(&shared, &config(line), round).unwrap();
        driver.until_ready();
        let expected = hash_of(name);
        assert_eq!(hash(&driver, expected.0), expected, "{name} as {line:?}");
        assert_eq!(leases(&mut driver).len(), 1);
        let facts = driver.member.shared.facts();
        assert_eq!(facts.members.len(), 1);
        assert_eq!(facts.members[0].name, "default");
        driver.call(put("new")).unwrap().unwrap();
        driver.advance(Duration::from_secs(5));
        let facts = driver.member.shared.facts();
        let text = |version: Option<api::version::Version>| version.map(|version| version.to_string());
        versions = (text(facts.cluster_version), text(facts.storage_version));
        driver.stop();
    }
    let db = bbolt::Db::open(
        &shared,
        Path::new("/data/member/snap/db"),
        bbolt::Options::default(),
    )
    .unwrap();
    assert_eq!(db.check(), []);
    wal::check(&*shared, Path::new("/data/member/wal")).unwrap();
    versions
}

#[test]
fn what_go_etcd_wrote_opens() {
    let versions = |cluster: &str, storage: &str| (Some(cluster.to_owned()), Some(storage.to_owned()));
    for how in ["kill", "term", "snap"] {
        let name = format!("3.5-{how}");
        assert_eq!(check_opens(&name, Line::V3_5), (Some("3.5.0".to_owned()), None));
        assert_eq!(check_opens(&name, Line::V3_6), versions("3.6.0", "3.6.0"));
    }
    for how in ["kill", "snap"] {
        let name = format!("3.6-{how}");
        assert_eq!(check_opens(&name, Line::V3_6), versions("3.6.0", "3.6.0"));
        assert_eq!(check_opens(&name, Line::V3_7), versions("3.7.0", "3.7.0"));
        assert_eq!(
            check_opens(&format!("3.7-{how}"), Line::V3_7),
            versions("3.7.0", "3.7.0")
        );
    }
}

/// A directory that a line must not open: the text says why, and no byte is changed.
fn check_refused(name: &str, config: &Config, expected: &[&str]) {
    let disk = load(name);
    let before = files(&disk);
    let error = match Driver::open(&disk.shared(), config, 1) {
        Ok(_) => panic!("{name} opens as {:?}", config.line),
        Err(error) => error,
    };
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "{name} as {:?}: {text}", config.line);
    }
    assert!(
        files(&disk) == before,
        "{name} as {:?}: something was written",
        config.line
    );
}

#[test]
fn what_another_release_must_open_is_refused() {
    for how in ["kill", "term"] {
        let name = format!("3.5-{how}");
        let ways_out = ["--emulated-version=3.5", "through 3.6", "0000000000000000.wal"];
        check_refused(&name, &config(Line::V3_7), &ways_out);
    }
    for how in ["kill", "snap"] {
        check_refused(
            &format!("3.7-{how}"),
            &config(Line::V3_6),
            &["version \"3.7.0\" is not supported", "/data/member/snap/db"],
        );
        for name in [format!("3.6-{how}"), format!("3.7-{how}")] {
            let words = "invalid downgrade; server version is lower than determined cluster version";
            check_refused(&name, &config(Line::V3_5), &[words, "/data/member/snap/db"]);
        }
    }
    // A member of a larger cluster opens, and waits for the others.
    let waiting = Driver::open(&load("3.7-three").shared(), &config(Line::V3_7), 1);
    assert!(waiting.is_ok());
}

#[test]
fn a_3_5_directory_opens_as_3_7_once_a_snapshot_lies_behind_its_v2_requests() {
    // In 3.5-snap the attributes and the version, which 3.5 writes as v2 requests, are behind the mark.
    let versions = check_opens("3.5-snap", Line::V3_7);
    assert_eq!(versions, (Some("3.7.0".to_owned()), Some("3.7.0".to_owned())));
    // And our own stop as 3.6 leaves such a snapshot.
    let disk = load("3.5-kill");
    assert_eq!(snapshots_after_stop(&disk, Line::V3_6), 1);
    assert_eq!(snapshots_after_stop(&disk, Line::V3_7), 1);
}

/// Runs the member of the directory from start to stop, with a write. How many snapshot files there are then.
fn snapshots_after_stop(disk: &MemDisk, line: Line) -> usize {
    let mut driver = Driver::open(&disk.shared(), &config(line), 1).unwrap();
    driver.until_ready();
    driver.call(put("new")).unwrap().unwrap();
    driver.stop();
    let names = disk.list(Path::new("/data/member/snap")).unwrap();
    names.iter().filter(|entry| entry.name.ends_with(".snap")).count()
}

#[test]
fn only_behind_a_v2_request_does_a_stop_leave_a_snapshot() {
    // As etcd's, which leaves none at all.
    let disk = MemDisk::new();
    for line in [Line::V3_5, Line::V3_6, Line::V3_7] {
        assert_eq!(snapshots_after_stop(&disk, line), 0, "{line:?}");
    }
    for (name, line) in [
        ("3.6-kill", Line::V3_6),
        ("3.6-kill", Line::V3_7),
        ("3.7-kill", Line::V3_7),
    ] {
        assert_eq!(snapshots_after_stop(&load(name), line), 0, "{name} as {line:?}");
    }
    // Its own two lie behind its v2 requests already.
    assert_eq!(snapshots_after_stop(&load("3.5-snap"), Line::V3_6), 2);
    // Once is enough.
    let disk = load("3.5-kill");
    for _ in 0..3 {
        assert_eq!(snapshots_after_stop(&disk, Line::V3_5), 1);
    }
}

#[test]
fn a_member_of_three_goes_on_alone_when_forced() {
    let disk = load("3.7-three");
    let forced = Config {
        force_new_cluster: true,
        ..config(Line::V3_7)
    };
    let mut driver = Driver::open(&disk.shared(), &forced, 1).unwrap();
    driver.until_ready();
    let expected = hash_of("3.7-three");
    assert_eq!(hash(&driver, expected.0), expected);
    driver.call(put("alone")).unwrap().unwrap();
    let facts = driver.member.shared.facts();
    assert_eq!(facts.members.len(), 1);
    assert_eq!(facts.members[0].id, 11_662_769_606_973_678_950);
    driver.stop();
    let mut driver = Driver::open(&disk.shared(), &config(Line::V3_7), 2).unwrap();
    driver.until_ready();
    driver.call(put("again")).unwrap().unwrap();
    driver.stop();
}

/// Changes a directory of 3.7 in some way: it is refused as damaged, with the words, and left as it is.
fn check_damaged(name: &str, damage: impl FnOnce(&MemDisk), expected: &str) {
    let disk = load(name);
    damage(&disk);
    disk.settle();
    let before = files(&disk);
    let error = match Driver::open(&disk.shared(), &config(Line::V3_7), 1) {
        Ok(_) => panic!("{name} opens: {expected}"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains(expected), "{error}");
    assert!(files(&disk) == before, "{expected}: something was written");
}

fn segment() -> PathBuf {
    PathBuf::from("/data/member/wal/0000000000000000-0000000000000000.wal")
}

/// Where the n-th record from the end begins.
fn record_from_end(disk: &MemDisk, n: usize) -> u64 {
    let mut records = wal::Records::open(disk, Path::new("/data/member/wal")).unwrap();
    let mut offsets = Vec::new();
    while let Some(located) = records.next().unwrap() {
        offsets.push(located.offset);
    }
    offsets[offsets.len() - n]
}

fn cut(disk: &MemDisk, path: &Path, len: u64) {
    disk.open(path, Open::Write).unwrap().set_len(len).unwrap();
}

#[test]
fn damaged_directories_are_refused_and_left_alone() {
    let db = Path::new("/data/member/snap/db");
    // At a frame's end the log itself is sound; within a frame it is torn and could be repaired.
    for beyond in [0, 20] {
        check_damaged(
            "3.7-kill",
            |disk| cut(disk, &segment(), record_from_end(disk, 6) + beyond),
            "the log ends at index",
        );
    }
    check_damaged(
        "3.7-kill",
        |disk| disk.flip(&segment(), record_from_end(disk, 6) + 30, 1).unwrap(),
        "0000000000000000-0000000000000000.wal",
    );
    check_damaged("3.7-snap", |disk| cut(disk, db, 0), "/data/member/snap/db");
    check_damaged("3.7-snap", |disk| cut(disk, db, 5000), "/data/member/snap/db");
    check_damaged(
        "3.7-snap",
        |disk| disk.remove_file(&segment()).unwrap(),
        "there is no log",
    );
    check_damaged(
        "3.7-three",
        |disk| {
            let other = load("3.7-kill");
            let bytes = files(&other).remove(&segment()).unwrap();
            let file = disk.open(&segment(), Open::Truncate).unwrap();
            file.write_at(&bytes, 0).unwrap();
        },
        "/data/member/",
    );
}
