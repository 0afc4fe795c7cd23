//! Keys that stand in a row below a name, each on the lease of who made it: the recipe under locks and
//! elections (client/v3/concurrency of etcd). Waits by watching, never by asking again.

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

use super::{decode, prefix_end};
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

    /// Renews the lease at a third of its time; returns when it is gone, or nobody renews it any more.
    pub(super) async fn keep(&self, client: &Client) {
        let third = Duration::from_millis(u64::try_from(self.seconds).unwrap_or(1).max(1) * 1000 / 3);
        let Ok(mut stream) = client.stream("/etcdserverpb.Lease/LeaseKeepAlive", &[]).await else {
            return;
        };
        loop {
            let request = pb::LeaseKeepAliveRequest { id: self.lease };
            if stream.send(&request).await.is_err() {
                return;
            }
            let Ok(Some(answer)) = stream.next().await else {
                return;
            };
            let alive = decode::<pb::LeaseKeepAliveResponse>(&answer);
            if alive.map_or(0, |alive| alive.ttl) <= 0 {
                return;
            }
            tokio::time::sleep(third).await;
        }
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
        let taken = if_created_at(client, &key, 0, put).await?;
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
    pub(super) async fn wait(&self, client: &Client) -> Result<bool, Failure> {
        let mut waited = false;
        loop {
            let mut request = first(&self.prefix, SortOrder::Descend);
            request.max_create_revision = self.revision - 1;
            let found = range(client, &request).await?;
            let Some(before) = found.kvs.into_iter().next() else {
                return Ok(waited);
            };
            waited = true;
            let seen = found.header.unwrap_or_default().revision;
            let mut watch = watch(client, before.key, Bytes::new(), seen).await?;
            while !next_events(&mut watch).await?.1.iter().any(is_delete) {}
        }
    }

    /// What the place's key says now.
    pub(super) async fn read(&self, client: &Client) -> Result<pb::RangeResponse, Failure> {
        let request = pb::RangeRequest {
            key: self.key.clone(),
            ..Default::default()
        };
        range(client, &request).await
    }

    /// Gives the place up.
    pub(super) async fn leave(&self, client: &Client) -> Result<(), Failure> {
        let delete = Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: self.key.clone(),
            ..Default::default()
        });
        if_created_at(client, &self.key, self.revision, delete)
            .await
            .map(drop)
    }
}

/// Hands over who is first in the row below `name`, and whoever is after that. Returns when watching fails.
pub(super) async fn observe(
    client: &Client,
    name: &str,
    mut see: impl FnMut(pb::RangeResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let prefix = prefix_of(name);
    loop {
        let mut found = range(client, &first(&prefix, SortOrder::Ascend)).await?;
        if found.kvs.is_empty() {
            let seen = found.header.unwrap_or_default().revision;
            let mut watch = watch(client, prefix.clone().into(), prefix_end(&prefix).into(), seen).await?;
            while found.kvs.is_empty() {
                let (_, events) = next_events(&mut watch).await?;
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
        let mut watch = watch(client, key, Bytes::new(), seen + 1).await?;
        let mut in_office = true;
        while in_office {
            let (header, events) = next_events(&mut watch).await?;
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

async fn range(client: &Client, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
    decode(&client.unary("/etcdserverpb.KV/Range", request).await?)
}

async fn if_created_at(
    client: &Client,
    key: &Bytes,
    revision: i64,
    success: Request,
) -> Result<pb::TxnResponse, Failure> {
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
    decode(&client.unary("/etcdserverpb.KV/Txn", &request).await?)
}

async fn watch(
    client: &Client,
    key: Bytes,
    range_end: Bytes,
    start_revision: i64,
) -> Result<Stream, Failure> {
    let mut stream = client.stream("/etcdserverpb.Watch/Watch", &[]).await?;
    let create = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    stream.send(&request).await?;
    Ok(stream)
}

async fn next_events(watch: &mut Stream) -> Result<(Option<pb::ResponseHeader>, Vec<Event>), Failure> {
    let lost = || Failure::new(EXIT_ERROR, "lost watcher waiting for delete");
    let answer = watch.next().await?.ok_or_else(lost)?;
    let response = pb::WatchResponse::decode(answer).map_err(|_| lost())?;
    match response.compact_revision {
        0 if response.canceled => Err(Failure::new(EXIT_ERROR, response.cancel_reason)),
        0 => Ok((response.header, response.events)),
        _ => Err(api::error::COMPACTED.into()),
    }
}

fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}
