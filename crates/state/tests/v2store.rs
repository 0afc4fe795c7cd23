//! Reads the v2 store documents in snapshot files that real members wrote.

#![allow(clippy::unwrap_used)]

use api::version::Version;
use api::{raftpb, snappb};
use bytes::Bytes;
use prost::Message;
use state::v2store;

/// Reads the document of a snapshot file, and writes it anew: it says the same.
fn check(file: &'static [u8], version: Option<Version>) {
    let outer = snappb::Snapshot::decode(Bytes::from_static(file)).unwrap();
    let snapshot = raftpb::Snapshot::decode(outer.data.unwrap()).unwrap();
    let parsed = v2store::parse(&snapshot.data.unwrap()).unwrap();
    assert!(!parsed.has_user_data);
    let cluster = parsed.membership;
    assert_eq!(cluster.version, version);
    assert_eq!(cluster.members.len(), 1);
    let member = cluster.members.values().next().unwrap();
    assert!(member.is_started() && !member.is_learner);
    assert_eq!((member.peer_urls.len(), member.client_urls.len()), (1, 1));
    let state = snapshot.metadata.unwrap().conf_state.unwrap();
    assert_eq!(state.voters, cluster.conf_state().voters);
    let anew = v2store::document(&cluster);
    assert_eq!(v2store::parse(anew.as_bytes()).unwrap().membership, cluster);
}

#[test]
fn documents_of_real_members_are_read() {
    check(
        include_bytes!("../../wal/tests/golden/3.5-member/0000000000000002-000000000000000b.snap"),
        Some(Version::new(3, 5, 0)),
    );
    check(
        include_bytes!("../../wal/tests/golden/3.6-member/0000000000000002-000000000000000b.snap"),
        Some(Version::new(3, 6, 0)),
    );
    check(
        include_bytes!("../../wal/tests/golden/3.7-member/0000000000000002-000000000000000b.snap"),
        Some(Version::new(3, 7, 0)),
    );
}
