//! The `.snap` files: a consensus snapshot (configuration and membership, never the key space) in an
//! envelope with a checksum. Never touches the `db` file.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::Disk;

use crate::{ConfState, Error, Mark};

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
#[allow(unused_variables, clippy::todo)]
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, Error> {
    todo!()
}

/// Writes a snapshot under its final name and makes content and name durable.
#[allow(unused_variables, clippy::todo)]
pub fn write(disk: &dyn Disk, dir: &Path, snapshot: &Snapshot) -> Result<PathBuf, Error> {
    todo!()
}

/// Reads one file.
#[allow(unused_variables, clippy::todo)]
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Snapshot, Error> {
    todo!()
}

/// Loads the newest snapshot whose index and term are those of one of `marks` (any, if `None`). Bad
/// files on the way are renamed to `<name>.broken`.
#[allow(unused_variables, clippy::todo)]
pub fn load_newest(disk: &dyn Disk, dir: &Path, marks: Option<&[Mark]>) -> Result<Loaded, Error> {
    todo!()
}

/// Removes the oldest `.snap` files, and the oldest `.snap.db` files, while there are more than `max`
/// of each; 0 keeps all. Returns what was removed.
#[allow(unused_variables, clippy::todo)]
pub fn purge(disk: &dyn Disk, dir: &Path, max: usize) -> Result<Vec<PathBuf>, Error> {
    todo!()
}

/// Removes the `.snap.db` files below `index`. Returns what was removed.
#[allow(unused_variables, clippy::todo)]
pub fn release_db(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Vec<PathBuf>, Error> {
    todo!()
}

/// Where the database received with the snapshot at `index` lies.
pub fn db_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}.snap.db"))
}

/// Removes what an unfinished defragmentation (`db.tmp*`) or download (`tmp*`) left. Returns what was
/// removed.
#[allow(unused_variables, clippy::todo)]
pub fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, Error> {
    todo!()
}
