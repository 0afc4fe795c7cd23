//! What watchers see: an event a change, encoded at most once however many see it.

use bytes::Bytes;

use crate::Rev;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Debug)]
pub struct Event {
    /// When.
    pub rev: Rev,
    /// What.
    pub kind: EventKind,
}

impl Event {
    /// The key.
    pub fn key(&self) -> &[u8] {
        todo!()
    }

    /// The encoded pair as an event shows it; of a deletion: key and mod revision.
    pub fn kv(&self) -> &Bytes {
        todo!()
    }

    /// Whether it is the put that made the key: such an event has no previous pair.
    pub fn is_create(&self) -> bool {
        todo!()
    }

    /// The encoded `mvccpb.Event` without previous pair; made at the first call.
    pub fn encoded(&self) -> &Bytes {
        todo!()
    }

    /// The encoded `mvccpb.Event` with the previous pair, which `look_up` gets if this is the first call ([`crate::View::previous`]).
    pub fn encoded_with_previous<E>(
        &self,
        _look_up: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<&Bytes, E> {
        todo!()
    }
}

/// The events of one publication, in revision order.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// The events; those of one main revision are neighbours and never split over batches.
    pub events: Vec<Event>,
    /// The store's revision after them.
    pub revision: i64,
}

impl EventBatch {
    /// The events revision by revision.
    pub fn revisions(&self) -> impl Iterator<Item = (i64, &[Event])> {
        self.events
            .chunk_by(|a, b| a.rev.main == b.rev.main)
            .map(|group| (group[0].rev.main, group))
    }
}

/// How much history one call reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Stop after the revision with which the events' pairs reach this many bytes.
    pub bytes_max: usize,
    /// Stop after the revision with which this many rows were looked at.
    pub rows_max: usize,
}

/// A piece of the past.
#[derive(Debug, Default)]
pub struct History {
    /// The wanted events, in revision order.
    pub events: Vec<Event>,
    /// The first revision not looked at: where to go on; past the end when nothing is left.
    pub next: i64,
}
