//! Messages as JSON and back, by grpc-gateway's conventions with etcd's options: names as in the
//! .proto files (the camel-case ones are read as well), 64-bit numbers as texts, bytes in base64,
//! defaults left out, unknown fields passed over.

mod old;
mod read;
mod scan;
mod token;
mod write;

use std::sync::LazyLock;

use api::error::{Code, Status};
use api::version::Line;
use bytes::Bytes;
use http::StatusCode;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use self::scan::Scanner;
pub use self::write::{Escapes, base64};
use crate::services::Route;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(api::DESCRIPTORS).expect("the build has compiled the descriptors")
});

fn descriptor(route: Route) -> MethodDescriptor {
    let (service, name) = route.names();
    let service = POOL.get_service_by_name(service);
    let mut methods = service
        .iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let found = methods.find(|method| method.name() == name);
    found.expect("routes are those of the descriptors: a test of the gateway holds it")
}

/// The requests in a body, of which more and more comes.
pub struct Requests {
    scanner: Scanner,
    descriptor: MessageDescriptor,
    line: Line,
}

impl Requests {
    /// Nothing read.
    pub fn new(route: Route, line: Line) -> Requests {
        Requests {
            scanner: Scanner::new(),
            descriptor: descriptor(route).input(),
            line,
        }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.scanner.push(bytes);
    }

    /// Bytes that wait to become a request.
    pub fn held(&self) -> usize {
        self.scanner.held()
    }

    /// The next request; `None` if more bytes are needed, or, of a body that `ended`, that there is none.
    pub fn next(&mut self, ended: bool) -> Result<Option<Bytes>, Status> {
        let read = self.scanner.next(ended).and_then(|value| match value {
            None => Ok(None),
            Some(value) => match self.line {
                Line::V3_5 => old::read(&self.descriptor, &value).map(Some),
                Line::V3_6 | Line::V3_7 => read::read(&self.descriptor, &value).map(Some),
            },
        });
        read.map_err(|error| Status::with(Code::InvalidArgument, error))
    }
}

/// An encoded answer as JSON.
pub fn answer(route: Route, message: Bytes, escapes: Escapes) -> Result<String, Status> {
    write::write(descriptor(route).output(), message, escapes)
        .map_err(|error| Status::with(Code::Internal, error))
}

/// An error as JSON: grpc-gateway v2, which 3.6 and 3.7 use, and v1 of 3.5.
pub fn error(status: &Status, line: Line) -> String {
    let (code, message) = (status.code.number(), write::text(&status.message, Escapes::Json));
    match line {
        Line::V3_5 => format!("{{\"error\":{message},\"code\":{code},\"message\":{message}}}"),
        Line::V3_6 | Line::V3_7 => format!("{{\"code\":{code},\"message\":{message}}}"),
    }
}

/// An error in the middle of a stream.
pub fn stream_error(status: &Status, line: Line) -> String {
    let (code, message) = (status.code.number(), write::text(&status.message, Escapes::Html));
    match line {
        Line::V3_5 => {
            let http = http_status(status.code);
            let (number, reason) = (http.as_u16(), http.canonical_reason().unwrap_or_default());
            format!(
                "{{\"error\":{{\"grpc_code\":{code},\"http_code\":{number},\"message\":{message},\"http_status\":\"{reason}\"}}}}"
            )
        }
        Line::V3_6 | Line::V3_7 => format!("{{\"error\":{{\"code\":{code},\"message\":{message}}}}}"),
    }
}

/// grpc-gateway runtime/errors.go HTTPStatusFromCode.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::etcdserverpb as pb;
    use member::frontend::Method;
    use prost::Message;

    /// All requests of a body, up to one that cannot be read if there was one before it.
    fn requests(method: Method, body: &[u8], line: Line) -> Result<Vec<Bytes>, Status> {
        let mut requests = Requests::new(Route::Member(method), line);
        requests.push(body);
        let mut read = Vec::new();
        loop {
            match requests.next(true) {
                Ok(Some(request)) => read.push(request),
                Err(status) if read.is_empty() => return Err(status),
                Ok(None) | Err(_) => return Ok(read),
            }
        }
    }

    /// Bodies as etcd 3.7.1 takes them.
    #[test]
    fn requests_are_read_in_every_spelling() {
        let range = |body: &str| {
            let mut read = requests(Method::Range, body.as_bytes(), Line::V3_7).unwrap();
            pb::RangeRequest::decode(read.remove(0)).unwrap()
        };
        let request =
            range(r#"{"key":"Zm9v","sort_order":"DESCEND","limit":"3","keysOnly":true,"bogus":[1]}"#);
        assert_eq!(request.key, "foo");
        assert_eq!((request.limit, request.sort_order), (3, 2));
        assert!(request.keys_only);
        let request = range(r#"{"key":"Zm9v","sort_order":2,"limit":3}"#);
        assert_eq!((request.limit, request.sort_order), (3, 2));

        assert_eq!(requests(Method::Range, b" ", Line::V3_7), Ok(vec![]));
        let two = requests(Method::LeaseKeepAlive, br#"{"ID":7}{"ID":"8"} x"#, Line::V3_7).unwrap();
        let ids: Vec<i64> = two
            .into_iter()
            .map(|message| pb::LeaseKeepAliveRequest::decode(message).unwrap().id)
            .collect();
        assert_eq!(ids, [7, 8]);
        for body in [
            "xx",
            "{\"key\":5}",
            "{\"key\":\"!\"}",
            "[",
            "{\"limit\":\"x\"}",
            "5",
        ] {
            let error = requests(Method::Range, body.as_bytes(), Line::V3_7).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{body}");
        }
    }

    const LINES: [Line; 3] = [Line::V3_5, Line::V3_6, Line::V3_7];

    /// What real etcd 3.5.x, and 3.6.x and 3.7.1 read of a body: equal to what another body says, or
    /// nothing where they answer 400.
    #[test]
    fn each_line_reads_in_its_own_way() {
        const A: &str = r#"{"key":"YQ=="}"#;
        const A1: &str = r#"{"key":"YQ==","limit":1}"#;
        let range: &[(&str, Option<&str>, Option<&str>)] = &[
            ("null", Some("{}"), None),
            (" nullx", Some("{}"), None),
            (r#"{"key":"YQ=="} x"#, Some(A), Some(A)),
            (r#"{"key":"YQ=="}}"#, Some(A), Some(A)),
            (r#"{"key":"YQ=="} {"key":5}"#, Some(A), Some(A)),
            (r#"x {"key":"YQ=="}"#, None, None),
            (r#"{"key":"","key":"YQ=="}"#, Some(A), None),
            (r#"{"nope":1,"nope":2,"key":"YQ=="}"#, Some(A), Some(A)),
            (r#"{"key":"YQ==","limit":5,"limit":null}"#, Some(A), None),
            (
                r#"{"rangeEnd":"AA==","range_end":"YQ=="}"#,
                Some(r#"{"range_end":"AA=="}"#),
                None,
            ),
            (r#"{"key":[97]}"#, Some(A), None),
            (r#"{"key":[300]}"#, None, None),
            (r#"{"\ud83d":1,"key":"YQ==","limit":"1\udc00"}"#, None, None),
            (
                r#"{"a":"\ud83d","b":"\ud83d\ude00\\u","key":"YQ=="}"#,
                Some(A),
                None,
            ),
            (r#"{"key":"YQ"}"#, None, Some(A)),
            (r#"{"key":"YQ="}"#, None, None),
            (r#"{"key":"YR=="}"#, Some(A), Some(A)),
            (r#"{"key":"Y\nQ==\r\n"}"#, Some(A), None),
            (r#"{"key":"_-8="}"#, None, Some(r#"{"key":"/+8="}"#)),
            (r#"{"key":"YQ==","limit":1e0}"#, None, Some(A1)),
            (r#"{"key":"YQ==","limit":1.0}"#, None, Some(A1)),
            (r#"{"key":"YQ==","limit":"1e0"}"#, None, Some(A1)),
            (r#"{"key":"YQ==","limit":1.5}"#, None, None),
            (r#"{"key":"YQ==","limit":" 1"}"#, Some(A1), None),
            (r#"{"key":"YQ==","limit":"+1"}"#, None, None),
            (r#"{"key":"YQ==","limit":"01"}"#, None, None),
            (r#"{"key":"YQ==","limit":""}"#, None, None),
            (r#"{"key":"YQ==","limit":"null"}"#, Some(A), None),
            (r#"{"key":"YQ==","limit":null}"#, Some(A), Some(A)),
            (r#"{"key":"YQ==","limit":-0}"#, Some(A), Some(A)),
            (r#"{"key":"YQ==","limit":1e19}"#, None, None),
            (r#"{"key":"YQ==","limit":-9223372036854775809}"#, None, None),
            (r#"{"key":"YQ==","keys_only":"true"}"#, None, None),
            (r#"{"key":"YQ==","sort_order":"1"}"#, None, Some(A)),
            (r#"{"sort_order":1.0}"#, None, Some(r#"{"sort_order":"ASCEND"}"#)),
        ];
        let txn: &[(&str, Option<&str>, Option<&str>)] = &[
            (r#"{"success":[null]}"#, Some(r#"{"success":[{}]}"#), None),
            (r#"{"success":{}}"#, None, None),
            (
                r#"{"success":[{"request_put":{"key":"YQ==","key":"YQ=="}}]}"#,
                Some(r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#),
                None,
            ),
            (
                r#"{"success":[{"request_put":{},"request_range":{}}]}"#,
                Some(r#"{"success":[{"request_put":{}}]}"#),
                None,
            ),
        ];
        let alarm: &[(&str, Option<&str>, Option<&str>)] = &[(r#"{"action":"NOPE"}"#, None, Some("{}"))];
        for (method, table) in [(Method::Range, range), (Method::Txn, txn), (Method::Alarm, alarm)] {
            for (body, old, new) in table {
                for (line, expect) in [(Line::V3_5, old), (Line::V3_6, new), (Line::V3_7, new)] {
                    let read = requests(method, body.as_bytes(), line);
                    let plain = expect.map(|body| requests(method, body.as_bytes(), line).unwrap());
                    assert_eq!(read.as_ref().ok(), plain.as_ref(), "{line:?} {body}");
                    assert!(read.map_or_else(|error| error.code == Code::InvalidArgument, |r| !r.is_empty()));
                }
            }
        }
    }

    /// Sentences of real etcd where they do not depend on a place in the text.
    #[test]
    fn refusals_of_bodies_have_the_words_of_etcd() {
        let refusal = |method, body: &str, line| {
            let status = requests(method, body.as_bytes(), line).unwrap_err();
            status.message.to_string()
        };
        assert_eq!(
            refusal(Method::Range, "null", Line::V3_7),
            "proto: syntax error (line 1:1): unexpected token null"
        );
        assert_eq!(
            refusal(Method::Alarm, r#"{"action":"NOPE"}"#, Line::V3_5),
            r#"unknown value "\"NOPE\"" for enum etcdserverpb.AlarmRequest.AlarmAction"#
        );
    }

    /// Bodies that etcd 3.7.1 gave, without the spaces that Go's protojson strews in.
    #[test]
    fn answers_are_those_of_etcd() {
        let header = Some(pb::ResponseHeader {
            cluster_id: 15_118_495_548_433_857_066,
            member_id: 13_668_033_151_171_901_709,
            revision: 5,
            raft_term: 2,
        });
        let check = |method, message: Vec<u8>, expect: &str| {
            let text = answer(Route::Member(method), message.into(), Escapes::Json).unwrap();
            assert_eq!(text, expect, "{method:?}");
        };
        let kv = api::mvccpb::KeyValue {
            key: "foo".into(),
            create_revision: 4,
            mod_revision: 5,
            version: 2,
            value: "bar".into(),
            lease: 0,
        };
        check(
            Method::Range,
            pb::RangeResponse {
                header,
                kvs: vec![kv],
                more: false,
                count: 1,
            }
            .encode_to_vec(),
            r#"{"header":{"cluster_id":"15118495548433857066","member_id":"13668033151171901709","revision":"5","raft_term":"2"},"kvs":[{"key":"Zm9v","create_revision":"4","mod_revision":"5","version":"2","value":"YmFy"}],"count":"1"}"#,
        );
        check(
            Method::LeaseTimeToLive,
            pb::LeaseTimeToLiveResponse {
                header: None,
                id: 7,
                ttl: 99,
                granted_ttl: 100,
                keys: vec![],
            }
            .encode_to_vec(),
            r#"{"ID":"7","TTL":"99","grantedTTL":"100"}"#,
        );
        check(
            Method::Status,
            pb::StatusResponse {
                version: "3.7.1".into(),
                db_size: 20_480,
                leader: 1,
                downgrade_info: Some(pb::DowngradeInfo::default()),
                ..Default::default()
            }
            .encode_to_vec(),
            r#"{"version":"3.7.1","dbSize":"20480","leader":"1","downgradeInfo":{}}"#,
        );
    }

    #[test]
    fn errors_have_the_form_of_the_line() {
        let status = api::error::EMPTY_KEY;
        assert_eq!(
            error(&status, Line::V3_7),
            r#"{"code":3,"message":"etcdserver: key is not provided"}"#
        );
        assert_eq!(
            error(&status, Line::V3_5),
            r#"{"error":"etcdserver: key is not provided","code":3,"message":"etcdserver: key is not provided"}"#
        );
        assert_eq!(
            stream_error(&status, Line::V3_7),
            r#"{"error":{"code":3,"message":"etcdserver: key is not provided"}}"#
        );
        assert_eq!(
            stream_error(&status, Line::V3_5),
            r#"{"error":{"grpc_code":3,"http_code":400,"message":"etcdserver: key is not provided","http_status":"Bad Request"}}"#
        );
        assert_eq!(http_status(Code::OutOfRange), 400);
    }

    /// Any body at all may come from a client.
    #[test]
    fn the_reader_takes_anything() {
        let mut random = fastrand::Rng::with_seed(11);
        let parts = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"key\"",
            "\"Zg==\"",
            "1",
            "null",
            "\"compare\"",
            "\"x\"",
            "\\",
        ];
        for _ in 0..2000 {
            let body: String = (0..random.usize(..20))
                .map(|_| parts[random.usize(..parts.len())])
                .collect();
            for line in LINES {
                let _ = requests(Method::Txn, body.as_bytes(), line);
            }
        }
        let deep = "{\"success\":[{\"request_txn\":".repeat(5000);
        for line in LINES {
            assert!(requests(Method::Txn, deep.as_bytes(), line).is_err());
        }
    }
}
