//! The log on a disk that is full, broken, or used by another.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use disk::RealDisk;
use disk::mem::MemDisk;
use wal::{Error, SEGMENT_BYTES, Wal};

fn created() -> (MemDisk, Wal) {
    let memory = memory();
    let mut wal = Wal::create(&memory.shared(), dir(), b"metadata").unwrap();
    wal.set_segment_bytes(2000);
    (memory, wal)
}

/// After one failed sync nothing is taken any more, whatever the disk says later.
fn check_poison(nth: u64, run: fn(&mut Wal) -> Result<(), Error>) {
    let (memory, mut wal) = created();
    memory.fail_sync(memory.syncs() + nth, libc::EIO);
    let error = run(&mut wal).unwrap_err();
    assert!(error.is_poison(), "{error}");
    assert!(error.to_string().contains(DIR), "{error}");
    let (steps, before) = (memory.steps(), wal.last_index());
    for result in [
        wal.append(None, &[entry(9, 9, "x")]).map(drop),
        wal.append(Some(&state(9, 9, 9)), &[]).map(drop),
        wal.sync(),
        wal.save(None, &[entry(9, 9, "x")]).map(drop),
        wal.save_mark(&mark(1, 1)),
    ] {
        let again = result.unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
    }
    assert_eq!(
        (memory.steps(), wal.last_index()),
        (steps, before),
        "not even tried"
    );
    wal.close().unwrap_err();
}

#[test]
fn a_failed_sync_is_the_end() {
    let save = |wal: &mut Wal| wal.save(None, &[entry(1, 1, "a")]).map(drop);
    check_poison(1, save);
    let mark = |wal: &mut Wal| wal.save_mark(&mark(1, 1));
    check_poison(1, mark);
    let held_back = |wal: &mut Wal| {
        wal.append(Some(&state(1, 1, 1)), &[entry(1, 1, "a")])?;
        wal.sync()
    };
    check_poison(1, held_back);
    // Save, head of the new segment, its name.
    let cut = |wal: &mut Wal| wal.save(None, &[entry(1, 1, payload(1, 3000))]).map(drop);
    for nth in 1..=3 {
        check_poison(nth, cut);
    }
}

/// What a process reads after one that was told of a failed sync may be in the system's memory alone, however the log
/// ends: nothing that is promised by it may be lost later.
#[test]
fn what_was_read_after_a_failed_sync_stays() {
    for ends_in_mark in [false, true] {
        let (memory, mut wal) = created();
        wal.append(Some(&state(1, 1, 1)), &[entry(1, 1, "a")]).unwrap();
        memory.fail_sync(memory.syncs() + 1, libc::EIO);
        let failed = match ends_in_mark {
            true => wal.save_mark(&mark(1, 1)),
            false => wal.sync(),
        };
        assert!(failed.is_err_and(|error| error.is_poison()));
        drop(wal);
        let (_wal, recovered) = open(&memory.shared()).unwrap();
        assert_eq!(recovered.entries.len(), 1);
        let left = memory.crash(0, disk::mem::CrashMode::LoseUnsynced);
        let (_, recovered) = open(&left.shared()).unwrap();
        assert_eq!(recovered.entries.len(), 1, "a mark at the end: {ends_in_mark}");
    }
}

/// What a full disk let through of a record that was refused does not stay when the process stops in order.
#[test]
fn a_stop_beside_a_full_disk_leaves_a_whole_log() {
    let (memory, mut wal) = created();
    wal.save(Some(&state(1, 1, 1)), &[entry(1, 1, "a")]).unwrap();
    memory.fail_at(memory.steps() + 1, libc::ENOSPC);
    let refused = wal.save(None, &[entry(1, 2, payload(2, 900))]);
    assert!(refused.is_err_and(|error| error.is_no_space()));
    wal.close().unwrap();
    let (_, recovered) = open(&memory.shared()).unwrap();
    assert_eq!((recovered.entries.len(), recovered.repaired), (1, None));
}

#[test]
fn a_log_that_cannot_be_created_leaves_no_log() {
    for nth in 1..=3 {
        let memory = memory();
        memory.fail_sync(nth, libc::EIO);
        let error = Wal::create(&memory.shared(), dir(), b"metadata").map(drop);
        assert!(error.is_err_and(|error| error.is_poison()));
        assert!(!wal::exists(&memory, dir()).unwrap(), "sync {nth}");
        Wal::create(&memory.shared(), dir(), b"metadata").unwrap();
    }
    let memory = memory();
    memory.set_space(Some(SEGMENT_BYTES / 2));
    let error = Wal::create(&memory.shared(), dir(), b"metadata")
        .map(drop)
        .unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(names(&memory, std::path::Path::new("/data")).is_empty());
    memory.set_space(None);
    Wal::create(&memory.shared(), dir(), b"metadata").unwrap();
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let (memory, mut wal) = created();
    wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, payload(1, 1000))])
        .unwrap();
    // The first segment has its 64 MB; the second is small and must grow.
    wal.save(None, &[entry(1, 2, payload(2, 1000))]).unwrap();
    memory.set_space(Some(memory.used_bytes()));
    let long = [entry(1, 3, "short"), entry(1, 4, payload(4, 100_000))];
    for _ in 0..3 {
        let error = wal.save(Some(&state(2, 1, 1)), &long).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert_eq!(wal.last_index(), 2);
        assert_eq!(wal.hard_state(), state(1, 1, 0));
    }
    // Less may still fit; and what did not fit is in nobody's way.
    wal.save(None, &[entry(1, 3, "c")]).unwrap();
    let (_, recovered) = Wal::open(
        &memory.crash(0, disk::mem::CrashMode::LoseUnsynced).shared(),
        dir(),
        &wal::Mark::default(),
    )
    .unwrap();
    assert_eq!(recovered.entries.len(), 3);
    assert_eq!(recovered.entries[2], entry(1, 3, "c"));
    memory.set_space(None);
    let saved = wal
        .save(Some(&state(2, 1, 1)), &[entry(2, 4, payload(4, 100_000))])
        .unwrap();
    assert!(saved.synced && saved.cut);
    drop(wal);
    assert_eq!(open(&memory.shared()).unwrap().1.entries.len(), 4);
}

#[test]
fn without_room_for_a_new_segment_the_old_one_grows() {
    let (memory, mut wal) = created();
    memory.set_space(Some(memory.used_bytes()));
    for index in 1..=3 {
        let saved = wal.save(None, &[entry(1, index, payload(index, 1500))]).unwrap();
        assert!(saved.synced && !saved.cut);
        assert_eq!(saved.cut_failed.is_some(), index >= 2, "entry {index}");
    }
    assert_eq!(names(&memory, dir()), [FIRST], "no half-made spare takes room");
    memory.set_space(None);
    assert!(wal.save(None, &[entry(1, 4, "d")]).unwrap().cut);
    drop(wal);
    assert_eq!(open(&memory.shared()).unwrap().1.entries.len(), 4);
}

/// A failure at any one step of a save that cuts: an error or none, and then it works.
#[test]
fn any_single_failure_but_of_a_sync_can_be_repeated() {
    let first = [entry(1, 1, payload(1, 700))];
    let second = [entry(1, 2, payload(2, 1700))];
    let run = |memory: &MemDisk, wal: &mut Wal| -> u64 {
        let before = memory.steps();
        wal.save(Some(&state(1, 1, 0)), &first).unwrap();
        let _ = wal.save(Some(&state(1, 1, 1)), &second);
        memory.steps() - before
    };
    let (memory, mut wal) = created();
    let steps = run(&memory, &mut wal);
    let start = memory.steps() - steps;
    assert_eq!(steps, 11);
    let mut poisoned = 0;
    for step in 3..=steps {
        for errno in [libc::ENOSPC, libc::EIO] {
            let (memory, mut wal) = created();
            memory.fail_at(start + step, errno);
            run(&memory, &mut wal);
            let next = entry(1, wal.last_index() + 1, "next");
            match wal.save(None, std::slice::from_ref(&next)) {
                Err(error) if error.is_poison() => poisoned += 1,
                Err(error) => panic!("step {step}: {error}"),
                Ok(_) => {
                    let last = wal.last_index();
                    drop(wal);
                    let image = memory.crash(0, disk::mem::CrashMode::LoseUnsynced);
                    let (_, recovered) = open(&image.shared()).unwrap();
                    assert_eq!(recovered.entries.len() as u64, last, "step {step}");
                    assert_eq!(recovered.entries.last(), Some(&next));
                }
            }
        }
    }
    // Three syncs, each with either error, and a rename of which nobody knows whether it happened.
    assert_eq!(poisoned, 7);
}

/// The directory is open already; the file of the segment was made ahead.
#[test]
fn a_segment_is_begun_without_a_descriptor() {
    for errno in [libc::EMFILE, libc::ENFILE] {
        let (memory, mut wal) = created();
        wal.prepare_spare().unwrap();
        memory.fail_opens(Some(errno));
        let saved = wal.save(None, &[entry(1, 1, payload(1, 3000))]).unwrap();
        assert!(saved.synced && saved.cut);
        let saved = wal.save(None, &[entry(1, 2, payload(2, 3000))]).unwrap();
        assert!(saved.synced && saved.cut_failed.is_some_and(|error| error.is_no_descriptor()));
        memory.fail_opens(None);
        assert!(wal.save(None, &[entry(1, 3, "c")]).unwrap().cut);
        drop(wal);
        let left = memory.crash(0, disk::mem::CrashMode::LoseUnsynced);
        assert_eq!(open(&left.shared()).unwrap().1.entries.len(), 3);
    }
}

/// Each opening in turn: an error that passes, and nothing is half done.
#[test]
fn without_a_descriptor_nothing_ends() {
    let check = |what: &str, begin: &dyn Fn() -> MemDisk, run: &dyn Fn(&MemDisk) -> Result<(), Error>| {
        let whole = begin();
        let before = whole.opens();
        run(&whole).unwrap();
        let count = whole.opens() - before;
        assert!(count > 1, "{what} opens its directory too");
        for nth in 1..=count {
            let memory = begin();
            memory.fail_open(before + nth, libc::EMFILE);
            let error = run(&memory).expect_err(what);
            assert!(error.is_no_descriptor(), "{what}, opening {nth}: {error}");
            run(&memory).unwrap();
        }
    };
    let log = || {
        let (memory, mut wal) = created();
        for index in 1..=5 {
            wal.save(None, &[entry(1, index, payload(index, 2500))]).unwrap();
        }
        memory
    };
    let create = |memory: &MemDisk| Wal::create(&memory.shared(), dir(), b"metadata").map(drop);
    check("creating", &memory, &create);
    check("opening", &log, &|memory| open(&memory.shared()).map(drop));
    check("the purge", &log, &|memory| {
        wal::purge(memory, dir(), 2).map(drop)
    });
    let snapshot = wal::snapfile::Snapshot {
        index: 3,
        term: 1,
        conf_state: wal::ConfState::default(),
        data: "{}".into(),
    };
    let write = |memory: &MemDisk| wal::snapfile::write(memory, dir(), &snapshot).map(drop);
    check("a snapshot", &log, &write);
    let written = || {
        let memory = log();
        write(&memory).unwrap();
        memory
    };
    check("the same snapshot", &written, &write);
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let disk = RealDisk::shared();
    let wal = Wal::create(&disk, &path, b"metadata").unwrap();
    let second = || Wal::open(&disk, &path, &wal::Mark::default()).map(drop);
    assert!(matches!(second(), Err(Error::Locked { .. })));
    wal::check(&*disk, &path).unwrap();
    wal::valid_marks(&*disk, &path).unwrap();
    assert!(wal::purge(&*disk, &path, 1).unwrap().is_empty());
    drop(wal);
    second().unwrap();
}

/// The same log on real files: a few segments, a mark, a purge, a reopening.
#[test]
fn real_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("member/wal");
    let disk = RealDisk::shared();
    let mut wal = Wal::create(&disk, &path, b"metadata").unwrap();
    assert_eq!(disk.metadata(&path).unwrap().unwrap().mode, 0o700);
    wal.set_segment_bytes(100_000);
    for index in 1..=10 {
        wal.save(
            Some(&state(1, 1, index)),
            &[entry(1, index, payload(index, 50_000))],
        )
        .unwrap();
    }
    wal.save_mark(&mark(1, 8)).unwrap();
    wal.release_to(8);
    assert_eq!(wal::purge(&*disk, &path, 2).unwrap().len(), 3);
    wal.close().unwrap();
    let (mut wal, recovered) = Wal::open(&disk, &path, &mark(1, 8)).unwrap();
    assert_eq!(recovered.entries.len(), 2);
    assert_eq!(recovered.repaired, None);
    wal.save(None, &[entry(1, 11, "k")]).unwrap();
    drop(wal);
    let summary = wal::check(&*disk, &path).unwrap();
    assert_eq!(summary.last_index, 11);
}
