//! Connections for questions to other members, kept for the next question, and the places of the questions.
//! A question goes to one URL and never to another; it is asked again only if nothing of it was sent.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;

use api::url::Url;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::READ_MAX;
use crate::client::{self, Call, CallError, Purpose, Wire};
use crate::core::Place;
use crate::dial::Dialer;
use crate::host::Answer;

/// Questions of one purpose to one URL under way at once, and so the connections for them.
const PLACES: usize = 16;
/// Connections that wait for their next question, to all members.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Renewals that wait for an answer or a place; so many questions may wait in a member.
const RENEWALS_MAX: usize = 10_000;
/// The same for all other questions.
const QUESTIONS_MAX: usize = 256;

/// See the module. Lives on the transport's thread.
#[derive(Default)]
pub(crate) struct Pool {
    /// The one that was used last is at the end.
    idle: RefCell<VecDeque<(Url, Wire)>>,
    places: RefCell<BTreeMap<(Purpose, Url), Rc<Semaphore>>>,
    renewals: AtomicUsize,
    questions: AtomicUsize,
}

impl Pool {
    /// Asks `url`. All of it, the wait for a place as well, takes no longer than the call's patience.
    pub(crate) async fn ask(&self, dialer: &Dialer, url: &Url, call: Call) -> Result<Answer, CallError> {
        let (waiting, waiting_max) = match call.purpose {
            Purpose::Renewal => (&self.renewals, RENEWALS_MAX),
            Purpose::Question => (&self.questions, QUESTIONS_MAX),
        };
        let Some(_waits) = Place::take(waiting, waiting_max) else {
            return Err(CallError::Busy);
        };
        let key = (call.purpose, url.clone());
        let new = || Rc::new(Semaphore::new(PLACES));
        let places = self
            .places
            .borrow_mut()
            .entry(key.clone())
            .or_insert_with(new)
            .clone();
        let answer = timeout(call.patience, async {
            // Nobody closes the semaphore.
            let _place = places.acquire().await;
            self.exchange(dialer, url, call).await
        });
        let answer = answer.await;
        let mut all = self.places.borrow_mut();
        // The map has one, and this has one: nobody else asks that URL.
        if Rc::strong_count(&places) == 2 {
            all.remove(&key);
        }
        match answer {
            Ok(result) => result.map_err(CallError::Failed),
            Err(_) => Err(CallError::Timeout),
        }
    }

    async fn exchange(&self, dialer: &Dialer, url: &Url, call: Call) -> Result<Answer, String> {
        let mut request = client::request_of(url, call)?;
        while let Some(mut wire) = self.take(url) {
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
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, wire)| wire.may_be_kept());
        if idle.len() >= IDLE_CONNECTIONS_MAX {
            idle.pop_front();
        }
        idle.push_back((url.clone(), wire));
        Ok(answer)
    }

    /// The connection to `url` that was used last.
    fn take(&self, url: &Url) -> Option<Wire> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, wire)| wire.may_be_kept());
        let at = idle.iter().rposition(|(other, _)| other == url)?;
        idle.remove(at).map(|(_, wire)| wire)
    }
}
