//! The bodies of requests and answers: what is sent, and how what comes is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use crate::READ_MAX;
use crate::room::{Room, Sender, Share};

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
    #[error("it comes too slowly")]
    TooSlow,
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

/// How fast a body has to come: who is slower holds memory, a place or a thread for nothing. The time that this
/// member's own disk takes does not count.
const BYTES_PER_SECOND_MIN: u64 = 32 << 10;
/// The time over which that is looked at.
const PACE_SPAN: Duration = Duration::from_secs(20);

/// How fast a body comes.
#[derive(Default)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// So many bytes came after so long a wait.
    fn record(&mut self, waited: Duration, bytes: usize) -> Result<(), ReadError> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < PACE_SPAN {
            return Ok(());
        }
        if self.bytes < BYTES_PER_SECOND_MIN * self.waited.as_secs() {
            return Err(ReadError::TooSlow);
        }
        *self = Pace::default();
        Ok(())
    }
}

/// The next piece of a body, within the time that a connection may say nothing; `None` at its end.
pub(crate) async fn next_piece<B>(body: &mut B) -> Result<Option<Bytes>, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
    ReadError: From<B::Error>,
{
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = tokio::time::timeout(READ_MAX, frame).await;
        let Some(frame) = frame.map_err(|_| ReadError::Timeout)? else {
            return Ok(None);
        };
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// As [`next_piece`], of a body that has an end and has to get there.
pub(crate) async fn next_of_many<B>(body: &mut B, pace: &mut Pace) -> Result<Option<Bytes>, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
    ReadError: From<B::Error>,
{
    let asked = Instant::now();
    let piece = next_piece(body).await?;
    pace.record(asked.elapsed(), piece.as_ref().map_or(0, Bytes::len))?;
    Ok(piece)
}

/// As [`whole`], where what has come so far is counted.
pub(crate) async fn whole_within<B>(
    body: &mut B,
    bytes_max: u64,
    share: &mut Share<'_>,
) -> Result<Bytes, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
    ReadError: From<B::Error>,
{
    let mut all = BytesMut::new();
    let mut pace = Pace::default();
    while let Some(piece) = next_of_many(body, &mut pace).await? {
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

/// All of a body of at most `bytes_max`.
pub(crate) async fn whole<B>(body: &mut B, bytes_max: u64) -> Result<Bytes, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
    ReadError: From<B::Error>,
{
    let alone = Room::default();
    whole_within(body, bytes_max, &mut Share::new(&alone, Sender::Asker(None))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_trickles_is_too_slow_and_who_waits_for_our_disk_is_not() {
        let mut trickle = Pace::default();
        let second = Duration::from_secs(1);
        let ended = (0..60).position(|_| trickle.record(second, 1).is_err());
        assert_eq!(ended, Some(19));
        let mut slow = Pace::default();
        for _ in 0..600 {
            slow.record(second, 40_000).unwrap();
        }
        let mut after_a_burst = Pace::default();
        after_a_burst.record(second, 100 << 20).unwrap();
        let ended = (0..60).position(|_| after_a_burst.record(second, 1).is_err());
        assert_eq!(ended, Some(38), "what came before the last span does not count");
    }

    /// So many bytes a second, up to a length.
    struct Trickle {
        pieces: usize,
        bytes: usize,
        clock: tokio::time::Interval,
    }

    impl Body for Trickle {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            if self.pieces == 0 {
                return Poll::Ready(None);
            }
            std::task::ready!(self.clock.poll_tick(cx));
            self.pieces -= 1;
            Poll::Ready(Some(Ok(Frame::data(vec![0; self.bytes].into()))))
        }
    }

    #[test]
    fn a_body_that_trickles_is_not_waited_for() {
        let read = |pieces: usize, bytes: usize| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let clock = tokio::time::interval(Duration::from_secs(1));
                let mut body = Trickle { pieces, bytes, clock };
                let read = whole(&mut body, 16 << 20).await;
                (read.map(|all| all.len()), body.pieces)
            })
        };
        assert_eq!(read(10, 1), (Ok(10), 0), "a small one may be slow");
        assert_eq!(read(100, 40_000), (Ok(4_000_000), 0));
        assert_eq!(read(100, 1), (Err(ReadError::TooSlow), 79));
    }
}
