//! The gateway over WebSocket, as etcd's has it (github.com/tmc/grpc-websocket-proxy): each message of the
//! client is a line of the request's body, each line of the answer's body a message.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::body::{Body, Inbound};
use super::frames::{self, Joiner, Sent, kind};
use super::io::Upgraded;
use super::{gateway, plain, transcode};
use crate::front::Front;

/// The longest message of a client.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Messages of a client that wait for the call to take them.
const MESSAGES_MAX: usize = 1024;

/// Whether a client wants to go on with WebSocket.
pub fn is_upgrade(request: &Request<Inbound>) -> bool {
    let names = |name, wanted: &str| {
        let values = request.headers().get_all(name).iter();
        let mut words = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    names(CONNECTION, "upgrade") && names(UPGRADE, "websocket")
}

/// Answers a request for `/v3/{path}` that wants to go on with WebSocket.
pub fn respond(front: Rc<Front>, path: String, mut request: Request<Inbound>) -> Response<Body> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let (Some(key), Some("13"), &Method::GET) = (
        header(SEC_WEBSOCKET_KEY),
        header(SEC_WEBSOCKET_VERSION),
        request.method(),
    ) else {
        return plain(StatusCode::BAD_REQUEST, "Bad Request");
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if header(SEC_WEBSOCKET_PROTOCOL).is_some_and(|protocol| protocol.starts_with("Bearer")) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer"));
    }
    let feed = Feed::default();
    let inner = inner_request(request.headers(), &feed);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        let _present = front.enter();
        if let Ok(socket) = upgrade.await {
            talk(front.clone(), path, inner, feed, Upgraded::new(socket)).await;
        }
    });
    response
}

/// RFC 6455, 4.2.2.
fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    transcode::base64(&hash.finalize())
}

/// The request to the gateway: of the headers, only who asks.
fn inner_request(headers: &HeaderMap, feed: &Feed) -> Request<Inbound> {
    let mut request = Request::new(Inbound::Fed(feed.clone()));
    *request.method_mut() = Method::POST;
    let protocol = headers
        .get(SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok());
    let token = protocol
        .and_then(|protocol| protocol.strip_prefix("Bearer,"))
        .map(str::trim);
    let bearer = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    if let Some(bearer) = bearer {
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    request
}

/// Carries messages until either side ends.
async fn talk(front: Rc<Front>, path: String, inner: Request<Inbound>, feed: Feed, mut socket: Upgraded) {
    let mut responding = pin!(gateway::respond(front.clone(), &path, inner));
    let mut stopped = pin!(front.stopped());
    let mut answer: Option<Body> = None;
    let (mut joiner, mut buffer) = (Joiner::new(MESSAGE_BYTES_MAX), BytesMut::new());
    loop {
        tokio::select! {
            read = socket.read_buf(&mut buffer) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                joiner.push(&buffer.split());
                if !listen(&mut joiner, &feed, &mut socket).await {
                    return;
                }
            }
            response = &mut responding, if answer.is_none() => answer = Some(response.into_body()),
            lines = next(&mut answer), if answer.is_some() => {
                let Some(lines) = lines else {
                    break;
                };
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    if socket.write_all(&frames::frame(kind::TEXT, line)).await.is_err() {
                        return;
                    }
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            () = &mut stopped, if answer.is_none() => break,
        }
    }
    feed.end();
    // The last words: an error means that there is nobody to tell.
    const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();
    let _ = socket
        .write_all(&frames::frame(kind::CLOSE, &NORMAL_CLOSURE))
        .await;
    let _ = socket.shutdown().await;
}

/// Hands on what the client has sent; false if it is done.
async fn listen<S: AsyncRead + AsyncWrite + Unpin>(joiner: &mut Joiner, feed: &Feed, socket: &mut S) -> bool {
    loop {
        match joiner.next() {
            Ok(None) => return true,
            Ok(Some(Sent::Message(message))) => {
                if !feed.push(message) {
                    return false;
                }
            }
            Ok(Some(Sent::Ping(payload))) => {
                let pong = frames::frame(kind::PONG, &payload);
                if socket.write_all(&pong).await.is_err() || socket.flush().await.is_err() {
                    return false;
                }
            }
            Ok(Some(Sent::Close)) => {
                let _ = socket.write_all(&frames::frame(kind::CLOSE, &[])).await;
                let _ = socket.shutdown().await;
                return false;
            }
            Err(_) => return false,
        }
    }
}

async fn next(answer: &mut Option<Body>) -> Option<Bytes> {
    let body = answer.as_mut()?;
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    frame.ok()?.into_data().ok()
}

/// The body of a request that comes in messages.
#[derive(Clone, Default)]
pub struct Feed(Rc<RefCell<Fed>>);

#[derive(Default)]
struct Fed {
    messages: VecDeque<Bytes>,
    ended: bool,
    waker: Option<Waker>,
}

impl Feed {
    /// Adds a message, a line of the body; false if too many wait.
    fn push(&self, message: Bytes) -> bool {
        let mut fed = self.0.borrow_mut();
        fed.messages.extend([message, Bytes::from_static(b"\n")]);
        if let Some(waker) = fed.waker.take() {
            waker.wake();
        }
        fed.messages.len() <= MESSAGES_MAX
    }

    fn end(&self) {
        let mut fed = self.0.borrow_mut();
        fed.ended = true;
        if let Some(waker) = fed.waker.take() {
            waker.wake();
        }
    }

    /// The next bytes of the body; `None` at its end.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut fed = self.0.borrow_mut();
        match fed.messages.pop_front() {
            Some(message) => Poll::Ready(Some(message)),
            None if fed.ended => Poll::Ready(None),
            None => {
                fed.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_answered_as_the_standard_has_it() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_protocol_may_carry_a_token() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer, abc"));
        let request = inner_request(&headers, &Feed::default());
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer abc");
        assert_eq!(request.method(), Method::POST);
    }
}
