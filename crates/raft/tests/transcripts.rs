//! Stories told as commands and what comes of them: one file for each rule in `transcripts/`.
//!
//! A block is commands, a line `----`, and the expected output up to an empty line. `UPDATE_TRANSCRIPTS=1` writes what
//! comes out now; read the difference before believing it. The commands are in `Stage::command`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod harness;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use harness::{Disk, Node, Restart, encode_change, show};
use raft::{ConfChangeKind, ConfState, Config, Entry, EntryKind, Message, MessageKind, Output, Snapshot};

/// The members of one story and the messages between them.
#[derive(Default)]
struct Stage {
    nodes: BTreeMap<u64, Node>,
    network: Vec<Message>,
    options: Vec<String>,
    out: String,
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

impl Stage {
    fn config(&self, id: u64) -> Config {
        let mut config = Config::new(id, id);
        for option in &self.options {
            let (name, value) = option.split_once('=').unwrap();
            match name {
                "pre_vote" => config.pre_vote = value == "on",
                "check_quorum" => config.check_quorum = value == "on",
                "inflight" => config.inflight_messages_max = number(value) as usize,
                "message_bytes" => config.message_bytes_max = number(value),
                "committed_bytes" => config.committed_bytes_max = number(value),
                "uncommitted_bytes" => config.uncommitted_bytes_max = number(value),
                "reads" => config.reads_max = number(value) as usize,
                "election_ticks" => config.election_ticks = number(value) as u32,
                _ => panic!("no option {name}"),
            }
        }
        config
    }

    fn say(&mut self, text: impl AsRef<str>) {
        writeln!(self.out, "{}", text.as_ref()).unwrap();
    }

    fn node(&mut self, id: &str) -> &mut Node {
        self.nodes
            .get_mut(&number(id))
            .unwrap_or_else(|| panic!("no member {id}"))
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // new 1 2 3 [learner 4] [name=value ...]: a cluster that has applied its first membership.
            ["new", ref rest @ ..] => self.create(rest),
            // join 4: starts with an empty disk.
            ["join", id] => {
                let node = Node::new(self.config(number(id)), Disk::default());
                self.nodes.insert(number(id), node);
                self.node(id).start(Restart::FromSnapshot);
            }
            // restart 1 [entries and votes of the first N writes kept]
            ["crash", id, whole] => self.node(id).crash(number(whole) as usize, 0),
            ["start", id] => self.node(id).start(Restart::FromSnapshot),
            ["campaign", id] => self.node(id).raft().campaign(),
            ["tick", id] => self.node(id).raft().tick(),
            ["tick", id, times] => (0..number(times)).for_each(|_| self.node(id).raft().tick()),
            ["propose", id, ref data @ ..] => {
                let data = data
                    .iter()
                    .map(|data| Bytes::copy_from_slice(data.as_bytes()))
                    .collect();
                let result = self.node(id).raft().propose(data);
                self.result(result);
            }
            ["change", id, kind, target] => {
                let kind = match kind {
                    "add" => ConfChangeKind::AddNode,
                    "learner" => ConfChangeKind::AddLearnerNode,
                    "remove" => ConfChangeKind::RemoveNode,
                    "update" => ConfChangeKind::UpdateNode,
                    _ => panic!("no change {kind}"),
                };
                let data = encode_change(kind, number(target));
                let result = self.node(id).raft().propose_conf_change(data);
                self.result(result);
            }
            ["read", id, context] => {
                let result = self.node(id).raft().read_index(number(context));
                self.result(result);
            }
            ["transfer", id, to] => self.node(id).raft().transfer(number(to)),
            ["unreachable", id, peer] => self.node(id).raft().report_unreachable(number(peer)),
            ["sent", id, peer, arrived] => self
                .node(id)
                .raft()
                .report_snapshot(number(peer), arrived == "yes"),
            ["compact", id] => self.node(id).compact(0),
            ["poll", id] => {
                while let Some(output) = self.node(id).poll() {
                    self.show(number(id), &output);
                }
                self.collect(number(id), false);
            }
            // One write becomes durable, and what waited for it leaves.
            ["persist", id] => {
                if !self.node(id).persist() {
                    self.say("nothing to write");
                }
                self.collect(number(id), true);
            }
            ["apply", id] => {
                if !self.node(id).apply(1000) {
                    self.say("nothing to apply");
                }
            }
            // deliver [TO]: everything that is on its way (to TO), in order, once.
            ["deliver"] => self.deliver(|_| true),
            ["deliver", to] => self.deliver(|message| message.to == number(to)),
            ["deliver", from, to] => {
                self.deliver(|message| message.from == number(from) && message.to == number(to));
            }
            ["drop"] => self.network.clear(),
            ["drop", to] => self.network.retain(|message| message.to != number(to)),
            // Everything that can happen without time passing happens, until nothing is left (or among these members).
            ["settle"] => self.settle(&self.nodes.keys().copied().collect::<Vec<_>>()),
            ["settle", ref ids @ ..] => self.settle(&ids.iter().map(|id| number(id)).collect::<Vec<_>>()),
            ["state"] => {
                for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                    let text = self.nodes[&id]
                        .raft
                        .as_ref()
                        .map_or(format!("{id} is down"), show::state);
                    self.say(text);
                }
            }
            ["state", id] => {
                let text = show::state(self.node(id).raft());
                self.say(text);
            }
            ["log", id] => {
                let text = show::entries(&self.node(id).raft().entries(0, u64::MAX));
                self.say(text);
            }
            ["step", id, ref rest @ ..] => self.step(number(id), rest),
            _ => panic!("no command {line:?}"),
        }
    }

    fn create(&mut self, words: &[&str]) {
        *self = Stage::default();
        let mut members = ConfState::default();
        let mut learner = false;
        for word in words {
            if word.contains('=') {
                self.options.push(word.to_string());
            } else if *word == "learner" {
                learner = true;
            } else {
                (if learner {
                    &mut members.learners
                } else {
                    &mut members.voters
                })
                .push(number(word));
            }
        }
        for id in members.voters.iter().chain(&members.learners) {
            let mut node = Node::founding(self.config(*id), &members);
            node.start(Restart::FromApplication);
            self.nodes.insert(*id, node);
        }
    }

    fn result(&mut self, result: Result<(), raft::Dropped>) {
        if let Err(dropped) = result {
            self.say(format!("dropped: {dropped}"));
        }
    }

    fn show(&mut self, id: u64, output: &Output) {
        if let Some(soft_state) = output.soft_state {
            self.say(format!(
                "{id} is {:?}, leader {}",
                soft_state.role, soft_state.leader
            ));
        }
        let mut parts = Vec::new();
        if let Some(snapshot) = &output.snapshot {
            parts.push(format!("snapshot {}/{}", snapshot.index, snapshot.term));
        }
        if !output.entries.is_empty() {
            parts.push(show::entries(&output.entries));
        }
        if let Some(hard_state) = output.hard_state {
            let raft::HardState { term, vote, commit } = hard_state;
            parts.push(format!("term {term} vote {vote} commit {commit}"));
        }
        if !parts.is_empty() {
            let what = output
                .write
                .map_or("without sync".to_owned(), |number| format!("as write {number}"));
            self.say(format!("{id} writes {} {what}", parts.join(", ")));
        }
        for outgoing in &output.messages {
            let mut message = outgoing.message.clone();
            if message.kind == MessageKind::Snapshot {
                message.snapshot = self.nodes[&id]
                    .outbox
                    .iter()
                    .find(|sent| sent.to == message.to)
                    .unwrap()
                    .snapshot
                    .clone();
            }
            let wait = if outgoing.after > 0 {
                format!(" (after write {})", outgoing.after)
            } else {
                String::new()
            };
            self.say(format!("{}{wait}", show::message(&message)));
        }
        if !output.committed.is_empty() {
            self.say(format!("{id} may apply {}", show::entries(&output.committed)));
        }
        for read in &output.read_states {
            self.say(format!("{id} may read {} at {}", read.context, read.index));
        }
    }

    /// Puts what may leave on its way.
    fn collect(&mut self, id: u64, tell: bool) {
        for message in std::mem::take(&mut self.nodes.get_mut(&id).unwrap().outbox) {
            if tell {
                self.say(show::message(&message));
            }
            self.network.push(message);
        }
    }

    fn deliver(&mut self, which: impl Fn(&Message) -> bool) {
        let (now, later) = std::mem::take(&mut self.network).into_iter().partition(which);
        self.network = later;
        for message in Vec::into_iter(now) {
            self.give(message);
        }
    }

    fn give(&mut self, message: Message) {
        let Some(node) = self.nodes.get_mut(&message.to) else {
            return;
        };
        let Some(raft) = &mut node.raft else { return };
        if let Err(error) = raft.step(message) {
            self.say(format!("{error}"));
        }
    }

    fn settle(&mut self, ids: &[u64]) {
        let mut busy = true;
        while busy {
            busy = false;
            for id in ids {
                let Some(node) = self.nodes.get_mut(id).filter(|node| node.raft.is_some()) else {
                    continue;
                };
                while node.poll().is_some() {
                    busy = true;
                }
                while node.persist() {
                    busy = true;
                }
                busy |= node.apply(1000);
                node.read_states.clear();
                self.collect(*id, false);
            }
            for message in std::mem::take(&mut self.network) {
                if ids.contains(&message.to) {
                    busy = true;
                    self.give(message);
                } else {
                    self.network.push(message);
                }
            }
        }
    }

    /// step 2 Append from=1 term=3 index=5 log_term=2 commit=9 entries=6/3,7/3 ...
    fn step(&mut self, to: u64, words: &[&str]) {
        let kind = MessageKind::ALL
            .into_iter()
            .find(|kind| format!("{kind:?}") == words[0])
            .expect("a kind");
        let mut message = Message::new(kind, to, 1, 1);
        for word in &words[1..] {
            let (name, value) = word.split_once('=').unwrap();
            match name {
                "from" => message.from = number(value),
                "to" => message.to = number(value),
                "term" => message.term = number(value),
                "index" => message.index = number(value),
                "log_term" => message.log_term = number(value),
                "commit" => message.commit = number(value),
                "reject_hint" => message.reject_hint = number(value),
                "reject" => message.reject = value == "yes",
                "context" => message.context = Bytes::copy_from_slice(value.as_bytes()),
                "entries" => message.entries = value.split(',').map(parse_entry).collect(),
                // snapshot=9/2:1,2,3
                "snapshot" => {
                    let (place, voters) = value.split_once(':').unwrap();
                    let (index, term) = place.split_once('/').unwrap();
                    let mut conf_state = ConfState::default();
                    for voter in voters.split(',') {
                        match voter.strip_prefix('-') {
                            Some(outgoing) => conf_state.voters_outgoing.push(number(outgoing)),
                            None => conf_state.voters.push(number(voter)),
                        }
                    }
                    let data = Bytes::from_static(&[0; 8]);
                    message.snapshot = Some(Snapshot {
                        index: number(index),
                        term: number(term),
                        conf_state,
                        data,
                    });
                }
                _ => panic!("no field {name}"),
            }
        }
        let result = self.node(&to.to_string()).raft().step(message);
        self.say(result.map_or_else(|error| error.to_string(), |()| "ok".to_owned()));
    }
}

/// 6/3 or 6/3v2
fn parse_entry(text: &str) -> Entry {
    let (index, term) = text.split_once('/').unwrap();
    let (term, kind) = match term.strip_suffix("v2") {
        Some(term) => (term, EntryKind::ConfChangeV2),
        None => (term, EntryKind::Normal),
    };
    Entry {
        kind,
        term: number(term),
        index: number(index),
        data: Bytes::new(),
    }
}

/// Runs one story; returns what it should look like.
fn tell(text: &str) -> String {
    let mut stage = Stage::default();
    let mut told = String::new();
    let mut lines = text.lines().peekable();
    let mut title = String::new();
    while let Some(line) = lines.next() {
        writeln!(told, "{line}").unwrap();
        if line == "----" {
            // What was expected gives way to what comes.
            while lines.next_if(|line| !line.is_empty()).is_some() {}
            if stage.out.is_empty() {
                stage.out.push_str("ok\n");
            }
            told.push_str(&std::mem::take(&mut stage.out));
        } else if let Some(comment) = line.strip_prefix('#') {
            title = comment.to_owned();
        } else if !line.is_empty() {
            println!("{title}: {line}");
            stage.command(line);
        }
    }
    told
}

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the stories are missing");
    for file in files {
        println!("{}", file.display());
        let expected = std::fs::read_to_string(&file).unwrap();
        let told = tell(&expected);
        if std::env::var("UPDATE_TRANSCRIPTS").is_ok() {
            std::fs::write(&file, told).unwrap();
        } else {
            assert!(told == expected, "{} differs; it is now:\n{told}", file.display());
        }
    }
}
