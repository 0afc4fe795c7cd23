//! Where a data file names other members than raft counts. Says what is to be mended; changes nothing itself.
//!
//! Asked at the start and for a received state, before anybody is served. etcd 3.5 keeps members in two stores, so
//! that it has to compare them again when it has published its name and after each change of members
//! (server/etcdserver/server.go, apply; membership/cluster.go, UpdateAttributes); it serves those of the other store all
//! the while. Here a change is made once, in memory and in the data file alike, and leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

/// What to change in the members of a data file so that they are those that raft counts at the same entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mending {
    /// Learners of the data file that vote: releases before 3.5.20 did not write promotions to it (etcd issue 19557).
    pub promoted: Vec<u64>,
    /// Members of the data file that raft does not count: removals and restorations of some releases of 3.5 left them
    /// there (etcd: membership/cluster.go, CleanupZombieMembersIfNeeded).
    pub zombies: Vec<u64>,
}

impl Mending {
    /// Compares `members`, ids and whether each is a learner, with what raft counts as of the same entry. If raft
    /// counts somebody whom the file does not name, perhaps because an addition was refused, nobody is held for a
    /// zombie: the two may be of different clusters.
    pub fn find(
        members: impl IntoIterator<Item = (u64, bool)>,
        voters: &BTreeSet<u64>,
        learners: &BTreeSet<u64>,
    ) -> Mending {
        let members: BTreeMap<u64, bool> = members.into_iter().collect();
        let mut counted = voters.iter().chain(learners);
        let is_whole = !voters.is_empty() && counted.all(|id| members.contains_key(id));
        let mut mending = Mending::default();
        for (id, is_learner) in members {
            if is_learner && voters.contains(&id) {
                mending.promoted.push(id);
            } else if is_whole && !voters.contains(&id) && !learners.contains(&id) {
                mending.zombies.push(id);
            }
        }
        mending
    }

    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.promoted.is_empty() && self.zombies.is_empty()
    }
}
