//! The rows beside the keys, between their stored form (`mvcc::schema`) and the machine's types.

use api::etcdserverpb::AlarmMember;
use api::raftpb;
use mvcc::schema::{self, Alarm, ConfState, Lease};
use mvcc::{Backend, Error};

use crate::alarms::Alarms;
use crate::leases::Leases;
use crate::membership::{Member, Membership};

const AUTH_REVISION: &[u8] = b"authRevision";

pub(crate) fn put_lease(backend: &mut Backend, id: i64, ttl: i64, remaining: i64) {
    let lease = Lease {
        id,
        ttl,
        remaining_ttl: remaining,
    };
    schema::put_lease(backend, &lease);
}

/// Reads all leases, without their keys. A time to live below the minimum is raised in memory.
pub(crate) fn read_leases(backend: &Backend, min_ttl: i64) -> Result<Leases, Error> {
    let mut leases = Leases::default();
    for lease in schema::leases(backend)? {
        leases.insert(lease.id, lease.ttl.max(min_ttl), lease.remaining_ttl);
    }
    Ok(leases)
}

pub(crate) fn alarm_row(alarm: &AlarmMember) -> Alarm {
    Alarm {
        member_id: alarm.member_id,
        kind: alarm.alarm,
    }
}

pub(crate) fn read_alarms(backend: &Backend) -> Result<Alarms, Error> {
    let mut alarms = Alarms::default();
    for row in schema::alarms(backend)? {
        alarms.activate(&AlarmMember {
            member_id: row.member_id,
            alarm: row.kind,
        });
    }
    Ok(alarms)
}

pub(crate) fn put_member(backend: &mut Backend, member: &Member) {
    schema::put_member(backend, &member.to_row());
}

pub(crate) fn put_conf_state(backend: &mut Backend, state: &raftpb::ConfState) {
    let row = ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave(),
    };
    schema::put_conf_state(backend, &row);
}

/// Reads the cluster from the data file.
pub(crate) fn read_membership(backend: &Backend) -> Result<Membership, Error> {
    let members = schema::members(backend)?.into_iter();
    let removed = schema::removed_members(backend)?;
    Ok(Membership {
        members: members.map(|row| (row.id, Member::from_row(row))).collect(),
        removed: removed.into_iter().collect(),
        version: schema::cluster_version(backend)?,
        downgrade: schema::downgrade(backend)?.unwrap_or_default(),
    })
}

/// The revision of users and roles, 0 if it was never written.
pub(crate) fn read_auth_revision(backend: &Backend) -> Result<u64, Error> {
    let Some(value) = backend.get(schema::AUTH, AUTH_REVISION)? else {
        return Ok(0);
    };
    let bytes: [u8; 8] = value.as_ref().try_into().map_err(|_| Error::Corrupt {
        bucket: schema::AUTH,
        key: "authRevision".to_string(),
        why: format!("{} bytes instead of 8", value.len()),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

pub(crate) fn put_auth_revision(backend: &mut Backend, revision: u64) {
    backend.put(schema::AUTH, AUTH_REVISION, &revision.to_be_bytes());
}
