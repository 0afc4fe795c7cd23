//! A disk that is measured: how long syncs of the log and of the data file take. Changes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use disk::{Disk, Entry, File, Lock, Metadata, Open};

use super::Metrics;

/// A disk with its measures.
pub struct MeasuredDisk {
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
}

impl MeasuredDisk {
    /// Measures a disk.
    pub fn new(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> MeasuredDisk {
        MeasuredDisk { disk, metrics }
    }
}

impl Disk for MeasuredDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, open)?;
        let kind = match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.ends_with(".wal") || name.ends_with(".tmp") => Kind::Log,
            Some("db") => Kind::Data,
            _ => return Ok(file),
        };
        Ok(Arc::new(MeasuredFile {
            file,
            kind,
            metrics: self.metrics.clone(),
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.disk.metadata(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Data,
}

struct MeasuredFile {
    file: Arc<dyn File>,
    kind: Kind,
    metrics: Arc<Metrics>,
}

impl MeasuredFile {
    fn measure(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let start = Instant::now();
        sync()?;
        match self.kind {
            Kind::Log => self.metrics.wal_fsync.observe(start.elapsed()),
            Kind::Data => self.metrics.backend_commit.observe(start.elapsed()),
        }
        Ok(())
    }
}

impl File for MeasuredFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.try_read_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_data(offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.kind == Kind::Log {
            self.metrics
                .wal_write_bytes
                .fetch_add(buf.len() as u64, Ordering::Relaxed);
        }
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.measure(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.measure(|| self.file.sync_all())
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        self.file.try_lock(lock)
    }
}
