//! The buckets of the data file and the form of their rows. Never reads or writes a file.

/// History of all keys.
pub const KEY: &str = "key";
/// Consistent index, term, configuration, storage version, compactions.
pub const META: &str = "meta";
/// Leases.
pub const LEASE: &str = "lease";
/// Raised alarms.
pub const ALARM: &str = "alarm";
/// Cluster version and downgrade.
pub const CLUSTER: &str = "cluster";
/// Members.
pub const MEMBERS: &str = "members";
/// Members that were removed and never come back.
pub const MEMBERS_REMOVED: &str = "members_removed";
/// Whether auth is on, and its revision.
pub const AUTH: &str = "auth";
/// Users.
pub const AUTH_USERS: &str = "authUsers";
/// Roles.
pub const AUTH_ROLES: &str = "authRoles";

/// All buckets, which every member makes at its first start.
pub const BUCKETS: [&str; 10] = [
    KEY,
    META,
    LEASE,
    ALARM,
    CLUSTER,
    MEMBERS,
    MEMBERS_REMOVED,
    AUTH,
    AUTH_USERS,
    AUTH_ROLES,
];
