//! Linearizable reads, the leader's and the followers' part.
//!
//! Rules: go.etcd.io/raft/v3 v3.7.0 raft.go (MsgReadIndex, MsgReadIndexResp). One is stricter here: a lone voter, too,
//! answers only when it has committed in its term. After a restart its commit index is as old as the last hard state that
//! reached the disk, so what was acknowledged before may lie behind it.

use bytes::Bytes;

use crate::core::Raft;
use crate::error::Dropped;
use crate::message::{Entry, Message, MessageKind, NONE};
use crate::output::{ReadState, Role};
use crate::reads::ReadRequest;

impl Raft {
    pub(crate) fn handle_read_index(&mut self, from: u64, context: Bytes) -> Result<(), Dropped> {
        match self.role {
            Role::Leader => {}
            Role::Follower if self.leader != NONE => {
                let mut message = Message::new(MessageKind::ReadIndex, self.leader, from, 0);
                message.entries = vec![Entry {
                    data: context,
                    ..Entry::default()
                }];
                self.send(message);
                return Ok(());
            }
            _ => return Err(Dropped::NoLeader),
        }
        if self.reads.len() >= self.config.reads_max {
            return Err(Dropped::Reads);
        }
        let request = ReadRequest { from, context };
        if self.has_committed_in_term() {
            self.begin_read(request);
            self.confirm_round();
        } else {
            self.reads.hold(request);
        }
        Ok(())
    }

    /// The first commit of the term has come: the requests that waited for it begin.
    pub(crate) fn release_reads(&mut self) {
        let held = self.reads.take_held();
        if held.is_empty() {
            return;
        }
        debug_assert!(
            self.has_committed_in_term(),
            "reads begin with a commit in the term"
        );
        for request in held {
            self.begin_read(request);
        }
        self.confirm_round();
    }

    fn begin_read(&mut self, request: ReadRequest) {
        let index = self.log.commit();
        if self.is_lone_voter() {
            self.answer_read(request, index);
        } else {
            self.reads.wait(request, index);
        }
    }

    /// Asks everybody whether this member still leads; its own word counts at once.
    fn confirm_round(&mut self) {
        let Some(newest) = self.reads.newest() else { return };
        if let Some(place) = self.place(self.config.id) {
            self.peers[place].read_ack = newest;
        }
        self.broadcast_heartbeat();
    }

    /// Answers the requests that a majority has confirmed.
    pub(crate) fn confirm_reads(&mut self) {
        let confirmed = self.reached(|peer| peer.read_ack);
        while let Some((request, index)) = self.reads.pop_confirmed(confirmed) {
            self.answer_read(request, index);
        }
    }

    fn answer_read(&mut self, request: ReadRequest, index: u64) {
        if request.from == self.config.id {
            if let Ok(context) = request.context[..].try_into() {
                self.read_states.push(ReadState {
                    context: u64::from_be_bytes(context),
                    index,
                });
            }
            return;
        }
        let mut message = self.message(MessageKind::ReadIndexResponse, request.from);
        message.index = index;
        message.entries = vec![Entry {
            data: request.context,
            ..Entry::default()
        }];
        self.send(message);
    }
}
