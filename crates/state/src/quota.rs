//! What requests cost against the size of the data file (etcd: storage/quota.go). Never refuses
//! anything itself.

use api::etcdserverpb::{self as pb, request_op::Request as Op};

/// The quota where none is configured, in bytes.
pub const QUOTA_DEFAULT_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// What storing a key costs beside its bytes.
const KEY_OVERHEAD: u64 = 256;
/// What a lease costs.
const LEASE_COST: u64 = 64;

/// The room that the data file may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    bytes_max: Option<u64>,
}

impl Quota {
    /// The quota of a configured number: 0 is the default, a negative one switches it off.
    pub fn from_config(bytes: i64) -> Quota {
        let bytes_max = match bytes {
            0 => Some(QUOTA_DEFAULT_BYTES),
            _ => u64::try_from(bytes).ok(),
        };
        Quota { bytes_max }
    }

    /// The most bytes that the file may take, `None` if nothing bounds it.
    pub fn bytes_max(self) -> Option<u64> {
        self.bytes_max
    }

    /// Whether there is room for what costs `cost` in a file of `size` bytes. What costs nothing
    /// always fits.
    pub fn available(self, size: u64, cost: u64) -> bool {
        match self.bytes_max {
            Some(bytes_max) if cost > 0 => size.saturating_add(cost) < bytes_max,
            _ => true,
        }
    }
}

/// The cost of a put.
pub fn put_cost(put: &pb::PutRequest) -> u64 {
    KEY_OVERHEAD + put.key.len() as u64 + put.value.len() as u64
}

/// The cost of a txn: of its dearer branch, nested puts included.
pub fn txn_cost(txn: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&txn.success).max(branch(&txn.failure))
}

/// The cost of a lease.
pub fn lease_cost() -> u64 {
    LEASE_COST
}

fn op_cost(op: &pb::RequestOp) -> u64 {
    match &op.request {
        Some(Op::RequestPut(put)) => put_cost(put),
        Some(Op::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> pb::RequestOp {
        let put = pb::PutRequest {
            key: key.to_string().into(),
            value: value.to_string().into(),
            ..Default::default()
        };
        pb::RequestOp {
            request: Some(Op::RequestPut(put)),
        }
    }

    #[test]
    fn a_txn_costs_its_dearer_branch() {
        let range = pb::RequestOp {
            request: Some(Op::RequestRange(pb::RangeRequest::default())),
        };
        let nested = pb::TxnRequest {
            failure: vec![put("abc", "d"), range.clone()],
            ..Default::default()
        };
        let nested = pb::RequestOp {
            request: Some(Op::RequestTxn(nested)),
        };
        let txn = pb::TxnRequest {
            success: vec![put("a", "b")],
            failure: vec![nested, put("", "12345")],
            ..Default::default()
        };
        assert_eq!(txn_cost(&txn), 256 + 4 + 256 + 5);
        assert_eq!(
            txn_cost(&pb::TxnRequest {
                success: vec![range],
                ..Default::default()
            }),
            0
        );
    }

    #[test]
    fn the_quota_is_strict_and_can_be_off() {
        let quota = Quota::from_config(1000);
        assert!(quota.available(900, 99));
        assert!(!quota.available(900, 100));
        assert!(quota.available(5000, 0));
        assert!(Quota::from_config(-1).available(u64::MAX, u64::MAX));
        assert_eq!(Quota::from_config(0).bytes_max(), Some(QUOTA_DEFAULT_BYTES));
    }
}
