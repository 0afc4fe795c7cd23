//! Threads that sleep until there is work: one wake-up for one piece of work, none if all are
//! awake already.

use std::sync::{Condvar, Mutex, PoisonError};

use super::stage::lock;

#[derive(Debug, Default)]
struct State {
    asleep: usize,
    calls: usize,
    closed: bool,
}

/// The beds of a group of threads.
#[derive(Debug, Default)]
pub struct Sleepers {
    state: Mutex<State>,
    called: Condvar,
}

impl Sleepers {
    /// Wakes one thread, if one sleeps that is not called already.
    pub fn wake_one(&self) {
        let mut state = lock(&self.state);
        if state.calls < state.asleep {
            state.calls += 1;
            self.called.notify_one();
        }
    }

    /// Wakes all for good.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.called.notify_all();
    }

    /// Sleeps until woken, unless there is work: `has_work` is asked when a `wake_one` can no
    /// longer be missed. False when the group is closed.
    pub fn sleep_unless(&self, has_work: impl FnOnce() -> bool) -> bool {
        let mut state = lock(&self.state);
        state.asleep += 1;
        if has_work() {
            state.asleep -= 1;
            return !state.closed;
        }
        while state.calls == 0 && !state.closed {
            state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep -= 1;
        state.calls = state.calls.saturating_sub(1);
        !state.closed
    }
}
