//! The data file at the start: opened, compared with the log, refused if another release or cluster
//! must have it.

use std::path::Path;
use std::sync::Arc;

use api::version::{Line, Version};
use bbolt::Db;
use disk::Disk;
use mvcc::schema;
use wal::{Mark, snapfile};

use crate::config::Config;
use crate::error::Error;
use crate::log::{Log, LogLine};

/// The data file of a directory that has no log yet: it must be new as well.
pub(super) fn open_new(disk: &Arc<dyn Disk>, config: &Config) -> Result<Db, Error> {
    let db = open_db(disk, config)?;
    let path = config.db_path();
    let (index, _) =
        schema::consistent_index(&db.snapshot()).map_err(|error| Error::damaged(&path, error))?;
    if index > 0 {
        return Err(Error::Refused(format!(
            "{} holds data up to index {index}, but there is no log in {}: give the right --wal-dir, \
             restore the member from a snapshot, or remove the directory to begin anew",
            path.display(),
            config.wal_dir().display()
        )));
    }
    Ok(db)
}

/// The data file of a directory that has a log. A data file that is missing is made only if the log
/// reaches back to its first entry.
pub(super) fn open_with_log(disk: &Arc<dyn Disk>, config: &Config, log: &dyn Log) -> Result<Db, Error> {
    let path = config.db_path();
    // An empty file is no better than none: opening it would make it a new one.
    let exists = disk
        .metadata(&path)
        .map_err(|error| Error::io(&path, error))?
        .is_some_and(|found| found.len > 0);
    // Taken first: a log that another process writes to is not to be read.
    let held = exists.then(|| open_db(disk, config)).transpose()?;
    let mark = newest_mark(&**disk, config)?;
    let received = snapfile::db_path(&config.snap_dir(), mark.index);
    let index = match &held {
        Some(db) => {
            schema::consistent_index(&db.snapshot())
                .map_err(|error| Error::damaged(&path, error))?
                .0
        }
        None => 0,
    };
    if mark.index > index {
        let has_received = disk
            .metadata(&received)
            .map_err(|error| Error::io(&received, error))?
            .is_some();
        if !has_received {
            return Err(Error::Damaged {
                path: path.clone(),
                reason: format!(
                    "failed to find database snapshot file (snap: snapshot file doesn't exist): the data \
                     file is at index {index}, the log's snapshot at {}; restore the member from a snapshot, \
                     or remove it and add it again",
                    mark.index
                ),
            });
        }
        check_received(disk, &received, mark.index)?;
        drop(held);
        log.log(
            LogLine::info("Recovering from snapshot backend")
                .with("snapshot-index", mark.index)
                .with("path", received.display().to_string()),
        );
        disk.rename(&received, &path)
            .and_then(|()| disk::sync_parent(&**disk, &path))
            .map_err(|error| Error::io(&received, error))?;
        let db = open_db(disk, config)?;
        check(&db, config)?;
        return Ok(db);
    }
    match held {
        Some(db) => {
            check(&db, config)?;
            Ok(db)
        }
        None => {
            super::log_dir::examine(&**disk, config, &mark, None)?;
            open_db(disk, config)
        }
    }
}

/// Refuses a state of the leader that is older than the log's word for it, before it takes the place of anything: entries
/// are applied from the mark on, and those in between would be missed by nobody (etcd: server/etcdserver/bootstrap.go,
/// recoverSnapshot).
fn check_received(disk: &Arc<dyn Disk>, received: &Path, mark_index: u64) -> Result<(), Error> {
    let options = bbolt::Options {
        read_only: true,
        ..bbolt::Options::default()
    };
    let db = Db::open(disk, received, options).map_err(|error| open_error(received, error))?;
    let (index, _) =
        schema::consistent_index(&db.snapshot()).map_err(|error| Error::damaged(received, error))?;
    if index < mark_index {
        return Err(Error::Damaged {
            path: received.to_path_buf(),
            reason: format!(
                "database file ({} index {index}) does not match with snapshot (index {mark_index}): the entries \
                 between them are missing; restore the member from a snapshot, or remove it and add it again",
                received.display()
            ),
        });
    }
    Ok(())
}

/// The newest snapshot record of the log that may be started from.
pub(super) fn newest_mark(disk: &dyn Disk, config: &Config) -> Result<Mark, Error> {
    let (marks, _) = wal::valid_marks(disk, &config.wal_dir())?;
    Ok(marks.into_iter().next_back().unwrap_or_default())
}

/// The version of the data file as the member's line sees it.
pub(crate) fn storage_version(db: &Db, config: &Config) -> Result<Option<Version>, Error> {
    if config.line == Line::V3_5 {
        return Ok(None);
    }
    schema::storage_version(&db.snapshot()).map_err(|error| Error::damaged(&config.db_path(), error))
}

/// How the data file of a member is opened.
pub(crate) fn db_options(config: &Config) -> bbolt::Options {
    bbolt::Options {
        cache_bytes_max: config.page_cache_bytes_max,
        sync: !config.unsafe_no_fsync,
        find_free_pages_later: true,
        ..bbolt::Options::default()
    }
}

fn open_db(disk: &Arc<dyn Disk>, config: &Config) -> Result<Db, Error> {
    let path = config.db_path();
    Db::open(disk, &path, db_options(config)).map_err(|error| open_error(&path, error))
}

fn open_error(path: &Path, error: bbolt::Error) -> Error {
    match error {
        bbolt::Error::Locked { .. } => Error::Locked {
            path: path.to_path_buf(),
        },
        bbolt::Error::Io { source, file, .. } => Error::Io { path: file, source },
        error => Error::damaged(path, error),
    }
}

/// Refuses a data file that a newer release wrote, or that has what is not there yet.
fn check(db: &Db, config: &Config) -> Result<(), Error> {
    let path = config.db_path();
    let rows = db.snapshot();
    let damaged = |error: mvcc::Error| Error::damaged(&path, error);
    let server = config.line.release();
    if config.line != Line::V3_5
        && let Some(stored) = schema::storage_version(&rows).map_err(damaged)?
        && let Err(unsupported) = schema::migration(stored, config.line.version(), config.line)
    {
        return Err(Error::Refused(format!(
            "{}: {unsupported}: the data was written by a newer release than {server}; \
             run that release, or let it downgrade the storage first",
            path.display()
        )));
    }
    if let Some(cluster) = schema::cluster_version(&rows).map_err(damaged)?
        && cluster.minor_only() > config.line.version()
    {
        return Err(Error::Refused(format!(
            "{}: invalid downgrade; server version is lower than determined cluster version \
             (current-server-version {server}, determined-cluster-version {}.{}): \
             run a release of the cluster's version, or downgrade the cluster first",
            path.display(),
            cluster.major,
            cluster.minor
        )));
    }
    if config.line == Line::V3_5
        && let Some(downgrade) = schema::downgrade(&rows).map_err(damaged)?
        && downgrade.enabled
        && downgrade.target_version.parse().map(Version::minor_only) != Ok(config.line.version())
    {
        return Err(Error::Refused(format!(
            "{}: invalid downgrade; server version is not allowed to join when downgrade is enabled \
             (current-server-version {server}, target-cluster-version {})",
            path.display(),
            downgrade.target_version
        )));
    }
    Ok(())
}
