//! The way of a snapshot to another member: the message, then the data file as it is read
//! (rafthttp/snapshot_sender.go). Holds a few chunks of it in memory, never more.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Method;
use member::{LogLine, Parcel, human_bytes};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;

use crate::body::{self, Outbound};
use crate::client::{self, Wire};
use crate::core::{Core, Place};
use crate::framing;
use crate::host::Count;
use crate::peer::Peer;
use crate::pipeline;

/// Snapshots that may be under way at once: etcdserver/server.go, maxInFlightMsgSnap.
pub(crate) const SHIPMENTS_MAX: usize = 16;
/// Chunks that were read and not sent yet.
const CHUNKS_MAX: usize = 4;
/// How long the other side may take nothing: its disk may be slow.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// How long the other side may look at what it has got, before it answers.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(600);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Where snapshots are posted.
pub(crate) const PATH: &str = "/raft/snapshot";

/// Says what became of a snapshot, whatever becomes of it.
struct Report<'a> {
    core: &'a Core,
    id: u64,
    begun: Instant,
    arrived: bool,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.core.count(Count::SnapshotSending(self.id, false));
        self.core.count(Count::SnapshotFileSent(self.begun.elapsed()));
        self.core.host.snapshot_sent(self.id, self.arrived);
    }
}

/// Sends a snapshot.
pub(crate) async fn run(core: Arc<Core>, peer: Arc<Peer>, parcel: Parcel) {
    let begun = Instant::now();
    core.count(Count::SnapshotSending(peer.id, true));
    let mut report = Report {
        core: &core,
        id: peer.id,
        begun,
        arrived: false,
    };
    let Some(_place) = Place::take(&core.sending, SHIPMENTS_MAX) else {
        return;
    };
    let index = parcel
        .message
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.index);
    let mut head = BytesMut::new();
    framing::encode(&parcel.message, &mut head);
    let bytes = head.len() as u64 + parcel.db.size();
    let line = |line: LogLine| {
        line.with("snapshot-index", index)
            .with("remote-peer-id", format!("{:x}", peer.id))
            .with("bytes", bytes)
            .with("size", human_bytes(bytes))
    };
    core.log(line(LogLine::info("sending database snapshot")));
    let url = peer.url();
    match post(&core, &peer, &url, head.freeze(), parcel).await {
        Ok(()) => {
            peer.activate(&core);
            report.arrived = true;
            core.log(line(LogLine::info("sent database snapshot")));
            core.log(
                LogLine::info("sent merged snapshot")
                    .with("from", format!("{:x}", core.identity.id))
                    .with("to", format!("{:x}", peer.id))
                    .with("bytes", bytes)
                    .with("size", human_bytes(bytes))
                    .with("took", begun.elapsed()),
            );
            core.count(Count::Sent(peer.id, bytes));
            core.count(Count::SnapshotSent(peer.id, begun.elapsed()));
        }
        Err(reason) => {
            core.log(line(LogLine::warn("failed to send database snapshot")).with("error", reason.clone()));
            peer.failed(&url);
            peer.deactivate(&core, "sendMsgSnap", "post", &reason);
            core.host.unreachable(peer.id);
            core.count(Count::SendFailed(peer.id));
            core.count(Count::SnapshotSendFailed(peer.id));
        }
    }
}

async fn post(
    core: &Core,
    peer: &Peer,
    url: &api::url::Url,
    head: Bytes,
    parcel: Parcel,
) -> Result<(), String> {
    let mut wire = Wire::open(&core.dialer, url, WRITE_MAX).await?;
    let (sender, chunks) = channel(CHUNKS_MAX);
    let (done, all_read) = oneshot::channel();
    thread::Builder::new()
        .name("snapshot-send".into())
        .spawn(move || {
            read_file(head, &parcel, &sender);
            // Nobody waits for it if the connection broke.
            let _ = done.send(());
        })
        .map_err(|error| error.to_string())?;
    let headers = client::with_type(pipeline::identity(core), "application/octet-stream");
    let request = client::request(Method::POST, url, PATH, headers, Outbound::Chunks(chunks))?;
    // The file may take as long as it takes: what stands still ends by `WRITE_MAX`. Then it is the other
    // side's turn.
    let answer = wire.send(request);
    tokio::pin!(answer);
    let answered = tokio::select! {
        answered = &mut answer => answered,
        _ = all_read => {
            let answered = tokio::time::timeout(ANSWER_WAIT_MAX, answer).await;
            answered.unwrap_or_else(|_| Err("i/o timeout".to_owned()))
        }
    };
    let mut response = answered?;
    let text = body::whole(response.body_mut(), ANSWER_BYTES_MAX).await;
    let text = text.map_err(|error| error.to_string())?;
    pipeline::check_answer(
        core,
        peer,
        url,
        PATH,
        response.status(),
        response.headers(),
        &text,
    )
}

/// Reads the file for as long as somebody wants it. A chunk that cannot be read breaks the connection,
/// or the other side would take what it has for the whole.
fn read_file(head: Bytes, parcel: &Parcel, sender: &Sender<io::Result<Bytes>>) {
    if sender.blocking_send(Ok(head)).is_err() {
        return;
    }
    let mut stream = parcel.db.stream();
    loop {
        let chunk = match stream.next_chunk() {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => return,
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let failed = chunk.is_err();
        if sender.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}
