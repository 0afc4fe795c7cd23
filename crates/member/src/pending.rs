//! Stands in for what `mvcc` will bring until it is there.

/// A state to read from.
pub struct View;
/// What watchers see of a batch.
pub struct EventBatch;
/// Where the newest view is.
pub struct ViewSource;
/// A transaction for the data file.
pub struct CommitJob;
