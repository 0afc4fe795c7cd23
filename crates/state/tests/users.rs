//! Users, roles and what they may do, as the log tells: whoever is asked, what is stored, and what is refused where
//! authentication is on. All of it must be the same on every member, so it is the same after a restart from the file.

#![allow(clippy::unwrap_used)]

mod common;

use api::authpb::{Permission, UserAddOptions};
use api::etcdserverpb::{self as pb, InternalRaftRequest as Request, RequestHeader};
use api::membershippb::ClusterVersionSetRequest;
use api::version::Line;
use bytes::Bytes;
use common::{Rig, options};
use mvcc::schema;
use state::EntryKind;

/// `$2a$` as it travels.
const HASHED: &str = "JDJhJA==";

fn request(words: &[&str]) -> Request {
    let mut request = Request::default();
    let word = |at: usize| words.get(at).copied().unwrap_or_default().replace("\\0", "\0");
    match words[0] {
        "enable" => request.auth_enable = Some(Default::default()),
        "disable" => request.auth_disable = Some(Default::default()),
        "user" => {
            request.auth_user_add = Some(pb::AuthUserAddRequest {
                name: word(1),
                hashed_password: HASHED.to_owned(),
                options: (word(2) == "without").then_some(UserAddOptions { no_password: true }),
                ..Default::default()
            });
        }
        "plain" => {
            request.auth_user_add = Some(pb::AuthUserAddRequest {
                name: word(1),
                password: "secret".to_owned(),
                ..Default::default()
            });
        }
        "forget" => request.auth_user_delete = Some(pb::AuthUserDeleteRequest { name: word(1) }),
        "passwd" => {
            request.auth_user_change_password = Some(pb::AuthUserChangePasswordRequest {
                name: word(1),
                hashed_password: word(2),
                ..Default::default()
            });
        }
        "give" => {
            let (user, role) = (word(1), word(2));
            request.auth_user_grant_role = Some(pb::AuthUserGrantRoleRequest { user, role });
        }
        "take" => {
            let (name, role) = (word(1), word(2));
            request.auth_user_revoke_role = Some(pb::AuthUserRevokeRoleRequest { name, role });
        }
        "role" => request.auth_role_add = Some(pb::AuthRoleAddRequest { name: word(1) }),
        "drop" => request.auth_role_delete = Some(pb::AuthRoleDeleteRequest { role: word(1) }),
        "allow" => {
            let perm_type = ["read", "write", "both"]
                .iter()
                .position(|kind| *kind == words[2]);
            request.auth_role_grant_permission = Some(pb::AuthRoleGrantPermissionRequest {
                name: word(1),
                perm: perm_type.map(|kind| Permission {
                    perm_type: kind as i32,
                    key: word(3).into(),
                    range_end: word(4).into(),
                }),
            });
        }
        "forbid" => {
            request.auth_role_revoke_permission = Some(pb::AuthRoleRevokePermissionRequest {
                role: word(1),
                key: word(2).into(),
                range_end: word(3).into(),
            });
        }
        "put" => request.put = Some(put(&words[1..])),
        "del" => {
            request.delete_range = Some(pb::DeleteRangeRequest {
                key: word(1).into(),
                range_end: word(2).replace("prev", "").into(),
                prev_kv: words.contains(&"prev"),
            });
        }
        "get" => request.range = Some(range(&words[1..])),
        "txn" => {
            use pb::request_op::Request as Op;
            let op = |op| pb::RequestOp { request: Some(op) };
            let ops = words[1..].split(|word| *word == "|").map(|words| match words[0] {
                "put" => op(Op::RequestPut(put(&words[1..]))),
                "get" => op(Op::RequestRange(range(&words[1..]))),
                _ => op(Op::RequestTxn(pb::TxnRequest {
                    failure: vec![op(Op::RequestPut(put(&words[1..])))],
                    ..Default::default()
                })),
            });
            request.txn = Some(pb::TxnRequest {
                success: ops.collect(),
                ..Default::default()
            });
        }
        "lease" => request.lease_grant = Some(pb::LeaseGrantRequest { id: 7, ttl: 100 }),
        "revoke" => request.lease_revoke = Some(pb::LeaseRevokeRequest { id: 7 }),
        "login" => {
            request.authenticate = Some(pb::InternalAuthenticateRequest {
                name: word(1),
                password: word(2),
                ..Default::default()
            });
        }
        "version" => request.cluster_version_set = Some(ClusterVersionSetRequest { ver: word(1) }),
        "list" => request.auth_user_list = Some(Default::default()),
        other => panic!("no command {other}"),
    }
    request
}

fn put(words: &[&str]) -> pb::PutRequest {
    pb::PutRequest {
        key: words[0].to_owned().into(),
        value: "v".into(),
        lease: if words.contains(&"leased") { 7 } else { 0 },
        prev_kv: words.contains(&"prev"),
        ..Default::default()
    }
}

fn range(words: &[&str]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: words[0].to_owned().into(),
        range_end: words
            .get(1)
            .map(|word| word.replace("\\0", "\0"))
            .unwrap_or_default()
            .into(),
        ..Default::default()
    }
}

/// Lines `command => answer`; `~` in a name is a byte that no UTF-8 has; `USER: command` comes from a user who was let in now, `USER@n: command` from one who was
/// let in at a revision of users and roles. The machine is restarted before each line if `restarts`.
fn tell(script: &str, restarts: bool) -> Rig {
    let mut rig = Rig::new(Line::V3_7);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (line, expected) = line.split_once(" => ").unwrap_or((line, "ok"));
        let (who, command) = line.split_once(": ").unwrap_or(("", line));
        let (user, revision) = match who.split_once('@') {
            Some((user, revision)) => (user, revision.parse().unwrap()),
            None => (who, rig.machine.auth_revision()),
        };
        if restarts {
            rig = rig.restart(options(Line::V3_7)).unwrap();
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut request = request(&words);
        if !user.is_empty() {
            request.header = Some(RequestHeader {
                username: user.to_owned(),
                auth_revision: revision,
                ..Default::default()
            });
        }
        let data = rig.encode(request);
        let data: Bytes = data
            .iter()
            .map(|byte| if *byte == b'~' { 0xff } else { *byte })
            .collect();
        assert_eq!(state::request_id(&data), Some(rig.index + 1), "{line}");
        let entry = rig.entry(EntryKind::Normal, data);
        let found = match rig.machine.apply(&entry, |_| true) {
            Ok(applied) => match applied.reply.unwrap().result {
                Ok(_) => "ok".to_owned(),
                Err(status) => status.message.trim_start_matches("etcdserver: ").to_owned(),
            },
            Err(error) => format!("fatal: {error}"),
        };
        assert_eq!(found, expected, "{line}, restarts: {restarts}");
    }
    rig
}

/// What the script leaves in the buckets of users and roles, with restarts and without.
fn check(script: &str) -> Vec<(Bytes, Bytes)> {
    let rows = |mut rig: Rig| {
        let buckets = [schema::AUTH, schema::AUTH_USERS, schema::AUTH_ROLES];
        buckets.map(|bucket| rig.rows(bucket)).concat()
    };
    let once = rows(tell(script, false));
    assert_eq!(rows(tell(script, true)), once);
    once
}

fn row<'a>(rows: &'a [(Bytes, Bytes)], name: &str) -> &'a [u8] {
    &rows.iter().find(|(key, _)| key == name).unwrap().1
}

#[test]
fn users_and_roles_are_stored_as_by_etcd() {
    let rows = check(
        r"user => user name is empty
          user a
          user a => user name already exists
          user b without
          plain c => fatal: entry 5: UserAdd has a password that is not hashed, as releases before etcd 3.5 wrote it; start this directory with etcd until a snapshot lies behind the entry",
    );
    assert_eq!(row(&rows, "a"), b"\n\x01a\x12\x04$2a$\x22\x00");
    assert_eq!(row(&rows, "b"), b"\n\x01b\x22\x02\x08\x01");
    assert_eq!(row(&rows, "authRevision"), [0, 0, 0, 0, 0, 0, 0, 3]);
}

#[test]
fn roles_go_with_their_permissions_and_from_their_users() {
    let rows = check(
        r"give a r => user name not found
          user a
          give a r => role name not found
          role r
          role r => role name already exists
          role s
          give a s
          give a r
          give a r
          give a root
          allow r none => permission not given
          allow r read => invalid auth management
          allow r read b a => invalid auth management
          allow x read a => role name not found
          allow r read b
          allow r write a c
          allow r both a d
          allow r both a c
          allow r read a d
          forbid r z => permission is not granted to the role
          forbid r b
          take a q => role is not granted to the user
          take a root
          drop q => role name not found
          drop s
          forget z => user name not found
          passwd z => user name not found
          passwd a YQ==
          passwd a ? => authentication failed, invalid user ID or password",
    );
    // The roles that are left, sorted.
    assert_eq!(row(&rows, "a"), b"\n\x01a\x12\x01a\x1a\x01r\x22\x00");
    // `a` to `c` came first and was changed; `a` to `d` came second, so that it is there twice: etcd looks at the first
    // one with this key alone.
    let expected = [
        &b"\n\x01r"[..],
        b"\x12\x08\x08\x02\x12\x01a\x1a\x01c",
        b"\x12\x08\x08\x02\x12\x01a\x1a\x01d",
        b"\x12\x06\x12\x01a\x1a\x01d",
    ];
    assert_eq!(row(&rows, "r"), expected.concat());
    assert!(rows.iter().all(|(key, _)| key != "s"));
}

const SETTLED: &str = r"enable => root user does not exist
    user root
    enable => root user does not have root role
    give root root
    role r
    allow r both a c
    allow r read d
    allow r write e
    user a
    give a r
    lease
    put k leased
    put ab
    enable
    ";

/// etcd issue 11651: what changes users counts as an entry like any other, and restarts in between change nothing.
/// CVE-2026-33343 and CVE-2026-44283: what is nested in a txn is judged as well, with previous values and leases.
#[test]
fn what_a_user_may_do_is_judged_at_its_entry() {
    check(&format!(
        "{SETTLED}
         enable => user name is empty
         root: enable
         put a => user name is empty
         a: put ab
         a: put ab prev
         a: put c => permission denied
         a: put e
         a: put e prev => permission denied
         a: put d => permission denied
         a: put ab leased => permission denied
         a: get d
         a: get a c
         a: get a d => permission denied
         a: get a \\0 => permission denied
         a: del a c
         a: del e
         a: del b f => permission denied
         a: del e prev => permission denied
         root: del e
         a: txn put ab | get d
         a: txn put ab | get e => permission denied
         a: txn put ab prev
         a: txn put e prev => permission denied
         a: txn put ab leased => permission denied
         a: txn nested e
         a: txn nested d => permission denied
         a: revoke => permission denied
         nobody: put ab => permission denied
         a@1: put ab => revision of auth store is old
         a: user b => permission denied
         nobody: user b => user name not found
         list => user name is empty
         root: forget root => invalid auth management
         root: take root root => invalid auth management
         root: drop root => invalid auth management
         root: forbid r a c
         a: put ab => permission denied
         root: revoke
         a: lease
         root: disable
         put c
         disable"
    ));
}

/// For a range that ends before it begins, etcd's answer hangs on the shape of a tree: that of 3.7 differs from that of
/// earlier releases, and a member must decide as the others do. What the tree is made of is what is granted now.
#[test]
fn ranges_are_permitted_as_by_the_release_of_all_members() {
    check(&format!(
        "{SETTLED}
         root: role t
         root: allow t write m n
         root: allow t write m p
         root: allow t write m
         root: give a t
         a: del n m => permission denied
         version 3.6.0
         a: del n m
         version 3.7.0
         a: del n m => permission denied
         a: del m p
         root: forbid t m p
         a: del m p => permission denied
         a: put m
         root: take a t
         a: put m => permission denied
         root: give a t
         a: put m
         root: drop t
         a: put m => permission denied"
    ));
}

/// Up to 3.6, etcd takes any bytes for names and passwords, and keeps them (etcd: gogo/protobuf).
#[test]
fn names_need_not_be_utf8() {
    let rows = check(
        r"login x~ secr~t => authentication is not enabled
          user x~
          user x~ => user name already exists
          passwd x~ YQ==
          passwd x~ ~ => authentication failed, invalid user ID or password
          user y~
          forget y~
          role r~
          role s~
          role s~ => role name already exists
          drop s~
          allow r~ both a c
          allow r~ read d
          forbid r~ d
          give x~ s~ => role name not found
          give x~ r~
          take x~ s~ => role is not granted to the user
          user root
          give root root
          enable
          x~: put b
          x~: put d => permission denied
          x: put b => permission denied
          x~: user z => permission denied
          root: take x~ r~
          x~: put b => permission denied
          root: give x~ r~",
    );
    let user = b"\n\x02x\xff\x12\x01a\x1a\x02r\xff\x22\x00";
    assert!(
        rows.iter()
            .any(|(key, row)| key == &b"x\xff"[..] && row == &user[..])
    );
    let role = b"\n\x02r\xff\x12\x08\x08\x02\x12\x01a\x1a\x01c";
    assert!(
        rows.iter()
            .any(|(key, row)| key == &b"r\xff"[..] && row == &role[..])
    );
    assert!(
        rows.iter()
            .all(|(key, _)| key != &b"y\xff"[..] && key != &b"s\xff"[..])
    );
}
