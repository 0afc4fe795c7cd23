//! Messages as requests of their own: where there is no stream (rafthttp/pipeline.go).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use member::{Level, LogLine};
use raft::{Message, MessageKind};

use crate::body::{self, Outbound};
use crate::client::{self, IDLE_MAX, Wire};
use crate::core::Core;
use crate::headers::{self, CLUSTER_ID, CLUSTER_MISMATCH, INCOMPATIBLE_VERSION};
use crate::host::Count;
use crate::peer::{PIPELINE, Peer};
use crate::{READ_MAX, message};

/// Connections to one member for this: rafthttp/pipeline.go, connPerPipeline.
pub(crate) const CONNECTIONS: usize = 4;
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Where messages are posted.
pub(crate) const PATH: &str = "/raft";

/// One of the connections: posts what waits, until it is aborted or the posts are closed and out.
pub(crate) async fn run(core: Arc<Core>, peer: Arc<Peer>) {
    let mut wire = None;
    while let Some(message) = next(&peer, &mut wire).await {
        let bytes = Bytes::from(message::encode(&message));
        let len = bytes.len() as u64;
        let url = peer.url();
        if message.kind == MessageKind::Propose {
            // Posted again after a connection broke, it might be done twice: it gets a new one, and that
            // once (Go repeats no request of which something was sent).
            wire = None;
        }
        match post(&core, &peer, &url, bytes, &mut wire).await {
            Ok(()) => {
                // Whether a member can be reached is for what took the place of this to say.
                if !peer.posts.is_closed() {
                    peer.activate(&core);
                }
                core.count(Count::Sent(peer.id, len));
            }
            Err(reason) => {
                wire = None;
                peer.failed(&url);
                peer.deactivate(&core, PIPELINE, "write", &reason);
                core.host.unreachable(peer.id);
                core.count(Count::SendFailed(peer.id));
            }
        }
    }
}

/// The next message. A connection that stays idle is not kept for it.
async fn next(peer: &Peer, wire: &mut Option<Wire>) -> Option<Message> {
    if wire.is_some() {
        if let Ok(next) = tokio::time::timeout(IDLE_MAX, peer.posts.next()).await {
            return next;
        }
        *wire = None;
    }
    peer.posts.next().await
}

async fn post(
    core: &Core,
    peer: &Peer,
    url: &api::url::Url,
    bytes: Bytes,
    kept: &mut Option<Wire>,
) -> Result<(), String> {
    let attempt = async |wire: &mut Wire| {
        let body = Outbound::full(bytes.clone());
        let headers = client::with_type(identity(core), "application/protobuf");
        let request = client::request(Method::POST, url, PATH, headers, body)?;
        let sent = tokio::time::timeout(READ_MAX, wire.send(request)).await;
        let mut response = sent.map_err(|_| "i/o timeout".to_owned())??;
        let text = body::whole(response.body_mut(), ANSWER_BYTES_MAX).await;
        let text = text.map_err(|error| error.to_string())?;
        Ok::<_, String>((response, text))
    };
    // The other side drops a connection that was idle for a while, perhaps just now.
    let reused = match kept.take().filter(Wire::is_fresh) {
        Some(mut wire) => attempt(&mut wire).await.ok().map(|answer| (wire, answer)),
        None => None,
    };
    let (wire, (response, text)) = match reused {
        Some(answered) => answered,
        None => {
            let mut wire = Wire::open(&core.dialer, url, READ_MAX).await?;
            let answer = attempt(&mut wire).await?;
            (wire, answer)
        }
    };
    check_answer(
        core,
        peer,
        url,
        PATH,
        response.status(),
        response.headers(),
        &text,
    )?;
    *kept = Some(wire);
    Ok(())
}

/// Who posts.
pub(crate) fn identity(core: &Core) -> HeaderMap {
    let mut headers = HeaderMap::new();
    core.identity.write(&mut headers);
    headers
}

/// Whether a post was taken (rafthttp/util.go, checkPostResponse). A 403 is not taken for a removal: a
/// member learns that of its streams.
pub(crate) fn check_answer(
    core: &Core,
    peer: &Peer,
    url: &api::url::Url,
    path: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), String> {
    let text = String::from_utf8_lossy(body);
    match (status, text.strip_suffix('\n').unwrap_or(&text)) {
        (StatusCode::NO_CONTENT, _) => Ok(()),
        (StatusCode::PRECONDITION_FAILED, INCOMPATIBLE_VERSION) => {
            core.log(
                LogLine::new(Level::Error, "request sent was ignored by peer")
                    .with("remote-peer-id", format!("{:x}", peer.id)),
            );
            Err(INCOMPATIBLE_VERSION.to_owned())
        }
        (StatusCode::PRECONDITION_FAILED, CLUSTER_MISMATCH) => {
            let theirs = headers::get(headers, CLUSTER_ID).unwrap_or_default().to_owned();
            core.log(
                LogLine::new(
                    Level::Error,
                    "request sent was ignored due to cluster ID mismatch",
                )
                .with("remote-peer-id", format!("{:x}", peer.id))
                .with("remote-peer-cluster-id", theirs)
                .with(
                    "local-member-cluster-id",
                    format!("{:x}", core.identity.cluster_id),
                ),
            );
            Err(CLUSTER_MISMATCH.to_owned())
        }
        (StatusCode::PRECONDITION_FAILED, text) => {
            Err(format!("unhandled error {text:?} when precondition failed"))
        }
        (status, _) => {
            let reason = status.canonical_reason().unwrap_or_default();
            Err(format!(
                "unexpected http status {reason} while posting to \"{url}{path}\""
            ))
        }
    }
}
