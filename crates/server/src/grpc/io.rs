//! What stands between HTTP/2 and the socket: gathers what is written between two flushes into
//! one system call, and walks the headers of incoming frames to see what the h2 crate keeps to
//! itself: pings and life signs. Never changes a byte that passes.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::keepalive::Strikes;

/// Bytes gathered before they are written without waiting for a flush.
const GATHER_MAX: usize = 64 << 10;
/// From this size on what is written goes to the socket without being copied.
const DIRECT_MIN: usize = 8 << 10;
/// The most slices of one system call.
const SLICES_MAX: usize = 16;

/// What a connection and its socket know of each other.
#[derive(Debug)]
pub struct WireState {
    /// When bytes last came in.
    pub last_read: Cell<Instant>,
    /// Calls open at present.
    pub active_streams: Cell<usize>,
    /// Requests open at present that are not gRPC's.
    pub http_streams: Cell<usize>,
    /// A frame of a stream was sent since the last ping.
    pub sent_frames: Cell<bool>,
    /// The client broke the ping rule: the connection ends.
    pub too_many_pings: Cell<bool>,
    /// `None` if pings are not counted.
    strikes: Option<RefCell<Strikes>>,
    last_stream: Cell<u32>,
}

impl WireState {
    /// The state of a new connection; `ping_interval_min` is the least time between two pings, `None` if
    /// a client may ping as it likes.
    pub fn new(now: Instant, ping_interval_min: Option<Duration>) -> Rc<WireState> {
        Rc::new(WireState {
            last_read: Cell::new(now),
            active_streams: Cell::new(0),
            http_streams: Cell::new(0),
            sent_frames: Cell::new(false),
            too_many_pings: Cell::new(false),
            strikes: ping_interval_min.map(|interval| RefCell::new(Strikes::new(interval))),
            last_stream: Cell::new(0),
        })
    }
}

/// The socket's end of a wire, shared by the h2 crate, which fills it, and the connection's task,
/// which empties it once a round: h2 asks for a flush after every frame with a payload.
pub struct Spout<S> {
    inner: RefCell<Inner<S>>,
}

struct Inner<S> {
    socket: S,
    out: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Spout<S> {
    /// Writes what has gathered.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.borrow_mut().poll_drain(cx)
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        // An encrypted socket holds back what the system did not take.
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

/// A socket that carries HTTP/2.
pub struct Wire<S> {
    spout: Rc<Spout<S>>,
    goaway_sent: bool,
    incoming: Walker,
    outgoing: Walker,
    state: Rc<WireState>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Wraps a socket from which nothing has been read.
    pub fn new(socket: S, state: Rc<WireState>) -> Wire<S> {
        Wire {
            spout: Rc::new(Spout {
                inner: RefCell::new(Inner {
                    socket,
                    out: BytesMut::with_capacity(4 << 10),
                }),
            }),
            goaway_sent: false,
            incoming: Walker::after(PREFACE_LEN),
            outgoing: Walker::after(0),
            state,
        }
    }

    /// What the connection's task empties before it waits.
    pub fn spout(&self) -> Rc<Spout<S>> {
        self.spout.clone()
    }

    /// Looks for frames of streams among what was taken: after them, a ping is forgiven. The
    /// client measures the path with pings for as long as a long answer lasts.
    fn note_written(&mut self, bufs: &[IoSlice<'_>], mut count: usize) {
        for buf in bufs {
            let part = &buf[..count.min(buf.len())];
            count -= part.len();
            self.outgoing.walk(part, |kind, _, _| {
                if matches!(kind, frame::DATA | frame::HEADERS) {
                    self.state.sent_frames.set(true);
                }
            });
        }
    }

    /// Says why the connection ends, which the h2 crate cannot: clients of Go look for the text.
    fn poll_goaway(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        const ENHANCE_YOUR_CALM: u32 = 11;
        const TEXT: &[u8] = b"too_many_pings";
        let mut inner = self.spout.inner.borrow_mut();
        if !self.goaway_sent && self.outgoing.is_between_frames() {
            self.goaway_sent = true;
            let out = &mut inner.out;
            let length = u32::try_from(8 + TEXT.len()).expect("the text is short");
            out.extend_from_slice(&length.to_be_bytes()[1..]);
            out.extend_from_slice(&[frame::GOAWAY, 0, 0, 0, 0, 0]);
            out.extend_from_slice(&self.state.last_stream.get().to_be_bytes());
            out.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
            out.extend_from_slice(TEXT);
        }
        inner.poll_drain(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if !this.state.too_many_pings.get() {
            ready!(Pin::new(&mut this.spout.inner.borrow_mut().socket).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if !read.is_empty() {
                let now = Instant::now();
                this.state.last_read.set(now);
                this.incoming.walk(read, |kind, flags, stream| {
                    note(&this.state, now, kind, flags, stream)
                });
            }
        }
        if this.state.too_many_pings.get() {
            buf.set_filled(before);
            ready!(this.poll_goaway(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

fn note(state: &WireState, now: Instant, kind: u8, flags: u8, stream: u32) {
    const ACK: u8 = 1;
    match kind {
        frame::HEADERS => state.last_stream.set(state.last_stream.get().max(stream)),
        frame::PING if flags & ACK == 0 => {
            let sent = state.sent_frames.replace(false);
            let idle = state.active_streams.get() + state.http_streams.get() == 0;
            let strikes = state.strikes.as_ref();
            if strikes.is_some_and(|strikes| strikes.borrow_mut().ping(now, sent, idle)) {
                state.too_many_pings.set(true);
            }
        }
        _ => {}
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let taken = ready!(self.spout.inner.borrow_mut().poll_take(cx, bufs, total))?;
        self.note_written(bufs, taken);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What has gathered is written at the end of the round, by the connection's task.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.spout.inner.borrow_mut();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// Takes small pieces to the others, and large ones with the others to the socket.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        total: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            if total < DIRECT_MIN && self.out.len() + total <= GATHER_MAX {
                for buf in bufs {
                    self.out.extend_from_slice(buf);
                }
                return Poll::Ready(Ok(total));
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            slices[0] = IoSlice::new(&self.out);
            let count = bufs.len().min(SLICES_MAX - 1);
            slices[1..=count].copy_from_slice(&bufs[..count]);
            let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..=count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let gathered = self.out.len();
            self.out.advance(written.min(gathered));
            if written > gathered {
                return Poll::Ready(Ok(written - gathered));
            }
        }
    }
}

/// Kinds of frames (RFC 9113, 6).
mod frame {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
}

const PREFACE_LEN: usize = 24;
const HEADER_LEN: usize = 9;

/// Finds the headers of frames in a stream of bytes that comes in any pieces.
///
/// ```text
///  length (3, big-endian) | kind (1) | flags (1) | stream (4, top bit reserved) | payload
/// ```
#[derive(Debug)]
struct Walker {
    skip: usize,
    header: [u8; HEADER_LEN],
    have: usize,
}

impl Walker {
    /// A walker of bytes whose first frame begins after `skip`.
    fn after(skip: usize) -> Walker {
        Walker {
            skip,
            header: [0; HEADER_LEN],
            have: 0,
        }
    }

    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    fn walk(&mut self, mut bytes: &[u8], mut see: impl FnMut(u8, u8, u32)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = (HEADER_LEN - self.have).min(bytes.len());
            if self.skip > 0 || wanted == 0 {
                continue;
            }
            self.header[self.have..self.have + wanted].copy_from_slice(&bytes[..wanted]);
            self.have += wanted;
            bytes = &bytes[wanted..];
            if self.have == HEADER_LEN {
                let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
                self.skip = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                self.have = 0;
                see(kind, flags, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn frames_are_found_in_any_pieces() {
        let mut bytes = vec![b'p'; PREFACE_LEN];
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(1, 4, 1, &[7; 300]));
        bytes.extend(frame(6, 0, 0, &[6; 8]));
        bytes.extend(frame(6, 1, 0, &[6; 8]));
        bytes.extend(frame(1, 5, 0x8000_0003, &[1; 20]));
        let expect = [(4, 0, 0), (1, 4, 1), (6, 0, 0), (6, 1, 0), (1, 5, 3)];
        for piece in [1, 2, 7, 9, 64, 10_000] {
            let (mut walker, mut seen) = (Walker::after(PREFACE_LEN), Vec::new());
            for part in bytes.chunks(piece) {
                walker.walk(part, |kind, flags, stream| seen.push((kind, flags, stream)));
            }
            assert_eq!(seen, expect, "pieces of {piece}");
            assert!(walker.is_between_frames());
        }
    }

    /// While a long answer is written, a client may ping as often as it likes.
    #[test]
    fn what_is_written_to_streams_forgives_pings() {
        let state = WireState::new(Instant::now(), Some(Duration::from_secs(5)));
        let mut wire = Wire::new(tokio::io::empty(), state.clone());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut write = |bytes: &[u8]| {
            state.sent_frames.set(false);
            let written = Pin::new(&mut wire).poll_write(&mut cx, bytes);
            assert!(matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()));
            state.sent_frames.get()
        };
        assert!(!write(&frame(6, 1, 0, &[0; 8])), "the answer to a ping");
        let answer = frame(0, 0, 1, &[7; 30_000]);
        assert!(write(&answer[..10_000]));
        assert!(!write(&answer[10_000..]), "the rest of a frame");
        assert!(write(&frame(1, 5, 1, &[1; 20])));
    }

    /// Takes all that is written, and lets go of it when it is flushed, as an encrypted socket does
    /// whose system takes nothing more at the moment.
    #[derive(Default)]
    struct Hoard {
        held: Vec<u8>,
        gone: Vec<u8>,
    }

    impl AsyncRead for Hoard {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Hoard {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let held = std::mem::take(&mut self.held);
            self.gone.extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    /// Small pieces, which are gathered, and large ones, which are not: a round ends with all gone.
    #[test]
    fn a_round_leaves_nothing_behind_in_the_socket() {
        let state = WireState::new(Instant::now(), None);
        let mut wire = Wire::new(Hoard::default(), state);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut total = 0;
        for size in [10, 100_000, 10, 0] {
            let written = Pin::new(&mut wire).poll_write(&mut cx, &vec![0; size]);
            assert!(matches!(written, Poll::Ready(Ok(_))), "{written:?}");
            total += size;
            let drained = wire.spout().poll_drain(&mut cx);
            assert!(matches!(drained, Poll::Ready(Ok(()))), "{drained:?}");
            assert_eq!(wire.spout.inner.borrow().socket.gone.len(), total);
        }
    }

    /// Any bytes at all may come from a client.
    #[test]
    fn the_walker_takes_anything() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut walker = Walker::after(0);
            let bytes: Vec<u8> = (0..random.usize(..2000)).map(|_| random.u8(..)).collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (part, tail) = rest.split_at(random.usize(1..=rest.len()));
                walker.walk(part, |_, _, stream| assert!(stream < 1 << 31));
                rest = tail;
            }
        }
    }
}
