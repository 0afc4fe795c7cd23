//! What other members ask on the peers' port, beside raft's own paths (etcdhttp/peer.go). Every answer here
//! is at hand.

use bytes::Bytes;
use member::Shared;
use serde_json::json;
use transport::{Answer, Question, Reply};

use crate::http::version_text;

/// Answers a question.
pub fn answer(shared: &Shared, question: &Question, reply: Reply) {
    reply.send(match question.path.as_str() {
        "/version" => only_get(question, || json_answer(version_text(shared))),
        "/members" => only_get(question, || {
            json_answer(members(shared)).with("x-etcd-cluster-id", &format!("{:x}", shared.cluster_id))
        }),
        _ => Answer::error(404, "404 page not found"),
    });
}

fn only_get(question: &Question, answer: impl FnOnce() -> Answer) -> Answer {
    match question.method.as_str() {
        "GET" => answer(),
        _ => Answer::error(405, "Method Not Allowed").with("allow", "GET"),
    }
}

fn json_answer(text: String) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from(text),
    }
}

/// The members as etcd's membership package writes them.
fn members(shared: &Shared) -> String {
    let facts = shared.facts();
    let members: Vec<serde_json::Value> = facts
        .members
        .iter()
        .map(|member| {
            let mut value = json!({ "id": member.id, "peerURLs": member.peer_urls });
            if member.is_learner {
                value["isLearner"] = true.into();
            }
            if !member.name.is_empty() {
                value["name"] = member.name.clone().into();
            }
            if !member.client_urls.is_empty() {
                value["clientURLs"] = member.client_urls.clone().into();
            }
            value
        })
        .collect();
    format!("{}\n", serde_json::Value::from(members))
}
