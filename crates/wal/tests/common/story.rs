//! A workload on a log together with what must be found after a crash: everything synced, and of what
//! was written later a beginning.

use disk::Disk;
use disk::mem::MemDisk;
use wal::{Entry, Error, HardState, Mark, Saved, Wal};

use super::*;

#[derive(Clone, Debug)]
enum Rec {
    Entry(Entry),
    State(HardState),
    Mark(Mark),
}

/// What a log holds from one mark on.
#[derive(Clone, Debug, Default, PartialEq)]
struct Folded {
    entries: Vec<Entry>,
    state: HardState,
    newest_mark: u64,
}

fn fold<'a>(records: impl Iterator<Item = &'a Rec>, from: u64) -> Folded {
    let mut folded = Folded::default();
    let mut marks = vec![0];
    for record in records {
        match record {
            Rec::Entry(entry) if entry.index > from => {
                let keep = (entry.index - from - 1) as usize;
                folded.entries.truncate(keep);
                folded.entries.push(entry.clone());
            }
            Rec::Entry(_) => {}
            Rec::State(state) => folded.state = *state,
            Rec::Mark(mark) => marks.push(mark.index),
        }
    }
    let valid = marks.into_iter().filter(|&index| index <= folded.state.commit);
    folded.newest_mark = valid.max().unwrap_or(0);
    folded
}

/// What was written, in order, and how much of it is durable.
#[derive(Default)]
pub struct Story {
    records: Vec<Rec>,
    synced: usize,
    /// Records of failed writes, which a crash may have kept, and after how many of `records`.
    ghosts: Vec<(usize, Vec<Rec>)>,
    held_back: Option<HardState>,
    state: HardState,
    created: bool,
    wal: Option<Wal>,
}

type Step<T> = Result<T, Error>;

impl Story {
    pub fn create(&mut self, memory: &MemDisk) -> Step<()> {
        memory.note("create");
        let mut wal = Wal::create(&memory.shared(), dir(), b"metadata")?;
        wal.set_segment_bytes(2496);
        self.wal = Some(wal);
        self.created = true;
        Ok(())
    }

    pub fn open(&mut self, memory: &MemDisk) -> Step<()> {
        memory.note("open");
        self.wal = None;
        let newest = newest_mark(memory)?;
        let (mut wal, recovered) = Wal::open(&memory.shared(), dir(), &newest)?;
        wal.set_segment_bytes(2496);
        let want = fold(self.records.iter(), newest.index);
        assert_eq!(
            (recovered.entries, recovered.hard_state),
            (want.entries, want.state)
        );
        // What was held back went with the process; what was read is durable.
        (self.held_back, self.state) = (None, recovered.hard_state);
        self.settled();
        self.wal = Some(wal);
        self.created = true;
        Ok(())
    }

    /// Ends the process; the disk goes on.
    pub fn kill(&mut self) {
        self.wal = None;
    }

    pub fn close(&mut self, memory: &MemDisk) -> Step<()> {
        memory.note("close");
        self.write_held_back();
        if let Some(wal) = self.wal.take() {
            wal.close()?;
        }
        self.synced = self.records.len();
        Ok(())
    }

    fn write_held_back(&mut self) {
        if let Some(state) = self.held_back.take() {
            self.records.push(Rec::State(state));
        }
    }

    /// Tells what an append is about to write; what to take back if it fails.
    fn before_append(
        &mut self,
        state: Option<HardState>,
        entries: &[Entry],
    ) -> (usize, Option<HardState>, HardState) {
        let before = (self.records.len(), self.held_back, self.state);
        let votes = |state: HardState| (state.term, state.vote);
        let moved = state.is_some_and(|new| votes(new) != votes(self.state));
        if entries.is_empty() && !moved {
            if let Some(new) = state.filter(|new| *new != self.state) {
                self.held_back = Some(new);
                self.state = new;
            }
            return before;
        }
        if state.is_none() {
            self.write_held_back();
        }
        self.held_back = None;
        self.records.extend(entries.iter().cloned().map(Rec::Entry));
        self.records.extend(state.map(Rec::State));
        self.state = state.unwrap_or(self.state);
        before
    }

    /// A write failed and is as if it never was, but for what a crash may have kept.
    fn take_back(&mut self, before: (usize, Option<HardState>, HardState)) {
        let ghost = self.records.split_off(before.0);
        self.ghosts.push((before.0, ghost));
        (self.held_back, self.state) = (before.1, before.2);
    }

    fn settled(&mut self) {
        self.synced = self.records.len();
        self.ghosts.retain(|(at, _)| *at >= self.synced);
    }

    pub fn append(&mut self, memory: &MemDisk, state: Option<HardState>, entries: &[Entry]) -> Step<()> {
        memory.note("append");
        let before = self.before_append(state, entries);
        let wal = self.wal.as_mut().unwrap();
        match wal.append(state.as_ref(), entries) {
            Err(error) if !memory.stopped() && !error.is_poison() => {
                self.take_back(before);
                Err(error)
            }
            other => other.map(drop),
        }
    }

    pub fn sync(&mut self, memory: &MemDisk) -> Step<()> {
        memory.note("sync");
        self.write_held_back();
        self.wal.as_mut().unwrap().sync()?;
        self.settled();
        Ok(())
    }

    pub fn cut(&mut self, memory: &MemDisk) -> Step<bool> {
        memory.note("cut");
        // The head of the new segment holds the state that is held back.
        let head = self.held_back;
        self.records.extend(head.map(Rec::State));
        let cut = self.wal.as_mut().unwrap().cut_if_full()?;
        if cut {
            self.held_back = None;
            self.settled();
        } else if head.is_some() {
            self.records.pop();
        }
        Ok(cut)
    }

    pub fn save(&mut self, memory: &MemDisk, state: Option<HardState>, entries: &[Entry]) -> Step<Saved> {
        memory.note("save");
        let before = self.before_append(state, entries);
        let head = self.held_back;
        let written = self.records.len();
        self.records.extend(head.map(Rec::State));
        let wal = self.wal.as_mut().unwrap();
        match wal.save(state.as_ref(), entries) {
            Ok(saved) => {
                if saved.cut {
                    self.held_back = None;
                } else {
                    self.records.truncate(written);
                }
                if saved.cut || written > before.0 {
                    self.settled();
                }
                match saved.cut_failed {
                    Some(error) if memory.stopped() => {
                        self.records.extend(head.map(Rec::State));
                        Err(error)
                    }
                    _ => Ok(saved),
                }
            }
            Err(error) if !memory.stopped() && !error.is_poison() => {
                self.records.truncate(written);
                self.take_back(before);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    pub fn mark(&mut self, memory: &MemDisk, mark: &Mark) -> Step<()> {
        memory.note("mark");
        self.write_held_back();
        self.records.push(Rec::Mark(mark.clone()));
        self.wal.as_mut().unwrap().save_mark(mark)?;
        self.settled();
        Ok(())
    }

    pub fn release_and_purge(&mut self, memory: &MemDisk, index: u64) -> Step<()> {
        memory.note("purge");
        self.wal.as_mut().unwrap().release_to(index);
        wal::purge(memory, dir(), 1).map(drop)
    }

    pub fn prepare_spare(&mut self, memory: &MemDisk) -> Step<()> {
        memory.note("spare");
        self.wal.as_mut().unwrap().prepare_spare()
    }

    /// Whether what a crash left is a log that holds all it must and nothing it must not.
    pub fn verify(&self, after: &MemDisk) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        if !wal::exists(after, dir()).map_err(text)? {
            return if self.created {
                Err("the log is gone".into())
            } else {
                Ok(())
            };
        }
        check_heads(after)?;
        let newest = newest_mark(after).map_err(text)?;
        let durable = fold(self.records[..self.synced].iter(), 0).newest_mark;
        if newest.index < durable {
            return Err(format!("mark {durable} is gone, {} is left", newest.index));
        }
        let (mut wal, recovered) = Wal::open(&after.shared(), dir(), &newest).map_err(text)?;
        let found = (&recovered.entries, recovered.hard_state);
        let fits = |folded: Folded| (&folded.entries, folded.state) == found;
        let written =
            (self.synced..=self.records.len()).any(|k| fits(fold(self.records[..k].iter(), newest.index)));
        let ghost = || {
            self.ghosts.iter().any(|(at, ghost)| {
                (0..=ghost.len())
                    .any(|k| fits(fold(self.records[..*at].iter().chain(&ghost[..k]), newest.index)))
            })
        };
        if !written && !ghost() {
            let last = recovered.entries.last().map(|entry| (entry.term, entry.index));
            return Err(format!(
                "from mark {}: last entry {last:?}, {:?}",
                newest.index, found.1
            ));
        }
        let next = entry(
            99,
            recovered.entries.last().map_or(newest.index, |e| e.index) + 1,
            "next",
        );
        wal.save(None, &[next]).map_err(text)?;
        drop(wal);
        let again = after.crash(0, disk::mem::CrashMode::LoseUnsynced).shared();
        let (_, again) = Wal::open(&again, dir(), &newest).map_err(text)?;
        if again.entries.len() != recovered.entries.len() + 1 {
            return Err("what was opened does not keep an entry".into());
        }
        Ok(())
    }
}

/// A segment that has its name has its head. We would write a lost one anew; Go's etcd goes on without,
/// and fails when the segments before it are purged.
fn check_heads(disk: &dyn Disk) -> Result<(), String> {
    for name in names(disk, dir()) {
        let bytes = content(disk, &segment(&name));
        let metadata = bytes.windows(8).any(|window| window == b"metadata");
        if name.ends_with(".wal") && !(metadata && bytes[8..].starts_with(&[8, 4])) {
            return Err(format!("{name} has no head"));
        }
    }
    Ok(())
}

/// The newest mark that a member would start from.
pub fn newest_mark(disk: &dyn Disk) -> Step<Mark> {
    let (marks, _) = wal::valid_marks(disk, dir())?;
    let newest = marks.into_iter().max_by_key(|mark| mark.index);
    Ok(newest.unwrap_or_default())
}

impl Story {
    /// Takes a log over that holds this, durably.
    pub fn written_before(&mut self, state: Option<HardState>, entries: &[Entry]) {
        self.before_append(state, entries);
        self.settled();
        self.created = true;
    }
}
