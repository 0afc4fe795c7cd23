//! The storage version: which release line's schema a file has, and the way to another.
//!
//! The lines differ in one row alone: `meta/storageVersion`, which 3.6 brought. It is each member's own: not
//! replicated, and left out of the hash. etcd: server/storage/schema/{schema,migration}.go.

use api::version::{Line, Version};

use super::{META, Rows, consistent_index};
use crate::{Backend, Error};

pub(crate) const STORAGE_VERSION: &[u8] = b"storageVersion";
const V3_5: Version = Version::new(3, 5, 0);
const V3_6: Version = Version::new(3, 6, 0);

/// There is no way from one version to the other. The text is etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedVersion {
    /// This line knows no step from or to the version.
    #[error("version \"{0}\" is not supported")]
    Unknown(Version),
    /// The major versions differ.
    #[error("changing major storage version is not supported")]
    Major,
}

/// The version of a file: what it says, else 3.5 if it holds a term; `None` if that is not there either (a file
/// of 3.4 or older, or one nothing was applied to yet).
pub fn storage_version(rows: &impl Rows) -> Result<Option<Version>, Error> {
    if let Some(value) = rows.row(META, STORAGE_VERSION)? {
        let text = std::str::from_utf8(&value).unwrap_or_default();
        let version = text
            .parse()
            .map_err(|_| Error::corrupt(META, STORAGE_VERSION, "not a version"))?;
        return Ok(Some(version));
    }
    let (_, term) = consistent_index(rows)?;
    Ok((term != 0).then_some(V3_5))
}

/// Stores the version.
pub fn put_storage_version(backend: &mut Backend, version: Version) {
    backend.put(META, STORAGE_VERSION, version.to_string().as_bytes());
}

/// The versions that a migration goes through, the last being `target`; for a binary of `line`, which knows
/// the steps up to its own version.
pub fn migration(current: Version, target: Version, line: Line) -> Result<Vec<Version>, UnsupportedVersion> {
    let (current, target) = (current.minor_only(), target.minor_only());
    if current.major != target.major {
        return Err(UnsupportedVersion::Major);
    }
    let mut steps = Vec::new();
    let mut at = current;
    while at != target {
        let up = at.minor < target.minor;
        // A step belongs to the higher of its two versions.
        let owner = Version::new(at.major, at.minor + u32::from(up), 0);
        if owner < V3_6 || owner > line.version() || owner.major != V3_6.major {
            return Err(UnsupportedVersion::Unknown(owner));
        }
        at.minor = if up { at.minor + 1 } else { at.minor - 1 };
        steps.push(at);
    }
    Ok(steps)
}

/// Takes the rows from `current` to `target`. Whether a downgrade may be done yet (the log must hold nothing newer)
/// is the caller's to decide.
pub fn migrate(
    backend: &mut Backend,
    current: Version,
    target: Version,
    line: Line,
) -> Result<(), UnsupportedVersion> {
    for step in migration(current, target, line)? {
        if step < V3_6 {
            backend.delete(META, STORAGE_VERSION);
        } else {
            put_storage_version(backend, step);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_versions() {
        let check = |from: &str, to: &str, line: Line, expected: Result<&[&str], &str>| {
            let way = migration(from.parse().unwrap(), to.parse().unwrap(), line);
            let way = way.map(|steps| steps.iter().map(Version::to_string).collect::<Vec<_>>());
            let expected = expected.map(|steps| steps.iter().map(|step| (*step).to_string()).collect());
            assert_eq!(
                way.map_err(|error| error.to_string()),
                expected.map_err(str::to_string),
                "{from} to {to}"
            );
        };
        let (six, seven) = (Line::V3_6, Line::V3_7);
        check("3.7.0", "3.7.1", seven, Ok(&[]));
        check("3.5.0", "3.7.0", seven, Ok(&["3.6.0", "3.7.0"]));
        check("3.7.0", "3.5.0", seven, Ok(&["3.6.0", "3.5.0"]));
        check("3.5.0", "3.6.0", six, Ok(&["3.6.0"]));
        check("3.6.0", "3.5.0", six, Ok(&["3.5.0"]));
        check("3.7.0", "3.6.0", six, Err("version \"3.7.0\" is not supported"));
        check("3.8.0", "3.7.0", seven, Err("version \"3.8.0\" is not supported"));
        check("3.4.0", "3.7.0", seven, Err("version \"3.5.0\" is not supported"));
        check("3.6.0", "3.4.0", seven, Err("version \"3.5.0\" is not supported"));
        check(
            "4.0.0",
            "3.7.0",
            seven,
            Err("changing major storage version is not supported"),
        );
    }
}
