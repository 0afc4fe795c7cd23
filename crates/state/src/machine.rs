//! The machine itself: restored from a store, fed with entries, published for readers.

use std::sync::Arc;

use api::version::Line;
use mvcc::{Published, Store, View};

use crate::alarms::Alarms;
use crate::effect::Applied;
use crate::entry::Committed;
use crate::error::Error;
use crate::leases::Leases;
use crate::membership::Membership;
use crate::quota::Quota;

/// What the machine is told at its start. All members of a cluster must agree on `min_ttl` and
/// `learners_max`, since both decide what an entry does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The release line that the member shows.
    pub line: Line,
    /// The cluster's id, in every header.
    pub cluster_id: u64,
    /// This member's id, in every header.
    pub member_id: u64,
    /// The quota of the data file.
    pub quota: Quota,
    /// The shortest time to live that a lease gets, in seconds.
    pub min_ttl: i64,
    /// Whether recorded remaining times are stored also below cluster version 3.6.
    pub checkpoint_persist: bool,
    /// How many learners the cluster may have.
    pub learners_max: usize,
    /// The cluster of the snapshot file, for a data file that has no members (written before 3.5,
    /// or cut off while it was made). Then the membership is built anew from here: also entries
    /// up to the consistent index change members, in memory and in the data file.
    pub seed: Option<Membership>,
}

/// What the machine publishes with each view, for reads that are not of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The cluster.
    pub membership: Arc<Membership>,
    /// The alarms.
    pub alarms: Arc<Alarms>,
    /// The revision of users and roles.
    pub auth_revision: u64,
}

impl Shared {
    /// What was published with this view; `None` if no machine made it.
    pub fn of(view: &View) -> Option<&Shared> {
        view.extra.downcast_ref()
    }
}

/// The replicated state machine. See the crate's description.
pub struct Machine {
    store: Store,
    options: Options,
    leases: Leases,
    shared: Shared,
}

#[allow(clippy::todo)]
impl Machine {
    /// Takes over a store and reads what is not keys: leases, alarms, members.
    pub fn restore(_store: Store, _options: Options) -> Result<Machine, Error> {
        todo!()
    }

    /// Applies one entry. `waits` says whether somebody here waits for the request with an id; if
    /// not, no reply is built. Entries must come in order and none may be left out; those up to
    /// the consistent index are known already and change nothing but what is in memory.
    ///
    /// An error is fatal: the entry was not applied, and no later one may be.
    pub fn apply(&mut self, _entry: &Committed, _waits: impl FnOnce(u64) -> bool) -> Result<Applied, Error> {
        todo!()
    }

    /// Makes everything applied so far visible to readers.
    pub fn publish(&mut self) -> Published {
        self.store.publish()
    }

    /// The store, for commits, compaction steps and sizes.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The cluster as of the last entry.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.shared.membership
    }

    /// The alarms as of the last entry.
    pub fn alarms(&self) -> &Arc<Alarms> {
        &self.shared.alarms
    }

    /// The leases as of the last entry, with their keys.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What the machine was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}
