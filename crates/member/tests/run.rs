//! A member of one voter: elects itself, persists, applies, answers, stops, starts again.
#![allow(clippy::unwrap_used)]

mod driver;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
    PutResponse,
};
use disk::Disk;
use disk::mem::MemDisk;
use driver::Driver;
use member::Config;
use prost::Message;

fn config() -> Config {
    Config {
        data_dir: PathBuf::from("/data"),
        ..Config::default()
    }
}

fn put(key: &str, value: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

fn compaction(revision: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        compaction: Some(CompactionRequest {
            revision,
            ..CompactionRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

/// Else the thread that applies would do nothing but wake up.
#[test]
fn a_compaction_that_comes_while_one_reads_waits_in_peace() {
    let disk = MemDisk::new().shared();
    let mut driver = Driver::open(&disk, &config(), 1).unwrap();
    assert!(driver.until_ready());
    for n in 0..10 {
        driver.call(put("a", &n.to_string())).unwrap().unwrap();
    }
    driver.advance(Duration::from_secs(1));
    driver.jobs_are_frozen = true;
    driver.call(compaction(5)).unwrap().unwrap();
    driver.advance(Duration::from_secs(1));
    driver.call(compaction(8)).unwrap().unwrap();
    driver.advance(Duration::from_secs(1));
    driver.jobs_are_frozen = false;
    let ended = |driver: &mut Driver| {
        let texts = driver.log_texts();
        let ended = texts
            .iter()
            .filter(|text| *text == "finished scheduled compaction");
        ended.count() == 2
    };
    assert!(driver.advance_until(ended));
}

fn revision(answer: Option<Result<bytes::Bytes, api::error::Status>>) -> i64 {
    let bytes = answer.expect("an answer").expect("a good one");
    let response = PutResponse::decode(bytes).expect("a put response");
    response.header.expect("a header").revision
}

fn values(driver: &Driver, key: &str) -> Vec<String> {
    let view = driver.member.views.load();
    let options = mvcc::RangeOptions {
        key: key.as_bytes(),
        range_end: &[],
        ..mvcc::RangeOptions::default()
    };
    let result = view.range(&options, mvcc::Wait::Yes).expect("readable");
    let kvs = result.kvs.into_iter();
    kvs.map(|kv| {
        let kv = api::mvccpb::KeyValue::decode(kv).expect("a stored pair");
        String::from_utf8_lossy(&kv.value).into_owned()
    })
    .collect()
}

/// Also when a front thread has raised the alarm, which has no log; once until it is off again.
#[test]
fn a_used_up_quota_is_in_the_log_once() {
    let mut driver = Driver::open(&MemDisk::new().shared(), &config(), 1).unwrap();
    assert!(driver.until_ready());
    let own = driver.member.fronts[0].config.member_id;
    let alarm = |member_id, action: AlarmAction| InternalRaftRequest {
        alarm: Some(AlarmRequest {
            action: action.into(),
            member_id,
            alarm: AlarmType::Nospace.into(),
        }),
        ..InternalRaftRequest::default()
    };
    let mut lines_after = |member, action| {
        driver.call(alarm(member, action)).unwrap().unwrap();
        let texts = driver.log_texts();
        let is_told = |text: &&String| *text == "database space exceeded; raising the alarm";
        texts.iter().filter(is_told).count()
    };
    assert_eq!(lines_after(own + 1, AlarmAction::Activate), 0);
    assert_eq!(lines_after(own, AlarmAction::Activate), 1);
    assert_eq!(lines_after(own, AlarmAction::Activate), 1);
    assert_eq!(lines_after(own, AlarmAction::Deactivate), 1);
    assert_eq!(lines_after(own, AlarmAction::Activate), 2);
}

#[test]
fn a_member_starts_writes_stops_and_starts_again() {
    check_life(&MemDisk::new().shared(), &config());
    let dir = tempfile::tempdir().expect("a directory");
    let real = Config {
        data_dir: dir.path().join("default.etcd"),
        ..config()
    };
    check_life(&(Arc::new(disk::RealDisk) as Arc<dyn Disk>), &real);
}

fn check_life(disk: &Arc<dyn Disk>, config: &Config) {
    let mut driver = Driver::open(disk, config, 1).expect("a new member");
    assert!(driver.until_ready());
    // Whoever asks at once finds the versions.
    let facts = driver.member.shared.facts();
    assert!(facts.cluster_version.is_some() && facts.storage_version.is_some());
    assert_eq!(revision(driver.call(put("a", "1"))), 2);
    assert_eq!(revision(driver.call(put("b", "2"))), 3);
    driver.advance(Duration::from_secs(5));
    let facts = driver.member.shared.facts();
    assert_eq!(
        facts.cluster_version.map(|v| v.to_string()).as_deref(),
        Some("3.7.0")
    );
    assert_eq!(
        facts.storage_version.map(|v| v.to_string()).as_deref(),
        Some("3.7.0")
    );
    assert_eq!(facts.members.len(), 1);
    assert_eq!(facts.members[0].id, 0x8e9e_05c5_2164_694d);
    assert_eq!(facts.members[0].client_urls, ["http://localhost:2379"]);
    assert!(driver.member.shared.pulse.read_index().is_some());
    driver.stop();

    for round in 0..3 {
        let mut driver = Driver::open(disk, config, 2).expect("the member");
        assert_eq!(values(&driver, "a"), ["1"]);
        assert!(driver.until_ready());
        let expected = 4 + round;
        assert_eq!(revision(driver.call(put("c", &round.to_string()))), expected);
        assert_eq!(values(&driver, "c"), [round.to_string()]);
        driver.stop();
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let disk = MemDisk::new();
    let mut driver = Driver::open(&disk.shared(), &config(), 1).expect("a new member");
    driver.until_ready();
    for n in 0..50 {
        assert_eq!(revision(driver.call(put("a", &n.to_string()))), 2 + n);
    }
    drop(driver);
    let after = disk.crash(7, disk::mem::CrashMode::LoseUnsynced);
    let mut driver = Driver::open(&after.shared(), &config(), 2).expect("the member");
    driver.until_ready();
    assert_eq!(values(&driver, "a"), ["49"]);
    assert_eq!(revision(driver.call(put("b", "x"))), 52);
}

#[test]
fn compaction_leases_and_snapshots_go_on_by_themselves() {
    let disk = MemDisk::new();
    let config = Config {
        snapshot_count: 20,
        ..config()
    };
    let mut driver = Driver::open(&disk.shared(), &config, 1).expect("a new member");
    driver.until_ready();
    let grant = InternalRaftRequest {
        lease_grant: Some(LeaseGrantRequest { id: 7, ttl: 3 }),
        ..InternalRaftRequest::default()
    };
    driver.call(grant).expect("an answer").expect("granted");
    let mut with_lease = put("leased", "x");
    with_lease.put.as_mut().expect("a put").lease = 7;
    revision(driver.call(with_lease));
    for n in 0..100 {
        revision(driver.call(put("a", &n.to_string())));
    }
    let compact = InternalRaftRequest {
        compaction: Some(CompactionRequest {
            revision: 50,
            physical: true,
        }),
        ..InternalRaftRequest::default()
    };
    driver.call(compact).expect("an answer").expect("compacted");
    assert!(
        driver
            .log_texts()
            .contains(&"finished scheduled compaction".to_owned())
    );
    assert_eq!(values(&driver, "leased"), ["x"]);
    driver.advance(Duration::from_secs(6));
    assert_eq!(values(&driver, "leased"), Vec::<String>::new());
    assert!(driver.log_texts().contains(&"saved snapshot to disk".to_owned()));
    let names = disk.list(&config.snap_dir()).expect("a directory");
    assert!(
        names.iter().any(|entry| entry.name.ends_with(".snap")),
        "{names:?}"
    );
    driver.stop();
    let mut driver = Driver::open(&disk.shared(), &config, 1).expect("the member");
    driver.until_ready();
    assert_eq!(values(&driver, "a"), ["99"]);
}

#[test]
fn one_spare_segment_is_made_at_a_time() {
    let disk = MemDisk::new();
    let config = Config {
        segment_bytes: 5_000,
        ..config()
    };
    for seed in 0..20 {
        let mut driver = Driver::open(&disk.shared(), &config, seed).expect("a member");
        driver.until_ready();
        for n in 0..20 {
            driver
                .call(put("a", &"x".repeat(100 * n)))
                .expect("an answer")
                .expect("a good one");
        }
        let texts = driver.log_texts();
        assert!(texts.iter().any(|text| text == "created a new WAL segment"));
        assert!(!texts.iter().any(|text| text.contains("failed")), "{texts:?}");
        driver.stop();
    }
}
