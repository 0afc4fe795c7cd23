//! The life of a log on a disk that works: what is written, what is read back, which files there are.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use disk::Disk;
use disk::mem::MemDisk;
use wal::{Error, HardState, Mark, Record, Records, SEGMENT_BYTES, Tail, Wal};

/// The head of a log of member 8e9e05c52164694d in cluster cdf818194e3a8c32, as etcd writes it.
const METADATA: &[u8] =
    b"\x08\xcd\xd2\x91\x8b\xd2\xb8\x81\xcf\x8e\x01\x10\xb2\x98\xea\xf1\x94\x83\x86\xfc\xcd\x01";
const HEAD: &[u8] = b"\x04\0\0\0\0\0\0\x84\x08\x04\x10\0\0\0\0\0\
    \x20\0\0\0\0\0\0\0\x08\x01\x10\xbb\x81\xc7\xfc\x05\x1a\x16\
    \x08\xcd\xd2\x91\x8b\xd2\xb8\x81\xcf\x8e\x01\x10\xb2\x98\xea\xf1\x94\x83\x86\xfc\xcd\x01\
    \x0e\0\0\0\0\0\0\x82\x08\x05\x10\x94\xbb\xc7\xed\x0e\x1a\x04\x08\0\x10\0\0\0";

#[test]
fn a_new_log_is_etcds_80_bytes_in_a_preallocated_segment() {
    let disk = memory().shared();
    let wal = Wal::create(&disk, dir(), METADATA).unwrap();
    assert_eq!(HEAD.len(), 80);
    assert_eq!(content(&*disk, &segment(FIRST)), HEAD);
    let meta = disk.metadata(&segment(FIRST)).unwrap().unwrap();
    assert_eq!(meta.len, SEGMENT_BYTES);
    assert_eq!(names(&*disk, dir()), [FIRST]);
    assert!(matches!(
        Wal::create(&disk, dir(), METADATA),
        Err(Error::Exists { .. })
    ));
    drop(wal);
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(&recovered.metadata[..], METADATA);
    assert_eq!(&wal.metadata()[..], METADATA);
    assert!(recovered.mark_found && recovered.entries.is_empty());
}

#[test]
fn what_is_saved_is_read_back() {
    let disk = memory().shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    let entries = [
        entry(1, 1, ""),
        entry(1, 2, "a"),
        entry(2, 3, payload(3, 100_000)),
        entry(u64::MAX, 4, vec![0; 5000]),
    ];
    let saved = wal.save(Some(&state(2, 7, 1)), &entries).unwrap();
    assert!(saved.synced && !saved.cut);
    assert_eq!(wal.last_index(), 4);
    drop(wal);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries, entries);
    assert_eq!(recovered.hard_state, state(2, 7, 1));
    assert_eq!(recovered.repaired, None);
    // Appending goes on where reading ended, and a newer leader's entry replaces those after it.
    wal.save(None, &[entry(3, 3, "new")]).unwrap();
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    let want = [entries[0].clone(), entries[1].clone(), entry(3, 3, "new")];
    assert_eq!(recovered.entries, want);
}

#[test]
fn a_commit_alone_is_written_with_what_comes_next() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, "a")]).unwrap();
    let steps = memory.steps();
    assert!(!wal.append(Some(&state(1, 1, 1)), &[]).unwrap());
    assert!(!wal.append(Some(&HardState::default()), &[]).unwrap());
    assert_eq!(memory.steps(), steps, "no I/O for it");
    let last_state = |disk: &MemDisk| wal::check(disk, dir()).unwrap().hard_state;
    assert_eq!(last_state(&memory), state(1, 1, 0));
    wal.save(None, &[entry(1, 2, "b")]).unwrap();
    assert_eq!(last_state(&memory), state(1, 1, 1));
    // Superseded before it was ever written.
    wal.append(Some(&state(1, 1, 2)), &[]).unwrap();
    wal.save(Some(&state(1, 1, 3)), &[entry(1, 3, "c")]).unwrap();
    let mut states = Vec::new();
    let mut records = Records::open(&memory, dir()).unwrap();
    while let Some(located) = records.next().unwrap() {
        if let Record::State(state) = located.record().unwrap() {
            states.push(state.commit);
        }
    }
    assert_eq!(states, [0, 1, 3]);
    wal.append(Some(&state(1, 1, 4)), &[]).unwrap();
    wal.close().unwrap();
    assert_eq!(last_state(&memory), state(1, 1, 4));
}

#[test]
fn a_vote_must_be_synced() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    for (new, want) in [
        (state(1, 0, 0), true),
        (state(1, 2, 0), true),
        (state(1, 2, 5), false),
        (state(1, 2, 5), false),
        (state(2, 2, 5), true),
    ] {
        assert_eq!(wal.append(Some(&new), &[]).unwrap(), want, "{new:?}");
        let syncs = memory.syncs();
        wal.sync().unwrap();
        wal.sync().unwrap();
        assert!(memory.syncs() <= syncs + 1, "no sync without a write");
    }
}

#[test]
fn segments_are_cut_named_and_chained() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.set_segment_bytes(4096);
    let mut all = Vec::new();
    for index in 1..=20 {
        all.push(entry(1, index, payload(index, 1000)));
        let saved = wal
            .save(Some(&state(1, 1, index)), &all[all.len() - 1..])
            .unwrap();
        assert_eq!(saved.cut, index % 4 == 0, "entry {index}");
    }
    let segments = [
        FIRST,
        "0000000000000001-0000000000000005.wal",
        "0000000000000002-0000000000000009.wal",
        "0000000000000003-000000000000000d.wal",
        "0000000000000004-0000000000000011.wal",
        "0000000000000005-0000000000000015.wal",
    ];
    assert_eq!(names(&memory, dir()), segments);
    let finished = read(&memory, &segment(segments[1]));
    assert_eq!(
        finished,
        content(&memory, &segment(segments[1])),
        "cut to its content"
    );
    wal.save_mark(&mark(1, 10)).unwrap();
    wal.close().unwrap();
    assert_eq!(names(&memory, dir()), segments, "close removes the spare");

    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries, all);
    let (wal, recovered) = Wal::open(&disk, dir(), &mark(1, 10)).unwrap();
    assert_eq!(recovered.entries, all[10..]);
    assert!(recovered.mark_found);
    assert_eq!(recovered.hard_state, state(1, 1, 20));
    assert_eq!(wal.last_index(), 20);
    let unknown = Wal::open(&disk, dir(), &mark(1, 12)).map(drop);
    assert!(matches!(unknown, Err(Error::Locked { .. })));
    drop(wal);
    let (_, recovered) = Wal::open(&disk, dir(), &mark(1, 12)).unwrap();
    assert!(!recovered.mark_found);
    let mismatch = Wal::open(&disk, dir(), &mark(2, 10)).map(drop);
    assert!(matches!(mismatch, Err(Error::MarkMismatch { found: 1, .. })));
}

#[test]
fn the_spare_is_made_ahead_and_used_by_turns() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.set_segment_bytes(1000);
    // What a crash left of an old spare is no part of the new segment.
    put(&memory, &segment("0.tmp"), &payload(1, 5000));
    for index in 1..=3 {
        let job = wal.spare_job().unwrap();
        wal.put_spare(job.run().unwrap());
        assert!(wal.spare_job().is_none());
        let spare = format!("{}.tmp", (index - 1) % 2);
        assert!(names(&memory, dir()).contains(&spare), "{spare}");
        let steps = memory.steps();
        wal.save(None, &[entry(1, index, payload(index, 2000))]).unwrap();
        assert_eq!(
            memory.steps() - steps,
            7,
            "write, sync, shorten, head, sync, rename, sync"
        );
    }
    let entries = open_again(wal, &disk).entries;
    assert_eq!(entries.len(), 3);
}

/// A job empties its file. Had it that of the next segment, a log could lose all that it wrote there.
#[test]
fn a_cut_does_not_touch_the_spare_that_is_being_made() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.set_segment_bytes(1000);
    let job = wal.spare_job().unwrap();
    assert!(wal.spare_job().is_none(), "one is being made");
    for index in 1..=3 {
        wal.save(None, &[entry(1, index, payload(index, 2000))]).unwrap();
        assert!(wal.cut_if_full().is_ok());
    }
    assert!(!names(&memory, dir()).contains(&"0.tmp".to_owned()));
    wal.put_spare(job.run().unwrap());
    assert!(wal.spare_job().is_none(), "one is there");
    wal.save(None, &[entry(1, 4, payload(4, 2000))]).unwrap();
    wal.cut_if_full().unwrap();
    assert!(wal.spare_job().is_some());
    assert!(wal.spare_job().is_none());
    wal.spare_failed();
    assert!(wal.spare_job().is_some());
    let entries = open_again(wal, &disk).entries;
    assert_eq!(entries.len(), 4);
}

fn open_again(wal: Wal, disk: &std::sync::Arc<dyn Disk>) -> wal::Recovered {
    drop(wal);
    open(disk).unwrap().1
}

#[test]
fn marks_count_when_they_are_committed() {
    let disk = memory().shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    let indexes = || -> Vec<u64> {
        let (marks, _) = wal::valid_marks(&*disk, dir()).unwrap();
        marks.iter().map(|mark| mark.index).collect()
    };
    assert_eq!(indexes(), [0]);
    let entries: Vec<_> = (1..=9).map(|index| entry(1, index, "x")).collect();
    wal.save(Some(&state(1, 1, 0)), &entries).unwrap();
    wal.append(Some(&state(1, 1, 5)), &[]).unwrap();
    wal.save_mark(&mark(1, 5)).unwrap();
    assert_eq!(indexes(), [0, 5], "the commit held back went first");
    wal.save_mark(&mark(1, 7)).unwrap();
    assert_eq!(indexes(), [0, 5]);
    wal.save(Some(&state(1, 1, 8)), &[entry(1, 10, "x")]).unwrap();
    assert_eq!(indexes(), [0, 5, 7]);
    let (marks, last) = wal::valid_marks(&*disk, dir()).unwrap();
    assert_eq!((&marks[2], last), (&mark(1, 7), state(1, 1, 8)));
    let incomplete = Mark {
        conf_state: None,
        ..mark(1, 8)
    };
    let refused = wal.save_mark(&incomplete);
    assert!(matches!(refused, Err(Error::MarkIncomplete { index: 8 })));
}

/// What was written behind the mark before the mark's own entry was replaced is gone with what that
/// replaced.
#[test]
fn entries_that_a_newer_leader_replaced_do_not_come_back_behind_a_mark() {
    let check = |replaced: &[wal::Entry], wanted: &[u64]| {
        let disk = memory().shared();
        let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
        let entries: Vec<_> = (1..=9).map(|index| entry(1, index, "old")).collect();
        wal.save(Some(&state(1, 1, 5)), &entries).unwrap();
        wal.save(Some(&state(2, 1, 5)), replaced).unwrap();
        wal.save(Some(&state(2, 1, 7)), &[]).unwrap();
        wal.save_mark(&mark(2, 7)).unwrap();
        drop(wal);
        let (_, recovered) = Wal::open(&disk, dir(), &mark(2, 7)).unwrap();
        let indexes: Vec<u64> = recovered.entries.iter().map(|entry| entry.index).collect();
        assert_eq!(indexes, wanted, "{replaced:?}");
    };
    check(&[entry(2, 6, "new"), entry(2, 7, "new")], &[]);
    check(&[entry(2, 7, "new"), entry(2, 8, "new")], &[8]);
    // The leader's whole state took the place of the log.
    check(&[], &[]);
}

/// A write that fails may have been done in part; who does not write again must not leave half a record.
#[test]
fn a_log_that_could_not_be_written_ends_with_a_whole_record() {
    const EIO: i32 = 5;
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, "whole")]).unwrap();
    memory.fail_at(memory.steps() + 1, EIO);
    wal.append(None, &[entry(1, 2, "never written to its end")])
        .unwrap_err();
    let recovered = open_again(wal, &disk);
    assert_eq!((recovered.entries.len(), recovered.repaired), (1, None));
}

#[test]
fn released_segments_are_purged_oldest_first() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.set_segment_bytes(1);
    for index in 1..=6 {
        wal.save(Some(&state(1, 1, index)), &[entry(1, index, "x")])
            .unwrap();
    }
    // Segments that begin at 0, 2, 3, 4, 5, 6, 7.
    let purge = |max| wal::purge(&memory, dir(), max).unwrap().len();
    assert_eq!(purge(1), 0, "all are held");
    wal.release_to(0);
    wal.release_to(2);
    assert_eq!(purge(1), 0, "the first may hold the entry before");
    wal.save_mark(&mark(1, 4)).unwrap();
    wal.release_to(4);
    assert_eq!(purge(0), 0, "0 keeps all");
    assert_eq!(purge(6), 1);
    assert_eq!(purge(1), 1, "the one from 3 on is held");
    let left = names(&memory, dir());
    assert_eq!(left[0], "0000000000000002-0000000000000003.wal");
    drop(wal);
    let early = open(&disk).map(drop);
    assert!(matches!(early, Err(Error::NoSegment { index: 0, .. })));
    let (_, recovered) = Wal::open(&disk, dir(), &mark(1, 4)).unwrap();
    assert_eq!(recovered.entries, [entry(1, 5, "x"), entry(1, 6, "x")]);
}

#[test]
fn first_entries_come_with_the_log() {
    let memory = memory();
    let disk = memory.shared();
    let first = [entry(1, 1, "add member")];
    let wal = Wal::create_with(&disk, dir(), METADATA, Some(&state(1, 0, 1)), &first).unwrap();
    assert_eq!(wal.last_index(), 1);
    let crashed = memory.crash(0, disk::mem::CrashMode::LoseUnsynced).shared();
    let (_, recovered) = open(&crashed).unwrap();
    assert_eq!(recovered.entries, first);
    assert_eq!(recovered.hard_state, state(1, 0, 1));
}

#[test]
fn a_log_exists_if_a_name_says_so() {
    let memory = memory();
    assert!(!wal::exists(&memory, dir()).unwrap());
    put(&memory, &segment("0.tmp"), b"");
    assert!(!wal::exists(&memory, dir()).unwrap());
    put(&memory, &segment("any.wal"), b"");
    assert!(wal::exists(&memory, dir()).unwrap());
    let none = Records::open(&memory, dir()).map(drop);
    assert!(matches!(none, Err(Error::NoSegment { .. })));
}

#[test]
fn a_missing_segment_is_named() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.set_segment_bytes(1);
    for index in 1..=3 {
        wal.save(None, &[entry(1, index, "x")]).unwrap();
    }
    drop(wal);
    let lost = segment("0000000000000001-0000000000000002.wal");
    disk.remove_file(&lost).unwrap();
    for error in [
        open(&disk).map(drop).unwrap_err(),
        wal::check(&memory, dir()).map(drop).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("0000000000000001 is missing"), "{text}");
    }
}

#[test]
fn a_check_sums_up_what_is_there() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), METADATA).unwrap();
    wal.save(Some(&state(1, 1, 1)), &[entry(1, 1, "x"), entry(1, 2, "y")])
        .unwrap();
    wal.save_mark(&mark(1, 1)).unwrap();
    let summary = wal::check(&memory, dir()).unwrap();
    assert_eq!((summary.records, summary.entries, summary.last_index), (7, 2, 2));
    assert_eq!(summary.marks, [Mark::default(), mark(1, 1)]);
    let end = content(&memory, &segment(FIRST)).len() as u64;
    assert_eq!(summary.tail, Tail::Clean(end));
}
