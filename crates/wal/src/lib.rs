//! Log segments and snapshot files in etcd's format. Knows nothing of keys and revisions, starts no
//! thread, and syncs exactly where the format's promises need it.
//!
//! A log is a directory of segments; a segment is a row of frames; a frame holds one record:
//!
//! ```text
//! byte 0  u64 little-endian: low 56 bits n; if padded, top byte 0x80 | p
//! byte 8  n bytes: walpb.Record { 1 type, 2 crc, 3 data }
//! 8 + n   p zero bytes, so that the next frame begins at a multiple of 8
//! ```
//!
//! A zero length ends a segment's content: preallocated space reads as zero. One CRC-32C runs over
//! the `data` of all records since the log was created; a record of type 4 heads every segment and
//! carries it over.

mod error;
pub mod fuzz;
mod inspect;
mod names;
mod open;
mod record;
mod scan;
pub mod snapfile;
mod spare;
mod wal;
mod wire;

pub use error::Error;
pub use inspect::{Summary, check, purge, valid_marks};
pub use names::exists;
pub use open::Recovered;
pub use record::{ConfState, Entry, EntryKind, HardState, Mark, Record};
pub use scan::{Located, Records, Tail};
pub use spare::{Spare, SpareJob};
pub use wal::{Saved, Wal};

/// Size at which a segment is cut, and to which a new one is preallocated, in bytes: decimal, as
/// etcd's (server/storage/wal/wal.go SegmentSizeBytes).
pub const SEGMENT_BYTES: u64 = 64 * 1000 * 1000;
