//! What is under `/v3/`: the options `google.api.http` of etcd's .proto files. All are POST.

use member::frontend::Method;

use crate::services::{Recipe, Route};

/// The call of a path behind `/v3/`.
#[rustfmt::skip]
pub fn route(path: &str) -> Option<Route> {
    let recipe = match path {
        "lock/lock" => Recipe::Lock,
        "lock/unlock" => Recipe::Unlock,
        "election/campaign" => Recipe::Campaign,
        "election/proclaim" => Recipe::Proclaim,
        "election/leader" => Recipe::Leader,
        "election/observe" => Recipe::Observe,
        "election/resign" => Recipe::Resign,
        _ => return method(path).map(Route::Member),
    };
    Some(Route::Recipe(recipe))
}

#[rustfmt::skip]
fn method(path: &str) -> Option<Method> {
    Some(match path {
        "kv/range" => Method::Range,
        "kv/put" => Method::Put,
        "kv/deleterange" => Method::DeleteRange,
        "kv/txn" => Method::Txn,
        "kv/compaction" => Method::Compact,
        "watch" => Method::Watch,
        "lease/grant" => Method::LeaseGrant,
        "lease/revoke" | "kv/lease/revoke" => Method::LeaseRevoke,
        "lease/keepalive" => Method::LeaseKeepAlive,
        "lease/timetolive" | "kv/lease/timetolive" => Method::LeaseTimeToLive,
        "lease/leases" | "kv/lease/leases" => Method::LeaseLeases,
        "cluster/member/add" => Method::MemberAdd,
        "cluster/member/remove" => Method::MemberRemove,
        "cluster/member/update" => Method::MemberUpdate,
        "cluster/member/list" => Method::MemberList,
        "cluster/member/promote" => Method::MemberPromote,
        "maintenance/alarm" => Method::Alarm,
        "maintenance/status" => Method::Status,
        "maintenance/defragment" => Method::Defragment,
        "maintenance/hash" => Method::Hash,
        "maintenance/hashkv" => Method::HashKv,
        "maintenance/snapshot" => Method::Snapshot,
        "maintenance/transfer-leadership" => Method::MoveLeader,
        "maintenance/downgrade" => Method::Downgrade,
        "auth/enable" => Method::AuthEnable,
        "auth/disable" => Method::AuthDisable,
        "auth/status" => Method::AuthStatus,
        "auth/authenticate" => Method::Authenticate,
        "auth/user/add" => Method::UserAdd,
        "auth/user/get" => Method::UserGet,
        "auth/user/list" => Method::UserList,
        "auth/user/delete" => Method::UserDelete,
        "auth/user/changepw" => Method::UserChangePassword,
        "auth/user/grant" => Method::UserGrantRole,
        "auth/user/revoke" => Method::UserRevokeRole,
        "auth/role/add" => Method::RoleAdd,
        "auth/role/get" => Method::RoleGet,
        "auth/role/list" => Method::RoleList,
        "auth/role/delete" => Method::RoleDelete,
        "auth/role/grant" => Method::RoleGrantPermission,
        "auth/role/revoke" => Method::RoleRevokePermission,
        _ => return None,
    })
}
