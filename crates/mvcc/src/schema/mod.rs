//! The buckets of the data file beside the history of keys, and the form of their rows.
//!
//! Readers take any [`Rows`]: the store's [`Backend`] with its pending writes, or a snapshot of a file that no
//! member has open. Writers take the backend. What etcd cannot have written is [`Error::Corrupt`].
//! Never opens a file.

mod cluster;
mod json;
mod lease;
mod meta;
mod storage_version;

use bytes::Bytes;

use crate::{Backend, Error};

pub use cluster::{
    Alarm, Downgrade, Member, alarms, auth_enabled, cluster_version, delete_alarm, delete_member, downgrade,
    forget_members, member_id_text, members, put_alarm, put_auth_enabled, put_cluster_version, put_downgrade,
    put_member, removed_members,
};
pub use json::push_go_string;
pub use lease::{Lease, delete_lease, leases, put_lease};
pub(crate) use meta::{CONSISTENT_INDEX, FINISHED_COMPACT, SCHEDULED_COMPACT, TERM};
pub use meta::{
    Compactions, ConfState, compactions, conf_state, consistent_index, encode_conf_state, put_conf_state,
    put_consistent_index,
};
pub(crate) use storage_version::STORAGE_VERSION;
pub use storage_version::{UnsupportedVersion, migrate, migration, put_storage_version, storage_version};

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

/// Reading of rows.
pub trait Rows {
    /// The value of a row.
    fn row(&self, bucket: &'static str, key: &[u8]) -> Result<Option<Bytes>, Error>;
    /// All rows of a bucket, ascending.
    fn rows(&self, bucket: &'static str) -> Result<Vec<(Bytes, Bytes)>, Error>;
}

impl Rows for Backend {
    fn row(&self, bucket: &'static str, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.get(bucket, key)
    }

    fn rows(&self, bucket: &'static str) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.scan(bucket)
    }
}

impl Rows for bbolt::Snapshot {
    fn row(&self, bucket: &'static str, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.get(bucket.as_bytes(), key, bbolt::Wait::Yes)?)
    }

    fn rows(&self, bucket: &'static str) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut cursor = self.cursor(bucket.as_bytes(), bbolt::Wait::Yes)?;
        let mut rows = Vec::new();
        let mut row = cursor.first()?;
        while let Some(found) = row {
            rows.push(found);
            row = cursor.next()?;
        }
        Ok(rows)
    }
}

/// A row that holds one big-endian number.
fn decode_u64(bucket: &'static str, key: &[u8], value: &[u8]) -> Result<u64, Error> {
    let bytes = value
        .try_into()
        .map_err(|_| Error::corrupt(bucket, key, "a number has 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}
