//! Txns: all compares before any operation, all checks before any write, then the operations in
//! order (etcd: etcdserver/txn/txn.go). Duplicate keys are refused by the front, not here.

use std::cmp::Ordering;

use api::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use mvcc::{KeyInfo, Reader, Record, Rev, Wait};

use crate::kv::{self, Stop, Writer};
use crate::leases::Leases;
use crate::reply::Op;

/// How many stored pairs a compare over a range reads at once.
const COMPARE_BATCH: usize = 1024;

/// Which branch a txn and each txn nested in the branches taken goes, in the order in which they
/// are met. All of it is decided by the state before the first write.
#[derive(Debug, Default)]
pub(crate) struct Path {
    succeeded: Vec<bool>,
}

impl Path {
    pub(crate) fn decide(reader: &Reader<'_>, txn: &TxnRequest, wait: Wait) -> Result<Path, mvcc::Error> {
        let mut path = Path::default();
        path.extend(reader, txn, wait)?;
        Ok(path)
    }

    fn extend(&mut self, reader: &Reader<'_>, txn: &TxnRequest, wait: Wait) -> Result<(), mvcc::Error> {
        let succeeded = compare(reader, txn, wait)?;
        self.succeeded.push(succeeded);
        for op in branch(txn, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                self.extend(reader, nested, wait)?;
            }
        }
        Ok(())
    }

    fn steps(&self) -> std::slice::Iter<'_, bool> {
        self.succeeded.iter()
    }
}

fn branch(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn next_branch<'a>(txn: &'a TxnRequest, steps: &mut std::slice::Iter<'_, bool>) -> (bool, &'a [RequestOp]) {
    let succeeded = *steps
        .next()
        .expect("the path has a step for every txn of the branches taken");
    (succeeded, branch(txn, succeeded))
}

/// Takes the ranges out of both branches, not of nested txns: what members up to 3.6 do where
/// nobody waits for the answer, before they check anything (etcd 3.6: removeNeedlessRangeReqs).
pub(crate) fn strip_ranges(txn: &mut TxnRequest) {
    let keep = |op: &RequestOp| !matches!(op.request, Some(Request::RequestRange(_)));
    txn.success.retain(keep);
    txn.failure.retain(keep);
}

/// Checks every operation on the path against the state before the txn, in order.
pub(crate) fn check(reader: &Reader<'_>, leases: &Leases, txn: &TxnRequest, path: &Path) -> Result<(), Stop> {
    check_ops(reader, leases, txn, &mut path.steps())
}

fn check_ops(
    reader: &Reader<'_>,
    leases: &Leases,
    txn: &TxnRequest,
    steps: &mut std::slice::Iter<'_, bool>,
) -> Result<(), Stop> {
    for op in next_branch(txn, steps).1 {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(reader, range)?,
            Some(Request::RequestPut(put)) => {
                kv::check_put(reader, leases, put, false)?;
            }
            Some(Request::RequestTxn(nested)) => check_ops(reader, leases, nested, steps)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Whether a range inside a txn may be read. Unlike a range by itself, one with a negative
/// revision is below the first (etcd: txn/range.go, checkRange).
pub(crate) fn check_range(reader: &Reader<'_>, range: &RangeRequest) -> Result<(), mvcc::Error> {
    match range.revision {
        0 => Ok(()),
        revision if revision > reader.revision() => Err(mvcc::Error::FutureRevision),
        revision if revision < reader.compact_revision() => Err(mvcc::Error::Compacted),
        _ => Ok(()),
    }
}

/// Does the operations on the path. The answer's header is the caller's.
pub(crate) fn execute(writer: &mut Writer<'_>, txn: &TxnRequest, path: &Path) -> Result<Op, Stop> {
    execute_ops(writer, txn, &mut path.steps())
}

fn execute_ops(
    writer: &mut Writer<'_>,
    txn: &TxnRequest,
    steps: &mut std::slice::Iter<'_, bool>,
) -> Result<Op, Stop> {
    let (succeeded, ops) = next_branch(txn, steps);
    let mut responses = Vec::with_capacity(if writer.answered { ops.len() } else { 0 });
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => writer.range(range)?,
            Some(Request::RequestPut(put)) => writer.put(put)?,
            Some(Request::RequestDeleteRange(delete)) => writer.delete_range(delete)?,
            Some(Request::RequestTxn(nested)) => execute_ops(writer, nested, steps)?,
            None => Op::Nothing,
        };
        if writer.answered {
            responses.push(response);
        } else {
            // If there was an answer, it has become too long.
            responses = Vec::new();
        }
    }
    Ok(Op::Txn { succeeded, responses })
}

/// Whether all compares of a txn hold.
pub(crate) fn compare(reader: &Reader<'_>, txn: &TxnRequest, wait: Wait) -> Result<bool, mvcc::Error> {
    for compare in &txn.compare {
        if !holds(reader, compare, wait)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a compare holds for every key of its range. Without any key, a value never compares,
/// and numbers compare as those of a key that was never written: 0.
fn holds(reader: &Reader<'_>, compare: &Compare, wait: Wait) -> Result<bool, mvcc::Error> {
    let target = CompareTarget::try_from(compare.target).ok();
    let now = reader.revision();
    let mut found = false;
    let mut held = true;
    let mut stored: Vec<Rev> = Vec::new();
    reader.visit(&compare.key, &compare.range_end, now, |_, info| {
        found = true;
        match target {
            Some(CompareTarget::Value) => stored.push(info.modified),
            Some(CompareTarget::Lease) if info.leased => stored.push(info.modified),
            _ => held = number_holds(compare, target, info),
        }
        held
    });
    if !found {
        return Ok(
            target != Some(CompareTarget::Value) && accepts(compare, compare_to_number(0, compare, target))
        );
    }
    if !held {
        return Ok(false);
    }
    for revs in stored.chunks(COMPARE_BATCH) {
        for pair in reader.records(revs, wait)? {
            let record = Record::decode(&pair).ok_or_else(|| mvcc::Error::Corrupt {
                bucket: mvcc::schema::KEY,
                key: String::from_utf8_lossy(&compare.key).chars().take(64).collect(),
                why: "the stored pair does not decode".to_string(),
            })?;
            if !record_holds(compare, target, &record) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn number_holds(compare: &Compare, target: Option<CompareTarget>, info: &KeyInfo) -> bool {
    let number = match target {
        Some(CompareTarget::Version) => info.version,
        Some(CompareTarget::Create) => info.create,
        Some(CompareTarget::Mod) => info.modified.main,
        _ => 0,
    };
    accepts(compare, compare_to_number(number, compare, target))
}

fn record_holds(compare: &Compare, target: Option<CompareTarget>, record: &Record<'_>) -> bool {
    let order = match (target, &compare.target_union) {
        (Some(CompareTarget::Value), Some(TargetUnion::Value(value))) => record.value.cmp(value),
        (Some(CompareTarget::Value), _) => record.value.cmp(&[]),
        _ => compare_to_number(record.lease, compare, target),
    };
    accepts(compare, order)
}

/// Compares a key's number with the request's, which counts as 0 where it is of another kind than
/// the target. A target that is not known compares as equal.
fn compare_to_number(number: i64, compare: &Compare, target: Option<CompareTarget>) -> Ordering {
    let wanted = match (target, &compare.target_union) {
        (Some(CompareTarget::Version), Some(TargetUnion::Version(wanted))) => *wanted,
        (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(wanted))) => *wanted,
        (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(wanted))) => *wanted,
        (Some(CompareTarget::Lease), Some(TargetUnion::Lease(wanted))) => *wanted,
        (None, _) => return Ordering::Equal,
        _ => 0,
    };
    number.cmp(&wanted)
}

fn accepts(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        // etcd takes a result that it does not know for true.
        Err(_) => true,
    }
}
