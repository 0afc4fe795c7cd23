//! Entries that change the cluster: its version, its members, a downgrade. During a replay they
//! change what is in memory; see `Options::seed` for when they also write then.

use std::sync::Arc;

use api::raftpb;
use api::version::Version;
use mvcc::schema::{self, Downgrade};
use prost::Message;

use crate::effect::{Applied, Effect, Hold, Reply};
use crate::entry::{Committed, Request};
use crate::error::Error;
use crate::machine::Machine;
use crate::membership::{Change, Membership};
use crate::rows;

impl Machine {
    /// Applies a request that members make for themselves.
    pub(crate) fn apply_cluster(
        &mut self,
        index: u64,
        request: Request,
        is_replay: bool,
    ) -> Result<Vec<Effect>, Error> {
        let mut effects = Vec::new();
        let writes = !is_replay || self.rebuilds_membership;
        match request {
            Request::ClusterVersionSet(set) => {
                let to = parse_version(index, &set.ver)?;
                let from = self.shared.membership.version;
                // A replay may pass versions that the cluster has since left.
                if !is_replay {
                    self.refuse_version(to)?;
                }
                self.cluster_mut().version = Some(to);
                if writes {
                    schema::put_cluster_version(self.store.backend(), to);
                }
                if let Some(from) = from.filter(|from| to < *from && !is_replay) {
                    effects.push(Effect::ClusterVersionLowered { from, to });
                }
            }
            Request::ClusterMemberAttrSet(set) => {
                let id = set.member_id;
                let attributes = set.member_attributes.unwrap_or_default();
                let cluster = self.cluster_mut();
                let Some(member) = cluster.members.get_mut(&id) else {
                    return match cluster.removed.contains(&id) {
                        true => Ok(effects),
                        false => Err(Error::UnknownMember { index, id }),
                    };
                };
                member.name = attributes.name;
                member.client_urls = attributes.client_urls;
                let member = member.clone();
                if writes {
                    rows::put_member(self.store.backend(), &member);
                }
            }
            Request::DowngradeInfoSet(set) => {
                let downgrade = Downgrade {
                    enabled: set.enabled,
                    target_version: if set.enabled { set.ver } else { String::new() },
                };
                if writes {
                    schema::put_downgrade(self.store.backend(), &downgrade);
                }
                self.cluster_mut().downgrade = downgrade;
            }
            // It exists so that tests can put something into the log that only 3.6 reads.
            _ => return Ok(effects),
        }
        effects.push(Effect::MembershipChanged(self.shared.membership.clone()));
        Ok(effects)
    }

    /// Refuses a cluster version above this member's (etcd: version/downgrade.go,
    /// MustDetectDowngrade).
    pub(crate) fn refuse_version(&self, cluster: Version) -> Result<(), Error> {
        let server = self.options.line.release();
        match server.minor_only() < cluster {
            true => Err(Error::ClusterVersionAbove { server, cluster }),
            false => Ok(()),
        }
    }

    /// Applies a configuration change: to the membership here, to raft by an effect.
    pub(crate) fn apply_conf_change(
        &mut self,
        entry: &Committed,
        is_replay: bool,
        waits: impl FnOnce(u64) -> bool,
    ) -> Result<Applied, Error> {
        let index = entry.index;
        let mut logged =
            raftpb::ConfChange::decode(entry.data.clone()).map_err(|error| Error::Undecodable {
                index,
                reason: error.to_string(),
            })?;
        // The members in the data file, from which raft was started, know it already.
        if is_replay && !self.rebuilds_membership {
            return Ok(Applied::default());
        }
        let node_id = logged.node_id();
        let change = Change::decode(&logged).map_err(|reason| Error::ConfChange {
            index,
            node_id,
            reason,
        })?;
        let id = logged.id();
        let mut effects = Vec::new();
        let refused = self
            .shared
            .membership
            .validate(&change, self.options.learners_max)
            .err();
        if refused.is_some() {
            logged.node_id = Some(0);
            effects.push(Effect::ConfChange(logged));
        } else {
            self.cluster_mut().make(&change);
            self.write_change(&change);
            effects.push(Effect::ConfChange(logged));
            effects.push(Effect::MembershipChanged(self.shared.membership.clone()));
            if matches!(change, Change::Remove { id } if id == self.options.member_id) {
                effects.push(Effect::SelfRemoved);
            }
        }
        let reply = (!is_replay && waits(id)).then(|| Reply {
            id,
            result: match refused {
                Some(status) => Err(status),
                None => Ok(self.header(entry.term).members_response(&self.shared.membership)),
            },
            hold: Hold::No,
        });
        Ok(Applied {
            reply,
            effects,
            ..Applied::default()
        })
    }

    fn write_change(&mut self, change: &Change) {
        let cluster = self.shared.membership.clone();
        let backend = self.store.backend();
        match change {
            Change::Remove { id } => schema::delete_member(backend, *id),
            Change::Add { id, .. } | Change::Promote { id } | Change::Update { id, .. } => {
                if let Some(member) = cluster.members.get(id) {
                    rows::put_member(backend, member);
                }
            }
        }
        rows::put_conf_state(backend, &cluster.conf_state());
    }

    /// The cluster, to be changed: readers keep the one they hold.
    pub(crate) fn cluster_mut(&mut self) -> &mut Membership {
        self.shared_changed = true;
        Arc::make_mut(&mut self.shared.membership)
    }
}

fn parse_version(index: u64, text: &str) -> Result<Version, Error> {
    text.parse().map_err(|_| Error::BadVersion {
        index,
        text: text.chars().take(64).collect(),
    })
}
