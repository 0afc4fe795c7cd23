//! The cluster, its clients and its time. One seed decides everything that happens.

use std::collections::BTreeMap;
use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb::AlarmType;
use bytes::Bytes;
use disk::Disk;
use disk::mem::{CrashMode, MemDisk};
use member::frontend::{Context, Method, Outcome};
use member::{HashAnswer, Join, Parcel, Router, ToApply, ToDecide, ToPeer};

use crate::client::{Client, Op, Waiting};
use crate::faults::{Fault, Faults};
use crate::hashes::HashMail;
use crate::net::Net;
use crate::node::{FRONTS, FromFront, Node, Running, Stage};
use crate::trace::Trace;
use crate::truth::Truth;
use crate::watcher::Watcher;

/// Owners of tokens from here on are watchers.
const WATCHERS: usize = 1000;

/// What a turn takes at least.
const TURN_MIN: Duration = Duration::from_micros(5);

/// Turns of one stage within a second of the world after which it is taken to be caught in a loop.
const TURNS_MAX: u32 = 60_000;

/// Unix milliseconds at the world's beginning.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Something that will happen.
pub(crate) enum Event {
    /// A stage's turn.
    Turn { place: usize, life: u64, stage: Stage },
    /// A member's clock ticks.
    Tick { place: usize, life: u64 },
    /// A message arrives.
    Deliver { to: usize, message: Box<raft::Message> },
    /// The transfer of a snapshot ends, one way or the other.
    Landing(Box<Landing>),
    /// A message was lost, and its sender notices.
    Lost { from: usize, life: u64, id: u64 },
    /// A question for a hash, or the answer, arrives.
    Hash(Box<HashMail>),
    /// A client acts.
    Client(usize),
    /// A watcher looks whether it has a stream.
    Watcher(usize),
    /// The next fault.
    Fault,
    /// A process is started.
    Start(usize),
    /// A fault ends.
    End(Fault),
}

/// A snapshot that has travelled.
pub(crate) struct Landing {
    from: usize,
    life: u64,
    to: usize,
    message: raft::Message,
    content: Vec<u8>,
    whole: bool,
}

/// See the module.
pub struct World {
    /// The time.
    pub now: Instant,
    pub(crate) rng: fastrand::Rng,
    agenda: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_id: BTreeMap<u64, usize>,
    pub(crate) net: Net,
    pub(crate) truth: Truth,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    /// What serializable reads have shown, by place and process.
    serial: BTreeMap<(usize, u64), i64>,
    /// How many turns each stage had in a second.
    turns: BTreeMap<(usize, Stage), (u64, u32)>,
    /// Whether clients and faults rest.
    pub(crate) calm: bool,
    pub(crate) violation: Option<String>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was wrong, if anything.
    pub violation: Option<String>,
    /// How much time passed in the world.
    pub time: Duration,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// A sum over all that happened: equal for equal runs.
    pub digest: u64,
    /// The last things that happened, for people.
    pub timeline: Vec<String>,
}

/// Runs the world of a seed for so long, then lets it come to rest and judges.
pub fn run(seed: u64, span: Duration) -> Report {
    let mut world = World::new(seed);
    let end = Instant::from_start(span);
    world.run_until(end);
    if world.violation.is_none() {
        world.settle_and_judge();
    }
    let mut counts = std::mem::take(&mut world.trace.counts);
    counts.insert("terms with a leader", world.truth.elections() as u64);
    counts.insert("entries", world.truth.entries() as u64);
    for watcher in &world.watchers {
        *counts.entry("events seen by watchers").or_default() += watcher.seen;
        *counts.entry("progress notifications").or_default() += watcher.notified;
        *counts.entry("watchers overtaken by compactions").or_default() += watcher.overtaken;
    }
    Report {
        seed,
        violation: world.violation,
        time: world.now.since_start(),
        counts,
        digest: world.trace.digest(),
        timeline: world.trace.lines(),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let size = if rng.u8(0..4) == 0 { 5 } else { 3 };
        let faults = Faults::draw(&mut rng);
        // One place more, for members that join.
        let mut nodes: Vec<Node> = (0..=size).map(|place| Node::new(place, size)).collect();
        nodes[size].vacant = true;
        for node in &mut nodes {
            faults.configure(&mut node.config, &mut rng);
        }
        let clients =
            (0..rng.usize(2..8)).map(|name| Client::new(name, (rng.usize(0..size), rng.usize(0..FRONTS))));
        let clients = clients.collect::<Vec<_>>();
        let watchers = (0..rng.usize(1..6))
            .map(|_| Watcher::new(&mut rng))
            .collect::<Vec<_>>();
        let mut world = World {
            now: Instant::default(),
            rng,
            agenda: BTreeMap::new(),
            sequence: 0,
            nodes,
            by_id: BTreeMap::new(),
            net: Net::default(),
            truth: Truth::default(),
            clients,
            watchers,
            faults,
            trace: Trace::default(),
            serial: BTreeMap::new(),
            turns: BTreeMap::new(),
            calm: false,
            violation: None,
        };
        for place in 0..size {
            let delay = Duration::from_millis(world.rng.u64(0..300));
            world.after(delay, Event::Start(place));
        }
        for client in 0..world.clients.len() {
            world.after(Duration::from_millis(1500), Event::Client(client));
        }
        for watcher in 0..world.watchers.len() {
            world.after(Duration::from_millis(1500), Event::Watcher(watcher));
        }
        let first = world.faults.pause(&mut world.rng);
        world.after(Duration::from_secs(2) + first, Event::Fault);
        world
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.agenda.insert((at.max(self.now), self.sequence), event);
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        while self.violation.is_none() {
            let Some(entry) = self.agenda.first_entry() else {
                break;
            };
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = self.now.max(end);
    }

    fn wrong(&mut self, what: String) {
        self.trace.tell(self.now, format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { place, life, stage } => self.turn(place, life, stage),
            Event::Tick { place, life } => self.tick(place, life),
            Event::Deliver { to, message } => self.deliver(to, message),
            Event::Landing(landing) => self.land(*landing),
            Event::Lost { from, life, id } => self.decide(from, life, ToDecide::Unreachable { id }),
            Event::Hash(mail) => self.take_hash(*mail),
            Event::Client(client) => self.client_acts(client),
            Event::Watcher(watcher) => self.watcher_looks(watcher),
            Event::Fault => crate::faults::next(self),
            Event::Start(place) => self.start(place),
            Event::End(fault) => crate::faults::end(self, fault),
        }
    }

    /// A message for the raft stage of a process that may have ended.
    fn decide(&mut self, place: usize, life: u64, message: ToDecide) {
        let node = &self.nodes[place];
        if node.life != life {
            return;
        }
        if let Some(running) = &node.running {
            running.queues.to_decide(message);
            self.plan(place);
        }
    }

    pub(crate) fn apply(&mut self, place: usize, life: u64, message: ToApply) {
        let node = &self.nodes[place];
        if node.life != life {
            return;
        }
        if let Some(running) = &node.running {
            running.queues.to_apply(message);
            self.plan(place);
        }
    }

    // ---- processes

    pub(crate) fn start(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        if node.vacant || node.is_up() {
            return;
        }
        node.life += 1;
        node.started = self.now;
        node.jumped = Duration::ZERO;
        let unix_ms = EPOCH_MS + self.now.since_start().as_millis() as u64;
        let seed = self.rng.u64(..);
        match Running::start(&node.disk, &node.config, Instant::default(), unix_ms, seed) {
            Ok(running) => {
                let id = running.member.shared.member_id;
                let life = node.life;
                self.by_id.insert(id, place);
                self.nodes[place].running = Some(running);
                self.trace.count("starts");
                self.trace
                    .tell(self.now, format!("m{place} starts as {id:x}, process {life}"));
                self.after(Duration::ZERO, Event::Tick { place, life });
                self.settle(place);
            }
            Err(error) => self.refused(place, error.to_string()),
        }
    }

    fn refused(&mut self, place: usize, reason: String) {
        self.trace
            .tell(self.now, format!("m{place} refuses to start: {reason}"));
        let node = &mut self.nodes[place];
        if node.disk.stopped() {
            // The machine died while it started.
            return self.die(place);
        }
        if self.faults.may_break(place) {
            let delay = Duration::from_millis(self.rng.u64(100..3000));
            return self.after(delay, Event::Start(place));
        }
        let id = self.by_id.iter().find(|(_, at)| **at == place).map(|(id, _)| *id);
        if id.is_some_and(|id| reason.contains("is not a member of the cluster") && self.is_removed(id)) {
            self.trace.count("removed members that may not start again");
            return self.vacate(place);
        }
        self.wrong(format!("m{place} refuses to start: {reason}"));
    }

    /// The process is gone, what it has not synced perhaps too.
    pub(crate) fn crash(&mut self, place: usize, mode: Option<CrashMode>) {
        self.forget_process(place);
        let seed = self.rng.u64(..);
        let node = &mut self.nodes[place];
        match mode {
            Some(mode) => node.disk = node.disk.crash(seed, mode),
            None => node.disk.resume(),
        }
        let cold = self.faults.cold;
        self.nodes[place].disk.set_cold(cold);
    }

    fn forget_process(&mut self, place: usize) {
        self.nodes[place].running = None;
        self.nodes[place].life += 1;
        for client in &mut self.clients {
            if client.at.0 == place {
                client.waiting = None;
            }
        }
        for watcher in &mut self.watchers {
            if watcher.at.is_some_and(|at| at.0 == place) {
                watcher.at = None;
            }
        }
    }

    /// A machine died in the midst of an I/O step.
    pub(crate) fn die(&mut self, place: usize) {
        let mode = self.faults.crash_mode(&mut self.rng);
        self.trace.count("machines that died within a write");
        self.trace
            .tell(self.now, format!("m{place} dies within an I/O step: {mode:?}"));
        self.crash(place, mode);
        let delay = Duration::from_millis(self.rng.u64(100..4000));
        self.after(delay, Event::Start(place));
    }

    /// The member left the cluster: the place is free.
    pub(crate) fn vacate(&mut self, place: usize) {
        self.forget_process(place);
        let node = &mut self.nodes[place];
        node.vacant = true;
        node.disk = MemDisk::new();
        self.by_id.retain(|_, at| *at != place);
    }

    /// Gives a free place to a member that was added with the place's URL.
    pub(crate) fn settle_in(&mut self, place: usize, join: Join) {
        let node = &mut self.nodes[place];
        node.vacant = false;
        node.config.new_cluster = false;
        node.config.initial_cluster = vec![member::InitialMember {
            name: node.config.name.clone(),
            peer_urls: node.config.advertise_peer_urls.clone(),
        }];
        node.config.join = Some(join);
        self.after(Duration::from_millis(50), Event::Start(place));
    }

    // ---- turns

    fn tick(&mut self, place: usize, life: u64) {
        let node = &self.nodes[place];
        if node.life != life || !node.is_up() {
            return;
        }
        let span = node.config.tick.div_f64(node.rate);
        let (now, until) = (self.now, node.paused_until);
        // Its streams to the others are refused if it was removed, also while it has nothing to say.
        let id = node
            .running
            .as_ref()
            .map(|running| running.member.shared.member_id);
        if self.rng.u8(0..10) == 0 && id.is_some_and(|id| self.is_removed(id)) {
            self.decide(place, life, ToDecide::Stop);
        }
        self.decide(place, life, ToDecide::Tick);
        // A paused process does not catch up on its ticks.
        let next = (now + span).max(until);
        self.at(next, Event::Tick { place, life });
    }

    /// Sees to it that each stage that has something to do gets its turn.
    fn plan(&mut self, place: usize) {
        let now = self.now;
        let node = &mut self.nodes[place];
        let (life, paused, sync_time) = (node.life, node.paused_until, node.sync_time);
        let mut planned = Vec::new();
        for stage in Stage::all() {
            let Some(running) = &node.running else { return };
            let (ready, wake) = running.wants(stage);
            // A turn takes time: a stage that is always due must not stop the world.
            let mut at = wake.map(|wake| node.global(wake).max(now + TURN_MIN));
            if ready {
                let takes = match stage {
                    Stage::Persist | Stage::Committer => sync_time.mul_f64(0.5 + self.rng.f64()),
                    Stage::Job | Stage::FrontJob(_) => Duration::from_micros(self.rng.u64(10..2000)),
                    Stage::Decide | Stage::Apply | Stage::Front(_) => {
                        Duration::from_micros(self.rng.u64(1..60))
                    }
                };
                at = Some(at.map_or(now + takes, |at| at.min(now + takes)));
            }
            let Some(at) = at.map(|at| at.max(paused)) else {
                continue;
            };
            let running = node.running.as_mut().expect("looked at above");
            if running.turns.get(&stage).is_none_or(|planned| *planned > at) {
                running.turns.insert(stage, at);
                planned.push((at, stage));
            }
        }
        for (at, stage) in planned {
            self.at(at, Event::Turn { place, life, stage });
        }
    }

    fn turn(&mut self, place: usize, life: u64, stage: Stage) {
        let now = self.now;
        let node = &mut self.nodes[place];
        let local = node.local(now);
        let paused = node.paused_until;
        let Some(running) = node.running.as_mut().filter(|_| node.life == life) else {
            return;
        };
        if running.turns.get(&stage) != Some(&now) {
            return;
        }
        if paused > now {
            running.turns.remove(&stage);
            return self.plan(place);
        }
        running.turns.remove(&stage);
        running.turn(stage, local);
        let second = now.since_start().as_secs();
        let (of, count) = self.turns.entry((place, stage)).or_default();
        *count = if *of == second { *count + 1 } else { 1 };
        *of = second;
        if *count > TURNS_MAX {
            return self.wrong(format!("m{place}: {stage:?} never comes to rest"));
        }
        self.settle(place);
    }

    /// Takes what a turn left: messages, answers, news for the judges.
    fn settle(&mut self, place: usize) {
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let id = running.member.shared.member_id;
        let committed = running.queues.committed.take();
        let sent = running.queues.sent.take();
        let replies = std::mem::take(&mut running.replies);
        let lines = running.queues.log.take();
        let fatal = running.queues.fatal.take();
        let stopped = running.queues.stopped.take();
        let pulse = &running.member.shared.pulse;
        let (term, leads) = (pulse.term(), pulse.leader() == id);
        let view = running.member.views.load();
        for line in lines {
            self.trace.log(self.now, place, &line);
        }
        if let Err(what) = self.truth.committed(id, &committed) {
            return self.wrong(what);
        }
        if leads {
            match self.truth.leads(id, term) {
                Ok(true) => self
                    .trace
                    .tell(self.now, format!("m{place} leads in term {term}")),
                Ok(false) => {}
                Err(what) => return self.wrong(what),
            }
        }
        if let Err(what) = self.truth.check_revision(id, &view) {
            return self.wrong(what);
        }
        if self.rng.u16(0..2000) == 0
            && let Err(what) = self.truth.check_content(id, &view)
        {
            return self.wrong(what);
        }
        for message in sent {
            self.send(place, message);
        }
        for (front, token, what) in replies {
            self.reply(place, front, token, what);
        }
        if let Some(fatal) = fatal {
            return self.broke(place, &format!("{}: {}", fatal.what, fatal.reason));
        }
        if stopped {
            self.trace.count("orderly stops");
            self.trace.tell(self.now, format!("m{place} has stopped"));
            let removed = self.is_removed(id);
            self.forget_process(place);
            if removed {
                self.vacate(place);
            } else {
                let delay = Duration::from_millis(self.rng.u64(10..2000));
                self.after(delay, Event::Start(place));
            }
            return;
        }
        self.plan(place);
    }

    /// Whether the cluster has removed the member, as any process knows.
    fn is_removed(&self, id: u64) -> bool {
        let mut running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        running.any(|running| running.member.shared.facts().removed.contains(&id))
    }

    fn broke(&mut self, place: usize, reason: &str) {
        self.trace.tell(self.now, format!("m{place} breaks: {reason}"));
        if self.nodes[place].disk.stopped() {
            return self.die(place);
        }
        if !self.faults.may_break(place) {
            return self.wrong(format!("m{place} breaks: {reason}"));
        }
        self.trace.count("members that stopped for a fault of their disk");
        self.crash(place, None);
        let delay = Duration::from_millis(self.rng.u64(100..3000));
        self.after(delay, Event::Start(place));
    }

    // ---- the network

    fn send(&mut self, from: usize, message: ToPeer) {
        let to_id = match &message {
            ToPeer::Message(message) => message.to,
            ToPeer::Snapshot(parcel) => parcel.message.to,
            ToPeer::AskHash { to, .. } => *to,
        };
        let to = self.by_id.get(&to_id).copied();
        let life = self.nodes[from].life;
        match message {
            ToPeer::Message(message) => {
                let arrivals = match to {
                    Some(to) => self.net.arrivals(from, to, &mut self.rng),
                    None => Vec::new(),
                };
                if arrivals.is_empty() {
                    self.trace.count("messages lost");
                    let notice = Duration::from_millis(self.rng.u64(1..200));
                    self.after(
                        notice,
                        Event::Lost {
                            from,
                            life,
                            id: to_id,
                        },
                    );
                }
                for (copy, delay) in arrivals.iter().enumerate() {
                    if copy > 0 {
                        self.trace.count("messages that came twice");
                    }
                    let to = to.expect("only known members are reached");
                    let message = message.clone();
                    self.after(*delay, Event::Deliver { to, message });
                }
            }
            ToPeer::Snapshot(parcel) => self.ship(from, life, to, *parcel),
            ToPeer::AskHash { to: id, revision } => self.ask_hash(HashMail {
                asker: (from, life),
                asked: to,
                answer: HashAnswer {
                    from: id,
                    revision,
                    hash: None,
                },
                returns: false,
            }),
        }
    }

    fn ship(&mut self, from: usize, life: u64, to: Option<usize>, parcel: Parcel) {
        let mut content = Vec::new();
        let mut stream = parcel.db.stream();
        while let Ok(Some(chunk)) = stream.next_chunk() {
            content.extend_from_slice(&chunk);
        }
        let reached = to.is_some_and(|to| !self.net.cut.contains(&(from, to)));
        let torn = self.rng.f64() < self.net.tear;
        let message = parcel.message;
        let takes = Duration::from_millis(self.rng.u64(5..400));
        self.trace.count("snapshots sent");
        let landing = Landing {
            from,
            life,
            to: to.unwrap_or(from),
            message,
            content,
            whole: reached && !torn,
        };
        self.after(takes, Event::Landing(Box::new(landing)));
    }

    fn deliver(&mut self, to: usize, message: Box<raft::Message>) {
        let node = &self.nodes[to];
        let (life, paused) = (node.life, node.paused_until);
        if !node.is_up() {
            return;
        }
        if paused > self.now {
            return self.at(paused, Event::Deliver { to, message });
        }
        // Who is removed is told so by those who know, and stops (etcd: rafthttp answers 410).
        let knows = node.running.as_ref().map(|running| running.member.shared.facts());
        if knows.is_some_and(|facts| facts.removed.contains(&message.from)) {
            if let Some(&from) = self.by_id.get(&message.from) {
                let life = self.nodes[from].life;
                self.trace.count("messages of removed members");
                self.decide(from, life, ToDecide::Stop);
            }
            return;
        }
        self.decide(to, life, ToDecide::Peer(message));
    }

    fn land(&mut self, landing: Landing) {
        let id = landing.message.to;
        let sender = (landing.from, landing.life);
        let arrived = landing.whole && self.nodes[landing.to].is_up() && self.accept(landing);
        if !arrived {
            self.trace.count("snapshots that did not arrive");
        }
        self.decide(sender.0, sender.1, ToDecide::SnapshotSent { id, arrived });
    }

    fn accept(&mut self, landing: Landing) -> bool {
        let node = &mut self.nodes[landing.to];
        let name = format!("tmp{}", self.sequence);
        let path = node.config.snap_dir().join(name);
        let disk: std::sync::Arc<dyn Disk> = node.disk.shared();
        let written = disk.open(&path, disk::Open::CreateNew).and_then(|file| {
            file.write_at(&landing.content, 0)?;
            file.sync_all()
        });
        let accepted = written.map_err(|error| error.to_string()).and_then(|()| {
            member::peer::accept_snapshot(&disk, &path, &landing.message, &node.config)
                .map_err(|error| error.to_string())
        });
        let life = node.life;
        match accepted {
            Ok(_) => {
                self.trace.count("snapshots that arrived");
                self.decide(landing.to, life, ToDecide::Peer(Box::new(landing.message)));
                true
            }
            Err(reason) => {
                self.trace
                    .tell(self.now, format!("m{} rejects a snapshot: {reason}", landing.to));
                false
            }
        }
    }

    // ---- clients

    fn reply(&mut self, place: usize, front: usize, token: member::frontend::Token, what: FromFront) {
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let Some(owner) = running.owners[front].get(&token).copied() else {
            return;
        };
        match what {
            FromFront::Wake => {
                if owner >= WATCHERS {
                    self.watcher_reads(owner - WATCHERS, place, front, token);
                }
            }
            FromFront::Reply(result) => {
                running.owners[front].remove(&token);
                let waiting = self.clients[owner]
                    .waiting
                    .take_if(|waiting| waiting.token == token);
                if let Some(waiting) = waiting {
                    self.answered(owner, waiting, result);
                }
            }
        }
    }

    fn client_acts(&mut self, client: usize) {
        let again = Duration::from_millis(self.rng.u64(1..80));
        self.after(again, Event::Client(client));
        if self.calm {
            return;
        }
        if let Some(waiting) = &self.clients[client].waiting {
            if self.now - waiting.since > Duration::from_secs(9) {
                self.give_up(client);
            }
            return;
        }
        if self.rng.u8(0..30) == 0 {
            self.clients[client].at = (self.rng.usize(0..self.nodes.len()), self.rng.usize(0..FRONTS));
        }
        let op = self.clients[client].choose(&self.truth, &mut self.rng);
        self.ask(client, op);
    }

    fn give_up(&mut self, client: usize) {
        let (place, front) = self.clients[client].at;
        let Some(waiting) = self.clients[client].waiting.take() else {
            return;
        };
        self.trace.count("requests given up");
        let node = &mut self.nodes[place];
        if let Some(running) = node.running.as_mut().filter(|_| node.life == waiting.life) {
            running.owners[front].remove(&waiting.token);
            running.fronts[front].cancel(waiting.token);
            running.drain_front(front);
            self.settle(place);
        }
        self.clients[client].at.0 = self.rng.usize(0..self.nodes.len());
    }

    /// Asks; `false` if nobody is there.
    pub(crate) fn ask(&mut self, client: usize, op: Op) -> bool {
        let (place, front) = self.clients[client].at;
        let node = &mut self.nodes[place];
        let local = node.local(self.now);
        let life = node.life;
        let awake = node.paused_until <= self.now;
        let Some(running) = node.running.as_mut().filter(|_| awake) else {
            self.clients[client].at.0 = self.rng.usize(0..self.nodes.len());
            return false;
        };
        self.trace.count("requests");
        let token = running.token(front, client);
        let (method, message) = op.call();
        let context = Context {
            deadline: Some(local + Duration::from_secs(8)),
            ..Context::default()
        };
        let waiting = Waiting {
            token,
            life,
            op,
            since: self.now,
            floor: self.truth.floor,
        };
        let outcome = running.fronts[front].call(token, method, message, context, local);
        running.drain_front(front);
        match outcome {
            Outcome::Pending => self.clients[client].waiting = Some(waiting),
            Outcome::Done(result) => {
                running.owners[front].remove(&token);
                self.answered(client, waiting, result);
            }
        }
        self.settle(place);
        true
    }

    /// The operator uses the connection of the client 0, if that is free.
    pub(crate) fn ask_as_operator(&mut self, place: usize, op: Op) {
        if self.clients[0].waiting.is_none() {
            self.clients[0].at = (place, 0);
            self.ask(0, op);
        }
    }

    fn answered(&mut self, client: usize, waiting: Waiting, result: Result<Bytes, api::error::Status>) {
        match result {
            Ok(answer) => {
                self.trace.count("answers");
                let place = self.clients[client].at.0;
                let serial = self.serial.entry((place, waiting.life)).or_default();
                let judged = self.clients[client].answered(&waiting, &answer, &mut self.truth, serial);
                match judged {
                    Ok(()) => {
                        if let Op::Members(method, _) = waiting.op {
                            crate::faults::members_changed(self, method, &answer);
                        }
                    }
                    Err(what) => self.wrong(format!("m{place}: {what}")),
                }
            }
            Err(status) => {
                self.trace.count("refusals");
                self.trace.sum(&status.message);
                if let Op::Members(..) = waiting.op {
                    self.trace
                        .tell(self.now, format!("{}: {}", waiting.op.tell(), status.message));
                }
                if self.rng.u8(0..3) == 0 {
                    self.clients[client].at.0 = self.rng.usize(0..self.nodes.len());
                }
            }
        }
    }

    fn watcher_looks(&mut self, watcher: usize) {
        let again = Duration::from_millis(self.rng.u64(20..400));
        self.after(again, Event::Watcher(watcher));
        if self.watchers[watcher].at.is_some() {
            if !self.calm && self.rng.u16(0..200) == 0 {
                self.hang_up(watcher);
            }
            return;
        }
        let (place, front) = (self.rng.usize(0..self.nodes.len()), self.rng.usize(0..FRONTS));
        let node = &mut self.nodes[place];
        let (local, life) = (node.local(self.now), node.life);
        let Some(running) = &mut node.running else { return };
        let token = running.token(front, WATCHERS + watcher);
        let opened = running.fronts[front].stream_open(token, Method::Watch, Context::default(), local);
        if opened.is_err() {
            running.owners[front].remove(&token);
            return;
        }
        let request = self.watchers[watcher].request();
        running.fronts[front].stream_message(token, request, local);
        running.drain_front(front);
        self.watchers[watcher].at = Some((place, front, life, token));
        self.settle(place);
    }

    fn hang_up(&mut self, watcher: usize) {
        let Some((place, front, life, token)) = self.watchers[watcher].at.take() else {
            return;
        };
        let node = &mut self.nodes[place];
        if let Some(running) = node.running.as_mut().filter(|_| node.life == life) {
            running.owners[front].remove(&token);
            running.fronts[front].stream_close(token);
            running.drain_front(front);
            self.settle(place);
        }
    }

    fn watcher_reads(&mut self, watcher: usize, place: usize, front: usize, token: member::frontend::Token) {
        loop {
            let node = &mut self.nodes[place];
            let local = node.local(self.now);
            let Some(running) = &mut node.running else { return };
            let poll = running.fronts[front].stream_poll(token, 16 << 10, local);
            for frame in &poll.frames {
                match self.watchers[watcher].take(frame, &self.truth) {
                    Ok(true) => {}
                    Ok(false) => return self.hang_up(watcher),
                    Err(what) => return self.wrong(format!("m{place}: {what}")),
                }
            }
            if poll.end.is_some() {
                self.watchers[watcher].at = None;
                if let Some(running) = &mut self.nodes[place].running {
                    running.owners[front].remove(&token);
                }
                return;
            }
            if !poll.more {
                break;
            }
        }
        if let Some(running) = &mut self.nodes[place].running {
            running.drain_front(front);
        }
    }

    // ---- the end

    /// All faults end; the cluster must serve again, and all must agree.
    fn settle_and_judge(&mut self) {
        self.calm = true;
        crate::faults::end_all(self);
        self.trace.tell(self.now, "all faults end".to_owned());
        let places: Vec<usize> = (0..self.nodes.len()).collect();
        for &place in &places {
            self.start(place);
        }
        let rest = self.now + Duration::from_secs(15);
        self.run_until(rest);
        for client in 0..self.clients.len() {
            self.give_up(client);
        }
        if self.violation.is_none() {
            self.judge_liveness();
        }
        let rest = self.now + Duration::from_secs(5);
        self.run_until(rest);
        if self.violation.is_none() {
            self.judge_agreement();
        }
    }

    /// A write through every member succeeds in bounded time.
    fn judge_liveness(&mut self) {
        for place in 0..self.nodes.len() {
            let Some(running) = &self.nodes[place].running else {
                continue;
            };
            if running.member.shared.pulse.is_learner() {
                continue;
            }
            let deadline = self.now + Duration::from_secs(30);
            let before = self.trace.counts.get("answers").copied();
            let mut served = false;
            while self.now < deadline && !served && self.violation.is_none() {
                self.clients[0].at = (place, 0);
                let put = api::etcdserverpb::PutRequest {
                    key: Bytes::from_static(b"alive"),
                    value: format!("{place}").into_bytes().into(),
                    ..api::etcdserverpb::PutRequest::default()
                };
                if self.clients[0].waiting.is_none() {
                    self.ask(0, Op::Put(put));
                }
                let soon = self.now + Duration::from_millis(100);
                self.run_until(soon);
                served = self.trace.counts.get("answers").copied() != before;
            }
            if !served && self.nodes[place].is_up() {
                return self.wrong(format!("m{place} does not serve 45 s after all faults ended"));
            }
        }
    }

    fn judge_agreement(&mut self) {
        let mut facts = Vec::new();
        for place in 0..self.nodes.len() {
            let Some(running) = &mut self.nodes[place].running else {
                continue;
            };
            let shared = running.member.shared.clone();
            let view = running.member.views.load();
            if let Err(what) = self.truth.check_content(shared.member_id, &view) {
                return self.wrong(what);
            }
            if view.revision != self.truth.model.revision {
                let (has, all) = (view.revision, self.truth.model.revision);
                return self.wrong(format!("m{place} has come to revision {has} of {all} at the end"));
            }
            let broken = running.member.check_file();
            if let Some(violation) = broken.first() {
                return self.wrong(format!("m{place}: data file: {violation}"));
            }
            facts.push((place, shared.facts()));
        }
        // No fault so far changes what a store holds.
        let corrupt = |alarm: &&member::Alarm| alarm.kind == AlarmType::Corrupt as i32;
        let mut alarms = facts.iter().flat_map(|(_, facts)| &facts.alarms);
        if let Some(alarm) = alarms.find(corrupt) {
            return self.wrong(format!("the data of {:x} is taken for corrupt", alarm.member_id));
        }
        if let Some((first, one)) = facts.first() {
            for (place, other) in &facts {
                if one.members != other.members || one.alarms != other.alarms {
                    let what =
                        format!("m{first} and m{place} disagree about members or alarms: {one:?} {other:?}");
                    return self.wrong(what);
                }
            }
        }
        let revision = self.truth.model.revision;
        let late = self
            .watchers
            .iter()
            .find(|watcher| !watcher.is_complete(&self.truth, revision));
        if let Some(watcher) = late {
            let what = format!("a watcher never saw all up to {revision}: {}", watcher.tell());
            self.wrong(what);
        }
    }
}
