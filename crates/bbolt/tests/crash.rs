//! Commits on the disk in memory, cut at every step, with unsynced writes lost, torn or kept in any subset: what
//! is found is the last acknowledged commit or the one under way, whole.

#![allow(clippy::unwrap_used)]

mod common;

use std::ops::RangeInclusive;
use std::path::Path;

use bbolt::{Batch, Db, Error, Options};
use bytes::Bytes;
use common::{Model, dump};
use disk::mem::{CrashMode, MemDisk};

const PATH: &str = "/data/db";
const COMMITS: usize = 8;
const SEEDS: u64 = 6;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EMFILE: i32 = 24;

fn options() -> Options {
    Options {
        page_size: Some(1024),
        growth_bytes: 8 << 10,
        ..Options::default()
    }
}

fn new_disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.shared().create_dir_all(Path::new("/data")).unwrap();
    disk.settle();
    disk
}

/// The batches of the workload, and what the file holds after each; the first state is the empty file.
fn workload() -> (Vec<Batch>, Vec<Model>) {
    let mut random = fastrand::Rng::with_seed(3);
    let mut models = vec![Model::new()];
    let mut batches = Vec::new();
    for commit in 0..COMMITS {
        let mut model = models[commit].clone();
        let mut batch = Batch::new();
        for name in [&b"key"[..], b"meta"] {
            batch.create_bucket(name);
            model.entry(name.to_vec()).or_default();
        }
        for _ in 0..25 {
            let key = common::key(random.u64(0..60));
            let rows = model.entry(b"key".to_vec()).or_default();
            if random.u8(0..3) == 0 {
                batch.delete(b"key", Bytes::from(key.clone()));
                rows.remove(&key);
            } else {
                let value =
                    vec![commit as u8; random.usize(0..150) * (1 + 12 * usize::from(random.u8(0..12) == 0))];
                batch.put(b"key", Bytes::from(key.clone()), Bytes::from(value.clone()));
                rows.insert(key, value);
            }
        }
        // In the same commit as what it covers.
        let index = vec![commit as u8; 8];
        batch.put(
            b"meta",
            Bytes::from_static(b"consistent_index"),
            Bytes::from(index.clone()),
        );
        model
            .entry(b"meta".to_vec())
            .or_default()
            .insert(b"consistent_index".to_vec(), index);
        batches.push(batch);
        models.push(model);
    }
    (batches, models)
}

/// Runs the workload until the disk stops it. Gives how many commits were acknowledged.
fn run(disk: &MemDisk, batches: &[Batch]) -> usize {
    let Ok(db) = Db::open(&disk.shared(), Path::new(PATH), options()) else {
        return 0;
    };
    // A reader in the middle keeps pages from being reused for a while.
    let mut held = None;
    for (at, batch) in batches.iter().enumerate() {
        if at == 3 {
            held = Some(db.snapshot());
        }
        if at == 6 {
            held = None;
        }
        if db.commit(batch).is_err() {
            return at;
        }
    }
    drop(held);
    batches.len()
}

/// What is found after a crash, which must be one of the expected states; `Err` says what is wrong with it.
fn judge(disk: &MemDisk, expected: RangeInclusive<usize>, models: &[Model]) -> Result<(), String> {
    let db = Db::open(&disk.shared(), Path::new(PATH), options()).map_err(|error| error.to_string())?;
    let violations = db.check();
    if !violations.is_empty() {
        return Err(format!("{violations:?}"));
    }
    let found = dump(&db.snapshot());
    let mut at = (0..models.len()).filter(|at| models[*at] == found);
    if !at.clone().any(|at| expected.contains(&at)) {
        return Err(format!("state {:?} instead of {expected:?}", at.next()));
    }
    // And it goes on.
    let mut batch = Batch::new();
    batch.create_bucket(b"after");
    db.commit(&batch).map_err(|error| error.to_string())?;
    let violations = db.check();
    if violations.is_empty() {
        Ok(())
    } else {
        Err(format!("{violations:?}"))
    }
}

/// Cuts the workload at every step; `prepare` breaks the disk before.
fn cut_everywhere(prepare: impl Fn(&MemDisk)) -> Result<(), String> {
    let (batches, models) = workload();
    let whole = new_disk();
    prepare(&whole);
    assert_eq!(run(&whole, &batches), COMMITS);
    for step in 1..=whole.steps() + 1 {
        let disk = new_disk();
        prepare(&disk);
        disk.stop_at(step);
        let acknowledged = run(&disk, &batches);
        for mode in [
            CrashMode::LoseUnsynced,
            CrashMode::KeepAll,
            CrashMode::Subset,
            CrashMode::Torn,
        ] {
            for seed in 0..SEEDS {
                judge(&disk.crash(seed, mode), acknowledged..=acknowledged + 1, &models)
                    .map_err(|what| format!("step {step} {mode:?} seed {seed}: {what}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_any_step_loses_nothing_acknowledged() {
    cut_everywhere(|_| ()).unwrap();
}

#[test]
fn every_single_sync_is_needed() {
    let (batches, _) = workload();
    let disk = new_disk();
    run(&disk, &batches);
    let before = new_disk().syncs();
    for sync in before + 1..=disk.syncs() {
        let seen = cut_everywhere(|disk| disk.skip_sync(sync));
        assert!(
            seen.is_err(),
            "nothing fails without sync {sync} of {}",
            disk.syncs()
        );
    }
}

/// Every step fails once with `errno`; before the meta page, the same batch goes through when tried again.
fn fail_everywhere(errno: i32) {
    let (batches, models) = workload();
    let whole = new_disk();
    let db = Db::open(&whole.shared(), Path::new(PATH), options()).unwrap();
    for batch in &batches {
        db.commit(batch).unwrap();
    }
    let (mut retried, mut poisoned) = (0, 0);
    for step in 1..=whole.steps() {
        let disk = new_disk();
        disk.fail_at(step, errno);
        let Ok(db) = Db::open(&disk.shared(), Path::new(PATH), options()) else {
            continue;
        };
        for (at, batch) in batches.iter().enumerate() {
            match db.commit(batch) {
                Ok(_) => {}
                Err(Error::Io { .. }) => {
                    retried += 1;
                    assert!(db.check().is_empty(), "step {step}");
                    assert!(dump(&db.snapshot()) == models[at], "step {step}");
                    db.commit(batch).unwrap();
                }
                Err(Error::SyncFailed { .. }) => {
                    poisoned += 1;
                    for batch in &batches {
                        assert!(
                            matches!(db.commit(batch), Err(Error::Poisoned { .. })),
                            "step {step}"
                        );
                    }
                    assert!(
                        dump(&db.snapshot()) == models[at],
                        "step {step}: readers keep the state before"
                    );
                    break;
                }
                Err(other) => panic!("step {step}: {other}"),
            }
            assert!(db.check().is_empty(), "step {step}");
            assert!(dump(&db.snapshot()) == models[at + 1], "step {step}");
        }
    }
    assert!(
        retried >= COMMITS && poisoned == 3 * COMMITS,
        "{retried} {poisoned}"
    );
}

#[test]
fn an_error_before_the_meta_page_is_survived_and_a_failed_sync_is_final() {
    fail_everywhere(EIO);
    fail_everywhere(ENOSPC);
}

/// A state that an open file has shown is not lost in a crash, also if the commit that made it said that it failed.
#[test]
fn what_was_found_after_a_failed_sync_stays() {
    let (batches, models) = workload();
    let whole = new_disk();
    assert_eq!(run(&whole, &batches), COMMITS);
    let mut shown_after_a_failure = 0;
    for sync in 1..=whole.syncs() {
        let disk = new_disk();
        disk.fail_sync(sync, 5);
        let acknowledged = run(&disk, &batches);
        let found = match Db::open(&disk.shared(), Path::new(PATH), options()) {
            Ok(db) => dump(&db.snapshot()),
            Err(error) => panic!("sync {sync}: {error}"),
        };
        let at = models.iter().position(|model| *model == found).unwrap();
        shown_after_a_failure += usize::from(at > acknowledged);
        for seed in 0..SEEDS {
            let crashed = disk.crash(seed, CrashMode::LoseUnsynced);
            judge(&crashed, at..=at, &models).unwrap_or_else(|what| panic!("sync {sync}: {what}"));
        }
    }
    assert!(shown_after_a_failure > 0);
}

/// A workload whose n-th sync failed, and the file opened again on a disk that copies on write and is full. Gives also how
/// many commits were acknowledged.
fn open_without_room(sync: u64, batches: &[Batch]) -> (MemDisk, Db, usize) {
    let disk = new_disk();
    disk.fail_sync(sync, 5);
    let acknowledged = run(&disk, batches);
    disk.set_copy_on_write(true);
    disk.set_space(Some(disk.used_bytes()));
    let db = Db::open(&disk.shared(), Path::new(PATH), options()).unwrap();
    assert!(!db.is_settled());
    (disk, db, acknowledged)
}

/// What was found stays from the next commit on. Until there is room for it, nothing is built on it.
#[test]
fn what_was_found_without_room_is_made_durable_before_the_next_commit() {
    let (batches, models) = workload();
    let (fresh, whole) = (new_disk(), new_disk());
    run(&fresh, &[]);
    run(&whole, &batches);
    let mut shown_after_a_failure = 0;
    for sync in fresh.syncs() + 1..=whole.syncs() {
        let (disk, db, acknowledged) = open_without_room(sync, &batches);
        let found = dump(&db.snapshot());
        let at = models.iter().position(|model| *model == found).unwrap();
        let Some(next) = batches.get(at) else { continue };
        shown_after_a_failure += usize::from(at > acknowledged);
        for batch in [&Batch::new(), next] {
            let error = db.commit(batch).expect_err("there is no room");
            assert!(error.is_out_of_space(), "{error}");
        }
        for seed in 0..SEEDS {
            let crashed = disk.crash(seed, CrashMode::LoseUnsynced);
            judge(&crashed, acknowledged..=at, &models).unwrap_or_else(|what| panic!("sync {sync}: {what}"));
        }
        disk.set_space(None);
        db.commit(&Batch::new()).unwrap();
        assert!(db.is_settled());
        judge(&disk.crash(0, CrashMode::LoseUnsynced), at..=at, &models).unwrap();
        drop(db);
        for step in 1.. {
            let (disk, db, _) = open_without_room(sync, &batches);
            disk.set_space(None);
            disk.stop_at(disk.steps() + step);
            let done = db.commit(next).is_ok();
            let expected = if done { at + 1 } else { acknowledged }..=at + 1;
            for mode in [CrashMode::LoseUnsynced, CrashMode::Subset, CrashMode::Torn] {
                for seed in 0..SEEDS {
                    judge(&disk.crash(seed, mode), expected.clone(), &models).unwrap_or_else(|what| {
                        panic!("sync {sync} step {step} {mode:?} seed {seed}: {what}")
                    });
                }
            }
            if done {
                break;
            }
        }
    }
    assert!(shown_after_a_failure > 0);
}

#[test]
fn a_full_disk_is_an_error_that_passes() {
    let disk = new_disk();
    let db = Db::open(&disk.shared(), Path::new(PATH), options()).unwrap();
    let (batches, models) = workload();
    db.commit(&batches[0]).unwrap();
    disk.set_space(Some(disk.used_bytes()));
    let mut full = Batch::new();
    full.put(b"key", Bytes::from_static(b"large"), Bytes::from(vec![1; 50_000]));
    for _ in 0..3 {
        let error = db.commit(&full).expect_err("there is no room");
        assert!(error.is_out_of_space(), "{error}");
        assert!(db.check().is_empty());
        assert!(dump(&db.snapshot()) == models[1]);
    }
    disk.set_space(None);
    db.commit(&full).unwrap();
    assert!(db.check().is_empty());
    assert_eq!(
        db.snapshot()
            .get(b"key", b"large", bbolt::Wait::Yes)
            .unwrap()
            .map(|value| value.len()),
        Some(50_000)
    );
}

/// The file after so many commits.
fn committed(disk: &MemDisk, batches: &[Batch]) -> Db {
    let db = Db::open(&disk.shared(), Path::new(PATH), options()).unwrap();
    for batch in batches {
        db.commit(batch).unwrap();
    }
    db
}

/// The step that writes the meta page of the last of these commits: the sync that comes after it is the last one.
fn meta_step(batches: &[Batch]) -> u64 {
    let disk = new_disk();
    committed(&disk, batches);
    disk.steps() - 1
}

/// Whatever fails once, a crash right after it loses no commit that was acknowledged, and whole commits alone are found;
/// then the file goes on, at once or opened again.
#[test]
fn a_crash_after_any_one_failure_loses_nothing() {
    let (batches, models) = workload();
    let whole = new_disk();
    run(&whole, &batches);
    let mut failed = 0;
    for step in new_disk().steps() + 1..=whole.steps() {
        for (errno, halfway) in [(ENOSPC, false), (ENOSPC, true), (EIO, false), (EIO, true)] {
            let context = format!("step {step}, errno {errno}, halfway {halfway}");
            let disk = new_disk();
            match halfway {
                true => disk.fail_at(step, errno),
                false => disk.refuse_at(step, errno),
            }
            let open = || Db::open(&disk.shared(), Path::new(PATH), options());
            let mut db = open().or_else(|_| open()).unwrap();
            let mut at = 0;
            while at < COMMITS {
                let result = db.commit(&batches[at]);
                let expected = at..=at + 1;
                at += usize::from(result.is_ok());
                let expected = if result.is_ok() { at..=at } else { expected };
                if disk.steps() < step {
                    continue;
                }
                for mode in CrashMode::ALL {
                    judge(&disk.crash(step, mode), expected.clone(), &models)
                        .unwrap_or_else(|what| panic!("{context}, {mode:?}: {what}"));
                }
                failed += usize::from(result.is_err());
                if matches!(result, Err(Error::SyncFailed { .. })) {
                    drop(db);
                    db = open().unwrap_or_else(|error| panic!("{context}: {error}"));
                    let found = dump(&db.snapshot());
                    at = expected.rev().find(|at| models[*at] == found).expect(&context);
                }
            }
            assert!(db.check().is_empty(), "{context}");
            judge(
                &disk.crash(step, CrashMode::LoseUnsynced),
                COMMITS..=COMMITS,
                &models,
            )
            .unwrap_or_else(|what| panic!("{context}: {what}"));
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn any_opening_may_fail_once() {
    let (batches, models) = workload();
    let whole = new_disk();
    run(&whole, &batches);
    assert!(whole.opens() > 1);
    for nth in 1..=whole.opens() {
        let disk = new_disk();
        disk.fail_open(nth, EMFILE);
        assert_eq!(run(&disk, &batches), 0, "opening {nth}");
        assert_eq!(run(&disk, &batches), COMMITS, "opening {nth}");
        judge(
            &disk.crash(nth, CrashMode::LoseUnsynced),
            COMMITS..=COMMITS,
            &models,
        )
        .unwrap();
    }
}

/// As a file system does that copies on write. The commit that comes then takes the same pages for other content: a
/// crash in it must not find the meta page of the one that was refused.
#[test]
fn a_disk_too_full_for_a_meta_page_is_an_error_that_passes() {
    let (batches, models) = workload();
    for at in 0..COMMITS {
        let mut larger = batches[at].clone();
        let mut model = models[at + 1].clone();
        for number in 100..140 {
            let (key, value) = (common::key(number), vec![7; 100]);
            larger.put(b"key", Bytes::from(key.clone()), Bytes::from(value.clone()));
            model.entry(b"key".to_vec()).or_default().insert(key, value);
        }
        let models = [models[at].clone(), model, models[at + 1].clone()];
        let meta_step = meta_step(&batches[..=at]);
        for step in 0.. {
            let disk = new_disk();
            let db = committed(&disk, &batches[..at]);
            disk.refuse_at(meta_step, ENOSPC);
            let error = db.commit(&batches[at]).unwrap_err();
            assert!(error.is_out_of_space(), "commit {at}: {error}");
            assert!(db.check().is_empty(), "commit {at}");
            assert!(dump(&db.snapshot()) == models[0], "commit {at}");
            disk.stop_at(disk.steps() + step);
            let done = step > 0 && db.commit(&larger).is_ok();
            let expected = usize::from(done)..=usize::from(step > 0);
            for mode in CrashMode::ALL {
                for seed in 0..SEEDS {
                    judge(&disk.crash(seed, mode), expected.clone(), &models).unwrap_or_else(|what| {
                        panic!("commit {at} step {step} {mode:?} seed {seed}: {what}")
                    });
                }
            }
            if done {
                assert!(db.check().is_empty());
                break;
            }
        }
    }
}

/// What the system has of a new meta page may be on the disk: no other commit may follow.
#[test]
fn a_meta_page_that_was_written_in_part_is_the_end() {
    let (batches, models) = workload();
    for at in 0..COMMITS {
        let disk = new_disk();
        let db = committed(&disk, &batches[..at]);
        disk.fail_at(meta_step(&batches[..=at]), ENOSPC);
        let error = db.commit(&batches[at]).unwrap_err();
        assert!(matches!(error, Error::SyncFailed { .. }), "{error}");
        let error = db.commit(&batches[at]).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        for mode in CrashMode::ALL {
            judge(&disk.crash(1, mode), at..=at + 1, &models).unwrap();
        }
    }
}
