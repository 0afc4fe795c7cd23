//! The operating system's file system. Never buffers, never retries a sync.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::{Dir, Disk, Entry, File, Lock, Metadata, Open};

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// A shared handle, as the crates above take it.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match open {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::WriteOrCreate => options.write(true).create(true),
            Open::CreateNew => options.write(true).create_new(true),
            Open::Truncate => options.write(true).create(true).truncate(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Metadata {
                len: found.len(),
                is_dir: found.is_dir(),
                mode: found.permissions().mode() & 0o7777,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(dir)? {
            let found = found?;
            // A name that is not UTF-8 is none that etcd or we write; nobody looks for it.
            let Ok(name) = found.file_name().into_string() else {
                continue;
            };
            // `--wal-dir` may be reached by a symbolic link, so the link is followed; one that leads
            // nowhere counts as a file, and opening it says what is wrong.
            let is_dir = fs::metadata(found.path()).is_ok_and(|meta| meta.is_dir());
            entries.push(Entry { name, is_dir });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(RealDir(fs::File::open(dir)?)))
    }
}

struct RealDir(fs::File);

impl Dir for RealDir {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let mut done = 0;
        while done < buf.len() {
            match read_nowait(&self.0, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                // This file system cannot say whether a read would wait.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.read_at(buf, offset).map(Some),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Some(done))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        // This moves the file's cursor, which no other operation here looks at.
        match seek_data(&self.0, offset) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) if offset < self.len()? => Ok(Some(offset)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // etcd: client/pkg/fileutil/preallocate.go falls back to ftruncate for these.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) if self.len()? < len => self.0.set_len(len),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        match lock {
            Lock::Segment => match lock_description(&self.0) {
                // Kernels and file systems without such locks: etcd takes flock there
                // (client/pkg/fileutil/lock_linux.go).
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    try_flock(&self.0, FlockOperation::NonBlockingLockExclusive)
                }
                other => other,
            },
            Lock::Exclusive => try_flock(&self.0, FlockOperation::NonBlockingLockExclusive),
            Lock::Shared => try_flock(&self.0, FlockOperation::NonBlockingLockShared),
        }
    }
}

#[cfg(target_os = "linux")]
fn seek_data(file: &fs::File, offset: u64) -> Result<u64, Errno> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset))
}

#[cfg(not(target_os = "linux"))]
fn seek_data(_file: &fs::File, _offset: u64) -> Result<u64, Errno> {
    Err(Errno::INVAL)
}

#[cfg(target_os = "linux")]
fn read_nowait(file: &fs::File, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::preadv2(
        file,
        &mut [IoSliceMut::new(buf)],
        offset,
        rustix::io::ReadWriteFlags::NOWAIT,
    )
}

#[cfg(not(target_os = "linux"))]
fn read_nowait(_file: &fs::File, _buf: &mut [u8], _offset: u64) -> Result<usize, Errno> {
    let _ = IoSliceMut::new(&mut []);
    Err(Errno::OPNOTSUPP)
}

/// Takes a write lock on the whole file that belongs to the open file description: two handles of
/// one process exclude each other too, which is what keeps the purge from live segments.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn lock_description(file: &fs::File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: all-zero bytes are a valid `flock`: it is a plain C struct of integers.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = libc::F_WRLCK as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open as long as `file` lives, and the kernel reads the struct only
    // during the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn lock_description(_file: &fs::File) -> io::Result<bool> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

fn try_flock(file: &fs::File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
