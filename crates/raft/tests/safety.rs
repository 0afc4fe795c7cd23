//! A cluster with everything that can go wrong between its members and on their disks, decided by a seed, and raft's
//! promises checked at every step: one leader a term, logs that match, leaders that hold all that is committed, one
//! committed history for all, votes that are not taken back, commits that a quorum's disks hold, reads that miss nothing.
//! When the faults stop, the cluster must serve again.
//!
//! `RAFT_SEEDS` (how many) and `RAFT_STEPS` make it longer, `RAFT_SEED` replays one.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;
use harness::history::History;
use harness::{App, Node, Restart, encode_change, show};
use raft::{ConfChangeKind, ConfState, Config, Message, MessageKind, NONE, PeerState, Role};

struct Cluster {
    rng: Rng,
    seed: u64,
    step: u64,
    nodes: BTreeMap<u64, Node>,
    network: Vec<Message>,
    /// What became of snapshots, for their senders: (from, to, arrived). Whoever sends one must hear it in the end.
    reports: Vec<(u64, u64, bool)>,
    /// Pairs between which nothing passes, in this direction.
    cut: BTreeSet<(u64, u64)>,
    history: History,
    /// The commit index that each running member last had.
    commits: BTreeMap<u64, u64>,
    next_id: u64,
    next_data: u64,
    next_read: u64,
    traces: bool,
    /// Cuts last longer than an election.
    long_cuts: bool,
    /// How often members crash, of 8. If often, hardly anybody lives to lead.
    crashes: u8,
}

const IDS_MAX: u64 = 8;
const NETWORK_MAX: usize = 400;

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let mut rng = Rng::with_seed(seed);
        let size = rng.u64(1..=5);
        let members = ConfState {
            voters: (1..=size).collect(),
            ..ConfState::default()
        };
        let mut cluster = Cluster {
            seed,
            step: 0,
            nodes: BTreeMap::new(),
            network: Vec::new(),
            reports: Vec::new(),
            cut: BTreeSet::new(),
            history: History::default(),
            commits: BTreeMap::new(),
            next_id: size + 1,
            next_data: 0,
            next_read: 0,
            traces: std::env::var("RAFT_SEED").is_ok(),
            long_cuts: rng.bool(),
            crashes: [0, 1, 2, 8][rng.usize(..4)],
            rng,
        };
        let profile = cluster.rng.u64(..);
        for id in 1..=size {
            let node = Node::founding(cluster.config(id, profile), &members);
            cluster.nodes.insert(id, node);
        }
        for entry in cluster.nodes[&1].disk.entries.clone() {
            cluster.history.committed.insert(entry.index, (entry.clone(), 1));
            cluster
                .history
                .entries
                .insert((entry.index, entry.term), (u64::from(entry.index > 1), entry));
        }
        cluster.history.acknowledged = size;
        for id in 1..=size {
            cluster.start(id);
        }
        cluster
    }

    /// Small limits, so that they are met; all members of a cluster alike.
    fn config(&self, id: u64, profile: u64) -> Config {
        let mut rng = Rng::with_seed(profile);
        let mut config = Config::new(id, self.seed.wrapping_mul(31).wrapping_add(id));
        config.election_ticks = rng.u32(3..=10);
        config.pre_vote = rng.u8(..5) > 0;
        config.check_quorum = rng.u8(..5) > 0;
        config.message_bytes_max = rng.u64(0..60);
        config.committed_bytes_max = rng.u64(0..100);
        config.inflight_messages_max = rng.usize(1..=4);
        config.inflight_bytes_max = if rng.bool() { u64::MAX } else { rng.u64(60..200) };
        config.uncommitted_bytes_max = if rng.bool() { u64::MAX } else { rng.u64(20..200) };
        config.reads_max = rng.usize(1..20);
        config
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.traces {
            println!("{:5} {}", self.step, text());
        }
    }

    fn fail(&self, what: &str) -> ! {
        for node in self.nodes.values() {
            match &node.raft {
                Some(raft) => println!("{}", show::state(raft)),
                None => println!("{} is down", node.config.id),
            }
        }
        panic!("RAFT_SEED={} step {}: {what}", self.seed, self.step);
    }

    fn start(&mut self, id: u64) {
        let how = if self.rng.bool() {
            Restart::FromSnapshot
        } else {
            Restart::FromApplication
        };
        self.note(|| format!("start {id} {how:?}"));
        self.nodes.get_mut(&id).unwrap().start(how);
        self.commits.remove(&id);
        self.observe(id);
    }

    fn crash(&mut self, id: u64) {
        let writes = self.nodes[&id].writes.len();
        let (whole, torn) = (self.rng.usize(0..=writes), self.rng.usize(0..4));
        self.note(|| format!("crash {id}, {whole} of {writes} writes done, and {torn} entries"));
        self.nodes.get_mut(&id).unwrap().crash(whole, torn);
        self.commits.remove(&id);
        self.history.reads.retain(|(member, _), _| *member != id);
        self.history.saw("crash");
    }

    /// Takes a member's output and all that it has ready to leave.
    fn poll(&mut self, id: u64) {
        while let Some(output) = self.nodes.get_mut(&id).unwrap().poll() {
            let node = &self.nodes[&id];
            let raft = node.raft.as_ref().unwrap();
            for entry in &output.entries {
                let before = raft
                    .term_at(entry.index - 1)
                    .expect("the entry before a new one is known");
                let place = (entry.index, entry.term);
                let known = self
                    .history
                    .entries
                    .entry(place)
                    .or_insert((before, entry.clone()))
                    .clone();
                if known != (before, entry.clone()) {
                    self.fail(&format!("log matching: {known:?} and {before} {entry:?}"));
                }
            }
            let term = raft.term();
            for entry in &output.committed {
                let known = self
                    .history
                    .committed
                    .entry(entry.index)
                    .or_insert((entry.clone(), term))
                    .0
                    .clone();
                if known != *entry {
                    self.fail(&format!("committed twice: {known:?} and {entry:?}"));
                }
            }
            for read in &output.read_states {
                if let Some(floor) = self.history.reads.remove(&(id, read.context)) {
                    if read.index < floor {
                        self.fail(&format!(
                            "a read at {} misses what was acknowledged at {floor}",
                            read.index
                        ));
                    }
                    self.history.saw("read");
                }
            }
            if output.snapshot.is_some() {
                self.history.saw("snapshot");
            }
        }
        self.observe(id);
        self.send(id);
    }

    fn send(&mut self, id: u64) {
        for message in std::mem::take(&mut self.nodes.get_mut(&id).unwrap().outbox) {
            if message.kind == MessageKind::VoteResponse && !message.reject {
                let vote = *self.history.votes.entry((id, message.term)).or_insert(message.to);
                if vote != message.to {
                    self.fail(&format!(
                        "{id} voted for {vote} and {} in term {}",
                        message.to, message.term
                    ));
                }
            }
            self.note(|| format!("  sends {}", show::message(&message)));
            if self.cut.contains(&(message.from, message.to)) {
                self.lose(&message);
                continue;
            }
            self.network.push(message);
        }
        while self.network.len() > NETWORK_MAX {
            let lost = self.rng.usize(..self.network.len());
            let lost = self.network.swap_remove(lost);
            self.lose(&lost);
        }
    }

    fn lose(&mut self, message: &Message) {
        self.note(|| format!("  lost {}", show::message(message)));
        if message.kind == MessageKind::Snapshot {
            self.reports.push((message.from, message.to, false));
        }
    }

    fn report(&mut self) {
        for (from, to, arrived) in std::mem::take(&mut self.reports) {
            self.note(|| format!("report to {from} of {to}: {arrived}"));
            if let Some(raft) = self.nodes.get_mut(&from).and_then(|node| node.raft.as_mut()) {
                raft.report_snapshot(to, arrived);
            }
        }
    }

    /// Looks at a member after anything has happened to it.
    fn observe(&mut self, id: u64) {
        let node = &self.nodes[&id];
        let Some(raft) = &node.raft else { return };
        let status = raft.status();
        let (term, commit) = (status.hard_state.term, status.hard_state.commit);
        let before = self.commits.insert(id, commit).unwrap_or(0);
        if commit < before {
            self.fail(&format!("{id} takes its commit back from {before} to {commit}"));
        }
        for index in before.max(raft.first_index() - 1).max(1)..=commit {
            let Some(own) = raft.term_at(index) else { continue };
            if let Some((entry, lowest)) = self.history.committed.get_mut(&index) {
                if entry.term != own {
                    let what = format!("{id} commits term {own} at {index}, others {}", entry.term);
                    self.fail(&what);
                }
                *lowest = term.min(*lowest);
            } else if let Some((_, entry)) = self.history.entries.get(&(index, own)) {
                self.history.committed.insert(index, (entry.clone(), term));
            }
        }
        let durable = raft.durable_index();
        if raft
            .term_at(durable)
            .is_some_and(|own| !node.disk.holds(durable, own))
        {
            self.fail(&format!(
                "{id} takes {durable} for durable, and its disk does not hold it"
            ));
        }
        if node.disk.app.index > node.disk.last() {
            self.fail(&format!("the application's file of {id} is ahead of its log"));
        }
        if status.soft_state.role != Role::Leader {
            return;
        }
        let newly = self.history.leaders.insert(term, id);
        if newly.is_some_and(|other| other != id) {
            self.fail(&format!("{} and {id} lead in term {term}", newly.unwrap()));
        }
        if newly.is_none() {
            self.history.saw("election");
            for (index, (entry, known)) in &self.history.committed {
                let own = raft.term_at(*index);
                if *known < term && *index >= raft.first_index() && own != Some(entry.term) {
                    self.fail(&format!(
                        "leader {id} of term {term} has {own:?} at {index}, committed {}",
                        entry.term
                    ));
                }
            }
        }
        if commit > before && commit > self.history.acknowledged {
            let voters = &raft.conf_state().voters;
            let own = raft.term_at(commit).unwrap();
            let holders = voters
                .iter()
                .filter(|voter| self.nodes[voter].disk.holds(commit, own))
                .count();
            if holders * 2 <= voters.len() {
                self.fail(&format!(
                    "{id} commits {commit}, which {holders} of {} disks hold",
                    voters.len()
                ));
            }
            self.history.acknowledged = commit;
        }
        if !raft.conf_state().contains(id) {
            self.history.saw("leader removed");
        }
        if status.peers.iter().any(|peer| peer.state == PeerState::Snapshot) {
            self.history.saw("peer awaits snapshot");
        }
    }

    fn apply(&mut self, id: u64, count: usize) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut any = false;
        for _ in 0..count {
            if !node.apply(1) {
                break;
            }
            any = true;
            let App { index, digest, .. } = node.app;
            let known = *self.history.digests.entry(index).or_insert(digest);
            if known != digest {
                self.fail(&format!("{id} has another state at {index}"));
            }
        }
        self.add_new_members(id);
        self.observe(id);
        any
    }

    /// A member that was added is started with an empty disk.
    fn add_new_members(&mut self, id: u64) {
        let members = self.nodes[&id].app.members.clone();
        for new in members.voters.iter().chain(&members.learners) {
            if !self.nodes.contains_key(new) {
                let mut config = self.nodes[&id].config.clone();
                config.id = *new;
                config.seed ^= *new;
                self.nodes
                    .insert(*new, Node::new(config, harness::Disk::default()));
                self.start(*new);
                self.history.saw("member added");
            }
        }
    }

    fn deliver(&mut self, place: usize, keep: bool) {
        let message = if keep {
            self.network[place].clone()
        } else {
            self.network.remove(place)
        };
        let up = self
            .nodes
            .get(&message.to)
            .is_some_and(|node| node.raft.is_some());
        if !up || self.cut.contains(&(message.from, message.to)) {
            return self.lose(&message);
        }
        if message.kind == MessageKind::Snapshot {
            self.reports.push((message.from, message.to, true));
        }
        let node = self.nodes.get_mut(&message.to).unwrap();
        let to = message.to;
        if self.traces {
            println!("{:5} {}", self.step, show::message(&message));
        }
        let (from, kind) = (message.from, message.kind);
        match node.raft().step(message) {
            Err(error) if error.is_fatal() => self.fail(&format!("{to}: {error}")),
            // A member that restarted may hear of its former self's leadership; nothing else may be strange.
            Err(raft::Error::PeerMisbehaved { what, .. }) => {
                self.fail(&format!("{kind:?} {from}->{to}: {what}"))
            }
            _ => {}
        }
        self.observe(to);
    }

    fn up(&self) -> Vec<u64> {
        self.nodes
            .values()
            .filter(|node| node.raft.is_some())
            .map(Node::id)
            .collect()
    }

    fn any_up(&mut self) -> Option<u64> {
        let up = self.up();
        (!up.is_empty()).then(|| up[self.rng.usize(..up.len())])
    }

    fn propose_change(&mut self, id: u64) {
        let known: Vec<u64> = self.nodes.keys().copied().collect();
        let mut old = known[self.rng.usize(..known.len())];
        let kind = match self.rng.u8(..10) {
            0..=2 => ConfChangeKind::AddNode,
            3..=4 => ConfChangeKind::AddLearnerNode,
            5..=7 => ConfChangeKind::RemoveNode,
            8 => ConfChangeKind::UpdateNode,
            _ => {
                old = NONE;
                ConfChangeKind::AddNode
            }
        };
        if kind == ConfChangeKind::RemoveNode
            && self.nodes[&id].app.members.voters.len() < 3
            && self.rng.u8(..8) > 0
        {
            return;
        }
        let adds = matches!(kind, ConfChangeKind::AddNode | ConfChangeKind::AddLearnerNode);
        let target = if !adds || old == NONE {
            old
        } else if self.next_id <= IDS_MAX && self.rng.bool() {
            self.next_id += 1;
            self.next_id - 1
        } else {
            // Promotions only: as in etcd, whoever was removed never comes back under its id, nor is a voter demoted.
            let members = &self.nodes[&id].app.members;
            if kind == ConfChangeKind::AddNode && members.learners.contains(&old) {
                old
            } else {
                return;
            }
        };
        self.note(|| format!("{id} proposes {kind:?}({target})"));
        let data = encode_change(kind, target);
        let _ = self.nodes.get_mut(&id).unwrap().raft().propose_conf_change(data);
    }

    fn random_step(&mut self) {
        self.step += 1;
        let Some(id) = self.any_up() else {
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            let id = ids[self.rng.usize(..ids.len())];
            return self.start(id);
        };
        match self.rng.u32(..1000) {
            0..=429 if !self.network.is_empty() => {
                // The oldest half of the time, so that things get done.
                let place = if self.rng.bool() {
                    0
                } else {
                    self.rng.usize(..self.network.len())
                };
                match self.rng.u8(..20) {
                    0 => {
                        let lost = self.network.remove(place);
                        self.lose(&lost);
                    }
                    1 => self.deliver(place, true),
                    _ => self.deliver(place, false),
                }
            }
            430..=499 => self.nodes.get_mut(&id).unwrap().raft().tick(),
            500..=689 => {
                self.nodes.get_mut(&id).unwrap().persist();
                self.send(id);
                self.observe(id);
            }
            690..=789 => {
                let count = self.rng.usize(1..5);
                self.apply(id, count);
            }
            790..=859 => self.propose(id),
            860..=879 => self.propose_change(id),
            880..=909 => {
                // Whoever believes that it leads is where a read could go wrong.
                let leads = |node: &&Node| node.raft.is_some() && node.soft_state.role == Role::Leader;
                let leaders: Vec<u64> = self.nodes.values().filter(leads).map(Node::id).collect();
                if self.rng.bool() && !leaders.is_empty() {
                    let leader = leaders[self.rng.usize(..leaders.len())];
                    self.read(leader);
                    self.poll(leader);
                } else {
                    self.read(id);
                }
            }
            910..=919 => {
                let to = self.rng.u64(1..self.next_id);
                self.nodes.get_mut(&id).unwrap().raft().transfer(to);
            }
            920..=929 => {
                let keep = self.rng.u64(0..5);
                self.nodes.get_mut(&id).unwrap().compact(keep);
            }
            930..=939 => self.nodes.get_mut(&id).unwrap().commit_app(),
            940..=949 => {
                let other = self.rng.u64(1..self.next_id);
                let raft = self.nodes.get_mut(&id).unwrap().raft();
                if self.rng.bool() {
                    raft.report_unreachable(other)
                } else {
                    raft.report_snapshot(other, self.rng.bool())
                }
            }
            950..=957 if self.rng.u8(..8) < self.crashes => self.crash(id),
            958..=979 => self.start_one(),
            980..=984 => {
                let (from, to) = (self.rng.u64(1..self.next_id), self.rng.u64(1..self.next_id));
                self.cut.insert((from, to));
                if self.rng.bool() {
                    self.cut.insert((to, from));
                }
            }
            985..=987 if !self.long_cuts || self.rng.u8(..3) == 0 => self.cut.clear(),
            988..=989 => self.split(),
            990..=992 => self.nodes.get_mut(&id).unwrap().raft().campaign(),
            993..=996 => self.report(),
            _ => self.stop_removed(),
        }
        if self.nodes[&id].raft.is_some() {
            self.observe(id);
            // Several inputs may share an output.
            if self.rng.u8(..3) > 0 {
                self.poll(id);
            }
        }
    }

    /// Two halves that hear nothing of each other.
    fn split(&mut self) {
        let side = self.rng.u64(..);
        for from in 1..self.next_id {
            for to in 1..self.next_id {
                if (side >> from) & 1 != (side >> to) & 1 {
                    self.cut.insert((from, to));
                }
            }
        }
        self.history.saw("split");
    }

    fn propose(&mut self, id: u64) {
        let count = self.rng.usize(1..4);
        let data: Vec<Bytes> = (0..count)
            .map(|_| {
                self.next_data += 1;
                Bytes::from(self.next_data.to_string().repeat(self.rng.usize(1..8)))
            })
            .collect();
        let _ = self.nodes.get_mut(&id).unwrap().raft().propose(data);
    }

    fn read(&mut self, id: u64) {
        self.next_read += 1;
        if self
            .nodes
            .get_mut(&id)
            .unwrap()
            .raft()
            .read_index(self.next_read)
            .is_ok()
        {
            self.history
                .reads
                .insert((id, self.next_read), self.history.acknowledged);
        }
    }

    fn start_one(&mut self) {
        let down: Vec<u64> = self
            .nodes
            .values()
            .filter(|node| node.raft.is_none())
            .map(Node::id)
            .collect();
        if !down.is_empty() {
            let id = down[self.rng.usize(..down.len())];
            self.start(id);
        }
    }

    /// The members by the word of whoever has applied the most.
    fn members(&self) -> ConfState {
        self.nodes
            .values()
            .max_by_key(|node| node.app.index)
            .unwrap()
            .app
            .members
            .clone()
    }

    /// Ends members that were removed, once a majority of those that stay has applied that. (etcd waits a second,
    /// and the peers of one that does not know it yet tell it.)
    fn stop_removed(&mut self) {
        let members = self.members();
        let knowing = |id: &&u64| self.nodes[id].app.members == members && self.nodes[id].raft.is_some();
        if members.voters.iter().filter(knowing).count() * 2 <= members.voters.len() {
            return;
        }
        let gone: Vec<u64> = self
            .nodes
            .keys()
            .copied()
            .filter(|id| !members.contains(*id))
            .collect();
        for id in gone {
            if self.nodes[&id].raft.is_some() {
                self.nodes.get_mut(&id).unwrap().crash(0, 0);
                self.commits.remove(&id);
                self.history.reads.retain(|(member, _), _| *member != id);
                self.history.saw("member removed");
            }
        }
    }

    /// Time passes, and everything works: each member ticks once, and all that can happen happens.
    fn calm_round(&mut self) {
        for id in self.up() {
            self.nodes.get_mut(&id).unwrap().raft().tick();
        }
        self.report();
        let mut busy = true;
        let mut turns = 0;
        while busy {
            self.step += 1;
            turns += 1;
            if turns > 3000 {
                self.fail("the members never come to rest");
            }
            busy = false;
            for id in self.up() {
                self.poll(id);
                while self.nodes.get_mut(&id).unwrap().persist() {
                    self.observe(id);
                    busy = true;
                }
                busy |= self.apply(id, 1000);
                self.poll(id);
            }
            busy |= !self.network.is_empty();
            for message in std::mem::take(&mut self.network) {
                self.network.push(message);
                self.deliver(self.network.len() - 1, false);
            }
        }
    }

    /// Raft's own limit: a leader that removed itself and fell before it told anybody knows alone that its vote is no
    /// longer needed, and with the longer log it refuses it.
    fn is_stranded(&self) -> bool {
        let members = self.members();
        self.nodes
            .values()
            .any(|node| node.app.members == members && !members.contains(node.id()))
            && !members
                .voters
                .iter()
                .any(|id| self.nodes[id].app.members == members)
    }

    /// The faults are over: within a bounded time all members agree on everything that is proposed. False if the cluster
    /// cannot be helped.
    fn calm(&mut self) -> bool {
        self.note(|| "calm".into());
        self.cut.clear();
        let down: Vec<u64> = self
            .nodes
            .values()
            .filter(|node| node.raft.is_none())
            .map(Node::id)
            .collect();
        for id in down {
            self.start(id);
        }
        for _ in 0..120 {
            self.calm_round();
        }
        // Whoever was removed may have led until now.
        self.stop_removed();
        for _ in 0..120 {
            self.calm_round();
        }
        let members = self.members();
        let leader = self
            .nodes
            .values()
            .find(|node| node.soft_state.role == Role::Leader && members.contains(node.id()));
        let Some(leader) = leader.map(Node::id) else {
            if self.is_stranded() {
                self.history.saw("stranded by a removed leader");
                return false;
            }
            self.fail("nobody leads")
        };
        let before = self.history.acknowledged;
        for id in members.voters.clone() {
            let data = vec![Bytes::from(format!("calm {id}"))];
            if let Err(error) = self.nodes.get_mut(&id).unwrap().raft().propose(data) {
                self.fail(&format!("{id} refuses a proposal: {error}"));
            }
            self.calm_round();
            self.next_read += 1;
            let context = self.next_read;
            self.nodes
                .get_mut(&id)
                .unwrap()
                .raft()
                .read_index(context)
                .unwrap();
            self.history
                .reads
                .insert((id, context), self.history.acknowledged);
            self.calm_round();
            if self.history.reads.contains_key(&(id, context)) {
                self.fail(&format!("a read of {id} is not answered"));
            }
        }
        self.calm_round();
        let state = self.nodes[&leader].app.clone();
        if state.index < before + members.voters.len() as u64 {
            self.fail("the proposals were not committed");
        }
        for id in members.voters.iter().chain(&members.learners) {
            if self.nodes[id].app != state {
                self.fail(&format!("{id} did not catch up with {leader}"));
            }
        }
        true
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("replay: RAFT_SEED={} (at step {})", self.seed, self.step);
        }
    }
}

fn run(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    let mut cluster = Cluster::new(seed);
    for _ in 0..3 {
        for _ in 0..steps / 3 {
            cluster.random_step();
        }
        if !cluster.calm() {
            break;
        }
    }
    std::mem::take(&mut cluster.history.seen)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn raft_keeps_its_promises() {
    let steps = setting("RAFT_STEPS", 6000);
    if let Some(seed) = std::env::var("RAFT_SEED").ok().and_then(|text| text.parse().ok()) {
        println!("{:?}", run(seed, steps));
        return;
    }
    let mut seen = BTreeMap::<&str, u64>::new();
    for seed in 0..setting("RAFT_SEEDS", 60) {
        for (what, times) in run(seed, steps) {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{seen:?}");
    let wanted = [
        "crash",
        "election",
        "leader removed",
        "member added",
        "member removed",
        "peer awaits snapshot",
        "read",
        "snapshot",
    ];
    for what in wanted {
        assert!(seen.contains_key(what), "the seeds never reached: {what}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let digest = |seed| {
        let mut cluster = Cluster::new(seed);
        for _ in 0..2000 {
            cluster.random_step();
        }
        format!("{:?} {:?}", cluster.history.digests, cluster.network)
    };
    assert_eq!(digest(3), digest(3));
    assert_ne!(digest(3), digest(4));
}
