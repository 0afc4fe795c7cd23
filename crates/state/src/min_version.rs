//! The oldest etcd that can read a stretch of log: what decides whether the storage may go down a
//! version (etcd: storage/wal/version.go). Looks at which fields are used, not at what they say.

use api::etcdserverpb::AlarmType;
use api::version::Version;
use bytes::Bytes;
use prost::Message;

use crate::entry::EntryKind;
use crate::error::Error;
use crate::lenient;
use crate::request::InternalRequest;
use crate::v2_request;

const V3_0: Version = Version::new(3, 0, 0);
const V3_1: Version = Version::new(3, 1, 0);
const V3_2: Version = Version::new(3, 2, 0);
const V3_3: Version = Version::new(3, 3, 0);
const V3_4: Version = Version::new(3, 4, 0);
const V3_5: Version = Version::new(3, 5, 0);
const V3_6: Version = Version::new(3, 6, 0);

/// The oldest version that can read one entry. Lists, such as the operations of a txn, are not
/// looked into, as etcd does not.
pub fn minimal_version(index: u64, kind: EntryKind, data: &Bytes) -> Result<Version, Error> {
    match kind {
        EntryKind::ConfChange => return Ok(V3_0),
        EntryKind::ConfChangeV2 => return Ok(V3_4),
        EntryKind::Normal => {}
    }
    let undecodable = |reason: String| Error::Undecodable { index, reason };
    if v2_request::contains_v2_request(data) {
        return Err(undecodable("a v2 request".to_string()));
    }
    let request = InternalRequest::decode(data.clone());
    let request =
        request.or_else(|error| lenient::decode(data).map_err(|_| undecodable(error.to_string())))?;
    let test = match &request.downgrade_version_test {
        None => V3_0,
        Some(test) => test.ver.parse::<Version>().map_err(|_| Error::BadVersion {
            index,
            text: test.ver.clone(),
        })?,
    };
    let used = uses(&request).into_iter().filter(|(used, _)| *used);
    Ok(used.map(|(_, since)| since).fold(V3_0.max(test), Version::max))
}

/// The annotated fields of a request: whether each is set, and since when it exists.
fn uses(request: &InternalRequest) -> Vec<(bool, Version)> {
    let mut uses = vec![
        (request.lease_checkpoint.is_some(), V3_4),
        (request.auth_status.is_some(), V3_5),
        (request.cluster_version_set.is_some(), V3_5),
        (request.cluster_member_attr_set.is_some(), V3_5),
        (request.downgrade_info_set.is_some(), V3_5),
        (request.downgrade_version_test.is_some(), V3_6),
    ];
    if let Some(header) = &request.header {
        uses.push((header.auth_revision != 0, V3_1));
    }
    if let Some(range) = &request.range {
        let filters = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        uses.push((filters != [0; 4], V3_1));
    }
    if let Some(put) = &request.put {
        uses.push((put.prev_kv, V3_1));
        uses.push((put.ignore_value || put.ignore_lease, V3_2));
    }
    if let Some(delete) = &request.delete_range {
        uses.push((delete.prev_kv, V3_1));
    }
    if let Some(alarm) = &request.alarm {
        uses.push((alarm.alarm == AlarmType::Corrupt as i32, V3_3));
    }
    if let Some(user) = &request.auth_user_add {
        uses.push((user.options.is_some(), V3_4));
        uses.push((!user.hashed_password.is_empty(), V3_5));
    }
    if let Some(user) = &request.auth_user_change_password {
        uses.push((!user.hashed_password.is_empty(), V3_5));
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb as pb;
    use api::membershippb;

    fn check(request: pb::InternalRaftRequest, expected: &str) {
        let data = request.encode_to_vec().into();
        let found = minimal_version(1, EntryKind::Normal, &data).unwrap();
        assert_eq!(found.to_string(), expected, "{request:?}");
    }

    #[test]
    fn the_newest_field_decides() {
        type Request = pb::InternalRaftRequest;
        check(Request::default(), "3.0.0");
        let put = pb::PutRequest {
            key: "a".into(),
            ..Default::default()
        };
        check(
            Request {
                put: Some(put.clone()),
                ..Default::default()
            },
            "3.0.0",
        );
        let prev_kv = pb::PutRequest {
            prev_kv: true,
            ..put.clone()
        };
        check(
            Request {
                put: Some(prev_kv.clone()),
                ..Default::default()
            },
            "3.1.0",
        );
        let ignore_lease = pb::PutRequest {
            ignore_lease: true,
            ..prev_kv.clone()
        };
        check(
            Request {
                put: Some(ignore_lease),
                ..Default::default()
            },
            "3.2.0",
        );
        let op = pb::request_op::Request::RequestPut(prev_kv);
        let txn = pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(op) }],
            ..Default::default()
        };
        check(
            Request {
                txn: Some(txn),
                ..Default::default()
            },
            "3.0.0",
        );
        let alarm = pb::AlarmRequest {
            alarm: AlarmType::Corrupt as i32,
            ..Default::default()
        };
        check(
            Request {
                alarm: Some(alarm),
                ..Default::default()
            },
            "3.3.0",
        );
        check(
            Request {
                lease_checkpoint: Some(Default::default()),
                ..Default::default()
            },
            "3.4.0",
        );
        let version = membershippb::ClusterVersionSetRequest { ver: "9.9.0".into() };
        check(
            Request {
                cluster_version_set: Some(version),
                ..Default::default()
            },
            "3.5.0",
        );
        for (ver, expected) in [("3.5.0", "3.6.0"), ("3.8.0", "3.8.0")] {
            let test = pb::DowngradeVersionTestRequest { ver: ver.into() };
            check(
                Request {
                    downgrade_version_test: Some(test),
                    ..Default::default()
                },
                expected,
            );
        }
    }

    #[test]
    fn kinds_and_damage() {
        let of = |kind, data: &'static [u8]| minimal_version(1, kind, &Bytes::from_static(data));
        assert_eq!(of(EntryKind::ConfChange, b"\xff").unwrap(), V3_0);
        assert_eq!(of(EntryKind::ConfChangeV2, b"").unwrap(), V3_4);
        assert!(of(EntryKind::Normal, b"\x08\x01\x12\x03PUT").is_err());
        assert!(of(EntryKind::Normal, b"\xff").is_err());
    }

    #[test]
    fn names_need_not_be_utf8() {
        let request = pb::InternalRaftRequest {
            auth_user_add: Some(pb::AuthUserAddRequest {
                name: "x~".into(),
                hashed_password: "hash".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let data = request.encode_to_vec();
        let data: Bytes = data
            .iter()
            .map(|byte| if *byte == b'~' { 0xff } else { *byte })
            .collect();
        let found = minimal_version(1, EntryKind::Normal, &data).unwrap();
        assert_eq!(found, V3_5);
    }
}
