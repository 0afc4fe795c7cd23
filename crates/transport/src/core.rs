//! What all parts of the transport share, on every thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use disk::Disk;
use member::LogLine;

use crate::dial::Dialer;
use crate::headers::Identity;
use crate::host::{Count, Host};
use crate::peer::Peer;

/// See the module.
pub(crate) struct Core {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) identity: Identity,
    pub(crate) dialer: Dialer,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snap_dir: PathBuf,
    peers: RwLock<BTreeMap<u64, Arc<Peer>>>,
    /// Numbers of streams and of files.
    last_number: AtomicU64,
    /// Snapshots under way to others, and from others, and requests of the host.
    pub(crate) sending: AtomicUsize,
    pub(crate) receiving: AtomicUsize,
    pub(crate) calling: AtomicUsize,
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
            last_number: AtomicU64::new(0),
            sending: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            calling: AtomicUsize::new(0),
        }
    }

    pub(crate) fn log(&self, line: LogLine) {
        self.host.log(line);
    }

    pub(crate) fn count(&self, count: Count) {
        self.host.count(count);
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
