//! The side of a stream that receives: it asks the other member for the stream, again and again, and reads
//! what comes (rafthttp/stream.go, streamReader).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use member::LogLine;
use raft::{Message, MessageKind};

use crate::body::{self, Outbound, ReadError};
use crate::client::{self, Wire};
use crate::core::Core;
use crate::framing::{self, FrameError};
use crate::headers::{self, CLUSTER_ID, CLUSTER_MISMATCH, INCOMPATIBLE_VERSION, TO};
use crate::host::Count;
use crate::message::Received;
use crate::peer::{Peer, StreamKind};
use crate::{READ_MAX, appends};

/// Pause between attempts: rafthttp/transport.go, DialRetryFrequency.
const DIAL_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of the body of a refusal.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

/// What a heartbeat of the connection itself takes: a message with nothing but its kind.
const LINK_HEARTBEAT_BYTES: u64 = 2;

/// An open stream. The connection ends with it.
struct Stream {
    body: Incoming,
    _wire: Wire,
}

/// What reads a stream.
enum Decoder {
    Appends(appends::Decoder),
    Messages(framing::Decoder),
}

impl Decoder {
    fn push(&mut self, bytes: &[u8]) {
        match self {
            Decoder::Appends(decoder) => decoder.push(bytes),
            Decoder::Messages(decoder) => decoder.push(bytes),
        }
    }

    fn next_message(&mut self) -> Result<Option<Received>, FrameError> {
        match self {
            Decoder::Appends(decoder) => decoder.next_message(),
            Decoder::Messages(decoder) => decoder.next_message(),
        }
    }

    fn is_between_messages(&self) -> bool {
        match self {
            Decoder::Appends(decoder) => decoder.is_between_messages(),
            Decoder::Messages(decoder) => decoder.is_between_messages(),
        }
    }
}

/// How a stream ended.
enum End {
    /// As streams end whose other side stops.
    Closed(&'static str),
    Broken(String),
}

/// Keeps a stream from the member open, until it is aborted.
pub(crate) async fn run(core: Arc<Core>, peer: Arc<Peer>, kind: StreamKind) {
    let line = |line: LogLine| {
        line.with("stream-reader-type", kind.name())
            .with("local-member-id", format!("{:x}", core.identity.id))
            .with("remote-peer-id", format!("{:x}", peer.id))
    };
    core.log(line(LogLine::info("started stream reader with remote peer")));
    loop {
        match dial(&core, &peer, kind).await {
            Err(reason) => peer.deactivate(&core, kind.name(), "dial", &reason),
            Ok(mut stream) => {
                peer.activate(&core);
                let text = "established TCP streaming connection with remote peer";
                core.log(line(LogLine::info(text)));
                let end = read(&core, &peer, kind, &mut stream.body).await;
                let reason = match &end {
                    End::Closed(reason) => (*reason).to_owned(),
                    End::Broken(reason) => reason.clone(),
                };
                let text = "lost TCP streaming connection with remote peer";
                core.log(line(LogLine::warn(text)).with("error", reason));
                if let End::Broken(reason) = end {
                    peer.deactivate(&core, kind.name(), "read", &reason);
                }
            }
        }
        tokio::time::sleep(DIAL_PAUSE).await;
    }
}

async fn dial(core: &Core, peer: &Peer, kind: StreamKind) -> Result<Stream, String> {
    let url = peer.url();
    let asked = async {
        let mut headers = HeaderMap::new();
        core.identity.write(&mut headers);
        headers::put(&mut headers, TO, &format!("{:x}", peer.id));
        let path = format!("{}{:x}", kind.path(), core.identity.id);
        let request = client::request(Method::GET, &url, &path, headers, Outbound::Full(None))?;
        let mut wire = Wire::open(&core.dialer, &url, READ_MAX).await?;
        let response = tokio::time::timeout(READ_MAX, wire.send(request)).await;
        let response = response.map_err(|_| "i/o timeout".to_owned())??;
        let (head, mut body) = response.into_parts();
        if head.status == StatusCode::OK {
            return Ok(Stream { body, _wire: wire });
        }
        let text = body::whole(&mut body, REFUSAL_BYTES_MAX).await;
        let text = text.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Err(refused(core, peer, head.status, &head.headers, &text))
    };
    asked.await.inspect_err(|_| peer.failed(&url))
}

/// What it means that there is no stream: the reason in Go's words.
fn refused(core: &Core, peer: &Peer, status: StatusCode, headers: &HeaderMap, text: &str) -> String {
    let own = format!("{:x}", core.identity.id);
    let other = format!("{:x}", peer.id);
    match (status, text.strip_suffix('\n').unwrap_or(text)) {
        (StatusCode::GONE, _) => {
            core.host.told_removed();
            "the member has been permanently removed from the cluster".to_owned()
        }
        (StatusCode::NOT_FOUND, _) => format!("peer {other} failed to find local node {own}"),
        (StatusCode::PRECONDITION_FAILED, INCOMPATIBLE_VERSION) => {
            core.log(
                LogLine::warn(
                    "request sent was ignored by remote peer due to server version incompatibility",
                )
                .with("local-member-id", own)
                .with("remote-peer-id", other)
                .with("error", INCOMPATIBLE_VERSION),
            );
            INCOMPATIBLE_VERSION.to_owned()
        }
        (StatusCode::PRECONDITION_FAILED, CLUSTER_MISMATCH) => {
            let theirs = headers::get(headers, CLUSTER_ID).unwrap_or_default().to_owned();
            core.log(
                LogLine::warn("request sent was ignored by remote peer due to cluster ID mismatch")
                    .with("remote-peer-id", other)
                    .with("remote-peer-cluster-id", theirs)
                    .with("local-member-id", own)
                    .with(
                        "local-member-cluster-id",
                        format!("{:x}", core.identity.cluster_id),
                    )
                    .with("error", CLUSTER_MISMATCH),
            );
            CLUSTER_MISMATCH.to_owned()
        }
        (StatusCode::PRECONDITION_FAILED, text) => {
            format!("unhandled error {text:?} when precondition failed")
        }
        (status, _) => format!("unhandled http status {}", status.as_u16()),
    }
}

async fn read(core: &Core, peer: &Peer, kind: StreamKind, body: &mut Incoming) -> End {
    let mut decoder = match kind {
        StreamKind::Appends => Decoder::Appends(appends::Decoder::new(peer.id, core.identity.id)),
        StreamKind::Messages => Decoder::Messages(framing::Decoder::new(framing::MESSAGE_BYTES_MAX)),
    };
    let mut messages = Vec::new();
    loop {
        let piece = match body::next_piece(body).await {
            Ok(Some(piece)) => piece,
            Ok(None) if decoder.is_between_messages() => return End::Closed("EOF"),
            Ok(None) => return End::Broken("unexpected EOF".to_owned()),
            Err(ReadError::Timeout) => return End::Broken("i/o timeout".to_owned()),
            Err(error) => return End::Broken(error.to_string()),
        };
        decoder.push(&piece);
        core.count(Count::Received(peer.id, piece.len() as u64));
        let failed = loop {
            match decoder.next_message() {
                Ok(Some(Received::Message(message))) if is_welcome(core, &message) => messages.push(message),
                // Go counts these by the sender that they name: none.
                Ok(Some(Received::LinkHeartbeat)) => core.count(Count::Received(0, LINK_HEARTBEAT_BYTES)),
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !messages.is_empty() {
            core.deliver(&mut messages);
        }
        if let Some(error) = failed {
            core.count(Count::ReceiveFailed(format!("{:x}", peer.id)));
            return End::Broken(error.to_string());
        }
    }
}

/// Whether raft may see a message. A snapshot without its data file is of no use to anybody.
pub(crate) fn is_welcome(core: &Core, message: &Message) -> bool {
    if core.host.is_removed(message.from) {
        core.log(
            LogLine::warn("rejected Raft message from removed member")
                .with("local-member-id", format!("{:x}", core.identity.id))
                .with("removed-member-id", format!("{:x}", message.from)),
        );
        return false;
    }
    if message.to != core.identity.id {
        core.log(
            LogLine::warn("rejected Raft message to mismatch member")
                .with("local-member-id", format!("{:x}", core.identity.id))
                .with("mismatch-member-id", format!("{:x}", message.to)),
        );
        return false;
    }
    if message.kind == MessageKind::Snapshot {
        core.log(
            LogLine::warn("rejected a snapshot that came without its data file")
                .with("local-member-id", format!("{:x}", core.identity.id))
                .with("message-type", message.kind.name())
                .with("from", format!("{:x}", message.from)),
        );
        return false;
    }
    true
}
