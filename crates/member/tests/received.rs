//! The leader's state comes to a member that is behind, and something else is on its way there at the same time.
#![allow(clippy::unwrap_used)]

mod driver;

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::etcdserverpb::{CompactionRequest, InternalRaftRequest, PutRequest};
use api::raftpb::{ConfChange, ConfChangeType};
use disk::Disk;
use disk::mem::{CrashMode, MemDisk};
use driver::Driver;
use driver::trio::Trio;
use member::frontend::{AskApply, AskDecide};
use member::{Config, Router, ToDecide, ToPeer};

const SECOND: Duration = Duration::from_secs(1);

fn put(key: &str, bytes: usize) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            value: vec![b'x'; bytes].into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

/// So few entries stay in memory that whoever misses some gets the state.
fn short_logs(config: &mut Config) {
    config.snapshot_count = 10;
    config.snapshot_catchup_entries = 2;
}

fn others(at: usize) -> [usize; 2] {
    [(at + 1) % 3, (at + 2) % 3]
}

fn write(trio: &mut Trio, at: usize) {
    (0..40).for_each(|n| trio.call(at, put(&format!("k{n}"), 10)));
}

/// How often a member said something.
fn said(trio: &Trio, at: usize, text: &str) -> usize {
    let texts = trio.members[at].log_texts();
    texts.iter().filter(|line| *line == text).count()
}

fn transfer(trio: &mut Trio, from: usize, to: usize) {
    let id = trio.id(to);
    let ask = ToDecide::Ask(vec![AskDecide::TransferLeader { to: id }]);
    trio.members[from].queues.to_decide(ask);
    trio.until("the other one leads", |trio| {
        trio.leader_of(from) == Some(to) && trio.leader_of(to) == Some(to)
    });
}

/// States that were accepted and have not taken the data file's place.
fn received(trio: &Trio, at: usize) -> usize {
    let names = trio.disks[at].list(&trio.configs[at].snap_dir()).unwrap();
    let is_received = |name: &str| name.ends_with(".snap.db");
    names.iter().filter(|entry| is_received(&entry.name)).count()
}

fn received_path(trio: &Trio, at: usize) -> PathBuf {
    let snap_dir = trio.configs[at].snap_dir();
    let names = trio.disks[at].list(&snap_dir).unwrap();
    let mut received = names.iter().filter(|entry| entry.name.ends_with(".snap.db"));
    snap_dir.join(&received.next().unwrap().name)
}

/// The entry that a data file is at.
fn index(disk: &MemDisk, path: &Path) -> u64 {
    let db = bbolt::Db::open(&disk.shared(), path, bbolt::Options::default()).unwrap();
    mvcc::schema::consistent_index(&db.snapshot()).unwrap().0
}

fn set_index(disk: &MemDisk, path: &Path, index: u64) {
    let db = bbolt::Db::open(&disk.shared(), path, bbolt::Options::default()).unwrap();
    let mut batch = bbolt::Batch::new();
    let index = index.to_be_bytes().to_vec();
    batch.put(b"meta", b"consistent_index".as_slice().into(), index.into());
    db.commit(&batch).unwrap();
}

fn hash(view: &mvcc::View) -> u32 {
    let mut hash = view.hash_kv(0).unwrap();
    loop {
        if let Some(hash) = hash.step(100, mvcc::Wait::Yes).unwrap() {
            return hash.hash;
        }
    }
}

/// The first state is being opened for long; the leader changes, and the new one has dropped what follows it.
#[test]
fn a_newer_state_may_come_while_one_is_being_opened() {
    let mut trio = Trio::start(short_logs);
    let first = trio.leader();
    let [behind, second] = others(first);
    trio.paused.insert(behind);
    write(&mut trio, first);
    trio.paused.remove(&behind);
    trio.members[behind].jobs_are_frozen = true;
    let told = |trio: &Trio| said(trio, behind, "applying snapshot");
    trio.until("a state comes", |trio| told(trio) == 1);
    trio.pass(SECOND);

    trio.paused.insert(behind);
    transfer(&mut trio, first, second);
    write(&mut trio, second);
    trio.paused.remove(&behind);
    trio.until("a newer one comes", |trio| told(trio) == 2);
    trio.pass(SECOND);
    assert_eq!(received(&trio, behind), 2);

    trio.members[behind].jobs_are_frozen = false;
    trio.until("it catches up", |trio| {
        let applied = |at: usize| trio.members[at].member.shared.applied();
        applied(behind) == applied(second)
    });
    trio.call(behind, put("after", 10));
    trio.pass(SECOND);
    let views = [second, behind].map(|at| trio.members[at].member.views.load());
    assert_eq!(views[0].revision, views[1].revision);
    assert_eq!(hash(&views[0]), hash(&views[1]));
    assert_eq!(said(&trio, behind, "applied snapshot"), 1);
    assert_eq!(received(&trio, behind), 0);
    let (disk, path) = (trio.disks[behind].clone(), trio.configs[behind].db_path());
    drop((views, trio));
    let db = bbolt::Db::open(&disk.shared(), &path, bbolt::Options::default()).unwrap();
    assert!(db.check().is_empty());
}

/// Else the thread that applies would do nothing but wake up.
#[test]
fn a_compaction_in_hand_waits_in_peace_while_a_state_is_opened() {
    let mut trio = Trio::start(|config| {
        short_logs(config);
        config.compaction_batch_limit = 1;
        config.compaction_sleep_interval = SECOND;
    });
    let leader = trio.leader();
    let [behind, _] = others(leader);
    write(&mut trio, leader);
    let compaction = CompactionRequest {
        revision: 30,
        ..CompactionRequest::default()
    };
    trio.call(
        leader,
        InternalRaftRequest {
            compaction: Some(compaction),
            ..InternalRaftRequest::default()
        },
    );
    trio.pass(SECOND / 2);
    trio.paused.insert(behind);
    write(&mut trio, leader);
    trio.members[behind].jobs_are_frozen = true;
    trio.paused.remove(&behind);
    trio.until("a state comes", |trio| {
        said(trio, behind, "applying snapshot") == 1
    });
    // It never comes to rest otherwise.
    trio.pass(2 * SECOND);
    trio.members[behind].jobs_are_frozen = false;
    trio.until("it is installed", |trio| {
        said(trio, behind, "applied snapshot") == 1
    });
}

/// The entries that it lacks would be missed by nobody.
#[test]
fn a_received_data_file_that_is_too_old_ends_the_member() {
    let mut trio = Trio::start(short_logs);
    let leader = trio.leader();
    let [behind, _] = others(leader);
    trio.paused.insert(behind);
    write(&mut trio, leader);
    trio.paused.remove(&behind);
    trio.members[behind].jobs_are_frozen = true;
    trio.until("a state comes", |trio| received(trio, behind) == 1);

    let path = received_path(&trio, behind);
    set_index(&trio.disks[behind], &path, 7);

    trio.members[behind].jobs_are_frozen = false;
    let driver = &mut trio.members[behind];
    assert!(!driver.advance_until(|_| false));
    let fatal = driver.queues.fatal.borrow().clone().unwrap().to_string();
    assert!(
        fatal.contains("/data/member/snap/db") && fatal.contains("is at index 7, and should be at"),
        "{fatal}"
    );
}

/// The member ends between the log's word for a state and its installation: the next start installs it, if it is what the
/// log says. What is older would leave a gap that nobody notices.
#[test]
fn a_start_installs_a_received_data_file_that_is_as_new_as_the_log_says() {
    let mut trio = Trio::start(short_logs);
    let leader = trio.leader();
    let [behind, _] = others(leader);
    trio.paused.insert(behind);
    write(&mut trio, leader);
    trio.paused.remove(&behind);
    trio.members[behind].jobs_are_frozen = true;
    trio.until("a state comes", |trio| {
        said(trio, behind, "applying snapshot") == 1
    });
    trio.pass(SECOND);
    let path = received_path(&trio, behind);
    let config = trio.configs[behind].clone();
    // What a power failure would leave now.
    let left = || trio.disks[behind].crash(1, CrashMode::LoseUnsynced);
    let disk = left();
    let mark = index(&disk, &path);
    assert!(mark > 40 && index(&disk, &config.db_path()) < mark);
    let driver = Driver::open(&disk.shared(), &config, 1).unwrap();
    assert_eq!(driver.member.shared.applied(), mark);
    assert_eq!(driver.member.views.load().revision, 41);
    drop(driver);
    assert_eq!(index(&disk, &config.db_path()), mark);

    for too_old in [mark - 1, 7, 0] {
        let disk = left();
        let before = index(&disk, &config.db_path());
        set_index(&disk, &path, too_old);
        let refused = Driver::open(&disk.shared(), &config, 1)
            .err()
            .unwrap()
            .to_string();
        let words = format!(
            "database file ({} index {too_old}) does not match with snapshot (index {mark})",
            path.display()
        );
        assert!(refused.contains(&words), "{refused}");
        // Nothing has taken the place of anything.
        assert_eq!(index(&disk, &config.db_path()), before);
        assert_eq!(index(&disk, &path), too_old);
    }
}

/// It comes while one is behind, and `begin` has left something on its way to that one's data file, or reading it, which
/// `end` lets go. What is on its way belongs to the store that is replaced.
fn check_waits(begin: fn(&mut Trio, usize, usize), end: fn(&mut Trio, usize)) {
    for seed in 0..8 {
        let mut trio = Trio::start_with(seed, short_logs);
        let leader = trio.leader();
        let [behind, _] = others(leader);
        write(&mut trio, leader);
        trio.pass(SECOND);
        begin(&mut trio, leader, behind);
        trio.paused.insert(behind);
        write(&mut trio, leader);
        trio.paused.remove(&behind);
        trio.until("a state comes", |trio| {
            said(trio, behind, "applying snapshot") == 1
        });
        trio.pass(SECOND);
        assert_eq!(said(&trio, behind, "applied snapshot"), 0, "seed {seed}");
        end(&mut trio, behind);
        trio.until("it catches up", |trio| {
            let applied = |at: usize| trio.members[at].member.shared.applied();
            applied(behind) == applied(leader)
        });
        assert_eq!(said(&trio, behind, "applied snapshot"), 1, "seed {seed}");
        trio.call(behind, put("after", 10));
        trio.pass(SECOND);
        let views = [leader, behind].map(|at| trio.members[at].member.views.load());
        assert_eq!(hash(&views[0]), hash(&views[1]), "seed {seed}");
        let (disk, path) = (trio.disks[behind].clone(), trio.configs[behind].db_path());
        drop((views, trio));
        let db = bbolt::Db::open(&disk.shared(), &path, bbolt::Options::default()).unwrap();
        assert!(db.check().is_empty(), "seed {seed}");
    }
}

#[test]
fn a_state_waits_for_the_commit_that_is_out() {
    let begin = |trio: &mut Trio, leader: usize, behind: usize| {
        trio.members[behind].file_is_frozen = true;
        trio.call(leader, put("last", 10));
        trio.until("a commit is out", |trio| trio.members[behind].is_committing());
    };
    check_waits(begin, |trio, behind| trio.members[behind].file_is_frozen = false);
}

#[test]
fn a_state_waits_for_the_step_of_a_compaction() {
    let begin = |trio: &mut Trio, leader: usize, behind: usize| {
        trio.members[behind].jobs_are_frozen = true;
        let compaction = CompactionRequest {
            revision: 20,
            physical: false,
        };
        trio.call(
            leader,
            InternalRaftRequest {
                compaction: Some(compaction),
                ..InternalRaftRequest::default()
            },
        );
        trio.until("a step is out", |trio| trio.members[behind].jobs() > 0);
    };
    check_waits(begin, |trio, behind| {
        let driver = &mut trio.members[behind];
        assert_eq!(driver.jobs(), 1, "the state is not opened beside it");
        driver.jobs_are_frozen = false;
    });
}

/// etcd issue 20271. What was applied meanwhile is not committed between the two: it would come back to the wrong store.
#[test]
fn a_state_follows_a_defragmentation_without_a_commit_between_them() {
    let begin = |trio: &mut Trio, leader: usize, behind: usize| {
        trio.members[behind].jobs_are_frozen = true;
        trio.members[behind].ask(|id| AskApply::Defragment { id });
        trio.until("the copy is begun", |trio| trio.members[behind].jobs() > 0);
        trio.call(leader, put("last", 10));
    };
    check_waits(begin, |trio, behind| {
        let driver = &mut trio.members[behind];
        driver.file_is_frozen = true;
        driver.jobs_are_frozen = false;
        while driver.jobs() > 0 {
            driver.turn();
        }
        // The copy is made, and the state is not opened yet.
        driver.jobs_are_frozen = true;
        trio.pass(SECOND);
        trio.members[behind].jobs_are_frozen = false;
        trio.pass(SECOND);
        trio.members[behind].file_is_frozen = false;
    });
}

/// The learner is gone in the received state, and the entry that adds it is applied before that.
#[test]
fn a_change_of_members_before_a_received_state_comes_too_late() {
    const LEARNER: u64 = 0xabc;
    let mut trio = Trio::start(short_logs);
    let leader = trio.leader();
    let [behind, _] = others(leader);
    let change = |trio: &mut Trio, kind: ConfChangeType| {
        let context = state::ChangeContext {
            member: state::Member {
                id: LEARNER,
                peer_urls: vec!["http://10.0.0.9:2380".into()],
                is_learner: true,
                ..state::Member::default()
            },
            is_promote: false,
        };
        let change = ConfChange {
            id: Some(LEARNER),
            r#type: Some(kind as i32),
            node_id: Some(LEARNER),
            context: Some(context.to_json().into()),
        };
        let ask = AskDecide::ProposeConfChange { id: LEARNER, change };
        trio.members[leader].queues.to_decide(ToDecide::Ask(vec![ask]));
        trio.pass(SECOND);
    };
    let count = |trio: &Trio, at: usize| trio.members[at].member.shared.facts().members.len();
    trio.members[behind].apply_is_frozen = true;
    change(&mut trio, ConfChangeType::ConfChangeAddLearnerNode);
    assert_eq!((count(&trio, leader), count(&trio, behind)), (4, 3));
    let cut = (0..3).flat_map(|at| [(at, behind), (behind, at)]);
    trio.cut.extend(cut);
    change(&mut trio, ConfChangeType::ConfChangeRemoveNode);
    assert_eq!(count(&trio, leader), 3);
    write(&mut trio, leader);
    trio.cut.clear();
    trio.until("a state comes", |trio| received(trio, behind) == 1);
    trio.pass(SECOND);
    trio.members[behind].apply_is_frozen = false;
    trio.until("it catches up", |trio| {
        let applied = |at: usize| trio.members[at].member.shared.applied();
        applied(behind) == applied(leader)
    });
    assert_eq!(said(&trio, behind, "added member"), 4, "the entry was applied");

    // To whom it writes as a leader.
    transfer(&mut trio, leader, behind);
    trio.members[behind].queues.to_decide(ToDecide::Tick);
    while trio.members[behind].turn() {}
    let messages = trio.members[behind].queues.peers.borrow();
    let to = |id: u64| {
        let is_for = |sent: &&ToPeer| matches!(sent, ToPeer::Message(message) if message.to == id);
        messages.iter().filter(is_for).count()
    };
    assert!(to(trio.id(leader)) > 0);
    assert_eq!(to(LEARNER), 0);
}

#[test]
fn a_received_state_ends_the_time_without_room_for_the_data_file() {
    let mut trio = Trio::start(|config| {
        short_logs(config);
        config.segment_bytes = wal::SEGMENT_BYTES;
    });
    let leader = trio.leader();
    let [behind, _] = others(leader);
    let disk = trio.disks[behind].clone();
    disk.set_space(Some(disk.used_bytes() + 40_000));
    let full = "no space for the data file; requests are refused until there is";
    trio.until("the disk is full", |trio| {
        trio.call(leader, put("large", 500_000));
        trio.pass(SECOND / 5);
        said(trio, behind, full) == 1
    });
    trio.paused.insert(behind);
    write(&mut trio, leader);
    disk.set_space(None);
    // It does not try again before the state is there.
    trio.members[behind].apply_is_frozen = true;
    trio.paused.remove(&behind);
    trio.until("a state comes", |trio| received(trio, behind) == 1);
    trio.pass(SECOND);
    trio.members[behind].apply_is_frozen = false;
    trio.until("it is installed", |trio| {
        said(trio, behind, "applied snapshot") == 1
    });
    trio.settle();
    trio.call(behind, put("after", 10));
    assert_eq!(said(&trio, behind, "there is space for the data file again"), 1);
}
