//! Looking at a log without opening it: marks to start from, checks, and the purge of old segments.

use std::path::{Path, PathBuf};

use disk::{Disk, Lock, Open};

use crate::error::{At, poisoned};
use crate::scan::{Records, Tail};
use crate::wire;
use crate::{Error, HardState, Mark, Record};

/// All marks that may be started from (those at or below the last commit index), oldest first, and
/// the last hard state (etcd: server/storage/wal/wal.go ValidSnapshotEntries). Takes no lock and
/// changes nothing; a torn end counts as the end.
pub fn valid_marks(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Mark>, HardState), Error> {
    let mut records = Records::open(disk, dir)?;
    let (mut marks, mut state) = (Vec::new(), HardState::default());
    while let Some(located) = records.next()? {
        // Entries are most of a log, and only their checksum matters here.
        if located.kind == wire::ENTRY {
            continue;
        }
        match located.record()? {
            Record::Mark(mark) => marks.push(mark),
            Record::State(new) => state = new,
            _ => {}
        }
    }
    marks.retain(|mark| mark.index <= state.commit);
    Ok((marks, state))
}

/// What a log holds, as far as a check can say.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Records of all kinds.
    pub records: u64,
    /// Entries, those overwritten later included.
    pub entries: u64,
    /// Index of the last entry record; 0 if there is none.
    pub last_index: u64,
    /// Marks, usable or not, oldest first.
    pub marks: Vec<Mark>,
    /// The last hard state.
    pub hard_state: HardState,
    /// How the last segment ends.
    pub tail: Tail,
}

/// Reads and decodes everything that is there and reports the first damage. Takes no lock and changes
/// nothing.
pub fn check(disk: &dyn Disk, dir: &Path) -> Result<Summary, Error> {
    let mut records = Records::open(disk, dir)?;
    let mut summary = Summary {
        records: 0,
        entries: 0,
        last_index: 0,
        marks: Vec::new(),
        hard_state: HardState::default(),
        tail: Tail::Clean(0),
    };
    let mut metadata = None;
    while let Some(located) = records.next()? {
        summary.records += 1;
        match located.record()? {
            Record::Entry(entry) => {
                summary.entries += 1;
                summary.last_index = entry.index;
            }
            Record::State(state) => summary.hard_state = state,
            Record::Mark(mark) => summary.marks.push(mark),
            Record::Metadata(found) => {
                if metadata.replace(found.clone()).is_some_and(|old| old != found) {
                    return Err(Error::MetadataConflict {
                        path: located.path.to_path_buf(),
                        offset: located.offset,
                    });
                }
            }
            Record::Crc(_) => {}
        }
    }
    summary.tail = records.tail().unwrap_or(summary.tail);
    Ok(summary)
}

/// Removes the oldest segments while there are more than `max` and nobody holds them; 0 keeps all.
/// Returns what was removed.
pub fn purge(disk: &dyn Disk, dir: &Path, max: usize) -> Result<Vec<PathBuf>, Error> {
    let mut names: Vec<String> = disk
        .list(dir)
        .at("list", dir)?
        .into_iter()
        .map(|e| e.name)
        .collect();
    // As etcd: whatever ends in `wal` counts (client/pkg/fileutil/purge.go).
    names.retain(|name| name.ends_with("wal"));
    let mut removed = Vec::new();
    if max == 0 {
        return Ok(removed);
    }
    let surplus = names.len().saturating_sub(max);
    if surplus == 0 {
        return Ok(removed);
    }
    let held = disk.open_dir(dir).at("open", dir)?;
    for name in &names[..surplus] {
        let path = dir.join(name);
        let file = disk.open(&path, Open::Write).at("open", &path)?;
        if !file.try_lock(Lock::Segment).at("lock", &path)? {
            break;
        }
        disk.remove_file(&path).at("remove", &path)?;
        // One by one: if a crash brought back an older one and not the next, the log would have a
        // hole, and etcd reads all that is there.
        held.sync().map_err(|error| poisoned(dir, &error))?;
        removed.push(path);
    }
    Ok(removed)
}
