//! Names of segments: which files of a directory are the log, and in which order. Never opens a
//! segment.

use std::io;
use std::path::Path;

use disk::Disk;

use crate::Error;
use crate::error::At;

/// The name of a segment: `<sequence>-<index>.wal`, 16 hexadecimal digits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// Grows by one from segment to segment.
    pub(crate) sequence: u64,
    /// One more than the last entry written before this segment was begun.
    pub(crate) index: u64,
}

impl SegmentName {
    pub(crate) fn parse(name: &str) -> Option<SegmentName> {
        let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
        let hex = |digits: &str| {
            let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok())?
        };
        Some(SegmentName {
            sequence: hex(sequence)?,
            index: hex(index)?,
        })
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.index)
    }
}

/// Whether `dir` holds a log: any name that ends in `.wal` (etcd: server/storage/wal/util.go Exist).
pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, Error> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries.iter().any(|entry| entry.name.ends_with(".wal"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("list", dir),
    }
}

/// The segments of a log in their order, all others names left out.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentName>, Error> {
    let entries = disk.list(dir).at("list", dir)?;
    let mut names: Vec<SegmentName> = entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| SegmentName::parse(&entry.name))
        .collect();
    names.sort();
    Ok(names)
}

/// The segments needed to read from `index` on: the last that begins at or before it, and all later
/// ones (etcd: server/storage/wal/util.go searchIndex).
pub(crate) fn segments_from(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Vec<SegmentName>, Error> {
    let mut names = segments(disk, dir)?;
    let first = names.iter().rposition(|name| name.index <= index);
    let Some(first) = first else {
        return Err(Error::NoSegment {
            dir: dir.to_path_buf(),
            index,
        });
    };
    names.drain(..first);
    check_sequence(dir, &names)?;
    Ok(names)
}

/// Sequence numbers grow by exactly one.
pub(crate) fn check_sequence(dir: &Path, names: &[SegmentName]) -> Result<(), Error> {
    for pair in names.windows(2) {
        let expected = pair[0].sequence.wrapping_add(1);
        if pair[1].sequence != expected {
            return Err(Error::MissingSegment {
                dir: dir.to_path_buf(),
                expected,
                found: pair[1].to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_as_they_are_written() {
        let check = |text: &str, want: Option<(u64, u64)>| {
            let parsed = SegmentName::parse(text);
            assert_eq!(parsed.map(|name| (name.sequence, name.index)), want);
            if let Some(name) = parsed {
                assert_eq!(name.to_string(), text);
            }
        };
        check("0000000000000000-0000000000000000.wal", Some((0, 0)));
        check("000000000000000a-00000000000186a1.wal", Some((10, 100_001)));
        check(
            "ffffffffffffffff-ffffffffffffffff.wal",
            Some((u64::MAX, u64::MAX)),
        );
        check("0.tmp", None);
        check("0000000000000000-0000000000000000.wal.broken", None);
        check("0000000000000000-000000000000000.wal", None);
        check("+000000000000000-0000000000000000.wal", None);
        check("0000000000000000_0000000000000000.wal", None);
        check("é00000000000000-0000000000000000.wal", None);
        check(".wal", None);
    }
}
