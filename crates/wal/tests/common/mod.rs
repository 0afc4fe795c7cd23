//! What the tests of the log share.
#![allow(dead_code)] // Not every test file uses all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::mem::MemDisk;
use disk::{Disk, Open};
use wal::{ConfState, Entry, EntryKind, Error, HardState, Mark, Recovered, Wal};

pub const DIR: &str = "/data/wal";
pub const FIRST: &str = "0000000000000000-0000000000000000.wal";

pub fn dir() -> &'static Path {
    Path::new(DIR)
}

/// Where segment `name` of the test log is.
pub fn segment(name: &str) -> PathBuf {
    dir().join(name)
}

/// A disk with a durable, empty `/data`.
pub fn memory() -> MemDisk {
    let memory = MemDisk::new();
    memory.create_dir_all(Path::new("/data")).unwrap();
    memory.settle();
    memory
}

pub fn entry(term: u64, index: u64, data: impl Into<Vec<u8>>) -> Entry {
    Entry {
        kind: EntryKind::Normal,
        term,
        index,
        data: Bytes::from(data.into()),
    }
}

/// Bytes without a zero, different for each `n`.
pub fn payload(n: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(n);
    (0..len).map(|_| random.u8(1..)).collect()
}

pub fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

pub fn mark(term: u64, index: u64) -> Mark {
    Mark {
        index,
        term,
        conf_state: Some(ConfState {
            voters: vec![1],
            auto_leave: Some(false),
            ..ConfState::default()
        }),
    }
}

pub fn open(disk: &Arc<dyn Disk>) -> Result<(Wal, Recovered), Error> {
    Wal::open(disk, dir(), &Mark::default())
}

pub fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let n = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(n, bytes.len());
    bytes
}

/// The content of a segment up to the last byte that is not zero, filled up to a multiple of 8.
pub fn content(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let mut bytes = read(disk, path);
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(used.next_multiple_of(8));
    bytes
}

/// Replaces a file.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    disk.create_dir_all(&disk::parent(path)).unwrap();
    let file = disk.open(path, Open::Truncate).unwrap();
    file.write_at(bytes, 0).unwrap();
}

pub fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    let entries = disk.list(dir).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}
