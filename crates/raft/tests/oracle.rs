//! Our core beside go.etcd.io/raft/v3: the same commands to both, and after each the same messages, reads and states. Once
//! with the module that etcd 3.6 requires, and once with that of etcd 3.7.
//!
//! The Go side is `go-oracle/`, built here from a copy of the module with one file added (election timeouts come from
//! us). Without Go, or without the module, the tests say so and pass. `ORACLE_SEEDS`, `ORACLE_STEPS` make them longer,
//! `ORACLE_FIRST` begins with another seed, `ORACLE_SEED` replays one; `cargo xtask oracle` runs the long form.
//!
//! What differs on purpose, and how it is made comparable:
//! - Ours sends requests for votes after its own vote is durable; Go's asynchronous mode at once. They are compared when
//!   they come out and delivered when ours leave.
//! - Ours counts its own pre-vote at once; Go after the writes that are on their way. The Go program does not let it wait.
//! - Ours hands out committed entries before its own disk has them; Go does not. Entries are applied when both have
//!   handed them out; commit indexes are compared.
//! - After a change of term Go does not count a write of the old term as durable until a later one; ours does. That shows
//!   in nothing else.
//! - Ours confirms reads that waited for the first commit of a term in one round of heartbeats, Go in one for each. Of
//!   several heartbeats to one member in one step the last is compared.
//! - Ours forgets such reads when the leadership ends; Go keeps them for the next one. The added file makes Go forget.
//! - Reads that a smaller majority confirms, or lets begin by the term's first commit: ours does not wait for an answer of
//!   a member. The added file makes Go not wait for the commit, and Go 3.7 not for the confirmation.
//! - What a removed member has confirmed: ours forgets it with the member, Go remembers. The added file makes Go forget.
//! - A lone voter's reads: ours waits for a commit of the term, and a removed leader asks that voter; Go answers at once. In
//!   runs that may come to one voter there are no reads.
//! - A crash that keeps a write's entries and loses its term: ours takes the term from the entries. Writes are not torn here.
//! - Go 3.6 confirms a read when a majority has echoed the context of that read or of one later read; ours, as Go 3.7,
//!   when each of a majority has echoed a later one. Its heartbeats carry the request's context, ours a number: the two are
//!   held to be one to one. It drops a repeated request: none are repeated. Answers are compared in their order, and Go's
//!   must not come before ours.
//! - Go 3.6 weighs an entry with fields that are zero, ours, as Go 3.7, without; and Go 3.7 weighs the empty entry in the
//!   place of a refused change 2 bytes heavier. Messages hold one entry or all, but with 3.7 in runs without changes.
//! - Go lowers the count of uncommitted bytes when entries are applied, ours when they are committed. The added file
//!   counts by our rule.
//! - A membership change that is dropped for its size: ours forgets it, Go holds the next one back. The added file makes Go
//!   forget.
//! - A snapshot that a membership change calls for is of the state before that change with Go, and after it with ours, since
//!   the caller takes it when it polls. It is compared as if taken before.
//! - A second snapshot while the first installs: Go reports the first as applied. Such messages are lost here.
//! - What Go would panic of, ours refuses (`garbage.rs`). Such messages do not occur here; a wish to transfer that meets no
//!   leader, which Go's follower panics of when it sends it on, is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod go;
mod harness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use bytes::Bytes;
use fastrand::Rng;
use go::reads::OldReads;
use go::text::{entries_text, ids, is_promise, message_text, normalize, state_text};
use go::{Go, Line};
use harness::{Disk, Node, Restart, decode_change, encode_change};
use raft::{
    ConfChangeKind, ConfState, Config, Entry, EntryKind, Message, MessageKind, NONE, PeerState, Role,
};

/// What must have happened in a run, however short. The long form counts millions.
const WANTED: [&str; 27] = [
    "add learner",
    "add voter",
    "append rejected",
    "change refused by the application",
    "change while one is pending",
    "check-quorum steps down",
    "cut",
    "duplicate",
    "election",
    "flow paused",
    "leader removed",
    "lost",
    "pre-vote",
    "promote",
    "proposal dropped",
    "proposal forwarded",
    "read answered",
    "read forwarded",
    "remove",
    "removed member added again",
    "restart",
    "restart with writes lost",
    "snapshot installed",
    "snapshot sent",
    "timeout now",
    "too much uncommitted",
    "update",
];

struct Pair {
    line: Line,
    seed: u64,
    step: u64,
    rng: Rng,
    go: Go,
    nodes: BTreeMap<u64, Node>,
    /// The last entry that Go has handed out to be applied.
    handed: BTreeMap<u64, u64>,
    network: Vec<Message>,
    /// Pairs between which nothing passes, in this direction.
    cut: BTreeSet<(u64, u64)>,
    slow_disks: bool,
    /// There may be one voter only; then there are no reads.
    lone: bool,
    changes: bool,
    /// Ids that a member has ever seen removed.
    removed: BTreeSet<u64>,
    next_data: u64,
    old_reads: OldReads,
    /// While a membership change is applied: the state before it, as text.
    before_change: Option<String>,
    history: VecDeque<String>,
    seen: BTreeMap<&'static str, u64>,
}

const IDS_MAX: u64 = 7;
const HISTORY_MAX: usize = 60;

impl Pair {
    fn new(line: Line, program: &Path, seed: u64) -> Pair {
        let mut rng = Rng::with_seed(seed);
        let lone = rng.u8(..5) == 0;
        let size = rng.u64(if lone { 1..=3 } else { 2..=5 });
        let mut pair = Pair {
            line,
            seed,
            step: 0,
            go: Go::start(program),
            nodes: BTreeMap::new(),
            handed: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            slow_disks: rng.bool(),
            lone,
            changes: true,
            removed: BTreeSet::new(),
            next_data: 0,
            old_reads: OldReads::default(),
            before_change: None,
            history: VecDeque::new(),
            seen: BTreeMap::new(),
            rng,
        };
        let members = ConfState {
            voters: (1..=size).collect(),
            ..ConfState::default()
        };
        let config = pair.config();
        for id in 1..=size {
            let node = Node::founding(
                Config {
                    id,
                    seed: seed * 64 + id,
                    ..config.clone()
                },
                &members,
            );
            pair.nodes.insert(id, node);
            pair.start(id);
        }
        pair
    }

    /// Small limits, so that they are met; all members of a cluster alike.
    fn config(&mut self) -> Config {
        self.changes = self.line == Line::V3_6 || self.rng.u8(..3) > 0;
        let rng = &mut self.rng;
        let mut config = Config::new(1, self.seed);
        config.election_ticks = rng.u32(3..=10);
        config.heartbeat_ticks = rng.u32(1..=2);
        config.pre_vote = rng.u8(..4) > 0;
        config.check_quorum = rng.u8(..4) > 0;
        config.message_bytes_max = match rng.bool() {
            _ if !self.changes => rng.u64(10..80),
            true => 0,
            false => 1 << 40,
        };
        config.inflight_messages_max = rng.usize(1..=4);
        config.inflight_bytes_max = if rng.bool() {
            u64::MAX
        } else {
            config.message_bytes_max.max(rng.u64(5..60))
        };
        config.uncommitted_bytes_max = if rng.bool() { u64::MAX } else { rng.u64(5..100) };
        config
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// Starts both from what is on our disk.
    fn start(&mut self, id: u64) {
        let how = if self.rng.bool() {
            Restart::FromSnapshot
        } else {
            Restart::FromApplication
        };
        let voters_min = if self.lone { 1 } else { 2 };
        let node = self.node(id);
        node.voters_min = voters_min;
        node.start(how);
        let (config, disk, app) = (&node.config, &node.disk, &node.app);
        let commit = disk.hard_state.commit.max(app.index);
        let command = format!(
            "start {id} {} {} {} {} {} {} {} {} {} {} {commit} {} {} {} {} {} {}",
            config.election_ticks,
            config.heartbeat_ticks,
            u8::from(config.pre_vote),
            u8::from(config.check_quorum),
            config.message_bytes_max,
            config.inflight_messages_max,
            config.inflight_bytes_max,
            config.uncommitted_bytes_max,
            disk.hard_state.term,
            disk.hard_state.vote,
            disk.mark.index,
            disk.mark.term,
            app.index,
            ids(&app.members.voters),
            ids(&app.members.learners),
            entries_text(&disk.entries),
        );
        self.both(id, &command, |_| true);
    }

    /// Gives one command to both and compares.
    fn both(&mut self, id: u64, command: &str, ours: impl FnOnce(&mut Node) -> bool) {
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(command.to_owned());
        let before = self.nodes[&id].soft_state;
        let (taken, mut own) = (ours(self.node(id)), Vec::new());
        if !taken {
            own.push("dropped".to_owned());
            self.saw("proposal dropped");
        }
        own.extend(self.outputs(id));
        let mut other = self.go.ask(command);
        let handed = other.iter_mut().find(|line| line.starts_with("s ")).unwrap();
        let (state, index) = handed.rsplit_once(' ').unwrap();
        self.handed.insert(id, index.parse().unwrap());
        *handed = state.to_owned();
        // The answer to a read request that was forwarded is the same for both; what a leader answers may not be.
        let raft = self.nodes[&id].raft.as_ref().unwrap();
        if self.line == Line::V3_6 && !command.starts_with(&format!("step {id} 16 ")) {
            self.old_reads.answers(raft, &mut own, &mut other);
        }
        let (mut own, mut other) = (normalize(own), normalize(other));
        if let Some(state) = &self.before_change {
            for line in own.iter_mut().filter(|line| line.starts_with("m 7 ")) {
                let mut fields: Vec<&str> = line.split(' ').collect();
                fields[11] = state;
                *line = fields.join(" ");
            }
        }
        if self.line == Line::V3_6 {
            self.old_reads.heartbeats(&own, &mut other);
        }
        if own != other {
            println!("{:#?}", self.history);
            panic!("step {}: {command}\nours {own:#?}\nGo {other:#?}", self.step);
        }
        self.count(id, before, command);
    }

    /// All that ours has to say.
    fn outputs(&mut self, id: u64) -> Vec<String> {
        let (mut own, mut told) = (Vec::new(), Vec::new());
        let node = self.nodes.get_mut(&id).unwrap();
        loop {
            // What needs no sync is done as soon as what is before it is.
            while node.writes.front().is_some_and(|write| write.number.is_none()) {
                node.persist();
            }
            let Some(output) = node.poll() else { break };
            let messages = output.messages.iter().map(|outgoing| &outgoing.message);
            told.extend(messages.filter(|message| !is_promise(message.kind)).cloned());
            own.extend(
                output
                    .read_states
                    .iter()
                    .map(|read| format!("r {} {:016x}", read.index, read.context)),
            );
        }
        own.extend(told.iter().map(|message| format!("m {}", message_text(message))));
        let leaving = std::mem::take(&mut node.outbox);
        let promises = leaving.iter().filter(|message| is_promise(message.kind));
        own.extend(promises.map(|message| format!("d {}", message_text(message))));
        own.extend(state_text(node.raft()));
        for message in told.iter().chain(&leaving) {
            match message.kind {
                MessageKind::PreVote => self.saw("pre-vote"),
                MessageKind::Propose => self.saw("proposal forwarded"),
                MessageKind::ReadIndex => self.saw("read forwarded"),
                MessageKind::Snapshot => self.saw("snapshot sent"),
                MessageKind::TimeoutNow => self.saw("timeout now"),
                MessageKind::AppendResponse if message.reject => self.saw("append rejected"),
                _ => {}
            }
        }
        let reads = own.iter().filter(|line| line.starts_with("r ")).count();
        *self.seen.entry("read answered").or_default() += reads as u64;
        self.network.extend(leaving);
        own
    }

    fn count(&mut self, id: u64, before: raft::SoftState, command: &str) {
        let status = self.nodes[&id].raft.as_ref().unwrap().status();
        match (before.role, status.soft_state.role) {
            (Role::Leader, Role::Follower) if command.starts_with("tick") => {
                self.saw("check-quorum steps down")
            }
            (Role::Leader, _) => {}
            (_, Role::Leader) => self.saw("election"),
            _ => {}
        }
        let flow = |peer: &raft::PeerStatus| peer.state == PeerState::Replicate && peer.paused;
        if status.soft_state.role == Role::Leader && status.peers.iter().any(flow) {
            self.saw("flow paused");
        }
    }

    fn persist(&mut self, id: u64) {
        if self.nodes[&id].writes.is_empty() {
            return;
        }
        let installs = self.nodes[&id].to_install.is_some();
        self.both(id, &format!("persist {id}"), |node| {
            node.persist();
            if node
                .to_install
                .as_ref()
                .is_some_and(|snapshot| snapshot.index <= node.disk.mark.index)
            {
                node.apply(0);
            }
            true
        });
        if installs && self.nodes[&id].to_install.is_none() {
            self.saw("snapshot installed");
        }
    }

    fn apply(&mut self, id: u64) {
        let handed = self.handed[&id];
        let node = self.node(id);
        if node.to_install.is_some() {
            return;
        }
        let Some(entry) = node.to_apply.front().filter(|entry| entry.index <= handed) else {
            return;
        };
        let mut target = 0;
        if entry.kind == EntryKind::ConfChange {
            let change = decode_change(&entry.data);
            target = node.accept(change).node_id;
            let members = &node.app.members;
            let (voters, learners) = (ids(&members.voters), ids(&members.learners));
            let text = format!("{}:{}:{voters}:{learners}", node.app.index, node.app.term);
            self.before_change = Some(text);
            let what = self.what_changes(id, change.kind, change.node_id, target);
            self.saw(what);
            if change.kind == ConfChangeKind::RemoveNode {
                self.removed.insert(target);
            }
        }
        self.both(id, &format!("apply {id} {target}"), |node| node.apply(1));
        self.before_change = None;
        let members = self.nodes[&id].app.members.clone();
        for new in members.voters.iter().chain(&members.learners) {
            if !self.nodes.contains_key(new) {
                let config = Config {
                    id: *new,
                    seed: self.seed * 64 + new,
                    ..self.nodes[&id].config.clone()
                };
                self.nodes.insert(*new, Node::new(config, Disk::default()));
                self.start(*new);
            }
        }
    }

    fn what_changes(&self, id: u64, kind: ConfChangeKind, wanted: u64, target: u64) -> &'static str {
        let node = &self.nodes[&id];
        let (known, learner) = (
            node.app.members.contains(target),
            node.app.members.learners.contains(&target),
        );
        let again = self.removed.contains(&target) && !known;
        match kind {
            _ if target != wanted => "change refused by the application",
            _ if target == NONE => "change of nobody",
            ConfChangeKind::UpdateNode => "update",
            ConfChangeKind::RemoveNode if target == id && node.soft_state.role == Role::Leader => {
                "leader removed"
            }
            ConfChangeKind::RemoveNode => "remove",
            _ if again => "removed member added again",
            ConfChangeKind::AddNode if learner => "promote",
            ConfChangeKind::AddNode => "add voter",
            ConfChangeKind::AddLearnerNode if known => "demote",
            ConfChangeKind::AddLearnerNode => "add learner",
        }
    }

    fn deliver(&mut self) {
        let place = if self.rng.bool() {
            0
        } else {
            self.rng.usize(..self.network.len())
        };
        let (from, to, kind) = {
            let message = &self.network[place];
            (message.from, message.to, message.kind)
        };
        let repeats = self.line == Line::V3_7 || kind != MessageKind::ReadIndex;
        let message = match self.rng.u8(..30) {
            _ if self.cut.contains(&(from, to)) => {
                self.network.swap_remove(place);
                return self.saw("cut");
            }
            0 => {
                self.network.swap_remove(place);
                return self.saw("lost");
            }
            1 if repeats => {
                self.saw("duplicate");
                self.network[place].clone()
            }
            _ => self.network.remove(place),
        };
        let Some(node) = self.nodes.get(&to) else { return };
        if kind == MessageKind::Snapshot && node.to_install.is_some() {
            return;
        }
        if kind == MessageKind::TransferLeader && node.soft_state.role != Role::Leader {
            return self.saw("transfer for a former leader");
        }
        let proposes = kind == MessageKind::Propose;
        let command = if self.line == Line::V3_6 && kind == MessageKind::HeartbeatResponse {
            format!("step {to} {}", message_text(&self.old_reads.echo(&message)))
        } else {
            format!("step {to} {}", message_text(&message))
        };
        self.both(to, &command, |node| match node.raft().step(message) {
            Err(raft::Error::Dropped(_)) => !proposes,
            Err(raft::Error::UnknownPeer(_)) | Ok(()) => true,
            Err(error) => panic!("{command}: {error}"),
        });
    }

    fn propose(&mut self, id: u64, entries: Vec<Entry>) {
        let command = format!("propose {id} {}", entries_text(&entries));
        let change = entries[0].kind == EntryKind::ConfChange;
        let mut result = Ok(());
        self.both(id, &command, |node| {
            let raft = node.raft();
            let mut data = entries.into_iter().map(|entry| entry.data);
            result = if change {
                raft.propose_conf_change(data.next().unwrap())
            } else {
                raft.propose(data.collect())
            };
            result.is_ok()
        });
        if result == Err(raft::Dropped::Uncommitted) {
            self.saw("too much uncommitted");
        }
        let raft = self.node(id).raft();
        if change && result.is_ok() && raft.soft_state().role == Role::Leader {
            let last = raft.entries(raft.last_index(), 0);
            if last.is_empty() || last[0].kind == EntryKind::Normal {
                self.saw("change while one is pending");
            }
        }
    }

    fn propose_data(&mut self, id: u64) {
        let count = self.rng.usize(1..4);
        let entries = (0..count).map(|_| {
            self.next_data += 1;
            Entry {
                data: Bytes::from(self.next_data.to_string().repeat(self.rng.usize(1..4))),
                ..Entry::default()
            }
        });
        let entries = entries.collect();
        self.propose(id, entries);
    }

    fn propose_change(&mut self, id: u64) {
        let members = self.nodes[&id].app.members.clone();
        let mut one_of = |ids: &[u64]| (!ids.is_empty()).then(|| ids[self.rng.usize(..ids.len())]);
        let known: Vec<u64> = members.voters.iter().chain(&members.learners).copied().collect();
        let gone: Vec<u64> = self
            .removed
            .iter()
            .copied()
            .filter(|id| !members.contains(*id))
            .collect();
        let (old, learner, gone) = (one_of(&known), one_of(&members.learners), one_of(&gone));
        let new = (self.last_id() < IDS_MAX).then_some(self.last_id() + 1);
        let (kind, target) = match self.rng.u8(..14) {
            0..=1 => (ConfChangeKind::AddLearnerNode, new),
            2 => (ConfChangeKind::AddNode, new),
            3..=5 => (ConfChangeKind::AddNode, learner),
            6..=8 => (ConfChangeKind::RemoveNode, old),
            9 => (ConfChangeKind::AddNode, gone),
            10 => (ConfChangeKind::AddLearnerNode, gone),
            // No etcd does that to a voter.
            11 => (ConfChangeKind::AddLearnerNode, old),
            12 => (ConfChangeKind::AddNode, Some(NONE)),
            _ => (ConfChangeKind::UpdateNode, old),
        };
        let Some(target) = target else { return };
        let entry = Entry {
            kind: EntryKind::ConfChange,
            data: encode_change(kind, target),
            ..Entry::default()
        };
        self.propose(id, vec![entry]);
    }

    fn last_id(&self) -> u64 {
        *self.nodes.last_key_value().unwrap().0
    }

    /// Somebody, and whoever leads more often than the others.
    fn somebody(&mut self) -> u64 {
        let leader = |node: &&Node| node.soft_state.role == Role::Leader;
        let leaders: Vec<u64> = self.nodes.values().filter(leader).map(Node::id).collect();
        if self.rng.u8(..3) == 0 && !leaders.is_empty() {
            return leaders[self.rng.usize(..leaders.len())];
        }
        let place = self.rng.usize(..self.nodes.len());
        *self.nodes.keys().nth(place).unwrap()
    }

    fn random_step(&mut self) {
        self.step += 1;
        let id = self.somebody();
        match self.rng.u32(..1000) {
            0..=519 if !self.network.is_empty() => self.deliver(),
            520..=619 => {
                let timeout = self.node(id).raft().status().election_timeout;
                self.tell(id, &format!("tick {id} {timeout}"), raft::Raft::tick);
            }
            620..=759 => self.persist(id),
            760..=869 => self.apply(id),
            870..=894 => self.propose_data(id),
            895..=919 if self.changes => self.propose_change(id),
            920..=939 => self.read(id),
            940..=946 => {
                let to = self.rng.u64(1..=self.last_id());
                self.tell(id, &format!("transfer {id} {to}"), |raft| raft.transfer(to));
            }
            947..=954 => {
                let peer = self.rng.u64(1..=self.last_id());
                self.tell(id, &format!("unreachable {id} {peer}"), |raft| {
                    raft.report_unreachable(peer)
                });
            }
            955..=964 => {
                let (peer, sent) = (self.rng.u64(1..=self.last_id()), self.rng.bool());
                let command = format!("snapshot {id} {peer} {}", u8::from(sent));
                self.tell(id, &command, |raft| raft.report_snapshot(peer, sent));
            }
            965..=974 => self.compact(id),
            975..=979 => self.tell(id, &format!("campaign {id}"), raft::Raft::campaign),
            980..=982 => self.restart(id),
            983..=989 => self.node(id).commit_app(),
            990 => {
                let (from, to) = (self.rng.u64(1..=self.last_id()), self.rng.u64(1..=self.last_id()));
                self.cut.insert((from, to));
            }
            991 => self.split(),
            992..=995 => self.cut.clear(),
            // As etcd stops who is removed, so that a leader that is does not lead for ever.
            996..=999 => {
                let gone = |node: &&Node| !node.app.members.contains(node.id()) && node.app.index > 0;
                if let Some(id) = self.nodes.values().find(gone).map(Node::id) {
                    self.restart(id);
                }
            }
            _ => {}
        }
        while !self.slow_disks
            && let Some(id) = self
                .nodes
                .values()
                .find(|node| !node.writes.is_empty())
                .map(Node::id)
        {
            self.persist(id);
        }
        if self.network.len() > 200 {
            self.network.truncate(100);
        }
    }

    fn tell(&mut self, id: u64, command: &str, what: impl FnOnce(&mut raft::Raft)) {
        self.both(id, command, |node| {
            what(node.raft());
            true
        });
    }

    fn read(&mut self, id: u64) {
        if self.lone {
            return;
        }
        self.next_data += 1;
        let context = self.next_data;
        self.both(id, &format!("read {id} {context:016x}"), |node| {
            let _ = node.raft().read_index(context);
            true
        });
    }

    fn restart(&mut self, id: u64) {
        let writes = self.nodes[&id].writes.len();
        let whole = self.rng.usize(0..=writes);
        self.node(id).crash(whole, 0);
        self.saw(if whole < writes {
            "restart with writes lost"
        } else {
            "restart"
        });
        self.start(id);
    }

    /// Two sides that hear nothing of each other.
    fn split(&mut self) {
        let side = self.rng.u64(..);
        let apart = |from: u64, to: u64| (side >> from) & 1 != (side >> to) & 1;
        for from in 1..=self.last_id() {
            self.cut.extend(
                (1..=self.last_id())
                    .filter(|to| apart(from, *to))
                    .map(|to| (from, to)),
            );
        }
    }

    fn compact(&mut self, id: u64) {
        let keep = self.rng.u64(..4);
        let node = self.node(id);
        if node.to_install.is_some() {
            return;
        }
        node.compact(keep);
        let base = node.raft().first_index() - 1;
        self.both(id, &format!("compact {id} {base}"), |_| true);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "{}: ORACLE_SEED={} (at step {})",
                self.line.name(),
                self.seed,
                self.step
            );
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn compare(line: Line) {
    let Some(program) = go::build(line) else { return };
    let steps = setting("ORACLE_STEPS").unwrap_or(2500);
    let first = setting("ORACLE_FIRST").unwrap_or(0);
    let seeds = match setting("ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + setting("ORACLE_SEEDS").unwrap_or(40),
    };
    let mut seen = BTreeMap::<&str, u64>::new();
    let mut all = 0;
    for seed in seeds {
        let mut pair = Pair::new(line, &program, seed);
        for _ in 0..steps {
            pair.random_step();
        }
        all += pair.step;
        for (what, times) in &pair.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{}: {all} steps agree: {seen:?}", line.name());
    if setting("ORACLE_SEED").is_none() {
        for what in WANTED {
            assert!(seen.contains_key(what), "the seeds never reached: {what}");
        }
    }
}

#[test]
fn go_3_6_does_the_same() {
    compare(Line::V3_6);
}

#[test]
fn go_3_7_does_the_same() {
    compare(Line::V3_7);
}
