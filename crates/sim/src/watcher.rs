//! Watchers: each sees every change of its range once, in order, over restarts of members.

use api::etcdserverpb as pb;
use api::etcdserverpb::watch_create_request::FilterType;
use api::etcdserverpb::watch_request::RequestUnion;
use bytes::Bytes;
use member::frontend::{Frame, Token};
use prost::Message;

use crate::truth::{Truth, text};

/// A watcher and its connection.
pub struct Watcher {
    key: Bytes,
    end: Bytes,
    prev_kv: bool,
    progress: bool,
    /// The first revision that it has not been given.
    pub next: i64,
    /// Its stream: place, front, process and token.
    pub at: Option<(usize, usize, u64, Token)>,
    /// The state of its member was replaced by the leader's while it watched.
    pub over_installed: bool,
    /// How often it has seen events after that.
    pub went_on: u64,
    no_put: bool,
    no_delete: bool,
    /// Events seen.
    pub seen: u64,
    /// Progress notifications seen.
    pub notified: u64,
    /// Times that a compaction had taken what it wanted.
    pub overtaken: u64,
}

impl Watcher {
    /// A watcher of a random range.
    pub fn new(rng: &mut fastrand::Rng) -> Watcher {
        let (key, end) = match rng.u8(0..4) {
            0 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            1 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            2 => (Bytes::from_static(b"k05"), Bytes::new()),
            _ => (Bytes::from_static(b"k06"), Bytes::from_static(b"t06")),
        };
        Watcher {
            key,
            end,
            prev_kv: rng.bool(),
            progress: rng.bool(),
            next: 1,
            at: None,
            over_installed: false,
            went_on: 0,
            no_put: rng.u8(0..8) == 0,
            no_delete: rng.u8(0..8) == 0,
            seen: 0,
            notified: 0,
            overtaken: 0,
        }
    }

    /// Begins once more at the oldest revision that can be watched: all that was made at it is there, deletions too
    /// (etcd issue 17780).
    pub fn go_back(&mut self, compacted: i64) {
        if compacted > 0 {
            self.next = self.next.min(compacted);
        }
    }

    /// What it says first on a new stream.
    pub fn request(&self) -> Bytes {
        let mut filters = Vec::new();
        if self.no_put {
            filters.push(FilterType::Noput as i32);
        }
        if self.no_delete {
            filters.push(FilterType::Nodelete as i32);
        }
        let create = pb::WatchCreateRequest {
            key: self.key.clone(),
            range_end: self.end.clone(),
            start_revision: self.next,
            progress_notify: self.progress,
            prev_kv: self.prev_kv,
            filters,
            ..pb::WatchCreateRequest::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        request.encode_to_vec().into()
    }

    /// What came. `Ok(false)`: the watcher has ended and wants another stream.
    pub fn take(&mut self, frame: &Frame, truth: &Truth) -> Result<bool, String> {
        let message: Vec<u8> = frame.parts.iter().flat_map(|part| part.iter().copied()).collect();
        let response = pb::WatchResponse::decode(message.as_slice()).map_err(|error| error.to_string())?;
        let told = |what: String| {
            format!(
                "watcher of {} to {} from {}: {what}",
                text(&self.key),
                text(&self.end),
                self.next
            )
        };
        if response.canceled {
            if response.compact_revision > 0 {
                if response.compact_revision > truth.model.compacted || response.compact_revision < self.next
                {
                    return Err(told(format!(
                        "cancelled for a compaction at {}, the log says {}",
                        response.compact_revision, truth.model.compacted
                    )));
                }
                self.next = response.compact_revision;
                self.overtaken += 1;
            }
            return Ok(false);
        }
        if response.created {
            return Ok(true);
        }
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let Some(last) = response.events.last().and_then(|event| event.kv.as_ref()) else {
            let missed = self.wanted(truth, revision);
            if let Some((at, key)) = missed.first() {
                return Err(told(format!(
                    "progress to {revision} before the change of {} at {at}",
                    text(key)
                )));
            }
            self.next = self.next.max(revision + 1);
            self.notified += 1;
            return Ok(true);
        };
        let last = last.mod_revision;
        let wanted = self.wanted(truth, last);
        if wanted.len() != response.events.len() || revision < last {
            return Err(told(format!(
                "{} events up to {last} with header {revision}, the log has {}",
                response.events.len(),
                wanted.len()
            )));
        }
        for ((at, key), event) in wanted.iter().zip(&response.events) {
            self.same(event, *at, key, truth).map_err(told)?;
        }
        self.seen += response.events.len() as u64;
        self.went_on += u64::from(std::mem::take(&mut self.over_installed));
        self.next = last + 1;
        Ok(true)
    }

    fn same(&self, event: &api::mvccpb::Event, at: i64, key: &[u8], truth: &Truth) -> Result<(), String> {
        let kv = event.kv.clone().unwrap_or_default();
        if kv.mod_revision != at || kv.key.as_ref() != key {
            return Err(format!("{event:?} instead of {} at {at}", text(key)));
        }
        let made = truth.model.made_at(key, at);
        let value = made.and_then(|version| version.value.as_deref());
        let is_delete = event.r#type == api::mvccpb::event::EventType::Delete as i32;
        if is_delete != value.is_none() || (!is_delete && value != Some(kv.value.as_ref())) {
            return Err(format!("{event:?} instead of {made:?}"));
        }
        if !self.prev_kv {
            return Ok(());
        }
        let before = truth.model.before(key, at);
        match (&event.prev_kv, before) {
            (None, None) => Ok(()),
            // What a compaction has taken cannot be shown.
            (None, Some(before)) if before.revision < truth.model.compacted => Ok(()),
            (Some(found), Some(before))
                if found.mod_revision == before.revision
                    && Some(found.value.as_ref()) == before.value.as_deref() =>
            {
                Ok(())
            }
            (found, before) => Err(format!("prev_kv {found:?} at {at} instead of {before:?}")),
        }
    }

    /// Whether it has seen everything up to a revision.
    pub fn is_complete(&self, truth: &Truth, revision: i64) -> bool {
        self.wanted(truth, revision).is_empty()
    }

    /// What it has to be given up to a revision.
    fn wanted<'a>(&self, truth: &'a Truth, to: i64) -> Vec<(i64, &'a [u8])> {
        let mut events = truth.model.events(&self.key, &self.end, self.next, to);
        events.retain(|(at, key)| {
            let made = truth.model.made_at(key, *at);
            let is_put = made.is_some_and(|version| version.value.is_some());
            !(if is_put { self.no_put } else { self.no_delete })
        });
        events
    }

    /// For people.
    pub fn tell(&self) -> String {
        format!("{} to {} from {}", text(&self.key), text(&self.end), self.next)
    }
}
