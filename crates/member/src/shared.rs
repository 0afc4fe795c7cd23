//! What every thread may read of a member at any time: IDs, term, leader, commit index, versions.
//! Written by the stages, read by all; never blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use api::clock::Instant;
use api::etcdserverpb::AlarmType;
use api::version::{Line, Version};
use arc_swap::ArcSwap;
use state::Machine;

use crate::error::Fatal;
use crate::frontend::{Pulse, RequestIds, Tell};
use crate::message::ToFront;
use crate::monitor;
use crate::router::Router;
use crate::tally::{FrontTallies, StageTallies};

/// A member of the cluster as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its ID.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

/// A raised alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Who raised it.
    pub member_id: u64,
    /// NOSPACE 1, CORRUPT 2.
    pub kind: i32,
}

/// What the log has decided about the cluster. Exchanged as a whole before the view of the batch
/// that changed it is published, so a reader that waited for an index finds facts at least as new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The members by ascending ID.
    pub members: Vec<Member>,
    /// IDs that were members once and can never come back, ascending.
    pub removed: Vec<u64>,
    /// `None` until the leader has set it.
    pub cluster_version: Option<Version>,
    /// As the data file holds it; `None` before the first migration, always for line 3.5.
    pub storage_version: Option<Version>,
    /// The target of a downgrade that is under way.
    pub downgrade_target: Option<Version>,
    /// The raised alarms, sorted.
    pub alarms: Vec<Alarm>,
}

impl Facts {
    pub(crate) fn of(machine: &Machine, storage_version: Option<Version>) -> Facts {
        let membership = machine.membership();
        let members = membership.members.values().map(|member| Member {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
        });
        let alarms = machine.alarms().list(AlarmType::None as i32).map(|alarm| Alarm {
            member_id: alarm.member_id,
            kind: alarm.alarm,
        });
        Facts {
            members: members.collect(),
            removed: membership.removed.iter().copied().collect(),
            cluster_version: membership.version,
            storage_version,
            downgrade_target: monitor::downgrade_target(membership),
            alarms: alarms.collect(),
        }
    }
}

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
    /// What the stages count.
    pub tallies: StageTallies,
    /// What each front thread counts.
    pub front_tallies: Vec<FrontTallies>,
    /// How many front threads there are; the generator of request IDs after theirs is the
    /// member's own.
    pub fronts: usize,
    start_unix_ms: u64,
    facts: ArcSwap<Facts>,
    applied: AtomicU64,
    durable: AtomicU64,
    durable_wanted: AtomicU64,
    ready: AtomicBool,
    wants_views: Vec<AtomicBool>,
    active: ArcSwap<BTreeMap<u64, Instant>>,
}

impl Shared {
    /// Since when the connections to another member have stood; `None` if there is none.
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.active.load().get(&id).copied()
    }

    /// The transport says who can be reached, and since when.
    pub fn set_active(&self, since: BTreeMap<u64, Instant>) {
        self.active.store(Arc::new(since));
    }

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
            tallies: StageTallies::default(),
            front_tallies: (0..fronts).map(|_| FrontTallies::default()).collect(),
            fronts,
            start_unix_ms,
            facts: ArcSwap::from_pointee(Facts::default()),
            applied: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            durable_wanted: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            active: ArcSwap::default(),
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

    /// The member's own log is durable up to `index`. Whether somebody waits for that.
    pub(crate) fn set_durable(&self, index: u64) -> bool {
        self.durable.store(index, Ordering::SeqCst);
        let wanted = self.durable_wanted.load(Ordering::SeqCst);
        wanted != 0 && wanted <= index
    }

    /// Whether the member's own log is durable up to `index`. If not, [`crate::ToApply::Durable`]
    /// comes when it is. In a cluster entries may be committed by others' disks first.
    pub(crate) fn ask_durable(&self, index: u64) -> bool {
        self.durable_wanted.store(index, Ordering::SeqCst);
        let is_durable = self.durable.load(Ordering::SeqCst) >= index;
        if is_durable {
            self.durable_wanted.store(0, Ordering::SeqCst);
        }
        is_durable
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

    /// What the log has decided about the cluster so far.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
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
            // Not to be moved behind the load of the view: the other half is in `wants_views`.
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn wants_views(&self, front: usize) -> bool {
        // The view was exchanged before, and that must not be moved behind this.
        fence(Ordering::SeqCst);
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

    pub(crate) fn set_facts(&self, facts: Facts) {
        self.facts.store(Arc::new(facts));
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::SeqCst);
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
    }
}
