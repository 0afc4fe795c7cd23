//! Members whose disks are damaged: whose may be, what such a member may do, and what the operator does about
//! it. Never damages so many that a quorum's word could be lost.
//!
//! A damaged member may refuse to start or stop with an error that names a file, or go on as if nothing had
//! happened; a wrong answer is a wrong answer from it too. What it has promised it must keep, unless the format
//! cannot show that something is missing (`Rot::hidden`; a device that lies about syncs). Such a member is
//! taken away before it says anything: with less than it promised it would endanger the cluster as one would that
//! was started empty under its old id. The operator removes it, wipes the disk, and adds a new one.

use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb as pb;
use disk::mem::{CrashMode, MemDisk};
use member::frontend::Method;
use prost::Message;

use crate::client::Op;
use crate::faults::{self, Fault};
use crate::promise::Promise;
use crate::rot::{self, Part, Rot};
use crate::world::{Event, World};

/// In what state the disk of a place is.
#[derive(Debug, Default)]
pub enum Health {
    /// Nothing was damaged.
    #[default]
    Sound,
    /// Syncs of the log do nothing.
    Lying,
    /// A write of the member of this id may fail and leave half a record, which the log then undoes; a machine that
    /// dies before that leaves a damaged log.
    Failing(u64),
    /// Something is damaged, and the member may not know it yet.
    Hurt(Box<Hurt>),
    /// The member of this id will not come back.
    Lost(u64),
    /// The disk was wiped; a new member is to come here.
    Replacing,
}

impl Health {
    /// Whether no process may run here.
    pub fn is_lost(&self) -> bool {
        matches!(self, Health::Lost(_))
    }

    /// Whether nothing was damaged.
    pub fn is_sound(&self) -> bool {
        matches!(self, Health::Sound)
    }
}

/// What was damaged.
#[derive(Debug)]
pub struct Hurt {
    id: u64,
    /// The log before it was damaged, if that is still what a process has to keep.
    before: Option<Promise>,
    hidden: bool,
}

/// Whether the disk of a place may be damaged: it counts to the minority that may be lost.
fn is_entitled(world: &World, place: usize) -> bool {
    let Some(running) = &world.nodes[place].running else {
        return false;
    };
    let id = running.member.shared.member_id;
    let roster = &world.truth.model.aside.roster;
    let voters = roster.voters().count();
    let unsound = world.nodes.iter().filter(|node| !node.health.is_sound()).count();
    // Two of five, unless somebody else removes members at the same time.
    let removes = world.faults.removes() || world.actors.iter().any(|actor| actor == "operator");
    let allowed = if voters >= 5 && !removes { 2 } else { 1 };
    world.nodes[place].health.is_sound() && roster.seats.contains_key(&id) && voters >= 3 && unsound < allowed
}

/// Whether the operator is busy with a damaged member.
pub(crate) fn is_busy(world: &World) -> bool {
    world.nodes.iter().any(|node| !node.health.is_sound())
}

/// Kills a process and damages its disk.
pub(crate) fn rot(world: &mut World, place: usize) {
    damage(world, place, |disk, config, rng| match rng.u8(0..5) {
        0 => rot::flip_snapshot_file(disk, &config.snap_dir(), rng),
        1 | 2 => rot::flip_log(disk, &config.wal_dir(), Part::All, rng),
        _ => rot::flip_structure(disk, &config.db_path(), rng),
    });
}

/// Kills a process and takes a file of its disk away, or a part of one.
pub(crate) fn lose_file(world: &mut World, place: usize) {
    damage(world, place, |disk, config, rng| match rng.bool() {
        true => rot::lose_file(disk, config, rng),
        false => rot::cut_file(disk, config, rng),
    });
}

fn damage(
    world: &mut World,
    place: usize,
    how: impl FnOnce(&MemDisk, &member::Config, &mut fastrand::Rng) -> Option<Rot>,
) {
    if !is_entitled(world, place) {
        return;
    }
    let id = world.nodes[place].id().expect("an entitled place has a process");
    world.crash(place, None);
    let delay = Duration::from_millis(world.rng.u64(10..3000));
    world.after(delay, Event::Start(place));
    let node = &mut world.nodes[place];
    node.disk.settle();
    let before = Promise::read(&node.disk, &node.config.wal_dir());
    if let Some(rot) = how(&node.disk, &node.config, &mut world.rng) {
        hurt(world, place, id, Some(before), &rot);
    }
}

/// Damages what a process works with.
pub(crate) fn rot_while_running(world: &mut World, place: usize) {
    if !is_entitled(world, place) {
        return;
    }
    let node = &world.nodes[place];
    let id = node.id().expect("an entitled place has a process");
    let rng = &mut world.rng;
    let rot = match rng.u8(0..4) {
        0 => rot::flip_snapshot_file(&node.disk, &node.config.snap_dir(), rng),
        1 => rot::flip_log(&node.disk, &node.config.wal_dir(), Part::Sealed, rng),
        _ => rot::flip_structure(&node.disk, &node.config.db_path(), rng),
    };
    if let Some(rot) = rot {
        hurt(world, place, id, None, &rot);
    }
}

fn hurt(world: &mut World, place: usize, id: u64, before: Option<Promise>, rot: &Rot) {
    let path = rot.path.display();
    let count = match rot.path.extension().and_then(|name| name.to_str()) {
        Some("wal") => "damaged log segments",
        Some("snap") => "damaged snapshot files",
        _ => "damaged data files",
    };
    faults::tell(world, count, format!("damage to m{place}: {path}: {}", rot.what));
    world.nodes[place].health = Health::Hurt(Box::new(Hurt {
        id,
        before,
        hidden: rot.hidden,
    }));
}

/// For a time the device says of every sync of the log that it worked, and does nothing.
pub(crate) fn lie(world: &mut World, place: usize) {
    if !is_entitled(world, place) {
        return;
    }
    let span = Duration::from_millis(world.rng.u64(500..8000));
    faults::tell(
        world,
        "disks that lied about syncs",
        format!("the disk of m{place} lies for {span:?}"),
    );
    let node = &mut world.nodes[place];
    node.health = Health::Lying;
    node.disk.lie_below(Some(&node.config.member_dir().join("wal")));
    world.after(span, Event::End(Fault::Lying(place)));
}

/// The device tells the truth again, and everything that it was given has come down to it.
pub(crate) fn end_lie(world: &mut World, place: usize) {
    let node = &mut world.nodes[place];
    if matches!(node.health, Health::Lying) {
        node.health = Health::Sound;
        node.disk.lie_below(None);
        node.disk.settle();
    }
}

/// One of the next changes of the disk fails; it may be a sync. `false` if it must not.
pub(crate) fn fail_a_write(world: &mut World, place: usize) -> bool {
    let Some(id) = world.id_at(place).filter(|_| is_entitled(world, place)) else {
        return false;
    };
    let node = &mut world.nodes[place];
    node.disk.heal();
    // EIO.
    node.disk.fail_at(node.disk.steps() + world.rng.u64(1..60), 5);
    node.health = Health::Failing(id);
    true
}

/// No write fails any more. Who runs has got over it; who does not shows it at its next start.
pub(crate) fn end_failures(world: &mut World, place: usize) {
    let node = &mut world.nodes[place];
    node.disk.heal();
    if node.is_up() && matches!(node.health, Health::Failing(_)) {
        node.health = Health::Sound;
    }
}

/// A process is about to go, with its machine if `mode` says how.
pub(crate) fn before_crash(world: &mut World, place: usize, mode: Option<CrashMode>) {
    let id = world.id_at(place);
    let node = &mut world.nodes[place];
    let machine_dies = mode.is_some();
    match &mut node.health {
        Health::Lying if machine_dies => {
            node.disk.resume();
            let before = Promise::read(&node.disk, &node.config.wal_dir());
            world.trace.count("machines that died while their disk lied");
            node.health = match id {
                Some(id) => Health::Hurt(Box::new(Hurt {
                    id,
                    before: Some(before),
                    hidden: true,
                })),
                None => Health::Sound,
            };
        }
        // What was never synced may be gone now, rightly.
        Health::Hurt(hurt) if machine_dies && !hurt.hidden => hurt.before = None,
        _ => {}
    }
}

/// A process has read its disk and not said anything yet. `false`: it must not.
pub(crate) fn may_speak(world: &mut World, place: usize) -> bool {
    let node = &mut world.nodes[place];
    if matches!(node.health, Health::Failing(_)) {
        node.health = Health::Sound;
    }
    let Health::Hurt(hurt) = &node.health else {
        return true;
    };
    let Some(before) = &hurt.before else {
        return true;
    };
    let after = Promise::read(&node.disk, &node.config.wal_dir());
    let hidden = hurt.hidden;
    match before.broken_by(&after) {
        Some(less) if hidden => {
            lose(
                world,
                place,
                "members that came back with less than they promised",
                &less,
            );
            false
        }
        Some(less) => {
            world.wrong(format!(
                "m{place} starts from a damaged log without its promises: {less}"
            ));
            false
        }
        None => {
            if let Health::Hurt(hurt) = &mut world.nodes[place].health {
                hurt.before = None;
                hurt.hidden = false;
            }
            true
        }
    }
}

/// Whether a member that stopped or refused to start does so because of its damaged disk. It is lost then.
pub(crate) fn explains(world: &mut World, place: usize, reason: &str) -> bool {
    let node = &world.nodes[place];
    if !matches!(node.health, Health::Hurt(_) | Health::Failing(_)) {
        return false;
    }
    let dir = node.config.member_dir().display().to_string();
    if !reason.contains(&dir) {
        world.wrong(format!("m{place} does not say which file is damaged: {reason}"));
        return true;
    }
    let count = match world.nodes[place].is_up() {
        true => "members that stopped because their disk was damaged",
        false => "members that refused to start from a damaged disk",
    };
    lose(world, place, count, reason);
    true
}

fn lose(world: &mut World, place: usize, count: &'static str, why: &str) {
    let id = match &world.nodes[place].health {
        Health::Hurt(hurt) => hurt.id,
        Health::Failing(id) => *id,
        _ => return,
    };
    faults::tell(world, count, format!("m{place} is lost: {why}"));
    world.crash(place, None);
    world.nodes[place].health = Health::Lost(id);
    world.gone.insert(id);
    world.after(Duration::from_millis(100), Event::Repair(place));
}

/// What the operator does next about a damaged member: remove it, wipe the disk, add a new one, make it a
/// voter.
pub(crate) fn operate(world: &mut World, place: usize) {
    if world.nodes[place].health.is_sound() {
        return;
    }
    let again = Duration::from_millis(world.rng.u64(200..800));
    world.after(again, Event::Repair(place));
    match world.nodes[place].health {
        Health::Hurt(_) => look_at(world, place),
        Health::Lost(id) => remove(world, place, id),
        Health::Replacing => replace(world, place),
        Health::Sound | Health::Lying | Health::Failing(_) => {}
    }
}

/// Checks the files of a member that was damaged and still runs.
fn look_at(world: &mut World, place: usize) {
    if !world.calm {
        return;
    }
    let Some(running) = &mut world.nodes[place].running else {
        return;
    };
    match running.member.check_file().first() {
        Some(violation) => {
            let why = violation.to_string();
            lose(world, place, "damage that only a check has found", &why);
        }
        None => {
            faults::tell(world, "damage that did no harm", format!("m{place} is sound"));
            world.nodes[place].health = Health::Sound;
        }
    }
}

fn remove(world: &mut World, place: usize, id: u64) {
    let Some((_, members)) = faults::members(world) else {
        return;
    };
    if members.iter().any(|member| member.id == id) {
        let request = pb::MemberRemoveRequest { id }.encode_to_vec();
        return ask(world, Method::MemberRemove, request);
    }
    world.vacate(place);
    world.nodes[place].health = Health::Replacing;
}

fn replace(world: &mut World, place: usize) {
    let Some((_, members)) = faults::members(world) else {
        return;
    };
    let url = world.nodes[place].config.advertise_peer_urls.clone();
    let member = members.into_iter().find(|member| member.peer_urls == url);
    match member {
        // Who was asked whether it is removed had not heard that it had been added.
        Some(member) if world.gone.contains(&member.id) => {
            world.nodes[place].health = Health::Lost(member.id)
        }
        None => {
            let request = pb::MemberAddRequest {
                peer_ur_ls: url,
                is_learner: world.rng.bool(),
            };
            ask(world, Method::MemberAdd, request.encode_to_vec());
        }
        // The answer that said so was lost.
        Some(member) if world.nodes[place].vacant => faults::join(world, place, member.id),
        Some(member) if member.is_learner => {
            if let Some(leader) = faults::leader(world) {
                let request = pb::MemberPromoteRequest { id: member.id }.encode_to_vec();
                world.ask_as_operator(leader, Op::Members(Method::MemberPromote, request.into()));
            }
        }
        Some(member) if world.nodes[place].id() == Some(member.id) => {
            faults::tell(
                world,
                "damaged members that were replaced",
                format!("m{place} is replaced"),
            );
            world.nodes[place].health = Health::Sound;
        }
        Some(_) => {}
    }
}

fn ask(world: &mut World, method: Method, request: Vec<u8>) {
    let up = (0..world.nodes.len()).filter(|&place| world.nodes[place].is_up());
    let up: Vec<usize> = up.collect();
    if let Some(at) = world.rng.choice(up) {
        world.ask_as_operator(at, Op::Members(method, request.into()));
    }
}

/// All faults have ended: every damaged member is looked at, and replaced if that is needed, in bounded time.
pub(crate) fn settle(world: &mut World) {
    for place in 0..world.nodes.len() {
        end_lie(world, place);
        if matches!(world.nodes[place].health, Health::Hurt(_)) {
            // What it does not read while it runs it reads at a start.
            world.crash(place, None);
            world.after(Duration::from_millis(10), Event::Start(place));
            world.after(Duration::from_secs(1), Event::Repair(place));
        }
    }
    let deadline: Instant = world.now + Duration::from_secs(60);
    while is_busy(world) && world.violation.is_none() && world.now < deadline {
        let soon = world.now + Duration::from_millis(500);
        world.run_until(soon);
    }
    let stuck = world.nodes.iter().position(|node| !node.health.is_sound());
    if let Some(place) = stuck.filter(|_| world.violation.is_none()) {
        let health = &world.nodes[place].health;
        let what = match health {
            Health::Lost(_) => "not removed",
            _ => "not replaced",
        };
        world.wrong(format!(
            "m{place} is damaged and {what} 60 s after all faults ended"
        ));
    }
}
