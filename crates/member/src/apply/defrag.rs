//! `Defragment`: a copy of the data file in tight pages takes its place. Writes go on in memory
//! meanwhile; only commits wait.

use std::path::PathBuf;
use std::sync::Arc;

use api::clock::Instant;
use api::error::Status;
use api::error::{self, Code};
use bytes::Bytes;
use disk::Disk;

use super::file::Waiting;
use super::{Apply, Broken, Found, JobDone};
use crate::config::Config;
use crate::error::Error;
use crate::frontend::Tell;
use crate::log::{Log, LogLine, human_bytes};
use crate::measure::{Measure, Work};
use crate::message::ToApply;
use crate::router::{Job, JobKind, Router};

/// Who waits for the defragmentation.
#[derive(Default)]
pub(super) struct Defrag {
    ids: Vec<u64>,
    copying: bool,
    started: Instant,
}

impl Defrag {
    pub(super) fn is_copying(&self) -> bool {
        self.copying
    }
}

/// Why there is no new file.
pub(crate) enum Failure {
    /// The old file is as it was.
    Harmless(String),
    /// Nobody knows which of the two a restart would find.
    Unknown(String),
}

impl Apply {
    pub(super) fn ask_defragment(&mut self, id: u64, router: &dyn Router) {
        if self.stopping {
            let result = Err(error::STOPPED);
            return self.tell(id, Tell::Done { id, result });
        }
        self.defrag.ids.push(id);
        if self.defrag.ids.len() == 1 && !self.defrag.copying {
            router.log(LogLine::info("starting defragment"));
            self.file.wait(Waiting::Defragment);
        }
    }

    /// Everything applied is in the file: copies it.
    pub(super) fn start_copy(&mut self, now: Instant, router: &dyn Router) {
        self.defrag.copying = true;
        self.defrag.started = now;
        self.file.freeze(true);
        let disk = self.disk.clone();
        let path = self.config.db_path();
        let db = self.machine.store().db().clone();
        router.log(with_sizes(
            LogLine::info("defragmenting").with("path", path.display().to_string()),
            &db,
        ));
        let options = copy_options(&db, &self.config);
        router.job(Job::new(JobKind::Defragment, move |router: &dyn Router| {
            router.measure(Measure::Begins(Work::Defragment));
            let copied = copy(&disk, &db, &path, options);
            router.measure(Measure::Ends(Work::Defragment));
            router.to_apply(ToApply::JobDone(JobDone(Found::Defragmented(copied))));
        }));
    }

    pub(super) fn defragmented(
        &mut self,
        result: Result<bbolt::Db, Failure>,
        now: Instant,
        router: &dyn Router,
    ) -> Result<(), Broken> {
        self.defrag.copying = false;
        self.file
            .freeze(!matches!(self.installing, super::Installing::No));
        let before = self.machine.store().db();
        let (size, size_in_use) = (before.size(), before.size_in_use());
        match result {
            Ok(db) => {
                let line = finished((size, size_in_use), &db, &self.config);
                router.log(line.with("took", now - self.defrag.started));
                router.log(LogLine::info("finished defragment"));
                self.machine.store().replace_db(db);
                self.unpublished += 1;
                self.defragment_ended(Ok(Bytes::new()));
            }
            Err(Failure::Harmless(reason)) => {
                router.log(LogLine::warn("failed to defragment").with("error", reason.clone()));
                self.defragment_failed(Status::with(Code::Unknown, reason));
            }
            Err(Failure::Unknown(reason)) => {
                return Err(Broken {
                    what: self.config.db_path().display().to_string(),
                    reason,
                });
            }
        }
        Ok(())
    }

    pub(super) fn defragment_failed(&mut self, status: Status) {
        self.defragment_ended(Err(status));
    }

    fn defragment_ended(&mut self, result: Result<Bytes, Status>) {
        for id in std::mem::take(&mut self.defrag.ids) {
            let result = result.clone();
            self.tell(id, Tell::Done { id, result });
        }
    }
}

/// Defragments at the start if that frees so much as the operator said
/// (etcd: server/etcdserver/bootstrap.go maybeDefragBackend).
pub(crate) fn at_start(
    disk: &Arc<dyn Disk>,
    config: &Config,
    db: bbolt::Db,
    log: &dyn Log,
) -> Result<bbolt::Db, Error> {
    let megabytes = config.bootstrap_defrag_threshold_megabytes;
    if megabytes == 0 {
        return Ok(db);
    }
    let path = config.db_path();
    db.find_free_pages()
        .map_err(|error| Error::damaged(&path, error))?;
    let (size, size_in_use) = (db.size(), db.size_in_use());
    let threshold = megabytes.saturating_mul(1 << 20);
    if size - size_in_use < threshold {
        log.log(
            with_sizes(LogLine::info("Skipping defragmentation"), &db)
                .with("bootstrap-defrag-threshold-bytes", threshold)
                .with("bootstrap-defrag-threshold", human_bytes(threshold)),
        );
        return Ok(db);
    }
    let line = LogLine::info("defragmenting").with("path", path.display().to_string());
    log.log(with_sizes(line, &db));
    match copy(disk, &db, &path, copy_options(&db, config)) {
        Ok(copy) => {
            log.log(finished((size, size_in_use), &copy, config));
            Ok(copy)
        }
        Err(Failure::Harmless(reason)) => {
            log.log(LogLine::warn("failed to defragment").with("error", reason));
            Ok(db)
        }
        Err(Failure::Unknown(reason)) => Err(Error::Damaged { path, reason }),
    }
}

fn copy_options(db: &bbolt::Db, config: &Config) -> bbolt::Options {
    bbolt::Options {
        page_size: Some(db.page_size()),
        cache_bytes_max: config.page_cache_bytes_max,
        sync: !config.unsafe_no_fsync,
        ..bbolt::Options::default()
    }
}

/// The line about a copy that took the file's place, and the sizes before.
fn finished((size, size_in_use): (u64, u64), db: &bbolt::Db, config: &Config) -> LogLine {
    LogLine::info("finished defragmenting directory")
        .with("path", config.db_path().display().to_string())
        .with("current-db-size-bytes-diff", db.size() as i64 - size as i64)
        .with("current-db-size-bytes", db.size())
        .with("current-db-size", human_bytes(db.size()))
        .with(
            "current-db-size-in-use-bytes-diff",
            db.size_in_use() as i64 - size_in_use as i64,
        )
        .with("current-db-size-in-use-bytes", db.size_in_use())
        .with("current-db-size-in-use", human_bytes(db.size_in_use()))
}

/// The sizes of the data file as etcd logs them.
fn with_sizes(line: LogLine, db: &bbolt::Db) -> LogLine {
    let (size, size_in_use) = (db.size(), db.size_in_use());
    line.with("current-db-size-bytes", size)
        .with("current-db-size", human_bytes(size))
        .with("current-db-size-in-use-bytes", size_in_use)
        .with("current-db-size-in-use", human_bytes(size_in_use))
}

/// Copies the file beside it, makes the copy durable, and puts it in its place.
fn copy(
    disk: &Arc<dyn Disk>,
    db: &bbolt::Db,
    path: &std::path::Path,
    options: bbolt::Options,
) -> Result<bbolt::Db, Failure> {
    let temporary = PathBuf::from(format!("{}.tmp.{}", path.display(), db.snapshot().txid()));
    let harmless = |error: &dyn std::fmt::Display| {
        // What cannot be removed now goes at the next start.
        drop(disk.remove_file(&temporary));
        Failure::Harmless(error.to_string())
    };
    let copy = bbolt::Db::open(disk, &temporary, options).map_err(|error| harmless(&error))?;
    bbolt::compact(&db.snapshot(), &copy).map_err(|error| harmless(&error))?;
    disk.rename(&temporary, path).map_err(|error| harmless(&error))?;
    disk::sync_parent(&**disk, path)
        .map_err(|error| Failure::Unknown(format!("{}: {error}", path.display())))?;
    Ok(copy)
}
