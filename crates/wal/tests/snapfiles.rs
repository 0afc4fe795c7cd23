//! The `snap/` directory: which files are written, chosen, put aside and removed.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use disk::Disk;
use disk::mem::{CrashMode, MemDisk};
use wal::snapfile::{self, Snapshot};
use wal::{Error, Mark};

fn dir() -> &'static Path {
    Path::new("/data")
}

fn snapshot(term: u64, index: u64, data: &'static str) -> Snapshot {
    Snapshot {
        index,
        term,
        conf_state: mark(term, index).conf_state.unwrap(),
        data: data.into(),
    }
}

fn written(list: &[(u64, u64)]) -> MemDisk {
    let memory = memory();
    for &(term, index) in list {
        snapfile::write(&memory, dir(), &snapshot(term, index, "{}")).unwrap();
    }
    memory
}

fn newest(memory: &MemDisk, marks: Option<&[Mark]>) -> Option<(u64, u64)> {
    let loaded = snapfile::load_newest(memory, dir(), marks).unwrap();
    loaded.newest.map(|(snapshot, _)| (snapshot.term, snapshot.index))
}

fn file_names(paths: &[PathBuf]) -> Vec<&str> {
    paths
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect()
}

#[test]
fn a_snapshot_is_durable_under_its_final_name() {
    let memory = memory();
    let path = snapfile::write(&memory, dir(), &snapshot(0x1f, 0xabc, "{}")).unwrap();
    assert_eq!(path, dir().join("000000000000001f-0000000000000abc.snap"));
    let after = memory.crash(0, CrashMode::LoseUnsynced);
    assert_eq!(
        snapfile::read(&after, &path).unwrap(),
        snapshot(0x1f, 0xabc, "{}")
    );
}

#[test]
fn the_newest_that_the_log_knows_is_chosen() {
    let memory = written(&[(1, 100), (2, 50), (2, 300), (3, 200)]);
    assert_eq!(newest(&memory, None), Some((3, 200)), "the term goes first");
    for (marks, want) in [
        (&[mark(1, 100), mark(2, 300)][..], Some((2, 300))),
        (&[mark(2, 300), mark(1, 100)], Some((2, 300))),
        (&[mark(1, 200)], None),
        (&[mark(9, 9), mark(2, 50)], Some((2, 50))),
        (&[], None),
    ] {
        assert_eq!(newest(&memory, Some(marks)), want, "{marks:?}");
    }
}

#[test]
fn bad_files_are_put_aside() {
    let name = "0000000000000002-0000000000000009.snap";
    let path = dir().join(name);
    let good = {
        let memory = written(&[(2, 9)]);
        read(&memory, &path)
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let no_crc = [&b"\x08\x00"[..], &good[6..]].concat();
    for (what, bytes) in [
        ("the file is empty", vec![]),
        ("checksum", flipped(good.len() - 1)),
        ("checksum", flipped(3)),
        ("envelope", good[..good.len() - 1].to_vec()),
        ("envelope", flipped(0)),
        ("no snapshot", vec![0x08, 1]),
        ("no snapshot", no_crc),
        ("content", b"\x08\xf8\x85\xd7\xef\x04\x12\x01\x0a".to_vec()),
    ] {
        let memory = written(&[(1, 5)]);
        put(&memory, &path, &bytes);
        let error = snapfile::read(&memory, &path).unwrap_err();
        if what != "content" {
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
        assert!(error.to_string().contains(name));
        let loaded = snapfile::load_newest(&memory, dir(), None).unwrap();
        assert_eq!(loaded.newest.unwrap().0.index, 5, "{what}: the next older");
        let aside = dir().join(format!("{name}.broken"));
        assert_eq!(loaded.broken[0].0, aside);
        assert_eq!(read(&memory, &aside), bytes, "{what}: nothing is lost");
        assert_eq!(snapfile::list(&memory, dir()).unwrap().len(), 1);
    }
}

#[test]
fn an_unreadable_disk_puts_nothing_aside() {
    let memory = written(&[(1, 5), (2, 9)]);
    let path = dir().join("0000000000000002-0000000000000009.snap");
    memory.fail_reads(&path, 0..1).unwrap();
    let error = snapfile::load_newest(&memory, dir(), None).map(drop);
    assert!(matches!(error, Err(Error::Io { .. })));
    assert_eq!(snapfile::list(&memory, dir()).unwrap().len(), 2);
}

#[test]
fn the_oldest_are_purged_of_each_kind() {
    let memory = written(&[(1, 1), (1, 2), (2, 1), (2, 3)]);
    for index in 1..=3 {
        put(&memory, &snapfile::db_path(dir(), index), b"db");
    }
    for other in ["db", "0000000000000001-0000000000000001.snap.broken"] {
        put(&memory, &dir().join(other), b"other");
    }
    assert!(snapfile::purge(&memory, dir(), 0).unwrap().is_empty());
    assert!(snapfile::purge(&memory, dir(), 4).unwrap().is_empty());
    let removed = snapfile::purge(&memory, dir(), 2).unwrap();
    let want = [
        "0000000000000001.snap.db",
        "0000000000000001-0000000000000001.snap",
        "0000000000000001-0000000000000002.snap",
    ];
    assert_eq!(file_names(&removed), want);
    let released = snapfile::release_db(&memory, dir(), 3).unwrap();
    assert_eq!(file_names(&released), ["0000000000000002.snap.db"]);
    assert_eq!(names(&memory, dir()).len(), 5);
}

#[test]
fn leftovers_are_removed() {
    let memory = written(&[(1, 1)]);
    for name in ["db", "db.tmp.123", "tmp42", "0000000000000001.snap.db"] {
        put(&memory, &dir().join(name), b"x");
    }
    let removed = snapfile::remove_leftovers(&memory, dir()).unwrap();
    assert_eq!(file_names(&removed), ["db.tmp.123", "tmp42"]);
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let memory = memory();
    memory.set_space(Some(0));
    let error = snapfile::write(&memory, dir(), &snapshot(1, 1, "{}")).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(snapfile::list(&memory, dir()).unwrap().is_empty());
    memory.set_space(None);
    snapfile::write(&memory, dir(), &snapshot(1, 1, "{}")).unwrap();
}

#[test]
fn want_of_a_descriptor_is_not_the_end() {
    for errno in [libc::EMFILE, libc::ENFILE] {
        let memory = memory();
        memory.fail_at(memory.steps() + 1, errno);
        let error = snapfile::write(&memory, dir(), &snapshot(1, 1, "{}")).unwrap_err();
        assert!(error.is_no_descriptor() && !error.is_poison(), "{error}");
        snapfile::write(&memory, dir(), &snapshot(1, 1, "{}")).unwrap();
    }
}

/// It may be the file of the newest mark, and what comes in its place may fail.
#[test]
fn a_file_that_cannot_be_read_just_now_is_not_overwritten() {
    let memory = written(&[(1, 1)]);
    let name = dir().join("0000000000000001-0000000000000001.snap");
    memory.fail_reads(&name, 0..1).unwrap();
    let error = snapfile::write(&memory, dir(), &snapshot(1, 1, "{}")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    memory.heal_reads();
    // The directory, then the file.
    memory.fail_open(memory.opens() + 2, libc::EMFILE);
    memory.fail_at(memory.steps() + 2, libc::ENOSPC);
    snapfile::write(&memory, dir(), &snapshot(1, 1, "{}")).unwrap_err();
    assert_eq!(newest(&memory, None), Some((1, 1)));
}

/// Writes an older snapshot, then a newer one, stopped at every step; then reads.
#[test]
fn a_crash_leaves_the_old_one_or_both() {
    let run = |memory: &MemDisk| -> Result<(), Error> {
        snapfile::write(memory, dir(), &snapshot(1, 2, "{}"))?;
        // The same again must not endanger what is there.
        snapfile::write(memory, dir(), &snapshot(1, 2, "{}"))?;
        snapfile::write(memory, dir(), &snapshot(1, 1, "{}")).map(drop)
    };
    let counting = written(&[(1, 1)]);
    counting.settle();
    let (first, _) = (counting.steps(), run(&counting).unwrap());
    let mut durable = 0;
    for step in first + 1..=counting.steps() + 1 {
        let memory = written(&[(1, 1)]);
        memory.settle();
        memory.stop_at(step);
        let result = run(&memory);
        for seed in 0..20 {
            let after = memory.crash(seed, CrashMode::Any);
            let found = newest(&after, None);
            assert!(found >= Some((1, 1)), "step {step} seed {seed}: {found:?}");
            if result.is_ok() {
                assert_eq!(found, Some((1, 2)));
                durable += 1;
            }
        }
    }
    assert!(durable > 0);
}

#[test]
fn every_sync_of_a_snapshot_is_needed() {
    for nth in 1..=2 {
        let lost = (0..20).any(|seed| {
            let memory = memory();
            memory.skip_sync(nth);
            snapfile::write(&memory, dir(), &snapshot(1, 2, "{}")).unwrap();
            assert_eq!(memory.syncs(), 2);
            newest(&memory.crash(seed, CrashMode::Any), None).is_none()
        });
        assert!(lost, "sync {nth} could be left out");
    }
}

#[test]
fn a_failed_sync_is_reported_as_final() {
    for nth in 1..=2 {
        let memory = memory();
        memory.fail_sync(nth, 5);
        let error = snapfile::write(&memory, dir(), &snapshot(1, 2, "{}")).unwrap_err();
        assert!(error.is_poison(), "{error}");
        assert!(memory.list(dir()).unwrap().is_empty());
    }
}
