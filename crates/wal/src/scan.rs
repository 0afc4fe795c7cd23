//! Reading a log: frames, checksums, and how an unfinished end is told from damage. Changes nothing,
//! and allocates no more than the file holds.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, File, Open};

use crate::error::At;
use crate::names::{check_sequence, segments, segments_from};
use crate::wire::{self, LENGTH_BYTES, RawRecord};
use crate::{Error, Record};

/// How much is read at a time. Payloads are slices of it, so it is also what one small entry that is
/// kept can hold on to.
const CHUNK_BYTES: u64 = 256 * 1024;

/// What devices write wholly or not at all (etcd: server/storage/wal/decoder.go minSectorSize).
const SECTOR_BYTES: u64 = 512;

/// A record and where it is.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its segment.
    pub path: Arc<Path>,
    /// Where its frame begins.
    pub offset: u64,
    /// The record's type as a number.
    pub(crate) kind: i64,
    pub(crate) crc: u32,
    pub(crate) data: Bytes,
}

impl Located {
    /// Decodes the record.
    pub fn record(&self) -> Result<Record, Error> {
        let failed = |what| move |_| self.undecodable(what);
        Ok(match self.kind {
            wire::METADATA => Record::Metadata(self.data.clone()),
            wire::ENTRY => Record::Entry(wire::decode_entry(&self.data).map_err(failed("the entry"))?),
            wire::STATE => Record::State(wire::decode_state(&self.data).map_err(failed("the hard state"))?),
            wire::CRC => Record::Crc(self.crc),
            wire::MARK => Record::Mark(wire::decode_mark(&self.data).map_err(failed("the snapshot mark"))?),
            kind => {
                return Err(Error::UnknownRecord {
                    path: self.path.to_path_buf(),
                    offset: self.offset,
                    kind,
                });
            }
        })
    }

    fn undecodable(&self, what: &'static str) -> Error {
        Error::Undecodable {
            path: self.path.to_path_buf(),
            offset: self.offset,
            what,
        }
    }
}

/// How the last segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// After the last record, at this offset, comes a zero length or the end of the file.
    Clean(u64),
    /// At this offset begins a record that was never written to its end.
    Torn(u64),
}

/// All records of some segments, in order, each verified by its checksum.
pub struct Records {
    waiting: VecDeque<Segment>,
    current: Option<Segment>,
    crc: u32,
    tail: Option<Tail>,
}

impl Records {
    /// Reads all segments that are there, from the first. Takes no lock.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Records, Error> {
        let names = segments(disk, dir)?;
        if names.is_empty() {
            return Err(Error::NoSegment {
                dir: dir.to_path_buf(),
                index: 0,
            });
        }
        check_sequence(dir, &names)?;
        Records::of_names(disk, dir, &names)
    }

    /// Reads from the segment on that holds the entry after `index`. Takes no lock.
    pub fn open_from(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Records, Error> {
        let names = segments_from(disk, dir, index)?;
        Records::of_names(disk, dir, &names)
    }

    fn of_names(disk: &dyn Disk, dir: &Path, names: &[crate::names::SegmentName]) -> Result<Records, Error> {
        let mut files = Vec::new();
        for name in names {
            let path = dir.join(name.to_string());
            let file = disk.open(&path, Open::Read).at("open", &path)?;
            files.push((path, file));
        }
        Records::of_files(files)
    }

    pub(crate) fn of_files(files: Vec<(PathBuf, Arc<dyn File>)>) -> Result<Records, Error> {
        let mut waiting = VecDeque::new();
        for (path, file) in files {
            waiting.push_back(Segment::new(path, file)?);
        }
        Ok(Records {
            current: waiting.pop_front(),
            waiting,
            crc: 0,
            tail: None,
        })
    }

    /// The next record. After `None`, `tail` says how the log ends; a torn end is no error here.
    #[allow(clippy::should_implement_trait)] // An iterator of results invites to skip errors.
    pub fn next(&mut self) -> Result<Option<Located>, Error> {
        while let Some(segment) = &mut self.current {
            let last = self.waiting.is_empty();
            let offset = segment.offset;
            match segment.next_frame()? {
                Frame::Record(record) => return self.accept(record, last),
                Frame::End if last => {
                    self.tail = Some(Tail::Clean(offset));
                    self.current = None;
                }
                Frame::End => self.current = self.waiting.pop_front(),
                Frame::Short if last => return self.torn(offset),
                Frame::Short => {
                    return Err(Error::Truncated {
                        path: segment.path.to_path_buf(),
                        offset,
                    });
                }
            }
        }
        Ok(None)
    }

    /// How the last segment ends; known once `next` gave `None`.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// The running checksum.
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    fn torn(&mut self, offset: u64) -> Result<Option<Located>, Error> {
        self.tail = Some(Tail::Torn(offset));
        self.current = None;
        Ok(None)
    }

    fn accept(&mut self, frame: RawFrame, last: bool) -> Result<Option<Located>, Error> {
        let path = match &self.current {
            Some(segment) => segment.path.clone(),
            None => return Ok(None),
        };
        let torn = || last && is_torn(&frame.padded, frame.offset + LENGTH_BYTES);
        let Ok(raw) = wire::decode_record(&frame.padded[..frame.len]) else {
            if torn() {
                return self.torn(frame.offset);
            }
            return Err(Error::Undecodable {
                path: path.to_path_buf(),
                offset: frame.offset,
                what: "the record",
            });
        };
        let RawRecord { kind, crc, data } = raw;
        let data = frame.padded.slice(data);
        let mismatch = |computed| Error::Checksum {
            path: path.to_path_buf(),
            offset: frame.offset,
            stored: crc,
            computed,
        };
        if kind == wire::CRC {
            // Zero is a reader that has just begun, in the middle of the chain.
            if self.crc != 0 && self.crc != crc {
                return Err(mismatch(self.crc));
            }
            self.crc = crc;
        } else {
            let computed = crc32c::crc32c_append(self.crc, &data);
            if computed != crc {
                if torn() {
                    return self.torn(frame.offset);
                }
                return Err(mismatch(computed));
            }
            self.crc = computed;
        }
        Ok(Some(Located {
            path,
            offset: frame.offset,
            kind,
            crc,
            data,
        }))
    }
}

/// Whether a record was not written to its end: a sector's part of it is all zero, as space is before
/// the first write (etcd: server/storage/wal/decoder.go isTornEntry).
fn is_torn(mut record: &[u8], mut offset: u64) -> bool {
    while !record.is_empty() {
        let in_sector = (SECTOR_BYTES - offset % SECTOR_BYTES).min(record.len() as u64);
        let (part, rest) = record.split_at(in_sector as usize);
        if part.iter().all(|&byte| byte == 0) {
            return true;
        }
        record = rest;
        offset += in_sector;
    }
    false
}

struct RawFrame {
    offset: u64,
    /// Bytes of the record without its padding.
    len: usize,
    padded: Bytes,
}

enum Frame {
    Record(RawFrame),
    /// A zero length, or the end of the file.
    End,
    /// A frame that the file does not hold to its end.
    Short,
}

/// One segment, read in chunks.
struct Segment {
    path: Arc<Path>,
    file: Arc<dyn File>,
    len: u64,
    offset: u64,
    chunk: Bytes,
    chunk_offset: u64,
}

impl Segment {
    fn new(path: PathBuf, file: Arc<dyn File>) -> Result<Segment, Error> {
        let len = file.len().at("read the length of", &path)?;
        Ok(Segment {
            path: path.into(),
            file,
            len,
            offset: 0,
            chunk: Bytes::new(),
            chunk_offset: 0,
        })
    }

    fn next_frame(&mut self) -> Result<Frame, Error> {
        let left = self.len - self.offset;
        if left == 0 {
            return Ok(Frame::End);
        }
        if left < LENGTH_BYTES {
            return Ok(Frame::Short);
        }
        let mut field = [0; LENGTH_BYTES as usize];
        field.copy_from_slice(&self.bytes(self.offset, LENGTH_BYTES)?);
        let field = u64::from_le_bytes(field);
        if field == 0 {
            return Ok(Frame::End);
        }
        let (len, padding) = wire::frame_size(field);
        if len + padding > left - LENGTH_BYTES {
            return Ok(Frame::Short);
        }
        let offset = self.offset;
        let padded = self.bytes(offset + LENGTH_BYTES, len + padding)?;
        self.offset += LENGTH_BYTES + len + padding;
        Ok(Frame::Record(RawFrame {
            offset,
            len: len as usize,
            padded,
        }))
    }

    /// Bytes within the file: out of the chunk, or out of a new one that begins with them.
    fn bytes(&mut self, offset: u64, len: u64) -> Result<Bytes, Error> {
        let start = offset.wrapping_sub(self.chunk_offset);
        let held = self.chunk.len() as u64;
        if offset >= self.chunk_offset && start <= held && len <= held - start {
            return Ok(self.chunk.slice(start as usize..(start + len) as usize));
        }
        let wanted = len.max(CHUNK_BYTES).min(self.len - offset);
        let mut chunk = vec![0; wanted as usize];
        let n = self.file.read_at(&mut chunk, offset).at("read", &self.path)?;
        chunk.truncate(n);
        if (n as u64) < len {
            // The file was longer when it was opened: somebody cuts it while it is read.
            return Err(Error::Truncated {
                path: self.path.to_path_buf(),
                offset: self.offset,
            });
        }
        self.chunk = Bytes::from(chunk);
        self.chunk_offset = offset;
        Ok(self.chunk.slice(..len as usize))
    }
}
