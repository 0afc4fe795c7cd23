//! Linearizable reads: requests that wait until a quorum has confirmed that this member still leads.
//!
//! Every request gets the commit index of its arrival. Heartbeats carry the number of the newest request; a response
//! with a number confirms all requests up to it. Numbers begin anew with each leadership, and responses of another term
//! never get here. (go.etcd.io/raft/v3 v3.7.0, read_only.go; members only echo the number, so older ones can follow.)

use std::collections::VecDeque;

use bytes::Bytes;

/// One request for a read index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadRequest {
    /// Who asked; this member itself or one that forwarded.
    pub(crate) from: u64,
    /// What it is to get back.
    pub(crate) context: Bytes,
}

/// The requests of one leadership.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Came before the leader had committed in its term; it does not know the commit index yet.
    held: Vec<ReadRequest>,
    /// Wait for confirmation, each with its index.
    waiting: VecDeque<(ReadRequest, u64)>,
    /// How many have been confirmed. The newest request has number `confirmed + waiting.len()`.
    confirmed: u64,
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.held.len() + self.waiting.len()
    }

    /// Forgets all: the leadership has ended. Whoever asked will ask again.
    pub(crate) fn reset(&mut self) {
        self.held.clear();
        self.waiting.clear();
        self.confirmed = 0;
    }

    pub(crate) fn hold(&mut self, request: ReadRequest) {
        self.held.push(request);
    }

    pub(crate) fn take_held(&mut self) -> Vec<ReadRequest> {
        std::mem::take(&mut self.held)
    }

    pub(crate) fn wait(&mut self, request: ReadRequest, index: u64) {
        self.waiting.push_back((request, index));
    }

    /// The number of the newest request that waits; `None` if none does.
    pub(crate) fn newest(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.confirmed + self.waiting.len() as u64)
    }

    /// What heartbeats carry: the number of the newest request, or nothing.
    pub(crate) fn heartbeat_context(&self) -> Bytes {
        self.newest()
            .map_or_else(Bytes::new, |number| Bytes::copy_from_slice(&number.to_le_bytes()))
    }

    /// The number that a response confirms. `None` for what this leadership never sent: it comes from a broken peer.
    pub(crate) fn parse_ack(&self, context: &[u8]) -> Option<u64> {
        let number = u64::from_le_bytes(context.try_into().ok()?);
        (number <= self.confirmed + self.waiting.len() as u64).then_some(number)
    }

    /// The next request that is confirmed if a quorum has confirmed up to `number`.
    pub(crate) fn pop_confirmed(&mut self, number: u64) -> Option<(ReadRequest, u64)> {
        if self.confirmed >= number {
            return None;
        }
        let confirmed = self.waiting.pop_front()?;
        self.confirmed += 1;
        Some(confirmed)
    }
}
