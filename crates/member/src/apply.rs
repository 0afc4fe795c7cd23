//! The apply stage: the replicated machine, and beside it lessor, compactor, version monitor and
//! snapshot decision.

#![allow(clippy::todo)]

use std::sync::Arc;

use api::clock::Instant;

use crate::message::ToApply;
use crate::router::Router;
use crate::shared::Shared;

/// The apply stage.
pub struct Apply {
    shared: Arc<Shared>,
}

/// Committed entries.
#[derive(Clone, Debug)]
pub struct CommittedBatch {}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub(crate) term: u64,
    pub(crate) leader: u64,
}

/// What became of a batch for the data file.
pub struct FileCommitted {}

/// What a job of Apply found.
pub struct JobDone {}

impl Apply {
    /// Takes a batch of messages (it may be empty: then only time has passed), and sends on what
    /// follows. `inputs` is drained. May wait for cold pages, never for a sync.
    pub fn handle(&mut self, inputs: &mut Vec<ToApply>, now: Instant, router: &dyn Router) {
        let _ = (&self.shared, inputs, now, router);
        todo!()
    }

    /// When `handle` must be called although nothing came in.
    pub fn next_wake(&self) -> Option<Instant> {
        todo!()
    }
}
