//! What the decide stage lets everybody read without asking: leader, term, commit index.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use api::clock::Instant;

/// The consensus state that front threads read without a hop. One writer, the decide stage.
#[derive(Debug, Default)]
pub struct Pulse {
    term: AtomicU64,
    leader: AtomicU64,
    committed: AtomicU64,
    read_gate: AtomicBool,
    learner: AtomicBool,
    stopped: AtomicBool,
    sure_from: AtomicU64,
    sure_until: AtomicU64,
}

impl Pulse {
    /// Whether this member's clock ticks as it should. One that stood still (a stopped process, a
    /// machine that slept) may take itself for the leader long after another one leads: until it has
    /// had time to notice, it must ask (etcd: server.go, ensureLeadership).
    pub fn is_sure(&self, now: Instant) -> bool {
        let now = nanos(now);
        // In this order: `ticked` stores the later bound last, and never for a doubt that is not stored.
        let until = self.sure_until.load(Ordering::Acquire);
        self.sure_from.load(Ordering::Acquire) <= now && now <= until
    }

    /// A tick came: the next ones are expected within `patience`. After a gap nothing is sure for
    /// `doubt`, the time in which a leader that has lost its followers steps down.
    pub fn ticked(&self, now: Instant, patience: Duration, doubt: Duration) {
        if nanos(now) > self.sure_until.load(Ordering::Acquire) {
            self.sure_from.store(nanos(now + doubt), Ordering::Release);
        }
        self.sure_until.store(nanos(now + patience), Ordering::Release);
    }

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

    /// Nothing is acknowledged from now on.
    pub fn set_stopped(&self) {
        self.stopped.store(true, Ordering::Release);
    }
}

fn nanos(at: Instant) -> u64 {
    u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stood_still_makes_unsure_for_a_while() {
        let at = |millis| Instant::from_start(Duration::from_millis(millis));
        let (patience, doubt) = (Duration::from_millis(300), Duration::from_millis(1000));
        let pulse = Pulse::default();
        for tick in 0..5 {
            pulse.ticked(at(tick * 100), patience, doubt);
        }
        assert!(pulse.is_sure(at(410)));
        assert!(pulse.is_sure(at(700)));
        assert!(!pulse.is_sure(at(701)), "no tick for more than three");
        pulse.ticked(at(5000), patience, doubt);
        assert!(!pulse.is_sure(at(5001)), "it has just woken up");
        for tick in 50..=60 {
            pulse.ticked(at(tick * 100), patience, doubt);
        }
        assert!(pulse.is_sure(at(6000)));
    }
}
