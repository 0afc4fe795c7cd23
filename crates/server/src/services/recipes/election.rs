//! The election service: who made a key below the election's name first is elected, and says what the
//! key's value is (client/v3/concurrency/election.go).

use api::error::Status;
use api::etcdserverpb::{ResponseHeader, range_request::SortOrder, request_op::Request};
use api::mvccpb::KeyValue;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use bytes::Bytes;

use super::client::{Client, Place, delete, end_of, found, get, is_delete, key_of, put, under};
use super::{Outbox, unknown};

const MISSING_LEADER_KEY: Status = unknown("\"leader\" field must be provided");
const NOT_LEADER: Status = unknown("election: not leader");
const NO_LEADER: Status = unknown("election: no leader");

fn prefix_of(name: &Bytes) -> Bytes {
    [&name[..], b"/"].concat().into()
}

/// Waits until the caller is elected.
pub(super) async fn campaign(client: &Client, request: CampaignRequest) -> Result<CampaignResponse, Status> {
    let lease = client.session(request.lease).await?;
    let prefix = prefix_of(&request.name);
    let key = key_of(&prefix, lease);
    let success = vec![put(&key, request.value.clone(), lease)];
    let failure = vec![Request::RequestRange(get(&key))];
    // Who goes away before the answer has a key all the same.
    let entering = Place::of_new_lease(client, request.lease, &key);
    let entered = client.if_created_at(&key, 0, success, failure).await?;
    entering.into_iter().for_each(Place::keep);
    let mut revision = entered.header.unwrap_or_default().revision;
    let mut place = Place::key_created_at(client, &key, revision);
    if let Some(kv) = found(&entered, 0).filter(|_| !entered.succeeded) {
        // The same lease campaigns again, perhaps with other words.
        revision = kv.create_revision;
        place.keep();
        place = Place::key_created_at(client, &key, revision);
        if kv.value != request.value {
            speak(client, &key, revision, request.value, lease).await?;
        }
    }
    // Only who goes away, or whose time is over, gives the place up: an error leaves it to the lease.
    let waited = client.wait_for_end(&prefix, revision - 1).await;
    place.keep();
    waited?;
    Ok(CampaignResponse {
        header: entered.header,
        leader: Some(LeaderKey {
            name: request.name,
            key,
            rev: revision,
            lease,
        }),
    })
}

/// Puts what the elected one says, if it still is.
async fn speak(
    client: &Client,
    key: &Bytes,
    revision: i64,
    value: Bytes,
    lease: i64,
) -> Result<Option<ResponseHeader>, Status> {
    let success = vec![put(key, value, lease)];
    let spoken = client.if_created_at(key, revision, success, Vec::new()).await?;
    match spoken.succeeded {
        true => Ok(spoken.header),
        false => Err(NOT_LEADER),
    }
}

/// Changes what the elected one says.
pub(super) async fn proclaim(client: &Client, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
    let leader = request.leader.ok_or(MISSING_LEADER_KEY)?;
    let lease = client.session(leader.lease).await?;
    let header = speak(client, &leader.key, leader.rev, request.value, lease).await?;
    Ok(ProclaimResponse { header })
}

/// Gives the office up, if it is still the caller's.
pub(super) async fn resign(client: &Client, request: ResignRequest) -> Result<ResignResponse, Status> {
    let leader = request.leader.ok_or(MISSING_LEADER_KEY)?;
    client.session(leader.lease).await?;
    let success = vec![delete(&leader.key)];
    let resigned = client
        .if_created_at(&leader.key, leader.rev, success, Vec::new())
        .await?;
    Ok(ResignResponse {
        header: resigned.header,
    })
}

/// Who is elected.
pub(super) async fn leader(client: &Client, request: LeaderRequest) -> Result<LeaderResponse, Status> {
    let found = client
        .range(&under(&prefix_of(&request.name), SortOrder::Ascend))
        .await?;
    match found.kvs.into_iter().next() {
        None => Err(NO_LEADER),
        kv => Ok(LeaderResponse {
            header: found.header,
            kv,
        }),
    }
}

/// Says who is elected, and whoever is after that, until the caller goes away. It ends without an error
/// when a watch does: the function observe of election.go closes its channel then.
pub(super) async fn observe(client: &Client, request: LeaderRequest, outbox: &Outbox) -> Result<(), Status> {
    let prefix = prefix_of(&request.name);
    loop {
        let Ok(found) = client.range(&under(&prefix, SortOrder::Ascend)).await else {
            return Ok(());
        };
        let header = found.header.unwrap_or_default();
        let (header, kv) = match found.kvs.into_iter().next() {
            Some(kv) => (header, kv),
            None => match first_put(client, &prefix, header.revision).await {
                Some(put) => put,
                None => return Ok(()),
            },
        };
        let (key, revision) = (kv.key.clone(), header.revision);
        let elected = LeaderResponse {
            header: Some(header),
            kv: Some(kv),
        };
        outbox.send(&elected).await;
        let Ok(mut watch) = client.watch(key, Bytes::new(), revision + 1) else {
            return Ok(());
        };
        let mut in_office = true;
        while in_office {
            let Ok(Some(response)) = watch.next().await else {
                return Ok(());
            };
            for event in response.events {
                if is_delete(&event) {
                    in_office = false;
                    break;
                }
                let spoken = LeaderResponse {
                    header: response.header,
                    kv: event.kv,
                };
                outbox.send(&spoken).await;
            }
        }
    }
}

/// Waits for the first key below a prefix; `None` if the watch ends.
async fn first_put(client: &Client, prefix: &Bytes, revision: i64) -> Option<(ResponseHeader, KeyValue)> {
    let mut watch = client.watch(prefix.clone(), end_of(prefix), revision).ok()?;
    loop {
        let response = watch.next().await.ok()??;
        let mut header = response.header.unwrap_or_default();
        let put = response.events.into_iter().find(|event| !is_delete(event));
        if let Some(kv) = put.and_then(|event| event.kv) {
            // There may be several revisions in one answer: this one's is the first.
            header.revision = kv.mod_revision;
            return Some((header, kv));
        }
    }
}
