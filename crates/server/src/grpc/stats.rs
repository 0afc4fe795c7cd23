//! The line about a unary call: of each at level debug, of those that took long otherwise
//! (etcd: v3rpc/interceptor.go logUnaryRequestStats). Never changes an answer.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use api::error::Status;
use api::etcdserverpb as pb;
use bytes::Bytes;
use member::frontend::Method;
use prost::Message;

use crate::log::{Level, Log, request, timestamp};
use crate::metrics::span;

/// Counts and sizes of a request and of its answer; -1 where etcd does not look.
struct Stats {
    request_count: i64,
    request_size: i64,
    response_count: i64,
    response_size: i64,
    content: String,
}

/// Logs a call that took so long and ended with this.
pub(super) fn note(
    log: &Log,
    method: Method,
    message: &Bytes,
    result: &Result<Bytes, Status>,
    took: Duration,
    took_max: Duration,
    remote: Option<SocketAddr>,
) {
    let level = match (log.is_on(Level::Debug), took > took_max) {
        (true, _) => Level::Debug,
        (false, true) => Level::Warn,
        (false, false) => return,
    };
    // Go's name for a socket without one.
    let remote = remote.map_or("@".to_string(), |remote| remote.to_string());
    let stats = stats(method, message, result.as_ref().ok());
    log.line(level, "request stats")
        .text("start time", timestamp(SystemTime::now() - took))
        .show("time spent", span(took))
        .text("remote", &remote)
        .text("response type", method.path())
        .num("request count", stats.request_count)
        .num("request size", stats.request_size)
        .num("response count", stats.response_count)
        .num("response size", stats.response_size)
        .text("request content", stats.content)
        .emit();
}

fn stats(method: Method, message: &Bytes, answer: Option<&Bytes>) -> Stats {
    let sized = |request_count, response_count, content| Stats {
        request_count,
        request_size: length(message),
        response_count,
        response_size: answer.map_or(0, length),
        content,
    };
    match method {
        Method::Range => {
            let request = pb::RangeRequest::decode(message.clone()).unwrap_or_default();
            let count = answer.and_then(|answer| pb::RangeResponse::decode(answer.clone()).ok());
            sized(
                0,
                count.map_or(0, |answer| answer.count),
                request::range(&request),
            )
        }
        Method::Put => {
            let request = pb::PutRequest::decode(message.clone()).unwrap_or_default();
            sized(1, 0, request::put(&request))
        }
        Method::DeleteRange => {
            let request = pb::DeleteRangeRequest::decode(message.clone()).unwrap_or_default();
            let deleted = answer.and_then(|answer| pb::DeleteRangeResponse::decode(answer.clone()).ok());
            let deleted = deleted.map_or(0, |answer| answer.deleted);
            sized(0, deleted, request::delete_range(&request))
        }
        Method::Txn => {
            let request = pb::TxnRequest::decode(message.clone()).unwrap_or_default();
            let answer = answer.and_then(|answer| pb::TxnResponse::decode(answer.clone()).ok());
            let Some(answer) = answer else {
                return sized(0, 0, String::new());
            };
            // What was done: one of the two branches.
            let ops = match answer.succeeded {
                true => &request.success,
                false => &request.failure,
            };
            let size: usize = ops.iter().map(Message::encoded_len).sum();
            Stats {
                request_size: i64::try_from(size).unwrap_or(i64::MAX),
                ..sized(
                    i64::try_from(ops.len()).unwrap_or(i64::MAX),
                    0,
                    request::txn(&request),
                )
            }
        }
        _ => Stats {
            request_count: -1,
            request_size: -1,
            response_count: -1,
            response_size: -1,
            content: String::new(),
        },
    }
}

fn length(bytes: &Bytes) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_as_etcd_counts_them() {
        let put: Bytes = pb::PutRequest {
            key: "k".into(),
            value: "secret".into(),
            ..Default::default()
        }
        .encode_to_vec()
        .into();
        let found = stats(Method::Put, &put, Some(&Bytes::from_static(b"1234")));
        assert_eq!((found.request_count, found.request_size), (1, put.len() as i64));
        assert_eq!((found.response_count, found.response_size), (0, 4));
        assert_eq!(found.content, "key:\"k\" value_size:6 ");
        let range = pb::RangeResponse {
            count: 7,
            ..Default::default()
        };
        let found = stats(Method::Range, &Bytes::new(), Some(&range.encode_to_vec().into()));
        assert_eq!(found.response_count, 7);
        assert_eq!(stats(Method::Status, &put, None).request_count, -1);
    }
}
