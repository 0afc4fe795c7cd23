//! What a request may do while authentication is on, judged when its entry is applied: all members must judge alike.
//! Never says more to a client than etcd does.
//!
//! etcd: server/etcdserver/apply/auth.go, server/auth/range_perm_cache.go.

use std::collections::BTreeMap;

use api::authpb::permission::Type;
use api::error::{self, Status};
use api::etcdserverpb::{self as pb, request_op};
use api::version::Version;

use bytes::Bytes;

use super::ranges::{Ranges, Span, Ties};
use super::{Auth, Caller, ROOT};
use crate::entry::Request;
use crate::leases::Leases;
use crate::request::User;

impl Auth {
    /// Whether the request needs the role root and the caller does not have it. This comes before the alarms.
    pub(crate) fn check_admin(&self, request: &Request, caller: &Caller) -> Result<(), Status> {
        match request {
            Request::Auth(_) | Request::AuthRead("UserList" | "RoleList") => self.is_admin(caller),
            _ => Ok(()),
        }
    }

    /// Whether the caller may read and write the keys of the request. This comes after the alarms. `rules` is the
    /// version whose members all decide alike.
    pub(crate) fn check_keys(
        &mut self,
        request: &Request,
        caller: &Caller,
        leases: &Leases,
        rules: Version,
    ) -> Result<(), Status> {
        if !self.enabled {
            return Ok(());
        }
        let ties = match rules < Version::new(3, 7, 0) {
            true => Ties::Behind,
            false => Ties::ByEnd,
        };
        self.merge_permissions(&caller.user, ties);
        let gate = Gate {
            auth: self,
            caller,
            leases,
        };
        match request {
            Request::Range(range) => gate.may(Type::Read, &range.key, &range.range_end),
            Request::Put(put) => gate.may_put(put),
            Request::DeleteRange(delete) => {
                gate.may(Type::Write, &delete.key, &delete.range_end)?;
                match delete.prev_kv {
                    true => gate.may(Type::Read, &delete.key, &delete.range_end),
                    false => Ok(()),
                }
            }
            Request::Txn(txn) => gate.may_run(txn),
            Request::LeaseRevoke(revoke) => gate.may_put_keys_of(revoke.id),
            _ => Ok(()),
        }
    }

    fn is_admin(&self, caller: &Caller) -> Result<(), Status> {
        if !self.enabled {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(error::USER_EMPTY);
        }
        let user = self.users.get(&caller.user).ok_or(error::USER_NOT_FOUND)?;
        match is_root(user) {
            true => Ok(()),
            false => Err(error::PERMISSION_DENIED),
        }
    }

    /// Merges the permissions of a user's roles, unless that is done.
    fn merge_permissions(&mut self, user: &Bytes, ties: Ties) {
        if self.permits.ties != ties {
            self.permits = Permits {
                ties,
                ..Permits::default()
            };
        }
        if self.permits.by_user.contains_key(user) {
            return;
        }
        if let Some(there) = self.users.get(user) {
            let permit = Permit {
                read: self.ranges(there, Type::Read, ties),
                write: self.ranges(there, Type::Write, ties),
            };
            self.permits.by_user.insert(user.clone(), permit);
        }
    }

    /// The ranges of the user's roles that allow this.
    fn ranges(&self, user: &User, wanted: Type, ties: Ties) -> Ranges {
        let roles = user.roles.iter().filter_map(|name| self.roles.get(name));
        let permissions = roles.flat_map(|role| &role.key_permission);
        let allowing = permissions.filter(|permission| {
            let kind = Type::try_from(permission.perm_type);
            kind == Ok(wanted) || kind == Ok(Type::Readwrite)
        });
        let spans = allowing.map(|permission| Span::new(&permission.key, &permission.range_end));
        Ranges::new(spans, ties)
    }
}

/// What users may read and write, merged from their roles for those who asked since users or roles changed.
#[derive(Debug, Default)]
pub(super) struct Permits {
    ties: Ties,
    by_user: BTreeMap<Bytes, Permit>,
}

#[derive(Debug)]
struct Permit {
    read: Ranges,
    write: Ranges,
}

/// Who asks for what.
struct Gate<'a> {
    auth: &'a Auth,
    caller: &'a Caller,
    leases: &'a Leases,
}

impl Gate<'_> {
    fn may(&self, wanted: Type, key: &Bytes, range_end: &Bytes) -> Result<(), Status> {
        if self.caller.revision == 0 {
            return Err(error::USER_EMPTY);
        }
        if self.caller.revision < self.auth.revision {
            return Err(error::AUTH_OLD_REVISION);
        }
        let user = self.auth.users.get(&self.caller.user);
        let user = user.ok_or(error::PERMISSION_DENIED)?;
        if is_root(user) {
            return Ok(());
        }
        let permit = self.auth.permits.by_user.get(&self.caller.user);
        let permit = permit.ok_or(error::PERMISSION_DENIED)?;
        let ranges = match wanted {
            Type::Write => &permit.write,
            _ => &permit.read,
        };
        let span = Span::new(key, range_end);
        let permitted = match range_end.is_empty() {
            true => ranges.meet(&span),
            false => ranges.hold(&span),
        };
        match permitted {
            true => Ok(()),
            false => Err(error::PERMISSION_DENIED),
        }
    }

    fn may_put(&self, put: &pb::PutRequest) -> Result<(), Status> {
        self.may(Type::Write, &put.key, &Bytes::new())?;
        // Who may not write a key of a lease must not hang others on it either.
        self.may_put_keys_of(put.lease)?;
        match put.prev_kv {
            true => self.may(Type::Read, &put.key, &Bytes::new()),
            false => Ok(()),
        }
    }

    fn may_put_keys_of(&self, lease: i64) -> Result<(), Status> {
        let Some(lease) = self.leases.get(lease) else {
            return Ok(());
        };
        if self.auth.is_admin(self.caller).is_ok() {
            return Ok(());
        }
        lease
            .keys
            .iter()
            .try_for_each(|key| self.may(Type::Write, key, &Bytes::new()))
    }

    fn may_run(&self, txn: &pb::TxnRequest) -> Result<(), Status> {
        for compare in &txn.compare {
            self.may(Type::Read, &compare.key, &compare.range_end)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(request_op::Request::RequestRange(range)) => {
                    self.may(Type::Read, &range.key, &range.range_end)?;
                }
                Some(request_op::Request::RequestPut(put)) => self.may_put(put)?,
                Some(request_op::Request::RequestDeleteRange(delete)) => {
                    if delete.prev_kv {
                        self.may(Type::Read, &delete.key, &delete.range_end)?;
                    }
                    self.may(Type::Write, &delete.key, &delete.range_end)?;
                }
                Some(request_op::Request::RequestTxn(txn)) => self.may_run(txn)?,
                None => {}
            }
        }
        Ok(())
    }
}

pub(super) fn is_root(user: &User) -> bool {
    user.roles.binary_search_by(|role| role[..].cmp(ROOT)).is_ok()
}

/// Whether a permission may be for this range.
pub(super) fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}
