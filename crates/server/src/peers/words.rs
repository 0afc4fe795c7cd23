//! What members tell each other beside raft's messages: the bytes of questions and answers. Read
//! leniently, written as etcd writes them. Asks nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use api::error;
use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest};
use api::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use api::version::Version;
use bytes::Bytes;
use member::frontend::LeaseInfo;
use member::{Member, PeerAnswer, PeerHash, PeerQuestion};
use prost::Message;
use serde_json::{Value, json};
use transport::{Answer, Call, Purpose};

/// The path of a question to the leader.
pub(super) fn path_of(question: PeerQuestion) -> String {
    match question {
        PeerQuestion::Renew { .. } => "/leases".to_owned(),
        PeerQuestion::TimeToLive { .. } => "/leases/internal".to_owned(),
        PeerQuestion::Promote { member } => format!("/members/promote/{member}"),
    }
}

/// The body of a question to the leader.
pub(super) fn body_of(question: PeerQuestion) -> Bytes {
    match question {
        PeerQuestion::Renew { lease } => LeaseKeepAliveRequest { id: lease }.encode_to_vec().into(),
        PeerQuestion::TimeToLive { lease, keys } => {
            let request = LeaseInternalRequest {
                lease_time_to_live_request: Some(LeaseTimeToLiveRequest { id: lease, keys }),
            };
            request.encode_to_vec().into()
        }
        PeerQuestion::Promote { .. } => Bytes::new(),
    }
}

/// What the leader's answer says (etcd: lease/leasehttp/http.go, etcdserver/cluster_util.go
/// promoteMemberHTTP). What may be asked again is [`PeerAnswer::Silent`].
pub(super) fn answer_of(question: PeerQuestion, answer: &Answer) -> PeerAnswer {
    let text = String::from_utf8_lossy(&answer.body);
    match (question, answer.status) {
        (PeerQuestion::Renew { lease }, 200) => {
            let response = LeaseKeepAliveResponse::decode(answer.body.clone()).ok();
            let response = response.filter(|response| response.id == lease);
            response.map_or(PeerAnswer::Silent, |response| PeerAnswer::Renewed(response.ttl))
        }
        (PeerQuestion::TimeToLive { .. }, 200) => {
            let response = LeaseInternalResponse::decode(answer.body.clone()).ok();
            let found = response.and_then(|response| response.lease_time_to_live_response);
            found.map_or(PeerAnswer::Silent, |found| {
                PeerAnswer::Lease(LeaseInfo {
                    remaining_seconds: found.ttl,
                    granted_seconds: found.granted_ttl,
                    keys: found.keys,
                })
            })
        }
        (PeerQuestion::Renew { .. } | PeerQuestion::TimeToLive { .. }, 404) => PeerAnswer::NoLease,
        (PeerQuestion::Promote { .. }, 200) => {
            read_members(&answer.body).map_or(PeerAnswer::Silent, PeerAnswer::Promoted)
        }
        (PeerQuestion::Promote { .. }, 404) => PeerAnswer::Refused(error::MEMBER_NOT_FOUND),
        (PeerQuestion::Promote { .. }, 412) if text.contains("in sync with leader") => {
            PeerAnswer::Refused(error::LEARNER_NOT_READY)
        }
        (PeerQuestion::Promote { .. }, 412) if text.contains("can only promote a learner member") => {
            PeerAnswer::Refused(error::MEMBER_NOT_LEARNER)
        }
        _ => PeerAnswer::Silent,
    }
}

/// The question for a hash.
pub(super) fn hash_call(cluster_id: u64, revision: i64, patience: Duration) -> Call {
    let header = |name: &str, value: String| (name.to_owned(), value);
    Call {
        purpose: Purpose::Check,
        method: "GET",
        path: "/members/hashkv".to_owned(),
        headers: vec![
            header("content-type", "application/json".to_owned()),
            header("x-etcd-cluster-id", format!("{cluster_id:x}")),
        ],
        body: hash_question(revision),
        patience,
    }
}

fn hash_question(revision: i64) -> Bytes {
    let body = match revision {
        0 => "{}".to_owned(),
        _ => json!({ "revision": revision }).to_string(),
    };
    body.into()
}

/// The revision of a question for a hash; `None` if it makes no sense.
pub(super) fn hash_revision(body: &[u8]) -> Option<i64> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let object = value.as_object()?;
    // Go's decoder takes names in any case.
    let found = object
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("revision"));
    match found {
        None => Some(0),
        Some((_, Value::Null)) => Some(0),
        Some((_, value)) => value.as_i64(),
    }
}

/// What another member said of its store.
pub(super) fn read_hash(answer: &Answer) -> Option<PeerHash> {
    if answer.status != 200 {
        return None;
    }
    let value: Value = serde_json::from_slice(&answer.body).ok()?;
    // etcd leaves out what is zero.
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    Some(PeerHash {
        current_revision: number(value.get("header")?.get("revision").unwrap_or(&Value::Null)),
        compact_revision: number(&value["compact_revision"]),
        hash: u32::try_from(number(&value["hash"])).ok()?,
    })
}

/// Members as etcd lists them: membership/member.go.
pub(super) fn write_members(members: &[Member]) -> Bytes {
    let members: Vec<String> = members.iter().map(write_member).collect();
    format!("[{}]\n", members.join(",")).into()
}

fn write_member(member: &Member) -> String {
    let mut text = format!(r#"{{"id":{},"peerURLs":{}"#, member.id, json!(member.peer_urls));
    if member.is_learner {
        text.push_str(r#","isLearner":true"#);
    }
    if !member.name.is_empty() {
        text.push_str(&format!(r#","name":{}"#, json!(member.name)));
    }
    if !member.client_urls.is_empty() {
        text.push_str(&format!(r#","clientURLs":{}"#, json!(member.client_urls)));
    }
    text.push('}');
    text
}

/// The members of a list; `None` if it is none, or names one twice.
pub(super) fn read_members(body: &[u8]) -> Option<Vec<Member>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let members: Vec<Member> = list.as_array()?.iter().map(read_member).collect::<Option<_>>()?;
    let ids: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
    (ids.len() == members.len()).then_some(members)
}

fn read_member(value: &Value) -> Option<Member> {
    let texts = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(list) => {
            let texts = list
                .as_array()?
                .iter()
                .map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        }
    };
    Some(Member {
        id: value.get("id")?.as_u64()?,
        name: value
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        peer_urls: texts("peerURLs")?,
        client_urls: texts("clientURLs")?,
        is_learner: value.get("isLearner").and_then(Value::as_bool).unwrap_or(false),
    })
}

/// What `/version` says: the server's version, and the cluster's if it is decided.
pub(super) fn read_versions(body: &[u8]) -> Option<(Option<Version>, Option<Version>)> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let version = |name: &str| value.get(name)?.as_str()?.parse::<Version>().ok();
    value
        .is_object()
        .then(|| (version("etcdserver"), version("etcdcluster")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    #[test]
    fn members_go_to_text_and_back() {
        let members = vec![
            Member {
                id: u64::MAX,
                name: "a\"b".into(),
                peer_urls: vec!["http://x:1".into()],
                client_urls: vec!["http://y:2".into()],
                is_learner: false,
            },
            Member {
                id: 7,
                is_learner: true,
                peer_urls: vec!["http://z:3".into()],
                ..Member::default()
            },
        ];
        let text = write_members(&members);
        let wanted = "[{\"id\":18446744073709551615,\"peerURLs\":[\"http://x:1\"],\"name\":\"a\\\"b\",\
                      \"clientURLs\":[\"http://y:2\"]},{\"id\":7,\"peerURLs\":[\"http://z:3\"],\
                      \"isLearner\":true}]\n";
        assert_eq!(text, wanted);
        assert_eq!(read_members(&text), Some(members));
        for broken in ["", "{}", "[1]", r#"[{"id":-1}]"#, r#"[{"id":1},{"id":1}]"#] {
            assert_eq!(read_members(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn hashes_are_asked_for_and_read_as_etcd_writes_them() {
        assert_eq!(hash_revision(&hash_question(5)), Some(5));
        assert_eq!(hash_revision(&hash_question(0)), Some(0));
        assert_eq!(hash_revision(b"{\"Revision\":3}"), Some(3));
        for broken in ["", "3", "{\"revision\":\"3\"}", "{\"revision\":1.5}"] {
            assert_eq!(hash_revision(broken.as_bytes()), None, "{broken}");
        }
        let text = r#"{"header":{"revision":9},"hash":4294967295,"compact_revision":-1}"#;
        let hash = PeerHash {
            current_revision: 9,
            compact_revision: -1,
            hash: u32::MAX,
        };
        assert_eq!(read_hash(&answer(200, text)), Some(hash));
        assert_eq!(read_hash(&answer(400, text)), None);
        assert_eq!(
            read_hash(&answer(200, r#"{"hash":4294967296,"header":{}}"#)),
            None
        );
    }

    #[test]
    fn only_what_the_leader_decides_for_good_is_an_answer() {
        let renew = PeerQuestion::Renew { lease: 5 };
        let renewed = |id| {
            LeaseKeepAliveResponse {
                id,
                ttl: 9,
                header: None,
            }
            .encode_to_vec()
        };
        assert_eq!(answer_of(renew, &answer(200, renewed(5))), PeerAnswer::Renewed(9));
        assert_eq!(answer_of(renew, &answer(200, renewed(6))), PeerAnswer::Silent);
        assert_eq!(answer_of(renew, &answer(200, "\u{ff}")), PeerAnswer::Silent);
        assert_eq!(
            answer_of(renew, &answer(404, "lease not found\n")),
            PeerAnswer::NoLease
        );
        for status in [400, 408, 500, 503] {
            assert_eq!(
                answer_of(renew, &answer(status, "")),
                PeerAnswer::Silent,
                "{status}"
            );
        }
        let promote = PeerQuestion::Promote { member: 5 };
        let refused = |status: u16, text: &'static str| answer_of(promote, &answer(status, text));
        assert_eq!(refused(404, ""), PeerAnswer::Refused(error::MEMBER_NOT_FOUND));
        assert_eq!(
            refused(
                412,
                "etcdserver: can only promote a learner member which is in sync with leader\n"
            ),
            PeerAnswer::Refused(error::LEARNER_NOT_READY)
        );
        assert_eq!(
            refused(412, "membership: can only promote a learner member\n"),
            PeerAnswer::Refused(error::MEMBER_NOT_LEARNER)
        );
        assert_eq!(refused(500, "{}"), PeerAnswer::Silent);
        assert_eq!(refused(200, "[]\n"), PeerAnswer::Promoted(vec![]));
    }
}
