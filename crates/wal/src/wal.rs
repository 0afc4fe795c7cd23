//! The log that one member appends to. Never starts a thread, never retries a sync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Dir, Disk, File, Lock, Open};

use crate::error::{At, poisoned};
use crate::names::{SegmentName, exists};
use crate::spare::{Spare, SpareJob};
use crate::wire::{Encoder, LENGTH_BYTES};
use crate::{Entry, Error, HardState, Mark, SEGMENT_BYTES};

/// How large the buffer for encoded records may stay between two saves.
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// An open log, locked and ready to append.
///
/// `append` writes, `sync` makes durable, `cut_if_full` begins the next segment; `save` is all three
/// by etcd's rules. A write that fails (a full disk) leaves the log as it was before, and may be
/// repeated. A sync that fails is the end: from then on every call returns [`Error::Poisoned`].
pub struct Wal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// The same directory, held open: a segment that is begun while the process has no descriptor left must not end
    /// the log.
    pub(crate) names: Arc<dyn Dir>,
    /// Held and locked, oldest first; the last is written to. Never empty.
    pub(crate) segments: Vec<Segment>,
    /// Where in the last segment the next record goes.
    pub(crate) offset: u64,
    /// The running checksum up to there.
    pub(crate) crc: u32,
    pub(crate) metadata: Bytes,
    /// The last hard state, written or held back.
    pub(crate) state: HardState,
    /// Whether `state` is not written yet: only its commit index moved.
    pub(crate) state_held_back: bool,
    pub(crate) last_index: u64,
    /// Whether anything was written since the last sync.
    pub(crate) dirty: bool,
    /// Whether a failed write left bytes behind `offset`.
    pub(crate) tail_soiled: bool,
    pub(crate) poisoned: Option<(PathBuf, String)>,
    pub(crate) no_sync: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) spare: Option<Spare>,
    /// Whether a job of `spare_job` is under way: its file must not be touched meanwhile.
    pub(crate) spare_under_way: bool,
    /// Jobs of `spare_job` so far.
    pub(crate) spare_count: u64,
    pub(crate) buf: Vec<u8>,
}

pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// What a save did.
#[derive(Debug, Default)]
pub struct Saved {
    /// Whether everything up to here is durable.
    pub synced: bool,
    /// Whether a new segment was begun.
    pub cut: bool,
    /// Why a new segment could not be begun. Nothing is lost: the old one goes on growing, and the
    /// next save tries again.
    pub cut_failed: Option<Error>,
}

impl Wal {
    /// Makes a log whose first segment holds `metadata` and the mark 0/0, and returns when that is
    /// durable (the name of the directory above `dir` is the caller's to make durable). What is at
    /// `dir` must not be a log; it is replaced.
    pub fn create(disk: &Arc<dyn Disk>, dir: &Path, metadata: &[u8]) -> Result<Wal, Error> {
        Wal::create_with(disk, dir, metadata, None, &[])
    }

    /// As `create`, with first entries that are there if the log is: a member that bootstraps leaves
    /// no log without its configuration behind.
    pub fn create_with(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        metadata: &[u8],
        state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<Wal, Error> {
        if exists(&**disk, dir)? {
            return Err(Error::Exists {
                dir: dir.to_path_buf(),
            });
        }
        // All of it is made beside its place, so that a crash leaves all or nothing.
        let mut tmp = dir.as_os_str().to_owned();
        tmp.push(".tmp");
        let tmp = PathBuf::from(tmp);
        disk.remove_dir_all(&tmp).at("remove", &tmp)?;
        let result = Wal::create_in(disk, dir, &tmp, metadata, state, entries);
        if result.is_err() {
            let _ = disk.remove_dir_all(&tmp);
        }
        result
    }

    fn create_in(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        tmp: &Path,
        metadata: &[u8],
        state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<Wal, Error> {
        disk.create_dir_all(tmp).at("create", tmp)?;
        let names = disk.open_dir(tmp).at("open", tmp)?;
        let parent = disk::parent(dir);
        let names_above = disk.open_dir(&parent).at("open", &parent)?;
        let name = SegmentName {
            sequence: 0,
            index: 0,
        };
        let path = tmp.join(name.to_string());
        let file = disk.open(&path, Open::CreateNew).at("create", &path)?;
        if !file.try_lock(Lock::Segment).at("lock", &path)? {
            return Err(Error::Locked { path });
        }
        file.allocate(SEGMENT_BYTES).at("reserve space for", &path)?;
        let mut wal = Wal::with_segments(disk, (tmp, names), vec![Segment { name, path, file }], metadata);
        wal.encode(|encoder| {
            encoder.crc_record();
            encoder.metadata(metadata);
            encoder.mark(&Mark::default());
        })?;
        wal.append(state, entries)?;
        wal.sync()?;
        wal.sync_names()?;

        disk.remove_dir_all(dir).at("remove", dir)?;
        disk.rename(tmp, dir).at("rename to", dir)?;
        if let Err(error) = names_above.sync() {
            let error = wal.poison(&parent, &error);
            // The next start must not find a log of which nobody knows whether it stays.
            let mut broken = dir.as_os_str().to_owned();
            broken.push(".broken");
            let _ = disk.rename(dir, Path::new(&broken));
            return Err(error);
        }
        wal.dir = dir.to_path_buf();
        wal.segments[0].path = dir.join(name.to_string());
        Ok(wal)
    }

    pub(crate) fn with_segments(
        disk: &Arc<dyn Disk>,
        (dir, names): (&Path, Arc<dyn Dir>),
        segments: Vec<Segment>,
        metadata: &[u8],
    ) -> Wal {
        Wal {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            names,
            segments,
            offset: 0,
            crc: 0,
            metadata: Bytes::copy_from_slice(metadata),
            state: HardState::default(),
            state_held_back: false,
            last_index: 0,
            dirty: false,
            tail_soiled: false,
            poisoned: None,
            no_sync: false,
            segment_bytes: SEGMENT_BYTES,
            spare: None,
            spare_under_way: false,
            spare_count: 0,
            buf: Vec::new(),
        }
    }

    /// Writes entries and hard state, not yet durable; says whether they must be made so by `sync`
    /// before anyone may rely on them (raft: MustSync). A state of which only the commit index moved is
    /// held back and written with what comes next.
    pub fn append(&mut self, state: Option<&HardState>, entries: &[Entry]) -> Result<bool, Error> {
        self.check_poison()?;
        let state = state.copied().filter(|state| *state != HardState::default());
        let must_sync = !entries.is_empty()
            || state.is_some_and(|new| (new.term, new.vote) != (self.state.term, self.state.vote));
        if !must_sync {
            if let Some(new) = state.filter(|new| *new != self.state) {
                self.state = new;
                self.state_held_back = true;
            }
            return Ok(false);
        }
        // A newer state makes the one held back superfluous: the last one counts.
        let before = (state.is_none() && self.state_held_back).then_some(self.state);
        self.encode(|encoder| {
            if let Some(state) = &before {
                encoder.state(state);
            }
            for entry in entries {
                encoder.entry(entry);
            }
            if let Some(state) = &state {
                encoder.state(state);
            }
        })?;
        self.state_held_back = false;
        self.state = state.unwrap_or(self.state);
        if let Some(last) = entries.last() {
            self.last_index = last.index;
        }
        Ok(true)
    }

    /// Makes durable all that was appended: one fdatasync, if there is anything.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        self.write_held_back()?;
        if !self.dirty {
            return Ok(());
        }
        let tail = self.tail();
        let (path, file) = (tail.path.clone(), tail.file.clone());
        self.sync_file(&file, &path)?;
        self.dirty = false;
        Ok(())
    }

    /// Appends, syncs if it must, cuts if the segment is full (etcd: server/storage/wal/wal.go Save).
    pub fn save(&mut self, state: Option<&HardState>, entries: &[Entry]) -> Result<Saved, Error> {
        let mut saved = Saved::default();
        if self.append(state, entries)? {
            self.sync()?;
        }
        match self.cut_if_full() {
            Ok(cut) => saved.cut = cut,
            Err(error) if error.is_poison() => return Err(error),
            Err(error) => saved.cut_failed = Some(error),
        }
        saved.synced = !self.dirty && !self.state_held_back;
        Ok(saved)
    }

    /// Writes a mark and makes it and all before it durable, the commit index held back too: a mark
    /// counts only if the log says that its index is committed.
    pub fn save_mark(&mut self, mark: &Mark) -> Result<(), Error> {
        self.check_poison()?;
        if mark.index > 0 && mark.conf_state.is_none() {
            return Err(Error::MarkIncomplete { index: mark.index });
        }
        let before = self.state_held_back.then_some(self.state);
        self.encode(|encoder| {
            if let Some(state) = &before {
                encoder.state(state);
            }
            encoder.mark(mark);
        })?;
        self.state_held_back = false;
        self.last_index = self.last_index.max(mark.index);
        self.sync()
    }

    /// Begins a new segment if the current one has its size; says whether it did. An error that is not
    /// poison changes nothing: the current segment goes on.
    pub fn cut_if_full(&mut self) -> Result<bool, Error> {
        if self.offset < self.segment_bytes {
            return Ok(false);
        }
        self.cut().map(|()| true)
    }

    /// Begins a new segment (etcd: server/storage/wal/wal.go cut).
    pub(crate) fn cut(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        self.prepare_spare()?;
        // The chain must have no hole before the segment that continues it exists.
        self.clean_tail()?;
        self.sync_written()?;
        let tail = self.tail();
        let Some(sequence) = tail.name.sequence.checked_add(1) else {
            return Err(Error::Undecodable {
                path: tail.path.clone(),
                offset: 0,
                what: "a name that no other can follow",
            });
        };
        let name = SegmentName {
            sequence,
            index: self.last_index.saturating_add(1),
        };
        tail.file.set_len(self.offset).at("shorten", &tail.path)?;

        // Whatever goes wrong with it from here on, a spare is not used twice.
        let spare = self.spare.take().expect("a spare was just prepared");
        let (offset, crc) = self.write_head(&spare.path, &spare.file)?;
        let path = self.dir.join(name.to_string());
        if let Err(error) = self.disk.rename(&spare.path, &path) {
            if full(&error) {
                return Err(error).at("rename to", &path);
            }
            // Nobody knows whether the new name exists: writing on in the old segment could make two
            // histories.
            return Err(self.poison(&path, &error));
        }
        self.sync_names()?;
        self.segments.push(Segment {
            name,
            path,
            file: spare.file,
        });
        self.offset = offset;
        self.crc = crc;
        self.state_held_back = false;
        Ok(())
    }

    /// Writes what every later segment begins with, durably: the checksum so far, the metadata, the
    /// hard state.
    fn write_head(&mut self, path: &Path, file: &Arc<dyn File>) -> Result<(u64, u32), Error> {
        self.buf.clear();
        let mut encoder = Encoder {
            buf: &mut self.buf,
            crc: self.crc,
        };
        encoder.crc_record();
        encoder.metadata(&self.metadata);
        if self.state != HardState::default() {
            encoder.state(&self.state);
        }
        let crc = encoder.crc;
        file.write_at(&self.buf, 0).at("write", path)?;
        self.sync_file(file, path)?;
        Ok((self.buf.len() as u64, crc))
    }

    /// Begins the last segment again, which holds nothing at all.
    pub(crate) fn restore_head(&mut self) -> Result<(), Error> {
        let (path, file) = (self.tail().path.clone(), self.tail().file.clone());
        (self.offset, self.crc) = self.write_head(&path, &file)?;
        Ok(())
    }

    /// Lets go of the segments that hold only entries below `index`, so that `purge` may remove them
    /// (etcd: server/storage/wal/wal.go ReleaseLockTo).
    pub fn release_to(&mut self, index: u64) {
        let beyond = self
            .segments
            .iter()
            .position(|segment| segment.name.index >= index);
        let keep_from = beyond.unwrap_or(self.segments.len()).saturating_sub(1);
        self.segments.drain(..keep_from);
    }

    /// The making of the next segment's file, if there is none and none is being made: run it
    /// elsewhere, then `put_spare` or `spare_failed`.
    pub fn spare_job(&mut self) -> Option<SpareJob> {
        if self.spare.is_some() || self.spare_under_way {
            return None;
        }
        let path = self.spare_path();
        self.spare_under_way = true;
        self.spare_count += 1;
        Some(SpareJob::new(&self.disk, path, self.segment_bytes))
    }

    /// Takes a spare that was made elsewhere.
    pub fn put_spare(&mut self, spare: Spare) {
        self.spare_under_way = false;
        if self.spare.is_none() {
            self.spare = Some(spare);
        }
    }

    /// The job came to nothing: another may be asked for.
    pub fn spare_failed(&mut self) {
        self.spare_under_way = false;
    }

    /// Makes the next segment's file here and now, if there is none.
    pub fn prepare_spare(&mut self) -> Result<(), Error> {
        if self.spare.is_none() {
            let job = SpareJob::new(&self.disk, self.spare_path(), self.segment_bytes);
            self.spare = Some(job.run()?);
        }
        Ok(())
    }

    /// Never the file of a job that is under way: a job empties its file, which by then could be the
    /// next segment with its head written.
    fn spare_path(&self) -> PathBuf {
        self.dir.join(format!("{}.tmp", self.spare_count % 2))
    }

    /// The encoded metadata of this log.
    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The index of the entry (or higher mark) written last.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The last hard state given or read.
    pub fn hard_state(&self) -> HardState {
        self.state
    }

    /// Leaves syncs out (`--unsafe-no-fsync`).
    pub fn set_unsafe_no_sync(&mut self) {
        self.no_sync = true;
    }

    /// Cuts at another size than [`SEGMENT_BYTES`], for tests and the simulator: etcd reads segments of
    /// any size.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Writes and syncs what is held back, and removes the spare. What a full disk let through of a write that failed
    /// does not stay behind.
    pub fn close(mut self) -> Result<(), Error> {
        let mut result = self.sync();
        if !matches!(&result, Err(error) if error.is_poison()) {
            result = self.clean_tail().and(result);
        }
        if let Some(spare) = self.spare.take() {
            // A spare that stays is overwritten by the next one.
            let _ = self.disk.remove_file(&spare.path);
        }
        result
    }

    pub(crate) fn tail(&self) -> &Segment {
        self.segments.last().expect("a log always holds its last segment")
    }

    fn write_held_back(&mut self) -> Result<(), Error> {
        if self.state_held_back {
            let state = self.state;
            self.encode(|encoder| encoder.state(&state))?;
            self.state_held_back = false;
        }
        Ok(())
    }

    /// Encodes records and writes them at the end by one call. If that fails, nothing has happened.
    fn encode(&mut self, records: impl FnOnce(&mut Encoder<'_>)) -> Result<(), Error> {
        self.clean_tail()?;
        self.buf.clear();
        let mut encoder = Encoder {
            buf: &mut self.buf,
            crc: self.crc,
        };
        records(&mut encoder);
        let crc = encoder.crc;
        let tail = self.tail();
        if let Err(error) = tail.file.write_at(&self.buf, self.offset) {
            let has_room = !full(&error);
            let result = Err(error).at("write", &tail.path);
            self.tail_soiled = true;
            if has_room {
                // Who writes no more after this leaves a log that ends with a whole record: half of one is
                // not always told from damage. If it fails, the error above says more.
                let _ = self.clean_tail();
            }
            return result;
        }
        self.offset += self.buf.len() as u64;
        self.crc = crc;
        self.dirty = true;
        if self.buf.capacity() > BUFFER_KEPT_BYTES {
            self.buf = Vec::new();
        }
        Ok(())
    }

    /// Makes all behind the last record zero again, durably, after a failed write: a shorter record
    /// written there next, or torn there by a crash, must not be followed by the rest of this one.
    pub(crate) fn clean_tail(&mut self) -> Result<(), Error> {
        if !self.tail_soiled {
            return Ok(());
        }
        let tail = self.tail();
        let (path, file) = (tail.path.clone(), tail.file.clone());
        let len = file.len().at("read the length of", &path)?;
        file.set_len(self.offset).at("shorten", &path)?;
        match file.allocate(len - len % LENGTH_BYTES) {
            Ok(()) => {}
            // A segment may be shorter than it was; it grows as it is written.
            Err(error) if full(&error) => {}
            Err(error) => return Err(error).at("reserve space for", &path),
        }
        self.sync_file(&file, &path)?;
        self.tail_soiled = false;
        self.dirty = false;
        Ok(())
    }

    fn sync_written(&mut self) -> Result<(), Error> {
        if self.dirty {
            let tail = self.tail();
            let (path, file) = (tail.path.clone(), tail.file.clone());
            self.sync_file(&file, &path)?;
            self.dirty = false;
        }
        Ok(())
    }

    pub(crate) fn sync_file(&mut self, file: &Arc<dyn File>, path: &Path) -> Result<(), Error> {
        if self.no_sync {
            return Ok(());
        }
        file.sync_data().map_err(|error| self.poison(path, &error))
    }

    pub(crate) fn sync_names(&mut self) -> Result<(), Error> {
        let synced = self.names.sync();
        synced.map_err(|error| self.poison(&self.dir.clone(), &error))
    }

    fn poison(&mut self, path: &Path, error: &io::Error) -> Error {
        self.poisoned = Some((path.to_path_buf(), error.to_string()));
        poisoned(path, error)
    }

    fn check_poison(&self) -> Result<(), Error> {
        match &self.poisoned {
            None => Ok(()),
            Some((path, reason)) => Err(Error::Poisoned {
                path: path.clone(),
                reason: reason.clone(),
            }),
        }
    }
}

/// Whether an operation failed for lack of space.
pub(crate) fn full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
