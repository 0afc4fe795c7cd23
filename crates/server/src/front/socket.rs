//! A client's socket, of any kind, and what it says first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::descriptors::Place;

/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes that are read at once before it is known who is there.
const FIRST_BYTES: usize = 4 << 10;

/// A connected socket, as the system gives it. What was read to see who is there is read again.
pub struct Plain {
    stream: Stream,
    first: BytesMut,
    /// Given back after the stream is closed, which is why it comes last.
    _place: Option<Place>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that is ready to be served, in the clear or not.
pub enum Socket {
    /// As the system gives it.
    Plain(Plain),
    /// After a handshake.
    Tls(Box<Tls>),
}

/// A connection after its handshake.
pub struct Tls {
    stream: TlsStream<Plain>,
    first: BytesMut,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/2, and so gRPC.
    Http2,
    /// HTTP/1.1, or something else that will be answered in HTTP/1.1.
    Http1,
}

impl Plain {
    /// A TCP connection. It holds its place as long as it is open.
    pub fn tcp(stream: TcpStream, place: Option<Place>) -> Plain {
        Plain {
            stream: Stream::Tcp(stream),
            first: BytesMut::new(),
            _place: place,
        }
    }

    /// A connection in the file system. It holds its place as long as it is open.
    pub fn unix(stream: UnixStream, place: Option<Place>) -> Plain {
        Plain {
            stream: Stream::Unix(stream),
            first: BytesMut::new(),
            _place: place,
        }
    }

    /// Reads until there are `count` bytes, and gives all that came, which will be read again.
    /// Fewer come only from a client that has said all.
    pub async fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.first.len() < count {
            self.first.reserve(FIRST_BYTES);
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read_buf(&mut self.first).await?,
                Stream::Unix(stream) => stream.read_buf(&mut self.first).await?,
            };
            if read == 0 {
                break;
            }
        }
        Ok(&self.first)
    }

    /// Both ends of a TCP connection: this one and the client's.
    pub fn ends(&self) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        match &self.stream {
            Stream::Tcp(stream) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            Stream::Unix(_) => None,
        }
    }
}

impl Socket {
    /// A connection after its handshake.
    pub fn tls(stream: TlsStream<Plain>) -> Socket {
        Socket::Tls(Box::new(Tls {
            stream,
            first: BytesMut::new(),
        }))
    }

    /// Whether nobody on the way can read along.
    pub fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Reads until it is clear what the client speaks.
    pub async fn listen_in(&mut self) -> io::Result<Speech> {
        match self {
            Socket::Plain(plain) => loop {
                if let Some(speech) = speech(&plain.first) {
                    return Ok(speech);
                }
                let more = plain.first.len() + 1;
                if plain.peek(more).await?.len() < more {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            },
            Socket::Tls(tls) => loop {
                if let Some(speech) = speech(&tls.first) {
                    return Ok(speech);
                }
                tls.first.reserve(FIRST_BYTES);
                if tls.stream.read_buf(&mut tls.first).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            },
        }
    }
}

/// What a client speaks that begins so; `None` as long as that is not clear.
fn speech(first: &[u8]) -> Option<Speech> {
    let heard = first.len().min(PREFACE.len());
    if first[..heard] != PREFACE[..heard] {
        return Some(Speech::Http1);
    }
    (heard == PREFACE.len()).then_some(Speech::Http2)
}

/// Reads again what was read before; false if there is nothing.
fn reread(first: &mut BytesMut, buf: &mut ReadBuf<'_>) -> bool {
    if first.is_empty() {
        return false;
    }
    let count = first.len().min(buf.remaining());
    buf.put_slice(&first[..count]);
    first.advance(count);
    if first.is_empty() {
        // Its memory is of no use for the rest of the connection.
        *first = BytesMut::new();
    }
    true
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if reread(&mut self.first, buf) {
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The system holds nothing back.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Plain(plain) => Pin::new(plain).poll_read(cx, buf),
            Socket::Tls(tls) => {
                if reread(&mut tls.first, buf) {
                    return Poll::Ready(Ok(()));
                }
                Pin::new(&mut tls.stream).poll_read(cx, buf)
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Plain(plain) => Pin::new(plain).poll_write(cx, buf),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Plain(plain) => Pin::new(plain).poll_write_vectored(cx, bufs),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is encrypted and does not fit the system's buffer waits for this.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Plain(plain) => Pin::new(plain).poll_flush(cx),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Plain(plain) => Pin::new(plain).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}
