//! What the machine reads when it takes over a store: leases and their keys, alarms, members.

use std::sync::Arc;

use mvcc::{Store, schema};

use crate::auth::Auth;
use crate::error::Error;
use crate::kv::ANSWER_BYTES_MAX;
use crate::machine::{Machine, Options, Shared};
use crate::membership::Membership;
use crate::mending::Mending;
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

    /// Brings the members in line with what raft counts, in memory and in the data file.
    pub fn mend_members(&mut self, mending: &Mending) {
        if mending.is_empty() {
            return;
        }
        for id in &mending.promoted {
            let Some(member) = self.cluster_mut().members.get_mut(id) else {
                continue;
            };
            member.is_learner = false;
            let member = member.clone();
            rows::put_member(self.store.backend(), &member);
        }
        for id in &mending.zombies {
            let cluster = self.cluster_mut();
            cluster.members.remove(id);
            cluster.removed.insert(*id);
            schema::delete_member(self.store.backend(), *id);
        }
        let state = self.shared.membership.conf_state();
        rows::put_conf_state(self.store.backend(), &state);
    }
}
