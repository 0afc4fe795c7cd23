//! What went wrong in etcd between members, told step by step with three of ours: stalled leaders and disks, leases that
//! change hands. Each test is named after its etcd issue; docs/bug-history.md has them all.
#![allow(clippy::unwrap_used)]

mod driver;

use std::time::Duration;

use api::etcdserverpb::{InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use disk::Disk;
use driver::trio::Trio;
use member::frontend::AskApply;

const ELECTION: Duration = Duration::from_secs(1);

const STUCK: &str = "the disk of the log is stuck; leadership transfer starting";

fn put(key: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

fn grant(id: i64, ttl: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_grant: Some(LeaseGrantRequest { id, ttl }),
        ..InternalRaftRequest::default()
    }
}

fn revoke(id: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_revoke: Some(LeaseRevokeRequest { id }),
        ..InternalRaftRequest::default()
    }
}

fn others(at: usize) -> [usize; 2] {
    [(at + 1) % 3, (at + 2) % 3]
}

#[test]
fn etcd_13527_a_leader_whose_disk_is_stuck_hands_over() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    trio.call(leader, put("before"));
    trio.members[leader].log_is_frozen = true;
    // The others' disks are enough for this one.
    trio.call(leader, put("during"));
    trio.pass(ELECTION / 2);
    assert_eq!(trio.leader(), leader, "a short stall is no reason");
    trio.until("another one leads", |trio| {
        others(leader)
            .iter()
            .all(|&at| trio.leader_of(at).is_some_and(|now| now != leader))
    });
    trio.pass(ELECTION);
    let heir = trio.leader_of(others(leader)[0]).unwrap();
    trio.call(heir, put("after"));
    assert_eq!(trio.leader_of(leader), Some(heir), "it follows");
    assert_eq!(complaints(&trio, leader), 1);
    // The disk comes back, and nobody has lost anything.
    trio.members[leader].log_is_frozen = false;
    trio.call(leader, put("again"));
    trio.pass(ELECTION);
    let revisions: Vec<i64> = trio
        .members
        .iter()
        .map(|driver| driver.member.views.load().revision)
        .collect();
    assert_eq!(revisions, [5, 5, 5]);
}

/// Where nobody else could lead, or others' disks are as slow, a stalled leader stays.
#[test]
fn etcd_13527_a_leader_stays_whose_heirs_are_no_better() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    for at in 0..3 {
        trio.members[at].log_is_frozen = true;
    }
    let id = trio.members[leader].propose(put("a"));
    trio.pass(ELECTION * 3);
    assert_eq!(trio.leader(), leader);
    assert!(!trio.members[leader].answers.contains_key(&id));
    for at in 0..3 {
        trio.members[at].log_is_frozen = false;
    }
    trio.settle();
    assert!(trio.members[leader].answers[&id].is_ok());
}

/// How often a member has found its own disk stuck.
fn complaints(trio: &Trio, at: usize) -> usize {
    let log = trio.members[at].log_texts();
    log.iter().filter(|line| *line == STUCK).count()
}

/// Each attempt costs proposals for an election timeout: they come in equal distances.
#[test]
fn etcd_13527_a_hand_over_that_fails_is_tried_again_in_equal_distances() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    trio.lost = Some(raft::MessageKind::TimeoutNow);
    trio.members[leader].log_is_frozen = true;
    trio.call(leader, put("during"));
    let mut moments = Vec::new();
    for count in 1..=5 {
        trio.until("an attempt", |trio| complaints(trio, leader) == count);
        moments.push(trio.now);
    }
    let distances: Vec<Duration> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        distances.iter().all(|distance| *distance == distances[0]),
        "{distances:?}"
    );
    assert!(
        distances[0] >= ELECTION * 3 && distances[0] < ELECTION * 4,
        "{distances:?}"
    );
    assert_eq!(trio.leader(), leader);
    trio.lost = None;
    trio.until("another one leads", |trio| {
        trio.leader_of(others(leader)[0]) != Some(leader)
    });
}

/// Nobody is elected before its disk has taken all that it wrote as a follower: that is not held against a new leader.
#[test]
fn etcd_13527_a_new_leader_is_not_blamed_for_what_it_wrote_before() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    let [heir, _] = others(leader);
    trio.members[heir].log_is_frozen = true;
    for _ in 0..30 {
        trio.call(leader, put("during"));
        trio.pass(ELECTION / 10);
    }
    trio.paused.insert(leader);
    let (to, from) = (trio.id(heir), trio.id(leader));
    let term = trio.members[heir].member.shared.pulse.term();
    let now = raft::Message::new(raft::MessageKind::TimeoutNow, to, from, term);
    trio.members[heir].queues.hear(now);
    trio.pass(ELECTION / 2);
    assert_eq!(
        trio.leader_of(heir),
        None,
        "its own vote is on the way to the disk"
    );
    trio.members[heir].log_is_frozen = false;
    assert_eq!(trio.leader(), heir);
    trio.paused.remove(&leader);
    for _ in 0..30 {
        trio.call(heir, put("after"));
        trio.pass(ELECTION / 10);
    }
    assert_eq!(trio.leader(), heir);
    assert_eq!(complaints(&trio, heir), 0);
}

/// What was written while a member got a snapshot is read from the leader's log on disk, and nothing of it is open when
/// the member has it.
#[test]
fn purged_segments_that_were_read_for_a_member_are_closed() {
    let mut trio = Trio::start(|config| {
        config.snapshot_count = 10;
        config.snapshot_catchup_entries = 5;
        config.segment_bytes = 2_000;
        config.wals_max = 1;
    });
    let leader = trio.leader();
    let [far, _] = others(leader);
    let links = |trio: &mut Trio, whole: bool| {
        trio.cut.clear();
        if !whole {
            trio.cut.extend((0..3).flat_map(|at| [(at, far), (far, at)]));
        }
    };
    let write = |trio: &mut Trio| (0..60).for_each(|_| trio.call(leader, put("key")));
    links(&mut trio, false);
    write(&mut trio);
    // It gets a state that it does not install yet.
    trio.members[far].apply_is_frozen = true;
    links(&mut trio, true);
    let snapshots = |trio: &Trio| {
        let names = trio.disks[far].list(&trio.configs[far].snap_dir()).unwrap();
        names
            .iter()
            .filter(|entry| entry.name.ends_with(".snap.db"))
            .count()
    };
    trio.until("a snapshot is there", |trio| snapshots(trio) > 0);
    trio.paused.insert(far);
    write(&mut trio);
    trio.paused.remove(&far);
    trio.members[far].apply_is_frozen = false;
    trio.until("it has all", |trio| {
        let applied = |at: usize| trio.members[at].member.shared.applied();
        applied(far) == applied(leader)
    });
    write(&mut trio);
    trio.pass(Duration::from_secs(40));
    assert!(
        trio.members[leader]
            .log_texts()
            .iter()
            .any(|line| line == "purged")
    );
    assert_eq!(trio.disks[leader].removed_bytes(), 0);
}

#[test]
fn etcd_22214_a_blocked_log_write_stalls_no_linearizable_read() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    let follower = others(leader)[0];
    for stuck in [leader, follower] {
        trio.members[stuck].log_is_frozen = true;
        trio.call(leader, put("a"));
        // Within a round trip: no time passes.
        for at in [leader, follower] {
            let asked = trio.ask_read(at);
            trio.settle();
            let index = trio.read_index(at, asked).expect("the read is answered");
            assert_eq!(
                trio.members[at].member.shared.applied(),
                index,
                "and can be served"
            );
        }
        trio.members[stuck].log_is_frozen = false;
        trio.settle();
    }
}

/// A leader that stood still goes on where it was: what it decides about leases then must not count.
#[test]
fn etcd_15247_a_stalled_leader_revokes_no_lease() {
    let mut trio = Trio::start(|_| {});
    let old = trio.leader();
    trio.call(old, grant(7, 10));
    trio.paused.insert(old);
    let new = trio.leader();
    assert_ne!(new, old);
    // Renewed by the new leader for much longer than the old one knows of.
    for _ in 0..4 {
        trio.pass(Duration::from_secs(5));
        let asked = trio.ask_renewal(new, 7);
        trio.until("the renewal", |trio| trio.renewal(new, asked).is_some());
        assert_eq!(trio.renewal(new, asked), Some(Ok(Some(10))));
    }
    // It wakes up with the lease long over by its own clock: Apply decides so before it hears of the new leader, and
    // what it decides comes to Decide behind the new leader's message.
    trio.members[old].decide_is_frozen = true;
    trio.members[old].apply_is_frozen = true;
    trio.paused.remove(&old);
    trio.pass(Duration::from_millis(500));
    trio.members[old].apply_is_frozen = false;
    trio.settle();
    trio.members[old].decide_is_frozen = false;
    trio.pass(Duration::from_secs(2));
    assert_eq!(trio.leader_of(old), Some(new));
    assert_eq!(trio.remaining(new, 7).map(|left| left > 5), Some(true));
    for driver in &trio.members {
        assert_eq!(
            driver.member.views.load().applied_index,
            driver.member.shared.applied()
        );
    }
}

/// The lease is gone, but the leader of then does not know: it must not say that it was renewed.
#[test]
fn etcd_20615_no_renewal_of_a_revoked_lease_by_a_stalled_leader() {
    let mut trio = Trio::start(|_| {});
    let old = trio.leader();
    trio.call(old, grant(7, 600));
    trio.paused.insert(old);
    let new = trio.leader();
    trio.call(new, revoke(7));
    trio.paused.remove(&old);
    // Asked before anything else happens to it.
    let asked = trio.ask_renewal(old, 7);
    trio.cut.extend(others(old).map(|at| (old, at)));
    trio.settle();
    assert_eq!(trio.renewal(old, asked), None, "it asks the others first");
    trio.cut.clear();
    trio.pass(Duration::from_secs(10));
    let answer = trio.renewal(old, asked);
    assert!(
        !matches!(answer, Some(Ok(Some(_)))),
        "a lease was renewed that was gone: {answer:?}"
    );
}

/// A grant that is committed and not applied: a renewal that comes then waits for it.
#[test]
fn etcd_13932_a_renewal_waits_for_a_grant_that_is_not_applied() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    trio.members[leader].apply_is_frozen = true;
    let granted = trio.members[leader].propose(grant(7, 600));
    trio.settle();
    let asked = trio.ask_renewal(leader, 7);
    trio.settle();
    assert_eq!(trio.renewal(leader, asked), None);
    trio.members[leader].apply_is_frozen = false;
    trio.settle();
    assert!(trio.members[leader].answers[&granted].is_ok());
    assert_eq!(trio.renewal(leader, asked), Some(Ok(Some(600))));
}

/// The same for a lone voter, which needs nobody's word before it answers: what is committed when Apply looks at the
/// renewal counts, although it hears of it behind that.
#[test]
fn etcd_13932_a_lone_voter_waits_as_well() {
    let config = member::Config {
        data_dir: "/data".into(),
        ..member::Config::default()
    };
    let mut driver = driver::Driver::open(&disk::mem::MemDisk::new().shared(), &config, 1).unwrap();
    assert!(driver.until_ready());
    driver.apply_is_frozen = true;
    let asked = driver.ask_renewal(7);
    let granted = driver.propose(grant(7, 600));
    driver.settle();
    driver.apply_is_frozen = false;
    driver.settle();
    assert!(driver.answers[&granted].is_ok());
    assert_eq!(driver.renewal(asked), Some(Ok(Some(600))));
}

/// The remaining time that was recorded outlives the leader, and a renewal clears it.
#[test]
fn etcd_13508_a_recorded_remaining_time_survives_the_next_leaders() {
    let mut trio = Trio::start(|config| {
        config.lease_checkpoint = true;
        config.lease_checkpoint_persist = true;
    });
    let first = trio.leader();
    trio.call(first, grant(7, 1000));
    trio.pass(Duration::from_secs(620));
    let mut leader = first;
    // Two changes in a row: what the second leader knows it has from the log alone.
    for _ in 0..2 {
        let (from, to) = (leader, others(leader)[0]);
        let to_id = trio.id(to);
        let ask = member::ToDecide::Ask(vec![member::frontend::AskDecide::TransferLeader { to: to_id }]);
        member::Router::to_decide(&trio.members[from].queues, ask);
        trio.until("the next one leads", |trio| {
            (0..3).all(|at| trio.leader_of(at) == Some(to))
        });
        trio.pass(Duration::from_secs(1));
        leader = to;
        let left = trio.remaining(leader, 7).expect("the lease is there");
        assert!((300..=450).contains(&left), "{left} of 1000 s after 620 s");
    }
    let asked = trio.ask_renewal(leader, 7);
    trio.until("the renewal", |trio| trio.renewal(leader, asked).is_some());
    assert_eq!(trio.renewal(leader, asked), Some(Ok(Some(1000))));
    assert!(trio.remaining(leader, 7).unwrap() > 990);
}

/// A state of the leader arrives while the data file is being rewritten, at any moment of that.
#[test]
fn etcd_20271_a_snapshot_may_come_within_a_defragmentation() {
    let mut met = 0;
    for seed in 0..30 {
        let mut trio = Trio::start_with(seed, |config| {
            config.snapshot_count = 10;
            config.snapshot_catchup_entries = 2;
        });
        let leader = trio.leader();
        let behind = others(leader)[0];
        trio.call(leader, put("early"));
        trio.paused.insert(behind);
        for n in 0..40 {
            trio.call(leader, put(&format!("k{n}")));
        }
        trio.paused.remove(&behind);
        // How far it is when the state comes depends on the seed; then it stands still for a while.
        let asked = trio.members[behind].ask(|id| AskApply::Defragment { id });
        for _ in 0..seed % 8 {
            trio.members[behind].now = trio.now;
            trio.members[behind].turn();
        }
        trio.members[behind].jobs_are_frozen = true;
        trio.pass(ELECTION);
        let done = |trio: &Trio| trio.members[behind].answers.contains_key(&asked);
        met += usize::from(!done(&trio));
        trio.members[behind].jobs_are_frozen = false;
        trio.until("it catches up", |trio| {
            let index = |at: usize| trio.members[at].member.shared.applied();
            index(behind) == index(leader) && done(trio)
        });
        let said = |text: &str| trio.members[behind].log_texts().iter().any(|line| line == text);
        assert!(said("applied snapshot"), "seed {seed}");
        trio.call(behind, put("after"));
        trio.pass(ELECTION);
        let views = [leader, behind].map(|at| trio.members[at].member.views.load());
        assert_eq!(views[0].revision, views[1].revision, "seed {seed}");
        assert_eq!(hash(&views[0]), hash(&views[1]), "seed {seed}");
        let disk = trio.disks[behind].clone();
        let path = trio.configs[behind].db_path();
        drop((views, trio));
        let db = bbolt::Db::open(&disk.shared(), &path, bbolt::Options::default()).unwrap();
        assert!(db.check().is_empty(), "seed {seed}");
    }
    assert!(met > 10, "defragmentations were over before: {met}");
}

fn hash(view: &mvcc::View) -> u32 {
    let mut hash = view.hash_kv(0).unwrap();
    loop {
        if let Some(hash) = hash.step(100, mvcc::Wait::Yes).unwrap() {
            return hash.hash;
        }
    }
}
