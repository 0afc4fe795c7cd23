//! Streams: opened, fed with messages, polled for frames, ended. One state machine a method.

use std::collections::VecDeque;

use api::clock::Instant;
use api::error::{self, Code, Status};
use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest, SnapshotRequest, WatchRequest,
};
use api::version::Line;
use bytes::Bytes;
use mvcc::Wait;
use prost::Message;

use super::calls::undecodable;
use super::encode::Header;
use super::jobs::Work;
use super::read::Chunk;
use super::reads::Read;
use super::snapshot::SnapshotReader;
use super::{
    AskApply, Asker, Context, Frame, Frontend, Method, Outcome, Output, StreamPoll, Token, Wants, validate,
};

/// Bytes that a stream reads ahead of its client.
const READ_AHEAD_BYTES: usize = 512 * 1024;

/// Renewals of one stream that may wait for their answers.
const RENEWALS_MAX: usize = 256;

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    context: Context,
    /// How the stream ends, once that is known; what is queued goes out before.
    end: Option<Result<(), Status>>,
    /// Tells this stream from earlier ones that had its token: jobs come back late.
    serial: u64,
    /// The request under which it waits for an index or a pinned file.
    wait: Option<u64>,
    kind: Kind,
}

enum Kind {
    /// Its queue is the hub's.
    Watch,
    KeepAlive(KeepAlive),
    RangeStream(Source<Chunk>),
    Snapshot(Source<SnapshotReader>),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Watch => "Watch",
            Kind::KeepAlive(_) => "KeepAlive",
            Kind::RangeStream(_) => "RangeStream",
            Kind::Snapshot(_) => "Snapshot",
        })
    }
}

/// Renewals in the order in which they were asked, which is the order of the answers.
#[derive(Default)]
struct KeepAlive {
    renewals: VecDeque<Renewal>,
    /// The client asks no more.
    finished: bool,
}

struct Renewal {
    id: u64,
    lease: i64,
    /// Made before the renewal, so that its revision is not after a revocation that the
    /// renewal came before (etcd: v3rpc/lease.go).
    header: Header,
    ttl: Option<i64>,
}

/// Something read piece by piece, ahead of the client by a bounded amount.
struct Source<R> {
    /// The request has come.
    started: bool,
    /// Here unless a job has it, or it is not there yet.
    reader: Option<Box<R>>,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
}

impl<R> Default for Source<R> {
    fn default() -> Source<R> {
        Source {
            started: false,
            reader: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
        }
    }
}

impl<R> Source<R> {
    fn push(&mut self, message: Bytes) {
        self.queued_bytes += message.len();
        self.queue.push_back(message);
    }

    fn pop(&mut self, bytes_max: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(message) = self.queue.pop_front() else {
                break;
            };
            bytes += message.len();
            frames.push(Frame::from(message));
        }
        self.queued_bytes -= bytes;
        frames
    }

    /// The reader, if it should read more now.
    fn take_to_read(&mut self) -> Option<Box<R>> {
        match self.queued_bytes < READ_AHEAD_BYTES {
            true => self.reader.take(),
            false => None,
        }
    }
}

impl Stream {
    /// Whether what it says may be of after the stream began. A snapshot is of the file as it was.
    pub(super) fn sees_new_state(&self) -> bool {
        !matches!(self.kind, Kind::Snapshot(_))
    }

    pub(super) fn requires_leader(&self) -> bool {
        self.context.require_leader && self.end.is_none()
    }
}

impl Frontend {
    /// Opens a stream. An error ends the call with that status; the token is not used then.
    pub fn stream_open(
        &mut self,
        token: Token,
        method: Method,
        context: Context,
        now: Instant,
    ) -> Result<(), Status> {
        self.may_catch_up = true;
        if self.stopped {
            return Err(error::STOPPED);
        }
        if self.shared.pulse.is_learner() && method != Method::Snapshot {
            return Err(error::NOT_SUPPORTED_FOR_LEARNER);
        }
        self.check_auth()?;
        self.check_leader_required(&context)?;
        let kind = match method {
            Method::Watch => {
                self.hub.open(token, now);
                Kind::Watch
            }
            Method::LeaseKeepAlive => Kind::KeepAlive(KeepAlive::default()),
            Method::RangeStream if self.config.line < Line::V3_7 => {
                // What grpc-go says of a method that a release does not have.
                return Err(Status::new(
                    Code::Unimplemented,
                    "unknown method RangeStream for service etcdserverpb.KV",
                ));
            }
            Method::RangeStream => Kind::RangeStream(Source::default()),
            Method::Snapshot => Kind::Snapshot(Source::default()),
            _ => return Err(Status::new(Code::Internal, "mainstay: not a streaming method")),
        };
        if context.require_leader && !self.streams.values().any(Stream::requires_leader) {
            self.leader.next_check = now + self.config.election_timeout;
        }
        self.streams_opened += 1;
        let stream = Stream {
            context,
            end: None,
            serial: self.streams_opened,
            wait: None,
            kind,
        };
        self.streams.insert(token, stream);
        Ok(())
    }

    /// Whether the stream may be given its client's next message. If not, hold it back and look
    /// again after each `stream_poll`: the client asks faster than it reads or than can be answered.
    pub fn stream_is_ready(&self, token: Token) -> bool {
        match self.streams.get(&token) {
            Some(Stream {
                kind: Kind::Watch, ..
            }) => self.hub.is_ready(token),
            Some(Stream {
                kind: Kind::KeepAlive(keep_alive),
                ..
            }) => keep_alive.renewals.len() < RENEWALS_MAX,
            _ => true,
        }
    }

    /// A message from the client of an open stream. Errors come by `stream_poll`.
    pub fn stream_message(&mut self, token: Token, message: Bytes, now: Instant) {
        self.may_catch_up = true;
        let Some(stream) = self.streams.get(&token) else {
            return;
        };
        if stream.end.is_some() {
            return;
        }
        if let Err(status) = self.check_auth() {
            return self.end_stream(token, Err(status));
        }
        let result = match stream.kind {
            Kind::Watch => decode(message).map(|request| self.watch_request(token, request)),
            Kind::KeepAlive(_) => decode(message).map(|request| self.keep_alive(token, &request, now)),
            Kind::RangeStream(_) => {
                decode(message).and_then(|request| self.range_stream(token, request, now))
            }
            Kind::Snapshot(_) => decode(message).map(|request| self.snapshot(token, &request, now)),
        };
        if let Err(status) = result {
            self.end_stream(token, Err(status));
        }
    }

    /// The client sends no more messages (half-close). A watch goes on.
    pub fn stream_finished(&mut self, token: Token, _now: Instant) {
        let Some(stream) = self.streams.get_mut(&token) else {
            return;
        };
        match &mut stream.kind {
            Kind::Watch => {}
            Kind::KeepAlive(keep_alive) => {
                keep_alive.finished = true;
                self.outputs.push_back(Output::Wake(token));
            }
            Kind::RangeStream(Source { started, .. }) | Kind::Snapshot(Source { started, .. })
                if *started => {}
            Kind::RangeStream(_) | Kind::Snapshot(_) => {
                const NO_REQUEST: Status = Status::new(
                    Code::Internal,
                    "cardinality violation: received no request message from non-client-streaming RPC",
                );
                self.end_stream(token, Err(NO_REQUEST));
            }
        }
    }

    /// Frames ready for the client, about `bytes_max` bytes of them (at least one if there is
    /// any). Call after `Output::Wake`, and after each time all was sent while `more`.
    pub fn stream_poll(&mut self, token: Token, bytes_max: usize, _now: Instant) -> StreamPoll {
        self.may_catch_up = true;
        if let Err(status) = self.check_auth()
            && self.streams.get(&token).is_some_and(Stream::sees_new_state)
        {
            // What is queued may have been read after authentication was enabled.
            self.stream_close(token);
            return StreamPoll {
                end: Some(Err(status)),
                ..StreamPoll::default()
            };
        }
        let header = self.header();
        let Some(stream) = self.streams.get_mut(&token) else {
            return StreamPoll::default();
        };
        let mut poll = StreamPoll::default();
        match &mut stream.kind {
            Kind::Watch => {
                (poll.frames, poll.more, poll.given) = self.hub.poll(token, bytes_max.max(1), header);
            }
            Kind::KeepAlive(keep_alive) => {
                poll.frames = keep_alive.pop();
                if keep_alive.finished && keep_alive.renewals.is_empty() {
                    stream.end.get_or_insert(Ok(()));
                }
            }
            Kind::RangeStream(source) => poll.frames = source.pop(bytes_max.max(1)),
            Kind::Snapshot(source) => poll.frames = source.pop(bytes_max.max(1)),
        }
        self.read_ahead(token);
        if let Some(stream) = self.streams.get_mut(&token) {
            poll.more |= match &stream.kind {
                Kind::RangeStream(source) => !source.queue.is_empty(),
                Kind::Snapshot(source) => !source.queue.is_empty(),
                Kind::Watch | Kind::KeepAlive(_) => false,
            };
            if !poll.more
                && let Some(end) = stream.end.take()
            {
                poll.end = Some(end);
                self.stream_close(token);
            }
        }
        poll
    }

    /// The client has gone: frees the stream and its token.
    pub fn stream_close(&mut self, token: Token) {
        let Some(stream) = self.streams.remove(&token) else {
            return;
        };
        if let Some(id) = stream.wait {
            self.forget(id);
        }
        match stream.kind {
            Kind::Watch => self.hub.close(token),
            Kind::KeepAlive(keep_alive) => {
                for renewal in keep_alive.renewals {
                    self.forget(renewal.id);
                }
            }
            // A job that is out finds no stream of its serial, and is dropped.
            Kind::RangeStream(_) | Kind::Snapshot(_) => {}
        }
    }

    fn stream_of(&mut self, token: Token, serial: u64) -> Option<&mut Stream> {
        self.streams
            .get_mut(&token)
            .filter(|stream| stream.serial == serial)
    }

    /// Ends a stream after what is queued.
    pub(super) fn end_stream(&mut self, token: Token, end: Result<(), Status>) {
        if let Some(stream) = self.streams.get_mut(&token) {
            stream.end.get_or_insert(end);
            if matches!(stream.kind, Kind::Watch) {
                // Nothing new, or a busy store would put off the end for ever.
                self.hub.cancel_all(token);
            }
            self.outputs.push_back(Output::Wake(token));
        }
    }

    /// Something that a stream waited for failed, or timed out.
    pub(super) fn stream_failed(&mut self, token: Token, _id: u64, error: Option<Status>) {
        if let Some(status) = error {
            self.end_stream(token, Err(status));
        }
    }

    fn watch_request(&mut self, token: Token, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                self.want_views();
                let view = self.views.load();
                self.hub.create(token, create, &view);
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                let view = self.views.load();
                self.hub.cancel(token, cancel.watch_id, &view);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.hub.request_progress(token),
            // etcd ignores what it does not know.
            None => {}
        }
    }

    fn keep_alive(&mut self, token: Token, request: &LeaseKeepAliveRequest, now: Instant) {
        let header = self.header().with_revision(self.views.peek().revision);
        let deadline = Some((now + self.config.request_timeout, error::TIMEOUT));
        let id = self.wait(token, Wants::Renewed, now, deadline);
        if let Some(Stream {
            kind: Kind::KeepAlive(keep_alive),
            ..
        }) = self.streams.get_mut(&token)
        {
            keep_alive.renewals.push_back(Renewal {
                id,
                lease: request.id,
                header,
                ttl: None,
            });
        }
        self.to_apply.push(AskApply::Renew {
            id,
            lease: request.id,
            of: Asker::Client,
        });
    }

    pub(super) fn renewed(&mut self, id: u64, result: Result<Option<i64>, Status>) {
        if let Some(Wants::RenewedForPeer { lease }) = self.waiting.get(&id).map(|waiting| &waiting.what) {
            return self.renewed_for_peer(id, *lease, result);
        }
        let Some(waiting) = self.forget(id) else {
            return;
        };
        let token = waiting.caller;
        let Some(Stream {
            kind: Kind::KeepAlive(keep_alive),
            ..
        }) = self.streams.get_mut(&token)
        else {
            return;
        };
        match result {
            Ok(ttl) => {
                if let Some(renewal) = keep_alive.renewals.iter_mut().find(|renewal| renewal.id == id) {
                    // A lease that is gone has no time left.
                    renewal.ttl = Some(ttl.unwrap_or(0));
                }
                if keep_alive.renewals.front().is_some_and(|first| first.id == id) {
                    self.outputs.push_back(Output::Wake(token));
                }
            }
            Err(status) => self.end_stream(token, Err(status)),
        }
    }

    fn range_stream(&mut self, token: Token, request: RangeRequest, now: Instant) -> Result<(), Status> {
        validate::check_range_stream(&request)?;
        let (header, serializable) = (self.header(), request.serializable);
        let chunk = Box::new(Chunk::new(request, header, self.config.request_bytes_max));
        let Some(Stream {
            kind: Kind::RangeStream(source),
            context,
            ..
        }) = self.streams.get_mut(&token)
        else {
            return Ok(());
        };
        if source.started {
            return Err(Status::new(Code::Internal, "mainstay: more than one request"));
        }
        source.started = true;
        source.reader = Some(chunk);
        let context = *context;
        if serializable {
            self.range_stream_may_read(token);
            return Ok(());
        }
        match self.read_linearizable(token, Read::RangeStream, &context, now) {
            Outcome::Done(Err(status)) => return Err(status),
            Outcome::Done(Ok(_)) => {}
            Outcome::Pending => self.note_wait(token),
        }
        Ok(())
    }

    /// Notes under which request a stream waits, which is the last one made.
    fn note_wait(&mut self, token: Token) {
        let id = self.last_wait;
        if self.waiting.contains_key(&id)
            && let Some(stream) = self.streams.get_mut(&token)
        {
            stream.wait = Some(id);
        }
    }

    /// The member has what the stream has to see.
    pub(super) fn range_stream_may_read(&mut self, token: Token) {
        if let Some(stream) = self.streams.get_mut(&token) {
            stream.wait = None;
        }
        self.read_ahead(token);
    }

    /// Reads as far ahead of the client as is allowed: here what is in memory, else in the pool.
    fn read_ahead(&mut self, token: Token) {
        let Some(stream) = self.streams.get_mut(&token) else {
            return;
        };
        if stream.end.is_some() {
            return;
        }
        let serial = stream.serial;
        match &mut stream.kind {
            // Whoever carries the stream may look at any time, also before its index is known.
            Kind::RangeStream(_) if stream.wait.is_some() => {}
            Kind::RangeStream(source) => {
                let Some(mut chunk) = source.take_to_read() else {
                    return;
                };
                let view = self.views.load();
                match chunk.read(&view, Wait::No) {
                    Err(mvcc::Error::WouldBlock) => self.push_job(Work::RangeStream {
                        token,
                        serial,
                        chunk,
                        view,
                    }),
                    result => self.range_chunk_read(token, serial, chunk, result),
                }
            }
            Kind::Snapshot(source) => {
                if let Some(reader) = source.take_to_read() {
                    self.push_job(Work::Snapshot {
                        token,
                        serial,
                        reader,
                    });
                }
            }
            Kind::Watch | Kind::KeepAlive(_) => {}
        }
    }

    pub(super) fn range_chunk_read(
        &mut self,
        token: Token,
        serial: u64,
        chunk: Box<Chunk>,
        result: Result<Bytes, mvcc::Error>,
    ) {
        self.tallies().ranges.add(1);
        let result = self.client_result(result);
        let Some(Stream {
            kind: Kind::RangeStream(source),
            end,
            ..
        }) = self.stream_of(token, serial)
        else {
            return;
        };
        match result {
            Ok(message) => {
                source.push(message);
                match chunk.is_finished() {
                    true => *end = Some(Ok(())),
                    false => source.reader = Some(chunk),
                }
            }
            Err(status) => *end = Some(Err(status)),
        }
        self.outputs.push_back(Output::Wake(token));
    }

    fn snapshot(&mut self, token: Token, _request: &SnapshotRequest, now: Instant) {
        let Some(Stream {
            kind: Kind::Snapshot(source),
            context,
            ..
        }) = self.streams.get_mut(&token)
        else {
            return;
        };
        if std::mem::replace(&mut source.started, true) {
            return;
        }
        let deadline = Frontend::client_deadline(context);
        let id = self.wait(token, Wants::PinnedForStream, now, deadline);
        self.note_wait(token);
        self.to_apply.push(AskApply::Pin { id });
    }

    pub(super) fn snapshot_ready(&mut self, token: Token, reader: Box<SnapshotReader>) {
        if let Some(Stream {
            kind: Kind::Snapshot(source),
            ..
        }) = self.streams.get_mut(&token)
        {
            source.reader = Some(reader);
            self.read_ahead(token);
        }
    }

    pub(super) fn snapshot_read(
        &mut self,
        token: Token,
        serial: u64,
        reader: Box<SnapshotReader>,
        result: Result<Vec<Bytes>, mvcc::Error>,
    ) {
        let result = self.client_result(result);
        let Some(Stream {
            kind: Kind::Snapshot(source),
            end,
            ..
        }) = self.stream_of(token, serial)
        else {
            return;
        };
        match result {
            Ok(messages) => {
                messages.into_iter().for_each(|message| source.push(message));
                match reader.is_finished() {
                    true => *end = Some(Ok(())),
                    false => source.reader = Some(reader),
                }
            }
            Err(status) => *end = Some(Err(status)),
        }
        self.outputs.push_back(Output::Wake(token));
        self.read_ahead(token);
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    let what = "grpc: failed to unmarshal the received message";
    M::decode(message).map_err(|error| undecodable(&error.to_string(), what))
}

impl KeepAlive {
    fn pop(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(Renewal {
            lease,
            header,
            ttl: Some(ttl),
            ..
        }) = self.renewals.front()
        {
            let response = LeaseKeepAliveResponse {
                header: Some(header.to_message()),
                id: *lease,
                ttl: *ttl,
            };
            frames.push(Frame::from(Bytes::from(response.encode_to_vec())));
            self.renewals.pop_front();
        }
        frames
    }
}
