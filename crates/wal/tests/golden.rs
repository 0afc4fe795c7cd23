//! Logs and snapshot files that Go etcd 3.5, 3.6 and 3.7 wrote (by `go/make-golden.sh`), each read as
//! Go reads it.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use disk::mem::MemDisk;
use disk::{Disk, Open, RealDisk, copy_tree};
use wal::{Mark, Wal, snapfile};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn expected(name: &str, file: &str) -> String {
    String::from_utf8(read(&RealDisk, &golden(name).join(file))).unwrap()
}

/// The golden directory in memory, the zeros at the end of its last segment put back.
fn load(name: &str) -> MemDisk {
    let memory = memory();
    copy_tree(&RealDisk, &golden(name), &memory, dir()).unwrap();
    let segments = names(&memory, dir());
    let last = segments.iter().rfind(|name| name.ends_with(".wal")).unwrap();
    let file = memory.open(&segment(last), Open::Write).unwrap();
    file.allocate(1_000_000).unwrap();
    memory.settle();
    memory
}

fn check(name: &str, from: &Mark) {
    for line in ["3.5", "3.6", "3.7"] {
        let name = format!("{line}-{name}");
        let memory = load(&name);
        let files = || {
            let names = memory.list(dir()).unwrap().into_iter().map(|entry| entry.name);
            names
                .map(|name| (name.clone(), content(&memory, &segment(&name))))
                .collect::<Vec<_>>()
        };
        let before = files();
        let (marks, _) = wal::valid_marks(&memory, dir()).unwrap();
        let (mut wal, recovered) = Wal::open(&memory.shared(), dir(), from).unwrap();
        let text = describe_marks(&marks) + &describe(&recovered);
        assert_eq!(text, expected(&name, "expect"), "{name}");
        assert!(recovered.mark_found);
        assert!(files() == before, "{name}: reading changes nothing");

        let next = entry(9, wal.last_index() + 1, "ours");
        wal.save(Some(&state(9, 1, 1)), std::slice::from_ref(&next))
            .unwrap();
        drop(wal);
        let (_, again) = Wal::open(&memory.shared(), dir(), from).unwrap();
        let mut want = recovered.entries;
        want.push(next);
        assert_eq!(again.entries, want, "{name}");
    }
}

#[test]
fn an_entry_rewritten_by_a_newer_term() {
    check("rewritten", &Mark::default());
}

#[test]
fn several_segments() {
    check("segments", &Mark::default());
}

#[test]
fn several_segments_from_a_mark() {
    check("from-mark", &mark(1, 8));
}

#[test]
fn a_killed_member() {
    check("member", &Mark::default());
}

#[test]
fn a_later_segment_is_enough_for_a_later_start() {
    for line in ["3.5", "3.6", "3.7"] {
        let memory = load(&format!("{line}-segments"));
        for first in &names(&memory, dir())[..2] {
            memory.remove_file(&segment(first)).unwrap();
        }
        let (_, recovered) = Wal::open(&memory.shared(), dir(), &mark(2, 20)).unwrap();
        let all = expected(&format!("{line}-segments"), "expect");
        let after: String = describe(&recovered);
        let tail = after.lines().skip(2).collect::<Vec<_>>();
        assert_eq!(tail.len(), 4);
        assert!(all.ends_with(&(tail.join("\n") + "\n")), "{after}");
    }
}

#[test]
fn snapshot_files_of_a_member() {
    for line in ["3.5", "3.6", "3.7"] {
        let name = format!("{line}-member");
        let memory = load(&name);
        let (marks, _) = wal::valid_marks(&memory, dir()).unwrap();
        let loaded = snapfile::load_newest(&memory, dir(), Some(&marks)).unwrap();
        let (snapshot, path) = loaded.newest.unwrap();
        assert_eq!(describe_snapshot(&snapshot), expected(&name, "expect-snap"));
        assert!(loaded.broken.is_empty());
        assert_eq!(snapshot.conf_state.auto_leave, Some(false));
        // Written by us it is the same file, byte for byte.
        memory.create_dir_all(Path::new("/ours")).unwrap();
        let ours = snapfile::write(&memory, Path::new("/ours"), &snapshot).unwrap();
        assert_eq!(ours.file_name(), path.file_name());
        assert_eq!(read(&memory, &ours), read(&memory, &path));
    }
}

#[test]
fn records_are_encoded_as_go_3_6_encodes_them() {
    let golden = load("3.6-rewritten");
    let disk = memory().shared();
    let mut wal = Wal::create(&disk, dir(), b"metadata").unwrap();
    let entries = |term, indexes: std::ops::RangeInclusive<u64>, len| -> Vec<wal::Entry> {
        let first = *indexes.start();
        indexes
            .map(|index| wal::Entry {
                kind: match (index - first) % 3 {
                    1 => wal::EntryKind::ConfChangeV2,
                    _ => wal::EntryKind::Normal,
                },
                ..entry(term, index, go_payload(index, len))
            })
            .collect()
    };
    wal.save(Some(&state(1, 1, 2)), &entries(1, 1..=3, 100)).unwrap();
    let mut two = mark(1, 2);
    two.conf_state.as_mut().unwrap().voters = vec![1, 2];
    wal.save_mark(&two).unwrap();
    wal.save(Some(&state(2, 1, 4)), &entries(2, 3..=7, 700)).unwrap();
    wal.append(Some(&state(2, 1, 5)), &[]).unwrap();
    wal.close().unwrap();
    let ours = content(&*disk, &segment(FIRST));
    assert_eq!(ours, content(&golden, &segment(FIRST)));
}
