//! The directories of a member: made, tried, tidied.

use std::path::Path;

use disk::{Disk, Open};

use crate::config::Config;
use crate::error::Error;
use crate::log::{Log, LogLine};

/// The permissions that etcd gives its directories and expects of them.
const DIR_MODE: u32 = 0o700;

/// Makes the directories that are missing and tries whether they can be written to
/// (etcd: client/pkg/fileutil, TouchDirAll).
pub(super) fn prepare(disk: &dyn Disk, config: &Config, log: &dyn Log) -> Result<(), Error> {
    for dir in [config.data_dir.clone(), config.member_dir(), config.snap_dir()] {
        touch(disk, &dir, log).map_err(|error| match error {
            Error::Io { path, source } => Error::Directory { path, source },
            error => error,
        })?;
    }
    if wal::exists(disk, &config.wal_dir())? {
        write_probe(disk, &config.wal_dir())?;
    }
    Ok(())
}

/// Removes what an unfinished defragmentation or download has left. The directory is locked.
pub(super) fn remove_leftovers(disk: &dyn Disk, config: &Config, log: &dyn Log) -> Result<(), Error> {
    for path in wal::snapfile::remove_leftovers(disk, &config.snap_dir())? {
        log.log(LogLine::info("removed a leftover file").with("path", path.display().to_string()));
    }
    Ok(())
}

fn touch(disk: &dyn Disk, dir: &Path, log: &dyn Log) -> Result<(), Error> {
    match disk.metadata(dir).map_err(|error| Error::io(dir, error))? {
        None => create(disk, dir)?,
        Some(found) if !found.is_dir => {
            return Err(Error::Refused(format!(
                "{} is not a directory: choose another --data-dir",
                dir.display()
            )));
        }
        Some(found) if found.mode & 0o777 != DIR_MODE => log.log(
            LogLine::warn("check file permission").with(
                "error",
                format!(
                    "directory {:?} exist, but the permission is {:o}. The recommended permission is {DIR_MODE:o} to prevent possible unprivileged access to the data",
                    dir.display().to_string(),
                    found.mode & 0o777
                ),
            ),
        ),
        Some(_) => {}
    }
    write_probe(disk, dir)
}

/// Makes a directory and its parents, each durable under its name.
fn create(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let mut missing = Vec::new();
    for above in dir.ancestors().filter(|above| !above.as_os_str().is_empty()) {
        if disk
            .metadata(above)
            .map_err(|error| Error::io(above, error))?
            .is_some()
        {
            break;
        }
        missing.push(above);
    }
    disk.create_dir_all(dir).map_err(|error| Error::io(dir, error))?;
    for made in missing.into_iter().rev() {
        disk::sync_parent(disk, made).map_err(|error| Error::io(made, error))?;
    }
    Ok(())
}

fn write_probe(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let probe = dir.join(".touch");
    disk.open(&probe, Open::Truncate)
        .and_then(|_| disk.remove_file(&probe))
        .map_err(|source| Error::Io {
            path: dir.to_path_buf(),
            source,
        })
}
