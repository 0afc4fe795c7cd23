//! A call as a future, for those who serve one call at a time: the gateway and the endpoints.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use api::error::Status;
use bytes::Bytes;
use member::frontend::{Context, Method, PeerCall, StreamPoll, Token};

use super::{Front, Owner};

#[derive(Default)]
struct Desk {
    answer: RefCell<Option<Result<Bytes, Status>>>,
    woken: RefCell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Desk {
    fn ring(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Owner for Desk {
    fn reply(&self, _slot: usize, _token: Token, result: Result<Bytes, Status>) {
        *self.answer.borrow_mut() = Some(result);
        self.ring();
    }

    fn wake(&self, _slot: usize) {
        *self.woken.borrow_mut() = true;
        self.ring();
    }
}

/// Forgets the call if its future is dropped.
struct Pending<'a> {
    front: &'a Front,
    token: Option<Token>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.front.cancel(token);
        }
    }
}

/// Makes a unary call.
pub async fn unary(front: &Front, method: Method, message: Bytes, context: Context) -> Result<Bytes, Status> {
    let desk = Rc::new(Desk::default());
    let owner: Rc<dyn Owner> = desk.clone();
    match front.call(&owner, 0, method, message, context) {
        Ok(result) => result,
        Err(token) => answered(front, &desk, token).await,
    }
}

async fn answered(front: &Front, desk: &Desk, token: Token) -> Result<Bytes, Status> {
    let mut pending = Pending {
        front,
        token: Some(token),
    };
    let result = poll_fn(|cx| match desk.answer.borrow_mut().take() {
        Some(result) => Poll::Ready(result),
        None => {
            *desk.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        }
    })
    .await;
    pending.token = None;
    result
}

/// Makes a call of another member.
pub async fn peer(front: &Front, call: PeerCall, context: Context) -> Result<Bytes, Status> {
    let desk = Rc::new(Desk::default());
    let owner: Rc<dyn Owner> = desk.clone();
    match front.peer_call(&owner, 0, call, context) {
        Ok(result) => result,
        Err(token) => answered(front, &desk, token).await,
    }
}

/// Makes a unary call whose answer nobody awaits.
pub fn forgotten(front: &Front, method: Method, message: Bytes) {
    let owner: Rc<dyn Owner> = Rc::new(Desk::default());
    // Answered at once or later: the token is given back either way.
    let _ = front.call(&owner, 0, method, message, Context::default());
}

/// Waits until a moment.
pub fn until(front: &Front, at: api::clock::Instant) -> impl Future<Output = ()> + use<> {
    tokio::time::sleep_until(front.common.clock.to_std(at).into())
}

/// A stream of the front, closed when it is dropped.
pub struct Stream {
    front: Rc<Front>,
    desk: Rc<Desk>,
    token: Option<Token>,
}

impl Stream {
    /// Opens a stream.
    pub fn open(front: &Rc<Front>, method: Method, context: Context) -> Result<Stream, Status> {
        let desk = Rc::new(Desk::default());
        let owner: Rc<dyn Owner> = desk.clone();
        let token = front.stream_open(&owner, 0, method, context)?;
        // There may be something from the start.
        *desk.woken.borrow_mut() = true;
        Ok(Stream {
            front: front.clone(),
            desk,
            token: Some(token),
        })
    }

    /// Passes a message of the client on.
    pub fn message(&self, message: Bytes) {
        if let Some(token) = self.token {
            self.front.stream_message(token, message);
        }
    }

    /// The client sends no more.
    pub fn finish(&self) {
        if let Some(token) = self.token {
            self.front.stream_finished(token);
        }
    }

    /// The next of what the stream has; `None` after its end.
    pub fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
        bytes_max: usize,
    ) -> Poll<Option<StreamPoll>> {
        let Some(token) = self.token else {
            return Poll::Ready(None);
        };
        if self.desk.woken.replace(false) {
            let polled = self.front.stream_poll(token, bytes_max);
            if polled.end.is_some() {
                self.token = None;
            }
            if polled.more {
                *self.desk.woken.borrow_mut() = true;
            }
            if polled.end.is_some() || !polled.frames.is_empty() {
                return Poll::Ready(Some(polled));
            }
        }
        *self.desk.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.front.stream_close(token);
        }
    }
}
