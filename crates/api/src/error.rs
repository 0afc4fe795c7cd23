//! The error table of the client API: each text and its gRPC code. Clients match the texts
//! exactly and ignore the code on a match, so a text is never changed.

use std::borrow::Cow;
use std::fmt;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The code's number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code's name as Go prints it, for example in the label `grpc_code` of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Canceled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        }
    }

    /// The code of a number on the wire; numbers that gRPC does not define are `Unknown`.
    pub fn from_number(number: u32) -> Code {
        const CODES: [Code; 17] = [
            Code::Ok,
            Code::Canceled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
            Code::Unauthenticated,
        ];
        CODES.get(number as usize).copied().unwrap_or(Code::Unknown)
    }
}

/// The answer to a request that failed: a code, and a text that clients compare exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The gRPC code.
    pub code: Code,
    /// The text; one of this module's table, or made for the occasion.
    pub message: Cow<'static, str>,
}

impl Status {
    /// A status with a text from the table.
    pub const fn new(code: Code, message: &'static str) -> Status {
        Status {
            code,
            message: Cow::Borrowed(message),
        }
    }

    /// A status whose text is made at run time.
    pub fn with(code: Code, message: impl Into<String>) -> Status {
        Status {
            code,
            message: Cow::Owned(message.into()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rpc error: code = {} desc = {}",
            self.code.name(),
            self.message
        )
    }
}

impl std::error::Error for Status {}

/// `etcdserver: key is not provided`
pub const EMPTY_KEY: Status = Status::new(Code::InvalidArgument, "etcdserver: key is not provided");
/// `etcdserver: key not found`
pub const KEY_NOT_FOUND: Status = Status::new(Code::InvalidArgument, "etcdserver: key not found");
/// `etcdserver: value is provided`
pub const VALUE_PROVIDED: Status = Status::new(Code::InvalidArgument, "etcdserver: value is provided");
/// `etcdserver: lease is provided`
pub const LEASE_PROVIDED: Status = Status::new(Code::InvalidArgument, "etcdserver: lease is provided");
/// `etcdserver: too many operations in txn request`
pub const TOO_MANY_OPS: Status = Status::new(
    Code::InvalidArgument,
    "etcdserver: too many operations in txn request",
);
/// `etcdserver: duplicate key given in txn request`
pub const DUPLICATE_KEY: Status = Status::new(
    Code::InvalidArgument,
    "etcdserver: duplicate key given in txn request",
);
/// `etcdserver: invalid client api version`
pub const INVALID_CLIENT_API_VERSION: Status =
    Status::new(Code::InvalidArgument, "etcdserver: invalid client api version");
/// `etcdserver: invalid sort option`
pub const INVALID_SORT_OPTION: Status = Status::new(Code::InvalidArgument, "etcdserver: invalid sort option");
/// `etcdserver: mvcc: required revision has been compacted`
pub const COMPACTED: Status = Status::new(
    Code::OutOfRange,
    "etcdserver: mvcc: required revision has been compacted",
);
/// `etcdserver: mvcc: required revision is a future revision`
pub const FUTURE_REV: Status = Status::new(
    Code::OutOfRange,
    "etcdserver: mvcc: required revision is a future revision",
);
/// `etcdserver: mvcc: database space exceeded`
pub const NO_SPACE: Status = Status::new(
    Code::ResourceExhausted,
    "etcdserver: mvcc: database space exceeded",
);
/// `etcdserver: requested lease not found`
pub const LEASE_NOT_FOUND: Status = Status::new(Code::NotFound, "etcdserver: requested lease not found");
/// `etcdserver: lease already exists`
pub const LEASE_EXIST: Status = Status::new(Code::FailedPrecondition, "etcdserver: lease already exists");
/// `etcdserver: too large lease TTL`
pub const LEASE_TTL_TOO_LARGE: Status = Status::new(Code::OutOfRange, "etcdserver: too large lease TTL");
/// `etcdserver: watch canceled`
pub const WATCH_CANCELED: Status = Status::new(Code::Canceled, "etcdserver: watch canceled");
/// `etcdserver: member ID already exist`
pub const MEMBER_EXIST: Status = Status::new(Code::FailedPrecondition, "etcdserver: member ID already exist");
/// `etcdserver: Peer URLs already exists`
pub const PEER_URL_EXIST: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
/// `etcdserver: re-configuration failed due to not enough started members`. etcd gives it to grpc-go as an error
/// without a code.
pub const MEMBER_NOT_ENOUGH_STARTED: Status = Status::new(
    Code::Unknown,
    "etcdserver: re-configuration failed due to not enough started members",
);
/// `etcdserver: given member URLs are invalid`
pub const MEMBER_BAD_URLS: Status =
    Status::new(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
/// `etcdserver: member not found`
pub const MEMBER_NOT_FOUND: Status = Status::new(Code::NotFound, "etcdserver: member not found");
/// `etcdserver: can only promote a learner member`
pub const MEMBER_NOT_LEARNER: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member",
);
/// `etcdserver: can only promote a learner member which is in sync with leader`
pub const LEARNER_NOT_READY: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader",
);
/// `etcdserver: too many learner members in cluster`
pub const TOO_MANY_LEARNERS: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: too many learner members in cluster",
);
/// `etcdserver: cluster ID mismatch`
pub const CLUSTER_ID_MISMATCH: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: cluster ID mismatch");
/// `etcdserver: request is too large`
pub const REQUEST_TOO_LARGE: Status = Status::new(Code::InvalidArgument, "etcdserver: request is too large");
/// `etcdserver: too many requests`
pub const REQUEST_TOO_MANY_REQUESTS: Status =
    Status::new(Code::ResourceExhausted, "etcdserver: too many requests");
/// `etcdserver: root user does not exist`
pub const ROOT_USER_NOT_EXIST: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: root user does not exist");
/// `etcdserver: root user does not have root role`
pub const ROOT_ROLE_NOT_EXIST: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: root user does not have root role",
);
/// `etcdserver: user name already exists`
pub const USER_ALREADY_EXIST: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: user name already exists");
/// `etcdserver: user name is empty`
pub const USER_EMPTY: Status = Status::new(Code::InvalidArgument, "etcdserver: user name is empty");
/// `etcdserver: user name not found`
pub const USER_NOT_FOUND: Status = Status::new(Code::FailedPrecondition, "etcdserver: user name not found");
/// `etcdserver: role name already exists`
pub const ROLE_ALREADY_EXIST: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: role name already exists");
/// `etcdserver: role name not found`
pub const ROLE_NOT_FOUND: Status = Status::new(Code::FailedPrecondition, "etcdserver: role name not found");
/// `etcdserver: role name is empty`
pub const ROLE_EMPTY: Status = Status::new(Code::InvalidArgument, "etcdserver: role name is empty");
/// `etcdserver: authentication failed, invalid user ID or password`
pub const AUTH_FAILED: Status = Status::new(
    Code::InvalidArgument,
    "etcdserver: authentication failed, invalid user ID or password",
);
/// `etcdserver: permission not given`
pub const PERMISSION_NOT_GIVEN: Status =
    Status::new(Code::InvalidArgument, "etcdserver: permission not given");
/// `etcdserver: permission denied`
pub const PERMISSION_DENIED: Status = Status::new(Code::PermissionDenied, "etcdserver: permission denied");
/// `etcdserver: role is not granted to the user`
pub const ROLE_NOT_GRANTED: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: role is not granted to the user",
);
/// `etcdserver: permission is not granted to the role`
pub const PERMISSION_NOT_GRANTED: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: permission is not granted to the role",
);
/// `etcdserver: authentication is not enabled`
pub const AUTH_NOT_ENABLED: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: authentication is not enabled",
);
/// `etcdserver: invalid auth token`
pub const INVALID_AUTH_TOKEN: Status = Status::new(Code::Unauthenticated, "etcdserver: invalid auth token");
/// `etcdserver: invalid auth management`
pub const INVALID_AUTH_MGMT: Status =
    Status::new(Code::InvalidArgument, "etcdserver: invalid auth management");
/// `etcdserver: revision of auth store is old`
pub const AUTH_OLD_REVISION: Status =
    Status::new(Code::InvalidArgument, "etcdserver: revision of auth store is old");
/// `etcdserver: no leader`
pub const NO_LEADER: Status = Status::new(Code::Unavailable, "etcdserver: no leader");
/// `etcdserver: not leader`
pub const NOT_LEADER: Status = Status::new(Code::FailedPrecondition, "etcdserver: not leader");
/// `etcdserver: leader changed`
pub const LEADER_CHANGED: Status = Status::new(Code::Unavailable, "etcdserver: leader changed");
/// `etcdserver: not capable`
pub const NOT_CAPABLE: Status = Status::new(Code::FailedPrecondition, "etcdserver: not capable");
/// `etcdserver: server stopped`
pub const STOPPED: Status = Status::new(Code::Unavailable, "etcdserver: server stopped");
/// `etcdserver: request timed out`
pub const TIMEOUT: Status = Status::new(Code::Unavailable, "etcdserver: request timed out");
/// `etcdserver: request timed out, possibly due to previous leader failure`
pub const TIMEOUT_DUE_TO_LEADER_FAIL: Status = Status::new(
    Code::Unavailable,
    "etcdserver: request timed out, possibly due to previous leader failure",
);
/// `etcdserver: request timed out, possibly due to connection lost`
pub const TIMEOUT_DUE_TO_CONNECTION_LOST: Status = Status::new(
    Code::Unavailable,
    "etcdserver: request timed out, possibly due to connection lost",
);
/// `etcdserver: request timed out, waiting for the applied index took too long`
pub const TIMEOUT_WAIT_APPLIED_INDEX: Status = Status::new(
    Code::Unavailable,
    "etcdserver: request timed out, waiting for the applied index took too long",
);
/// `etcdserver: unhealthy cluster`
pub const UNHEALTHY: Status = Status::new(Code::Unavailable, "etcdserver: unhealthy cluster");
/// `etcdserver: corrupt cluster`
pub const CORRUPT: Status = Status::new(Code::DataLoss, "etcdserver: corrupt cluster");
/// `etcdserver: rpc not supported for learner`
pub const NOT_SUPPORTED_FOR_LEARNER: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: rpc not supported for learner",
);
/// `etcdserver: bad leader transferee`
pub const BAD_LEADER_TRANSFEREE: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: bad leader transferee");
/// `etcdserver: wrong downgrade target version format`
pub const WRONG_DOWNGRADE_VERSION_FORMAT: Status = Status::new(
    Code::InvalidArgument,
    "etcdserver: wrong downgrade target version format",
);
/// `etcdserver: invalid downgrade target version`
pub const INVALID_DOWNGRADE_TARGET_VERSION: Status = Status::new(
    Code::InvalidArgument,
    "etcdserver: invalid downgrade target version",
);
/// `etcdserver: cluster version not found during downgrade`
pub const CLUSTER_VERSION_UNAVAILABLE: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: cluster version not found during downgrade",
);
/// `etcdserver: cluster has a downgrade job in progress`
pub const DOWNGRADE_IN_PROCESS: Status = Status::new(
    Code::FailedPrecondition,
    "etcdserver: cluster has a downgrade job in progress",
);
/// `etcdserver: no inflight downgrade job`
pub const NO_INFLIGHT_DOWNGRADE: Status =
    Status::new(Code::FailedPrecondition, "etcdserver: no inflight downgrade job");
/// `etcdserver: request canceled`
pub const CANCELED: Status = Status::new(Code::Canceled, "etcdserver: request canceled");
/// `etcdserver: context deadline exceeded`
pub const DEADLINE_EXCEEDED: Status =
    Status::new(Code::DeadlineExceeded, "etcdserver: context deadline exceeded");

/// Every status of the table.
pub const TABLE: &[Status] = &[
    EMPTY_KEY,
    KEY_NOT_FOUND,
    VALUE_PROVIDED,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    DUPLICATE_KEY,
    INVALID_CLIENT_API_VERSION,
    INVALID_SORT_OPTION,
    COMPACTED,
    FUTURE_REV,
    NO_SPACE,
    LEASE_NOT_FOUND,
    LEASE_EXIST,
    LEASE_TTL_TOO_LARGE,
    WATCH_CANCELED,
    MEMBER_EXIST,
    PEER_URL_EXIST,
    MEMBER_NOT_ENOUGH_STARTED,
    MEMBER_BAD_URLS,
    MEMBER_NOT_FOUND,
    MEMBER_NOT_LEARNER,
    LEARNER_NOT_READY,
    TOO_MANY_LEARNERS,
    CLUSTER_ID_MISMATCH,
    REQUEST_TOO_LARGE,
    REQUEST_TOO_MANY_REQUESTS,
    ROOT_USER_NOT_EXIST,
    ROOT_ROLE_NOT_EXIST,
    USER_ALREADY_EXIST,
    USER_EMPTY,
    USER_NOT_FOUND,
    ROLE_ALREADY_EXIST,
    ROLE_NOT_FOUND,
    ROLE_EMPTY,
    AUTH_FAILED,
    PERMISSION_NOT_GIVEN,
    PERMISSION_DENIED,
    ROLE_NOT_GRANTED,
    PERMISSION_NOT_GRANTED,
    AUTH_NOT_ENABLED,
    INVALID_AUTH_TOKEN,
    INVALID_AUTH_MGMT,
    AUTH_OLD_REVISION,
    NO_LEADER,
    NOT_LEADER,
    LEADER_CHANGED,
    NOT_CAPABLE,
    STOPPED,
    TIMEOUT,
    TIMEOUT_DUE_TO_LEADER_FAIL,
    TIMEOUT_DUE_TO_CONNECTION_LOST,
    TIMEOUT_WAIT_APPLIED_INDEX,
    UNHEALTHY,
    CORRUPT,
    NOT_SUPPORTED_FOR_LEARNER,
    BAD_LEADER_TRANSFEREE,
    WRONG_DOWNGRADE_VERSION_FORMAT,
    INVALID_DOWNGRADE_TARGET_VERSION,
    CLUSTER_VERSION_UNAVAILABLE,
    DOWNGRADE_IN_PROCESS,
    NO_INFLIGHT_DOWNGRADE,
    CANCELED,
    DEADLINE_EXCEEDED,
];

/// The table's status for a text, as clients look it up.
pub fn from_message(message: &str) -> Option<Status> {
    TABLE.iter().find(|status| status.message == message).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique_and_found_again() {
        for status in TABLE {
            assert_eq!(from_message(&status.message).as_ref(), Some(status));
            let number = u32::from(status.code.number());
            assert_eq!(Code::from_number(number), status.code);
        }
    }
}
