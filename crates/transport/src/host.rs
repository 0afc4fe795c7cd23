//! What the transport needs of the member around it. No sockets here.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use raft::Message;
use tokio::sync::oneshot;

/// The member to which the connections belong. No method may wait, but for [`Host::accept_snapshot`].
pub trait Host: member::Log + Send + Sync {
    /// Messages for raft, in the order in which they came. `messages` is drained, but for those for which there
    /// is no room: these are lost.
    fn deliver(&self, messages: &mut Vec<Message>);
    /// A message to this member was dropped, or a connection to it broke.
    fn unreachable(&self, id: u64);
    /// What became of a snapshot: said once for each that was to be sent.
    fn snapshot_sent(&self, id: u64, arrived: bool);
    /// Takes a data file that came as a whole and is synced, and gives the message to raft. Called on a
    /// thread that may wait.
    ///
    /// # Errors
    /// If the file is not what the message says; it is gone then.
    fn accept_snapshot(&self, received: PathBuf, message: Message) -> Result<(), String>;
    /// Whether the cluster has removed this member.
    fn is_removed(&self, id: u64) -> bool;
    /// Another member says that this one was removed: it should stop (etcd: errMemberRemoved).
    fn told_removed(&self);
    /// Answers what is asked on the peers' port beside raft's own paths.
    fn answer(&self, question: Question, reply: Reply);
    /// Takes what is to be counted.
    fn count(&self, count: Count);
}

/// A request to the peers' port.
#[derive(Clone, Debug)]
pub struct Question {
    /// GET, POST, ...
    pub method: String,
    /// Decoded as little as it came.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Question {
    /// The first header with this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// An answer over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The first header with this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A text as Go's `http.Error` sends it.
    pub fn error(status: u16, text: &str) -> Answer {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Answer {
            status,
            headers: vec![
                header("content-type", "text/plain; charset=utf-8"),
                header("x-content-type-options", "nosniff"),
            ],
            body: Bytes::from(format!("{text}\n")),
        }
    }

    /// The answer with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
}

/// Where an answer goes, from any thread and at any time. Dropped without one, the connection ends, as
/// those of Go do whose handler panics.
#[derive(Debug)]
pub struct Reply(pub(crate) oneshot::Sender<Answer>);

impl Reply {
    /// Answers. The other side may have gone meanwhile.
    pub fn send(self, answer: Answer) {
        let _ = self.0.send(answer);
    }
}

/// Something to count: rafthttp/metrics.go has the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// A member became active, or is so no longer: `active_peers`.
    Active(u64, bool),
    /// It is so no longer: `disconnected_peers_total`.
    Disconnected(u64),
    /// Bytes of messages to a member: `peer_sent_bytes_total`.
    Sent(u64, u64),
    /// Bytes of messages from a member, 0 where they name none: `peer_received_bytes_total`.
    Received(u64, u64),
    /// `peer_sent_failures_total`.
    SendFailed(u64),
    /// By the address, or the member, that they came from: `peer_received_failures_total`.
    ReceiveFailed(String),
    /// `peer_round_trip_time_seconds`.
    RoundTrip(u64, Duration),
    /// One more snapshot is under way to a member, or one less: `snapshot_send_inflights_total`.
    SnapshotSending(u64, bool),
    /// `snapshot_send_success` and `snapshot_send_total_duration_seconds`.
    SnapshotSent(u64, Duration),
    /// `snapshot_send_failures`.
    SnapshotSendFailed(u64),
    /// One more snapshot is under way from a member, or one less: `snapshot_receive_inflights_total`.
    SnapshotReceiving(u64, bool),
    /// `snapshot_receive_success` and `snapshot_receive_total_duration_seconds`.
    SnapshotReceived(u64, Duration),
    /// A data file was sent, or not: `etcd_disk_backend_snapshot_duration_seconds`.
    SnapshotFileSent(Duration),
    /// The data file of a snapshot was synced: `etcd_snap_db_fsync_duration_seconds`.
    SnapshotFileSynced(Duration),
    /// It was written as a whole: `etcd_snap_db_save_total_duration_seconds`.
    SnapshotFileSaved(Duration),
    /// By the sender, if it is known: `snapshot_receive_failures`.
    SnapshotReceiveFailed(Option<u64>),
}
