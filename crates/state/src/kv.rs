//! Puts, deletes and ranges inside a write transaction, with the checks that come before a put.
//! Needs the device only where an old value or lease is asked for.

use api::error::{self, Status};
use api::etcdserverpb as pb;
use api::version::Line;
use bytes::Bytes;
use mvcc::{Reader, Record, Wait, WriteTxn};

use crate::leases::Leases;
use crate::read::range_options;
use crate::reply::Op;

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
        Ok(Op::Put {
            revision: done.revision,
            prev_kv: previous.filter(|_| put.prev_kv && self.answered),
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
    pub(crate) fn range(&self, range: &pb::RangeRequest) -> Result<Op, Stop> {
        if !self.answered {
            return Ok(Op::Nothing);
        }
        let result = self.txn.range(&range_options(range, self.line))?;
        Ok(Op::Range(result.into()))
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
