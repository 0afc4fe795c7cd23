//! One client's watch stream: what is queued for it, and how that becomes messages.
//! Knows nothing of the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::clock::Instant;
use bytes::Bytes;

use super::index::WatcherId;
use crate::frontend::encode::{Header, WatchHead, event_field_len, watch_response};
use crate::frontend::{Frame, Given};

/// A stream with this much queued gets no further events: its watchers catch up from the
/// store when the client has read. One revision may go above it, however large it is.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Below this, watchers that were held back go on.
pub(super) const QUEUE_BYTES_LOW: usize = QUEUE_BYTES_MAX / 2;

/// Events of several revisions go into one response up to this size.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// What a queued item weighs beside its events.
const ITEM_BYTES: usize = 64;

/// Queued for the client. The header's revision is set, its other fields when it is sent.
#[derive(Debug)]
enum Item {
    Control(WatchHead),
    Events {
        watch_id: i64,
        revision: i64,
        events: Vec<Bytes>,
        bytes: usize,
        fragment: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct WatchStream {
    queue: VecDeque<Item>,
    queued_bytes: usize,
    /// What the last `pop` gave.
    pub(super) given: Given,
    /// Events in the queue.
    pub(super) queued_events: u64,
    /// The watchers by the IDs that the client knows.
    pub(super) ids: BTreeMap<i64, WatcherId>,
    next_auto_id: i64,
    /// Watchers held back because too much is queued.
    pub(super) parked: BTreeSet<WatcherId>,
    /// When the next progress notifications are due, and how long to the ones after.
    pub(super) progress_at: Instant,
    pub(super) progress_interval: std::time::Duration,
    /// Whether the owner has been told that there is something to send.
    pub(super) woken: bool,
}

impl WatchStream {
    pub(super) fn new(progress_at: Instant, progress_interval: std::time::Duration) -> WatchStream {
        WatchStream {
            queue: VecDeque::new(),
            queued_bytes: 0,
            given: Given::default(),
            queued_events: 0,
            ids: BTreeMap::new(),
            next_auto_id: 0,
            parked: BTreeSet::new(),
            progress_at,
            progress_interval,
            woken: false,
        }
    }

    /// The ID of a watcher that the client leaves to us.
    pub(super) fn auto_id(&mut self) -> i64 {
        while self.ids.contains_key(&self.next_auto_id) {
            self.next_auto_id += 1;
        }
        let id = self.next_auto_id;
        self.next_auto_id += 1;
        id
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued_bytes >= QUEUE_BYTES_MAX
    }

    pub(super) fn has_room(&self) -> bool {
        self.queued_bytes < QUEUE_BYTES_LOW
    }

    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push_control(&mut self, head: WatchHead) {
        self.queued_bytes += ITEM_BYTES;
        self.queue.push_back(Item::Control(head));
    }

    /// Queues the events of one revision, which stay in one response; `revision` is the
    /// header's. Joins them to the response before where that is the same watcher's and small.
    pub(super) fn push_events(&mut self, watch_id: i64, revision: i64, new: Vec<Bytes>, fragment: bool) {
        let new_bytes: usize = new.iter().map(event_field_len).sum();
        self.queued_bytes += new_bytes;
        self.queued_events += new.len() as u64;
        if let Some(Item::Events {
            watch_id: last_id,
            revision: last_revision,
            events,
            bytes,
            ..
        }) = self.queue.back_mut()
            && *last_id == watch_id
            && *bytes + new_bytes <= RESPONSE_BYTES_MAX
        {
            *last_revision = revision;
            *bytes += new_bytes;
            events.extend(new);
            return;
        }
        self.queued_bytes += ITEM_BYTES;
        self.queue.push_back(Item::Events {
            watch_id,
            revision,
            events: new,
            bytes: new_bytes,
            fragment,
        });
    }

    /// Takes messages off the queue until they reach `bytes_max`. Responses of watchers that asked
    /// for it are split where they reach `fragment_bytes`.
    pub(super) fn pop(&mut self, bytes_max: usize, header: Header, fragment_bytes: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut taken = 0;
        self.given = Given::default();
        while taken < bytes_max {
            let Some(item) = self.queue.pop_front() else { break };
            let before = frames.len();
            match item {
                Item::Control(mut head) => {
                    self.queued_bytes -= ITEM_BYTES;
                    match head.created || head.canceled {
                        true => self.given.controls += 1,
                        false => self.given.progress += 1,
                    }
                    head.header = header.with_revision(head.header.revision);
                    frames.push(watch_response(&head, &[]));
                }
                Item::Events {
                    watch_id,
                    revision,
                    events,
                    bytes,
                    fragment,
                } => {
                    self.queued_bytes -= ITEM_BYTES + bytes;
                    self.queued_events -= events.len() as u64;
                    self.given.events = self
                        .given
                        .events
                        .saturating_add(u32::try_from(events.len()).unwrap_or(u32::MAX));
                    let head = WatchHead {
                        header: header.with_revision(revision),
                        watch_id,
                        ..WatchHead::default()
                    };
                    let limit = if fragment { fragment_bytes } else { usize::MAX };
                    put_fragments(&mut frames, head, &events, limit);
                }
            }
            taken += frames[before..].iter().map(Frame::len).sum::<usize>();
        }
        frames
    }
}

/// Splits a response as etcd does (v3rpc/watch.go sendFragments): a response below the limit stays
/// whole, a fragment takes events while it stays below the limit, and at least one.
fn put_fragments(frames: &mut Vec<Frame>, mut head: WatchHead, events: &[Bytes], limit: usize) {
    let whole = head.len() + events.iter().map(event_field_len).sum::<usize>();
    if whole < limit || events.len() < 2 {
        frames.push(watch_response(&head, events));
        return;
    }
    head.fragment = true;
    let head_len = head.len();
    let mut rest = events;
    while !rest.is_empty() {
        let mut len = head_len + event_field_len(&rest[0]);
        let mut count = 1;
        while let Some(event) = rest.get(count) {
            len += event_field_len(event);
            if len >= limit {
                break;
            }
            count += 1;
        }
        let (now, later) = rest.split_at(count);
        head.fragment = !later.is_empty();
        frames.push(watch_response(&head, now));
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::WatchResponse;
    use prost::Message;

    use super::*;

    fn decode(frames: &[Frame]) -> Vec<WatchResponse> {
        frames
            .iter()
            .map(|frame| WatchResponse::decode(Bytes::from(frame.parts.concat())).unwrap())
            .collect()
    }

    fn event(value_len: usize) -> Bytes {
        api::mvccpb::Event {
            kv: Some(api::mvccpb::KeyValue {
                key: "k".into(),
                value: vec![0; value_len].into(),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec()
        .into()
    }

    /// Sizes of events, the limit, and how many events each message shall have.
    fn check_fragments(sizes: &[usize], limit: usize, expected: &[usize]) {
        let mut frames = Vec::new();
        let events: Vec<Bytes> = sizes.iter().map(|size| event(*size)).collect();
        put_fragments(&mut frames, WatchHead::default(), &events, limit);
        let responses = decode(&frames);
        let counts: Vec<usize> = responses.iter().map(|r| r.events.len()).collect();
        assert_eq!(counts, expected, "{sizes:?} at {limit}");
        for (i, response) in responses.iter().enumerate() {
            assert_eq!(response.fragment, i + 1 < responses.len());
            assert!(frames[i].len() < limit || response.events.len() == 1);
        }
    }

    #[test]
    fn responses_are_split_below_the_limit() {
        check_fragments(&[10, 10, 10], 1000, &[3]);
        check_fragments(&[400, 400, 400], 1000, &[2, 1]);
        check_fragments(&[2000], 1000, &[1]);
        check_fragments(&[2000, 10, 10], 1000, &[1, 2]);
        check_fragments(&[10, 2000, 10], 1000, &[1, 1, 1]);
        check_fragments(&[100; 20], 1000, &[9, 9, 2]);
    }

    #[test]
    fn small_responses_of_one_watcher_are_joined() {
        let mut stream = WatchStream::new(Instant::default(), std::time::Duration::from_secs(1));
        stream.push_events(1, 5, vec![event(10)], false);
        stream.push_events(1, 6, vec![event(10)], false);
        stream.push_events(2, 6, vec![event(10)], false);
        stream.push_events(1, 7, vec![event(RESPONSE_BYTES_MAX)], false);
        stream.push_events(1, 8, vec![event(10)], false);
        let responses = decode(&stream.pop(usize::MAX, Header::default(), 1000));
        let seen: Vec<_> = responses
            .iter()
            .map(|r| (r.watch_id, r.header.unwrap().revision, r.events.len()))
            .collect();
        assert_eq!(seen, [(1, 6, 2), (2, 6, 1), (1, 7, 1), (1, 8, 1)]);
        assert_eq!(stream.queued_bytes, 0);
    }
}
