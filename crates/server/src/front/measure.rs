//! How long requests take from their coming to their answer, counted by the thread that serves them.

use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use bytes::Bytes;
use member::frontend::{Ending, Method, StreamPoll};
use prost::Message;
use state::OpKind;

use super::{Asked, Front};
use crate::log::request;
use crate::metrics::{RequestKind, span};

impl Front {
    /// A call was answered without waiting: it read, or it was refused at the door.
    pub(super) fn answered_at_once(&self, asked: &Asked, result: &Result<Bytes, Status>) {
        // etcd measures behind the checks of a request's form.
        let refused_by_store = |status: &Status| *status == error::COMPACTED || *status == error::FUTURE_REV;
        let reads = matches!(asked.method, Method::Range | Method::Txn);
        if reads && result.as_ref().err().is_none_or(refused_by_store) {
            let took = self.now() - asked.at;
            self.read(asked, result, took, took);
        }
    }

    /// A call that waited is answered now; this round of the thread began at `round`.
    pub(super) fn answered(
        &self,
        asked: &Asked,
        result: &Result<Bytes, Status>,
        ending: Ending,
        round: Instant,
        now: Instant,
    ) {
        let took = now - asked.at;
        match (ending, asked.method) {
            (Ending::Read, Method::Range | Method::Txn) => self.read(asked, result, took, now - round),
            (Ending::Other, Method::Hash) => self.metrics().hashes.observe_alone(took),
            (Ending::Other, Method::HashKv) => self.metrics().hashes_of_revisions.observe_alone(took),
            (Ending::Applied | Ending::Unanswered, method) => {
                if let Some(kind) = RequestKind::of(method) {
                    self.metrics().request(kind, ending == Ending::Applied, took);
                }
            }
            _ => {}
        }
    }

    /// A read took so long, with its wait, and of that so long to read.
    fn read(&self, asked: &Asked, result: &Result<Bytes, Status>, took: Duration, reading: Duration) {
        let metrics = self.metrics();
        let kind = match asked.method {
            Method::Txn => RequestKind::ReadonlyTxn,
            _ => RequestKind::Op(OpKind::Range),
        };
        metrics.request(kind, result.is_ok(), took);
        metrics.ranges[usize::from(result.is_ok())].observe_alone(reading);
        if took > self.common.config.warning_apply_duration {
            metrics.slow_reads.add(1);
            self.warn_of_slow_read(asked, result, took);
        }
    }

    /// etcd: txn/util.go WarnOfExpensiveReadOnlyRangeRequest, WarnOfExpensiveReadOnlyTxnRequest.
    fn warn_of_slow_read(&self, asked: &Asked, result: &Result<Bytes, Status>, took: Duration) {
        let (prefix, text) = match asked.method {
            Method::Txn => (
                "read-only txn ",
                pb::TxnRequest::decode(asked.message.clone()).map(|txn| request::txn(&txn)),
            ),
            _ => (
                "read-only range ",
                pb::RangeRequest::decode(asked.message.clone()).map(|range| request::range(&range)),
            ),
        };
        let response = result
            .as_ref()
            .map(|answer| response_text(asked.method, answer))
            .unwrap_or_default();
        let line = self
            .common
            .log
            .warn("apply request took too long")
            .show("took", span(took))
            .show(
                "expected-duration",
                span(self.common.config.warning_apply_duration),
            )
            .text("prefix", prefix)
            .text("request", text.unwrap_or_default())
            .text("response", response);
        match result {
            Ok(_) => line.emit(),
            Err(status) => line.error(&status.message).emit(),
        }
    }

    /// A stream was asked for what it has, from `start` on.
    pub(super) fn stream_polled(&self, polled: &StreamPoll, start: Instant) {
        let given = polled.given;
        if given.events + given.controls + given.progress == 0 {
            return;
        }
        let took = self.now() - start;
        let metrics = self.metrics();
        if given.events > 0 {
            metrics.watch_events.observe_alone(took);
            metrics.watch_per_event.observe_alone(took / given.events);
        } else if given.controls > 0 {
            metrics.watch_control.observe_alone(took);
        } else {
            metrics.watch_progress.observe_alone(took);
        }
    }
}

fn response_text(method: Method, answer: &Bytes) -> String {
    let size = answer.len();
    if method != Method::Txn {
        let count = pb::RangeResponse::decode(answer.clone()).map_or(0, |answer| answer.kvs.len());
        return format!("range_response_count:{count} size:{size}");
    }
    let answer = pb::TxnResponse::decode(answer.clone()).unwrap_or_default();
    let counts: Vec<String> = answer
        .responses
        .iter()
        .filter_map(|op| match &op.response {
            Some(Response::ResponseRange(range)) => Some(format!("range_response_count:{}", range.kvs.len())),
            _ => None,
        })
        .collect();
    format!("responses:<{}> size:{size}", counts.join(" "))
}
