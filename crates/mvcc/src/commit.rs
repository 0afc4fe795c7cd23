//! Pending writes on their way to the data file.

/// One commit of the data file, to be run on any thread.
pub struct CommitJob {
    _todo: (),
}

/// A commit that was tried.
pub struct CommitDone {
    _todo: (),
}

impl CommitJob {
    /// Raft index that the file will have after it.
    pub fn index(&self) -> u64 {
        todo!()
    }

    /// Rows written or deleted.
    pub fn ops(&self) -> usize {
        todo!()
    }

    /// Commits. Waits for the device. The outcome goes to [`crate::Store::committed`].
    pub fn run(self) -> CommitDone {
        todo!()
    }
}

impl CommitDone {
    /// Whether the file has the writes.
    pub fn is_ok(&self) -> bool {
        todo!()
    }
}
