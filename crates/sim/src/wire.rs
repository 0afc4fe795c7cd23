//! How what members say to each other travels: late, twice, or not at all; and snapshots, which are long.

use std::time::Duration;

use api::clock::Instant;
use disk::Disk;
use member::{HashAnswer, Parcel, ToDecide, ToPeer};

use crate::hashes::HashMail;
use crate::questions::QuestionMail;
use crate::world::{Event, World};

/// A snapshot that has travelled.
pub(crate) struct Landing {
    from: usize,
    life: u64,
    to: usize,
    message: raft::Message,
    content: Vec<u8>,
    /// The network lets it through.
    reached: bool,
    /// After how many bytes it was cut off, if it was.
    cut: Option<usize>,
}

impl World {
    pub(crate) fn send(&mut self, from: usize, message: ToPeer) {
        let to_id = match &message {
            ToPeer::Message(message) => message.to,
            ToPeer::Snapshot(parcel) => parcel.message.to,
            ToPeer::AskHash { to, .. } | ToPeer::Ask { to, .. } => *to,
        };
        let to = self.by_id.get(&to_id).copied();
        let life = self.nodes[from].life;
        match message {
            ToPeer::Message(message) => {
                self.tell_message(from, to, &message);
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
                // A connection does not deliver twice, and no proposal is sent on two.
                let copies = match message.kind {
                    raft::MessageKind::Propose => 1,
                    _ => arrivals.len(),
                };
                for (copy, delay) in arrivals.iter().take(copies).enumerate() {
                    if copy > 0 {
                        self.trace.count("messages that came twice");
                    }
                    let to = to.expect("only known members are reached");
                    let message = message.clone();
                    self.after(*delay, Event::Deliver { to, message });
                }
            }
            ToPeer::Snapshot(parcel) => self.ship(from, life, to, *parcel),
            ToPeer::Ask { id, question, .. } => self.ask_leader(QuestionMail {
                asker: (from, life),
                asked: to,
                id,
                question,
                answer: None,
            }),
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

    /// For who looks for a cause; heartbeats say nothing.
    fn tell_message(&mut self, from: usize, to: Option<usize>, message: &raft::Message) {
        use raft::MessageKind::{Heartbeat, HeartbeatResponse};
        if !self.plan.tells_messages || matches!(message.kind, Heartbeat | HeartbeatResponse) {
            return;
        }
        let to = to.map_or("nobody".to_owned(), |to| format!("m{to}"));
        let mut what = format!("m{from} to {to}: {:?} term {}", message.kind, message.term);
        if let (Some(first), Some(last)) = (message.entries.first(), message.entries.last()) {
            what.push_str(&format!(" entries {} to {}", first.index, last.index));
        }
        what.push_str(&format!(" index {} commit {}", message.index, message.commit));
        if message.reject {
            what.push_str(" rejected");
        }
        self.trace.tell_unsummed(self.now, &what);
    }

    pub(crate) fn ship(&mut self, from: usize, life: u64, to: Option<usize>, parcel: Parcel) {
        let mut content = Vec::new();
        let mut stream = parcel.db.stream();
        while let Ok(Some(chunk)) = stream.next_chunk() {
            content.extend_from_slice(&chunk);
        }
        let reached = to.is_some_and(|to| !self.net.cut.contains(&(from, to)));
        let tear = if self.killer.shipments && !self.calm {
            0.5
        } else {
            0.0
        };
        let torn = self.rng.f64() < self.net.tear.max(tear);
        let cut = torn.then(|| self.rng.usize(0..content.len().max(1)));
        if reached && torn {
            self.trace.count("snapshots cut off");
        }
        let message = parcel.message;
        let takes = Duration::from_millis(self.rng.u64(5..400));
        self.trace.count("snapshots sent");
        let landing = Landing {
            from,
            life,
            to: to.unwrap_or(from),
            message,
            content,
            reached,
            cut,
        };
        self.after(takes, Event::Landing(Box::new(landing)));
    }

    /// The connections between two places break: what is on its way is lost, and the senders notice.
    pub(crate) fn reset(&mut self, one: usize, other: usize) {
        let is_between = |from: Option<usize>, to: usize| {
            (from, to) == (Some(one), other) || (from, to) == (Some(other), one)
        };
        let on_the_way = self.agenda.iter().filter(|(_, event)| match event {
            Event::Deliver { to, message } => is_between(self.by_id.get(&message.from).copied(), *to),
            Event::Landing(landing) => is_between(Some(landing.from), landing.to),
            _ => false,
        });
        let lost: Vec<(Instant, u64)> = on_the_way.map(|(at, _)| *at).collect();
        for at in lost {
            match self.agenda.remove(&at) {
                Some(Event::Landing(mut landing)) => {
                    let sent = self.rng.usize(0..landing.content.len().max(1));
                    landing.cut = Some(landing.cut.map_or(sent, |cut| cut.min(sent)));
                    self.trace.count("snapshots cut off");
                    self.after(Duration::from_millis(1), Event::Landing(landing));
                }
                _ => self.trace.count("messages lost"),
            }
        }
        for (from, to) in [(one, other), (other, one)] {
            if let Some(id) = self.id_at(to) {
                let life = self.nodes[from].life;
                self.after(Duration::from_millis(1), Event::Lost { from, life, id });
            }
        }
    }

    pub(crate) fn deliver(&mut self, to: usize, message: Box<raft::Message>) {
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

    pub(crate) fn land(&mut self, landing: Landing) {
        let id = landing.message.to;
        let sender = (landing.from, landing.life);
        let arrived = landing.reached && self.nodes[landing.to].is_up() && self.accept(landing);
        if !arrived {
            self.trace.count("snapshots that did not arrive");
        }
        let mut told = arrived;
        let mut after = Duration::ZERO;
        if self.faults.straggles && !self.calm && self.rng.u8(0..3) == 0 {
            // The answer is slow, or gets lost.
            after = Duration::from_millis(self.rng.u64(1..2500));
            told = arrived && self.rng.u8(0..3) > 0;
            self.trace.count("snapshots whose fate was told late");
        }
        let (place, life) = sender;
        let message = Box::new(ToDecide::SnapshotSent { id, arrived: told });
        self.after(after, Event::Told { place, life, message });
    }

    /// A transfer that was cut off leaves what came of it, for a moment or until the next start.
    pub(crate) fn accept(&mut self, mut landing: Landing) -> bool {
        landing.content.truncate(landing.cut.unwrap_or(usize::MAX));
        // The transport knows how long it should have been, but is not trusted with that.
        let asks = landing.cut.is_none() || self.rng.bool();
        let node = &mut self.nodes[landing.to];
        let name = format!("tmp{}", self.sequence);
        let path = node.config.snap_dir().join(name);
        let disk: std::sync::Arc<dyn Disk> = node.disk.shared();
        let written = disk.open(&path, disk::Open::CreateNew).and_then(|file| {
            file.write_at(&landing.content, 0)?;
            file.sync_all()
        });
        if !asks {
            if self.rng.bool() {
                drop(disk.remove_file(&path));
            }
            return false;
        }
        let accepted = written.map_err(|error| error.to_string()).and_then(|()| {
            member::peer::accept_snapshot(&disk, &path, &landing.message, &node.config)
                .map_err(|error| error.to_string())
        });
        let life = node.life;
        match accepted {
            Ok(_) if landing.cut.is_some() => {
                let (to, len) = (landing.to, landing.content.len());
                self.wrong(format!(
                    "m{to} accepts a snapshot that was cut off after {len} bytes"
                ));
                false
            }
            Ok(_) => {
                self.trace.count("snapshots that arrived");
                self.decide(landing.to, life, ToDecide::Peer(Box::new(landing.message)));
                // File, mark, and what takes the old file's place: it dies, or finds no room, at any of these steps.
                let disk = &self.nodes[landing.to].disk;
                if self.killer.fillers && !self.calm && self.rng.bool() {
                    disk.lack_room_from(disk.steps() + self.rng.u64(1..14));
                } else if self.killer.installers && !self.calm {
                    disk.stop_at(disk.steps() + self.rng.u64(4..14));
                }
                true
            }
            // The machine dies within the write.
            Err(_) if self.nodes[landing.to].disk.stopped() => {
                self.die(landing.to);
                false
            }
            Err(reason) => {
                self.trace
                    .tell(self.now, format!("m{} rejects a snapshot: {reason}", landing.to));
                false
            }
        }
    }
}
