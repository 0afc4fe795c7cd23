//! What is sent as the body of a request or an answer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::mpsc::Receiver;

use crate::core::Share;

/// A body that comes piece by piece, for as long as it takes.
pub(crate) type Pieces = Pin<Box<dyn Body<Data = Bytes, Error = io::Error>>>;

/// The body of what this member sends.
pub(crate) enum Outbound {
    /// One piece, or none.
    Full(Option<Bytes>),
    /// What a thread reads from a file meanwhile; an error breaks the connection.
    Chunks(Receiver<io::Result<Bytes>>),
    /// A stream.
    Pieces(Pieces),
}

impl Outbound {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Outbound {
        Outbound::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Outbound::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Outbound::Chunks(chunks) => chunks
                .poll_recv(cx)
                .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
            Outbound::Pieces(pieces) => pieces.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outbound::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Outbound::Chunks(_) | Outbound::Pieces(_) => SizeHint::default(),
        }
    }
}

/// Why a body cannot be read on, in the words of Go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("i/o timeout")]
    Timeout,
    #[error("unexpected EOF")]
    Cut,
    #[error("http: request body too large")]
    TooLarge,
    #[error("too many bytes of unfinished requests")]
    NoRoom,
    #[error("{0}")]
    Other(String),
}

impl From<hyper::Error> for ReadError {
    fn from(error: hyper::Error) -> ReadError {
        match error.is_incomplete_message() || error.is_closed() || error.is_body_write_aborted() {
            true => ReadError::Cut,
            false => ReadError::Other(error.to_string()),
        }
    }
}

/// The next piece of a body, within `patience`; `None` at its end.
pub(crate) async fn next_piece(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, ReadError> {
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = tokio::time::timeout(patience, frame).await;
        let Some(frame) = frame.map_err(|_| ReadError::Timeout)? else {
            return Ok(None);
        };
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// As [`whole`], where what has come so far is counted.
pub(crate) async fn whole_within(
    body: &mut Incoming,
    bytes_max: u64,
    patience: Duration,
    share: &mut Share<'_>,
) -> Result<Bytes, ReadError> {
    let mut all = BytesMut::new();
    while let Some(piece) = next_piece(body, patience).await? {
        if all.len() as u64 + piece.len() as u64 > bytes_max {
            return Err(ReadError::TooLarge);
        }
        if !share.grow(piece.len() as u64) {
            return Err(ReadError::NoRoom);
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// All of a body of at most `bytes_max`, each piece of it within `patience`.
pub(crate) async fn whole(
    body: &mut Incoming,
    bytes_max: u64,
    patience: Duration,
) -> Result<Bytes, ReadError> {
    let alone = AtomicU64::new(0);
    whole_within(body, bytes_max, patience, &mut Share::new(&alone)).await
}
