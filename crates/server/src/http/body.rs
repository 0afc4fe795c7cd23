//! Bodies: of requests, whatever carries them; of answers, whole, or line by line as a stream of the
//! front has something.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};

use super::gateway::Lines;

/// The body of a request.
pub enum Inbound {
    /// By HTTP/1.1.
    Http1(Incoming),
    /// On a stream of an HTTP/2 connection, whose task reads on what a handler leaves.
    Http2(Rc<RefCell<h2::RecvStream>>),
    /// In messages of a WebSocket.
    Fed(super::websocket::Feed),
    /// None, or one that has been read.
    Empty,
}

impl Inbound {
    /// The next bytes; `None` at the end. The client may send as much again as was taken.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        match self {
            Inbound::Empty => Poll::Ready(None),
            Inbound::Fed(feed) => feed.poll_next(cx).map(|bytes| bytes.map(Ok)),
            Inbound::Http1(incoming) => loop {
                let frame = match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.to_string()))),
                    Some(Ok(frame)) => frame,
                };
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            },
            Inbound::Http2(stream) => {
                let mut stream = stream.borrow_mut();
                let piece = ready!(stream.poll_data(cx));
                if let Some(Ok(data)) = &piece {
                    let _ = stream.flow_control().release_capacity(data.len());
                }
                Poll::Ready(piece.map(|piece| piece.map_err(|error| error.to_string())))
            }
        }
    }
}

/// The body of an answer.
pub struct Body(Inner);

enum Inner {
    Full(Option<Bytes>),
    Lines(Box<Lines>),
}

impl Body {
    /// A body that is there.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        Body(Inner::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// No body.
    pub fn empty() -> Body {
        Body(Inner::Full(None))
    }

    /// A body that comes line by line.
    pub fn lines(lines: Lines) -> Body {
        Body(Inner::Lines(Box::new(lines)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Inner::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Lines(lines) => lines
                .poll_next(cx)
                .map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Full(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.0 {
            Inner::Full(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Lines(_) => hyper::body::SizeHint::default(),
        }
    }
}
