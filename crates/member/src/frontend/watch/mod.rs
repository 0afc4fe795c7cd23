//! The watch hub of a front thread: who watches what, how far each has seen, what is queued.
//!
//! A watcher is *synced* (gets each published batch), *behind* (reads the past from the store, in
//! scans shared by all that are behind), or *parked* (behind, and its stream has too much queued). Whatever
//! it is, `next` says the first revision it has not been given, every revision below is
//! queued or sent, and one revision is never split between two turns. So nothing is seen
//! twice, out of order, or not at all. Never reads a clock, never waits.

mod catch_up;
mod index;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb::WatchCreateRequest;
use api::etcdserverpb::watch_create_request::FilterType;
use bytes::Bytes;
use mvcc::{Event, EventBatch, EventKind, View, Wait};

use self::index::{Index, Span, WatcherId};
use self::stream::WatchStream;
use super::encode::{Header, WatchHead};
use super::{Frame, Given, Token};
use crate::tally::FrontTallies;

pub(super) use self::catch_up::{HistoryDone, HistoryJob, Step};

/// The ID in answers that belong to no watcher (etcd: clientv3.InvalidWatchID).
const NO_WATCH_ID: i64 = -1;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Synced,
    Behind,
    Parked,
}

#[derive(Debug)]
struct Watcher {
    stream: Token,
    watch_id: i64,
    span: Span,
    /// The start revision that the client asked for; 0 for "from now on".
    start: i64,
    /// The first revision it has not been given. While synced, a lower bound of it: all up
    /// to the hub's revision has been given as well.
    next: i64,
    place: Place,
    /// When it came to be behind, in the hub's count: a scan that began before is not for it.
    behind_since: u64,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    /// Whether it wants progress notifications, and then whether the next one is due: none is
    /// if events were sent since the last.
    progress: Option<bool>,
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }

    /// The event as this watcher sees it.
    fn encode(&self, event: &Event, view: &View, wait: Wait) -> Result<Bytes, mvcc::Error> {
        if self.prev_kv && !event.is_create() {
            event
                .encoded_with_previous(|| view.previous(event, wait))
                .cloned()
        } else {
            Ok(event.encoded().clone())
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Hub {
    settings: Settings,
    streams: BTreeMap<Token, WatchStream>,
    /// Only looked up, never walked.
    watchers: HashMap<WatcherId, Watcher>,
    watchers_made: u64,
    synced: Index,
    synced_count: usize,
    behind: Index,
    /// Those behind that may go on, by the first revision they need.
    waiting: BTreeSet<(i64, WatcherId)>,
    /// All events up to here have been given to the synced watchers.
    revision: i64,
    catch_up: catch_up::CatchUp,
    progress: BTreeSet<(Instant, Token)>,
    wakes: Vec<Token>,
    jitter: u64,
    /// Events in the queues of all streams.
    events_pending: u64,
    /// Events taken out of the queues to be sent.
    events_sent: u64,
}

/// Settings of a hub.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Where responses are split for those who asked for it.
    pub(super) fragment_bytes: usize,
    /// Between progress notifications, before jitter.
    pub(super) progress_interval: Duration,
    /// For jitter.
    pub(super) seed: u64,
}

impl Hub {
    pub(super) fn new(settings: Settings) -> Hub {
        Hub {
            jitter: settings.seed,
            settings,
            streams: BTreeMap::new(),
            watchers: HashMap::new(),
            watchers_made: 0,
            synced: Index::default(),
            synced_count: 0,
            behind: Index::default(),
            waiting: BTreeSet::new(),
            revision: 0,
            catch_up: catch_up::CatchUp::default(),
            progress: BTreeSet::new(),
            wakes: Vec::new(),
            events_pending: 0,
            events_sent: 0,
        }
    }

    /// Whether anybody watches, so that batches must be published to this hub.
    pub(super) fn has_watchers(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Says how much there is.
    pub(super) fn tally(&self, tallies: &FrontTallies) {
        tallies.watch_streams.set(self.streams.len() as u64);
        tallies.watchers.set(self.watchers.len() as u64);
        tallies
            .watchers_behind
            .set((self.watchers.len() - self.synced_count) as u64);
        tallies.events_pending.set(self.events_pending);
        tallies.events_sent.set(self.events_sent);
    }

    /// Opens a stream.
    pub(super) fn open(&mut self, token: Token, now: Instant) {
        // etcd adds up to a tenth, so that clients that came together are not notified together.
        let jitter = self.settings.progress_interval.mul_f64(self.chance() / 10.0);
        let interval = self.settings.progress_interval + jitter;
        let stream = WatchStream::new(now + interval, interval);
        self.progress.insert((stream.progress_at, token));
        self.streams.insert(token, stream);
    }

    /// Closes a stream and all its watchers.
    pub(super) fn close(&mut self, token: Token) {
        let Some(stream) = self.streams.remove(&token) else {
            return;
        };
        self.progress.remove(&(stream.progress_at, token));
        // etcd counts those that nobody receives any more as received.
        self.events_pending -= stream.queued_events;
        self.events_sent += stream.queued_events;
        for (_, id) in stream.ids {
            self.forget(id);
        }
    }

    /// Ends all watchers of a stream. What is queued for it stays.
    pub(super) fn cancel_all(&mut self, token: Token) {
        if let Some(stream) = self.streams.get_mut(&token) {
            for id in std::mem::take(&mut stream.ids).into_values() {
                self.forget(id);
            }
        }
    }

    /// Whether the stream may be given further requests: a client that asks without reading the
    /// answers has to wait.
    pub(super) fn is_ready(&self, token: Token) -> bool {
        self.streams.get(&token).is_some_and(|stream| !stream.is_full())
    }

    /// A watcher is wanted. `view` is the newest one, loaded after `Shared::want_views`.
    pub(super) fn create(&mut self, token: Token, request: WatchCreateRequest, view: &View) {
        if !self.streams.contains_key(&token) {
            return;
        }
        let refuse = |reason| WatchHead {
            header: revision_header(view.revision),
            watch_id: NO_WATCH_ID,
            created: true,
            canceled: true,
            cancel_reason: reason,
            ..WatchHead::default()
        };
        if request.start_revision < 0 {
            self.send(token, refuse(COMPACTED));
            return;
        }
        let Some(span) = span_of(&request) else {
            self.send(token, refuse(EMPTY_RANGE));
            return;
        };
        match self.take_id(token, request.watch_id) {
            Some(watch_id) => self.add(token, watch_id, span, &request, view),
            None => self.send(token, refuse(DUPLICATE_ID)),
        }
    }

    fn take_id(&mut self, token: Token, chosen: i64) -> Option<i64> {
        let stream = self.streams.get_mut(&token)?;
        match chosen {
            0 => Some(stream.auto_id()),
            id if stream.ids.contains_key(&id) => None,
            id => Some(id),
        }
    }

    fn add(&mut self, token: Token, watch_id: i64, span: Span, request: &WatchCreateRequest, view: &View) {
        if self.synced_count == 0 {
            // Nobody has seen the batches up to this view, and nobody needs to.
            self.revision = self.revision.max(view.revision);
        }
        let current = view.revision.max(self.revision);
        let start = request.start_revision;
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        self.watchers_made += 1;
        let id = self.watchers_made;
        let watcher = Watcher {
            stream: token,
            watch_id,
            span,
            start,
            // "From now on" is after what a reader may have seen, also where this hub lags.
            next: if start == 0 { current + 1 } else { start },
            place: Place::Synced,
            behind_since: 0,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify.then_some(true),
        };
        let next = watcher.next;
        let stream = self.streams.get_mut(&token).expect("looked up by the caller");
        stream.ids.insert(watch_id, id);
        self.watchers.insert(id, watcher);
        if next > self.revision {
            self.place_synced(id);
        } else {
            self.place_behind(id);
        }
        self.send(
            token,
            WatchHead {
                header: revision_header(current),
                watch_id,
                created: true,
                ..WatchHead::default()
            },
        );
    }

    /// The client wants no more of a watcher. An unknown ID is no mistake: it may just have ended.
    pub(super) fn cancel(&mut self, token: Token, watch_id: i64, view: &View) {
        let stream = self.streams.get_mut(&token);
        let Some(id) = stream.and_then(|stream| stream.ids.remove(&watch_id)) else {
            return;
        };
        self.forget(id);
        self.send(
            token,
            WatchHead {
                header: revision_header(view.revision.max(self.revision)),
                watch_id,
                canceled: true,
                ..WatchHead::default()
            },
        );
    }

    /// The client wants to know how far all its watchers have seen. Answered only if each of
    /// them has seen everything up to this hub's revision; clients ask again.
    pub(super) fn request_progress(&mut self, token: Token) {
        let Some(stream) = self.streams.get(&token) else {
            return;
        };
        let current = |id: &WatcherId| self.watchers.get(id).is_some_and(|w| self.is_current(w));
        if !stream.ids.is_empty() && stream.ids.values().all(current) {
            self.send_progress(token, NO_WATCH_ID);
        }
    }

    /// Whether the watcher has been given everything up to the hub's revision, and that is not
    /// before it starts (etcd: watchable_store.go progressIfSync).
    fn is_current(&self, watcher: &Watcher) -> bool {
        watcher.place == Place::Synced && self.revision >= watcher.start && self.revision + 1 >= watcher.next
    }

    fn send_progress(&mut self, token: Token, watch_id: i64) {
        self.send(
            token,
            WatchHead {
                header: revision_header(self.revision),
                watch_id,
                ..WatchHead::default()
            },
        );
    }

    /// A batch became visible in `view`.
    pub(super) fn publish(&mut self, view: &View, batch: &EventBatch) {
        for (revision, events) in batch.revisions() {
            if revision <= self.revision {
                continue;
            }
            if revision > self.revision + 1 && self.synced_count > 0 {
                // A batch is missing here, as after a snapshot from the leader: all go back to
                // reading the store, each from where it is.
                self.demote_all(view.revision);
                return;
            }
            self.revision = revision;
            self.publish_revision(view, revision, events);
        }
        self.revision = self.revision.max(batch.revision);
    }

    /// The whole store was replaced.
    pub(super) fn replaced(&mut self, view: &View) {
        self.demote_all(view.revision);
    }

    fn publish_revision(&mut self, view: &View, revision: i64, events: &[Event]) {
        let mut found: Vec<(WatcherId, usize)> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            self.synced.for_each(event.key(), |id| found.push((id, at)));
        }
        if events.len() > 1 {
            found.sort_unstable();
        }
        for group in found.chunk_by(|a, b| a.0 == b.0) {
            let id = group[0].0;
            let watcher = &self.watchers[&id];
            if revision < watcher.next {
                continue;
            }
            let picked = group.iter().map(|(_, at)| &events[*at]);
            if !self.give(id, picked, view, revision) {
                self.unplace(id);
                self.watcher_mut(id).next = revision;
                self.place_behind(id);
            }
        }
    }

    /// Queues a revision's events for a watcher, those it wants; `header` is the header's
    /// revision. False if they do not fit or cannot be had without waiting: nothing was queued then.
    fn give<'a>(
        &mut self,
        id: WatcherId,
        events: impl Iterator<Item = &'a Event>,
        view: &View,
        header: i64,
    ) -> bool {
        let watcher = &self.watchers[&id];
        let stream = self
            .streams
            .get_mut(&watcher.stream)
            .expect("a watcher has a stream");
        let mut wanted = events.filter(|event| watcher.wants(event)).peekable();
        if wanted.peek().is_none() {
            return true;
        }
        if stream.is_full() {
            return false;
        }
        let encoded: Result<Vec<Bytes>, mvcc::Error> = wanted
            .map(|event| watcher.encode(event, view, Wait::No))
            .collect();
        let Ok(encoded) = encoded else {
            return false;
        };
        self.events_pending += encoded.len() as u64;
        stream.push_events(watcher.watch_id, header, encoded, watcher.fragment);
        let token = watcher.stream;
        let watcher = self.watcher_mut(id);
        if watcher.progress.is_some() {
            watcher.progress = Some(false);
        }
        self.wake(token);
        true
    }

    /// The store was replaced, or batches were missed: whoever was synced reads the store from
    /// its own next revision on. One that waits for a later revision than the store has goes on
    /// waiting (etcd issues 15271, 20221).
    fn demote_all(&mut self, revision: i64) {
        let ids: Vec<WatcherId> = self
            .streams
            .values()
            .flat_map(|stream| stream.ids.values().copied())
            .filter(|id| self.watchers[id].place == Place::Synced)
            .collect();
        let given = self.revision + 1;
        self.revision = self.revision.max(revision);
        for id in ids {
            let watcher = self.watcher_mut(id);
            watcher.next = watcher.next.max(given);
            if watcher.next <= self.revision {
                self.unplace(id);
                self.place_behind(id);
            }
        }
    }

    /// Messages for a client, about `bytes_max` bytes, whether there are more, and what they have.
    pub(super) fn poll(
        &mut self,
        token: Token,
        bytes_max: usize,
        header: Header,
    ) -> (Vec<Frame>, bool, Given) {
        let fragment_bytes = self.settings.fragment_bytes;
        let Some(stream) = self.streams.get_mut(&token) else {
            return (Vec::new(), false, Given::default());
        };
        stream.woken = false;
        let before = stream.queued_events;
        let frames = stream.pop(bytes_max, header, fragment_bytes);
        let sent = before - stream.queued_events;
        self.events_pending -= sent;
        self.events_sent += sent;
        let (more, given) = (!stream.is_empty(), stream.given);
        if stream.has_room() {
            for id in std::mem::take(&mut stream.parked) {
                self.unpark(id);
            }
        }
        (frames, more, given)
    }

    /// Bytes queued for a stream.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self, token: Token) -> usize {
        self.streams[&token].queued_bytes()
    }

    /// The streams that have something to send since the last call.
    pub(super) fn take_wakes(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.wakes)
    }

    /// When the next progress notification is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let (at, _) = self.progress.first()?;
        self.has_watchers().then_some(*at)
    }

    /// Sends the progress notifications that are due.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((at, token)) = self.progress.first().copied() {
            if at > now {
                return;
            }
            self.progress.pop_first();
            let stream = self
                .streams
                .get_mut(&token)
                .expect("closing takes the timer along");
            stream.progress_at = now + stream.progress_interval;
            self.progress.insert((stream.progress_at, token));
            let ids: Vec<(i64, WatcherId)> = stream.ids.iter().map(|(a, b)| (*a, *b)).collect();
            for (watch_id, id) in ids {
                let Some(due) = self.watchers[&id].progress else {
                    continue;
                };
                // A client that does not read what there is gets no more of them (etcd drops what a full channel
                // does not take). The next one is due as if this one had not been: nothing has been said.
                if due && self.is_ready(token) && self.is_current(&self.watchers[&id]) {
                    self.send_progress(token, watch_id);
                }
                self.watcher_mut(id).progress = Some(true);
            }
        }
    }

    fn send(&mut self, token: Token, head: WatchHead) {
        if let Some(stream) = self.streams.get_mut(&token) {
            stream.push_control(head);
            self.wake(token);
        }
    }

    fn wake(&mut self, token: Token) {
        if let Some(stream) = self.streams.get_mut(&token)
            && !stream.woken
        {
            stream.woken = true;
            self.wakes.push(token);
        }
    }

    fn watcher_mut(&mut self, id: WatcherId) -> &mut Watcher {
        self.watchers
            .get_mut(&id)
            .expect("indexes hold living watchers alone")
    }

    fn place_synced(&mut self, id: WatcherId) {
        let watcher = self.watchers.get_mut(&id).expect("just made or found");
        watcher.place = Place::Synced;
        self.synced.insert(&watcher.span, id);
        self.synced_count += 1;
    }

    fn place_behind(&mut self, id: WatcherId) {
        let since = self.catch_up.arrival();
        let watcher = self.watchers.get_mut(&id).expect("just made or found");
        watcher.behind_since = since;
        self.behind.insert(&watcher.span, id);
        let stream = self
            .streams
            .get_mut(&watcher.stream)
            .expect("a watcher has a stream");
        if stream.is_full() {
            watcher.place = Place::Parked;
            stream.parked.insert(id);
        } else {
            watcher.place = Place::Behind;
            self.waiting.insert((watcher.next, id));
        }
    }

    /// Takes a watcher out of the indexes.
    fn unplace(&mut self, id: WatcherId) {
        let watcher = &self.watchers[&id];
        match watcher.place {
            Place::Synced => {
                self.synced.remove(&watcher.span, id);
                self.synced_count -= 1;
            }
            Place::Behind => {
                self.behind.remove(&watcher.span, id);
                self.waiting.remove(&(watcher.next, id));
            }
            Place::Parked => {
                self.behind.remove(&watcher.span, id);
                if let Some(stream) = self.streams.get_mut(&watcher.stream) {
                    stream.parked.remove(&id);
                }
            }
        }
    }

    fn unpark(&mut self, id: WatcherId) {
        let since = self.catch_up.arrival();
        let watcher = self.watcher_mut(id);
        watcher.place = Place::Behind;
        watcher.behind_since = since;
        let next = watcher.next;
        self.waiting.insert((next, id));
    }

    fn forget(&mut self, id: WatcherId) {
        self.unplace(id);
        self.watchers.remove(&id);
    }

    /// A number in 0..1.
    fn chance(&mut self) -> f64 {
        self.jitter = self
            .jitter
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.jitter >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// A header of which only the revision counts; the rest is filled in when it is sent.
fn revision_header(revision: i64) -> Header {
    Header::default().with_revision(revision)
}

/// The keys of a request; `None` for a range that is empty. An empty key is the smallest one,
/// and the range end `"\0"` means all keys from there on.
fn span_of(request: &WatchCreateRequest) -> Option<Span> {
    let key = match request.key.is_empty() {
        true => Bytes::from_static(&[0]),
        false => request.key.clone(),
    };
    match &request.range_end[..] {
        [] => Some(Span::Key(key)),
        [0] => Some(Span::Range(key, None)),
        end if key[..] < *end => Some(Span::Range(key, Some(request.range_end.clone()))),
        _ => None,
    }
}
