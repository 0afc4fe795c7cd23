//! What a member's stages say of their work while they do it, so that whoever runs them can put
//! the time to it: a stage reads no clock. Never changes what a stage does.

use std::time::Duration;

use api::error::Status;
use state::OpKind;

/// Work of a stage that has a beginning and an end, both told by the thread that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Entries are applied: each tells its own end by [`Measure::Applied`].
    Applying,
    /// A transaction of the data file.
    Commit,
    /// A copy of the data file in tight pages.
    Defragment,
    /// Old revisions are taken out of the index, some keys.
    CompactIndex,
    /// A batch of rows is scanned and deleted for a compaction.
    CompactRows,
    /// A snapshot file is made of the cluster's members.
    MarshalSnapshot,
    /// A snapshot file and its mark are written.
    SaveSnapshot,
}

/// What is told.
#[derive(Debug)]
pub enum Measure<'a> {
    /// It begins now.
    Begins(Work),
    /// It ends now, in whatever way.
    Ends(Work),
    /// An entry was applied, now.
    Applied(AppliedEntry<'a>),
    /// A compaction is finished, that long after it was scheduled.
    Compacted {
        /// How long it took, with the pauses between its steps.
        took: Duration,
    },
    /// A request that the member made itself has its answer, or will have none.
    OwnRequest {
        /// What it was.
        op: OpKind,
        /// How long it took.
        took: Duration,
        /// Whether consensus answered.
        answered: bool,
    },
}

/// A request of the log that was just applied.
#[derive(Debug)]
pub struct AppliedEntry<'a> {
    /// What it was.
    pub op: OpKind,
    /// The entry as it stands in the log, to be shown if it took long.
    pub data: &'a [u8],
    /// Bytes of the answer, if somebody waits for it here.
    pub answer_bytes: Option<usize>,
    /// Why it was refused.
    pub refused: Option<&'a Status>,
}
