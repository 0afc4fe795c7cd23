//! The index: for each key, its revisions.

use crate::Rev;

/// What the index knows of a key at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The revision of the newest put at or before the revision asked for.
    pub modified: Rev,
    /// Main revision of the put that made the key.
    pub create: i64,
    /// Puts since then.
    pub version: i64,
    /// Whether the newest put named a lease; only meaningful for the key's newest revision.
    pub leased: bool,
}

/// An ordered map from keys to their revisions. A clone is a snapshot, made in constant time.
#[derive(Clone, Default)]
pub struct KeyIndex {
    _todo: (),
}
