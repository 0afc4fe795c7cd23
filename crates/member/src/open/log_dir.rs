//! The log at the start: made for a new cluster, or read, checked, and only then locked and
//! repaired.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::etcdserverpb::Metadata;
use api::raftpb;
use api::version::{Line, Version};
use bbolt::Db;
use bytes::Bytes;
use disk::Disk;
use mvcc::schema;
use prost::Message;
use raft::Restored;
use state::{Membership, Mending};
use wal::{HardState, Mark, Record, Records, Tail, Wal};

use super::datafile;
use super::membership::{Known, read_known};
use crate::apply::VersionWindow;
use crate::config::{Config, InitialMember, Join};
use crate::error::Error;
use crate::log::{Log, LogLine};

/// An open log and what follows from it.
pub(super) struct OpenedLog {
    pub(super) wal: Wal,
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    pub(super) restored: Restored,
    /// Members for a data file that has none.
    pub(super) seed: Option<Membership>,
    /// What of the members in the data file is to be mended.
    pub(super) mending: Mending,
    pub(super) window: VersionWindow,
    pub(super) snapshot_index: u64,
}

/// How a member without a log begins.
pub(super) struct NewMember {
    cluster_id: u64,
    member_id: u64,
    /// The members of a cluster that begins, by id. None for one that joins: it learns them.
    first: Vec<state::Member>,
}

/// Who this member will be, or why there is none to be made. Writes nothing.
pub(super) fn plan_new(config: &Config) -> Result<NewMember, Error> {
    if config.force_new_cluster {
        return Err(Error::Refused(format!(
            "--force-new-cluster needs a directory with data, but there is no log in {}",
            config.wal_dir().display()
        )));
    }
    if let Some(join) = &config.join {
        return plan_join(config, join);
    }
    if !config.new_cluster {
        return Err(Error::Refused(
            "--initial-cluster-state=existing: nothing is known of the cluster that is to be joined"
                .to_owned(),
        ));
    }
    let own = own_member(config)?;
    check_advertised(config, own)?;
    check_urls(config)?;
    let mut first: Vec<state::Member> = config
        .initial_cluster
        .iter()
        .map(|member| state::Member {
            id: state::member_id(&member.peer_urls, &config.initial_cluster_token, None),
            peer_urls: sorted(&member.peer_urls),
            name: member.name.clone(),
            ..state::Member::default()
        })
        .collect();
    first.sort_by_key(|member| member.id);
    let twice = first.windows(2).find(|pair| pair[0].id == pair[1].id);
    if let Some(pair) = twice {
        return Err(Error::Refused(format!(
            "member exists with identical ID: --initial-cluster names {} and {} with the same URLs",
            pair[0].name, pair[1].name
        )));
    }
    Ok(NewMember {
        cluster_id: state::cluster_id(first.iter().map(|member| member.id)),
        member_id: state::member_id(&own.peer_urls, &config.initial_cluster_token, None),
        first,
    })
}

/// The member of a running cluster that has this one's peer URLs and has not started yet (etcd:
/// membership/cluster.go, ValidateClusterAndAssignIDs).
fn plan_join(config: &Config, join: &Join) -> Result<NewMember, Error> {
    let own = own_member(config)?;
    check_urls(config)?;
    let urls = sorted(&own.peer_urls);
    let found = join
        .members
        .iter()
        .find(|member| sorted(&member.peer_urls) == urls);
    let member = found.ok_or_else(|| {
        Error::Refused(format!(
            "error validating peerURLs: unmatched member while checking PeerURLs: \
             no member of the running cluster has {}; add it first (etcdctl member add)",
            urls.join(",")
        ))
    })?;
    Ok(NewMember {
        cluster_id: join.cluster_id,
        member_id: member.id,
        first: Vec::new(),
    })
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort_unstable();
    urls
}

/// The entry of `--initial-cluster` that is this member (etcd: server/config/config.go, hasLocalMember).
fn own_member(config: &Config) -> Result<&InitialMember, Error> {
    config
        .initial_cluster
        .iter()
        .find(|member| member.name == config.name)
        .ok_or_else(|| {
            Error::Refused(format!(
                "couldn't find local name {:?} in the initial cluster configuration",
                config.name
            ))
        })
}

/// No URL stands for two members, or twice for one (etcd: CheckDuplicateURL).
fn check_urls(config: &Config) -> Result<(), Error> {
    let members = config.initial_cluster.iter();
    let mut pairs: Vec<(&str, &str)> = members
        .flat_map(|member| {
            member
                .peer_urls
                .iter()
                .map(|url| (member.name.as_str(), url.as_str()))
        })
        .collect();
    let mut urls: Vec<&str> = pairs.iter().map(|(_, url)| *url).collect();
    urls.sort_unstable();
    if urls.windows(2).all(|pair| pair[0] != pair[1]) {
        return Ok(());
    }
    pairs.sort_unstable();
    let cluster: Vec<String> = pairs.iter().map(|(name, url)| format!("{name}={url}")).collect();
    Err(Error::Refused(format!(
        "initial cluster {} has duplicate url",
        cluster.join(",")
    )))
}

/// A new member is reached where the cluster looks for it (etcd: advertiseMatchesCluster).
fn check_advertised(config: &Config, own: &InitialMember) -> Result<(), Error> {
    if !config.advertised_is_same && sorted(&own.peer_urls) != sorted(&config.advertise_peer_urls) {
        return Err(Error::Refused(format!(
            "--initial-cluster has {}={} but missing from --initial-advertise-peer-urls={}",
            own.name,
            own.peer_urls.join(","),
            config.advertise_peer_urls.join(",")
        )));
    }
    Ok(())
}

/// Makes the log of a new member: its identity, and in a new cluster as its first entries the members.
pub(super) fn create(
    disk: &Arc<dyn Disk>,
    config: &Config,
    new: NewMember,
    log: &dyn Log,
) -> Result<OpenedLog, Error> {
    let metadata = Metadata {
        node_id: Some(new.member_id),
        cluster_id: Some(new.cluster_id),
    };
    let entries: Vec<wal::Entry> = (1..)
        .zip(&new.first)
        .map(|(index, member)| first_entry(config, index, member))
        .collect();
    let hard_state = match entries.len() {
        0 => HardState::default(),
        count => HardState {
            term: 1,
            vote: 0,
            commit: count as u64,
        },
    };
    let mut wal = Wal::create_with(
        disk,
        &config.wal_dir(),
        &metadata.encode_to_vec(),
        Some(&hard_state).filter(|state| state.commit > 0),
        &entries,
    )?;
    set_up(&mut wal, config);
    log.log(
        LogLine::info("starting local member")
            .with("local-member-id", format!("{:x}", new.member_id))
            .with("cluster-id", format!("{:x}", new.cluster_id)),
    );
    Ok(OpenedLog {
        wal,
        cluster_id: new.cluster_id,
        member_id: new.member_id,
        restored: Restored {
            hard_state: raft_hard_state(&hard_state),
            entries: entries.into_iter().map(raft_entry).collect(),
            ..Restored::default()
        },
        seed: None,
        mending: Mending::default(),
        window: VersionWindow::default(),
        snapshot_index: 0,
    })
}

fn first_entry(config: &Config, index: u64, member: &state::Member) -> wal::Entry {
    let change = raftpb::ConfChange {
        // Releases before 3.7 write the field also when it is 0.
        id: (config.line < Line::V3_7).then_some(0),
        r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(member.id),
        context: Some(Bytes::from(member.to_json())),
    };
    wal::Entry {
        kind: wal::EntryKind::ConfChange,
        term: 1,
        index,
        data: Bytes::from(change.encode_to_vec()),
    }
}

/// Opens the log of a member that ran before.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    config: &Config,
    db: &Db,
    log: &dyn Log,
) -> Result<OpenedLog, Error> {
    let dir = config.wal_dir();
    let mark = datafile::newest_mark(&**disk, config)?;
    let stored =
        schema::storage_version(&db.snapshot()).map_err(|error| Error::damaged(&config.db_path(), error))?;
    let mut known = read_known(&**disk, config, db, &mark)?;
    let Seen {
        entries: seen,
        committed,
        end,
    } = examine(&**disk, config, &mark, stored)?;
    check_reaches(&end, &mark, &seen, &known, config)?;
    known.mend(&seen);
    let (member_id, cluster_id) = identity(&**disk, &dir)?;
    if !config.force_new_cluster {
        // What is not committed may never come to be.
        let sure = seen.partition_point(|entry| entry.index <= committed.max(known.applied));
        known.check_member(member_id, &seen[..sure], &mark, config)?;
    }
    let (mut wal, recovered) = Wal::open(disk, &dir, &mark)?;
    set_up(&mut wal, config);
    if let Some(copy) = &recovered.repaired {
        log.log(
            LogLine::warn("repaired WAL: its end was never written completely")
                .with("path", dir.display().to_string())
                .with("copy", copy.display().to_string()),
        );
    }
    let mut entries = recovered.entries;
    let mut hard_state = recovered.hard_state;
    // What the data file holds was committed, though the log's own word for it may be older. The log is to say it
    // before the next mark: a mark beyond the commit counts for nothing.
    hard_state.commit = hard_state.commit.max(known.applied).max(mark.index);
    wal.append(Some(&hard_state), &[])?;
    if config.force_new_cluster {
        let forced = known.force_single(member_id, &mut hard_state, &mut entries);
        wal.append(Some(&hard_state), &forced)?;
        wal.sync()?;
        entries.extend(forced);
        log.log(
            LogLine::info("forcing restart member")
                .with("cluster-id", format!("{cluster_id:x}"))
                .with("local-member-id", format!("{member_id:x}"))
                .with("commit-index", hard_state.commit),
        );
    } else {
        log.log(
            LogLine::info("restarting local member")
                .with("cluster-id", format!("{cluster_id:x}"))
                .with("local-member-id", format!("{member_id:x}"))
                .with("commit-index", hard_state.commit),
        );
    }
    let mut window = VersionWindow::default();
    for entry in &entries {
        window.observe(entry.index, state_kind(entry.kind), &entry.data);
    }
    // Nothing was ever voted or written above these.
    hard_state.term = hard_state
        .term
        .max(entries.last().map_or(mark.term, |entry| entry.term));
    Ok(OpenedLog {
        wal,
        cluster_id,
        member_id,
        restored: Restored {
            hard_state: raft_hard_state(&hard_state),
            conf_state: known.conf_state,
            snapshot_index: mark.index,
            snapshot_term: mark.term,
            entries: entries.into_iter().map(raft_entry).collect(),
            applied: known.deliver_after,
        },
        seed: known.seed,
        mending: known.mending,
        window,
        snapshot_index: mark.index,
    })
}

/// What the log holds.
pub(super) struct Seen {
    /// The entries after the mark; normal ones without their data.
    entries: Vec<wal::Entry>,
    /// What the log itself says is committed.
    committed: u64,
    end: End,
}

/// Where the log ends.
struct End {
    segment: PathBuf,
    /// Where an incomplete record begins, if that is why it ends.
    torn_at: Option<u64>,
}

impl End {
    fn of(disk: &dyn Disk, dir: &Path, tail: Option<Tail>) -> Result<End, Error> {
        let names = disk.list(dir).map_err(|error| Error::io(dir, error))?;
        let last = names.into_iter().rfind(|entry| entry.name.ends_with(".wal"));
        Ok(End {
            segment: last.map_or_else(|| dir.to_path_buf(), |entry| dir.join(entry.name)),
            torn_at: match tail {
                Some(Tail::Torn(offset)) => Some(offset),
                Some(Tail::Clean(_)) | None => None,
            },
        })
    }
}

/// Reads the log from `mark` on without changing anything: what it will hold after its end was
/// repaired. Normal entries come without their data. `stored` is the version of the data file, if
/// there is one.
pub(super) fn examine(
    disk: &dyn Disk,
    config: &Config,
    mark: &Mark,
    stored: Option<Version>,
) -> Result<Seen, Error> {
    // Go etcd 3.7 dies of entries in the format of v2. Members of 3.5 write them, none of a cluster
    // that has reached storage version 3.7.
    let refuses_v2 = config.line == Line::V3_7 && stored.is_none_or(|stored| stored < Line::V3_7.version());
    let mut records = Records::open_from(disk, &config.wal_dir(), mark.index)?;
    let mut entries: Vec<wal::Entry> = Vec::new();
    // The newest entry in the format of v2, and its segment.
    let mut v2 = None;
    let (mut mark_found, mut term_at_mark, mut committed) = (false, None, mark.index);
    while let Some(located) = records.next()? {
        let mut entry = match located.record()? {
            Record::Entry(entry) => entry,
            Record::Mark(found) if found.index == mark.index && !mark_found => {
                mark_found = true;
                // As the log itself does it: what lies behind a state of the leader that took the place of
                // the log is gone.
                if term_at_mark.is_some_and(|term| term != mark.term) {
                    entries.clear();
                    v2 = None;
                }
                continue;
            }
            Record::State(state) => {
                committed = committed.max(state.commit);
                continue;
            }
            _ => continue,
        };
        if entry.index <= mark.index {
            entries.clear();
            v2 = None;
            term_at_mark = (entry.index == mark.index).then_some(entry.term);
            continue;
        }
        // A later record replaces what was at its index and all after it.
        let kept = entries.partition_point(|before| before.index < entry.index);
        entries.truncate(kept);
        v2 = v2.filter(|(index, _)| *index < entry.index);
        if entry.kind == wal::EntryKind::Normal {
            if refuses_v2 && state::contains_v2_request(&entry.data) {
                v2 = Some((entry.index, located.path.clone()));
            }
            entry.data = Bytes::new();
        }
        entries.push(entry);
    }
    match v2 {
        None => Ok(Seen {
            entries,
            committed,
            end: End::of(disk, &config.wal_dir(), records.tail())?,
        }),
        Some((index, path)) => Err(Error::Refused(format!(
            "{}: entry {index} of the log is a v2 request of etcd 3.5, which members of 3.7 cannot read; \
             nothing was changed. Two ways out: start with --emulated-version=3.5 (or set \
             ETCD_EMULATED_VERSION=3.5) to go on as 3.5, or upgrade through 3.6 \
             (--emulated-version=3.6, or etcd 3.6) until a snapshot lies behind that entry",
            path.display(),
        ))),
    }
}

/// Log and data file must belong together, and the log must not end too early.
fn check_reaches(
    end: &End,
    mark: &Mark,
    entries: &[wal::Entry],
    known: &Known,
    config: &Config,
) -> Result<(), Error> {
    let last = entries.last().map_or(mark.index, |entry| entry.index);
    if known.applied > last {
        let torn = end.torn_at.map_or_else(String::new, |offset| {
            format!(" (at byte {offset} is a record that is not whole)")
        });
        return Err(Error::Damaged {
            path: end.segment.clone(),
            reason: format!(
                "the log ends at index {last}{torn}, but {} holds data up to index {}: the log was cut short or \
                 is of another member; restore the missing segments, or the member from a snapshot",
                config.db_path().display(),
                known.applied
            ),
        });
    }
    let at = entries.iter().find(|entry| entry.index == known.applied);
    let term = match at {
        Some(entry) => entry.term,
        None if known.applied == mark.index => mark.term,
        None => known.applied_term,
    };
    if known.applied > 0 && known.applied_term > 0 && term != known.applied_term {
        return Err(Error::Damaged {
            path: end.segment.clone(),
            reason: format!(
                "entry {} has term {term} in the log and term {} in {}: they are of different members; \
                 bring the right files together, or restore the member from a snapshot",
                known.applied,
                known.applied_term,
                config.db_path().display()
            ),
        });
    }
    Ok(())
}

fn set_up(wal: &mut Wal, config: &Config) {
    wal.set_segment_bytes(config.segment_bytes);
    if config.unsafe_no_fsync {
        wal.set_unsafe_no_sync();
    }
}

/// Whose log it is, as its first record says.
fn identity(disk: &dyn Disk, dir: &Path) -> Result<(u64, u64), Error> {
    let damaged = |reason: &str| Error::Damaged {
        path: dir.to_path_buf(),
        reason: format!("{reason}; restore the member from a snapshot, or remove it and add it again"),
    };
    let mut records = Records::open(disk, dir)?;
    while let Some(located) = records.next()? {
        if let Record::Metadata(metadata) = located.record()? {
            let metadata =
                Metadata::decode(metadata).map_err(|_| damaged("the log's metadata do not decode"))?;
            return match metadata.node_id() {
                0 => Err(damaged("the log names no member")),
                id => Ok((id, metadata.cluster_id())),
            };
        }
    }
    Err(damaged("the log does not say whose it is"))
}

pub(super) fn state_kind(kind: wal::EntryKind) -> state::EntryKind {
    match kind {
        wal::EntryKind::Normal => state::EntryKind::Normal,
        wal::EntryKind::ConfChange => state::EntryKind::ConfChange,
        wal::EntryKind::ConfChangeV2 => state::EntryKind::ConfChangeV2,
    }
}

pub(crate) fn raft_entry(entry: wal::Entry) -> raft::Entry {
    raft::Entry {
        kind: match entry.kind {
            wal::EntryKind::Normal => raft::EntryKind::Normal,
            wal::EntryKind::ConfChange => raft::EntryKind::ConfChange,
            wal::EntryKind::ConfChangeV2 => raft::EntryKind::ConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data,
    }
}

fn raft_hard_state(state: &HardState) -> raft::HardState {
    raft::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
}
