//! Our core beside go.etcd.io/raft/v3: the same commands to both, and after each the same messages, reads and states.
//!
//! The Go side is `go-oracle/`, built here from a copy of the module with one file added (election timeouts come from
//! us). Without Go, or without the module, the test says so and passes. `ORACLE_SEEDS`, `ORACLE_STEPS` make it longer,
//! `ORACLE_SEED` replays one.
//!
//! What differs on purpose, and how it is made comparable:
//! - Ours sends requests for votes after its own vote is durable; Go's asynchronous mode at once. They are compared when
//!   they come out and delivered when ours leave.
//! - Ours counts its own pre-vote at once; Go after the writes that are on their way. Runs with slow disks are without
//!   pre-vote.
//! - Ours hands out committed entries before its own disk has them; Go does not. Entries are applied when both have
//!   handed them out; commit indexes are compared.
//! - After a change of term Go does not count a write of the old term as durable until a later one; ours does. That shows
//!   in nothing else.
//! - Ours confirms reads that waited for the first commit of a term in one round of heartbeats, Go in one for each. Of
//!   several heartbeats to one member in one step the last is compared.
//! - Ours forgets such reads when the leadership ends; Go keeps them for the next one. The added file makes Go forget.
//! - A lone voter's reads, and reads that a smaller majority confirms: ours waits for a commit of the term in the first
//!   case, and does not wait for a heartbeat in the second. There are always two voters, and reads only in runs without
//!   membership changes.
//! - A second snapshot while the first installs: Go reports the first as applied. Such messages are lost here.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod harness;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::Bytes;
use fastrand::Rng;
use harness::{Disk, Node, Restart, decode_change, encode_change};
use raft::{ConfChangeKind, ConfState, Config, Entry, EntryKind, Message, MessageKind, PeerState, Role};

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ids(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join("+")
}

fn entries_text(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "-".to_owned();
    }
    let text = |entry: &Entry| {
        format!(
            "{}:{}:{}:{}",
            entry.kind.wire(),
            entry.term,
            entry.index,
            hex(&entry.data)
        )
    };
    entries.iter().map(text).collect::<Vec<_>>().join(",")
}

fn message_text(message: &Message) -> String {
    let Message {
        kind,
        to,
        from,
        term,
        log_term,
        index,
        commit,
        reject,
        reject_hint,
        ..
    } = message;
    let context = if message.context.is_empty() {
        "-".to_owned()
    } else {
        hex(&message.context)
    };
    let snapshot = message.snapshot.as_ref().map_or("-".to_owned(), |snapshot| {
        let members = &snapshot.conf_state;
        format!(
            "{}:{}:{}:{}",
            snapshot.index,
            snapshot.term,
            ids(&members.voters),
            ids(&members.learners)
        )
    });
    let (kind, reject) = (kind.wire(), u8::from(*reject));
    let entries = entries_text(&message.entries);
    format!(
        "{kind} {from} {to} {term} {log_term} {index} {commit} {reject} {reject_hint} {context} {snapshot} {entries}"
    )
}

/// Answers that wait for a disk; the others are compared when they come out.
fn is_promise(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::AppendResponse | MessageKind::VoteResponse | MessageKind::PreVoteResponse
    )
}

/// The Go program.
struct Go {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Go {
    /// Builds it once a run. `None` with a word about it if there is no Go here.
    fn build() -> Option<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go-oracle");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-oracle");
        let skip = |why: &str| -> Option<PathBuf> {
            println!("skipped: {why}");
            None
        };
        std::fs::create_dir_all(&target).unwrap();
        for file in ["go.mod", "go.sum", "main.go", "storage.go", "text.go"] {
            std::fs::copy(source.join(file), target.join(file)).unwrap();
        }
        let go = |arguments: &[&str]| {
            let run = Command::new("go")
                .args(arguments)
                .current_dir(&target)
                .env("GOFLAGS", "-mod=mod")
                .output();
            match run {
                Ok(run) if run.status.success() => Ok(String::from_utf8(run.stdout).unwrap()),
                Ok(run) => Err(String::from_utf8_lossy(&run.stderr).into_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        let module = "go.etcd.io/raft/v3";
        if let Err(error) = go(&["mod", "download", module, "google.golang.org/protobuf"]) {
            return skip(&format!("no Go, or no module: {error}"));
        }
        let folder = go(&["list", "-m", "-f", "{{.Dir}}", module]).unwrap();
        let copy = target.join("raft");
        copy_sources(Path::new(folder.trim()), &copy);
        std::fs::copy(source.join("hooks.go.txt"), copy.join("hooks.go")).unwrap();
        go(&["mod", "edit", "-replace", "go.etcd.io/raft/v3=./raft"]).unwrap();
        go(&["build", "-o", "oracle", "."]).unwrap();
        Some(target.join("oracle"))
    }

    fn start(program: &Path) -> Go {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        Go { child, input, output }
    }

    fn ask(&mut self, command: &str) -> Vec<String> {
        writeln!(self.input, "{command}").unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "Go died of {command:?}"
            );
            let line = line.trim_end();
            if line == "." {
                return lines;
            }
            lines.push(line.to_owned());
        }
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies the Go files of a module that are no tests.
fn copy_sources(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !["testdata", "rafttest", "tla", "tools", "scripts"].contains(&name.as_str()) {
                copy_sources(&path, &to.join(name));
            }
        } else if (name.ends_with(".go") && !name.ends_with("_test.go")) || name.starts_with("go.") {
            let copy = to.join(name);
            std::fs::write(copy, std::fs::read(&path).unwrap()).unwrap();
        }
    }
}

struct Pair {
    seed: u64,
    step: u64,
    rng: Rng,
    go: Go,
    nodes: BTreeMap<u64, Node>,
    /// The last entry that Go has handed out to be applied.
    handed: BTreeMap<u64, u64>,
    network: Vec<Message>,
    slow_disks: bool,
    changes: bool,
    next_id: u64,
    next_data: u64,
    history: Vec<String>,
    seen: BTreeMap<&'static str, u64>,
}

const IDS_MAX: u64 = 7;

impl Pair {
    fn new(program: &Path, seed: u64) -> Pair {
        let mut rng = Rng::with_seed(seed);
        let size = rng.u64(2..=5);
        let slow_disks = rng.bool();
        let mut config = Config::new(1, seed);
        config.election_ticks = rng.u32(3..=10);
        config.heartbeat_ticks = rng.u32(1..=2);
        config.pre_vote = !slow_disks && rng.u8(..4) > 0;
        config.check_quorum = rng.bool();
        config.message_bytes_max = if rng.bool() { 0 } else { 1 << 40 };
        config.inflight_bytes_max = u64::MAX;
        config.inflight_messages_max = rng.usize(1..=4);
        let mut pair = Pair {
            seed,
            step: 0,
            go: Go::start(program),
            nodes: BTreeMap::new(),
            handed: BTreeMap::new(),
            network: Vec::new(),
            slow_disks,
            changes: rng.bool(),
            next_id: size + 1,
            next_data: 0,
            history: Vec::new(),
            seen: BTreeMap::new(),
            rng,
        };
        let members = ConfState {
            voters: (1..=size).collect(),
            ..ConfState::default()
        };
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
        let node = self.node(id);
        node.voters_min = 2;
        node.start(how);
        let (config, disk, app) = (&node.config, &node.disk, &node.app);
        let commit = disk.hard_state.commit.max(app.index);
        let command = format!(
            "start {id} {} {} {} {} {} {} {} {} {commit} {} {} {} {} {} {}",
            config.election_ticks,
            config.heartbeat_ticks,
            u8::from(config.pre_vote),
            u8::from(config.check_quorum),
            config.message_bytes_max,
            config.inflight_messages_max,
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
        if self.history.len() > 60 {
            self.history.drain(..30);
        }
        self.history.push(command.to_owned());
        let (taken, mut own) = (ours(self.node(id)), Vec::new());
        if !taken {
            own.push("dropped".to_owned());
        }
        let mut told = Vec::new();
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
        self.network.extend(leaving);
        own.extend(state_text(node.raft()));

        let mut other = self.go.ask(command);
        let handed = other.iter_mut().find(|line| line.starts_with("s ")).unwrap();
        let (state, index) = handed.rsplit_once(' ').unwrap();
        self.handed.insert(id, index.parse().unwrap());
        *handed = state.to_owned();
        let (own, other) = (normalize(own), normalize(other));
        if own != other {
            println!("{:#?}", self.history);
            panic!(
                "ORACLE_SEED={} step {}: {command}\nours {own:#?}\nGo {other:#?}",
                self.seed, self.step
            );
        }
    }

    fn persist(&mut self, id: u64) {
        if !self.nodes[&id].writes.is_empty() {
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
            target = node.accept(decode_change(&entry.data)).node_id;
            *self.seen.entry("change").or_default() += 1;
        }
        self.both(id, &format!("apply {id} {target}"), |node| node.apply(1));
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

    fn deliver(&mut self) {
        let place = self.rng.usize(..self.network.len());
        let message = match self.rng.u8(..30) {
            0 => {
                self.network.swap_remove(place);
                return;
            }
            1 => self.network[place].clone(),
            _ => self.network.remove(place),
        };
        let to = message.to;
        let Some(node) = self.nodes.get(&to) else { return };
        let snapshot = message.kind == MessageKind::Snapshot;
        if snapshot && node.to_install.is_some() {
            return;
        }
        if snapshot {
            *self.seen.entry("snapshot").or_default() += 1;
        }
        let (command, proposes) = (
            format!("step {to} {}", message_text(&message)),
            message.kind == MessageKind::Propose,
        );
        self.both(to, &command, |node| match node.raft().step(message) {
            Err(raft::Error::Dropped(_)) => !proposes,
            Err(raft::Error::UnknownPeer(_)) | Ok(()) => true,
            Err(error) => panic!("{command}: {error}"),
        });
    }

    fn propose(&mut self, id: u64, entries: Vec<Entry>) {
        let command = format!("propose {id} {}", entries_text(&entries));
        self.both(id, &command, |node| {
            let raft = node.raft();
            let change = entries[0].kind == EntryKind::ConfChange;
            let mut data = entries.into_iter().map(|entry| entry.data);
            let taken = if change {
                raft.propose_conf_change(data.next().unwrap())
            } else {
                raft.propose(data.collect())
            };
            taken.is_ok()
        });
    }

    fn propose_change(&mut self, id: u64) {
        let members = &self.nodes[&id].app.members;
        let known = members
            .voters
            .iter()
            .chain(&members.learners)
            .copied()
            .collect::<Vec<_>>();
        if known.is_empty() {
            return;
        }
        let old = known[self.rng.usize(..known.len())];
        let (kind, target) = match self.rng.u8(..8) {
            0..=1 if self.next_id <= IDS_MAX => {
                self.next_id += 1;
                (ConfChangeKind::AddLearnerNode, self.next_id - 1)
            }
            2 if self.next_id <= IDS_MAX => {
                self.next_id += 1;
                (ConfChangeKind::AddNode, self.next_id - 1)
            }
            3..=4 if members.learners.contains(&old) => (ConfChangeKind::AddNode, old),
            5 => (ConfChangeKind::RemoveNode, old),
            6 => (ConfChangeKind::AddNode, 0),
            _ => (ConfChangeKind::UpdateNode, old),
        };
        let entry = Entry {
            kind: EntryKind::ConfChange,
            data: encode_change(kind, target),
            ..Entry::default()
        };
        self.propose(id, vec![entry]);
    }

    fn random_step(&mut self) {
        self.step += 1;
        let known: Vec<u64> = self.nodes.keys().copied().collect();
        let id = known[self.rng.usize(..known.len())];
        match self.rng.u32(..1000) {
            0..=449 if !self.network.is_empty() => self.deliver(),
            450..=599 => {
                let timeout = self.node(id).raft().status().election_timeout;
                self.both(id, &format!("tick {id} {timeout}"), |node| {
                    node.raft().tick();
                    true
                });
            }
            600..=749 => self.persist(id),
            750..=869 => self.apply(id),
            870..=919 => {
                let entries = (0..self.rng.usize(1..4)).map(|_| {
                    self.next_data += 1;
                    Entry {
                        data: Bytes::from(self.next_data.to_string()),
                        ..Entry::default()
                    }
                });
                let entries = entries.collect();
                self.propose(id, entries);
            }
            920..=939 if self.changes => self.propose_change(id),
            920..=939 => {
                self.next_data += 1;
                let context = self.next_data;
                self.both(id, &format!("read {id} {context:016x}"), |node| {
                    let _ = node.raft().read_index(context);
                    true
                });
                *self.seen.entry("read").or_default() += 1;
            }
            940..=944 => {
                let to = self.rng.u64(1..self.next_id);
                if self.nodes[&id].soft_state.role == Role::Leader {
                    self.both(id, &format!("transfer {id} {to}"), |node| {
                        node.raft().transfer(to);
                        true
                    });
                }
            }
            945..=954 => {
                let peer = self.rng.u64(1..self.next_id);
                self.both(id, &format!("unreachable {id} {peer}"), |node| {
                    node.raft().report_unreachable(peer);
                    true
                });
            }
            955..=964 => {
                let (peer, sent) = (self.rng.u64(1..self.next_id), self.rng.bool());
                self.both(id, &format!("snapshot {id} {peer} {}", u8::from(sent)), |node| {
                    node.raft().report_snapshot(peer, sent);
                    true
                });
            }
            965..=974 => self.compact(id),
            975..=979 => self.both(id, &format!("campaign {id}"), |node| {
                node.raft().campaign();
                true
            }),
            980..=982 => {
                let whole = self.rng.usize(0..=self.nodes[&id].writes.len());
                self.node(id).crash(whole, 0);
                self.start(id);
                *self.seen.entry("restart").or_default() += 1;
            }
            983..=989 => self.node(id).commit_app(),
            _ => {}
        }
        while !self.slow_disks && self.nodes.values().any(|node| !node.writes.is_empty()) {
            for id in known.iter().chain(&[self.next_id - 1]) {
                if self.nodes.contains_key(id) {
                    self.persist(*id);
                }
            }
        }
        if self.network.len() > 200 {
            self.network.truncate(100);
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

/// State and progress in the words of the Go program.
fn state_text(raft: &raft::Raft) -> Vec<String> {
    let status = raft.status();
    let role = match status.soft_state.role {
        Role::Follower => 0,
        Role::Candidate => 1,
        Role::Leader => 2,
        Role::PreCandidate => 3,
    };
    let (hard_state, members) = (status.hard_state, raft.conf_state());
    let mut line = format!(
        "s {role} {} {} {}",
        hard_state.term, hard_state.vote, status.soft_state.leader
    );
    write!(
        line,
        " {} {} {}",
        hard_state.commit, status.applied, status.last_index
    )
    .unwrap();
    write!(
        line,
        " {} {}|{}",
        status.transferee,
        ids(&members.voters),
        ids(&members.learners)
    )
    .unwrap();
    let mut lines = vec![line];
    if role == 2 {
        for peer in status.peers.iter().filter(|peer| peer.id != status.id) {
            let state = match peer.state {
                PeerState::Probe => 0,
                PeerState::Replicate => 1,
                PeerState::Snapshot => 2,
            };
            let mut line = format!(
                "p {} {} {} {state} {}",
                peer.id, peer.matched, peer.next, peer.paused
            );
            write!(
                line,
                " {} {} {}",
                peer.pending_snapshot, peer.recent_active, peer.inflight_messages
            )
            .unwrap();
            lines.push(line);
        }
    }
    lines
}

/// Sorts lines by what they are, keeping the order of messages, and drops all but the last heartbeat to a member.
fn normalize(mut lines: Vec<String>) -> Vec<String> {
    let heartbeat = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[0] == "m" && fields[1] == "8").then(|| fields[3].to_owned())
    };
    for place in (0..lines.len()).rev() {
        if let Some(to) = heartbeat(&lines[place])
            && lines[place + 1..]
                .iter()
                .any(|later| heartbeat(later).as_ref() == Some(&to))
        {
            lines.remove(place);
        }
    }
    lines.sort_by_key(|line| line.split(' ').next().unwrap().to_owned());
    lines
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn go_does_the_same() {
    let Some(program) = Go::build() else { return };
    let steps = setting("ORACLE_STEPS").unwrap_or(2000);
    let seeds = match setting("ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("ORACLE_SEEDS").unwrap_or(20),
    };
    let mut seen = BTreeMap::<&str, u64>::new();
    for seed in seeds {
        let mut pair = Pair::new(&program, seed);
        for _ in 0..steps {
            pair.random_step();
        }
        for (what, times) in &pair.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{seen:?}");
    if setting("ORACLE_SEED").is_none() {
        for what in ["change", "read", "restart", "snapshot"] {
            assert!(seen.contains_key(what), "the seeds never reached: {what}");
        }
    }
}
