//! What the headers of a request say, and the answers to those that are no calls
//! (grpc-go: internal/transport/http2_server.go operateHeaders).

use api::error::{Code, Status};
use http::{Response, StatusCode};
use member::frontend;

use super::sender::trailers_only;
use super::status;

/// What the headers of a request say.
pub(super) struct Admitted {
    pub(super) context: frontend::Context,
    pub(super) encoding: Option<String>,
}

/// An answer to a request that is no call.
pub(super) struct Refusal {
    http: StatusCode,
    status: Status,
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<()> {
        let mut response = trailers_only(&Err(self.status));
        *response.status_mut() = self.http;
        response
    }
}

/// Reads the headers of a request that has come now.
pub(super) fn admit(parts: &http::request::Parts, now: api::clock::Instant) -> Result<Admitted, Refusal> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = header("content-type").unwrap_or_default();
    let is_grpc = content_type
        .strip_prefix("application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
    if !is_grpc {
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
    Ok(Admitted {
        context: frontend::Context {
            deadline,
            require_leader: header("hasleader") == Some("true"),
        },
        encoding: header("grpc-encoding").map(str::to_string),
    })
}
