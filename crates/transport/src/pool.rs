//! Connections for questions to other members, kept a while for the next question, and the places of the questions.
//! A question goes to one URL and never to another; it is asked again only if nothing of it was sent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::url::Url;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::READ_MAX;
use crate::client::{self, Call, CallError, IDLE_MAX, Purpose, Wire};
use crate::core::Place;
use crate::dial::Dialer;
use crate::host::Answer;

/// Questions of one purpose to one URL under way at once, and so the connections for them.
const PLACES: usize = 16;
/// Connections that wait for their next question, to all members.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Renewals to one URL that wait for an answer or a place; so many questions may wait in a member.
const RENEWALS_MAX: usize = 10_000;
/// The same for questions of another purpose.
const QUESTIONS_MAX: usize = 256;

/// See the module. Lives on the transport's thread.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Rc<Idle>,
    lines: RefCell<BTreeMap<(Purpose, Url), Rc<Line>>>,
}

/// The questions of one purpose to one URL: whoever does not answer holds up no other.
struct Line {
    places: Semaphore,
    /// Those that have a place or wait for one.
    asking: AtomicUsize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            places: Semaphore::new(PLACES),
            asking: AtomicUsize::new(0),
        }
    }
}

/// Connections that wait for their next question.
#[derive(Default)]
struct Idle {
    /// The one that was used last is at the end.
    wires: RefCell<VecDeque<(Url, Wire)>>,
    is_swept: Cell<bool>,
}

impl Idle {
    fn put(self: &Rc<Idle>, url: Url, wire: Wire) {
        {
            let mut wires = self.wires.borrow_mut();
            wires.retain(|(_, wire)| wire.may_be_kept());
            if wires.len() >= IDLE_CONNECTIONS_MAX {
                wires.pop_front();
            }
            wires.push_back((url, wire));
        }
        if !self.is_swept.replace(true) {
            spawn_local(self.clone().sweep());
        }
    }

    /// The connection to `url` that was used last.
    fn take(&self, url: &Url) -> Option<Wire> {
        let mut wires = self.wires.borrow_mut();
        wires.retain(|(_, wire)| wire.may_be_kept());
        let at = wires.iter().rposition(|(other, _)| other == url)?;
        wires.remove(at).map(|(_, wire)| wire)
    }

    /// Drops what nobody used, as long as there is anything: a member that asks nothing is not woken for this.
    async fn sweep(self: Rc<Idle>) {
        loop {
            tokio::time::sleep(IDLE_MAX).await;
            let mut wires = self.wires.borrow_mut();
            wires.retain(|(_, wire)| wire.may_be_kept());
            if wires.is_empty() {
                self.is_swept.set(false);
                return;
            }
        }
    }
}

impl Pool {
    /// Asks `url`. All of it, the wait for a place as well, takes no longer than the call's patience.
    pub(crate) async fn ask(&self, dialer: &Dialer, url: &Url, call: Call) -> Result<Answer, CallError> {
        let key = (call.purpose, url.clone());
        let line = self.lines.borrow_mut().entry(key.clone()).or_default().clone();
        let answer = self.ask_in(&line, dialer, url, call).await;
        if line.asking.load(Ordering::SeqCst) == 0 {
            self.lines.borrow_mut().remove(&key);
        }
        answer
    }

    async fn ask_in(&self, line: &Line, dialer: &Dialer, url: &Url, call: Call) -> Result<Answer, CallError> {
        let asking_max = match call.purpose {
            Purpose::Renewal => RENEWALS_MAX,
            Purpose::Question | Purpose::Check => QUESTIONS_MAX,
        };
        let Some(_asks) = Place::take(&line.asking, asking_max) else {
            return Err(CallError::Busy);
        };
        let answer = timeout(call.patience, async {
            // Nobody closes the semaphore.
            let _place = line.places.acquire().await;
            self.exchange(dialer, url, call).await
        });
        match answer.await {
            Ok(result) => result.map_err(CallError::Failed),
            Err(_) => Err(CallError::Timeout),
        }
    }

    async fn exchange(&self, dialer: &Dialer, url: &Url, call: Call) -> Result<Answer, String> {
        let mut request = client::request_of(url, call)?;
        while let Some(mut wire) = self.idle.take(url) {
            match wire.try_send(request).await {
                Ok(response) => return self.finish(url, wire, response).await,
                Err(unanswered) => match unanswered.unsent {
                    // The other side has dropped the connection meanwhile.
                    Some(unsent) => request = unsent,
                    None => return Err(unanswered.reason),
                },
            }
        }
        let mut wire = Wire::open(dialer, url, READ_MAX).await?;
        let response = wire.send(request).await?;
        self.finish(url, wire, response).await
    }

    async fn finish(&self, url: &Url, wire: Wire, response: client::Head) -> Result<Answer, String> {
        let answer = client::read_answer(response).await?;
        self.idle.put(url.clone(), wire);
        Ok(answer)
    }
}
