//! What a request may do while authentication is on, judged when its entry is applied: all members must judge alike.
//! Never says more to a client than etcd does.
//!
//! etcd: server/etcdserver/apply/auth.go, server/auth/range_perm_cache.go.

use std::borrow::Cow;
use std::cmp::Ordering;

use api::authpb::{User, permission::Type};
use api::error::{self, Status};
use api::etcdserverpb::{self as pb, request_op};

use super::{Auth, Caller, ROOT};
use crate::entry::Request;
use crate::leases::Leases;

impl Auth {
    /// Whether the request needs the role root and the caller does not have it. This comes before the alarms.
    pub(crate) fn check_admin(&self, request: &Request, caller: &Caller) -> Result<(), Status> {
        match request {
            Request::Auth(_) | Request::AuthRead("UserList" | "RoleList") => self.is_admin(caller),
            _ => Ok(()),
        }
    }

    /// Whether the caller may read and write the keys of the request. This comes after the alarms.
    pub(crate) fn check_keys(
        &self,
        request: &Request,
        caller: &Caller,
        leases: &Leases,
    ) -> Result<(), Status> {
        if !self.enabled {
            return Ok(());
        }
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

    /// The ranges of the user's roles that allow this.
    fn ranges<'a>(&'a self, user: &'a User, wanted: Type) -> Vec<Range<'a>> {
        let roles = user.roles.iter().filter_map(|name| self.roles.get(name));
        let permissions = roles.flat_map(|role| &role.key_permission);
        let allowing = permissions.filter(|permission| {
            let kind = Type::try_from(permission.perm_type);
            kind == Ok(wanted) || kind == Ok(Type::Readwrite)
        });
        allowing
            .map(|permission| match permission.range_end.is_empty() {
                true => Range::point(&permission.key),
                false => Range::between(&permission.key, &permission.range_end),
            })
            .collect()
    }
}

/// Who asks for what.
struct Gate<'a> {
    auth: &'a Auth,
    caller: &'a Caller,
    leases: &'a Leases,
}

impl Gate<'_> {
    fn may(&self, wanted: Type, key: &[u8], range_end: &[u8]) -> Result<(), Status> {
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
        let allowed = self.auth.ranges(user, wanted);
        let covered = match range_end.is_empty() {
            true => {
                let point = Range::point(key);
                allowed.iter().any(|range| range.meets(&point))
            }
            false => covers(allowed, &Range::between(key, range_end)),
        };
        match covered {
            true => Ok(()),
            false => Err(error::PERMISSION_DENIED),
        }
    }

    fn may_put(&self, put: &pb::PutRequest) -> Result<(), Status> {
        self.may(Type::Write, &put.key, &[])?;
        // Who may not write a key of a lease must not hang others on it either.
        self.may_put_keys_of(put.lease)?;
        match put.prev_kv {
            true => self.may(Type::Read, &put.key, &[]),
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
            .try_for_each(|key| self.may(Type::Write, key, &[]))
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
    user.roles
        .binary_search_by(|role| role.as_str().cmp(ROOT))
        .is_ok()
}

/// Whether a permission may be for this range.
pub(super) fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}

/// From a key to before another; an empty one stands behind all others (etcd: pkg/adt, BytesAffineComparable).
struct Range<'a> {
    from: &'a [u8],
    to: Cow<'a, [u8]>,
}

impl<'a> Range<'a> {
    fn point(key: &'a [u8]) -> Range<'a> {
        Range {
            from: key,
            to: [key, &[0]].concat().into(),
        }
    }

    fn between(key: &'a [u8], range_end: &'a [u8]) -> Range<'a> {
        let is_open = range_end == [0];
        Range {
            from: key,
            to: if is_open { &[] } else { range_end }.into(),
        }
    }

    /// Whether a permission for this range has to do with the range that is asked for. In Go's order of questions: one
    /// that ends before it begins meets those within which it begins.
    fn meets(&self, wanted: &Range<'_>) -> bool {
        let is_left = order(wanted.from, self.from).is_lt() && order(&wanted.to, self.from).is_le();
        !is_left && order(wanted.from, &self.to).is_lt()
    }
}

/// Whether ranges together hold all of one, with no gap between those that it meets.
fn covers(mut allowed: Vec<Range<'_>>, wanted: &Range<'_>) -> bool {
    allowed.retain(|range| range.meets(wanted));
    allowed.sort_by(|one, other| order(one.from, other.from));
    let Some((first, others)) = allowed.split_first() else {
        return false;
    };
    let mut reached = &first.to;
    for range in others {
        if order(reached, range.from).is_lt() {
            return false;
        }
        if order(&range.to, reached).is_gt() {
            reached = &range.to;
        }
    }
    order(first.from, wanted.from).is_le() && order(reached, &wanted.to).is_ge()
}

fn order(one: &[u8], other: &[u8]) -> Ordering {
    match (one.is_empty(), other.is_empty()) {
        (false, false) => one.cmp(other),
        (one, other) => one.cmp(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_together_cover_what_none_covers_alone() {
        let ranges = |text: &'static [(&'static str, &'static str)]| -> Vec<Range<'static>> {
            text.iter()
                .map(|(from, to)| match to.is_empty() {
                    true => Range::point(from.as_bytes()),
                    false => Range::between(from.as_bytes(), to.as_bytes()),
                })
                .collect()
        };
        let check = |allowed, from: &str, to: &str, expected: bool| {
            let wanted = Range::between(from.as_bytes(), to.as_bytes());
            assert_eq!(
                covers(ranges(allowed), &wanted),
                expected,
                "{allowed:?}: {from:?} to {to:?}"
            );
        };
        check(&[("a", "c"), ("c", "f")], "b", "e", true);
        check(&[("a", "c"), ("d", "f")], "b", "e", false);
        check(&[("a", "z"), ("b", "c")], "b", "y", true);
        check(&[("b", "z")], "a", "y", false);
        check(&[("a", "\0")], "b", "\0", true);
        check(&[("a", "z")], "b", "\0", false);
        // A key alone holds the range to its successor.
        check(&[("a", "")], "a", "a\0", true);
        check(&[("a", "")], "a", "b", false);
        // No key is the least one here, but the greatest.
        check(&[("a", "\0")], "", "\0", false);
        check(&[("\0", "\0")], "\0", "\0", true);
        // What ends before it begins is allowed where it begins.
        check(&[("a", "c")], "b", "a", true);
        let meets = |from: &str, to: &str, key: &str| {
            Range::between(from.as_bytes(), to.as_bytes()).meets(&Range::point(key.as_bytes()))
        };
        assert!(meets("a", "c", "b") && !meets("a", "c", "c") && meets("a", "\0", "zz"));
        assert!(!meets("\0", "\0", ""));
    }
}
