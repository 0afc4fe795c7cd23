//! Bodies of answers: whole, or line by line as a stream of the front has something.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;

use super::gateway::Lines;

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
