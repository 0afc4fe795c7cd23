//! One member without sockets, clock or threads.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod frontend;
