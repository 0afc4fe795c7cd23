//! What the tests of the data file share.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use bbolt::{Db, Options, Snapshot, Wait};

/// Buckets, keys, values.
pub type Model = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

pub fn open(path: &Path, options: Options) -> Db {
    Db::open(&disk::RealDisk::shared(), path, options).unwrap()
}

pub fn key(n: u64) -> Vec<u8> {
    // Of several lengths, so that no two elements of a page are alike.
    let mut key = format!("{n:08}").into_bytes();
    key.extend(std::iter::repeat_n(b'k', (n * 7 % 23) as usize));
    key
}

pub fn dump(snapshot: &Snapshot) -> Model {
    try_dump(snapshot).unwrap()
}

pub fn try_dump(snapshot: &Snapshot) -> Result<Model, bbolt::Error> {
    let mut model = Model::new();
    for name in snapshot.buckets(Wait::Yes)? {
        let mut rows = BTreeMap::new();
        let mut cursor = snapshot.cursor(&name, Wait::Yes)?;
        let mut row = cursor.first()?;
        while let Some((key, value)) = row {
            assert!(rows.insert(key.to_vec(), value.to_vec()).is_none());
            row = cursor.next()?;
        }
        model.insert(name.to_vec(), rows);
    }
    Ok(model)
}

pub fn assert_sound(db: &Db, context: &str) {
    let violations = db.check();
    assert!(violations.is_empty(), "{context}: {violations:?}");
    assert!(db.size_in_use() <= db.size());
}

pub fn stream(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = snapshot.stream();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        assert!(chunk.len() <= 64 << 10);
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes.len() as u64, snapshot.size());
    bytes
}

/// A stream taken later from the same snapshot is a sound file with the same content; pages that the state does not reach may differ.
pub fn assert_reachable_unchanged(snapshot: &Snapshot, before: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let mut dumps = Vec::new();
    for (name, bytes) in [("before", before), ("after", &stream(snapshot)[..])] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let db = open(&path, Options::default());
        assert_sound(&db, name);
        assert_eq!(db.snapshot().txid(), snapshot.txid());
        dumps.push(dump(&db.snapshot()));
    }
    assert!(dumps[0] == dumps[1]);
}

/// Runs the real bbolt tool, if `MAINSTAY_BBOLT` names one; gives what it prints.
pub fn go_bbolt(args: &[&str]) -> Option<String> {
    let Some(tool) = std::env::var_os("MAINSTAY_BBOLT") else {
        eprintln!("skipped: MAINSTAY_BBOLT does not name a bbolt tool");
        return None;
    };
    let out = std::process::Command::new(tool).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "bbolt {args:?}: {text} {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(text)
}

/// `bbolt check` of a copy, so that our lock does not stand in its way.
pub fn go_check(path: &Path) {
    let copy = path.with_extension("checked");
    std::fs::copy(path, &copy).unwrap();
    if let Some(out) = go_bbolt(&["check", copy.to_str().unwrap()]) {
        assert_eq!(out.trim(), "OK");
    }
    std::fs::remove_file(copy).unwrap();
}
