//! Answers about the member itself: status, hashes, downgrade, leadership.

use api::clock::Instant;
use api::error::{self, Code, Status};
use api::etcdserverpb::downgrade_request::DowngradeAction;
use api::etcdserverpb::{
    AlarmMember, AlarmType, DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvResponse, HashResponse,
    StatusResponse,
};
use api::membershippb::DowngradeInfoSetRequest;
use api::version::{Line, Version};
use bytes::Bytes;
use prost::Message;

use super::jobs::{Job, Work};
use super::reads::Read;
use super::snapshot::SnapshotReader;
use super::{AskDecide, Asker, Context, Frontend, Outcome, Output, Token, Waiting, Wants};
use crate::Facts;

/// The field of an `InternalRaftRequest`.
const DOWNGRADE_INFO_SET: u32 = 1302;

impl Frontend {
    pub(super) fn status(&self) -> StatusResponse {
        let (view, facts, pulse) = (self.views.peek(), self.shared.facts(), &self.shared.pulse);
        let line = self.config.line;
        let leader = pulse.leader();
        let mut errors = Vec::new();
        if leader == 0 {
            errors.push(error::NO_LEADER.message.into_owned());
        }
        errors.extend(
            facts
                .alarms
                .iter()
                .map(|alarm| alarm_text(alarm.member_id, alarm.kind, line)),
        );
        let mut response = StatusResponse {
            header: Some(self.header().with_revision(view.revision).to_message()),
            version: line.release().to_string(),
            db_size: view.db.size() as i64,
            leader,
            raft_index: pulse.committed(),
            raft_term: pulse.term(),
            raft_applied_index: self.shared.applied(),
            errors,
            db_size_in_use: view.db.size_in_use() as i64,
            is_learner: pulse.is_learner(),
            ..StatusResponse::default()
        };
        if line >= Line::V3_6 {
            response.storage_version = storage_version(&facts);
            response.db_size_quota = match self.config.quota_bytes {
                0 => state::QUOTA_DEFAULT_BYTES as i64,
                bytes => bytes,
            };
            response.downgrade_info = Some(DowngradeInfo {
                enabled: facts.downgrade_target.is_some(),
                target_version: facts
                    .downgrade_target
                    .map(|target| target.to_string())
                    .unwrap_or_default(),
            });
        }
        response
    }

    pub(super) fn move_leader(
        &mut self,
        token: Token,
        to: u64,
        context: &Context,
        now: Instant,
    ) -> Result<Outcome, Status> {
        if self.shared.pulse.leader() != self.config.member_id {
            return Err(error::NOT_LEADER);
        }
        let facts = self.shared.facts();
        if !facts.members.iter().any(|m| m.id == to && !m.is_learner) {
            return Err(error::BAD_LEADER_TRANSFEREE);
        }
        if to == self.config.member_id {
            return Ok(Outcome::Done(Ok(Bytes::new())));
        }
        const TOO_LONG: Status = Status::new(
            Code::Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        );
        let own = now + self.config.request_timeout;
        let at = context.deadline.map_or(own, |client| client.min(own));
        let id = self.wait(token, Wants::Leader { to }, now, Some((at, TOO_LONG)));
        self.leader.transfers.insert(id);
        self.to_decide.push(AskDecide::TransferLeader { to });
        Ok(Outcome::Pending)
    }

    pub(super) fn hash_kv(
        &mut self,
        token: Token,
        revision: i64,
        of: Asker,
        context: &Context,
        now: Instant,
    ) -> Result<Outcome, Status> {
        let hash = self.views.load().hash_kv(revision);
        let hash = Box::new(self.client_result(hash)?);
        let id = self.wait(token, Wants::Hash { of }, now, Frontend::client_deadline(context));
        self.push_job(Work::HashKv { id, hash });
        Ok(Outcome::Pending)
    }

    pub(super) fn hash_kv_step(
        &mut self,
        id: u64,
        hash: Box<mvcc::HashKv>,
        result: Result<Option<mvcc::KeyValueHash>, mvcc::Error>,
    ) {
        if !self.waiting.contains_key(&id) {
            return;
        }
        match self.client_result(result) {
            Ok(None) => self.push_job(Work::HashKv { id, hash }),
            Ok(Some(found)) => {
                let response = HashKvResponse {
                    header: Some(self.header().with_revision(hash.current_revision()).to_message()),
                    hash: found.hash,
                    compact_revision: found.compact_revision,
                    hash_revision: match self.config.line {
                        Line::V3_5 => 0,
                        _ => found.revision,
                    },
                };
                self.finish(id, Ok(response.encode_to_vec().into()));
            }
            Err(status) => self.finish(id, Err(status)),
        }
    }

    /// Everything applied is in the file now.
    pub(super) fn pinned(&mut self, id: u64, result: Result<bbolt::Snapshot, Status>) {
        // The file may be of after authentication was enabled, which whoever asked was not checked against.
        let result = self.check_auth().and(result);
        let Some(Waiting { what, caller, .. }) = self.waiting.get_mut(&id) else {
            return;
        };
        let token = *caller;
        match (&what, result) {
            (_, Err(status)) => self.finish(id, Err(status)),
            (Wants::PinnedForHash, Ok(_)) => {
                *what = Wants::Hash { of: Asker::Client };
                let view = self.views.load();
                self.push_job(Work::Hash {
                    id,
                    hash: Box::new(view.hash()),
                    revision: view.revision,
                });
            }
            (_, Ok(snapshot)) => {
                self.forget(id);
                let version = match self.config.line {
                    Line::V3_5 => String::new(),
                    _ => storage_version(&self.shared.facts()),
                };
                let reader = Box::new(SnapshotReader::new(&snapshot, version));
                self.snapshot_ready(token, reader);
            }
        }
    }

    pub(super) fn hash_step(
        &mut self,
        id: u64,
        hash: Box<mvcc::Hash>,
        revision: i64,
        result: Result<Option<u32>, mvcc::Error>,
    ) {
        if !self.waiting.contains_key(&id) {
            return;
        }
        match self.client_result(result) {
            Ok(None) => self.push_job(Work::Hash { id, hash, revision }),
            Ok(Some(found)) => {
                let response = HashResponse {
                    header: Some(self.header().with_revision(revision).to_message()),
                    hash: found,
                };
                self.finish(id, Ok(response.encode_to_vec().into()));
            }
            Err(status) => self.finish(id, Err(status)),
        }
    }

    pub(super) fn push_job(&mut self, work: Work) {
        self.outputs.push_back(Output::Job(Job(work)));
    }

    /// Downgrade: format and cluster version first, then a linearizable look at what the log says
    /// (etcd: server/etcdserver/version/version.go).
    pub(super) fn downgrade(
        &mut self,
        token: Token,
        request: DowngradeRequest,
        context: &Context,
        now: Instant,
    ) -> Result<Outcome, Status> {
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
                downgrade_target(&request.version)?;
                if self.shared.facts().cluster_version.is_none() {
                    return Err(error::CLUSTER_VERSION_UNAVAILABLE);
                }
            }
            Ok(DowngradeAction::Cancel) => {}
            Err(_) => return Err(Status::new(Code::Unknown, "etcdserver: unknown method")),
        }
        Ok(self.read_linearizable(token, Read::Downgrade(request), context, now))
    }

    /// What has to be proposed, `None` for nothing, or why not.
    pub(super) fn downgrade_checked(
        &self,
        request: &DowngradeRequest,
    ) -> Result<Option<DowngradeInfoSetRequest>, Status> {
        let facts = self.shared.facts();
        let action = DowngradeAction::try_from(request.action);
        if action == Ok(DowngradeAction::Cancel) {
            if facts.downgrade_target.is_none() {
                // 3.6 and 3.7 log that there is none and answer as if there had been.
                return match self.shared.line {
                    Line::V3_5 => Err(error::NO_INFLIGHT_DOWNGRADE),
                    Line::V3_6 | Line::V3_7 => Ok(None),
                };
            }
            return Ok(Some(DowngradeInfoSetRequest::default()));
        }
        let target = downgrade_target(&request.version)?;
        let Some(cluster) = facts.cluster_version else {
            return Err(error::CLUSTER_VERSION_UNAVAILABLE);
        };
        let allowed = cluster
            .minor
            .checked_sub(1)
            .map(|minor| Version::new(cluster.major, minor, 0));
        if Some(target) != allowed {
            return Err(error::INVALID_DOWNGRADE_TARGET_VERSION);
        }
        if facts.downgrade_target.is_some() {
            return Err(error::DOWNGRADE_IN_PROCESS);
        }
        Ok(
            (action == Ok(DowngradeAction::Enable)).then(|| DowngradeInfoSetRequest {
                enabled: true,
                ver: target.to_string(),
            }),
        )
    }

    pub(super) fn propose_downgrade(&mut self, id: u64, request: &DowngradeInfoSetRequest) {
        match self.proposal(DOWNGRADE_INFO_SET, request, id) {
            Ok(data) => {
                if let Some(waiting) = self.waiting.get_mut(&id) {
                    // A leader that is quick has lowered it before the answer is on its way.
                    let before = self.shared.facts().cluster_version;
                    waiting.what = Wants::Downgrade { before };
                }
                self.note_proposed(id);
                self.to_decide.push(AskDecide::Propose { id, data });
            }
            Err(status) => self.finish(id, Err(status)),
        }
    }

    /// The answer to a downgrade request that is done: the cluster's version, `X.Y`.
    pub(super) fn downgrade_answer(&self, cluster: Option<Version>, revision: i64) -> Bytes {
        let version = match cluster {
            Some(version) => format!("{}.{}", version.major, version.minor),
            None => String::new(),
        };
        let response = DowngradeResponse {
            header: Some(self.header().with_revision(revision).to_message()),
            version,
        };
        response.encode_to_vec().into()
    }
}

fn storage_version(facts: &Facts) -> String {
    facts
        .storage_version
        .map(|version| version.to_string())
        .unwrap_or_default()
}

/// `X.Y.Z` or `X.Y`; of either only X and Y count (etcd: cluster_util.go convertToClusterVersion).
fn downgrade_target(text: &str) -> Result<Version, Status> {
    crate::message::downgrade_target(text).ok_or(error::WRONG_DOWNGRADE_VERSION_FORMAT)
}

/// An alarm as Go prints the message; the encoders of the lines differ by a space at the end.
fn alarm_text(member_id: u64, kind: i32, line: Line) -> String {
    let message = AlarmMember {
        member_id,
        alarm: kind,
    };
    let mut text = String::new();
    if member_id != 0 {
        text.push_str(&format!("memberID:{member_id} "));
    }
    if let Ok(kind) = AlarmType::try_from(message.alarm)
        && kind != AlarmType::None
    {
        text.push_str(&format!("alarm:{} ", kind.as_str_name()));
    }
    match line {
        Line::V3_7 => text.trim_end().to_owned(),
        _ => text,
    }
}
