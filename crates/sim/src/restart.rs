//! Restarts with other settings and as another release line, as an operator may do them: one minor at a time,
//! and never below the cluster's version. Decides nothing about what a member does with it.

use std::collections::BTreeMap;
use std::time::Duration;

use api::version::{Line, Version};
use member::{Config, Router, ToApply, ToDecide};

use crate::faults;
use crate::world::{Event, World};

const LINES: [Line; 3] = [Line::V3_5, Line::V3_6, Line::V3_7];

/// How often members ask each other for their versions.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Settings that make much happen in a short time, each allowed beside any other member's.
pub fn draw(config: &mut Config, rng: &mut fastrand::Rng) {
    config.snapshot_count = rng.u64(5..400);
    config.snapshot_catchup_entries = rng.u64(1..100);
    config.backend_batch_interval = Duration::from_millis(rng.u64(1..200));
    config.backend_batch_limit = rng.usize(1..200);
    config.compaction_batch_limit = rng.usize(1..50);
    config.compaction_sleep_interval = Duration::from_millis(rng.u64(1..20));
    config.corrupt_check_time = Duration::from_millis(rng.u64(500..4000));
    config.compact_hash_check_time = Duration::from_millis(rng.u64(500..4000));
    config.watch_progress_interval = Duration::from_millis(rng.u64(100..2000));
    config.snapshots_max = rng.usize(0..4);
    config.wals_max = rng.usize(0..4);
    // All members must give a lease the same least time to live, which is one and a half election timeouts in
    // full seconds (etcd: server/etcdserver/server.go, minTTL), here 2 s.
    let timeout_ms = rng.u32(900..1300);
    let tick_ms = rng.u32(60..130);
    config.tick = Duration::from_millis(tick_ms.into());
    config.election_ticks = timeout_ms / tick_ms;
    config.initial_election_tick_advance = rng.bool();
    config.page_cache_bytes_max = 1 << rng.u32(14..21);
}

/// Restarts a member with other settings.
pub(crate) fn settings(world: &mut World, place: usize) {
    faults::tell(
        world,
        "restarts with other settings",
        format!("m{place} is to restart with other settings"),
    );
    draw(&mut world.nodes[place].config, &mut world.rng);
    again(world, place);
}

/// Restarts a member as the release line before or after its own.
pub(crate) fn version(world: &mut World, place: usize) {
    let Some(cluster) = cluster_version(world) else {
        return;
    };
    let own = world.nodes[place].config.line;
    let up = world.rng.bool();
    let wanted = LINES.into_iter().find(|line| {
        let step = i64::from(line.version().minor) - i64::from(own.version().minor);
        step == if up { 1 } else { -1 }
    });
    let Some(wanted) = wanted else { return };
    // A minor above the cluster's at most; below it never, and the cluster must not rise meanwhile.
    let minor = wanted.version().minor;
    let held_down = world.nodes.iter().enumerate().any(|(other, node)| {
        other != place && node.is_up() && node.config.line.version().minor == cluster.minor
    });
    if minor > cluster.minor + 1 || minor < cluster.minor || (!up && !held_down) {
        return;
    }
    let count = if up { "upgrades" } else { "roll-backs" };
    faults::tell(
        world,
        count,
        format!("m{place} is to restart as {wanted:?}, from {own:?}"),
    );
    world.nodes[place].line_before = Some(own);
    world.nodes[place].config.line = wanted;
    again(world, place);
}

/// The process ends, in order or not, and comes again.
fn again(world: &mut World, place: usize) {
    match world.rng.bool() {
        true => {
            if let Some(running) = &world.nodes[place].running {
                running.queues.to_decide(ToDecide::Stop);
            }
            world.plan(place);
        }
        false => {
            world.crash(place, None);
            let delay = Duration::from_millis(world.rng.u64(10..1000));
            world.after(delay, Event::Start(place));
        }
    }
}

/// Whether a refusal comes from a change of the line that the operator has to take back.
pub(crate) fn takes_back(world: &mut World, place: usize, reason: &str) -> bool {
    let known = [
        "is a v2 request of etcd 3.5",
        "invalid downgrade",
        "written by a newer release",
    ];
    let node = &mut world.nodes[place];
    if !known.iter().any(|text| reason.contains(text)) {
        return false;
    }
    let Some(before) = node.line_before.take() else {
        return false;
    };
    node.config.line = before;
    faults::tell(
        world,
        "changes of the release line that were refused",
        format!("m{place} goes back to {before:?}"),
    );
    world.after(Duration::from_millis(500), Event::Start(place));
    true
}

/// The cluster's version as the newest process knows it.
pub(crate) fn cluster_version(world: &World) -> Option<Version> {
    let facts = world.newest()?.member.shared.facts();
    let version = facts.cluster_version?;
    (version >= Line::V3_5.version()).then_some(version)
}

/// The line of a member that joins: the cluster's.
pub(crate) fn line_to_join(world: &World) -> Option<Line> {
    let cluster = cluster_version(world)?;
    LINES
        .into_iter()
        .find(|line| line.version().minor == cluster.minor)
}

/// Members ask each other for their versions, as the transport does it for the leader.
pub(crate) fn exchange_versions(world: &mut World) {
    world.after(ASK_EVERY, Event::Versions);
    let places = 0..world.nodes.len();
    let up: Vec<usize> = places.filter(|&place| world.nodes[place].is_up()).collect();
    for &place in &up {
        let reached = |other: usize| {
            !world.net.cut.contains(&(place, other))
                && !world.net.cut.contains(&(other, place))
                && world.nodes[other].paused_until <= world.now
        };
        let others = up.iter().filter(|&&other| other != place && reached(other));
        let versions: BTreeMap<u64, Version> = others
            .filter_map(|&other| Some((world.nodes[other].id()?, world.nodes[other].config.line.release())))
            .collect();
        if let Some(running) = &world.nodes[place].running {
            running.queues.to_apply(ToApply::PeerVersions(versions));
        }
        world.plan(place);
    }
}
