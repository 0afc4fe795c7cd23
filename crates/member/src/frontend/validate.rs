//! What a request must look like before it is proposed or read, in etcd's order and words
//! (etcd: server/etcdserver/api/v3rpc/key.go). Never looks at the store.

use std::collections::{BTreeMap, BTreeSet};

use api::error::{self, Code, Status};
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use bytes::Bytes;

/// A range read: a key, and a sort that exists.
pub(super) fn check_range(request: &RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(error::INVALID_SORT_OPTION);
    }
    Ok(())
}

/// A streamed range read: as a range read, in key order and without revision filters.
pub(super) fn check_range_stream(request: &RangeRequest) -> Result<(), Status> {
    check_range(request)?;
    let by_key =
        request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32;
    if request.sort_order != SortOrder::None as i32 && !by_key {
        return Err(Status::new(
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ));
    }
    if has_revision_filters(request) {
        return Err(Status::new(
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ));
    }
    Ok(())
}

fn has_revision_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// A put: a key, and nothing given that is to be ignored.
pub(super) fn check_put(request: &PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(error::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(error::LEASE_PROVIDED);
    }
    Ok(())
}

/// A delete: a key.
pub(super) fn check_delete(request: &DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    Ok(())
}

/// A transaction: every operation by its own rules, no more than `ops_max` of a kind along
/// any path, and no key written twice in any branch.
pub(super) fn check_txn(request: &TxnRequest, ops_max: usize) -> Result<(), Status> {
    check_txn_ops(request, ops_max)?;
    // After the count, so that the cost of this is bounded.
    check_intervals(&request.success)?;
    check_intervals(&request.failure)?;
    check_kept(&request.success, None)?;
    check_kept(&request.failure, None)?;
    Ok(())
}

/// Refuses a put that keeps what a delete up to the end of all keys may have taken before it: `from` is where such a
/// delete begins. [`check_intervals`] does not see that delete; etcd lets it through, and all its members end at the
/// entry, at each start again (txn/put.go looks for a key that was there before the txn).
fn check_kept<'a>(ops: &'a [RequestOp], mut from: Option<&'a Bytes>) -> Result<Option<&'a Bytes>, Status> {
    let first = |one: Option<&'a Bytes>, other: Option<&'a Bytes>| one.into_iter().chain(other).min();
    for op in ops {
        match &op.request {
            Some(Request::RequestDeleteRange(delete)) if *delete.range_end == [0] => {
                from = first(from, Some(&delete.key));
            }
            Some(Request::RequestPut(put))
                if (put.ignore_value || put.ignore_lease) && from.is_some_and(|from| *from <= put.key) =>
            {
                return Err(error::DUPLICATE_KEY);
            }
            Some(Request::RequestTxn(txn)) => {
                let then = check_kept(&txn.success, from)?;
                from = first(then, check_kept(&txn.failure, from)?);
            }
            _ => {}
        }
    }
    Ok(from)
}

fn check_txn_ops(request: &TxnRequest, ops_max: usize) -> Result<(), Status> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if ops > ops_max {
        return Err(error::TOO_MANY_OPS);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(error::EMPTY_KEY);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(txn)) => check_txn_ops(txn, ops_max - ops)?,
            None => return Err(error::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// The keys that a list of operations may put, and those that it may delete.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: KeyRanges,
}

/// Refuses a list of operations that may write a key twice. etcd's rule to the letter
/// (checkIntervals): deletes of this level and of nested transactions so far against puts;
/// deletes may overlap each other; the two branches of one nested transaction may put the same key.
fn check_intervals(ops: &[RequestOp]) -> Result<Touched, Status> {
    let mut touched = Touched::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            touched.deletes.insert(delete);
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else {
            continue;
        };
        let then = check_intervals(&txn.success)?;
        let other = check_intervals(&txn.failure)?;
        for key in &then.puts {
            touched.put(key)?;
        }
        for key in &other.puts {
            if then.puts.contains(key) {
                // Only one of the branches runs. Its overlap with deletes was looked at above.
                continue;
            }
            touched.put(key)?;
        }
        touched.deletes.merge(then.deletes);
        touched.deletes.merge(other.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            touched.put(&put.key)?;
        }
    }
    Ok(touched)
}

impl Touched {
    fn put(&mut self, key: &Bytes) -> Result<(), Status> {
        if self.deletes.contains(key) || !self.puts.insert(key.clone()) {
            return Err(error::DUPLICATE_KEY);
        }
        Ok(())
    }
}

/// A set of keys as disjoint ranges, start to end.
#[derive(Default)]
struct KeyRanges(BTreeMap<Bytes, Bytes>);

impl KeyRanges {
    fn insert(&mut self, delete: &DeleteRangeRequest) {
        if delete.range_end.is_empty() {
            let mut end = delete.key.to_vec();
            end.push(0);
            self.insert_range(delete.key.clone(), end.into());
        } else {
            // A range to the end of all keys, range_end = "\0", is no exception in etcd: it is
            // taken literally here, is empty, and so never collides with a put.
            self.insert_range(delete.key.clone(), delete.range_end.clone());
        }
    }

    fn insert_range(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        while let Some((s, e)) = self.0.range(..=end.clone()).next_back() {
            if *e < start {
                break;
            }
            let s = s.clone();
            let e = self.0.remove(&s).expect("was just found");
            start = start.min(s);
            end = end.max(e);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.0
            .range(..=key.clone())
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }

    fn merge(&mut self, other: KeyRanges) {
        for (start, end) in other.0 {
            self.insert_range(start, end);
        }
    }
}

/// Whether a transaction only reads, so that it need not go through the log. A nested
/// transaction counts as a write whatever it holds (etcd: txn.IsTxnReadonly).
pub(super) fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether every read of a read-only transaction is content with this member's own state.
pub(super) fn is_serializable(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::PutRequest;

    use super::*;

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.into(),
                range_end: end.into(),
                ..DeleteRangeRequest::default()
            })),
        }
    }

    fn put(key: &'static str, ignore_value: bool, ignore_lease: bool) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: key.into(),
                ignore_value,
                ignore_lease,
                ..PutRequest::default()
            })),
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestTxn(TxnRequest {
                success,
                failure,
                ..TxnRequest::default()
            })),
        }
    }

    #[test]
    fn nothing_is_kept_that_a_delete_to_the_end_has_taken() {
        let check = |ops: Vec<RequestOp>, refused: bool| {
            let wanted = if refused {
                Err(error::DUPLICATE_KEY)
            } else {
                Ok(())
            };
            for (success, failure) in [(ops.clone(), Vec::new()), (Vec::new(), ops.clone())] {
                let txn = TxnRequest {
                    success,
                    failure,
                    ..TxnRequest::default()
                };
                assert_eq!(check_txn(&txn, 128), wanted, "{ops:?}");
            }
        };
        let all = || delete("a", "\0");
        check(vec![all(), put("a", true, false)], true);
        check(vec![all(), put("b", false, true)], true);
        check(vec![delete("\0", "\0"), put("a", true, false)], true);
        check(vec![delete("c", "\0"), all(), put("b", true, false)], true);
        check(vec![all(), nested(vec![], vec![put("b", true, false)])], true);
        check(vec![nested(vec![], vec![all()]), put("b", true, false)], true);
        check(vec![nested(vec![all()], vec![]), put("b", true, false)], true);
        // What etcd carries out.
        check(vec![all(), put("a", false, false)], false);
        check(vec![put("a", true, false), all()], false);
        check(vec![delete("b", "\0"), put("a", true, false)], false);
        check(vec![nested(vec![all()], vec![put("b", true, false)])], false);
        check(vec![delete("a", "b"), put("a", false, false)], true);
    }
}
