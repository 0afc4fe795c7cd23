//! A log's whole life in which one operation fails once: whatever it was, nothing acknowledged is lost, and the log goes
//! on, at once or after a restart.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::*;
use disk::Disk;
use disk::mem::{CrashMode, MemDisk};
use wal::{Entry, Error, HardState, SpareJob, Wal, snapfile};

const SEGMENT: u64 = 2000;

fn snap() -> &'static Path {
    Path::new("/data/snap")
}

/// What a start finds: entries, the vote, and the state to begin from.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    vote: (u64, u64),
    mark: (u64, u64),
}

#[derive(Debug)]
enum Op {
    Save(HardState, Vec<Entry>),
    /// The member's own snapshot.
    Own(u64, u64),
    /// A state of the leader.
    Received(u64, u64),
    Spare,
    Purge,
    Restart,
}

impl Op {
    /// What may be found if it is cut off anywhere, and last what is found after it.
    fn outcomes(&self, before: &Model) -> Vec<Model> {
        let mut all = vec![before.clone()];
        let mut now = before.clone();
        match self {
            Op::Save(state, entries) => {
                for entry in entries {
                    now.entries.split_off(&entry.index);
                    now.entries.insert(entry.index, entry.clone());
                    all.push(now.clone());
                }
                now.vote = (state.term, state.vote);
            }
            Op::Own(term, index) => {
                now.mark = (*term, *index);
                now.entries = now.entries.split_off(&(index + 1));
            }
            Op::Received(term, index) => {
                now.mark = (*term, *index);
                now.entries.clear();
            }
            Op::Spare | Op::Purge | Op::Restart => {}
        }
        all.push(now);
        all
    }
}

fn story() -> Vec<Op> {
    let save = |term, commit, indexes: std::ops::Range<u64>, bytes: usize| {
        let entries = indexes.map(|index| entry(term, index, payload(index + term, bytes)));
        Op::Save(state(term, 1, commit), entries.collect())
    };
    vec![
        save(1, 0, 1..4, 100),
        save(1, 3, 4..5, 3000),
        Op::Spare,
        save(1, 4, 5..7, 900),
        // Only the commit moves.
        save(1, 5, 7..7, 0),
        Op::Own(1, 4),
        save(2, 5, 6..8, 1500),
        Op::Purge,
        Op::Restart,
        save(2, 7, 8..12, 700),
        Op::Received(3, 20),
        save(3, 20, 21..23, 200),
        Op::Spare,
        save(3, 23, 23..25, 1200),
        Op::Own(3, 23),
        Op::Purge,
        save(4, 24, 24..27, 300),
        Op::Restart,
        save(4, 26, 27..28, 50),
    ]
}

fn begin() -> MemDisk {
    let memory = memory();
    memory.create_dir_all(snap()).unwrap();
    memory.settle();
    memory
}

/// Opens as a member does: from the newest mark, which needs its file.
fn open_newest(memory: &MemDisk) -> Result<(Wal, Model), Error> {
    let (marks, _) = wal::valid_marks(memory, dir())?;
    let newest = marks.last().cloned().unwrap_or_default();
    if newest.index > 0 {
        let loaded = snapfile::load_newest(memory, snap(), Some(&marks))?;
        let index = loaded.newest.map(|(file, _)| file.index);
        assert_eq!(index, Some(newest.index), "the file of the newest mark");
    }
    let (mut wal, found) = Wal::open(&memory.shared(), dir(), &newest)?;
    wal.set_segment_bytes(SEGMENT);
    let entries = found.entries.into_iter().map(|entry| (entry.index, entry));
    let model = Model {
        entries: entries.collect(),
        vote: (found.hard_state.term, found.hard_state.vote),
        mark: (newest.term, newest.index),
    };
    Ok((wal, model))
}

/// The log, or none after it has ended.
struct Life<'a> {
    memory: &'a MemDisk,
    wal: Option<Wal>,
    failed: usize,
    /// How often it said that it takes nothing more.
    ended: usize,
}

impl Life<'_> {
    fn attempt(&mut self, op: &Op) -> Result<(), Error> {
        let memory = self.memory;
        if let Op::Restart = op
            && let Some(wal) = self.wal.take()
        {
            wal.close()?;
        }
        if self.wal.is_none() {
            self.wal = Some(open_newest(memory)?.0);
        }
        let wal = self.wal.as_mut().unwrap();
        match op {
            Op::Save(state, entries) => {
                let saved = wal.save(Some(state), entries)?;
                // It goes on in the old segment.
                self.failed += usize::from(saved.cut_failed.is_some());
            }
            Op::Own(term, index) => {
                snapfile::write(memory, snap(), &file(*term, *index))?;
                wal.save_mark(&mark(*term, *index))?;
                wal.release_to(*index);
            }
            Op::Received(term, index) => {
                snapfile::write(memory, snap(), &file(*term, *index))?;
                wal.save_mark(&mark(*term, *index))?;
                wal.append(Some(&state(*term, 1, *index)), &[])?;
                wal.sync()?;
            }
            Op::Spare => {
                if let Some(job) = wal.spare_job() {
                    match SpareJob::run(job) {
                        Ok(spare) => wal.put_spare(spare),
                        Err(error) => {
                            wal.spare_failed();
                            return Err(error);
                        }
                    }
                }
            }
            Op::Purge => {
                wal::purge(memory, dir(), 2)?;
                snapfile::purge(memory, snap(), 2)?;
            }
            Op::Restart => {}
        }
        Ok(())
    }
}

fn file(term: u64, index: u64) -> snapfile::Snapshot {
    snapfile::Snapshot {
        index,
        term,
        conf_state: mark(term, index).conf_state.unwrap(),
        data: "{}".into(),
    }
}

/// Mark, vote, and the terms and indexes of the entries.
fn brief(model: &Model) -> String {
    let entries = model.entries.values().map(|entry| (entry.term, entry.index));
    let entries: Vec<(u64, u64)> = entries.collect();
    format!("{:?} {:?} {entries:?}", model.mark, model.vote)
}

/// Whether what a crash leaves is one of these.
fn judge(memory: &MemDisk, expected: &[Model], context: &str) {
    for mode in CrashMode::ALL {
        for seed in 0..3 {
            let left = memory.crash(seed, mode);
            let found = open_newest(&left).map(|(_, found)| found);
            let found = found.unwrap_or_else(|error| panic!("{context}, {mode:?} {seed}: {error}"));
            let is_expected = expected.iter().any(|model| {
                // The vote of a received state comes by itself, after the mark.
                (&model.entries, model.mark) == (&found.entries, found.mark)
                    && expected
                        .iter()
                        .any(|model| model.vote == found.vote || found.vote.0 == found.mark.0)
            });
            let expected = expected.iter().map(brief).collect::<Vec<_>>();
            assert!(
                is_expected,
                "{context}, {mode:?} {seed}: {:?} not in {expected:?}",
                brief(&found)
            );
        }
    }
}

/// Lives the story with one fault. `stops`: after an error that passes the log is closed and opened again before the
/// next attempt. Tells how often something failed, and how often that was the end of the log.
fn live(memory: &MemDisk, stops: bool, context: &str) -> (usize, usize) {
    let shared = memory.shared();
    let mut life = Life {
        memory,
        wal: None,
        failed: 0,
        ended: 0,
    };
    let created = Wal::create(&shared, dir(), b"metadata").or_else(|error| {
        life.failed += 1;
        life.ended += usize::from(error.is_poison());
        assert!(
            error.is_poison() || matches!(error, Error::Io { .. }),
            "{context}: {error}"
        );
        Wal::create(&shared, dir(), b"metadata")
    });
    let mut wal = created.unwrap_or_else(|error| panic!("{context}: {error}"));
    wal.set_segment_bytes(SEGMENT);
    life.wal = Some(wal);
    let mut model = Model::default();
    for (number, op) in story().iter().enumerate() {
        let mut attempts = 0;
        loop {
            let failed = life.failed;
            let mut outcomes = op.outcomes(&model);
            let context = format!("{context}, operation {number} ({attempts} failed)");
            let result = life.attempt(op);
            attempts += 1;
            assert!(attempts < 4, "{context}: {op:?} never works");
            match result {
                Ok(()) => {
                    model = outcomes.pop().unwrap();
                    if attempts > 1 || life.failed > failed {
                        judge(memory, std::slice::from_ref(&model), &context);
                    }
                    break;
                }
                Err(error) => {
                    life.failed += 1;
                    life.ended += usize::from(error.is_poison());
                    judge(memory, &outcomes, &context);
                    match &error {
                        Error::Io { .. } if !stops => continue,
                        Error::Io { .. } | Error::Poisoned { .. } => {}
                        _ => panic!("{context}: {error}"),
                    }
                    if let Some(wal) = life.wal.take()
                        && !error.is_poison()
                    {
                        wal.close().unwrap_or_else(|error| panic!("{context}: {error}"));
                    }
                    let opened = open_newest(memory);
                    let (wal, found) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
                    let same = |model: &&Model| (&model.entries, model.mark) == (&found.entries, found.mark);
                    let known = outcomes.iter().rev().find(same);
                    assert!(known.is_some(), "{context}: {:?}", brief(&found));
                    (life.wal, model) = (Some(wal), found);
                }
            }
        }
    }
    judge(memory, std::slice::from_ref(&model), context);
    let last: Vec<u64> = model.entries.keys().copied().collect();
    assert_eq!((model.mark, last), ((3, 23), vec![24, 25, 26, 27]), "{context}");
    (life.failed, life.ended)
}

#[test]
fn any_one_step_may_fail() {
    let whole = begin();
    assert_eq!(live(&whole, false, "without a fault"), (0, 0));
    let first = begin().steps() + 1;
    assert!(whole.steps() - first > 80, "{} steps", whole.steps());
    let mut failed = 0;
    for step in first..=whole.steps() {
        for errno in [libc::ENOSPC, libc::EIO, libc::EDQUOT] {
            for (halfway, stops) in [(false, false), (false, true), (true, false), (true, true)] {
                // A full disk takes whole pages: what that leaves is in crash.rs.
                if halfway && errno != libc::EIO {
                    continue;
                }
                let memory = begin();
                match halfway {
                    true => memory.fail_at(step, errno),
                    false => memory.refuse_at(step, errno),
                }
                let context = format!("step {step}, errno {errno}, halfway {halfway}, stops {stops}");
                failed += usize::from(live(&memory, stops, &context).0 > 0);
            }
        }
    }
    assert!(failed > 500, "{failed} runs saw an error");
}

#[test]
fn any_one_opening_may_fail() {
    let whole = begin();
    live(&whole, false, "without a fault");
    let first = begin().opens() + 1;
    for nth in first..=whole.opens() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::EIO] {
            for stops in [false, true] {
                let memory = begin();
                memory.fail_open(nth, errno);
                let context = format!("opening {nth}, errno {errno}, stops {stops}");
                // No sync was tried, so none has failed.
                assert_eq!(live(&memory, stops, &context), (1, 0), "{context}");
            }
        }
    }
}
