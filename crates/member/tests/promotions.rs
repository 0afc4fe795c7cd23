//! Data files that name other members than raft counts, as releases of 3.5 have left them: opened through the
//! front door, on directories that Go etcd made.
#![allow(clippy::unwrap_used)]

mod driver;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{InternalRaftRequest, PutRequest};
use api::version::Line;
use bbolt::{Batch, Db};
use disk::mem::MemDisk;
use disk::{Disk, Open};
use driver::Driver;
use driver::trio::Trio;
use member::{Config, LogLine, ToPeer};
use mvcc::schema;

const A: u64 = 0x60f9_8d3b_71ac_64f3;
const B: u64 = 0x06cd_56ff_80cd_4b00;
const C: u64 = 0xda22_26dc_de18_f0a5;
const ZOMBIE: u64 = 0xdead;

const DB: &str = "/data/member/snap/db";

fn config(line: Line) -> Config {
    Config {
        data_dir: PathBuf::from("/data"),
        line,
        ..Config::default()
    }
}

/// The golden directory of this name, with other rows for these members in its data file: their ids, and whether each is a
/// learner.
fn load(name: &str, rows: &[(u64, bool)]) -> Arc<dyn Disk> {
    let disk = MemDisk::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    for part in ["snap", "wal"] {
        let to = Path::new("/data/member").join(part);
        disk.create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(golden.join(part)).unwrap() {
            let entry = entry.unwrap();
            let file = disk.open(&to.join(entry.file_name()), Open::CreateNew).unwrap();
            file.write_at(&std::fs::read(entry.path()).unwrap(), 0).unwrap();
        }
    }
    let disk = disk.shared();
    write_members(&disk, Path::new(DB), rows);
    disk
}

fn write_members(disk: &Arc<dyn Disk>, path: &Path, rows: &[(u64, bool)]) {
    let db = Db::open(disk, path, bbolt::Options::default()).unwrap();
    let members = schema::members(&db.snapshot()).unwrap();
    let mut batch = Batch::new();
    for &(id, is_learner) in rows {
        let member = schema::Member {
            id,
            peer_urls: Some(vec![format!("http://10.0.0.1:{}", id % 1000)]),
            ..schema::Member::default()
        };
        let old = members.iter().find(|member| member.id == id);
        let member = schema::Member {
            is_learner,
            ..old.cloned().unwrap_or(member)
        };
        let key = format!("{id:x}");
        batch.put(schema::MEMBERS.as_bytes(), key.into(), member.to_json().into());
    }
    db.commit(&batch).unwrap();
}

/// What the data file says: voters, learners and removed ones.
fn stored(disk: &Arc<dyn Disk>) -> [Vec<u64>; 3] {
    let db = Db::open(disk, Path::new(DB), bbolt::Options::default()).unwrap();
    let rows = db.snapshot();
    let members = schema::members(&rows).unwrap();
    let of = |learners: bool| {
        let of_kind = members.iter().filter(|member| member.is_learner == learners);
        let mut ids: Vec<u64> = of_kind.map(|member| member.id).collect();
        ids.sort_unstable();
        ids
    };
    [of(false), of(true), schema::removed_members(&rows).unwrap()]
}

/// Voters and learners that the member tells its clients.
fn served(driver: &Driver) -> [Vec<u64>; 2] {
    let facts = driver.member.shared.facts();
    let of = |learners: bool| {
        let of_kind = facts
            .members
            .iter()
            .filter(|member| member.is_learner == learners);
        of_kind.map(|member| member.id).collect()
    };
    [of(false), of(true)]
}

/// Lets an election's time pass. Whom the member asked for their votes.
fn asked_for_votes(driver: &mut Driver) -> Vec<u64> {
    driver.advance(Duration::from_secs(5));
    let mut asked: Vec<u64> = driver.queues.peers.borrow().iter().flat_map(asks).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

fn asks(message: &ToPeer) -> Option<u64> {
    let ToPeer::Message(message) = message else {
        return None;
    };
    let asks = matches!(message.kind, raft::MessageKind::PreVote | raft::MessageKind::Vote);
    asks.then_some(message.to)
}

/// The members that a line of the log was about.
fn told_of(driver: &Driver, msg: &str) -> Vec<String> {
    let log = driver.queues.log.borrow();
    let of = |line: &LogLine| (line.msg == msg).then(|| line.fields[0].1.clone());
    let texts = log.iter().filter_map(of).map(|value| match value {
        member::LogValue::Text(text) => text,
        value => panic!("{value:?}"),
    });
    texts.collect()
}

fn sorted<const N: usize>(mut ids: [u64; N]) -> Vec<u64> {
    ids.sort_unstable();
    ids.to_vec()
}

const PROMOTED: &str = "Syncing member in v3store";
const REMOVED: &str = "Removing zombie member from v3store";

/// B's promotion is behind the snapshot file, C's in the log after it.
#[test]
fn etcd_19557_learners_that_vote_are_voters_also_if_the_data_file_says_otherwise() {
    for line in [Line::V3_5, Line::V3_6] {
        for (name, others) in [("3.5-promoted-a", [B, C]), ("3.5-promoted-b", [A, C])] {
            let disk = load(name, &[(B, true), (C, true)]);
            assert_eq!(stored(&disk), [vec![A], sorted([B, C]), vec![]]);
            let mut driver = Driver::open(&disk, &config(line), 1).unwrap();
            assert_eq!(served(&driver), [sorted([A, B, C]), vec![]], "{name} as {line:?}");
            assert_eq!(told_of(&driver, PROMOTED).len(), 2);
            // It neither leads alone nor waits for others to lead.
            assert_eq!(asked_for_votes(&mut driver), sorted(others), "{name} as {line:?}");
            assert_eq!(driver.member.shared.pulse.leader(), 0);
            driver.stop();
            assert_eq!(stored(&disk), [sorted([A, B, C]), vec![], vec![]]);
            let driver = Driver::open(&disk, &config(line), 2).unwrap();
            assert!(told_of(&driver, PROMOTED).is_empty());
        }
    }
}

/// 3.7 reads no snapshot file, and the log has all since the beginning.
#[test]
fn promotions_are_found_where_there_is_no_snapshot() {
    const FIRST: u64 = 11_662_769_606_973_678_950;
    let ids = stored(&load("3.7-three", &[]))[0].clone();
    let others: Vec<u64> = ids.iter().copied().filter(|id| *id != FIRST).collect();
    let disk = load("3.7-three", &[(others[0], true), (others[1], true)]);
    let mut driver = Driver::open(&disk, &config(Line::V3_7), 1).unwrap();
    assert_eq!(served(&driver), [ids.clone(), vec![]]);
    assert_eq!(asked_for_votes(&mut driver), others);
    driver.stop();
    assert_eq!(stored(&disk), [ids, vec![], vec![]]);
}

#[test]
fn learners_that_learn_stay_learners() {
    // C was added after the snapshot. B is one that 3.5.19 would have forgotten.
    for forgotten in [false, true] {
        let disk = load("3.5-learner", &[(B, forgotten)]);
        let mut driver = Driver::open(&disk, &config(Line::V3_5), 1).unwrap();
        assert_eq!(served(&driver), [sorted([A, B]), vec![C]]);
        let expected = match forgotten {
            true => vec![format!("{B:x}")],
            false => Vec::new(),
        };
        assert_eq!(told_of(&driver, PROMOTED), expected);
        assert!(told_of(&driver, REMOVED).is_empty());
        assert_eq!(asked_for_votes(&mut driver), [B]);
        driver.stop();
        assert_eq!(stored(&disk), [sorted([A, B]), vec![C], vec![]]);
    }
}

/// What 3.5 before 3.5.26 could leave: a member that the cluster does not have.
#[test]
fn members_that_raft_does_not_count_are_removed() {
    let disk = load("3.5-promoted-a", &[(ZOMBIE, false)]);
    let mut driver = Driver::open(&disk, &config(Line::V3_5), 1).unwrap();
    assert_eq!(served(&driver), [sorted([A, B, C]), vec![]]);
    assert_eq!(told_of(&driver, REMOVED), [format!("{ZOMBIE:x}")]);
    assert_eq!(asked_for_votes(&mut driver), sorted([B, C]));
    driver.stop();
    assert_eq!(stored(&disk), [sorted([A, B, C]), vec![], vec![ZOMBIE]]);
}

/// etcd issue 19557: a leader of 3.5 sends such a data file too.
#[test]
fn a_received_data_file_is_mended() {
    let mut trio = Trio::start(|config| {
        config.snapshot_count = 10;
        config.snapshot_catchup_entries = 5;
    });
    let leader = trio.leader();
    let far = (leader + 1) % 3;
    trio.cut.extend((0..3).flat_map(|at| [(at, far), (far, at)]));
    (0..60).for_each(|_| trio.call(leader, put("key")));
    trio.members[far].apply_is_frozen = true;
    trio.cut.clear();
    let snap = trio.configs[far].snap_dir();
    let received = |trio: &Trio| {
        let names = trio.disks[far].list(&snap).unwrap();
        let found = names.into_iter().find(|entry| entry.name.ends_with(".snap.db"));
        found.map(|entry| snap.join(entry.name))
    };
    trio.until("a snapshot is there", |trio| received(trio).is_some());
    let path = received(&trio).unwrap();
    let learner = trio.id((leader + 2) % 3);
    write_members(
        &trio.disks[far].shared(),
        &path,
        &[(learner, true), (trio.id(far), true), (ZOMBIE, false)],
    );
    trio.members[far].apply_is_frozen = false;
    trio.until("it has all", |trio| {
        let applied = |at: usize| trio.members[at].member.shared.applied();
        applied(far) == applied(leader)
    });
    assert_eq!(served(&trio.members[far]), served(&trio.members[leader]));
    assert_eq!(told_of(&trio.members[far], PROMOTED).len(), 2);
    assert_eq!(told_of(&trio.members[far], REMOVED).len(), 1);
    trio.call(far, put("after"));
    trio.pass(Duration::from_secs(2));
    let ids = sorted([trio.id(0), trio.id(1), trio.id(2)]);
    let (disk, db) = (trio.disks[far].shared(), trio.configs[far].db_path());
    drop(trio);
    assert_eq!(db, Path::new(DB));
    assert_eq!(stored(&disk), [ids, vec![], vec![ZOMBIE]]);
}

fn put(key: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}
