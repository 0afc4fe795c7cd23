//! Who is in the cluster, as far as the files know at the start.
//!
//! As etcd 3.7, the data file's members are believed, as of its consistent index. Where it has none
//! (a data file of a release before 3.5, or one cut off while it was made), the snapshot file's are
//! taken and every entry after it is looked at again, as 3.5 and 3.6 do.

use std::collections::BTreeSet;

use api::raftpb;
use api::version::Line;
use bbolt::Db;
use bytes::Bytes;
use disk::Disk;
use mvcc::schema;
use prost::Message;
use state::{ChangeContext, Membership};
use wal::{HardState, Mark, snapfile};

use crate::config::Config;
use crate::error::Error;

/// What the files know.
pub(super) struct Known {
    /// The consistent index and term of the data file.
    pub(super) applied: u64,
    pub(super) applied_term: u64,
    /// Entries after this one are handed out (again).
    pub(super) deliver_after: u64,
    /// The configuration as of `deliver_after`.
    pub(super) conf_state: raft::ConfState,
    /// Members for a data file that has none.
    pub(super) seed: Option<Membership>,
    /// Who was a member once.
    removed: BTreeSet<u64>,
}

/// Reads what the files know. Writes nothing.
pub(super) fn read_known(disk: &dyn Disk, config: &Config, db: &Db, mark: &Mark) -> Result<Known, Error> {
    let path = config.db_path();
    let damaged = |error: mvcc::Error| Error::damaged(&path, error);
    let rows = db.snapshot();
    let (applied, applied_term) = schema::consistent_index(&rows).map_err(damaged)?;
    let members = schema::members(&rows).map_err(damaged)?;
    let removed = schema::removed_members(&rows).map_err(damaged)?;
    let snapshot = read_snapshot(disk, config, mark)?;
    if members.is_empty() && applied.max(mark.index) > 0 {
        return from_snapshot(config, mark, snapshot, (applied, applied_term));
    }
    let ids = |learners: bool| {
        let of_kind = members.iter().filter(move |member| member.is_learner == learners);
        let mut ids: Vec<u64> = of_kind.map(|member| member.id).collect();
        ids.sort_unstable();
        ids
    };
    Ok(Known {
        applied,
        applied_term,
        deliver_after: applied.max(mark.index),
        conf_state: raft::ConfState {
            voters: ids(false),
            learners: ids(true),
            ..raft::ConfState::default()
        },
        seed: None,
        removed: removed.into_iter().collect(),
    })
}

/// The snapshot file of the mark, where the member's line reads one.
fn read_snapshot(
    disk: &dyn Disk,
    config: &Config,
    mark: &Mark,
) -> Result<Option<(snapfile::Snapshot, state::v2store::Parsed)>, Error> {
    if mark.index == 0 {
        return Ok(None);
    }
    let path = config
        .snap_dir()
        .join(format!("{:016x}-{:016x}.snap", mark.term, mark.index));
    let found = disk.metadata(&path).map_err(|error| Error::io(&path, error))?;
    if found.is_none() {
        return Ok(None);
    }
    let snapshot = match snapfile::read(disk, &path) {
        Ok(snapshot) => snapshot,
        // Members of 3.7 do without it: a damaged one is no reason not to start.
        Err(_) if config.line == Line::V3_7 => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let parsed = state::v2store::parse(&snapshot.data).map_err(|error| Error::damaged(&path, error))?;
    if parsed.has_user_data {
        return Err(Error::Refused(format!(
            "{}: the directory holds data of the v2 API, which would be lost; \
             move it away with etcd 3.5 first (detected disallowed v2 content)",
            path.display()
        )));
    }
    Ok(Some((snapshot, parsed)))
}

fn from_snapshot(
    config: &Config,
    mark: &Mark,
    snapshot: Option<(snapfile::Snapshot, state::v2store::Parsed)>,
    (applied, applied_term): (u64, u64),
) -> Result<Known, Error> {
    let (conf_state, seed) = match snapshot {
        Some((snapshot, parsed)) => (raft_conf_state(&snapshot.conf_state), parsed.membership),
        None if mark.index == 0 => (raft::ConfState::default(), Membership::default()),
        None => {
            return Err(Error::Damaged {
                path: config.db_path(),
                reason: format!(
                    "it names no members, and {} has no readable snapshot file of index {}: \
                     restore the member from a snapshot, or remove it and add it again",
                    config.snap_dir().display(),
                    mark.index
                ),
            });
        }
    };
    Ok(Known {
        applied,
        applied_term,
        deliver_after: mark.index,
        conf_state,
        removed: seed.removed.clone(),
        seed: Some(seed),
    })
}

fn raft_conf_state(state: &raftpb::ConfState) -> raft::ConfState {
    raft::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        ..raft::ConfState::default()
    }
}

/// The changes of members among entries. What does not decode is refused where it is applied.
fn changes(entries: &[wal::Entry]) -> impl Iterator<Item = raftpb::ConfChange> {
    let changes = entries
        .iter()
        .filter(|entry| entry.kind == wal::EntryKind::ConfChange);
    changes.filter_map(|entry| raftpb::ConfChange::decode(entry.data.clone()).ok())
}

/// The members after changes: voters and learners.
fn changed(
    (mut voters, mut learners): (BTreeSet<u64>, BTreeSet<u64>),
    entries: &[wal::Entry],
) -> (BTreeSet<u64>, BTreeSet<u64>) {
    use raftpb::ConfChangeType as Type;
    for change in changes(entries) {
        let id = change.node_id();
        match change.r#type() {
            Type::ConfChangeAddNode => {
                learners.remove(&id);
                voters.insert(id);
            }
            Type::ConfChangeAddLearnerNode => {
                voters.remove(&id);
                learners.insert(id);
            }
            Type::ConfChangeRemoveNode => {
                voters.remove(&id);
                learners.remove(&id);
            }
            Type::ConfChangeUpdateNode => {}
        }
    }
    (voters, learners)
}

impl Known {
    /// The members after all of `entries`: voters and learners.
    fn after(&self, entries: &[wal::Entry]) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let first = entries.partition_point(|entry| entry.index <= self.deliver_after);
        let of = |ids: &[u64]| ids.iter().copied().collect();
        let known = (of(&self.conf_state.voters), of(&self.conf_state.learners));
        changed(known, &entries[first..])
    }

    /// Whether this is a member that joins and was stopped before the log told it of its own addition: its log tells of
    /// all members that the data file has, and perhaps of some whose addition was refused.
    fn joins(&self, entries: &[wal::Entry], mark: &Mark) -> bool {
        let state = mark.conf_state.iter();
        let told = state.flat_map(|state| state.voters.iter().chain(&state.learners).copied());
        let told: BTreeSet<u64> = told
            .chain(changes(entries).map(|change| change.node_id()))
            .collect();
        let mut members = self.conf_state.voters.iter().chain(&self.conf_state.learners);
        members.all(|id| told.contains(id))
    }

    fn was_removed(&self, member_id: u64, entries: &[wal::Entry]) -> bool {
        let removes = |change: raftpb::ConfChange| {
            change.node_id() == member_id && change.r#type() == raftpb::ConfChangeType::ConfChangeRemoveNode
        };
        self.removed.contains(&member_id) || changes(entries).any(removes)
    }

    /// Refuses the directory of a member that was removed, and files that are not of one member. `entries` are those
    /// after the mark that are committed.
    pub(super) fn check_member(
        &self,
        member_id: u64,
        entries: &[wal::Entry],
        mark: &Mark,
        config: &Config,
    ) -> Result<(), Error> {
        let (voters, learners) = self.after(entries);
        let known = voters.contains(&member_id) || learners.contains(&member_id);
        let joins = !self.was_removed(member_id, entries) && self.joins(entries, mark);
        if !(known || joins) {
            return Err(Error::Refused(format!(
                "{}: member {member_id:x} of the log is not a member of the cluster in {}: \
                 it was removed, or the files are of different members",
                config.wal_dir().display(),
                config.db_path().display()
            )));
        }
        Ok(())
    }

    /// For `--force-new-cluster`: drops what is not committed, and returns the entries that leave
    /// this member alone (etcd: server/storage/util.go, CreateConfigChangeEnts). The hard state
    /// commits them.
    pub(super) fn force_single(
        &self,
        member_id: u64,
        hard_state: &mut HardState,
        entries: &mut Vec<wal::Entry>,
    ) -> Vec<wal::Entry> {
        entries.retain(|entry| entry.index <= hard_state.commit);
        let (voters, learners) = self.after(entries);
        let mut changes = Vec::new();
        if !voters.contains(&member_id) {
            let is_promote = learners.contains(&member_id);
            let peer_urls = match is_promote {
                true => Vec::new(),
                false => vec!["http://localhost:2380".to_owned()],
            };
            let context = ChangeContext {
                member: state::Member {
                    id: member_id,
                    peer_urls,
                    ..state::Member::default()
                },
                is_promote,
            };
            let context = Some(Bytes::from(context.to_json()));
            changes.push((raftpb::ConfChangeType::ConfChangeAddNode, member_id, context));
        }
        for &id in voters.iter().chain(&learners).filter(|&&id| id != member_id) {
            changes.push((raftpb::ConfChangeType::ConfChangeRemoveNode, id, None));
        }
        let forced: Vec<wal::Entry> = changes
            .into_iter()
            .zip(hard_state.commit + 1..)
            .map(|((kind, node_id, context), index)| wal::Entry {
                kind: wal::EntryKind::ConfChange,
                term: hard_state.term,
                index,
                data: Bytes::from(
                    raftpb::ConfChange {
                        id: None,
                        r#type: Some(kind as i32),
                        node_id: Some(node_id),
                        context,
                    }
                    .encode_to_vec(),
                ),
            })
            .collect();
        hard_state.commit += forced.len() as u64;
        forced
    }
}
