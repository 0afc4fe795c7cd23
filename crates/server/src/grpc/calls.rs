//! The calls of one connection: what clients send goes to the front, what it answers goes back.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use api::error::{Code, Status};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderValue, Request};
use member::frontend::{self, Method, Shape, Token};
use member::human_bytes;
use slab::Slab;
use tokio::time::Sleep;

use super::admit::{Terms, admit};
use super::framing::{Joiner, PREFIX_LEN, Piece, check_encoding};
use super::io::WireState;
use super::sender::{Manner, Sender, answer, trailers_only};
use super::stats;
use crate::driver::lock;
use crate::front::{Front, Owner};
use crate::metrics::{UNKNOWN_VERSION, span};
use crate::services::recipes::Answers;
use crate::services::{Route, health};

/// Bytes asked of a stream at a time.
const STREAM_BATCH: usize = 64 << 10;
/// What a request may have beside `--max-request-bytes`: embed/config.go grpcOverheadBytes.
const OVERHEAD_BYTES: usize = 512 << 10;

/// What the front has for the calls of one connection.
#[derive(Default)]
struct Desk {
    letters: RefCell<Vec<Letter>>,
    waker: RefCell<Option<Waker>>,
}

enum Letter {
    Reply(usize, Token, Result<Bytes, Status>),
    Wake(usize),
}

impl Desk {
    /// Wakes the connection for the first letter; it finds the others as well.
    fn put(&self, letter: Letter) {
        self.letters.borrow_mut().push(letter);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Owner for Desk {
    fn reply(&self, slot: usize, token: Token, result: Result<Bytes, Status>) {
        self.put(Letter::Reply(slot, token, result));
    }

    fn wake(&self, slot: usize) {
        self.put(Letter::Wake(slot));
    }
}

/// The calls whose client has sent something, can take more, or has given up.
#[derive(Default)]
struct Ready {
    slots: Mutex<Vec<usize>>,
    waker: Mutex<Option<Waker>>,
}

/// Wakes a connection for one of its calls, so that it need not look at all of them.
struct SlotWaker {
    slot: usize,
    ready: Arc<Ready>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut slots = lock(&self.ready.slots);
        if slots.last() != Some(&self.slot) {
            slots.push(self.slot);
        }
        drop(slots);
        if let Some(waker) = lock(&self.ready.waker).take() {
            waker.wake();
        }
    }
}

/// One call.
struct Call {
    route: Route,
    started: api::clock::Instant,
    context: frontend::Context,
    encoding: Option<String>,
    manner: Manner,
    /// When a stream's time is over; the front sees to unary calls.
    deadline: Option<Pin<Box<Sleep>>>,
    joiner: Joiner,
    /// `None` when the client has sent all.
    recv: Option<RecvStream>,
    /// The message of a unary call.
    message: Option<Bytes>,
    stage: Stage,
}

enum Stage {
    /// A unary call whose message is not complete.
    Reading(SendResponse<Piece>),
    /// A unary call that the front has.
    Waiting(SendResponse<Piece>, Token),
    /// A stream of the front.
    Streaming(Streaming),
    /// A stream of the health service, which stays open; its first message may have been answered.
    Watching(Sender),
    /// A call of the lock and election services.
    Serving(Answers, Sender),
}

struct Streaming {
    token: Token,
    sender: Sender,
    /// The front has more than was taken.
    more: bool,
    /// The client has sent a message that the front does not take yet.
    held: bool,
    waker: Waker,
}

/// The calls of one connection.
pub(super) struct Calls {
    front: Rc<Front>,
    state: Rc<WireState>,
    terms: Terms,
    /// The version that the last client said it has, and its number.
    version: (Option<HeaderValue>, usize),
    message_bytes_max: usize,
    slots: Slab<Call>,
    /// Unary calls whose message is not complete.
    reading: Vec<usize>,
    desk: Rc<Desk>,
    ready: Arc<Ready>,
}

impl Calls {
    /// No calls yet.
    pub(super) fn new(front: Rc<Front>, state: Rc<WireState>, terms: Terms) -> Calls {
        let config = &front.common.config;
        Calls {
            message_bytes_max: config.max_request_bytes.saturating_add(OVERHEAD_BYTES),
            version: (None, UNKNOWN_VERSION),
            front,
            state,
            terms,
            slots: Slab::new(),
            reading: Vec::new(),
            desk: Rc::new(Desk::default()),
            ready: Arc::new(Ready::default()),
        }
    }

    /// When bytes last came in.
    pub(super) fn last_read(&self) -> Instant {
        self.state.last_read.get()
    }

    fn remove(&mut self, slot: usize) {
        self.slots.try_remove(slot);
        self.state.active_streams.set(self.slots.len());
    }

    /// A request has come.
    pub(super) fn open(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Piece>,
        cx: &mut Context<'_>,
    ) {
        let (parts, recv) = request.into_parts();
        if let Some(offer) = self.terms.offer(&parts) {
            let request = Request::from_parts(parts, recv);
            let exchange = crate::http::exchange(self.front.clone(), request, respond, offer);
            let counted = self.state.clone();
            counted.http_streams.set(counted.http_streams.get() + 1);
            tokio::task::spawn_local(async move {
                exchange.await;
                counted.http_streams.set(counted.http_streams.get() - 1);
            });
            return;
        }
        let started = self.front.now();
        let admitted = match admit(&parts, started) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let _ = respond.send_response(refusal.into_response(), true);
                return;
            }
        };
        // gRPC knows no query: all is the method's name.
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let manner = admitted.manner();
        let route = match Route::find(path, self.front.common.config.emulated).and_then(|route| {
            check_encoding(admitted.encoding.as_deref())?;
            Ok(route)
        }) {
            Ok(route) => route,
            Err(refusal) => {
                let _ = respond.send_response(trailers_only(manner.content_type, &Err(refusal)), true);
                return;
            }
        };
        self.front.metrics().started(route);
        let version = self.version_of(parts.headers.get("client-api-version"));
        self.front.metrics().by_version(version, route.shape());
        let deadline = admitted.context.deadline;
        if deadline.is_some_and(|deadline| deadline <= started) {
            self.front.metrics().handled(route, Code::DeadlineExceeded);
            let head = trailers_only(manner.content_type, &Err(DEADLINE_EXCEEDED));
            let _ = respond.send_response(head, true);
            return;
        }
        let of_stream =
            deadline.filter(|_| matches!(route, Route::Member(_)) && route.shape() != Shape::Unary);
        let call = Call {
            route,
            started,
            context: admitted.context,
            encoding: admitted.encoding,
            manner,
            deadline: of_stream.map(|at| {
                Box::pin(tokio::time::sleep_until(
                    self.front.common.clock.to_std(at).into(),
                ))
            }),
            joiner: Joiner::default(),
            recv: Some(recv),
            message: None,
            stage: Stage::Reading(respond),
        };
        let slot = self.slots.insert(call);
        self.state.active_streams.set(self.slots.len());
        match (route, route.shape()) {
            (Route::Recipe(_), _) | (_, Shape::Unary) => {
                if !self.read_unary(slot, cx) {
                    self.reading.push(slot);
                }
            }
            (_, Shape::ServerStream | Shape::Duplex) => self.open_stream(slot),
        }
    }

    /// Goes on reading a unary call's message. True when that is over.
    fn read_unary(&mut self, slot: usize, cx: &mut Context<'_>) -> bool {
        let Some(call) = self.slots.get_mut(slot) else {
            return true;
        };
        match call.read(self.message_bytes_max, cx) {
            Read::Pending => false,
            Read::Message(message) => {
                self.call(slot, message);
                true
            }
            Read::End => {
                let status = match call.route.shape() {
                    Shape::Unary => Status::new(Code::Unknown, "EOF"),
                    Shape::ServerStream | Shape::Duplex => NO_REQUEST,
                };
                self.finish_unary(slot, Err(status));
                true
            }
            Read::Cut(in_prefix) => {
                let text = if in_prefix { "EOF" } else { "unexpected EOF" };
                self.finish_unary(slot, Err(Status::new(Code::Unknown, text)));
                true
            }
            Read::Wrong(status) => {
                self.finish_unary(slot, Err(status));
                true
            }
            Read::Gone => {
                self.drop_call(slot);
                true
            }
        }
    }

    fn call(&mut self, slot: usize, message: Bytes) {
        let call = &mut self.slots[slot];
        self.front.metrics().received(call.route, message.len());
        call.message = Some(message.clone());
        let result = match call.route {
            Route::Health(method) => Ok(health::answer(method, message, self.front.is_serving())),
            Route::Member(method) => {
                let owner: Rc<dyn Owner> = self.desk.clone();
                self.front.call(&owner, slot, method, message, call.context)
            }
            Route::Recipe(recipe) => {
                let answers = Answers::start(&self.front, recipe, message, call.context);
                let manner = call.manner.clone();
                take_mut(&mut call.stage, |stage| match stage {
                    Stage::Reading(respond) => Stage::Serving(answers, Sender::Fresh(respond, manner)),
                    other => other,
                });
                return self.serve(slot);
            }
        };
        match result {
            Ok(result) => self.finish_unary(slot, result),
            Err(token) => {
                take_mut(&mut call.stage, |stage| match stage {
                    Stage::Reading(respond) => Stage::Waiting(respond, token),
                    other => other,
                });
                self.look_for_reset(slot);
            }
        }
    }

    /// A unary call that waits is forgotten when its client gives it up; until then what it waits for may never come.
    fn look_for_reset(&mut self, slot: usize) {
        let waker = self.waker(slot);
        if let Some(Call {
            stage: Stage::Waiting(respond, _),
            ..
        }) = self.slots.get_mut(slot)
            && respond.poll_reset(&mut Context::from_waker(&waker)).is_ready()
        {
            self.drop_call(slot);
        }
    }

    fn finish_unary(&mut self, slot: usize, result: Result<Bytes, Status>) {
        let Some(call) = self.slots.try_remove(slot) else {
            return;
        };
        self.state.active_streams.set(self.slots.len());
        let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
        self.ended(&call, code);
        self.front
            .metrics()
            .answered(call.route, &result, call.message.is_some());
        self.note(&call, &result);
        if let Stage::Reading(respond) | Stage::Waiting(respond, _) = call.stage {
            // An error means that the client has gone: there is nobody to tell.
            let _ = answer(respond, call.manner, result);
        }
    }

    /// A call has ended.
    fn ended(&self, call: &Call, code: Code) {
        let metrics = self.front.metrics();
        metrics.handled(call.route, code);
        if call.route.shape() == Shape::Duplex {
            // The library that counts for etcd takes the end of a client's messages for one more
            // (go-grpc-middleware: interceptors/server.go, RecvMsg).
            metrics.received(call.route, 0);
        }
        if metrics.is_extensive() {
            metrics.took(call.route, self.front.now() - call.started);
        }
        if call.route == Route::Member(Method::Snapshot) {
            self.snapshot_ended(call, code);
        }
    }

    /// A client has the data file, or has given it up.
    fn snapshot_ended(&self, call: &Call, code: Code) {
        let took = self.front.now() - call.started;
        let log = &self.front.common.log;
        if code == Code::Ok {
            self.front.metrics().snapshots.observe_alone(took);
            let size = self.front.common.views.load().db.size();
            log.info("successfully sent database snapshot to client")
                .num("total-bytes", size)
                .text("size", human_bytes(size))
                .show("took", span(took))
                .text("storage-version", self.storage_version())
                .emit();
        } else {
            log.warn("failed to send database snapshot to client")
                .show("took", span(took))
                .text("code", code.name())
                .emit();
        }
    }

    fn storage_version(&self) -> String {
        let version = self.front.common.shared.facts().storage_version;
        version.map(|version| version.to_string()).unwrap_or_default()
    }

    /// A client asks for the data file.
    fn snapshot_begins(&self) {
        let size = self.front.common.views.load().db.size();
        self.front
            .common
            .log
            .info("sending database snapshot to client")
            .num("total-bytes", size)
            .text("size", human_bytes(size))
            .text("storage-version", self.storage_version())
            .emit();
    }

    /// The number of the version that a client says it has: mostly that of the call before.
    fn version_of(&mut self, version: Option<&HeaderValue>) -> usize {
        if self.version.0.as_ref() != version {
            let text = version.map(|version| version.to_str().unwrap_or_default());
            let number = match text {
                None => UNKNOWN_VERSION,
                Some(text) => self.front.common.metrics.version_number(text),
            };
            self.version = (version.cloned(), number);
        }
        self.version.1
    }

    fn note(&self, call: &Call, result: &Result<Bytes, Status>) {
        let common = &self.front.common;
        if let (Route::Member(method), Some(message)) = (call.route, &call.message) {
            let took = self.front.now() - call.started;
            let took_max = common.config.warning_unary_request_duration;
            stats::note(
                &common.log,
                method,
                message,
                result,
                took,
                took_max,
                self.terms.remote,
            );
        }
    }

    fn waker(&self, slot: usize) -> Waker {
        Waker::from(Arc::new(SlotWaker {
            slot,
            ready: self.ready.clone(),
        }))
    }

    /// Goes on with a call of the lock and election services, and sends what it has, as long as the client
    /// takes it.
    fn serve(&mut self, slot: usize) {
        let waker = self.waker(slot);
        let mut cx = Context::from_waker(&waker);
        loop {
            let Some(Call {
                stage: Stage::Serving(answers, sender),
                ..
            }) = self.slots.get_mut(slot)
            else {
                return;
            };
            if sender.is_reset(&mut cx) {
                return self.drop_call(slot);
            }
            if !sender.has_room(&mut cx) {
                return;
            }
            let Poll::Ready(Some(polled)) = answers.poll_next(&mut cx) else {
                return;
            };
            let mut gone = false;
            for frame in polled.frames {
                gone |= sender.send(Piece::from_frame(frame)).is_err();
            }
            match polled.end {
                _ if gone => return self.drop_call(slot),
                Some(end) => return self.end_stream(slot, &end),
                None => {}
            }
        }
    }

    fn open_stream(&mut self, slot: usize) {
        let waker = self.waker(slot);
        let call = &mut self.slots[slot];
        let opened = match call.route {
            Route::Health(_) | Route::Recipe(_) => None,
            Route::Member(method) => {
                let owner: Rc<dyn Owner> = self.desk.clone();
                Some(self.front.stream_open(&owner, slot, method, call.context))
            }
        };
        let refused = matches!(opened, Some(Err(_)));
        let manner = call.manner.clone();
        take_mut(&mut call.stage, |stage| match (stage, opened) {
            (Stage::Reading(respond), None) => Stage::Watching(Sender::Fresh(respond, manner)),
            (Stage::Reading(respond), Some(Ok(token))) => Stage::Streaming(Streaming {
                token,
                sender: Sender::Fresh(respond, manner),
                more: false,
                held: false,
                waker: waker.clone(),
            }),
            (Stage::Reading(respond), Some(Err(status))) => {
                let mut sender = Sender::Fresh(respond, manner);
                self.front.metrics().handled(call.route, status.code);
                sender.end(&Err(status));
                Stage::Watching(sender)
            }
            (stage, _) => stage,
        });
        if refused {
            self.remove(slot);
        } else {
            self.run_stream(slot, &waker);
        }
    }

    /// Takes what the client of a stream has sent, and sends what the stream has.
    fn run_stream(&mut self, slot: usize, waker: &Waker) {
        let mut cx = Context::from_waker(waker);
        let mut over = false;
        loop {
            let Some(call) = self.slots.get_mut(slot) else {
                return;
            };
            let deadline = call.deadline.as_mut();
            if deadline.is_some_and(|deadline| deadline.as_mut().poll(&mut cx).is_ready()) {
                return self.end_stream(slot, &Err(DEADLINE_EXCEEDED));
            }
            if call.recv.is_none() {
                over |= call.sender().is_some_and(|sender| sender.is_reset(&mut cx));
                break;
            }
            if let Stage::Streaming(streaming) = &mut call.stage {
                streaming.held = !self.front.stream_is_ready(streaming.token);
                if streaming.held {
                    break;
                }
            }
            match call.read(self.message_bytes_max, &mut cx) {
                Read::Pending => break,
                Read::Message(message) => self.stream_message(slot, message),
                Read::End => self.stream_finished(slot),
                Read::Cut(_) => {
                    let status = Status::new(Code::Internal, "unexpected EOF");
                    return self.end_stream(slot, &Err(status));
                }
                Read::Wrong(status) => {
                    self.end_stream(slot, &Err(status));
                    return;
                }
                Read::Gone => {
                    over = true;
                    break;
                }
            }
        }
        if over {
            self.drop_call(slot);
        } else {
            self.send_stream(slot);
        }
    }

    fn stream_message(&mut self, slot: usize, message: Bytes) {
        let serving = self.front.is_serving();
        if self.slots[slot].route == Route::Member(Method::Snapshot) {
            self.snapshot_begins();
        }
        let call = &mut self.slots[slot];
        self.front.metrics().received(call.route, message.len());
        match (&mut call.stage, call.route) {
            (Stage::Streaming(streaming), Route::Member(method)) => {
                self.front.stream_message(streaming.token, message);
                // A call with one request has all it needs.
                if method.shape() == Shape::ServerStream {
                    streaming.more = true;
                }
            }
            (Stage::Watching(sender), Route::Health(method)) => {
                match health::answer(method, message, serving) {
                    Ok(answer) => {
                        self.front.metrics().sent(call.route, answer.len());
                        drop(sender.send(Piece::new(answer)));
                    }
                    Err(status) => self.end_stream(slot, &Err(status)),
                }
            }
            _ => {}
        }
    }

    fn stream_finished(&mut self, slot: usize) {
        if let Some(Call {
            stage: Stage::Streaming(streaming),
            ..
        }) = self.slots.get(slot)
        {
            self.front.stream_finished(streaming.token);
        }
    }

    /// Sends what the front has for a stream, as long as the client takes it.
    fn send_stream(&mut self, slot: usize) {
        loop {
            let Some(Call {
                stage: Stage::Streaming(streaming),
                route,
                ..
            }) = self.slots.get_mut(slot)
            else {
                return;
            };
            let mut cx = Context::from_waker(&streaming.waker);
            if !streaming.sender.has_room(&mut cx) {
                // What wakes the stream then must find that there is something.
                streaming.more = true;
                return;
            }
            let polled = self.front.stream_poll(streaming.token, STREAM_BATCH);
            streaming.more = polled.more;
            let mut gone = false;
            for frame in polled.frames {
                self.front.metrics().sent(*route, frame.len());
                gone |= streaming.sender.send(Piece::from_frame(frame)).is_err();
            }
            if let Some(result) = polled.end {
                let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
                streaming.sender.end(&result);
                if let Some(call) = self.slots.get(slot) {
                    self.ended(call, code);
                }
                self.remove(slot);
                return;
            }
            if gone {
                self.drop_call(slot);
                return;
            }
            if streaming.held && self.front.stream_is_ready(streaming.token) {
                streaming.waker.wake_by_ref();
            }
            if !polled.more {
                return;
            }
        }
    }

    /// Ends a stream for a reason of the carrier's.
    fn end_stream(&mut self, slot: usize, result: &Result<(), Status>) {
        let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
        if let Some(call) = self.slots.get(slot) {
            self.ended(call, code);
        }
        if let Some(call) = self.slots.get_mut(slot) {
            match &mut call.stage {
                Stage::Streaming(streaming) => {
                    self.front.stream_close(streaming.token);
                    streaming.sender.end(result);
                }
                Stage::Watching(sender) | Stage::Serving(_, sender) => sender.end(result),
                Stage::Reading(_) | Stage::Waiting(..) => {}
            }
        }
        self.remove(slot);
    }

    /// The client has given a call up.
    fn drop_call(&mut self, slot: usize) {
        if let Some(call) = self.slots.get(slot) {
            self.given_up(call);
        }
        self.remove(slot);
    }

    fn given_up(&self, call: &Call) {
        self.ended(call, Code::Canceled);
        match &call.stage {
            Stage::Waiting(_, token) => self.front.cancel(*token),
            Stage::Streaming(streaming) => self.front.stream_close(streaming.token),
            Stage::Reading(_) | Stage::Watching(_) | Stage::Serving(..) => {}
        }
    }

    /// Does all that has become possible since the last time.
    pub(super) fn run(&mut self, cx: &mut Context<'_>) {
        *self.desk.waker.borrow_mut() = Some(cx.waker().clone());
        *lock(&self.ready.waker) = Some(cx.waker().clone());
        let letters = std::mem::take(&mut *self.desk.letters.borrow_mut());
        for letter in letters {
            match letter {
                Letter::Reply(slot, token, result) => {
                    // The call may have been given up since, and its slot be another's.
                    let stage = self.slots.get(slot).map(|call| &call.stage);
                    if matches!(stage, Some(Stage::Waiting(_, waiting)) if *waiting == token) {
                        self.finish_unary(slot, result);
                    }
                }
                Letter::Wake(slot) => self.send_stream(slot),
            }
        }
        let mut reading = std::mem::take(&mut self.reading);
        reading.retain(|slot| !self.read_unary(*slot, cx));
        self.reading.append(&mut reading);
        let mut slots = std::mem::take(&mut *lock(&self.ready.slots));
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            match self.slots.get(slot).map(|call| &call.stage) {
                Some(Stage::Streaming(streaming)) => {
                    let waker = streaming.waker.clone();
                    self.run_stream(slot, &waker);
                }
                Some(Stage::Watching(_)) => {
                    let waker = self.waker(slot);
                    self.run_stream(slot, &waker);
                }
                Some(Stage::Serving(..)) => self.serve(slot),
                Some(Stage::Waiting(..)) => self.look_for_reset(slot),
                Some(Stage::Reading(_)) | None => {}
            }
        }
    }

    /// The server stops: streams end as grpc-go ends them when its patience is over.
    pub(super) fn end_streams(&mut self) {
        let streams: Vec<usize> = self
            .slots
            .iter()
            .filter(|(_, call)| {
                matches!(
                    call.stage,
                    Stage::Streaming(_) | Stage::Watching(_) | Stage::Serving(..)
                )
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in streams {
            self.end_stream(slot, &Err(api::error::STOPPED));
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        for (_, call) in &self.slots {
            self.given_up(call);
        }
    }
}

enum Read {
    Pending,
    Message(Bytes),
    /// The client has sent all.
    End,
    /// It has, in the middle of a message: true if of its prefix.
    Cut(bool),
    Wrong(Status),
    /// The client has given the call up.
    Gone,
}

/// grpc-go's words for a call whose time is over.
const DEADLINE_EXCEEDED: Status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
/// And for a stream of answers to nothing.
const NO_REQUEST: Status = Status::new(
    Code::Internal,
    "cardinality violation: received no request message from non-client-streaming RPC",
);

impl Call {
    /// The next message that the client has sent.
    fn read(&mut self, bytes_max: usize, cx: &mut Context<'_>) -> Read {
        loop {
            match self.joiner.next(bytes_max, self.encoding.as_deref()) {
                Ok(Some(message)) => return Read::Message(message),
                Ok(None) => {}
                Err(status) => return Read::Wrong(status),
            }
            let Some(recv) = &mut self.recv else {
                return Read::End;
            };
            match recv.poll_data(cx) {
                Poll::Pending => return Read::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    let _ = recv.flow_control().release_capacity(piece.len());
                    self.joiner.push(piece);
                }
                Poll::Ready(Some(Err(_))) => return Read::Gone,
                Poll::Ready(None) => {
                    self.recv = None;
                    return match self.joiner.left() {
                        0 => Read::End,
                        left => Read::Cut(left < PREFIX_LEN),
                    };
                }
            }
        }
    }

    fn sender(&mut self) -> Option<&mut Sender> {
        match &mut self.stage {
            Stage::Streaming(streaming) => Some(&mut streaming.sender),
            Stage::Watching(sender) | Stage::Serving(_, sender) => Some(sender),
            Stage::Reading(_) | Stage::Waiting(..) => None,
        }
    }
}

/// Exchanges a value by one made of it.
fn take_mut(stage: &mut Stage, change: impl FnOnce(Stage) -> Stage) {
    let old = std::mem::replace(stage, Stage::Watching(Sender::Gone));
    *stage = change(old);
}
