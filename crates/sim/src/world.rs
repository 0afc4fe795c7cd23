//! The cluster, its clients and its time. One seed decides everything that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::clock::Instant;
use bytes::Bytes;
use disk::mem::{CrashMode, MemDisk};
use member::frontend::Token;
use member::{Join, Router, ToApply, ToDecide, ToPeer};

use crate::client::{Client, Waiting};
use crate::consensus::{self, Consensus};
use crate::copier::Copier;
use crate::damage::Health;
use crate::faults::{Fault, Faults};
use crate::hashes::HashMail;
use crate::lessee::Lessee;
use crate::linear::Histories;
use crate::looks::is_vote;
use crate::net::Net;
use crate::node::{FRONTS, Node, Running, Stage};
use crate::plan::Plan;
use crate::questions::QuestionMail;
use crate::straggler::Pools;
use crate::trace::Trace;
use crate::truth::Truth;
use crate::watcher::Watcher;
use crate::wire::Landing;

/// Owners of tokens from here on are watchers.
pub(crate) const WATCHERS: usize = 1000;

/// From here on, those who live by a lease.
pub(crate) const LESSEES: usize = 2000;

/// From here on, those who copy the whole state.
pub(crate) const COPIERS: usize = 3000;

/// What a turn takes at least.
const TURN_MIN: Duration = Duration::from_micros(5);

/// Turns of one stage within a second of the world after which it is taken to be caught in a loop.
const TURNS_MAX: u32 = 60_000;

/// One of so many turns of the log ends between write and sync, where such things are drawn.
const KILLS_WRITERS: u16 = 60;

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
    /// A question to the leader, or the answer, arrives.
    Question(Box<QuestionMail>),
    /// A client acts.
    Client(usize),
    /// A watcher looks whether it has a stream.
    Watcher(usize),
    /// Somebody who lives by a lease looks after it.
    Lessee(usize),
    /// Somebody copies the whole state.
    Copier(usize),
    /// The leader hears what became of a snapshot.
    Told {
        place: usize,
        life: u64,
        message: Box<ToDecide>,
    },
    /// The operator changes the members.
    Operator,
    /// The leader is cut off.
    Switch,
    /// Somebody falls behind.
    Straggler,
    /// A place is cut off.
    CutOff(usize, Duration),
    /// The next fault.
    Fault,
    /// A process is started.
    Start(usize),
    /// A fault ends.
    End(Fault),
    /// The operator looks after a damaged member.
    Repair(usize),
    /// Members ask each other for their versions.
    Versions,
}

/// See the module.
pub struct World {
    /// The time.
    pub now: Instant,
    pub(crate) rng: fastrand::Rng,
    pub(crate) plan: Plan,
    /// Clients and watchers that are there.
    pub(crate) actors: Vec<String>,
    faults_drawn: u64,
    faults_seen: Vec<(u64, String)>,
    pub(crate) agenda: BTreeMap<(Instant, u64), Event>,
    pub(crate) sequence: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_id: BTreeMap<u64, usize>,
    pub(crate) net: Net,
    pub(crate) truth: Truth,
    pub(crate) consensus: Consensus,
    /// What each place's process had shown when it was looked at last: process, index and revision.
    pub(crate) shown: BTreeMap<usize, (u64, u64, i64)>,
    /// Leases that clients asked to be revoked.
    pub(crate) asked_revocations: BTreeSet<i64>,
    /// In which term each lease was granted.
    pub(crate) granted_in: BTreeMap<i64, u64>,
    /// Who led last.
    pub(crate) last_leader: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) watchers: Vec<Watcher>,
    /// Calls of other members that fronts have not answered, by place, process and token.
    pub(crate) peer_calls: BTreeMap<(usize, u64, Token), QuestionMail>,
    pub(crate) lessees: Vec<Lessee>,
    pub(crate) copiers: Vec<Copier>,
    /// Calls to keys whose histories are searched.
    pub(crate) histories: Histories,
    /// Writes of which nobody was told whether they happened.
    pub(crate) unknown_fates: Vec<(Bytes, Bytes)>,
    pub(crate) killer: Killer,
    pub(crate) pools: Pools,
    /// When all faults ended.
    pub(crate) calm_since: Instant,
    /// When the newest leader was elected.
    pub(crate) led_since: Instant,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    /// What serializable reads have shown, by place and process.
    pub(crate) serial: BTreeMap<(usize, u64), i64>,
    /// How many turns each stage had in a second.
    pub(crate) turns: BTreeMap<(usize, Stage), (u64, u32)>,
    /// Whether clients and faults rest.
    pub(crate) calm: bool,
    /// Members whose disks were lost: nobody may come back as one of them.
    pub(crate) gone: BTreeSet<u64>,
    pub(crate) violation: Option<String>,
    /// The place of which a stored value has flipped.
    pub(crate) flipped: Option<usize>,
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
    /// The faults that came: number and kind.
    pub faults: Vec<(u64, String)>,
    /// Who acted: what a plan may leave out.
    pub actors: Vec<String>,
    /// A sum over all that happened: equal for equal runs.
    pub digest: u64,
    /// The last things that happened, for people.
    pub timeline: Vec<String>,
}

/// Runs the world of a seed for so long, then lets it come to rest and judges.
pub fn run(seed: u64, span: Duration) -> Report {
    run_plan(&Plan::new(seed, span))
}

/// Runs what is left of a seed's world.
pub fn run_plan(plan: &Plan) -> Report {
    let mut world = World::new(plan.clone());
    let end = Instant::from_start(plan.span);
    world.run_until(end);
    if world.violation.is_none() {
        world.settle_and_judge();
    }
    let mut counts = std::mem::take(&mut world.trace.counts);
    counts.insert("terms with a leader", world.truth.elections() as u64);
    counts.insert("entries", world.truth.entries() as u64);
    counts.insert(
        "entries that lost their place to others",
        world.consensus.replaced(),
    );
    for watcher in &world.watchers {
        *counts.entry("events seen by watchers").or_default() += watcher.seen;
        *counts.entry("progress notifications").or_default() += watcher.notified;
        *counts
            .entry("watchers that went on over an installed state")
            .or_default() += watcher.went_on;
        *counts.entry("watchers overtaken by compactions").or_default() += watcher.overtaken;
    }
    Report {
        seed: plan.seed,
        violation: world.violation,
        time: world.now.since_start(),
        counts,
        faults: world.faults_seen,
        actors: world.actors,
        digest: world.trace.digest(),
        timeline: world.trace.lines(),
    }
}

/// Who, or what, is killed at the worst moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killer {
    /// Who has just voted.
    voters: bool,
    /// Who has written to the log and not synced it.
    writers: bool,
    /// Who has just been given a snapshot.
    pub(crate) installers: bool,
    /// Nobody, but a write of who has just been given a snapshot finds no room.
    pub(crate) fillers: bool,
    /// Snapshots on their way.
    pub(crate) shipments: bool,
}

/// Settings beside those for the faults: a small quota, elections without a question before; and who is killed.
fn set_up(nodes: &mut [Node], rng: &mut fastrand::Rng) -> Killer {
    let quota = if rng.u8(0..6) == 0 {
        rng.i64(300_000..1_500_000)
    } else {
        -1
    };
    let pre_vote = rng.u8(0..4) > 0;
    for node in nodes {
        node.config.quota_backend_bytes = quota;
        node.config.pre_vote = pre_vote;
    }
    Killer {
        voters: rng.u8(0..5) == 0,
        writers: rng.u8(0..4) == 0,
        installers: rng.bool(),
        fillers: rng.u8(0..3) == 0,
        shipments: rng.u8(0..3) == 0,
    }
}

impl World {
    pub(crate) fn new(plan: Plan) -> World {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let size = if rng.u8(0..4) == 0 { 5 } else { 3 };
        let faults = Faults::draw(&mut rng);
        // One place more, for members that join.
        let mut nodes: Vec<Node> = (0..=size).map(|place| Node::new(place, size)).collect();
        nodes[size].vacant = true;
        for node in &mut nodes {
            faults.configure(node, &mut rng);
        }
        let clients = (0..rng.usize(2..8))
            .map(|name| Client::new(name, (rng.usize(0..size), rng.usize(0..FRONTS)), &plan));
        let clients = clients.collect::<Vec<_>>();
        let watchers = (0..rng.usize(1..6))
            .map(|_| Watcher::new(&mut rng))
            .collect::<Vec<_>>();
        let lessees = (0..rng.usize(1..4))
            .map(|name| Lessee::new(name, &plan))
            .collect();
        let copiers = (0..rng.usize(0..3))
            .map(|name| Copier::new(name, &plan))
            .collect();
        let mut killer = set_up(&mut nodes, &mut rng);
        killer.writers &= !faults.straggles;
        killer.voters &= !faults.straggles;
        let pools = Pools::draw(&mut rng);
        let mut world = World {
            now: Instant::default(),
            rng,
            plan,
            faults_drawn: 0,
            faults_seen: Vec::new(),
            actors: Vec::new(),
            flipped: None,
            agenda: BTreeMap::new(),
            sequence: 0,
            nodes,
            by_id: BTreeMap::new(),
            net: Net::default(),
            truth: Truth::default(),
            consensus: Consensus::default(),
            shown: BTreeMap::new(),
            asked_revocations: BTreeSet::new(),
            granted_in: BTreeMap::new(),
            last_leader: 0,
            clients,
            watchers,
            peer_calls: BTreeMap::new(),
            lessees,
            copiers,
            histories: Histories::default(),
            unknown_fates: Vec::new(),
            killer,
            pools,
            calm_since: Instant::default(),
            led_since: Instant::default(),
            faults,
            trace: Trace::default(),
            serial: BTreeMap::new(),
            turns: BTreeMap::new(),
            calm: false,
            gone: BTreeSet::new(),
            violation: None,
        };
        for place in 0..size {
            let delay = Duration::from_millis(world.rng.u64(0..300));
            world.after(delay, Event::Start(place));
        }
        for client in 0..world.clients.len() {
            world.enters(format!("client {client}"), Event::Client(client));
        }
        for watcher in 0..world.watchers.len() {
            world.enters(format!("watcher {watcher}"), Event::Watcher(watcher));
        }
        for lessee in 0..world.lessees.len() {
            world.enters(format!("lessee {lessee}"), Event::Lessee(lessee));
        }
        for copier in 0..world.copiers.len() {
            world.enters(format!("copier {copier}"), Event::Copier(copier));
        }
        let straggles = world.faults.straggles;
        if world.rng.u8(0..4) == 0 || straggles && world.rng.u8(0..4) > 0 {
            world.enters("operator".to_owned(), Event::Operator);
        }
        if straggles {
            world.enters("straggler".to_owned(), Event::Straggler);
        }
        if world.rng.u8(0..3) == 0 && !straggles {
            world.enters("switch".to_owned(), Event::Switch);
        }
        world.after(Duration::from_secs(1), Event::Versions);
        let first = world.faults.pause(&mut world.rng);
        world.after(Duration::from_secs(2) + first, Event::Fault);
        world
    }

    /// Somebody begins to act, unless the plan leaves them out.
    pub(crate) fn enters(&mut self, actor: String, event: Event) {
        if self.plan.has(&actor) {
            self.actors.push(actor);
            self.after(Duration::from_millis(1500), event);
        }
    }

    /// Whether the fault that is being drawn comes; the plan may leave it out.
    pub(crate) fn lets(&mut self, kind: &dyn std::fmt::Debug) -> bool {
        let kind = format!("{kind:?}");
        let comes = self.plan.lets(self.faults_drawn, &kind);
        if comes {
            self.faults_seen.push((self.faults_drawn, kind));
        }
        comes
    }

    /// Each fault has chance of its own, so that one more or less changes nothing in the others.
    fn fault(&mut self) {
        self.faults_drawn += 1;
        let chance = self.plan.chance(&format!("fault {}", self.faults_drawn));
        let rng = std::mem::replace(&mut self.rng, chance);
        crate::faults::next(self);
        self.rng = rng;
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
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

    pub(crate) fn wrong(&mut self, what: String) {
        if self.flipped.is_some() {
            // What a flipped value makes wrong is for the comparison of the stores to find.
            return self
                .trace
                .tell(self.now, format!("follows from the flip: {what}"));
        }
        self.trace.tell(self.now, format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { place, life, stage } => self.turn(place, life, stage),
            Event::Tick { place, life } => self.tick(place, life),
            Event::Deliver { to, message } => self.deliver(to, message),
            Event::Landing(landing) => self.land(*landing),
            Event::Lost { from, life, id } => self.decide(from, life, ToDecide::Unreachable { id }),
            Event::Question(mail) => self.take_question(*mail),
            Event::Hash(mail) => self.take_hash(*mail),
            Event::Client(client) => self.client_acts(client),
            Event::Watcher(watcher) => self.watcher_looks(watcher),
            Event::Lessee(lessee) => self.lessee_acts(lessee),
            Event::Copier(copier) => self.copier_acts(copier),
            Event::Operator => self.operator_acts(),
            Event::Switch => self.switch_acts(),
            Event::Straggler => self.straggler_acts(),
            Event::CutOff(place, span) => self.cut_off(place, span),
            Event::Told { place, life, message } => self.decide(place, life, *message),
            Event::Fault => self.fault(),
            Event::Start(place) => self.start(place),
            Event::End(fault) => crate::faults::end(self, fault),
            Event::Repair(place) => crate::damage::operate(self, place),
            Event::Versions => crate::restart::exchange_versions(self),
        }
    }

    /// A message for the raft stage of a process that may have ended.
    pub(crate) fn decide(&mut self, place: usize, life: u64, message: ToDecide) {
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
        if node.vacant || node.is_up() || node.health.is_lost() {
            return;
        }
        node.life += 1;
        node.started = self.now;
        node.jumped = Duration::ZERO;
        node.stalls.clear();
        node.rate = node.next_rate;
        let unix_ms = EPOCH_MS + self.now.since_start().as_millis() as u64 + node.wall_ahead_ms;
        let seed = self.rng.u64(..);
        match Running::start(&node.disk, &node.config, Instant::default(), unix_ms, seed) {
            Ok(running) => {
                if !crate::damage::may_speak(self, place) {
                    return;
                }
                let node = &self.nodes[place];
                let shared = &running.member.shared;
                if shared.pulse.committed() > running.member.views.peek().applied_index {
                    self.trace.count("starts with a log ahead of the data file");
                }
                let id = shared.member_id;
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

    pub(crate) fn refused(&mut self, place: usize, reason: String) {
        self.trace
            .tell(self.now, format!("m{place} refuses to start: {reason}"));
        let node = &mut self.nodes[place];
        if node.disk.stopped() {
            // The machine died while it started.
            return self.die(place);
        }
        if self.lacked_room(place, &reason) || self.excused(place) {
            let delay = Duration::from_millis(self.rng.u64(100..3000));
            return self.after(delay, Event::Start(place));
        }
        if crate::damage::explains(self, place, &reason) || crate::restart::takes_back(self, place, &reason) {
            return;
        }
        let id = self.by_id.iter().find(|(_, at)| **at == place).map(|(id, _)| *id);
        let was_removed = |id| self.truth.model.aside.roster.removed.contains(&id);
        if id.is_some_and(|id| reason.contains("is not a member of the cluster") && was_removed(id)) {
            self.trace.count("removed members that may not start again");
            return self.vacate(place);
        }
        self.wrong(format!("m{place} refuses to start: {reason}"));
    }

    /// Whether a fault of the disk entitles the member of a place to stop, or not to start.
    fn excused(&mut self, place: usize) -> bool {
        self.faults.may_break(place) || self.nodes[place].excused_until >= self.now
    }

    /// The member of a place, running or not.
    pub(crate) fn id_at(&self, place: usize) -> Option<u64> {
        let known = self.by_id.iter().find(|(_, at)| **at == place);
        known.map(|(id, _)| *id)
    }

    /// The process that has applied most.
    pub(crate) fn newest(&self) -> Option<&Running> {
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        running.max_by_key(|running| running.member.views.peek().applied_index)
    }

    /// The process is gone, what it has not synced perhaps too.
    pub(crate) fn crash(&mut self, place: usize, mode: Option<CrashMode>) {
        crate::damage::before_crash(self, place, mode);
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

    pub(crate) fn forget_process(&mut self, place: usize) {
        self.harvest(place);
        self.nodes[place].running = None;
        self.nodes[place].life += 1;
        self.end_peer_calls(place);
        let here = |client: &mut Client| client.waiting.take_if(|_| client.at.0 == place);
        let unanswered: Vec<Waiting> = self.clients.iter_mut().filter_map(here).collect();
        for waiting in unanswered {
            self.unanswered(waiting);
        }
        for watcher in &mut self.watchers {
            if watcher.at.is_some_and(|at| at.0 == place) {
                watcher.at = None;
            }
        }
        for lessee in &mut self.lessees {
            lessee.forget(place);
        }
        for copier in &mut self.copiers {
            copier.forget(place);
        }
    }

    /// Takes what a process has counted.
    pub(crate) fn harvest(&mut self, place: usize) {
        let Some(running) = &self.nodes[place].running else {
            return;
        };
        let tallies = &running.member.shared.front_tallies;
        let slow = tallies
            .iter()
            .map(|tallies| tallies.read_indexes_slow.get())
            .sum();
        self.trace.count_many("reads asked again", slow);
        self.trace
            .count_many("entries read from the log for others", running.fetched);
    }

    /// A machine died in the midst of an I/O step.
    pub(crate) fn die(&mut self, place: usize) {
        let mode = match self.killer.writers && self.rng.bool() {
            true => Some(CrashMode::Torn),
            false => self.faults.crash_mode(&mut self.rng),
        };
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
        node.health = Health::Sound;
        node.disk = MemDisk::new();
        self.by_id.retain(|_, at| *at != place);
    }

    /// Gives a free place to a member that was added with the place's URL.
    pub(crate) fn settle_in(&mut self, place: usize, join: Join) {
        let line = crate::restart::line_to_join(self);
        let node = &mut self.nodes[place];
        node.vacant = false;
        node.config.new_cluster = false;
        node.config.initial_cluster = vec![member::InitialMember {
            name: node.config.name.clone(),
            peer_urls: node.config.advertise_peer_urls.clone(),
        }];
        node.config.join = Some(join);
        node.config.line = line.unwrap_or(node.config.line);
        self.after(Duration::from_millis(50), Event::Start(place));
    }

    // ---- turns

    pub(crate) fn tick(&mut self, place: usize, life: u64) {
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
        self.see_connections(place);
        self.decide(place, life, ToDecide::Tick);
        // A paused process does not catch up on its ticks.
        let next = (now + span).max(until);
        self.at(next, Event::Tick { place, life });
    }

    /// Tells a member whom it reaches, which the server's transport knows from its connections.
    fn see_connections(&mut self, place: usize) {
        let Some(running) = &self.nodes[place].running else {
            return;
        };
        let reached = |other: usize| {
            let cut = self.net.cut.contains(&(place, other)) || self.net.cut.contains(&(other, place));
            !cut && self.nodes[other].is_up()
        };
        let ids = self.by_id.iter().filter(|(_, other)| reached(**other));
        let since = ids.map(|(id, _)| (*id, Instant::default())).collect();
        running.member.shared.set_active(since);
    }

    /// Sees to it that each stage that has something to do gets its turn.
    pub(crate) fn plan(&mut self, place: usize) {
        self.begin_jobs(place);
        let now = self.now;
        let node = &mut self.nodes[place];
        let (life, sync_time) = (node.life, node.sync_time);
        let mut planned = Vec::new();
        for stage in Stage::all() {
            let Some(running) = &node.running else { return };
            let (ready, wake) = running.wants(stage);
            // A turn takes time: a stage that is always due must not stop the world.
            let wake = match stage {
                Stage::Job => running.pool.next(),
                _ => wake.map(|wake| node.global(wake)),
            };
            let mut at = wake.map(|wake| wake.max(now + TURN_MIN));
            if ready {
                let takes = match stage {
                    Stage::Persist | Stage::Committer => sync_time.mul_f64(0.5 + self.rng.f64()),
                    Stage::FrontJob(_) => Duration::from_micros(self.rng.u64(10..2000)),
                    Stage::Decide | Stage::Apply | Stage::Job | Stage::Front(_) => {
                        Duration::from_micros(self.rng.u64(1..60))
                    }
                };
                at = Some(at.map_or(now + takes, |at| at.min(now + takes)));
            }
            let Some(mut at) = at else {
                continue;
            };
            let held = node.held_until(stage);
            if at < held {
                // Which of its threads goes on first is chance.
                at = held + Duration::from_micros(self.rng.u64(0..100));
            }
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

    pub(crate) fn turn(&mut self, place: usize, life: u64, stage: Stage) {
        let now = self.now;
        let node = &mut self.nodes[place];
        let local = node.local(now);
        let held = node.held_until(stage);
        let Some(running) = node.running.as_mut().filter(|_| node.life == life) else {
            return;
        };
        if running.turns.get(&stage) != Some(&now) {
            return;
        }
        if held > now {
            running.turns.remove(&stage);
            return self.plan(place);
        }
        running.turns.remove(&stage);
        let kills = self.killer.writers && !self.calm && stage == Stage::Persist;
        if kills && self.rng.u16(0..KILLS_WRITERS) == 0 {
            // The write is done, the sync after it is not.
            node.disk.stop_at(node.disk.steps() + 2);
        }
        running.turn(stage, now, local);
        let second = now.since_start().as_secs();
        let (of, count) = self.turns.entry((place, stage)).or_default();
        *count = if *of == second { *count + 1 } else { 1 };
        *of = second;
        if *count > TURNS_MAX {
            return self.wrong(format!("m{place}: {stage:?} never comes to rest"));
        }
        self.settle(place);
        if stage == Stage::Decide
            && let Err(what) = self.check_members(place)
        {
            self.wrong(what);
        }
    }

    /// Takes what a turn left: messages, answers, news for the judges.
    pub(crate) fn settle(&mut self, place: usize) {
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let id = running.member.shared.member_id;
        let committed = running.queues.committed.take();
        let sent = running.queues.sent.take();
        let replies = std::mem::take(&mut running.replies);
        let lines = running.queues.log.take();
        for what in running.queues.happened.take() {
            self.trace.count(what);
        }
        let fatal = running.queues.fatal.take();
        let stopped = running.queues.stopped.take();
        let pulse = &running.member.shared.pulse;
        let (term, leads) = (pulse.term(), pulse.leader() == id);
        let view = running.member.views.load();
        for line in lines {
            if line.msg == "applied snapshot" {
                for watcher in &mut self.watchers {
                    watcher.over_installed |= watcher.at.is_some_and(|at| at.0 == place);
                }
            }
            self.trace.log(self.now, place, &line);
        }
        self.see_refused(place);
        match self.truth.committed(id, term, &committed) {
            Ok(effects) => {
                for (term, effect) in effects {
                    self.note(term, &effect);
                }
            }
            Err(what) => return self.wrong(what),
        }
        if leads {
            match self.truth.leads(id, term) {
                Ok(true) => self.takes_over(place, id, term),
                Ok(false) => {}
                Err(what) => return self.wrong(what),
            }
        }
        if let Err(what) = self.check_state(place, &view) {
            return self.misread(place, what);
        }
        if self.rng.u16(0..2000) == 0
            && let Err(what) = self.truth.check_content(id, &view)
        {
            return self.misread(place, what);
        }
        let mut voted = false;
        for message in sent {
            if let ToPeer::Message(message) = &message {
                if let Err(what) = self.consensus.leaves(message, view.applied_index, &self.truth) {
                    return self.wrong(what);
                }
                if let Some(what) = consensus::remarkable(message) {
                    self.trace.count(what);
                }
            }
            voted |= is_vote(&message);
            self.send(place, message);
        }
        if voted && self.killer.voters && !self.calm && self.rng.u8(0..3) > 0 {
            return self.kill_voter(place);
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
            let removed = self.truth.model.aside.roster.removed.contains(&id);
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

    /// A judge's look at a store. That it fails is no wrong answer: a member stops over it.
    fn misread(&mut self, place: usize, what: String) {
        match what.contains("cannot read") {
            true => self.broke(place, &what),
            false => self.wrong(what),
        }
    }

    /// Counts the writes that found no room.
    pub(crate) fn see_refused(&mut self, place: usize) -> u64 {
        let refused = self.nodes[place].disk.take_lacked();
        if refused > 0 {
            self.trace.count_many("writes without room", refused);
        }
        refused
    }

    /// Whether the cluster has removed the member, as any process knows.
    pub(crate) fn is_removed(&self, id: u64) -> bool {
        let mut running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        running.any(|running| running.member.shared.facts().removed.contains(&id))
    }

    pub(crate) fn broke(&mut self, place: usize, reason: &str) {
        self.trace.tell(self.now, format!("m{place} breaks: {reason}"));
        if self.nodes[place].disk.stopped() {
            return self.die(place);
        }
        if !self.excused(place) {
            if crate::damage::explains(self, place, reason) {
                return;
            }
            return self.wrong(format!("m{place} breaks: {reason}"));
        }
        self.trace.count("members that stopped for a fault of their disk");
        self.crash(place, None);
        let delay = Duration::from_millis(self.rng.u64(100..3000));
        self.after(delay, Event::Start(place));
    }
}
