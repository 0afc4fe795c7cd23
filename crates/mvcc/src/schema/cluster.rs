//! The buckets `cluster`, `members`, `members_removed`, `alarm`, and whether auth is on.

use api::version::Version;
use bytes::{Bytes, BytesMut};
use prost::Message;
use serde::Deserialize;

use super::json::{push_go_string, push_go_strings};
use super::{ALARM, AUTH, CLUSTER, MEMBERS, MEMBERS_REMOVED, Rows};
use crate::record::{put_varint, put_varint_field};
use crate::{Backend, Error};

const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";
const AUTH_ENABLED: &[u8] = b"authEnabled";
const REMOVED: &[u8] = b"removed";

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where peers reach it; `None` is written as `null`.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Option<Vec<String>>,
    /// Whether it does not vote yet.
    #[serde(rename = "isLearner")]
    pub is_learner: bool,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where clients reach it; empty until it has started.
    #[serde(rename = "clientURLs", deserialize_with = "null_is_empty")]
    pub client_urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Member {
    /// The member as Go's encoding/json writes it.
    pub fn to_json(&self) -> String {
        let mut out = format!("{{\"id\":{},\"peerURLs\":", self.id);
        match &self.peer_urls {
            Some(urls) => push_go_strings(&mut out, urls),
            None => out.push_str("null"),
        }
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        if !self.name.is_empty() {
            out.push_str(",\"name\":");
            push_go_string(&mut out, &self.name);
        }
        if !self.client_urls.is_empty() {
            out.push_str(",\"clientURLs\":");
            push_go_strings(&mut out, &self.client_urls);
        }
        out.push('}');
        out
    }
}

/// An id as rows, paths and logs show it: lower-case hex without leading zeros.
pub fn member_id_text(id: u64) -> String {
    format!("{id:x}")
}

fn parse_member_id(bucket: &'static str, key: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(key)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| Error::corrupt(bucket, key, "not the id of a member"))
}

/// All members, in the order of their rows.
pub fn members(rows: &impl Rows) -> Result<Vec<Member>, Error> {
    let decode = |(key, value): (Bytes, Bytes)| {
        let id = parse_member_id(MEMBERS, &key)?;
        let member: Member = serde_json::from_slice(&value)
            .map_err(|error| Error::corrupt(MEMBERS, &key, error.to_string()))?;
        if member.id != id {
            return Err(Error::corrupt(MEMBERS, &key, "the row holds another member"));
        }
        Ok(member)
    };
    rows.rows(MEMBERS)?.into_iter().map(decode).collect()
}

/// Ids of members that were removed and never come back, in the order of their rows.
pub fn removed_members(rows: &impl Rows) -> Result<Vec<u64>, Error> {
    rows.rows(MEMBERS_REMOVED)?
        .iter()
        .map(|(key, _)| parse_member_id(MEMBERS_REMOVED, key))
        .collect()
}

/// Stores a member.
pub fn put_member(backend: &mut Backend, member: &Member) {
    backend.put(
        MEMBERS,
        member_id_text(member.id).as_bytes(),
        member.to_json().as_bytes(),
    );
}

/// Moves a member to the removed ones.
pub fn delete_member(backend: &mut Backend, id: u64) {
    let key = member_id_text(id);
    backend.delete(MEMBERS, key.as_bytes());
    backend.put(MEMBERS_REMOVED, key.as_bytes(), REMOVED);
}

/// Forgets all members, present and removed: offline tools that make a new cluster of a file.
pub fn forget_members(backend: &mut Backend) -> Result<(), Error> {
    for bucket in [MEMBERS, MEMBERS_REMOVED] {
        for (key, _) in backend.scan(bucket)? {
            backend.delete(bucket, &key);
        }
    }
    Ok(())
}

/// The cluster version, if it was ever decided.
pub fn cluster_version(rows: &impl Rows) -> Result<Option<Version>, Error> {
    let Some(value) = rows.row(CLUSTER, CLUSTER_VERSION)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&value).unwrap_or_default();
    let version = text
        .parse()
        .map_err(|_| Error::corrupt(CLUSTER, CLUSTER_VERSION, "not a version"))?;
    Ok(Some(version))
}

/// Stores the cluster version.
pub fn put_cluster_version(backend: &mut Backend, version: Version) {
    backend.put(CLUSTER, CLUSTER_VERSION, version.to_string().as_bytes());
}

/// A downgrade under way, or the trace of one that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Downgrade {
    /// `X.Y.0`; empty when not enabled.
    #[serde(rename = "target-version")]
    pub target_version: String,
    /// Whether the cluster is to go down to it.
    pub enabled: bool,
}

/// The downgrade, if there ever was one.
pub fn downgrade(rows: &impl Rows) -> Result<Option<Downgrade>, Error> {
    let Some(value) = rows.row(CLUSTER, DOWNGRADE)? else {
        return Ok(None);
    };
    let corrupt = |why: String| Error::corrupt(CLUSTER, DOWNGRADE, why);
    let downgrade: Downgrade = serde_json::from_slice(&value).map_err(|error| corrupt(error.to_string()))?;
    if downgrade.enabled && downgrade.target_version.parse::<Version>().is_err() {
        return Err(corrupt("the target is not a version".to_string()));
    }
    Ok(Some(downgrade))
}

/// Stores the downgrade.
pub fn put_downgrade(backend: &mut Backend, downgrade: &Downgrade) {
    backend.put(CLUSTER, DOWNGRADE, encode_downgrade(downgrade).as_bytes());
}

fn encode_downgrade(downgrade: &Downgrade) -> String {
    let mut out = String::from("{\"target-version\":");
    push_go_string(&mut out, &downgrade.target_version);
    out.push_str(if downgrade.enabled {
        ",\"enabled\":true}"
    } else {
        ",\"enabled\":false}"
    });
    out
}

/// A raised alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member it is about.
    pub member_id: u64,
    /// 1 for NOSPACE, 2 for CORRUPT.
    pub kind: i32,
}

impl Alarm {
    /// The row's key; the row has no value.
    fn encode(self) -> BytesMut {
        let mut out = BytesMut::new();
        if self.member_id != 0 {
            out.extend_from_slice(&[1 << 3]);
            put_varint(&mut out, self.member_id);
        }
        put_varint_field(&mut out, 2, i64::from(self.kind));
        out
    }
}

/// All raised alarms, in the order of their rows.
pub fn alarms(rows: &impl Rows) -> Result<Vec<Alarm>, Error> {
    let decode = |(key, _): (Bytes, Bytes)| match api::etcdserverpb::AlarmMember::decode(&key[..]) {
        Ok(alarm) => Ok(Alarm {
            member_id: alarm.member_id,
            kind: alarm.alarm,
        }),
        Err(error) => Err(Error::corrupt(ALARM, &key, error.to_string())),
    };
    rows.rows(ALARM)?.into_iter().map(decode).collect()
}

/// Stores an alarm.
pub fn put_alarm(backend: &mut Backend, alarm: Alarm) {
    backend.put(ALARM, &alarm.encode(), &[]);
}

/// Removes an alarm.
pub fn delete_alarm(backend: &mut Backend, alarm: Alarm) {
    backend.delete(ALARM, &alarm.encode());
}

/// Whether auth is on.
pub fn auth_enabled(rows: &impl Rows) -> Result<bool, Error> {
    Ok(rows
        .row(AUTH, AUTH_ENABLED)?
        .is_some_and(|value| value[..] == [1]))
}

/// Writes whether auth is on.
pub fn put_auth_enabled(backend: &mut Backend, enabled: bool) {
    backend.put(AUTH, AUTH_ENABLED, &[u8::from(enabled)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_as_go_writes_them() {
        let check = |member: Member, text: &str| {
            assert_eq!(member.to_json(), text);
            assert_eq!(serde_json::from_str::<Member>(text).unwrap(), member);
        };
        check(
            Member {
                id: 1,
                ..Member::default()
            },
            r#"{"id":1,"peerURLs":null}"#,
        );
        check(
            Member {
                id: 10_276_657_743_932_975_437,
                peer_urls: Some(vec!["http://localhost:2380".into(), "http://b:2380".into()]),
                is_learner: true,
                name: "a&b".into(),
                client_urls: vec!["http://localhost:2379".into()],
            },
            r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380","http://b:2380"],"isLearner":true,"name":"a\u0026b","clientURLs":["http://localhost:2379"]}"#,
        );
        let member: Member =
            serde_json::from_str(r#"{"id":1,"peerURLs":[],"clientURLs":null,"x":[{}]}"#).unwrap();
        assert_eq!(member.peer_urls, Some(vec![]));
        assert_eq!(
            parse_member_id(MEMBERS, b"8e9e05c52164694d").unwrap(),
            0x8e9e_05c5_2164_694d
        );
        for bad in [&b""[..], b"+1", b"xyz", b"11112222333344445", b"\xff"] {
            assert!(parse_member_id(MEMBERS, bad).is_err());
        }
    }

    #[test]
    fn downgrades_are_as_go_writes_them() {
        let on = Downgrade {
            target_version: "3.6.0".into(),
            enabled: true,
        };
        assert_eq!(
            encode_downgrade(&on),
            r#"{"target-version":"3.6.0","enabled":true}"#
        );
        assert_eq!(
            encode_downgrade(&Downgrade::default()),
            r#"{"target-version":"","enabled":false}"#
        );
    }

    #[test]
    fn alarms_are_protobuf() {
        for (member_id, kind) in [(0, 2), (1, 1), (u64::MAX, 2)] {
            let theirs = api::etcdserverpb::AlarmMember {
                member_id,
                alarm: kind,
            };
            assert_eq!(Alarm { member_id, kind }.encode(), theirs.encode_to_vec());
        }
    }
}
