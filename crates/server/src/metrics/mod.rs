//! What is counted and measured, and how Prometheus reads it. Names, labels, kinds and bounds are
//! etcd's. Counting on the way of a request takes no lock, and touches no number that another
//! thread writes.

mod calls;
mod disk;
mod histogram;
mod network;
mod page;
mod process;
mod stages;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use calls::VERSIONS_MAX;
pub use calls::{FrontMetrics, RequestKind};
pub use disk::{DiskMetrics, MeasuredDisk};
pub use network::NetworkMetrics;
pub use page::page;
pub use process::Process;
pub use stages::{StageMetrics, span};
pub use text::Text;

/// The version of clients that say none.
pub const UNKNOWN_VERSION: usize = 0;
/// Bytes of a version that a client says it has: longer ones count as others.
const VERSION_BYTES_MAX: usize = 32;

/// How a check of `/livez` or `/readyz` went.
#[derive(Clone, Copy, Debug, Default)]
struct Checked {
    /// The last time.
    ok: bool,
    /// Failures and successes.
    counts: [u64; 2],
}

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    /// What each front thread counts.
    pub fronts: Vec<FrontMetrics>,
    /// What the disk took.
    pub disk: DiskMetrics,
    /// What the stages took.
    pub stages: StageMetrics,
    /// What goes between members.
    pub network: NetworkMetrics,
    /// `etcd_server_health_success`.
    pub health_success: AtomicU64,
    /// `etcd_server_health_failures`.
    pub health_failures: AtomicU64,
    /// By kind of probe and name of check.
    checks: Mutex<BTreeMap<(&'static str, &'static str), Checked>>,
    /// The versions that clients said they have, in the order in which they came.
    versions: Mutex<Vec<String>>,
    /// Pages of metrics being made, and made.
    pages: [AtomicU64; 2],
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(fronts: usize, extensive: bool) -> Metrics {
        Metrics {
            fronts: (0..fronts).map(|_| FrontMetrics::new(extensive)).collect(),
            disk: DiskMetrics::default(),
            stages: StageMetrics::default(),
            network: NetworkMetrics::default(),
            health_success: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
            checks: Mutex::new(BTreeMap::new()),
            versions: Mutex::new(vec!["unknown".to_string()]),
            pages: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// The number under which calls of clients of a version are counted. Asked once a connection.
    pub fn version_number(&self, version: &str) -> usize {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = versions.iter().position(|known| known == version) {
            return known;
        }
        if versions.len() >= VERSIONS_MAX || version.len() > VERSION_BYTES_MAX {
            return VERSIONS_MAX;
        }
        versions.push(version.to_string());
        versions.len() - 1
    }

    /// A check of `/livez` or `/readyz` was made.
    pub fn checked(&self, kind: &'static str, check: &'static str, ok: bool) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = checks.entry((kind, check)).or_default();
        checked.ok = ok;
        checked.counts[usize::from(ok)] += 1;
    }

    /// Counts a page of metrics while it is made.
    pub fn making_page<T>(&self, make: impl FnOnce() -> T) -> T {
        self.pages[0].fetch_add(1, Ordering::Relaxed);
        let made = make();
        self.pages[0].fetch_sub(1, Ordering::Relaxed);
        self.pages[1].fetch_add(1, Ordering::Relaxed);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_clients_are_bounded() {
        let metrics = Metrics::new(1, false);
        assert_eq!(metrics.version_number("unknown"), UNKNOWN_VERSION);
        assert_eq!(metrics.version_number("3.7"), 1);
        assert_eq!(metrics.version_number("3.6"), 2);
        assert_eq!(metrics.version_number("3.7"), 1);
        for number in 0..100 {
            metrics.version_number(&format!("v{number}"));
        }
        assert_eq!(metrics.version_number("new"), VERSIONS_MAX);
        assert_eq!(metrics.version_number(&"x".repeat(1000)), VERSIONS_MAX);
        assert_eq!(metrics.version_number("3.6"), 2);
    }
}
