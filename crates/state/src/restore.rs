//! What the machine reads when it takes over a store: leases and their keys, alarms, members.

use std::sync::Arc;

use mvcc::{Store, schema};

use crate::auth::Auth;
use crate::error::Error;
use crate::kv::ANSWER_BYTES_MAX;
use crate::machine::{Machine, Options, Shared};
use crate::membership::Membership;
use crate::rows;

impl Machine {
    /// Takes over a store and reads what is not keys. Refuses a cluster version above this
    /// member's. Publish before readers look at the view.
    pub fn restore(mut store: Store, mut options: Options) -> Result<Machine, Error> {
        let attached = store.take_attached();
        let backend = store.backend();
        let mut leases = rows::read_leases(backend, options.min_ttl)?;
        for (id, key) in attached {
            leases.attach(&key, id);
        }
        let auth = Auth::restore(backend)?;
        let alarms = rows::read_alarms(backend)?;
        let mut membership = rows::read_membership(backend)?;
        let seed = options.seed.take().filter(|_| membership.members.is_empty());
        let rebuilds_membership = seed.is_some();
        if let Some(seed) = seed {
            membership = Membership {
                downgrade: membership.downgrade,
                version: membership.version.or(seed.version),
                ..seed
            };
            for member in membership.members.values() {
                rows::put_member(backend, member);
            }
            for id in &membership.removed {
                schema::delete_member(backend, *id);
            }
        }
        let machine = Machine {
            store,
            options,
            leases,
            shared: Shared {
                membership: Arc::new(membership),
                alarms: Arc::new(alarms),
                auth_revision: auth.revision,
                auth_enabled: auth.enabled,
            },
            auth,
            rebuilds_membership,
            shared_changed: true,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        if let Some(version) = machine.shared.membership.version {
            machine.refuse_version(version)?;
        }
        Ok(machine)
    }

    /// Makes voters of learners that a snapshot file of 3.5 knows as voters: releases before
    /// 3.5.20 did not write promotions to the data file. Says which.
    pub fn adopt_promotions(&mut self, of_snapshot: &Membership) -> Vec<u64> {
        let voters = of_snapshot.voters().map(|member| member.id);
        let current = self.shared.membership.clone();
        let is_learner = |id: &u64| current.members.get(id).is_some_and(|member| member.is_learner);
        let promoted: Vec<u64> = voters.filter(is_learner).collect();
        for id in &promoted {
            let member = self.cluster_mut().members.get_mut(id);
            let member = member.expect("it was found a moment ago");
            member.is_learner = false;
            let member = member.clone();
            rows::put_member(self.store.backend(), &member);
        }
        if !promoted.is_empty() {
            let state = self.shared.membership.conf_state();
            rows::put_conf_state(self.store.backend(), &state);
        }
        promoted
    }
}
