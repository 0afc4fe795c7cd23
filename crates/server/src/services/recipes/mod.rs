//! The lock and election services: recipes over the other calls, as etcd's are over its own client
//! (server/etcdserver/api/v3lock and v3election). A recipe waits by watching, never by asking again.
//! Names no carrier.

mod client;
mod election;
mod lock;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use api::error::{Code, Status};
use bytes::Bytes;
use member::frontend::{self, Shape, StreamPoll};
use prost::Message;

use self::client::Client;
use super::undecodable;
use crate::front::Front;
use crate::front::call::until;

/// A call of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Waits until the lock is the caller's.
    Lock,
    /// Gives a lock up.
    Unlock,
    /// Waits until the caller is elected.
    Campaign,
    /// Changes what the elected one says.
    Proclaim,
    /// Who is elected.
    Leader,
    /// Who is elected, and whoever is after that.
    Observe,
    /// Gives the office up.
    Resign,
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Recipe; 7] = [
        Recipe::Lock,
        Recipe::Unlock,
        Recipe::Campaign,
        Recipe::Proclaim,
        Recipe::Leader,
        Recipe::Observe,
        Recipe::Resign,
    ];

    /// The path as gRPC writes it.
    pub const fn path(self) -> &'static str {
        match self {
            Recipe::Lock => "/v3lockpb.Lock/Lock",
            Recipe::Unlock => "/v3lockpb.Lock/Unlock",
            Recipe::Campaign => "/v3electionpb.Election/Campaign",
            Recipe::Proclaim => "/v3electionpb.Election/Proclaim",
            Recipe::Leader => "/v3electionpb.Election/Leader",
            Recipe::Observe => "/v3electionpb.Election/Observe",
            Recipe::Resign => "/v3electionpb.Election/Resign",
        }
    }

    /// The recipe of a path.
    pub fn from_path(path: &str) -> Option<Recipe> {
        Recipe::ALL.into_iter().find(|recipe| recipe.path() == path)
    }

    /// How many messages go each way.
    pub fn shape(self) -> Shape {
        match self {
            Recipe::Observe => Shape::ServerStream,
            _ => Shape::Unary,
        }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a recipe answers: one message, or any number of a stream's. Dropping it is how the caller goes
/// away; what it waited with is then taken back.
pub struct Answers {
    /// `None` after the end.
    cooking: Option<Boxed<Result<(), Status>>>,
    deadline: Option<Boxed<()>>,
    outbox: Outbox,
}

impl Answers {
    /// Begins a call with the one message that it takes.
    pub fn start(front: &Rc<Front>, recipe: Recipe, message: Bytes, context: frontend::Context) -> Answers {
        let outbox = Outbox::default();
        let cooking = cook(Client::new(front, context), recipe, message, outbox.clone());
        let deadline = context.deadline.map(|at| {
            let passed: Boxed<()> = Box::pin(until(front, at));
            passed
        });
        Answers {
            cooking: Some(Box::pin(cooking)),
            deadline,
            outbox,
        }
    }

    /// The next of what there is; `None` after the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamPoll>> {
        let Some(cooking) = &mut self.cooking else {
            return Poll::Ready(None);
        };
        let ended = match cooking.as_mut().poll(cx) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => {
                let deadline = self.deadline.as_mut();
                let passed = deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
                passed.then_some(Err(DEADLINE_EXCEEDED))
            }
        };
        let message = self.outbox.0.borrow_mut().take();
        if ended.is_some() {
            self.cooking = None;
        } else if message.is_none() {
            return Poll::Pending;
        }
        Poll::Ready(Some(StreamPoll {
            more: ended.is_none(),
            frames: message.into_iter().map(frontend::Frame::from).collect(),
            end: ended,
            ..StreamPoll::default()
        }))
    }
}

/// Go's words for a context that ended: the recipes of etcd hand them on as they are.
const DEADLINE_EXCEEDED: Status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");

/// Room for one message on its way from a recipe.
#[derive(Clone, Default)]
struct Outbox(Rc<RefCell<Option<Bytes>>>);

impl Outbox {
    /// Hands a message over as soon as the one before it is taken. Who takes it polls the recipe again.
    async fn send(&self, message: &impl Message) {
        let mut encoded = Some(Bytes::from(message.encode_to_vec()));
        poll_fn(|_| {
            let mut room = self.0.borrow_mut();
            if room.is_some() {
                return Poll::Pending;
            }
            *room = encoded.take();
            Poll::Ready(())
        })
        .await;
    }
}

fn decode<M: Message + Default>(recipe: Recipe, message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| undecodable(recipe.shape(), &error.to_string()))
}

async fn cook(client: Client, recipe: Recipe, message: Bytes, outbox: Outbox) -> Result<(), Status> {
    match recipe {
        Recipe::Lock => {
            outbox
                .send(&lock::lock(&client, decode(recipe, message)?).await?)
                .await
        }
        Recipe::Unlock => {
            outbox
                .send(&lock::unlock(&client, decode(recipe, message)?).await?)
                .await
        }
        Recipe::Campaign => {
            outbox
                .send(&election::campaign(&client, decode(recipe, message)?).await?)
                .await
        }
        Recipe::Proclaim => {
            outbox
                .send(&election::proclaim(&client, decode(recipe, message)?).await?)
                .await
        }
        Recipe::Leader => {
            outbox
                .send(&election::leader(&client, decode(recipe, message)?).await?)
                .await
        }
        Recipe::Observe => election::observe(&client, decode(recipe, message)?, &outbox).await?,
        Recipe::Resign => {
            outbox
                .send(&election::resign(&client, decode(recipe, message)?).await?)
                .await
        }
    }
    Ok(())
}

/// An error of a recipe's own, which Go's gRPC gives this code.
const fn unknown(text: &'static str) -> Status {
    Status::new(Code::Unknown, text)
}
