//! Puts, deletes and ranges inside a write transaction, with the checks that come before a put.
//! Needs the device only where an old value or lease is asked for.

use api::error::{self, Code, Status};
use api::etcdserverpb as pb;
use api::version::Line;
use bytes::Bytes;
use mvcc::{Reader, Record, Wait, WriteTxn};

use crate::leases::Leases;
use crate::read::range_options;
use crate::reply::Op;
use crate::wire::message_len;

/// The longest message that gRPC carries (etcd: v3rpc/grpc.go, maxSendBytes).
pub(crate) const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// Why an operation was not done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The client asked for what can not be; every member says so.
    Refused(Status),
    /// This member's store failed.
    Failed(mvcc::Error),
}

impl From<mvcc::Error> for Stop {
    fn from(error: mvcc::Error) -> Stop {
        match crate::read::refusal(&error) {
            Some(status) => Stop::Refused(status),
            None => Stop::Failed(error),
        }
    }
}

/// What a put has to know of the pair it replaces: nothing, or the pair, which may not exist.
type Previous = Option<Bytes>;

/// Checks a put against the state before it, and reads the pair it replaces where the put, or its
/// answer, needs it (etcd: txn/put.go; the lease is looked at first).
pub(crate) fn check_put(
    reader: &Reader<'_>,
    leases: &Leases,
    put: &pb::PutRequest,
    answered: bool,
) -> Result<Previous, Stop> {
    if put.lease != 0 && !leases.contains(put.lease) {
        return Err(Stop::Refused(error::LEASE_NOT_FOUND));
    }
    let needed = put.ignore_value || put.ignore_lease;
    let shown = put.prev_kv && answered;
    if !(needed || shown) {
        return Ok(None);
    }
    let previous = reader.get(&put.key, reader.revision(), Wait::Yes)?;
    match previous {
        None if needed => Err(Stop::Refused(error::KEY_NOT_FOUND)),
        previous => Ok(previous),
    }
}

/// A write transaction with what hangs on its keys.
pub(crate) struct Writer<'a> {
    pub(crate) txn: WriteTxn<'a>,
    pub(crate) leases: &'a mut Leases,
    pub(crate) line: Line,
    /// Whether somebody waits for the answer; if not, nothing is read for it.
    pub(crate) answered: bool,
    /// What the answer has taken so far, and may take.
    pub(crate) room: Room,
}

/// The room for pairs in an answer, in bytes. What is written does not depend on it: it must be the same on all members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    used: usize,
    max: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Room {
        Room { used: 0, max }
    }

    /// Takes room for pairs; whether there was any.
    pub(crate) fn take<'a>(&mut self, kvs: impl IntoIterator<Item = &'a Bytes>) -> bool {
        let lens = kvs.into_iter().map(|kv| message_len(2, kv.len()));
        self.used = lens.fold(self.used, usize::saturating_add);
        self.used <= self.max
    }

    /// What the client is told instead of an answer for which there was no room, in the words of grpc-go.
    pub(crate) fn refusal(&self) -> Option<Status> {
        (self.used > self.max).then(|| {
            let (used, max) = (self.used, self.max);
            Status::with(
                Code::ResourceExhausted,
                format!("grpc: trying to send message larger than max ({used} vs. {max})"),
            )
        })
    }
}

impl Writer<'_> {
    /// Puts a pair. Nothing is written if this fails. In a txn, which was checked before, the
    /// checks see what its earlier operations left.
    pub(crate) fn put(&mut self, put: &pb::PutRequest) -> Result<Op, Stop> {
        let previous = check_put(&self.txn.reader(), self.leases, put, self.answered)?;
        if put.prev_kv || put.ignore_value || put.ignore_lease {
            self.txn.count_range();
        }
        let before = match &previous {
            None => Record::default(),
            Some(pair) => Record::decode(pair).ok_or_else(|| damaged(&put.key))?,
        };
        let value = if put.ignore_value {
            before.value
        } else {
            &put.value
        };
        let lease = if put.ignore_lease { before.lease } else { put.lease };
        let done = self.txn.put(&put.key, value, lease);
        if lease != 0 || done.previous.is_some_and(|info| info.leased) {
            self.leases.attach(&put.key, lease);
        }
        let shown = previous.filter(|_| put.prev_kv && self.answered);
        self.take_room(&shown);
        Ok(Op::Put {
            revision: done.revision,
            prev_kv: shown.filter(|_| self.answered),
        })
    }

    /// Deletes a range of keys.
    pub(crate) fn delete_range(&mut self, delete: &pb::DeleteRangeRequest) -> Result<Op, Stop> {
        let mut prev_kvs = Vec::new();
        if delete.prev_kv && self.answered {
            let options = mvcc::RangeOptions {
                key: &delete.key,
                range_end: &delete.range_end,
                ..Default::default()
            };
            prev_kvs = self.txn.range(&options)?.kvs;
            self.take_room(&prev_kvs);
            if !self.answered {
                prev_kvs = Vec::new();
            }
        }
        let deleted = self.txn.delete_range(&delete.key, &delete.range_end);
        for gone in deleted.iter().filter(|gone| gone.previous.leased) {
            self.leases.detach(&gone.key);
        }
        Ok(Op::DeleteRange {
            revision: self.txn.revision(),
            deleted: deleted.len() as i64,
            prev_kvs,
        })
    }

    /// Reads a range as earlier operations of the transaction left it.
    pub(crate) fn range(&mut self, range: &pb::RangeRequest) -> Result<Op, Stop> {
        if !self.answered {
            return Ok(Op::Nothing);
        }
        let result = self.txn.range(&range_options(range, self.line))?;
        self.take_room(&result.kvs);
        match self.answered {
            true => Ok(Op::Range(result.into())),
            false => Ok(Op::Nothing),
        }
    }

    /// Takes room in the answer. Without any left, it goes on as if nobody waited for one.
    fn take_room<'b>(&mut self, kvs: impl IntoIterator<Item = &'b Bytes>) {
        self.answered &= self.room.take(kvs);
    }
}

fn damaged(key: &[u8]) -> Stop {
    let shown = String::from_utf8_lossy(&key[..key.len().min(64)]).into_owned();
    Stop::Failed(mvcc::Error::Corrupt {
        bucket: mvcc::schema::KEY,
        key: shown,
        why: "the stored pair does not decode".to_string(),
    })
}
