//! Entries that are on the disk and no longer in memory, for a member that was sent a snapshot: what was written while it
//! was on its way need not be held in memory, nor make another snapshot necessary.
//!
//! Go keeps such entries in memory without a bound (etcdserver/server.go, inflightSnapshots). Never used before
//! [`Raft::use_archive`].

use crate::core::Raft;
use crate::message::{Entry, MessageKind};
use crate::output::{PeerState, Role};

/// Messages with fetched entries that may be on their way to one member: they are in memory.
const FETCHED_INFLIGHT_MAX: usize = 4;

/// Entries to read from the disk for a member: all of one term, which is that of the leader who wants them, so that no
/// other version of them was ever written in that term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// For whom.
    pub id: u64,
    /// The term of the entries, and of the one before them.
    pub term: u64,
    /// The index before the first.
    pub previous: u64,
    /// The last index that may be given; less is enough.
    pub last: u64,
    /// Bytes that they may weigh together, unless there is only one.
    pub bytes_max: u64,
}

impl Raft {
    /// From now on the caller asks [`Raft::take_wanted`] after each [`Raft::poll`], and answers each with
    /// [`Raft::fetched`].
    pub fn use_archive(&mut self) {
        self.archive = true;
    }

    /// What is to be read from the disk.
    pub fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.wanted)
    }

    /// Whether this member leads, and another still lacks entries that are to be read from the disk for it.
    #[must_use]
    pub fn reads_archive_for(&self, id: u64) -> bool {
        let peer = self.place(id).map(|place| &self.peers[place]);
        self.role == Role::Leader
            && peer.is_some_and(|peer| peer.archived_from.is_some() && peer.next < self.log.first())
    }

    /// The entries after `wanted.previous`, in order and without a gap; none if the disk no longer has them.
    pub fn fetched(&mut self, wanted: Wanted, entries: Vec<Entry>) {
        let Some(place) = self.place(wanted.id) else {
            return;
        };
        if self.role != Role::Leader
            || self.term != wanted.term
            || self.peers[place].fetching != Some(wanted.previous)
        {
            return;
        }
        let peer = &mut self.peers[place];
        peer.fetching = None;
        if entries.is_empty() {
            peer.archived_from = None;
        }
        let fits = peer.next == wanted.previous + 1 && !peer.is_paused() && !entries.is_empty();
        if fits {
            self.send_entries(place, wanted.term, entries);
        }
        self.send_append(place, !fits);
        self.check();
    }

    /// Wants what a member lacks from the disk, if it was sent a snapshot that goes that far; else sends one. Returns
    /// whether something was sent.
    pub(crate) fn send_archived(&mut self, place: usize, even_empty: bool) -> bool {
        let peer = &self.peers[place];
        let previous = peer.next - 1;
        if !self.archive || peer.archived_from.is_none_or(|from| previous < from) {
            return self.send_snapshot(place);
        }
        let is_busy = peer.state == PeerState::Replicate && peer.inflights.len() >= FETCHED_INFLIGHT_MAX;
        if is_busy && even_empty {
            // If all that is on its way was lost, the answer to an empty message shows it. Which is enough for now.
            self.send_entries(place, self.term, Vec::new());
            self.peers[place].paused = true;
            return true;
        }
        if !is_busy && peer.fetching.is_none() {
            let wanted = Wanted {
                id: peer.id,
                term: self.term,
                previous,
                last: self.log.first() - 1,
                bytes_max: self.config.message_bytes_max,
            };
            self.peers[place].fetching = Some(previous);
            self.wanted.push(wanted);
        }
        false
    }

    /// Sends entries that follow what was sent before, of which the last has this term.
    pub(crate) fn send_entries(&mut self, place: usize, previous_term: u64, entries: Vec<Entry>) {
        let commit = self.log.commit();
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        let peer = &mut self.peers[place];
        let previous = peer.next - 1;
        peer.sent_entries(entries.len() as u64, bytes);
        peer.sent_commit(commit);
        let mut message = self.message(MessageKind::Append, self.peers[place].id);
        message.index = previous;
        message.log_term = previous_term;
        message.entries = entries;
        message.commit = commit;
        self.send(message);
    }
}
