//! Numbers that a member counts for its operator: by plain stores of the one thread that counts,
//! read by whoever shows them. Never blocks, never asks for the time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer. Adding to it costs no more than to a plain number.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds; by the only writer.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Takes away; by the only writer.
    pub fn sub(&self, less: u64) {
        self.set(self.get().saturating_sub(less));
    }

    /// Sets; by the only writer.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number; may be a moment old.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bounds of the buckets of granted times to live: 1 s, doubled 23 times (etcd: lease/metrics.go).
pub const LEASE_TTL_BUCKETS: usize = 24;

/// What the stages count. Each number has one stage that writes it.
#[derive(Debug, Default)]
pub struct StageTallies {
    /// Ranges that entries of the log read.
    pub ranges: Tally,
    /// Pairs put.
    pub puts: Tally,
    /// Deletions asked for.
    pub deletes: Tally,
    /// Entries that did more than one operation on keys.
    pub txns: Tally,
    /// Bytes of keys and values put.
    pub put_bytes: Tally,
    /// Leases granted.
    pub leases_granted: Tally,
    /// Leases revoked, by clients or because they expired.
    pub leases_revoked: Tally,
    /// Renewals of leases.
    pub leases_renewed: Tally,
    /// Leases revoked because they expired.
    pub leases_expired: Tally,
    /// Granted times to live by bucket; the last is for those above all bounds.
    pub lease_ttls: [Tally; LEASE_TTL_BUCKETS + 1],
    /// Seconds granted.
    pub lease_ttl_seconds: Tally,
    /// Leaders seen, counting each change.
    pub leader_changes: Tally,
    /// Heartbeats that were sent late.
    pub heartbeats_late: Tally,
    /// Snapshots of the leader that are being put in place: one at a time.
    pub snapshots_applied_now: Tally,
    /// Rows that compactions deleted.
    pub compacted_rows: Tally,
    /// The revision of users and roles.
    pub auth_revision: Tally,
    /// Learners promoted.
    pub learners_promoted: Tally,
}

impl StageTallies {
    /// A lease was granted for so many seconds.
    pub(crate) fn lease_granted(&self, ttl: i64) {
        let seconds = u64::try_from(ttl).unwrap_or(0);
        self.leases_granted.add(1);
        self.lease_ttl_seconds.add(seconds);
        // The first bound is 1, each further one twice the one before.
        let bucket = match seconds {
            0 | 1 => 0,
            more => (u64::BITS - (more - 1).leading_zeros()) as usize,
        };
        self.lease_ttls[bucket.min(LEASE_TTL_BUCKETS)].add(1);
    }

    /// What the store counted of the entries applied so far.
    pub(crate) fn note_store(&self, counts: mvcc::OpCounts) {
        self.ranges.set(counts.ranges);
        self.puts.set(counts.puts);
        self.deletes.set(counts.deletes);
        self.txns.set(counts.txns);
        self.put_bytes.set(counts.put_bytes);
    }
}

/// What one front thread counts, and the only one to write it.
#[derive(Debug, Default)]
pub struct FrontTallies {
    /// Ranges read, those of transactions that only read among them.
    pub ranges: Tally,
    /// Transactions that only read, of more than one operation.
    pub txns: Tally,
    /// Proposals that wait for their answer.
    pub proposals_pending: Tally,
    /// Proposals that were refused or had no answer in time.
    pub proposals_failed: Tally,
    /// Watch streams that are open.
    pub watch_streams: Tally,
    /// Watchers.
    pub watchers: Tally,
    /// Watchers that have not seen all there is.
    pub watchers_behind: Tally,
    /// Events queued for clients.
    pub events_pending: Tally,
    /// Events sent to clients.
    pub events_sent: Tally,
    /// Questions for the read index that were asked again because no answer came.
    pub read_indexes_slow: Tally,
    /// Reads that got no read index in time.
    pub read_indexes_failed: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_fall_into_the_buckets_of_etcd() {
        let tallies = StageTallies::default();
        for ttl in [1, 2, 3, 4, 5, 1 << 23, (1 << 23) + 1, 9_000_000_000] {
            tallies.lease_granted(ttl);
        }
        let filled: Vec<(usize, u64)> = tallies
            .lease_ttls
            .iter()
            .enumerate()
            .map(|(bucket, tally)| (bucket, tally.get()))
            .filter(|(_, count)| *count > 0)
            .collect();
        // Bounds 1, 2, 4, 8, 2^23, none.
        assert_eq!(filled, [(0, 1), (1, 1), (2, 2), (3, 1), (23, 1), (24, 2)]);
        assert_eq!(tallies.leases_granted.get(), 8);
    }
}
