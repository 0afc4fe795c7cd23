//! Entries of the log and what they ask for. Decodes; never applies.

use api::{etcdserverpb as pb, membershippb};
use bytes::Bytes;
use prost::Message;

use crate::auth::{AuthChange, Caller};
use crate::error::Error;
use crate::lenient;
use crate::request::{Header, InternalRequest};
use crate::v2_request;
use crate::wire::{Fields, Payload};

/// A committed entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// What the data is.
    pub kind: EntryKind,
    /// The data; empty for the first entry of a term.
    pub data: Bytes,
}

/// What an entry's data is (raftpb.EntryType).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An InternalRaftRequest, or a v2 Request of a 3.5 member.
    Normal,
    /// A ConfChange.
    ConfChange,
    /// A ConfChangeV2, which no etcd writes.
    ConfChangeV2,
}

/// The id by which the proposer waits for an entry: what [`crate::Machine::apply`] asks about.
/// `None` if the data carries no id, which `apply` refuses.
pub fn request_id(data: &Bytes) -> Option<u64> {
    request_id_fast(data).or_else(|| id_of(&lenient::decode(data).ok()?))
}

fn request_id_fast(data: &Bytes) -> Option<u64> {
    let mut header = None;
    for field in Fields::of(data.clone()) {
        match field.ok()? {
            (1, Payload::Varint(id)) if id != 0 => return Some(id),
            (100, Payload::Bytes(bytes)) => header = Header::decode(bytes).ok(),
            _ => {}
        }
    }
    header.map(|header| header.id)
}

/// A decoded normal entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) id: u64,
    pub(crate) caller: Caller,
    pub(crate) request: Request,
}

/// What a normal entry asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compaction(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    AuthStatus,
    /// Reads users or roles, or tries a password: changes nothing.
    AuthRead(&'static str),
    Auth(AuthChange),
    ClusterVersionSet(membershippb::ClusterVersionSetRequest),
    ClusterMemberAttrSet(membershippb::ClusterMemberAttrSetRequest),
    DowngradeInfoSet(membershippb::DowngradeInfoSetRequest),
    DowngradeVersionTest(pb::DowngradeVersionTestRequest),
}

/// Decodes the data of a normal entry that is not empty.
pub(crate) fn decode(index: u64, data: &Bytes) -> Result<Decoded, Error> {
    if let Some(legacy) = v2_request::find(data) {
        return v2_request::convert(index, legacy);
    }
    match decode_fast(index, data) {
        Err(Error::Undecodable { reason, .. }) => match lenient::decode(data) {
            Ok(whole) => choose(index, whole),
            Err(_) => Err(Error::Undecodable { index, reason }),
        },
        decoded => decoded,
    }
}

fn decode_fast(index: u64, data: &Bytes) -> Result<Decoded, Error> {
    let undecodable = |reason: String| Error::Undecodable { index, reason };
    let mut id = 0;
    let mut header = None;
    let mut found: Option<(u32, Bytes)> = None;
    let mut unknown = 0;
    for field in Fields::of(data.clone()) {
        match field.map_err(undecodable)? {
            (1, Payload::Varint(number)) => id = number,
            (100, Payload::Bytes(bytes)) if header.is_none() => {
                let decoded = Header::decode(bytes);
                header = Some(decoded.map_err(|error| undecodable(error.to_string()))?);
            }
            (number, Payload::Bytes(_)) if is_request(number) && found.is_some() => {
                // Several requests, or one in pieces: nothing writes that, but protobuf has a rule.
                return decode_whole(index, data);
            }
            (number, Payload::Bytes(bytes)) if is_request(number) => found = Some((number, bytes)),
            // Rare, in pieces, or of the wrong kind: the general rule decides.
            (number, _) if number == 1 || number == 100 || is_request(number) || is_auth_request(number) => {
                return decode_whole(index, data);
            }
            (number, _) => unknown = number,
        }
    }
    let Some((number, bytes)) = found else {
        return Err(Error::UnknownRequest {
            index,
            field: unknown,
        });
    };
    if id == 0 {
        id = header.as_ref().ok_or(Error::NoHeader { index })?.id;
    }
    let caller = caller_of(header);
    let request = decode_request(number, bytes).map_err(|error| undecodable(error.to_string()))?;
    Ok(Decoded { id, caller, request })
}

fn id_of(whole: &InternalRequest) -> Option<u64> {
    match whole.id {
        0 => whole.header.as_ref().map(|header| header.id),
        id => Some(id),
    }
}

fn caller_of(header: Option<Header>) -> Caller {
    header.map_or_else(Caller::default, |header| Caller {
        user: header.username,
        revision: header.auth_revision,
    })
}

/// The requests that are decoded by themselves, without the many fields around them.
fn is_request(number: u32) -> bool {
    matches!(number, 3..=11 | 1300..=1302 | 9900)
}

fn is_auth_request(number: u32) -> bool {
    matches!(number, 1000 | 1011..=1013 | 1100..=1107 | 1200..=1204)
}

fn decode_request(number: u32, data: Bytes) -> Result<Request, prost::DecodeError> {
    Ok(match number {
        3 => Request::Range(Message::decode(data)?),
        4 => Request::Put(Message::decode(data)?),
        5 => Request::DeleteRange(Message::decode(data)?),
        6 => Request::Txn(Message::decode(data)?),
        7 => Request::Compaction(Message::decode(data)?),
        8 => Request::LeaseGrant(Message::decode(data)?),
        9 => Request::LeaseRevoke(Message::decode(data)?),
        10 => Request::Alarm(Message::decode(data)?),
        11 => Request::LeaseCheckpoint(Message::decode(data)?),
        1300 => Request::ClusterVersionSet(Message::decode(data)?),
        1301 => Request::ClusterMemberAttrSet(Message::decode(data)?),
        1302 => Request::DowngradeInfoSet(Message::decode(data)?),
        _ => Request::DowngradeVersionTest(Message::decode(data)?),
    })
}

/// Decodes by protobuf's general rule.
fn decode_whole(index: u64, data: &Bytes) -> Result<Decoded, Error> {
    let whole = InternalRequest::decode(data.clone()).map_err(|error| Error::Undecodable {
        index,
        reason: error.to_string(),
    })?;
    choose(index, whole)
}

/// Picks the request in the order in which etcd looks for it (etcd: apply/uber_applier.go, dispatch).
fn choose(index: u64, whole: InternalRequest) -> Result<Decoded, Error> {
    let id = id_of(&whole).ok_or(Error::NoHeader { index })?;
    let caller = caller_of(whole.header.clone());
    let request = pick(whole).ok_or(Error::UnknownRequest { index, field: 0 })?;
    Ok(Decoded { id, caller, request })
}

fn pick(whole: InternalRequest) -> Option<Request> {
    let cluster = whole.cluster_version_set.map(Request::ClusterVersionSet);
    let cluster = cluster.or(whole.cluster_member_attr_set.map(Request::ClusterMemberAttrSet));
    let cluster = cluster.or(whole.downgrade_info_set.map(Request::DowngradeInfoSet));
    let cluster = cluster.or(whole.downgrade_version_test.map(Request::DowngradeVersionTest));
    let kv = cluster.or(whole.range.map(Request::Range));
    let kv = kv.or(whole.put.map(Request::Put));
    let kv = kv.or(whole.delete_range.map(Request::DeleteRange));
    let kv = kv.or(whole.txn.map(Request::Txn));
    let kv = kv.or(whole.compaction.map(Request::Compaction));
    let lease = kv.or(whole.lease_grant.map(Request::LeaseGrant));
    let lease = lease.or(whole.lease_revoke.map(Request::LeaseRevoke));
    let lease = lease.or(whole.lease_checkpoint.map(Request::LeaseCheckpoint));
    let request = lease.or(whole.alarm.map(Request::Alarm));
    let read = |is_there: bool, name| is_there.then_some(Request::AuthRead(name));
    let change = |change: Option<AuthChange>| change.map(Request::Auth);
    let request = request.or(read(whole.authenticate.is_some(), "Authenticate"));
    let request = request.or(change(whole.auth_enable.map(|_| AuthChange::Enable)));
    let request = request.or(change(whole.auth_disable.map(|_| AuthChange::Disable)));
    let request = request.or(whole.auth_status.map(|_| Request::AuthStatus));
    let request = request.or(change(whole.auth_user_add.map(AuthChange::UserAdd)));
    let request = request.or(change(whole.auth_user_delete.map(AuthChange::UserDelete)));
    let password = whole.auth_user_change_password;
    let request = request.or(change(password.map(AuthChange::UserChangePassword)));
    let request = request.or(change(whole.auth_user_grant_role.map(AuthChange::UserGrantRole)));
    let request = request.or(read(whole.auth_user_get.is_some(), "UserGet"));
    let request = request.or(change(
        whole.auth_user_revoke_role.map(AuthChange::UserRevokeRole),
    ));
    let request = request.or(change(whole.auth_role_add.map(AuthChange::RoleAdd)));
    let permission = whole.auth_role_grant_permission;
    let request = request.or(change(permission.map(AuthChange::RoleGrantPermission)));
    let request = request.or(read(whole.auth_role_get.is_some(), "RoleGet"));
    let permission = whole.auth_role_revoke_permission;
    let request = request.or(change(permission.map(AuthChange::RoleRevokePermission)));
    let request = request.or(change(whole.auth_role_delete.map(AuthChange::RoleDelete)));
    let request = request.or(read(whole.auth_user_list.is_some(), "UserList"));
    request.or(read(whole.auth_role_list.is_some(), "RoleList"))
}
