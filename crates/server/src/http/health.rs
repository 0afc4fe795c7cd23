//! `/health`, `/livez` and `/readyz`: server/etcdserver/api/etcdhttp/health.go.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use api::error::Status;
use api::etcdserverpb::RangeRequest;
use http::{HeaderValue, Request, Response, StatusCode};
use member::frontend::{Context, Method, PeerCall};
use prost::Message;

use super::body::{Body, Inbound};
use super::{method_not_allowed, plain, query};
use crate::front::{Front, call};

const NOSPACE: i32 = 1;
const CORRUPT: i32 = 2;

/// `/health`, with `?serializable=true` and `?exclude=NOSPACE`.
pub async fn health(front: &Rc<Front>, request: &Request<Inbound>) -> Response<Body> {
    if request.method() != http::Method::GET {
        return method_not_allowed();
    }
    let excluded: Vec<&str> = query(request, "exclude").collect();
    let serializable = query(request, "serializable").next() == Some("true");
    let metrics = &front.common.metrics;
    let reason = match sickness(front, &excluded, serializable).await {
        None => {
            metrics.health_success.fetch_add(1, Ordering::Relaxed);
            let mut response = Response::new(Body::full(r#"{"health":"true","reason":""}"#));
            response.headers_mut().insert(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
            return response;
        }
        Some(reason) => reason,
    };
    metrics.health_failures.fetch_add(1, Ordering::Relaxed);
    let output = serde_json::json!({ "health": "false", "reason": reason }).to_string();
    front
        .common
        .log
        .warn("/health error")
        .text("output", &output)
        .num("status-code", 503)
        .emit();
    plain(StatusCode::SERVICE_UNAVAILABLE, output)
}

/// Why the member is not healthy.
async fn sickness(front: &Front, excluded: &[&str], serializable: bool) -> Option<String> {
    for alarm in &front.common.shared.facts().alarms {
        let name = match alarm.kind {
            NOSPACE => "NOSPACE",
            CORRUPT => "CORRUPT",
            _ => "UNKNOWN",
        };
        if !excluded.contains(&name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && front.common.shared.pulse.leader() == 0 {
        return Some("RAFT NO LEADER".to_string());
    }
    let status = read(front, serializable).await.err()?;
    let log = &front.common.log;
    log.warn("serving /health false; Range fails")
        .error(&status.message)
        .emit();
    Some(format!("RANGE ERROR:{}", status.message))
}

/// Reads one key, which need not exist: that reads work is what is asked.
async fn read(front: &Front, serializable: bool) -> Result<(), Status> {
    let request = RangeRequest {
        key: bytes::Bytes::from_static(&[0]),
        limit: 1,
        keys_only: true,
        serializable,
        ..Default::default()
    };
    let message = request.encode_to_vec().into();
    let context = Context {
        of_member: true,
        ..Context::default()
    };
    // Nobody may read a key while authentication is on, which says nothing about the member's health: another read that
    // takes consensus tells it.
    match front.common.shared.pulse.auth_is_on() {
        true if serializable => Ok(bytes::Bytes::new()),
        true => call::peer(front, PeerCall::DowngradeEnabled, context).await,
        false => call::unary(front, Method::Range, message, context).await,
    }
    .map(drop)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, front: &Front) -> Result<(), String> {
        let shared = &front.common.shared;
        match self {
            Check::DataCorruption => {
                let corrupt = shared.facts().alarms.iter().any(|alarm| alarm.kind == CORRUPT);
                if corrupt {
                    Err("alarm activated: CORRUPT".to_string())
                } else {
                    Ok(())
                }
            }
            Check::SerializableRead | Check::LinearizableRead => {
                let result = read(front, self == Check::SerializableRead).await;
                result.map_err(|status| format!("range error: {}", status.message))
            }
            Check::NonLearner if shared.pulse.is_learner() => Err("not supported for learner".to_string()),
            Check::NonLearner => Ok(()),
        }
    }
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

/// `/livez` and `/readyz`, with `?exclude=name` and `?verbose`, and each check under its name.
/// `None` if there is no such path.
pub async fn checks(front: &Rc<Front>, request: &Request<Inbound>) -> Option<Response<Body>> {
    let path = request.uri().path();
    let (kind, checks, rest) = match path.strip_prefix("/livez") {
        Some(rest) => ("livez", LIVEZ, rest),
        None => ("readyz", READYZ, path.strip_prefix("/readyz")?),
    };
    let chosen: Vec<Check> = match rest.strip_prefix('/') {
        None if rest.is_empty() => {
            let excluded: Vec<&str> = query(request, "exclude").collect();
            let kept = checks.iter().filter(|check| !excluded.contains(&check.name()));
            kept.copied().collect()
        }
        None => return None,
        Some(name) => vec![*checks.iter().find(|check| check.name() == name)?],
    };
    if request.method() != http::Method::GET {
        return Some(method_not_allowed());
    }
    let (mut report, mut failed) = (String::new(), false);
    for check in chosen {
        let outcome = check.run(front).await;
        front.common.metrics.checked(kind, check.name(), outcome.is_ok());
        match outcome {
            Ok(()) => report.push_str(&format!("[+]{} ok\n", check.name())),
            Err(error) => {
                failed = true;
                report.push_str(&format!("[-]{} failed: {error}\n", check.name()));
            }
        }
    }
    if failed {
        front
            .common
            .log
            .error("Health check error")
            .text("path", path)
            .text("reason", &report)
            .num("status-code", 503)
            .emit();
        return Some(plain(StatusCode::SERVICE_UNAVAILABLE, report));
    }
    let verbose = query(request, "verbose").next().is_some();
    let text = if verbose {
        format!("{report}ok")
    } else {
        "ok".to_string()
    };
    Some(plain(StatusCode::OK, text))
}
