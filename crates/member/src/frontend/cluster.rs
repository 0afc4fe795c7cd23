//! Calls about the members of the cluster. What would cost the quorum is refused here, before it is
//! in the log; what the log already decides otherwise is refused where it is applied.

use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberUpdateRequest,
};
use api::raftpb::{ConfChange, ConfChangeType};
use bytes::Bytes;
use prost::Message;
use state::ChangeContext;

use super::calls::{Answer, decode};
use super::{AskApply, AskDecide, Asker, Context, Frontend, Outcome, Token, Wants};
use crate::Facts;

/// How long members must have been connected to count as healthy (etcd: server.go, HealthInterval).
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

impl Frontend {
    /// The members; the header of this has no revision (etcd: v3rpc/member.go).
    pub(super) fn members(&self) -> Bytes {
        let members = self.shared.facts().members.iter().map(wire_member).collect();
        let response = MemberListResponse {
            header: Some(self.header().to_message()),
            members,
        };
        response.encode_to_vec().into()
    }

    pub(super) fn member_add(&mut self, token: Token, raw: Bytes, context: &Context, now: Instant) -> Answer {
        let request: MemberAddRequest = decode(raw)?;
        let urls = api::url::parse_all(request.peer_ur_ls.iter().map(String::as_str))
            .map_err(|_| error::MEMBER_BAD_URLS)?;
        let peer_urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        let is_learner = request.is_learner;
        if self.config.strict_reconfig_check && !is_learner && !may_add_voter(&self.shared.facts()) {
            return Err(error::MEMBER_NOT_ENOUGH_STARTED);
        }
        if self.config.strict_reconfig_check && !self.may_add(now) {
            return Err(error::UNHEALTHY);
        }
        let member = state::Member {
            id: state::member_id(&peer_urls, "", Some(self.unix_seconds(now))),
            peer_urls: peer_urls.clone(),
            is_learner,
            ..state::Member::default()
        };
        let kind = match is_learner {
            true => ConfChangeType::ConfChangeAddLearnerNode,
            false => ConfChangeType::ConfChangeAddNode,
        };
        let change = change(kind, &member, false);
        let wants = Wants::Added {
            member: Box::new(Member {
                id: member.id,
                peer_ur_ls: peer_urls,
                is_learner,
                ..Member::default()
            }),
        };
        Ok(self.propose_change(token, change, wants, context, now))
    }

    pub(super) fn member_remove(
        &mut self,
        token: Token,
        raw: Bytes,
        context: &Context,
        now: Instant,
    ) -> Answer {
        let MemberRemoveRequest { id } = decode(raw)?;
        let facts = self.shared.facts();
        if self.config.strict_reconfig_check && !may_remove(&facts, id) {
            return Err(error::MEMBER_NOT_ENOUGH_STARTED);
        }
        if self.config.strict_reconfig_check && !self.may_do_without(&facts, id, now) {
            return Err(error::UNHEALTHY);
        }
        // Without its last voter a cluster is none; etcd's members die of it, and do so again at
        // each start.
        let mut voters = facts.members.iter().filter(|member| !member.is_learner);
        if voters.next().is_some_and(|member| member.id == id) && voters.next().is_none() {
            return Err(error::MEMBER_NOT_ENOUGH_STARTED);
        }
        let change = ConfChange {
            r#type: Some(ConfChangeType::ConfChangeRemoveNode as i32),
            node_id: Some(id),
            ..ConfChange::default()
        };
        Ok(self.propose_change(token, change, Wants::Done, context, now))
    }

    /// Voters that this member is, or has been connected to for long enough.
    fn connected(&self, facts: &Facts, now: Instant) -> usize {
        let connected = |id: u64| {
            let since = self.shared.active_since(id);
            id == self.config.member_id || since.is_some_and(|since| since + HEALTH_INTERVAL < now)
        };
        let voters = facts.members.iter().filter(|member| !member.is_learner);
        voters.filter(|member| connected(member.id)).count()
    }

    /// Whether there is a quorum also with one more that is not there yet (etcd: util.go,
    /// isConnectedToQuorumAfterAddingNewMemberSince).
    fn may_add(&self, now: Instant) -> bool {
        let facts = self.shared.facts();
        let (voters, _) = count(&facts, None);
        voters == 1 || self.connected(&facts, now) >= quorum(voters + 1)
    }

    /// Whether there is a quorum without this one, or it is no part of the one that there is (etcd:
    /// server.go, mayRemoveMember).
    fn may_do_without(&self, facts: &Facts, id: u64, now: Instant) -> bool {
        let mut learners = facts.members.iter().filter(|member| member.is_learner);
        if learners.any(|member| member.id == id)
            || id != self.config.member_id && self.shared.active_since(id).is_none()
        {
            return true;
        }
        let (voters, _) = count(facts, None);
        self.connected(facts, now) > 1 + voters.saturating_sub(1) / 2
    }

    pub(super) fn member_update(
        &mut self,
        token: Token,
        raw: Bytes,
        context: &Context,
        now: Instant,
    ) -> Answer {
        let request: MemberUpdateRequest = decode(raw)?;
        let member = state::Member {
            id: request.id,
            peer_urls: request.peer_ur_ls,
            ..state::Member::default()
        };
        let change = change(ConfChangeType::ConfChangeUpdateNode, &member, false);
        Ok(self.propose_change(token, change, Wants::Done, context, now))
    }

    pub(super) fn member_promote(
        &mut self,
        token: Token,
        raw: Bytes,
        context: &Context,
        now: Instant,
    ) -> Answer {
        let MemberPromoteRequest { id: learner } = decode(raw)?;
        let deadline = self.consensus_deadline(context, now);
        Ok(self.promote(token, learner, Asker::Client, now, deadline))
    }

    /// Asks the own raft first, which refuses if another member leads.
    pub(super) fn promote(
        &mut self,
        token: Token,
        learner: u64,
        of: Asker,
        now: Instant,
        deadline: Option<(Instant, Status)>,
    ) -> Outcome {
        let id = self.ids.next_id();
        self.wait_as(id, token, Wants::Promoted { member: learner, of }, now, deadline);
        self.ask_promotion(id, learner);
        Outcome::Pending
    }

    fn ask_promotion(&mut self, id: u64, learner: u64) {
        let allowed = !self.config.strict_reconfig_check || may_promote(&self.shared.facts());
        let refusal = (!allowed).then_some(error::MEMBER_NOT_ENOUGH_STARTED);
        let member = state::Member {
            id: learner,
            ..state::Member::default()
        };
        let mut change = change(ConfChangeType::ConfChangeAddNode, &member, true);
        change.id = Some(id);
        self.to_decide.push(AskDecide::Promote { id, change, refusal });
    }

    /// Raft or the log has decided about a promotion. Only the leader knows how far a learner is
    /// (etcd: server.go, PromoteMember).
    pub(super) fn promotion_done(&mut self, id: u64, member: u64, of: Asker, result: Result<Bytes, Status>) {
        match result {
            Err(status) if status == error::NOT_LEADER && of == Asker::Client => {
                self.to_apply.push(AskApply::Promote { id, member });
            }
            result => self.finish_as(id, result, true),
        }
    }

    /// The leader has answered for a promotion.
    pub(super) fn promoted(&mut self, id: u64, result: Result<Vec<crate::Member>, Status>) {
        let Some(Wants::Promoted { member, .. }) = self.waiting.get(&id).map(|waiting| &waiting.what) else {
            return;
        };
        let member = *member;
        match result {
            // This member leads meanwhile.
            Err(status) if status == error::NOT_LEADER => self.ask_promotion(id, member),
            Err(status) => self.finish(id, Err(status)),
            Ok(members) => {
                let response = MemberPromoteResponse {
                    header: Some(
                        self.header()
                            .with_revision(self.views.peek().revision)
                            .to_message(),
                    ),
                    members: members.iter().map(wire_member).collect(),
                };
                self.finish_as(id, Ok(response.encode_to_vec().into()), true);
            }
        }
    }

    fn propose_change(
        &mut self,
        token: Token,
        mut change: ConfChange,
        wants: Wants,
        context: &Context,
        now: Instant,
    ) -> Outcome {
        let id = self.ids.next_id();
        change.id = Some(id);
        self.wait_as(id, token, wants, now, self.consensus_deadline(context, now));
        self.to_decide.push(AskDecide::ProposeConfChange { id, change });
        Outcome::Pending
    }

    /// The time of day: it only has to make ids of members that nobody else has.
    fn unix_seconds(&self, now: Instant) -> i64 {
        let millis = u128::from(self.config.start_unix_ms) + now.since_start().as_millis();
        i64::try_from(millis / 1000).unwrap_or(i64::MAX)
    }
}

/// A change whose context is `member`, of which a promotion has the id alone.
fn change(kind: ConfChangeType, member: &state::Member, is_promote: bool) -> ConfChange {
    let context = ChangeContext {
        member: member.clone(),
        is_promote,
    };
    ConfChange {
        r#type: Some(kind as i32),
        node_id: Some(member.id),
        context: Some(context.to_json().into()),
        ..ConfChange::default()
    }
}

/// The answer to the one who added `member`, from the answer that lists all members.
pub(super) fn added_answer(member: &Member, members: Bytes) -> Bytes {
    let list = MemberListResponse::decode(members).unwrap_or_default();
    let response = MemberAddResponse {
        header: list.header,
        member: Some(member.clone()),
        members: list.members,
    };
    response.encode_to_vec().into()
}

/// Voters, and those of them that have started, but for `except`.
fn count(facts: &Facts, except: Option<u64>) -> (usize, usize) {
    let voters = facts
        .members
        .iter()
        .filter(|member| !member.is_learner && Some(member.id) != except);
    let started = voters.clone().filter(|member| !member.name.is_empty()).count();
    (voters.count(), started)
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether enough voters have started for one more that has not (etcd: membership/cluster.go,
/// IsReadyToAddVotingMember). A lone member may always be joined.
fn may_add_voter(facts: &Facts) -> bool {
    let (voters, started) = count(facts, None);
    (voters, started) == (1, 1) || started >= quorum(voters + 1)
}

/// Whether enough voters have started without this one (etcd: IsReadyToRemoveVotingMember).
/// Learners may always go.
fn may_remove(facts: &Facts, id: u64) -> bool {
    let (voters, started) = count(facts, Some(id));
    let mut learners = facts.members.iter().filter(|member| member.is_learner);
    learners.any(|member| member.id == id) || started >= quorum(voters)
}

/// Whether enough voters have started for a learner to become one (etcd: IsReadyToPromoteMember).
fn may_promote(facts: &Facts) -> bool {
    let (voters, started) = count(facts, None);
    started + 1 >= quorum(voters + 1)
}

fn wire_member(member: &crate::Member) -> Member {
    Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `V` a voter that has started, `v` one that has not, `l` a learner; ids are places from 1.
    fn facts(members: &str) -> Facts {
        let members = members.bytes().zip(1..).map(|(kind, id)| crate::Member {
            id,
            name: if kind == b'V' { "x".into() } else { String::new() },
            is_learner: kind == b'l',
            ..crate::Member::default()
        });
        Facts {
            members: members.collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn changes_that_could_cost_the_quorum_are_seen() {
        for (members, add, remove_first, promote) in [
            ("V", true, false, true),
            ("v", false, false, false),
            ("Vl", true, false, true),
            ("VV", true, true, true),
            ("Vv", false, false, true),
            ("VVV", true, true, true),
            ("VVv", false, false, true),
            ("Vvv", false, false, false),
            ("lV", true, true, true),
        ] {
            let facts = facts(members);
            assert_eq!(may_add_voter(&facts), add, "add to {members}");
            assert_eq!(
                may_remove(&facts, 1),
                remove_first,
                "remove the first of {members}"
            );
            assert_eq!(may_promote(&facts), promote, "promote in {members}");
        }
    }
}
