//! Sockets, threads and the time of day around a member.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod log;
