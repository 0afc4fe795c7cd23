//! What a leader knows of one member: how far its log agrees, what is on its way to it, whether it lives.
//!
//! Rules: go.etcd.io/raft/v3 tracker/progress.go and tracker/inflights.go.

use std::collections::VecDeque;

use crate::output::PeerState;

/// One member, itself included.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) id: u64,
    pub(crate) learner: bool,
    /// The logs agree up to here, durably on the member's side.
    pub(crate) matched: u64,
    /// The next entry to send. Invariant: `matched < next`.
    pub(crate) next: u64,
    /// The greatest commit index that is on its way.
    sent_commit: u64,
    pub(crate) state: PeerState,
    /// Index of the snapshot on its way; 0 outside [`PeerState::Snapshot`].
    pub(crate) pending_snapshot: u64,
    /// Entries after this index may be read from the disk for it: those since its last snapshot.
    pub(crate) archived_from: Option<u64>,
    /// Entries after this index are being read for it.
    pub(crate) fetching: Option<u64>,
    /// Heard of since the last check of the quorum.
    pub(crate) recent_active: bool,
    /// Appends wait for an answer or the next heartbeat response.
    pub(crate) paused: bool,
    pub(crate) inflights: Inflights,
    /// Its vote in the running election.
    pub(crate) vote: Option<bool>,
    /// The latest read context that it confirmed in this term.
    pub(crate) read_ack: u64,
}

impl Progress {
    /// A member that was just added. It counts as active, so that a leader does not step down over a member that had no
    /// chance yet to speak.
    pub(crate) fn new(id: u64, learner: bool, last_index: u64, inflights: Inflights) -> Progress {
        Progress {
            id,
            learner,
            matched: 0,
            next: last_index.max(1),
            sent_commit: 0,
            state: PeerState::Probe,
            pending_snapshot: 0,
            archived_from: None,
            fetching: None,
            recent_active: true,
            paused: false,
            inflights,
            vote: None,
            read_ack: 0,
        }
    }

    /// Forgets all but who it is, for a new term or role.
    pub(crate) fn reset(&mut self, last_index: u64) {
        self.matched = 0;
        self.next = last_index + 1;
        self.sent_commit = 0;
        self.enter(PeerState::Probe);
        self.archived_from = None;
        self.fetching = None;
        self.recent_active = false;
        self.vote = None;
        self.read_ack = 0;
    }

    fn enter(&mut self, state: PeerState) {
        self.paused = false;
        self.pending_snapshot = 0;
        self.state = state;
        self.inflights.clear();
    }

    /// Sends one message at a time from now on. A snapshot that has arrived moves the place where probing begins.
    pub(crate) fn become_probe(&mut self) {
        let after_snapshot = self.pending_snapshot;
        self.enter(PeerState::Probe);
        self.next = (self.matched + 1).max(after_snapshot + 1);
        self.sent_commit = self.sent_commit.min(self.next - 1);
    }

    /// Sends a stream from now on.
    pub(crate) fn become_replicate(&mut self) {
        self.enter(PeerState::Replicate);
        self.next = self.matched + 1;
    }

    /// Waits for a snapshot to arrive.
    pub(crate) fn become_snapshot(&mut self, index: u64) {
        self.enter(PeerState::Snapshot);
        self.pending_snapshot = index;
        self.next = index + 1;
        self.sent_commit = index;
    }

    /// An append message with so many entries was sent.
    pub(crate) fn sent_entries(&mut self, count: u64, bytes: u64) {
        debug_assert!(
            self.state != PeerState::Snapshot,
            "no append is sent while a snapshot is on its way"
        );
        if self.state == PeerState::Replicate {
            if count > 0 {
                self.next += count;
                self.inflights.add(self.next - 1, bytes);
            }
            // A message that fills the window is itself a probe: the rest waits for its answer.
            self.paused = self.inflights.is_full();
        } else if count > 0 {
            self.paused = true;
        }
    }

    /// Whether telling the commit index now could move the member's commit.
    pub(crate) fn can_bump_commit(&self, commit: u64) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next - 1
    }

    /// A message with this commit index was sent. It may be lower than the last one: a heartbeat says no more than what
    /// is known to match.
    pub(crate) fn sent_commit(&mut self, commit: u64) {
        self.sent_commit = commit;
    }

    /// The member's log agrees up to `index`. Returns whether that is news.
    pub(crate) fn update(&mut self, index: u64) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index + 1);
        self.paused = false;
        true
    }

    /// The member refused entries after `rejected` and hints that the logs may agree at `hint`. Returns whether that is
    /// news, and moves `next` back.
    pub(crate) fn decrease(&mut self, rejected: u64, hint: u64) -> bool {
        if self.state == PeerState::Replicate {
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched + 1;
            self.sent_commit = self.sent_commit.min(self.next - 1);
            return true;
        }
        // A probe is one message; an answer to any other place is old.
        if self.next - 1 != rejected {
            return false;
        }
        self.next = rejected.min(hint + 1).max(self.matched + 1);
        self.sent_commit = self.sent_commit.min(self.next - 1);
        self.paused = false;
        true
    }

    /// Whether nothing may be sent now.
    pub(crate) fn is_paused(&self) -> bool {
        self.state == PeerState::Snapshot || self.paused
    }
}

/// The append messages on their way to one member: last index and bytes of each, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Inflights {
    window: VecDeque<(u64, u64)>,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
}

impl Inflights {
    pub(crate) fn new(messages_max: usize, bytes_max: u64) -> Inflights {
        Inflights {
            window: VecDeque::new(),
            bytes: 0,
            messages_max,
            bytes_max,
        }
    }

    pub(crate) fn add(&mut self, index: u64, bytes: u64) {
        debug_assert!(!self.is_full(), "nothing is sent into a full window");
        self.window.push_back((index, bytes));
        self.bytes += bytes;
    }

    /// All messages up to this index have been answered.
    pub(crate) fn free_to(&mut self, index: u64) {
        while let Some(&(last, bytes)) = self.window.front() {
            if last > index {
                break;
            }
            self.bytes -= bytes;
            self.window.pop_front();
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.window.len() >= self.messages_max || self.bytes >= self.bytes_max
    }

    pub(crate) fn len(&self) -> usize {
        self.window.len()
    }

    fn clear(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Inflights, Progress};
    use crate::output::PeerState;

    fn replicating(matched: u64) -> Progress {
        let mut progress = Progress::new(2, false, 10, Inflights::new(3, 100));
        progress.update(matched);
        progress.become_replicate();
        progress
    }

    #[test]
    fn the_window_is_bounded_by_messages_and_by_bytes() {
        let mut window = Inflights::new(3, 100);
        window.add(1, 10);
        window.add(2, 10);
        assert!(!window.is_full());
        window.add(5, 10);
        assert!(window.is_full());
        window.free_to(1);
        assert_eq!((window.len(), window.is_full()), (2, false));
        window.add(6, 80);
        window.free_to(4);
        assert_eq!((window.len(), window.is_full()), (2, false));
        window.add(7, 10);
        window.free_to(5);
        assert_eq!(window.len(), 2);
        window.add(8, 10);
        assert!(window.is_full(), "100 bytes are on their way");
        window.free_to(8);
        assert_eq!((window.len(), window.bytes), (0, 0));
    }

    #[test]
    fn a_full_window_pauses_until_it_is_freed() {
        let mut progress = replicating(5);
        for _ in 0..3 {
            assert!(!progress.is_paused());
            progress.sent_entries(1, 1);
        }
        assert!(progress.is_paused());
        assert_eq!(progress.next, 9);
        progress.inflights.free_to(6);
        assert!(progress.update(6));
        assert!(!progress.is_paused());
    }

    #[test]
    fn a_probe_sends_one_message_and_only_its_own_rejection_counts() {
        let mut progress = Progress::new(2, false, 10, Inflights::new(3, 100));
        assert_eq!(progress.next, 10);
        progress.sent_entries(0, 0);
        assert!(!progress.is_paused(), "an empty probe does not pause");
        progress.sent_entries(2, 2);
        assert!(progress.is_paused());
        assert!(!progress.decrease(7, 3), "an answer to an older probe");
        assert!(progress.decrease(9, 3));
        assert_eq!((progress.next, progress.is_paused()), (4, false));
        assert!(progress.decrease(3, 9));
        assert_eq!(progress.next, 3, "the hint cannot move it forward");
    }

    #[test]
    fn a_rejection_in_a_stream_counts_only_beyond_what_matches() {
        let mut progress = replicating(5);
        progress.sent_entries(4, 4);
        assert!(!progress.decrease(5, 0));
        assert!(progress.decrease(9, 0));
        assert_eq!(progress.next, 6);
    }

    #[test]
    fn probing_begins_after_a_snapshot_that_arrived() {
        let mut progress = replicating(5);
        progress.become_snapshot(20);
        assert!(progress.is_paused());
        assert_eq!(progress.next, 21);
        progress.become_probe();
        assert_eq!((progress.state, progress.next), (PeerState::Probe, 21));
        progress.become_snapshot(30);
        progress.pending_snapshot = 0;
        progress.become_probe();
        assert_eq!(progress.next, 6, "a snapshot that failed changes nothing");
    }

    #[test]
    fn a_commit_is_told_once() {
        let mut progress = replicating(5);
        progress.sent_entries(4, 4);
        assert!(progress.can_bump_commit(7));
        progress.sent_commit(7);
        assert!(!progress.can_bump_commit(7));
        assert!(progress.can_bump_commit(8));
        progress.sent_commit(9);
        assert!(
            !progress.can_bump_commit(12),
            "it cannot commit what it was not sent"
        );
    }
}
