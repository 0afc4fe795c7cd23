//! A whole cluster in one thread: the stages of [`member`] wired as the server wires them, with virtual time,
//! network and disks, clients that know what may be true, and faults. One seed decides everything, so a failure is told
//! again by its number. Never opens a real file or socket, and never reads a real clock.

mod client;
mod faults;
mod hashes;
mod model;
mod net;
mod node;
mod trace;
mod truth;
mod watcher;
mod world;

pub use world::{Report, run};
