//! Users, roles and whether authentication is on, as the log makes them: the same rows as on members that run Go etcd.
//! What a request may do is in `permit`. Never sees a password: who proposes hashes it.
//!
//! etcd: server/auth/store.go.

mod go_sort;
mod permit;
mod ranges;

use std::collections::BTreeMap;

use api::authpb::{Permission, Role, UserAddOptions};
use api::error::{self, Status};
use bytes::Bytes;
use mvcc::{Backend, Error, schema};
use prost::Message;

use crate::request::{
    Named, RoleGrantPermission, RoleRevokePermission, User, UserAdd, UserChangePassword, UserGrantRole,
    UserRevokeRole,
};
use crate::rows;

/// The user without whom authentication cannot be on, and the role that may do all.
const ROOT: &[u8] = b"root";

/// What an entry changes of users, roles, or of authentication.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AuthChange {
    Enable,
    Disable,
    UserAdd(UserAdd),
    UserDelete(Named),
    UserChangePassword(UserChangePassword),
    UserGrantRole(UserGrantRole),
    UserRevokeRole(UserRevokeRole),
    RoleAdd(Named),
    RoleDelete(Named),
    RoleGrantPermission(RoleGrantPermission),
    RoleRevokePermission(RoleRevokePermission),
}

impl AuthChange {
    /// The name in etcd's metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            AuthChange::Enable => "AuthEnable",
            AuthChange::Disable => "AuthDisable",
            AuthChange::UserAdd(_) => "UserAdd",
            AuthChange::UserDelete(_) => "UserDelete",
            AuthChange::UserChangePassword(_) => "UserChangePassword",
            AuthChange::UserGrantRole(_) => "UserGrantRole",
            AuthChange::UserRevokeRole(_) => "UserRevokeRole",
            AuthChange::RoleAdd(_) => "RoleAdd",
            AuthChange::RoleDelete(_) => "RoleDelete",
            AuthChange::RoleGrantPermission(_) => "RoleGrantPermission",
            AuthChange::RoleRevokePermission(_) => "RoleRevokePermission",
        }
    }
}

/// Who asks, as the header of an entry says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: Bytes,
    /// The revision of users and roles when the caller was let in; 0 if nobody was.
    pub(crate) revision: u64,
}

/// Why a change is not made.
pub(crate) enum Refusal {
    /// The client asks for what cannot be.
    Client(Status),
    /// A password that is not hashed: each member would store another hash of it.
    PlainPassword,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::Client(status)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    pub(crate) enabled: bool,
    /// Counts the changes of users and roles.
    pub(crate) revision: u64,
    users: BTreeMap<Bytes, User>,
    roles: BTreeMap<Bytes, Role>,
    /// Forgotten with each change.
    permits: permit::Permits,
}

impl Auth {
    /// Reads the rows; the very first revision is written.
    pub(crate) fn restore(backend: &mut Backend) -> Result<Auth, Error> {
        let mut auth = Auth {
            enabled: schema::auth_enabled(backend)?,
            revision: rows::read_auth_revision(backend)?,
            ..Auth::default()
        };
        for (name, row) in backend.scan(schema::AUTH_USERS)? {
            let user = User::decode(row).map_err(|error| damaged(schema::AUTH_USERS, &name, &error))?;
            auth.users.insert(user.name.clone(), user);
        }
        for (name, row) in backend.scan(schema::AUTH_ROLES)? {
            let role = Role::decode(row).map_err(|error| damaged(schema::AUTH_ROLES, &name, &error))?;
            auth.roles.insert(role.name.clone(), role);
        }
        if auth.revision == 0 {
            auth.changed(backend);
        }
        Ok(auth)
    }

    /// Makes a change, or says why not.
    pub(crate) fn change(&mut self, change: AuthChange, backend: &mut Backend) -> Result<(), Refusal> {
        self.permits = permit::Permits::default();
        match change {
            AuthChange::Enable => return Ok(self.enable(backend)?),
            AuthChange::Disable => {
                if !self.enabled {
                    return Ok(());
                }
                self.enabled = false;
                schema::put_auth_enabled(backend, false);
            }
            AuthChange::UserAdd(request) => self.add_user(request, backend)?,
            AuthChange::UserDelete(request) => self.delete_user(&request.name, backend)?,
            AuthChange::UserChangePassword(request) => self.change_password(&request, backend)?,
            AuthChange::UserGrantRole(request) => {
                if !self.grant_role(&request, backend)? {
                    return Ok(());
                }
            }
            AuthChange::UserRevokeRole(request) => self.revoke_role(&request, backend)?,
            AuthChange::RoleAdd(request) => self.add_role(request.name, backend)?,
            AuthChange::RoleDelete(request) => self.delete_role(&request.name, backend)?,
            AuthChange::RoleGrantPermission(request) => self.grant_permission(request, backend)?,
            AuthChange::RoleRevokePermission(request) => self.revoke_permission(&request, backend)?,
        }
        self.changed(backend);
        Ok(())
    }

    fn changed(&mut self, backend: &mut Backend) {
        self.revision += 1;
        rows::put_auth_revision(backend, self.revision);
    }

    /// Leaves the revision as it is, as etcd does.
    fn enable(&mut self, backend: &mut Backend) -> Result<(), Status> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(error::ROOT_USER_NOT_EXIST)?;
        if !permit::is_root(root) {
            return Err(error::ROOT_ROLE_NOT_EXIST);
        }
        self.enabled = true;
        schema::put_auth_enabled(backend, true);
        Ok(())
    }

    fn add_user(&mut self, request: UserAdd, backend: &mut Backend) -> Result<(), Refusal> {
        if request.name.is_empty() {
            return Err(error::USER_EMPTY.into());
        }
        if self.users.contains_key(&request.name) {
            return Err(error::USER_ALREADY_EXIST.into());
        }
        // Without options, empty ones are stored.
        let options = request.options.unwrap_or_default();
        let password = match options.no_password {
            true => Vec::new(),
            false => hashed(&request.password, &request.hashed_password)?,
        };
        let user = User {
            name: request.name.clone(),
            password: password.into(),
            roles: Vec::new(),
            options: Some(options),
        };
        put_user(backend, &user);
        self.users.insert(request.name, user);
        Ok(())
    }

    fn delete_user(&mut self, name: &[u8], backend: &mut Backend) -> Result<(), Status> {
        if self.enabled && name == ROOT {
            return Err(error::INVALID_AUTH_MGMT);
        }
        self.users.remove(name).ok_or(error::USER_NOT_FOUND)?;
        backend.delete(schema::AUTH_USERS, name);
        Ok(())
    }

    fn change_password(
        &mut self,
        request: &UserChangePassword,
        backend: &mut Backend,
    ) -> Result<(), Refusal> {
        let user = self.users.get_mut(&request.name).ok_or(error::USER_NOT_FOUND)?;
        let without = user.options == Some(UserAddOptions { no_password: true });
        user.password = match without {
            true => Vec::new().into(),
            false => hashed(&request.password, &request.hashed_password)?.into(),
        };
        put_user(backend, user);
        Ok(())
    }

    /// Whether the user did not have it.
    fn grant_role(&mut self, request: &UserGrantRole, backend: &mut Backend) -> Result<bool, Status> {
        let user = self.users.get_mut(&request.user).ok_or(error::USER_NOT_FOUND)?;
        // There need not be a role of this name: it may do all without.
        if request.role != ROOT && !self.roles.contains_key(&request.role) {
            return Err(error::ROLE_NOT_FOUND);
        }
        let Err(place) = user.roles.binary_search(&request.role) else {
            return Ok(false);
        };
        user.roles.insert(place, request.role.clone());
        put_user(backend, user);
        Ok(true)
    }

    fn revoke_role(&mut self, request: &UserRevokeRole, backend: &mut Backend) -> Result<(), Status> {
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(error::INVALID_AUTH_MGMT);
        }
        let user = self.users.get_mut(&request.name).ok_or(error::USER_NOT_FOUND)?;
        if !take_role(user, &request.role) {
            return Err(error::ROLE_NOT_GRANTED);
        }
        put_user(backend, user);
        Ok(())
    }

    fn add_role(&mut self, name: Bytes, backend: &mut Backend) -> Result<(), Status> {
        if name.is_empty() {
            return Err(error::ROLE_EMPTY);
        }
        if self.roles.contains_key(&name) {
            return Err(error::ROLE_ALREADY_EXIST);
        }
        let role = Role {
            name: name.clone(),
            ..Role::default()
        };
        put_role(backend, &role);
        self.roles.insert(name, role);
        Ok(())
    }

    fn delete_role(&mut self, name: &[u8], backend: &mut Backend) -> Result<(), Status> {
        if self.enabled && name == ROOT {
            return Err(error::INVALID_AUTH_MGMT);
        }
        self.roles.remove(name).ok_or(error::ROLE_NOT_FOUND)?;
        backend.delete(schema::AUTH_ROLES, name);
        for user in self.users.values_mut() {
            if take_role(user, name) {
                put_user(backend, user);
            }
        }
        Ok(())
    }

    /// Changes the first permission with this key if it has this range, and adds one otherwise: so does etcd, so that
    /// the order of permissions with equal keys matters.
    fn grant_permission(
        &mut self,
        request: RoleGrantPermission,
        backend: &mut Backend,
    ) -> Result<(), Status> {
        let granted = request.perm.ok_or(error::PERMISSION_NOT_GIVEN)?;
        if !permit::is_range(&granted.key, &granted.range_end) {
            return Err(error::INVALID_AUTH_MGMT);
        }
        let role = self.roles.get_mut(&request.name).ok_or(error::ROLE_NOT_FOUND)?;
        let permissions = &mut role.key_permission;
        let first = permissions.partition_point(|permission| permission.key < granted.key);
        match permissions.get_mut(first) {
            Some(there) if there.key == granted.key && there.range_end == granted.range_end => {
                there.perm_type = granted.perm_type;
            }
            _ => {
                permissions.push(granted);
                go_sort::sort(permissions, |one: &Permission, other| one.key < other.key);
            }
        }
        put_role(backend, role);
        Ok(())
    }

    fn revoke_permission(
        &mut self,
        request: &RoleRevokePermission,
        backend: &mut Backend,
    ) -> Result<(), Status> {
        let role = self.roles.get_mut(&request.role).ok_or(error::ROLE_NOT_FOUND)?;
        let before = role.key_permission.len();
        let stays = |there: &Permission| there.key != request.key || there.range_end != request.range_end;
        role.key_permission.retain(stays);
        if role.key_permission.len() == before {
            return Err(error::PERMISSION_NOT_GRANTED);
        }
        put_role(backend, role);
        Ok(())
    }
}

/// Whether the user had it.
fn take_role(user: &mut User, role: &[u8]) -> bool {
    let before = user.roles.len();
    user.roles.retain(|there| there != role);
    user.roles.len() < before
}

fn put_user(backend: &mut Backend, user: &User) {
    backend.put(schema::AUTH_USERS, &user.name, &user.encode_to_vec());
}

fn put_role(backend: &mut Backend, role: &Role) {
    backend.put(schema::AUTH_ROLES, &role.name, &role.encode_to_vec());
}

/// The hash that whoever proposed the password has made of it, which travels in base64. Releases before 3.5 sent the
/// password itself, and each member salted it by itself.
fn hashed(password: &[u8], hashed: &[u8]) -> Result<Vec<u8>, Refusal> {
    if !password.is_empty() && hashed.is_empty() {
        return Err(Refusal::PlainPassword);
    }
    base64(hashed).ok_or(Refusal::Client(error::AUTH_FAILED))
}

/// Decodes base64 as Go's standard encoding does: padded, and blind for line ends.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !b"\r\n".contains(byte))
        .collect();
    let used = letters
        .iter()
        .position(|byte| *byte == b'=')
        .unwrap_or(letters.len());
    let (used, padding) = letters.split_at(used);
    if !letters.len().is_multiple_of(4) || padding.len() > 2 || padding.iter().any(|byte| *byte != b'=') {
        return None;
    }
    let mut bytes = Vec::with_capacity(used.len() * 3 / 4);
    for letters in used.chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let value = match letters.get(place) {
                Some(letter) => ALPHABET.iter().position(|known| known == letter)?,
                None => 0,
            };
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..letters.len()]);
    }
    Some(bytes)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn damaged(bucket: &'static str, name: &[u8], error: &prost::DecodeError) -> Error {
    Error::Corrupt {
        bucket,
        key: text(name),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("YQ==", Some(b"a")),
            ("YWI=", Some(b"ab")),
            ("YW\nJj\r\n", Some(b"abc")),
            ("JDJhJA==", Some(b"$2a$")),
            ("+/+/", Some(&[0xfb, 0xff, 0xbf])),
            ("YQ", None),
            ("YQ=", None),
            ("Y===", None),
            ("YQ==YQ==", None),
            ("YW-j", None),
        ] {
            assert_eq!(base64(text.as_bytes()).as_deref(), expected, "{text:?}");
        }
    }
}
