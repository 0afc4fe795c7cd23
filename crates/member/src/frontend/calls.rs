//! Unary calls: checks in etcd's order, then a read, a proposal, or a question to a stage.

use api::clock::Instant;
use api::error::{self, Code, Status};
use api::etcdserverpb::{
    AlarmRequest, AlarmType, AuthStatusRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesResponse,
    LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MemberListRequest, MoveLeaderRequest,
    PutRequest, RangeRequest, TxnRequest,
};
use api::etcdserverpb::{CompactionRequest, alarm_request::AlarmAction};
use api::etcdserverpb::{DeleteRangeRequest, DowngradeRequest, LeaseRevokeRequest};
use bytes::Bytes;
use mvcc::View;
use prost::Message;

use super::reads::Read;
use super::{
    AskApply, AskDecide, Asker, Context, Frontend, LeaseInfo, Method, Outcome, Shape, Token, Wants, encode,
    validate,
};

/// Proposals are refused while the log is committed this far ahead of what is applied
/// (etcd: v3_server.go maxGapBetweenApplyAndCommitIndex).
const APPLY_LAG_MAX: u64 = 5_000;

/// What every client is told while authentication is on. Those that know other members go there by themselves.
pub(super) const AUTH_NOT_ENFORCED: Status = Status::new(
    Code::Unavailable,
    "etcdserver: authentication is enabled, which this release does not enforce yet: ask a member that runs etcd",
);

/// Field numbers in an `InternalRaftRequest`.
mod field {
    pub(super) const PUT: u32 = 4;
    pub(super) const DELETE_RANGE: u32 = 5;
    pub(super) const TXN: u32 = 6;
    pub(super) const COMPACTION: u32 = 7;
    pub(super) const LEASE_GRANT: u32 = 8;
    pub(super) const LEASE_REVOKE: u32 = 9;
    pub(super) const ALARM: u32 = 10;
    pub(super) const AUTH_STATUS: u32 = 1013;
}

/// A request that cannot be decoded, in the words of grpc-go.
pub(super) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        let text = error.to_string();
        // Only txns nest so deep, and what nests deeper than the decoder goes has too many operations.
        if text.contains("recursion limit") {
            return error::TOO_MANY_OPS;
        }
        undecodable(&text, "grpc: error unmarshalling request")
    })
}

/// What Go's protobuf says of such bytes, behind what grpc-go says of it.
pub(super) fn undecodable(error: &str, what: &str) -> Status {
    let reason = match error.contains("UTF-8") {
        true => "string field contains invalid UTF-8",
        false => "proto: cannot parse invalid wire-format data",
    };
    Status::with(Code::Internal, format!("{what}: {reason}"))
}

pub(super) type Answer = Result<Outcome, Status>;

fn done(message: &impl Message) -> Answer {
    Ok(Outcome::Done(Ok(message.encode_to_vec().into())))
}

impl Frontend {
    /// A unary call: `message` is the encoded request. The token must not be in use.
    pub fn call(
        &mut self,
        token: Token,
        method: Method,
        message: Bytes,
        context: Context,
        now: Instant,
    ) -> Outcome {
        self.may_catch_up = true;
        let answer = self
            .check_context(method, &message, &context)
            .and_then(|()| self.dispatch(token, method, message, &context, now));
        answer.unwrap_or_else(|status| Outcome::Done(Err(status)))
    }

    /// What holds for all methods (etcd: v3rpc/interceptor.go).
    fn check_context(&self, method: Method, message: &Bytes, context: &Context) -> Result<(), Status> {
        if self.shared.pulse.is_learner() && !context.of_member && !serves_as_learner(method, message) {
            return Err(error::NOT_SUPPORTED_FOR_LEARNER);
        }
        self.check_auth()?;
        self.check_leader_required(context)
    }

    /// Nobody can be let in while authentication is on.
    pub(super) fn check_auth(&self) -> Result<(), Status> {
        match self.shared.pulse.auth_is_on() {
            true => Err(AUTH_NOT_ENFORCED),
            false => Ok(()),
        }
    }

    /// As `check_auth`, of a view: it may be newer than what was asked when its reader came.
    pub(super) fn check_view(view: &View) -> Result<(), Status> {
        match state::Shared::of(view).is_some_and(|shared| shared.auth_enabled) {
            true => Err(AUTH_NOT_ENFORCED),
            false => Ok(()),
        }
    }

    pub(super) fn check_leader_required(&self, context: &Context) -> Result<(), Status> {
        if context.require_leader && self.shared.pulse.leader() == 0 {
            return Err(error::NO_LEADER);
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        token: Token,
        method: Method,
        raw: Bytes,
        context: &Context,
        now: Instant,
    ) -> Answer {
        match method {
            Method::Range => self.range(token, raw, context, now),
            Method::Put => self.put(token, raw, context, now),
            Method::DeleteRange => {
                let request: DeleteRangeRequest = decode(raw)?;
                validate::check_delete(&request)?;
                self.propose(token, field::DELETE_RANGE, &request, context, now)
            }
            Method::Txn => self.txn(token, raw, context, now),
            Method::Compact => self.compact(token, raw, context, now),
            Method::LeaseGrant => self.lease_grant(token, raw, context, now),
            Method::LeaseRevoke => {
                let request: LeaseRevokeRequest = decode(raw)?;
                self.propose(token, field::LEASE_REVOKE, &request, context, now)
            }
            Method::LeaseTimeToLive => self.lease_time_to_live(token, raw, context, now),
            Method::LeaseLeases => {
                let deadline = self.consensus_deadline(context, now);
                let id = self.wait(token, Wants::Leases, now, deadline);
                self.to_apply.push(AskApply::Leases { id });
                Ok(Outcome::Pending)
            }
            Method::MemberList => match decode::<MemberListRequest>(raw)?.linearizable {
                true => Ok(self.read_linearizable(token, Read::Members, context, now)),
                false => Ok(Outcome::Done(Ok(self.members()))),
            },
            Method::MemberAdd => self.member_add(token, raw, context, now),
            Method::MemberRemove => self.member_remove(token, raw, context, now),
            Method::MemberUpdate => self.member_update(token, raw, context, now),
            Method::MemberPromote => self.member_promote(token, raw, context, now),
            Method::Alarm => {
                let request: AlarmRequest = decode(raw)?;
                self.propose(token, field::ALARM, &request, context, now)
            }
            Method::Status => done(&self.status()),
            Method::Defragment => {
                let id = self.wait(token, Wants::Done, now, Frontend::client_deadline(context));
                self.to_apply.push(AskApply::Defragment { id });
                Ok(Outcome::Pending)
            }
            Method::Hash => {
                let id = self.wait(
                    token,
                    Wants::PinnedForHash,
                    now,
                    Frontend::client_deadline(context),
                );
                self.to_apply.push(AskApply::Pin { id });
                Ok(Outcome::Pending)
            }
            Method::HashKv => {
                let request: HashKvRequest = decode(raw)?;
                self.hash_kv(token, request.revision, Asker::Client, context, now)
            }
            Method::MoveLeader => {
                self.move_leader(token, decode::<MoveLeaderRequest>(raw)?.target_id, context, now)
            }
            Method::Downgrade => self.downgrade(token, decode::<DowngradeRequest>(raw)?, context, now),
            Method::AuthStatus => {
                let request: AuthStatusRequest = decode(raw)?;
                self.propose(token, field::AUTH_STATUS, &request, context, now)
            }
            Method::Authenticate => Ok(self.read_linearizable(token, Read::Authenticate, context, now)),
            _ if method.shape() != Shape::Unary => {
                Err(Status::new(Code::Internal, "mainstay: not a unary method"))
            }
            _ => Err(not_there_yet(method)),
        }
    }

    fn range(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let request: RangeRequest = decode(raw)?;
        validate::check_range(&request)?;
        let serializable = request.serializable;
        let read = Read::Range(Box::new(request));
        Ok(match serializable {
            true => self.read_now(token, read, context, now),
            false => self.read_linearizable(token, read, context, now),
        })
    }

    fn put(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let request: PutRequest = decode(raw)?;
        if !self.has_space(state::put_cost(&request)) {
            return self.raise_no_space(token, context, now);
        }
        validate::check_put(&request)?;
        self.propose(token, field::PUT, &request, context, now)
    }

    fn txn(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let request: TxnRequest = decode(raw)?;
        if !self.has_space(state::txn_cost(&request)) {
            return self.raise_no_space(token, context, now);
        }
        validate::check_txn(&request, self.config.txn_ops_max)?;
        if !validate::is_read_only(&request) {
            return self.propose(token, field::TXN, &request, context, now);
        }
        let serializable = validate::is_serializable(&request);
        let read = Read::Txn(Box::new(request));
        Ok(match serializable {
            true => self.read_now(token, read, context, now),
            false => self.read_linearizable(token, read, context, now),
        })
    }

    fn compact(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let request: CompactionRequest = decode(raw)?;
        let deadline = self.consensus_deadline(context, now);
        let what = match request.physical {
            true => Wants::Compacted {
                given_up: Frontend::client_deadline(context),
            },
            false => Wants::Done,
        };
        self.propose_for(token, field::COMPACTION, &request, what, now, deadline)
    }

    /// Consensus has done its part of a physical compaction. It is answered when the last batch is committed, which
    /// takes what it takes (etcd: v3_server.go Compact).
    pub(super) fn compacting(&mut self, id: u64) {
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        let Wants::Compacted { given_up } = &mut waiting.what else {
            return;
        };
        let given_up = given_up.take();
        let was_proposed = std::mem::take(&mut waiting.proposed);
        let before = std::mem::replace(&mut waiting.deadline, given_up.clone());
        if let Some((at, _)) = before {
            self.deadlines.remove(&(at, id));
        }
        if let Some((at, _)) = given_up {
            self.deadlines.insert((at, id));
        }
        if was_proposed {
            self.tallies().proposals_pending.sub(1);
        }
    }

    fn lease_grant(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let mut request: LeaseGrantRequest = decode(raw)?;
        if !self.has_space(state::lease_cost()) {
            return self.raise_no_space(token, context, now);
        }
        while request.id == 0 {
            request.id = (self.ids.next_id() & i64::MAX as u64) as i64;
        }
        self.propose(token, field::LEASE_GRANT, &request, context, now)
    }

    fn lease_time_to_live(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let request: LeaseTimeToLiveRequest = decode(raw)?;
        let lease = request.id;
        let deadline = self.consensus_deadline(context, now);
        let id = self.wait(token, Wants::Lease { lease }, now, deadline);
        self.to_apply.push(AskApply::TimeToLive {
            id,
            lease,
            keys: request.keys,
            of: Asker::Client,
        });
        Ok(Outcome::Pending)
    }

    pub(super) fn lease_known(&mut self, id: u64, result: Result<Option<LeaseInfo>, Status>) {
        let lease = match self.waiting.get(&id).map(|waiting| &waiting.what) {
            Some(Wants::Lease { lease }) => *lease,
            Some(Wants::LeaseForPeer { lease }) => return self.lease_known_for_peer(id, *lease, result),
            _ => return,
        };
        let header = self.header().with_revision(self.views.peek().revision);
        let result = result.map(|info| {
            let mut response = LeaseTimeToLiveResponse {
                header: Some(header.to_message()),
                id: lease,
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            };
            if let Some(info) = info {
                response.ttl = info.remaining_seconds;
                response.granted_ttl = info.granted_seconds;
                response.keys = info.keys;
            }
            response.encode_to_vec().into()
        });
        self.finish(id, result);
    }

    pub(super) fn leases_known(&mut self, id: u64, leases: &[i64]) {
        let header = self.header().with_revision(self.views.peek().revision);
        let response = LeaseLeasesResponse {
            header: Some(header.to_message()),
            leases: leases.iter().map(|id| LeaseStatus { id: *id }).collect(),
        };
        self.finish(id, Ok(response.encode_to_vec().into()));
    }

    fn has_space(&self, cost: u64) -> bool {
        self.quota.available(self.views.peek().db.size(), cost)
    }

    /// Says in the log that this member has no space left, each time a request is refused for
    /// it, and refuses (etcd: v3rpc/quota.go).
    fn raise_no_space(&mut self, token: Token, context: &Context, now: Instant) -> Answer {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.config.member_id,
            alarm: AlarmType::Nospace as i32,
        };
        let deadline = self.consensus_deadline(context, now);
        self.propose_for(token, field::ALARM, &alarm, Wants::NoSpaceAlarm, now, deadline)
            .map_err(|_| error::NO_SPACE)
    }

    fn propose(
        &mut self,
        token: Token,
        field: u32,
        request: &impl Message,
        context: &Context,
        now: Instant,
    ) -> Answer {
        let deadline = self.consensus_deadline(context, now);
        self.propose_for(token, field, request, Wants::Done, now, deadline)
    }

    fn propose_for(
        &mut self,
        token: Token,
        field: u32,
        request: &impl Message,
        what: Wants,
        now: Instant,
        deadline: Option<(Instant, Status)>,
    ) -> Answer {
        let id = self.ids.next_id();
        let data = self.proposal(field, request, id)?;
        self.wait_as(id, token, what, now, deadline);
        self.note_proposed(id);
        self.to_decide.push(AskDecide::Propose { id, data });
        Ok(Outcome::Pending)
    }

    /// An encoded entry, if there is room for it in the log and it is not too large
    /// (etcd: v3_server.go processInternalRaftRequestOnce).
    pub(super) fn proposal(&self, field: u32, request: &impl Message, id: u64) -> Result<Bytes, Status> {
        if self.stopped || self.shared.pulse.is_stopped() {
            return Err(error::STOPPED);
        }
        if self.shared.pulse.committed() > self.shared.applied() + APPLY_LAG_MAX {
            return Err(error::REQUEST_TOO_MANY_REQUESTS);
        }
        let data = encode::internal_request(field, request, id);
        if data.len() > self.config.request_bytes_max {
            return Err(error::REQUEST_TOO_LARGE);
        }
        Ok(data)
    }
}

/// What a learner answers: its own state, and nothing that needs consensus.
fn serves_as_learner(method: Method, message: &Bytes) -> bool {
    match method {
        Method::Status => true,
        Method::Range => RangeRequest::decode(message.clone()).is_ok_and(|request| request.serializable),
        _ => false,
    }
}

/// The refusal of a method of which nothing is there yet.
fn not_there_yet(method: Method) -> Status {
    Status::with(
        Code::Unimplemented,
        format!("mainstay: {} is not supported yet", method.path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A txn within a txn, `depth` levels, as bytes: encoding it from values would recurse as deep.
    fn nested(depth: usize) -> Bytes {
        let mut inner = Vec::new();
        for _ in 0..depth {
            for tag in [0x22, 0x12] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend_from_slice(&inner);
                inner = outer;
            }
        }
        inner.into()
    }

    #[test]
    fn what_nests_too_deep_has_too_many_operations() {
        assert!(decode::<TxnRequest>(nested(40)).is_ok());
        for depth in [60, 200, 10_000] {
            assert_eq!(
                decode::<TxnRequest>(nested(depth)),
                Err(error::TOO_MANY_OPS),
                "{depth}"
            );
        }
        let broken = decode::<TxnRequest>(Bytes::from_static(b"\xff"));
        assert_eq!(broken.map_err(|status| status.code), Err(Code::Internal));
    }
}
