//! The log stage: writes each batch with one sync and says so. Never decides anything.

#![allow(clippy::todo)]

use api::clock::Instant;

use crate::message::ToPersist;
use crate::router::Router;

/// The log stage.
pub struct Persist {}

impl Persist {
    /// Takes a batch of messages, writes it with one sync, and sends on what follows. `inputs` is
    /// drained. Waits for the disk.
    pub fn handle(&mut self, inputs: &mut Vec<ToPersist>, now: Instant, router: &dyn Router) {
        let _ = (inputs, now, router);
        todo!()
    }
}
