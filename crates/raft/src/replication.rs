//! Replication: proposals, appends and their answers, heartbeats, snapshots, commits, on both sides.
//!
//! Rules: go.etcd.io/raft/v3 raft.go (maybeSendAppend, stepLeader, handleAppendEntries, handleSnapshot, restore).

use crate::core::Raft;
use crate::error::{Dropped, Error, Fatal};
use crate::message::{Entry, EntryKind, Message, MessageKind, NONE, Snapshot};
use crate::output::{PeerState, Role};

impl Raft {
    /// Takes entries into the log if this member leads, or sends them to who does.
    pub(crate) fn handle_propose(&mut self, from: u64, mut entries: Vec<Entry>) -> Result<(), Dropped> {
        match self.role {
            Role::Leader => {}
            Role::Follower if self.leader != NONE => {
                let mut message = Message::new(MessageKind::Propose, self.leader, from, 0);
                message.entries = entries;
                self.send(message);
                return Ok(());
            }
            _ => return Err(Dropped::NoLeader),
        }
        if self.place(self.config.id).is_none() {
            return Err(Dropped::Removed);
        }
        if self.transferee != NONE {
            return Err(Dropped::Transferring);
        }
        // Before the size is looked at, since a change that may not be becomes an empty entry.
        let pending_conf_index = self.gate_conf_changes(&mut entries);
        // If nothing else is uncommitted, an entry of any size is taken; an empty one always is.
        let bytes: u64 = entries.iter().map(|entry| entry.data.len() as u64).sum();
        let total = self.uncommitted_bytes.saturating_add(bytes);
        if self.uncommitted_bytes > 0 && bytes > 0 && total > self.config.uncommitted_bytes_max {
            return Err(Dropped::Uncommitted);
        }
        self.pending_conf_index = pending_conf_index;
        self.append_own(entries);
        self.broadcast_append();
        Ok(())
    }

    /// One membership change at a time: another one, before the last is applied, becomes an empty entry. Returns where the
    /// last change is if the entries are appended. (Go remembers it also if they are dropped.)
    fn gate_conf_changes(&self, entries: &mut [Entry]) -> u64 {
        let mut pending = self.pending_conf_index;
        for (index, entry) in (self.log.last() + 1..).zip(entries) {
            if entry.kind == EntryKind::Normal {
                continue;
            }
            if pending > self.log.applied() {
                *entry = Entry::default();
            } else {
                pending = index;
            }
        }
        pending
    }

    /// Appends entries of this leader's own term. They count for the quorum when [`Raft::persisted`] says so.
    pub(crate) fn append_own(&mut self, entries: Vec<Entry>) {
        for mut entry in entries {
            entry.term = self.term;
            entry.index = self.log.last() + 1;
            self.uncommitted_bytes = self.uncommitted_bytes.saturating_add(entry.data.len() as u64);
            self.log.append(entry);
        }
    }

    /// This leader's disk has come further.
    pub(crate) fn acknowledge_own_log(&mut self) {
        let durable = self.log.durable();
        if let Some(place) = self.place(self.config.id)
            && self.peers[place].update(durable)
            && self.maybe_commit()
        {
            self.after_commit();
        }
    }

    /// Commits what a majority holds, if it is of this term. Returns whether that moved anything.
    ///
    /// Entries of earlier terms are never committed by counting (Raft, section 5.4.2).
    pub(crate) fn maybe_commit(&mut self) -> bool {
        let reached = self.reached(|peer| peer.matched);
        let before = self.log.commit();
        if reached <= before || !self.log.matches(reached, self.term) {
            return false;
        }
        self.log.commit_to(reached);
        let committed = self.log.payload_bytes(before, reached, self.term);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(committed);
        true
    }

    /// Tells everybody of a new commit index, and answers reads that waited for the first of the term.
    pub(crate) fn after_commit(&mut self) {
        self.release_reads();
        self.broadcast_append();
    }

    /// Whether the last committed entry is of this term, so that the commit index is known to be the cluster's.
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term(self.log.commit()) == Some(self.term)
    }

    pub(crate) fn broadcast_append(&mut self) {
        for place in 0..self.peers.len() {
            if self.peers[place].id != self.config.id {
                self.send_append(place, true);
            }
        }
    }

    /// Sends what a member lacks, or a snapshot if the log no longer holds it. Without `even_empty`, only if there are
    /// entries to send. Returns whether something was sent.
    pub(crate) fn send_append(&mut self, place: usize, even_empty: bool) -> bool {
        let peer = &self.peers[place];
        if peer.is_paused() {
            return false;
        }
        let previous = peer.next - 1;
        let Some(previous_term) = self.log.term(previous) else {
            return self.send_archived(place, even_empty);
        };
        // Into a full window goes only an empty message: if all in it were lost, its answer reopens the window.
        let entries = if peer.state == PeerState::Replicate && peer.inflights.is_full() {
            Vec::new()
        } else {
            self.log.from(peer.next, self.config.message_bytes_max)
        };
        if entries.is_empty() && !even_empty {
            return false;
        }
        self.send_entries(place, previous_term, entries);
        true
    }

    /// Asks the caller to send a snapshot, if the member lives.
    ///
    /// The message names a place only, the last that is applied. The caller puts in a state of its own choice, not older,
    /// with its membership: the one in effect here may already be that of the next entry.
    pub(crate) fn send_snapshot(&mut self, place: usize) -> bool {
        if !self.peers[place].recent_active {
            return false;
        }
        let index = self.log.applied();
        let Some(term) = self.log.term(index) else {
            return false;
        };
        self.peers[place].become_snapshot(index);
        // Only what this leader wrote itself is one and the same in all that the disk has of its term.
        self.peers[place].archived_from = (term == self.term).then_some(index);
        let mut message = self.message(MessageKind::Snapshot, self.peers[place].id);
        message.snapshot = Some(Snapshot {
            index,
            term,
            ..Snapshot::default()
        });
        self.send(message);
        true
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        let context = self.reads.heartbeat_context();
        for place in 0..self.peers.len() {
            if self.peers[place].id == self.config.id {
                continue;
            }
            let peer = &mut self.peers[place];
            // The member may not hold all that is committed, so it is told no more than what it is known to hold.
            let commit = peer.matched.min(self.log.commit());
            peer.sent_commit(commit);
            let mut message = self.message(MessageKind::Heartbeat, self.peers[place].id);
            message.commit = commit;
            message.context = context.clone();
            self.send(message);
        }
    }

    pub(crate) fn handle_append_response(&mut self, message: &Message) -> Result<(), Error> {
        if message.index > self.log.last() {
            let what = "an answer about entries that were never sent";
            return Err(Error::PeerMisbehaved {
                from: message.from,
                what,
            });
        }
        let Some(place) = self.place(message.from) else {
            return Ok(());
        };
        self.peers[place].recent_active = true;
        if message.reject {
            self.handle_rejection(place, message);
            return Ok(());
        }
        let first = self.log.first();
        let peer = &mut self.peers[place];
        let news = peer.update(message.index);
        // A probe may find that nothing was missing; it is over all the same.
        let probed = peer.matched == message.index && peer.state == PeerState::Probe;
        if !news && !probed {
            return Ok(());
        }
        match peer.state {
            PeerState::Probe => peer.become_replicate(),
            PeerState::Snapshot if peer.matched + 1 >= first => {
                // Whatever snapshot it was, the log can take over from here.
                peer.become_probe();
                peer.become_replicate();
            }
            PeerState::Snapshot => {}
            PeerState::Replicate => peer.inflights.free_to(message.index),
        }
        if self.maybe_commit() {
            self.after_commit();
        } else if self.peers[place].can_bump_commit(self.log.commit()) {
            self.send_append(place, true);
        }
        // Room in the window may be room for more than one message.
        while self.send_append(place, false) {}
        let caught_up = self.peers[place].matched == self.log.last();
        if message.from == self.transferee && caught_up {
            self.send_timeout_now(message.from);
        }
        Ok(())
    }

    fn handle_rejection(&mut self, place: usize, message: &Message) {
        // The member says: my entry at the hint has this term. All entries here with a greater term, up to the hint,
        // cannot be in its log, so none of them need be probed.
        let hint = if message.log_term > 0 {
            self.log
                .find_conflict_by_term(message.reject_hint, message.log_term)
                .0
        } else {
            message.reject_hint
        };
        let peer = &mut self.peers[place];
        if peer.decrease(message.index, hint) {
            if peer.state == PeerState::Replicate {
                peer.become_probe();
            }
            self.send_append(place, true);
        }
    }

    pub(crate) fn handle_heartbeat_response(&mut self, message: &Message) {
        let Some(place) = self.place(message.from) else {
            return;
        };
        let peer = &mut self.peers[place];
        peer.recent_active = true;
        peer.paused = false;
        // In a probe also to one that lacks nothing: the answer makes it replicate again.
        if peer.matched < self.log.last() || peer.state == PeerState::Probe {
            self.send_append(place, true);
        }
        if let Some(number) = self.reads.parse_ack(&message.context) {
            let peer = &mut self.peers[place];
            peer.read_ack = peer.read_ack.max(number);
            self.confirm_reads();
        }
    }

    pub(crate) fn handle_append(&mut self, message: Message) -> Result<(), Error> {
        if let Some(entry) = message
            .entries
            .iter()
            .find(|entry| entry.kind == EntryKind::ConfChangeV2)
        {
            return Err(Fatal::JointConsensus { index: entry.index }.into());
        }
        self.log.refuse_conflict(&message)?;
        let mut response = self.message(MessageKind::AppendResponse, message.from);
        if message.index < self.log.commit() {
            // Old news; the leader may want to know how far this log agrees for certain.
            response.index = self.log.commit();
            self.send_durably(response);
            return Ok(());
        }
        match self
            .log
            .maybe_append(message.index, message.log_term, message.entries, message.commit)
        {
            Some(last) => response.index = last,
            None => {
                let from = message.index.min(self.log.last());
                (response.reject_hint, response.log_term) =
                    self.log.find_conflict_by_term(from, message.log_term);
                response.index = message.index;
                response.reject = true;
            }
        }
        self.send_durably(response);
        Ok(())
    }

    pub(crate) fn handle_heartbeat(&mut self, message: Message) -> Result<(), Error> {
        if message.commit > self.log.last() {
            // The leader only tells what this member has acknowledged.
            return Err(Fatal::LogLost {
                commit: message.commit,
                last: self.log.last(),
            }
            .into());
        }
        self.log.commit_to(message.commit);
        let mut response = self.message(MessageKind::HeartbeatResponse, message.from);
        // Verbatim: leaders of other versions put other things in.
        response.context = message.context;
        self.send(response);
        Ok(())
    }

    pub(crate) fn handle_snapshot(&mut self, message: Message) -> Result<(), Error> {
        let snapshot = message
            .snapshot
            .expect("a snapshot message has one: checked at the door");
        self.restore(snapshot)?;
        let mut response = self.message(MessageKind::AppendResponse, message.from);
        // The last entry if it was taken, since the log is then empty; the commit index if it was not.
        response.index = self.log.commit();
        self.send_durably(response);
        Ok(())
    }

    /// Begins anew with the leader's state, if this member lacks any of it.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        if snapshot.index <= self.log.commit() {
            return Ok(());
        }
        if snapshot.conf_state.is_joint() {
            return Err(Fatal::JointConsensus {
                index: snapshot.index,
            }
            .into());
        }
        // A member that is not in the membership could not take part in what follows.
        if !snapshot.conf_state.contains(self.config.id) {
            return Ok(());
        }
        if self.log.matches(snapshot.index, snapshot.term) {
            // The log holds all of it; only the news that it is committed was missing.
            self.log.commit_to(snapshot.index);
            return Ok(());
        }
        let conf_state = snapshot.conf_state.clone();
        self.members_index = snapshot.index;
        self.log.restore(snapshot);
        self.restore_members(&conf_state);
        Ok(())
    }

    /// The last message to a member could not be sent.
    pub fn report_unreachable(&mut self, id: u64) {
        if self.role == Role::Leader
            && let Some(place) = self.place(id)
            && self.peers[place].state == PeerState::Replicate
        {
            // What was on its way is likely lost.
            self.peers[place].become_probe();
        }
    }

    /// A snapshot message to a member has left completely, or not.
    pub fn report_snapshot(&mut self, id: u64, sent: bool) {
        if self.role == Role::Leader
            && let Some(place) = self.place(id)
            && self.peers[place].state == PeerState::Snapshot
        {
            let peer = &mut self.peers[place];
            if !sent {
                // Probing must not begin after a snapshot that never came.
                peer.pending_snapshot = 0;
            }
            peer.become_probe();
            // If it was sent, its answer says where to go on; if not, the next heartbeat is soon enough.
            peer.paused = true;
        }
    }

    /// Hands leadership to a member, if this one leads or knows who does. It ends when another leads, or after an
    /// election timeout.
    pub fn transfer(&mut self, to: u64) {
        match self.role {
            Role::Leader => self.begin_transfer(to),
            Role::Follower if self.leader != NONE && to != NONE => {
                // The message comes "from" who shall lead, not from who sends it. That may be who leads: then it is to stay,
                // and another transfer ends.
                let message = Message::new(MessageKind::TransferLeader, self.leader, to, self.term);
                self.send(message);
            }
            _ => {}
        }
    }

    fn begin_transfer(&mut self, to: u64) {
        let Some(place) = self.place(to) else { return };
        if self.peers[place].learner || self.transferee == to {
            return;
        }
        // A new wish ends the old one, also the wish that this member stay leader.
        self.transferee = NONE;
        if to == self.config.id {
            return;
        }
        self.election_elapsed = 0;
        self.transferee = to;
        if self.peers[place].matched == self.log.last() {
            self.send_timeout_now(to);
        } else {
            self.send_append(place, true);
        }
    }

    fn send_timeout_now(&mut self, to: u64) {
        let message = self.message(MessageKind::TimeoutNow, to);
        self.send(message);
    }
}
