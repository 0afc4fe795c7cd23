//! A member run by turns in one thread, from one seed, on any disk: what a test does instead of
//! threads, and what the simulator will grow from.
#![allow(dead_code)]

pub mod trio;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::Status;
use api::etcdserverpb::{InternalRaftRequest, RequestHeader};
use bytes::Bytes;
use disk::Disk;
use member::frontend::{AskApply, AskDecide, Asker, RequestIds, Tell};
use member::{
    Config, Error, Fatal, Job, Log, LogLine, Opened, Router, ToApply, ToCommitter, ToDecide, ToFront, ToPeer,
    ToPersist,
};
use prost::Message;

/// How long a stop waits for a leader of several members to hand over.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// The queues between the stages.
#[derive(Default)]
pub struct Queues {
    decide: RefCell<Vec<ToDecide>>,
    persist: RefCell<Vec<ToPersist>>,
    apply: RefCell<Vec<ToApply>>,
    committer: RefCell<Vec<ToCommitter>>,
    front: RefCell<Vec<ToFront>>,
    jobs: RefCell<VecDeque<Job>>,
    pub peers: RefCell<Vec<ToPeer>>,
    pub log: RefCell<Vec<LogLine>>,
    pub fatal: RefCell<Option<Fatal>>,
    pub stopped: RefCell<bool>,
}

impl Log for Queues {
    fn log(&self, line: LogLine) {
        self.log.borrow_mut().push(line);
    }
}

impl Router for Queues {
    fn to_decide(&self, message: ToDecide) {
        self.decide.borrow_mut().push(message);
    }
    fn to_persist(&self, message: ToPersist) {
        self.persist.borrow_mut().push(message);
    }
    fn to_apply(&self, message: ToApply) {
        self.apply.borrow_mut().push(message);
    }
    fn to_committer(&self, message: ToCommitter) {
        self.committer.borrow_mut().push(message);
    }
    fn to_front(&self, _front: usize, message: ToFront) {
        self.front.borrow_mut().push(message);
    }
    fn to_peer(&self, message: ToPeer) {
        self.peers.borrow_mut().push(message);
    }
    fn job(&self, job: Job) {
        self.jobs.borrow_mut().push_back(job);
    }
    fn fatal(&self, fatal: Fatal) {
        self.fatal.borrow_mut().get_or_insert(fatal);
    }
    fn stopped(&self) {
        *self.stopped.borrow_mut() = true;
    }
}

/// A member and all that runs it.
pub struct Driver {
    pub member: Opened,
    pub queues: Queues,
    pub now: Instant,
    pub answers: BTreeMap<u64, Result<Bytes, Status>>,
    pub tells: Vec<Tell>,
    /// The log's disk does not come back from what it was asked.
    pub log_is_frozen: bool,
    /// Decide has no turn.
    pub decide_is_frozen: bool,
    /// Apply has no turn.
    pub apply_is_frozen: bool,
    /// The pool's threads have no turn.
    pub jobs_are_frozen: bool,
    /// The data file's disk does not come back from what it was asked.
    pub file_is_frozen: bool,
    ids: RequestIds,
    tick: Duration,
    ticked: Instant,
    rng: fastrand::Rng,
}

impl Driver {
    pub fn open(disk: &Arc<dyn Disk>, config: &Config, seed: u64) -> Result<Driver, Error> {
        Driver::open_at(disk, config, seed, 1_700_000_000_000)
    }

    pub fn open_at(disk: &Arc<dyn Disk>, config: &Config, seed: u64, unix_ms: u64) -> Result<Driver, Error> {
        let queues = Queues::default();
        let now = Instant::default();
        let mut member = member::open(disk, config, now, unix_ms, seed, &queues)?;
        member.start(now, &queues);
        let front = &member.fronts[0].config;
        let ids = RequestIds::new(front.member_id, front.start_unix_ms, front.slot, front.slots);
        Ok(Driver {
            member,
            queues,
            now,
            answers: BTreeMap::new(),
            tells: Vec::new(),
            log_is_frozen: false,
            decide_is_frozen: false,
            apply_is_frozen: false,
            jobs_are_frozen: false,
            file_is_frozen: false,
            ids,
            tick: config.tick,
            ticked: now,
            rng: fastrand::Rng::with_seed(seed),
        })
    }

    /// Runs one stage, chosen by the seed among those that have something to do.
    pub fn turn(&mut self) -> bool {
        let queues = &self.queues;
        let due = |wake: Option<Instant>| wake.is_some_and(|at| at <= self.now);
        let ready = [
            !self.decide_is_frozen && !queues.decide.borrow().is_empty(),
            !self.log_is_frozen
                && (!queues.persist.borrow().is_empty() || due(self.member.persist.next_wake())),
            !self.apply_is_frozen
                && (!queues.apply.borrow().is_empty() || due(self.member.apply.next_wake())),
            !self.file_is_frozen && !queues.committer.borrow().is_empty(),
            !queues.front.borrow().is_empty(),
            !self.jobs_are_frozen && !queues.jobs.borrow().is_empty(),
        ];
        let choices: Vec<usize> = (0..ready.len()).filter(|&stage| ready[stage]).collect();
        let Some(&stage) = self.rng.choice(&choices) else {
            return false;
        };
        match stage {
            0 => {
                let mut inputs = queues.decide.take();
                self.member.decide.handle(&mut inputs, self.now, queues);
            }
            1 => {
                let mut inputs = queues.persist.take();
                self.member.persist.handle(&mut inputs, self.now, queues);
            }
            2 => {
                let mut inputs = queues.apply.take();
                self.member.apply.handle(&mut inputs, self.now, queues);
            }
            3 => {
                let mut inputs = queues.committer.take();
                self.member.committer.handle(&mut inputs, queues);
            }
            4 => self.take_front(),
            _ => {
                // The pool has several threads: what was asked for later may be done earlier.
                let job = {
                    let mut jobs = queues.jobs.borrow_mut();
                    let at = self.rng.usize(..jobs.len());
                    jobs.remove(at)
                };
                if let Some(job) = job {
                    job.run(queues);
                }
            }
        }
        true
    }

    fn take_front(&mut self) {
        for message in self.queues.front.take() {
            let ToFront::Tell(tells) = message else { continue };
            for tell in tells {
                match tell {
                    Tell::Done { id, result } => {
                        self.answers.insert(id, result);
                    }
                    tell => self.tells.push(tell),
                }
            }
        }
    }

    /// Runs until nobody has anything to do at this moment, or the member broke.
    pub fn settle(&mut self) {
        let mut turns = 0;
        while self.queues.fatal.borrow().is_none() && self.turn() {
            turns += 1;
            assert!(
                turns < 1_000_000,
                "the member never comes to rest: now {:?}, apply wakes at {:?}, log at {:?}",
                self.now,
                self.member.apply.next_wake(),
                self.member.persist.next_wake()
            );
        }
    }

    /// Lets time pass, in ticks, and runs what is due.
    pub fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while self.now < end && self.queues.fatal.borrow().is_none() {
            self.now = (self.now + Duration::from_millis(10)).min(end);
            if self.now - self.ticked >= self.tick {
                self.ticked = self.now;
                self.queues.to_decide(ToDecide::Tick);
            }
            self.settle();
        }
    }

    /// Lets time pass until `done` or the member broke.
    pub fn advance_until(&mut self, mut done: impl FnMut(&mut Driver) -> bool) -> bool {
        for _ in 0..3000 {
            self.settle();
            if done(self) {
                return true;
            }
            if self.queues.fatal.borrow().is_some() {
                return false;
            }
            self.advance(Duration::from_millis(10));
        }
        panic!("it does not happen");
    }

    /// Runs until the member has elected itself and published its attributes.
    pub fn until_ready(&mut self) -> bool {
        self.advance_until(|driver| driver.member.shared.is_ready())
    }

    /// Puts a request on its way; the answer comes into `answers`.
    pub fn propose(&mut self, mut request: InternalRaftRequest) -> u64 {
        let id = self.ids.next_id();
        request.header = Some(RequestHeader {
            id,
            ..RequestHeader::default()
        });
        let data = Bytes::from(request.encode_to_vec());
        self.queues
            .to_decide(ToDecide::Ask(vec![AskDecide::Propose { id, data }]));
        id
    }

    /// An id for something that is asked: answers to it come here.
    pub fn next_id(&mut self) -> u64 {
        self.ids.next_id()
    }

    pub fn ask(&mut self, ask: impl FnOnce(u64) -> AskApply) -> u64 {
        let id = self.ids.next_id();
        self.queues.to_apply(ToApply::Ask(vec![ask(id)]));
        id
    }

    /// Asks for the renewal of a lease, as another member's client would.
    pub fn ask_renewal(&mut self, lease: i64) -> u64 {
        self.ask(|id| AskApply::Renew {
            id,
            lease,
            of: Asker::Peer,
        })
    }

    /// The answer to a renewal: the new time, no lease, or a refusal.
    pub fn renewal(&self, asked: u64) -> Option<Result<Option<i64>, String>> {
        self.tells.iter().find_map(|tell| match tell {
            Tell::Renewed { id, result } if *id == asked => {
                Some(result.clone().map_err(|status| status.message.into_owned()))
            }
            _ => None,
        })
    }

    /// Sends a request and waits for its answer; `None` if the member broke before.
    pub fn call(&mut self, request: InternalRaftRequest) -> Option<Result<Bytes, Status>> {
        let id = self.propose(request);
        self.advance_until(|driver| driver.answers.contains_key(&id));
        self.answers.remove(&id)
    }

    /// The orderly stop.
    pub fn stop(mut self) -> Vec<LogLine> {
        self.queues.to_decide(ToDecide::Stop);
        let until = self.now + REQUEST_TIMEOUT;
        self.queues.to_persist(ToPersist::Stopping { until });
        self.advance_until(|driver| *driver.queues.stopped.borrow());
        assert_eq!(*self.queues.fatal.borrow(), None);
        self.queues.log.take()
    }

    /// Whether something is on its way to the data file's disk.
    pub fn is_committing(&self) -> bool {
        !self.queues.committer.borrow().is_empty()
    }

    /// How many jobs wait for a thread of the pool.
    pub fn jobs(&self) -> usize {
        self.queues.jobs.borrow().len()
    }

    pub fn log_texts(&self) -> Vec<String> {
        let log = self.queues.log.borrow();
        log.iter().map(|line| line.msg.to_string()).collect()
    }
}

impl Queues {
    pub fn stop(&self) {
        self.to_decide(ToDecide::Stop);
    }

    /// A message of another member.
    pub fn hear(&self, message: raft::Message) {
        self.to_decide(ToDecide::Peer(Box::new(message)));
    }
}
