//! A client's socket, of either kind, and what it says first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connected socket. What was read to see who is there is read again.
pub struct Socket {
    stream: Stream,
    first: BytesMut,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/2, and so gRPC.
    Http2,
    /// HTTP/1.1, or something else that will be answered in HTTP/1.1.
    Http1,
}

impl Socket {
    /// A TCP connection.
    pub fn tcp(stream: TcpStream) -> Socket {
        Socket {
            stream: Stream::Tcp(stream),
            first: BytesMut::new(),
        }
    }

    /// A connection in the file system.
    pub fn unix(stream: UnixStream) -> Socket {
        Socket {
            stream: Stream::Unix(stream),
            first: BytesMut::new(),
        }
    }

    /// Reads until it is clear what the client speaks.
    pub async fn listen_in(&mut self) -> io::Result<Speech> {
        loop {
            let heard = self.first.len().min(PREFACE.len());
            if self.first[..heard] != PREFACE[..heard] {
                return Ok(Speech::Http1);
            }
            if heard == PREFACE.len() {
                return Ok(Speech::Http2);
            }
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read_buf(&mut self.first).await?,
                Stream::Unix(stream) => stream.read_buf(&mut self.first).await?,
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => ready!(Pin::new(stream).poll_flush(cx))?,
            Stream::Unix(stream) => ready!(Pin::new(stream).poll_flush(cx))?,
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
