//! TLS by etcd's rules (client/pkg/transport, client/pkg/tlsutil): the settings of one side, the
//! files behind them, whom to trust, and the words that Go's library has for what goes wrong.
//! Never opens a socket and never logs; it makes configurations for those who do.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod certificate;
mod client;
mod error;
mod files;
mod info;
mod p521;
mod plain_chain;
mod provider;
mod self_signed;
mod server;
mod suites;
mod verify;
pub mod words;

pub use certificate::Names;
pub use client::ClientSide;
pub use error::Error;
pub use files::Stamp;
pub use info::{Info, Version};
pub use rustls;
pub use self_signed::{PERIODS_MAX, SelfSigned, make_self_signed};
pub use server::ServerSide;
pub use suites::{CipherSuites, cipher_suites};
