//! Sockets, threads and the time of day around a member.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
mod driver;
mod front;
mod grpc;
mod http;
mod listen;
pub mod log;
mod metrics;
mod run;
mod server;
mod services;
#[cfg(test)]
mod tests;

pub use run::run;
