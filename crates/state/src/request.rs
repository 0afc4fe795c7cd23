//! What an entry carries (raft_internal.proto), as etcd up to 3.6 reads and writes it: the names and passwords in its
//! strings are whatever bytes clients sent. Protobuf's rule that a string is UTF-8 is kept since 3.7 alone, so a log or a
//! data file may hold such names. Only read from entries; what is proposed here is made of the API's messages.

use api::{authpb, etcdserverpb as pb, membershippb};
use bytes::Bytes;

/// Who asks (RequestHeader).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) username: Bytes,
    #[prost(uint64, tag = "3")]
    pub(crate) auth_revision: u64,
}

/// An InternalRaftRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InternalRequest {
    #[prost(message, optional, tag = "100")]
    pub(crate) header: Option<Header>,
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) range: Option<pb::RangeRequest>,
    #[prost(message, optional, tag = "4")]
    pub(crate) put: Option<pb::PutRequest>,
    #[prost(message, optional, tag = "5")]
    pub(crate) delete_range: Option<pb::DeleteRangeRequest>,
    #[prost(message, optional, tag = "6")]
    pub(crate) txn: Option<pb::TxnRequest>,
    #[prost(message, optional, tag = "7")]
    pub(crate) compaction: Option<pb::CompactionRequest>,
    #[prost(message, optional, tag = "8")]
    pub(crate) lease_grant: Option<pb::LeaseGrantRequest>,
    #[prost(message, optional, tag = "9")]
    pub(crate) lease_revoke: Option<pb::LeaseRevokeRequest>,
    #[prost(message, optional, tag = "10")]
    pub(crate) alarm: Option<pb::AlarmRequest>,
    #[prost(message, optional, tag = "11")]
    pub(crate) lease_checkpoint: Option<pb::LeaseCheckpointRequest>,
    #[prost(message, optional, tag = "1000")]
    pub(crate) auth_enable: Option<Bare>,
    #[prost(message, optional, tag = "1011")]
    pub(crate) auth_disable: Option<Bare>,
    #[prost(message, optional, tag = "1012")]
    pub(crate) authenticate: Option<Authenticate>,
    #[prost(message, optional, tag = "1013")]
    pub(crate) auth_status: Option<Bare>,
    #[prost(message, optional, tag = "1100")]
    pub(crate) auth_user_add: Option<UserAdd>,
    #[prost(message, optional, tag = "1101")]
    pub(crate) auth_user_delete: Option<Named>,
    #[prost(message, optional, tag = "1102")]
    pub(crate) auth_user_get: Option<Named>,
    #[prost(message, optional, tag = "1103")]
    pub(crate) auth_user_change_password: Option<UserChangePassword>,
    #[prost(message, optional, tag = "1104")]
    pub(crate) auth_user_grant_role: Option<UserGrantRole>,
    #[prost(message, optional, tag = "1105")]
    pub(crate) auth_user_revoke_role: Option<UserRevokeRole>,
    #[prost(message, optional, tag = "1106")]
    pub(crate) auth_user_list: Option<Bare>,
    #[prost(message, optional, tag = "1107")]
    pub(crate) auth_role_list: Option<Bare>,
    #[prost(message, optional, tag = "1200")]
    pub(crate) auth_role_add: Option<Named>,
    #[prost(message, optional, tag = "1201")]
    pub(crate) auth_role_delete: Option<Named>,
    #[prost(message, optional, tag = "1202")]
    pub(crate) auth_role_get: Option<Named>,
    #[prost(message, optional, tag = "1203")]
    pub(crate) auth_role_grant_permission: Option<RoleGrantPermission>,
    #[prost(message, optional, tag = "1204")]
    pub(crate) auth_role_revoke_permission: Option<RoleRevokePermission>,
    #[prost(message, optional, tag = "1300")]
    pub(crate) cluster_version_set: Option<membershippb::ClusterVersionSetRequest>,
    #[prost(message, optional, tag = "1301")]
    pub(crate) cluster_member_attr_set: Option<membershippb::ClusterMemberAttrSetRequest>,
    #[prost(message, optional, tag = "1302")]
    pub(crate) downgrade_info_set: Option<membershippb::DowngradeInfoSetRequest>,
    #[prost(message, optional, tag = "9900")]
    pub(crate) downgrade_version_test: Option<pb::DowngradeVersionTestRequest>,
}

/// A request that says nothing more.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Bare {}

/// A request with a user's or a role's name alone.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Named {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
}

/// InternalAuthenticateRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Authenticate {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) password: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) simple_token: Bytes,
}

/// AuthUserAddRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UserAdd {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) password: Bytes,
    #[prost(message, optional, tag = "3")]
    pub(crate) options: Option<authpb::UserAddOptions>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) hashed_password: Bytes,
}

/// AuthUserChangePasswordRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UserChangePassword {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) password: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) hashed_password: Bytes,
}

/// AuthUserGrantRoleRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UserGrantRole {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) user: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) role: Bytes,
}

/// AuthUserRevokeRoleRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UserRevokeRole {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) role: Bytes,
}

/// AuthRoleGrantPermissionRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RoleGrantPermission {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) perm: Option<authpb::Permission>,
}

/// AuthRoleRevokePermissionRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RoleRevokePermission {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) role: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) range_end: Bytes,
}

/// The row of a user (authpb.User). That of a role has no strings.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct User {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) password: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) roles: Vec<Bytes>,
    #[prost(message, optional, tag = "4")]
    pub(crate) options: Option<authpb::UserAddOptions>,
}
