//! `/debug/vars`: Go's expvar page, with what etcd puts there (etcdhttp/debug.go).

use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::body::Body;
use crate::front::Front;
use crate::metrics::Process;

/// The page.
pub fn vars(front: &Front) -> Response<Body> {
    let process = Process::now();
    let vars = [
        ("cmdline", Value::from(std::env::args().collect::<Vec<String>>())),
        ("file_descriptor_limit", process.fds_max.into()),
        ("memstats", memory(&process)),
        ("raft.status", raft(front)),
    ];
    let lines: Vec<String> = vars
        .into_iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    let mut response = Response::new(Body::full(format!("{{\n{}\n}}\n", lines.join(",\n"))));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

/// Fields of Go's `runtime.MemStats` that have a meaning here.
fn memory(process: &Process) -> Value {
    json!({
        "Alloc": process.anonymous_bytes,
        "Sys": process.data_bytes + process.stack_bytes,
        "HeapAlloc": process.anonymous_bytes,
        "HeapInuse": process.anonymous_bytes,
        "HeapSys": process.data_bytes,
        "StackInuse": process.stack_bytes,
        "StackSys": process.stack_bytes,
        "NumGC": 0,
        "EnableGC": false,
    })
}

fn raft(front: &Front) -> Value {
    let shared = &front.common.shared;
    let pulse = &shared.pulse;
    let (id, leader) = (format!("{:x}", shared.member_id), pulse.leader());
    let leads = leader == shared.member_id;
    let applied = shared.applied();
    let mut progress = serde_json::Map::new();
    if leads {
        progress.insert(
            id.clone(),
            json!({ "match": pulse.committed(), "next": pulse.committed() + 1, "state": "StateReplicate" }),
        );
    }
    json!({
        "id": id,
        "term": pulse.term(),
        // The vote is the leader's, as far as anybody here can tell.
        "vote": format!("{leader:x}"),
        "commit": pulse.committed(),
        "lead": format!("{leader:x}"),
        "raftState": if leads { "StateLeader" } else { "StateFollower" },
        "applied": applied,
        "progress": progress,
        "leadtransferee": "0",
    })
}
