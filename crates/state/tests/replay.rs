//! What a restart and a silent member do to the state: nothing. The log is applied once, whoever
//! waits, however often it is read again.

#![allow(clippy::unwrap_used)]

mod common;

use api::etcdserverpb::{self as pb, InternalRaftRequest};
use api::membershippb;
use api::raftpb::{ConfChange, ConfChangeType};
use api::version::{Line, Version};
use bytes::{Buf, Bytes};
use common::{MEMBER, Rig, TERM, options};
use mvcc::schema;
use prost::Message;
use state::{ChangeContext, Committed, Effect, EntryKind, Error, Member, Membership, Mending, Options};

/// The requests of the golden transcript that go through the log, as entries from index 1 on.
fn entries() -> Vec<Committed> {
    let mut file = Bytes::from_static(include_bytes!("golden/transcript-3.7.bin"));
    let mut entries = Vec::new();
    while file.has_remaining() {
        let kind = file.get_u8();
        file.advance(1);
        let length = file.get_u32() as usize;
        let data = file.split_to(length);
        let length = file.get_u32() as usize;
        file.advance(length);
        let index = entries.len() as u64 + 1;
        let field: u8 = match kind {
            1..=3 => 3 + kind,
            4..=6 => 3 + kind,
            7 => 10,
            _ => continue,
        };
        // The request in its field, and a header with the index as id in field 100.
        let mut entry = vec![field << 3 | 2];
        prost::encode_length_delimiter(data.len(), &mut entry).unwrap();
        entry.extend_from_slice(&data);
        let header = pb::RequestHeader {
            id: index,
            ..Default::default()
        };
        entry.extend_from_slice(&[0xa2, 0x06]);
        entry.extend_from_slice(&header.encode_length_delimited_to_vec());
        entries.push(Committed {
            index,
            term: TERM,
            kind: EntryKind::Normal,
            data: entry.into(),
        });
    }
    entries
}

/// All rows of all buckets.
fn rows(rig: &mut Rig) -> Vec<(&'static str, Bytes, Bytes)> {
    let buckets = schema::BUCKETS.into_iter();
    let rows = buckets.flat_map(|bucket| {
        rig.commit();
        let snapshot = rig.view().db.clone();
        let rows = schema::Rows::rows(&snapshot, bucket).unwrap();
        rows.into_iter().map(move |(key, value)| (bucket, key, value))
    });
    rows.collect()
}

fn keys_of_leases(rig: &Rig) -> Vec<(i64, state::Lease)> {
    rig.machine
        .leases()
        .iter()
        .map(|(id, lease)| (id, lease.clone()))
        .collect()
}

/// etcd issue 18667.
#[test]
fn a_member_on_which_nobody_waits_has_the_same_state() {
    let (mut asked, mut silent) = (Rig::new(Line::V3_7), Rig::new(Line::V3_7));
    for entry in entries() {
        let told = asked.machine.apply(&entry, |_| true).unwrap();
        let untold = silent.machine.apply(&entry, |_| false).unwrap();
        assert_eq!(told.effects, untold.effects, "entry {}", entry.index);
        assert!(told.reply.is_some() && untold.reply.is_none());
    }
    assert_eq!(keys_of_leases(&asked), keys_of_leases(&silent));
    assert_eq!(rows(&mut asked), rows(&mut silent));
}

/// etcd issue 11935: leases are neither granted nor revoked again.
#[test]
fn a_restart_anywhere_changes_nothing() {
    let entries = entries();
    let mut straight = Rig::new(Line::V3_7);
    let mut restarted = Rig::new(Line::V3_7);
    for (at, entry) in entries.iter().enumerate() {
        straight.machine.apply(entry, |_| false).unwrap();
        if at % 97 == 96 {
            restarted = restarted.restart(options(Line::V3_7)).unwrap();
            assert_eq!(restarted.machine.store().consistent(), (at as u64, TERM));
            // The log is read again from an old mark: nothing happens twice.
            for old in &entries[at.saturating_sub(200)..at] {
                let replayed = restarted
                    .machine
                    .apply(old, |_| panic!("nobody is asked"))
                    .unwrap();
                assert!(replayed.reply.is_none() && replayed.effects.is_empty());
            }
        }
        restarted.machine.apply(entry, |_| false).unwrap();
    }
    assert_eq!(keys_of_leases(&straight), keys_of_leases(&restarted));
    assert_eq!(straight.machine.alarms(), restarted.machine.alarms());
    assert_eq!(rows(&mut straight), rows(&mut restarted));
}

fn version(ver: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        cluster_version_set: Some(membershippb::ClusterVersionSetRequest { ver: ver.into() }),
        ..Default::default()
    }
}

fn addition(id: u64, url: &str) -> ConfChange {
    let member = Member {
        id,
        peer_urls: vec![url.into()],
        ..Member::default()
    };
    ConfChange {
        id: Some(1),
        r#type: Some(ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(id),
        context: Some(
            ChangeContext {
                member,
                is_promote: false,
            }
            .to_json()
            .into(),
        ),
    }
}

#[test]
fn a_replay_changes_the_cluster_in_memory_alone() {
    let mut rig = Rig::new(Line::V3_7);
    rig.apply_conf_change(addition(MEMBER, "http://localhost:2380"), false)
        .unwrap();
    rig.apply(version("3.6.0"), false).unwrap();
    rig.apply(version("3.7.0"), false).unwrap();
    let before = rows(&mut rig);
    let mut rig = rig.restart(options(Line::V3_7)).unwrap();
    rig.index = 0;
    let replayed = rig
        .apply_conf_change(addition(MEMBER, "http://localhost:2380"), false)
        .unwrap();
    assert!(replayed.effects.is_empty());
    let replayed = rig.apply(version("3.6.0"), false).unwrap();
    assert!(matches!(&replayed.effects[..], [Effect::MembershipChanged(_)]));
    assert_eq!(rig.machine.membership().version, Some(Version::new(3, 6, 0)));
    assert_eq!(rows(&mut rig), before);
    rig.apply(version("3.7.0"), false).unwrap();
    assert_eq!(rig.machine.membership().version, Some(Version::new(3, 7, 0)));
}

/// etcd issue 13196: what the snapshot file still knows of a removed member brings it not back.
#[test]
fn a_file_without_members_gets_them_from_the_snapshot_and_the_log() {
    let mut rig = Rig::new(Line::V3_5);
    rig.apply_conf_change(addition(MEMBER, "http://localhost:2380"), false)
        .unwrap();
    rig.apply_conf_change(addition(10, "http://a:1"), false).unwrap();
    rig.apply_conf_change(addition(11, "http://a:1"), false).unwrap();
    let expected = rig.machine.membership().clone();
    let full = rows(&mut rig);
    for (key, _) in rig.rows(schema::MEMBERS) {
        rig.machine.store().backend().delete(schema::MEMBERS, &key);
    }
    let seed = Membership {
        members: [(MEMBER, expected.members[&MEMBER].clone())].into(),
        ..Membership::default()
    };
    let seeded = Options {
        seed: Some(seed),
        ..options(Line::V3_5)
    };
    let mut rig = rig.restart(seeded.clone()).unwrap();
    assert_eq!(rig.machine.membership().members.len(), 1);
    // The seed is the cluster as of entry 1; the others are read again.
    rig.index = 1;
    let added = rig.apply_conf_change(addition(10, "http://a:1"), false).unwrap();
    assert!(matches!(
        &added.effects[..],
        [Effect::ConfChange(_), Effect::MembershipChanged(_)]
    ));
    let refused = rig.apply_conf_change(addition(11, "http://a:1"), false).unwrap();
    let Effect::ConfChange(emptied) = &refused.effects[0] else {
        panic!("raft's gate stays closed: {refused:?}");
    };
    assert_eq!(emptied.node_id, Some(0));
    assert_eq!(rig.machine.membership(), &expected);
    assert_eq!(rows(&mut rig), full);
    // With members in the file the seed has nothing to say.
    let rig = rig.restart(seeded).unwrap();
    assert_eq!(rig.machine.membership(), &expected);
}

/// etcd issue 19557.
#[test]
fn members_are_mended_in_the_data_file_too() {
    let mut rig = Rig::new(Line::V3_5);
    rig.apply_conf_change(addition(MEMBER, "http://localhost:2380"), false)
        .unwrap();
    rig.apply_conf_change(addition(11, "http://b:1"), false).unwrap();
    let mut learner = addition(10, "http://a:1");
    learner.r#type = Some(ConfChangeType::ConfChangeAddLearnerNode as i32);
    learner.context = Some(r#"{"id":10,"peerURLs":["http://a:1"],"isLearner":true}"#.into());
    rig.apply_conf_change(learner, false).unwrap();
    let find = |rig: &Rig, voters: &[u64], learners: &[u64]| {
        let members = rig.machine.membership().members.values();
        let members = members.map(|member| (member.id, member.is_learner));
        let of = |ids: &[u64]| ids.iter().copied().collect();
        Mending::find(members, &of(voters), &of(learners))
    };
    let mending = |promoted: &[u64], zombies: &[u64]| Mending {
        promoted: promoted.to_vec(),
        zombies: zombies.to_vec(),
    };
    assert!(find(&rig, &[MEMBER, 11], &[10]).is_empty());
    // A voter of the file that raft counts as a learner stays: no release is known to leave that.
    assert!(find(&rig, &[MEMBER], &[10, 11]).is_empty());
    assert!(find(&rig, &[], &[]).is_empty());
    // Raft counts somebody whom the file does not know.
    assert_eq!(find(&rig, &[MEMBER, 10, 12], &[]), mending(&[10], &[]));
    assert_eq!(find(&rig, &[MEMBER, 10], &[12]), mending(&[10], &[]));
    let both = find(&rig, &[MEMBER, 10], &[]);
    assert_eq!(both, mending(&[10], &[11]));
    rig.machine.mend_members(&both);
    let expected = rig.machine.membership().clone();
    let rig = rig.restart(options(Line::V3_5)).unwrap();
    assert_eq!(rig.machine.membership(), &expected);
    assert_eq!(expected.conf_state().voters, [10, MEMBER]);
    assert!(expected.conf_state().learners.is_empty());
    assert!(expected.removed.contains(&11));
}

#[test]
fn a_cluster_above_this_release_is_refused() {
    let mut rig = Rig::new(Line::V3_7);
    rig.apply(version("3.7.0"), false).unwrap();
    let refused = rig.restart(options(Line::V3_6)).err().unwrap();
    assert!(matches!(refused, Error::ClusterVersionAbove { .. }), "{refused}");
}

#[test]
fn ranges_of_keys_alone_keep_their_lease_below_3_7() {
    use api::etcdserverpb::{RangeRequest, RangeResponse};
    for (line, lease) in [(Line::V3_5, 7), (Line::V3_6, 7), (Line::V3_7, 0)] {
        let mut rig = Rig::new(line);
        let grant = pb::LeaseGrantRequest { id: 7, ttl: 100 };
        rig.apply(
            InternalRaftRequest {
                lease_grant: Some(grant),
                ..Default::default()
            },
            false,
        )
        .unwrap();
        let put = pb::PutRequest {
            key: "a".into(),
            value: "1".into(),
            lease: 7,
            ..Default::default()
        };
        rig.apply(
            InternalRaftRequest {
                put: Some(put),
                ..Default::default()
            },
            false,
        )
        .unwrap();
        let range = RangeRequest {
            key: "a".into(),
            keys_only: true,
            ..Default::default()
        };
        let reply = rig.apply(
            InternalRaftRequest {
                range: Some(range),
                ..Default::default()
            },
            true,
        );
        let response = RangeResponse::decode(reply.unwrap().reply.unwrap().result.unwrap()).unwrap();
        assert_eq!(
            (response.kvs[0].lease, response.kvs[0].value.len()),
            (lease, 0),
            "{line:?}"
        );
    }
}
