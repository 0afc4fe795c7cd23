//! Membership: one change at a time, in effect when it is applied.
//!
//! Rules: go.etcd.io/raft/v3 confchange/confchange.go (Simple) and raft.go (switchToConfig). Joint configurations do not
//! exist here.

use crate::core::Raft;
use crate::error::Fatal;
use crate::message::{ConfChange, ConfChangeKind, ConfState, NONE};
use crate::output::Role;

impl Raft {
    /// Takes a committed change into effect and returns the new membership. To be called for each committed
    /// [`crate::EntryKind::ConfChange`] entry, with its index, before [`Raft::applied`] covers it; for one that the
    /// application refused, with `node_id` [`NONE`].
    ///
    /// What a snapshot from the leader holds already changes nothing: the application may still be at an entry before it.
    ///
    /// A leader that is removed goes on leading, without counting itself, until it is stopped: etcd stops a removed
    /// member a second later, and by then its followers know of the commit.
    pub fn apply_conf_change(&mut self, index: u64, change: ConfChange) -> Result<ConfState, Fatal> {
        if index <= self.members_index {
            return Ok(self.conf_state());
        }
        let id = change.node_id;
        if id != NONE {
            match change.kind {
                ConfChangeKind::AddNode => self.add_member(id, false),
                ConfChangeKind::AddLearnerNode => {
                    self.refuse_last_voter(id)?;
                    self.add_member(id, true);
                }
                ConfChangeKind::RemoveNode => {
                    self.refuse_last_voter(id)?;
                    if let Some(place) = self.place(id) {
                        self.peers.remove(place);
                    }
                }
                ConfChangeKind::UpdateNode => {}
            }
        }
        self.membership_changed();
        Ok(self.conf_state())
    }

    fn refuse_last_voter(&self, id: u64) -> Result<(), Fatal> {
        let mut voters = self.peers.iter().filter(|peer| !peer.learner);
        let last = voters.next().is_some_and(|peer| peer.id == id) && voters.next().is_none();
        if last {
            Err(Fatal::LastVoter { id })
        } else {
            Ok(())
        }
    }

    /// Adds a member, or makes a known one a voter or learner without forgetting how far it has come.
    fn add_member(&mut self, id: u64, learner: bool) {
        match self.peers.binary_search_by_key(&id, |peer| peer.id) {
            Ok(place) => self.peers[place].learner = learner,
            Err(place) => {
                let progress = self.new_progress(id, learner);
                self.peers.insert(place, progress);
            }
        }
    }

    /// What a leader does when the membership has changed.
    fn membership_changed(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        if self.peer(self.config.id).is_none_or(|own| own.learner) {
            return;
        }
        if self.maybe_commit() {
            // The new majority may be smaller.
            self.after_commit();
        } else {
            // A new member need not wait for the next heartbeat.
            for place in 0..self.peers.len() {
                if self.peers[place].id != self.config.id {
                    self.send_append(place, false);
                }
            }
        }
        self.confirm_reads();
        if self.peer(self.transferee).is_none_or(|peer| peer.learner) {
            self.transferee = NONE;
        }
    }

    /// Replaces the whole membership.
    pub(crate) fn restore_members(&mut self, members: &ConfState) {
        self.peers.clear();
        for id in members.voters.iter().filter(|id| **id != NONE) {
            self.add_member(*id, false);
        }
        for id in members.learners.iter().filter(|id| **id != NONE) {
            self.add_member(*id, true);
        }
    }
}
