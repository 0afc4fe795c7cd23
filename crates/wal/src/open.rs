//! Opening a log for appending: everything is read and verified first; an unfinished end is cut off
//! after the segment was copied. Damage is reported and left as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, File, Lock, Open};

use crate::error::{At, poisoned};
use crate::names::segments_from;
use crate::scan::{Located, Records, Tail};
use crate::wal::{Segment, full};
use crate::wire::LENGTH_BYTES;
use crate::{Entry, Error, HardState, Mark, Record, Wal};

/// How much of a segment is held in memory while it is copied or searched for what is not zero.
const COPY_BYTES: usize = 1024 * 1024;

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The metadata of all segments.
    pub metadata: Bytes,
    /// The last hard state.
    pub hard_state: HardState,
    /// The entries after the mark, without gaps. Those above `hard_state.commit` may be overwritten.
    pub entries: Vec<Entry>,
    /// Whether the log holds the mark from which it was opened. Go's etcd opens it either way.
    pub mark_found: bool,
    /// The untouched copy of the last segment, if its torn end was cut off.
    pub repaired: Option<PathBuf>,
}

impl Wal {
    /// Opens a log for appending and reads it from `from`. Takes the lock of every segment it reads.
    /// A torn end is cut off, after the segment was copied to `<name>.broken` (etcd:
    /// server/storage/wal/repair.go); nothing else in the log is ever changed.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, from: &Mark) -> Result<(Wal, Recovered), Error> {
        let names = disk.open_dir(dir).at("open", dir)?;
        let parent = disk::parent(dir);
        let names_above = match disk.open_dir(&parent) {
            // The directory above may be another's, who lets us pass but not read it; then that owner
            // made it ready, and no log of ours was just renamed into it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            opened => Some(opened.at("open", &parent)?),
        };
        let segments = lock_segments(disk, dir, from.index)?;
        let files = segments
            .iter()
            .map(|segment| (segment.path.clone(), segment.file.clone()));
        let mut records = Records::of_files(files.collect())?;
        let mut replay = Replay::new(from);
        while let Some(located) = records.next()? {
            replay.take(&located)?;
        }

        let mut wal = Wal::with_segments(disk, (dir, names), segments, &replay.metadata);
        let tail_path = wal.tail().path.clone();
        // Without metadata nobody knows whose log it is; a later segment is complete before it gets
        // its name. So an end within the head is damage, not an unfinished write.
        let headless = replay.metadata_in.as_deref() != Some(&tail_path);
        let ownerless = replay.metadata_in.is_none();
        let end = records.tail().unwrap_or(Tail::Clean(0));
        let (Tail::Clean(offset) | Tail::Torn(offset)) = end;
        if ownerless || (headless && end != Tail::Clean(0)) {
            return Err(Error::Truncated {
                path: tail_path,
                offset,
            });
        }
        let mut recovered = replay.recovered;
        recovered.metadata = wal.metadata.clone();
        wal.offset = offset;
        wal.crc = records.crc();
        wal.state = recovered.hard_state;
        wal.last_index = replay.last_index;
        wal.dirty = true;
        wal.rewrite_tail()?;
        if end == Tail::Torn(offset) {
            recovered.repaired = wal.cut_torn_end()?;
        } else {
            // Behind a zero length may lie whole records of a write whose beginning was lost: they
            // must not come back when records before them are written anew (etcd: ZeroToEnd).
            // Nor may the file end within a length field.
            let file = &wal.tail().file;
            let len = file.len().at("read the length of", &tail_path)?;
            wal.tail_soiled = len % LENGTH_BYTES != 0 || !zero_from(file, &tail_path, offset)?;
            wal.clean_tail()?;
        }
        if offset == 0 {
            wal.restore_head()?;
        }
        // A process that was killed may have left records and names that were never synced. What was
        // read is taken for durable from here on, so it must be.
        wal.sync()?;
        wal.sync_names()?;
        if let Some(names_above) = names_above {
            names_above.sync().map_err(|error| poisoned(&parent, &error))?;
        }
        Ok((wal, recovered))
    }

    /// Writes the records of the last segment again, as they are. Where an earlier process was told that
    /// a sync failed, the kernel holds pages for clean that the disk never got: they can be read, and
    /// no later sync brings them to the disk. Segments before the last were synced before it was begun.
    fn rewrite_tail(&mut self) -> Result<(), Error> {
        let (path, file) = (self.tail().path.clone(), self.tail().file.clone());
        let mut buf = vec![0; COPY_BYTES];
        let mut offset = 0;
        while offset < self.offset {
            let want = COPY_BYTES.min(usize::try_from(self.offset - offset).unwrap_or(COPY_BYTES));
            let n = file.read_at(&mut buf[..want], offset).at("read", &path)?;
            match file.write_at(&buf[..n], offset) {
                // Space that a copying file system does not have is no reason not to start.
                Err(error) if full(&error) => break,
                result => result.at("write", &path)?,
            }
            if n == 0 {
                break;
            }
            offset += n as u64;
        }
        Ok(())
    }

    /// Copies the last segment aside, durably, and cuts it after its last whole record. A full disk leaves no copy: it
    /// is what tears the end of a log, and must not keep its member from starting.
    fn cut_torn_end(&mut self) -> Result<Option<PathBuf>, Error> {
        let (path, file) = (self.tail().path.clone(), self.tail().file.clone());
        let mut copy = path.as_os_str().to_owned();
        copy.push(".broken");
        let copy = PathBuf::from(copy);
        let copied = match copy_segment(&*self.disk, &file, &path, &copy) {
            Err(error) if error.is_no_space() => {
                self.disk.remove_file(&copy).at("remove", &copy)?;
                false
            }
            result => result.map(|()| true)?,
        };
        self.sync_names()?;
        file.set_len(self.offset).at("shorten", &path)?;
        Ok(copied.then_some(copy))
    }
}

fn lock_segments(disk: &Arc<dyn Disk>, dir: &Path, index: u64) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for name in segments_from(&**disk, dir, index)? {
        let path = dir.join(name.to_string());
        let file = disk.open(&path, Open::Write).at("open", &path)?;
        if !file.try_lock(Lock::Segment).at("lock", &path)? {
            return Err(Error::Locked { path });
        }
        segments.push(Segment { name, path, file });
    }
    Ok(segments)
}

fn copy_segment(disk: &dyn Disk, from: &Arc<dyn File>, from_path: &Path, to: &Path) -> Result<(), Error> {
    let copy = disk.open(to, Open::Truncate).at("create", to)?;
    let len = from.len().at("read the length of", from_path)?;
    copy.set_len(len).at("extend", to)?;
    let mut buf = vec![0; COPY_BYTES];
    let mut offset = 0;
    while let Some(data) = from.next_data(offset).at("search", from_path)? {
        let n = from.read_at(&mut buf, data).at("read", from_path)?;
        if n == 0 {
            break;
        }
        copy.write_at(&buf[..n], data).at("write", to)?;
        offset = data + n as u64;
    }
    copy.sync_data().map_err(|error| poisoned(to, &error))
}

/// Whether the file holds nothing but zero from `offset` on.
fn zero_from(file: &Arc<dyn File>, path: &Path, mut offset: u64) -> Result<bool, Error> {
    let mut buf = Vec::new();
    while let Some(data) = file.next_data(offset).at("search", path)? {
        buf.resize(COPY_BYTES, 0);
        let n = file.read_at(&mut buf, data).at("read", path)?;
        if buf[..n].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if n == 0 {
            break;
        }
        offset = data + n as u64;
    }
    Ok(true)
}

/// Folds records into what they mean (etcd: server/storage/wal/wal.go ReadAll).
struct Replay {
    from: (u64, u64),
    /// The term of the entry at the mark's index, if the log has one.
    term_at_mark: Option<u64>,
    recovered: Recovered,
    metadata: Bytes,
    /// The newest segment in which a metadata record was found.
    metadata_in: Option<Arc<Path>>,
    last_index: u64,
}

impl Replay {
    fn new(from: &Mark) -> Replay {
        Replay {
            from: (from.index, from.term),
            term_at_mark: None,
            recovered: Recovered::default(),
            metadata: Bytes::new(),
            metadata_in: None,
            last_index: from.index,
        }
    }

    fn take(&mut self, located: &Located) -> Result<(), Error> {
        let record = located.record()?;
        match record {
            Record::Metadata(metadata) => {
                if self.metadata_in.is_some() && self.metadata != metadata {
                    return Err(Error::MetadataConflict {
                        path: located.path.to_path_buf(),
                        offset: located.offset,
                    });
                }
                self.metadata = metadata;
                self.metadata_in = Some(located.path.clone());
            }
            Record::Entry(entry) => self.take_entry(entry, located)?,
            Record::State(state) => self.recovered.hard_state = state,
            Record::Mark(mark) => {
                let (index, term) = self.from;
                if mark.index == index && mark.term != term {
                    return Err(Error::MarkMismatch {
                        path: located.path.to_path_buf(),
                        offset: located.offset,
                        index,
                        wanted: term,
                        found: mark.term,
                    });
                }
                if mark.index == index && !self.recovered.mark_found {
                    self.recovered.mark_found = true;
                    // A state of the leader took the place of the log: what was written before it and lies
                    // behind it was never committed.
                    if self.term_at_mark.is_some_and(|written| written != term) {
                        self.recovered.entries.clear();
                    }
                }
                self.last_index = self.last_index.max(mark.index);
            }
            Record::Crc(_) => {}
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: Entry, located: &Located) -> Result<(), Error> {
        self.last_index = entry.index;
        if entry.index <= self.from.0 {
            // It replaces all from its index on, what lies behind the mark too. etcd keeps that.
            self.recovered.entries.clear();
            self.term_at_mark = (entry.index == self.from.0).then_some(entry.term);
            return Ok(());
        }
        let position = entry.index - self.from.0 - 1;
        let entries = &mut self.recovered.entries;
        if position > entries.len() as u64 {
            return Err(Error::Gap {
                path: located.path.to_path_buf(),
                offset: located.offset,
                last: self.from.0 + entries.len() as u64,
                found: entry.index,
            });
        }
        // An entry of a newer leader replaces all that were written from its index on.
        entries.truncate(position as usize);
        entries.push(entry);
        Ok(())
    }
}
