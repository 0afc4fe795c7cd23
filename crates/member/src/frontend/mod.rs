//! The front of a member: everything a client request meets before and after consensus.
//!
//! One [`Frontend`] per front thread. It validates, proposes, waits, reads, watches. It never
//! opens a socket, reads a clock or waits: time is an argument, callers are tokens, what it wants
//! from others comes out of [`Frontend::poll`].

mod ids;
mod link;
mod method;
mod pulse;

use std::time::Duration;

use api::clock::Instant;
use api::error::Status;
use api::version::Line;
use bytes::Bytes;

pub use ids::RequestIds;
pub use link::{AskApply, AskDecide, LeaseInfo, Tell};
pub use method::{Method, Shape};
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
}

/// What became of a call at once.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The encoded answer, or why there is none.
    Done(Result<Bytes, Status>),
    /// The answer comes as `Output::Reply`.
    Pending,
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
    },
    /// A stream has something for `stream_poll`.
    Wake(Token),
    /// For the decide stage, all in one hand-over.
    Decide(Vec<AskDecide>),
    /// For the apply stage, all in one hand-over.
    Apply(Vec<AskApply>),
    /// Work that may wait for the disk or take long: run it on a pool thread (`Job::run`) and
    /// bring what it returns back by `Frontend::job_done`.
    Job(Job),
}

/// A piece of work for a pool thread.
#[derive(Debug)]
pub struct Job(());

/// What a job found.
#[derive(Debug)]
pub struct JobDone(());

impl Job {
    /// Does the work. May wait for the disk; bounded, long work comes in several jobs.
    pub fn run(self) -> JobDone {
        JobDone(self.0)
    }
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

/// What a stream has for its client.
#[derive(Clone, Debug, Default)]
pub struct StreamPoll {
    /// Messages, oldest first.
    pub frames: Vec<Frame>,
    /// The stream ends after the frames, with this status (`Ok` as a normal end); the token is
    /// free then.
    pub end: Option<Result<(), Status>>,
    /// There is more than fitted: poll again when these are sent, without waiting for a wake-up.
    pub more: bool,
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
    /// Which generator of request IDs is this front's, and of how many.
    pub slot: usize,
    /// Generators of request IDs in this member: front threads, and one for the stages.
    pub slots: usize,
    /// Unix milliseconds at the start of the process: where request IDs start.
    pub start_unix_ms: u64,
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--quota-backend-bytes` as given: 0 is the default of 2 GiB, negative is none.
    pub quota_bytes: i64,
    /// How long the member itself waits for consensus: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// The election timeout.
    pub election_timeout: Duration,
    /// `--watch-progress-notify-interval`; 10 minutes by default.
    pub progress_interval: Duration,
    /// For jitter.
    pub seed: u64,
}

/// The front of a member for one thread.
#[derive(Debug)]
pub struct Frontend {
    config: Config,
}

#[allow(clippy::todo, unused_variables)]
impl Frontend {
    /// Settings as given.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A unary call: `message` is the encoded request.
    pub fn call(
        &mut self,
        token: Token,
        method: Method,
        message: Bytes,
        context: Context,
        now: Instant,
    ) -> Outcome {
        todo!()
    }

    /// The caller of a pending call has gone: forget it. An entry already proposed is applied all the same.
    pub fn cancel(&mut self, token: Token) {
        todo!()
    }

    /// Opens a stream. An error ends the call with that status; the token is not used then.
    pub fn stream_open(
        &mut self,
        token: Token,
        method: Method,
        context: Context,
        now: Instant,
    ) -> Result<(), Status> {
        todo!()
    }

    /// A message from the client of an open stream. Errors come by `stream_poll`.
    pub fn stream_message(&mut self, token: Token, message: Bytes, now: Instant) {
        todo!()
    }

    /// The client sends no more messages (half-close).
    pub fn stream_finished(&mut self, token: Token, now: Instant) {
        todo!()
    }

    /// Frames ready for the client, about `bytes_max` bytes of them (at least one if there is
    /// any). Call after `Output::Wake`, and after each time all was sent while `more`.
    pub fn stream_poll(&mut self, token: Token, bytes_max: usize, now: Instant) -> StreamPoll {
        todo!()
    }

    /// The client has gone: frees the stream and its token.
    pub fn stream_close(&mut self, token: Token) {
        todo!()
    }

    /// Something from the stages.
    pub fn handle(&mut self, tell: Tell, now: Instant) {
        todo!()
    }

    /// A new view is published, and with it these events. Call once a batch, after the batch's `Tell::Done`s.
    pub fn published(&mut self, now: Instant) {
        todo!()
    }

    /// A job came back.
    pub fn job_done(&mut self, done: JobDone, now: Instant) {
        todo!()
    }

    /// When `tick` wants to be called next, if nothing else happens before.
    pub fn next_tick(&self) -> Option<Instant> {
        todo!()
    }

    /// Deadlines, retries and progress notifications that are due.
    pub fn tick(&mut self, now: Instant) {
        todo!()
    }

    /// The next thing to do; `None` when there is nothing until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        todo!()
    }
}
