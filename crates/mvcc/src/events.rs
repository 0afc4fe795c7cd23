//! What watchers see: an event a change, encoded at most once however many see it.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::{put_bytes, put_varint, put_varint_field, varint_len};
use crate::schema::KEY;
use crate::{Error, KeyInfo, Record, Rev, RevKey, View, Wait};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// Where the pair is that an event replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    /// There was none.
    None,
    /// At this revision.
    At(Rev),
    /// The index must be asked.
    Unknown,
}

impl Previous {
    pub(crate) fn of(info: Option<KeyInfo>, rev: Rev) -> Previous {
        match info {
            None => Previous::None,
            // What the same transaction wrote is not what was there before it.
            Some(info) if info.modified.main == rev.main => Previous::Unknown,
            Some(info) => Previous::At(info.modified),
        }
    }
}

/// One change of one key.
#[derive(Debug)]
pub struct Event {
    /// When.
    pub rev: Rev,
    /// What.
    pub kind: EventKind,
    is_create: bool,
    previous: Previous,
    kv: Bytes,
    encoded: OnceLock<Bytes>,
    encoded_with_previous: OnceLock<Bytes>,
}

impl Event {
    pub(crate) fn new(rev: Rev, kind: EventKind, kv: Bytes, is_create: bool, previous: Previous) -> Event {
        Event {
            rev,
            kind,
            is_create,
            previous,
            kv,
            encoded: OnceLock::new(),
            encoded_with_previous: OnceLock::new(),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        Record::decode(&self.kv).map_or(&[], |record| record.key)
    }

    /// The encoded pair as an event shows it; of a deletion: key and mod revision.
    pub fn kv(&self) -> &Bytes {
        &self.kv
    }

    /// Whether it is the put that made the key: such an event has no previous pair.
    pub fn is_create(&self) -> bool {
        self.is_create
    }

    /// The encoded `mvccpb.Event` without previous pair; made at the first call.
    pub fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| self.encode(None))
    }

    /// The encoded `mvccpb.Event` with the previous pair, which `look_up` gets if this is the first call ([`crate::View::previous`]).
    pub fn encoded_with_previous<E>(
        &self,
        look_up: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<&Bytes, E> {
        if let Some(encoded) = self.encoded_with_previous.get() {
            return Ok(encoded);
        }
        let encoded = match look_up()? {
            Some(previous) => self.encode(Some(&previous)),
            None => self.encoded().clone(),
        };
        Ok(self.encoded_with_previous.get_or_init(|| encoded))
    }

    fn encode(&self, previous: Option<&Bytes>) -> Bytes {
        let field_len = |bytes: &Bytes| 1 + varint_len(bytes.len() as u64) + bytes.len();
        let mut out = BytesMut::with_capacity(2 + field_len(&self.kv) + previous.map_or(0, field_len));
        put_varint_field(&mut out, 1, i64::from(self.kind == EventKind::Delete));
        for (tag, message) in [(0x12, Some(&self.kv)), (0x1a, previous)] {
            // Unlike bytes, a message that is there is written even if it is empty.
            if let Some(message) = message {
                out.put_u8(tag);
                put_varint(&mut out, message.len() as u64);
                out.put_slice(message);
            }
        }
        out.freeze()
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

/// A history under construction.
struct Reading<'a> {
    to: i64,
    limits: HistoryLimits,
    wanted: &'a mut dyn FnMut(&[u8]) -> bool,
    history: History,
    bytes: usize,
    rows: usize,
    /// Main revision of the last row looked at.
    last: i64,
}

impl Reading<'_> {
    /// Regards a row; `false` if it is beyond what is to be read.
    fn row(&mut self, at: RevKey, value: &Bytes) -> Result<bool, Error> {
        let main = at.rev.main;
        let is_full = self.bytes >= self.limits.bytes_max || self.rows >= self.limits.rows_max;
        if main > self.to || is_full && main > self.last && self.rows > 0 {
            self.history.next = main;
            return Ok(false);
        }
        self.last = main;
        self.rows += 1;
        let record = Record::decode(value)
            .ok_or_else(|| Error::corrupt(KEY, &at.rev.to_bytes(), "the value is not a key-value pair"))?;
        if (self.wanted)(record.key) {
            let event = event(at, &record, value);
            self.bytes += event.kv.len();
            self.history.events.push(event);
        }
        Ok(true)
    }
}

fn event(at: RevKey, record: &Record<'_>, value: &Bytes) -> Event {
    if !at.tombstone {
        let is_create = record.create == record.modified;
        let previous = if is_create {
            Previous::None
        } else {
            Previous::Unknown
        };
        return Event::new(at.rev, EventKind::Put, value.clone(), is_create, previous);
    }
    let mut kv = BytesMut::with_capacity(value.len() + 11);
    put_bytes(&mut kv, 1, record.key);
    put_varint_field(&mut kv, 3, at.rev.main);
    Event::new(at.rev, EventKind::Delete, kv.freeze(), false, Previous::Unknown)
}

/// See [`View::history`].
pub(crate) fn history(
    view: &View,
    from: i64,
    to: i64,
    limits: HistoryLimits,
    wanted: &mut dyn FnMut(&[u8]) -> bool,
    wait: Wait,
) -> Result<History, Error> {
    if from < view.compact_revision {
        return Err(Error::Compacted);
    }
    let to = to.min(view.revision);
    let history = History {
        events: Vec::new(),
        next: to.max(from.saturating_sub(1)).saturating_add(1),
    };
    let mut reading = Reading {
        to,
        limits,
        wanted,
        history,
        bytes: 0,
        rows: 0,
        last: 0,
    };
    let start = Rev::new(from.max(0), 0);
    let mut in_memory = start;
    // The oldest revision in memory may be the middle of a transaction.
    if view.recent.oldest().is_none_or(|oldest| oldest >= start) {
        in_memory = start.max(Rev::new(view.committed_revision.saturating_add(1), 0));
        let mut cursor = view.db.cursor(KEY.as_bytes(), wait)?;
        let mut next = cursor.seek(&start.to_bytes())?;
        while let Some((key, value)) = next {
            if !reading.row(RevKey::decode(&key)?, &value)? {
                return Ok(reading.history);
            }
            next = cursor.next()?;
        }
    }
    for recent in view.recent.iter_from(in_memory) {
        if !reading.row(recent.key, &recent.record)? {
            break;
        }
    }
    Ok(reading.history)
}

/// See [`View::previous`].
pub(crate) fn previous(view: &View, event: &Event, wait: Wait) -> Result<Option<Bytes>, Error> {
    let before = event.rev.main - 1;
    if event.is_create || before < view.compact_revision {
        return Ok(None);
    }
    let reader = view.reader();
    match event.previous {
        Previous::None => Ok(None),
        Previous::At(rev) => reader.record(rev, wait).map(Some),
        Previous::Unknown => reader.get(event.key(), before, wait),
    }
}
