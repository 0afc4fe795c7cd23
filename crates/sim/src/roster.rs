//! Who is in the cluster and what is alarmed, as the log says: folded apart from the members' own code, and as simply as
//! possible.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb as pb;
use api::raftpb::{ConfChange, ConfChangeType};
use prost::Message;

/// Learners that a cluster may have (`--max-learners`, left at its default).
const LEARNERS_MAX: usize = 1;

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Its name.
    pub name: String,
    /// Where members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it only learns.
    pub is_learner: bool,
}

/// What an entry did to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A learner came.
    Learner,
    /// A voter came.
    Voter,
    /// A learner became a voter.
    Promoted,
    /// A member left.
    Removed(u64),
    /// Its URLs were set.
    Updated,
    /// It was refused when it was applied.
    Refused,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The members.
    pub seats: BTreeMap<u64, Seat>,
    /// Who left.
    pub removed: BTreeSet<u64>,
    /// The cluster's version.
    pub version: String,
}

impl Roster {
    /// Who votes.
    pub fn voters(&self) -> impl Iterator<Item = u64> {
        let voting = self.seats.iter().filter(|(_, seat)| !seat.is_learner);
        voting.map(|(id, _)| *id)
    }

    /// Whether consensus counts the same members.
    pub fn counts(&self, counted: &raft::ConfState) -> bool {
        let learners = self.seats.iter().filter(|(_, seat)| seat.is_learner);
        let learners = learners.map(|(id, _)| *id);
        self.voters().eq(counted.voters.iter().copied()) && learners.eq(counted.learners.iter().copied())
    }

    /// A change of the configuration.
    pub fn change(&mut self, data: &[u8]) -> Moved {
        let Ok(change) = ConfChange::decode(data) else {
            return Moved::Refused;
        };
        let id = change.node_id();
        if self.removed.contains(&id) {
            return Moved::Refused;
        }
        let kind = change.r#type();
        if kind == ConfChangeType::ConfChangeRemoveNode {
            return match self.seats.remove(&id) {
                Some(_) => {
                    self.removed.insert(id);
                    Moved::Removed(id)
                }
                None => Moved::Refused,
            };
        }
        let Ok(context) = state::ChangeContext::from_json(change.context()) else {
            return Moved::Refused;
        };
        let urls = context.member.peer_urls;
        let taken = |except: Option<u64>| {
            let mut others = self.seats.iter().filter(|(other, _)| Some(**other) != except);
            others.any(|(_, seat)| seat.peer_urls.iter().any(|url| urls.contains(url)))
        };
        match (kind, context.is_promote) {
            (ConfChangeType::ConfChangeUpdateNode, _) => {
                if taken(Some(id)) {
                    return Moved::Refused;
                }
                let Some(seat) = self.seats.get_mut(&id) else {
                    return Moved::Refused;
                };
                seat.peer_urls = urls;
                Moved::Updated
            }
            (_, true) => match self.seats.get_mut(&id) {
                Some(seat) if seat.is_learner => {
                    seat.is_learner = false;
                    Moved::Promoted
                }
                _ => Moved::Refused,
            },
            (_, false) => {
                let is_learner = context.member.is_learner;
                let learners = self.seats.values().filter(|seat| seat.is_learner).count();
                if self.seats.contains_key(&id) || taken(None) || is_learner && learners >= LEARNERS_MAX {
                    return Moved::Refused;
                }
                let seat = Seat {
                    name: context.member.name,
                    peer_urls: urls,
                    client_urls: context.member.client_urls,
                    is_learner,
                };
                self.seats.insert(id, seat);
                if is_learner { Moved::Learner } else { Moved::Voter }
            }
        }
    }

    /// What members say of themselves and of the cluster's version.
    pub fn request(&mut self, request: &pb::InternalRaftRequest) {
        if let Some(set) = &request.cluster_version_set {
            self.version.clone_from(&set.ver);
        }
        if let Some(set) = &request.cluster_member_attr_set
            && let Some(seat) = self.seats.get_mut(&set.member_id)
        {
            let attributes = set.member_attributes.clone().unwrap_or_default();
            seat.name = attributes.name;
            seat.client_urls = attributes.client_urls;
        }
    }

    /// Whether a member thinks the same.
    pub fn same(&self, other: &member::Facts) -> Result<(), String> {
        let seats: BTreeMap<u64, Seat> = other
            .members
            .iter()
            .map(|member| {
                let seat = Seat {
                    name: member.name.clone(),
                    peer_urls: member.peer_urls.clone(),
                    client_urls: member.client_urls.clone(),
                    is_learner: member.is_learner,
                };
                (member.id, seat)
            })
            .collect();
        let version = other
            .cluster_version
            .map(|version| version.to_string())
            .unwrap_or_default();
        if seats != self.seats {
            return Err(format!("members {seats:?} instead of {:?}", self.seats));
        }
        if !other.removed.iter().eq(self.removed.iter()) {
            return Err(format!(
                "removed {:?} instead of {:?}",
                other.removed, self.removed
            ));
        }
        match version == self.version {
            true => Ok(()),
            false => Err(format!(
                "cluster version {version:?} instead of {:?}",
                self.version
            )),
        }
    }
}
