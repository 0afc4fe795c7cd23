//! Reads of one view: ranges, read-only transactions, chunks of a range stream, as encoded
//! answers. Pure: called on a front thread without waiting, on a pool thread with.

use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest};
use api::version::Line;
use bytes::Bytes;
use mvcc::{RangeOptions, RangeResult, Record, SortOrder, SortTarget, View, Wait};

use super::encode::{self, Header, RangeTail};

/// The longest message that gRPC carries (etcd: v3rpc/grpc.go, maxSendBytes).
pub(super) const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// Why a read has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store says why.
    Store(mvcc::Error),
    /// The answer would be longer than a message may be.
    TooLarge(usize),
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Failure {
        Failure::Store(error)
    }
}

/// Refuses an answer before it takes memory.
fn check_len(results: &[RangeResult], len_max: usize) -> Result<(), Failure> {
    let pairs = results.iter().flat_map(|result| &result.kvs);
    let len: usize = pairs.map(|kv| encode::len_field_len(2, kv.len())).sum();
    match len > len_max {
        true => Err(Failure::TooLarge(len)),
        false => Ok(()),
    }
}

/// The store's options for a request that was checked before.
pub(super) fn options(request: &RangeRequest, line: Line) -> RangeOptions<'_> {
    use api::etcdserverpb::range_request as wire;
    RangeOptions {
        key: &request.key,
        range_end: &request.range_end,
        limit: request.limit,
        revision: request.revision,
        sort_order: match wire::SortOrder::try_from(request.sort_order) {
            Ok(wire::SortOrder::Ascend) => SortOrder::Ascend,
            Ok(wire::SortOrder::Descend) => SortOrder::Descend,
            _ => SortOrder::None,
        },
        sort_target: match wire::SortTarget::try_from(request.sort_target) {
            Ok(wire::SortTarget::Version) => SortTarget::Version,
            Ok(wire::SortTarget::Create) => SortTarget::Create,
            Ok(wire::SortTarget::Mod) => SortTarget::Mod,
            Ok(wire::SortTarget::Value) => SortTarget::Value,
            _ => SortTarget::Key,
        },
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
        keys_only: request.keys_only,
        fast_keys_only: line >= Line::V3_7,
        count_only: request.count_only,
        skip_total: false,
    }
}

/// The answer to a range request.
pub(super) fn range(
    view: &View,
    request: &RangeRequest,
    header: Header,
    line: Line,
    wait: Wait,
) -> Result<Bytes, Failure> {
    let result = view.range(&options(request, line), wait)?;
    check_len(std::slice::from_ref(&result), ANSWER_BYTES_MAX)?;
    Ok(encode::range_response(
        &result.kvs,
        &RangeTail::of(header, &result),
    ))
}

/// The answer to a transaction that only reads.
pub(super) fn txn(
    view: &View,
    request: &TxnRequest,
    header: Header,
    line: Line,
    wait: Wait,
) -> Result<Bytes, Failure> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(view, compare, wait)? {
            succeeded = false;
            break;
        }
    }
    let ops = match succeeded {
        true => &request.success,
        false => &request.failure,
    };
    // All revisions are checked before anything is read (etcd: txn.go checkTxn).
    for range in ranges(ops) {
        if range.revision > view.revision {
            return Err(mvcc::Error::FutureRevision.into());
        }
        // Other than in a plain range, a negative revision is not the current one here.
        if range.revision != 0 && range.revision < view.compact_revision {
            return Err(mvcc::Error::Compacted.into());
        }
    }
    let mut results = Vec::with_capacity(ops.len());
    for range in ranges(ops) {
        results.push(view.range(&options(range, line), wait)?);
    }
    check_len(&results, ANSWER_BYTES_MAX)?;
    let header = header.with_revision(view.revision);
    Ok(encode::read_txn_response(header, succeeded, &results))
}

/// The ranges among operations.
pub(super) fn ranges(ops: &[RequestOp]) -> impl Iterator<Item = &RangeRequest> {
    ops.iter().filter_map(|op| match &op.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    })
}

/// Whether a comparison holds for every key of its range. For none, a value never does, and a
/// number does as if it were 0 (etcd: txn.go applyCompare).
fn holds(view: &View, compare: &Compare, wait: Wait) -> Result<bool, mvcc::Error> {
    let options = RangeOptions {
        key: &compare.key,
        range_end: &compare.range_end,
        ..RangeOptions::default()
    };
    let RangeResult { kvs, .. } = view.range(&options, wait)?;
    if kvs.is_empty() {
        let by_value = compare.target == CompareTarget::Value as i32;
        return Ok(!by_value && compares(compare, &Record::default()));
    }
    for kv in &kvs {
        let record = Record::decode(kv).ok_or_else(|| broken_pair(kv))?;
        if !compares(compare, &record) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn broken_pair(kv: &[u8]) -> mvcc::Error {
    mvcc::Error::Corrupt {
        bucket: "key",
        key: format!("{} bytes", kv.len()),
        why: "is not an encoded pair".to_owned(),
    }
}

fn compares(compare: &Compare, record: &Record<'_>) -> bool {
    let number = match (&compare.target_union, CompareTarget::try_from(compare.target)) {
        (Some(TargetUnion::Version(n)), Ok(CompareTarget::Version))
        | (Some(TargetUnion::CreateRevision(n)), Ok(CompareTarget::Create))
        | (Some(TargetUnion::ModRevision(n)), Ok(CompareTarget::Mod))
        | (Some(TargetUnion::Lease(n)), Ok(CompareTarget::Lease)) => *n,
        // An operand that belongs to another target counts as none.
        _ => 0,
    };
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => record.version.cmp(&number),
        Ok(CompareTarget::Create) => record.create.cmp(&number),
        Ok(CompareTarget::Mod) => record.modified.cmp(&number),
        Ok(CompareTarget::Lease) => record.lease.cmp(&number),
        Ok(CompareTarget::Value) => {
            let value: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            record.value.cmp(value)
        }
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Err(_) => true,
    }
}

/// Pairs in the first chunk of a range stream; the next ones adapt (etcd: v3_server.go).
const FIRST_CHUNK: i64 = 10;

/// Where a range stream stands. Each chunk reads a view of its own at the revision that the
/// first one saw, so a slow client pins no pages; it may find that revision compacted instead.
#[derive(Debug)]
pub(super) struct Chunk {
    request: RangeRequest,
    header: Header,
    /// The store's revision at the first chunk; 0 before.
    header_revision: i64,
    count: i64,
    total_limit: i64,
    chunk_bytes: usize,
    finished: bool,
}

impl Chunk {
    pub(super) fn new(mut request: RangeRequest, header: Header, chunk_bytes: usize) -> Chunk {
        let total_limit = match request.limit {
            limit if limit > 0 => limit,
            _ => i64::MAX,
        };
        request.limit = FIRST_CHUNK.min(total_limit);
        Chunk {
            request,
            header,
            header_revision: 0,
            count: 0,
            total_limit,
            chunk_bytes,
            finished: false,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next message. Header, `more` and the count are on the last one alone. Nothing has
    /// changed after an error.
    pub(super) fn read(&mut self, view: &View, wait: Wait) -> Result<Bytes, mvcc::Error> {
        let options = RangeOptions {
            skip_total: !self.request.count_only,
            ..options(&self.request, Line::V3_7)
        };
        let result = view.range(&options, wait)?;
        let header_revision = match self.header_revision {
            0 => result.revision,
            pinned => pinned,
        };
        let last = RangeTail {
            header: Some(self.header.with_revision(header_revision)),
            more: false,
            count: result.count,
        };
        if self.request.count_only {
            self.finished = true;
            return Ok(encode::range_stream_response(&[], &last));
        }
        let revision = match self.request.revision {
            at if at > 0 => at,
            _ => header_revision,
        };
        let count = self.count + result.kvs.len() as i64;
        let done = !result.more || count >= self.total_limit;
        let next_key = match result.kvs.last() {
            Some(kv) if result.more => key_after(kv)?,
            _ => Bytes::new(),
        };
        let mut tail = RangeTail::default();
        if done {
            let remaining = match result.more {
                true => view.reader().count(&next_key, &self.request.range_end, revision),
                false => 0,
            };
            tail = RangeTail {
                more: result.more,
                count: count + remaining,
                ..last
            };
        }
        let message = encode::range_stream_response(&result.kvs, &tail);
        self.finished = done;
        self.count = count;
        self.header_revision = header_revision;
        self.request.revision = revision;
        self.request.key = next_key;
        self.adapt(message.len());
        Ok(message)
    }

    /// Doubles or halves the chunk where it was not within half and twice the size aimed at.
    fn adapt(&mut self, size: usize) {
        if size < self.chunk_bytes / 2 {
            self.request.limit = self.request.limit.saturating_mul(2);
        } else if size > self.chunk_bytes * 2 {
            self.request.limit /= 2;
        }
        self.request.limit = self
            .request
            .limit
            .clamp(1, (self.total_limit - self.count).max(1));
    }
}

/// The smallest key behind that of an encoded pair.
fn key_after(kv: &[u8]) -> Result<Bytes, mvcc::Error> {
    let record = Record::decode(kv).ok_or_else(|| broken_pair(kv))?;
    let mut key = Vec::with_capacity(record.key.len() + 1);
    key.extend_from_slice(record.key);
    key.push(0);
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many references to one value: an answer that would take more than it may is refused by its
    /// length, without being made.
    #[test]
    fn an_answer_that_no_message_can_carry_is_refused() {
        let value = Bytes::from(vec![0; 1 << 20]);
        let result = |pairs| RangeResult {
            kvs: vec![value.clone(); pairs],
            ..RangeResult::default()
        };
        assert!(check_len(&[result(2047)], ANSWER_BYTES_MAX).is_ok());
        for results in [vec![result(2048)], vec![result(1024), result(1024)]] {
            let refused = check_len(&results, ANSWER_BYTES_MAX);
            assert!(matches!(refused, Err(Failure::TooLarge(len)) if len > ANSWER_BYTES_MAX));
        }
    }
}
