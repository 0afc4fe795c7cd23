//! What goes wrong, and how hard: each seed draws which kinds of faults its world knows.

use std::path::PathBuf;
use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb as pb;
use api::version::Line;
use bytes::Bytes;
use disk::Disk;
use disk::mem::CrashMode;
use member::frontend::Method;
use member::{Join, Router, ToDecide};
use prost::Message;

use crate::client::Op;
use crate::damage;
use crate::node::{Node, Stage};
use crate::restart;
use crate::world::{Event, World};

/// A fault that lasts.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Messages are lost, doubled and late.
    Weather,
    /// Places do not hear each other.
    Partition,
    /// What is sent to a place lies in queues; then it is cut off, but for what lies there, for so long.
    Late(usize, Duration),
    /// A disk has no space left.
    Full(usize),
    /// A disk is slow, or stands still.
    Slow(usize),
    /// Reads of a disk fail.
    BadReads(usize),
    /// A disk says of syncs that they worked, and does nothing.
    Lying(usize),
}

/// The kinds of things that happen in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Crash,
    CrashWithinWrite,
    CrashAll,
    Stop,
    Pause,
    Weather,
    Partition,
    OneWay,
    SlowDisk,
    FullDisk,
    SyncFails,
    ClockJump,
    Transfer,
    AddLearner,
    Promote,
    Remove,
    Partial,
    Reset,
    Drift,
    ReadFails,
    WriteFails,
    LyingSyncs,
    Rot,
    RotWhileRunning,
    LoseFile,
    Settings,
    Version,
    Late,
    Stall,
    NoRoom,
}

const KINDS: [Kind; 31] = [
    Kind::Kill,
    Kind::Crash,
    Kind::CrashWithinWrite,
    Kind::CrashAll,
    Kind::Stop,
    Kind::Pause,
    Kind::Weather,
    Kind::Partition,
    Kind::OneWay,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::SyncFails,
    Kind::ClockJump,
    Kind::Transfer,
    Kind::AddLearner,
    Kind::Promote,
    Kind::Remove,
    Kind::Partial,
    Kind::Reset,
    Kind::Drift,
    Kind::ReadFails,
    Kind::WriteFails,
    Kind::LyingSyncs,
    Kind::Rot,
    Kind::RotWhileRunning,
    Kind::LoseFile,
    Kind::Settings,
    Kind::Version,
    Kind::Late,
    Kind::Stall,
    Kind::NoRoom,
];

/// What a seed has drawn.
#[derive(Debug)]
pub struct Faults {
    kinds: Vec<Kind>,
    mean: Duration,
    /// Whether reads that refuse to wait always find their pages cold.
    pub cold: bool,
    /// Whether somebody cannot keep up, and is sent the whole state again and again.
    pub straggles: bool,
    snapshot_count: u64,
    catch_up: u64,
    batch: Duration,
    line: Line,
    /// Members whose disks have failed a sync, and so may break.
    may_break: Vec<usize>,
}

impl Faults {
    /// Draws for a world.
    pub fn draw(rng: &mut fastrand::Rng) -> Faults {
        let calm = rng.u8(0..12) == 0;
        let straggles = !calm && rng.u8(0..4) == 0;
        // Then the log holds little of what such a member lacks, and the others get on in peace meanwhile.
        let (most, one_in, pauses) = if straggles { (12, 4, 3) } else { (400, 2, 1) };
        let comes = |_: &Kind| !calm && rng.u8(0..one_in) == 0;
        let kinds = KINDS.into_iter().filter(comes).collect();
        Faults {
            kinds,
            mean: Duration::from_millis(rng.u64(200..2500)) * pauses,
            cold: rng.u8(0..4) == 0,
            straggles,
            snapshot_count: rng.u64(5..most),
            catch_up: rng.u64(1..most / 4),
            batch: Duration::from_millis(rng.u64(1..200)),
            line: rng
                .choice([Line::V3_7, Line::V3_7, Line::V3_6, Line::V3_5])
                .unwrap_or_default(),
            may_break: Vec::new(),
        }
    }

    /// How a place begins.
    pub fn configure(&self, node: &mut Node, rng: &mut fastrand::Rng) {
        let config = &mut node.config;
        let (tick, election_ticks) = (config.tick, config.election_ticks);
        restart::draw(config, rng);
        config.line = self.line;
        config.snapshot_count = self.snapshot_count;
        config.snapshot_catchup_entries = self.catch_up;
        config.backend_batch_interval = self.batch;
        if !self.kinds.contains(&Kind::Settings) {
            (config.tick, config.election_ticks) = (tick, election_ticks);
        }
        if self.kinds.contains(&Kind::Drift) {
            drift(node, rng);
        }
    }

    /// Whether healthy members are removed.
    pub fn removes(&self) -> bool {
        self.kinds.contains(&Kind::Remove)
    }

    /// The time to the next fault.
    pub fn pause(&self, rng: &mut fastrand::Rng) -> Duration {
        self.mean.mul_f64(0.2 + 1.6 * rng.f64())
    }

    /// How a machine dies.
    pub fn crash_mode(&self, rng: &mut fastrand::Rng) -> Option<CrashMode> {
        rng.choice(CrashMode::ALL)
    }

    /// Whether the member of a place may end with an error.
    pub fn may_break(&mut self, place: usize) -> bool {
        let before = self.may_break.len();
        self.may_break.retain(|other| *other != place);
        self.may_break.len() < before
    }
}

/// The next thing that happens, and the appointment for the one after it.
pub(crate) fn next(world: &mut World) {
    let pause = world.faults.pause(&mut world.rng);
    if world.calm {
        return;
    }
    world.after(pause, Event::Fault);
    let Some(kind) = world.rng.choice(world.faults.kinds.clone()) else {
        return;
    };
    if !world.lets(&kind) {
        return;
    }
    let up: Vec<usize> = (0..world.nodes.len())
        .filter(|&place| world.nodes[place].is_up())
        .collect();
    let Some(place) = world.rng.choice(up.iter().copied()) else {
        return;
    };
    match kind {
        Kind::Kill => kill(world, place, None),
        Kind::Crash => {
            let mode = world.faults.crash_mode(&mut world.rng);
            kill(world, place, mode);
        }
        Kind::CrashAll => {
            tell(
                world,
                "machines that all died at once",
                "all machines die".to_owned(),
            );
            for place in up {
                let mode = world.faults.crash_mode(&mut world.rng);
                kill(world, place, mode);
            }
        }
        Kind::CrashWithinWrite => {
            let node = &world.nodes[place];
            node.disk.stop_at(node.disk.steps() + world.rng.u64(1..30));
        }
        Kind::Stop => {
            tell(world, "stops asked for", format!("m{place} is asked to stop"));
            to_decide(world, place, ToDecide::Stop);
        }
        Kind::Pause => pause_process(world, place),
        Kind::Weather => weather(world),
        Kind::Partition => partition(world, false),
        Kind::OneWay => partition(world, true),
        Kind::SlowDisk => slow_disk(world, place),
        Kind::FullDisk => full_disk(world, place),
        Kind::SyncFails => {
            tell(
                world,
                "syncs that failed",
                format!("the next sync of m{place} fails"),
            );
            world.faults.may_break(place);
            world.faults.may_break.push(place);
            let disk = &world.nodes[place].disk;
            // EIO.
            disk.fail_sync(disk.syncs() + 1, 5);
        }
        Kind::ClockJump => {
            let jump = Duration::from_millis(world.rng.u64(10..5000));
            tell(
                world,
                "clock jumps",
                format!("the clock of m{place} jumps by {jump:?}"),
            );
            world.nodes[place].jumped += jump;
        }
        Kind::Transfer => transfer(world, place),
        // The operator does one thing at a time.
        Kind::AddLearner | Kind::Promote | Kind::Remove if damage::is_busy(world) => {}
        Kind::AddLearner => add_learner(world),
        Kind::Promote => promote(world),
        Kind::Remove => remove(world, place),
        Kind::Partial => partial_partition(world),
        Kind::Reset => reset(world, place),
        Kind::Drift => {
            tell(
                world,
                "clocks set anew",
                format!("m{place} gets another clock at its next start"),
            );
            drift(&mut world.nodes[place], &mut world.rng);
        }
        Kind::ReadFails => reads_fail(world, place),
        Kind::WriteFails => writes_fail(world, place),
        Kind::LyingSyncs => damage::lie(world, place),
        Kind::Rot => damage::rot(world, place),
        Kind::RotWhileRunning => damage::rot_while_running(world, place),
        Kind::LoseFile => damage::lose_file(world, place),
        Kind::Settings => restart::settings(world, place),
        Kind::Version => restart::version(world, place),
        Kind::Late => late(world, place),
        Kind::Stall => stall(world, place),
        Kind::NoRoom => no_room(world, place),
    }
}

pub(crate) fn tell(world: &mut World, count: &'static str, what: String) {
    world.trace.count(count);
    world.trace.tell(world.now, what);
}

fn to_decide(world: &mut World, place: usize, message: ToDecide) {
    if let Some(running) = &world.nodes[place].running {
        running.queues.to_decide(message);
    }
}

fn kill(world: &mut World, place: usize, mode: Option<CrashMode>) {
    let (count, what) = match mode {
        None => ("processes killed", format!("m{place} is killed")),
        Some(mode) => (
            "machines that died",
            format!("the machine of m{place} dies: {mode:?}"),
        ),
    };
    tell(world, count, what);
    world.crash(place, mode);
    let delay = Duration::from_millis(world.rng.u64(10..6000));
    world.after(delay, Event::Start(place));
}

fn pause_process(world: &mut World, place: usize) {
    let span = Duration::from_millis(world.rng.u64(50..6000));
    tell(world, "pauses", format!("m{place} stands still for {span:?}"));
    world.nodes[place].paused_until = world.now + span;
}

/// One of a member's threads has no turn, while the others go on.
fn stall(world: &mut World, place: usize) {
    let stages = [
        Stage::Apply,
        Stage::Apply,
        Stage::Job,
        Stage::Committer,
        Stage::Persist,
    ];
    let Some(stage) = world.rng.choice(stages) else {
        return;
    };
    let span = Duration::from_millis(world.rng.u64(50..4000));
    world.stall(place, stage, span);
}

/// Some of the next writes find no room, and those beside them do: every one of them by itself must be got over.
fn no_room(world: &mut World, place: usize) {
    let disk = &world.nodes[place].disk;
    for _ in 0..world.rng.u8(1..5) {
        disk.lack_room_from(disk.steps() + world.rng.u64(1..80));
    }
    let what = format!("some of the next writes of m{place} find no room");
    world.trace.tell(world.now, what);
}

fn weather(world: &mut World) {
    let rng = &mut world.rng;
    let net = &mut world.net;
    net.loss = rng.f64() * 0.3;
    net.twice = rng.f64() * 0.2;
    net.delay_max = Duration::from_millis(rng.u64(1..300));
    net.straggle = rng.f64() * 0.1;
    net.tear = rng.f64() * 0.6;
    let what = format!("bad weather: {net:?}");
    let span = Duration::from_millis(rng.u64(500..8000));
    tell(world, "bad weather", what);
    world.after(span, Event::End(Fault::Weather));
}

fn partition(world: &mut World, one_way: bool) {
    let places = world.nodes.len();
    let side: Vec<bool> = (0..places).map(|_| world.rng.bool()).collect();
    for from in 0..places {
        for to in 0..places {
            if side[from] != side[to] && (!one_way || side[from]) {
                world.net.cut.insert((from, to));
            }
        }
    }
    let count = if one_way {
        "one-way partitions"
    } else {
        "partitions"
    };
    let what = format!("cut: {:?}", world.net.cut);
    tell(world, count, what);
    let span = Duration::from_millis(world.rng.u64(200..10_000));
    world.after(span, Event::End(Fault::Partition));
}

/// Some links are cut, in one direction or both; everybody may still reach everybody by way of others.
fn partial_partition(world: &mut World) {
    let places = world.nodes.len();
    for _ in 0..world.rng.usize(1..4) {
        let (from, to) = (world.rng.usize(0..places), world.rng.usize(0..places));
        world.net.cut.insert((from, to));
        if world.rng.bool() {
            world.net.cut.insert((to, from));
        }
    }
    let what = format!("cut: {:?}", world.net.cut);
    tell(world, "partial partitions", what);
    let span = Duration::from_millis(world.rng.u64(200..10_000));
    world.after(span, Event::End(Fault::Partition));
}

/// The leader, if there is one, hears nothing for seconds but what was said before: what it takes from old answers
/// for its own shows now.
fn late(world: &mut World, place: usize) {
    let place = leader(world).unwrap_or(place);
    let most = Duration::from_millis(world.rng.u64(1000..6000));
    tell(
        world,
        "messages queued before a cut",
        format!("messages to m{place} come up to {most:?} late, then it is cut off"),
    );
    world.net.late = Some((place, most));
    let span = Duration::from_millis(world.rng.u64(50..400));
    world.after(span, Event::End(Fault::Late(place, most)));
}

fn reset(world: &mut World, place: usize) {
    let other = world.rng.usize(0..world.nodes.len());
    if other != place {
        tell(
            world,
            "resets",
            format!("the connections of m{place} and m{other} break"),
        );
        world.reset(place, other);
    }
}

/// Another clock: it runs at its own pace, and shows another time of day.
fn drift(node: &mut Node, rng: &mut fastrand::Rng) {
    node.next_rate = 0.75 + 0.6 * rng.f64();
    node.wall_ahead_ms = rng.u64(0..7_200_000);
}

/// For a time a range of a file cannot be read.
fn reads_fail(world: &mut World, place: usize) {
    let node = &mut world.nodes[place];
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in [node.config.wal_dir(), node.config.snap_dir()] {
        let entries = node.disk.list(&dir).unwrap_or_default();
        files.extend(entries.into_iter().map(|entry| dir.join(entry.name)));
    }
    let Some(path) = world.rng.choice(files) else {
        return;
    };
    let len = match node.disk.metadata(&path) {
        Ok(Some(found)) => found.len,
        _ => return,
    };
    let from = world.rng.u64(0..len.max(1));
    let to = from + world.rng.u64(1..len.max(2));
    if node.disk.fail_reads(&path, from..to).is_err() {
        return;
    }
    let span = Duration::from_millis(world.rng.u64(500..5000));
    excuse(world, place, span);
    let what = format!("{from}..{to} of {} of m{place} cannot be read", path.display());
    tell(world, "files that could not be read", what);
    world.after(span, Event::End(Fault::BadReads(place)));
}

/// One of the next changes of the disk fails; it may be a sync.
fn writes_fail(world: &mut World, place: usize) {
    if !damage::fail_a_write(world, place) {
        return;
    }
    excuse(world, place, Duration::from_secs(5));
    world.after(Duration::from_secs(5), Event::End(Fault::BadReads(place)));
    tell(
        world,
        "writes that failed",
        format!("one of the next writes of m{place} fails"),
    );
}

/// The member may stop, or refuse to start, for so long and until all has come to light.
fn excuse(world: &mut World, place: usize, span: Duration) {
    let node = &mut world.nodes[place];
    node.excused_until = node.excused_until.max(world.now + span + Duration::from_secs(2));
}

fn slow_disk(world: &mut World, place: usize) {
    let span = match world.rng.bool() {
        true => Duration::from_millis(world.rng.u64(5..200)),
        false => Duration::from_millis(world.rng.u64(500..5000)),
    };
    tell(world, "slow disks", format!("a sync of m{place} takes {span:?}"));
    world.nodes[place].sync_time = span;
    let lasts = Duration::from_millis(world.rng.u64(500..8000));
    world.after(lasts, Event::End(Fault::Slow(place)));
}

fn full_disk(world: &mut World, place: usize) {
    let disk = &world.nodes[place].disk;
    let used = disk.used_bytes();
    disk.set_space(Some(used + world.rng.u64(0..200_000)));
    tell(
        world,
        "full disks",
        format!("the disk of m{place} is nearly full"),
    );
    let lasts = Duration::from_millis(world.rng.u64(500..8000));
    world.after(lasts, Event::End(Fault::Full(place)));
}

fn transfer(world: &mut World, place: usize) {
    let voters: Vec<u64> = world.by_id.keys().copied().collect();
    let Some(to) = world.rng.choice(voters) else {
        return;
    };
    tell(
        world,
        "leadership transfers asked for",
        format!("m{place} is asked that {to:x} lead"),
    );
    operate(
        world,
        place,
        Method::MoveLeader,
        pb::MoveLeaderRequest { target_id: to }.encode_to_vec(),
    );
}

/// The members as the newest process knows them.
pub(crate) fn members(world: &World) -> Option<(u64, Vec<member::Member>)> {
    let shared = &world.newest()?.member.shared;
    Some((shared.cluster_id, shared.facts().members.clone()))
}

pub(crate) fn add_learner(world: &mut World) {
    let Some(place) = (0..world.nodes.len()).find(|&place| world.nodes[place].vacant) else {
        return;
    };
    let url = world.nodes[place].config.advertise_peer_urls.clone();
    let Some((_, members)) = members(world) else {
        return;
    };
    // It may have been added before, by an answer that was lost. But who has served once does not begin anew, also where
    // nobody who is up knows of its removal (etcd refuses it: "has already been bootstrapped").
    let removed = &world.truth.model.aside.roster.removed;
    let added = |member: &&member::Member| {
        let is_new = member.client_urls.is_empty() && !removed.contains(&member.id);
        member.peer_urls == url && is_new && !world.gone.contains(&member.id)
    };
    if let Some(member) = members.iter().find(added) {
        let id = member.id;
        return join(world, place, id);
    }
    let request = pb::MemberAddRequest {
        peer_ur_ls: url,
        is_learner: true,
    };
    let at = world.rng.usize(0..world.nodes.len());
    tell(
        world,
        "additions asked for",
        format!("m{place} is to become a learner"),
    );
    operate(world, at, Method::MemberAdd, request.encode_to_vec());
}

pub(crate) fn promote(world: &mut World) {
    let Some((_, members)) = members(world) else {
        return;
    };
    let Some(learner) = members.iter().find(|member| member.is_learner) else {
        return;
    };
    let request = pb::MemberPromoteRequest { id: learner.id };
    if let Some(leader) = leader(world) {
        tell(
            world,
            "promotions asked for",
            format!("{:x} is to be promoted", request.id),
        );
        operate(world, leader, Method::MemberPromote, request.encode_to_vec());
    }
}

/// Who leads, by its own word: only that one can promote.
pub(crate) fn leader(world: &World) -> Option<usize> {
    (0..world.nodes.len()).find(|&place| {
        let running = world.nodes[place].running.as_ref();
        running.is_some_and(|running| running.member.shared.pulse.leader() == running.member.shared.member_id)
    })
}

pub(crate) fn remove(world: &mut World, at: usize) {
    let Some((_, members)) = members(world) else {
        return;
    };
    let voters = members.iter().filter(|member| !member.is_learner).count();
    let candidates: Vec<u64> = members
        .iter()
        .filter(|member| member.is_learner || voters > 3)
        .map(|member| member.id)
        .collect();
    let Some(id) = world.rng.choice(candidates) else {
        return;
    };
    tell(world, "removals asked for", format!("{id:x} is to be removed"));
    operate(
        world,
        at,
        Method::MemberRemove,
        pb::MemberRemoveRequest { id }.encode_to_vec(),
    );
}

/// The operator is the client with the number 0, if it is free.
fn operate(world: &mut World, place: usize, method: Method, request: Vec<u8>) {
    world.ask_as_operator(place, Op::Members(method, request.into()));
}

/// The cluster has answered the operator.
pub(crate) fn members_changed(world: &mut World, method: Method, answer: &Bytes) {
    if method == Method::MemberAdd
        && let Ok(response) = pb::MemberAddResponse::decode(answer.clone())
        && let Some(member) = response.member
    {
        let place = world
            .nodes
            .iter()
            .position(|node| node.vacant && node.config.advertise_peer_urls == member.peer_ur_ls);
        if let Some(place) = place {
            join(world, place, member.id);
        }
    }
}

pub(crate) fn join(world: &mut World, place: usize, id: u64) {
    let Some((cluster_id, members)) = members(world) else {
        return;
    };
    let mut members: Vec<state::Member> = members
        .into_iter()
        .map(|member| state::Member {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        })
        .collect();
    if !members.iter().any(|member| member.id == id) {
        members.push(state::Member {
            id,
            peer_urls: world.nodes[place].config.advertise_peer_urls.clone(),
            is_learner: true,
            ..state::Member::default()
        });
    }
    tell(world, "members that join", format!("m{place} joins as {id:x}"));
    world.settle_in(place, Join { cluster_id, members });
}

/// A fault ends.
pub(crate) fn end(world: &mut World, fault: Fault) {
    match fault {
        Fault::Weather => {
            let cut = std::mem::take(&mut world.net.cut);
            let late = world.net.late;
            world.net = crate::net::Net {
                cut,
                late,
                ..crate::net::Net::default()
            };
        }
        Fault::Partition => world.net.cut.clear(),
        Fault::Late(place, most) => {
            if world.net.late.take().is_some() && !world.calm {
                for other in (0..world.nodes.len()).filter(|other| *other != place) {
                    world.net.cut.extend([(place, other), (other, place)]);
                }
                world.after(most, Event::End(Fault::Partition));
            }
        }
        Fault::Full(place) => world.nodes[place].disk.set_space(None),
        Fault::Slow(place) => world.nodes[place].sync_time = Duration::from_micros(500),
        Fault::BadReads(place) => damage::end_failures(world, place),
        Fault::Lying(place) => damage::end_lie(world, place),
    }
}

/// All faults end.
pub(crate) fn end_all(world: &mut World) {
    world.net.late = None;
    let now = world.now;
    for node in &mut world.nodes {
        node.keep_time(now);
    }
    end(world, Fault::Weather);
    end(world, Fault::Partition);
    for place in 0..world.nodes.len() {
        end(world, Fault::Full(place));
        end(world, Fault::Slow(place));
        world.nodes[place].paused_until = Instant::default();
        world.nodes[place].stalls.clear();
        world.nodes[place].disk.lack_no_room();
        end(world, Fault::BadReads(place));
        end(world, Fault::Lying(place));
    }
}
