//! Sockets between members: rafthttp as etcd 3.5 to 3.7 speak it, both ways.
//!
//! ```text
//!  stages ──send──▶ lanes ──▶ streams that others asked for  ──▶ their raft
//!                     │  └──▶ posts, where there is no stream ─▶
//!                     └─ snapshots: the message, then the data file
//!  stages ◀─deliver── streams that this member asks others for, and what they post
//! ```
//!
//! All connections live on one thread of their own, so that ticks, heartbeats and appends never wait for
//! clients. Files are read and written by threads that come and go with a snapshot. The crate decides
//! nothing: what comes is handed to raft, which trusts nobody, and what cannot be sent is dropped and
//! reported. The encodings ([`message`], [`framing`], [`appends`]) are pure.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod appends;
mod body;
mod client;
mod core;
mod dial;
pub mod framing;
pub mod fuzz;
mod gather;
mod headers;
mod host;
mod host_header;
mod io;
mod lane;
pub mod message;
mod names;
mod peer;
mod pipeline;
mod pool;
mod prober;
mod reader;
mod receiving;
mod room;
mod serve;
mod shipping;
mod transport;
mod wall;
mod writer;

pub use client::{Call, CallError, Purpose, call_and_wait};
pub use dial::Dialer;
pub use host::{Answer, Count, Host, Question, Reply};
pub use host_header::host_refusal;
pub use io::{Connection, HyperIo};
pub use transport::{Door, Doorway, Options, Transport};

/// How long a connection may say nothing: rafthttp/peer.go, ConnReadTimeout.
const READ_MAX: std::time::Duration = std::time::Duration::from_secs(5);
