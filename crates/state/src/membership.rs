//! Who is in the cluster: members, removed ids, cluster version, downgrade; and the rows that keep
//! them in the data file. Never decides when something changes: entries of the log do.

use std::collections::{BTreeMap, BTreeSet};

use api::error::{self, Status};
use api::raftpb;
use api::version::Version;

use mvcc::schema::{self, Downgrade};

use crate::gojson::Object;

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id; never 0.
    pub id: u64,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it only learns, without a vote.
    pub is_learner: bool,
    /// Its name; empty until it has started and told.
    pub name: String,
    /// Where clients reach it; empty until it has started and told.
    pub client_urls: Vec<String>,
}

impl Member {
    /// Whether the member has started at least once (etcd: membership/member.go, IsStarted).
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The JSON that etcd stores, byte for byte.
    pub fn to_json(&self) -> String {
        self.to_row().to_json()
    }

    /// The member as the data file keeps it.
    pub(crate) fn to_row(&self) -> schema::Member {
        schema::Member {
            id: self.id,
            // Go's nil: the context of a promotion has it.
            peer_urls: (!self.peer_urls.is_empty()).then(|| self.peer_urls.clone()),
            is_learner: self.is_learner,
            name: self.name.clone(),
            client_urls: self.client_urls.clone(),
        }
    }

    pub(crate) fn from_row(row: schema::Member) -> Member {
        Member {
            id: row.id,
            peer_urls: row.peer_urls.unwrap_or_default(),
            is_learner: row.is_learner,
            name: row.name,
            client_urls: row.client_urls,
        }
    }

    /// Reads what [`Member::to_json`] writes. Fields that are absent keep their zero values.
    pub fn from_json(data: &[u8]) -> Result<Member, String> {
        Member::from_object(&mut Object::parse(data)?)
    }

    pub(crate) fn from_object(object: &mut Object) -> Result<Member, String> {
        Ok(Member {
            id: object.u64("id")?,
            peer_urls: object.strings("peerURLs")?,
            is_learner: object.bool("isLearner")?,
            name: object.string("name")?,
            client_urls: object.strings("clientURLs")?,
        })
    }
}

/// The cluster as the log has made it so far. Cheap to share: readers hold an `Arc` of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The members by id.
    pub members: BTreeMap<u64, Member>,
    /// Ids that were members once and can never come back.
    pub removed: BTreeSet<u64>,
    /// The version that all members agreed to speak; unknown in a young cluster.
    pub version: Option<Version>,
    /// The downgrade in progress, if any.
    pub downgrade: Downgrade,
}

impl Membership {
    /// The members that raft counts, as its configuration names them.
    pub fn conf_state(&self) -> raftpb::ConfState {
        let ids = |learners: bool| {
            let of_kind = self.members.values().filter(move |m| m.is_learner == learners);
            of_kind.map(|member| member.id).collect()
        };
        raftpb::ConfState {
            voters: ids(false),
            learners: ids(true),
            auto_leave: Some(false),
            ..Default::default()
        }
    }

    /// The voting members, in order of ids.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_learner)
    }

    fn peer_url_used(&self, urls: &[String], except: Option<u64>) -> bool {
        let mut others = self.members.values().filter(|member| Some(member.id) != except);
        others.any(|member| member.peer_urls.iter().any(|url| urls.contains(url)))
    }

    /// Whether a decoded change may be made (etcd: membership/cluster.go,
    /// ValidateConfigurationChange); the error is what its proposer is told.
    pub(crate) fn validate(&self, change: &Change, learners_max: usize) -> Result<(), Status> {
        let (Change::Add { id, .. }
        | Change::Promote { id, .. }
        | Change::Remove { id }
        | Change::Update { id, .. }) = change;
        if self.removed.contains(id) {
            return Err(error::MEMBER_NOT_FOUND);
        }
        let existing = self.members.get(id);
        match change {
            Change::Promote { .. } => match existing {
                None => Err(error::MEMBER_NOT_FOUND),
                Some(member) if !member.is_learner => Err(error::MEMBER_NOT_LEARNER),
                Some(_) => Ok(()),
            },
            Change::Add {
                member, as_learner, ..
            } => {
                if existing.is_some() {
                    return Err(error::MEMBER_EXIST);
                }
                if self.peer_url_used(&member.peer_urls, None) {
                    return Err(error::PEER_URL_EXIST);
                }
                let learners = self.members.values().filter(|member| member.is_learner).count();
                if member.is_learner && *as_learner && learners + 1 > learners_max {
                    return Err(error::TOO_MANY_LEARNERS);
                }
                Ok(())
            }
            Change::Remove { .. } if existing.is_none() => Err(error::MEMBER_NOT_FOUND),
            Change::Remove { .. } => Ok(()),
            Change::Update { .. } if existing.is_none() => Err(error::MEMBER_NOT_FOUND),
            Change::Update { id, peer_urls } => match self.peer_url_used(peer_urls, Some(*id)) {
                true => Err(error::PEER_URL_EXIST),
                false => Ok(()),
            },
        }
    }

    /// Makes a change that was validated. A promotion or update of an unknown member does nothing.
    pub(crate) fn make(&mut self, change: &Change) {
        match change {
            Change::Add { id, member, .. } => {
                self.members.insert(*id, member.clone());
            }
            Change::Promote { id } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.is_learner = false;
                }
            }
            Change::Remove { id } => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
            // Peer URLs only: the context of an update does not say whether the member learns.
            Change::Update { id, peer_urls } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.peer_urls.clone_from(peer_urls);
                }
            }
        }
    }
}

/// A configuration change of the log, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new member.
    Add {
        id: u64,
        member: Member,
        /// Whether raft is to take it as a learner.
        as_learner: bool,
    },
    /// A learner becomes a voter.
    Promote { id: u64 },
    /// A member leaves.
    Remove { id: u64 },
    /// A member's peer URLs change.
    Update { id: u64, peer_urls: Vec<String> },
}

impl Change {
    /// Decodes a change and checks that its context fits it.
    pub(crate) fn decode(change: &raftpb::ConfChange) -> Result<Change, String> {
        use raftpb::ConfChangeType as Type;
        let id = change.node_id();
        let number = change.r#type.unwrap_or_default();
        let kind = Type::try_from(number).map_err(|_| format!("unknown type {number}"))?;
        if kind == Type::ConfChangeRemoveNode {
            return Ok(Change::Remove { id });
        }
        let context = ChangeContext::from_json(change.context())?;
        if context.member.id != id {
            return Err(format!("the context names member {:x}", context.member.id));
        }
        Ok(match kind {
            Type::ConfChangeUpdateNode => Change::Update {
                id,
                peer_urls: context.member.peer_urls,
            },
            _ if context.is_promote => Change::Promote { id },
            _ => Change::Add {
                id,
                member: context.member,
                as_learner: kind == Type::ConfChangeAddLearnerNode,
            },
        })
    }
}

/// What a configuration change carries beside its type and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeContext {
    /// The member, or of it what the change sets.
    pub member: Member,
    /// Whether an addition is in truth the promotion of a learner.
    pub is_promote: bool,
}

impl ChangeContext {
    /// The JSON that etcd logs.
    pub fn to_json(&self) -> String {
        let mut out = self.member.to_json();
        if self.is_promote {
            out.pop();
            out.push_str(",\"isPromote\":true}");
        }
        out
    }

    /// Reads the JSON that etcd logs.
    pub fn from_json(data: &[u8]) -> Result<ChangeContext, String> {
        let mut object = Object::parse(data)?;
        Ok(ChangeContext {
            member: Member::from_object(&mut object)?,
            is_promote: object.bool("isPromote")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftpb::ConfChangeType as Type;

    fn member(id: u64, url: &str, is_learner: bool) -> Member {
        Member {
            id,
            peer_urls: vec![url.to_string()],
            is_learner,
            ..Member::default()
        }
    }

    fn cluster() -> Membership {
        let members = [member(1, "http://a:1", false), member(2, "http://b:1", true)];
        Membership {
            members: members.into_iter().map(|m| (m.id, m)).collect(),
            removed: [9].into(),
            ..Membership::default()
        }
    }

    #[test]
    fn rows_are_those_of_etcd() {
        let mut m = member(10276657743932975437, "http://localhost:2380", false);
        assert_eq!(
            m.to_json(),
            r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"]}"#
        );
        m.is_learner = true;
        m.name = "a&b".into();
        m.client_urls = vec!["http://c:1".into(), "http://c:2".into()];
        let json = m.to_json();
        assert_eq!(
            json,
            r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"isLearner":true,"name":"a\u0026b","clientURLs":["http://c:1","http://c:2"]}"#
        );
        assert_eq!(Member::from_json(json.as_bytes()), Ok(m.clone()));
        let promotion = ChangeContext {
            member: Member {
                id: 3,
                ..Member::default()
            },
            is_promote: true,
        };
        assert_eq!(
            promotion.to_json(),
            r#"{"id":3,"peerURLs":null,"isPromote":true}"#
        );
        assert_eq!(
            ChangeContext::from_json(promotion.to_json().as_bytes()),
            Ok(promotion)
        );
    }

    /// Decodes and validates a change against [`cluster`], and makes it if it may be made.
    fn check(kind: Type, id: u64, context: &str, expected: Result<&str, Status>) {
        let logged = raftpb::ConfChange {
            r#type: Some(kind as i32),
            node_id: Some(id),
            context: Some(context.to_string().into()),
            ..Default::default()
        };
        let mut cluster = cluster();
        let change = Change::decode(&logged).unwrap();
        let made = cluster.validate(&change, 1).map(|()| {
            cluster.make(&change);
            let state = cluster.conf_state();
            format!(
                "{:?} {:?} removed {:?}",
                state.voters, state.learners, cluster.removed
            )
        });
        assert_eq!(made, expected.map(str::to_string), "{kind:?} {id} {context}");
    }

    #[test]
    fn changes_are_validated_by_etcds_rules() {
        use Type::*;
        let add = |id: u64, url: &str| member(id, url, false).to_json();
        let learn = |id: u64, url: &str| member(id, url, true).to_json();
        check(
            ConfChangeAddNode,
            3,
            &add(3, "http://c:1"),
            Ok("[1, 3] [2] removed {9}"),
        );
        check(
            ConfChangeAddNode,
            9,
            &add(9, "http://c:1"),
            Err(error::MEMBER_NOT_FOUND),
        );
        check(
            ConfChangeAddNode,
            1,
            &add(1, "http://c:1"),
            Err(error::MEMBER_EXIST),
        );
        check(
            ConfChangeAddNode,
            3,
            &add(3, "http://b:1"),
            Err(error::PEER_URL_EXIST),
        );
        check(
            ConfChangeAddLearnerNode,
            3,
            &learn(3, "http://c:1"),
            Err(error::TOO_MANY_LEARNERS),
        );
        let promote = |id: u64| format!("{{\"id\":{id},\"peerURLs\":null,\"isPromote\":true}}");
        check(ConfChangeAddNode, 2, &promote(2), Ok("[1, 2] [] removed {9}"));
        check(ConfChangeAddNode, 1, &promote(1), Err(error::MEMBER_NOT_LEARNER));
        check(ConfChangeAddNode, 5, &promote(5), Err(error::MEMBER_NOT_FOUND));
        check(ConfChangeRemoveNode, 2, "", Ok("[1] [] removed {2, 9}"));
        check(ConfChangeRemoveNode, 7, "", Err(error::MEMBER_NOT_FOUND));
        check(
            ConfChangeUpdateNode,
            2,
            &add(2, "http://b:2"),
            Ok("[1] [2] removed {9}"),
        );
        check(
            ConfChangeUpdateNode,
            2,
            &add(2, "http://a:1"),
            Err(error::PEER_URL_EXIST),
        );
        check(
            ConfChangeUpdateNode,
            7,
            &add(7, "http://z:1"),
            Err(error::MEMBER_NOT_FOUND),
        );
    }

    #[test]
    fn contexts_that_do_not_fit_are_refused() {
        for (kind, id, context) in [
            (0, 3, r#"{"id":4,"peerURLs":[]}"#),
            (0, 3, "not json"),
            (0, 3, ""),
            (2, 3, r#"{"id":4}"#),
            (7, 3, "{}"),
            (0, 3, r#"{"id":3,"peerURLs":"x"}"#),
        ] {
            let logged = raftpb::ConfChange {
                r#type: Some(kind),
                node_id: Some(id),
                context: Some(context.to_string().into()),
                ..Default::default()
            };
            assert!(Change::decode(&logged).is_err(), "{kind} {context}");
        }
    }
}
