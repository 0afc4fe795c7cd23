//! What every thread may read of a member at any time: IDs, term, leader, commit index, versions.
//! Written by the stages, read by all; never blocks. (What the log has decided about members and
//! alarms comes with the view: `state::Shared`.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::version::{Line, Version};
use arc_swap::ArcSwapOption;

use crate::error::Fatal;
use crate::frontend::{Pulse, RequestIds, Tell};
use crate::message::ToFront;
use crate::router::Router;

/// See the module.
pub struct Shared {
    /// The line whose behaviour this member shows.
    pub line: Line,
    /// The cluster's ID.
    pub cluster_id: u64,
    /// This member's ID.
    pub member_id: u64,
    /// Term, leader and commit index.
    pub pulse: Arc<Pulse>,
    /// How many front threads there are; the generator of request IDs after theirs is the
    /// member's own.
    pub fronts: usize,
    start_unix_ms: u64,
    storage_version: ArcSwapOption<Version>,
    applied: AtomicU64,
    ready: AtomicBool,
    wants_views: Vec<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(
        line: Line,
        (cluster_id, member_id): (u64, u64),
        fronts: usize,
        start_unix_ms: u64,
    ) -> Shared {
        Shared {
            line,
            cluster_id,
            member_id,
            pulse: Arc::new(Pulse::default()),
            fronts,
            start_unix_ms,
            storage_version: ArcSwapOption::const_empty(),
            applied: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            wants_views: (0..fronts).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The generators of request IDs: one a front thread, and the member's own.
    pub fn slots(&self) -> usize {
        self.fronts + 1
    }

    /// The front thread that may wait for `id`; `None` if the member itself, an earlier process or
    /// another member made it.
    pub fn front_of(&self, id: u64) -> Option<usize> {
        let slot = RequestIds::slot_of(id, self.slots());
        (self.is_local(id) && slot < self.fronts).then_some(slot)
    }

    /// Whether this process made `id`, so that somebody may wait for it.
    pub fn is_local(&self, id: u64) -> bool {
        const SUFFIX: u64 = (1 << 48) - 1;
        let start = (self.start_unix_ms << 8) & SUFFIX;
        id & !SUFFIX == self.member_id << 48 && (id & SUFFIX) + self.slots() as u64 > start
    }

    pub(crate) fn own_ids(&self) -> RequestIds {
        RequestIds::new(self.member_id, self.start_unix_ms, self.fronts, self.slots())
    }

    /// The version of the data file; `None` before the first migration, and always for line 3.5.
    pub fn storage_version(&self) -> Option<Version> {
        self.storage_version.load().as_deref().copied()
    }

    /// The highest applied index, 0 before the first entry.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Whether the member has published its own attributes: etcd's "ready to serve client requests".
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Says whether front thread `front` wants `ToFront::Published`: while it has watchers or reads
    /// that wait for an index. To miss nothing it says so first and loads the view afterwards: either
    /// it sees the new view, or Apply sees the wish.
    pub fn want_views(&self, front: usize, wanted: bool) {
        if let Some(flag) = self.wants_views.get(front) {
            flag.store(wanted, Ordering::SeqCst);
        }
    }

    pub(crate) fn wants_views(&self, front: usize) -> bool {
        self.wants_views[front].load(Ordering::SeqCst)
    }

    /// Ends the member: nothing is acknowledged any more, and the process must go.
    pub(crate) fn fail(&self, router: &dyn Router, what: &str, reason: String) {
        self.pulse.set_stopped();
        for front in 0..self.fronts {
            router.to_front(front, ToFront::Tell(vec![Tell::Stopped]));
        }
        router.fatal(Fatal {
            what: what.to_owned(),
            reason,
        });
    }

    pub(crate) fn set_storage_version(&self, version: Option<Version>) {
        self.storage_version.store(version.map(Arc::new));
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::SeqCst);
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
    }
}
