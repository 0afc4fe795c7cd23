//! What a member answers on the peers' port beside raft's own paths: who the members are, which versions
//! run, hashes, and what a leader does for the clients of others. Never touches a socket.
//!
//! etcd: server/etcdserver/api/etcdhttp/peer.go, server/lease/leasehttp/http.go,
//! server/etcdserver/corrupt.go.

use std::rc::Rc;
use std::time::Duration;

use api::error;
use api::etcdserverpb::{
    HashKvResponse, LeaseKeepAliveRequest, LeaseTimeToLiveResponse, MemberPromoteResponse,
};
use api::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use bytes::Bytes;
use member::frontend::{Context, PeerCall};
use prost::Message;
use transport::{Answer, Question, Reply};

use super::words;
use crate::front::{Front, call};

/// How long a leader may take to apply what was committed when the question came (etcd:
/// lease/leasehttp/http.go, applyTimeout).
const LEASE_MAX: Duration = Duration::from_secs(1);
/// Bytes of a question about a lease (etcd: leasehttp/http.go, maxLeaseHTTPRequestSize).
const LEASE_BYTES_MAX: usize = 64 << 10;

const PROMOTE: &str = "/members/promote/";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

/// Answers a question of another member, or hangs up where etcd's handler would panic.
pub async fn answer(front: Rc<Front>, question: Question, reply: Reply) {
    let path = question.path.as_str();
    let answered = match path {
        "/version" => only("GET", &question, || {
            typed(JSON, crate::http::version_text(&front.common.shared))
        }),
        "/members" => only("GET", &question, || {
            typed(JSON, words::write_members(&front.common.shared.facts().members))
        })
        .with_cluster(&front),
        "/members/hashkv" => hash(&front, &question).await,
        "/downgrade/enabled" => downgrade_enabled(&front, &question).await.with_cluster(&front),
        "/leases" | "/leases/internal" => match lease(&front, &question).await {
            Some(answer) => answer,
            None => return,
        },
        _ if path.starts_with(PROMOTE) => promote(&front, &question).await.with_cluster(&front),
        _ => Answer::error(404, "404 page not found"),
    };
    reply.send(answered);
}

trait WithCluster {
    fn with_cluster(self, front: &Front) -> Answer;
}

impl WithCluster for Answer {
    /// Errors have it as well, but for a wrong method.
    fn with_cluster(self, front: &Front) -> Answer {
        match self.status {
            405 => self,
            _ => self.with(
                "X-Etcd-Cluster-ID",
                &format!("{:x}", front.common.shared.cluster_id),
            ),
        }
    }
}

fn typed(kind: &str, body: impl Into<Bytes>) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type".to_owned(), kind.to_owned())],
        body: body.into(),
    }
}

fn wrong_method(allowed: &str) -> Answer {
    Answer::error(405, "Method Not Allowed").with("Allow", allowed)
}

fn only(method: &str, question: &Question, answer: impl FnOnce() -> Answer) -> Answer {
    match question.method == method {
        true => answer(),
        false => wrong_method(method),
    }
}

fn within(front: &Front, span: Duration) -> Context {
    Context {
        deadline: Some(front.now() + span),
        ..Context::default()
    }
}

async fn hash(front: &Front, question: &Question) -> Answer {
    if question.method != "GET" {
        return wrong_method("GET");
    }
    let own = format!("{:x}", front.common.shared.cluster_id);
    if question
        .header("x-etcd-cluster-id")
        .is_some_and(|id| !id.is_empty() && id != own)
    {
        return Answer::error(412, "cluster ID mismatch");
    }
    let Some(revision) = words::hash_revision(&question.body) else {
        return Answer::error(400, "error unmarshalling request");
    };
    let found = call::peer(front, PeerCall::HashKv { revision }, Context::default()).await;
    match found.map(HashKvResponse::decode) {
        Ok(Ok(response)) => {
            let mut body = format!(
                r#"{{"header":{{"revision":{}}}"#,
                response.header.map_or(0, |header| header.revision)
            );
            for (name, number) in [
                ("hash", i64::from(response.hash)),
                ("compact_revision", response.compact_revision),
                ("hash_revision", response.hash_revision),
            ] {
                if number != 0 {
                    body.push_str(&format!(r#","{name}":{number}"#));
                }
            }
            body.push('}');
            typed(JSON, body).with_cluster(front)
        }
        Ok(Err(error)) => Answer::error(500, &error.to_string()),
        Err(status) if status == error::COMPACTED => {
            Answer::error(400, "mvcc: required revision has been compacted")
        }
        Err(status) if status == error::FUTURE_REV => {
            Answer::error(400, "mvcc: required revision is a future revision")
        }
        Err(status) => Answer::error(400, &status.message),
    }
}

async fn downgrade_enabled(front: &Front, question: &Question) -> Answer {
    if question.method != "GET" {
        return wrong_method("GET");
    }
    match call::peer(front, PeerCall::DowngradeEnabled, Context::default()).await {
        Ok(text) => Answer {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
            body: text,
        },
        Err(status) => Answer::error(500, &format!("failed linearized read: {}", status.message)),
    }
}

async fn lease(front: &Front, question: &Question) -> Option<Answer> {
    if question.method != "POST" {
        return Some(Answer::error(405, "Method Not Allowed"));
    }
    if question.body.len() > LEASE_BYTES_MAX {
        return Some(Answer::error(413, "request body too large"));
    }
    let unreadable = Some(Answer::error(400, "error unmarshalling request"));
    let is_renewal = question.path == "/leases";
    let asked = if is_renewal {
        let Ok(request) = LeaseKeepAliveRequest::decode(question.body.clone()) else {
            return unreadable;
        };
        PeerCall::Renew { lease: request.id }
    } else {
        let Ok(request) = LeaseInternalRequest::decode(question.body.clone()) else {
            return unreadable;
        };
        // etcd's handler dies of a question that asks nothing, and the connection ends.
        let request = request.lease_time_to_live_request?;
        PeerCall::TimeToLive {
            lease: request.id,
            keys: request.keys,
        }
    };
    let found = call::peer(front, asked, within(front, LEASE_MAX)).await;
    Some(match found {
        Ok(bytes) if is_renewal => typed(PROTOBUF, bytes),
        Ok(bytes) => {
            let response = LeaseInternalResponse {
                lease_time_to_live_response: LeaseTimeToLiveResponse::decode(bytes).ok(),
            };
            typed(PROTOBUF, response.encode_to_vec())
        }
        Err(status) if status == error::LEASE_NOT_FOUND => Answer::error(404, "lease not found"),
        Err(status) if status == error::TIMEOUT => {
            let text = "waiting for node to catch up its applied index has timed out";
            Answer::error(408, text)
        }
        Err(_) => Answer::error(400, "not a primary lessor"),
    })
}

async fn promote(front: &Front, question: &Question) -> Answer {
    if question.method != "POST" {
        return wrong_method("POST");
    }
    let id = &question.path[PROMOTE.len()..];
    let Ok(member) = id.parse::<u64>() else {
        return Answer::error(404, &format!("member {id} not found in cluster"));
    };
    match call::peer(front, PeerCall::Promote { member }, Context::default()).await {
        Ok(bytes) => {
            let members = MemberPromoteResponse::decode(bytes).unwrap_or_default().members;
            let members: Vec<member::Member> = members
                .into_iter()
                .map(|member| member::Member {
                    id: member.id,
                    name: member.name,
                    peer_urls: member.peer_ur_ls,
                    client_urls: member.client_ur_ls,
                    is_learner: member.is_learner,
                })
                .collect();
            typed(JSON, words::write_members(&members))
        }
        Err(status) => {
            let log = &front.common.log;
            log.warn("failed to promote a member")
                .text("member-id", format!("{member:x}"))
                .error(&status.message)
                .emit();
            if status == error::MEMBER_NOT_FOUND {
                Answer::error(404, "membership: ID not found")
            } else if status == error::MEMBER_NOT_LEARNER {
                Answer::error(412, "membership: can only promote a learner member")
            } else if status == error::LEARNER_NOT_READY {
                Answer::error(412, &status.message)
            } else {
                internal_error()
            }
        }
    }
}

/// What etcd says of anything else: etcdhttp/utils.go writeError.
fn internal_error() -> Answer {
    let mut answer = typed(JSON, r#"{"message":"Internal Server Error"}"#);
    answer.status = 500;
    answer
}
