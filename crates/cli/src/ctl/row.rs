//! Keys that stand in a row below a name, each on the lease of who made it: the recipe under locks and
//! elections (client/v3/concurrency of etcd). Waits by watching, never by asking again.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{
    self as pb, compare,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
    watch_request::RequestUnion,
};
use api::mvccpb::{Event, event::EventType};
use bytes::Bytes;
use prost::Message;

use super::link::{Link, Lost};
use super::watch::next_revision;
use super::{decode, lease, prefix_end};
use crate::{EXIT_ERROR, Failure};
use client::{Client, Stream};

/// A lease that this process keeps alive.
pub(super) struct Session {
    pub(super) lease: i64,
    seconds: i64,
}

impl Session {
    /// Takes a lease of so many seconds.
    pub(super) async fn begin(client: &Client, seconds: i64) -> Result<Session, Failure> {
        let request = pb::LeaseGrantRequest { ttl: seconds, id: 0 };
        let answer = client.unary("/etcdserverpb.Lease/LeaseGrant", &request).await?;
        let granted: pb::LeaseGrantResponse = decode(&answer)?;
        Ok(Session {
            lease: granted.id,
            seconds: granted.ttl,
        })
    }

    /// Renews the lease; returns when it is gone, or cannot be renewed any more.
    pub(super) async fn keep(&self, link: &Link<'_>) {
        let lives = Duration::from_secs(u64::try_from(self.seconds).unwrap_or(1));
        // Why it cannot be renewed makes no difference: nobody holds anything any more.
        drop(lease::keep(link, self.lease, lives, |_| Ok(())).await);
    }
}

/// A place in a row.
pub(super) struct Place {
    prefix: Vec<u8>,
    pub(super) key: Bytes,
    /// The revision at which the key was made.
    pub(super) revision: i64,
    /// The store's revision when the place was taken.
    pub(super) seen: i64,
}

impl Place {
    /// Takes the last place in the row below `name`.
    pub(super) async fn take(
        client: &Client,
        session: &Session,
        name: &str,
        value: &str,
    ) -> Result<Place, Failure> {
        let prefix = prefix_of(name);
        let key = Bytes::from([&prefix[..], format!("{:x}", session.lease).as_bytes()].concat());
        let put = Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: session.lease,
            ..Default::default()
        });
        // A second attempt could find the first one's key and take it for another's.
        let taken = match if_created_at(client, &key, 0, put).await {
            Ok(taken) => taken,
            Err(Lost::Way(status)) => return Err(status.into()),
            Err(Lost::For(failure)) => return Err(failure),
        };
        if !taken.succeeded {
            return Err(Failure::new(
                EXIT_ERROR,
                "the lease has a place in this row already",
            ));
        }
        let revision = taken.header.unwrap_or_default().revision;
        Ok(Place {
            prefix,
            key,
            revision,
            seen: revision,
        })
    }

    /// Waits until nobody is before this place. False if nobody was from the start.
    pub(super) async fn wait(&self, link: &Link<'_>) -> Result<bool, Failure> {
        let mut waited = false;
        loop {
            let mut request = first(&self.prefix, SortOrder::Descend);
            request.max_create_revision = self.revision - 1;
            let found = range(link, &request).await?;
            let Some(before) = found.kvs.into_iter().next() else {
                return Ok(waited);
            };
            waited = true;
            let seen = found.header.unwrap_or_default().revision;
            let mut watch = Watch::new(link, before.key, Bytes::new(), seen).await;
            while !watch.next().await?.1.iter().any(is_delete) {}
        }
    }

    /// What the place's key says now.
    pub(super) async fn read(&self, link: &Link<'_>) -> Result<pb::RangeResponse, Failure> {
        let request = pb::RangeRequest {
            key: self.key.clone(),
            ..Default::default()
        };
        range(link, &request).await
    }

    /// Gives the place up.
    pub(super) async fn leave(&self, link: &Link<'_>) -> Result<(), Failure> {
        let delete = Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: self.key.clone(),
            ..Default::default()
        });
        let left = link
            .until_done(async |client| if_created_at(client, &self.key, self.revision, delete.clone()).await);
        left.await.map(drop)
    }
}

/// Hands over who is first in the row below `name`, and whoever is after that. Returns when watching fails.
pub(super) async fn observe(
    link: &Link<'_>,
    name: &str,
    mut see: impl FnMut(pb::RangeResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let prefix = prefix_of(name);
    loop {
        let mut found = range(link, &first(&prefix, SortOrder::Ascend)).await?;
        if found.kvs.is_empty() {
            let seen = found.header.unwrap_or_default().revision;
            let (key, end) = (prefix.clone().into(), prefix_end(&prefix).into());
            let mut watch = Watch::new(link, key, end, seen).await;
            while found.kvs.is_empty() {
                let (_, events) = watch.next().await?;
                let put = events.into_iter().find(|event| !is_delete(event));
                found.kvs.extend(put.and_then(|event| event.kv));
            }
            let revision = found.kvs.first().map_or(0, |kv| kv.mod_revision);
            found.header = found
                .header
                .map(|header| pb::ResponseHeader { revision, ..header });
        }
        let key = found.kvs.first().map(|kv| kv.key.clone()).unwrap_or_default();
        let seen = found.header.unwrap_or_default().revision;
        see(found)?;
        let mut watch = Watch::new(link, key, Bytes::new(), seen + 1).await;
        let mut in_office = true;
        while in_office {
            let (header, events) = watch.next().await?;
            for event in events {
                if is_delete(&event) {
                    in_office = false;
                    break;
                }
                see(pb::RangeResponse {
                    header,
                    kvs: event.kv.into_iter().collect(),
                    ..Default::default()
                })?;
            }
        }
    }
}

fn prefix_of(name: &str) -> Vec<u8> {
    format!("{name}/").into_bytes()
}

/// The first or the last key below `prefix`, by when it was made.
fn first(prefix: &[u8], order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: prefix_end(prefix).into(),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

async fn range(link: &Link<'_>, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
    let found = link.until_done(async |client| Ok(client.unary("/etcdserverpb.KV/Range", request).await?));
    decode(&found.await?)
}

async fn if_created_at(
    client: &Client,
    key: &Bytes,
    revision: i64,
    success: Request,
) -> Result<pb::TxnResponse, Lost> {
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Create.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(compare::TargetUnion::CreateRevision(revision)),
        }],
        success: vec![pb::RequestOp {
            request: Some(success),
        }],
        failure: Vec::new(),
    };
    Ok(decode(&client.unary("/etcdserverpb.KV/Txn", &request).await?)?)
}

type Seen = (Option<pb::ResponseHeader>, Vec<Event>);

/// A watch that goes on at another member where one is lost.
struct Watch<'a> {
    link: &'a Link<'a>,
    client: Arc<Client>,
    create: pb::WatchCreateRequest,
    stream: Option<Stream>,
}

impl<'a> Watch<'a> {
    async fn new(link: &'a Link<'a>, key: Bytes, range_end: Bytes, start_revision: i64) -> Watch<'a> {
        Watch {
            link,
            client: link.client().await,
            create: pb::WatchCreateRequest {
                key,
                range_end,
                start_revision,
                ..Default::default()
            },
            stream: None,
        }
    }

    async fn next(&mut self) -> Result<Seen, Failure> {
        loop {
            match self.receive().await {
                Ok(seen) => return Ok(seen),
                Err(Lost::For(failure)) => return Err(failure),
                Err(Lost::Way(_)) => {
                    self.stream = None;
                    self.client = self.link.instead_of(&self.client).await;
                }
            }
        }
    }

    /// What this member tells next. Another would be asked for what comes behind it.
    async fn receive(&mut self) -> Result<Seen, Lost> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let mut stream = self.client.stream("/etcdserverpb.Watch/Watch", &[]).await?;
                let request = pb::WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(self.create.clone())),
                };
                stream.send(&request).await?;
                none.insert(stream)
            }
        };
        let lost = || Failure::new(EXIT_ERROR, "lost watcher waiting for delete");
        let answer = stream.next().await?.ok_or_else(lost)?;
        let response = pb::WatchResponse::decode(answer).map_err(|_| lost())?;
        if response.compact_revision != 0 {
            return Err(Failure::from(api::error::COMPACTED).into());
        }
        if response.canceled {
            return Err(Failure::new(EXIT_ERROR, response.cancel_reason).into());
        }
        if let Some(next) = next_revision(self.create.start_revision, &response) {
            self.create.start_revision = next;
        }
        Ok((response.header, response.events))
    }
}

fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}
