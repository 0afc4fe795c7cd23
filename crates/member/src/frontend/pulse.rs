//! What the decide stage lets everybody read without asking: leader, term, commit index.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The consensus state that front threads read without a hop. One writer, the decide stage.
#[derive(Debug, Default)]
pub struct Pulse {
    term: AtomicU64,
    leader: AtomicU64,
    committed: AtomicU64,
    read_gate: AtomicBool,
    learner: AtomicBool,
    stopped: AtomicBool,
    auth: AtomicBool,
}

impl Pulse {
    /// The current term of raft.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// The leader's member ID; 0 if none is known.
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Acquire)
    }

    /// The index up to which the log is committed.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// The index that a linearizable read has to wait for, where that is known without asking:
    /// this member is the only voter, leads, and has committed an entry of its own term.
    pub fn read_index(&self) -> Option<u64> {
        self.read_gate.load(Ordering::Acquire).then(|| self.committed())
    }

    /// Whether this member is a learner.
    pub fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Acquire)
    }

    /// Whether authentication is on. This release does not know how to let clients in then.
    pub fn auth_is_on(&self) -> bool {
        self.auth.load(Ordering::Acquire)
    }

    /// Whether the member acknowledges nothing any more: it stops, or a sync failed.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The decide stage saw a term or a leader change. Closes the read gate when this member
    /// may not answer reads alone.
    pub fn set_leader(&self, term: u64, leader: u64) {
        self.term.store(term, Ordering::Release);
        self.leader.store(leader, Ordering::Release);
    }

    /// Opens or closes the read gate: whether `read_index` answers.
    pub fn set_read_gate(&self, open: bool) {
        self.read_gate.store(open, Ordering::Release);
    }

    /// The log is committed up to `index`. Stored before any of it is handed to apply, so that
    /// whoever saw an acknowledgement also sees its index here.
    pub fn set_committed(&self, index: u64) {
        self.committed.store(index, Ordering::Release);
    }

    /// Whether this member is a learner.
    pub fn set_learner(&self, learner: bool) {
        self.learner.store(learner, Ordering::Release);
    }

    /// Whether authentication is on. Stored before the view of that is published.
    pub fn set_auth(&self, on: bool) {
        self.auth.store(on, Ordering::Release);
    }

    /// Nothing is acknowledged from now on.
    pub fn set_stopped(&self) {
        self.stopped.store(true, Ordering::Release);
    }
}
