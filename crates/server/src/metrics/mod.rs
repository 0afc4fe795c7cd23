//! What is counted, and how Prometheus reads it. Names, labels and bounds are etcd's.

mod disk;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::error::Code;
use member::frontend::{Method, Shape};

pub use disk::MeasuredDisk;
pub use text::Text;

use crate::services::Route;

const METHODS: usize = Method::ALL.len();
const CODES: usize = 17;

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    calls: Vec<MethodCalls>,
    /// `etcd_disk_wal_fsync_duration_seconds`.
    pub wal_fsync: Histogram,
    /// `etcd_disk_backend_commit_duration_seconds`.
    pub backend_commit: Histogram,
    /// `etcd_disk_wal_write_bytes_total`.
    pub wal_write_bytes: AtomicU64,
    /// `etcd_server_health_success`.
    pub health_success: AtomicU64,
    /// `etcd_server_health_failures`.
    pub health_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct MethodCalls {
    started: AtomicU64,
    handled: [AtomicU64; CODES],
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            calls: (0..METHODS).map(|_| MethodCalls::default()).collect(),
            wal_fsync: Histogram::default(),
            backend_commit: Histogram::default(),
            wal_write_bytes: AtomicU64::new(0),
            health_success: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    fn of(&self, route: Route) -> Option<&MethodCalls> {
        match route {
            Route::Member(method) => self.calls.get(method as usize),
            Route::Health(_) | Route::Recipe(_) => None,
        }
    }

    /// A call has begun.
    pub fn started(&self, route: Route) {
        if let Some(calls) = self.of(route) {
            calls.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call has ended.
    pub fn handled(&self, route: Route, code: Code) {
        if let Some(calls) = self.of(route) {
            calls.handled[usize::from(code.number())].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what is counted here.
    pub fn write(&self, text: &mut Text) {
        let started = Method::ALL.iter().zip(&self.calls);
        text.head("grpc_server_started_total", "counter", "Calls that have begun.");
        for (method, calls) in started.clone() {
            let labels = labels(*method);
            text.labelled(
                "grpc_server_started_total",
                &labels,
                calls.started.load(Ordering::Relaxed),
            );
        }
        text.head("grpc_server_handled_total", "counter", "Calls that have ended.");
        for (method, calls) in started {
            for (number, count) in calls.handled.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                // A series for each code of each method from the start, as etcd has them.
                let code = Code::from_number(u32::try_from(number).unwrap_or(2)).name();
                let labels = format!("grpc_code=\"{code}\",{}", labels(*method));
                text.labelled("grpc_server_handled_total", &labels, count);
            }
        }
        self.wal_fsync.write(
            text,
            "etcd_disk_wal_fsync_duration_seconds",
            "How long syncs of the log took.",
        );
        self.backend_commit.write(
            text,
            "etcd_disk_backend_commit_duration_seconds",
            "How long syncs of the data file took.",
        );
        for (name, value, help) in [
            (
                "etcd_disk_wal_write_bytes_total",
                &self.wal_write_bytes,
                "Bytes written to the log.",
            ),
            (
                "etcd_server_health_success",
                &self.health_success,
                "Health checks that succeeded.",
            ),
            (
                "etcd_server_health_failures",
                &self.health_failures,
                "Health checks that failed.",
            ),
        ] {
            text.counter(name, help, value.load(Ordering::Relaxed));
        }
    }
}

fn labels(method: Method) -> String {
    let (service, name) = crate::grpc::labels(method);
    let kind = match method.shape() {
        Shape::Unary => "unary",
        Shape::ServerStream => "server_stream",
        Shape::Duplex => "bidi_stream",
    };
    format!("grpc_method=\"{name}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
}

/// Buckets from 1 ms to 8.192 s, doubling: prometheus.ExponentialBuckets(0.001, 2, 14).
const BUCKETS: usize = 14;

/// A distribution of spans of time.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
}

impl Histogram {
    /// Counts a span.
    pub fn observe(&self, span: Duration) {
        let mut bound = Duration::from_millis(1);
        let mut bucket = 0;
        while bucket < BUCKETS && span > bound {
            bound *= 2;
            bucket += 1;
        }
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text, name: &str, help: &str) {
        text.head(name, "histogram", help);
        let mut total = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = match bucket {
                BUCKETS => "+Inf".to_string(),
                _ => (0.001 * f64::from(1u32 << bucket)).to_string(),
            };
            text.labelled(&format!("{name}_bucket"), &format!("le=\"{bound}\""), total);
        }
        #[allow(clippy::cast_precision_loss)] // Years of nanoseconds fit.
        let seconds = self.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        text.plain(&format!("{name}_sum"), seconds);
        text.plain(&format!("{name}_count"), total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_fall_into_the_buckets_of_etcd() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 3, 9000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Text::default();
        histogram.write(&mut text, "h", "Help.");
        let text = text.finish();
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
    fn calls_are_counted_by_method_and_code() {
        let metrics = Metrics::default();
        let route = Route::Member(Method::Put);
        metrics.started(route);
        metrics.handled(route, Code::OutOfRange);
        let mut text = Text::default();
        metrics.write(&mut text);
        let text = text.finish();
        for line in [
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
            "grpc_server_handled_total{grpc_code=\"OutOfRange\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }
}
