//! The log on a disk that crashes at every step: what was synced is there. And the test sees it if any
//! one sync is left out.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::story::{Story, newest_mark};
use common::*;
use disk::mem::{CrashMode, MemDisk};
use disk::{Disk, Open};
use wal::{Entry, Error};

/// Crashes looked at for each step.
const SEEDS: u64 = 6;
/// Crashes looked at for each step after a left-out sync, until one shows it.
const SEEDS_TO_NOTICE: u64 = 40;
/// How many steps after a left-out sync are tried.
const STEPS_AFTER: u64 = 40;

/// The workload; the seed matters only to a random one.
type Run = fn(&MemDisk, &mut Story, u64) -> Result<(), Error>;

#[derive(Clone, Copy)]
struct Case {
    seed: u64,
    prepare: fn() -> (MemDisk, Story),
    run: Run,
}

impl Case {
    /// Runs until `stop`, `skip` being the sync that lies; the disk and what must be on it.
    fn stopped(&self, stop: u64, skip: Option<u64>) -> (MemDisk, Story) {
        let (memory, mut story) = (self.prepare)();
        let first = memory.steps();
        memory.stop_at(first + stop);
        if let Some(nth) = skip {
            memory.skip_sync(memory.syncs() + nth);
        }
        let result = (self.run)(&memory, &mut story, self.seed);
        assert!(result.is_ok() || memory.stopped(), "{:?}", result.err());
        (memory, story)
    }

    /// The steps and notes of a whole run.
    fn trace(&self) -> Vec<String> {
        let (memory, mut story) = (self.prepare)();
        memory.start_trace();
        (self.run)(&memory, &mut story, self.seed).unwrap();
        memory.trace()
    }

    fn check_every_step(&self) {
        let trace = self.trace();
        let steps = trace.iter().filter(|line| !line.starts_with('#')).count() as u64;
        for stop in 1..=steps + 1 {
            let (memory, story) = self.stopped(stop, None);
            for (seed, mode) in images(SEEDS) {
                let after = memory.crash(seed, mode);
                let twice = after.crash(0, CrashMode::KeepAll);
                let verdict = story.verify(&after);
                let told = || {
                    format!(
                        "stop {stop} seed {seed} {mode:?}: {verdict:?}\n{}",
                        trace.join("\n")
                    )
                };
                assert!(verdict.is_ok(), "{}", told());
                if seed == 0 {
                    crash_again(&story, &twice, stop);
                }
            }
        }
    }

    /// For every kind of sync: leaving one out loses something in some crash.
    fn check_every_sync(&self, kinds: &[&str]) {
        let mut seen: BTreeMap<String, bool> = BTreeMap::new();
        for (nth, at, kind) in syncs(&self.trace()) {
            if of_every_opening(&kind) {
                continue;
            }
            let seen = seen.entry(kind).or_insert(false);
            *seen = *seen
                || (at + 1..at + STEPS_AFTER).any(|stop| {
                    let (memory, story) = self.stopped(stop, Some(nth));
                    images(SEEDS_TO_NOTICE)
                        .any(|(seed, mode)| story.verify(&memory.crash(seed, mode)).is_err())
                });
        }
        let found: Vec<_> = seen.keys().map(String::as_str).collect();
        assert_eq!(found, kinds, "the kinds of sync that this case makes");
        for (kind, seen) in seen {
            assert!(seen, "nobody notices if this is left out: {kind}");
        }
    }
}

fn images(seeds: u64) -> impl Iterator<Item = (u64, CrashMode)> {
    let random = (0..seeds).map(|seed| (seed, CrashMode::Any));
    [(0, CrashMode::LoseUnsynced), (0, CrashMode::KeepAll)]
        .into_iter()
        .chain(random)
}

/// Syncs of what an earlier process left: the test of killed processes shows what they are for.
fn of_every_opening(kind: &str) -> bool {
    [
        "open: content after open",
        "open: content after write",
        "open: names after sync",
    ]
    .contains(&kind)
}

/// Opening after a crash may crash too, at any step.
fn crash_again(story: &Story, image: &MemDisk, seed: u64) {
    for stop in 1.. {
        let again = image.crash(0, CrashMode::KeepAll);
        again.stop_at(stop);
        let verdict = story.verify(&again);
        if !again.stopped() {
            return;
        }
        assert!(verdict.is_err());
        let verdict = story.verify(&again.crash(seed, CrashMode::Any));
        // The entry that `verify` writes last may have become durable.
        let beyond = verdict
            .as_ref()
            .is_err_and(|text| text.contains("last entry Some((99"));
        assert!(verdict.is_ok() || beyond, "stop {stop} seed {seed}: {verdict:?}");
    }
}

/// The syncs of a trace: which, at which step, and in which operation between which neighbours.
fn syncs(trace: &[String]) -> Vec<(u64, u64, String)> {
    let (mut found, mut op, mut step) = (Vec::new(), "", 0);
    let what = |line: Option<&String>| -> String {
        let words = line.map(|line| line.split_whitespace()).into_iter().flatten();
        words.skip(1).take(1).collect()
    };
    for (at, line) in trace.iter().enumerate() {
        if let Some(note) = line.strip_prefix("# ") {
            op = note;
            continue;
        }
        step += 1;
        if line.contains("(sync ") {
            let kind = if line.contains("sync dir") {
                "names"
            } else {
                "content"
            };
            let before = what(at.checked_sub(1).and_then(|at| trace.get(at)));
            let head = what(trace.get(at + 1)) == "rename" && op != "create";
            let kind = if head { "head" } else { kind };
            let nth = found.len() as u64 + 1;
            found.push((nth, step, format!("{op}: {kind} after {before}")));
        }
    }
    found
}

fn batch(term: u64, first: u64, sizes: &[usize]) -> Vec<Entry> {
    let indexes = (first..).zip(sizes);
    indexes
        .map(|(index, &len)| entry(term, index, payload(index + term, len)))
        .collect()
}

const WHOLE_LIFE: Case = Case {
    seed: 0,
    prepare: || (memory(), Story::default()),
    run: |disk, story, _| {
        story.create(disk)?;
        story.save(disk, Some(state(1, 1, 0)), &batch(1, 1, &[10, 700, 0]))?;
        story.save(disk, Some(state(1, 1, 2)), &[])?;
        story.save(disk, None, &batch(1, 4, &[300, 900]))?;
        story.append(disk, Some(state(1, 1, 5)), &batch(1, 6, &[40]))?;
        story.append(disk, None, &batch(1, 7, &[1500]))?;
        assert!(story.cut(disk)?);
        story.save(disk, Some(state(2, 0, 5)), &[])?;
        // A new leader writes another entry 6.
        story.save(disk, Some(state(2, 2, 5)), &batch(2, 6, &[20, 1100]))?;
        story.prepare_spare(disk)?;
        story.append(disk, Some(state(2, 2, 6)), &[])?;
        story.mark(disk, &mark(2, 6))?;
        story.append(disk, None, &batch(2, 8, &[600, 1]))?;
        story.sync(disk)?;
        let saved = story.save(disk, Some(state(2, 2, 8)), &batch(2, 10, &[1000]))?;
        assert!(saved.cut);
        story.save(disk, None, &batch(2, 11, &[2600]))?;
        story.save(disk, None, &batch(2, 12, &[2600]))?;
        story.append(disk, Some(state(2, 2, 12)), &[])?;
        story.mark(disk, &mark(2, 12))?;
        story.release_and_purge(disk, 12)?;
        story.save(disk, Some(state(2, 2, 13)), &batch(2, 13, &[5]))?;
        story.append(disk, Some(state(3, 2, 13)), &batch(3, 14, &[3]))?;
        story.close(disk)?;
        story.open(disk)?;
        story.save(disk, Some(state(3, 2, 14)), &batch(3, 15, &[513]))?;
        Ok(())
    },
};

#[test]
fn what_was_synced_survives_a_crash_at_any_step() {
    WHOLE_LIFE.check_every_step();
}

/// How many random lives are tried, each crashed at every step; `MAINSTAY_CRASH_LIVES` for more.
const LIVES: u64 = 1;

const RANDOM_LIFE: Case = Case {
    seed: 0,
    prepare: || (memory(), Story::default()),
    run: |disk, story, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut term, mut last, mut commit, mut marked) = (1, 0, 0, 0);
        // By index from 1.
        let mut terms: Vec<u64> = Vec::new();
        story.create(disk)?;
        for _ in 0..25 {
            let votes = state(term, random.u64(..2), commit);
            match random.u8(..12) {
                0 => story.close(disk).and_then(|()| story.open(disk))?,
                1 => story.open(disk)?,
                2 => story.prepare_spare(disk)?,
                3 => story.sync(disk)?,
                4 => drop(story.cut(disk)?),
                5 if commit > marked => {
                    marked = commit;
                    story.append(disk, Some(votes), &[])?;
                    story.mark(disk, &mark(terms[marked as usize - 1], marked))?;
                    story.release_and_purge(disk, marked)?;
                }
                kind => {
                    let mut first = last + 1;
                    if kind == 6 {
                        term += 1;
                        first = random.u64(commit + 1..=last + 1);
                    }
                    let sizes: Vec<usize> = (0..random.usize(1..4))
                        .map(|_| [0, 5, 130, 600, 1700][random.usize(..5)])
                        .collect();
                    last = first + sizes.len() as u64 - 1;
                    terms.resize(first as usize - 1, term);
                    terms.resize(last as usize, term);
                    let new = state(term, 1, commit);
                    let new = random.bool().then_some(new);
                    if random.u8(..4) == 0 {
                        story.append(disk, new, &batch(term, first, &sizes))?;
                    } else {
                        story.save(disk, new, &batch(term, first, &sizes))?;
                        commit = random.u64(commit..=last);
                    }
                }
            }
        }
        Ok(())
    },
};

#[test]
fn random_lives_survive_a_crash_at_any_step() {
    let lives = std::env::var("MAINSTAY_CRASH_LIVES");
    let lives = lives.map_or(LIVES, |text| text.parse().unwrap());
    for seed in 0..lives {
        let case = Case { seed, ..RANDOM_LIFE };
        case.check_every_step();
    }
}

#[test]
fn no_sync_can_be_left_out() {
    WHOLE_LIFE.check_every_sync(&[
        "close: content after close",
        "create: content after write",
        "create: names after rename",
        "create: names after sync",
        "cut: content after allocate",
        "cut: head after write",
        "cut: names after rename",
        "mark: content after write",
        "purge: names after remove",
        "save: content after write",
        "save: head after write",
        "save: names after rename",
        "sync: content after sync",
    ]);
}

/// A payload (of 128 to 16,383 bytes, so that it begins 28 bytes behind its frame) whose every eight
/// bytes, as they lie in the file, look like the length of a record of 16 bytes, which is none: what
/// remains of it behind a shorter record is not taken for a torn end.
fn snare(len: usize) -> Vec<u8> {
    let frame = [0, 0, 0, 0, 16, 0, 0, 0];
    frame.iter().copied().cycle().take(len).collect()
}

/// A disk that is full now and then: writes that were half done are done again, or others instead.
const FULL_DISK: Case = Case {
    seed: 0,
    prepare: || (memory(), Story::default()),
    run: |disk, story, _| {
        story.create(disk)?;
        story.save(disk, Some(state(1, 1, 0)), &batch(1, 1, &[100]))?;
        for (index, len) in [(2, 2000), (3, 900), (4, 90)] {
            // The first half is written and then overwritten by less.
            disk.fail_at(disk.steps() + 1, libc::ENOSPC);
            let long = [entry(1, index, snare(len)), entry(1, index + 1, snare(len))];
            match story.save(disk, None, &long) {
                Err(error) if error.is_no_space() => {}
                other => return other.map(drop),
            }
            story.save(disk, Some(state(1, 1, index - 1)), &batch(1, index, &[3]))?;
        }
        Ok(())
    },
};

#[test]
fn a_full_disk_and_a_crash_lose_nothing() {
    FULL_DISK.check_every_step();
}

#[test]
fn no_sync_can_be_left_out_on_a_full_disk() {
    FULL_DISK.check_every_sync(&[
        "create: content after write",
        "create: names after rename",
        "create: names after sync",
        "save: content after allocate",
        "save: content after write",
    ]);
}

/// A log whose last entry was torn by an earlier crash.
fn torn() -> (MemDisk, Story) {
    let (memory, mut story) = (memory(), Story::default());
    story.create(&memory).unwrap();
    story
        .save(&memory, Some(state(1, 1, 1)), &batch(1, 1, &[100, 50]))
        .unwrap();
    let end = content(&memory, &segment(FIRST)).len() as u64;
    let copy = memory.crash(0, CrashMode::KeepAll);
    story = Story::default();
    let (mut wal, _) = open(&copy.shared()).unwrap();
    wal.save(None, &[entry(1, 3, snare(3000))]).unwrap();
    drop(wal);
    let bytes = content(&copy, &segment(FIRST));
    let file = memory.open(&segment(FIRST), Open::Write).unwrap();
    file.write_at(&bytes[end as usize..], end).unwrap();
    file.write_at(&[0; 512], 1024).unwrap();
    file.set_len(10_000).unwrap();
    memory.settle();
    story.written_before(Some(state(1, 1, 1)), &batch(1, 1, &[100, 50]));
    (memory, story)
}

const REPAIR: Case = Case {
    seed: 0,
    prepare: torn,
    run: |disk, story, _| {
        story.open(disk)?;
        story.save(disk, Some(state(1, 1, 2)), &batch(1, 3, &[3]))?;
        Ok(())
    },
};

#[test]
fn a_repair_may_crash_at_any_step() {
    REPAIR.check_every_step();
}

/// Whole records behind a zero length: of a write whose first sector was lost.
const GARBAGE: Case = Case {
    seed: 0,
    prepare: || {
        let (memory, story) = torn();
        let file = memory.open(&segment(FIRST), Open::Write).unwrap();
        let end = wal::check(&memory, dir()).unwrap().tail;
        let wal::Tail::Torn(end) = end else {
            panic!("{end:?}")
        };
        file.write_at(&[0; 8], end).unwrap();
        memory.settle();
        (memory, story)
    },
    run: REPAIR.run,
};

#[test]
fn garbage_behind_the_end_never_comes_back() {
    GARBAGE.check_every_step();
    GARBAGE.check_every_sync(&["open: content after allocate", "save: content after write"]);
}

#[test]
fn no_sync_of_a_repair_can_be_left_out() {
    // The copy is checked beside the log: once the log is shortened, it has to be there, whole.
    let (before, _) = torn();
    let original = read(&before, &segment(FIRST));
    let lost = |memory: &MemDisk, story: &Story| {
        images(SEEDS_TO_NOTICE).any(|(seed, mode)| {
            let after = memory.crash(seed, mode);
            let shortened = read(&after, &segment(FIRST)).len() < original.len();
            let copy = segment(&format!("{FIRST}.broken"));
            let there = after.metadata(&copy).unwrap().is_some();
            let whole = there && read(&after, &copy) == original;
            (shortened && !whole) || story.verify(&after).is_err()
        })
    };
    let trace = REPAIR.trace();
    let all = syncs(&trace);
    let kinds: Vec<&str> = all.iter().map(|(_, _, kind)| kind.as_str()).collect();
    let want = [
        "open: content after write",
        "open: names after sync",
        "open: content after set",
        "open: names after sync",
        "open: names after sync",
        "save: content after write",
    ];
    assert_eq!(kinds, want);
    let steps = trace.iter().filter(|line| !line.starts_with('#')).count() as u64;
    for stop in 1..=steps + 1 {
        let (memory, story) = REPAIR.stopped(stop, None);
        assert!(!lost(&memory, &story), "stop {stop}");
    }
    // The fourth and fifth: see the test of killed processes.
    for (nth, at, kind) in all.iter().filter(|(nth, _, _)| ![4, 5].contains(nth)) {
        let seen = (at + 1..=steps + 1).any(|stop| {
            let (memory, story) = REPAIR.stopped(stop, Some(*nth));
            lost(&memory, &story)
        });
        assert!(seen, "nobody notices if this is left out: {kind}");
    }
}

/// A process that is killed at any step leaves what it wrote to the system, synced or not; what the next
/// one reads is what it relies on, so that survives a crash of the machine right after. `skip` is a sync
/// of the opening that lies; says what was lost.
fn lost_after_a_kill(case: &Case, stop: u64, skip: Option<u64>) -> Option<String> {
    let (memory, mut story) = case.stopped(stop, None);
    story.kill();
    memory.resume();
    if !wal::exists(&memory, dir()).unwrap() {
        return None;
    }
    if let Some(nth) = skip {
        memory.skip_sync(memory.syncs() + nth);
    }
    let newest = newest_mark(&memory).unwrap();
    let (mut wal, mut read) = wal::Wal::open(&memory.shared(), dir(), &newest).unwrap();
    let lost = |read: &wal::Recovered| {
        images(SEEDS).find_map(|(seed, mode)| {
            let after = memory.crash(seed, mode).shared();
            match wal::Wal::open(&after, dir(), &newest) {
                Ok((_, found)) if describe(&found) == describe(read) => None,
                Ok((_, found)) => Some(format!("stop {stop}: {} entries", found.entries.len())),
                Err(error) => Some(format!("stop {stop}: {error}")),
            }
        })
    };
    let at_once = lost(&read);
    // Nor is anything lost that is written next: its segment has a name that stays.
    let next = read.entries.last().map_or(newest.index, |last| last.index) + 1;
    read.entries.push(entry(9, next, "next"));
    wal.save(None, &[entry(9, next, "next")]).unwrap();
    at_once.or_else(|| lost(&read))
}

#[test]
fn what_a_killed_process_left_is_durable_once_it_was_read() {
    let trace = WHOLE_LIFE.trace();
    let steps = trace.iter().filter(|line| !line.starts_with('#')).count() as u64;
    for stop in 1..=steps + 1 {
        assert_eq!(lost_after_a_kill(&WHOLE_LIFE, stop, None), None);
    }
    for nth in 1..=3 {
        let seen = (1..=steps).any(|stop| lost_after_a_kill(&WHOLE_LIFE, stop, Some(nth)).is_some());
        assert!(seen, "nobody notices if sync {nth} of an opening is left out");
    }
}

/// After a sync that failed, what was written can still be read, and later syncs say that they worked
/// without bringing it to the disk. What the next process takes for durable must be, and so must what it
/// writes behind it.
#[test]
fn a_sync_that_failed_for_an_earlier_process_costs_nothing_later() {
    let memory = memory();
    let mut story = Story::default();
    story.create(&memory).unwrap();
    story
        .save(&memory, Some(state(1, 1, 1)), &batch(1, 1, &[100, 50]))
        .unwrap();
    story.kill();
    let (mut wal, _) = open(&memory.shared()).unwrap();
    memory.fail_sync(memory.syncs() + 1, 5);
    assert!(wal.save(None, &[entry(1, 3, "lost")]).is_err());
    drop(wal);
    let (mut wal, read) = open(&memory.shared()).unwrap();
    wal.save(None, &[entry(1, 4, "kept")]).unwrap();
    for (seed, mode) in images(SEEDS) {
        let (_, found) = open(&memory.crash(seed, mode).shared()).unwrap();
        assert_eq!(read.entries.len(), 3, "the kernel still shows it");
        assert_eq!(found.entries.len(), 4, "{mode:?} {seed}");
    }
}
