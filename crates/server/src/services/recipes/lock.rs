//! The lock service: who made a key below the lock's name first holds the lock
//! (client/v3/concurrency/mutex.go).

use api::error::Status;
use api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, range_request::SortOrder, request_op::Request,
};
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use bytes::Bytes;
use member::frontend::Method;

use super::client::{Client, Place, found, get, key_of, put, under};
use super::unknown;

const SESSION_EXPIRED: Status = unknown("mutex: session is expired");

/// Waits until the lock is the caller's.
pub(super) async fn lock(client: &Client, request: LockRequest) -> Result<LockResponse, Status> {
    let lease = client.session(request.lease).await?;
    let prefix = Bytes::from([&request.name[..], b"/"].concat());
    let key = key_of(&prefix, lease);
    let owner = || Request::RequestRange(under(&prefix, SortOrder::Ascend));
    let success = vec![put(&key, Bytes::new(), lease), owner()];
    // The same lease may ask again.
    let failure = vec![Request::RequestRange(get(&key)), owner()];
    // Who goes away before the answer has a key all the same.
    let entering = Place::of_new_lease(client, request.lease, &key);
    let entered = client.if_created_at(&key, 0, success, failure).await?;
    entering.into_iter().for_each(Place::keep);
    let now = entered.header.unwrap_or_default().revision;
    let own_revision = match entered.succeeded {
        true => now,
        false => found(&entered, 0).map_or(now, |kv| kv.create_revision),
    };
    let owner_revision = found(&entered, 1).map_or(own_revision, |kv| kv.create_revision);
    if owner_revision == own_revision {
        return Ok(LockResponse {
            header: entered.header,
            key,
        });
    }
    let place = Place::key(client, &key);
    client.wait_for_end(&prefix, own_revision - 1).await?;
    // The lease may have ended meanwhile, and the key with it.
    let own = client.range(&get(&key)).await?;
    place.keep();
    match own.kvs.is_empty() {
        true => Err(SESSION_EXPIRED),
        false => Ok(LockResponse {
            header: own.header,
            key,
        }),
    }
}

/// Gives a lock up, by the key that `lock` answered.
pub(super) async fn unlock(client: &Client, request: UnlockRequest) -> Result<UnlockResponse, Status> {
    let delete = DeleteRangeRequest {
        key: request.key,
        ..Default::default()
    };
    let deleted: DeleteRangeResponse = client.call(Method::DeleteRange, &delete).await?;
    Ok(UnlockResponse {
        header: deleted.header,
    })
}
