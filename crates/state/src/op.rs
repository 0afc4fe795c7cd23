//! What an entry of the log asks for, by the names that etcd's metrics have for it
//! (etcd: server/etcdserver/apply/uber_applier.go, dispatch).

use crate::entry::Request;

macro_rules! ops {
    ($($name:ident $label:literal,)*) => {
        /// What an entry asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum OpKind {
            $($name,)*
        }

        impl OpKind {
            /// Every kind.
            pub const ALL: &'static [OpKind] = &[$(OpKind::$name,)*];

            /// The name in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(OpKind::$name => $label,)* }
            }
        }
    };
}

ops! {
    Range "Range",
    Put "Put",
    DeleteRange "DeleteRange",
    Txn "Txn",
    Compaction "Compaction",
    LeaseGrant "LeaseGrant",
    LeaseRevoke "LeaseRevoke",
    LeaseCheckpoint "LeaseCheckpoint",
    Alarm "Alarm",
    Authenticate "Authenticate",
    AuthEnable "AuthEnable",
    AuthDisable "AuthDisable",
    // etcd's dispatch has no name for it.
    AuthStatus "unknown",
    AuthUserAdd "AuthUserAdd",
    AuthUserDelete "AuthUserDelete",
    AuthUserChangePassword "AuthUserChangePassword",
    AuthUserGrantRole "AuthUserGrantRole",
    AuthUserGet "AuthUserGet",
    AuthUserRevokeRole "AuthUserRevokeRole",
    AuthRoleAdd "AuthRoleAdd",
    AuthRoleGrantPermission "AuthRoleGrantPermission",
    AuthRoleGet "AuthRoleGet",
    AuthRoleRevokePermission "AuthRoleRevokePermission",
    AuthRoleDelete "AuthRoleDelete",
    AuthUserList "AuthUserList",
    AuthRoleList "AuthRoleList",
    ClusterVersionSet "ClusterVersionSet",
    ClusterMemberAttrSet "ClusterMemberAttrSet",
    DowngradeInfoSet "DowngradeInfoSet",
    DowngradeVersionTest "DowngradeVersionTest",
}

impl OpKind {
    pub(crate) fn of(request: &Request) -> OpKind {
        match request {
            Request::Range(_) => OpKind::Range,
            Request::Put(_) => OpKind::Put,
            Request::DeleteRange(_) => OpKind::DeleteRange,
            Request::Txn(_) => OpKind::Txn,
            Request::Compaction(_) => OpKind::Compaction,
            Request::LeaseGrant(_) => OpKind::LeaseGrant,
            Request::LeaseRevoke(_) => OpKind::LeaseRevoke,
            Request::LeaseCheckpoint(_) => OpKind::LeaseCheckpoint,
            Request::Alarm(_) => OpKind::Alarm,
            Request::AuthStatus => OpKind::AuthStatus,
            Request::AuthRead(name) => OpKind::of_auth(name),
            Request::Auth(change) => OpKind::of_auth(change.name()),
            Request::ClusterVersionSet(_) => OpKind::ClusterVersionSet,
            Request::ClusterMemberAttrSet(_) => OpKind::ClusterMemberAttrSet,
            Request::DowngradeInfoSet(_) => OpKind::DowngradeInfoSet,
            Request::DowngradeVersionTest(_) => OpKind::DowngradeVersionTest,
        }
    }

    /// Entries name requests about users and roles without the service's name.
    fn of_auth(name: &str) -> OpKind {
        let found = OpKind::ALL.iter().find(|op| {
            let label = op.label();
            label == name || label.strip_prefix("Auth") == Some(name)
        });
        found.copied().unwrap_or(OpKind::AuthStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthChange;

    #[test]
    fn requests_about_users_have_the_names_of_etcd() {
        for (request, label) in [
            (Request::AuthRead("Authenticate"), "Authenticate"),
            (Request::Auth(AuthChange::Enable), "AuthEnable"),
            (
                Request::Auth(AuthChange::UserAdd(Default::default())),
                "AuthUserAdd",
            ),
            (Request::AuthRead("RoleList"), "AuthRoleList"),
            (Request::AuthStatus, "unknown"),
        ] {
            assert_eq!(OpKind::of(&request).label(), label);
        }
    }
}
