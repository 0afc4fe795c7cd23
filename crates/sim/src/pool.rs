//! The pool of a member: work that takes long. What was asked for first may end last, and what is done may be told
//! long after it was done. Loses nothing, and draws nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use api::clock::Instant;
use member::{Fatal, Job, Log, LogLine, Router, ToApply, ToCommitter, ToDecide, ToFront, ToPeer, ToPersist};

/// What is under way, by the moment of the world at which it goes on.
#[derive(Default)]
pub struct Pool {
    under_way: BTreeMap<(Instant, u64), Step>,
    taken: u64,
}

/// How long a job takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Until its work is done.
    pub works: Duration,
    /// From then until those who wait for it hear of it.
    pub tells: Duration,
}

enum Step {
    /// It is to be done, and to be told so much later.
    Work(Job, Duration),
    /// It is done.
    Tell(Told),
}

impl Pool {
    /// A job begins.
    pub fn take(&mut self, job: Job, now: Instant, pace: Pace) {
        self.enter(now + pace.works, Step::Work(job, pace.tells));
    }

    /// When the next job goes on.
    pub fn next(&self) -> Option<Instant> {
        let (at, _) = *self.under_way.first_key_value()?.0;
        Some(at)
    }

    /// The next job goes on, though it may not be its time.
    pub fn step(&mut self, now: Instant, router: &dyn Router) {
        let Some((_, step)) = self.under_way.pop_first() else {
            return;
        };
        match step {
            Step::Work(job, Duration::ZERO) => job.run(router),
            Step::Work(job, tells) => {
                let told = Told::default();
                job.run(&told);
                self.enter(now + tells, Step::Tell(told));
            }
            Step::Tell(told) => told.pass_on(router),
        }
    }

    fn enter(&mut self, at: Instant, step: Step) {
        self.taken += 1;
        self.under_way.insert((at, self.taken), step);
    }
}

type Message = Box<dyn FnOnce(&dyn Router)>;

/// What a job has said and nobody has heard.
#[derive(Default)]
struct Told(RefCell<Vec<Message>>);

impl Told {
    fn keep(&self, message: impl FnOnce(&dyn Router) + 'static) {
        self.0.borrow_mut().push(Box::new(message));
    }

    fn pass_on(self, router: &dyn Router) {
        for message in self.0.into_inner() {
            message(router);
        }
    }
}

impl Log for Told {
    fn log(&self, line: LogLine) {
        self.keep(|router| router.log(line));
    }
}

impl Router for Told {
    fn to_decide(&self, message: ToDecide) {
        self.keep(|router| router.to_decide(message));
    }
    fn to_persist(&self, message: ToPersist) {
        self.keep(|router| router.to_persist(message));
    }
    fn to_apply(&self, message: ToApply) {
        self.keep(|router| router.to_apply(message));
    }
    fn to_committer(&self, message: ToCommitter) {
        self.keep(|router| router.to_committer(message));
    }
    fn to_front(&self, front: usize, message: ToFront) {
        self.keep(move |router| router.to_front(front, message));
    }
    fn to_peer(&self, message: ToPeer) {
        self.keep(|router| router.to_peer(message));
    }
    fn job(&self, job: Job) {
        self.keep(|router| router.job(job));
    }
    fn fatal(&self, fatal: Fatal) {
        self.keep(|router| router.fatal(fatal));
    }
    fn stopped(&self) {
        self.keep(|router| router.stopped());
    }
}

#[cfg(test)]
mod tests {
    use member::JobKind;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn jobs_end_in_any_order_and_are_heard_of_late() {
        let heard = Told::default();
        let mut pool = Pool::default();
        for (number, works, tells) in [(1, 50, 0), (2, 10, 100), (3, 20, 0)] {
            let job = Job::new(JobKind::Read, move |router: &dyn Router| {
                router.to_apply(ToApply::Dropped { id: number });
            });
            let (works, tells) = (ms(works), ms(tells));
            pool.take(job, Instant::default(), Pace { works, tells });
        }
        let mut moments = Vec::new();
        while let Some(at) = pool.next() {
            pool.step(at, &heard);
            moments.push((at.since_start().as_millis(), heard.0.borrow().len()));
        }
        // The second one was done first.
        assert_eq!(moments, [(10, 0), (20, 1), (50, 2), (110, 3)]);
    }
}
