//! What a recipe asks of the member in its caller's place. Errors are the member's, as they are.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;

use api::error::{self, Code, Status};
use api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse, PutRequest, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    compare,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
    response_op::Response,
    watch_request::RequestUnion,
};
use api::mvccpb::KeyValue;
use bytes::Bytes;
use member::frontend::{Context, Method};
use prost::Message;

use super::unknown;
use crate::front::{Front, call};

/// Seconds of a lease that a caller did not bring: concurrency/session.go defaultSessionTTL.
const SESSION_SECONDS: i64 = 60;
/// Bytes asked of a watch at a time.
const WATCH_BATCH: usize = 64 << 10;

/// A client within the server.
pub(super) struct Client {
    front: Rc<Front>,
    context: Context,
}

impl Client {
    /// In the place of who calls with `context`.
    pub(super) fn new(front: &Rc<Front>, context: Context) -> Client {
        Client {
            front: front.clone(),
            context,
        }
    }

    /// Makes a call.
    pub(super) async fn call<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<A, Status> {
        let message = request.encode_to_vec().into();
        let answer = call::unary(&self.front, method, message, self.context).await;
        A::decode(answer.map_err(passed_on)?).map_err(|error| Status::with(Code::Internal, error.to_string()))
    }

    /// The lease that keys of this call hang on: the caller's, or a new one.
    pub(super) async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let grant = LeaseGrantRequest {
            ttl: SESSION_SECONDS,
            id: 0,
        };
        let granted: LeaseGrantResponse = self.call(Method::LeaseGrant, &grant).await?;
        Ok(granted.id)
    }

    /// Reads keys.
    pub(super) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        self.call(Method::Range, request).await
    }

    /// Does one or the other, as the key was or was not made at a revision.
    pub(super) async fn if_created_at(
        &self,
        key: &Bytes,
        revision: i64,
        success: Vec<Request>,
        failure: Vec<Request>,
    ) -> Result<TxnResponse, Status> {
        let request = if_created_at(key, revision, success, failure);
        self.call(Method::Txn, &request).await
    }

    /// Watches a key, or all from `key` to `range_end`.
    pub(super) fn watch(&self, key: Bytes, range_end: Bytes, start_revision: i64) -> Result<Watch, Status> {
        let stream = call::Stream::open(&self.front, Method::Watch, self.context).map_err(passed_on)?;
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision,
            ..Default::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        stream.message(request.encode_to_vec().into());
        Ok(Watch {
            stream,
            waiting: VecDeque::new(),
        })
    }

    /// Waits until every key below `prefix` that was made at `revision` or before is gone:
    /// concurrency/key.go waitDeletes. Watches the youngest of them alone, so that the end of one wakes one.
    pub(super) async fn wait_for_end(&self, prefix: &Bytes, revision: i64) -> Result<(), Status> {
        loop {
            let mut request = under(prefix, SortOrder::Descend);
            request.max_create_revision = revision;
            let found = self.range(&request).await?;
            let Some(kv) = found.kvs.into_iter().next() else {
                return Ok(());
            };
            let seen = found.header.unwrap_or_default().revision;
            let mut watch = self.watch(kv.key, Bytes::new(), seen)?;
            let mut gone = false;
            while !gone {
                let Some(response) = watch.next().await? else {
                    return Err(unknown("lost watcher waiting for delete"));
                };
                gone = response.events.iter().any(is_delete);
            }
        }
    }
}

/// An error of a call within: etcd's client makes an error of its own of it, to which gRPC gives this code.
/// Clients know errors by their texts. What is looked at before the recipe begins keeps its code.
fn passed_on(status: Status) -> Status {
    match status == error::NO_LEADER || status == error::NOT_SUPPORTED_FOR_LEARNER {
        true => status,
        false => Status {
            code: Code::Unknown,
            ..status
        },
    }
}

/// Whether an event is a key's end.
pub(super) fn is_delete(event: &api::mvccpb::Event) -> bool {
    event.r#type() == api::mvccpb::event::EventType::Delete
}

/// What a caller waits with in a row, a key that would stay there if the caller just went away.
pub(super) struct Place<'a> {
    client: &'a Client,
    method: Method,
    /// The call that takes it back.
    cleanup: Option<Bytes>,
}

impl<'a> Place<'a> {
    /// A place that is left by deleting `key`.
    pub(super) fn key(client: &'a Client, key: &Bytes) -> Place<'a> {
        let request = DeleteRangeRequest {
            key: key.clone(),
            ..Default::default()
        };
        Place {
            client,
            method: Method::DeleteRange,
            cleanup: Some(request.encode_to_vec().into()),
        }
    }

    /// The place of a call that made a lease of its own, whose key is nobody else's, from before it is
    /// known whether the key is made; `None` for a lease that the caller brought, which may have been
    /// there before.
    pub(super) fn of_new_lease(client: &'a Client, brought: i64, key: &Bytes) -> Option<Place<'a>> {
        (brought == 0).then(|| Place::key(client, key))
    }

    /// A place that is left by deleting `key` if it is still the one that was made at `revision`.
    pub(super) fn key_created_at(client: &'a Client, key: &Bytes, revision: i64) -> Place<'a> {
        let request = if_created_at(key, revision, vec![delete(key)], Vec::new());
        Place {
            client,
            method: Method::Txn,
            cleanup: Some(request.encode_to_vec().into()),
        }
    }

    /// The caller got what it waited for, or there is nothing to take back.
    pub(super) fn keep(mut self) {
        self.cleanup = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.cleanup.take() {
            call::forgotten(&self.client.front, self.method, request);
        }
    }
}

/// A watch of a recipe.
pub(super) struct Watch {
    stream: call::Stream,
    waiting: VecDeque<WatchResponse>,
}

impl Watch {
    /// The next answer; `None` after the watch's end. A watch that was cancelled is an error.
    pub(super) async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        loop {
            if let Some(response) = self.waiting.pop_front() {
                return match (response.compact_revision, response.canceled) {
                    (0, false) => Ok(Some(response)),
                    // clientv3/watch.go WatchResponse.Err.
                    (0, true) if response.cancel_reason.is_empty() => Err(passed_on(error::FUTURE_REV)),
                    (0, true) => Err(Status::with(Code::Unknown, response.cancel_reason)),
                    (_, _) => Err(passed_on(error::COMPACTED)),
                };
            }
            let polled = poll_fn(|cx| self.stream.poll_next(cx, WATCH_BATCH)).await;
            let Some(polled) = polled else {
                return Ok(None);
            };
            for frame in polled.frames {
                let message = Bytes::from(frame.parts.concat());
                let response = WatchResponse::decode(message);
                let response = response.map_err(|error| Status::with(Code::Internal, error.to_string()))?;
                self.waiting.push_back(response);
            }
            if let Some(Err(status)) = polled.end {
                return Err(passed_on(status));
            }
        }
    }
}

/// The first or the last key below `prefix`, by when it was made.
pub(super) fn under(prefix: &Bytes, order: SortOrder) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The end of all keys that begin with `prefix`: clientv3/op.go getPrefix.
pub(super) fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end.into();
        }
        end.pop();
    }
    Bytes::from_static(&[0])
}

/// The key under which a lease stands in a row: prefix and the lease's number in hexadecimal digits, which
/// Go writes with a sign.
pub(super) fn key_of(prefix: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let digits = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, digits.as_bytes()].concat().into()
}

/// A put that hangs on a lease.
pub(super) fn put(key: &Bytes, value: Bytes, lease: i64) -> Request {
    Request::RequestPut(PutRequest {
        key: key.clone(),
        value,
        lease,
        ..Default::default()
    })
}

/// A read of one key.
pub(super) fn get(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        ..Default::default()
    }
}

/// A delete of one key.
pub(super) fn delete(key: &Bytes) -> Request {
    Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.clone(),
        ..Default::default()
    })
}

fn if_created_at(key: &Bytes, revision: i64, success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
    let ops = |requests: Vec<Request>| {
        let op = |request| RequestOp {
            request: Some(request),
        };
        requests.into_iter().map(op).collect()
    };
    TxnRequest {
        compare: vec![Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Create.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(compare::TargetUnion::CreateRevision(revision)),
        }],
        success: ops(success),
        failure: ops(failure),
    }
}

/// The first key that the `index`th operation of a txn found.
pub(super) fn found(response: &TxnResponse, index: usize) -> Option<&KeyValue> {
    match response.responses.get(index)?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_go_writes_them() {
        let key = |lease| key_of(&Bytes::from_static(b"a/"), lease);
        assert_eq!(key(7_587_895_283_904_021_000), "a/694d9e8eedf60208");
        assert_eq!((key(10), key(-3)), ("a/a".into(), "a/-3".into()));
        assert_eq!(end_of(&Bytes::from_static(b"a/")), "a0");
        assert_eq!(end_of(&Bytes::from_static(b"a\xff")), "b");
        assert_eq!(end_of(&Bytes::from_static(b"\xff\xff")), "\0");
    }
}
