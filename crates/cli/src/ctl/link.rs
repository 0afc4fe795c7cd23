//! The way to the cluster for a command that stands: where the way to one member is lost, it goes on at another, or at
//! the same one again. Only for what may be done twice.

use std::sync::Arc;

use api::error::{Code, Status};
use client::Client;
use tokio::sync::Mutex;

use super::Context;
use crate::Failure;

/// Why something was not done.
pub(super) enum Lost {
    /// The member has gone, or the way to it: another may be there, or it again.
    Way(Status),
    /// Another would not do it either.
    For(Failure),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Lost {
        Lost::For(failure)
    }
}

impl From<Status> for Lost {
    /// etcd: client/v3/client.go, isHaltErr.
    fn from(status: Status) -> Lost {
        match status.code {
            Code::Unavailable | Code::Internal => Lost::Way(status),
            _ => Lost::For(status.into()),
        }
    }
}

/// The connection of a command, shared by all that it does at the same time.
pub(super) struct Link<'a> {
    context: &'a Context,
    client: Mutex<Arc<Client>>,
}

impl<'a> Link<'a> {
    pub(super) async fn open(context: &'a Context) -> Result<Link<'a>, Failure> {
        let client = Mutex::new(Arc::new(context.connect().await?));
        Ok(Link { context, client })
    }

    pub(super) async fn client(&self) -> Arc<Client> {
        self.client.lock().await.clone()
    }

    /// A connection in place of a lost one: a new one, unless somebody has made that already. Waits until somebody answers.
    pub(super) async fn instead_of(&self, lost: &Arc<Client>) -> Arc<Client> {
        let mut client = self.client.lock().await;
        if Arc::ptr_eq(&client, lost) {
            *client = Arc::new(self.context.reconnect().await);
        }
        client.clone()
    }

    /// Does something as often as the way is lost.
    pub(super) async fn until_done<T>(
        &self,
        act: impl AsyncFn(&Client) -> Result<T, Lost>,
    ) -> Result<T, Failure> {
        let mut client = self.client().await;
        loop {
            match act(&client).await {
                Ok(done) => return Ok(done),
                Err(Lost::For(failure)) => return Err(failure),
                Err(Lost::Way(_)) => client = self.instead_of(&client).await,
            }
        }
    }
}
