//! Wire messages, error texts and codes, versions, URLs of members. Never does I/O.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod clock;
pub mod error;
pub mod url;
pub mod version;

/// Messages compiled from `proto/`, a module a package.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use messages::*;

/// The compiled file descriptors, encoded as a `FileDescriptorSet`: what the JSON gateway reads.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
