//! One member without sockets, clock or threads.
//!
//! Three plain structs carry a write: [`Decide`] (raft), [`Persist`] (log and snapshot files) and
//! [`Apply`] (the replicated machine, lessor, compactor, version monitor); a [`Committer`] puts
//! batches into the data file and [`Job`]s do what may take long. Each takes a batch of messages
//! by `handle(inputs, now, router)` and sends what follows through the [`Router`], so the wiring
//! is written once and a driver only decides which thread (or turn of a simulation) runs a stage.
//!
//! Time is an argument, chance a seed; files are reached through `disk` alone.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod archive;
mod committer;
pub mod compactor;
mod config;
mod corruption;
mod decide;
mod error;
pub mod frontend;
mod heartbeats;
pub mod lessor;
mod log;
mod measure;
mod message;
mod monitor;
mod open;
pub mod peer;
mod persist;
mod router;
mod shared;
pub mod tally;
mod unwritten;

pub use apply::{Apply, CommittedBatch, FileCommitted, JobDone, Role};
pub use archive::Fetched;
pub use committer::Committer;
pub use config::{AutoCompaction, Config, InitialMember, Join};
pub use corruption::{HashAnswer, PeerHash};
pub use decide::{ConfApplied, Decide, Persisted};
pub use error::{Error, Fatal};
pub use log::{Level, Log, LogLine, LogValue, human_bytes};
pub use measure::{AppliedEntry, Measure, Work};
pub use message::{FullDisk, SaveBatch, SnapshotFile, ToApply, ToCommitter, ToDecide, ToFront, ToPersist};
pub use open::{FrontSeat, Opened, open};
pub use peer::{Parcel, PeerAnswer, PeerQuestion, ToPeer};
pub use persist::{Persist, SpareMade};
pub use router::{Job, JobKind, Router};
pub use shared::{Alarm, Facts, Member, Shared};
