//! Another member as this one reaches it: its URLs, the ways to it, and whether it is there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use api::url::Url;
use member::LogLine;
use raft::{Message, MessageKind};

use crate::core::Core;
use crate::host::Count;
use crate::lane::{Lane, Posts, Pushed, lock};

/// Messages that may wait for a stream: rafthttp/stream.go, streamBufSize.
const STREAM_MESSAGES_MAX: usize = 4096;
/// Messages that may wait for a post: rafthttp/pipeline.go, pipelineBufSize.
const POSTS_MAX: usize = 64;

/// Both kinds of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Entries alone.
    Appends,
    /// Everything.
    Messages,
}

impl StreamKind {
    pub(crate) const ALL: [StreamKind; 2] = [StreamKind::Appends, StreamKind::Messages];

    /// In the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            StreamKind::Appends => "stream MsgApp v2",
            StreamKind::Messages => "stream Message",
        }
    }

    /// Where it is asked for, in front of the ID of who asks.
    pub(crate) fn path(self) -> &'static str {
        match self {
            StreamKind::Appends => "/raft/stream/msgapp/",
            StreamKind::Messages => "/raft/stream/message/",
        }
    }
}

/// Another member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    /// Not known to be a member (yet): it is sent what raft has for it by posts alone.
    pub(crate) is_remote: bool,
    appends: Lane,
    messages: Lane,
    pub(crate) posts: Posts,
    urls: Mutex<Urls>,
    active: Mutex<Option<Instant>>,
    /// Messages that found no room.
    dropped: AtomicU64,
}

/// The URLs of a member, and which one is tried next.
#[derive(Debug)]
struct Urls {
    all: Vec<Url>,
    next: usize,
}

impl Peer {
    /// A member that was not reached yet. `urls` has one at least.
    pub(crate) fn new(id: u64, urls: Vec<Url>, is_remote: bool) -> Peer {
        Peer {
            id,
            is_remote,
            appends: Lane::new(STREAM_MESSAGES_MAX),
            messages: Lane::new(STREAM_MESSAGES_MAX),
            posts: Posts::new(POSTS_MAX),
            urls: Mutex::new(Urls { all: urls, next: 0 }),
            active: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn lane(&self, kind: StreamKind) -> &Lane {
        match kind {
            StreamKind::Appends => &self.appends,
            StreamKind::Messages => &self.messages,
        }
    }

    /// The URL to try.
    pub(crate) fn url(&self) -> Url {
        let urls = lock(&self.urls);
        urls.all[urls.next].clone()
    }

    /// That one did not work: the next one is to be tried.
    pub(crate) fn failed(&self, url: &Url) {
        let mut urls = lock(&self.urls);
        if urls.all[urls.next] == *url {
            urls.next = (urls.next + 1) % urls.all.len();
        }
    }

    /// Whether these are other URLs than before.
    pub(crate) fn set_urls(&self, all: Vec<Url>) -> bool {
        let mut urls = lock(&self.urls);
        let differ = urls.all != all;
        if differ {
            *urls = Urls { all, next: 0 };
        }
        differ
    }

    pub(crate) fn urls(&self) -> Vec<Url> {
        lock(&self.urls).all.clone()
    }

    /// Since when it can be reached; `None` if it cannot.
    pub(crate) fn active_since(&self) -> Option<Instant> {
        *lock(&self.active)
    }

    /// It was reached.
    pub(crate) fn activate(&self, core: &Core) {
        {
            let mut active = lock(&self.active);
            if active.is_some() {
                return;
            }
            *active = Some(Instant::now());
        }
        core.log(LogLine::info("peer became active").with("peer-id", format!("{:x}", self.id)));
        core.count(Count::Active(self.id, true));
    }

    /// It was not reached: `action` on `source` failed.
    pub(crate) fn deactivate(&self, core: &Core, source: &str, action: &str, reason: &str) {
        let was_active = lock(&self.active).take().is_some();
        if !was_active {
            return;
        }
        let error = format!("failed to {action} {:x} on {source} ({reason})", self.id);
        core.log(
            LogLine::warn("peer became inactive (message send to peer failed)")
                .with("peer-id", format!("{:x}", self.id))
                .with("error", error),
        );
        core.count(Count::Active(self.id, false));
        core.count(Count::Disconnected(self.id));
    }

    /// It is no peer any more: what counts the active ones forgets it.
    pub(crate) fn forget(&self, core: &Core) {
        if lock(&self.active).take().is_some() {
            core.count(Count::Active(self.id, false));
        }
    }

    /// Puts a message where the best way to the member is: rafthttp/peer.go, pick. What finds no room
    /// is dropped, and raft is told.
    pub(crate) fn send(&self, core: &Core, message: Box<Message>) {
        let kind = message.kind;
        let (pushed, way) = self.push(message);
        if matches!(pushed, Pushed::Queued) {
            return;
        }
        core.host.unreachable(self.id);
        core.count(Count::SendFailed(self.id));
        // What goes on is said ever more rarely.
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            core.log(
                LogLine::warn("dropped internal Raft message since sending buffer is full")
                    .with("message-type", kind.name())
                    .with("local-member-id", format!("{:x}", core.identity.id))
                    .with("from", format!("{:x}", core.identity.id))
                    .with("remote-peer-id", format!("{:x}", self.id))
                    .with("remote-peer-name", way)
                    .with("remote-peer-active", self.active_since().is_some())
                    .with("dropped", dropped),
            );
        }
    }

    fn push(&self, mut message: Box<Message>) -> (Pushed, &'static str) {
        if !self.is_remote {
            if message.kind == MessageKind::Append {
                match self.appends.push(message) {
                    Pushed::Closed(back) => message = back,
                    pushed => return (pushed, "streamMsgAppV2"),
                }
            }
            match self.messages.push(message) {
                Pushed::Closed(back) => message = back,
                pushed => return (pushed, "streamMsg"),
            }
        }
        (self.posts.push(message), PIPELINE)
    }
}

/// The posts, in the log.
pub(crate) const PIPELINE: &str = "pipeline";
