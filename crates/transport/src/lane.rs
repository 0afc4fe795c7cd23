//! The messages that wait for one way to a member. Filled by the stages of this member, emptied by the
//! transport's thread; never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use raft::Message;
use tokio::sync::Notify;

/// A lock that a panic does not spoil: the process ends on a panic in any case.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a message that was to be sent.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits for its turn.
    Queued,
    /// There is no room for it.
    Full,
    /// This way is closed: another one may be open.
    Closed(Box<Message>),
}

/// What a stream has to do.
pub(crate) enum Taken {
    /// Send these.
    Messages(Vec<Message>),
    /// Wait.
    Nothing,
    /// End: another stream has its place, or the member is gone.
    Replaced,
}

/// A queue for a stream: open as long as one is attached. The newest stream has it.
#[derive(Debug)]
pub(crate) struct Lane {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Message>,
    /// The stream that has it, 0 for none.
    owner: u64,
    waker: Option<Waker>,
}

impl Lane {
    pub(crate) fn new(max: usize) -> Lane {
        Lane {
            max,
            state: Mutex::default(),
        }
    }

    pub(crate) fn push(&self, message: Box<Message>) -> Pushed {
        let waker = {
            let mut state = lock(&self.state);
            if state.owner == 0 {
                return Pushed::Closed(message);
            }
            if state.queue.len() >= self.max {
                return Pushed::Full;
            }
            state.queue.push_back(*message);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Pushed::Queued
    }

    /// A stream takes the place of the one before, if there was one.
    pub(crate) fn attach(&self, owner: u64) -> bool {
        let (replaced, waker) = {
            let mut state = lock(&self.state);
            let replaced = std::mem::replace(&mut state.owner, owner) != 0;
            (replaced, state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        replaced
    }

    /// A stream has ended. If it had the place, that is empty now: the answer says whether messages were
    /// lost with it.
    pub(crate) fn detach(&self, owner: u64) -> Option<bool> {
        let mut state = lock(&self.state);
        if state.owner != owner {
            return None;
        }
        state.owner = 0;
        let lost = !state.queue.is_empty();
        state.queue.clear();
        Some(lost)
    }

    /// Ends whatever stream there is; whether there was one.
    pub(crate) fn close(&self) -> bool {
        let (was_open, waker) = {
            let mut state = lock(&self.state);
            state.queue.clear();
            (std::mem::take(&mut state.owner) != 0, state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        was_open
    }

    /// What a stream sends next: as many messages as have about `bytes_max` of entries.
    pub(crate) fn poll_take(&self, owner: u64, bytes_max: u64, cx: &mut Context<'_>) -> Taken {
        let mut state = lock(&self.state);
        if state.owner != owner {
            return Taken::Replaced;
        }
        if state.queue.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Taken::Nothing;
        }
        let (mut taken, mut bytes) = (0, 0);
        for message in &state.queue {
            taken += 1;
            bytes += message
                .entries
                .iter()
                .map(raft::Entry::encoded_bytes)
                .sum::<u64>();
            if bytes >= bytes_max {
                break;
            }
        }
        Taken::Messages(state.queue.drain(..taken).collect())
    }
}

/// A queue for posts: open until another way to the same member takes its place.
#[derive(Debug)]
pub(crate) struct Posts {
    max: usize,
    waiting: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    is_closed: bool,
}

impl Posts {
    pub(crate) fn new(max: usize) -> Posts {
        Posts {
            max,
            waiting: Mutex::default(),
            bell: Notify::new(),
        }
    }

    pub(crate) fn push(&self, message: Box<Message>) -> Pushed {
        {
            let mut waiting = lock(&self.waiting);
            if waiting.is_closed || waiting.messages.len() >= self.max {
                return Pushed::Full;
            }
            waiting.messages.push_back(*message);
        }
        self.bell.notify_one();
        Pushed::Queued
    }

    /// The next message, once there is one; `None` when it is closed and all are out.
    pub(crate) async fn next(&self) -> Option<Message> {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                if let Some(message) = waiting.messages.pop_front() {
                    return Some(message);
                }
                if waiting.is_closed {
                    // The next of those who wait tells the one after it.
                    self.bell.notify_one();
                    return None;
                }
            }
            self.bell.notified().await;
        }
    }

    /// Takes no more; what waits still goes out.
    pub(crate) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.bell.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.waiting).is_closed
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use raft::{Entry, MessageKind};

    fn message(term: u64) -> Box<Message> {
        Box::new(Message::new(MessageKind::Append, 2, 1, term))
    }

    fn terms(taken: Taken) -> Vec<u64> {
        match taken {
            Taken::Messages(messages) => messages.iter().map(|message| message.term).collect(),
            Taken::Nothing => Vec::new(),
            Taken::Replaced => vec![u64::MAX],
        }
    }

    #[test]
    fn closed_posts_lose_nothing_that_waits() {
        fn ready<T>(future: impl Future<Output = T>) -> Poll<T> {
            std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
        }
        let posts = Posts::new(2);
        assert!(ready(posts.next()).is_pending());
        for term in 1..=2 {
            assert!(matches!(posts.push(message(term)), Pushed::Queued));
        }
        posts.close();
        assert!(posts.is_closed());
        assert!(matches!(posts.push(message(3)), Pushed::Full));
        for term in 1..=2 {
            assert!(matches!(ready(posts.next()), Poll::Ready(Some(message)) if message.term == term));
        }
        for _connection in 0..2 {
            assert!(matches!(ready(posts.next()), Poll::Ready(None)));
        }
    }

    #[test]
    fn the_newest_stream_has_what_waits() {
        let mut cx = Context::from_waker(Waker::noop());
        let lane = Lane::new(3);
        assert!(matches!(lane.push(message(1)), Pushed::Closed(_)));
        assert!(!lane.attach(7));
        for term in 1..=3 {
            assert!(matches!(lane.push(message(term)), Pushed::Queued));
        }
        assert!(matches!(lane.push(message(4)), Pushed::Full));
        assert!(lane.attach(8));
        assert_eq!(terms(lane.poll_take(7, 100, &mut cx)), [u64::MAX]);
        assert_eq!(lane.detach(7), None);
        assert_eq!(terms(lane.poll_take(8, 100, &mut cx)), [1, 2, 3]);
        assert_eq!(terms(lane.poll_take(8, 100, &mut cx)), [0; 0]);
        assert_eq!(lane.detach(8), Some(false));
        assert!(matches!(lane.push(message(1)), Pushed::Closed(_)));
        lane.attach(9);
        lane.push(message(5));
        assert_eq!(lane.detach(9), Some(true));
        lane.attach(10);
        assert_eq!(
            terms(lane.poll_take(10, 100, &mut cx)),
            [0; 0],
            "what was lost is not sent"
        );
        assert!(lane.close() && !lane.close());
        assert_eq!(terms(lane.poll_take(10, 100, &mut cx)), [u64::MAX]);
    }

    #[test]
    fn a_stream_takes_about_as_much_as_it_wants() {
        let mut cx = Context::from_waker(Waker::noop());
        let lane = Lane::new(10);
        lane.attach(1);
        for term in 1..=4 {
            let mut message = message(term);
            message.entries = vec![Entry {
                data: vec![0; 100].into(),
                ..Entry::default()
            }];
            lane.push(message);
        }
        assert_eq!(terms(lane.poll_take(1, 150, &mut cx)), [1, 2]);
        assert_eq!(terms(lane.poll_take(1, 1, &mut cx)), [3]);
        assert_eq!(terms(lane.poll_take(1, 150, &mut cx)), [4]);
    }

    #[test]
    fn a_post_waits_for_its_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let posts = Posts::new(2);
        assert!(matches!(posts.push(message(1)), Pushed::Queued));
        assert!(matches!(posts.push(message(2)), Pushed::Queued));
        assert!(matches!(posts.push(message(3)), Pushed::Full));
        for term in [1, 2] {
            assert_eq!(runtime.block_on(posts.next()).map(|next| next.term), Some(term));
        }
        let (next, ()) = runtime.block_on(async {
            tokio::join!(posts.next(), async {
                posts.push(message(4));
            })
        });
        assert_eq!(next.map(|next| next.term), Some(4));
    }
}
