//! Three members in one thread, for stories of which every step matters: messages arrive at once or never, and time
//! passes for all of them together. Chance plays no part but in the order of the stages.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb::InternalRaftRequest;
use disk::mem::MemDisk;
use member::frontend::{AskApply, AskDecide, Asker, Tell};
use member::{Config, InitialMember, Router, ToApply, ToDecide, ToPeer};

use super::Driver;

const STEP: Duration = Duration::from_millis(10);

pub struct Trio {
    pub members: Vec<Driver>,
    pub disks: Vec<MemDisk>,
    pub configs: Vec<Config>,
    pub now: Instant,
    /// Members that stand still: no stage has a turn, nothing reaches them, their clocks go on.
    pub paused: BTreeSet<usize>,
    /// Links over which nothing goes.
    pub cut: BTreeSet<(usize, usize)>,
    /// Messages that get lost, without the sender being told.
    pub lost: Option<raft::MessageKind>,
    ticked: Instant,
}

impl Trio {
    pub fn start(change: impl Fn(&mut Config)) -> Trio {
        Trio::start_with(0, change)
    }

    /// The seed decides which stage has its turn first.
    pub fn start_with(seed: u64, change: impl Fn(&mut Config)) -> Trio {
        let url = |at: usize| vec![format!("http://10.0.0.{at}:2380")];
        let initial = (0..3).map(|at| InitialMember {
            name: format!("m{at}"),
            peer_urls: url(at),
        });
        let initial: Vec<InitialMember> = initial.collect();
        let configs = (0..3).map(|at| {
            let mut config = Config {
                name: format!("m{at}"),
                data_dir: PathBuf::from("/data"),
                initial_cluster: initial.clone(),
                advertise_peer_urls: url(at),
                segment_bytes: 256 << 10,
                page_cache_bytes_max: 1 << 20,
                ..Config::default()
            };
            change(&mut config);
            config
        });
        let configs: Vec<Config> = configs.collect();
        let disks: Vec<MemDisk> = (0..3).map(|_| MemDisk::new()).collect();
        let open = |(at, config): (usize, &Config)| {
            let unix_ms = 1_700_000_000_000;
            Driver::open_at(&disks[at].shared(), config, 3 * seed + at as u64 + 1, unix_ms).unwrap()
        };
        let members = configs.iter().enumerate().map(open).collect();
        let mut trio = Trio {
            members,
            disks,
            configs,
            now: Instant::default(),
            paused: BTreeSet::new(),
            cut: BTreeSet::new(),
            lost: None,
            ticked: Instant::default(),
        };
        trio.until("all are ready", |trio| {
            trio.members.iter().all(|driver| driver.member.shared.is_ready())
        });
        // What every start does once is behind it.
        trio.pass(Duration::from_secs(2));
        trio
    }

    pub fn id(&self, at: usize) -> u64 {
        self.members[at].member.shared.member_id
    }

    fn place(&self, id: u64) -> Option<usize> {
        (0..3).find(|&at| self.id(at) == id)
    }

    /// Who leads, by the word of a member.
    pub fn leader_of(&self, at: usize) -> Option<usize> {
        self.place(self.members[at].member.shared.pulse.leader())
    }

    /// The one whom all others that run follow.
    pub fn leader(&mut self) -> usize {
        self.until("somebody leads", |trio| {
            let mut awake = (0..3).filter(|at| !trio.paused.contains(at));
            let leader = awake.next().and_then(|at| trio.leader_of(at));
            leader.is_some_and(|leader| !trio.paused.contains(&leader))
                && awake.all(|at| trio.leader_of(at) == leader)
        });
        let at = (0..3).find(|at| !self.paused.contains(at)).unwrap();
        self.leader_of(at).unwrap()
    }

    /// All happens that can without time passing.
    pub fn settle(&mut self) {
        let mut turns = 0;
        loop {
            let mut busy = false;
            for at in (0..3).filter(|at| !self.paused.contains(at)).collect::<Vec<_>>() {
                self.members[at].now = self.now;
                assert_eq!(*self.members[at].queues.fatal.borrow(), None);
                while self.members[at].turn() {
                    busy = true;
                }
                for message in self.members[at].queues.peers.take() {
                    busy = true;
                    self.deliver(at, message);
                }
            }
            if !busy {
                return;
            }
            turns += 1;
            assert!(turns < 100_000, "the members never come to rest");
        }
    }

    fn deliver(&mut self, from: usize, message: ToPeer) {
        let reaches =
            |to: Option<usize>| to.filter(|to| !self.paused.contains(to) && !self.cut.contains(&(from, *to)));
        match message {
            ToPeer::Message(message) if self.lost == Some(message.kind) => {}
            ToPeer::Message(message) => match reaches(self.place(message.to)) {
                Some(to) => self.members[to].queues.to_decide(ToDecide::Peer(message)),
                None => {
                    let id = message.to;
                    self.members[from].queues.to_decide(ToDecide::Unreachable { id });
                }
            },
            ToPeer::Snapshot(parcel) => {
                let id = parcel.message.to;
                let arrived = reaches(self.place(id)).is_some_and(|to| self.ship(to, *parcel));
                self.members[from]
                    .queues
                    .to_decide(ToDecide::SnapshotSent { id, arrived });
            }
            // Nobody answers questions here: the tests ask the leader itself.
            ToPeer::Ask { id, .. } => {
                let answer = member::PeerAnswer::Silent;
                self.members[from]
                    .queues
                    .to_apply(ToApply::PeerAnswered { id, answer });
            }
            ToPeer::AskHash { to, revision } => {
                let answer = member::HashAnswer {
                    from: to,
                    revision,
                    hash: None,
                };
                self.members[from].queues.to_apply(ToApply::PeerHash(answer));
            }
        }
    }

    /// A state arrives as a whole.
    fn ship(&mut self, to: usize, parcel: member::Parcel) -> bool {
        let mut content = Vec::new();
        let mut stream = parcel.db.stream();
        while let Some(chunk) = stream.next_chunk().unwrap() {
            content.extend_from_slice(&chunk);
        }
        let (disk, config) = (self.disks[to].shared(), &self.configs[to]);
        let path = config.snap_dir().join("tmp1");
        let file = disk.open(&path, disk::Open::CreateNew).unwrap();
        file.write_at(&content, 0).unwrap();
        file.sync_all().unwrap();
        let accepted = member::peer::accept_snapshot(&disk, &path, &parcel.message, config);
        if accepted.is_ok() {
            let message = Box::new(parcel.message);
            self.members[to].queues.to_decide(ToDecide::Peer(message));
        }
        accepted.is_ok()
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while self.now < end {
            self.now = (self.now + STEP).min(end);
            if self.now - self.ticked >= Duration::from_millis(100) {
                self.ticked = self.now;
                for at in (0..3).filter(|at| !self.paused.contains(at)) {
                    self.members[at].queues.to_decide(ToDecide::Tick);
                }
            }
            self.settle();
        }
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Trio) -> bool) {
        for _ in 0..6000 {
            self.settle();
            if done(self) {
                return;
            }
            self.pass(STEP);
        }
        panic!("it does not happen: {what}");
    }

    /// A request through a member, until it is answered.
    pub fn call(&mut self, at: usize, request: InternalRaftRequest) {
        let id = self.members[at].propose(request);
        self.until("an answer", |trio| trio.members[at].answers.contains_key(&id));
        self.members[at].answers.remove(&id).unwrap().unwrap();
    }

    /// Begins a read of a member; whether it has been answered is for `read_index`.
    pub fn ask_read(&mut self, at: usize) -> u64 {
        let id = self.members[at].ids.next_id();
        let ask = ToDecide::Ask(vec![AskDecide::ReadIndex { id }]);
        self.members[at].queues.to_decide(ask);
        id
    }

    pub fn read_index(&self, at: usize, asked: u64) -> Option<u64> {
        self.members[at].tells.iter().find_map(|tell| match tell {
            Tell::ReadIndex { id, index } if *id == asked => Some(*index),
            _ => None,
        })
    }

    /// Asks a member to renew a lease, as another member's client would.
    pub fn ask_renewal(&mut self, at: usize, lease: i64) -> u64 {
        self.members[at].ask_renewal(lease)
    }

    /// The answer to a renewal: the new time, no lease, or a refusal.
    pub fn renewal(&self, at: usize, asked: u64) -> Option<Result<Option<i64>, String>> {
        self.members[at].renewal(asked)
    }

    /// How long a lease lives, by the word of the member that leads.
    pub fn remaining(&mut self, at: usize, lease: i64) -> Option<i64> {
        let asked = self.members[at].ask(|id| AskApply::TimeToLive {
            id,
            lease,
            keys: false,
            of: Asker::Peer,
        });
        self.settle();
        self.members[at].tells.iter().find_map(|tell| match tell {
            Tell::Lease { id, result } if *id == asked => {
                Some(result.clone().unwrap().map(|info| info.remaining_seconds))
            }
            _ => None,
        })?
    }
}
