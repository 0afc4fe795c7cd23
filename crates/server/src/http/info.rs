//! `/version`, `/metrics`, and what a lone member's peer port answers.

use std::rc::Rc;
use std::time::SystemTime;

use api::version::{Line, Version};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::json;

use super::body::{Body, Inbound};
use super::{json as json_response, only_get, plain};
use crate::front::Front;
use crate::metrics::Text;

/// `/version`.
pub fn version(front: &Front) -> Response<Body> {
    let facts = front.common.shared.facts();
    let line = front.common.config.emulated;
    let text = |version: Option<Version>, none: &str| {
        version.map_or(none.to_string(), |version| version.to_string())
    };
    let server = line.release();
    let cluster = text(facts.cluster_version, "not_decided");
    let storage = text(facts.storage_version, "unknown");
    // In this order, as etcd's.
    let body = match line {
        Line::V3_5 => format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}"}}"#),
        Line::V3_6 | Line::V3_7 => {
            format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#)
        }
    };
    json_response(StatusCode::OK, body)
}

/// The peer port of a member that is alone.
pub fn peer(front: &Rc<Front>, request: &Request<Inbound>) -> Response<Body> {
    let cluster_id = format!("{:x}", front.common.shared.cluster_id);
    let mut response = match request.uri().path() {
        "/version" => only_get(request, || version(front)),
        "/members" => only_get(request, || members(front)),
        "/raft/probing" => {
            let now = crate::log::timestamp(SystemTime::now());
            json_response(StatusCode::OK, json!({ "OK": true, "Now": now }).to_string())
        }
        path if path.starts_with("/raft") => plain(
            StatusCode::NOT_IMPLEMENTED,
            "this member is alone: it does not speak with other members yet",
        ),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    };
    if let Ok(value) = HeaderValue::from_str(&cluster_id) {
        response.headers_mut().insert("x-etcd-cluster-id", value);
    }
    response
}

fn members(front: &Front) -> Response<Body> {
    let facts = front.common.shared.facts();
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
    json_response(StatusCode::OK, format!("{}\n", serde_json::Value::from(members)))
}

/// `/metrics`.
pub fn metrics(front: &Front) -> Response<Body> {
    let mut text = Text::default();
    let shared = &front.common.shared;
    let (pulse, facts) = (&shared.pulse, shared.facts());
    let view = front.common.views.load();
    let leader = pulse.leader();
    let labelled = |text: &mut Text, name: &str, help: &str, labels: String| {
        text.head(name, "gauge", help);
        text.labelled(name, &labels, 1);
    };
    text.gauge(
        "etcd_server_has_leader",
        "Whether a leader is known.",
        u8::from(leader != 0),
    );
    text.gauge(
        "etcd_server_is_leader",
        "Whether this member leads.",
        u8::from(leader == shared.member_id),
    );
    text.gauge(
        "etcd_server_is_learner",
        "Whether this member has no vote.",
        u8::from(pulse.is_learner()),
    );
    labelled(
        &mut text,
        "etcd_server_id",
        "The member's ID.",
        format!("server_id=\"{:x}\"", shared.member_id),
    );
    labelled(
        &mut text,
        "etcd_server_version",
        "The release that this member shows.",
        format!("server_version=\"{}\"", shared.line.release()),
    );
    if let Some(version) = facts.cluster_version {
        let label = format!("cluster_version=\"{}.{}\"", version.major, version.minor);
        labelled(&mut text, "etcd_cluster_version", "The cluster's version.", label);
    }
    // A counter by etcd's name, a gauge by nature.
    text.gauge(
        "etcd_server_proposals_committed_total",
        "The index up to which the log is committed.",
        pulse.committed(),
    );
    text.gauge(
        "etcd_server_proposals_applied_total",
        "The index up to which the log is applied.",
        shared.applied(),
    );
    text.gauge(
        "etcd_server_proposals_pending",
        "Calls that this front thread waits with.",
        front.in_flight(),
    );
    text.gauge(
        "etcd_server_quota_backend_bytes",
        "Bytes that the data file may have.",
        quota(front.common.config.quota_backend_bytes),
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes of the data file.",
        view.db.size(),
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of the data file that are in use.",
        view.db.size_in_use(),
    );
    text.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The store's revision.",
        view.revision,
    );
    text.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction.",
        view.compact_revision,
    );
    text.gauge(
        "etcd_debugging_mvcc_keys_total",
        "Keys in the store.",
        view.keys(),
    );
    front.common.metrics.write(&mut text);
    let mut response = Response::new(Body::full(text.finish()));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
    );
    response
}

/// The quota in effect: 0 stands for the default of 2 GiB, a negative one for none.
fn quota(given: i64) -> i64 {
    match given {
        0 => 2 << 30,
        given => given.max(0),
    }
}
