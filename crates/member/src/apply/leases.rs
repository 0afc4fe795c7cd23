//! What the lessor and the automatic compactor want, carried to the log and back.

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
    RequestHeader,
};

use super::Apply;
use super::own::Own;
use super::questions::Question;
use crate::config::AutoCompaction;
use crate::frontend::{LeaseInfo, Tell};
use crate::lessor::Renewal;
use crate::log::LogLine;
use crate::router::Router;

impl Apply {
    pub(super) fn renew(&mut self, question: Question, lease: i64, now: Instant, router: &dyn Router) {
        let id = question.id;
        let result = match self.lessor.renew(lease, now) {
            Renewal::Renewed(ttl) => {
                self.shared.tallies.leases_renewed.add(1);
                Ok(Some(ttl))
            }
            Renewal::NotFound => Ok(None),
            Renewal::NotPrimary => Err(error::LEADER_CHANGED),
            Renewal::Expired => match self.lessor.wait(lease, question) {
                None => return,
                Some(_) => Ok(None),
            },
            Renewal::ClearFirst => {
                let request = checkpoint(&[(lease, 0)]);
                let own = Own::ClearCheckpoint { question, lease };
                return self.own.send(own, request, now, router);
            }
        };
        self.tell(id, Tell::Renewed { id, result });
    }

    pub(super) fn time_to_live(&mut self, id: u64, lease: i64, keys: bool, now: Instant) {
        let found = self.lessor.time_to_live(lease, now).map(|times| LeaseInfo {
            remaining_seconds: times.remaining_seconds,
            granted_seconds: times.granted_seconds,
            keys: match self.machine.leases().get(lease) {
                Some(found) if keys => found.keys.iter().cloned().collect(),
                _ => Vec::new(),
            },
        });
        self.tell(
            id,
            Tell::Lease {
                id,
                result: Ok(found),
            },
        );
    }

    pub(super) fn list_leases(&mut self, id: u64) {
        let leases = self.lessor.list();
        self.tell(id, Tell::Leases { id, leases });
    }

    pub(super) fn lease_revoked(&mut self, lease: i64) {
        self.shared.tallies.leases_revoked.add(1);
        for Question { id, .. } in self.lessor.revoked(lease) {
            self.tell(id, Tell::Renewed { id, result: Ok(None) });
        }
    }

    /// This member leads and has applied all that earlier leaders have committed.
    pub(super) fn promote(&mut self, now: Instant, router: &dyn Router) {
        self.lessor.promote(now, self.config.election_timeout());
        if let Some(compactor) = &mut self.compactor {
            compactor.resume();
        }
        self.leader_known(now, router);
    }

    pub(super) fn demote(&mut self, now: Instant, router: &dyn Router) {
        for question in self.lessor.demote() {
            self.route(question, now, router);
        }
        if let Some(compactor) = &mut self.compactor {
            compactor.pause();
        }
    }

    /// Proposes what is due.
    pub(super) fn step_leases(&mut self, now: Instant, router: &dyn Router) {
        let proposals = self.lessor.poll(now);
        // While authentication is on, a revocation needs somebody who may write the lease's keys (etcd:
        // server/auth/store.go, WithRoot).
        let root = self.machine.auth_enabled().then(|| RequestHeader {
            username: "root".to_owned(),
            auth_revision: self.machine.auth_revision(),
            ..RequestHeader::default()
        });
        for lease in proposals.revokes {
            let request = InternalRaftRequest {
                header: root.clone(),
                lease_revoke: Some(LeaseRevokeRequest { id: lease }),
                ..InternalRaftRequest::default()
            };
            self.own.send(Own::Revoke(lease), request, now, router);
        }
        for leases in proposals.checkpoints {
            self.own.send(Own::Checkpoint, checkpoint(&leases), now, router);
        }
    }

    /// Proposes the automatic compaction that is due.
    pub(super) fn step_compactor(&mut self, now: Instant, router: &dyn Router) {
        let revision = self.machine.store().revision();
        let Some(compactor) = &mut self.compactor else {
            return;
        };
        let Some(target) = compactor.poll(revision, now) else {
            return;
        };
        let mode = self.compactor_mode();
        router.log(LogLine::info(format!("starting auto {mode} compaction")).with("revision", target));
        let request = InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision: target,
                physical: false,
            }),
            ..InternalRaftRequest::default()
        };
        self.own.send(Own::Compaction(target), request, now, router);
    }

    pub(super) fn compaction_answered(
        &mut self,
        target: i64,
        status: Option<Status>,
        now: Instant,
        router: &dyn Router,
    ) {
        let mode = self.compactor_mode();
        let revision = self.machine.store().revision();
        let is_ok = status.as_ref().is_none_or(|status| *status == error::COMPACTED);
        router.log(match (is_ok, status) {
            (false, Some(status)) => LogLine::warn(format!("failed auto {mode} compaction"))
                .with("revision", target)
                .with("error", status.message.to_string()),
            _ => LogLine::info(format!("completed auto {mode} compaction")).with("revision", target),
        });
        if let Some(compactor) = &mut self.compactor {
            compactor.finished(is_ok, revision, now);
        }
    }

    fn compactor_mode(&self) -> &'static str {
        match self.config.auto_compaction {
            AutoCompaction::Periodic(_) => "periodic",
            AutoCompaction::Revision(_) | AutoCompaction::Off => "revision",
        }
    }
}

fn checkpoint(leases: &[(i64, i64)]) -> InternalRaftRequest {
    let checkpoints = leases
        .iter()
        .map(|&(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
    InternalRaftRequest {
        lease_checkpoint: Some(LeaseCheckpointRequest {
            checkpoints: checkpoints.collect(),
        }),
        ..InternalRaftRequest::default()
    }
}
