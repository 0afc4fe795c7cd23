//! Puts batches into the data file: one transaction each, with its sync. Never looks into them.

#![allow(clippy::todo)]

use crate::message::ToCommitter;
use crate::router::Router;

/// The stage that writes the data file.
pub struct Committer {}

impl Committer {
    /// Takes messages and answers each to Apply. `inputs` is drained. Waits for the disk.
    pub fn handle(&mut self, inputs: &mut Vec<ToCommitter>, router: &dyn Router) {
        let _ = (inputs, router);
        todo!()
    }
}
