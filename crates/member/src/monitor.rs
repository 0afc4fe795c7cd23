//! Which version the cluster and the data file should have. Decides; never writes.
//!
//! etcd: server/etcdserver/version/monitor.go. The versions of other members come with the transport
//! between members; until then the member that asks is the only one.

use api::version::{Line, MIN_CLUSTER_VERSION, Version};
use state::Membership;

/// The cluster version that the leader of `line` should set now, if another one than there is.
pub(crate) fn cluster_version(membership: &Membership, line: Line) -> Option<Version> {
    let server = line.version();
    let Some(current) = membership.version else {
        return Some(server);
    };
    if let Some(target) = downgrade_target(membership) {
        let valid = target != current && below(current) == Some(target) && below(server) == Some(target);
        return valid.then_some(target);
    }
    (current.minor_only() < server && current.major == server.major).then_some(server)
}

/// Whether every member runs the version to which the cluster is being downgraded.
pub(crate) fn downgrade_is_complete(membership: &Membership, line: Line) -> bool {
    downgrade_target(membership) == Some(line.version())
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
            ..Membership::default()
        }
    }

    fn check(line: Line, version: Option<&str>, target: Option<&str>, wanted: Option<&str>) {
        let found = cluster_version(&cluster(version, target), line).map(|version| version.to_string());
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
        assert!(downgrade_is_complete(
            &cluster(Some("3.6.0"), Some("3.6.0")),
            Line::V3_6
        ));
        assert!(!downgrade_is_complete(
            &cluster(Some("3.6.0"), Some("3.6.0")),
            Line::V3_7
        ));
        assert!(!downgrade_is_complete(&cluster(Some("3.6.0"), None), Line::V3_6));
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
