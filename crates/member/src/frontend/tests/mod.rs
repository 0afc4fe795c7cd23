//! Tests of the front without sockets or clock: a real store on a disk in memory, and a test
//! that plays the stages.

mod auth;
mod calls;
mod golden;
mod streams;
mod watch_model;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::Status;
use api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion};
use api::version::Line;
use bytes::Bytes;
use disk::Disk;
use disk::mem::MemDisk;
use mvcc::{CompactionNext, Store, StoreOptions, ViewSource, WriteTxn};
use prost::Message;

use super::*;
use crate::{Facts, Member};

pub(super) const MEMBER: u64 = 0xabcd;

/// A front, and the store under it.
pub(super) struct Rig {
    pub(super) front: Frontend,
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) disk: MemDisk,
    pub(super) views: ViewSource,
    pub(super) now: Instant,
    pub(super) index: u64,
    /// What came out of the front besides jobs, which run at once unless held.
    pub(super) outputs: Vec<Output>,
    pub(super) hold_jobs: bool,
    pub(super) jobs: Vec<Job>,
    pub(super) jobs_run: usize,
}

pub(super) fn config(line: Line) -> Config {
    Config {
        line,
        cluster_id: 0,
        member_id: MEMBER,
        slot: 0,
        slots: 2,
        start_unix_ms: 1_700_000_000_000,
        request_bytes_max: 1_572_864,
        txn_ops_max: 128,
        strict_reconfig_check: true,
        quota_bytes: 0,
        request_timeout: Duration::from_secs(7),
        election_timeout: Duration::from_secs(1),
        progress_interval: Duration::from_secs(600),
        seed: 1,
    }
}

pub(super) fn facts() -> Facts {
    Facts {
        members: vec![Member {
            id: MEMBER,
            name: "one".to_owned(),
            peer_urls: vec!["http://localhost:2380".to_owned()],
            client_urls: vec!["http://localhost:2379".to_owned()],
            is_learner: false,
        }],
        cluster_version: Some(Version::new(3, 7, 0)),
        storage_version: Some(Version::new(3, 7, 0)),
        ..Facts::default()
    }
}

use api::version::Version;

impl Rig {
    /// A member that leads alone.
    pub(super) fn new() -> Rig {
        Rig::with(config(Line::V3_7))
    }

    pub(super) fn with(config: Config) -> Rig {
        let disk = MemDisk::new();
        let seam: Arc<dyn Disk> = disk.shared();
        seam.create_dir_all(Path::new("/d")).unwrap();
        let options = bbolt::Options {
            cache_bytes_max: 0,
            growth_bytes: 64 << 10,
            ..bbolt::Options::default()
        };
        let db = bbolt::Db::open(&seam, Path::new("/d/db"), options).unwrap();
        let options = StoreOptions {
            recent_bytes_max: 0,
            ..StoreOptions::default()
        };
        let (store, views) = Store::open(db, options).unwrap();
        let shared = Arc::new(Shared::new(config.line, (0, MEMBER), 1, 0));
        shared.set_facts(facts());
        shared.pulse.set_leader(2, MEMBER);
        shared.pulse.set_read_gate(true);
        Rig {
            front: Frontend::new(config, Arc::clone(&shared), views.clone()),
            store,
            shared,
            disk,
            views,
            now: Instant::from_start(Duration::from_secs(10)),
            index: 0,
            outputs: Vec::new(),
            hold_jobs: false,
            jobs: Vec::new(),
            jobs_run: 0,
        }
    }

    /// Applies one entry and publishes it, as the apply stage does.
    pub(super) fn apply<T>(&mut self, write: impl FnOnce(&mut WriteTxn<'_>) -> T) -> T {
        let done = self.apply_unpublished(write);
        self.publish();
        done
    }

    pub(super) fn apply_unpublished<T>(&mut self, write: impl FnOnce(&mut WriteTxn<'_>) -> T) -> T {
        self.index += 1;
        self.shared.pulse.set_committed(self.index);
        let mut txn = self.store.begin();
        let done = write(&mut txn);
        txn.end();
        self.store.set_consistent(self.index, 2);
        done
    }

    pub(super) fn publish(&mut self) {
        let published = self.store.publish();
        self.shared.set_applied(self.index);
        if self.shared.wants_views(0) {
            self.front
                .published(&published.view, Some(&published.events), self.now);
        }
        self.drain();
    }

    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.apply(|txn| {
            txn.put(key.as_bytes(), value.as_bytes(), 0);
        });
    }

    /// Writes all that is pending to the file, so that readers need its pages.
    pub(super) fn commit(&mut self) {
        if let Some(job) = self.store.take_commit(true) {
            self.store.committed(job.run()).unwrap();
        }
        self.publish();
    }

    /// A physical compaction, to its end.
    pub(super) fn compact(&mut self, revision: i64) {
        self.store.schedule_compaction(revision).unwrap();
        self.publish();
        loop {
            match self.store.compaction_next() {
                CompactionNext::Idle => break,
                CompactionNext::Again => {}
                CompactionNext::Waits => self.commit(),
                CompactionNext::Scan(mut scan) => {
                    scan.run().unwrap();
                    self.store.compaction_scanned(*scan).unwrap();
                }
            }
        }
        self.commit();
    }

    /// Takes everything out of the front, and does the jobs.
    pub(super) fn drain(&mut self) {
        loop {
            while let Some(output) = self.front.poll() {
                match output {
                    Output::Job(job) => self.jobs.push(job),
                    Output::Broken(fatal) => panic!("{fatal}"),
                    other => self.outputs.push(other),
                }
            }
            if self.hold_jobs || self.jobs.is_empty() {
                return;
            }
            for job in std::mem::take(&mut self.jobs) {
                self.jobs_run += 1;
                let cold = self.disk.clone();
                cold.set_cold(false);
                let done = job.run();
                self.front.job_done(done, self.now);
            }
        }
    }

    /// Lets the front catch up to the end.
    pub(super) fn settle(&mut self) {
        self.drain();
        while self.front.next_tick() == Some(Instant::default()) {
            self.front.tick(self.now);
            self.drain();
        }
    }

    /// Lets time pass in steps, as a driver does.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.front.next_tick() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            self.front.tick(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(super) fn call(&mut self, token: u64, method: Method, request: &impl Message) -> Outcome {
        self.call_with(token, method, request, Context::default())
    }

    pub(super) fn call_with(
        &mut self,
        token: u64,
        method: Method,
        request: &impl Message,
        context: Context,
    ) -> Outcome {
        self.call_raw(token, method, request.encode_to_vec().into(), context)
    }

    pub(super) fn call_raw(
        &mut self,
        token: u64,
        method: Method,
        message: Bytes,
        context: Context,
    ) -> Outcome {
        let outcome = self.front.call(Token(token), method, message, context, self.now);
        self.drain();
        outcome
    }

    /// The reply that came for a token, if one has.
    pub(super) fn reply(&mut self, token: u64) -> Option<Result<Bytes, Status>> {
        let at = self
            .outputs
            .iter()
            .position(|output| matches!(output, Output::Reply { token: t, .. } if t.0 == token))?;
        match self.outputs.remove(at) {
            Output::Reply { result, .. } => Some(result),
            _ => None,
        }
    }

    pub(super) fn decided(&mut self) -> Vec<AskDecide> {
        let mut asks = Vec::new();
        self.outputs.retain_mut(|output| match output {
            Output::Decide(batch) => {
                asks.append(batch);
                false
            }
            _ => true,
        });
        asks
    }

    pub(super) fn asked_apply(&mut self) -> Vec<AskApply> {
        let mut asks = Vec::new();
        self.outputs.retain_mut(|output| match output {
            Output::Apply(batch) => {
                asks.append(batch);
                false
            }
            _ => true,
        });
        asks
    }

    pub(super) fn open(&mut self, token: u64, method: Method) {
        self.front
            .stream_open(Token(token), method, Context::default(), self.now)
            .unwrap();
    }

    pub(super) fn send(&mut self, token: u64, message: &impl Message) {
        self.front
            .stream_message(Token(token), message.encode_to_vec().into(), self.now);
        self.drain();
    }

    pub(super) fn watch(&mut self, token: u64, create: WatchCreateRequest) {
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.send(token, &request);
    }

    /// Everything that a stream has, and its end.
    pub(super) fn receive<M: Message + Default>(
        &mut self,
        token: u64,
    ) -> (Vec<M>, Option<Result<(), Status>>) {
        let mut messages = Vec::new();
        loop {
            self.settle();
            let poll = self.front.stream_poll(Token(token), 1000, self.now);
            let empty = poll.frames.is_empty();
            for frame in poll.frames {
                messages.push(M::decode(Bytes::from(frame.parts.concat())).unwrap());
            }
            if poll.end.is_some() || (empty && !poll.more) {
                return (messages, poll.end);
            }
        }
    }

    pub(super) fn responses(&mut self, token: u64) -> Vec<WatchResponse> {
        let (responses, end) = self.receive(token);
        assert_eq!(end, None);
        responses
    }
}
