//! The JSON gateway: calls of the client API as POST requests under `/v3/`, as grpc-gateway has them.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use api::error::{self, Code, Status};
use api::version::Line;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use member::frontend::{self, Method, Shape, StreamPoll};
use tokio::sync::SemaphorePermit;

use super::body::{Body, Inbound};
use super::routes;
use super::transcode::{self, Escapes, Requests};
use super::{json, plain};
use crate::front::{Common, Front, call};
use crate::metrics::UNKNOWN_VERSION;
use crate::services::recipes::Answers;
use crate::services::{Recipe, Route};

/// What a message may grow by as JSON: bytes in base64, each letter of which may be written `\u0041`.
const JSON_FACTOR: usize = 8;
/// What a message may have beside `--max-request-bytes`: embed/config.go grpcOverheadBytes.
const OVERHEAD_BYTES: usize = 512 << 10;
/// Bytes asked of a stream at a time.
const STREAM_BATCH: usize = 64 << 10;

/// Answers a request for `/v3/{path}`.
pub async fn respond(front: Rc<Front>, path: &str, request: Request<Inbound>) -> Response<Body> {
    let line = front.common.config.emulated;
    let (head, mut body) = request.into_parts();
    let mut verb = head.method.clone();
    if let Some(other) = overridden(&head) {
        // Go has read the body as a form by then.
        (verb, body) = (other, Inbound::Empty);
    }
    let route = match routed(path, &verb) {
        Ok(route) => route,
        Err(code) => return unrouted(code, line),
    };
    let context = match context(&head.headers, front.now()) {
        Ok(context) => context,
        Err(status) => return refuse(&status, line),
    };
    let exchange = Exchange {
        front,
        route,
        context,
        body,
        requests: Requests::new(route, line),
    };
    let responded = match route.shape() {
        Shape::Unary => exchange.unary().await,
        Shape::ServerStream | Shape::Duplex => exchange.stream().await,
    };
    responded.unwrap_or_else(|status| refuse(&status, line))
}

/// The method that a form asks for in place of its own: runtime/mux.go ServeHTTP.
fn overridden(head: &http::request::Parts) -> Option<http::Method> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_form = header("content-type") == Some("application/x-www-form-urlencoded");
    let other = header("x-http-method-override").filter(|other| !other.is_empty())?;
    match is_form && head.method == http::Method::POST {
        true => http::Method::from_bytes(other.to_uppercase().as_bytes()).ok(),
        false => None,
    }
}

/// The call of a path, or why there is none.
fn routed(path: &str, verb: &http::Method) -> Result<Route, Code> {
    let route = routes::route(path).ok_or(Code::NotFound)?;
    match *verb == http::Method::POST {
        true => Ok(route),
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
    let mut response = json(http, transcode::error(status, line));
    // runtime/errors.go DefaultHTTPErrorHandler.
    if let (Code::Unauthenticated, Ok(text)) = (status.code, HeaderValue::from_str(&status.message)) {
        response
            .headers_mut()
            .insert(http::header::WWW_AUTHENTICATE, text);
    }
    response
}

/// What the headers say of a call: runtime/context.go annotateContext.
fn context(headers: &HeaderMap, now: api::clock::Instant) -> Result<frontend::Context, Status> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let deadline = match header("grpc-timeout").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match timeout(text) {
            Some(Some(span)) => Some(now + span),
            // 0 is for ever.
            Some(None) => None,
            None => {
                return Err(Status::with(
                    Code::InvalidArgument,
                    format!("invalid grpc-timeout: {text}"),
                ));
            }
        },
    };
    Ok(frontend::Context {
        deadline,
        // What begins with this is metadata of the call.
        require_leader: header("grpc-metadata-hasleader") == Some("true"),
        of_member: false,
    })
}

/// A number and a unit; a negative one has passed, 0 is none. `None` if it cannot be read.
fn timeout(text: &str) -> Option<Option<std::time::Duration>> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    let count: i64 = digits.parse().ok()?;
    if count == 0 {
        return Some(None);
    }
    let count = u64::try_from(count).unwrap_or(0);
    Some(Some(std::time::Duration::from_nanos(count.saturating_mul(nanos))))
}

/// A request on its way to a call.
struct Exchange {
    front: Rc<Front>,
    route: Route,
    context: frontend::Context,
    body: Inbound,
    requests: Requests,
}

impl Exchange {
    fn message_bytes_max(&self) -> usize {
        let given = self.front.common.config.max_request_bytes;
        given.saturating_add(OVERHEAD_BYTES)
    }

    /// The first request of the body; what follows is passed over.
    async fn only_request(&mut self) -> Result<Bytes, Status> {
        let (mut first, mut refused, mut ended) = (None, None, false);
        while !ended {
            if first.is_none() && refused.is_none() {
                first = self.requests.next(false)?;
            }
            match poll_fn(|cx| self.body.poll_next(cx)).await {
                None => ended = true,
                Some(Err(error)) => return Err(Status::with(Code::InvalidArgument, error)),
                // A client that still sends would not hear the answer.
                Some(Ok(_)) if first.is_some() || refused.is_some() => {}
                Some(Ok(bytes)) => {
                    self.requests.push(&bytes);
                    refused = self.check_held().err();
                }
            }
        }
        if let Some(status) = refused {
            return Err(status);
        }
        let first = match first {
            None => self.requests.next(true)?,
            first => first,
        };
        // An empty body is an empty message.
        let message = first.unwrap_or_default();
        let bytes_max = self.message_bytes_max();
        match message.len() > bytes_max {
            true => Err(too_large(message.len(), bytes_max)),
            false => Ok(message),
        }
    }

    fn check_held(&self) -> Result<(), Status> {
        let (held, bytes_max) = (self.requests.held(), self.message_bytes_max());
        match held > bytes_max.saturating_mul(JSON_FACTOR) {
            true => Err(too_large(held, bytes_max)),
            false => Ok(()),
        }
    }

    async fn unary(mut self) -> Result<Response<Body>, Status> {
        let message = self.only_request().await?;
        // Nothing is done of what comes too late.
        if self.context.deadline.is_some_and(|at| at <= self.front.now()) {
            return Err(DEADLINE_EXCEEDED);
        }
        let _permit = permit(&self.front, self.context.deadline).await?;
        let route = Route::find(self.route.path(), self.front.common.config.emulated)?;
        let metrics = self.front.metrics();
        metrics.started(route);
        metrics.by_version(UNKNOWN_VERSION, Shape::Unary);
        metrics.received(route, message.len());
        let answering = async {
            match route {
                Route::Recipe(recipe) => self.recipe(recipe, message).await,
                Route::Member(method) => call::unary(&self.front, method, message, self.context).await,
                Route::Health(_) => Err(Status::new(Code::NotFound, "Not Found")),
            }
        };
        let result = match self.context.deadline {
            None => answering.await,
            Some(at) => tokio::select! {
                biased;
                () = call::until(&self.front, at) => Err(DEADLINE_EXCEEDED),
                result = answering => result,
            },
        };
        let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
        metrics.handled(route, code);
        metrics.answered(route, &result, true);
        let result = result?;
        let answer = transcode::answer(route, result, Escapes::Json)?;
        Ok(from_grpc(json(StatusCode::OK, answer)))
    }

    async fn recipe(&self, recipe: Recipe, message: Bytes) -> Result<Bytes, Status> {
        let mut answers = Answers::start(&self.front, recipe, message, self.context);
        let mut stopped = std::pin::pin!(self.front.stopped());
        poll_fn(|cx| match answers.poll_next(cx) {
            Poll::Pending if stopped.as_mut().poll(cx).is_ready() => Poll::Ready(Err(error::STOPPED)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Err(error::CANCELED)),
            Poll::Ready(Some(polled)) => Poll::Ready(match (polled.frames.into_iter().next(), polled.end) {
                (Some(frame), _) => Ok(frame.parts.concat().into()),
                (None, Some(Err(status))) => Err(status),
                (None, _) => Err(error::CANCELED),
            }),
        })
        .await
    }

    async fn stream(mut self) -> Result<Response<Body>, Status> {
        let line = self.front.common.config.emulated;
        let route = Route::find(self.route.path(), line)?;
        let message = match route.shape() {
            Shape::Duplex => None,
            Shape::Unary | Shape::ServerStream => Some(self.only_request().await?),
        };
        let permit = hold_permit(&self.front, self.context.deadline).await?;
        self.front.metrics().started(route);
        self.front.metrics().by_version(UNKNOWN_VERSION, route.shape());
        let source = match (route, message) {
            (Route::Recipe(recipe), message) => {
                let message = message.unwrap_or_default();
                Source::Recipe(Answers::start(&self.front, recipe, message, self.context))
            }
            (Route::Member(method), message) => self.open(method, message)?,
            (Route::Health(_), _) => return Err(Status::new(Code::NotFound, "Not Found")),
        };
        let stopped = {
            let front = self.front.clone();
            Box::pin(async move { front.stopped().await })
        };
        let mut lines = Lines {
            duplex: route.shape() == Shape::Duplex,
            deadline: self.context.deadline.map(|at| {
                let passed: Pin<Box<dyn Future<Output = ()>>> = Box::pin(call::until(&self.front, at));
                passed
            }),
            exchange: self,
            sent_any: false,
            stopped,
            source: Some(source),
            begun: None,
            _permit: permit,
        };
        // Headers go out with the first of the answers: runtime/handler.go ForwardResponseStream.
        let first = poll_fn(|cx| lines.poll_part(cx)).await;
        let Some(part) = first? else {
            return Ok(Response::new(Body::empty()));
        };
        let http = part.failure.map_or(StatusCode::OK, transcode::http_status);
        lines.begun = Some(part.text);
        let mut response = from_grpc(json(http, ""));
        *response.body_mut() = Body::lines(lines);
        Ok(response)
    }

    fn open(&self, method: Method, message: Option<Bytes>) -> Result<Source, Status> {
        let stream = call::Stream::open(&self.front, method, self.context)?;
        if let Some(message) = message {
            stream.message(message);
            stream.finish();
        }
        Ok(Source::Member(stream))
    }
}

fn too_large(bytes: usize, bytes_max: usize) -> Status {
    Status::with(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({bytes} vs. {bytes_max})"),
    )
}

const DEADLINE_EXCEEDED: Status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");

/// Waits until the gateway may have one more call under way.
async fn permit(front: &Front, deadline: Option<api::clock::Instant>) -> Result<SemaphorePermit<'_>, Status> {
    let acquired = front.common.gateway_calls.acquire();
    let permit = match deadline {
        None => acquired.await,
        Some(at) => tokio::select! {
            permit = acquired => permit,
            () = call::until(front, at) => return Err(DEADLINE_EXCEEDED),
        },
    };
    permit.map_err(|_| error::STOPPED)
}

/// One of the calls that the gateway may have under way, until it is dropped.
struct Held(std::sync::Arc<Common>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.gateway_calls.add_permits(1);
    }
}

/// Waits likewise, for a call that outlives the request's handler.
async fn hold_permit(front: &Front, deadline: Option<api::clock::Instant>) -> Result<Held, Status> {
    permit(front, deadline).await?.forget();
    Ok(Held(front.common.clone()))
}

/// grpc-gateway passes the headers of the inner call on; this is the one there is.
fn from_grpc(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(
        "grpc-metadata-content-type",
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// Where the answers of a stream come from.
enum Source {
    Member(call::Stream),
    Recipe(Answers),
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamPoll>> {
        match self {
            Source::Member(stream) => stream.poll_next(cx, STREAM_BATCH),
            Source::Recipe(answers) => answers.poll_next(cx),
        }
    }
}

/// A stream as lines of JSON.
pub struct Lines {
    exchange: Exchange,
    /// Whether requests go on coming out of the body.
    duplex: bool,
    sent_any: bool,
    /// Completes when the server stops: then the stream ends.
    stopped: Pin<Box<dyn Future<Output = ()>>>,
    deadline: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// `None` after its end.
    source: Option<Source>,
    /// What has been made and not sent.
    begun: Option<Bytes>,
    _permit: Held,
}

impl Drop for Lines {
    /// Who has gone before the end has given the call up.
    fn drop(&mut self) {
        if self.source.is_some() {
            let route = self.exchange.route;
            self.exchange.front.metrics().handled(route, Code::Canceled);
        }
    }
}

/// Lines that go out together.
struct Part {
    text: Bytes,
    /// Why there is no more, if that is all that the part says.
    failure: Option<Code>,
}

impl Lines {
    /// The next lines.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(begun) = self.begun.take() {
            return Poll::Ready(Some(begun));
        }
        match self.poll_part(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(part)) => Poll::Ready(part.map(|part| part.text)),
            Poll::Ready(Err(_)) => Poll::Ready(None),
        }
    }

    /// The next lines; an error is one of the first request's.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Part>, Status>> {
        if let Err(status) = self.pass_requests(cx) {
            self.source = None;
            return Poll::Ready(Err(status));
        }
        let Some(source) = &mut self.source else {
            return Poll::Ready(Ok(None));
        };
        let polled = match source.poll_next(cx) {
            Poll::Pending if self.stopped.as_mut().poll(cx).is_ready() => ended(error::STOPPED),
            Poll::Pending => {
                let deadline = self.deadline.as_mut();
                if !deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
                    return Poll::Pending;
                }
                ended(DEADLINE_EXCEEDED)
            }
            Poll::Ready(None) => return Poll::Ready(Ok(None)),
            Poll::Ready(Some(polled)) => polled,
        };
        Poll::Ready(Ok(self.part(polled)))
    }

    fn part(&mut self, polled: StreamPoll) -> Option<Part> {
        let route = self.exchange.route;
        let (mut out, mut failure) = (String::new(), None);
        for frame in polled.frames {
            self.exchange.front.metrics().sent(route, frame.len());
            match transcode::answer(route, frame.parts.concat().into(), Escapes::Html) {
                Ok(answer) => out.push_str(&format!("{{\"result\":{answer}}}\n")),
                Err(status) => failure = Some(status),
            }
        }
        let front = &self.exchange.front;
        if let Some(end) = polled.end {
            let status = end.err();
            let code = status.as_ref().map_or(Code::Ok, |status| status.code);
            front.metrics().handled(route, code);
            failure = failure.or(status);
            self.source = None;
        }
        let alone = out.is_empty();
        if let Some(status) = &failure {
            out.push_str(&transcode::stream_error(status, front.common.config.emulated));
            out.push('\n');
            self.source = None;
        }
        let failure = failure.filter(|_| alone).map(|status| status.code);
        let text = Bytes::from(out);
        (!text.is_empty()).then_some(Part { text, failure })
    }

    /// Passes on what the client has sent. What cannot be read ends the requests, and nothing more: the
    /// answers to those before it go on.
    fn pass_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        let Some(Source::Member(stream)) = self.source.as_ref().filter(|_| self.duplex) else {
            return Ok(());
        };
        loop {
            let exchange = &mut self.exchange;
            let read = match exchange.requests.next(false) {
                Ok(None) => match exchange.body.poll_next(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Ok(bytes))) => {
                        exchange.requests.push(&bytes);
                        exchange.check_held().map(|()| None)
                    }
                    Poll::Ready(Some(Err(_)) | None) => {
                        let last = exchange.requests.next(true);
                        self.duplex = false;
                        last
                    }
                },
                read => read,
            };
            match read {
                Ok(Some(message)) => {
                    self.sent_any = true;
                    stream.message(message);
                }
                Ok(None) => {}
                Err(status) if !self.sent_any => return Err(status),
                Err(_) => self.duplex = false,
            }
            if !self.duplex {
                stream.finish();
                return Ok(());
            }
        }
    }
}

fn ended(status: Status) -> StreamPoll {
    StreamPoll {
        end: Some(Err(status)),
        ..StreamPoll::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        assert_eq!(routed("kv/range", &post), Ok(Route::Member(Method::Range)));
        assert_eq!(routed("lock/lock", &post), Ok(Route::Recipe(Recipe::Lock)));
    }

    #[test]
    fn timeouts_are_read_as_grpc_gateway_reads_them() {
        for (text, span) in [
            ("5S", Some(Some(Duration::from_secs(5)))),
            ("1000000000000u", Some(Some(Duration::from_secs(1_000_000)))),
            ("-5S", Some(Some(Duration::ZERO))),
            ("0n", Some(None)),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("x5S", None),
            ("5\u{e4}", None),
        ] {
            assert_eq!(timeout(text), span, "{text}");
        }
    }
}
