//! What broken devices do to the files of a member: bits flip, files are cut short or gone. Knows for each
//! damage whether the format can show it. Never damages more than it says, and reads files by itself.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::mem::{CrashMode, MemDisk};
use disk::{Disk, Open};
use member::Config;
use wal::Records;

use crate::layout::{Layout, layout};

/// What devices write wholly or not at all.
const SECTOR_BYTES: usize = 512;

/// Places that are tried until a flip is one that a check of the file shows.
const TRIES: usize = 8;

/// What was done to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rot {
    /// The file.
    pub path: PathBuf,
    /// What was done to it.
    pub what: String,
    /// The format cannot tell this from a write that a crash cut off, or from another record: a member may start
    /// from it and know less than it has promised.
    pub hidden: bool,
}

/// Which parts of a log may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every segment: nobody writes to it.
    All,
    /// All but the segment that is being written.
    Sealed,
}

/// Flips a bit in a record of the log.
pub fn flip_log(disk: &MemDisk, wal_dir: &Path, part: Part, rng: &mut fastrand::Rng) -> Option<Rot> {
    let mut records = Records::open(disk, wal_dir).ok()?;
    let mut frames: Vec<(PathBuf, u64)> = Vec::new();
    while let Ok(Some(located)) = records.next() {
        frames.push((located.path.to_path_buf(), located.offset));
    }
    let last = segments(disk, wal_dir).pop()?;
    frames.retain(|(path, _)| part == Part::All || *path != last);
    // The newest records are those that matter most.
    let from = if rng.bool() {
        frames.len().saturating_sub(20)
    } else {
        0
    };
    let (path, offset) = rng.choice(frames.into_iter().skip(from))?;
    let file = content(disk, &path)?;
    let offset = offset as usize;
    let field = u64::from_le_bytes(file.get(offset..offset + 8)?.try_into().ok()?);
    let (len, padding) = (
        (field & 0x00ff_ffff_ffff_ffff) as usize,
        (field >> 56 & 7) as usize,
    );
    let record = offset + 8..offset + 8 + len;
    let mask = 1 << rng.u8(0..8);
    // Checksum and data come after tag, type, tag; the last is data in any case.
    let in_head = len < 16 || rng.u8(0..4) == 0;
    let at = match in_head {
        true => rng.usize(offset..offset + 10),
        false => rng.usize(record.start + 3..record.end),
    };
    disk.flip(&path, at as u64, mask).ok()?;
    let mut after = file;
    after[at] ^= mask;
    let looks_torn = path == last && has_empty_sector(&after, record.start..record.end + padding);
    Some(Rot {
        what: format!("bit {mask:#04x} of byte {at} flipped, in the record at {offset} of {len} bytes"),
        hidden: in_head || looks_torn,
        path,
    })
}

/// Whether what a record has in one of its sectors is all zero, as where nothing was written yet.
fn has_empty_sector(file: &[u8], record: Range<usize>) -> bool {
    let mut from = record.start;
    while from < record.end {
        let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(record.end);
        if file[from..to].iter().all(|byte| *byte == 0) {
            return true;
        }
        from = to;
    }
    false
}

/// Flips a bit in a snapshot file.
pub fn flip_snapshot_file(disk: &MemDisk, snap_dir: &Path, rng: &mut fastrand::Rng) -> Option<Rot> {
    let files = files(disk, snap_dir, ".snap");
    let newest = files.last().cloned();
    let path = if rng.bool() { newest } else { rng.choice(files) }?;
    let at = rng.usize(0..content(disk, &path)?.len().max(1));
    let mask = 1 << rng.u8(0..8);
    disk.flip(&path, at as u64, mask).ok()?;
    Some(Rot {
        what: format!("bit {mask:#04x} of byte {at} flipped"),
        hidden: false,
        path,
    })
}

/// Flips a bit in what holds the data file together, one that a check of the file shows.
pub fn flip_structure(disk: &MemDisk, db: &Path, rng: &mut fastrand::Rng) -> Option<Rot> {
    for _ in 0..TRIES {
        let file = content(disk, db)?;
        let (name, at) = structure(&layout(&file), rng)?;
        let mask = 1 << rng.u8(0..8);
        disk.flip(db, at as u64, mask).ok()?;
        if is_shown(disk, db) {
            return Some(Rot {
                path: db.to_path_buf(),
                what: format!("bit {mask:#04x} of byte {at} flipped, in {name}"),
                hidden: false,
            });
        }
        disk.flip(db, at as u64, mask).ok()?;
    }
    None
}

fn structure(layout: &Layout, rng: &mut fastrand::Rng) -> Option<(&'static str, usize)> {
    let (name, ranges) = match rng.u8(0..6) {
        0 => ("a meta page", &layout.metas),
        1 => ("a page's header", &layout.headers),
        2 => ("the element table of a branch", &layout.branch_tables),
        3 => ("a key of a branch", &layout.branch_keys),
        4 => ("the root of a bucket", &layout.roots),
        _ => ("the element table of a leaf", &layout.leaf_tables),
    };
    let range = rng.choice(ranges).filter(|range| !range.is_empty())?;
    Some((name, rng.usize(range.clone())))
}

/// Whether a check of the data file finds anything.
pub fn is_shown(disk: &MemDisk, db: &Path) -> bool {
    // A copy, which nobody holds the lock of.
    let copy = disk.crash(0, CrashMode::KeepAll).shared();
    let options = bbolt::Options {
        read_only: true,
        ..bbolt::Options::default()
    };
    match bbolt::Db::open(&copy, db, options) {
        Ok(db) => !db.check().is_empty(),
        Err(_) => true,
    }
}

/// Flips a bit in a value that a client stored, which no format shows: only members that compare what they
/// hold can find it.
pub fn flip_value(disk: &MemDisk, db: &Path, rng: &mut fastrand::Rng) -> Option<Rot> {
    let layout = layout(&content(disk, db)?);
    let value = rng.choice(layout.values)?;
    let at = rng.usize(value);
    // The least bit: what was text stays text.
    disk.flip(db, at as u64, 1).ok()?;
    Some(Rot {
        path: db.to_path_buf(),
        what: format!("bit 0x01 of byte {at} flipped, in a stored value"),
        hidden: true,
    })
}

/// Takes a file away.
pub fn lose_file(disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng) -> Option<Rot> {
    let (path, hidden) = any_file(disk, config, rng)?;
    disk.remove_file(&path).ok()?;
    disk.settle();
    Some(Rot {
        path,
        what: "gone".to_owned(),
        hidden,
    })
}

/// Cuts a file short.
pub fn cut_file(disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng) -> Option<Rot> {
    let (path, hidden) = any_file(disk, config, rng)?;
    let file = disk.open(&path, Open::Write).ok()?;
    let len = match rng.u8(0..4) {
        0 => 0,
        _ => rng.u64(0..file.len().ok()?.max(1)),
    };
    file.set_len(len).ok()?;
    disk.settle();
    Some(Rot {
        path,
        what: format!("cut to {len} bytes"),
        hidden,
    })
}

/// A file of the member, and whether the log may look whole without it.
fn any_file(disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng) -> Option<(PathBuf, bool)> {
    let segments = segments(disk, &config.wal_dir());
    match rng.u8(0..4) {
        0 => Some((segments.last()?.clone(), true)),
        1 => {
            let path = rng.choice(segments.iter())?.clone();
            let hidden = Some(&path) == segments.last();
            Some((path, hidden))
        }
        2 => Some((config.db_path(), false)),
        _ => {
            let path = rng.choice(files(disk, &config.snap_dir(), ".snap"))?;
            Some((path, false))
        }
    }
}

/// The segments of the log, oldest first.
fn segments(disk: &MemDisk, wal_dir: &Path) -> Vec<PathBuf> {
    files(disk, wal_dir, ".wal")
}

fn files(disk: &MemDisk, dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = disk.list(dir).unwrap_or_default();
    let names = entries.into_iter().filter(|entry| entry.name.ends_with(suffix));
    names.map(|entry| dir.join(entry.name)).collect()
}

/// A whole file.
pub fn content(disk: &MemDisk, path: &Path) -> Option<Vec<u8>> {
    let disk: Arc<dyn Disk> = disk.shared();
    let file = disk.open(path, Open::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
    let n = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(n);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use api::clock::Instant;

    use super::*;
    use crate::plan::Plan;
    use crate::world::World;

    type Files = BTreeMap<PathBuf, Vec<u8>>;

    /// The disk of a member that was killed in the midst of its work.
    fn killed(seed: u64) -> (MemDisk, Config) {
        let mut world = World::new(Plan::new(seed, Duration::from_secs(6)));
        world.run_until(Instant::from_start(Duration::from_secs(6)));
        world.crash(0, None);
        let node = &world.nodes[0];
        node.disk.settle();
        (node.disk.clone(), node.config.clone())
    }

    fn all(disk: &MemDisk, config: &Config) -> Files {
        let dirs = [config.wal_dir(), config.snap_dir()];
        let paths = dirs.iter().flat_map(|dir| files(disk, dir, ""));
        paths
            .map(|path| (path.clone(), content(disk, &path).unwrap()))
            .collect()
    }

    /// The damage is to the file that it names, and there alone; `is` says what it must be.
    fn check(
        how: impl Fn(&MemDisk, &Config, &mut fastrand::Rng) -> Option<Rot>,
        is: impl Fn(&MemDisk, &Config, &Rot, &[u8], Option<&Vec<u8>>),
    ) {
        let mut done = 0;
        // Not every world has come as far as to have such files.
        for seed in 0..40 {
            if done > 3 {
                break;
            }
            let (disk, config) = killed(seed);
            let before = all(&disk, &config);
            let mut rng = fastrand::Rng::with_seed(seed);
            let Some(rot) = how(&disk, &config, &mut rng) else {
                assert_eq!(all(&disk, &config), before);
                continue;
            };
            done += 1;
            let after = all(&disk, &config);
            let others = before.iter().filter(|(path, _)| **path != rot.path);
            for (path, bytes) in others {
                assert_eq!(after.get(path), Some(bytes), "{rot:?}");
            }
            is(&disk, &config, &rot, &before[&rot.path], after.get(&rot.path));
        }
        assert!(done > 3, "{done} were done");
    }

    fn one_bit(before: &[u8], after: Option<&Vec<u8>>) {
        let after = after.unwrap();
        let bits = before
            .iter()
            .zip(after)
            .map(|(one, other)| (one ^ other).count_ones());
        assert_eq!((before.len(), bits.sum::<u32>()), (after.len(), 1));
    }

    #[test]
    fn a_flip_in_the_log_is_seen_unless_it_is_hidden() {
        let flip = |disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng| {
            flip_log(disk, &config.wal_dir(), Part::All, rng)
        };
        check(flip, |disk, config, rot, before, after| {
            one_bit(before, after);
            let seen = wal::check(disk, &config.wal_dir()).is_err();
            assert!(seen || rot.hidden, "{rot:?}");
        });
    }

    #[test]
    fn a_flip_in_the_structure_is_seen_by_a_check() {
        let flip = |disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng| {
            flip_structure(disk, &config.db_path(), rng)
        };
        check(flip, |disk, config, _, before, after| {
            one_bit(before, after);
            assert!(is_shown(disk, &config.db_path()));
        });
    }

    #[test]
    fn a_flip_in_a_snapshot_file_is_one_bit() {
        let flip = |disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng| {
            flip_snapshot_file(disk, &config.snap_dir(), rng)
        };
        check(flip, |disk, _, rot, before, after| {
            one_bit(before, after);
            assert!(wal::snapfile::read(disk, &rot.path).is_err(), "{rot:?}");
        });
    }

    #[test]
    fn a_flip_in_a_value_is_seen_by_no_check_and_changes_one_value() {
        let flip = |disk: &MemDisk, config: &Config, rng: &mut fastrand::Rng| {
            flip_value(disk, &config.db_path(), rng)
        };
        check(flip, |disk, config, _, before, after| {
            one_bit(before, after);
            assert!(!is_shown(disk, &config.db_path()));
            let values = |file: &[u8]| -> Vec<Vec<u8>> {
                let ranges = layout(file).values.into_iter();
                ranges.map(|range| file[range].to_vec()).collect()
            };
            let (old, new) = (values(before), values(after.unwrap()));
            let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
            assert_eq!((old.len(), changed), (new.len(), 1));
        });
    }

    #[test]
    fn files_go_and_files_are_cut() {
        check(lose_file, |_, _, _, _, after| assert_eq!(after, None));
        check(cut_file, |_, _, _, before, after| {
            let after = after.unwrap();
            assert!(after.len() < before.len() && before.starts_with(after));
        });
    }
}
