//! What a member asks of the log for itself: its attributes, versions, alarms.

use std::collections::BTreeMap;
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest, alarm_request};
use api::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use api::version::{Line, Version};
use bytes::Bytes;
use prost::Message;
use state::{Hold, OpKind};

use super::Apply;
use super::questions::Question;
use crate::frontend::{AskDecide, RequestIds};
use crate::log::LogLine;
use crate::measure::Measure;
use crate::message::ToDecide;
use crate::monitor;
use crate::router::Router;

/// How long a member waits before it tries again to publish its attributes.
const ATTRIBUTES_RETRY: Duration = Duration::from_millis(500);

/// How long the first leader waits for the versions before it serves all the same.
const READY_MAX: Duration = Duration::from_secs(1);

/// Requests of the member itself that are on their way.
pub(super) struct OwnRequests {
    ids: RequestIds,
    timeout: Duration,
    /// When to try again to publish the attributes.
    attributes_at: Option<Instant>,
    /// The term in which this member leads, or thinks so.
    pub(super) term: u64,
    /// By ID; IDs grow with time, so the first is the oldest.
    pending: BTreeMap<u64, (Own, Instant)>,
}

impl Own {
    fn op(&self) -> OpKind {
        match self {
            Own::Attributes => OpKind::ClusterMemberAttrSet,
            Own::ClusterVersion(_) => OpKind::ClusterVersionSet,
            Own::CancelDowngrade => OpKind::DowngradeInfoSet,
            Own::NoSpace | Own::Corrupt(_) => OpKind::Alarm,
            Own::Revoke(_) => OpKind::LeaseRevoke,
            Own::Checkpoint | Own::ClearCheckpoint { .. } => OpKind::LeaseCheckpoint,
            Own::Compaction(_) => OpKind::Compaction,
        }
    }
}

impl Own {
    /// Whether it says what only a leader can know: after its time it would be wrong (etcd issue 15247).
    fn is_of_leader(&self) -> bool {
        match self {
            Own::Revoke(_) | Own::Checkpoint | Own::ClearCheckpoint { .. } => true,
            Own::ClusterVersion(_) | Own::CancelDowngrade | Own::Corrupt(_) => true,
            Own::Attributes | Own::NoSpace | Own::Compaction(_) => false,
        }
    }
}

/// What a request of the member itself is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Name and client URLs, at each start.
    Attributes,
    /// The cluster's version.
    ClusterVersion(Version),
    /// The end of a downgrade.
    CancelDowngrade,
    /// The alarm that the quota is used up.
    NoSpace,
    /// The alarm that a member's data is corrupt.
    Corrupt(u64),
    /// The revocation of an expired lease.
    Revoke(i64),
    /// Remaining times of leases.
    Checkpoint,
    /// The end of a remaining time, before the renewal that the question asks for.
    ClearCheckpoint {
        /// The question.
        question: Question,
        /// The lease.
        lease: i64,
    },
    /// An automatic compaction.
    Compaction(i64),
}

impl OwnRequests {
    pub(super) fn new(ids: RequestIds, timeout: Duration) -> OwnRequests {
        OwnRequests {
            ids,
            timeout,
            attributes_at: None,
            term: 0,
            pending: BTreeMap::new(),
        }
    }

    /// An ID that no front thread takes for its own.
    pub(super) fn next_id(&mut self) -> u64 {
        self.ids.next_id()
    }

    /// Whether one of this kind is on its way.
    pub(super) fn has(&self, wanted: impl Fn(&Own) -> bool) -> bool {
        self.pending.values().any(|(own, _)| wanted(own))
    }

    /// How many are on their way. But for the ends of remaining times, of which each renewal may want one,
    /// these are few.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let timeouts = self.pending.values().map(|&(_, until)| until);
        timeouts.chain(self.attributes_at).min()
    }

    /// Sends a request and remembers what it is for.
    pub(super) fn send(
        &mut self,
        own: Own,
        mut request: InternalRaftRequest,
        now: Instant,
        router: &dyn Router,
    ) {
        let of_leader = own.is_of_leader();
        let id = self.ids.next_id();
        request.header.get_or_insert_default().id = id;
        self.pending.insert(id, (own, now + self.timeout));
        let data = Bytes::from(request.encode_to_vec());
        let term = self.term;
        router.to_decide(ToDecide::Ask(vec![match of_leader {
            true => AskDecide::ProposeAsLeader { id, term, data },
            false => AskDecide::Propose { id, data },
        }]));
    }
}

impl Apply {
    /// Tells the cluster this member's name and where clients reach it
    /// (etcd: server/etcdserver/server.go, publishV3).
    pub(super) fn publish_attributes(&mut self, now: Instant, router: &dyn Router) {
        if self.own.has(|own| *own == Own::Attributes) {
            return;
        }
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
                member_id: self.shared.member_id,
                member_attributes: Some(Attributes {
                    name: self.config.name.clone(),
                    client_urls: self.config.advertise_client_urls.clone(),
                }),
            }),
            ..InternalRaftRequest::default()
        };
        self.own.send(Own::Attributes, request, now, router);
    }

    /// As the leader, sets or changes the cluster's version where that is due.
    pub(super) fn look_at_cluster_version(&mut self, now: Instant, router: &dyn Router) {
        if self.own.has(|own| matches!(own, Own::ClusterVersion(_))) {
            return;
        }
        if let Some(until) = self.first_version_waits(now) {
            self.monitor_at = self.monitor_at.min(until);
            return;
        }
        let membership = self.machine.membership();
        let Some(version) = monitor::cluster_version(membership, &self.versions) else {
            return;
        };
        router.log(match membership.version {
            None => LogLine::info("setting up initial cluster version using v3 API")
                .with("cluster-version", short(version)),
            Some(before) => LogLine::info("updating cluster version using v3 API")
                .with("from", short(before))
                .with("to", short(version)),
        });
        let request = InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest {
                ver: version.to_string(),
            }),
            ..InternalRaftRequest::default()
        };
        self.own.send(Own::ClusterVersion(version), request, now, router);
    }

    /// Until when a new cluster gets no version: etcd's leader asks the others before it decides, and takes
    /// the lowest version there is only for members that do not answer.
    fn first_version_waits(&self, now: Instant) -> Option<Instant> {
        let membership = self.machine.membership();
        if membership.version.is_some() || self.versions.know_all(membership) {
            return None;
        }
        let (_, until) = self.first_version.filter(|(term, _)| *term == self.role.term)?;
        (now < until).then_some(until)
    }

    /// What the others run. The first version of a new cluster has waited for it; who has not answered will
    /// not be waited for any longer.
    pub(super) fn peer_versions(
        &mut self,
        others: BTreeMap<u64, Version>,
        now: Instant,
        router: &dyn Router,
    ) {
        self.versions.heard(self.shared.member_id, others);
        let began = self.first_version.filter(|(term, _)| *term == self.role.term);
        if let Some((term, _)) = began.filter(|_| self.is_leader()) {
            self.first_version = Some((term, now));
            if self.machine.membership().version.is_none() {
                self.look_at_cluster_version(now, router);
            }
        }
    }

    /// As the leader, ends a downgrade whose target every member runs.
    pub(super) fn end_downgrade(&mut self, now: Instant, router: &dyn Router) {
        let membership = self.machine.membership();
        if !self.is_leader()
            || !monitor::downgrade_is_complete(membership, &self.versions)
            || self.own.has(|own| *own == Own::CancelDowngrade)
        {
            return;
        }
        router.log(
            LogLine::info("the cluster has been downgraded")
                .with("cluster-version", membership.downgrade.target_version.clone()),
        );
        let request = InternalRaftRequest {
            downgrade_info_set: Some(DowngradeInfoSetRequest::default()),
            ..InternalRaftRequest::default()
        };
        self.own.send(Own::CancelDowngrade, request, now, router);
    }

    /// Raises the alarm that the quota is used up. Each request that finds it so asks for it again;
    /// one at a time is on its way.
    pub(super) fn raise_no_space(&mut self, now: Instant, router: &dyn Router) {
        if self.own.has(|own| *own == Own::NoSpace) {
            return;
        }
        let request = InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: alarm_request::AlarmAction::Activate as i32,
                member_id: self.shared.member_id,
                alarm: AlarmType::Nospace as i32,
            }),
            ..InternalRaftRequest::default()
        };
        self.own.send(Own::NoSpace, request, now, router);
    }

    /// A request of the member itself was applied, dropped, or has waited too long.
    pub(super) fn own_done(
        &mut self,
        id: u64,
        result: Result<Bytes, Status>,
        now: Instant,
        router: &dyn Router,
    ) {
        let Some((own, until)) = self.own.pending.remove(&id) else {
            return;
        };
        let sent = until.since_start().saturating_sub(self.own.timeout);
        router.measure(Measure::OwnRequest {
            op: own.op(),
            took: now.since_start().saturating_sub(sent),
            answered: result != Err(error::TIMEOUT),
        });
        match (own, result) {
            (Own::Attributes, Ok(_)) => {
                self.ready_until = Some(now + READY_MAX);
                router.log(
                    LogLine::info("published local member to cluster through raft")
                        .with("local-member-id", format!("{:x}", self.shared.member_id))
                        .with("local-member-attributes", self.attributes_text())
                        .with("cluster-id", format!("{:x}", self.shared.cluster_id))
                        .with("publish-timeout", self.config.request_timeout()),
                );
            }
            (Own::Attributes, Err(status)) => {
                router.log(
                    LogLine::warn("failed to publish local member to cluster through raft")
                        .with("local-member-id", format!("{:x}", self.shared.member_id))
                        .with("error", status.message.to_string()),
                );
                self.own.attributes_at = Some(now + ATTRIBUTES_RETRY);
            }
            (Own::ClusterVersion(version), Ok(_)) => router
                .log(LogLine::info("cluster version is updated").with("cluster-version", short(version))),
            (Own::ClusterVersion(_), Err(status)) => router.log(
                LogLine::warn("failed to update cluster version").with("error", status.message.to_string()),
            ),
            (Own::CancelDowngrade, Ok(_)) => {}
            (Own::CancelDowngrade, Err(status)) => router
                .log(LogLine::warn("failed to cancel downgrade").with("error", status.message.to_string())),
            (Own::Revoke(lease), result) => {
                match result {
                    Ok(_) => self.shared.tallies.leases_expired.add(1),
                    Err(status) => router.log(
                        LogLine::warn("failed to revoke lease")
                            .with("lease-id", format!("{lease:016x}"))
                            .with("error", status.message.to_string()),
                    ),
                }
                self.lessor.revoke_finished(lease);
            }
            (Own::Checkpoint | Own::Corrupt(_), _) => {}
            (Own::ClearCheckpoint { question, lease }, Ok(_)) => self.renew(question, lease, now, router),
            (Own::ClearCheckpoint { question, .. }, Err(_)) if !self.is_leader() => {
                self.route(question, now, router);
            }
            (Own::ClearCheckpoint { question, .. }, Err(status)) => {
                self.tell(question.id, question.refused(status));
            }
            (Own::Compaction(target), result) => {
                self.compaction_answered(target, result.err(), now, router);
            }
            (Own::NoSpace, _) => {
                self.release_held(|hold| matches!(hold, Hold::NoSpaceRaised), now, router);
            }
        }
    }

    /// Says that the member serves. The first leader of a cluster sets the versions of cluster and data
    /// file first, as whoever asks for them would otherwise find none for a moment.
    pub(super) fn look_at_readiness(&mut self, now: Instant) {
        let Some(until) = self.ready_until.filter(|_| !self.stopping) else {
            return;
        };
        let versions_come =
            self.is_leader() && self.config.line >= Line::V3_6 && self.storage_version.is_none();
        if !versions_come || until <= now {
            self.ready_until = None;
            self.shared.set_ready();
        }
    }

    pub(super) fn own_timeouts(&mut self, now: Instant, router: &dyn Router) {
        if self.own.attributes_at.is_some_and(|at| at <= now) {
            self.own.attributes_at = None;
            self.publish_attributes(now, router);
        }
        while let Some((&id, &(_, until))) = self.own.pending.first_key_value() {
            if until > now {
                return;
            }
            self.own_done(id, Err(error::TIMEOUT), now, router);
        }
    }

    fn attributes_text(&self) -> String {
        format!(
            "{{Name:{} ClientURLs:[{}]}}",
            self.config.name,
            self.config.advertise_client_urls.join(" ")
        )
    }
}

/// A version as etcd logs a cluster's: without the patch.
fn short(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}
