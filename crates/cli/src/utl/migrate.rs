//! migrate: takes the data directory of a stopped member to the schema of another release line. What the
//! lines differ in, and whether the log lets it go down, is `mvcc`'s and `state`'s to say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::version::{Line, Version};
use bbolt::{Batch, Db, Options};
use bytes::Bytes;
use disk::{Disk, RealDisk};
use mvcc::schema;
use serde_json::json;
use wal::{EntryKind, Record, Records};

use super::failed;
use crate::flags::{Command, Kind, Parsed, flag, parse_int};
use crate::{Failure, log};

pub(super) const MIGRATE: Command = Command {
    path: &["migrate"],
    usage: "",
    help: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
    flags: &[
        flag("data-dir", Kind::Text, "", "Path to the etcd data dir"),
        flag(
            "target-version",
            Kind::Text,
            "",
            "Target etcd version to migrate contents of data dir. Minimal value 3.5. Format \"X.Y\" for example 3.6.",
        ),
        flag(
            "force",
            Kind::Bool,
            "false",
            "Ignore migration failure and forcefully override storage version. Not recommended.",
        ),
    ],
};

const V3_5: Version = Version::new(3, 5, 0);
const V3_6: Version = Version::new(3, 6, 0);
const STORAGE_VERSION: &[u8] = b"storageVersion";

pub(super) fn migrate(parsed: &Parsed) -> Result<(), Failure> {
    let missing: Vec<String> = ["data-dir", "target-version"]
        .into_iter()
        .filter(|name| !parsed.given(name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !missing.is_empty() {
        return Err(failed(format!("required flag(s) {} not set", missing.join(", "))));
    }
    let target = target_version(parsed.text("target-version"))?;
    let dir = Path::new(parsed.text("data-dir"));
    let path = dir.join("member").join("snap").join("db");
    if !path.exists() {
        return Err(failed(format!(
            "stat {}: no such file or directory",
            path.display()
        )));
    }
    let disk: Arc<dyn Disk> = RealDisk::shared();
    let db = super::open_waiting(parsed, &path, Options::default())?;
    let current = schema::storage_version(&db.snapshot()).map_err(failed)?;
    let Some(current) = current.map(Version::minor_only) else {
        log::error(
            "failed to detect storage version. Please make sure you are using data dir from etcd v3.5 and older",
            &[],
        );
        return Err(failed("missing term information"));
    };
    if current == target {
        let version = json!(format!("{}.{}", current.major, current.minor));
        log::info("storage version up-to-date", &[("storage-version", version)]);
        return Ok(());
    }
    match plan(disk.as_ref(), dir, current, target) {
        Ok(steps) => store(&db, &steps),
        Err(Plan::Log(failure)) => {
            log::error("Failed to finalize config", &[("error", json!(failure.text))]);
            Err(failure)
        }
        Err(Plan::Schema(failure)) if !parsed.is("force") => Err(failure),
        Err(Plan::Schema(failure)) => {
            log::info(
                "normal migrate failed, trying with force",
                &[("error", json!(failure.text))],
            );
            let forced = write(&db, target);
            if target < V3_6 {
                log::warn("forcefully cleared storage version", &[]);
            } else {
                let version = json!(format!("{}.{}", target.major, target.minor));
                log::warn("forcefully set storage version", &[("storage-version", version)]);
            }
            forced
        }
    }
}

/// Reads `X.Y` (etcdutl/migrate_command.go Config).
fn target_version(text: &str) -> Result<Version, Failure> {
    if text.matches('.').count() != 1 {
        return Err(Failure::bad_args(format!(
            "wrong target version format, expected \"X.Y\", got {text:?}"
        )));
    }
    let wrong = text.split('.').find_map(|part| parse_int(part).err());
    if let Some(why) = wrong {
        return Err(Failure::bad_args(format!(
            "failed to parse target version: {why}"
        )));
    }
    let version: Version = format!("{text}.0")
        .parse()
        .map_err(|_| Failure::bad_args(format!("failed to parse target version: {text:?}")))?;
    if version < V3_5 {
        return Err(Failure::bad_args(format!(
            "target version \"{}.{}\" not supported. Minimal \"3.5\"",
            version.major, version.minor
        )));
    }
    Ok(version)
}

/// Why there is no way.
enum Plan {
    /// The log cannot be read.
    Log(Failure),
    /// The files cannot become what is wanted.
    Schema(Failure),
}

/// The versions to go through, and whether the log allows it: entries that the target cannot read must
/// be behind the last snapshot.
fn plan(disk: &dyn Disk, dir: &Path, current: Version, target: Version) -> Result<Vec<Version>, Plan> {
    let schema = |text: String| Plan::Schema(failed(text));
    let needed = oldest_reader(disk, &dir.join("member").join("wal")).map_err(Plan::Log)?;
    let steps = schema::migration(current, target, Line::V3_7)
        .map_err(|error| schema(format!("cannot create migration plan: {error}")))?;
    match needed {
        Some(needed) if target < current && target < needed => Err(schema(format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version ({target}) is lower than \
             the version ({needed}) detected from WAL logs"
        ))),
        _ => Ok(steps),
    }
}

/// The oldest version that can read the entries behind the last usable mark of a log; `None` if there
/// are none.
fn oldest_reader(disk: &dyn Disk, dir: &Path) -> Result<Option<Version>, Failure> {
    let (marks, _) = wal::valid_marks(disk, dir)
        .map_err(|error| failed(format!("failed to get the lastest snapshot: {error}")))?;
    let start = marks.last().map_or(0, |mark| mark.index);
    let unreadable = |error: &dyn std::fmt::Display| failed(format!("failed to read wal: {error}"));
    let mut records = Records::open(disk, dir).map_err(|error| unreadable(&error))?;
    let mut needed: BTreeMap<u64, Version> = BTreeMap::new();
    while let Some(located) = records.next().map_err(|error| unreadable(&error))? {
        let Record::Entry(entry) = located.record().map_err(|error| unreadable(&error))? else {
            continue;
        };
        // A later entry stands for all from its index on.
        needed.split_off(&entry.index);
        if entry.index > start {
            let kind = match entry.kind {
                EntryKind::Normal => state::EntryKind::Normal,
                EntryKind::ConfChange => state::EntryKind::ConfChange,
                EntryKind::ConfChangeV2 => state::EntryKind::ConfChangeV2,
            };
            let version = state::minimal_version(entry.index, kind, &entry.data);
            needed.insert(entry.index, version.map_err(|error| unreadable(&error))?);
        }
    }
    Ok(needed.into_values().max())
}

fn store(db: &Db, steps: &[Version]) -> Result<(), Failure> {
    if let Some(last) = steps.last() {
        write(db, *last)?;
    }
    for step in steps {
        log::info(
            "updated storage version",
            &[("new-storage-version", json!(step.to_string()))],
        );
    }
    Ok(())
}

/// Files of 3.5 do not name their version.
fn write(db: &Db, version: Version) -> Result<(), Failure> {
    let (bucket, key) = (schema::META.as_bytes(), Bytes::from_static(STORAGE_VERSION));
    let mut batch = Batch::new();
    if version < V3_6 {
        batch.delete(bucket, key);
    } else {
        batch.put(bucket, key, Bytes::from(version.to_string()));
    }
    db.commit(&batch).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_versions_are_read_as_etcd_reads_them() {
        for (text, expect) in [
            ("3.6", Ok("3.6.0")),
            ("4.0", Ok("4.0.0")),
            (
                "3",
                Err("wrong target version format, expected \"X.Y\", got \"3\""),
            ),
            (
                "3.6.0",
                Err("wrong target version format, expected \"X.Y\", got \"3.6.0\""),
            ),
            (
                "x.6",
                Err("failed to parse target version: strconv.ParseInt: parsing \"x\": invalid syntax"),
            ),
            (
                "3.4",
                Err("target version \"3.4\" not supported. Minimal \"3.5\""),
            ),
        ] {
            let read = target_version(text);
            let shown = read
                .as_ref()
                .map(Version::to_string)
                .map_err(|failure| failure.text.clone());
            assert_eq!(
                shown,
                expect.map(str::to_string).map_err(str::to_string),
                "{text}"
            );
        }
    }
}
