//! The front of a member: everything a client request meets before and after consensus.
//!
//! One [`Frontend`] per front thread. It validates, proposes, waits, reads, watches. It never
//! opens a socket, reads a clock or waits: time is an argument, callers are tokens, what it wants
//! from others comes out of [`Frontend::poll`].

mod calls;
mod cluster;
mod encode;
mod ids;
mod jobs;
mod link;
mod maintenance;
mod method;
mod peer_calls;
mod pulse;
mod read;
mod reads;
mod snapshot;
mod streams;
#[cfg(test)]
mod tests;
mod validate;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Code, Status};
use api::version::{Line, Version};
use bytes::Bytes;
use mvcc::{EventBatch, View, ViewSource};

use self::encode::Header;
use self::jobs::Found;
use self::read::Failure;
use self::reads::Reads;
use self::streams::Stream;
use crate::tally::FrontTallies;
use crate::{Fatal, Shared};

pub use ids::RequestIds;
pub use jobs::{Job, JobDone};
pub use link::{AskApply, AskDecide, Asker, LeaseInfo, Tell};
pub use method::{Method, Shape};
pub use peer_calls::PeerCall;
pub use pulse::Pulse;

/// Names a call or a stream towards the caller: chosen by the caller, unique among those open in
/// one front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What came beside a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// When the client stops waiting (`grpc-timeout`).
    pub deadline: Option<Instant>,
    /// Metadata `hasleader: true`: refuse, and end streams, while there is no leader.
    pub require_leader: bool,
    /// The member itself asks, to see whether it is well: a learner answers, too (etcd's checks call the
    /// server past its interceptors).
    pub of_member: bool,
}

/// What became of a call at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The encoded answer, or why there is none.
    Done(Result<Bytes, Status>),
    /// The answer comes as `Output::Reply`.
    Pending,
}

/// How a call that waited came to its end: for who counts calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A read of this member's own state.
    Read,
    /// Its entry was applied, with whatever success.
    Applied,
    /// It was proposed, and there was no answer in time.
    Unanswered,
    /// Something else.
    Other,
}

/// What a front thread wants to be done.
#[derive(Debug)]
pub enum Output {
    /// A call is answered; its token is free again.
    Reply {
        /// The caller.
        token: Token,
        /// The encoded answer, or why there is none.
        result: Result<Bytes, Status>,
        /// Who answered.
        ending: Ending,
    },
    /// A stream has something for `stream_poll`, or may be given further messages.
    Wake(Token),
    /// For the decide stage, all in one hand-over.
    Decide(Vec<AskDecide>),
    /// For the apply stage, all in one hand-over.
    Apply(Vec<AskApply>),
    /// Work that may wait for the disk or take long: run it on a pool thread (`Job::run`) and
    /// bring what it returns back by `Frontend::job_done`.
    Job(Job),
    /// The data file cannot be read: the member must stop.
    Broken(Fatal),
}

/// A message on its way to a client: parts to be sent one after the other as one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The parts; short ones have been joined.
    pub parts: Vec<Bytes>,
}

impl Frame {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether the message has no bytes (which is a message nevertheless).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Frame {
    fn from(message: Bytes) -> Frame {
        Frame { parts: vec![message] }
    }
}

/// What a stream has for its client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamPoll {
    /// Messages, oldest first.
    pub frames: Vec<Frame>,
    /// The stream ends after the frames, with this status (`Ok` as a normal end); the token is
    /// free then.
    pub end: Option<Result<(), Status>>,
    /// There is more than fitted: poll again when these are sent, without waiting for a wake-up.
    pub more: bool,
    /// What the frames of a watch stream have.
    pub given: Given,
}

/// How much of what is in the frames of a watch stream: for who counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Events.
    pub events: u32,
    /// Answers to requests.
    pub controls: u32,
    /// Progress notifications.
    pub progress: u32,
}

/// Settings of a front.
#[derive(Clone, Debug)]
pub struct Config {
    /// The release line shown.
    pub line: Line,
    /// In every header.
    pub cluster_id: u64,
    /// In every header.
    pub member_id: u64,
    /// The number of this front; which generator of request IDs is its own, and of how many.
    pub slot: usize,
    /// Generators of request IDs in this member: front threads, and one for the stages.
    pub slots: usize,
    /// Unix milliseconds at the start of the process: where request IDs start.
    pub start_unix_ms: u64,
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--strict-reconfig-check`: refuse changes of the membership that could cost the quorum.
    pub strict_reconfig_check: bool,
    /// `--quota-backend-bytes` as given: 0 is the default of 2 GiB, negative is none.
    pub quota_bytes: i64,
    /// How long the member itself waits for consensus: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// The election timeout.
    pub election_timeout: Duration,
    /// `--watch-progress-notify-interval`; 10 minutes by default, at least 100 ms.
    pub progress_interval: Duration,
    /// For jitter.
    pub seed: u64,
}

/// Bytes that gRPC adds to a request at most (etcd: embed, grpcOverheadBytes): watch responses
/// are split where they reach the limit of requests and this.
const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// The shortest interval of progress notifications.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Election timeouts without a leader after which streams that require one are ended.
const NO_LEADER_CHECKS: u32 = 3;

/// A request that waits for something.
#[derive(Debug)]
struct Waiting {
    caller: Token,
    what: Wants,
    started: Instant,
    /// When it is given up, and what is said then.
    deadline: Option<(Instant, Status)>,
    /// Whether it was proposed, so that consensus has to answer it.
    proposed: bool,
}

/// What a request waits for.
#[derive(Debug)]
enum Wants {
    /// Its proposal to be applied, or something else that comes as `Tell::Done`.
    Done,
    /// A physical compaction; when its client gives it up, once it is applied.
    Compacted { given_up: Option<(Instant, Status)> },
    /// The alarm that says why it is refused.
    NoSpaceAlarm,
    /// An index, or a page: then it is read.
    Read(reads::Read),
    /// `Tell::Lease`.
    Lease { lease: i64 },
    /// `Tell::Leases`.
    Leases,
    /// `Tell::Renewed`, for a stream.
    Renewed,
    /// `Tell::Renewed`, for another member.
    RenewedForPeer { lease: i64 },
    /// `Tell::Lease`, for another member.
    LeaseForPeer { lease: i64 },
    /// A learner to become a voter. For a client the leader is asked where another one leads.
    Promoted { member: u64, of: Asker },
    /// `Tell::Pinned`, to hash the file.
    PinnedForHash,
    /// `Tell::Pinned`, for a snapshot stream.
    PinnedForStream,
    /// A hash.
    Hash { of: Asker },
    /// A downgrade to be entered or cancelled; the cluster's version before it, which the answer names.
    Downgrade { before: Option<Version> },
    /// A new member to be a member.
    Added { member: Box<api::etcdserverpb::Member> },
    /// Another member to lead.
    Leader { to: u64 },
}

impl Wants {
    /// Whose question it is.
    fn asker(&self) -> Asker {
        match self {
            Wants::Promoted { of, .. } | Wants::Hash { of } => *of,
            Wants::RenewedForPeer { .. }
            | Wants::LeaseForPeer { .. }
            | Wants::Read(reads::Read::DowngradeForPeer) => Asker::Peer,
            Wants::Done
            | Wants::Compacted { .. }
            | Wants::NoSpaceAlarm
            | Wants::Read(_)
            | Wants::Lease { .. }
            | Wants::Leases
            | Wants::Renewed
            | Wants::PinnedForHash
            | Wants::PinnedForStream
            | Wants::Downgrade { .. }
            | Wants::Added { .. }
            | Wants::Leader { .. } => Asker::Client,
        }
    }
}

/// The front of a member for one thread. Single-threaded; whoever owns it gives it requests,
/// what the stages tell, the time, and does what `poll` says.
pub struct Frontend {
    config: Config,
    shared: Arc<Shared>,
    views: ViewSource,
    quota: state::Quota,
    ids: RequestIds,
    /// Looked up by ID, never walked.
    waiting: HashMap<u64, Waiting>,
    /// The unary calls that wait. Looked up, never walked.
    calls: HashMap<Token, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    reads: Reads,
    streams: BTreeMap<Token, Stream>,
    streams_opened: u64,
    /// The newest request that waits, or did.
    last_wait: u64,
    hub: watch::Hub,
    outputs: VecDeque<Output>,
    to_decide: Vec<AskDecide>,
    to_apply: Vec<AskApply>,
    views_wanted: bool,
    leader: Leader,
    /// One step of catching up is taken after each input, so that neither starves the other.
    may_catch_up: bool,
    stopped: bool,
    /// The data file cannot be read.
    is_broken: bool,
}

/// What this front saw of leaders.
#[derive(Debug, Default)]
struct Leader {
    /// When the present one was seen first.
    elected_at: Option<Instant>,
    next_check: Instant,
    absent_checks: u32,
    /// Transfers that wait.
    transfers: BTreeSet<u64>,
}

impl Frontend {
    /// The front number `config.slot` of a member.
    pub fn new(config: Config, shared: Arc<Shared>, views: ViewSource) -> Frontend {
        let hub = watch::Hub::new(watch::Settings {
            fragment_bytes: config.request_bytes_max + GRPC_OVERHEAD_BYTES,
            progress_interval: config.progress_interval.max(PROGRESS_INTERVAL_MIN),
            seed: config.seed,
        });
        Frontend {
            ids: RequestIds::new(config.member_id, config.start_unix_ms, config.slot, config.slots),
            quota: state::Quota::from_config(config.quota_bytes),
            config,
            shared,
            views,
            waiting: HashMap::new(),
            calls: HashMap::new(),
            deadlines: BTreeSet::new(),
            reads: Reads::default(),
            streams: BTreeMap::new(),
            streams_opened: 0,
            last_wait: 0,
            hub,
            outputs: VecDeque::new(),
            to_decide: Vec::new(),
            to_apply: Vec::new(),
            views_wanted: false,
            leader: Leader::default(),
            may_catch_up: false,
            stopped: false,
            is_broken: false,
        }
    }

    /// Settings as given.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What every thread of the member may read.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The caller of a pending call has gone: forget it. An entry already proposed is applied all
    /// the same.
    pub fn cancel(&mut self, token: Token) {
        if let Some(id) = self.calls.remove(&token) {
            self.forget(id);
        }
    }

    /// Something from the stages.
    pub fn handle(&mut self, tell: Tell, now: Instant) {
        self.may_catch_up = true;
        match tell {
            Tell::Done { id, result } => self.done(id, result),
            Tell::Compacting { id } => self.compacting(id),
            Tell::ReadIndex { id, index } => self.read_index_known(id, index, now),
            Tell::Renewed { id, result } => self.renewed(id, result),
            Tell::Lease { id, result } => self.lease_known(id, result),
            Tell::Promoted { id, result } => self.promoted(id, result),
            Tell::Leases { id, leases } => self.leases_known(id, &leases),
            Tell::Pinned { id, result } => self.pinned(id, result),
            Tell::LeaderChanged => self.leader_changed(now),
            Tell::FirstCommitInTerm => self.ask_read_index_again(now),
            Tell::Stopped => self.stop(),
        }
    }

    /// A new view is published, and with it these events. In the order of publication, and before
    /// the answers to the batch.
    pub fn published(&mut self, view: &Arc<View>, events: Option<&Arc<EventBatch>>, _now: Instant) {
        self.may_catch_up = true;
        self.end_streams_of_nobody();
        if let Some(events) = events
            && self.hub.has_watchers()
        {
            self.hub.publish(view, events);
        }
        self.serve_applied(view);
    }

    /// The leader's state has taken the place of this member's: batches are missing before `view`.
    pub fn replaced(&mut self, view: &Arc<View>, _now: Instant) {
        self.may_catch_up = true;
        self.end_streams_of_nobody();
        self.hub.replaced(view);
        self.serve_applied(view);
    }

    /// Ends the streams that were let in before authentication was enabled: nobody knows what they may see. Not every
    /// front is told when that is; those that are not end a stream when it is looked at.
    fn end_streams_of_nobody(&mut self) {
        if let Err(status) = self.check_auth() {
            let live = self.streams.iter().filter(|(_, stream)| stream.sees_new_state());
            let tokens: Vec<Token> = live.map(|(token, _)| *token).collect();
            for token in tokens {
                self.end_stream(token, Err(status.clone()));
            }
        }
    }

    /// A job came back.
    pub fn job_done(&mut self, done: JobDone, _now: Instant) {
        self.may_catch_up = true;
        match done.0 {
            Found::Answer { id, result } => {
                let result = self.client_result(result);
                self.finish(id, result);
            }
            Found::RangeStream {
                token,
                serial,
                chunk,
                result,
            } => self.range_chunk_read(token, serial, chunk, result),
            Found::HashKv { id, hash, result } => self.hash_kv_step(id, hash, result),
            Found::Hash {
                id,
                hash,
                revision,
                result,
            } => self.hash_step(id, hash, revision, result),
            Found::Snapshot {
                token,
                serial,
                reader,
                result,
            } => self.snapshot_read(token, serial, reader, result),
            Found::History(done) => {
                let step = self.hub.history_done(done);
                self.caught_up(step);
            }
        }
    }

    /// When `tick` wants to be called next, if nothing else happens before.
    pub fn next_tick(&self) -> Option<Instant> {
        if self.hub.is_behind() && !self.is_broken {
            return Some(Instant::default());
        }
        let leader_check = self
            .streams
            .values()
            .any(Stream::requires_leader)
            .then_some(self.leader.next_check);
        [
            self.deadlines.first().map(|(at, _)| *at),
            self.reads.next_retry(),
            self.hub.next_tick(),
            leader_check,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Deadlines, retries and progress notifications that are due.
    pub fn tick(&mut self, now: Instant) {
        self.may_catch_up = true;
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            self.timed_out(id);
        }
        self.retry_read_index(now);
        self.hub.tick(now);
        self.check_leader(now);
    }

    /// The next thing to do; `None` when there is nothing until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        if !self.to_decide.is_empty() {
            return Some(Output::Decide(std::mem::take(&mut self.to_decide)));
        }
        if !self.to_apply.is_empty() {
            return Some(Output::Apply(std::mem::take(&mut self.to_apply)));
        }
        if self.outputs.is_empty() && self.may_catch_up && self.hub.is_behind() && !self.is_broken {
            self.may_catch_up = false;
            let view = self.views.load();
            let step = self.hub.catch_up(&view);
            self.caught_up(step);
        }
        self.outputs
            .extend(self.hub.take_wakes().into_iter().map(Output::Wake));
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.hub.tally(&self.shared.front_tallies[self.config.slot]);
        }
        if output.is_none() && self.views_wanted && !self.needs_views() {
            self.views_wanted = false;
            self.shared.want_views(self.config.slot, false);
        }
        output
    }

    fn needs_views(&self) -> bool {
        self.hub.has_watchers() || self.reads.wait_for_index()
    }

    /// Makes the apply stage publish to this front. Load the view afterwards, not before.
    fn want_views(&mut self) {
        if !self.views_wanted {
            self.views_wanted = true;
            self.shared.want_views(self.config.slot, true);
        }
    }

    fn caught_up(&mut self, step: watch::Step) {
        match step {
            watch::Step::Idle | watch::Step::More => {}
            watch::Step::Job(job) => self.outputs.push_back(Output::Job(Job(jobs::Work::History(job)))),
            watch::Step::Failed(error) => self.broken(&error),
        }
    }

    /// A header; the revision is the caller's.
    fn header(&self) -> Header {
        Header {
            cluster_id: self.config.cluster_id,
            member_id: self.config.member_id,
            revision: 0,
            raft_term: self.shared.pulse.term(),
        }
    }

    /// The error of a read as its client sees it. What is no client's fault stops the member.
    fn client_result<T>(&mut self, result: Result<T, impl Into<Failure>>) -> Result<T, Status> {
        result.map_err(|error| match error.into() {
            Failure::Store(mvcc::Error::Compacted) => error::COMPACTED,
            Failure::Store(mvcc::Error::FutureRevision) => error::FUTURE_REV,
            Failure::Store(error) => {
                self.broken(&error);
                Status::with(Code::Internal, format!("mainstay: {error}"))
            }
            Failure::TooLarge(len) => Status::with(
                Code::ResourceExhausted,
                // As grpc-go says it.
                format!(
                    "grpc: trying to send message larger than max ({len} vs. {})",
                    read::ANSWER_BYTES_MAX
                ),
            ),
        })
    }

    fn broken(&mut self, error: &mvcc::Error) {
        self.is_broken = true;
        self.outputs.push_back(Output::Broken(Fatal {
            what: "data file".to_owned(),
            reason: error.to_string(),
        }));
    }

    /// Notes a request that waits; `deadline` is its own end.
    fn wait(
        &mut self,
        caller: Token,
        what: Wants,
        started: Instant,
        deadline: Option<(Instant, Status)>,
    ) -> u64 {
        let id = self.ids.next_id();
        self.wait_as(id, caller, what, started, deadline);
        id
    }

    fn wait_as(
        &mut self,
        id: u64,
        caller: Token,
        what: Wants,
        started: Instant,
        deadline: Option<(Instant, Status)>,
    ) {
        self.last_wait = id;
        if let Some((at, _)) = &deadline {
            self.deadlines.insert((*at, id));
        }
        if !self.streams.contains_key(&caller) {
            self.calls.insert(caller, id);
        }
        self.waiting.insert(
            id,
            Waiting {
                caller,
                what,
                started,
                deadline,
                proposed: false,
            },
        );
    }

    /// Notes that a request that waits is one for consensus.
    fn note_proposed(&mut self, id: u64) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.proposed = true;
            self.tallies().proposals_pending.add(1);
        }
    }

    fn tallies(&self) -> &FrontTallies {
        &self.shared.front_tallies[self.config.slot]
    }

    /// Takes a request out of all that refers to it.
    fn forget(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some((at, _)) = &waiting.deadline {
            self.deadlines.remove(&(*at, id));
        }
        if self.calls.get(&waiting.caller) == Some(&id) {
            self.calls.remove(&waiting.caller);
        }
        self.reads.forget(id);
        self.leader.transfers.remove(&id);
        if waiting.proposed {
            self.tallies().proposals_pending.sub(1);
        }
        Some(waiting)
    }

    /// Answers a request that waits; nothing if its caller has gone. A client that was let in before authentication was
    /// enabled gets nothing that was looked up after it.
    fn finish(&mut self, id: u64, result: Result<Bytes, Status>) {
        let asker = self.waiting.get(&id).map(|waiting| waiting.what.asker());
        let result = match asker {
            Some(Asker::Client) => result.and_then(|answer| self.check_auth().map(|()| answer)),
            Some(Asker::Peer) | None => result,
        };
        self.finish_as(id, result, false);
    }

    fn finish_as(&mut self, id: u64, result: Result<Bytes, Status>, applied: bool) {
        let Some(waiting) = self.forget(id) else {
            return;
        };
        let token = waiting.caller;
        let ending = match (&waiting.what, waiting.proposed, applied) {
            (_, true, true) | (Wants::Compacted { .. }, false, true) => Ending::Applied,
            (_, true, false) => Ending::Unanswered,
            (Wants::Read(_), false, _) => Ending::Read,
            _ => Ending::Other,
        };
        if ending == Ending::Unanswered {
            self.tallies().proposals_failed.add(1);
        }
        if self.streams.contains_key(&token) {
            self.stream_failed(token, id, result.err());
        } else {
            self.outputs.push_back(Output::Reply {
                token,
                result,
                ending,
            });
        }
    }

    fn done(&mut self, id: u64, result: Result<Bytes, Status>) {
        let Some(waiting) = self.waiting.get(&id) else {
            return;
        };
        if let Wants::Promoted { member, of } = waiting.what {
            return self.promotion_done(id, member, of, result);
        }
        let result = match waiting.what {
            Wants::NoSpaceAlarm => Err(error::NO_SPACE),
            Wants::Downgrade { before } => {
                result.map(|_| self.downgrade_answer(before, self.views.peek().revision))
            }
            Wants::Added { ref member } => result.map(|members| cluster::added_answer(member, members)),
            _ => result,
        };
        self.finish_as(id, result, true);
    }

    fn timed_out(&mut self, id: u64) {
        let Some(waiting) = self.waiting.get(&id) else {
            return;
        };
        let status = match (&waiting.deadline, &waiting.what) {
            (_, Wants::NoSpaceAlarm) => error::NO_SPACE,
            (Some((_, status)), _) if *status == error::TIMEOUT => self.timeout_status(waiting.started),
            (Some((_, status)), _) => status.clone(),
            (None, _) => return,
        };
        self.finish(id, Err(status));
    }

    /// Why a request got no answer in time (etcd: server.go parseProposeCtxErr).
    fn timeout_status(&self, started: Instant) -> Status {
        let during_election = self.leader.elected_at.is_some_and(|elected| {
            // The one before is taken to be lost two election timeouts earlier.
            let lost = elected
                .since_start()
                .saturating_sub(2 * self.config.election_timeout);
            started > Instant::from_start(lost) && started < elected
        });
        match during_election {
            true => error::TIMEOUT_DUE_TO_LEADER_FAIL,
            false => error::TIMEOUT,
        }
    }

    /// The end of a request that consensus has to answer: the member's patience or the client's.
    fn consensus_deadline(&self, context: &Context, now: Instant) -> Option<(Instant, Status)> {
        let own = now + self.config.request_timeout;
        let at = context.deadline.map_or(own, |client| client.min(own));
        Some((at, error::TIMEOUT))
    }

    /// The end of a request that only its client may give up.
    fn client_deadline(context: &Context) -> Option<(Instant, Status)> {
        const GIVEN_UP: Status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
        context.deadline.map(|at| (at, GIVEN_UP))
    }

    fn leader_changed(&mut self, now: Instant) {
        let leader = self.shared.pulse.leader();
        if leader != 0 {
            self.leader.elected_at = Some(now);
            self.leader.absent_checks = 0;
        }
        for id in self.leader.transfers.clone() {
            if let Some(Waiting {
                what: Wants::Leader { to },
                ..
            }) = self.waiting.get(&id)
                && *to == leader
            {
                self.finish(id, Ok(Bytes::new()));
            }
        }
        self.ask_read_index_again(now);
    }

    /// Ends the streams that require a leader when there was none for three election timeouts
    /// (etcd: v3rpc/interceptor.go monitorLeader).
    fn check_leader(&mut self, now: Instant) {
        if now < self.leader.next_check {
            return;
        }
        self.leader.next_check = now + self.config.election_timeout;
        if self.shared.pulse.leader() != 0 {
            self.leader.absent_checks = 0;
            return;
        }
        self.leader.absent_checks += 1;
        if self.leader.absent_checks < NO_LEADER_CHECKS {
            return;
        }
        let required: Vec<Token> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.requires_leader())
            .map(|(token, _)| *token)
            .collect();
        for token in required {
            self.end_stream(token, Err(error::NO_LEADER));
        }
    }

    /// The member acknowledges nothing any more.
    fn stop(&mut self) {
        self.stopped = true;
        let mut ids: Vec<u64> = self.waiting.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.finish(id, Err(error::STOPPED));
        }
        let tokens: Vec<Token> = self.streams.keys().copied().collect();
        for token in tokens {
            self.end_stream(token, Err(error::STOPPED));
        }
    }
}

impl std::fmt::Debug for Frontend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frontend")
            .field("slot", &self.config.slot)
            .field("waiting", &self.waiting.len())
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}
