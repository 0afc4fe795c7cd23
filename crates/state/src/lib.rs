//! The deterministic machine that applies the log: keys, leases, alarms, membership.
//!
//! [`Machine::apply`] takes committed entries one by one and leaves replies and [`Effect`]s; all
//! members of a cluster that apply the same log have the same state, byte for byte, and those that
//! run Go etcd too. It owns the store. Never reads a clock or a file, never talks to anyone; what
//! depends on time (which leases expire, when to compact) is decided above and comes as entries.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod alarms;
mod auth;
mod cluster;
mod effect;
mod entry;
mod error;
mod gojson;
mod ids;
mod kv;
mod leases;
mod lenient;
mod machine;
mod membership;
mod mending;
mod min_version;
mod op;
mod quota;
pub mod read;
mod reply;
mod request;
mod restore;
mod rows;
mod txn;
mod v2_request;
pub mod v2store;
mod wire;

pub use alarms::Alarms;
pub use effect::{Applied, Effect, Hold, Reply};
pub use entry::{Committed, EntryKind, request_id};
pub use error::Error;
pub use ids::{cluster_id, member_id};
pub use leases::{LEASE_TTL_MAX, Lease, Leases};
pub use lenient::APPLY_STACK_BYTES;
pub use machine::{Machine, Options, Shared};
pub use membership::{ChangeContext, Member, Membership};
pub use mending::Mending;
pub use min_version::minimal_version;
pub use mvcc::schema::Downgrade;
pub use op::OpKind;
pub use quota::{QUOTA_DEFAULT_BYTES, Quota, lease_cost, put_cost, txn_cost};
pub use reply::{Header, wire_member};
pub use v2_request::contains_v2_request;
