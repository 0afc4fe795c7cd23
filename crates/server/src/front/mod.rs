//! A front thread: one runtime, its connections, and the member's front that serves them. All
//! that is in here belongs to one thread; what others have for it comes through its inbox.

pub mod call;
pub mod handshake;
mod measure;
mod pump;
mod socket;
mod thread;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use api::error::Status;
use bytes::Bytes;
use member::Shared;
use member::frontend::{Context, Frontend, Method, Outcome, PeerCall, StreamPoll, Token};
use slab::Slab;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::driver::{Clock, Driver, Inbox};
use crate::log::Log;
use crate::metrics::{FrontMetrics, Metrics};
pub use socket::Plain;
pub use thread::{Order, Orders, start};

/// Who waits for what the front has for a token.
pub trait Owner {
    /// The call in `slot` is answered; its token is free.
    fn reply(&self, slot: usize, token: Token, result: Result<Bytes, Status>);
    /// The stream in `slot` has something.
    fn wake(&self, slot: usize);
}

/// What all front threads share.
pub struct Common {
    /// The settings.
    pub config: Config,
    /// What every thread may read of the member.
    pub shared: Arc<Shared>,
    /// The member's views.
    pub views: mvcc::ViewSource,
    /// The member.
    pub driver: Arc<Driver>,
    /// The clock.
    pub clock: Clock,
    /// The log.
    pub log: Log,
    /// The registry.
    pub metrics: Arc<Metrics>,
    /// Calls that the gateway may have under way: it stands for one connection to the server, to which
    /// `--max-concurrent-streams` applies.
    pub gateway_calls: Semaphore,
}

struct Waiting {
    owner: Rc<dyn Owner>,
    slot: usize,
    /// Of a unary call.
    call: Option<Asked>,
    token: Token,
}

/// Who waits, by token. No token is given twice: whoever holds on to one whose call is over means
/// nobody else's call.
#[derive(Default)]
struct WaitingList {
    slab: Slab<Waiting>,
    admitted: u64,
}

/// Bits of a token that say where in the list it is; those above count.
const PLACE_BITS: u32 = 24;

impl WaitingList {
    fn admit(&mut self, owner: Rc<dyn Owner>, slot: usize, call: Option<Asked>) -> Token {
        let entry = self.slab.vacant_entry();
        let place = entry.key() as u64 & ((1 << PLACE_BITS) - 1);
        self.admitted += 1;
        let token = Token(self.admitted << PLACE_BITS | place);
        entry.insert(Waiting {
            owner,
            slot,
            call,
            token,
        });
        token
    }

    fn place(&self, token: Token) -> Option<usize> {
        let place = usize::try_from(token.0 & ((1 << PLACE_BITS) - 1)).ok()?;
        (self.slab.get(place)?.token == token).then_some(place)
    }

    fn get(&self, token: Token) -> Option<&Waiting> {
        self.slab.get(self.place(token)?)
    }

    fn remove(&mut self, token: Token) -> Option<Waiting> {
        self.place(token).map(|place| self.slab.remove(place))
    }
}

/// A unary call, for who counts calls.
#[derive(Clone)]
struct Asked {
    method: Method,
    message: Bytes,
    at: api::clock::Instant,
}

/// The part of a front thread that its connections use.
pub struct Front {
    /// What all front threads share.
    pub common: Arc<Common>,
    /// The number of this front thread.
    number: usize,
    frontend: RefCell<Frontend>,
    waiting: RefCell<WaitingList>,
    inbox: Arc<Inbox>,
    /// The server stops: connections finish what is in flight and end.
    stopping: Cell<bool>,
    /// Connections that are open.
    connections: Cell<usize>,
    stop_bell: tokio::sync::Notify,
    empty_bell: tokio::sync::Notify,
}

/// A connection counts as long as this is held.
pub struct Presence(Rc<Front>);

impl Drop for Presence {
    fn drop(&mut self) {
        let left = self.0.connections.get() - 1;
        self.0.connections.set(left);
        if left == 0 {
            self.0.empty_bell.notify_one();
        }
    }
}

impl Front {
    /// A front thread's part.
    pub fn new(common: Arc<Common>, frontend: Frontend, inbox: Arc<Inbox>) -> Rc<Front> {
        Rc::new(Front {
            common,
            number: frontend.config().slot,
            frontend: RefCell::new(frontend),
            waiting: RefCell::default(),
            inbox,
            stopping: Cell::new(false),
            connections: Cell::new(0),
            stop_bell: tokio::sync::Notify::new(),
            empty_bell: tokio::sync::Notify::new(),
        })
    }

    /// Counts a connection.
    pub fn enter(self: &Rc<Front>) -> Presence {
        self.connections.set(self.connections.get() + 1);
        Presence(self.clone())
    }

    /// Waits until there is no connection.
    pub async fn wait_until_empty(&self) {
        while self.connections.get() > 0 {
            self.empty_bell.notified().await;
        }
    }

    /// The present moment.
    pub fn now(&self) -> api::clock::Instant {
        self.common.clock.now()
    }

    /// Whether clients are welcome: what the health service says.
    pub fn is_serving(&self) -> bool {
        self.common.shared.is_ready() && !self.is_stopping()
    }

    /// What this thread counts.
    pub fn metrics(&self) -> &FrontMetrics {
        &self.common.metrics.fronts[self.number]
    }

    fn admit(&self, owner: &Rc<dyn Owner>, slot: usize, call: Option<Asked>) -> Token {
        self.waiting.borrow_mut().admit(owner.clone(), slot, call)
    }

    fn release(&self, token: Token) {
        self.waiting.borrow_mut().remove(token);
    }

    /// A unary call. `Err` carries the token to wait with, `Ok` the answer at once.
    pub fn call(
        &self,
        owner: &Rc<dyn Owner>,
        slot: usize,
        method: Method,
        message: Bytes,
        context: Context,
    ) -> Result<Result<Bytes, Status>, Token> {
        let at = self.now();
        let asked = Asked {
            method,
            message: message.clone(),
            at,
        };
        let token = self.admit(owner, slot, Some(asked.clone()));
        let outcome = self
            .frontend
            .borrow_mut()
            .call(token, method, message, context, at);
        match outcome {
            Outcome::Done(result) => {
                self.release(token);
                self.answered_at_once(&asked, &result);
                Ok(result)
            }
            Outcome::Pending => {
                self.inbox.ring();
                Err(token)
            }
        }
    }

    /// A call of another member, as `call`.
    pub fn peer_call(
        &self,
        owner: &Rc<dyn Owner>,
        slot: usize,
        call: PeerCall,
        context: Context,
    ) -> Result<Result<Bytes, Status>, Token> {
        let token = self.admit(owner, slot, None);
        let outcome = self
            .frontend
            .borrow_mut()
            .peer_call(token, call, &context, self.now());
        match outcome {
            Outcome::Done(result) => {
                self.release(token);
                Ok(result)
            }
            Outcome::Pending => {
                self.inbox.ring();
                Err(token)
            }
        }
    }

    /// The caller of a pending call has gone. If it was answered meanwhile, nothing happens.
    pub fn cancel(&self, token: Token) {
        self.frontend.borrow_mut().cancel(token);
        self.release(token);
    }

    /// Opens a stream.
    pub fn stream_open(
        &self,
        owner: &Rc<dyn Owner>,
        slot: usize,
        method: Method,
        context: Context,
    ) -> Result<Token, Status> {
        let token = self.admit(owner, slot, None);
        let opened = self
            .frontend
            .borrow_mut()
            .stream_open(token, method, context, self.now());
        self.inbox.ring();
        match opened {
            Ok(()) => Ok(token),
            Err(status) => {
                self.release(token);
                Err(status)
            }
        }
    }

    /// Whether a stream takes another message from its client.
    pub fn stream_is_ready(&self, token: Token) -> bool {
        self.frontend.borrow().stream_is_ready(token)
    }

    /// A message from the client of a stream.
    pub fn stream_message(&self, token: Token, message: Bytes) {
        self.frontend
            .borrow_mut()
            .stream_message(token, message, self.now());
        self.inbox.ring();
    }

    /// The client of a stream sends no more.
    pub fn stream_finished(&self, token: Token) {
        self.frontend.borrow_mut().stream_finished(token, self.now());
        self.inbox.ring();
    }

    /// What a stream has. The token is free if this has its end.
    pub fn stream_poll(&self, token: Token, bytes_max: usize) -> StreamPoll {
        let now = self.now();
        let polled = self.frontend.borrow_mut().stream_poll(token, bytes_max, now);
        self.stream_polled(&polled, now);
        if polled.end.is_some() {
            self.release(token);
        }
        self.inbox.ring();
        polled
    }

    /// The client of a stream has gone.
    pub fn stream_close(&self, token: Token) {
        self.frontend.borrow_mut().stream_close(token);
        self.release(token);
        self.inbox.ring();
    }

    /// Whether the server stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Waits until the server stops.
    pub async fn stopped(&self) {
        let bell = self.stop_bell.notified();
        if !self.is_stopping() {
            bell.await;
        }
    }

    /// Tells all connections to finish.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.stop_bell.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Owner for Nobody {
        fn reply(&self, _slot: usize, _token: Token, _result: Result<Bytes, Status>) {}
        fn wake(&self, _slot: usize) {}
    }

    #[test]
    fn a_token_that_is_over_means_nobody() {
        let owner: Rc<dyn Owner> = Rc::new(Nobody);
        let mut list = WaitingList::default();
        let first = list.admit(owner.clone(), 1, None);
        assert!(list.remove(first).is_some());
        // It takes the same place.
        let second = list.admit(owner, 2, None);
        assert_ne!(first, second);
        assert!(list.get(first).is_none() && list.remove(first).is_none());
        assert_eq!(list.get(second).map(|waiting| waiting.slot), Some(2));
    }
}
