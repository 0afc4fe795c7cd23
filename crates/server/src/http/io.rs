//! What hyper gives back of a connection, as tokio wants it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that goes on with another protocol.
pub struct Upgraded(hyper::upgrade::Upgraded);

impl Upgraded {
    /// Wraps what hyper gave back.
    pub fn new(inner: hyper::upgrade::Upgraded) -> Upgraded {
        Upgraded(inner)
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = {
            let mut inner = hyper::rt::ReadBuf::new(buf.initialize_unfilled());
            ready!(Pin::new(&mut self.0).poll_read(cx, inner.unfilled()))?;
            inner.filled().len()
        };
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
