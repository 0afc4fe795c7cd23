//! Requests to other members: one at a time on a connection. Redirects are not followed, and no proxy is
//! looked for.

use std::time::{Duration, Instant};

use api::url::Url;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::body::{self, Outbound};
use crate::dial::Dialer;
use crate::host::Answer;
use crate::io::HyperIo;
use crate::pool::Pool;

/// How long a connection that nobody uses is kept. Go's side drops it after five seconds.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(4);
/// Bytes of an answer that anybody here wants.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a request is for. Each has places of its own, so that one cannot use up those of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Leases of clients, which expire if it takes long.
    Renewal,
    /// Other questions of clients.
    Question,
    /// What this member wants to know for itself.
    Check,
}

/// A request to another member.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is for.
    pub purpose: Purpose,
    /// GET or POST.
    pub method: &'static str,
    /// With its query, if it has one.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What is sent; a GET may have a body, too.
    pub body: Bytes,
    /// How long all of it may take.
    pub patience: Duration,
}

impl Call {
    /// A GET without a body, of this member's own.
    pub fn get(path: &str, patience: Duration) -> Call {
        Call {
            purpose: Purpose::Check,
            method: "GET",
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            patience,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other side could not be reached, or hung up.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("context deadline exceeded")]
    Timeout,
    /// Too many requests are under way already.
    #[error("too many requests to other members are under way")]
    Busy,
}

/// The head of an answer; the body is still to come.
pub(crate) type Head = Response<Incoming>;

/// A request got no answer.
pub(crate) struct Unanswered {
    pub(crate) reason: String,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Request<Outbound>>,
}

/// One connection, with the task that carries it.
pub(crate) struct Wire {
    sender: SendRequest<Outbound>,
    task: AbortHandle,
    used: Instant,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// Connects. A write that gets nowhere for `write_max` ends the connection.
    pub(crate) async fn open(dialer: &Dialer, url: &Url, write_max: Duration) -> Result<Wire, String> {
        let stream = dialer.dial(url).await?;
        let io = HyperIo::new(stream, Some(write_max));
        let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
        let task = spawn_local(async move {
            // Whoever waits for an answer is told of an error as well.
            let _ = connection.await;
        });
        Ok(Wire {
            sender,
            task: task.abort_handle(),
            used: Instant::now(),
        })
    }

    /// Whether another request may be tried at once.
    pub(crate) fn is_fresh(&self) -> bool {
        self.sender.is_ready() && self.may_be_kept()
    }

    /// Whether another request may be tried, as far as is known.
    pub(crate) fn may_be_kept(&self) -> bool {
        !self.sender.is_closed() && self.used.elapsed() < IDLE_MAX
    }

    /// Sends a request and waits for the head of its answer. A request of which nothing was sent comes back.
    pub(crate) async fn try_send(&mut self, request: Request<Outbound>) -> Result<Head, Unanswered> {
        let words = |error: &hyper::Error| match error.is_incomplete_message() || error.is_closed() {
            true => "EOF".to_owned(),
            false => error.to_string(),
        };
        if let Err(error) = self.sender.ready().await {
            return Err(Unanswered {
                reason: words(&error),
                unsent: Some(request),
            });
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => {
                self.used = Instant::now();
                Ok(response)
            }
            Err(mut error) => Err(Unanswered {
                reason: words(error.error()),
                unsent: error.take_message(),
            }),
        }
    }

    /// As [`Wire::try_send`], for requests that nobody repeats.
    pub(crate) async fn send(&mut self, request: Request<Outbound>) -> Result<Head, String> {
        let sent = self.try_send(request).await;
        sent.map_err(|unanswered| unanswered.reason)
    }

    /// As [`Wire::send`], where the other side answers only after `patience` at the latest.
    pub(crate) async fn send_patiently(
        &mut self,
        request: Request<Outbound>,
        patience: Duration,
    ) -> Result<Head, String> {
        let sent = tokio::time::timeout(patience, self.send(request)).await;
        sent.unwrap_or_else(|_| Err("i/o timeout".to_owned()))
    }
}

/// A request with the headers that all have.
pub(crate) fn request(
    method: Method,
    url: &Url,
    path: &str,
    headers: HeaderMap,
    body: Outbound,
) -> Result<Request<Outbound>, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(url.address()).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// The request of a call.
pub(crate) fn request_of(url: &Url, call: Call) -> Result<Request<Outbound>, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
        headers.insert(name, value);
    }
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|error| error.to_string())?;
    request(method, url, &call.path, headers, Outbound::full(call.body))
}

/// The whole answer. To be called with a limit.
pub(crate) async fn read_answer(mut response: Head) -> Result<Answer, String> {
    let body = body::whole(response.body_mut(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| error.to_string())?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter();
    Ok(Answer {
        status: response.status().as_u16(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body,
    })
}

/// Sends `call` to `url` and waits for the answer: for who joins, before there is a transport. To be
/// called on a thread that may wait.
///
/// # Errors
/// If there is none.
pub fn call_and_wait(dialer: &Dialer, url: &Url, call: Call) -> Result<Answer, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| CallError::Failed(error.to_string()))?;
    let answer = LocalSet::new().block_on(&runtime, async { Pool::default().ask(dialer, url, call).await });
    runtime.shutdown_background();
    answer
}

/// The content type of a body.
pub(crate) fn with_type(mut headers: HeaderMap, kind: &'static str) -> HeaderMap {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers
}
