//! What the disk in memory promises to the tests that stand on it.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;

use disk::mem::{CrashMode, MemDisk, is_stopped};
use disk::{Disk, File, Lock, Open, RealDisk, copy_tree};

fn read(disk: &dyn Disk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), Open::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

/// A durable directory `/d` with a durable file `/d/f` that holds `content`.
fn prepared(content: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.open(Path::new("/d/f"), Open::CreateNew).unwrap();
    file.write_at(content, 0).unwrap();
    disk.settle();
    disk
}

/// All states of `path` over many crashes of one mode.
fn outcomes(disk: &MemDisk, mode: CrashMode, path: &str) -> Vec<Option<Vec<u8>>> {
    let mut found: Vec<_> = (0..200).map(|seed| read(&disk.crash(seed, mode), path)).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn unsynced_writes_are_lost_kept_or_either() {
    let disk = prepared(b"old");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    file.write_at(b"new", 0).unwrap();
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    let is = |mode, want: &[&Option<Vec<u8>>]| {
        let found = outcomes(&disk, mode, "/d/f");
        assert_eq!(found.iter().collect::<Vec<_>>(), want, "{mode:?}");
    };
    is(CrashMode::LoseUnsynced, &[&old]);
    is(CrashMode::KeepAll, &[&new]);
    is(CrashMode::Subset, &[&new, &old]);
    is(CrashMode::Torn, &[&new, &old]);
    is(CrashMode::Any, &[&new, &old]);
    file.sync_data().unwrap();
    for mode in CrashMode::ALL {
        is(mode, &[&new]);
    }
}

#[test]
fn a_long_write_tears_at_sectors_only() {
    let disk = prepared(&[]);
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    file.write_at(&[7; 1024 + 100], 412).unwrap();
    let found = outcomes(&disk, CrashMode::Torn, "/d/f");
    assert!(found.len() > 4, "{} states", found.len());
    for bytes in found.into_iter().flatten() {
        for (from, to) in [(412, 512), (512, 1024), (1024, 1536)] {
            let mut sector = bytes.iter().take(to).skip(from);
            let first = sector.next();
            let whole = first.is_none_or(|first| sector.all(|byte| byte == first));
            assert!(whole, "the sector from {from} is torn inside");
        }
    }
}

#[test]
fn later_writes_of_a_sector_never_survive_without_the_earlier() {
    let disk = prepared(&[]);
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    file.write_at(b"a", 0).unwrap();
    file.write_at(b"b", 1).unwrap();
    let found = outcomes(&disk, CrashMode::Torn, "/d/f");
    let want: [&[u8]; 3] = [b"", b"a", b"ab"];
    assert_eq!(found, want.map(|bytes| Some(bytes.to_vec())));
}

#[test]
fn names_wait_for_the_sync_of_their_directory() {
    let disk = prepared(b"x");
    let file = disk.open(Path::new("/d/new"), Open::CreateNew).unwrap();
    file.write_at(b"n", 0).unwrap();
    file.sync_all().unwrap();
    disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
    for seed in 0..100 {
        let after = disk.crash(seed, CrashMode::Any);
        let both = (read(&after, "/d/f"), read(&after, "/d/g"));
        let once = [(Some(b"x".to_vec()), None), (None, Some(b"x".to_vec()))];
        assert!(once.contains(&both), "a rename is whole: {both:?}");
    }
    assert_eq!(outcomes(&disk, CrashMode::Any, "/d/new").len(), 2);
    disk.sync_dir(Path::new("/d")).unwrap();
    for mode in CrashMode::ALL {
        assert_eq!(outcomes(&disk, mode, "/d/new"), [Some(b"n".to_vec())]);
        assert_eq!(outcomes(&disk, mode, "/d/f"), [None]);
    }
}

#[test]
fn an_open_directory_is_synced_under_its_new_name_and_needs_no_descriptor() {
    let disk = prepared(b"x");
    let held = disk.open_dir(Path::new("/d")).unwrap();
    disk.rename(Path::new("/d"), Path::new("/e")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/e/f"), Path::new("/e/g")).unwrap();
    disk.fail_opens(Some(libc::EMFILE));
    for error in [
        disk.open_dir(Path::new("/e")).map(drop).unwrap_err(),
        disk.open(Path::new("/e/g"), Open::Read).map(drop).unwrap_err(),
        disk.list(Path::new("/e")).map(drop).unwrap_err(),
    ] {
        assert!(disk::lacks_descriptor(&error), "{error}");
    }
    held.sync().unwrap();
    let after = disk.crash(0, CrashMode::LoseUnsynced);
    assert_eq!(read(&after, "/e/g"), Some(b"x".to_vec()));
}

#[test]
fn a_step_that_is_refused_leaves_nothing() {
    let disk = prepared(b"old");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    disk.fail_at(disk.steps() + 1, libc::ENOSPC);
    assert!(file.write_at(b"1234", 0).is_err());
    assert_eq!(read(&disk, "/d/f"), Some(b"12d".to_vec()));
    disk.refuse_at(disk.steps() + 1, libc::ENOSPC);
    assert!(file.write_at(b"5678", 0).is_err());
    assert_eq!(read(&disk, "/d/f"), Some(b"12d".to_vec()));
}

#[test]
fn a_removed_tree_comes_back_until_its_names_are_synced() {
    let disk = prepared(b"x");
    disk.remove_dir_all(Path::new("/d")).unwrap();
    assert_eq!(read(&disk, "/d/f"), None);
    let lost = disk.crash(0, CrashMode::LoseUnsynced);
    assert_eq!(read(&lost, "/d/f"), Some(b"x".to_vec()));
    disk.sync_dir(Path::new("/")).unwrap();
    let gone = disk.crash(0, CrashMode::LoseUnsynced);
    assert_eq!(gone.metadata(Path::new("/d")).unwrap(), None);
}

#[test]
fn it_stops_at_a_step_and_stays_stopped() {
    let disk = prepared(b"old");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    disk.stop_at(disk.steps() + 2);
    file.write_at(b"new", 0).unwrap();
    assert!(is_stopped(&file.sync_data().unwrap_err()));
    assert!(is_stopped(&file.len().unwrap_err()));
    assert!(is_stopped(&disk.list(Path::new("/d")).unwrap_err()));
    let after = disk.crash(1, CrashMode::KeepAll);
    assert_eq!(read(&after, "/d/f"), Some(b"new".to_vec()));
}

#[test]
fn syncs_lie_and_fail_on_order() {
    let disk = prepared(b"old");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    disk.skip_sync(1);
    disk.fail_sync(2, libc::EIO);
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    let lost = |disk: &MemDisk| read(&disk.crash(0, CrashMode::LoseUnsynced), "/d/f");
    assert_eq!(lost(&disk), Some(b"old".to_vec()), "the first one lied");
    let error = file.sync_data().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    file.sync_data().unwrap();
    assert_eq!(lost(&disk), Some(b"old".to_vec()), "a failed sync is final");
    assert_eq!(disk.syncs(), 3);
}

#[test]
fn a_device_lies_about_one_directory() {
    let disk = prepared(b"old");
    disk.create_dir_all(Path::new("/e")).unwrap();
    disk.settle();
    disk.lie_below(Some(Path::new("/d")));
    let lost = |disk: &MemDisk, path| read(&disk.crash(0, CrashMode::LoseUnsynced), path);
    for path in ["/d/f", "/d/g", "/e/f"] {
        let file = disk.open(Path::new(path), Open::WriteOrCreate).unwrap();
        file.write_at(b"new", 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    }
    assert_eq!(lost(&disk, "/d/f"), Some(b"old".to_vec()));
    assert_eq!(lost(&disk, "/d/g"), None);
    assert_eq!(lost(&disk, "/e/f"), Some(b"new".to_vec()));
    assert_eq!(read(&disk, "/d/f"), Some(b"new".to_vec()), "programs see it");
    disk.lie_below(None);
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    file.sync_data().unwrap();
    assert_eq!(lost(&disk, "/d/f"), Some(b"new".to_vec()));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = prepared(b"");
    disk.set_space(Some(3 * 4096));
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    let code = |result: io::Result<()>| result.unwrap_err().raw_os_error();
    assert_eq!(code(file.allocate(4 * 4096)), Some(libc::ENOSPC));
    file.allocate(2 * 4096).unwrap();
    file.write_at(&[1; 2 * 4096], 0).unwrap();
    let long = file.write_at(&[2; 2 * 4096], 2 * 4096);
    assert_eq!(code(long), Some(libc::ENOSPC));
    assert_eq!(file.len().unwrap(), 3 * 4096);
    file.set_len(4096).unwrap();
    file.write_at(&[3; 2 * 4096], 4096).unwrap();
    assert_eq!(disk.used_bytes(), 3 * 4096);
    drop(file);
    disk.remove_file(Path::new("/d/f")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn a_failed_write_does_half() {
    let disk = prepared(b"0000");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    disk.fail_at(disk.steps() + 1, libc::ENOSPC);
    file.write_at(b"1111", 0).unwrap_err();
    assert_eq!(read(&disk, "/d/f"), Some(b"1100".to_vec()));
}

#[test]
fn one_write_finds_no_room_beside_others_that_do() {
    let disk = prepared(b"0000");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    disk.lack_room_from(disk.steps() + 2);
    file.write_at(b"1", 0).unwrap();
    // What takes no space is not meant.
    file.sync_data().unwrap();
    let error = file.write_at(&[2; 10_000], 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!((file.len().unwrap(), disk.take_lacked()), (4096, 1));
    file.write_at(b"3333", 0).unwrap();
    disk.lack_room_from(disk.steps() + 1);
    disk.open(Path::new("/d/g"), Open::CreateNew)
        .map(drop)
        .unwrap_err();
    disk.lack_room_from(disk.steps() + 1);
    disk.lack_no_room();
    disk.open(Path::new("/d/g"), Open::CreateNew).map(drop).unwrap();
    assert_eq!(disk.take_lacked(), 1);
}

#[test]
fn reads_fail_where_told_and_bits_flip() {
    let disk = prepared(b"0123456789");
    disk.fail_reads(Path::new("/d/f"), 4..5).unwrap();
    let file = disk.open(Path::new("/d/f"), Open::Read).unwrap();
    let mut buf = [0; 4];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
    let error = file.read_at(&mut buf, 2).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    disk.heal_reads();
    disk.flip(Path::new("/d/f"), 0, 1).unwrap();
    assert_eq!(read(&disk, "/d/f"), Some(b"1123456789".to_vec()));
    disk.set_cold(true);
    assert_eq!(file.try_read_at(&mut buf, 0).unwrap(), None);
}

#[test]
fn the_same_seed_crashes_the_same_way() {
    let disk = prepared(b"");
    let file = disk.open(Path::new("/d/f"), Open::Write).unwrap();
    for at in 0..20 {
        file.write_at(&[at as u8 + 1; 700], at * 650).unwrap();
    }
    for seed in 0..20 {
        let once = read(&disk.crash(seed, CrashMode::Any), "/d/f");
        let again = read(&disk.crash(seed, CrashMode::Any), "/d/f");
        assert_eq!(once, again);
    }
}

/// Both disks pass the same story.
fn check_story(disk: &dyn Disk, root: &Path) {
    let dir = root.join("a/b");
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    let missing = disk.open(&path, Open::Read).map(drop).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    let file = disk.open(&path, Open::CreateNew).unwrap();
    assert!(disk.open(&path, Open::CreateNew).is_err());
    file.allocate(10_000).unwrap();
    file.write_at(b"hello", 9_998).unwrap();
    let meta = disk.metadata(&path).unwrap().unwrap();
    assert_eq!((meta.len, meta.is_dir, meta.mode), (10_003, false, 0o600));
    let meta = disk.metadata(&dir).unwrap().unwrap();
    assert_eq!((meta.is_dir, meta.mode), (true, 0o700));
    let mut buf = [9; 10];
    let other = disk.open(&path, Open::Read).unwrap();
    assert_eq!(other.read_at(&mut buf, 9_996).unwrap(), 7);
    assert_eq!(&buf, b"\0\0hello\x09\x09\x09");
    assert_eq!(other.try_read_at(&mut buf, 9_998).unwrap(), Some(5));
    assert_eq!(other.read_at(&mut buf, 20_000).unwrap(), 0);
    assert!(other.write_at(b"x", 0).is_err());
    let data = other.next_data(100).unwrap().unwrap();
    assert!((100..=9_998).contains(&data), "{data}");
    assert_eq!(other.next_data(10_000).unwrap(), Some(10_000));
    assert_eq!(other.next_data(10_003).unwrap(), None);
    file.allocate(1_000_000).unwrap();
    let beyond = other.next_data(500_000).unwrap();
    assert!(beyond.is_none_or(|at| at >= 500_000));
    file.set_len(10_003).unwrap();
    file.set_len(9_999).unwrap();
    file.set_len(10_001).unwrap();
    assert_eq!(other.read_at(&mut buf, 9_998).unwrap(), 3);
    assert_eq!(&buf[..3], b"h\0\0");
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    disk.rename(&path, &dir.join("g")).unwrap();
    disk.sync_dir(&dir).unwrap();
    let names = |dir: &Path| -> Vec<(String, bool)> {
        let entries = disk.list(dir).unwrap();
        entries.into_iter().map(|e| (e.name, e.is_dir)).collect()
    };
    assert_eq!(names(&dir), [("g".to_owned(), false)]);
    let held = disk.open_dir(&dir).unwrap();
    disk.rename(&dir, &root.join("a/c")).unwrap();
    held.sync().unwrap();
    let gone = disk.open_dir(&dir).map(drop).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert_eq!(names(&root.join("a")), [("c".to_owned(), true)]);
    assert_eq!(disk.metadata(&dir).unwrap(), None);
    check_locks(disk, &root.join("a/c/g"));
    disk.open(&root.join("a/c/g"), Open::Truncate).unwrap();
    let meta = disk.metadata(&root.join("a/c/g")).unwrap().unwrap();
    assert_eq!(meta.len, 0);
    disk.remove_file(&root.join("a/c/g")).unwrap();
    disk.remove_dir_all(&root.join("a")).unwrap();
    disk.remove_dir_all(&root.join("a")).unwrap();
    assert_eq!(disk.metadata(&root.join("a")).unwrap(), None);
}

fn check_locks(disk: &dyn Disk, path: &Path) {
    let open = || disk.open(path, Open::Write).unwrap();
    let lock = |file: &dyn File, lock| file.try_lock(lock).unwrap();
    for (held, wanted, granted) in [
        (Lock::Segment, Lock::Segment, false),
        (Lock::Exclusive, Lock::Exclusive, false),
        (Lock::Exclusive, Lock::Shared, false),
        (Lock::Shared, Lock::Exclusive, false),
        (Lock::Shared, Lock::Shared, true),
        (Lock::Segment, Lock::Exclusive, true),
        (Lock::Exclusive, Lock::Segment, true),
    ] {
        let (first, second) = (open(), open());
        assert!(lock(&*first, held) && lock(&*first, held));
        assert_eq!(lock(&*second, wanted), granted, "{held:?} {wanted:?}");
        drop(first);
        assert!(lock(&*second, wanted));
    }
}

#[test]
fn both_disks_pass_the_same_story() {
    check_story(&MemDisk::new(), Path::new("/root"));
    let dir = tempfile::tempdir().unwrap();
    check_story(&RealDisk, &dir.path().join("root"));
}

#[test]
fn trees_are_copied_between_disks() {
    let memory = prepared(b"content");
    memory.create_dir_all(Path::new("/d/sub")).unwrap();
    let file = memory.open(Path::new("/d/sub/g"), Open::CreateNew).unwrap();
    file.allocate(1_000_000).unwrap();
    file.write_at(b"tail", 999_000).unwrap();
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&memory, Path::new("/d"), &RealDisk, &dir.path().join("out")).unwrap();
    let back = MemDisk::new();
    copy_tree(&RealDisk, &dir.path().join("out"), &back, Path::new("/e")).unwrap();
    assert_eq!(read(&back, "/e/f"), Some(b"content".to_vec()));
    assert_eq!(read(&back, "/e/sub/g"), read(&memory, "/d/sub/g"));
    assert!(back.used_bytes() < 200_000, "zeros stay holes");
}
