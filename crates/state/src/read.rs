//! Ranges and read-only txns on a published view: what a front thread answers without the log.
//! Uses the same compares and orders as txns of the log do. Never changes anything.

use api::error::{self, Status};
use api::etcdserverpb::{
    RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};
use api::version::Line;
use bytes::Bytes;
use mvcc::{RangeOptions, Reader, Wait};

use crate::reply::{Header, Op};
use crate::txn;

/// What a client is told of an error of the store: `None` if the store itself failed, or would
/// have had to wait.
pub fn refusal(error: &mvcc::Error) -> Option<Status> {
    match error {
        mvcc::Error::Compacted => Some(error::COMPACTED),
        mvcc::Error::FutureRevision => Some(error::FUTURE_REV),
        _ => None,
    }
}

/// A range request as the store takes it.
pub fn range_options(range: &RangeRequest, line: Line) -> RangeOptions<'_> {
    RangeOptions {
        key: &range.key,
        range_end: &range.range_end,
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order() {
            SortOrder::None => mvcc::SortOrder::None,
            SortOrder::Ascend => mvcc::SortOrder::Ascend,
            SortOrder::Descend => mvcc::SortOrder::Descend,
        },
        sort_target: match range.sort_target() {
            SortTarget::Key => mvcc::SortTarget::Key,
            SortTarget::Version => mvcc::SortTarget::Version,
            SortTarget::Create => mvcc::SortTarget::Create,
            SortTarget::Mod => mvcc::SortTarget::Mod,
            SortTarget::Value => mvcc::SortTarget::Value,
        },
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
        keys_only: range.keys_only,
        fast_keys_only: line >= Line::V3_7,
        count_only: range.count_only,
        skip_total: false,
    }
}

/// Answers a range with the encoded response. See [`refusal`] for errors.
pub fn range(
    reader: &Reader<'_>,
    request: &RangeRequest,
    line: Line,
    header: &Header,
    wait: Wait,
) -> Result<Bytes, mvcc::Error> {
    let result = reader.range(&range_options(request, line), wait)?;
    Ok(header.range_response(result))
}

/// Whether a txn has only ranges, in both branches: then it does not go through the log. A nested
/// txn counts as a write whatever it holds.
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_ranges(request, |_| true)
}

/// Whether a txn has only serializable ranges: then it may be answered without asking the leader.
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_ranges(request, |range| range.serializable)
}

fn all_ranges(request: &TxnRequest, good: impl Fn(&RangeRequest) -> bool) -> bool {
    let is_good = |op: &RequestOp| matches!(&op.request, Some(Request::RequestRange(range)) if good(range));
    request.success.iter().chain(&request.failure).all(is_good)
}

/// Answers a read-only txn with the encoded response. See [`refusal`] for errors; operations that
/// are not ranges are answered with nothing.
pub fn read_only_txn(
    reader: &Reader<'_>,
    request: &TxnRequest,
    line: Line,
    header: &Header,
    wait: Wait,
) -> Result<Bytes, mvcc::Error> {
    let succeeded = txn::compare(reader, request, wait)?;
    let ops = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    let ranges = || {
        ops.iter().map(|op| match &op.request {
            Some(Request::RequestRange(range)) => Some(range),
            _ => None,
        })
    };
    for range in ranges().flatten() {
        txn::check_range(reader, range)?;
    }
    let responses = ranges().map(|range| {
        let Some(range) = range else {
            return Ok(Op::Nothing);
        };
        let result = reader.range(&range_options(range, line), wait)?;
        Ok(Op::Range(result.into()))
    });
    let responses = responses.collect::<Result<Vec<Op>, mvcc::Error>>()?;
    let answer = Op::Txn { succeeded, responses };
    Ok(answer.response(&header.encode(reader.revision())))
}
