//! The rows that the machine keeps beside the keys, as etcd writes them (etcd: storage/schema).
//! One place knows bucket, key and value of each.

use api::version::Version;
use api::{etcdserverpb as pb, leasepb, raftpb};
use bytes::Bytes;
use mvcc::{Backend, schema};
use prost::Message;

use crate::alarms::Alarms;
use crate::error::Error;
use crate::leases::Leases;
use crate::membership::{Downgrade, Member, Membership};

const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";
const CONF_STATE: &[u8] = b"confState";
const AUTH_ENABLED: &[u8] = b"authEnabled";
const AUTH_REVISION: &[u8] = b"authRevision";
const REMOVED: &[u8] = b"removed";

pub(crate) fn put_lease(backend: &mut Backend, id: i64, ttl: i64, remaining: i64) {
    let lease = leasepb::Lease {
        id,
        ttl,
        remaining_ttl: remaining,
    };
    backend.put(schema::LEASE, &id.to_be_bytes(), &lease.encode_to_vec());
}

pub(crate) fn delete_lease(backend: &mut Backend, id: i64) {
    backend.delete(schema::LEASE, &id.to_be_bytes());
}

/// Reads all leases, without their keys. A time to live below the minimum is raised in memory.
pub(crate) fn read_leases(backend: &Backend, min_ttl: i64) -> Result<Leases, Error> {
    let mut leases = Leases::default();
    for (key, value) in backend.scan(schema::LEASE)? {
        let lease = leasepb::Lease::decode(value);
        let lease = lease.map_err(|error| damaged(schema::LEASE, &key, error.to_string()))?;
        leases.insert(lease.id, lease.ttl.max(min_ttl), lease.remaining_ttl);
    }
    Ok(leases)
}

pub(crate) fn put_alarm(backend: &mut Backend, alarm: &pb::AlarmMember) {
    backend.put(schema::ALARM, &Alarms::row_key(alarm), &[]);
}

pub(crate) fn delete_alarm(backend: &mut Backend, alarm: &pb::AlarmMember) {
    backend.delete(schema::ALARM, &Alarms::row_key(alarm));
}

pub(crate) fn read_alarms(backend: &Backend) -> Result<Alarms, Error> {
    let mut alarms = Alarms::default();
    for (key, _) in backend.scan(schema::ALARM)? {
        let alarm = pb::AlarmMember::decode(key.clone());
        let alarm = alarm.map_err(|error| damaged(schema::ALARM, &key, error.to_string()))?;
        alarms.activate(&alarm);
    }
    Ok(alarms)
}

fn member_key(id: u64) -> String {
    format!("{id:x}")
}

pub(crate) fn put_member(backend: &mut Backend, member: &Member) {
    backend.put(
        schema::MEMBERS,
        member_key(member.id).as_bytes(),
        member.to_json().as_bytes(),
    );
}

pub(crate) fn remove_member(backend: &mut Backend, id: u64) {
    backend.delete(schema::MEMBERS, member_key(id).as_bytes());
    put_removed(backend, id);
}

pub(crate) fn put_removed(backend: &mut Backend, id: u64) {
    backend.put(schema::MEMBERS_REMOVED, member_key(id).as_bytes(), REMOVED);
}

pub(crate) fn put_cluster_version(backend: &mut Backend, version: Version) {
    backend.put(schema::CLUSTER, CLUSTER_VERSION, version.to_string().as_bytes());
}

pub(crate) fn put_downgrade(backend: &mut Backend, downgrade: &Downgrade) {
    backend.put(schema::CLUSTER, DOWNGRADE, downgrade.to_json().as_bytes());
}

/// Reads the cluster from the data file.
pub(crate) fn read_membership(backend: &Backend) -> Result<Membership, Error> {
    let mut membership = Membership::default();
    for (key, value) in backend.scan(schema::MEMBERS)? {
        let id = parse_member_key(schema::MEMBERS, &key)?;
        let member = Member::from_json(&value);
        let member = member.map_err(|reason| damaged(schema::MEMBERS, &key, reason))?;
        membership.members.insert(id, Member { id, ..member });
    }
    for (key, _) in backend.scan(schema::MEMBERS_REMOVED)? {
        membership
            .removed
            .insert(parse_member_key(schema::MEMBERS_REMOVED, &key)?);
    }
    if let Some(value) = backend.get(schema::CLUSTER, CLUSTER_VERSION)? {
        let parsed = std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.parse().ok());
        let parsed =
            parsed.ok_or_else(|| damaged(schema::CLUSTER, CLUSTER_VERSION, "not a version".to_string()));
        membership.version = Some(parsed?);
    }
    if let Some(value) = backend.get(schema::CLUSTER, DOWNGRADE)? {
        let parsed = Downgrade::from_json(&value);
        membership.downgrade = parsed.map_err(|reason| damaged(schema::CLUSTER, DOWNGRADE, reason))?;
    }
    Ok(membership)
}

fn parse_member_key(bucket: &'static str, key: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(key).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| damaged(bucket, key, "not a member id".to_string()))
}

/// Writes what raft counts, in the form of 3.6: empty lists left out, auto_leave always there.
pub(crate) fn put_conf_state(backend: &mut Backend, state: &raftpb::ConfState) {
    let mut json = String::from("{");
    let lists = [
        ("voters", &state.voters),
        ("learners", &state.learners),
        ("voters_outgoing", &state.voters_outgoing),
        ("learners_next", &state.learners_next),
    ];
    for (name, ids) in lists.iter().filter(|(_, ids)| !ids.is_empty()) {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        json.push_str(&format!("\"{name}\":[{}],", ids.join(",")));
    }
    json.push_str(&format!("\"auto_leave\":{}}}", state.auto_leave()));
    backend.put(schema::META, CONF_STATE, json.as_bytes());
}

/// Whether authentication is on, and the revision of users and roles, 0 if it was never written.
pub(crate) fn read_auth(backend: &Backend) -> Result<(bool, u64), Error> {
    let enabled = backend.get(schema::AUTH, AUTH_ENABLED)?;
    let revision = match backend.get(schema::AUTH, AUTH_REVISION)? {
        None => 0,
        Some(value) => u64::from_be_bytes(exact(&value).ok_or_else(|| {
            damaged(
                schema::AUTH,
                AUTH_REVISION,
                format!("{} bytes instead of 8", value.len()),
            )
        })?),
    };
    Ok((enabled.as_deref() == Some(&[1]), revision))
}

pub(crate) fn put_auth_revision(backend: &mut Backend, revision: u64) {
    backend.put(schema::AUTH, AUTH_REVISION, &revision.to_be_bytes());
}

fn exact<const N: usize>(value: &Bytes) -> Option<[u8; N]> {
    value.as_ref().try_into().ok()
}

fn damaged(bucket: &'static str, key: &[u8], reason: String) -> Error {
    let key = key.escape_ascii().to_string();
    let key = key.chars().take(128).collect();
    Error::Row { bucket, key, reason }
}
