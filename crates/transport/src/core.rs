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
use crate::peer::Peer;
use crate::room::Room;

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
    /// For requests of which not all has come.
    pub(crate) room: Room,
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
            room: Room::default(),
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
                        .with("message-type", message.kind.name())
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
