//! Who is in the cluster, as far as the files know at the start.
//!
//! As etcd 3.7, the data file's members are believed, as of its consistent index. Where it has none
//! (a data file of a release before 3.5, or one cut off while it was made), the snapshot file's are
//! taken and every entry after it is looked at again, as 3.5 and 3.6 do.
//!
//! Releases of 3.5 have left data files that name other members than raft counts. Raft itself is asked then: the
//! configuration of the newest mark and the changes in the log after it.

use std::collections::BTreeSet;

use api::raftpb;
use api::version::Line;
use bbolt::Db;
use bytes::Bytes;
use disk::Disk;
use mvcc::schema;
use prost::Message;
use state::{ChangeContext, Membership, Mending};
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
    /// What of the members in the data file is to be mended.
    pub(super) mending: Mending,
    /// What raft counted at the newest mark: voters and learners. None if nobody knows any more.
    at_mark: Option<(BTreeSet<u64>, BTreeSet<u64>)>,
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
    let at_mark = counted_at(mark, snapshot.as_ref().map(|(snapshot, _)| &snapshot.conf_state));
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
        mending: Mending::default(),
        at_mark,
        removed: removed.into_iter().collect(),
    })
}

/// What raft counted at the mark: its record says it since 3.5, the snapshot file always did. Before the
/// first mark it was nobody.
fn counted_at(
    mark: &Mark,
    of_snapshot: Option<&raftpb::ConfState>,
) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
    let of = |ids: &[u64]| ids.iter().copied().collect();
    let mut told = mark.conf_state.iter().chain(of_snapshot);
    match told.find(|state| !state.voters.is_empty()) {
        Some(state) => Some((of(&state.voters), of(&state.learners))),
        None => (mark.index == 0).then(Default::default),
    }
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
        mending: Mending::default(),
        at_mark: None,
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

/// Whether an addition is in truth the promotion of a learner.
fn is_promotion(change: &raftpb::ConfChange) -> bool {
    let context = change.context.as_deref().unwrap_or_default();
    ChangeContext::from_json(context).is_ok_and(|context| context.is_promote)
}

/// The members after changes: voters and learners. What is refused where it is applied for the ids alone is
/// left out (etcd: membership/cluster.go, ValidateConfigurationChange).
fn changed(
    (mut voters, mut learners): (BTreeSet<u64>, BTreeSet<u64>),
    entries: &[wal::Entry],
) -> (BTreeSet<u64>, BTreeSet<u64>) {
    use raftpb::ConfChangeType as Type;
    for change in changes(entries) {
        let id = change.node_id();
        match change.r#type() {
            Type::ConfChangeAddNode => {
                if is_promotion(&change) == learners.contains(&id) {
                    learners.remove(&id);
                    voters.insert(id);
                }
            }
            Type::ConfChangeAddLearnerNode => {
                if !voters.contains(&id) {
                    learners.insert(id);
                }
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
    /// Holds the members of the data file against what raft counted as of the same entry, and goes on with
    /// what raft counted. `entries` are those after the mark.
    pub(super) fn mend(&mut self, entries: &[wal::Entry]) {
        let Some(at_mark) = self.at_mark.take() else {
            return;
        };
        let applied = entries.partition_point(|entry| entry.index <= self.deliver_after);
        let (voters, learners) = changed(at_mark, &entries[..applied]);
        let state = &mut self.conf_state;
        let of_file = state.voters.iter().map(|id| (*id, false));
        let of_file = of_file.chain(state.learners.iter().map(|id| (*id, true)));
        let mut mending = Mending::find(of_file, &voters, &learners);
        // Files of 3.4 may be ahead of their own index.
        let comes = |id: &u64| changes(&entries[applied..]).any(|change| change.node_id() == *id);
        mending.zombies.retain(|id| !comes(id));
        state.learners.retain(|id| !mending.promoted.contains(id));
        state.voters.extend(&mending.promoted);
        state.voters.sort_unstable();
        for ids in [&mut state.voters, &mut state.learners] {
            ids.retain(|id| !mending.zombies.contains(id));
        }
        self.removed.extend(&mending.zombies);
        self.mending = mending;
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use raftpb::ConfChangeType as Type;

    /// An entry; `context` as the JSON has it after the id.
    fn change(kind: Type, id: u64, context: &str) -> wal::Entry {
        let change = raftpb::ConfChange {
            r#type: Some(kind as i32),
            node_id: Some(id),
            context: Some(format!("{{\"id\":{id},\"peerURLs\":null{context}}}").into()),
            ..raftpb::ConfChange::default()
        };
        wal::Entry {
            kind: wal::EntryKind::ConfChange,
            term: 1,
            index: 0,
            data: Bytes::from(change.encode_to_vec()),
        }
    }

    const PROMOTE: &str = ",\"isPromote\":true";

    /// What is mended in a data file of voter 1, learners 2 and 3, and voter 9 at entry 12; raft counted voters 1
    /// and 2, and learner 3, at entry 10.
    fn mended(entries: Vec<wal::Entry>, at_mark: bool) -> (Vec<u64>, Vec<u64>, raft::ConfState) {
        let mut entries = entries;
        for (entry, index) in entries.iter_mut().zip(11..) {
            entry.index = index;
        }
        let mut known = Known {
            applied: 12,
            applied_term: 1,
            deliver_after: 12,
            conf_state: raft::ConfState {
                voters: vec![1, 9],
                learners: vec![2, 3],
                ..raft::ConfState::default()
            },
            seed: None,
            mending: Mending::default(),
            at_mark: at_mark.then(|| ([1, 2].into(), [3].into())),
            removed: BTreeSet::new(),
        };
        known.mend(&entries);
        (known.mending.promoted, known.mending.zombies, known.conf_state)
    }

    #[test]
    fn raft_is_asked_as_of_the_entry_of_the_data_file() {
        use Type::*;
        let idle = || change(ConfChangeUpdateNode, 1, "");
        let check = |entries: Vec<wal::Entry>, promoted: &[u64], zombies: &[u64]| {
            let found = mended(entries, true);
            assert_eq!((&found.0[..], &found.1[..]), (promoted, zombies));
            found.2
        };
        let state = check(vec![idle(), idle()], &[2], &[9]);
        assert_eq!((state.voters, state.learners), (vec![1, 2], vec![3]));
        let state = check(vec![change(ConfChangeAddNode, 3, PROMOTE), idle()], &[2, 3], &[9]);
        assert_eq!((state.voters, state.learners), (vec![1, 2, 3], vec![]));
        // Behind the data file's entry.
        check(
            vec![idle(), idle(), change(ConfChangeAddNode, 3, PROMOTE)],
            &[2],
            &[9],
        );
        // Refused: it is a member already.
        check(vec![change(ConfChangeAddNode, 3, ""), idle()], &[2], &[9]);
        check(vec![change(ConfChangeAddLearnerNode, 2, ""), idle()], &[2], &[9]);
        // The mark knew another member of the same id.
        check(
            vec![
                change(ConfChangeRemoveNode, 2, ""),
                change(ConfChangeAddLearnerNode, 2, ""),
            ],
            &[],
            &[9],
        );
        // Members that came since, or come: a data file of 3.4 may have them already.
        check(vec![change(ConfChangeAddNode, 9, ""), idle()], &[2], &[]);
        check(vec![idle(), idle(), change(ConfChangeAddNode, 9, "")], &[2], &[]);
        // An addition that was perhaps refused: who knows.
        check(vec![change(ConfChangeAddNode, 8, ""), idle()], &[2], &[]);
    }

    #[test]
    fn where_nobody_knows_what_raft_counted_the_data_file_is_believed() {
        let (promoted, zombies, state) = mended(Vec::new(), false);
        assert!(promoted.is_empty() && zombies.is_empty());
        assert_eq!((state.voters, state.learners), (vec![1, 9], vec![2, 3]));
    }

    #[test]
    fn the_mark_says_what_raft_counted_or_else_the_snapshot_file() {
        let state = |voters: &[u64], learners: &[u64]| raftpb::ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..raftpb::ConfState::default()
        };
        let mark = |index: u64, conf_state: Option<raftpb::ConfState>| Mark {
            index,
            term: 1,
            conf_state,
        };
        let of = |voters: &[u64], learners: &[u64]| {
            let of = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
            Some((of(voters), of(learners)))
        };
        let file = state(&[1], &[2]);
        let told = mark(5, Some(state(&[1, 2], &[])));
        assert_eq!(counted_at(&told, Some(&file)), of(&[1, 2], &[]));
        for silent in [mark(5, None), mark(5, Some(state(&[], &[])))] {
            assert_eq!(counted_at(&silent, Some(&file)), of(&[1], &[2]));
            assert_eq!(counted_at(&silent, None), None);
        }
        assert_eq!(counted_at(&mark(0, None), None), of(&[], &[]));
    }
}
