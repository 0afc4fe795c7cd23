//! Deleting what a compaction leaves behind, in bounded steps.

use crate::{Error, KeyValueHash};

/// What the compaction in hand needs.
pub enum CompactionNext {
    /// There is none.
    Idle,
    /// A step was done in memory; there is more, ask again when convenient.
    Again,
    /// It waits for a commit of what is pending, or for a scan that is out.
    Waits,
    /// A scan to run on a thread that may wait, and then to give to [`crate::Store::compaction_scanned`].
    Scan(Box<CompactionScan>),
}

/// A step that reads rows of the data file.
pub struct CompactionScan {
    _todo: (),
}

/// A finished compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionDone {
    /// The revision compacted to.
    pub revision: i64,
    /// The hash of what was scanned; `None` if an earlier compaction was not finished, and the hash would not cover all.
    pub hash: Option<KeyValueHash>,
    /// Rows deleted.
    pub deleted: u64,
}

impl CompactionScan {
    /// Reads the next rows. May wait for the device.
    pub fn run(&mut self) -> Result<(), Error> {
        todo!()
    }
}
