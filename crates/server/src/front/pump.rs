//! Carries what the member has to the front and what the front wants to the member, one round
//! for all that happened since the last.

use std::rc::Rc;

use member::ToFront;
use member::frontend::Output;

use super::Front;
use crate::driver::{FromMember, Inbox};

impl Front {
    /// Runs for as long as the thread does.
    pub async fn pump(self: Rc<Self>) {
        let mut letters = Vec::new();
        loop {
            let next_tick = self.round(&mut letters);
            match next_tick {
                None => self.inbox.rung().await,
                Some(at) => {
                    let at = tokio::time::Instant::from_std(self.common.clock.to_std(at));
                    // Either way there is something to look at.
                    let _ = tokio::time::timeout_at(at, self.inbox.rung()).await;
                }
            }
        }
    }

    /// Delivers all there is, and says when the front wants to be called again.
    fn round(&self, letters: &mut Vec<FromMember>) -> Option<api::clock::Instant> {
        let (mut decide, mut apply) = (Vec::new(), Vec::new());
        let mut frontend = self.frontend.borrow_mut();
        self.inbox.take(letters);
        let now = self.now();
        for letter in letters.drain(..) {
            match letter {
                FromMember::Stage(ToFront::Published { view, events }) => {
                    frontend.published(&view, events.as_ref(), now);
                }
                FromMember::Stage(ToFront::Replaced { view }) => frontend.replaced(&view, now),
                FromMember::Stage(ToFront::Tell(tells)) => {
                    for tell in tells {
                        frontend.handle(tell, now);
                    }
                }
                FromMember::Job(done) => frontend.job_done(done, now),
            }
        }
        if frontend.next_tick().is_some_and(|at| at <= now) {
            frontend.tick(now);
        }
        let mut answered_at = None;
        while let Some(output) = frontend.poll() {
            match output {
                Output::Reply {
                    token,
                    result,
                    ending,
                } => {
                    let waiting = self.waiting.borrow_mut().remove(token);
                    if let Some(waiting) = waiting {
                        if let Some(asked) = &waiting.call {
                            // One look at the clock for all the answers of a round.
                            let end = *answered_at.get_or_insert_with(|| self.now());
                            self.answered(asked, &result, ending, now, end);
                        }
                        waiting.owner.reply(waiting.slot, token, result);
                    }
                }
                Output::Wake(token) => {
                    if let Some(waiting) = self.waiting.borrow().get(token) {
                        waiting.owner.wake(waiting.slot);
                    }
                }
                Output::Decide(asks) => decide.extend(asks),
                Output::Apply(asks) => apply.extend(asks),
                Output::Broken(fatal) => self.common.driver.broken(fatal),
                Output::Job(job) => {
                    let inbox: std::sync::Arc<Inbox> = self.inbox.clone();
                    self.common
                        .driver
                        .front_job(move || inbox.put(FromMember::Job(job.run())));
                }
            }
        }
        let next_tick = frontend.next_tick();
        drop(frontend);
        if !decide.is_empty() || !apply.is_empty() {
            self.common.driver.ask(decide, apply);
        }
        next_tick
    }
}
