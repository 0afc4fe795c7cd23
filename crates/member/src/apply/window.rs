//! Which release can read the log since the newest snapshot: what decides whether the data file may
//! go to an older version, and whether a stop has to leave a snapshot behind.

use std::collections::BTreeMap;

use api::version::Version;
use bytes::Bytes;
use state::EntryKind;

/// The first byte of an entry whose first field is the header: only requests about auth and the
/// cluster are written so, and no other needs a release that can still be gone back to.
const HEADER_FIRST: u8 = 0xa2;

/// The first bytes that a v2 request of a 3.5 member may have: bare it begins with its id, which is always written, and
/// wrapped with the id or itself.
const V2_FIRST: [u8; 2] = [0x08, 0x12];

/// For each release, the last entry that needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionWindow {
    last_needed: BTreeMap<Version, u64>,
    /// The last entry that no release after 3.6 can read.
    last_v2: u64,
}

impl VersionWindow {
    /// Looks at an entry.
    pub(crate) fn observe(&mut self, index: u64, kind: EntryKind, data: &Bytes) {
        let first = data.first().copied().unwrap_or_default();
        if kind == EntryKind::Normal && V2_FIRST.contains(&first) && state::contains_v2_request(data) {
            self.last_v2 = index;
        }
        if first != HEADER_FIRST {
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

    /// Whether a v2 request is among the entries after `snapshot_index`: etcd 3.7 ends with a panic when it reads one.
    pub(crate) fn holds_v2_request(&self, snapshot_index: u64) -> bool {
        self.last_v2 > snapshot_index
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

    #[test]
    fn a_v2_request_is_seen_bare_and_wrapped() {
        let put = |key: &str, value: Bytes| InternalRaftRequest {
            put: Some(PutRequest {
                key: Bytes::copy_from_slice(key.as_bytes()),
                value,
                ..PutRequest::default()
            }),
            ..InternalRaftRequest::default()
        };
        // Id 7, method, path, value: as 3.5 writes them.
        let bare = Bytes::from_static(b"\x08\x07\x12\x03PUT\x1a\x0a/0/version\x22\x053.5.0");
        let inner = bare.len() as u8;
        let wrapped = [&[0x12, inner][..], &bare].concat().into();
        let with_id = [&[0x08, 7, 0x12, inner][..], &bare].concat().into();
        for data in [bare.clone(), wrapped, with_id] {
            let mut window = VersionWindow::default();
            window.observe(
                4,
                EntryKind::Normal,
                &put("PUT", bare.clone()).encode_to_vec().into(),
            );
            assert!(!window.holds_v2_request(0));
            window.observe(5, EntryKind::Normal, &data);
            assert!(window.holds_v2_request(4), "{data:?}");
            assert!(!window.holds_v2_request(5), "{data:?}");
        }
        // A change of the members begins with the same byte.
        let mut window = VersionWindow::default();
        window.observe(5, EntryKind::ConfChange, &bare);
        assert!(!window.holds_v2_request(4));
    }
}
