//! The way back of a call.

use std::task::{Context, Poll};

use api::error::Status;
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderValue, Response};

use super::framing::Piece;
use super::status;

/// How an answer is sent: as the request came.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// Names the request's kind of message.
    pub(super) content_type: HeaderValue,
    /// Messages are compressed: who can compress is taken to understand it (grpc-go: server.go
    /// processUnaryRPC).
    pub(super) zipped: bool,
}

impl Manner {
    fn dress(&self, piece: Piece) -> Piece {
        match self.zipped {
            true => piece.zipped(),
            false => piece,
        }
    }
}

/// The way back of a stream: headers go out with the first message.
pub(super) enum Sender {
    Fresh(SendResponse<Piece>, Manner),
    Begun(SendStream<Piece>, Manner),
    Gone,
}

impl Sender {
    /// Sends a message.
    pub(super) fn send(&mut self, piece: Piece) -> Result<(), h2::Error> {
        if let Sender::Fresh(respond, manner) = self {
            let stream = respond.send_response(head(manner), false)?;
            *self = Sender::Begun(stream, manner.clone());
        }
        match self {
            Sender::Begun(stream, manner) => stream.send_data(manner.dress(piece), false),
            Sender::Fresh(..) | Sender::Gone => Ok(()),
        }
    }

    /// Ends the stream.
    pub(super) fn end(&mut self, result: &Result<(), Status>) {
        // An error means that the client has gone: there is nobody to tell.
        let _ = match std::mem::replace(self, Sender::Gone) {
            Sender::Fresh(mut respond, manner) => respond
                .send_response(trailers_only(manner.content_type, result), true)
                .map(drop),
            Sender::Begun(mut stream, _) => stream.send_trailers(status::trailers(result)),
            Sender::Gone => Ok(()),
        };
    }

    /// Whether the client takes more at present. If not, `cx` is woken when it does.
    pub(super) fn has_room(&mut self, cx: &mut Context<'_>) -> bool {
        let Sender::Begun(stream, _) = self else {
            return true;
        };
        stream.reserve_capacity(1);
        while stream.capacity() == 0 {
            match stream.poll_capacity(cx) {
                // Errors come out of sending.
                Poll::Ready(None | Some(Err(_))) => return true,
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Whether the client has given the stream up.
    pub(super) fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Sender::Fresh(respond, _) => respond.poll_reset(cx).is_ready(),
            Sender::Begun(stream, _) => stream.poll_reset(cx).is_ready(),
            Sender::Gone => true,
        }
    }
}

/// The content type of an answer whose request names no kind of message.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

fn head(manner: &Manner) -> Response<()> {
    let mut response = bare_head(manner.content_type.clone());
    if manner.zipped {
        let headers = response.headers_mut();
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    response
}

fn bare_head(content_type: HeaderValue) -> Response<()> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, content_type);
    response
}

/// An answer that is nothing but a status.
pub(super) fn trailers_only(content_type: HeaderValue, result: &Result<(), Status>) -> Response<()> {
    let mut response = bare_head(content_type);
    status::put(response.headers_mut(), result);
    response
}

/// Answers a unary call.
pub(super) fn answer(
    mut respond: SendResponse<Piece>,
    manner: Manner,
    result: Result<Bytes, Status>,
) -> Result<(), h2::Error> {
    match result {
        Ok(message) => {
            let mut stream = respond.send_response(head(&manner), false)?;
            stream.send_data(manner.dress(Piece::new(message)), false)?;
            stream.send_trailers(status::trailers(&Ok(())))
        }
        Err(status) => respond
            .send_response(trailers_only(manner.content_type, &Err(status)), true)
            .map(drop),
    }
}
