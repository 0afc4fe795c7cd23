//! The member is cut off at every step of the disk, in every way in which a crash may leave it, and
//! started again: every acknowledged write is there, nothing is there by half, no revision is given
//! twice, the files pass their checks. And: any one sync left out is noticed by this test.
//!
//! `CRASH_FULL=1` runs longer workloads and tries every mode at every step.
#![allow(clippy::unwrap_used)]

mod driver;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseRevokeResponse, PutRequest, RequestOp, TxnRequest, request_op,
};
use bytes::Bytes;
use disk::Disk;
use disk::mem::{CrashMode, MemDisk};
use driver::Driver;
use member::Config;
use member::frontend::{AskApply, Tell};
use prost::Message;

/// After so long files that are not needed any more are removed.
const PURGE: Duration = Duration::from_secs(31);

/// Something a client asks for.
#[derive(Clone, Debug)]
enum Op {
    Log(Box<InternalRaftRequest>),
    Defragment,
    /// Time passes: the data file is written, snapshots are made.
    Wait(Duration),
}

/// What can be seen of a store.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    revision: i64,
    compact_revision: i64,
    hash: u32,
    kvs: Vec<Bytes>,
    leases: BTreeSet<i64>,
}

fn config() -> Config {
    Config {
        data_dir: PathBuf::from("/data"),
        snapshot_count: 12,
        compaction_batch_limit: 5,
        segment_bytes: 8_000,
        wals_max: 2,
        snapshots_max: 2,
        page_cache_bytes_max: 1 << 20,
        ..Config::default()
    }
}

fn put(key: &str, value: String, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        lease,
        ..PutRequest::default()
    }
}

fn logged(request: InternalRaftRequest) -> Op {
    Op::Log(Box::new(request))
}

/// The workload of a seed: every kind of request, in groups that are on their way together.
fn workload(seed: u64, len: usize) -> Vec<Vec<Op>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut groups = Vec::new();
    let mut leases = Vec::new();
    let mut next_lease = 1;
    for n in 0..len {
        let mut group = Vec::new();
        for m in 0..rng.usize(1..5) {
            let key = format!("key{}", rng.u8(0..8));
            let value = format!("{n}.{m}").repeat(rng.usize(1..200));
            let default = InternalRaftRequest::default();
            group.push(match rng.u8(0..20) {
                0..=9 => logged(InternalRaftRequest {
                    put: Some(put(&key, value, 0)),
                    ..default
                }),
                10..=12 => logged(InternalRaftRequest {
                    txn: Some(txn(&mut rng, value)),
                    ..default
                }),
                13..=14 => logged(InternalRaftRequest {
                    delete_range: Some(DeleteRangeRequest {
                        key: key.into(),
                        ..DeleteRangeRequest::default()
                    }),
                    ..default
                }),
                15 => {
                    next_lease += 1;
                    leases.push(next_lease);
                    logged(InternalRaftRequest {
                        lease_grant: Some(LeaseGrantRequest {
                            id: next_lease,
                            ttl: 1_000_000,
                        }),
                        ..default
                    })
                }
                16 => logged(InternalRaftRequest {
                    put: Some(put(&key, value, rng.choice(&leases).copied().unwrap_or(0))),
                    ..default
                }),
                17 if !leases.is_empty() => logged(InternalRaftRequest {
                    lease_revoke: Some(LeaseRevokeRequest {
                        id: leases.remove(rng.usize(0..leases.len())),
                    }),
                    ..default
                }),
                18 => logged(InternalRaftRequest {
                    compaction: Some(CompactionRequest {
                        revision: n as i64,
                        physical: rng.bool(),
                    }),
                    ..default
                }),
                _ if n % 5 == 4 => Op::Defragment,
                _ if n % 5 == 3 => Op::Wait(PURGE),
                _ => Op::Wait(Duration::from_millis(rng.u64(10..150))),
            });
        }
        groups.push(group);
    }
    groups
}

fn txn(rng: &mut fastrand::Rng, value: String) -> TxnRequest {
    let mut success = Vec::new();
    let first = rng.u8(0..8);
    for n in 0..rng.u8(1..4) {
        let put = put(&format!("key{}", (first + n) % 8), value.clone(), 0);
        success.push(RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        });
    }
    success.push(RequestOp {
        request: Some(request_op::Request::RequestDeleteRange(DeleteRangeRequest {
            key: format!("other{}", rng.u8(0..2)).into(),
            ..DeleteRangeRequest::default()
        })),
    });
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

/// What happened to a workload before the disk stopped (or until its end).
#[derive(Debug, Default)]
struct Outcome {
    /// Requests that were on their way or done.
    submitted: usize,
    /// For each request that was answered, its number and the revision in the answer; `None` if refused.
    answered: Vec<(usize, Option<i64>)>,
    finished: bool,
}

impl Outcome {
    /// How many requests the log must hold at least.
    fn acknowledged(&self) -> usize {
        self.answered.iter().map(|&(n, _)| n + 1).max().unwrap_or(0)
    }
}

/// Runs the workload on a disk, then stops in order. `one_by_one` waits for each answer, and lets
/// `each` look at the member after it.
fn run(
    disk: &Arc<dyn Disk>,
    work: &[Vec<Op>],
    one_by_one: bool,
    mut each: impl FnMut(&mut Driver),
) -> Outcome {
    let mut outcome = Outcome::default();
    let Ok(mut driver) = Driver::open(disk, &config(), 1) else {
        return outcome;
    };
    let mut waiting: Vec<(usize, u64)> = Vec::new();
    if !driver.until_ready() {
        return outcome;
    }
    for group in work {
        for op in group {
            match op {
                Op::Log(request) => {
                    waiting.push((outcome.submitted, driver.propose((**request).clone())));
                    outcome.submitted += 1;
                }
                Op::Defragment => drop(driver.ask(|id| AskApply::Defragment { id })),
                Op::Wait(span) => driver.advance(*span),
            }
            if one_by_one {
                collect(&mut driver, &mut waiting, &mut outcome);
                if matches!(op, Op::Log(_)) {
                    each(&mut driver);
                }
            }
        }
        if !collect(&mut driver, &mut waiting, &mut outcome) {
            return outcome;
        }
    }
    driver.queues.stop();
    outcome.finished = driver.advance_until(|driver| *driver.queues.stopped.borrow());
    outcome
}

/// Waits for all answers; false if the member broke before.
fn collect(driver: &mut Driver, waiting: &mut Vec<(usize, u64)>, outcome: &mut Outcome) -> bool {
    let alive = driver.advance_until(|driver| {
        waiting.retain(|(n, id)| {
            let answer = driver.answers.remove(id);
            if let Some(answer) = &answer {
                outcome.answered.push((*n, answer.as_ref().ok().map(revision)));
            }
            answer.is_none()
        });
        waiting.is_empty()
    });
    alive && driver.queues.fatal.borrow().is_none()
}

/// Every response begins with a header in field 1; that of this type has nothing else.
fn revision(answer: &Bytes) -> i64 {
    let response = LeaseRevokeResponse::decode(answer.clone()).expect("a response with a header");
    response.header.expect("a header").revision
}

fn see(driver: &mut Driver) -> Seen {
    let id = driver.ask(|id| AskApply::Leases { id });
    let mut found = None;
    driver.advance_until(|driver| {
        for tell in driver.tells.drain(..) {
            match tell {
                Tell::Leases { id: of, leases } if of == id => found = Some(leases),
                _ => {}
            }
        }
        found.is_some()
    });
    let view = driver.member.views.load();
    let options = mvcc::RangeOptions {
        key: b"\0",
        range_end: b"\0",
        ..mvcc::RangeOptions::default()
    };
    let mut hash = view.hash_kv(0).expect("the current revision");
    let hash = loop {
        if let Some(hash) = hash.step(1000, mvcc::Wait::Yes).expect("readable") {
            break hash.hash;
        }
    };
    Seen {
        revision: view.revision,
        compact_revision: view.compact_revision,
        hash,
        kvs: view.range(&options, mvcc::Wait::Yes).expect("readable").kvs,
        leases: found.unwrap_or_default().into_iter().collect(),
    }
}

/// What a run without a crash shows after each number of requests, and the answers' revisions.
struct Reference {
    seen: Vec<Seen>,
    revisions: Vec<Option<i64>>,
}

fn reference(work: &[Vec<Op>]) -> Reference {
    let disk = MemDisk::new().shared();
    let mut driver = Driver::open(&disk, &config(), 1).expect("a new member");
    driver.until_ready();
    let mut seen = vec![see(&mut driver)];
    drop(driver);
    let disk = MemDisk::new().shared();
    let outcome = run(&disk, work, true, |driver| seen.push(see(driver)));
    assert!(outcome.finished);
    let mut revisions = vec![None; outcome.submitted];
    for (n, revision) in outcome.answered {
        revisions[n] = revision;
    }
    Reference { seen, revisions }
}

/// Opens what a crash left and says what is wrong with it.
fn judge(disk: &MemDisk, outcome: &Outcome, reference: &Reference) -> Result<(), String> {
    for &(n, revision) in &outcome.answered {
        if revision != reference.revisions[n] {
            return Err(format!("request {n} was answered {revision:?}"));
        }
    }
    let shared = disk.shared();
    if wal::exists(&*shared, &config().wal_dir()).map_err(|error| error.to_string())? {
        check_snapshot_file(&*shared)?;
    }
    let mut driver = Driver::open(&shared, &config(), 9).map_err(|error| format!("open: {error}"))?;
    if !driver.until_ready() {
        return Err(format!("broke: {:?}", driver.queues.fatal.borrow()));
    }
    let seen = see(&mut driver);
    let from = outcome.acknowledged();
    let possible = &reference.seen[from..=outcome.submitted];
    if !possible.contains(&seen) {
        let at = reference.seen.iter().position(|there| *there == seen);
        return Err(format!(
            "after {from} to {} requests there is what {at:?} make: revision {}",
            outcome.submitted, seen.revision
        ));
    }
    let answer = driver.call(InternalRaftRequest {
        put: Some(put("after", "x".to_owned(), 0)),
        ..InternalRaftRequest::default()
    });
    let got = answer.and_then(Result::ok).map(|answer| revision(&answer));
    if got != Some(seen.revision + 1) {
        return Err(format!("the next write got revision {got:?}"));
    }
    driver.stop();
    let options = bbolt::Options {
        read_only: true,
        ..bbolt::Options::default()
    };
    let db =
        bbolt::Db::open(&shared, &config().db_path(), options).map_err(|error| format!("db: {error}"))?;
    check_snapshot_file(&*shared)?;
    match db.check().first() {
        Some(violation) => Err(format!("db: {violation}")),
        None => wal::check(&*shared, &config().wal_dir())
            .map_or_else(|error| Err(format!("log: {error}")), |_| Ok(())),
    }
}

/// Members of 3.5 and 3.6 start only if the newest mark of the log has its snapshot file.
fn check_snapshot_file(disk: &dyn Disk) -> Result<(), String> {
    let (marks, _) = wal::valid_marks(disk, &config().wal_dir()).map_err(|error| error.to_string())?;
    let Some(mark) = marks.last().filter(|mark| mark.index > 0) else {
        return Ok(());
    };
    let name = format!("{:016x}-{:016x}.snap", mark.term, mark.index);
    let snapshot = wal::snapfile::read(disk, &config().snap_dir().join(name))
        .map_err(|error| format!("the newest mark has no snapshot file: {error}"))?;
    let parsed = state::v2store::parse(&snapshot.data).map_err(|error| error.to_string())?;
    match parsed.membership.members.len() {
        1 => Ok(()),
        count => Err(format!("the snapshot file has {count} members")),
    }
}

fn is_full() -> bool {
    std::env::var_os("CRASH_FULL").is_some()
}

/// etcd issues 13766, 14685, 11888: index and effects, defragmentation, log and snapshots: cut off at any step.
#[test]
fn every_crash_leaves_what_was_acknowledged_and_nothing_by_half() {
    let (seeds, len) = if is_full() { (1..=8, 60) } else { (1..=4, 25) };
    for seed in seeds {
        let work = workload(seed, len);
        let reference = reference(&work);
        let whole = MemDisk::new();
        let outcome = run(&whole.shared(), &work, false, |_| {});
        assert!(outcome.finished);
        assert_eq!(outcome.answered.len(), outcome.submitted);
        judge(&whole, &outcome, &reference).expect("the run without a crash");
        for step in 1..=whole.steps() {
            let disk = MemDisk::new();
            disk.stop_at(step);
            let outcome = run(&disk.shared(), &work, false, |_| {});
            let modes = CrashMode::ALL.into_iter().enumerate();
            for (_, mode) in modes.filter(|(n, _)| is_full() || step as usize % CrashMode::ALL.len() == *n) {
                let after = disk.crash(seed * 1_000_000 + step, mode);
                if let Err(wrong) = judge(&after, &outcome, &reference) {
                    panic!("seed {seed}, step {step} of {}, {mode:?}: {wrong}", whole.steps());
                }
            }
        }
    }
}

/// What a sync is for: the line of the trace without the names of single files, and for the data
/// file whether it makes pages durable or the meta page that names them.
fn site(trace: &[String], at: usize) -> String {
    let words: Vec<&str> = trace[at].split(' ').collect();
    let path = match words[3] {
        path if path.contains("/0") && path.ends_with(".wal") => "a log segment",
        path if path.contains("/wal/") && path.ends_with(".tmp") => "a log segment",
        path if path.ends_with(".snap") => "a snapshot file",
        path if path.contains("/snap/db") && is_meta(&trace[at - 1]) => "the data file's meta",
        path if path.contains("/snap/db") => "the data file's pages",
        path => path,
    };
    format!("{} {} {path}", words[1], words[2])
}

/// Whether a line of the trace is the write of one of the two meta pages.
fn is_meta(line: &str) -> bool {
    let place = line
        .split(" write ")
        .nth(1)
        .and_then(|write| write.split(' ').nth(1));
    let offset = place
        .and_then(|place| place.split('+').next())
        .map(str::parse::<u64>);
    matches!(offset, Some(Ok(0 | 4096)))
}

/// etcd issue 14370: nothing is acknowledged before it is synced, also by one member alone.
#[test]
fn no_sync_can_be_left_out() {
    let work = workload(1, 12);
    let reference = reference(&work);
    let whole = MemDisk::new();
    whole.start_trace();
    run(&whole.shared(), &work, false, |_| {});
    let trace = whole.trace();
    let syncs = (0..trace.len()).filter(|&at| trace[at].contains(" (sync "));
    let mut sites: BTreeMap<String, bool> = BTreeMap::new();
    for (n, at) in (1..).zip(syncs) {
        let noticed = sites.entry(site(&trace, at)).or_default();
        let step: u64 = trace[at]
            .split(' ')
            .next()
            .expect("a number")
            .parse()
            .expect("a number");
        let mut steps = step + 1..=(step + 60).min(whole.steps() + 1);
        *noticed = *noticed
            || steps.any(|step| {
                let disk = MemDisk::new();
                disk.skip_sync(n);
                disk.stop_at(step);
                let outcome = run(&disk.shared(), &work, false, |_| {});
                [CrashMode::LoseUnsynced, CrashMode::Torn, CrashMode::Subset]
                    .into_iter()
                    .any(|mode| judge(&disk.crash(step, mode), &outcome, &reference).is_err())
            });
    }
    let needed: Vec<&str> = sites
        .iter()
        .filter(|site| *site.1)
        .map(|site| site.0.as_str())
        .collect();
    let rest: Vec<&str> = sites
        .iter()
        .filter(|site| !site.1)
        .map(|site| site.0.as_str())
        .collect();
    // An empty data file that a crash takes away is made anew, and the log fills it.
    assert_eq!(rest, ["sync all the data file's meta"], "left out without notice");
    assert_eq!(
        needed,
        [
            "sync all a snapshot file",
            "sync data a log segment",
            "sync data the data file's meta",
            "sync data the data file's pages",
            "sync dir /",
            "sync dir /data",
            "sync dir /data/member",
            "sync dir /data/member/snap",
            "sync dir /data/member/wal",
            "sync dir /data/member/wal.tmp",
        ]
    );
}
