//! Sockets, threads and the time of day around a member.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
mod descriptors;
mod discovery;
mod driver;
mod front;
mod grpc;
mod guard;
mod http;
mod listen;
pub mod log;
mod metrics;
mod peers;
mod run;
mod server;
mod services;
mod tcp_gateway;
#[cfg(test)]
mod tests;
mod words;

pub use run::run;
pub use tcp_gateway::gateway;
