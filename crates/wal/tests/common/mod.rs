//! What the tests of the log share.
#![allow(dead_code)] // Not every test file uses all of it.

pub mod story;

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
    let file = disk.open(path, Open::Read).unwrap();
    let (mut bytes, mut offset) = (Vec::new(), 0);
    while let Some(data) = file.next_data(offset).unwrap() {
        let mut page = vec![0; 4096 - (data % 4096) as usize];
        let n = file.read_at(&mut page, data).unwrap();
        bytes.resize(data as usize, 0);
        bytes.extend_from_slice(&page[..n]);
        offset = data + n as u64;
    }
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    bytes.resize(used.next_multiple_of(8), 0);
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

/// What `tests/go` prints of a log that it read.
pub fn describe(recovered: &Recovered) -> String {
    let hex: String = recovered.metadata.iter().map(|b| format!("{b:02x}")).collect();
    let HardState { term, vote, commit } = recovered.hard_state;
    let mut text = format!("metadata {hex}\nstate {term} {vote} {commit}\n");
    for entry in &recovered.entries {
        let (kind, crc) = (entry.kind as u8, crc32c::crc32c(&entry.data));
        let Entry {
            term, index, data, ..
        } = entry;
        text += &format!("entry {kind} {term} {index} {} {crc:08x}\n", data.len());
    }
    text
}

/// What `tests/go` prints of the valid marks of a log.
pub fn describe_marks(marks: &[Mark]) -> String {
    let line = |mark: &Mark| {
        let voters = mark.conf_state.clone().unwrap_or_default().voters;
        format!("mark {} {} {}\n", mark.term, mark.index, list(&voters))
    };
    marks.iter().map(line).collect()
}

/// What `tests/go` prints of a snapshot file.
pub fn describe_snapshot(snapshot: &wal::snapfile::Snapshot) -> String {
    let voters = list(&snapshot.conf_state.voters);
    let (len, crc) = (snapshot.data.len(), crc32c::crc32c(&snapshot.data));
    let (term, index) = (snapshot.term, snapshot.index);
    format!("snap {term} {index} {voters} {len} {crc:08x}\n")
}

fn list(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("[{}]", ids.join(" "))
}

/// The payload that `tests/go` gives the entry at `index`.
pub fn go_payload(index: u64, len: usize) -> Vec<u8> {
    let mut x = index.wrapping_mul(2654435761).wrapping_add(1);
    let mut next = || {
        x = x
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((x >> 56) % 255 + 1) as u8
    };
    (0..len).map(|_| next()).collect()
}
