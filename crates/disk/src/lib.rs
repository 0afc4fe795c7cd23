//! The one seam to files: read, write, sync, lock, rename. A real disk, and (for tests and the
//! simulator) one in memory that loses, tears and refuses what real disks lose, tear and refuse.
//! The only crate with `unsafe`.

pub mod mem;
mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealDisk;

/// How a file is opened. New files get mode 0600.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading only; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; made if it does not exist, kept as it is if it does.
    WriteOrCreate,
    /// For reading and writing; must not exist before.
    CreateNew,
    /// For reading and writing; made, or cut to nothing if it exists.
    Truncate,
}

/// Which of the two kinds of lock etcd takes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// `fcntl(F_OFD_SETLK)` write lock on the whole file: WAL segments.
    Segment,
    /// `flock(LOCK_EX)`: the bbolt file of a writer.
    Exclusive,
    /// `flock(LOCK_SH)`: the bbolt file of a reader.
    Shared,
}

/// What a directory holds under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name within its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes of a file.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Permission bits.
    pub mode: u32,
}

/// A file system. Names are whole paths.
pub trait Disk: Send + Sync {
    /// Opens or makes a file.
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>>;
    /// What is at `path`; `None` if nothing is.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;
    /// Makes a directory with mode 0700, and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Renames a file or directory, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it; nothing there is not an error.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens a directory, to make the names in it durable later: who opens it before it changes a name cannot
    /// find afterwards that no descriptor is left for the sync.
    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn Dir>>;
    /// Makes the names in a directory durable. An error may be that of the opening: then no sync was tried.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }
}

/// An open directory. Stays the same directory when it is renamed.
pub trait Dir: Send + Sync {
    /// Makes the names in it durable. A failure is final: it must never be tried again.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. Reads and writes name their place, so that threads share one handle.
#[allow(clippy::len_without_is_empty)] // Nobody asks whether a file is empty.
pub trait File: Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Reads until `buf` is full or the file ends, and says how much that was. May wait for the device.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As `read_at`, but refuses to wait: `None` if any of it is not in memory.
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Where at or after `offset` the first byte may be that is not zero; `None` if all is zero to the
    /// end. Space that was reserved and never written is skipped without reading it, where the file
    /// system can tell.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>>;
    /// Writes all of `buf`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends the file; what is new reads as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space so that the file has at least `len` bytes; what is new reads as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable. A failure is final: it must never be tried again.
    fn sync_data(&self) -> io::Result<()>;
    /// As `sync_data`, with all other metadata.
    fn sync_all(&self) -> io::Result<()>;
    /// Takes a lock that lasts until the handle is dropped; `false` if another holder has it.
    fn try_lock(&self, lock: Lock) -> io::Result<bool>;
}

/// Whether something failed for want of a file descriptor, in this process or the whole system. Where
/// it is a sync of a directory, the directory could not be opened, and no sync was tried.
pub fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Makes `path` durable under its name: syncs the directory that holds it.
pub fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.sync_dir(&parent(path))
}

/// The directory that holds `path`: `.` for a bare name.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir.to_path_buf(),
        Some(_) => PathBuf::from("."),
        None => path.to_path_buf(),
    }
}

const COPY_CHUNK_BYTES: usize = 64 * 1024;

/// Copies a directory and all below it, from one disk to another: golden directories into memory,
/// crash images out to where real tools see them. What is zero stays unwritten, so preallocated
/// space stays small. Syncs nothing.
pub fn copy_tree(from: &dyn Disk, from_dir: &Path, to: &dyn Disk, to_dir: &Path) -> io::Result<()> {
    to.create_dir_all(to_dir)?;
    for entry in from.list(from_dir)? {
        let (source, target) = (from_dir.join(&entry.name), to_dir.join(&entry.name));
        if entry.is_dir {
            copy_tree(from, &source, to, &target)?;
        } else {
            copy_file(from, &source, to, &target)?;
        }
    }
    Ok(())
}

/// Copies one file, replacing what is at `target`. What is zero stays unwritten. Syncs nothing.
pub fn copy_file(from: &dyn Disk, source: &Path, to: &dyn Disk, target: &Path) -> io::Result<()> {
    let source = from.open(source, Open::Read)?;
    let target = to.open(target, Open::Truncate)?;
    let len = source.len()?;
    target.set_len(len)?;
    let mut chunk = vec![0; COPY_CHUNK_BYTES];
    let mut offset = 0;
    while offset < len {
        let n = source.read_at(&mut chunk, offset)?;
        if n == 0 {
            break;
        }
        if chunk[..n].iter().any(|&byte| byte != 0) {
            target.write_at(&chunk[..n], offset)?;
        }
        offset += n as u64;
    }
    Ok(())
}
