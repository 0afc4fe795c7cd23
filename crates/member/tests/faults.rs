//! Disks that fill up, fail and lie, directories that must not be opened, and a downgrade.
#![allow(clippy::unwrap_used)]

mod driver;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::error;
use api::etcdserverpb::{CompactionRequest, InternalRaftRequest, PutRequest};
use api::membershippb::DowngradeInfoSetRequest;
use api::version::Line;
use disk::Disk;
use disk::mem::MemDisk;
use driver::Driver;
use driver::trio::Trio;
use member::frontend::{AskApply, Tell};
use member::{Config, Error, InitialMember};

const EIO: i32 = 5;

fn config() -> Config {
    Config {
        data_dir: PathBuf::from("/data"),
        ..Config::default()
    }
}

/// A snapshot and a mark after everything that is applied.
fn always_snapshots() -> Config {
    Config {
        snapshot_count: 0,
        ..config()
    }
}

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

fn ready(disk: &MemDisk, config: &Config) -> Driver {
    let mut driver = Driver::open(&disk.shared(), config, 1).unwrap();
    assert!(driver.until_ready());
    driver
}

fn revision(driver: &Driver) -> i64 {
    driver.member.views.load().revision
}

#[test]
fn a_failed_sync_of_the_log_ends_the_member_without_an_answer() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.call(put("a", 10)).unwrap().unwrap();
    // Let the data file be written, so that the next sync is the log's.
    driver.advance(Duration::from_secs(5));
    disk.fail_sync(disk.syncs() + 1, EIO);
    assert_eq!(driver.call(put("b", 10)), None, "no answer");
    let fatal = driver.queues.fatal.borrow().clone().expect("it ends");
    assert!(fatal.to_string().contains("/data/member/wal"), "{fatal}");
    assert!(driver.member.shared.pulse.is_stopped());
    // The disk works again, but the member does not go on.
    *driver.queues.fatal.borrow_mut() = None;
    let id = driver.propose(put("c", 10));
    driver.advance(Duration::from_secs(10));
    assert!(!matches!(driver.answers.get(&id), Some(Ok(_))));
    assert_eq!(revision(&driver), 2);
}

#[test]
fn a_frozen_disk_of_the_log_does_not_fill_the_memory() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.log_is_frozen = true;
    let bytes = 4 << 20;
    let ids: Vec<u64> = (0..40)
        .map(|n| driver.propose(put(&format!("k{n}"), bytes)))
        .collect();
    driver.settle();
    let refused = ids.iter().filter(|id| driver.answers.contains_key(id)).count();
    assert_eq!(
        refused, 8,
        "32 of 4 MiB, and what they cost beside, are more than 128 MiB"
    );
    assert!(
        driver
            .answers
            .values()
            .all(|answer| *answer == Err(error::REQUEST_TOO_MANY_REQUESTS))
    );
    driver.log_is_frozen = false;
    driver.settle();
    assert!(ids.iter().all(|id| driver.answers.contains_key(id)));
    assert_eq!(revision(&driver), 1 + 32);
    driver.call(put("after", 1)).unwrap().unwrap();
}

/// What followers forward counts as what the leader's own clients ask for; nobody is told of what is dropped.
#[test]
fn a_leader_with_a_frozen_disk_takes_no_more_from_followers_either() {
    let mut trio = Trio::start(|_| {});
    let leader = trio.leader();
    let follower = (leader + 1) % 3;
    trio.members[leader].log_is_frozen = true;
    // What the leader takes does not come back to the follower, whose own bound is not asked.
    trio.cut.insert((leader, follower));
    let revision = |trio: &Trio| revision(&trio.members[leader]);
    let before = revision(&trio);
    let ids: Vec<u64> = (0..40)
        .map(|n| {
            let id = trio.members[follower].propose(put(&format!("k{n}"), 4 << 20));
            trio.settle();
            id
        })
        .collect();
    assert!(trio.members[follower].answers.is_empty());
    trio.members[leader].log_is_frozen = false;
    trio.cut.clear();
    trio.pass(Duration::from_secs(1));
    assert_eq!(trio.leader(), leader);
    assert_eq!(
        revision(&trio),
        before + 32,
        "32 of 4 MiB, and what they cost beside, are more than 128 MiB"
    );
    let answers = &trio.members[follower].answers;
    let answered = |id: &u64| answers.get(id).map(Result::is_ok);
    assert!(ids[..32].iter().all(|id| answered(id) == Some(true)));
    assert!(ids[32..].iter().all(|id| answered(id).is_none()));
    trio.call(follower, put("after", 1));
}

#[test]
fn a_failed_sync_of_the_data_file_ends_the_member() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.advance(Duration::from_secs(5));
    driver.call(put("a", 10)).unwrap().unwrap();
    disk.fail_syncs(Some(EIO));
    driver.advance(Duration::from_secs(1));
    let fatal = driver.queues.fatal.borrow().clone().expect("it ends");
    assert!(fatal.to_string().contains("/data/member/snap/db"), "{fatal}");
    drop(driver);
    disk.fail_syncs(None);
    let driver = ready(&disk.crash(1, disk::mem::CrashMode::LoseUnsynced), &config());
    assert_eq!(revision(&driver), 2);
}

/// Fills the disk while a member writes, and empties it again: refused requests are refused with the
/// right text, nothing that was answered is lost, and the member goes on by itself.
fn check_full_disk(room: u64, value_bytes: usize, segment_bytes: u64) {
    let config = Config {
        segment_bytes,
        ..config()
    };
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config);
    // A log of small segments gives back what its first one had reserved.
    for n in 0..4 {
        driver
            .call(put(&format!("before{n}"), value_bytes))
            .unwrap()
            .unwrap();
    }
    driver.advance(Duration::from_secs(1));
    disk.set_space(Some(disk.used_bytes() + room));
    let mut refused = 0;
    let mut pending = Vec::new();
    for n in 0..60 {
        let id = driver.propose(put(&format!("key{n}"), value_bytes));
        driver.advance(Duration::from_millis(300));
        match driver.answers.get(&id) {
            Some(Ok(_)) => {}
            Some(Err(status)) => {
                assert_eq!(*status, error::NO_SPACE);
                refused += 1;
            }
            None => pending.push(id),
        }
    }
    let sizes = (disk.used_bytes(), disk.metadata(&config.db_path()).unwrap());
    assert!(
        refused > 0,
        "the disk was never full: {sizes:?} {:?}",
        driver.log_texts()
    );
    assert_eq!(*driver.queues.fatal.borrow(), None);
    disk.set_space(None);
    driver.advance(Duration::from_secs(3));
    for id in pending {
        assert!(matches!(driver.answers.get(&id), Some(Ok(_))), "it was only late");
    }
    driver.call(put("after", 10)).unwrap().unwrap();
    let before = revision(&driver);
    let answered = driver.answers.values().filter(|answer| answer.is_ok()).count();
    assert_eq!(before as usize, 1 + 4 + answered + 1);
    driver.stop();
    let driver = ready(&disk, &config);
    assert_eq!(revision(&driver), before);
}

/// What waits for room was never acknowledged, and nobody waits for it any more.
#[test]
fn a_stop_beside_a_full_log_ends_in_order() {
    let config = Config {
        segment_bytes: 30_000,
        ..config()
    };
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config);
    // The first segment has reserved more than the disk will have.
    for n in 0..4 {
        driver.call(put(&format!("before{n}"), 10_000)).unwrap().unwrap();
    }
    disk.set_space(Some(disk.used_bytes() + 20_000));
    let late: Vec<u64> = (0..20)
        .map(|n| driver.propose(put(&format!("key{n}"), 10_000)))
        .collect();
    driver.advance(Duration::from_secs(1));
    let waits = late.iter().filter(|id| !driver.answers.contains_key(id)).count();
    assert!(waits > 0, "the log has room");
    let acknowledged = driver.answers.values().filter(|answer| answer.is_ok()).count();
    let told = driver.stop();
    assert!(
        told.iter()
            .any(|line| line.msg.starts_with("stopping without space"))
    );
    disk.set_space(None);
    let driver = ready(&disk.crash(1, disk::mem::CrashMode::LoseUnsynced), &config);
    assert!(revision(&driver) as usize > 4 + acknowledged, "{acknowledged}");
}

#[test]
fn a_full_disk_is_an_error_to_clients_and_loses_nothing() {
    // The log's segment has room, the data file has not.
    check_full_disk(40_000, 500_000, wal::SEGMENT_BYTES);
    // The log itself needs more.
    check_full_disk(70_000, 10_000, 30_000);
}

/// Fills the disk twice: what does not work then is said twice, and what works again as often.
fn check_told_once(config: &Config, room: u64, value_bytes: usize, failed: &str, works: &str) {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, config);
    let count = |driver: &Driver, text: &str| driver.log_texts().iter().filter(|line| *line == text).count();
    // A log of small segments gives back what its first one had reserved.
    for _ in 0..4 {
        driver.call(put("before", value_bytes)).unwrap().unwrap();
    }
    for episode in 1..=2 {
        driver.advance(Duration::from_secs(3));
        disk.set_space(Some(disk.used_bytes() + room));
        for n in 0..30 {
            driver.propose(put(&format!("key{n}"), value_bytes));
            driver.advance(Duration::from_millis(300));
        }
        assert_eq!(
            count(&driver, failed),
            episode,
            "{failed}: {:?}",
            driver.log_texts()
        );
        let before = count(&driver, works);
        disk.set_space(None);
        driver.advance(Duration::from_secs(3));
        driver.call(put("after", value_bytes)).unwrap().unwrap();
        driver.advance(Duration::from_secs(3));
        assert!(
            count(&driver, works) > before,
            "{works}: {:?}",
            driver.log_texts()
        );
    }
}

#[test]
fn what_fails_on_a_full_disk_is_told_once() {
    let small = Config {
        segment_bytes: 30_000,
        ..config()
    };
    // Room for the last segment to grow, and not for another.
    let segment = ("failed to begin a new WAL segment", "created a new WAL segment");
    check_told_once(&small, 28_000, 10_000, segment.0, segment.1);
    let spare = "failed to preallocate a WAL segment";
    check_told_once(&small, 28_000, 10_000, spare, segment.1);
    // The files that are there have room.
    let snapshots = Config {
        snapshot_count: 5,
        ..config()
    };
    let snapshot = "no space for a snapshot; it is tried again later";
    check_told_once(&snapshots, 0, 10, snapshot, "saved snapshot to disk");
}

#[test]
fn a_full_disk_that_copies_on_write_is_waited_out_too() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.call(put("a", 10)).unwrap().unwrap();
    driver.stop();
    disk.set_copy_on_write(true);
    disk.set_space(Some(disk.used_bytes()));
    let mut driver = Driver::open(&disk.shared(), &always_snapshots(), 1).unwrap();
    driver.advance(Duration::from_secs(10));
    assert_eq!(*driver.queues.fatal.borrow(), None);
    assert_eq!(revision(&driver), 2, "what is there can be read");
    let (marks, _) = wal::valid_marks(&disk, &config().wal_dir()).unwrap();
    assert!(marks.iter().all(|mark| mark.index == 0), "{marks:?}");
    disk.set_space(None);
    assert!(driver.until_ready());
    driver.call(put("b", 10)).unwrap().unwrap();
    driver.stop();
    assert_eq!(revision(&ready(&disk, &config())), 3);
}

/// Nothing but an index is to be written, and there is no room for it.
#[test]
fn a_full_disk_for_an_index_alone_passes_too() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.advance(Duration::from_secs(5));
    driver.call(put("a", 10)).unwrap().unwrap();
    driver.advance(Duration::from_secs(1));
    let compact = InternalRaftRequest {
        compaction: Some(CompactionRequest {
            revision: 99,
            physical: true,
        }),
        ..InternalRaftRequest::default()
    };
    driver.call(compact).unwrap().unwrap_err();
    disk.set_copy_on_write(true);
    disk.set_space(Some(disk.used_bytes()));
    let id = driver.ask(|id| AskApply::Pin { id });
    driver.advance(Duration::from_secs(5));
    let refused = driver
        .tells
        .iter()
        .any(|tell| matches!(tell, Tell::Pinned { id: pinned, result: Err(_) } if *pinned == id));
    assert!(refused);
    assert_eq!(driver.call(put("b", 10)), Some(Err(error::NO_SPACE)));
    disk.set_space(None);
    driver.advance(Duration::from_secs(3));
    driver.call(put("b", 10)).unwrap().unwrap();
}

/// A compaction waits for the data file, and does not keep the member from resting.
#[test]
fn a_compaction_waits_for_room() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    for n in 0..10 {
        driver.call(put("a", n)).unwrap().unwrap();
    }
    driver.advance(Duration::from_secs(5));
    let compact = InternalRaftRequest {
        compaction: Some(CompactionRequest {
            revision: 8,
            physical: true,
        }),
        ..InternalRaftRequest::default()
    };
    let id = driver.propose(compact);
    // Its deletions are on their way to the data file then.
    let finished = |driver: &Driver| {
        driver
            .log_texts()
            .contains(&"finished scheduled compaction".to_owned())
    };
    while !finished(&driver) {
        if !driver.turn() {
            driver.now = driver.now + Duration::from_millis(10);
        }
    }
    disk.set_copy_on_write(true);
    disk.set_space(Some(disk.used_bytes()));
    driver.advance(Duration::from_secs(5));
    assert!(!driver.answers.contains_key(&id));
    let told = |tell: &Tell| matches!(tell, Tell::Compacting { id: of } if *of == id);
    assert!(
        driver.tells.iter().any(told),
        "whoever waits knows that consensus has done its part"
    );
    disk.set_space(None);
    driver.advance(Duration::from_secs(5));
    assert!(matches!(driver.answers.get(&id), Some(Ok(_))));
}

#[test]
fn a_read_error_of_the_data_file_is_an_error_and_no_panic() {
    let disk = MemDisk::new();
    let small = Config {
        page_cache_bytes_max: 0,
        ..config()
    };
    let mut driver = ready(&disk, &small);
    for n in 0..50 {
        driver.call(put(&format!("key{n}"), 3000)).unwrap().unwrap();
    }
    driver.advance(Duration::from_secs(5));
    driver.stop();
    let len = disk.metadata(&small.db_path()).unwrap().unwrap().len;
    disk.fail_reads(&small.db_path(), 8192..len).unwrap();
    match Driver::open(&disk.shared(), &small, 1) {
        Ok(_) => panic!("it opens"),
        Err(error) => assert!(error.to_string().contains("/data/member/snap/db"), "{error}"),
    }
    disk.heal_reads();
    assert_eq!(revision(&ready(&disk, &small)), 51);
}

#[test]
fn a_downgrade_on_one_member_goes_all_the_way() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.advance(Duration::from_secs(5));
    let enable = InternalRaftRequest {
        downgrade_info_set: Some(DowngradeInfoSetRequest {
            enabled: true,
            ver: "3.6.0".to_owned(),
        }),
        ..InternalRaftRequest::default()
    };
    driver.call(enable).unwrap().unwrap();
    driver.advance(Duration::from_secs(10));
    let facts = driver.member.shared.facts();
    assert_eq!(facts.cluster_version.unwrap().to_string(), "3.6.0");
    assert_eq!(facts.storage_version.unwrap().to_string(), "3.6.0");
    let texts = driver.log_texts();
    for text in [
        "saved snapshot to disk",
        "updated storage version",
        "The server is ready to downgrade",
    ] {
        assert!(texts.iter().any(|line| line == text), "{text}: {texts:?}");
    }
    driver.stop();
    let lower = Config {
        line: Line::V3_6,
        ..config()
    };
    let mut driver = ready(&disk, &lower);
    driver.advance(Duration::from_secs(11));
    assert!(
        driver
            .log_texts()
            .iter()
            .any(|line| line == "the cluster has been downgraded")
    );
    let facts = driver.member.shared.facts();
    assert_eq!(facts.downgrade_target, None);
    assert_eq!(facts.cluster_version.unwrap().to_string(), "3.6.0");
    driver.stop();
    // As 3.7 again it is raised at once.
    let mut driver = ready(&disk, &config());
    driver.advance(Duration::from_secs(5));
    assert_eq!(
        driver.member.shared.facts().storage_version.unwrap().to_string(),
        "3.7.0"
    );
}

/// etcd issues 22425 and 9222.
#[test]
fn defragmentation_shrinks_the_file_while_writes_go_on() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    for n in 0..200 {
        driver
            .call(put(&format!("key{}", n % 20), 5000))
            .unwrap()
            .unwrap();
    }
    let compact = InternalRaftRequest {
        compaction: Some(api::etcdserverpb::CompactionRequest {
            revision: 190,
            physical: true,
        }),
        ..InternalRaftRequest::default()
    };
    driver.call(compact).unwrap().unwrap();
    driver.advance(Duration::from_secs(1));
    let before = driver.member.views.load().db.size();
    let id = driver.ask(|id| AskApply::Defragment { id });
    let during = driver.propose(put("during", 10));
    driver.advance_until(|driver| driver.answers.contains_key(&id) && driver.answers.contains_key(&during));
    assert!(driver.answers[&id].is_ok() && driver.answers[&during].is_ok());
    driver.advance(Duration::from_secs(1));
    let after = driver.member.views.load().db.size();
    assert!(after * 3 < before, "{before} to {after}");
    let names = disk.list(&config().snap_dir()).unwrap();
    assert!(names.iter().all(|entry| !entry.name.contains("tmp")), "{names:?}");
    let revision_before = revision(&driver);
    drop(driver);
    let driver = ready(&disk.crash(3, disk::mem::CrashMode::LoseUnsynced), &config());
    assert_eq!(revision(&driver), revision_before);
}

/// A start that must be refused.
fn check_refused(disk: &MemDisk, config: &Config, expected: &str) {
    match Driver::open(&disk.shared(), config, 1) {
        Ok(_) => panic!("it opens: {expected}"),
        Err(error) => assert!(error.to_string().contains(expected), "{error}"),
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_a_reason() {
    let disk = MemDisk::new();
    let member = |name: &str, url: &str| InitialMember {
        name: name.to_owned(),
        peer_urls: vec![url.to_owned()],
    };
    let own = member("default", "http://localhost:2380");
    let twice = Config {
        initial_cluster: vec![own, member("b", "http://localhost:2380")],
        ..config()
    };
    check_refused(
        &disk,
        &twice,
        "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
    );
    let existing = Config {
        new_cluster: false,
        ..config()
    };
    check_refused(&disk, &existing, "--initial-cluster-state=existing");
    let other = Config {
        name: "other".to_owned(),
        ..config()
    };
    check_refused(&disk, &other, "couldn't find local name \"other\"");
    let urls = Config {
        advertise_peer_urls: vec!["http://x:1".to_owned()],
        ..config()
    };
    check_refused(&disk, &urls, "--initial-advertise-peer-urls=http://x:1");
    let forced = Config {
        force_new_cluster: true,
        ..config()
    };
    check_refused(&disk, &forced, "--force-new-cluster needs a directory with data");
    // None of them has begun a cluster.
    ready(&disk, &config());
}

#[test]
fn a_locked_directory_is_said_to_be_locked() {
    let disk = MemDisk::new();
    let _first = ready(&disk, &config());
    match Driver::open(&disk.shared(), &config(), 1) {
        Err(Error::Locked { path }) => assert_eq!(path, Path::new("/data/member/snap/db")),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opens"),
    }
}

/// The member starts, since others need it, but has no way to know its clients.
#[test]
fn a_directory_with_authentication_serves_no_client() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.call(put("a", 10)).unwrap().unwrap();
    driver.stop();
    let shared: Arc<dyn Disk> = disk.shared();
    let set_auth = |value: u8| {
        let db = bbolt::Db::open(&shared, &config().db_path(), bbolt::Options::default()).unwrap();
        let mut batch = bbolt::Batch::new();
        batch.put(b"auth", b"authEnabled".as_slice().into(), vec![value].into());
        db.commit(&batch).unwrap();
    };
    for on in [true, false] {
        set_auth(u8::from(on));
        let driver = ready(&disk, &config());
        assert_eq!(driver.member.shared.pulse.auth_is_on(), on);
        driver.stop();
    }
}

#[test]
fn a_directory_without_its_log_is_refused() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    driver.call(put("a", 10)).unwrap().unwrap();
    driver.stop();
    disk.rename(Path::new("/data/member/wal"), Path::new("/data/elsewhere"))
        .unwrap();
    check_refused(&disk, &config(), "there is no log in /data/member/wal");
    let elsewhere = Config {
        wal_dir: Some(PathBuf::from("/data/elsewhere")),
        ..config()
    };
    assert_eq!(revision(&ready(&disk, &elsewhere)), 2);
}

#[test]
fn a_lost_data_file_is_rebuilt_from_a_whole_log_and_refused_otherwise() {
    let disk = MemDisk::new();
    let mut driver = ready(&disk, &config());
    for n in 0..5 {
        driver.call(put(&format!("key{n}"), 10)).unwrap().unwrap();
    }
    drop(driver);
    disk.remove_file(&config().db_path()).unwrap();
    let driver = ready(&disk, &always_snapshots());
    assert_eq!(revision(&driver), 6);
    // There is a snapshot: from now on the data file is needed.
    driver.stop();
    disk.remove_file(&config().db_path()).unwrap();
    check_refused(&disk, &config(), "failed to find database snapshot file");
    assert_eq!(
        disk.metadata(&config().db_path()).unwrap(),
        None,
        "nothing was made"
    );
}

#[test]
fn a_full_disk_at_the_start_is_waited_out() {
    let disk = MemDisk::new();
    let small = Config {
        segment_bytes: 4_000,
        // More than what is left in the pages that the files have.
        advertise_client_urls: vec!["http://localhost:2379".repeat(2000)],
        ..config()
    };
    let mut driver = ready(&disk, &small);
    for n in 0..10 {
        driver.call(put(&format!("key{n}"), 1000)).unwrap().unwrap();
    }
    driver.advance(Duration::from_secs(1));
    drop(driver);
    disk.set_space(Some(disk.used_bytes()));
    let mut driver = Driver::open(&disk.shared(), &small, 1).unwrap();
    driver.advance(Duration::from_secs(30));
    assert_eq!(*driver.queues.fatal.borrow(), None);
    assert!(!driver.member.shared.is_ready());
    disk.set_space(None);
    assert!(driver.until_ready());
    assert_eq!(revision(&driver), 11);
}

/// etcd issue 13933: with the index that it has itself.
#[test]
fn a_received_data_file_takes_the_place_of_an_older_one() {
    let disk = MemDisk::new();
    ready(&disk, &always_snapshots()).stop();
    let snap = config().snap_dir();
    let old: Vec<u8> = {
        let file = disk.open(&config().db_path(), disk::Open::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let mut driver = ready(&disk, &always_snapshots());
    driver.call(put("a", 10)).unwrap().unwrap();
    driver.stop();
    let (marks, _) = wal::valid_marks(&disk, &config().wal_dir()).unwrap();
    let received = wal::snapfile::db_path(&snap, marks.last().unwrap().index);
    disk.rename(&config().db_path(), &received).unwrap();
    let file = disk.open(&config().db_path(), disk::Open::CreateNew).unwrap();
    file.write_at(&old, 0).unwrap();
    drop(file);
    let driver = ready(&disk, &config());
    assert!(
        driver
            .log_texts()
            .iter()
            .any(|line| line == "Recovering from snapshot backend")
    );
    assert_eq!(revision(&driver), 2);
}

/// etcd issue 11613: the file of a defragmentation that did not end.
#[test]
fn leftovers_of_unfinished_work_are_removed() {
    let disk = MemDisk::new();
    ready(&disk, &config()).stop();
    for name in ["tmp123", "db.tmp.7"] {
        disk.open(&config().snap_dir().join(name), disk::Open::CreateNew)
            .unwrap();
    }
    let _driver = ready(&disk, &config());
    let names = disk.list(&config().snap_dir()).unwrap();
    assert!(names.iter().all(|entry| !entry.name.contains("tmp")), "{names:?}");
}

/// A data file with a bucket of its own beside etcd's, which nobody reads, and where a page of it begins.
fn with_unread_pages(disk: &MemDisk) -> u64 {
    ready(disk, &always_snapshots()).stop();
    let path = config().db_path();
    let db = bbolt::Db::open(&disk.shared(), &path, bbolt::Options::default()).unwrap();
    let mut batch = bbolt::Batch::new();
    batch.create_bucket(b"unread");
    for n in 0..200 {
        batch.put(b"unread", format!("{n:03}").into(), vec![b'u'; 100].into());
    }
    db.commit(&batch).unwrap();
    let pages = db.size() / 4096;
    drop(db);
    let file = disk.open(&path, disk::Open::Read).unwrap();
    let holds_rows = |page: &u64| {
        let mut bytes = [0; 4096];
        file.read_at(&mut bytes, page * 4096).unwrap();
        bytes.windows(100).any(|part| part == [b'u'; 100])
    };
    (2..pages).find(holds_rows).unwrap() * 4096
}

#[test]
fn damage_that_only_the_walk_for_free_pages_meets_ends_the_member() {
    let disk = MemDisk::new();
    let page = with_unread_pages(&disk);
    let mut driver = ready(&disk, &config());
    driver.advance(Duration::from_secs(1));
    assert_eq!(*driver.queues.fatal.borrow(), None);
    driver.stop();
    disk.flip(&config().db_path(), page, 1).unwrap();
    let mut driver = Driver::open(&disk.shared(), &config(), 1).unwrap();
    driver.advance(Duration::from_secs(1));
    let fatal = driver.queues.fatal.borrow().clone().expect("it ends");
    assert!(
        fatal.to_string().contains("/data/member/snap/db: page"),
        "{fatal}"
    );
    assert!(driver.member.shared.pulse.is_stopped());
}

#[test]
fn a_damaged_snapshot_of_another_member_is_not_accepted() {
    let disk = MemDisk::new();
    let page = with_unread_pages(&disk);
    let (marks, _) = wal::valid_marks(&disk, &config().wal_dir()).unwrap();
    let index = marks.last().unwrap().index;
    let mut message = raft::Message::new(raft::MessageKind::Snapshot, 1, 2, 1);
    message.snapshot = Some(raft::Snapshot {
        index,
        ..raft::Snapshot::default()
    });
    let received = Path::new("/data/member/snap/tmp1");
    let accept = |flip: bool| {
        disk::copy_file(&disk, &config().db_path(), &disk, received).unwrap();
        if flip {
            disk.flip(received, page, 1).unwrap();
        }
        member::peer::accept_snapshot(&disk.shared(), received, &message, &config())
    };
    let error = accept(true).unwrap_err().to_string();
    assert!(
        error.contains("the snapshot that was received is damaged"),
        "{error}"
    );
    assert_eq!(disk.metadata(received).unwrap(), None);
    // A name that may not stay must not be taken for durable when the same state comes again.
    disk.fail_sync(disk.syncs() + 1, 5);
    accept(false).unwrap_err();
    let placed = accept(false).unwrap();
    let left = disk.crash(0, disk::mem::CrashMode::LoseUnsynced);
    assert!(left.metadata(&placed).unwrap().is_some());
}
