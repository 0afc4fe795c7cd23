//! The machine itself: fed with entries, published for readers. Decides what an entry is and which
//! of the alarms, the quota and the store has the say; what requests do is in `kv`, `txn`,
//! `cluster`.

use std::sync::Arc;

use api::error::{self, Status};
use api::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction};
use api::version::{Line, MIN_CLUSTER_VERSION, Version};
use bytes::Bytes;
use mvcc::{Published, Store, View, schema};

use crate::alarms::Alarms;
use crate::auth::{Auth, AuthChange, Caller, Refusal};
use crate::effect::{Applied, Effect, Hold, Reply};
use crate::entry::{self, Committed, EntryKind, Request};
use crate::error::Error;
use crate::kv::{Room, Stop, Writer};
use crate::leases::{LEASE_TTL_MAX, Leases};
use crate::membership::Membership;
use crate::op::OpKind;
use crate::quota::{self, Quota};
use crate::read::range_options;
use crate::reply::Header;
use crate::{rows, txn};

/// What the machine is told at its start. All members of a cluster must agree on `min_ttl` and
/// `learners_max`, since both decide what an entry does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The release line that the member shows.
    pub line: Line,
    /// The cluster's id, in every header.
    pub cluster_id: u64,
    /// This member's id, in every header.
    pub member_id: u64,
    /// The quota of the data file.
    pub quota: Quota,
    /// The shortest time to live that a lease gets, in seconds.
    pub min_ttl: i64,
    /// Whether recorded remaining times are stored also below cluster version 3.6.
    pub checkpoint_persist: bool,
    /// How many learners the cluster may have.
    pub learners_max: usize,
    /// The cluster of the snapshot file, for a data file that has no members (written before 3.5,
    /// or cut off while it was made). Then the membership is built anew from here: also entries
    /// up to the consistent index change members, in memory and in the data file.
    pub seed: Option<Membership>,
}

/// What the machine publishes with each view, for reads that are not of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The cluster.
    pub membership: Arc<Membership>,
    /// The alarms.
    pub alarms: Arc<Alarms>,
    /// The revision of users and roles.
    pub auth_revision: u64,
    /// Whether authentication is on.
    pub auth_enabled: bool,
}

impl Shared {
    /// What was published with this view; `None` if no machine made it.
    pub fn of(view: &View) -> Option<&Shared> {
        view.extra.downcast_ref()
    }
}

/// The replicated state machine. See the crate's description.
pub struct Machine {
    pub(crate) store: Store,
    pub(crate) options: Options,
    pub(crate) leases: Leases,
    pub(crate) shared: Shared,
    pub(crate) auth: Auth,
    /// Whether members are built anew from entries that are applied already; see `Options::seed`.
    pub(crate) rebuilds_membership: bool,
    /// Whether `shared` is newer than what the store publishes.
    pub(crate) shared_changed: bool,
    /// The bytes of pairs that an answer may have.
    pub(crate) answer_bytes_max: usize,
}

/// The response to one request, or why it was refused; no response where nobody waits.
type Answer = Result<Option<Bytes>, Status>;

/// What one entry comes with while it is applied.
struct Turn {
    index: u64,
    header: Header,
    /// Whether somebody waits for the answer.
    waits: bool,
    effects: Vec<Effect>,
    hold: Hold,
}

impl Turn {
    /// The answer, made only if somebody waits.
    fn answer(&self, make: impl FnOnce(&Header) -> Bytes) -> Option<Bytes> {
        self.waits.then(|| make(&self.header))
    }

    /// The answer, unless it would be longer than one may be.
    fn answer_within(&self, room: Room, make: impl FnOnce(&Header) -> Bytes) -> Answer {
        match room.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(self.answer(make)),
        }
    }
}

impl Machine {
    /// Applies one entry. `waits` says whether somebody here waits for the request with an id; if
    /// not, no reply is built. Entries must come in order and none may be left out; those up to
    /// the consistent index are known already and change nothing but what is in memory.
    ///
    /// An error is fatal: the entry was not applied, and no later one may be.
    pub fn apply(&mut self, entry: &Committed, waits: impl FnOnce(u64) -> bool) -> Result<Applied, Error> {
        let is_replay = entry.index <= self.store.consistent().0;
        let applied = match entry.kind {
            EntryKind::ConfChangeV2 => return Err(Error::ConfChangeV2 { index: entry.index }),
            EntryKind::ConfChange => self.apply_conf_change(entry, is_replay, waits)?,
            EntryKind::Normal if entry.data.is_empty() => Applied {
                reply: None,
                effects: vec![Effect::TermStarted { term: entry.term }],
                ..Applied::default()
            },
            EntryKind::Normal => self.apply_normal(entry, is_replay, waits)?,
        };
        if !is_replay {
            self.store.set_consistent(entry.index, entry.term);
        }
        Ok(applied)
    }

    /// Makes everything applied so far visible to readers.
    pub fn publish(&mut self) -> Published {
        if self.shared_changed {
            self.shared_changed = false;
            self.store.set_extra(Arc::new(self.shared.clone()));
        }
        self.store.publish()
    }

    /// Refuses to answer with more bytes of pairs than this, instead of what gRPC carries: what is written does not
    /// depend on it.
    pub fn limit_answers(&mut self, bytes_max: usize) {
        self.answer_bytes_max = bytes_max;
    }

    /// The store, for commits, compaction steps and sizes.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The cluster as of the last entry.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.shared.membership
    }

    /// The alarms as of the last entry.
    pub fn alarms(&self) -> &Arc<Alarms> {
        &self.shared.alarms
    }

    /// The leases as of the last entry, with their keys.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What the machine was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether authentication is on.
    pub fn auth_enabled(&self) -> bool {
        self.auth.enabled
    }

    /// How often users and roles have changed.
    pub fn auth_revision(&self) -> u64 {
        self.auth.revision
    }

    pub(crate) fn header(&self, raft_term: u64) -> Header {
        Header {
            cluster_id: self.options.cluster_id,
            member_id: self.options.member_id,
            raft_term,
        }
    }

    fn apply_normal(
        &mut self,
        entry: &Committed,
        is_replay: bool,
        waits: impl FnOnce(u64) -> bool,
    ) -> Result<Applied, Error> {
        let decoded = entry::decode(entry.index, &entry.data)?;
        let mut turn = Turn {
            index: entry.index,
            header: self.header(entry.term),
            waits: !is_replay && waits(decoded.id),
            effects: Vec::new(),
            hold: Hold::No,
        };
        let op = OpKind::of(&decoded.request);
        let is_cluster = matches!(
            decoded.request,
            Request::ClusterVersionSet(_)
                | Request::ClusterMemberAttrSet(_)
                | Request::DowngradeInfoSet(_)
                | Request::DowngradeVersionTest(_)
        );
        let answer = match is_cluster {
            true => {
                turn.effects = self.apply_cluster(entry.index, decoded.request, is_replay)?;
                Ok(turn.answer(|_| Bytes::new()))
            }
            false if is_replay => return Ok(Applied::default()),
            false => self.apply_request(&mut turn, decoded.request, &decoded.caller)?,
        };
        // Every member asks for its own alarm, whoever waits for the answer.
        if answer.as_ref().is_err_and(|status| *status == error::NO_SPACE)
            && !self.shared.alarms.any(AlarmType::Nospace)
        {
            turn.effects.push(Effect::RaiseNoSpace);
            turn.hold = Hold::NoSpaceRaised;
        }
        let Turn {
            waits, effects, hold, ..
        } = turn;
        let refused = answer.as_ref().err().cloned();
        let reply = waits.then(|| Reply {
            id: decoded.id,
            result: answer.map(Option::unwrap_or_default),
            hold,
        });
        Ok(Applied {
            reply,
            effects,
            op: Some(op),
            refused,
        })
    }

    /// Applies a request of a client. In etcd's order: the role that changes of users need, the CORRUPT alarm, the
    /// NOSPACE alarm, permissions, the quota (which spoils the answer, not the write), the store.
    fn apply_request(
        &mut self,
        turn: &mut Turn,
        mut request: Request,
        caller: &Caller,
    ) -> Result<Answer, Error> {
        if let Request::Txn(txn) = &mut request
            && !turn.waits
            && self.strips_ranges()
        {
            txn::strip_ranges(txn);
        }
        if let Err(refused) = self.auth.check_admin(&request, caller) {
            return Ok(Err(refused));
        }
        if let Some(refused) = self.refused_by_alarm(&request) {
            return Ok(Err(refused));
        }
        let rules = self.version_of_rules();
        if let Err(refused) = self.auth.check_keys(&request, caller, &self.leases, rules) {
            return Ok(Err(refused));
        }
        let cost = match &request {
            Request::Put(put) => quota::put_cost(put),
            Request::Txn(txn) => quota::txn_cost(txn),
            Request::LeaseGrant(_) => quota::lease_cost(),
            _ => 0,
        };
        let fits = cost == 0 || self.options.quota.available(self.store.db().size(), cost);
        let answer = match request {
            Request::Put(put) => self.put(turn, &put),
            Request::Txn(txn) => self.txn(turn, txn),
            Request::Range(range) => self.range(turn, &range),
            Request::DeleteRange(delete) => self.delete_range(turn, &delete),
            Request::Compaction(compaction) => self.compact(turn, &compaction),
            Request::LeaseGrant(grant) => Ok(self.lease_grant(turn, &grant)),
            Request::LeaseRevoke(revoke) => Ok(self.lease_revoke(turn, revoke.id)),
            Request::LeaseCheckpoint(checkpoint) => Ok(self.lease_checkpoint(turn, &checkpoint)),
            Request::Alarm(alarm) => Ok(self.alarm(turn, &alarm)),
            Request::AuthStatus => Ok(Ok(self.auth_status(turn))),
            // It changes nothing, so no member is the worse for the refusal.
            Request::AuthRead(_) => Ok(Err(error::AUTH_NOT_ENABLED)),
            Request::Auth(change) => self.change_auth(turn, change),
            Request::ClusterVersionSet(_)
            | Request::ClusterMemberAttrSet(_)
            | Request::DowngradeInfoSet(_)
            | Request::DowngradeVersionTest(_) => Ok(Ok(None)),
        }?;
        Ok(answer.and_then(|bytes| if fits { Ok(bytes) } else { Err(error::NO_SPACE) }))
    }

    /// What a request is told while an alarm is on that it may not pass.
    fn refused_by_alarm(&self, request: &Request) -> Option<Status> {
        let alarms = &self.shared.alarms;
        let stopped_by_corrupt = matches!(
            request,
            Request::Put(_)
                | Request::Range(_)
                | Request::DeleteRange(_)
                | Request::Txn(_)
                | Request::Compaction(_)
                | Request::LeaseGrant(_)
                | Request::LeaseRevoke(_)
        );
        if stopped_by_corrupt && alarms.any(AlarmType::Corrupt) {
            return Some(error::CORRUPT);
        }
        let stopped_by_no_space = match request {
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(txn) => quota::txn_cost(txn) > 0,
            _ => false,
        };
        (stopped_by_no_space && alarms.any(AlarmType::Nospace)).then_some(error::NO_SPACE)
    }

    fn put(&mut self, turn: &Turn, put: &pb::PutRequest) -> Result<Answer, Error> {
        let mut writer = self.writer(turn.waits);
        match writer.put(put) {
            Ok(op) => {
                let (revision, room) = (writer.txn.revision(), writer.room);
                writer.txn.end();
                Ok(turn.answer_within(room, |header| op.response(&header.encode(revision))))
            }
            Err(stop) => refused(stop),
        }
    }

    fn delete_range(&mut self, turn: &Turn, delete: &pb::DeleteRangeRequest) -> Result<Answer, Error> {
        let mut writer = self.writer(turn.waits);
        match writer.delete_range(delete) {
            Ok(op) => {
                let (revision, room) = (writer.txn.revision(), writer.room);
                writer.txn.end();
                Ok(turn.answer_within(room, |header| op.response(&header.encode(revision))))
            }
            Err(stop) => refused(stop),
        }
    }

    /// Nobody logs ranges any more, but a log may have one: it is answered and changes nothing.
    fn range(&mut self, turn: &Turn, range: &pb::RangeRequest) -> Result<Answer, Error> {
        if !turn.waits {
            return Ok(Ok(None));
        }
        let options = range_options(range, self.options.line);
        match self.store.reader().range(&options, mvcc::Wait::Yes) {
            Ok(result) => {
                let mut room = Room::new(self.answer_bytes_max);
                room.take(&result.kvs);
                Ok(turn.answer_within(room, |header| header.range_response(result)))
            }
            Err(error) => refused(error.into()),
        }
    }

    fn txn(&mut self, turn: &Turn, request: pb::TxnRequest) -> Result<Answer, Error> {
        let reader = self.store.reader();
        let path = txn::Path::decide(&reader, &request, mvcc::Wait::Yes)?;
        let compares = request.compare.len() as u64;
        if let Err(stop) = txn::check(&reader, &self.leases, &request, &path) {
            return refused(stop);
        }
        self.store.count_reads(compares);
        let mut writer = self.writer(turn.waits);
        match txn::execute(&mut writer, &request, &path) {
            Ok(op) => {
                let (revision, room) = (writer.txn.revision(), writer.room);
                writer.txn.end();
                Ok(turn.answer_within(room, |header| op.response(&header.encode(revision))))
            }
            Err(Stop::Refused(status)) => Err(Error::PartialTxn {
                index: turn.index,
                status,
            }),
            Err(Stop::Failed(error)) => Err(error.into()),
        }
    }

    /// Whether a txn that nobody here waits for loses its ranges before its checks, that of permissions too: so do all
    /// members up to 3.6 (etcd: v3.6 server/etcdserver/server.go, removeNeedlessRangeReqs), and a member that did not
    /// would differ from them where a check fails.
    fn strips_ranges(&self) -> bool {
        self.version_of_rules() < Version::new(3, 7, 0)
    }

    /// The version by whose rules all members decide where releases differ.
    fn version_of_rules(&self) -> Version {
        // The lowest of all stands for a cluster whose members have not been asked yet.
        let version = self.shared.membership.version;
        let decided = version.filter(|version| *version > MIN_CLUSTER_VERSION);
        decided.unwrap_or(self.options.line.version())
    }

    fn writer(&mut self, answered: bool) -> Writer<'_> {
        Writer {
            txn: self.store.begin(),
            leases: &mut self.leases,
            line: self.options.line,
            answered,
            room: Room::new(self.answer_bytes_max),
        }
    }

    fn compact(&mut self, turn: &mut Turn, request: &pb::CompactionRequest) -> Result<Answer, Error> {
        if let Err(error) = self.store.schedule_compaction(request.revision) {
            return refused(error.into());
        }
        let revision = request.revision;
        turn.effects.push(Effect::CompactionScheduled { revision });
        if request.physical {
            turn.hold = Hold::Compacted(revision);
        }
        let now = self.store.revision();
        Ok(Ok(turn.answer(|header| header.response(now))))
    }

    fn lease_grant(&mut self, turn: &mut Turn, grant: &pb::LeaseGrantRequest) -> Answer {
        if grant.id == 0 {
            return Err(error::LEASE_NOT_FOUND);
        }
        if grant.ttl > LEASE_TTL_MAX {
            return Err(error::LEASE_TTL_TOO_LARGE);
        }
        if self.leases.contains(grant.id) {
            return Err(error::LEASE_EXIST);
        }
        let (id, ttl) = (grant.id, grant.ttl.max(self.options.min_ttl));
        self.leases.insert(id, ttl, 0);
        rows::put_lease(self.store.backend(), id, ttl, 0);
        turn.effects.push(Effect::LeaseGranted { id, ttl });
        let revision = self.store.revision();
        Ok(turn.answer(|header| header.lease_grant_response(revision, id, ttl)))
    }

    /// Revokes a lease: its keys go in one revision, in bytewise order, and its row in the same
    /// commit.
    fn lease_revoke(&mut self, turn: &mut Turn, id: i64) -> Answer {
        let Some(lease) = self.leases.remove(id) else {
            return Err(error::LEASE_NOT_FOUND);
        };
        let mut txn = self.store.begin();
        for key in &lease.keys {
            txn.delete_range(key, &[]);
        }
        txn.end();
        schema::delete_lease(self.store.backend(), id);
        turn.effects.push(Effect::LeaseRevoked { id });
        let revision = self.store.revision();
        Ok(turn.answer(|header| header.response(revision)))
    }

    fn lease_checkpoint(&mut self, turn: &mut Turn, request: &pb::LeaseCheckpointRequest) -> Answer {
        let version = self.shared.membership.version;
        let stored = self.options.checkpoint_persist || version >= Some(Version::new(3, 6, 0));
        for checkpoint in &request.checkpoints {
            let (id, remaining) = (checkpoint.id, checkpoint.remaining_ttl);
            let Some(lease) = self.leases.set_remaining(id, remaining) else {
                continue;
            };
            if stored {
                rows::put_lease(self.store.backend(), id, lease.ttl, remaining);
            }
            turn.effects.push(Effect::LeaseCheckpointed { id, remaining });
        }
        let revision = self.store.revision();
        Ok(turn.answer(|header| header.response(revision)))
    }

    fn alarm(&mut self, turn: &mut Turn, request: &pb::AlarmRequest) -> Answer {
        let asked = pb::AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let mut listed = Vec::new();
        let alarms = Arc::make_mut(&mut self.shared.alarms);
        let changed = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                listed.extend(alarms.list(request.alarm));
                false
            }
            Ok(AlarmAction::Activate) if asked.alarm != AlarmType::None as i32 => {
                let is_new = alarms.activate(&asked);
                if is_new {
                    schema::put_alarm(self.store.backend(), rows::alarm_row(&asked));
                }
                listed.push(asked);
                is_new
            }
            Ok(AlarmAction::Deactivate) if alarms.deactivate(&asked) => {
                schema::delete_alarm(self.store.backend(), rows::alarm_row(&asked));
                listed.push(asked);
                true
            }
            _ => false,
        };
        if changed {
            self.shared_changed = true;
            turn.effects.push(Effect::AlarmsChanged);
        }
        let revision = self.store.revision();
        Ok(turn.answer(|header| header.alarm_response(revision, &listed)))
    }

    fn change_auth(&mut self, turn: &mut Turn, change: AuthChange) -> Result<Answer, Error> {
        let what = change.name();
        match self.auth.change(change, self.store.backend()) {
            Ok(()) => {}
            Err(Refusal::Client(status)) => return Ok(Err(status)),
            Err(Refusal::PlainPassword) => {
                return Err(Error::PlainPassword {
                    index: turn.index,
                    what,
                });
            }
        }
        self.shared.auth_revision = self.auth.revision;
        self.shared.auth_enabled = self.auth.enabled;
        self.shared_changed = true;
        turn.effects.push(Effect::AuthChanged);
        let revision = self.store.revision();
        Ok(Ok(turn.answer(|header| header.response(revision))))
    }

    fn auth_status(&mut self, turn: &Turn) -> Option<Bytes> {
        let (enabled, auth_revision) = (self.auth.enabled, self.auth.revision);
        let revision = self.store.revision();
        turn.answer(|header| header.auth_status_response(revision, enabled, auth_revision))
    }
}

/// Tells the client what it did wrong, or stops the member if it did nothing wrong.
fn refused(stop: Stop) -> Result<Answer, Error> {
    match stop {
        Stop::Refused(status) => Ok(Err(status)),
        Stop::Failed(error) => Err(error.into()),
    }
}
