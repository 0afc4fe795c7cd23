//! What the log means, written apart from the store and as simply as possible: the committed entries
//! folded into every version that every key ever had, and into leases, alarms and members. Keeps all of it, also what
//! is compacted.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use api::etcdserverpb as pb;
use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::request_op::Request;
use prost::Message;

use crate::roster::{Moved, Roster};

/// The shortest time to live of a lease, in seconds: one and a half election timeouts of 1 s, rounded up.
const TTL_MIN: i64 = 2;

/// The numbers of alarms.
const NOSPACE: i32 = 1;
pub(crate) const CORRUPT: i32 = 2;

/// A key as of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that made it.
    pub revision: i64,
    /// `None`: the key was deleted.
    pub value: Option<Vec<u8>>,
    /// When the key was created.
    pub create: i64,
    /// How often it was written since.
    pub version: i64,
    /// The lease, or 0.
    pub lease: i64,
}

/// A lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Seconds.
    pub ttl: i64,
    /// Its keys.
    pub keys: BTreeSet<Vec<u8>>,
}

/// What the log has made beside keys. What does not change is shared between one index and the next.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// The leases that are there.
    pub leases: Rc<BTreeMap<i64, Lease>>,
    /// Alarms, by kind and member.
    pub alarms: Rc<BTreeSet<(i32, u64)>>,
    /// The members.
    pub roster: Rc<Roster>,
}

/// What an entry did that is worth knowing of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// To the cluster.
    pub moved: Option<Moved>,
    /// The lease that it ended.
    pub revoked: Option<i64>,
    /// The lease that it made, with its seconds.
    pub granted: Option<(i64, i64)>,
    /// An alarm of this kind went on or off.
    pub alarm: Option<(i32, bool)>,
}

/// Everything that the log has said so far.
#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    /// What happened at each revision, in order.
    events: BTreeMap<i64, Vec<Vec<u8>>>,
    /// What there is beside keys.
    pub aside: Aside,
    /// The same after each entry, by index from 0.
    history: Vec<Aside>,
    /// The present revision.
    pub revision: i64,
    /// The last compaction.
    pub compacted: i64,
    /// The revision after each entry, by index from 1.
    pub revision_at: Vec<i64>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            keys: BTreeMap::new(),
            events: BTreeMap::new(),
            aside: Aside::default(),
            history: vec![Aside::default()],
            revision: 1,
            compacted: -1,
            revision_at: vec![1],
        }
    }
}

/// A change that is being made.
struct Change<'a> {
    model: &'a mut Model,
    revision: i64,
    changed: bool,
}

impl Model {
    /// The next entry of the log.
    pub fn apply(&mut self, kind: raft::EntryKind, data: &[u8]) -> Effect {
        let mut effect = Effect::default();
        match kind {
            raft::EntryKind::Normal => {
                if let Ok(request) = pb::InternalRaftRequest::decode(data) {
                    self.request(&request, &mut effect);
                }
            }
            _ => effect.moved = Some(self.roster().change(data)),
        }
        self.revision_at.push(self.revision);
        self.history.push(self.aside.clone());
        effect
    }

    fn leases(&mut self) -> &mut BTreeMap<i64, Lease> {
        Rc::make_mut(&mut self.aside.leases)
    }

    fn roster(&mut self) -> &mut Roster {
        Rc::make_mut(&mut self.aside.roster)
    }

    /// What there was beside keys after an entry.
    pub fn aside_at(&self, index: u64) -> Option<&Aside> {
        self.history.get(usize::try_from(index).ok()?)
    }

    /// The entry that made a revision.
    pub fn index_of(&self, revision: i64) -> u64 {
        self.revision_at.partition_point(|made| *made < revision) as u64
    }

    /// Whether an alarm stops a request: CORRUPT everything that reads or writes, NOSPACE what takes space.
    fn is_stopped(&self, request: &pb::InternalRaftRequest) -> bool {
        let on = |wanted: i32| self.aside.alarms.iter().any(|(kind, _)| *kind == wanted);
        let puts = |txn: &pb::TxnRequest| {
            let mut ops = txn.success.iter().chain(&txn.failure);
            ops.any(|op| matches!(op.request, Some(Request::RequestPut(_))))
        };
        let takes_space =
            request.put.is_some() || request.lease_grant.is_some() || request.txn.as_ref().is_some_and(puts);
        let is_data = takes_space
            || request.txn.is_some()
            || request.delete_range.is_some()
            || request.compaction.is_some()
            || request.lease_revoke.is_some();
        (is_data && on(CORRUPT)) || (takes_space && on(NOSPACE))
    }

    fn request(&mut self, request: &pb::InternalRaftRequest, effect: &mut Effect) {
        if self.is_stopped(request) {
            return;
        }
        if let Some(put) = &request.put {
            if put.lease == 0 || self.aside.leases.contains_key(&put.lease) {
                self.change(|change| change.put(put));
            }
        } else if let Some(delete) = &request.delete_range {
            self.change(|change| {
                change.delete(&delete.key, &delete.range_end);
            });
        } else if let Some(txn) = &request.txn {
            self.txn(txn);
        } else if let Some(compaction) = &request.compaction {
            if compaction.revision > self.compacted && compaction.revision <= self.revision {
                self.compacted = compaction.revision;
            }
        } else if let Some(grant) = &request.lease_grant {
            if grant.id != 0 && !self.aside.leases.contains_key(&grant.id) {
                let ttl = grant.ttl.max(TTL_MIN);
                let keys = BTreeSet::new();
                self.leases().insert(grant.id, Lease { ttl, keys });
                effect.granted = Some((grant.id, ttl));
            }
        } else if let Some(revoke) = &request.lease_revoke {
            if self.aside.leases.contains_key(&revoke.id)
                && let Some(lease) = self.leases().remove(&revoke.id)
            {
                effect.revoked = Some(revoke.id);
                self.change(|change| {
                    for key in &lease.keys {
                        change.delete_one(key);
                    }
                });
            }
        } else if let Some(alarm) = &request.alarm {
            effect.alarm = self.alarm(alarm).map(|on| (alarm.alarm, on));
        } else if request.cluster_version_set.is_some() || request.cluster_member_attr_set.is_some() {
            self.roster().request(request);
        }
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> Option<bool> {
        let alarm = (request.alarm, request.member_id);
        let on = match request.action() {
            AlarmAction::Activate if request.alarm != 0 => true,
            AlarmAction::Deactivate => false,
            _ => return None,
        };
        if on == self.aside.alarms.contains(&alarm) {
            return None;
        }
        let alarms = Rc::make_mut(&mut self.aside.alarms);
        match on {
            true => alarms.insert(alarm),
            false => alarms.remove(&alarm),
        };
        Some(on)
    }

    fn txn(&mut self, txn: &pb::TxnRequest) {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if holds { &txn.success } else { &txn.failure };
        let refused = ops.iter().any(|op| match &op.request {
            Some(Request::RequestPut(put)) => put.lease != 0 && !self.aside.leases.contains_key(&put.lease),
            _ => false,
        });
        if refused {
            return;
        }
        self.change(|change| {
            for op in ops {
                match &op.request {
                    Some(Request::RequestPut(put)) => change.put(put),
                    Some(Request::RequestDeleteRange(delete)) => {
                        change.delete(&delete.key, &delete.range_end);
                    }
                    _ => {}
                }
            }
        });
    }

    fn change(&mut self, make: impl FnOnce(&mut Change<'_>)) {
        let mut change = Change {
            revision: self.revision + 1,
            model: self,
            changed: false,
        };
        make(&mut change);
        if change.changed {
            self.revision += 1;
        }
    }

    fn newest(&self, key: &[u8]) -> Option<&Version> {
        let version = self.keys.get(key)?.last()?;
        version.value.is_some().then_some(version)
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let absent = Version {
            revision: 0,
            value: None,
            create: 0,
            version: 0,
            lease: 0,
        };
        let found = self.newest(&compare.key).unwrap_or(&absent);
        let order = match (compare.target(), &compare.target_union) {
            (CompareTarget::Version, Some(TargetUnion::Version(wanted))) => found.version.cmp(wanted),
            (CompareTarget::Create, Some(TargetUnion::CreateRevision(wanted))) => found.create.cmp(wanted),
            (CompareTarget::Mod, Some(TargetUnion::ModRevision(wanted))) => found.revision.cmp(wanted),
            (CompareTarget::Value, Some(TargetUnion::Value(wanted))) => match &found.value {
                None => return false,
                Some(value) => value.as_slice().cmp(wanted.as_ref()),
            },
            _ => return false,
        };
        match compare.result() {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
        }
    }

    /// The keys of a range as of `revision`.
    pub fn range(&self, key: &[u8], end: &[u8], revision: i64) -> Vec<(&[u8], &Version)> {
        let of_range = self.keys.iter().filter(|(found, _)| within(found, key, end));
        let visible = of_range.filter_map(|(found, versions)| {
            let at = versions.partition_point(|version| version.revision <= revision);
            let version = versions[..at].last()?;
            version.value.is_some().then_some((found.as_slice(), version))
        });
        visible.collect()
    }

    /// The newest revision at which a key was deleted that is still deleted.
    pub fn newest_deletion(&self) -> Option<i64> {
        let newest = self.keys.values().filter_map(|versions| versions.last());
        let deleted = newest.filter(|version| version.value.is_none());
        deleted.map(|version| version.revision).max()
    }

    /// Whether a key ever had a value.
    pub fn ever_had(&self, key: &[u8], value: &[u8]) -> bool {
        let mut versions = self.keys.get(key).into_iter().flatten();
        versions.any(|version| version.value.as_deref() == Some(value))
    }

    /// A key's version made at exactly `revision`: the last one, if a txn wrote it more than once.
    pub fn made_at(&self, key: &[u8], revision: i64) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|version| version.revision == revision)
    }

    /// The key's version before `revision`.
    pub fn before(&self, key: &[u8], revision: i64) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        let at = versions.partition_point(|version| version.revision < revision);
        let version = versions[..at].last()?;
        version.value.is_some().then_some(version)
    }

    /// What changed in a range at revisions from `from` up to `to`: revision and key.
    pub fn events(&self, key: &[u8], end: &[u8], from: i64, to: i64) -> Vec<(i64, &[u8])> {
        if from > to {
            return Vec::new();
        }
        let revisions = self.events.range(from..=to);
        let all =
            revisions.flat_map(|(revision, keys)| keys.iter().map(|found| (*revision, found.as_slice())));
        all.filter(|(_, found)| within(found, key, end)).collect()
    }
}

impl Change<'_> {
    fn write(&mut self, key: &[u8], version: Version) {
        let versions = self.model.keys.entry(key.to_vec()).or_default();
        versions.push(version);
        let events = self.model.events.entry(self.revision).or_default();
        events.push(key.to_vec());
        self.changed = true;
    }

    fn put(&mut self, put: &pb::PutRequest) {
        let before = self.model.newest(&put.key).cloned();
        let held = before.as_ref().map_or(0, |before| before.lease);
        if held != 0 || put.lease != 0 {
            let leases = self.model.leases();
            if let Some(lease) = leases.get_mut(&held) {
                lease.keys.remove(put.key.as_ref());
            }
            if let Some(lease) = leases.get_mut(&put.lease) {
                lease.keys.insert(put.key.to_vec());
            }
        }
        let version = Version {
            revision: self.revision,
            value: Some(put.value.to_vec()),
            create: before.as_ref().map_or(self.revision, |before| before.create),
            version: before.as_ref().map_or(1, |before| before.version + 1),
            lease: put.lease,
        };
        self.write(&put.key, version);
    }

    fn delete(&mut self, key: &[u8], end: &[u8]) {
        let found = self.model.range(key, end, i64::MAX);
        let keys: Vec<Vec<u8>> = found.into_iter().map(|(key, _)| key.to_vec()).collect();
        for key in keys {
            self.delete_one(&key);
        }
    }

    fn delete_one(&mut self, key: &[u8]) {
        let Some(before) = self.model.newest(key).cloned() else {
            return;
        };
        if before.lease != 0
            && let Some(lease) = self.model.leases().get_mut(&before.lease)
        {
            lease.keys.remove(key);
        }
        let version = Version {
            revision: self.revision,
            value: None,
            create: 0,
            version: 0,
            lease: 0,
        };
        self.write(key, version);
    }
}

/// Whether a key lies in a range as etcd's requests name it.
pub fn within(found: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        [] => found == key,
        [0] => found >= key,
        _ => found >= key && found < end,
    }
}
