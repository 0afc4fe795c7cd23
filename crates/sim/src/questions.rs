//! Questions to the leader for clients of other members (renewals, times of leases, promotions), on their
//! way through the network. Whoever cannot be asked is said to be silent, as the server's transport does.

use std::collections::BTreeMap;
use std::time::Duration;

use api::error::{self, Status};
use api::etcdserverpb::{LeaseKeepAliveResponse, LeaseTimeToLiveResponse, MemberPromoteResponse};
use bytes::Bytes;
use member::frontend::{Context, LeaseInfo, Outcome, PeerCall, Token};
use member::{Member, PeerAnswer, PeerQuestion, ToApply};
use prost::Message;

use crate::world::{Event, World};

/// The front that answers other members.
const FRONT: usize = 0;

/// The owner of calls of other members.
pub(crate) const PEERS: usize = 1_000_000;

/// How long a question waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question, or the answer to it.
pub(crate) struct QuestionMail {
    /// Who asks, and the process that did.
    pub(crate) asker: (usize, u64),
    /// Who is asked; `None` if nobody knows the member.
    pub(crate) asked: Option<usize>,
    pub(crate) id: u64,
    pub(crate) question: PeerQuestion,
    /// The answer on its way back.
    pub(crate) answer: Option<PeerAnswer>,
}

impl World {
    /// Sends a question on its way.
    pub(crate) fn ask_leader(&mut self, mail: QuestionMail) {
        let arrival = mail.asked.and_then(|asked| {
            let arrivals = self.net.arrivals(mail.asker.0, asked, &mut self.rng);
            arrivals.first().copied()
        });
        match arrival {
            Some(delay) => self.after(delay, Event::Question(Box::new(mail))),
            None => self.no_answer(mail),
        }
    }

    /// A question or an answer arrives.
    pub(crate) fn take_question(&mut self, mut mail: QuestionMail) {
        if let Some(answer) = mail.answer.take() {
            let (place, life) = mail.asker;
            self.trace.count("questions to the leader answered");
            return self.apply(place, life, ToApply::PeerAnswered { id: mail.id, answer });
        }
        let asked = mail.asked.unwrap_or(mail.asker.0);
        let node = &mut self.nodes[asked];
        let (local, life) = (node.local(self.now), node.life);
        let awake = node.paused_until <= self.now;
        let Some(running) = node.running.as_mut().filter(|_| awake) else {
            return self.no_answer(mail);
        };
        let call = match mail.question {
            PeerQuestion::Renew { lease } => PeerCall::Renew { lease },
            PeerQuestion::TimeToLive { lease, keys } => PeerCall::TimeToLive { lease, keys },
            PeerQuestion::Promote { member } => PeerCall::Promote { member },
        };
        let token = running.token(FRONT, PEERS);
        let context = Context {
            deadline: Some(local + PATIENCE),
            ..Context::default()
        };
        let outcome = running.fronts[FRONT].peer_call(token, call, &context, local);
        running.drain_front(FRONT);
        if let Outcome::Done(result) = outcome {
            running.owners[FRONT].remove(&token);
            self.send_back(mail, result);
        } else {
            self.peer_calls.insert((asked, life, token), mail);
        }
        self.settle(asked);
    }

    /// A front has answered another member.
    pub(crate) fn peer_call_done(&mut self, place: usize, token: Token, result: Result<Bytes, Status>) {
        let life = self.nodes[place].life;
        if let Some(mail) = self.peer_calls.remove(&(place, life, token)) {
            self.send_back(mail, result);
        }
    }

    /// Who was asked has died.
    pub(crate) fn end_peer_calls(&mut self, place: usize) {
        let (dead, living) = std::mem::take(&mut self.peer_calls)
            .into_iter()
            .partition(|((asked, _, _), _)| *asked == place);
        self.peer_calls = living;
        let dead: BTreeMap<_, QuestionMail> = dead;
        for mail in dead.into_values() {
            self.no_answer(mail);
        }
    }

    fn send_back(&mut self, mut mail: QuestionMail, result: Result<Bytes, Status>) {
        let asked = mail.asked.unwrap_or(mail.asker.0);
        match self.net.arrivals(asked, mail.asker.0, &mut self.rng).first() {
            Some(delay) => {
                mail.answer = Some(answer(mail.question, result));
                self.after(*delay, Event::Question(Box::new(mail)));
            }
            None => self.no_answer(mail),
        }
    }

    fn no_answer(&mut self, mut mail: QuestionMail) {
        mail.answer = Some(PeerAnswer::Silent);
        self.after(PATIENCE, Event::Question(Box::new(mail)));
    }
}

/// What the server's transport makes of an answer.
fn answer(question: PeerQuestion, result: Result<Bytes, Status>) -> PeerAnswer {
    let final_refusals = [
        error::LEARNER_NOT_READY,
        error::MEMBER_NOT_FOUND,
        error::MEMBER_NOT_LEARNER,
    ];
    let bytes = match (question, result) {
        (_, Ok(bytes)) => bytes,
        (PeerQuestion::Promote { .. }, Err(status)) if final_refusals.contains(&status) => {
            return PeerAnswer::Refused(status);
        }
        (_, Err(status)) if status == error::LEASE_NOT_FOUND => return PeerAnswer::NoLease,
        (_, Err(_)) => return PeerAnswer::Silent,
    };
    match question {
        PeerQuestion::Renew { .. } => match LeaseKeepAliveResponse::decode(bytes) {
            Ok(response) => PeerAnswer::Renewed(response.ttl),
            Err(_) => PeerAnswer::Silent,
        },
        PeerQuestion::TimeToLive { .. } => match LeaseTimeToLiveResponse::decode(bytes) {
            Ok(response) => PeerAnswer::Lease(LeaseInfo {
                remaining_seconds: response.ttl,
                granted_seconds: response.granted_ttl,
                keys: response.keys,
            }),
            Err(_) => PeerAnswer::Silent,
        },
        PeerQuestion::Promote { .. } => match MemberPromoteResponse::decode(bytes) {
            Ok(response) => PeerAnswer::Promoted(response.members.into_iter().map(member).collect()),
            Err(_) => PeerAnswer::Silent,
        },
    }
}

fn member(wire: api::etcdserverpb::Member) -> Member {
    Member {
        id: wire.id,
        name: wire.name,
        peer_urls: wire.peer_ur_ls,
        client_urls: wire.client_ur_ls,
        is_learner: wire.is_learner,
    }
}
