//! The raft stage: proposals, ticks and acknowledgements in; entries to save and committed entries
//! out. Never does I/O, so a tick never waits for a disk.

#![allow(clippy::todo)]

use std::sync::Arc;

use api::clock::Instant;

use crate::message::ToDecide;
use crate::router::Router;
use crate::shared::Shared;

/// The raft stage.
pub struct Decide {
    shared: Arc<Shared>,
}

/// What Persist has made durable.
#[derive(Clone, Copy, Debug)]
pub struct Persisted {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// What Apply decided about a configuration change.
#[derive(Clone, Debug)]
pub struct ConfApplied {
    pub(crate) index: u64,
}

/// What raft wants saved.
#[derive(Clone, Debug)]
pub(crate) struct Unsaved {}

impl Unsaved {
    pub(crate) fn is_urgent(&self) -> bool {
        todo!()
    }
}

impl Decide {
    /// Takes a batch of messages (it may be empty: then only time has passed), and sends on what
    /// follows from them. `inputs` is drained.
    pub fn handle(&mut self, inputs: &mut Vec<ToDecide>, now: Instant, router: &dyn Router) {
        let _ = (&self.shared, inputs, now, router);
        todo!()
    }
}
