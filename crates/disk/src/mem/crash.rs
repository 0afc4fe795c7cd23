//! What a crash leaves of a disk in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::content::Content;
use super::state::{FileNode, Node, Op, ROOT, State};
use super::{CrashMode, Rng};

/// What devices write wholly or not at all.
const SECTOR_BYTES: u64 = 512;

/// The disk as it is found after a crash at this moment: all of it durable, nothing locked, no faults
/// ordered.
pub(super) fn crash(state: &State, seed: u64, mode: CrashMode) -> State {
    let mut rng = Rng::new(seed);
    let mut after = State::new();
    after.next_id = state.next_id;
    after.nodes = state.nodes.clone();
    for op in &state.names {
        if keep_name(&mut rng, mode) {
            op.apply(&mut after.nodes);
        }
    }
    let reached = reachable(&after.nodes);
    after.nodes.retain(|id, _| reached.contains_key(id));
    for (id, node) in &mut after.nodes {
        match node {
            Node::Dir(dir) => dir.live.clone_from(&dir.durable),
            Node::File(file) => {
                let content = survive(&mut rng, file, mode);
                *file = FileNode {
                    reserved: content.len().min(file.reserved),
                    live: content.clone(),
                    durable: content,
                    links: reached[id],
                    ..FileNode::default()
                };
            }
        }
    }
    after
}

fn keep_name(rng: &mut Rng, mode: CrashMode) -> bool {
    match mode {
        CrashMode::LoseUnsynced => false,
        CrashMode::KeepAll => true,
        CrashMode::Subset | CrashMode::Torn | CrashMode::Any => rng.one_in(2),
    }
}

/// Every node that durable names lead to, and by how many of them.
fn reachable(nodes: &BTreeMap<u64, Node>) -> BTreeMap<u64, usize> {
    let mut reached = BTreeMap::from([(ROOT, 1)]);
    let mut todo = vec![ROOT];
    while let Some(at) = todo.pop() {
        let Some(Node::Dir(dir)) = nodes.get(&at) else {
            continue;
        };
        for &id in dir.durable.values() {
            let links = reached.entry(id).or_insert(0);
            *links += 1;
            if *links == 1 {
                todo.push(id);
            }
        }
    }
    reached
}

fn survive(rng: &mut Rng, file: &FileNode, mode: CrashMode) -> Content {
    let mode = match mode {
        CrashMode::Any => match rng.below(8) {
            0 => CrashMode::LoseUnsynced,
            1 => CrashMode::KeepAll,
            2 | 3 => CrashMode::Subset,
            _ => CrashMode::Torn,
        },
        other => other,
    };
    let mut content = file.durable.clone();
    match mode {
        CrashMode::LoseUnsynced => {}
        CrashMode::KeepAll => content.clone_from(&file.live),
        CrashMode::Subset | CrashMode::Any => {
            for op in &file.pending {
                if rng.one_in(2) {
                    apply(&mut content, op);
                }
            }
        }
        CrashMode::Torn => tear(rng, &mut content, &file.pending),
    }
    content
}

fn apply(content: &mut Content, op: &Op) {
    match op {
        Op::Write { offset, data } => content.write(data, *offset),
        Op::SetLen(len) => content.set_len(*len),
    }
}

/// Each sector ends up as it was after some of the writes that touched it, in their order: a device
/// writes what is in memory, and memory never holds a later write without the earlier ones.
fn tear(rng: &mut Rng, content: &mut Content, pending: &[Op]) {
    // Some crashes lose nearly everything, some nearly nothing; a fair coin for each sector of a
    // long write would leave neither.
    let kept_of_16 = [1, 8, 15][rng.below(3) as usize];
    let mut frozen: BTreeSet<u64> = BTreeSet::new();
    for op in pending {
        let (offset, data) = match op {
            Op::Write { offset, data } => (*offset, data),
            Op::SetLen(len) => {
                if rng.one_in(2) {
                    content.set_len(*len);
                }
                continue;
            }
        };
        let end = offset + data.len() as u64;
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            if frozen.contains(&sector) {
                continue;
            }
            if rng.below(16) >= kept_of_16 {
                frozen.insert(sector);
                continue;
            }
            let from = offset.max(sector * SECTOR_BYTES);
            let to = end.min((sector + 1) * SECTOR_BYTES);
            content.write(&data[(from - offset) as usize..(to - offset) as usize], from);
        }
    }
}
