//! What all parts of the transport share, on every thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use disk::Disk;
use member::LogLine;
use raft::Message;

use crate::dial::Dialer;
use crate::headers::Identity;
use crate::host::{Count, Host};
use crate::peer::{Peer, go_name};

/// See the module.
pub(crate) struct Core {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) identity: Identity,
    pub(crate) dialer: Dialer,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snap_dir: PathBuf,
    peers: RwLock<BTreeMap<u64, Arc<Peer>>>,
    /// Messages for which this member had no room.
    overloaded: AtomicU64,
    /// Numbers of streams and of files.
    last_number: AtomicU64,
    /// Bytes of posts that have not come as a whole.
    pub(crate) gathered: AtomicU64,
    /// Snapshots under way to others.
    pub(crate) sending: AtomicUsize,
    /// Who sends this member a snapshot, and whether it is a stranger.
    pub(crate) receiving: Mutex<BTreeMap<u64, bool>>,
}

impl Core {
    pub(crate) fn new(
        host: Arc<dyn Host>,
        identity: Identity,
        dialer: Dialer,
        (disk, snap_dir): (Arc<dyn Disk>, PathBuf),
    ) -> Core {
        Core {
            host,
            identity,
            dialer,
            disk,
            snap_dir,
            peers: RwLock::default(),
            overloaded: AtomicU64::new(0),
            last_number: AtomicU64::new(0),
            gathered: AtomicU64::new(0),
            sending: AtomicUsize::new(0),
            receiving: Mutex::default(),
        }
    }

    pub(crate) fn log(&self, line: LogLine) {
        self.host.log(line);
    }

    pub(crate) fn count(&self, count: Count) {
        self.host.count(count);
    }

    /// Gives raft messages. What finds no room is lost, as in Go (rafthttp/stream.go, decodeLoop), and said
    /// ever more rarely.
    pub(crate) fn deliver(&self, messages: &mut Vec<Message>) {
        self.host.deliver(messages);
        for message in messages.drain(..) {
            self.count(Count::ReceiveFailed(format!("{:x}", message.from)));
            let dropped = self.overloaded.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                let text =
                    "dropped internal Raft message since receiving buffer is full (overloaded network)";
                let is_active = self
                    .peer(message.from)
                    .is_some_and(|peer| peer.active_since().is_some());
                self.log(
                    LogLine::warn(text)
                        .with("message-type", go_name(message.kind))
                        .with("local-member-id", format!("{:x}", self.identity.id))
                        .with("from", format!("{:x}", message.from))
                        .with("remote-peer-id", format!("{:x}", message.from))
                        .with("remote-peer-active", is_active)
                        .with("dropped", dropped),
                );
            }
        }
    }

    /// A number that was not given before.
    pub(crate) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn peers(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Arc<Peer>>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn peers_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Arc<Peer>>> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.peers().get(&id).cloned()
    }
}

/// Counts one of those that may be under way at once, as long as it is held.
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    /// A place, if there is one.
    pub(crate) fn take(taken: &'a AtomicUsize, max: usize) -> Option<Place<'a>> {
        if taken.fetch_add(1, Ordering::SeqCst) < max {
            return Some(Place(taken));
        }
        taken.fetch_sub(1, Ordering::SeqCst);
        None
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes of all unfinished posts together. One alone may have more: a message has up to its own limit.
const GATHERED_BYTES_MAX: u64 = 128 << 20;

/// What one unfinished post has of these bytes, as long as it is held.
pub(crate) struct Share<'a> {
    all: &'a AtomicU64,
    own: u64,
}

impl<'a> Share<'a> {
    pub(crate) fn new(all: &'a AtomicU64) -> Share<'a> {
        Share { all, own: 0 }
    }

    /// Whether there is room for so many bytes more.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let before = self.all.fetch_add(bytes, Ordering::SeqCst);
        let is_alone = before == self.own;
        self.own += bytes;
        is_alone || before + bytes <= GATHERED_BYTES_MAX
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_posts_share_their_room() {
        let all = AtomicU64::new(0);
        let mut alone = Share::new(&all);
        assert!(alone.grow(500 << 20), "a message may be large");
        let mut small = Share::new(&all);
        assert!(!small.grow(1));
        drop(alone);
        assert!(small.grow(100 << 20));
        let mut third = Share::new(&all);
        assert!(third.grow(20 << 20) && !third.grow(20 << 20));
        drop((small, third));
        assert_eq!(all.load(Ordering::SeqCst), 0);
    }
}
