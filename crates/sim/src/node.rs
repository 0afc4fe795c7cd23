//! A place in the cluster: a disk that outlives its processes, and the process that runs on it, wired
//! as the server wires it. Turns are given by the world; nothing in here waits.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::version::Line;
use disk::Disk;
use disk::mem::MemDisk;
use member::frontend::{Frontend, Output, Token};
use member::{
    Config, Error, Fatal, InitialMember, Job, Log, LogLine, Opened, Router, ToApply, ToCommitter, ToDecide,
    ToFront, ToPeer, ToPersist,
};

use crate::damage::Health;
use crate::pool::Pool;

/// Front threads of each member.
pub const FRONTS: usize = 2;

/// What can be given a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Raft.
    Decide,
    /// The log.
    Persist,
    /// The machine.
    Apply,
    /// The data file.
    Committer,
    /// The pool.
    Job,
    /// A front thread.
    Front(usize),
    /// One job of a front thread.
    FrontJob(usize),
}

impl Stage {
    /// All of them.
    pub fn all() -> Vec<Stage> {
        let fronts = (0..FRONTS).flat_map(|front| [Stage::Front(front), Stage::FrontJob(front)]);
        [
            Stage::Decide,
            Stage::Persist,
            Stage::Apply,
            Stage::Committer,
            Stage::Job,
        ]
        .into_iter()
        .chain(fronts)
        .collect()
    }
}

/// What lies between the stages.
#[derive(Default)]
pub struct Queues {
    decide: RefCell<Vec<ToDecide>>,
    persist: RefCell<Vec<ToPersist>>,
    apply: RefCell<Vec<ToApply>>,
    committer: RefCell<Vec<ToCommitter>>,
    jobs: RefCell<Vec<Job>>,
    fronts: [RefCell<Vec<ToFront>>; FRONTS],
    /// To other members.
    pub sent: RefCell<Vec<ToPeer>>,
    /// What raft said is committed.
    pub committed: RefCell<Vec<raft::Entry>>,
    /// Lines for the operator.
    pub log: RefCell<Vec<LogLine>>,
    /// What is worth being counted.
    pub happened: RefCell<Vec<&'static str>>,
    /// Why the member broke.
    pub fatal: RefCell<Option<Fatal>>,
    /// Whether an orderly stop has ended.
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
        if let ToApply::Committed(batch) = &message {
            self.committed.borrow_mut().extend_from_slice(batch.entries());
        }
        if matches!(message, ToApply::Install(_)) && self.has_changes_of_members() {
            self.happened
                .borrow_mut()
                .push("states received over changes of members that were not applied");
        }
        self.apply.borrow_mut().push(message);
    }
    fn to_committer(&self, message: ToCommitter) {
        self.committer.borrow_mut().push(message);
    }
    fn to_front(&self, front: usize, message: ToFront) {
        self.fronts[front].borrow_mut().push(message);
    }
    fn to_peer(&self, message: ToPeer) {
        self.sent.borrow_mut().push(message);
    }
    fn job(&self, job: Job) {
        self.jobs.borrow_mut().push(job);
    }
    fn fatal(&self, fatal: Fatal) {
        self.fatal.borrow_mut().get_or_insert(fatal);
    }
    fn stopped(&self) {
        *self.stopped.borrow_mut() = true;
    }
}

impl Queues {
    /// The jobs that were asked for.
    pub fn jobs(&self) -> Vec<Job> {
        self.jobs.take()
    }

    /// Whether changes of the members wait to be applied.
    fn has_changes_of_members(&self) -> bool {
        let waiting = self.apply.borrow();
        let entries = waiting.iter().flat_map(|message| match message {
            ToApply::Committed(batch) => batch.entries(),
            _ => &[],
        });
        entries
            .into_iter()
            .any(|entry| entry.kind != raft::EntryKind::Normal)
    }
}

/// A member's process.
pub struct Running {
    /// The stages.
    pub member: Opened,
    /// What lies between them.
    pub queues: Queues,
    /// What takes long.
    pub pool: Pool,
    /// The front threads.
    pub fronts: Vec<Frontend>,
    front_jobs: Vec<VecDeque<member::frontend::Job>>,
    /// Who waits for what a front has for a token.
    pub owners: Vec<BTreeMap<Token, usize>>,
    next_token: u64,
    /// What fronts had for their callers.
    pub replies: Vec<(usize, Token, FromFront)>,
    /// When each stage has its next turn, in the world's time.
    pub turns: BTreeMap<Stage, Instant>,
    /// How often entries came from the log's files for a member that lacked them.
    pub fetched: u64,
}

/// What a front has for a caller.
pub enum FromFront {
    /// The answer of a call.
    Reply(Result<bytes::Bytes, api::error::Status>),
    /// A stream has something.
    Wake,
}

impl Running {
    /// Starts a process on a disk.
    pub fn start(
        disk: &MemDisk,
        config: &Config,
        now: Instant,
        unix_ms: u64,
        seed: u64,
    ) -> Result<Running, Error> {
        let queues = Queues::default();
        let disk: Arc<dyn Disk> = disk.shared();
        let mut member = member::open(&disk, config, now, unix_ms, seed, &queues)?;
        let seats = std::mem::take(&mut member.fronts);
        let fronts = seats
            .into_iter()
            .map(|seat| Frontend::new(seat.config, seat.shared, seat.views))
            .collect();
        member.start(now, &queues);
        Ok(Running {
            member,
            queues,
            pool: Pool::default(),
            fronts,
            front_jobs: vec![VecDeque::new(), VecDeque::new()],
            owners: vec![BTreeMap::new(); FRONTS],
            next_token: 1,
            replies: Vec::new(),
            turns: BTreeMap::new(),
            fetched: 0,
        })
    }

    /// A token for a new call or stream.
    pub fn token(&mut self, front: usize, owner: usize) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.owners[front].insert(token, owner);
        token
    }

    /// Whether a stage has something to do, and when it wants its turn otherwise, in its own time.
    pub fn wants(&self, stage: Stage) -> (bool, Option<Instant>) {
        let queues = &self.queues;
        match stage {
            Stage::Decide => (!queues.decide.borrow().is_empty(), None),
            Stage::Persist => (
                !queues.persist.borrow().is_empty(),
                self.member.persist.next_wake(),
            ),
            Stage::Apply => (!queues.apply.borrow().is_empty(), self.member.apply.next_wake()),
            Stage::Committer => (!queues.committer.borrow().is_empty(), None),
            // It has its own moments.
            Stage::Job => (false, None),
            Stage::Front(front) => (
                !queues.fronts[front].borrow().is_empty(),
                self.fronts[front].next_tick(),
            ),
            Stage::FrontJob(front) => (!self.front_jobs[front].is_empty(), None),
        }
    }

    /// Gives a stage its turn. `world` is the world's time, `now` the process' own.
    pub fn turn(&mut self, stage: Stage, world: Instant, now: Instant) {
        let queues = &self.queues;
        match stage {
            Stage::Decide => {
                let mut inputs = queues.decide.take();
                let fetched =
                    |input: &&ToDecide| matches!(input, ToDecide::Fetched(found) if !found.is_empty());
                self.fetched += inputs.iter().filter(fetched).count() as u64;
                self.member.decide.handle(&mut inputs, now, queues);
            }
            Stage::Persist => {
                let mut inputs = queues.persist.take();
                self.member.persist.handle(&mut inputs, now, queues);
            }
            Stage::Apply => {
                let mut inputs = queues.apply.take();
                self.member.apply.handle(&mut inputs, now, queues);
            }
            Stage::Committer => {
                let mut inputs = queues.committer.take();
                self.member.committer.handle(&mut inputs, queues);
            }
            Stage::Job => {
                self.pool.step(world, queues);
            }
            Stage::Front(front) => self.turn_front(front, now),
            Stage::FrontJob(front) => {
                // The pool has several threads: what was asked for later may be done earlier.
                let jobs = &mut self.front_jobs[front];
                let any = world.since_start().subsec_nanos() as usize % jobs.len().max(1);
                if let Some(job) = jobs.remove(any) {
                    let done = job.run();
                    self.fronts[front].job_done(done, now);
                    self.drain_front(front);
                }
            }
        }
    }

    fn turn_front(&mut self, front: usize, now: Instant) {
        for message in self.queues.fronts[front].take() {
            let frontend = &mut self.fronts[front];
            match message {
                ToFront::Published { view, events } => frontend.published(&view, events.as_ref(), now),
                ToFront::Replaced { view } => frontend.replaced(&view, now),
                ToFront::Tell(tells) => {
                    for tell in tells {
                        frontend.handle(tell, now);
                    }
                }
            }
        }
        if self.fronts[front].next_tick().is_some_and(|at| at <= now) {
            self.fronts[front].tick(now);
        }
        self.drain_front(front);
    }

    /// Does what a front wants to be done.
    pub fn drain_front(&mut self, front: usize) {
        while let Some(output) = self.fronts[front].poll() {
            match output {
                Output::Reply { token, result, .. } => {
                    self.replies.push((front, token, FromFront::Reply(result)))
                }
                Output::Wake(token) => self.replies.push((front, token, FromFront::Wake)),
                Output::Decide(asks) => self.queues.to_decide(ToDecide::Ask(asks)),
                Output::Apply(asks) => self.queues.to_apply(ToApply::Ask(asks)),
                Output::Job(job) => self.front_jobs[front].push_back(job),
                Output::Broken(fatal) => self.queues.fatal(fatal),
            }
        }
    }
}

/// A place.
pub struct Node {
    /// The disk.
    pub disk: MemDisk,
    /// How its member is started.
    pub config: Config,
    /// Counts the processes: what was meant for an earlier one is not for this one.
    pub life: u64,
    /// When the process started, in the world's time.
    pub started: Instant,
    /// How fast its clock runs.
    pub rate: f64,
    /// How fast it ran before it began to keep the world's time.
    pub rate_before: f64,
    /// How fast the clock of the next process will run.
    pub next_rate: f64,
    /// How far its clock jumped ahead.
    pub jumped: Duration,
    /// The process, if there is one.
    pub running: Option<Running>,
    /// It does nothing before this moment of the world.
    pub paused_until: Instant,
    /// Stages that do nothing before such moments.
    pub stalls: BTreeMap<Stage, Instant>,
    /// How long its disk takes for a sync.
    pub sync_time: Duration,
    /// Its member was removed from the cluster, or it never had one.
    pub vacant: bool,
    /// In what state its disk is.
    pub health: Health,
    /// Until then its member may stop, or refuse to start: its disk did not work.
    pub excused_until: Instant,
    /// As which line it was last started, if it is to be another one now.
    pub line_before: Option<Line>,
    /// By how much its time of day is wrong, in milliseconds.
    pub wall_ahead_ms: u64,
}

impl Node {
    /// A place with an empty disk, to be a member of a cluster of the places 0 to `first`.
    pub fn new(place: usize, first: usize) -> Node {
        let url = |place: usize| vec![format!("http://10.0.0.{}:2380", place + 1)];
        let name = |place: usize| format!("m{place}");
        let initial_cluster = (0..first)
            .map(|place| InitialMember {
                name: name(place),
                peer_urls: url(place),
            })
            .collect();
        Node {
            disk: MemDisk::new(),
            config: Config {
                name: name(place),
                data_dir: PathBuf::from("/data"),
                initial_cluster,
                advertise_peer_urls: url(place),
                advertise_client_urls: vec![format!("http://10.0.0.{}:2379", place + 1)],
                quota_backend_bytes: -1,
                fronts: FRONTS,
                segment_bytes: 256 << 10,
                page_cache_bytes_max: 1 << 20,
                ..Config::default()
            },
            life: 0,
            started: Instant::default(),
            rate: 1.0,
            next_rate: 1.0,
            rate_before: 1.0,
            jumped: Duration::ZERO,
            running: None,
            paused_until: Instant::default(),
            stalls: BTreeMap::new(),
            sync_time: Duration::from_micros(500),
            vacant: false,
            health: Health::Sound,
            excused_until: Instant::default(),
            line_before: None,
            wall_ahead_ms: 0,
        }
    }

    /// The process' own time at a moment of the world.
    pub fn local(&self, now: Instant) -> Instant {
        Instant::from_start(now.saturating_since(self.started).mul_f64(self.rate) + self.jumped)
    }

    /// From now on the clock runs as the world's does. Members that tick at different paces, without a pre-vote and with
    /// logs of different length, may disturb each other's elections for minutes.
    pub fn keep_time(&mut self, now: Instant) {
        self.jumped = self.local(now).since_start();
        self.started = now;
        self.rate_before = self.rate;
        (self.rate, self.next_rate) = (1.0, 1.0);
    }

    /// The moment of the world at which the process' own time is `local`.
    pub fn global(&self, local: Instant) -> Instant {
        let ahead = local.since_start().saturating_sub(self.jumped);
        self.started + ahead.div_f64(self.rate)
    }

    /// When a stage may have its next turn.
    pub fn held_until(&self, stage: Stage) -> Instant {
        let stalled = self.stalls.get(&stage).copied().unwrap_or_default();
        stalled.max(self.paused_until)
    }

    /// The member whose process runs here.
    pub fn id(&self) -> Option<u64> {
        self.running
            .as_ref()
            .map(|running| running.member.shared.member_id)
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }
}
