//! A disk in memory that crashes, tears, fills up and lies, on order and from a seed. Never reads a
//! clock or a real random source: the same calls give the same disk.
//!
//! Every change (a write, a sync, a new name, a rename ...) is a numbered step. A test runs its
//! workload once to count the steps, then again and again: stopped at each step, crashed there in
//! some way, and opened anew from what [`MemDisk::crash`] leaves.

mod content;
mod crash;
mod state;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use content::PAGE_BYTES;
use state::{DirNode, Failure, FileNode, Node, Op, State, Stopped, SyncFault, errno};

use crate::{Dir, Disk, Entry, File, Lock, Metadata, Open};

/// How a crash treats what no sync made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// All of it is lost.
    LoseUnsynced,
    /// All of it is kept.
    KeepAll,
    /// Each write and each name is kept or lost as a whole.
    Subset,
    /// Each sector of 512 bytes is as it was at some moment since the last sync; each name is kept or
    /// lost.
    Torn,
    /// One of the above for each file, by the seed; each name is kept or lost.
    Any,
}

impl CrashMode {
    /// All of them, for tests that try each.
    pub const ALL: [CrashMode; 5] = [
        CrashMode::LoseUnsynced,
        CrashMode::KeepAll,
        CrashMode::Subset,
        CrashMode::Torn,
        CrashMode::Any,
    ];
}

/// A disk in memory. Clones are the same disk.
///
/// What is durable: a file's content and length after `sync_data` or `sync_all` of any handle on it; a
/// name (new, removed, renamed) after `sync_dir` of its directory. A rename happens wholly or not at
/// all. A failed sync loses what it should have made durable, and the next one knows nothing of it,
/// as Linux does.
#[derive(Clone)]
pub struct MemDisk(Arc<Mutex<State>>);

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk::new()
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemDisk(step {})", self.steps())
    }
}

impl MemDisk {
    /// An empty disk: only the root directory, which every relative path begins at too.
    pub fn new() -> MemDisk {
        MemDisk(Arc::new(Mutex::new(State::new())))
    }

    /// The same disk as the crates above take it.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// The disk that is found after a crash now. This one is not changed. The new one has no locks, no
    /// faults, and counts steps from zero.
    pub fn crash(&self, seed: u64, mode: CrashMode) -> MemDisk {
        MemDisk(Arc::new(Mutex::new(crash::crash(&self.state(), seed, mode))))
    }

    /// How many changes were made so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// How many syncs of files and directories were made so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// From this step on (counted from 1, it included) everything fails, reads too, with an error that
    /// [`is_stopped`] knows: the code under test unwinds, and then comes the crash.
    pub fn stop_at(&self, step: u64) {
        self.state().stop_at = Some(step);
    }

    /// Goes on after a stop with all that was done before it, synced or not: the process died, the
    /// machine did not.
    pub fn resume(&self) {
        let mut state = self.state();
        state.stopped = false;
        state.stop_at = None;
    }

    /// Whether the disk was stopped.
    pub fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// Lets this one step fail with `errno`. A write does its first half before.
    pub fn fail_at(&self, step: u64, errno: i32) {
        self.state().failures.insert(step, Failure::Halfway(errno));
    }

    /// As `fail_at`, and nothing of it is done: what a file system refuses that reserves space for the whole of a
    /// write before it begins.
    pub fn refuse_at(&self, step: u64, errno: i32) {
        self.state().failures.insert(step, Failure::Refused(errno));
    }

    /// How often a file or directory was opened so far, or a directory listed.
    pub fn opens(&self) -> u64 {
        self.state().opens
    }

    /// Lets the n-th opening (counted from 1) fail with `errno`.
    pub fn fail_open(&self, nth: u64, errno: i32) {
        self.state().failed_opens.insert(nth, errno);
    }

    /// Lets every opening fail with `errno` from now on, or none.
    pub fn fail_opens(&self, errno: Option<i32>) {
        self.state().all_opens_fail = errno;
    }

    /// Lets one change find no room (ENOSPC): the first from this step on that may take space. A write does what lies in
    /// the pages of its first half before.
    pub fn lack_room_from(&self, step: u64) {
        self.state().lacks.insert(step);
    }

    /// Takes back what [`MemDisk::lack_room_from`] has ordered and has not come to pass.
    pub fn lack_no_room(&self) {
        self.state().lacks.clear();
    }

    /// How many changes have found no room by order since this was asked last.
    pub fn take_lacked(&self) -> u64 {
        std::mem::take(&mut self.state().lacked)
    }

    /// Lets the n-th sync (counted from 1) fail with `errno`.
    pub fn fail_sync(&self, nth: u64, errno: i32) {
        let mut state = self.state();
        state.sync_faults.insert(nth, SyncFault::Fail(errno));
    }

    /// Lets every sync fail with `errno` from now on, or none.
    pub fn fail_syncs(&self, errno: Option<i32>) {
        self.state().all_syncs_fail = errno;
    }

    /// Lets the n-th sync (counted from 1) say that it worked and do nothing.
    pub fn skip_sync(&self, nth: u64) {
        let mut state = self.state();
        state.sync_faults.insert(nth, SyncFault::Skip);
    }

    /// Lets every sync of what lies below a directory (and of the directory) say that it worked and do
    /// nothing, as a broken device does; `None`: of nothing.
    pub fn lie_below(&self, dir: Option<&Path>) {
        self.state().lies_below = dir.map(Path::to_path_buf);
    }

    /// How many bytes all files together may take, in pages of 4096; what does not fit gets ENOSPC,
    /// after a write has done what did fit.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state().space_bytes = bytes;
    }

    /// Whether a write over what is there needs a free page, as on a file system that copies on write.
    pub fn set_copy_on_write(&self, copies: bool) {
        self.state().copies_on_write = copies;
    }

    /// How many bytes all files together take, in pages of 4096.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// How many of these bytes are of files that were removed and are still open.
    pub fn removed_bytes(&self) -> u64 {
        self.state().removed_bytes()
    }

    /// Lets reads that touch this range of a file fail with EIO.
    pub fn fail_reads(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        let id = state.must_lookup(path)?;
        state.bad_reads.push((id, range));
        Ok(())
    }

    /// Lets all reads work again.
    pub fn heal_reads(&self) {
        self.state().bad_reads.clear();
    }

    /// Lets all reads and all changes work again; what was ordered for syncs stays.
    pub fn heal(&self) {
        self.heal_reads();
        self.state().failures.clear();
    }

    /// Lets every read that refuses to wait find nothing in memory.
    pub fn set_cold(&self, cold: bool) {
        self.state().cold = cold;
    }

    /// Flips bits of one byte, in what is seen and in what is durable.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state();
        let id = state.must_lookup(path)?;
        let file = state.file_mut(id)?;
        for content in [&mut file.live, &mut file.durable] {
            let mut byte = [0];
            if content.read(&mut byte, offset) == 1 {
                content.write(&[byte[0] ^ mask], offset);
            }
        }
        Ok(())
    }

    /// Makes everything durable, counting nothing: the ground on which a test begins.
    pub fn settle(&self) {
        let mut state = self.state();
        let state = &mut *state;
        for op in std::mem::take(&mut state.names) {
            op.apply(&mut state.nodes);
        }
        for node in state.nodes.values_mut() {
            if let Node::File(file) = node {
                file.settle();
            }
        }
    }

    /// Begins to write down every step.
    pub fn start_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// Writes a line of the test's own between the steps.
    pub fn note(&self, text: &str) {
        if let Some(trace) = &mut self.state().trace {
            trace.push(format!("# {text}"));
        }
    }

    /// The steps since `start_trace`, one line each: number, operation, path or file, sizes.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has already failed.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether an error comes from a disk that was stopped by `stop_at`.
pub fn is_stopped(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Stopped>())
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.take_descriptor()?;
        let id = match (state.lookup(path)?, open) {
            (Some(_), Open::CreateNew) => return Err(errno(libc::EEXIST)),
            (Some(id), Open::Truncate) => {
                if state.file(id)?.live.len() > 0 {
                    state.whole_step(|| format!("truncate {}", path.display()))?;
                    cut(state.file_mut(id)?, 0);
                }
                id
            }
            (Some(id), _) => id,
            (None, Open::Read | Open::Write) => return Err(errno(libc::ENOENT)),
            (None, _) => {
                let (dir, name) = state.place(path)?;
                state.taking_step(|| format!("create {}", path.display()))?;
                state.link(dir, name, Node::File(FileNode::default()))
            }
        };
        state.file_mut(id)?.handles += 1;
        state.next_handle += 1;
        Ok(Arc::new(MemFile {
            disk: self.clone(),
            id,
            handle: state.next_handle,
            writable: open != Open::Read,
            path: path.display().to_string(),
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let state = self.state();
        state.alive()?;
        let found = match state.lookup(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => None,
            other => other?,
        };
        Ok(found.map(|id| match &state.nodes[&id] {
            Node::File(file) => Metadata {
                len: file.live.len(),
                is_dir: false,
                mode: 0o600,
            },
            Node::Dir(_) => Metadata {
                len: 0,
                is_dir: true,
                mode: 0o700,
            },
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for dir in above {
            match state.lookup(dir)? {
                Some(id) => {
                    state.dir(id)?;
                }
                None => {
                    let (parent, name) = state.place(dir)?;
                    state.whole_step(|| format!("mkdir {}", dir.display()))?;
                    state.link(parent, name, Node::Dir(DirNode::default()));
                }
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.take_descriptor()?;
        let id = state.must_lookup(dir)?;
        let entries = state.dir(id)?.live.iter().map(|(name, id)| Entry {
            name: name.clone(),
            is_dir: matches!(state.nodes[id], Node::Dir(_)),
        });
        Ok(entries.collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_step(|| format!("rename {} {}", from.display(), to.display()))?;
        let (from, to) = (state.place(from)?, state.place(to)?);
        state.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_step(|| format!("remove {}", path.display()))?;
        let id = state.must_lookup(path)?;
        state.file(id)?;
        let (dir, name) = state.place(path)?;
        state.unlink(dir, &name);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let Some(id) = state.lookup(path)? else {
            return Ok(());
        };
        state.dir(id)?;
        state.whole_step(|| format!("remove all {}", path.display()))?;
        let (dir, name) = state.place(path)?;
        remove_below(&mut state, id);
        state.unlink(dir, &name);
        Ok(())
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn Dir>> {
        let mut state = self.state();
        state.take_descriptor()?;
        let id = state.must_lookup(dir)?;
        state.dir(id)?;
        Ok(Arc::new(MemDir {
            disk: self.clone(),
            id,
        }))
    }
}

struct MemDir {
    disk: MemDisk,
    id: u64,
}

impl Dir for MemDir {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let path = state.path_of(self.id);
        let honest = state.sync_step(|| format!("sync dir {}", path.display()))?;
        if honest && !state.lies_about(&path) {
            state.settle_names(self.id);
        }
        Ok(())
    }
}

fn remove_below(state: &mut State, dir: u64) {
    let names: Vec<(String, u64)> = match state.nodes.get(&dir) {
        Some(Node::Dir(found)) => found.live.clone().into_iter().collect(),
        _ => return,
    };
    for (name, id) in names {
        remove_below(state, id);
        state.unlink(dir, &name);
    }
}

/// How many of the bytes from `offset` on lie before the last page that they do not fill.
fn whole_pages(offset: u64, len: usize) -> usize {
    let end = (offset + len as u64) / PAGE_BYTES * PAGE_BYTES;
    end.saturating_sub(offset) as usize
}

fn cut(file: &mut FileNode, len: u64) {
    file.live.set_len(len);
    file.reserved = file.reserved.min(len);
    file.pending.push(Op::SetLen(len));
}

struct MemFile {
    disk: MemDisk,
    id: u64,
    handle: u64,
    writable: bool,
    path: String,
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if let Ok(file) = state.file_mut(self.id) {
            file.handles = file.handles.saturating_sub(1);
            file.locks.retain(|&(handle, _)| handle != self.handle);
        }
    }
}

impl MemFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(errno(libc::EBADF))
        }
    }

    fn sync(&self, what: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.sync_step(|| format!("{what} {}", self.path));
        if state.stopped {
            return result.map(drop);
        }
        let lies = state.lies_about(Path::new(&self.path));
        let file = state.file_mut(self.id)?;
        match result {
            Ok(true) if !lies => file.settle(),
            Ok(_) => {}
            // Linux marks the pages clean: they are never written again.
            Err(_) => file.pending.clear(),
        }
        result.map(drop)
    }
}

impl File for MemFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.file(self.id)?.live.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive()?;
        let end = offset + buf.len() as u64;
        let bad = |range: &Range<u64>| range.start < end && offset < range.end;
        if state
            .bad_reads
            .iter()
            .any(|(id, range)| *id == self.id && bad(range))
        {
            return Err(errno(libc::EIO));
        }
        Ok(state.file(self.id)?.live.read(buf, offset))
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.disk.state().cold {
            return Ok(None);
        }
        self.read_at(buf, offset).map(Some)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.file(self.id)?.live.next_data(offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.state();
        let failed = state.step(|| format!("write {} {offset}+{}", self.path, buf.len()))?;
        let room = state.room_for(self.id, offset, buf.len())?;
        let (done, error) = match failed {
            None if state.is_lacking() => (whole_pages(offset, buf.len() / 2), Some(errno(libc::ENOSPC))),
            Some(error) => (room.min(buf.len() / 2), Some(error)),
            None if room < buf.len() => (room, Some(errno(libc::ENOSPC))),
            None => (room, None),
        };
        if done > 0 {
            let file = state.file_mut(self.id)?;
            file.live.write(&buf[..done], offset);
            file.pending.push(Op::Write {
                offset,
                data: buf[..done].to_vec(),
            });
        }
        error.map_or(Ok(()), Err)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.state();
        state.whole_step(|| format!("set len {} {len}", self.path))?;
        cut(state.file_mut(self.id)?, len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.state();
        state.taking_step(|| format!("allocate {} {len}", self.path))?;
        state.reserve(self.id, len)?;
        let file = state.file_mut(self.id)?;
        if file.live.len() < len {
            file.live.set_len(len);
            file.pending.push(Op::SetLen(len));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync("sync data")
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync("sync all")
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.alive()?;
        let file = state.file_mut(self.id)?;
        // The two kinds know nothing of each other, as on Linux.
        let conflict = |held: Lock| match (held, lock) {
            (Lock::Segment, Lock::Segment) => true,
            (Lock::Segment, _) | (_, Lock::Segment) => false,
            (Lock::Shared, Lock::Shared) => false,
            _ => true,
        };
        let others = file.locks.iter().filter(|held| held.0 != self.handle);
        if others.into_iter().any(|&(_, held)| conflict(held)) {
            return Ok(false);
        }
        let segment = lock == Lock::Segment;
        let mine = self.handle;
        file.locks
            .retain(|&(handle, held)| handle != mine || (held == Lock::Segment) != segment);
        file.locks.push((mine, lock));
        Ok(true)
    }
}

/// A small generator (splitmix64): the same seed gives the same numbers for ever.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
