//! One HTTP/2 connection as one task: it reads requests, calls the front, and writes answers.
//! No task and no timer a call of gRPC, so a unary call costs no more than its frames. What is not gRPC's
//! gets a task a request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use h2::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::admit::Terms;
use super::calls::Calls;
use super::debug;
use super::framing::Piece;
use super::io::{Spout, Wire, WireState};
use crate::front::Front;

/// Window of one stream for what clients send: a request of the largest size needs few updates.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of a connection: what a client can make the server hold for it.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of headers of one request. grpc-go takes 16 MiB, of which a few bytes on the wire may be made
/// by its compression; nobody who means well has so many.
const HEADERS_MAX: u32 = 64 << 10;
/// Streams that a client may reset before they are served, without being taken for an attacker. One
/// read of the socket may bring thousands of calls that were given up while this thread was busy.
const RESETS_MAX: usize = 20_000;

/// The least time between pings where `--grpc-keepalive-min-time` is 0: embed/etcd.go passes nothing on
/// then, and grpc-go has this default (internal/transport/defaults.go).
const PING_INTERVAL_MIN: Duration = Duration::from_secs(5 * 60);
/// When the server pings where one of `--grpc-keepalive-interval` and `-timeout` is 0: likewise.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
/// How long it then waits for an answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client that does not read may hold up the end of its connection.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub async fn serve<S>(front: Rc<Front>, socket: S, terms: Terms)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = &front.common.config;
    let ping_interval_min = terms
        .counts_pings()
        .then_some(match config.grpc_keepalive_min_time {
            Duration::ZERO => PING_INTERVAL_MIN,
            given => given,
        });
    let state = WireState::new(Instant::now(), ping_interval_min);
    let wire = Wire::new(socket, state.clone());
    let spout = wire.spout();
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX));
    if config.max_concurrent_streams < u32::MAX {
        builder.max_concurrent_streams(config.max_concurrent_streams);
    }
    let handshake = {
        let mut handshake = std::pin::pin!(builder.handshake::<_, Piece>(wire));
        std::future::poll_fn(|cx| {
            let shaken = handshake.as_mut().poll(cx);
            // The server's settings go out although nobody else empties the wire yet.
            let _ = spout.poll_drain(cx);
            shaken
        })
        .await
    };
    let Ok(mut connection) = handshake else {
        return;
    };
    let (interval, timeout) = match (config.grpc_keepalive_interval, config.grpc_keepalive_timeout) {
        (Duration::ZERO, _) | (_, Duration::ZERO) => (KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT),
        // grpc-go's server pings at most once a second: server.go KeepaliveParams.
        (interval, timeout) => (interval.max(Duration::from_secs(1)), timeout),
    };
    let keepalive = Keepalive::new(&mut connection, interval, timeout);
    let calls = Calls::new(front.clone(), state, terms);
    let stopped = {
        let front = front.clone();
        Box::pin(async move { front.stopped().await })
    };
    Task {
        connection,
        spout: spout.clone(),
        calls,
        keepalive,
        stopped: Some(stopped),
    }
    .await;
    // The last words, for example why the connection ends.
    let last_words = std::future::poll_fn(|cx| spout.poll_drain(cx));
    let _ = tokio::time::timeout(LAST_WORDS_MAX, last_words).await;
}

/// The server's own pings: `--grpc-keepalive-interval` without a sign of life, then one ping,
/// then `--grpc-keepalive-timeout`.
struct Keepalive {
    ping_pong: Option<h2::PingPong>,
    interval: Duration,
    timeout: Duration,
    pinged: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    fn new<S>(connection: &mut Connection<Wire<S>, Piece>, interval: Duration, timeout: Duration) -> Keepalive
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        Keepalive {
            ping_pong: connection.ping_pong(),
            interval,
            timeout,
            pinged: None,
            timer: Box::pin(tokio::time::sleep(interval)),
        }
    }

    /// True when the client is gone.
    fn poll(&mut self, last_read: Instant, cx: &mut Context<'_>) -> bool {
        let Some(ping_pong) = &mut self.ping_pong else {
            return false;
        };
        let _ = ping_pong.poll_pong(cx);
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.pinged.is_some_and(|pinged| last_read >= pinged) {
                self.pinged = None;
            }
            let next = match self.pinged {
                Some(_) => return true,
                None if now.saturating_duration_since(last_read) >= self.interval => {
                    let _ = ping_pong.send_ping(h2::Ping::opaque());
                    self.pinged = Some(now);
                    now + self.timeout
                }
                None => last_read + self.interval,
            };
            self.timer.as_mut().reset(next.into());
        }
        false
    }
}

/// The task of a connection.
struct Task<S> {
    connection: Connection<Wire<S>, Piece>,
    spout: Rc<Spout<S>>,
    calls: Calls,
    keepalive: Keepalive,
    /// `None` when the client has been told that the server stops.
    stopped: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Task<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.keepalive.poll(this.calls.last_read(), cx) {
            return Poll::Ready(());
        }
        if let Some(stopped) = &mut this.stopped
            && stopped.as_mut().poll(cx).is_ready()
        {
            this.stopped = None;
            this.connection.graceful_shutdown();
            this.calls.end_streams();
        }
        this.calls.run(cx);
        loop {
            // Drives the connection: reads, and writes what the calls have made. What is made below wakes
            // this task, so that one flush carries the answers of a whole round.
            match this.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    debug::tell(&request);
                    this.calls.open(request, respond, cx);
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match this.spout.poll_drain(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}
