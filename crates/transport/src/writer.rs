//! The side of a stream that sends: the endless body of the answer to another member's request
//! (rafthttp/stream.go, streamWriter). It takes what waits for it when the connection takes more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use member::LogLine;
use raft::Message;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::core::Core;
use crate::host::Count;
use crate::lane::Taken;
use crate::peer::{Peer, StreamKind};
use crate::{appends, framing};

/// How often a stream shows that it lives: a third of the time that the other side waits for more.
const HEARTBEAT: Duration = Duration::from_nanos(5_000_000_000 / 3);
/// Bytes of entries that go into one piece, about.
const PIECE_BYTES: u64 = 256 << 10;

/// What a stream writes.
enum Encoder {
    Appends(appends::Encoder),
    Messages,
}

impl Encoder {
    fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        match self {
            Encoder::Appends(encoder) => encoder.encode(message, out),
            Encoder::Messages => framing::encode(message, out),
        }
    }

    fn encode_heartbeat(&self, out: &mut BytesMut) {
        match self {
            Encoder::Appends(_) => appends::Encoder::encode_heartbeat(out),
            Encoder::Messages => framing::encode_heartbeat(out),
        }
    }
}

/// The body.
pub(crate) struct Writer {
    core: Arc<Core>,
    peer: Arc<Peer>,
    kind: StreamKind,
    number: u64,
    encoder: Encoder,
    heartbeat: Interval,
}

impl Writer {
    /// Takes the place of the stream of this kind to the member. To be called inside the runtime.
    pub(crate) fn attach(core: &Arc<Core>, peer: &Arc<Peer>, kind: StreamKind) -> Writer {
        let number = core.next_number();
        let replaced = peer.lane(kind).attach(number);
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now.
        heartbeat.reset();
        let writer = Writer {
            core: core.clone(),
            peer: peer.clone(),
            kind,
            number,
            encoder: match kind {
                StreamKind::Appends => Encoder::Appends(appends::Encoder::default()),
                StreamKind::Messages => Encoder::Messages,
            },
            heartbeat,
        };
        core.log(
            LogLine::info("set message encoder")
                .with("from", format!("{:x}", core.identity.id))
                .with("to", format!("{:x}", peer.id))
                .with("stream-type", kind.name()),
        );
        peer.activate(core);
        if replaced {
            core.log(writer.line(LogLine::warn("closed TCP streaming connection with remote peer")));
        }
        let text = "established TCP streaming connection with remote peer";
        core.log(writer.line(LogLine::info(text)));
        writer
    }

    fn line(&self, line: LogLine) -> LogLine {
        line.with("stream-writer-type", self.kind.name())
            .with("local-member-id", format!("{:x}", self.core.identity.id))
            .with("remote-peer-id", format!("{:x}", self.peer.id))
    }

    fn sent(&self, piece: BytesMut) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.core.count(Count::Sent(self.peer.id, piece.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }
}

impl Body for Writer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        match this.peer.lane(this.kind).poll_take(this.number, PIECE_BYTES, cx) {
            Taken::Replaced => Poll::Ready(None),
            Taken::Messages(messages) => {
                let mut piece = BytesMut::new();
                for message in &messages {
                    this.encoder.encode(message, &mut piece);
                }
                this.sent(piece)
            }
            Taken::Nothing => match this.heartbeat.poll_tick(cx) {
                Poll::Ready(_) => {
                    let mut piece = BytesMut::new();
                    this.encoder.encode_heartbeat(&mut piece);
                    this.sent(piece)
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.peer.lane(self.kind).detach(self.number).is_none() {
            // Replaced: what waited is sent by its successor, so raft has nothing to hear of. Of what was under way
            // etcd tells raft nothing either (rafthttp/stream.go, closeUnlocked).
            return;
        }
        // Whatever was on its way may be lost.
        self.core.host.unreachable(self.peer.id);
        self.core.count(Count::SendFailed(self.peer.id));
        let reason = "the connection was closed";
        self.peer
            .deactivate(&self.core, self.kind.name(), "write", reason);
        let text = "lost TCP streaming connection with remote peer";
        self.core.log(self.line(LogLine::warn(text)));
    }
}
