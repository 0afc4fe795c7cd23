//! What the headers of a request say: whether it is gRPC's, what beside the message, and the answers to
//! those that are no calls (grpc-go: internal/transport/http2_server.go operateHeaders).

use api::error::{Code, Status};
use http::{HeaderValue, Response, StatusCode};
use member::frontend;

use super::sender::{CONTENT_TYPE, Manner, trailers_only};
use super::status;
use crate::http::{self as plain_http, Offer};

/// What a connection's listener serves.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// gRPC.
    pub grpc: bool,
    /// What it offers over HTTP.
    pub http: Option<Offer>,
    /// The connection is encrypted.
    pub tls: bool,
    /// Where the client is; `None` in the file system.
    pub remote: Option<std::net::SocketAddr>,
}

impl Terms {
    /// What answers a request over HTTP; `None` if it is gRPC's.
    ///
    /// On an encrypted connection as etcd has it: embed/serve.go grpcHandlerFunc. One in clear goes to
    /// gRPC alone in etcd, which answers 415 to all else; here what is known as HTTP is served as such.
    pub(super) fn offer(&self, parts: &http::request::Parts) -> Option<Offer> {
        let offer = self.http?;
        let content_type = parts.headers.get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default();
        let path = parts.uri.path();
        let is_http = match (self.grpc, self.tls) {
            (false, _) => true,
            (true, true) => !content_type.contains("application/grpc") || plain_http::is_gateway(path),
            (true, false) => !is_grpc(content_type) && plain_http::is_known(path),
        };
        is_http.then_some(offer)
    }

    /// Whether clients that ping too often are turned away: what carries gRPC beside HTTP on encrypted
    /// connections of etcd, Go's net/http, does not count pings.
    pub(super) fn counts_pings(&self) -> bool {
        !(self.tls && self.http.is_some())
    }
}

/// grpc-go: internal/grpcutil/method.go ContentSubtype.
fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// What the headers of a request say.
pub(super) struct Admitted {
    pub(super) context: frontend::Context,
    pub(super) encoding: Option<String>,
    /// The content type of the answer.
    pub(super) content_type: HeaderValue,
}

impl Admitted {
    /// How the call is answered.
    pub(super) fn manner(&self) -> Manner {
        Manner {
            content_type: self.content_type.clone(),
            zipped: self.encoding.as_deref() == Some("gzip"),
        }
    }
}

/// An answer to a request that is no call.
pub(super) struct Refusal {
    http: StatusCode,
    status: Status,
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<()> {
        let mut response = trailers_only(CONTENT_TYPE, &Err(self.status));
        *response.status_mut() = self.http;
        response
    }
}

/// Reads the headers of a request that has come now.
pub(super) fn admit(parts: &http::request::Parts, now: api::clock::Instant) -> Result<Admitted, Refusal> {
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        std::str::from_utf8(value.as_bytes()).ok()
    };
    let content_type = header("content-type").unwrap_or_default();
    if !is_grpc(content_type) {
        return Err(Refusal {
            http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            status: Status::with(
                Code::InvalidArgument,
                format!("invalid gRPC request content-type {content_type:?}"),
            ),
        });
    }
    let deadline = match header("grpc-timeout").map(status::parse_timeout) {
        None => None,
        Some(Ok(span)) => Some(now + span),
        Some(Err(status)) => {
            return Err(Refusal {
                http: StatusCode::BAD_REQUEST,
                status,
            });
        }
    };
    if parts.method != http::Method::POST {
        return Err(Refusal {
            http: StatusCode::METHOD_NOT_ALLOWED,
            status: Status::with(
                Code::Internal,
                format!(
                    "Received a HEADERS frame with :method \"{}\" which should be POST",
                    parts.method
                ),
            ),
        });
    }
    if let Some(status) = malformed_metadata(&parts.headers) {
        return Err(Refusal {
            http: StatusCode::BAD_REQUEST,
            status,
        });
    }
    Ok(Admitted {
        context: frontend::Context {
            deadline,
            require_leader: header("hasleader") == Some("true"),
            of_member: false,
        },
        encoding: header("grpc-encoding").map(str::to_string),
        content_type: answered(content_type),
    })
}

/// The content type of an answer: what messages are made of is said as the request says it.
fn answered(content_type: &str) -> HeaderValue {
    let rest = content_type.strip_prefix("application/grpc").unwrap_or_default();
    match rest.get(1..).filter(|subtype| !subtype.is_empty()) {
        None => CONTENT_TYPE,
        Some(subtype) => {
            let whole = HeaderValue::from_str(&format!("application/grpc+{subtype}"));
            whole.unwrap_or(CONTENT_TYPE)
        }
    }
}

/// What is wrong with metadata whose names say that they are in base64.
fn malformed_metadata(headers: &http::HeaderMap) -> Option<Status> {
    headers.iter().find_map(|(name, value)| {
        let name = name.as_str();
        let value = Some(value).filter(|_| name.ends_with("-bin"))?;
        let at = not_base64(value.as_bytes())?;
        let value = String::from_utf8_lossy(value.as_bytes());
        Some(Status::with(
            Code::Internal,
            format!("malformed binary metadata {value:?} in header {name:?}: illegal base64 data at input byte {at}"),
        ))
    })
}

/// Where a text stops being base64, which may come with its padding or without.
fn not_base64(text: &[u8]) -> Option<usize> {
    let padding = match text {
        _ if !text.len().is_multiple_of(4) => 0,
        [.., b'=', b'='] => 2,
        [.., b'='] => 1,
        _ => 0,
    };
    let letters = &text[..text.len() - padding];
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let wrong = letters.iter().position(|byte| !is_letter(byte));
    wrong.or((letters.len() % 4 == 1).then_some(letters.len() - letters.len() % 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_in_base64_is_looked_at() {
        for (text, at) in [
            ("", None),
            ("YQ==", None),
            ("YQ", None),
            ("YWJj", None),
            ("!!!", Some(0)),
            ("YWJj!", Some(4)),
            ("YWJjY", Some(4)),
            ("YQ=", Some(2)),
        ] {
            assert_eq!(not_base64(text.as_bytes()), at, "{text}");
        }
    }

    #[test]
    fn answers_name_the_kind_of_message_as_requests_do() {
        for (request, answer) in [
            ("application/grpc", "application/grpc"),
            ("application/grpc+", "application/grpc"),
            ("application/grpc+proto", "application/grpc+proto"),
            ("application/grpc;x", "application/grpc+x"),
        ] {
            assert_eq!(answered(request), answer);
        }
    }

    #[test]
    fn requests_are_told_apart_by_what_they_carry() {
        let terms = |grpc, http: bool, tls| Terms {
            grpc,
            http: http.then_some(Offer::Client { tls }),
            tls,
            remote: None,
        };
        let (clear, tls) = (terms(true, true, false), terms(true, true, true));
        let (grpc_alone, http_alone) = (terms(true, false, true), terms(false, true, false));
        const GRPC: &str = "application/grpc+proto";
        for (terms, path, content_type, is_http) in [
            (clear, "/etcdserverpb.KV/Range", GRPC, false),
            (clear, "/etcdserverpb.KV/Range", "application/json", false),
            (clear, "/v3/kv/range", "application/json", true),
            (clear, "/v3/kv/range", GRPC, false),
            (clear, "/health", "", true),
            (clear, "/healthy", "", false),
            (clear, "/readyz/non_learner", "", true),
            (tls, "/etcdserverpb.KV/Range", GRPC, false),
            (tls, "/etcdserverpb.KV/Range", "x application/grpc", false),
            (tls, "/etcdserverpb.KV/Range", "", true),
            (tls, "/v3/kv/range", GRPC, true),
            (tls, "/nope", "", true),
            (grpc_alone, "/health", "", false),
            (http_alone, "/etcdserverpb.KV/Range", GRPC, true),
        ] {
            let request = http::Request::builder()
                .uri(path)
                .header("content-type", content_type);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let offer = terms.offer(&parts);
            assert_eq!(offer.is_some(), is_http, "{terms:?} {path} {content_type}");
        }
        assert!(clear.counts_pings() && grpc_alone.counts_pings() && !tls.counts_pings());
    }
}
