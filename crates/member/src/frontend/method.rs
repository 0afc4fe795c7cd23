//! The names of all calls of the client API. Never looks at a message.

/// How many messages go each way in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One request, one answer: `Frontend::call`.
    Unary,
    /// One request, a stream of answers: `Frontend::stream_open`, one `stream_message`.
    ServerStream,
    /// A stream each way: `Frontend::stream_open`, any number of `stream_message`.
    Duplex,
}

macro_rules! methods {
    ($($name:ident $path:literal $shape:ident,)*) => {
        /// A call of the client API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Method {
            $($name,)*
        }

        impl Method {
            /// Every method.
            pub const ALL: &'static [Method] = &[$(Method::$name,)*];

            /// The path as gRPC writes it, `/package.Service/Method`.
            pub const fn path(self) -> &'static str {
                match self { $(Method::$name => $path,)* }
            }

            /// How many messages go each way.
            pub const fn shape(self) -> Shape {
                match self { $(Method::$name => Shape::$shape,)* }
            }

            /// The method of a path.
            pub fn from_path(path: &str) -> Option<Method> {
                match path {
                    $($path => Some(Method::$name),)*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    Range "/etcdserverpb.KV/Range" Unary,
    RangeStream "/etcdserverpb.KV/RangeStream" ServerStream,
    Put "/etcdserverpb.KV/Put" Unary,
    DeleteRange "/etcdserverpb.KV/DeleteRange" Unary,
    Txn "/etcdserverpb.KV/Txn" Unary,
    Compact "/etcdserverpb.KV/Compact" Unary,
    Watch "/etcdserverpb.Watch/Watch" Duplex,
    LeaseGrant "/etcdserverpb.Lease/LeaseGrant" Unary,
    LeaseRevoke "/etcdserverpb.Lease/LeaseRevoke" Unary,
    LeaseKeepAlive "/etcdserverpb.Lease/LeaseKeepAlive" Duplex,
    LeaseTimeToLive "/etcdserverpb.Lease/LeaseTimeToLive" Unary,
    LeaseLeases "/etcdserverpb.Lease/LeaseLeases" Unary,
    MemberAdd "/etcdserverpb.Cluster/MemberAdd" Unary,
    MemberRemove "/etcdserverpb.Cluster/MemberRemove" Unary,
    MemberUpdate "/etcdserverpb.Cluster/MemberUpdate" Unary,
    MemberList "/etcdserverpb.Cluster/MemberList" Unary,
    MemberPromote "/etcdserverpb.Cluster/MemberPromote" Unary,
    Alarm "/etcdserverpb.Maintenance/Alarm" Unary,
    Status "/etcdserverpb.Maintenance/Status" Unary,
    Defragment "/etcdserverpb.Maintenance/Defragment" Unary,
    Hash "/etcdserverpb.Maintenance/Hash" Unary,
    HashKv "/etcdserverpb.Maintenance/HashKV" Unary,
    Snapshot "/etcdserverpb.Maintenance/Snapshot" ServerStream,
    MoveLeader "/etcdserverpb.Maintenance/MoveLeader" Unary,
    Downgrade "/etcdserverpb.Maintenance/Downgrade" Unary,
    AuthEnable "/etcdserverpb.Auth/AuthEnable" Unary,
    AuthDisable "/etcdserverpb.Auth/AuthDisable" Unary,
    AuthStatus "/etcdserverpb.Auth/AuthStatus" Unary,
    Authenticate "/etcdserverpb.Auth/Authenticate" Unary,
    UserAdd "/etcdserverpb.Auth/UserAdd" Unary,
    UserGet "/etcdserverpb.Auth/UserGet" Unary,
    UserList "/etcdserverpb.Auth/UserList" Unary,
    UserDelete "/etcdserverpb.Auth/UserDelete" Unary,
    UserChangePassword "/etcdserverpb.Auth/UserChangePassword" Unary,
    UserGrantRole "/etcdserverpb.Auth/UserGrantRole" Unary,
    UserRevokeRole "/etcdserverpb.Auth/UserRevokeRole" Unary,
    RoleAdd "/etcdserverpb.Auth/RoleAdd" Unary,
    RoleGet "/etcdserverpb.Auth/RoleGet" Unary,
    RoleList "/etcdserverpb.Auth/RoleList" Unary,
    RoleDelete "/etcdserverpb.Auth/RoleDelete" Unary,
    RoleGrantPermission "/etcdserverpb.Auth/RoleGrantPermission" Unary,
    RoleRevokePermission "/etcdserverpb.Auth/RoleRevokePermission" Unary,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table against the compiled service descriptors: no method missing, none invented.
    #[test]
    fn every_method_of_the_services_is_named_once() {
        let set: prost_types::FileDescriptorSet = prost::Message::decode(api::DESCRIPTORS).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            if file.package() != "etcdserverpb" {
                continue;
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/etcdserverpb.{}/{}", service.name(), method.name());
                    let shape = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Shape::Unary,
                        (false, true) => Shape::ServerStream,
                        _ => Shape::Duplex,
                    };
                    let found = Method::from_path(&path);
                    assert_eq!(found.map(Method::shape), Some(shape), "{path}");
                    paths.push(path);
                }
            }
        }
        assert_eq!(paths.len(), Method::ALL.len());
        assert!(Method::ALL.iter().all(|m| paths.iter().any(|p| p == m.path())));
    }
}
