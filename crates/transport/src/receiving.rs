//! The way of a snapshot into this member: the message is read, then the data file goes to the disk as it
//! comes (rafthttp/http.go, snapshotHandler; snap/db.go, SaveDBFrom). What does not arrive as a whole
//! leaves nothing behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use disk::Open;
use hyper::body::Incoming;
use member::{LogLine, human_bytes};
use raft::{Message, MessageKind};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::body::{self, Pace, ReadError};
use crate::core::Core;
use crate::framing::{Decoder, FrameError, SNAPSHOT_MESSAGE_BYTES_MAX};
use crate::host::{Answer, Count};
use crate::lane::lock;
use crate::message::Received;
use crate::room::Share;

/// Snapshots that may come at once from those who are not known as members. A member always has a place, one
/// snapshot at a time: only a leader sends any.
const STRANGERS_MAX: usize = 4;
/// Pieces that came and are not on the disk yet.
const PIECES_MAX: usize = 16;

/// What the thread that writes is told.
enum ToFile {
    Piece(Bytes),
    /// That was all: the file is to be accepted.
    End,
}

/// The place of a snapshot that comes, as long as it is held.
struct Place<'a> {
    core: &'a Core,
    from: u64,
}

impl<'a> Place<'a> {
    fn take(core: &'a Core, from: u64) -> Result<Place<'a>, String> {
        let is_stranger = core.peer(from).is_none_or(|peer| peer.is_remote);
        let mut places = lock(&core.receiving);
        if places.contains_key(&from) {
            return Err("another snapshot of this member is coming".to_owned());
        }
        let strangers = places.values().filter(|is_stranger| **is_stranger).count();
        if is_stranger && strangers >= STRANGERS_MAX {
            return Err("too many snapshots are coming at once".to_owned());
        }
        places.insert(from, is_stranger);
        drop(places);
        Ok(Place { core, from })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.core.receiving).remove(&self.from);
    }
}

/// Takes a snapshot out of a request, and says what to answer. `sender` is the address it comes from, `share` what
/// it may gather before the file.
pub(crate) async fn run(core: &Arc<Core>, body: &mut Incoming, sender: &str, share: Share<'_>) -> Answer {
    let begun = Instant::now();
    let mut decoder = Decoder::new(SNAPSHOT_MESSAGE_BYTES_MAX);
    let read = read_message(&mut decoder, body, share).await;
    let message = match read {
        Ok(message) => message,
        Err(reason) => {
            core.log(
                LogLine::warn("failed to decode Raft message")
                    .with("local-member-id", format!("{:x}", core.identity.id))
                    .with("remote-snapshot-sender-id", "0")
                    .with("error", reason.clone()),
            );
            core.count(Count::ReceiveFailed(sender.to_owned()));
            core.count(Count::SnapshotReceiveFailed(Some(0)));
            return Answer::error(400, &format!("failed to decode raft message ({reason})"));
        }
    };
    let from = message.as_ref().map_or(0, |message| message.from);
    let snapshot = message
        .filter(|message| message.kind == MessageKind::Snapshot)
        .and_then(|message| {
            message
                .snapshot
                .as_ref()
                .map(|snapshot| snapshot.index)
                .map(|index| (message, index))
        });
    let Some((message, index)) = snapshot else {
        core.log(
            LogLine::warn("unexpected Raft message type")
                .with("local-member-id", format!("{:x}", core.identity.id))
                .with("remote-snapshot-sender-id", format!("{from:x}")),
        );
        core.count(Count::SnapshotReceiveFailed(Some(from)));
        return Answer::error(400, "wrong raft message type");
    };
    if let Err(answer) = check(core, &message) {
        core.count(Count::SnapshotReceiveFailed(Some(from)));
        return answer;
    }
    core.count(Count::SnapshotReceiving(from, true));
    let result = receive(core, decoder, body, message, index).await;
    core.count(Count::SnapshotReceiving(from, false));
    match result {
        Ok(()) => {
            core.count(Count::SnapshotReceived(from, begun.elapsed()));
            Answer {
                status: 204,
                ..Answer::default()
            }
        }
        Err(reason) => {
            core.log(
                LogLine::warn("failed to save incoming database snapshot")
                    .with("local-member-id", format!("{:x}", core.identity.id))
                    .with("remote-snapshot-sender-id", format!("{from:x}"))
                    .with("incoming-snapshot-index", index)
                    .with("error", reason.clone()),
            );
            core.count(Count::SnapshotReceiveFailed(Some(from)));
            Answer::error(500, &format!("failed to save KV snapshot ({reason})"))
        }
    }
}

/// The message in front; `None` if it is of a kind that members send only to themselves.
async fn read_message(
    decoder: &mut Decoder,
    body: &mut Incoming,
    mut share: Share<'_>,
) -> Result<Option<Message>, String> {
    let mut pace = Pace::default();
    loop {
        match decoder.next_message() {
            Ok(Some(Received::Message(message))) => return Ok(Some(message)),
            Ok(Some(Received::LinkHeartbeat | Received::Ignored(_))) => return Ok(None),
            Err(error @ FrameError::TooLong) => return Err(error.to_string()),
            Err(error) => return Err(error.to_string()),
            Ok(None) => {}
        }
        match body::next_of_many(body, &mut pace).await {
            Ok(Some(piece)) if share.grow(piece.len() as u64) => decoder.push(&piece),
            Ok(Some(_)) => return Err(ReadError::NoRoom.to_string()),
            Ok(None) if decoder.is_between_messages() => return Err("EOF".to_owned()),
            Ok(None) => return Err(ReadError::Cut.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// As [`crate::reader::is_welcome`], before a file is taken.
fn check(core: &Core, message: &Message) -> Result<(), Answer> {
    let line = |text: &'static str, name: &'static str, id: u64| {
        LogLine::warn(text)
            .with("local-member-id", format!("{:x}", core.identity.id))
            .with(name, format!("{id:x}"))
    };
    if core.host.is_removed(message.from) {
        let text = "rejected Raft message from removed member";
        core.log(line(text, "removed-member-id", message.from));
        return Err(Answer::error(500, "error processing raft message"));
    }
    if message.to != core.identity.id {
        let text = "rejected Raft message to mismatch member";
        core.log(line(text, "mismatch-member-id", message.to));
        return Err(Answer::error(500, "error processing raft message"));
    }
    Ok(())
}

async fn receive(
    core: &Arc<Core>,
    mut decoder: Decoder,
    body: &mut Incoming,
    message: Message,
    index: u64,
) -> Result<(), String> {
    let from = message.from;
    let _place = Place::take(core, from)?;
    let size = crate::message::encode(&message).len() as u64;
    core.log(
        LogLine::info("receiving database snapshot")
            .with("local-member-id", format!("{:x}", core.identity.id))
            .with("remote-snapshot-sender-id", format!("{from:x}"))
            .with("incoming-snapshot-index", index)
            .with("incoming-snapshot-message-size-bytes", size)
            .with("incoming-snapshot-message-size", human_bytes(size)),
    );
    core.count(Count::Received(from, size));
    let (sender, pieces) = channel(PIECES_MAX);
    let (done, accepted) = oneshot::channel();
    let for_thread = core.clone();
    let path = core.snap_dir.join(format!("tmp{:010}", core.next_number()));
    thread::Builder::new()
        .name("snapshot-receive".into())
        .spawn(move || {
            let result = write_file(&for_thread, &path, pieces, message, index);
            // Nobody waits for it if the connection broke.
            let _ = done.send(result);
        })
        .map_err(|error| error.to_string())?;
    let fed = feed(core, from, &mut decoder, body, &sender).await;
    // Without the word that this was all, the thread takes it for cut off.
    drop(sender);
    let result = accepted
        .await
        .unwrap_or_else(|_| Err("the thread ended".to_owned()));
    fed.and(result)
}

/// Gives the thread what comes.
async fn feed(
    core: &Core,
    from: u64,
    decoder: &mut Decoder,
    body: &mut Incoming,
    sender: &Sender<ToFile>,
) -> Result<(), String> {
    let rest = decoder.take_rest();
    let mut next = Some(rest);
    let mut pace = Pace::default();
    while let Some(piece) = next {
        core.count(Count::Received(from, piece.len() as u64));
        if sender.send(ToFile::Piece(piece)).await.is_err() {
            // It says itself why it takes no more.
            return Ok(());
        }
        next = body::next_of_many(body, &mut pace)
            .await
            .map_err(|error| error.to_string())?;
    }
    let _ = sender.send(ToFile::End).await;
    Ok(())
}

/// Writes the file, syncs it and gives it to the member. Removes what did not come as a whole.
fn write_file(
    core: &Core,
    path: &Path,
    mut pieces: Receiver<ToFile>,
    message: Message,
    index: u64,
) -> Result<(), String> {
    let begun = Instant::now();
    let from = message.from;
    let written = write_pieces(core, path, &mut pieces);
    let bytes = match written {
        Ok(bytes) => bytes,
        Err(error) => {
            // What cannot be removed now goes at the next start.
            let _ = core.disk.remove_file(path);
            return Err(crate::dial::words(&error));
        }
    };
    core.log(
        LogLine::info("received and saved database snapshot")
            .with("local-member-id", format!("{:x}", core.identity.id))
            .with("remote-snapshot-sender-id", format!("{from:x}"))
            .with("incoming-snapshot-index", index)
            .with("incoming-snapshot-size-bytes", bytes)
            .with("incoming-snapshot-size", human_bytes(bytes))
            .with("download-took", begun.elapsed()),
    );
    core.host.accept_snapshot(PathBuf::from(path), message)
}

fn write_pieces(core: &Core, path: &Path, pieces: &mut Receiver<ToFile>) -> io::Result<u64> {
    let begun = Instant::now();
    let file = core.disk.open(path, Open::CreateNew)?;
    let mut offset = 0;
    loop {
        match pieces.blocking_recv() {
            Some(ToFile::Piece(piece)) => {
                file.write_at(&piece, offset)?;
                offset += piece.len() as u64;
            }
            Some(ToFile::End) => break,
            None => return Err(io::Error::other("unexpected EOF")),
        }
    }
    let written = Instant::now();
    file.sync_all()?;
    core.count(Count::SnapshotFileSynced(written.elapsed()));
    core.count(Count::SnapshotFileSaved(begun.elapsed()));
    Ok(offset)
}
