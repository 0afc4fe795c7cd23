//! snapshot restore: makes the data directory of the first start of a member out of a snapshot.
//! Never writes into a directory that holds anything.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::raftpb::{ConfChange, ConfState};
use bbolt::{Batch, Db, Options, Wait};
use bytes::Bytes;
use disk::{Disk, RealDisk};
use mvcc::schema;
use prost::Message;
use serde_json::json;
use sha2::{Digest, Sha256};
use state::{Member, Membership};
use wal::{Entry, EntryKind, HardState, Mark, Wal};

use super::failed;
use crate::flags::{Command, Kind, Parsed, flag};
use crate::text::of_system;
use crate::{EXIT_ERROR, Failure, log};

pub(super) const RESTORE: Command = Command {
    path: &["snapshot", "restore"],
    usage: "<filename> --data-dir {output dir} [options]",
    help: "Restores an etcd member snapshot to an etcd directory",
    flags: &[
        flag("data-dir", Kind::Text, "", "Path to the output data directory"),
        flag(
            "wal-dir",
            Kind::Text,
            "",
            "Path to the WAL directory (use --data-dir if none given)",
        ),
        flag(
            "initial-cluster",
            Kind::Text,
            "default=http://localhost:2380",
            "Initial cluster configuration for restore bootstrap",
        ),
        flag(
            "initial-cluster-token",
            Kind::Text,
            "etcd-cluster",
            "Initial cluster token for the etcd cluster during restore bootstrap",
        ),
        flag(
            "initial-advertise-peer-urls",
            Kind::Text,
            "http://localhost:2380",
            "List of this member's peer URLs to advertise to the rest of the cluster",
        ),
        flag(
            "name",
            Kind::Text,
            "default",
            "Human-readable name for this member",
        ),
        flag(
            "skip-hash-check",
            Kind::Bool,
            "false",
            "Ignore snapshot integrity hash value (required if copied from data directory)",
        ),
        flag(
            "initial-memory-map-size",
            Kind::Int,
            "0",
            "Accepted for compatibility; files are not mapped",
        ),
        flag(
            "bump-revision",
            Kind::Int,
            "0",
            "How much to increase the latest revision after restore",
        ),
        flag(
            "mark-compacted",
            Kind::Bool,
            "false",
            "Mark the latest revision after restore as the point of scheduled compaction (required if \
             --bump-revision > 0, disallowed otherwise)",
        ),
    ],
};

const DIGEST_BYTES: u64 = 32;
const SECTOR_BYTES: u64 = 512;
const COPY_BYTES: usize = 1 << 20;
const TERM: u64 = 1;

pub(super) fn restore(parsed: &Parsed) -> Result<(), Failure> {
    let source = super::one_file(parsed, "snapshot restore")?;
    let bump = parsed.int("bump-revision");
    if bump < 0 || (bump > 0) != parsed.is("mark-compacted") {
        return Err(Failure::bad_args(
            "--mark-compacted required if --revision-bump > 0",
        ));
    }
    let plan = Plan::new(parsed)?;
    let snap_dir = plan.data_dir.join("member").join("snap");
    let fields = fields(source, &plan, &snap_dir, parsed.int("initial-memory-map-size"));
    log::info("restoring snapshot", &fields);
    let had_dir = plan.data_dir.exists();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&snap_dir)?;
    let db_path = snap_dir.join("db");
    if let Err(failure) = copy_verified(Path::new(source), &db_path, parsed.is("skip-hash-check")) {
        remove_made(&plan, &snap_dir, &db_path, had_dir);
        return Err(failure);
    }

    let disk: Arc<dyn Disk> = RealDisk::shared();
    let db = Db::open(&disk, &db_path, Options::default()).map_err(failed)?;
    log::info("Trimming membership information from the backend...", &[]);
    forget_members(&db)?;
    let commit = plan.member_ids().len() as u64;
    let mut batch = Batch::new();
    if bump > 0 {
        bump_revision(&db, &mut batch, bump)?;
    }
    for member in plan.membership.members.values() {
        log::info(
            "added member",
            &[
                ("cluster-id", json!(format!("{:x}", plan.cluster_id))),
                ("local-member-id", json!("0")),
                ("added-peer-id", json!(format!("{:x}", member.id))),
                ("added-peer-peer-urls", json!(member.peer_urls)),
                ("added-peer-is-learner", json!(false)),
            ],
        );
        let key = Bytes::from(schema::member_id_text(member.id));
        batch.put(schema::MEMBERS.as_bytes(), key, Bytes::from(member.to_json()));
    }
    write_log(&disk, &plan, &snap_dir)?;
    // Last: a directory whose restore was cut short has no index and is not taken for a whole one.
    for (key, value) in [("consistent_index", commit), ("term", TERM)] {
        batch.put(
            schema::META.as_bytes(),
            Bytes::from(key),
            Bytes::copy_from_slice(&value.to_be_bytes()),
        );
    }
    db.commit(&batch).map_err(failed)?;
    log::info("restored snapshot", &fields);
    Ok(())
}

/// What the first and the last line say: snapshot/v3_snapshot.go.
fn fields(
    source: &str,
    plan: &Plan,
    snap_dir: &Path,
    map_bytes: i64,
) -> [(&'static str, serde_json::Value); 5] {
    /// What etcd takes for 0; here nothing is mapped.
    const MAP_BYTES: i64 = 10 << 30;
    let path = |path: &Path| json!(path.display().to_string());
    [
        ("path", json!(source)),
        ("wal-dir", path(&plan.wal_dir)),
        ("data-dir", path(&plan.data_dir)),
        ("snap-dir", path(snap_dir)),
        (
            "initial-memory-map-size",
            json!(if map_bytes == 0 { MAP_BYTES } else { map_bytes }),
        ),
    ]
}

/// Takes away what was made for a file that is no snapshot, so that the next try finds no directory
/// in its way. What cannot be removed is no second failure; directories go only if they are empty.
fn remove_made(plan: &Plan, snap_dir: &Path, db_path: &Path, had_dir: bool) {
    let _ = fs::remove_file(db_path);
    let _ = fs::remove_dir(snap_dir);
    let _ = fs::remove_dir(plan.data_dir.join("member"));
    if !had_dir {
        let _ = fs::remove_dir(&plan.data_dir);
    }
}

/// What the flags ask for, checked.
struct Plan {
    data_dir: PathBuf,
    wal_dir: PathBuf,
    own_id: u64,
    cluster_id: u64,
    membership: Membership,
}

impl Plan {
    fn new(parsed: &Parsed) -> Result<Plan, Failure> {
        let name = parsed.text("name");
        let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for part in parsed.text("initial-cluster").split(',') {
            let Some((name, url)) = part.split_once('=') else {
                return Err(failed(format!(
                    "couldn't find \"=\" in {part:?} of --initial-cluster"
                )));
            };
            check_url(url)?;
            urls.entry(name).or_default().push(url.to_string());
        }
        let mut advertised: Vec<String> = parsed
            .text("initial-advertise-peer-urls")
            .split(',')
            .map(str::to_string)
            .collect();
        for url in &advertised {
            check_url(url)?;
        }
        advertised.sort();
        let Some(own) = urls.get_mut(name) else {
            return Err(failed(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            )));
        };
        own.sort();
        if *own != advertised {
            return Err(failed(format!(
                "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
                own.join(","),
                advertised.join(",")
            )));
        }
        let token = parsed.text("initial-cluster-token");
        let mut membership = Membership::default();
        let mut own_id = 0;
        for (member_name, mut peer_urls) in urls {
            peer_urls.sort();
            let id = state::member_id(&peer_urls, token, None);
            if member_name == name {
                own_id = id;
            }
            let member = Member {
                id,
                peer_urls,
                name: member_name.to_string(),
                ..Member::default()
            };
            if membership.members.insert(id, member).is_some() {
                return Err(failed(format!(
                    "member exists with identical ID {id:x} in --initial-cluster"
                )));
            }
        }
        let cluster_id = state::cluster_id(membership.members.keys().copied());
        let data_dir = match parsed.text("data-dir") {
            "" => PathBuf::from(format!("{name}.etcd")),
            dir => PathBuf::from(dir),
        };
        if data_dir.exists() && fs::read_dir(&data_dir).map_or(true, |mut entries| entries.next().is_some()) {
            return Err(failed(format!(
                "data-dir {:?} not empty or could not be read",
                data_dir.display()
            )));
        }
        let wal_dir = match parsed.text("wal-dir") {
            "" => data_dir.join("member").join("wal"),
            dir if Path::new(dir).exists() => return Err(failed(format!("wal-dir {dir:?} exists"))),
            dir => PathBuf::from(dir),
        };
        Ok(Plan {
            data_dir,
            wal_dir,
            own_id,
            cluster_id,
            membership,
        })
    }

    fn member_ids(&self) -> Vec<u64> {
        self.membership.members.keys().copied().collect()
    }
}

fn check_url(url: &str) -> Result<(), Failure> {
    let host = ["http://", "https://", "unix://", "unixs://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    match host {
        None => Err(failed(format!(
            "URL scheme must be http, https, unix, or unixs: {url}"
        ))),
        Some(host) if host.contains('/') => Err(failed(format!("URL must not contain a path: {url}"))),
        Some(host) if !host.contains(':') => Err(failed(format!(
            "URL address does not have the form \"host:port\": {url}"
        ))),
        Some(_) => Ok(()),
    }
}

/// Copies the file and checks the digest at its end, which the copy does not get.
fn copy_verified(source: &Path, target: &Path, skip_check: bool) -> Result<(), Failure> {
    let mut from = File::open(source)
        .map_err(|error| failed(format!("open {}: {}", source.display(), of_system(&error))))?;
    let size = from.metadata()?.len();
    let has_digest = size % SECTOR_BYTES == DIGEST_BYTES;
    if !has_digest && !skip_check {
        return Err(failed("snapshot missing hash but --skip-hash-check=false"));
    }
    let content = if has_digest { size - DIGEST_BYTES } else { size };
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut left = content;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        from.read_exact(&mut buffer[..want])?;
        to.write_all(&buffer[..want])?;
        digest.update(&buffer[..want]);
        left -= want as u64;
    }
    if has_digest && !skip_check {
        let mut expected = [0; DIGEST_BYTES as usize];
        from.read_exact(&mut expected)?;
        let found = digest.finalize();
        if found[..] != expected {
            return Err(Failure::new(
                EXIT_ERROR,
                format!(
                    "expected sha256 {}, got {}",
                    go_bytes(&expected),
                    go_bytes(&found)
                ),
            ));
        }
    }
    to.sync_all()?;
    Ok(())
}

/// Bytes as Go prints a slice: `[1 2 3]`.
fn go_bytes(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

/// Drops the members of the cluster that the snapshot was taken from.
fn forget_members(db: &Db) -> Result<(), Failure> {
    let snapshot = db.snapshot();
    let mut batch = Batch::new();
    for bucket in [schema::MEMBERS, schema::MEMBERS_REMOVED] {
        let bucket = bucket.as_bytes();
        if !snapshot
            .buckets(Wait::Yes)
            .map_err(failed)?
            .iter()
            .any(|name| name == bucket)
        {
            batch.create_bucket(bucket);
            continue;
        }
        let mut cursor = snapshot.cursor(bucket, Wait::Yes).map_err(failed)?;
        let mut next = cursor.first().map_err(failed)?;
        while let Some((key, _)) = next {
            batch.delete(bucket, key);
            next = cursor.next().map_err(failed)?;
        }
    }
    db.commit(&batch).map_err(failed)?;
    Ok(())
}

/// Lets the store begin at a later revision, with all before it compacted: clients that saw later
/// revisions than the snapshot's then never see one come again.
fn bump_revision(db: &Db, batch: &mut Batch, bump: i64) -> Result<(), Failure> {
    let key = schema::KEY.as_bytes();
    let snapshot = db.snapshot();
    let last = snapshot
        .cursor(key, Wait::Yes)
        .map_err(failed)?
        .last()
        .map_err(failed)?;
    let latest = match &last {
        Some((row, _)) => mvcc::RevKey::decode(row).map_err(failed)?.rev.main,
        None => 0,
    };
    let main = latest.checked_add(bump).ok_or_else(|| {
        Failure::bad_args(format!("--bump-revision {bump} is more than a revision can grow"))
    })?;
    let row = [&main.to_be_bytes()[..], b"_", &[0; 8]].concat();
    batch.put(key, Bytes::from(row.clone()), Bytes::new());
    batch.put(
        schema::META.as_bytes(),
        Bytes::from("scheduledCompactRev"),
        Bytes::from(row),
    );
    log::info(
        "bumping latest revision",
        &[
            ("latest-revision", json!(latest)),
            ("bump-amount", json!(bump)),
            ("new-latest-revision", json!(main)),
        ],
    );
    log::info("marking revision compacted", &[("revision", json!(main))]);
    Ok(())
}

/// The log of a new cluster: each member's entry, committed, and a snapshot at the last of them.
fn write_log(disk: &Arc<dyn Disk>, plan: &Plan, snap_dir: &Path) -> Result<(), Failure> {
    let metadata = api::etcdserverpb::Metadata {
        node_id: Some(plan.own_id),
        cluster_id: Some(plan.cluster_id),
    };
    let mut log = Wal::create(disk, &plan.wal_dir, &metadata.encode_to_vec()).map_err(failed)?;
    let entries: Vec<Entry> = plan
        .membership
        .members
        .values()
        .zip(1..)
        .map(|(member, index)| {
            let change = ConfChange {
                id: None,
                r#type: Some(api::raftpb::ConfChangeType::ConfChangeAddNode.into()),
                node_id: Some(member.id),
                context: Some(member.to_json().into()),
            };
            Entry {
                kind: EntryKind::ConfChange,
                term: TERM,
                index,
                data: change.encode_to_vec().into(),
            }
        })
        .collect();
    let commit = entries.len() as u64;
    let vote = plan.member_ids().first().copied().unwrap_or(0);
    log.save(
        Some(&HardState {
            term: TERM,
            vote,
            commit,
        }),
        &entries,
    )
    .map_err(failed)?;
    let conf_state = ConfState {
        voters: plan.member_ids(),
        auto_leave: Some(false),
        ..ConfState::default()
    };
    let snapshot = wal::snapfile::Snapshot {
        index: commit,
        term: TERM,
        conf_state: conf_state.clone(),
        data: state::v2store::document(&plan.membership).into(),
    };
    wal::snapfile::write(disk.as_ref(), snap_dir, &snapshot).map_err(failed)?;
    log.save_mark(&Mark {
        index: commit,
        term: TERM,
        conf_state: Some(conf_state),
    })
    .map_err(failed)?;
    log.close().map_err(failed)
}

#[cfg(test)]
mod tests {
    use crate::flags::Line;

    #[test]
    fn a_file_that_cannot_be_restored_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("restore-{}", std::process::id()));
        let path = dir.to_string_lossy().into_owned();
        for source in ["/nowhere", "/dev/null"] {
            let args = ["snapshot", "restore", source, "--data-dir", &path].map(String::from);
            let Line::Run(parsed) = super::super::TOOL.parse(&args, &|_| None).unwrap() else {
                panic!("help for {args:?}");
            };
            assert!(super::restore(&parsed).is_err());
            assert!(!dir.exists(), "{source}");
        }
    }
}
