//! The `.snap` files: a consensus snapshot (configuration and membership, never the key space) in an
//! envelope with a checksum. Never touches the `db` file.
//!
//! ```text
//! <term>-<index>.snap = snappb.Snapshot { 1 crc: CRC-32C of data, 2 data: raftpb.Snapshot }
//! raftpb.Snapshot     = { 1 data: v2 store JSON, 2 metadata { 1 conf_state, 2 index, 3 term } }
//! ```

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::{Dir, Disk, Open};
use prost::Message;

use crate::error::{At, poisoned};
use crate::{ConfState, Error, Mark};

const SUFFIX: &str = ".snap";
const DB_SUFFIX: &str = ".snap.db";

/// What a `.snap` file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The last index that it covers.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The configuration at that index.
    pub conf_state: ConfState,
    /// Membership as the JSON document of the v2 store.
    pub data: Bytes,
}

/// The newest good snapshot, and what was put aside on the way to it.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The snapshot and its file, if there is a good one.
    pub newest: Option<(Snapshot, PathBuf)>,
    /// Bad files, renamed to `<name>.broken`: their new names and what is wrong with each.
    pub broken: Vec<(PathBuf, Error)>,
}

/// The names of the `.snap` files of a directory, newest (highest term, then index) first.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = names(disk, dir)?;
    names.retain(|name| name.ends_with(SUFFIX));
    names.reverse();
    Ok(names)
}

/// Writes a snapshot under its final name and makes content and name durable. A good file of the same
/// content is left alone; after an error the file is removed.
pub fn write(disk: &dyn Disk, dir: &Path, snapshot: &Snapshot) -> Result<PathBuf, Error> {
    let path = dir.join(format!("{:016x}-{:016x}.snap", snapshot.term, snapshot.index));
    let names = disk.open_dir(dir).at("open", dir)?;
    // It may be the file of the newest mark: overwriting it could leave a member without any, and so could
    // overwriting what just now cannot be read.
    let there = match disk.metadata(&path).at("look at", &path)? {
        Some(_) => match read(disk, &path) {
            Err(Error::BadSnapshot { .. }) => None,
            read => Some(read?),
        },
        None => None,
    };
    if there.is_some_and(|old| old == complete(snapshot)) {
        // It may be there without having been synced, so the syncs are made up for.
        let file = disk.open(&path, Open::Write).at("open", &path)?;
        file.sync_all().map_err(|error| poisoned(&path, &error))?;
        names.sync().map_err(|error| poisoned(dir, &error))?;
        return Ok(path);
    }
    let result = write_and_sync(disk, (dir, &*names), &path, &encode(snapshot));
    if result.is_err() {
        let _ = disk.remove_file(&path);
    }
    result.map(|()| path)
}

fn write_and_sync(
    disk: &dyn Disk,
    (dir, names): (&Path, &dyn Dir),
    path: &Path,
    bytes: &[u8],
) -> Result<(), Error> {
    let file = disk.open(path, Open::Truncate).at("create", path)?;
    file.write_at(bytes, 0).at("write", path)?;
    file.sync_all().map_err(|error| poisoned(path, &error))?;
    // etcd leaves the name to chance; then the log could hold a mark whose file is gone, which 3.5
    // and 3.6 do not start from.
    names.sync().map_err(|error| poisoned(dir, &error))
}

fn complete(snapshot: &Snapshot) -> Snapshot {
    let mut complete = snapshot.clone();
    complete.conf_state.auto_leave.get_or_insert(false);
    complete
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let complete = complete(snapshot);
    let inner = api::raftpb::Snapshot {
        data: Some(complete.data),
        metadata: Some(api::raftpb::SnapshotMetadata {
            conf_state: Some(complete.conf_state),
            index: Some(complete.index),
            term: Some(complete.term),
        }),
    };
    let data = inner.encode_to_vec();
    let envelope = api::snappb::Snapshot {
        crc: Some(crc32c::crc32c(&data)),
        data: Some(data.into()),
    };
    envelope.encode_to_vec()
}

/// Reads one file.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Snapshot, Error> {
    let file = disk.open(path, Open::Read).at("open", path)?;
    let len = file.len().at("read the length of", path)?;
    let mut bytes = vec![0; len as usize];
    let n = file.read_at(&mut bytes, 0).at("read", path)?;
    bytes.truncate(n);
    decode(bytes.into()).map_err(|what| Error::BadSnapshot {
        path: path.to_path_buf(),
        what,
    })
}

pub(crate) fn decode(bytes: Bytes) -> Result<Snapshot, &'static str> {
    if bytes.is_empty() {
        return Err("the file is empty");
    }
    let envelope = api::snappb::Snapshot::decode(bytes).map_err(|_| "the envelope cannot be decoded")?;
    let data = envelope.data.clone().unwrap_or_default();
    if data.is_empty() || envelope.crc() == 0 {
        return Err("it holds no snapshot");
    }
    if crc32c::crc32c(&data) != envelope.crc() {
        return Err("its checksum does not fit");
    }
    let inner = api::raftpb::Snapshot::decode(data).map_err(|_| "its content cannot be decoded")?;
    let metadata = inner.metadata.unwrap_or_default();
    Ok(Snapshot {
        index: metadata.index(),
        term: metadata.term(),
        conf_state: metadata.conf_state.unwrap_or_default(),
        data: inner.data.unwrap_or_default(),
    })
}

/// Loads the newest snapshot whose index and term are those of one of `marks` (any, if `None`). Bad
/// files on the way are renamed to `<name>.broken`; one that cannot be read at all is an error (etcd:
/// server/etcdserver/api/snap/snapshotter.go LoadNewestAvailable, which renames those too).
pub fn load_newest(disk: &dyn Disk, dir: &Path, marks: Option<&[Mark]>) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    for name in list(disk, dir)? {
        let path = dir.join(&name);
        match read(disk, &path) {
            Ok(snapshot) => {
                let fits = |mark: &Mark| (mark.index, mark.term) == (snapshot.index, snapshot.term);
                if marks.is_none_or(|marks| marks.iter().any(fits)) {
                    loaded.newest = Some((snapshot, path));
                    return Ok(loaded);
                }
            }
            Err(error @ Error::BadSnapshot { .. }) => {
                let aside = dir.join(format!("{name}.broken"));
                disk.rename(&path, &aside).at("rename", &path)?;
                loaded.broken.push((aside, error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(loaded)
}

/// Removes the oldest `.snap` files, and the oldest `.snap.db` files, while there are more than `max`
/// of each; 0 keeps all. Returns what was removed.
pub fn purge(disk: &dyn Disk, dir: &Path, max: usize) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    if max == 0 {
        return Ok(removed);
    }
    let all = names(disk, dir)?;
    // Without the dot, as etcd's filters (server/etcdserver/server.go purgeFile).
    for suffix in ["snap.db", "snap"] {
        let files: Vec<&String> = all.iter().filter(|name| name.ends_with(suffix)).collect();
        let surplus = files.len().saturating_sub(max);
        for name in &files[..surplus] {
            remove(disk, dir.join(name), &mut removed)?;
        }
    }
    Ok(removed)
}

/// Removes the `.snap.db` files below `index`. Returns what was removed.
pub fn release_db(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for name in names(disk, dir)? {
        let digits = name.strip_suffix(DB_SUFFIX);
        let of = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if of.is_some_and(|of| of < index) {
            remove(disk, dir.join(name), &mut removed)?;
        }
    }
    Ok(removed)
}

/// Where the database received with the snapshot at `index` lies.
pub fn db_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}{DB_SUFFIX}"))
}

/// Removes what an unfinished defragmentation (`db.tmp*`) or download (`tmp*`) left. Returns what was
/// removed.
pub fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for entry in disk.list(dir).at("list", dir)? {
        let left = entry.name.starts_with("db.tmp") || entry.name.starts_with("tmp");
        if left && !entry.is_dir {
            remove(disk, dir.join(entry.name), &mut removed)?;
        }
    }
    Ok(removed)
}

fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, Error> {
    let entries = disk.list(dir).at("list", dir)?;
    let files = entries.into_iter().filter(|entry| !entry.is_dir);
    Ok(files.map(|entry| entry.name).collect())
}

fn remove(disk: &dyn Disk, path: PathBuf, removed: &mut Vec<PathBuf>) -> Result<(), Error> {
    match disk.remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at("remove", &path),
        Ok(()) => {
            removed.push(path);
            Ok(())
        }
    }
}
