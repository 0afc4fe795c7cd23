//! The JSON gateway: calls of the client API as POST requests under `/v3/`.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use api::error::{Code, Status};
use api::version::Line;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode};
use member::frontend::{self, Method, Shape, StreamPoll};

use super::body::{Body, Inbound};
use super::{json, plain, transcode};
use crate::front::{Front, call};
use crate::services::Route;

/// What a message may grow by as JSON: base64, quotes and names.
const JSON_FACTOR: usize = 2;
/// Bytes asked of a stream at a time.
const STREAM_BATCH: usize = 64 << 10;

/// Answers a request for `/v3/{path}`.
pub async fn respond(front: Rc<Front>, path: &str, request: Request<Inbound>) -> Response<Body> {
    let line = front.common.config.emulated;
    let method = match routed(path, request.method()) {
        Ok(method) => method,
        Err(code) => return unrouted(code, line),
    };
    match call(&front, method, request).await {
        Ok(response) => response,
        Err(status) => refuse(&status, line),
    }
}

/// The call of a path, or why there is none.
fn routed(path: &str, verb: &http::Method) -> Result<Method, Code> {
    let method = transcode::method(path).ok_or(Code::NotFound)?;
    match *verb == http::Method::POST {
        true => Ok(method),
        false => Err(Code::Unimplemented),
    }
}

/// Answers a request without a call: grpc-gateway v1, which 3.5 uses, in plain text.
fn unrouted(code: Code, line: Line) -> Response<Body> {
    let (http, message) = match code {
        Code::NotFound => (StatusCode::NOT_FOUND, "Not Found"),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    };
    match line {
        Line::V3_5 => plain(http, message),
        Line::V3_6 | Line::V3_7 => refuse(&Status::new(code, message), line),
    }
}

fn refuse(status: &Status, line: Line) -> Response<Body> {
    let http = transcode::http_status(status.code);
    json(http, transcode::error(status, line).to_string())
}

async fn call(
    front: &Rc<Front>,
    method: Method,
    request: Request<Inbound>,
) -> Result<Response<Body>, Status> {
    let route = Route::find(method.path(), front.common.config.emulated)?;
    let bytes_max = front.common.config.max_request_bytes.saturating_mul(JSON_FACTOR) + (512 << 10);
    let body = read(request, bytes_max).await?;
    let mut requests = transcode::requests(method, &body, front.common.config.emulated)?;
    let context = frontend::Context::default();
    let metrics = &front.common.metrics;
    metrics.started(route);
    if method.shape() == Shape::Unary {
        // An empty body is an empty message.
        let message = if requests.is_empty() {
            Bytes::new()
        } else {
            requests.swap_remove(0)
        };
        let result = call::unary(front, method, message, context).await;
        metrics.handled(
            route,
            result.as_ref().err().map_or(Code::Ok, |status| status.code),
        );
        let answer = transcode::answer(method, result?)?;
        return Ok(from_grpc(json(StatusCode::OK, answer.to_string())));
    }
    if requests.is_empty() && method.shape() == Shape::ServerStream {
        requests.push(Bytes::new());
    }
    let stream = call::Stream::open(front, method, context)?;
    for message in requests {
        stream.message(message);
    }
    stream.finish();
    let stopped = {
        let front = front.clone();
        Box::pin(async move { front.stopped().await })
    };
    let lines = Lines {
        front: front.clone(),
        stopped,
        stream: Some(stream),
        method,
    };
    let mut response = Response::new(Body::lines(lines));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(from_grpc(response))
}

/// grpc-gateway passes the headers of the inner call on; this is the one there is.
fn from_grpc(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(
        "grpc-metadata-content-type",
        HeaderValue::from_static("application/grpc"),
    );
    response
}

async fn read(request: Request<Inbound>, bytes_max: usize) -> Result<Bytes, Status> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(data) = std::future::poll_fn(|cx| body.poll_next(cx)).await {
        let data = data.map_err(|error| Status::with(Code::InvalidArgument, error))?;
        if bytes.len() + data.len() > bytes_max {
            return Err(Status::with(
                Code::ResourceExhausted,
                format!("request body larger than {bytes_max} bytes"),
            ));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// A stream of the front as lines of JSON.
pub struct Lines {
    front: Rc<Front>,
    /// Completes when the server stops: then the stream ends.
    stopped: Pin<Box<dyn Future<Output = ()>>>,
    /// `None` after its end.
    stream: Option<call::Stream>,
    method: Method,
}

impl Lines {
    /// The next lines.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let polled = match stream.poll_next(cx, STREAM_BATCH) {
            Poll::Pending if self.stopped.as_mut().poll(cx).is_ready() => StreamPoll {
                end: Some(Err(api::error::STOPPED)),
                ..StreamPoll::default()
            },
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(polled)) => polled,
        };
        let mut out = String::new();
        let mut failure = None;
        for frame in polled.frames {
            match transcode::answer(self.method, frame.parts.concat().into()) {
                Ok(answer) => {
                    out.push_str(&serde_json::json!({ "result": answer }).to_string());
                    out.push('\n');
                }
                Err(status) => failure = Some(status),
            }
        }
        if let Some(end) = polled.end {
            let status = end.as_ref().err().cloned();
            let code = status.as_ref().map_or(Code::Ok, |status| status.code);
            self.front
                .common
                .metrics
                .handled(Route::Member(self.method), code);
            failure = failure.or(status);
            self.stream = None;
        }
        if let Some(status) = failure {
            let line = self.front.common.config.emulated;
            out.push_str(&transcode::stream_error(&status, line).to_string());
            out.push('\n');
            self.stream = None;
        }
        match out.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(out.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As real etcd of each line answers.
    #[test]
    fn requests_without_a_call_are_refused_as_the_line_does() {
        let (get, put, post) = (http::Method::GET, http::Method::PUT, http::Method::POST);
        for (path, verb, old, new) in [
            ("", &post, 404, 404),
            ("nope", &post, 404, 404),
            ("nope", &get, 404, 404),
            ("kv/range/", &post, 404, 404),
            ("kv/range", &get, 405, 501),
            ("watch", &put, 405, 501),
        ] {
            let code = routed(path, verb).unwrap_err();
            for (line, status, content) in [
                (Line::V3_5, old, "text/plain; charset=utf-8"),
                (Line::V3_6, new, "application/json"),
                (Line::V3_7, new, "application/json"),
            ] {
                let response = unrouted(code, line);
                assert_eq!(response.status(), status, "{line:?} {verb} {path}");
                assert_eq!(response.headers()[http::header::CONTENT_TYPE], content);
            }
        }
        assert_eq!(routed("kv/range", &post), Ok(Method::Range));
    }
}
