//! etcdutl: works on files while no member runs on them.

mod migrate;
mod restore;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::version::Version;
use bbolt::{Db, Options};
use disk::{Disk, RealDisk};
use mvcc::schema;
use serde_json::json;

use crate::completion::{self, COMPLETION};
use crate::flags::{Command, Flag, Kind, Line, Parsed, Tool, flag};
use crate::text::{bytes, duration};
use crate::{EXIT_BAD_FEATURE, EXIT_ERROR, Failure, json, log, table};

const RELEASE: Version = api::version::Line::V3_7.release();

const TOOL: Tool = Tool {
    name: "etcdutl",
    about: "An administrative command line tool for etcd3.",
    env_prefix: None,
    globals: &[
        Flag {
            name: "write-out",
            short: Some('w'),
            kind: Kind::Text,
            default: "simple",
            help: "set the output format (fields, json, protobuf, simple, table)",
        },
        flag(
            "timeout",
            Kind::Duration,
            "10s",
            "time to wait to obtain a file lock on db file, 0 to block indefinitely",
        ),
    ],
    commands: &[
        DEFRAG,
        STATUS,
        restore::RESTORE,
        HASHKV,
        migrate::MIGRATE,
        COMPLETION,
        VERSION,
    ],
};

const STATUS: Command = Command {
    path: &["snapshot", "status"],
    usage: "<filename>",
    help: "Gets backend snapshot status of a given file",
    flags: &[],
};
const HASHKV: Command = Command {
    path: &["hashkv"],
    usage: "<filename>",
    help: "Prints the KV history hash of a given file",
    flags: &[flag(
        "rev",
        Kind::Int,
        "0",
        "maximum revision to hash (default: latest revision)",
    )],
};
const DEFRAG: Command = Command {
    path: &["defrag"],
    usage: "--data-dir {directory}",
    help: "Defragments the storage of the etcd",
    flags: &[flag(
        "data-dir",
        Kind::Text,
        "",
        "Required. Defragments a data directory not in use by etcd.",
    )],
};
const VERSION: Command = Command {
    path: &["version"],
    usage: "",
    help: "Prints the version of etcdutl",
    flags: &[],
};

/// Runs one command line.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let parsed = match TOOL.parse(args, &|_| None)? {
        Line::Help(text) => {
            say!("{text}");
            return Ok(());
        }
        Line::Run(parsed) => *parsed,
    };
    match parsed.command.path {
        ["snapshot", "status"] => status(&parsed),
        ["snapshot", "restore"] => restore::restore(&parsed),
        ["hashkv"] => hashkv(&parsed),
        ["defrag"] => defrag(&parsed),
        ["migrate"] => migrate::migrate(&parsed),
        ["completion"] => completion::print(&TOOL, &parsed.args),
        _ => {
            say!(
                "etcdutl version: {RELEASE}\nAPI version: {}.{}",
                RELEASE.major,
                RELEASE.minor
            );
            Ok(())
        }
    }
}

/// Any error of the crates below, in their own words.
fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(EXIT_ERROR, error.to_string())
}

/// Opens a data file for reading; nothing is made or changed.
fn open_for_reading(parsed: &Parsed, path: &str) -> Result<Db, Failure> {
    if !Path::new(path).exists() {
        return Err(Failure::new(
            EXIT_ERROR,
            format!("stat {path}: no such file or directory"),
        ));
    }
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    open_waiting(parsed, Path::new(path), options)
}

/// How long until it is tried again whether a file is free: bbolt's flockRetryTimeout.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Opens a data file as soon as nobody else has it, at most `--timeout` long; 0 is for ever.
fn open_waiting(parsed: &Parsed, path: &Path, options: Options) -> Result<Db, Failure> {
    let (start, patience) = (Instant::now(), parsed.duration("timeout"));
    let disk: Arc<dyn Disk> = RealDisk::shared();
    loop {
        match Db::open(&disk, path, options.clone()) {
            Err(bbolt::Error::Locked { .. })
                if patience.is_zero() || start.elapsed() + LOCK_PAUSE < patience =>
            {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error @ bbolt::Error::Locked { .. }) => {
                return Err(failed(format!(
                    "{error}: stop the member that runs on it, or give --timeout more than {}",
                    duration(patience)
                )));
            }
            opened => return opened.map_err(failed),
        }
    }
}

fn one_file<'a>(parsed: &'a Parsed, command: &str) -> Result<&'a str, Failure> {
    match parsed.args.as_slice() {
        [path] => Ok(path),
        _ => Err(Failure::bad_args(format!(
            "{command} requires exactly one argument"
        ))),
    }
}

fn status(parsed: &Parsed) -> Result<(), Failure> {
    let db = open_for_reading(parsed, one_file(parsed, "snapshot status")?)?;
    let violations = db.check();
    if !violations.is_empty() {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        return Err(Failure::new(
            EXIT_ERROR,
            format!(
                "snapshot file integrity check failed. {} errors found.\n{}",
                violations.len(),
                lines.join("\n")
            ),
        ));
    }
    let snapshot = db.snapshot();
    let found = mvcc::status_of_file(&snapshot).map_err(failed)?;
    // Files of 3.5 say nothing of their version, and neither does etcd.
    let version = schema::storage_version(&snapshot).map_err(failed)?;
    let named = version.filter(|version| *version > Version::new(3, 5, 0));
    let version = named.map(|version| version.to_string()).unwrap_or_default();
    let size = snapshot.size();
    print(
        parsed,
        &[
            ("hash", format!("{:x}", found.hash)),
            ("revision", found.revision.to_string()),
            ("total keys", found.keys.to_string()),
            ("total size", bytes(size)),
            ("version", version.clone()),
        ],
        &[
            ("Hash", found.hash.to_string()),
            ("Revision", found.revision.to_string()),
            ("Keys", found.keys.to_string()),
            ("Size", size.to_string()),
            ("Version", version.clone()),
        ],
        &json!({
            "hash": found.hash,
            "revision": found.revision,
            "totalKey": found.keys,
            "totalSize": size,
            "version": version,
        }),
    )
}

fn hashkv(parsed: &Parsed) -> Result<(), Failure> {
    let [path] = parsed.args.as_slice() else {
        let count = parsed.args.len();
        return Err(failed(format!("accepts 1 arg(s), received {count}")));
    };
    let db = open_for_reading(parsed, path)?;
    let hash = mvcc::hash_kv_of_file(&db.snapshot(), parsed.int("rev"));
    // The prefix is etcd's, of every error of its store.
    let hash = hash.map_err(|error| failed(format!("mvcc: {error}")))?;
    print(
        parsed,
        &[
            ("hash", hash.hash.to_string()),
            ("hash revision", hash.revision.to_string()),
            ("compact revision", hash.compact_revision.to_string()),
        ],
        &[
            ("Hash", hash.hash.to_string()),
            ("Hash revision", hash.revision.to_string()),
            ("Compact revision", hash.compact_revision.to_string()),
        ],
        &json!({"hash": hash.hash, "hashRevision": hash.revision, "compactRevision": hash.compact_revision}),
    )
}

/// One answer in the format that was asked for: a row, fields, or JSON.
fn print(
    parsed: &Parsed,
    row: &[(&str, String)],
    fields: &[(&str, String)],
    shown: &serde_json::Value,
) -> Result<(), Failure> {
    let cells: Vec<String> = row.iter().map(|(_, cell)| cell.clone()).collect();
    match parsed.text("write-out") {
        "simple" => say!("{}", cells.join(", ")),
        "json" => say!("{}", json::line(shown)),
        "fields" => fields
            .iter()
            .for_each(|(name, value)| say!("\"{name}\" : {value}")),
        "table" => {
            let head: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
            say!("{}", table::render(&head, &[cells]));
        }
        "protobuf" => {
            return Err(Failure::new(
                EXIT_BAD_FEATURE,
                "protobuf not supported as output format",
            ));
        }
        _ => return Err(Failure::new(EXIT_BAD_FEATURE, "unsupported output format")),
    }
    Ok(())
}

/// Copies the data file without its holes and puts the copy in its place.
fn defrag(parsed: &Parsed) -> Result<(), Failure> {
    let dir = parsed.text("data-dir");
    if dir.is_empty() {
        return Err(Failure::new(EXIT_ERROR, "required flag(s) \"data-dir\" not set"));
    }
    let wrap = |failure: Failure| failure.wrapped(&format!("Failed to defragment etcd data[{dir}] ("), ")");
    defrag_dir(parsed, Path::new(dir)).map_err(wrap)
}

fn defrag_dir(parsed: &Parsed, dir: &Path) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = RealDisk::shared();
    let snap_dir = dir.join("member").join("snap");
    let path = snap_dir.join("db");
    if !path.exists() {
        return Err(Failure::new(
            EXIT_ERROR,
            format!("stat {}: no such file or directory", path.display()),
        ));
    }
    let db = open_waiting(parsed, &path, Options::default())?;
    let start = Instant::now();
    let before = (db.size(), db.size_in_use());
    log::info(
        "defragmenting",
        &[
            ("path", json!(path.display().to_string())),
            ("current-db-size-bytes", json!(before.0)),
            ("current-db-size", json!(bytes(before.0))),
            ("current-db-size-in-use-bytes", json!(before.1)),
            ("current-db-size-in-use", json!(bytes(before.1))),
        ],
    );
    let copy = snap_dir.join(format!("db.tmp.{}", std::process::id()));
    let outcome = copy_to(&disk, &db, &copy).and_then(|after| {
        disk.rename(&copy, &path)?;
        disk.sync_dir(&snap_dir)?;
        Ok(after)
    });
    if outcome.is_err() {
        let _ = disk.remove_file(&copy);
    }
    let after = outcome?;
    log::info(
        "finished defragmenting directory",
        &[
            ("path", json!(path.display().to_string())),
            (
                "current-db-size-bytes-diff",
                json!(after.0 as i64 - before.0 as i64),
            ),
            ("current-db-size-bytes", json!(after.0)),
            ("current-db-size", json!(bytes(after.0))),
            (
                "current-db-size-in-use-bytes-diff",
                json!(after.1 as i64 - before.1 as i64),
            ),
            ("current-db-size-in-use-bytes", json!(after.1)),
            ("current-db-size-in-use", json!(bytes(after.1))),
            ("took", json!(duration(start.elapsed()))),
        ],
    );
    Ok(())
}

fn copy_to(disk: &Arc<dyn Disk>, db: &Db, path: &Path) -> Result<(u64, u64), Failure> {
    let options = Options {
        page_size: Some(db.page_size()),
        ..Options::default()
    };
    let copy = Db::open(disk, path, options).map_err(failed)?;
    bbolt::compact(&db.snapshot(), &copy).map_err(failed)?;
    Ok((copy.size(), copy.size_in_use()))
}
