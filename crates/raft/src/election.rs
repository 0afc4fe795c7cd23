//! Elections: timeouts, campaigns, votes, and what a member becomes.
//!
//! Rules: go.etcd.io/raft/v3 raft.go (tickElection, tickHeartbeat, hup, campaign, become*, reset).

use bytes::Bytes;

use crate::core::{NUMBER_MAX, Raft};
use crate::message::{Entry, Message, MessageKind, NONE};
use crate::output::Role;
use crate::quorum::{Tally, tally};
use crate::step::TRANSFER_CONTEXT;

/// How a member asks for votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Campaign {
    /// Asks what would be, and changes nothing.
    Pre,
    /// Asks in a new term.
    Election,
    /// Asks in a new term, on behalf of the leader.
    Transfer,
}

impl Raft {
    pub(crate) fn tick_election(&mut self) {
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        if self.election_elapsed >= self.election_timeout && self.is_promotable() {
            self.election_elapsed = 0;
            self.hup(false);
        }
    }

    pub(crate) fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        self.election_elapsed += 1;
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if self.config.check_quorum {
                self.check_quorum();
            }
            // The transfer had an election timeout to succeed.
            self.transferee = NONE;
        }
        if self.role == Role::Leader && self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// Steps down if no quorum was heard of since the last time.
    fn check_quorum(&mut self) {
        let own = self.config.id;
        // The leader hears itself, without having to note it.
        let heard = self.peers.iter().filter(|peer| !peer.learner);
        let active = tally(heard.map(|peer| Some(peer.recent_active || peer.id == own))) == Tally::Won;
        if !active {
            self.become_follower(self.term, NONE);
        }
        for peer in &mut self.peers {
            peer.recent_active = false;
        }
    }

    /// Whether this member could lead: it is a voter, and has a state to lead with.
    fn is_promotable(&self) -> bool {
        self.peer(self.config.id).is_some_and(|own| !own.learner) && !self.log.is_restoring()
    }

    /// Campaigns if it may. While a membership change is committed and not applied, this member does not know by whose
    /// votes it would win.
    pub(crate) fn hup(&mut self, transfer: bool) {
        if self.role == Role::Leader || !self.is_promotable() || self.log.has_unapplied_conf_change() {
            return;
        }
        self.start(match (transfer, self.config.pre_vote) {
            (true, _) => Campaign::Transfer,
            (false, true) => Campaign::Pre,
            (false, false) => Campaign::Election,
        });
    }

    fn start(&mut self, campaign: Campaign) {
        if self.term >= NUMBER_MAX {
            return;
        }
        let (kind, term) = if campaign == Campaign::Pre {
            self.become_pre_candidate();
            (MessageKind::PreVote, self.term + 1)
        } else {
            self.become_candidate();
            (MessageKind::Vote, self.term)
        };
        for place in 0..self.peers.len() {
            let (id, learner) = (self.peers[place].id, self.peers[place].learner);
            if learner || id == self.config.id {
                continue;
            }
            let mut message = Message::new(kind, id, self.config.id, term);
            message.index = self.log.last();
            message.log_term = self.log.last_term();
            if campaign == Campaign::Transfer {
                message.context = Bytes::from_static(TRANSFER_CONTEXT);
            }
            self.send_durably(message);
        }
        if campaign == Campaign::Pre {
            // Nothing is promised, so nothing must be durable before the own pre-vote counts. A vote counts when
            // `persisted` has reached it.
            self.record_vote(self.config.id, true);
            self.count_votes();
        }
    }

    /// This member's disk knows of the term, and so of the vote for itself.
    pub(crate) fn acknowledge_own_vote(&mut self) {
        if self.durable_term == self.term {
            self.record_vote(self.config.id, true);
            self.count_votes();
        }
    }

    pub(crate) fn handle_vote_response(&mut self, message: &Message) {
        self.record_vote(message.from, !message.reject);
        self.count_votes();
    }

    /// The first answer of a member counts.
    fn record_vote(&mut self, id: u64, granted: bool) {
        if let Some(place) = self.place(id) {
            self.peers[place].vote.get_or_insert(granted);
        }
    }

    fn count_votes(&mut self) {
        let result = tally(
            self.peers
                .iter()
                .filter(|peer| !peer.learner)
                .map(|peer| peer.vote),
        );
        match (result, self.role) {
            (Tally::Won, Role::PreCandidate) => self.start(Campaign::Election),
            // Requests for votes wait for the own disk, but whoever syncs may send them, and the answers may be here before
            // `persisted` is.
            (Tally::Won, Role::Candidate) if self.durable_term == self.term => {
                self.become_leader();
                self.broadcast_append();
            }
            (Tally::Lost, _) => self.become_follower(self.term, NONE),
            _ => {}
        }
    }

    pub(crate) fn handle_vote_request(&mut self, message: &Message) {
        let pre = message.kind == MessageKind::PreVote;
        let free = self.vote == message.from
            || (self.vote == NONE && self.leader == NONE)
            || (pre && message.term > self.term);
        // Learners vote too: one that has been promoted may not know it yet, and be needed for the quorum.
        let granted = free && self.log.is_up_to_date(message.index, message.log_term);
        let kind = if pre {
            MessageKind::PreVoteResponse
        } else {
            MessageKind::VoteResponse
        };
        // A grant carries the term that was asked about, since the candidate ignores what is older; a refusal carries
        // ours, so that the candidate may learn of it.
        let term = if granted { message.term } else { self.term };
        if granted && !pre {
            self.election_elapsed = 0;
            self.vote = message.from;
        }
        let mut response = Message::new(kind, message.from, self.config.id, term);
        response.reject = !granted;
        self.send_durably(response);
    }

    pub(crate) fn become_follower(&mut self, term: u64, leader: u64) {
        self.reset(term);
        self.role = Role::Follower;
        self.leader = leader;
    }

    fn become_candidate(&mut self) {
        debug_assert_ne!(self.role, Role::Leader, "a leader does not campaign");
        self.reset(self.term + 1);
        self.role = Role::Candidate;
        self.vote = self.config.id;
    }

    /// Changes neither term nor vote.
    fn become_pre_candidate(&mut self) {
        debug_assert_ne!(self.role, Role::Leader, "a leader does not campaign");
        self.reset_votes();
        self.role = Role::PreCandidate;
        self.leader = NONE;
    }

    fn become_leader(&mut self) {
        debug_assert_eq!(self.role, Role::Candidate, "only a candidate becomes leader");
        self.reset(self.term);
        self.role = Role::Leader;
        self.leader = self.config.id;
        let durable = self.log.durable();
        if let Some(place) = self.place(self.config.id) {
            let own = &mut self.peers[place];
            own.matched = durable;
            own.become_replicate();
            own.recent_active = true;
        }
        // A membership change may be anywhere in the tail; to wait for all of it is cheaper than to search.
        self.pending_conf_index = self.log.last();
        // What was left by earlier leaders commits with the first entry of the own term, and not before.
        self.append_own(vec![Entry::default()]);
    }

    fn reset_votes(&mut self) {
        for peer in &mut self.peers {
            peer.vote = None;
        }
    }

    /// Begins a role or term with nothing of the one before.
    fn reset(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.vote = NONE;
        }
        self.leader = NONE;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.draw_election_timeout();
        self.transferee = NONE;
        let last = self.log.last();
        for peer in &mut self.peers {
            peer.reset(last);
        }
        self.pending_conf_index = 0;
        self.uncommitted_bytes = 0;
        self.reads.reset();
    }
}
