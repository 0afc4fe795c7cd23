//! Tells messages apart: what is garbage, what another term means, and whose rule a message falls under.
//!
//! Rules: go.etcd.io/raft/v3 raft.go, Step, stepLeader, stepCandidate, stepFollower. Go trusts its peers; here a message
//! that no correct member sends is refused before it changes anything.

use crate::core::{NUMBER_MAX, Raft};
use crate::error::Error;
use crate::message::{EntryKind, Message, MessageKind, NONE, Snapshot};
use crate::output::{ReadState, Role};

/// The most members that a snapshot may name. etcd's advice is seven; a thousand is a broken message.
const MEMBERS_MAX: usize = 1024;

/// With this context a vote is asked for on behalf of the leader, which overrides the loyalty to it (raft.go,
/// campaignTransfer).
pub(crate) const TRANSFER_CONTEXT: &[u8] = b"CampaignTransfer";

impl Raft {
    /// Takes a message. See [`Raft::step`].
    pub(crate) fn handle(&mut self, message: Message) -> Result<(), Error> {
        if let Err(what) = self.validate(&message) {
            return Err(Error::PeerMisbehaved {
                from: message.from,
                what,
            });
        }
        if message.kind.is_response() && self.place(message.from).is_none() {
            return Err(Error::UnknownPeer(message.from));
        }
        match message.kind {
            // Requests to whoever leads carry no term, since the sender's does not matter.
            MessageKind::Propose => {
                self.handle_propose(message.from, message.entries)?;
                return Ok(());
            }
            MessageKind::ReadIndex => {
                let context = message
                    .entries
                    .into_iter()
                    .next()
                    .expect("one entry was checked")
                    .data;
                self.handle_read_index(message.from, context)?;
                return Ok(());
            }
            _ => {}
        }
        if !self.settle_term(&message) {
            return Ok(());
        }
        match message.kind {
            MessageKind::Vote | MessageKind::PreVote => {
                self.handle_vote_request(&message);
                Ok(())
            }
            MessageKind::TransferLeader => {
                self.transfer(message.from);
                Ok(())
            }
            _ => match self.role {
                Role::Leader => self.step_leader(message),
                Role::Follower | Role::Candidate | Role::PreCandidate => self.step_other(message),
            },
        }
    }

    fn step_leader(&mut self, message: Message) -> Result<(), Error> {
        match message.kind {
            MessageKind::AppendResponse => self.handle_append_response(&message),
            MessageKind::HeartbeatResponse => {
                self.handle_heartbeat_response(&message);
                Ok(())
            }
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot => {
                Err(Error::PeerMisbehaved {
                    from: message.from,
                    what: "a second leader in the term",
                })
            }
            _ => Ok(()),
        }
    }

    fn step_other(&mut self, message: Message) -> Result<(), Error> {
        match message.kind {
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot => {
                if self.role == Role::Follower {
                    if self.leader != NONE && self.leader != message.from {
                        let what = "a second leader in the term";
                        return Err(Error::PeerMisbehaved {
                            from: message.from,
                            what,
                        });
                    }
                    self.election_elapsed = 0;
                    self.leader = message.from;
                } else {
                    self.become_follower(message.term, message.from);
                }
                match message.kind {
                    MessageKind::Append => self.handle_append(message),
                    MessageKind::Heartbeat => self.handle_heartbeat(message),
                    _ => self.handle_snapshot(message),
                }
            }
            MessageKind::VoteResponse if self.role == Role::Candidate => {
                self.handle_vote_response(&message);
                Ok(())
            }
            MessageKind::PreVoteResponse if self.role == Role::PreCandidate => {
                self.handle_vote_response(&message);
                Ok(())
            }
            MessageKind::TimeoutNow if self.role == Role::Follower => {
                // No pre-vote: the leader itself asks for it.
                self.hup(true);
                Ok(())
            }
            MessageKind::ReadIndexResponse if self.role == Role::Follower => {
                let context = &message.entries[0].data[..];
                if let Ok(context) = context.try_into() {
                    let context = u64::from_be_bytes(context);
                    self.read_states.push(ReadState {
                        context,
                        index: message.index,
                    });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Compares the message's term with this member's. Returns whether the message is to be taken further.
    fn settle_term(&mut self, message: &Message) -> bool {
        let kind = message.kind;
        let from_leader = matches!(
            kind,
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot
        );
        if message.term > self.term {
            let asks_vote = matches!(kind, MessageKind::Vote | MessageKind::PreVote);
            if asks_vote && message.context[..] != *TRANSFER_CONTEXT && self.is_loyal() {
                return false;
            }
            // A pre-vote asks about a term that has not begun; so does its grant.
            let future =
                kind == MessageKind::PreVote || (kind == MessageKind::PreVoteResponse && !message.reject);
            if !future {
                self.become_follower(message.term, if from_leader { message.from } else { NONE });
            }
            return true;
        }
        if message.term == self.term {
            return true;
        }
        let guarded = self.config.check_quorum || self.config.pre_vote;
        if guarded && matches!(kind, MessageKind::Append | MessageKind::Heartbeat) {
            // A leader of an older term would not learn of ours otherwise: with pre-vote or check-quorum nobody raises
            // its term for it, and this member could neither win nor join.
            let response = self.message(MessageKind::AppendResponse, message.from);
            self.send_durably(response);
        } else if kind == MessageKind::PreVote {
            // A candidate that switched to pre-vote with an older term would ask for ever.
            let mut response = self.message(MessageKind::PreVoteResponse, message.from);
            response.reject = true;
            self.send_durably(response);
        }
        false
    }

    /// Whether a leader lives, as far as this member can tell, so that nobody else gets its vote.
    fn is_loyal(&self) -> bool {
        self.config.check_quorum && self.leader != NONE && self.election_elapsed < self.config.election_ticks
    }

    /// Refuses what no correct member sends.
    fn validate(&self, message: &Message) -> Result<(), &'static str> {
        if message.to != self.config.id {
            return Err("it is for somebody else");
        }
        if message.from == NONE {
            return Err("it is from nobody");
        }
        let numbers = [
            message.term,
            message.log_term,
            message.index,
            message.commit,
            message.reject_hint,
        ];
        if numbers.iter().any(|number| *number > NUMBER_MAX) {
            return Err("a number is out of range");
        }
        match message.kind {
            MessageKind::Propose => {
                if message.entries.is_empty() {
                    return Err("an empty proposal");
                }
                if message
                    .entries
                    .iter()
                    .any(|entry| entry.kind == EntryKind::ConfChangeV2)
                {
                    return Err("a proposal of a ConfChangeV2");
                }
                return Ok(());
            }
            MessageKind::ReadIndex => {
                return if message.entries.len() == 1 {
                    Ok(())
                } else {
                    Err("a read request without context")
                };
            }
            _ => {}
        }
        // A request that this member forwarded comes back if it has become leader meanwhile; and who shall lead may be
        // the leader itself. All else comes from others.
        if message.from == self.config.id && message.kind != MessageKind::TransferLeader {
            return Err("it is from this member itself");
        }
        if message.term == 0 {
            return Err("it has no term");
        }
        match message.kind {
            MessageKind::Append => validate_append(message),
            MessageKind::Snapshot => match &message.snapshot {
                Some(snapshot) => validate_snapshot(snapshot, message.term),
                None => Err("a snapshot message without snapshot"),
            },
            MessageKind::ReadIndexResponse if message.entries.len() != 1 => {
                Err("a read response without context")
            }
            // A candidate's log may be of the term that it asks for, or a later one: Go restarts in the term that is stored, and
            // a crash may keep a write's entries and lose its term. It must be answered, or it would ask for ever.
            _ => Ok(()),
        }
    }
}

/// Entries follow each other and their terms never fall, nor exceed the leader's.
fn validate_append(message: &Message) -> Result<(), &'static str> {
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in &message.entries {
        if entry.index != index + 1 {
            return Err("entries that do not follow each other");
        }
        if entry.term < term {
            return Err("entries whose terms fall");
        }
        (index, term) = (entry.index, entry.term);
        if index > NUMBER_MAX {
            return Err("a number is out of range");
        }
    }
    if term > message.term {
        return Err("an entry of a later term than its leader's");
    }
    Ok(())
}

fn validate_snapshot(snapshot: &Snapshot, term: u64) -> Result<(), &'static str> {
    if snapshot.index == 0 || snapshot.index > NUMBER_MAX {
        return Err("a snapshot of nothing");
    }
    if snapshot.term > term {
        return Err("a snapshot of a later term than its leader's");
    }
    let members = &snapshot.conf_state;
    if members.voters.len() + members.learners.len() > MEMBERS_MAX {
        return Err("a snapshot with too many members");
    }
    let mut ids: Vec<u64> = members.voters.iter().chain(&members.learners).copied().collect();
    ids.sort_unstable();
    if ids.first() == Some(&NONE) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a snapshot whose members make no sense");
    }
    Ok(())
}
