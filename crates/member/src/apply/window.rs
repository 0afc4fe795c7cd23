//! Which release can read the log since the newest snapshot: what decides whether the data file may
//! go to an older version.

use std::collections::BTreeMap;

use api::version::Version;
use bytes::Bytes;
use state::EntryKind;

/// The first byte of an entry whose first field is the header: only requests about auth and the
/// cluster are written so, and no other needs a release that can still be gone back to.
const HEADER_FIRST: u8 = 0xa2;

/// For each release, the last entry that needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionWindow {
    last_needed: BTreeMap<Version, u64>,
}

impl VersionWindow {
    /// Looks at an entry.
    pub(crate) fn observe(&mut self, index: u64, kind: EntryKind, data: &Bytes) {
        if data.first() != Some(&HEADER_FIRST) {
            return;
        }
        // What does not decode is refused where it is applied.
        if let Ok(version) = state::minimal_version(index, kind, data) {
            self.last_needed.insert(version.minor_only(), index);
        }
    }

    /// The oldest release that can read all entries after `snapshot_index`
    /// (etcd: server/storage/wal/version.go, MinimalEtcdVersion).
    pub(crate) fn minimal_version(&self, snapshot_index: u64) -> Version {
        let needed = self
            .last_needed
            .iter()
            .rev()
            .find(|&(_, &index)| index > snapshot_index);
        needed.map_or(api::version::MIN_CLUSTER_VERSION, |(&version, _)| version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb::{DowngradeVersionTestRequest, InternalRaftRequest, PutRequest, RequestHeader};
    use prost::Message;

    #[test]
    fn the_window_moves_with_the_snapshot() {
        let header = Some(RequestHeader {
            id: 1,
            ..RequestHeader::default()
        });
        let test = InternalRaftRequest {
            header: header.clone(),
            downgrade_version_test: Some(DowngradeVersionTestRequest {
                ver: "3.7.0".to_owned(),
            }),
            ..InternalRaftRequest::default()
        };
        let put = InternalRaftRequest {
            header,
            put: Some(PutRequest::default()),
            ..InternalRaftRequest::default()
        };
        let mut window = VersionWindow::default();
        window.observe(5, EntryKind::Normal, &test.encode_to_vec().into());
        window.observe(6, EntryKind::Normal, &put.encode_to_vec().into());
        assert_eq!(window.minimal_version(4), Version::new(3, 7, 0));
        assert_eq!(window.minimal_version(5), Version::new(3, 0, 0));
    }
}
