//! What readers hold: one immutable state of the store.

use std::any::Any;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::index::KeyIndex;
use crate::recent::RecentWrites;
use crate::{
    Error, Event, Hash, HashKv, History, HistoryLimits, KeyValueHash, RangeOptions, RangeResult, Reader,
    Wait, events,
};

/// What an upper layer publishes together with a view (leases, members); the store only carries it.
pub type Extra = Arc<dyn Any + Send + Sync>;

/// One state of the store. Holding it pins pages of the data file: hold it for a request, not for ever.
pub struct View {
    /// Main revision of the last change.
    pub revision: i64,
    /// Revision of the last compaction; −1 if there was none.
    pub compact_revision: i64,
    /// Raft index of the last entry this state contains.
    pub applied_index: u64,
    /// Raft term of that entry.
    pub applied_term: u64,
    /// The data file as of the last commit; what came later is in memory.
    pub db: bbolt::Snapshot,
    /// What the upper layer gave to [`crate::Store::set_extra`].
    pub extra: Extra,
    /// Hashes made by compactions, oldest first, at most ten.
    pub hashes: Arc<Vec<KeyValueHash>>,
    pub(crate) index: KeyIndex,
    pub(crate) recent: RecentWrites,
    /// All revisions up to this one are in `db`.
    pub(crate) committed_revision: i64,
}

impl View {
    /// Reads of this state.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            index: &self.index,
            recent: &self.recent,
            db: &self.db,
            revision: self.revision,
            compact_revision: self.compact_revision,
        }
    }

    /// Keys that are there now.
    pub fn keys(&self) -> u64 {
        self.index.len()
    }

    /// Bytes that the index takes, long histories not counted.
    pub fn index_bytes(&self) -> usize {
        self.index.heap_bytes()
    }

    /// Answers a range request; see [`Reader::range`].
    pub fn range(&self, options: &RangeOptions<'_>, wait: Wait) -> Result<RangeResult, Error> {
        self.reader().range(options, wait)
    }

    /// Events of the revisions `from..=to` in revision order, those alone whose key is `wanted`; all events of one
    /// revision together; as many revisions as the limits allow. [`Error::Compacted`] if `from` is compacted.
    pub fn history(
        &self,
        from: i64,
        to: i64,
        limits: HistoryLimits,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
        wait: Wait,
    ) -> Result<History, Error> {
        events::history(self, from, to, limits, wanted, wait)
    }

    /// The pair an event replaced, encoded, as `prev_kv` shows it; `None` if there was none or it is compacted.
    pub fn previous(&self, event: &Event, wait: Wait) -> Result<Option<bytes::Bytes>, Error> {
        events::previous(self, event, wait)
    }

    /// Begins the hash of all revisions up to `revision` (0: the current one), as HashKV answers it.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        HashKv::new(self, revision)
    }

    /// Begins the hash of the whole file as of the last commit (commit first), as `Maintenance.Hash` answers it.
    pub fn hash(&self) -> Hash {
        Hash::new(self.db.clone(), true)
    }
}

/// Where readers get the current view. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct ViewSource {
    current: Arc<ArcSwap<View>>,
}

impl ViewSource {
    /// The current view, to be kept for a while.
    pub fn load(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// The current view for a moment: cheaper than [`ViewSource::load`], must not outlive the call it is used in.
    pub fn peek(&self) -> arc_swap::Guard<Arc<View>> {
        self.current.load()
    }

    /// A source of its own, for tests of what is above.
    pub fn new(view: Arc<View>) -> ViewSource {
        ViewSource {
            current: Arc::new(ArcSwap::new(view)),
        }
    }

    /// Makes `view` the current one. The store does this at each publication.
    pub fn swap(&self, view: Arc<View>) {
        self.current.store(view);
    }
}
