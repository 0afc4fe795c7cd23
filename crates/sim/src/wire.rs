//! How what members say to each other travels: late, twice, or not at all; and snapshots, which are long.

use std::time::Duration;

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
    whole: bool,
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
                for (copy, delay) in arrivals.iter().enumerate() {
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
            0.3
        } else {
            0.0
        };
        let torn = self.rng.f64() < self.net.tear.max(tear);
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
            whole: reached && !torn,
        };
        self.after(takes, Event::Landing(Box::new(landing)));
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
        let arrived = landing.whole && self.nodes[landing.to].is_up() && self.accept(landing);
        if !arrived {
            self.trace.count("snapshots that did not arrive");
        }
        self.decide(sender.0, sender.1, ToDecide::SnapshotSent { id, arrived });
    }

    pub(crate) fn accept(&mut self, landing: Landing) -> bool {
        let node = &mut self.nodes[landing.to];
        let name = format!("tmp{}", self.sequence);
        let path = node.config.snap_dir().join(name);
        let disk: std::sync::Arc<dyn Disk> = node.disk.shared();
        let written = disk.open(&path, disk::Open::CreateNew).and_then(|file| {
            file.write_at(&landing.content, 0)?;
            file.sync_all()
        });
        let accepted = written.map_err(|error| error.to_string()).and_then(|()| {
            member::peer::accept_snapshot(&disk, &path, &landing.message, &node.config)
                .map_err(|error| error.to_string())
        });
        let life = node.life;
        match accepted {
            Ok(_) => {
                self.trace.count("snapshots that arrived");
                self.decide(landing.to, life, ToDecide::Peer(Box::new(landing.message)));
                if self.killer.installers && !self.calm {
                    // File, mark, and what takes the old file's place: it dies at any of these steps.
                    let disk = &self.nodes[landing.to].disk;
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
