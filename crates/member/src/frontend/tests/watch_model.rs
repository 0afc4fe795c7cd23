//! Random histories and watchers against a model that is a list: whatever the options, the speed
//! of the reader, compactions and cold pages, each watcher receives exactly its part of the
//! history, in order and once, or a prefix of it and the news that the rest is compacted.

use std::collections::BTreeMap;

use api::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};
use api::mvccpb;

use super::*;

/// Seeds that a normal run tries; `FRONT_WATCH_SEEDS` tries more.
const SEEDS: u64 = 60;

#[derive(Clone)]
struct Change {
    revision: i64,
    event: mvccpb::Event,
    prev: Option<mvccpb::KeyValue>,
}

#[derive(Default)]
struct Model {
    revision: i64,
    compacted: i64,
    live: BTreeMap<Vec<u8>, mvccpb::KeyValue>,
    changes: Vec<Change>,
}

struct Client {
    token: u64,
    watch_id: i64,
    create: WatchCreateRequest,
    /// Where it starts: after what its creation showed, or where it asked for.
    from: Option<i64>,
    received: Vec<mvccpb::Event>,
    /// Parts of a revision that is not complete.
    fragments: bool,
    cancelled: Option<WatchResponse>,
    gone: bool,
}

impl Client {
    fn wants(&self, change: &Change) -> bool {
        let key = &change.event.kv.as_ref().unwrap().key;
        let in_span = mvcc::covers(&self.create.key, &self.create.range_end, key);
        let filtered = self.create.filters.contains(&change.event.r#type);
        in_span && !filtered && change.revision >= self.from.unwrap()
    }

    fn check_received(&self, model: &Model, up_to: i64, exactly: bool, what: &str) {
        let expected: Vec<&Change> = model
            .changes
            .iter()
            .filter(|change| self.wants(change) && change.revision <= up_to)
            .collect();
        assert!(
            self.received.len() <= expected.len() || !exactly,
            "{what}: too much"
        );
        if exactly {
            assert_eq!(self.received.len(), expected.len(), "{what}");
        }
        for (got, change) in self.received.iter().zip(&expected) {
            let mut got = got.clone();
            if self.create.prev_kv {
                let prev = got.prev_kv.take();
                // A previous pair may be compacted away by the time it is looked up.
                if prev.is_some() || change.revision > model.compacted {
                    assert_eq!(prev, change.prev, "{what}: previous of {}", change.revision);
                }
            }
            assert_eq!(got, change.event, "{what}");
        }
    }

    fn take(&mut self, response: WatchResponse, model: &Model, what: &str) {
        let revision = response.header.as_ref().unwrap().revision;
        assert!(!self.gone, "{what}: after its end");
        if response.created {
            let now = revision + 1;
            let start = self.create.start_revision;
            self.from = Some(if start == 0 { now } else { start });
        } else if response.canceled {
            self.gone = true;
            if response.compact_revision != 0 {
                self.cancelled = Some(response);
            }
        } else if response.events.is_empty() {
            // Progress: everything up to here must have come before.
            self.check_received(model, revision, true, &format!("{what}: progress {revision}"));
        } else {
            if let (Some(last), false) = (self.received.last(), self.fragments) {
                let first = response.events[0].kv.as_ref().unwrap().mod_revision;
                let last = last.kv.as_ref().unwrap().mod_revision;
                assert!(
                    first > last,
                    "{what}: revision {first} is split, or late after {last}"
                );
            }
            assert!(
                !response.fragment || self.create.fragment,
                "{what}: a fragment unasked"
            );
            self.fragments = response.fragment;
            self.received.extend(response.events);
        }
    }
}

struct Run {
    rig: Rig,
    model: Model,
    rng: fastrand::Rng,
    clients: Vec<Client>,
    streams: Vec<u64>,
    next_token: u64,
    next_watch: i64,
    seed: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut config = config(Line::V3_7);
        config.request_bytes_max = 2000;
        config.progress_interval = Duration::from_secs(1);
        Run {
            rig: Rig::with(config),
            model: Model {
                revision: 1,
                compacted: -1,
                ..Model::default()
            },
            rng: fastrand::Rng::with_seed(seed),
            clients: Vec::new(),
            streams: Vec::new(),
            next_token: 1,
            next_watch: 1,
            seed,
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let mut key = vec![self.rng.u8(b'a'..=b'd')];
        if self.rng.bool() {
            key.push(self.rng.u8(b'a'..=b'c'));
        }
        key
    }

    fn change(&mut self, revision: i64, kind: i32, kv: mvccpb::KeyValue) {
        let prev = match kind {
            0 => self.model.live.insert(kv.key.to_vec(), kv.clone()),
            _ => self.model.live.remove(&kv.key[..]),
        };
        let event = mvccpb::Event {
            r#type: kind,
            kv: Some(kv),
            prev_kv: None,
        };
        self.model.changes.push(Change {
            revision,
            event,
            prev,
        });
    }

    /// A transaction of puts and deletes of different keys.
    fn write(&mut self, publish: bool) {
        let revision = self.model.revision + 1;
        let mut writes = Vec::new();
        let mut used = Vec::new();
        for _ in 0..self.rng.usize(1..5) {
            let key = self.key();
            if used.contains(&key) {
                continue;
            }
            used.push(key.clone());
            let value = vec![b'v'; self.rng.usize(0..400)];
            let lease = self.rng.i64(0..2);
            let delete = self.rng.u8(0..4) == 0;
            if delete && !self.model.live.contains_key(&key) {
                continue;
            }
            writes.push((key, value, lease, delete));
        }
        for (key, value, lease, delete) in &writes {
            let old = self.model.live.get(key);
            let kv = match delete {
                true => mvccpb::KeyValue {
                    key: key.clone().into(),
                    mod_revision: revision,
                    ..Default::default()
                },
                false => mvccpb::KeyValue {
                    key: key.clone().into(),
                    create_revision: old.map_or(revision, |kv| kv.create_revision),
                    mod_revision: revision,
                    version: old.map_or(1, |kv| kv.version + 1),
                    value: value.clone().into(),
                    lease: *lease,
                },
            };
            self.change(revision, i32::from(*delete), kv);
        }
        if !writes.is_empty() {
            self.model.revision = revision;
        }
        self.rig.apply_unpublished(|txn| {
            for (key, value, lease, delete) in &writes {
                if *delete {
                    txn.delete_range(key, b"");
                } else {
                    txn.put(key, value, *lease);
                }
            }
        });
        if publish {
            self.rig.publish();
        }
    }

    fn watch(&mut self) {
        if self.streams.is_empty() || self.rng.u8(0..3) == 0 {
            self.rig.open(self.next_token, Method::Watch);
            self.streams.push(self.next_token);
            self.next_token += 1;
        }
        let token = self.streams[self.rng.usize(0..self.streams.len())];
        let start_revision = match self.rng.u8(0..4) {
            0 => 0,
            1 => self.model.revision + self.rng.i64(1..10),
            _ => self.rng.i64(1..self.model.revision + 2),
        };
        let key = self.key();
        let range_end = match self.rng.u8(0..4) {
            0 => Vec::new(),
            1 => vec![0],
            _ => vec![key[0] + 1],
        };
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            progress_notify: self.rng.bool(),
            filters: (0..2).filter(|_| self.rng.u8(0..4) == 0).collect(),
            prev_kv: self.rng.bool(),
            watch_id: self.next_watch,
            fragment: self.rng.bool(),
        };
        self.next_watch += 1;
        self.rig.watch(token, create.clone());
        self.clients.push(Client {
            token,
            watch_id: create.watch_id,
            create,
            from: None,
            received: Vec::new(),
            fragments: false,
            cancelled: None,
            gone: false,
        });
    }

    fn ask(&mut self, request: RequestUnion) {
        if let Some(token) = self.rng.choice(&self.streams).copied() {
            let request = WatchRequest {
                request_union: Some(request),
            };
            self.rig.send(token, &request);
        }
    }

    fn read(&mut self, token: u64, bytes_max: usize) -> bool {
        let poll = self.rig.front.stream_poll(Token(token), bytes_max, self.rig.now);
        assert_eq!(poll.end, None);
        let any = !poll.frames.is_empty();
        for frame in poll.frames {
            let response = WatchResponse::decode(Bytes::from(frame.parts.concat())).unwrap();
            for client in self.clients.iter_mut().filter(|c| c.token == token) {
                let for_all = response.watch_id == -1;
                if response.watch_id == client.watch_id || (for_all && client.from.is_some() && !client.gone)
                {
                    let what = format!("seed {} watch {}", self.seed, client.watch_id);
                    client.take(response.clone(), &self.model, &what);
                }
            }
        }
        self.rig.drain();
        any
    }

    fn step(&mut self) {
        match self.rng.u8(0..40) {
            0..=13 => self.write(true),
            14 => {
                for _ in 0..self.rng.usize(1..30) {
                    self.write(false);
                }
                self.rig.publish();
            }
            15..=18 => self.watch(),
            19..=27 => {
                if let Some(token) = self.rng.choice(&self.streams).copied() {
                    let bytes_max = self.rng.usize(1..5000);
                    self.read(token, bytes_max);
                }
            }
            28 => self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            29 => {
                let watch_id = self.rng.i64(0..self.next_watch + 1);
                self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
            30 if self.model.revision > 5 => {
                let low = self.model.compacted.max(1) + 1;
                let at = (self.model.revision - self.rng.i64(0..30)).max(low);
                if at <= self.model.revision {
                    self.model.compacted = at;
                    self.rig.compact(at);
                }
            }
            31..=32 => self.rig.commit(),
            33 => self.rig.pass(Duration::from_millis(self.rng.u64(1..2000))),
            34..=35 => {
                let cold = self.rng.bool();
                self.rig.disk.set_cold(cold);
            }
            36 => {
                self.rig.hold_jobs = !self.rig.hold_jobs;
                self.rig.drain();
            }
            37 if self.rng.u8(0..4) == 0 && !self.streams.is_empty() => {
                let at = self.rng.usize(0..self.streams.len());
                let token = self.streams.swap_remove(at);
                self.rig.front.stream_close(Token(token));
                self.clients.retain(|client| client.token != token);
            }
            _ => {
                self.rig.front.tick(self.rig.now);
                self.rig.drain();
            }
        }
    }

    fn finish(&mut self) {
        self.rig.hold_jobs = false;
        loop {
            self.rig.settle();
            let mut any = false;
            for token in self.streams.clone() {
                any |= self.read(token, usize::MAX);
            }
            if !any {
                break;
            }
        }
        for client in &self.clients {
            let what = format!("seed {} watch {} {:?}", self.seed, client.watch_id, client.create);
            assert!(client.from.is_some(), "{what}: never created");
            let complete = !client.gone;
            client.check_received(&self.model, self.model.revision, complete, &what);
            if let Some(cancelled) = &client.cancelled {
                let at = cancelled.compact_revision;
                assert!(at <= self.model.compacted, "{what}");
                let last = client
                    .received
                    .last()
                    .map_or(0, |e| e.kv.as_ref().unwrap().mod_revision);
                assert!(last < at, "{what}: cancelled for {at} after {last}");
            }
        }
    }
}

/// etcd issues 15271, 15274: each event once, in order, and never one from before.
#[test]
fn every_watcher_receives_its_part_of_the_history() {
    let seeds = std::env::var("FRONT_WATCH_SEEDS").map_or(SEEDS, |n| n.parse().unwrap());
    let (mut events, mut cancelled, mut jobs) = (0, 0, 0);
    for seed in 0..seeds {
        let mut run = Run::new(seed);
        for _ in 0..600 {
            run.step();
        }
        run.finish();
        events += run.clients.iter().map(|c| c.received.len()).sum::<usize>();
        cancelled += run.clients.iter().filter(|c| c.cancelled.is_some()).count();
        jobs += run.rig.jobs_run;
    }
    // The runs must have met what they are about.
    assert!(
        events > 1000 && cancelled > 10 && jobs > 10,
        "{events} events, {cancelled} cancelled, {jobs} jobs"
    );
}
