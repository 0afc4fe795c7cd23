//! A stage of the member with its queue: run by whichever thread finds it with work and free.
//!
//! A stage has no thread of its own. Who puts something into the queue calls `run_ready` (or
//! wakes a worker to do so); if another thread is inside the stage, that one looks at the queue
//! again before it leaves, so nothing is left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that a panic does not spoil: the process ends on a panic in any case.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stage `S` that takes batches of `M`.
pub struct Stage<S, M> {
    queue: Mutex<Vec<M>>,
    /// Something in the queue wants the stage to run.
    ready: AtomicBool,
    /// A thread is inside.
    busy: AtomicBool,
    body: Mutex<Body<S, M>>,
}

struct Body<S, M> {
    /// `None` until the stage moves in.
    stage: Option<S>,
    batch: Vec<M>,
}

impl<S, M> Stage<S, M> {
    /// An empty queue that waits for its stage: the first messages come before it can run.
    pub fn vacant() -> Stage<S, M> {
        Stage {
            queue: Mutex::new(Vec::new()),
            ready: AtomicBool::new(false),
            busy: AtomicBool::new(true),
            body: Mutex::new(Body {
                stage: None,
                batch: Vec::new(),
            }),
        }
    }

    /// The stage moves in; from now on it runs.
    pub fn install(&self, stage: S) {
        lock(&self.body).stage = Some(stage);
        self.busy.store(false, Ordering::SeqCst);
    }

    /// Puts a message into the queue. If it is not urgent, it may wait there for the next that is.
    pub fn push(&self, message: M, urgent: bool) {
        lock(&self.queue).push(message);
        if urgent {
            self.ready.store(true, Ordering::SeqCst);
        }
    }

    /// Makes the stage run although nothing urgent is in its queue.
    pub fn make_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
    }

    /// As `make_ready`, if anything is in the queue.
    pub fn make_ready_if_queued(&self) {
        if !lock(&self.queue).is_empty() {
            self.make_ready();
        }
    }

    /// Whether there is work and no thread does it.
    pub fn is_runnable(&self) -> bool {
        self.ready.load(Ordering::SeqCst) && !self.busy.load(Ordering::SeqCst)
    }

    /// Runs the stage until it has no work, unless another thread is inside. Says whether it ran.
    pub fn run_ready(&self, mut handle: impl FnMut(&mut S, &mut Vec<M>)) -> bool {
        let mut ran = false;
        while self.ready.load(Ordering::SeqCst) {
            if self.busy.swap(true, Ordering::SeqCst) {
                // The thread inside sees `ready` after it has cleared `busy`.
                return ran;
            }
            if self.ready.swap(false, Ordering::SeqCst) {
                let mut body = lock(&self.body);
                let body = &mut *body;
                std::mem::swap(&mut *lock(&self.queue), &mut body.batch);
                if let Some(stage) = &mut body.stage {
                    handle(stage, &mut body.batch);
                    ran = true;
                }
                body.batch.clear();
            }
            self.busy.store(false, Ordering::SeqCst);
        }
        ran
    }

    /// The stage moves out, with the files it holds: what comes from now on is thrown away.
    pub fn remove(&self) {
        lock(&self.body).stage = None;
    }

    /// Whether more work has come while the caller is inside.
    pub fn has_more(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// What the stage has become: for tests.
    #[cfg(test)]
    fn with<R>(&self, reach: impl FnOnce(&mut S) -> R) -> R {
        reach(lock(&self.body).stage.as_mut().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn nothing_is_left_behind_when_threads_meet() {
        const THREADS: u64 = 4;
        const EACH: u64 = 2000;
        let stage = Arc::new(Stage::vacant());
        stage.install(0u64);
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let stage = stage.clone();
                std::thread::spawn(move || {
                    for _ in 0..EACH {
                        stage.push(1, true);
                        stage.run_ready(|sum, batch| *sum += batch.drain(..).sum::<u64>());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(stage.with(|sum| *sum), THREADS * EACH);
        assert!(!stage.is_runnable());
    }

    #[test]
    fn what_is_not_urgent_waits_for_company() {
        let stage = Stage::vacant();
        stage.push(0, true);
        assert!(!stage.is_runnable(), "nobody is there");
        stage.install(Vec::new());
        let run = |stage: &Stage<Vec<u8>, u8>| stage.run_ready(|seen, batch| seen.append(batch));
        assert!(run(&stage));
        stage.push(1, false);
        assert!(!stage.is_runnable() && !run(&stage));
        stage.push(2, true);
        assert!(run(&stage));
        stage.push(3, false);
        stage.make_ready_if_queued();
        assert!(run(&stage));
        stage.make_ready_if_queued();
        assert!(!run(&stage));
        assert_eq!(stage.with(|seen| seen.clone()), [0, 1, 2, 3]);
        stage.remove();
        stage.push(4, true);
        assert!(!run(&stage) && !stage.is_runnable());
    }
}
