//! A write transaction: the changes of one raft entry, all with one main revision.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};

use crate::events::Previous;
use crate::index::KeyRange;
use crate::record::{put_bytes, put_varint_field, varint_len};
use crate::{
    Error, Event, EventKind, KeyInfo, RangeOptions, RangeResult, Reader, Record, Rev, RevKey, Store, Wait,
};

/// Bytes of an allocation that holds many records.
const ARENA_BYTES: usize = 32 << 10;

/// The changes of one entry. Ranges within it see the changes made so far. Ends when dropped or by
/// [`WriteTxn::end`]; the store's revision grows by one if there was a change.
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    begin: i64,
    changes: usize,
    counts: OpCounts,
    ranges: Cell<u64>,
}

/// Operations since the store was opened, counted as etcd counts them
/// (etcd: mvcc/metrics_txn.go): calls, not keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Ranges read.
    pub ranges: u64,
    /// Pairs put.
    pub puts: u64,
    /// Deletions asked for, whether or not there was a key.
    pub deletes: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Bytes of keys and values put.
    pub put_bytes: u64,
}

impl OpCounts {
    /// Adds what one transaction did.
    pub fn add(&mut self, done: OpCounts) {
        self.ranges += done.ranges;
        self.puts += done.puts;
        self.deletes += done.deletes;
        self.txns += u64::from(done.ranges + done.puts + done.deletes > 1);
        self.put_bytes += done.put_bytes;
    }
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct Put {
    /// Main revision of the change: what the response header shows.
    pub revision: i64,
    /// What the index knew of the key before; [`KeyInfo::leased`] tells whether it held a lease.
    pub previous: Option<KeyInfo>,
    /// The encoded pair as stored.
    pub record: Bytes,
}

/// A key that a delete removed.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// What the index knew of it before.
    pub previous: KeyInfo,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store) -> WriteTxn<'a> {
        let begin = store.revision;
        WriteTxn {
            store,
            begin,
            changes: 0,
            counts: OpCounts::default(),
            ranges: Cell::new(0),
        }
    }

    /// The store's revision when the transaction began.
    pub fn begin_revision(&self) -> i64 {
        self.begin
    }

    /// The revision that a response header shows now: one more than at the beginning once there was a change.
    pub fn revision(&self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    /// Number of changes so far.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// Writes a pair. Cannot fail; needs no file access.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Put {
        self.counts.puts += 1;
        self.counts.put_bytes += (key.len() + value.len()) as u64;
        let rev = self.next_rev();
        let previous = self.store.index.put(key, packed(rev), lease != 0);
        let (create, version) = previous.map_or((rev.main, 1), |info| (info.create, info.version + 1));
        let record = Record {
            key,
            create,
            modified: rev.main,
            version,
            value,
            lease,
        };
        let arena = room(&mut self.store.arena, record.encoded_len());
        record.encode(arena);
        let record = arena.split().freeze();
        self.store.pending.bytes += record.len();
        self.store.recent.push(
            RevKey {
                rev,
                tombstone: false,
            },
            record.clone(),
        );
        let event = Event::new(
            rev,
            EventKind::Put,
            record.clone(),
            create == rev.main,
            Previous::of(previous, rev),
        );
        self.store.events.push(event);
        Put {
            revision: rev.main,
            previous,
            record,
        }
    }

    /// Deletes all keys of the range (see [`RangeOptions::range_end`]) in ascending order; needs no file access.
    pub fn delete_range(&mut self, key: &[u8], range_end: &[u8]) -> Vec<Deleted> {
        self.counts.deletes += 1;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let at = self.revision();
        self.store
            .index
            .visit(KeyRange::new(key, range_end), at, |key, _| {
                keys.push(key.to_vec());
                true
            });
        keys.iter().filter_map(|key| self.delete(key)).collect()
    }

    fn delete(&mut self, key: &[u8]) -> Option<Deleted> {
        let rev = Rev::new(self.begin + 1, self.changes as i64);
        let previous = self.store.index.delete(key, packed(rev))?;
        self.next_rev();
        // The stored tombstone has only the key; the event shows the revision as well.
        let arena = room(&mut self.store.arena, key.len() + 2 * (1 + varint_len(u64::MAX)));
        put_bytes(arena, 1, key);
        let stored = arena.len();
        put_varint_field(arena, 3, rev.main);
        let shown = arena.split().freeze();
        let record = shown.slice(..stored);
        self.store.pending.bytes += stored;
        let key = record.slice(stored - key.len()..);
        self.store.recent.push(RevKey { rev, tombstone: true }, record);
        let event = Event::new(
            rev,
            EventKind::Delete,
            shown,
            false,
            Previous::of(Some(previous), rev),
        );
        self.store.events.push(event);
        Some(Deleted { key, previous })
    }

    fn next_rev(&mut self) -> Rev {
        let rev = Rev::new(self.begin + 1, self.changes as i64);
        self.changes += 1;
        self.store.pending.ops += 1;
        rev
    }

    /// Answers a range request; the changes made so far are seen.
    pub fn range(&self, options: &RangeOptions<'_>) -> Result<RangeResult, Error> {
        self.count_range();
        self.reader().range(options, Wait::Yes)
    }

    /// Counts a range that was read by [`WriteTxn::reader`].
    pub fn count_range(&self) {
        self.ranges.set(self.ranges.get() + 1);
    }

    /// Reads of the state with the changes made so far.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            revision: self.revision(),
            ..self.store.reader()
        }
    }

    /// Ends the transaction; whether it changed anything.
    pub fn end(self) -> bool {
        self.changes > 0
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        self.store.revision = self.revision();
        self.counts.ranges = self.ranges.get();
        self.store.counts.add(self.counts);
    }
}

fn packed(rev: Rev) -> (i64, u32) {
    let sub = u32::try_from(rev.sub).expect("a transaction's changes are all in memory, and fewer than 2^32");
    (rev.main, sub)
}

/// Room for one more record: small ones share an allocation, large ones have their own.
fn room(arena: &mut BytesMut, len: usize) -> &mut BytesMut {
    if arena.capacity() < len {
        *arena = BytesMut::with_capacity(len.max(if len > ARENA_BYTES / 4 { len } else { ARENA_BYTES }));
    }
    arena
}
