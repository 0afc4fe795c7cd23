//! Distributions with the bounds that etcd's have. Counting costs a few additions; two kinds of
//! counting, for one writer and for several.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::text::{Text, push_number};

/// The upper bounds of a histogram's buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bounds {
    /// Go's `prometheus.ExponentialBuckets(first, 2, count)`: the first in nanoseconds, each further
    /// one twice the one before.
    Doubling {
        /// Nanoseconds.
        first: u64,
        /// How many.
        count: usize,
    },
    /// As listed, in nanoseconds.
    Listed(&'static [u64]),
}

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;
/// Nanoseconds of a millisecond.
const MILLISECOND: f64 = 1e6;

const MICROS: u64 = 1_000;
const MILLIS: u64 = 1_000_000;

/// 1 ms to 8.192 s: most of etcd's.
pub const USUAL: Bounds = Bounds::Doubling {
    first: MILLIS,
    count: 14,
};
/// 0.1 ms to 52.4 s: `etcd_server_apply_duration_seconds` and of ranges.
pub const APPLY: Bounds = Bounds::Doubling {
    first: 100 * MICROS,
    count: 20,
};
/// 100 ms to 409.6 s.
pub const DEFRAG: Bounds = Bounds::Doubling {
    first: 100 * MILLIS,
    count: 13,
};
/// 10 ms to 655.36 s.
pub const SNAPSHOT: Bounds = Bounds::Doubling {
    first: 10 * MILLIS,
    count: 17,
};
/// 10 ms to 163.84 s.
pub const HASH: Bounds = Bounds::Doubling {
    first: 10 * MILLIS,
    count: 15,
};
/// 100 ms to 51.2 s.
pub const SNAPSHOT_DB: Bounds = Bounds::Doubling {
    first: 100 * MILLIS,
    count: 10,
};
/// 0.5 ms to 4.096 s.
pub const INDEX_PAUSE: Bounds = Bounds::Doubling {
    first: 500 * MICROS,
    count: 14,
};
/// 1 ms to 4.096 s.
pub const ROW_PAUSE: Bounds = Bounds::Doubling {
    first: MILLIS,
    count: 13,
};
/// 100 ms to 819.2 s.
pub const COMPACTION: Bounds = Bounds::Doubling {
    first: 100 * MILLIS,
    count: 14,
};
/// Go's `prometheus.DefBuckets`: `grpc_server_handling_seconds`.
pub const HANDLING: Bounds = Bounds::Listed(&[
    5 * MILLIS,
    10 * MILLIS,
    25 * MILLIS,
    50 * MILLIS,
    100 * MILLIS,
    250 * MILLIS,
    500 * MILLIS,
    1000 * MILLIS,
    2500 * MILLIS,
    5000 * MILLIS,
    10_000 * MILLIS,
]);

impl Bounds {
    fn count(self) -> usize {
        match self {
            Bounds::Doubling { count, .. } => count,
            Bounds::Listed(bounds) => bounds.len(),
        }
    }

    /// The bucket of a span: the first whose bound is not below it.
    fn bucket(self, nanos: u64) -> usize {
        match self {
            Bounds::Doubling { first, count } => {
                let times = nanos.saturating_sub(1) / first;
                let bucket = (u64::BITS - times.leading_zeros()) as usize;
                bucket.min(count)
            }
            Bounds::Listed(bounds) => bounds.partition_point(|bound| *bound < nanos),
        }
    }

    /// A bound in units of `unit` nanoseconds, as Go computes it.
    #[allow(clippy::cast_precision_loss)] // Bounds are small.
    fn bound(self, bucket: usize, unit: f64) -> f64 {
        match self {
            Bounds::Doubling { first, .. } => (first as f64 / unit) * (1u64 << bucket) as f64,
            Bounds::Listed(bounds) => bounds[bucket] as f64 / unit,
        }
    }
}

/// A distribution of spans of time.
#[derive(Debug)]
pub struct Histogram {
    bounds: Bounds,
    /// One more than there are bounds.
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Histogram {
        Histogram {
            bounds,
            buckets: (0..=bounds.count()).map(|_| AtomicU64::new(0)).collect(),
            nanos: AtomicU64::new(0),
        }
    }

    /// Counts a span; by any thread.
    pub fn observe(&self, span: Duration) {
        let nanos = nanos(span);
        self.buckets[self.bounds.bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Counts a span; by the only thread that counts here, which is cheaper.
    pub fn observe_alone(&self, span: Duration) {
        let nanos = nanos(span);
        let add = |to: &AtomicU64, more: u64| {
            to.store(to.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        add(&self.buckets[self.bounds.bucket(nanos)], 1);
        add(&self.nanos, nanos);
    }

    /// Writes a family of one histogram in seconds.
    pub fn write(&self, text: &mut Text, name: &str, help: &str) {
        text.head(name, "histogram", help);
        write_sum(text, name, "", &[self], SECOND);
    }

    /// Writes a family of one histogram in milliseconds.
    pub fn write_millis(&self, text: &mut Text, name: &str, help: &str) {
        text.head(name, "histogram", help);
        write_sum(text, name, "", &[self], MILLISECOND);
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes the sum of histograms of the same bounds as one with these labels, in seconds, unless
/// nothing was counted: as Go's client has the members of a family with labels.
pub fn write_member(text: &mut Text, name: &str, labels: &str, parts: &[&Histogram]) {
    let mut counts = parts.iter().flat_map(|part| part.buckets.iter());
    if counts.any(|count| count.load(Ordering::Relaxed) > 0) {
        write_sum(text, name, labels, parts, SECOND);
    }
}

/// As `write_member`, also where nothing was counted.
pub fn write_member_always(text: &mut Text, name: &str, labels: &str, parts: &[&Histogram]) {
    write_sum(text, name, labels, parts, SECOND);
}

#[allow(clippy::cast_precision_loss)] // Years of nanoseconds fit.
fn write_sum(text: &mut Text, name: &str, labels: &str, parts: &[&Histogram], unit: f64) {
    let Some(bounds) = parts.first().map(|part| part.bounds) else {
        return;
    };
    let bucket_name = format!("{name}_bucket");
    let separator = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for bucket in 0..=bounds.count() {
        let counts = parts
            .iter()
            .map(|part| part.buckets[bucket].load(Ordering::Relaxed));
        total += counts.sum::<u64>();
        let mut bound = String::new();
        match bucket == bounds.count() {
            true => bound.push_str("+Inf"),
            false => push_number(&mut bound, bounds.bound(bucket, unit)),
        }
        text.labelled(&bucket_name, &format!("{labels}{separator}le=\"{bound}\""), total);
    }
    let nanos: u64 = parts.iter().map(|part| part.nanos.load(Ordering::Relaxed)).sum();
    text.labelled(&format!("{name}_sum"), labels, nanos as f64 / unit);
    text.labelled(&format!("{name}_count"), labels, total);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(histogram: &Histogram) -> String {
        let mut text = Text::default();
        histogram.write(&mut text, "h", "Help.");
        text.finish()
    }

    #[test]
    fn spans_fall_into_the_buckets_of_etcd() {
        let histogram = Histogram::new(USUAL);
        for millis in [0, 1, 2, 3] {
            histogram.observe(Duration::from_millis(millis));
        }
        histogram.observe_alone(Duration::from_secs(9));
        let text = page(&histogram);
        for line in [
            "# TYPE h histogram",
            "h_bucket{le=\"0.001\"} 2",
            "h_bucket{le=\"0.002\"} 3",
            "h_bucket{le=\"0.004\"} 4",
            "h_bucket{le=\"8.192\"} 4",
            "h_bucket{le=\"+Inf\"} 5",
            "h_sum 9.006",
            "h_count 5",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_span_at_a_bound_is_below_it_whatever_the_bounds() {
        for bounds in [USUAL, APPLY, HANDLING, COMPACTION] {
            for bucket in 0..bounds.count() {
                let nanos = (bounds.bound(bucket, 1.0)) as u64;
                assert_eq!(bounds.bucket(nanos), bucket, "{bounds:?}");
                assert_eq!(bounds.bucket(nanos + 1), bucket + 1, "{bounds:?}");
            }
            assert_eq!(bounds.bucket(u64::MAX), bounds.count());
        }
    }

    #[test]
    fn members_of_a_family_come_when_something_was_counted() {
        let (first, second) = (Histogram::new(HANDLING), Histogram::new(HANDLING));
        let mut text = Text::default();
        text.head("h", "histogram", "Help.");
        write_member(&mut text, "h", "op=\"a\"", &[&first, &second]);
        second.observe(Duration::from_millis(70));
        write_member(&mut text, "h", "op=\"b\"", &[&first, &second]);
        let text = text.finish();
        assert!(!text.contains("op=\"a\""), "{text}");
        assert!(
            text.contains("h_bucket{op=\"b\",le=\"0.05\"} 0\nh_bucket{op=\"b\",le=\"0.1\"} 1\n"),
            "{text}"
        );
    }
}
