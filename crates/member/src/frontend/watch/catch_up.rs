//! How watchers that are behind read the past: bounded scans of the store, shared by all whose
//! turn it is, sweeping from the oldest need to the present and then again.

use std::sync::Arc;

use mvcc::{Event, History, HistoryLimits, View, Wait};

use super::index::{Span, WatcherId};
use super::{Hub, Place, WatchHead, revision_header};

/// Bytes of pairs that one scan reads on a front thread, and rows that it looks at: what delays
/// the requests behind it.
const SCAN_LIMITS: HistoryLimits = HistoryLimits {
    bytes_max: 256 * 1024,
    rows_max: 2_000,
};

/// The same on a pool thread.
const JOB_LIMITS: HistoryLimits = HistoryLimits {
    bytes_max: 1024 * 1024,
    rows_max: 10_000,
};

/// A job with at most this many watchers looks only for their keys.
const JOB_SPANS_MAX: usize = 64;

/// Where the sweep stands.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Counts scans and arrivals, so that a scan on its way serves only who was there at its start.
    clock: u64,
    /// The sweep goes on here.
    cursor: i64,
    /// Past this revision the sweep starts again, if somebody waits behind it.
    sweep_end: i64,
    /// When the scan began that a pool thread does.
    job: Option<u64>,
}

impl CatchUp {
    pub(super) fn arrival(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// What a turn of catching up came to.
pub(in crate::frontend) enum Step {
    /// Nothing to do now.
    Idle,
    /// Done with a part: call again soon.
    More,
    /// The rest needs the disk.
    Job(HistoryJob),
    /// The store cannot be read.
    Failed(mvcc::Error),
}

/// A scan for a pool thread.
pub(in crate::frontend) struct HistoryJob {
    view: Arc<View>,
    from: i64,
    to: i64,
    began: u64,
    /// The keys looked for; all if there are too many.
    spans: Option<Vec<Span>>,
    /// Whether previous pairs are needed.
    prev_kv: bool,
}

/// What a scan found.
pub(in crate::frontend) struct HistoryDone {
    view: Arc<View>,
    from: i64,
    began: u64,
    result: Result<History, mvcc::Error>,
}

impl HistoryJob {
    /// Reads, waiting for the disk where it must.
    pub(in crate::frontend) fn run(self) -> HistoryDone {
        let spans = self.spans;
        let mut wanted = |key: &[u8]| {
            spans
                .as_ref()
                .is_none_or(|spans| spans.iter().any(|span| span.contains(key)))
        };
        let mut result = self
            .view
            .history(self.from, self.to, JOB_LIMITS, &mut wanted, Wait::Yes);
        if let (true, Ok(history)) = (self.prev_kv, &result) {
            // Kept in the event, where the front thread finds it.
            let failed = history
                .events
                .iter()
                .filter(|event| !event.is_create())
                .find_map(|event| {
                    event
                        .encoded_with_previous(|| self.view.previous(event, Wait::Yes))
                        .err()
                });
            if let Some(error) = failed {
                result = Err(error);
            }
        }
        HistoryDone {
            view: self.view,
            from: self.from,
            began: self.began,
            result,
        }
    }
}

impl Span {
    fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(only) => only[..] == *key,
            Span::Range(start, end) => start[..] <= *key && end.as_ref().is_none_or(|end| *key < end[..]),
        }
    }
}

impl Hub {
    /// Whether `catch_up` has something to do.
    pub(in crate::frontend) fn is_behind(&self) -> bool {
        self.catch_up.job.is_none() && !self.waiting.is_empty()
    }

    /// Takes one step. `view` is the newest one.
    pub(in crate::frontend) fn catch_up(&mut self, view: &Arc<View>) -> Step {
        if self.catch_up.job.is_some() {
            return Step::Idle;
        }
        self.cancel_compacted(view);
        let Some(from) = self.next_scan() else {
            return Step::Idle;
        };
        if from > self.revision {
            self.advance(from, from);
            return Step::More;
        }
        let began = self.catch_up.arrival();
        let to = self.revision;
        let behind = &self.behind;
        let mut wanted = |key: &[u8]| {
            let mut any = false;
            behind.for_each(key, |_| any = true);
            any
        };
        match view.history(from, to, SCAN_LIMITS, &mut wanted, Wait::No) {
            Ok(history) => self.deliver(view, from, began, &history),
            Err(mvcc::Error::WouldBlock) => self.start_job(view, from, began),
            Err(error) => Step::Failed(error),
        }
    }

    /// A scan came back from the pool.
    pub(in crate::frontend) fn history_done(&mut self, done: HistoryDone) -> Step {
        self.catch_up.job = None;
        match done.result {
            Ok(history) => self.deliver(&done.view, done.from, done.began, &history),
            Err(error) => Step::Failed(error),
        }
    }

    /// Ends the watchers that need a revision which is compacted, whatever they had seen before
    /// (etcd issue 17529). At the compacted revision itself everything is still there.
    fn cancel_compacted(&mut self, view: &View) {
        while let Some((next, id)) = self.waiting.first().copied() {
            if next >= view.compact_revision {
                return;
            }
            let watcher = &self.watchers[&id];
            let (token, watch_id) = (watcher.stream, watcher.watch_id);
            self.forget(id);
            if let Some(stream) = self.streams.get_mut(&token) {
                stream.ids.remove(&watch_id);
            }
            // etcd sends this one with the revision 0 and without a reason; clients look at
            // the compact revision (v3rpc/watch.go sendLoop).
            self.send(
                token,
                WatchHead {
                    header: revision_header(0),
                    watch_id,
                    canceled: true,
                    compact_revision: view.compact_revision,
                    ..WatchHead::default()
                },
            );
        }
    }

    /// Where the sweep goes on: the oldest need at or after the cursor, or the oldest of all.
    fn next_scan(&mut self) -> Option<i64> {
        let oldest = self.waiting.first()?.0;
        let CatchUp {
            cursor, sweep_end, ..
        } = self.catch_up;
        let ahead = self.waiting.range((cursor, 0)..).next();
        match ahead {
            Some((next, _)) if cursor > 0 && (cursor <= sweep_end || oldest >= cursor) => Some(*next),
            _ => {
                self.catch_up.sweep_end = self.revision;
                Some(oldest)
            }
        }
    }

    fn start_job(&mut self, view: &Arc<View>, from: i64, began: u64) -> Step {
        let mut spans = Vec::new();
        let mut prev_kv = false;
        for (_, id) in self.waiting.range((from, 0)..) {
            let watcher = &self.watchers[id];
            prev_kv |= watcher.prev_kv;
            if spans.len() <= JOB_SPANS_MAX {
                spans.push(watcher.span.clone());
            }
        }
        self.catch_up.job = Some(began);
        Step::Job(HistoryJob {
            view: Arc::clone(view),
            from,
            to: self.revision,
            began,
            spans: (spans.len() <= JOB_SPANS_MAX).then_some(spans),
            prev_kv,
        })
    }

    /// Gives what a scan from `from` on found to those whose turn it is, and moves them on.
    fn deliver(&mut self, view: &Arc<View>, from: i64, began: u64, history: &History) -> Step {
        let mut stuck = false;
        for events in history.events.chunk_by(|a, b| a.rev.main == b.rev.main) {
            stuck |= self.deliver_revision(view, from, began, events);
        }
        self.advance_scanned(from, history.next, began);
        self.catch_up.cursor = history.next;
        if history.next > self.revision {
            self.catch_up.cursor = 0;
        }
        match (stuck, self.waiting.first()) {
            // A previous pair is on a cold page.
            (true, Some((next, _))) => {
                let (from, began) = (*next, self.catch_up.arrival());
                self.start_job(view, from, began)
            }
            (_, Some(_)) => Step::More,
            (_, None) => Step::Idle,
        }
    }

    /// Whether one could not be served for want of a page.
    fn deliver_revision(&mut self, view: &View, from: i64, began: u64, events: &[Event]) -> bool {
        let revision = events[0].rev.main;
        let mut found: Vec<(WatcherId, usize)> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let watchers = &self.watchers;
            self.behind.for_each(event.key(), |id| {
                let w = &watchers[&id];
                let its_turn = w.place == Place::Behind && w.behind_since < began;
                if its_turn && (from..=revision).contains(&w.next) {
                    found.push((id, at));
                }
            });
        }
        found.sort_unstable();
        let mut stuck = false;
        let header = self.revision;
        for group in found.chunk_by(|a, b| a.0 == b.0) {
            let id = group[0].0;
            let picked = group.iter().map(|(_, at)| &events[*at]);
            if self.give(id, picked, view, header) {
                continue;
            }
            self.unplace(id);
            self.watcher_mut(id).next = revision;
            // Parks it if its stream is full; otherwise it waits for a page, and this scan goes
            // on without it.
            self.place_behind(id);
            stuck |= self.watchers[&id].place == Place::Behind;
        }
        stuck
    }

    /// Those whose turn it was have seen everything below `next`.
    fn advance_scanned(&mut self, from: i64, next: i64, began: u64) {
        let served: Vec<(i64, WatcherId)> = self
            .waiting
            .range((from, 0)..(next, 0))
            .filter(|(_, id)| self.watchers[id].behind_since < began)
            .copied()
            .collect();
        for (old, id) in served {
            self.waiting.remove(&(old, id));
            self.watcher_mut(id).next = next;
            self.waiting.insert((next, id));
        }
        self.advance(next, next);
    }

    /// Those behind that need only what is still to come are synced.
    fn advance(&mut self, first: i64, last: i64) {
        if last <= self.revision {
            return;
        }
        let arrived: Vec<WatcherId> = self.waiting.range((first, 0)..).map(|(_, id)| *id).collect();
        for id in arrived {
            self.unplace(id);
            self.place_synced(id);
        }
    }
}
