//! The file that becomes the next segment, made ahead so that a cut does not wait for it.

use std::path::PathBuf;
use std::sync::Arc;

use disk::{Disk, File, Lock, Open};

use crate::Error;
use crate::error::At;

/// A preallocated, locked file that becomes the next segment: `0.tmp` or `1.tmp`, by turns (etcd:
/// server/storage/wal/file_pipeline.go). What a crash leaves of one is overwritten.
pub struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// The making of a spare: to be run where it delays nobody.
pub struct SpareJob {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    segment_bytes: u64,
}

impl SpareJob {
    pub(crate) fn new(disk: &Arc<dyn Disk>, path: PathBuf, segment_bytes: u64) -> SpareJob {
        SpareJob {
            disk: disk.clone(),
            path,
            segment_bytes,
        }
    }

    /// Makes and preallocates the file. If the disk is full, the file is removed again.
    pub fn run(self) -> Result<Spare, Error> {
        let path = self.path;
        let file = self.disk.open(&path, Open::Truncate).at("create", &path)?;
        if !file.try_lock(Lock::Segment).at("lock", &path)? {
            return Err(Error::Locked { path });
        }
        if let Err(error) = file.allocate(self.segment_bytes) {
            // What was reserved so far is better used by the segment that has to go on. If removing
            // fails as well, the next spare overwrites the file.
            let _ = self.disk.remove_file(&path);
            return Err(error).at("reserve space for", &path);
        }
        Ok(Spare { path, file })
    }
}
