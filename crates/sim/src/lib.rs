//! A whole cluster in one thread: the stages of [`member`] wired as the server wires them, with virtual time,
//! network and disks, clients that know what may be true, and faults. One seed decides everything, so a failure is told
//! again by its number. Never opens a real file or socket, and never reads a real clock.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod callers;
mod client;
mod consensus;
mod copier;
mod damage;
mod durable;
mod faults;
mod flip;
mod hashes;
mod layout;
mod lessee;
mod linear;
mod looks;
mod model;
mod net;
mod node;
mod operator;
mod plan;
mod pool;
mod promise;
mod questions;
mod reading;
mod restart;
mod roster;
mod rot;
mod shrink;
mod states;
mod straggler;
mod trace;
mod truth;
mod verdict;
mod watcher;
mod wire;
mod world;

pub use plan::Plan;
pub use shrink::{Smaller, shrink};
pub use states::{STATES, missing};
pub use world::{Report, run, run_plan};
