//! An open data file: its current state, the readers that pin states, its one writer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use disk::{Disk, File};

use crate::batch::BucketBatch;
use crate::check::Checker;
use crate::error::is_out_of_space;
use crate::free_pages;
use crate::meta::Meta;
use crate::node::Op;
use crate::open::{self, FoundMeta};
use crate::page::{BUCKET, Page};
use crate::pager::{Dirty, Pager};
use crate::snapshot::Snapshot;
use crate::space::{Run, Space};
use crate::tree::Edit;
use crate::{Batch, Error, Violation, Wait, lock};

/// Longest key that bbolt stores (bucket.go MaxKeySize).
const KEY_BYTES_MAX: usize = 32_768;
/// Longest value that bbolt stores (bucket.go MaxValueSize).
const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// How a data file is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Page size in bytes of a file that does not exist yet; 4,096 if not given. An existing file keeps its
    /// own.
    pub page_size: Option<u32>,
    /// Bytes of pages kept in memory.
    pub cache_bytes_max: usize,
    /// Refuses commits, takes only a shared lock, and makes no file.
    pub read_only: bool,
    /// Whether commits are made durable; `false` is etcd's `--unsafe-no-fsync`.
    pub sync: bool,
    /// Bytes by which the file grows at once (etcd: 16 MiB).
    pub growth_bytes: u64,
    /// Leaves the search for free pages in a file that has no stored freelist to a later call of
    /// [`Db::find_free_pages`]; until then commits mostly append. Opening then costs the same for any size of
    /// file.
    pub find_free_pages_later: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            page_size: None,
            cache_bytes_max: 64 << 20,
            read_only: false,
            sync: true,
            growth_bytes: 16 << 20,
            find_free_pages_later: false,
        }
    }
}

/// An open data file. Cheap to clone; the last clone (or snapshot) closes it and gives up the lock.
#[derive(Clone)]
pub struct Db {
    pub(crate) inner: Arc<Inner>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Number of the commit: one more than that of the one before.
    pub txid: u64,
    /// Bytes written, the meta page not counted.
    pub bytes_written: u64,
    /// Pages taken out of the tree.
    pub pages_freed: u64,
}

pub(crate) struct Inner {
    pub(crate) pager: Pager,
    options: Options,
    current: Mutex<Current>,
    writer: Mutex<Writer>,
    poisoned: AtomicBool,
    /// See [`Db::is_settled`].
    settled: AtomicBool,
}

/// What new readers get, and what readers hold.
struct Current {
    state: Arc<State>,
    /// Number of readers by the txid of their state.
    pins: BTreeMap<u64, usize>,
}

/// One committed state.
pub(crate) struct State {
    pub(crate) meta: Meta,
    pub(crate) free_pages: u64,
    /// The root page, kept at hand: every look-up begins there.
    pub(crate) root: OnceLock<Page>,
}

struct Writer {
    space: Space,
    file_bytes: u64,
    /// The stored freelist that the next commit frees.
    old_freelist: Option<Run>,
    /// The file has no stored freelist and nobody has looked yet which pages are free.
    free_pages_unknown: bool,
    /// What is to be made durable before anything else is written.
    unsettled: Option<FoundMeta>,
}

/// A reader's hold on a state.
pub(crate) struct Pin {
    pub(crate) inner: Arc<Inner>,
    pub(crate) state: Arc<State>,
}

impl Db {
    /// Opens the file, or makes it. [`Error::Locked`] if another process has it: wait and try again.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path, options: Options) -> Result<Db, Error> {
        let opened = open::open(disk, path, &options)?;
        let mut space = Space::new(opened.meta.high_water);
        opened.free.iter().for_each(|id| space.add_free(*id));
        let state = State {
            meta: opened.meta,
            free_pages: space.free_pages(),
            root: OnceLock::new(),
        };
        let free_pages_unknown = opened.meta.freelist.is_none() && !options.read_only;
        let later = options.find_free_pages_later;
        let settled = opened.unsettled.is_none();
        let db = Db {
            inner: Arc::new(Inner {
                pager: opened.pager,
                options,
                current: Mutex::new(Current {
                    state: Arc::new(state),
                    pins: BTreeMap::new(),
                }),
                writer: Mutex::new(Writer {
                    space,
                    file_bytes: opened.file_bytes,
                    old_freelist: opened.freelist_run,
                    free_pages_unknown,
                    unsettled: opened.unsettled,
                }),
                poisoned: AtomicBool::new(false),
                settled: AtomicBool::new(settled),
            }),
        };
        if !later {
            db.find_free_pages()?;
        }
        Ok(db)
    }

    /// Pins the current state for reading.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut current = lock(&self.inner.current);
        let state = Arc::clone(&current.state);
        *current.pins.entry(state.meta.txid).or_default() += 1;
        Snapshot {
            pin: Arc::new(Pin {
                inner: Arc::clone(&self.inner),
                state,
            }),
        }
    }

    /// Whether what was found at the opening is known to be durable. If not, there was no room to make sure: nothing that
    /// could bring it back may be given up before a commit, of an empty batch too, has succeeded.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.inner.settled.load(Ordering::Acquire)
    }

    /// Makes the batch durable. One caller at a time; others wait. An empty batch writes nothing new.
    pub fn commit(&self, batch: &Batch) -> Result<Commit, Error> {
        let inner = &*self.inner;
        if inner.options.read_only {
            return Err(Error::ReadOnly {
                file: inner.pager.path.clone(),
            });
        }
        check_sizes(batch)?;
        let mut writer = lock(&inner.writer);
        if inner.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned {
                file: inner.pager.path.clone(),
            });
        }
        inner.settle(&mut writer)?;
        let snapshot = self.snapshot();
        let before = snapshot.pin.state.meta;
        if batch.is_empty() {
            return Ok(Commit {
                txid: before.txid,
                bytes_written: 0,
                pages_freed: 0,
            });
        }
        let pins: Vec<u64> = lock(&inner.current).pins.keys().copied().collect();
        writer.space.begin(before.txid, &pins);
        match inner.write_tree(&mut writer, &snapshot, batch) {
            Ok((meta, dirty)) => {
                inner.make_durable(&mut writer, &meta)?;
                Ok(inner.keep(&mut writer, meta, dirty))
            }
            Err(error) => {
                writer.space.undo();
                Err(error)
            }
        }
    }

    /// Walks the file for its free pages, if opened with `find_free_pages_later`. Any thread may do it; commits go
    /// on meanwhile. A second call does nothing. [`Error::Corrupt`] means that the tree is damaged: stop, as an
    /// opening without `find_free_pages_later` would have.
    pub fn find_free_pages(&self) -> Result<(), Error> {
        let (snapshot, known) = {
            let writer = lock(&self.inner.writer);
            if !writer.free_pages_unknown {
                return Ok(());
            }
            (self.snapshot(), writer.space.unreached())
        };
        // What is neither reached by this state nor known to the allocator was freed before the file was
        // opened. No commit can reach it or take it before it is made known below.
        let high_water = snapshot.pin.state.meta.high_water;
        let reached = free_pages::reached(&self.inner.pager, &snapshot.pin.state.meta)?;
        let mut writer = lock(&self.inner.writer);
        if std::mem::take(&mut writer.free_pages_unknown) {
            for id in (2..high_water).filter(|id| !reached.contains(*id) && !known.contains(*id)) {
                writer.space.add_free(id);
            }
            let mut current = lock(&self.inner.current);
            current.state = Arc::new(State {
                meta: current.state.meta,
                free_pages: writer.space.free_pages(),
                root: current.state.root.clone(),
            });
        }
        Ok(())
    }

    /// Bytes up to the high-water mark (etcd's "db size", not the length of the file).
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.size(&lock(&self.inner.current).state)
    }

    /// `size` without the free pages.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.inner.size_in_use(&lock(&self.inner.current).state)
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.inner.pager.page_size as u32
    }

    /// Reads every page and names what is wrong: all that `bbolt check` finds, and element bounds. Commits
    /// wait meanwhile.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        let writer = lock(&self.inner.writer);
        let snapshot = self.snapshot();
        let unreached =
            (!self.inner.options.read_only && !writer.free_pages_unknown).then(|| writer.space.unreached());
        Checker::new(&self.inner.pager, snapshot.pin.state.meta).run(unreached, writer.old_freelist)
    }
}

impl Inner {
    pub(crate) fn size(&self, state: &State) -> u64 {
        state.meta.high_water * self.pager.page_size as u64
    }

    pub(crate) fn size_in_use(&self, state: &State) -> u64 {
        (state.meta.high_water - state.free_pages) * self.pager.page_size as u64
    }

    /// Makes durable what was found at the opening, if there was no room for that then. A commit may take pages that
    /// only the state before reaches, which is the one on the disk if this one is not.
    fn settle(&self, writer: &mut Writer) -> Result<(), Error> {
        let Some(found) = &writer.unsettled else {
            return Ok(());
        };
        let rewritten = found.rewrite(&*self.pager.file);
        rewritten.map_err(|source| self.pager.io("make durable what was found in it", source))?;
        self.sync().map_err(|source| self.poison(source))?;
        writer.unsettled = None;
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// Builds the new tree in memory, and writes all of it but the meta page.
    fn write_tree(
        &self,
        writer: &mut Writer,
        snapshot: &Snapshot,
        batch: &Batch,
    ) -> Result<(Meta, Vec<Dirty>), Error> {
        let before = snapshot.pin.state.meta;
        let mut edit = Edit {
            pager: &self.pager,
            high_water: before.high_water,
            space: &mut writer.space,
            dirty: Vec::new(),
        };
        let mut headers: Vec<(&Bytes, Option<Bytes>)> = Vec::new();
        for (name, pending) in batch.buckets() {
            if let Some(header) = change_bucket(&mut edit, snapshot, name, pending)? {
                headers.push((name, header));
            }
        }
        let ops: Vec<Op> = headers
            .iter()
            .map(|(name, header)| Op {
                key: name,
                value: header.as_ref(),
                flags: BUCKET,
            })
            .collect();
        let root = edit.top(before.root, &ops)?;
        let mut dirty = edit.dirty;
        if let Some(run) = writer.old_freelist {
            writer.space.give(run);
        }
        self.grow(writer)?;
        self.pager.write(&mut dirty)?;
        let meta = Meta {
            root,
            freelist: None,
            high_water: writer.space.high_water(),
            txid: before.txid + 1,
            ..before
        };
        Ok((meta, dirty))
    }

    /// Makes sure that the file has room for all pages, and one more as bbolt does (tx.go Commit).
    fn grow(&self, writer: &mut Writer) -> Result<(), Error> {
        let needed = (writer.space.high_water() + 1) * self.pager.page_size as u64;
        if needed <= writer.file_bytes {
            return Ok(());
        }
        let roomy = needed.next_multiple_of(self.options.growth_bytes.max(self.pager.page_size as u64));
        let grown = match self.pager.file.allocate(roomy) {
            Ok(()) => Ok(roomy),
            // The last bytes of a disk are good enough.
            Err(_) if roomy > needed => self.pager.file.allocate(needed).map(|()| needed),
            Err(error) => Err(error),
        };
        writer.file_bytes = grown.map_err(|source| self.pager.io("grow it", source))?;
        Ok(())
    }

    /// Sync, meta page, sync. There is no way back from a failure, but for a full disk that has taken nothing of the
    /// meta page.
    ///
    /// That happens on file systems that copy on write: there a page that exists takes space too. A meta page that was
    /// written must never be taken back, since the next attempt puts other pages where this one's lie: a crash in
    /// between would find a valid meta page that leads to them. So the commit is undone only if what the file has in
    /// this place was read before the write and is the same after it. What the system holds of a file is all that it
    /// can ever bring to the disk, and a write goes from the front to the back: the new meta, which lies at the front
    /// in one sector, was then never there. The disk is where it was before this write: the other slot has the state
    /// before, durable and with all its pages, and this one no newer state.
    fn make_durable(&self, writer: &mut Writer, meta: &Meta) -> Result<(), Error> {
        self.sync().map_err(|source| self.poison(source))?;
        let file = &*self.pager.file;
        let slot = meta.txid % 2;
        let at = slot * self.pager.page_size as u64;
        let before = FoundMeta::read(file, at);
        match file.write_at(&meta.encode(slot), at) {
            Ok(()) => self.sync().map_err(|source| self.poison(source)),
            Err(source) if is_out_of_space(&source) && is_as_before(file, at, before) => {
                writer.space.undo();
                Err(self.pager.io("write its meta page", source))
            }
            Err(source) => Err(self.poison(source)),
        }
    }

    /// Nothing more is committed: nobody knows what is on the disk.
    fn poison(&self, source: std::io::Error) -> Error {
        self.poisoned.store(true, Ordering::Release);
        Error::SyncFailed {
            file: self.pager.path.clone(),
            source,
        }
    }

    /// Readers get the new state, which is durable.
    fn keep(&self, writer: &mut Writer, meta: Meta, dirty: Vec<Dirty>) -> Commit {
        let pages_freed = writer.space.keep(meta.txid);
        writer.old_freelist = None;
        let mut bytes_written = 0;
        for run in dirty {
            bytes_written += run.bytes.len() as u64;
            // Nobody asks any more for a page that began there before; it only would take room.
            for id in run.id + 1..run.id + (run.bytes.len() / self.pager.page_size) as u64 {
                self.pager.cache.remove(id);
            }
            self.pager
                .cache
                .insert(run.id, Page::trusted(Bytes::from(run.bytes)));
        }
        let state = State {
            meta,
            free_pages: writer.space.free_pages(),
            root: OnceLock::new(),
        };
        lock(&self.current).state = Arc::new(state);
        Commit {
            txid: meta.txid,
            bytes_written,
            pages_freed,
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        if self.options.sync {
            self.pager.file.sync_data()
        } else {
            Ok(())
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut current = lock(&self.inner.current);
        let txid = self.state.meta.txid;
        if let Some(count) = current.pins.get_mut(&txid) {
            *count -= 1;
            if *count == 0 {
                current.pins.remove(&txid);
            }
        }
    }
}

/// Whether the file has the bytes of a meta page that it had before.
fn is_as_before(file: &dyn File, at: u64, before: std::io::Result<FoundMeta>) -> bool {
    matches!((before, FoundMeta::read(file, at)), (Ok(before), Ok(now)) if before == now)
}

/// Changes one bucket. The result is what happens to its element: `None` nothing, `Some(None)` it is removed.
fn change_bucket(
    edit: &mut Edit,
    snapshot: &Snapshot,
    name: &Bytes,
    pending: &BucketBatch,
) -> Result<Option<Option<Bytes>>, Error> {
    let mut old = snapshot.bucket(name, Wait::Yes)?;
    let mut cleared = false;
    if pending.clear
        && let Some((root, _)) = old.take()
    {
        cleared = true;
        if let crate::page::BucketRoot::Tree(id) = root {
            edit.free_tree(id)?;
        }
    }
    if old.is_none() && !pending.create {
        if pending.iter().any(|(_, value)| value.is_some()) {
            return Err(Error::BucketMissing {
                file: edit.pager.path.clone(),
                name: name.to_vec(),
            });
        }
        return Ok(cleared.then_some(None));
    }
    let ops: Vec<Op> = pending
        .iter()
        .map(|(key, value)| Op { key, value, flags: 0 })
        .collect();
    let sequence = pending
        .sequence
        .or(old.as_ref().map(|(_, sequence)| *sequence))
        .unwrap_or(0);
    let header = edit.bucket(old.as_ref().map(|(root, _)| root), sequence, &ops)?;
    Ok(header.map(Some))
}

fn check_sizes(batch: &Batch) -> Result<(), Error> {
    let check = |key: &Bytes, value_bytes: usize| {
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len()) && value_bytes <= VALUE_BYTES_MAX;
        if fits {
            Ok(())
        } else {
            Err(Error::Size {
                key_bytes: key.len(),
                value_bytes,
            })
        }
    };
    for (name, pending) in batch.buckets() {
        check(name, 0)?;
        for (key, value) in pending.iter() {
            check(key, value.map_or(0, Bytes::len))?;
        }
    }
    Ok(())
}
