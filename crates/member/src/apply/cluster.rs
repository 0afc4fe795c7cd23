//! Changes of the membership on their way from the log to raft, and what the operator is told.

use api::raftpb::{ConfChange, ConfChangeType};

use super::Apply;
use crate::decide::ConfApplied;
use crate::log::LogLine;
use crate::message::ToDecide;
use crate::router::Router;

impl Apply {
    /// The log has decided about a change; a refused one comes without a member.
    pub(super) fn conf_change_applied(&mut self, index: u64, change: &ConfChange, router: &dyn Router) {
        if change.node_id() != 0 {
            self.tell_change(change, router);
            let facts = self.shared.facts();
            let mut learners = facts.members.iter().filter(|member| member.is_learner);
            let is_promotion = change.r#type() == ConfChangeType::ConfChangeAddNode
                && learners.any(|member| member.id == change.node_id());
            // etcd counts where the promotion was decided about: server.go, promoteMember.
            if is_promotion && self.is_leader() {
                self.shared.tallies.learners_promoted.add(1);
            }
        }
        let kind = u64::try_from(change.r#type.unwrap_or_default()).unwrap_or_default();
        router.to_decide(ToDecide::ConfApplied(ConfApplied {
            index,
            change: raft::ConfChange {
                kind: raft::ConfChangeKind::from_wire(kind).unwrap_or_default(),
                node_id: change.node_id(),
            },
        }));
    }

    /// The lines of etcd: membership/cluster.go.
    fn tell_change(&self, change: &ConfChange, router: &dyn Router) {
        let id = change.node_id();
        let line = |msg: &'static str| {
            LogLine::info(msg)
                .with("cluster-id", format!("{:x}", self.shared.cluster_id))
                .with("local-member-id", format!("{:x}", self.shared.member_id))
        };
        let kind = change.r#type();
        let now = self.machine.membership().members.get(&id);
        // What is not published yet is what was before this batch of entries.
        let facts = self.shared.facts();
        let before = facts.members.iter().find(|member| member.id == id);
        let hex = format!("{id:x}");
        router.log(match (kind, now, before) {
            (ConfChangeType::ConfChangeRemoveNode, _, before) => {
                let urls = before.map(|member| member.peer_urls.clone()).unwrap_or_default();
                line("removed member")
                    .with("removed-remote-peer-id", hex)
                    .with("removed-remote-peer-urls", urls)
                    .with(
                        "removed-remote-peer-is-learner",
                        before.is_some_and(|member| member.is_learner),
                    )
            }
            (ConfChangeType::ConfChangeUpdateNode, now, _) => line("updated member")
                .with("updated-remote-peer-id", hex)
                .with(
                    "updated-remote-peer-urls",
                    now.map(|member| member.peer_urls.clone()).unwrap_or_default(),
                )
                .with(
                    "updated-remote-peer-is-learner",
                    now.is_some_and(|member| member.is_learner),
                ),
            (ConfChangeType::ConfChangeAddNode, _, Some(_)) => {
                line("promote member").with("promoted-member-id", hex)
            }
            (_, now, _) => line("added member")
                .with("added-peer-id", hex)
                .with(
                    "added-peer-peer-urls",
                    now.map(|member| member.peer_urls.clone()).unwrap_or_default(),
                )
                .with(
                    "added-peer-is-learner",
                    now.is_some_and(|member| member.is_learner),
                ),
        });
    }
}
