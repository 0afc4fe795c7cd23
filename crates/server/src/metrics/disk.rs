//! A disk that is measured: how long syncs of the log and of the data file take. Changes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use disk::{Dir, Disk, Entry, File, Lock, Metadata, Open};

use super::Metrics;
use super::histogram::{Histogram, USUAL};
use super::stages::span;
use crate::log::Log;

/// A sync of the log that takes longer than this is worth a line (etcd: wal.go warnSyncDuration).
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// Pause between attempts to get a file descriptor.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// What the disk took.
#[derive(Debug)]
pub struct DiskMetrics {
    /// `etcd_disk_wal_fsync_duration_seconds`.
    pub wal_fsync: Histogram,
    /// `etcd_disk_wal_write_duration_seconds`.
    pub wal_write: Histogram,
    /// `etcd_disk_wal_write_bytes_total`.
    pub wal_write_bytes: AtomicU64,
    /// `etcd_snap_fsync_duration_seconds`.
    pub snap_fsync: Histogram,
    /// Nanoseconds of writes and syncs of the data file since somebody asked last.
    data_nanos: AtomicU64,
}

impl Default for DiskMetrics {
    fn default() -> DiskMetrics {
        DiskMetrics {
            wal_fsync: Histogram::new(USUAL),
            wal_write: Histogram::new(USUAL),
            wal_write_bytes: AtomicU64::new(0),
            snap_fsync: Histogram::new(USUAL),
            data_nanos: AtomicU64::new(0),
        }
    }
}

impl DiskMetrics {
    /// The time that writes and syncs of the data file took since the last call.
    pub fn forget_data_time(&self) -> Duration {
        Duration::from_nanos(self.data_nanos.swap(0, Ordering::Relaxed))
    }
}

/// A disk with its measures.
pub struct MeasuredDisk {
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
    log: Log,
}

impl MeasuredDisk {
    /// Measures a disk; says in the log when it is slow.
    pub fn new(disk: Arc<dyn Disk>, metrics: Arc<Metrics>, log: Log) -> MeasuredDisk {
        MeasuredDisk { disk, metrics, log }
    }
}

impl Disk for MeasuredDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, open)?;
        let kind = match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.ends_with(".wal") || name.ends_with(".tmp") => Kind::Log,
            Some(name) if name.ends_with(".snap") => Kind::Snapshot,
            Some("db") => Kind::Data,
            _ => return Ok(file),
        };
        Ok(Arc::new(MeasuredFile {
            file,
            kind,
            metrics: self.metrics.clone(),
            log: self.log.clone(),
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

    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn Dir>> {
        self.disk.open_dir(dir)
    }

    /// Who did not open the directory before the names in it changed waits for a descriptor: no sync was tried, so
    /// none has failed, and nothing is acknowledged before this one is done.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut warned = false;
        loop {
            match self.disk.open_dir(dir) {
                Err(error) if disk::lacks_descriptor(&error) => {
                    if !std::mem::replace(&mut warned, true) {
                        self.log
                            .warn("no file descriptor is free to sync a directory; waiting for one")
                            .show("path", dir.display())
                            .error(error)
                            .emit();
                    }
                    std::thread::sleep(DESCRIPTOR_PAUSE);
                }
                opened => return opened?.sync(),
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Data,
    Snapshot,
}

struct MeasuredFile {
    file: Arc<dyn File>,
    kind: Kind,
    metrics: Arc<Metrics>,
    log: Log,
}

impl MeasuredFile {
    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let start = Instant::now();
        sync()?;
        let took = start.elapsed();
        let disk = &self.metrics.disk;
        match self.kind {
            Kind::Log => {
                disk.wal_fsync.observe(took);
                if took > SLOW_SYNC {
                    self.log
                        .warn("slow fdatasync")
                        .show("took", span(took))
                        .show("expected-duration", span(SLOW_SYNC))
                        .emit();
                }
            }
            Kind::Data => self.data_took(took),
            Kind::Snapshot => disk.snap_fsync.observe(took),
        }
        Ok(())
    }

    fn data_took(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.metrics.disk.data_nanos.fetch_add(nanos, Ordering::Relaxed);
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
        if self.kind == Kind::Snapshot {
            return self.file.write_at(buf, offset);
        }
        let start = Instant::now();
        self.file.write_at(buf, offset)?;
        let took = start.elapsed();
        match self.kind {
            Kind::Log => {
                let disk = &self.metrics.disk;
                disk.wal_write.observe(took);
                disk.wal_write_bytes
                    .fetch_add(buf.len() as u64, Ordering::Relaxed);
            }
            Kind::Data => self.data_took(took),
            Kind::Snapshot => {}
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_all())
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        self.file.try_lock(lock)
    }
}

#[cfg(test)]
mod tests {
    use disk::mem::MemDisk;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_opened_is_waited_for_and_a_failed_sync_is_not() {
        let memory = MemDisk::new();
        let disk = MeasuredDisk::new(
            memory.shared(),
            Arc::new(Metrics::new(1, false)),
            Log::early().unwrap(),
        );
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        for (nth, errno) in [(1, Errno::MFILE), (2, Errno::NFILE)] {
            memory.fail_open(nth, errno.raw_os_error());
        }
        disk.sync_dir(dir).unwrap();
        assert_eq!((memory.opens(), memory.syncs()), (3, 1));
        memory.fail_sync(2, Errno::IO.raw_os_error());
        assert_eq!(
            disk.sync_dir(dir).unwrap_err().raw_os_error(),
            Some(Errno::IO.raw_os_error())
        );
        assert_eq!((memory.opens(), memory.syncs()), (4, 2));
    }
}
