//! One request on a stream of an HTTP/2 connection, as a task of its own. The connection itself
//! belongs to `grpc`; what is asked is answered by the same handlers as over HTTP/1.1.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Body as _;

use super::body::{Body, Inbound};
use super::{Offer, respond};
use crate::front::Front;
use crate::grpc::Piece;

/// Answers a request; ends early when the client gives it up.
pub async fn exchange(
    front: Rc<Front>,
    request: Request<RecvStream>,
    mut responder: SendResponse<Piece>,
    offer: Offer,
) {
    let bodyless = request.method() == Method::HEAD;
    let (head, body) = request.into_parts();
    let asked = Rc::new(RefCell::new(body));
    let request = Request::from_parts(head, Inbound::Http2(asked.clone()));
    let response = tokio::select! {
        response = respond(front.clone(), request, offer) => response,
        _ = poll_fn(|cx| responder.poll_reset(cx)) => return,
    };
    answer(response, responder, bodyless).await;
    tokio::select! {
        () = read_on(Inbound::Http2(asked)) => {}
        () = front.stopped() => {}
    }
}

/// What a handler left of a request is read to its end: a client that still sends would take the end of
/// its stream for a failure. As much as net/http reads (maxPostHandlerReadBytes).
async fn read_on(mut asked: Inbound) {
    const BYTES_MAX: usize = 256 << 10;
    let mut read = 0;
    while let Some(Ok(bytes)) = poll_fn(|cx| asked.poll_next(cx)).await {
        read += bytes.len();
        if read > BYTES_MAX {
            return;
        }
    }
}

async fn answer(response: Response<Body>, mut responder: SendResponse<Piece>, bodyless: bool) {
    let (head, mut body) = head_and_body(response);
    let no_more = bodyless || body.is_end_stream();
    // An error means that the client has gone: there is nobody to tell.
    let Ok(mut stream) = responder.send_response(head, no_more) else {
        return;
    };
    if no_more {
        return;
    }
    while let Some(bytes) = poll_fn(|cx| next(&mut stream, &mut body, cx)).await {
        if stream.send_data(Piece::raw(bytes), false).is_err() {
            return;
        }
    }
    let _ = stream.send_data(Piece::raw(Bytes::new()), true);
}

/// What hyper adds to an answer over HTTP/1.1 of itself.
fn head_and_body(response: Response<Body>) -> (Response<()>, Body) {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let now = httpdate::fmt_http_date(SystemTime::now());
    if let Ok(now) = HeaderValue::from_str(&now) {
        parts.headers.insert(DATE, now);
    }
    (Response::from_parts(parts, ()), body)
}

/// The next bytes of a body, as soon as the client takes some; `None` at its end, and when the client
/// has given the request up.
fn next(stream: &mut SendStream<Piece>, body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(None);
    }
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            None | Some(Err(_)) => return Poll::Ready(None),
        }
    }
    let frame = ready!(Pin::new(body).poll_frame(cx));
    Poll::Ready(frame.and_then(|frame| frame.ok()?.into_data().ok()))
}
