//! Questions that only a leader answers and that do not go through the log: renewals and times of
//! leases, promotions. Here they are answered, sent to the leader, or wait until there is one.
//!
//! etcd: server/etcdserver/v3_server.go, LeaseRenew and leaseTimeToLive; server.go, PromoteMember and
//! ensureLeadership.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};

use super::Apply;
use crate::frontend::{AskDecide, Asker, Tell};
use crate::message::ToDecide;
use crate::peer::{PeerAnswer, PeerQuestion, ToPeer};
use crate::router::Router;

/// Questions that may wait; more are refused.
const WAITING_MAX: usize = 10_000;

/// The time after which a read that was not answered is asked again, as the front threads do (etcd:
/// server/etcdserver/read, readIndexRetryTime).
const READ_RETRY: Duration = Duration::from_millis(500);

/// The pause before a leader that could not be asked is asked again (etcd: v3_server.go, LeaseRenew).
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A question and who asked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) id: u64,
    what: PeerQuestion,
    of: Asker,
    until: Instant,
}

impl Question {
    pub(super) fn refused(&self, status: Status) -> Tell {
        let id = self.id;
        match self.what {
            PeerQuestion::Renew { .. } => Tell::Renewed {
                id,
                result: Err(status),
            },
            PeerQuestion::TimeToLive { .. } => Tell::Lease {
                id,
                result: Err(status),
            },
            PeerQuestion::Promote { .. } => Tell::Promoted {
                id,
                result: Err(status),
            },
        }
    }
}

/// Questions that wait, by what they wait for.
#[derive(Default)]
pub(super) struct Questions {
    /// A leader, or this one's first entry.
    leader: Vec<Question>,
    /// An index to be applied: what was committed when they came may be what they ask about.
    applied: BTreeMap<u64, Vec<Question>>,
    /// The read that shows whether this member still leads.
    confirming: Option<Confirming>,
    unconfirmed: Vec<Question>,
    /// Those that came after it was asked: they need another.
    unconfirmed_next: Vec<Question>,
    /// The answer of a leader.
    sent: BTreeMap<u64, (Question, u64)>,
    /// The end of a pause.
    pausing: VecDeque<(Instant, Question)>,
}

/// A read on its way. It may be lost, and is asked again.
#[derive(Clone, Copy)]
struct Confirming {
    read: u64,
    again: Instant,
    until: Instant,
}

impl Questions {
    fn len(&self) -> usize {
        let applied: usize = self.applied.values().map(Vec::len).sum();
        let unconfirmed = self.unconfirmed.len() + self.unconfirmed_next.len();
        self.leader.len() + applied + unconfirmed + self.sent.len() + self.pausing.len()
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let pause = self.pausing.front().map(|(at, _)| *at);
        pause
            .into_iter()
            .chain(self.confirming.map(|read| read.again.min(read.until)))
            .min()
    }
}

impl Apply {
    pub(super) fn question(&self, id: u64, what: PeerQuestion, of: Asker, now: Instant) -> Question {
        let until = now + self.config.request_timeout();
        Question { id, what, of, until }
    }

    /// A new question.
    pub(super) fn ask_leader(&mut self, question: Question, now: Instant, router: &dyn Router) {
        if self.questions_waiting() >= WAITING_MAX {
            let until = |question: &Question| question.until > now;
            self.questions.leader.retain(until);
            self.lessor.keep_waiting(until);
            if self.questions_waiting() >= WAITING_MAX {
                return self.tell(question.id, question.refused(error::REQUEST_TOO_MANY_REQUESTS));
            }
        }
        self.route(question, now, router);
    }

    /// All that wait: for what is in [`Questions`], for a revocation, or for an entry of the member's own.
    fn questions_waiting(&self) -> usize {
        self.questions.len() + self.lessor.waiting() + self.own.len()
    }

    /// Answers a question, or sends it on, or has it wait.
    pub(super) fn route(&mut self, question: Question, now: Instant, router: &dyn Router) {
        if question.until <= now {
            // Who asked has been told.
            return;
        }
        if !self.is_leader() {
            return self.send_on(question, router);
        }
        if let PeerQuestion::Promote { .. } = question.what {
            return self.tell(question.id, question.refused(error::NOT_LEADER));
        }
        if !self.lessor.is_primary() {
            return self.questions.leader.push(question);
        }
        let committed = self.shared.pulse.committed();
        if committed > self.machine.store().consistent().0 {
            return self
                .questions
                .applied
                .entry(committed)
                .or_default()
                .push(question);
        }
        match self.leads_alone() {
            true => self.answer_question(question, now, router),
            false => self.confirm_leadership(question, now, router),
        }
    }

    /// Whether nobody else can lead: this member is the only voter. With others, one may lead that this member
    /// has not heard of: that old answers of a quorum have just come says nothing about now (etcd asks only when
    /// its clock stood still, and then answers renewals from leases that another leader ends).
    fn leads_alone(&self) -> bool {
        self.is_leader() && self.lessor.is_primary() && self.shared.pulse.read_index().is_some()
    }

    fn answer_question(&mut self, question: Question, now: Instant, router: &dyn Router) {
        match question.what {
            PeerQuestion::Renew { lease } => self.renew(question, lease, now, router),
            PeerQuestion::TimeToLive { lease, keys } => self.time_to_live(question.id, lease, keys, now),
            PeerQuestion::Promote { .. } => self.tell(question.id, question.refused(error::NOT_LEADER)),
        }
    }

    fn send_on(&mut self, question: Question, router: &dyn Router) {
        let to = self.role.leader;
        if question.of == Asker::Peer {
            // It is for who asked to find out who leads.
            return self.tell(question.id, question.refused(error::NOT_LEADER));
        }
        if to == raft::NONE {
            return self.questions.leader.push(question);
        }
        self.questions.sent.insert(question.id, (question, to));
        router.to_peer(ToPeer::Ask {
            to,
            id: question.id,
            question: question.what,
        });
    }

    fn confirm_leadership(&mut self, question: Question, now: Instant, router: &dyn Router) {
        if self.questions.confirming.is_some() {
            return self.questions.unconfirmed_next.push(question);
        }
        self.questions.unconfirmed.push(question);
        self.ask_read(now + self.config.request_timeout(), now, router);
    }

    fn ask_read(&mut self, until: Instant, now: Instant, router: &dyn Router) {
        let read = self.own.next_id();
        let again = now + READ_RETRY;
        self.questions.confirming = Some(Confirming { read, again, until });
        router.to_decide(ToDecide::Ask(vec![AskDecide::ReadIndex { id: read }]));
    }

    /// This member does not lead any more: no read will be answered, and another one is to be asked.
    pub(super) fn leadership_lost(&mut self, now: Instant, router: &dyn Router) {
        self.questions.confirming = None;
        let mut waiting = std::mem::take(&mut self.questions.unconfirmed);
        waiting.append(&mut self.questions.unconfirmed_next);
        for question in waiting {
            self.route(question, now, router);
        }
    }

    /// A quorum took this member for the leader after the questions had come.
    pub(super) fn leadership_confirmed(&mut self, id: u64, now: Instant, router: &dyn Router) {
        if self.questions.confirming.is_none_or(|asked| asked.read != id) {
            return;
        }
        self.questions.confirming = None;
        for question in std::mem::take(&mut self.questions.unconfirmed) {
            match self.is_leader() && self.lessor.is_primary() {
                true => self.answer_question(question, now, router),
                false => self.route(question, now, router),
            }
        }
        for question in std::mem::take(&mut self.questions.unconfirmed_next) {
            self.route(question, now, router);
        }
    }

    /// The leader has answered, or could not be asked.
    pub(super) fn peer_answered(&mut self, id: u64, answer: PeerAnswer, now: Instant) {
        let Some((question, _)) = self.questions.sent.remove(&id) else {
            return;
        };
        let tell = match (question.what, answer) {
            (PeerQuestion::Renew { .. }, PeerAnswer::Renewed(ttl)) => Tell::Renewed {
                id,
                result: Ok(Some(ttl)),
            },
            (PeerQuestion::Renew { .. }, PeerAnswer::NoLease) => Tell::Renewed { id, result: Ok(None) },
            (PeerQuestion::TimeToLive { .. }, PeerAnswer::Lease(info)) => Tell::Lease {
                id,
                result: Ok(Some(info)),
            },
            (PeerQuestion::TimeToLive { .. }, PeerAnswer::NoLease) => Tell::Lease { id, result: Ok(None) },
            (PeerQuestion::Promote { .. }, PeerAnswer::Promoted(members)) => Tell::Promoted {
                id,
                result: Ok(members),
            },
            (_, PeerAnswer::Refused(status)) => question.refused(status),
            _ => return self.questions.pausing.push_back((now + RETRY_PAUSE, question)),
        };
        self.tell(id, tell);
    }

    /// There is a leader, another one, or this one begins to decide about leases.
    pub(super) fn leader_known(&mut self, now: Instant, router: &dyn Router) {
        let mut waiting = std::mem::take(&mut self.questions.leader);
        // What was asked of an earlier leader may never be answered by it.
        let leader = self.role.leader;
        let sent = std::mem::take(&mut self.questions.sent);
        let (current, stale): (BTreeMap<_, _>, BTreeMap<_, _>) =
            sent.into_iter().partition(|(_, (_, to))| *to == leader);
        self.questions.sent = current;
        waiting.extend(stale.into_values().map(|(question, _)| question));
        for question in waiting {
            self.route(question, now, router);
        }
    }

    /// What has been waited for long enough.
    pub(super) fn step_questions(&mut self, now: Instant, router: &dyn Router) {
        let applied = self.machine.store().consistent().0;
        while let Some(entry) = self.questions.applied.first_entry() {
            if *entry.key() > applied {
                break;
            }
            for question in entry.remove() {
                // Asked again, it would wait for what has been committed since.
                match self.leads_alone() {
                    true => self.answer_question(question, now, router),
                    false => self.route(question, now, router),
                }
            }
        }
        while self.questions.pausing.front().is_some_and(|(at, _)| *at <= now) {
            let (_, question) = self.questions.pausing.pop_front().expect("just looked at");
            self.route(question, now, router);
        }
        let Some(confirming) = self.questions.confirming else {
            return;
        };
        if confirming.again <= now && now < confirming.until {
            self.ask_read(confirming.until, now, router);
        }
        if confirming.until <= now {
            self.questions.confirming = None;
            for question in std::mem::take(&mut self.questions.unconfirmed) {
                self.tell(question.id, question.refused(error::LEADER_CHANGED));
            }
            for question in std::mem::take(&mut self.questions.unconfirmed_next) {
                self.route(question, now, router);
            }
        }
    }
}
