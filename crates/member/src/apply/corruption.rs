//! The comparison of the members' stores, as the leader: asks itself and the others for hashes, at
//! intervals, and raises the alarm.
//!
//! etcd: server/etcdserver/corrupt.go; server.go, monitorKVHash and monitorCompactHash.

use std::collections::BTreeSet;

use api::clock::Instant;
use api::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, alarm_request};
use bbolt::Wait;
use mvcc::{HashKv, KeyValueHash};

use super::own::Own;
use super::{Apply, Found, JobDone};
use crate::config::Config;
use crate::corruption::{Answers, Finding, HashAnswer, compare, compare_compaction};
use crate::frontend::AskDecide;
use crate::log::LogLine;
use crate::message::{ToApply, ToDecide};
use crate::peer::ToPeer;
use crate::router::{Job, JobKind, Router};

/// Rows that a job regards before it lets others run.
const HASH_ROWS_MAX: usize = 20_000;

/// When the stores are compared, and how far the comparison in hand is.
pub(super) struct Corruption {
    compare_at: Option<Instant>,
    compactions_at: Option<Instant>,
    /// The newest compaction that all members agreed about.
    agreed: i64,
    step: Step,
    /// Two rounds' jobs and answers are not mixed up.
    round: u64,
}

enum Step {
    Idle,
    /// The own hash is computed.
    Hashing,
    /// The others have been asked.
    Asking(Box<Questions>),
    /// All have answered: the leader makes sure that it leads, and has applied all that they may have.
    Confirming {
        first: KeyValueHash,
        answers: Answers,
        read: u64,
        index: Option<u64>,
        until: Instant,
    },
    /// The own hash is computed again.
    HashingAgain {
        first: KeyValueHash,
        answers: Answers,
    },
}

/// What the others were asked.
struct Questions {
    own: KeyValueHash,
    /// Who has not answered.
    open: BTreeSet<u64>,
    answers: Answers,
    until: Instant,
    /// Of a compaction: those that are looked at if not all can be compared at this one, newest first.
    older: Option<Vec<KeyValueHash>>,
    /// How many compactions have been looked at.
    looked_at: u64,
}

impl Corruption {
    pub(super) fn new(config: &Config, now: Instant) -> Corruption {
        let after = |span: std::time::Duration| (!span.is_zero()).then(|| now + span);
        Corruption {
            compare_at: after(config.corrupt_check_time),
            compactions_at: after(config.compact_hash_check_time),
            agreed: 0,
            step: Step::Idle,
            round: 0,
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let until = match &self.step {
            Step::Asking(questions) => Some(questions.until),
            Step::Confirming { until, .. } => Some(*until),
            Step::Idle | Step::Hashing | Step::HashingAgain { .. } => None,
        };
        // What is due while a comparison is in hand begins when that has ended.
        let idle = matches!(self.step, Step::Idle);
        let timers = [self.compare_at, self.compactions_at].into_iter().flatten();
        timers.filter(|_| idle).chain(until).min()
    }

    /// Forgets the comparison in hand.
    pub(super) fn abandon(&mut self) {
        self.step = Step::Idle;
        self.round += 1;
    }
}

impl Apply {
    pub(super) fn step_corruption(&mut self, now: Instant, router: &dyn Router) {
        match &self.corruption.step {
            Step::Asking(questions) if questions.until <= now => return self.all_answered(now, router),
            Step::Confirming {
                index: Some(index), ..
            } if *index <= self.shared.applied() => {
                let step = std::mem::replace(&mut self.corruption.step, Step::Idle);
                if let Step::Confirming { first, answers, .. } = step {
                    self.corruption.step = Step::HashingAgain { first, answers };
                    self.hash_own(router);
                }
                return;
            }
            Step::Confirming { until, .. } if *until <= now => {
                router.log(
                    LogLine::warn("failed to check hash KV")
                        .with("error", api::error::TIMEOUT.message.to_string()),
                );
                return self.corruption.abandon();
            }
            Step::Idle => {}
            _ => return,
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.corruption.compare_at) {
            self.corruption.compare_at = Some(now + self.config.corrupt_check_time);
            if self.is_leader() {
                self.corruption.step = Step::Hashing;
                return self.hash_own(router);
            }
        }
        if due(self.corruption.compactions_at) {
            self.corruption.compactions_at = Some(now + self.config.compact_hash_check_time);
            if self.is_leader() {
                self.check_compactions(now, router);
            }
        }
    }

    /// Begins with the newest compaction that has not been agreed about.
    fn check_compactions(&mut self, now: Instant, router: &dyn Router) {
        router.log(
            LogLine::info("starting compact hash check")
                .with("local-member-id", format!("{:x}", self.shared.member_id))
                .with("timeout", self.config.request_timeout()),
        );
        let agreed = self.corruption.agreed;
        let hashes = self.views.peek().hashes.clone();
        // Kept by ascending revision.
        let unchecked = hashes.iter().rev().copied();
        let unchecked: Vec<_> = unchecked.take_while(|hash| hash.revision > agreed).collect();
        self.look_at_compaction(unchecked, 0, now, router);
    }

    /// Asks the others about the first of some compactions.
    fn look_at_compaction(
        &mut self,
        mut hashes: Vec<KeyValueHash>,
        looked_at: u64,
        now: Instant,
        router: &dyn Router,
    ) {
        if hashes.is_empty() || self.others().is_empty() {
            // etcd counts those that it passes over because there is nobody to ask.
            return self.compactions_checked(looked_at + hashes.len() as u64, router);
        }
        let own = hashes.remove(0);
        self.ask_others(own, Some(hashes), looked_at + 1, now, router);
    }

    fn compactions_checked(&mut self, number: u64, router: &dyn Router) {
        router.log(LogLine::info("finished compaction hash check").with("number-of-hashes-checked", number));
        self.corruption.step = Step::Idle;
    }

    fn others(&self) -> BTreeSet<u64> {
        let members = self.machine.membership().members.keys().copied();
        members.filter(|id| *id != self.shared.member_id).collect()
    }

    fn ask_others(
        &mut self,
        own: KeyValueHash,
        older: Option<Vec<KeyValueHash>>,
        looked_at: u64,
        now: Instant,
        router: &dyn Router,
    ) {
        let open = self.others();
        for &to in &open {
            let revision = own.revision;
            router.to_peer(ToPeer::AskHash { to, revision });
        }
        // The transport answers for a member that does not, after as long for each of its URLs.
        let patience = self.config.request_timeout() * 4;
        let nobody = open.is_empty();
        self.corruption.step = Step::Asking(Box::new(Questions {
            own,
            open,
            answers: Answers::new(),
            until: now + patience,
            older,
            looked_at,
        }));
        if nobody {
            self.all_answered(now, router);
        }
    }

    pub(super) fn peer_hash(&mut self, answer: &HashAnswer, now: Instant, router: &dyn Router) {
        let Step::Asking(questions) = &mut self.corruption.step else {
            return;
        };
        if answer.revision != questions.own.revision || !questions.open.remove(&answer.from) {
            return;
        }
        questions.answers.insert(answer.from, answer.hash);
        if questions.open.is_empty() {
            self.all_answered(now, router);
        }
    }

    fn all_answered(&mut self, now: Instant, router: &dyn Router) {
        let Step::Asking(questions) = std::mem::replace(&mut self.corruption.step, Step::Idle) else {
            return;
        };
        let Questions {
            own,
            open,
            mut answers,
            older,
            looked_at,
            ..
        } = *questions;
        answers.extend(open.into_iter().map(|id| (id, None)));
        let Some(older) = older else {
            let read = self.own.next_id();
            router.to_decide(ToDecide::Ask(vec![AskDecide::ReadIndex { id: read }]));
            self.corruption.step = Step::Confirming {
                first: own,
                answers,
                read,
                index: None,
                until: now + self.config.request_timeout(),
            };
            return;
        };
        let finding = compare_compaction(self.shared.member_id, own, &answers);
        let is_final = finding.is_final;
        if is_final && finding.alarms.is_empty() {
            self.corruption.agreed = self.corruption.agreed.max(own.revision);
        }
        self.act_on(finding, now, router);
        match is_final {
            true => self.compactions_checked(looked_at, router),
            false => self.look_at_compaction(older, looked_at, now, router),
        }
    }

    /// The leader leads, and needs to have applied `index`.
    pub(super) fn read_confirmed(&mut self, id: u64, confirmed: u64) {
        if let Step::Confirming { read, index, .. } = &mut self.corruption.step
            && *read == id
        {
            *index = Some(confirmed);
        }
    }

    fn hash_own(&mut self, router: &dyn Router) {
        let view = self.views.load();
        let round = self.corruption.round;
        match view.hash_kv(0) {
            Ok(hash) => hash_step(Box::new(hash), round, router),
            Err(error) => self.hash_failed(&error, router),
        }
    }

    fn hash_failed(&mut self, error: &mvcc::Error, router: &dyn Router) {
        router.log(LogLine::warn("failed to check hash KV").with("error", error.to_string()));
        self.corruption.abandon();
    }

    /// A job regarded some rows.
    pub(super) fn own_hashed(&mut self, hashed: Hashed, now: Instant, router: &dyn Router) {
        let Hashed { hash, result, round } = hashed;
        if round != self.corruption.round || self.stopping {
            return;
        }
        match result {
            Err(error) => self.hash_failed(&error, router),
            Ok(None) => hash_step(hash, round, router),
            Ok(Some(found)) => match std::mem::replace(&mut self.corruption.step, Step::Idle) {
                Step::Hashing => self.ask_others(found, None, 0, now, router),
                Step::HashingAgain { first, answers } => {
                    let current = hash.current_revision();
                    let finding = compare(self.shared.member_id, first, found, current, &answers);
                    self.act_on(finding, now, router);
                }
                other => self.corruption.step = other,
            },
        }
    }

    fn act_on(&mut self, finding: Finding, now: Instant, router: &dyn Router) {
        for line in finding.lines {
            router.log(line);
        }
        for member_id in finding.alarms {
            if self.own.has(|own| *own == Own::Corrupt(member_id)) {
                continue;
            }
            let request = InternalRaftRequest {
                alarm: Some(AlarmRequest {
                    action: alarm_request::AlarmAction::Activate as i32,
                    member_id,
                    alarm: AlarmType::Corrupt as i32,
                }),
                ..InternalRaftRequest::default()
            };
            self.own.send(Own::Corrupt(member_id), request, now, router);
        }
    }
}

/// What a job found of the own hash.
pub(crate) struct Hashed {
    hash: Box<HashKv>,
    result: Result<Option<KeyValueHash>, mvcc::Error>,
    round: u64,
}

fn hash_step(mut hash: Box<HashKv>, round: u64, router: &dyn Router) {
    router.job(Job::new(JobKind::Hash, move |router: &dyn Router| {
        let result = hash.step(HASH_ROWS_MAX, Wait::Yes);
        let hashed = Hashed { hash, result, round };
        router.to_apply(ToApply::JobDone(JobDone(Found::Hashed(hashed))));
    }));
}
