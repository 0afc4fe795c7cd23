//! Which version the cluster and the data file should have. Decides; never writes.
//!
//! etcd: server/etcdserver/version/monitor.go. What other members run is what the transport has asked
//! them.

use std::collections::BTreeMap;

use api::version::{Line, MIN_CLUSTER_VERSION, Version};
use state::Membership;

/// Which versions the members run, as far as the leader knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberVersions {
    by_id: BTreeMap<u64, Version>,
}

impl MemberVersions {
    /// Only the own version is known.
    pub(crate) fn own(id: u64, line: Line) -> MemberVersions {
        MemberVersions {
            by_id: BTreeMap::from([(id, line.version())]),
        }
    }

    /// What others said; whoever is missing is unknown (again). The own version stays.
    pub(crate) fn heard(&mut self, own: u64, others: BTreeMap<u64, Version>) {
        self.by_id.retain(|id, _| *id == own);
        for (id, version) in others {
            self.by_id.entry(id).or_insert(version.minor_only());
        }
    }

    /// The lowest version that a member runs; `None` if one is unknown.
    fn lowest(&self, membership: &Membership) -> Option<Version> {
        let versions = membership.members.keys().map(|id| self.by_id.get(id).copied());
        versions.collect::<Option<Vec<Version>>>()?.into_iter().min()
    }

    /// Whether every member's version is known.
    pub(crate) fn know_all(&self, membership: &Membership) -> bool {
        self.lowest(membership).is_some()
    }

    fn all_are(&self, membership: &Membership, version: Version) -> bool {
        let mut ids = membership.members.keys();
        ids.all(|id| self.by_id.get(id) == Some(&version))
    }
}

/// The cluster version that the leader should set now, if another one than there is.
pub(crate) fn cluster_version(membership: &Membership, versions: &MemberVersions) -> Option<Version> {
    let lowest = versions.lowest(membership);
    let Some(current) = membership.version else {
        return Some(lowest.unwrap_or(MIN_CLUSTER_VERSION));
    };
    let lowest = lowest?;
    if let Some(target) = downgrade_target(membership) {
        let valid = target != current && below(current) == Some(target) && below(lowest) == Some(target);
        return valid.then_some(target);
    }
    (current.minor_only() < lowest && current.major == lowest.major).then_some(lowest)
}

/// Whether every member runs the version to which the cluster is being downgraded.
pub(crate) fn downgrade_is_complete(membership: &Membership, versions: &MemberVersions) -> bool {
    downgrade_target(membership).is_some_and(|target| versions.all_are(membership, target))
}

/// The version to which the data file should be migrated, if to another one than it has. Members
/// of 3.5 know no storage version.
pub(crate) fn storage_version(
    membership: &Membership,
    stored: Option<Version>,
    line: Line,
) -> Option<Version> {
    let cluster = membership.version?.minor_only();
    if cluster == MIN_CLUSTER_VERSION || line == Line::V3_5 {
        return None;
    }
    (stored.map(Version::minor_only) != Some(cluster)).then_some(cluster)
}

/// The target of a downgrade that is under way.
pub(crate) fn downgrade_target(membership: &Membership) -> Option<Version> {
    let downgrade = &membership.downgrade;
    let target = downgrade
        .enabled
        .then(|| downgrade.target_version.parse::<Version>().ok());
    target.flatten().map(Version::minor_only)
}

/// The version one minor below.
fn below(version: Version) -> Option<Version> {
    let minor = version.minor.checked_sub(1)?;
    Some(Version::new(version.major, minor, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(version: Option<&str>, target: Option<&str>) -> Membership {
        Membership {
            version: version.map(|text| text.parse().unwrap()),
            downgrade: state::Downgrade {
                enabled: target.is_some(),
                target_version: target.unwrap_or_default().to_owned(),
            },
            members: [(1, state::Member::default())].into(),
            ..Membership::default()
        }
    }

    fn check(line: Line, version: Option<&str>, target: Option<&str>, wanted: Option<&str>) {
        let found = cluster_version(&cluster(version, target), &MemberVersions::own(1, line))
            .map(|version| version.to_string());
        assert_eq!(found.as_deref(), wanted, "{line:?} {version:?} {target:?}");
    }

    #[test]
    fn the_leader_raises_and_lowers_the_cluster_version_by_etcds_rules() {
        check(Line::V3_7, None, None, Some("3.7.0"));
        check(Line::V3_5, None, None, Some("3.5.0"));
        check(Line::V3_7, Some("3.0.0"), None, Some("3.7.0"));
        check(Line::V3_7, Some("3.5.0"), None, Some("3.7.0"));
        check(Line::V3_7, Some("3.7.0"), None, None);
        check(Line::V3_6, Some("3.7.0"), None, None);
        check(Line::V3_7, Some("3.7.0"), Some("3.6.0"), Some("3.6.0"));
        check(Line::V3_7, Some("3.6.0"), Some("3.6.0"), None);
        check(Line::V3_7, Some("3.7.0"), Some("3.5.0"), None);
        check(Line::V3_6, Some("3.6.0"), Some("3.6.0"), None);
    }

    #[test]
    fn a_downgrade_ends_when_the_member_runs_the_target() {
        let own = |line| MemberVersions::own(1, line);
        let lowered = cluster(Some("3.6.0"), Some("3.6.0"));
        assert!(downgrade_is_complete(&lowered, &own(Line::V3_6)));
        assert!(!downgrade_is_complete(&lowered, &own(Line::V3_7)));
        assert!(!downgrade_is_complete(
            &cluster(Some("3.6.0"), None),
            &own(Line::V3_6)
        ));
    }

    #[test]
    fn the_lowest_version_counts_and_an_unknown_one_stops_changes() {
        let three = |version: Option<&str>| {
            let mut cluster = cluster(version, None);
            cluster.members = (1..=3).map(|id| (id, state::Member::default())).collect();
            cluster
        };
        let mut versions = MemberVersions::own(1, Line::V3_7);
        assert_eq!(
            cluster_version(&three(None), &versions),
            Some(MIN_CLUSTER_VERSION)
        );
        assert_eq!(cluster_version(&three(Some("3.5.0")), &versions), None);
        versions.heard(
            1,
            [(2, Version::new(3, 6, 14)), (3, Version::new(3, 7, 1))].into(),
        );
        let found = cluster_version(&three(Some("3.5.0")), &versions);
        assert_eq!(found, Some(Line::V3_6.version()));
        versions.heard(1, [(2, Version::new(3, 6, 14))].into());
        assert_eq!(cluster_version(&three(Some("3.5.0")), &versions), None);
        let mut lowered = three(Some("3.6.0"));
        lowered.downgrade = cluster(None, Some("3.6.0")).downgrade;
        let mut versions = MemberVersions::own(1, Line::V3_6);
        versions.heard(1, [(2, Version::new(3, 6, 1)), (3, Version::new(3, 7, 1))].into());
        assert!(!downgrade_is_complete(&lowered, &versions));
        versions.heard(1, [(2, Version::new(3, 6, 1)), (3, Version::new(3, 6, 2))].into());
        assert!(downgrade_is_complete(&lowered, &versions));
    }

    #[test]
    fn the_storage_version_follows_the_cluster_version() {
        let of = |version, stored: Option<&str>, line| {
            let stored = stored.map(|text| text.parse().unwrap());
            storage_version(&cluster(version, None), stored, line).map(|version| version.to_string())
        };
        assert_eq!(of(None, None, Line::V3_7), None);
        assert_eq!(of(Some("3.0.0"), None, Line::V3_7), None);
        assert_eq!(of(Some("3.7.0"), None, Line::V3_7).as_deref(), Some("3.7.0"));
        assert_eq!(
            of(Some("3.6.0"), Some("3.7.0"), Line::V3_7).as_deref(),
            Some("3.6.0")
        );
        assert_eq!(of(Some("3.7.0"), Some("3.7.0"), Line::V3_7), None);
        assert_eq!(of(Some("3.5.0"), None, Line::V3_5), None);
    }
}
