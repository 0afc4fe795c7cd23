//! The v2 store document that snapshot files carry: members of 3.5 take the cluster from it, 3.6
//! reads it too. Made from the membership and read back; there is no v2 store otherwise.

use api::version::Version;
use mvcc::schema::push_go_string;
use serde_json::Value;

use crate::error::Error;
use crate::gojson::Object;
use crate::membership::{Member, Membership};

/// A node that never expires (Go's zero time).
const PERMANENT: &str = "0001-01-01T00:00:00Z";

/// The document for a membership. It leaves out the event history and the counters, since etcd
/// takes its own where they are absent and stops at a history of the wrong length.
pub fn document(membership: &Membership) -> String {
    let mut writer = Writer { index: 0 };
    let mut members = Vec::new();
    for member in membership.members.values() {
        let path = format!("/0/members/{:x}", member.id);
        let mut children = Vec::new();
        if !member.client_urls.is_empty() {
            children.push(writer.file(&format!("{path}/attributes"), &attributes(member)));
        }
        children.push(writer.file(&format!("{path}/raftAttributes"), &raft_attributes(member)));
        members.push((format!("{:x}", member.id), writer.directory(&path, children)));
    }
    let mut zero = Vec::new();
    if !members.is_empty() {
        zero.push(writer.directory("/0/members", sorted(members)));
    }
    if !membership.removed.is_empty() {
        let files = membership.removed.iter().map(|id| {
            let path = format!("/0/removed_members/{id:x}");
            (format!("{id:x}"), writer.file(&path, ""))
        });
        let files = sorted(files.collect());
        zero.push(writer.directory("/0/removed_members", files));
    }
    if let Some(version) = membership.version {
        zero.push(writer.file("/0/version", &version.to_string()));
    }
    let top = vec![writer.directory("/0", zero), writer.directory("/1", Vec::new())];
    let root = writer.directory("/", top);
    let body = root
        .split_once(':')
        .expect("a node is written as name and value")
        .1;
    format!(
        "{{\"Root\":{body},\"CurrentIndex\":{},\"CurrentVersion\":2}}",
        writer.index
    )
}

/// What raft knows of a member.
fn raft_attributes(member: &Member) -> String {
    let mut out = String::from("{");
    push_list(&mut out, "peerURLs", &member.peer_urls);
    out.push_str(if member.is_learner {
        ",\"isLearner\":true}"
    } else {
        "}"
    });
    out
}

/// What a member tells of itself.
fn attributes(member: &Member) -> String {
    let mut out = String::from("{");
    if !member.name.is_empty() {
        out.push_str("\"name\":");
        push_go_string(&mut out, &member.name);
        out.push(',');
    }
    push_list(&mut out, "clientURLs", &member.client_urls);
    out.push('}');
    out
}

fn push_list(out: &mut String, name: &str, texts: &[String]) {
    out.push_str(&format!("\"{name}\":["));
    for (at, text) in texts.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        push_go_string(out, text);
    }
    out.push(']');
}

/// Children in the order in which Go writes the keys of a map.
fn sorted(mut children: Vec<(String, String)>) -> Vec<String> {
    children.sort();
    children.into_iter().map(|(_, node)| node).collect()
}

/// Writes nodes, each as `"name":{…}`, and counts them as the store counts its writes.
struct Writer {
    index: u64,
}

impl Writer {
    fn file(&mut self, path: &str, value: &str) -> String {
        self.index += 1;
        self.node(path, value, "null")
    }

    fn directory(&mut self, path: &str, children: Vec<String>) -> String {
        self.node(path, "", &format!("{{{}}}", children.join(",")))
    }

    fn node(&self, path: &str, value: &str, children: &str) -> String {
        let mut out = String::new();
        push_go_string(&mut out, path.rsplit('/').next().unwrap_or_default());
        out.push_str(":{\"Path\":");
        push_go_string(&mut out, path);
        let index = self.index;
        out.push_str(&format!(
            ",\"CreatedIndex\":{index},\"ModifiedIndex\":{index},\"ExpireTime\":\"{PERMANENT}\",\"Value\":"
        ));
        push_go_string(&mut out, value);
        out.push_str(&format!(",\"Children\":{children}}}"));
        out
    }
}

/// What a v2 store document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The cluster; without downgrade, which the v2 store never had.
    pub membership: Membership,
    /// Whether the store holds data of v2 users: neither this member nor etcd 3.6 starts on that.
    pub has_user_data: bool,
}

/// Reads a document that any etcd wrote.
pub fn parse(document: &[u8]) -> Result<Parsed, Error> {
    let text = |error: String| Error::V2Store(error);
    let mut top = Object::parse(document).map_err(text)?;
    let mut parsed = Parsed {
        membership: Membership::default(),
        has_user_data: false,
    };
    let Some(root) = top.take("Root") else {
        return Ok(parsed);
    };
    for (name, node) in children(root)? {
        match name.as_str() {
            "0" => read_meta(node, &mut parsed.membership)?,
            // Users of the v2 store: empty directories stay behind when the last is removed.
            "2" => {
                for (_, child) in children(node)? {
                    parsed.has_user_data |= !children(child)?.is_empty();
                }
            }
            _ => parsed.has_user_data |= !children(node)?.is_empty(),
        }
    }
    Ok(parsed)
}

fn read_meta(node: Value, membership: &mut Membership) -> Result<(), Error> {
    for (name, node) in children(node)? {
        match name.as_str() {
            "members" => {
                for (id, node) in children(node)? {
                    let member = read_member(parse_id(&id)?, node)?;
                    membership.members.insert(member.id, member);
                }
            }
            "removed_members" => {
                for (id, _) in children(node)? {
                    membership.removed.insert(parse_id(&id)?);
                }
            }
            "version" => {
                let version = value(node)?;
                let parsed = version.parse::<Version>();
                membership.version = Some(parsed.map_err(|error| Error::V2Store(error.to_string()))?);
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_member(id: u64, node: Value) -> Result<Member, Error> {
    let damaged = |reason: String| Error::V2Store(format!("member {id:x}: {reason}"));
    let mut member = Member {
        id,
        ..Member::default()
    };
    let mut has_raft_attributes = false;
    for (name, node) in children(node)? {
        let json = value(node)?;
        let mut object = Object::parse(json.as_bytes()).map_err(damaged)?;
        match name.as_str() {
            "raftAttributes" => {
                member.peer_urls = object.strings("peerURLs").map_err(damaged)?;
                member.is_learner = object.bool("isLearner").map_err(damaged)?;
                has_raft_attributes = true;
            }
            "attributes" => {
                member.name = object.string("name").map_err(damaged)?;
                member.client_urls = object.strings("clientURLs").map_err(damaged)?;
            }
            _ => return Err(damaged(format!("unknown key {name:?}"))),
        }
    }
    match has_raft_attributes {
        true => Ok(member),
        false => Err(damaged("raftAttributes key doesn't exist".to_string())),
    }
}

fn parse_id(hex: &str) -> Result<u64, Error> {
    u64::from_str_radix(hex, 16).map_err(|_| Error::V2Store(format!("{hex:?} is not a member id")))
}

/// The children of a node, none for a file.
fn children(node: Value) -> Result<Vec<(String, Value)>, Error> {
    let read = || -> Result<Vec<(String, Value)>, String> {
        let Some(mut node) = Object::from_value(node)? else {
            return Ok(Vec::new());
        };
        let Some(children) = node.take("Children") else {
            return Ok(Vec::new());
        };
        let object = Object::from_value(children)?;
        Ok(object
            .map(|object| object.into_entries().collect())
            .unwrap_or_default())
    };
    read().map_err(Error::V2Store)
}

fn value(node: Value) -> Result<String, Error> {
    let read = || match Object::from_value(node)? {
        Some(mut node) => node.string("Value"),
        None => Ok(String::new()),
    };
    read().map_err(Error::V2Store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Membership {
        let members = [
            Member {
                id: 0x8e9e_05c5_2164_694d,
                peer_urls: vec!["http://localhost:2380".into()],
                name: "n\"1".into(),
                client_urls: vec!["http://localhost:2379".into()],
                ..Member::default()
            },
            Member {
                id: 0x10,
                peer_urls: vec!["http://b:1".into(), "http://b:2".into()],
                is_learner: true,
                ..Member::default()
            },
        ];
        Membership {
            members: members.into_iter().map(|m| (m.id, m)).collect(),
            removed: [0xa, 0x9f].into(),
            version: Some(Version::new(3, 6, 0)),
            ..Membership::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for membership in [Membership::default(), cluster()] {
            let text = document(&membership);
            let json: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["CurrentVersion"], 2);
            assert_eq!(json["Root"]["Path"], "/");
            assert_eq!(json["Root"]["Children"]["1"]["Children"], serde_json::json!({}));
            let parsed = parse(text.as_bytes()).unwrap();
            assert_eq!(
                parsed,
                Parsed {
                    membership,
                    has_user_data: false
                }
            );
        }
    }

    #[test]
    fn the_document_has_the_nodes_that_etcd_looks_for() {
        let json: Value = serde_json::from_str(&document(&cluster())).unwrap();
        let zero = &json["Root"]["Children"]["0"]["Children"];
        assert_eq!(zero["version"]["Value"], "3.6.0");
        assert_eq!(zero["version"]["Children"], Value::Null);
        assert_eq!(zero["removed_members"]["Children"]["9f"]["Value"], "");
        let started = &zero["members"]["Children"]["8e9e05c52164694d"];
        assert_eq!(started["Path"], "/0/members/8e9e05c52164694d");
        assert_eq!(
            started["Children"]["attributes"]["Value"],
            r#"{"name":"n\"1","clientURLs":["http://localhost:2379"]}"#
        );
        let silent = &zero["members"]["Children"]["10"]["Children"];
        assert_eq!(silent["attributes"], Value::Null);
        assert_eq!(
            silent["raftAttributes"]["Value"],
            r#"{"peerURLs":["http://b:1","http://b:2"],"isLearner":true}"#
        );
    }

    /// Parses a document with these children of the root.
    fn check(root_children: &str, expected: Result<bool, &str>) {
        let document = format!(r#"{{"Root":{{"Path":"/","Children":{{{root_children}}}}},"Stats":{{}}}}"#);
        let found = parse(document.as_bytes());
        match (found, expected) {
            (Ok(parsed), Ok(has_user_data)) => assert_eq!(parsed.has_user_data, has_user_data),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{root_children}: {found:?}"),
        }
    }

    #[test]
    fn user_data_and_damage_are_told() {
        check(r#""1":{"Children":{}}"#, Ok(false));
        check(
            r#""1":{"Children":{"a":{"Value":"x","Children":null}}}"#,
            Ok(true),
        );
        check(
            r#""2":{"Children":{"users":{"Children":{}},"enabled":{"Value":"false"}}}"#,
            Ok(false),
        );
        check(
            r#""2":{"Children":{"users":{"Children":{"u":{"Value":"x"}}}}}"#,
            Ok(true),
        );
        check(
            r#""0":{"Children":{"members":{"Children":{"1":{"Children":{}}}}}}"#,
            Err("raftAttributes"),
        );
        check(
            r#""0":{"Children":{"members":{"Children":{"x":{"Children":{}}}}}}"#,
            Err("not a member id"),
        );
        check(
            r#""0":{"Children":{"version":{"Value":"x"}}}"#,
            Err("not a version"),
        );
        check(r#""0":7"#, Err("not a JSON object"));
        assert!(parse(b"{").is_err());
        assert!(parse(b"[]").is_err());
    }
}
