//! What one front thread counts of the calls of its clients. The thread itself is the only one to
//! count; any thread may read.

use std::time::Duration;

use api::error::{Code, Status};
use bytes::Bytes;
use member::frontend::{Method, Shape};
use member::tally::Tally;
use state::OpKind;

use super::histogram::{APPLY, HANDLING, HASH, Histogram, SNAPSHOT, USUAL};
use crate::services::health::HealthMethod;
use crate::services::{Recipe, Route};

/// gRPC's status codes.
pub const CODES: usize = 17;
/// Versions that clients say they have, counted apart; the rest counts as others.
pub const VERSIONS_MAX: usize = 32;

/// The routes that have a series from the start: the member's methods and the health service's.
pub const ROUTES_SHOWN: usize = Method::ALL.len() + HealthMethod::ALL.len();
/// All routes: etcd shows calls of the lock and election services once there were any.
pub const ROUTES: usize = ROUTES_SHOWN + Recipe::ALL.len();

/// The number of a route.
pub fn number_of(route: Route) -> usize {
    match route {
        Route::Member(method) => method as usize,
        Route::Health(method) => Method::ALL.len() + method as usize,
        Route::Recipe(recipe) => ROUTES_SHOWN + recipe as usize,
    }
}

/// The route of a number.
pub fn route_of(number: usize) -> Route {
    match (
        number.checked_sub(Method::ALL.len()),
        number.checked_sub(ROUTES_SHOWN),
    ) {
        (_, Some(recipe)) => Route::Recipe(Recipe::ALL[recipe]),
        (Some(health), None) => Route::Health(HealthMethod::ALL[health]),
        (None, None) => Route::Member(Method::ALL[number]),
    }
}

/// The labels of a route.
pub fn labels(route: Route) -> String {
    let (service, name) = route.names();
    let kind = match route.shape() {
        Shape::Unary => "unary",
        Shape::ServerStream => "server_stream",
        Shape::Duplex => "bidi_stream",
    };
    format!("grpc_method=\"{name}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
}

/// A kind of request of `etcd_server_request_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// What goes, or would go, through the log.
    Op(OpKind),
    /// A transaction that only reads.
    ReadonlyTxn,
}

/// How many kinds of requests there are.
pub const REQUESTS: usize = OpKind::ALL.len() + 1;

impl RequestKind {
    /// The number of a kind.
    pub fn number(self) -> usize {
        match self {
            RequestKind::Op(op) => op as usize,
            RequestKind::ReadonlyTxn => OpKind::ALL.len(),
        }
    }

    /// The label of a number (etcd: v3_server.go getRequestType).
    pub fn label(number: usize) -> &'static str {
        match OpKind::ALL.get(number) {
            None => "ReadonlyTxn",
            Some(OpKind::AuthStatus) => "AuthStatus",
            Some(op) => op.label(),
        }
    }

    /// What a method asks for; `None` for those that etcd does not measure.
    pub fn of(method: Method) -> Option<RequestKind> {
        let op = match method {
            Method::Range => OpKind::Range,
            Method::Put => OpKind::Put,
            Method::DeleteRange => OpKind::DeleteRange,
            Method::Txn => OpKind::Txn,
            Method::Compact => OpKind::Compaction,
            Method::LeaseGrant => OpKind::LeaseGrant,
            Method::LeaseRevoke => OpKind::LeaseRevoke,
            Method::Alarm => OpKind::Alarm,
            Method::Downgrade => OpKind::DowngradeInfoSet,
            Method::AuthEnable => OpKind::AuthEnable,
            Method::AuthDisable => OpKind::AuthDisable,
            Method::AuthStatus => OpKind::AuthStatus,
            Method::Authenticate => OpKind::Authenticate,
            Method::UserAdd => OpKind::AuthUserAdd,
            Method::UserGet => OpKind::AuthUserGet,
            Method::UserList => OpKind::AuthUserList,
            Method::UserDelete => OpKind::AuthUserDelete,
            Method::UserChangePassword => OpKind::AuthUserChangePassword,
            Method::UserGrantRole => OpKind::AuthUserGrantRole,
            Method::UserRevokeRole => OpKind::AuthUserRevokeRole,
            Method::RoleAdd => OpKind::AuthRoleAdd,
            Method::RoleGet => OpKind::AuthRoleGet,
            Method::RoleList => OpKind::AuthRoleList,
            Method::RoleDelete => OpKind::AuthRoleDelete,
            Method::RoleGrantPermission => OpKind::AuthRoleGrantPermission,
            Method::RoleRevokePermission => OpKind::AuthRoleRevokePermission,
            _ => return None,
        };
        Some(RequestKind::Op(op))
    }
}

/// Why learners are not promoted: what the client is told, and etcd's reason in
/// `etcd_server_learner_promote_failures` (server/etcdserver/errors, membership/errors.go). The last
/// stands for all others.
pub const NOT_PROMOTED: [(&str, &str); 9] = [
    ("etcdserver: member not found", "membership: ID not found"),
    (
        "etcdserver: can only promote a learner member",
        "membership: can only promote a learner member",
    ),
    (
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: can only promote a learner member which is in sync with leader",
    ),
    (
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: re-configuration failed due to not enough started members",
    ),
    ("etcdserver: unhealthy cluster", "etcdserver: unhealthy cluster"),
    ("etcdserver: request timed out", "etcdserver: request timed out"),
    ("etcdserver: server stopped", "etcdserver: server stopped"),
    ("context deadline exceeded", "context deadline exceeded"),
    ("", "other"),
];

/// The calls of one method.
#[derive(Debug, Default)]
pub struct MethodCalls {
    /// Calls begun.
    pub started: Tally,
    /// Messages of clients.
    pub received: Tally,
    /// Messages to clients.
    pub sent: Tally,
    /// Calls ended, by code.
    pub handled: [Tally; CODES],
    /// How long they took, with `--metrics=extensive`.
    pub handling: Option<Histogram>,
}

/// What one front thread counts.
#[derive(Debug)]
pub struct FrontMetrics {
    /// By the number of the route.
    pub calls: Vec<MethodCalls>,
    /// Bytes of messages of clients.
    pub received_bytes: Tally,
    /// Bytes of messages to clients.
    pub sent_bytes: Tally,
    /// Calls by the version that the client says it has: unary ones and streams.
    pub by_version: Vec<[Tally; 2]>,
    /// Learners not promoted, in the order of `NOT_PROMOTED`.
    pub not_promoted: [Tally; NOT_PROMOTED.len()],
    /// How long requests took, by the number of the kind, failed and answered.
    pub requests: Vec<[Histogram; 2]>,
    /// How long ranges took to read, failed and answered.
    pub ranges: [Histogram; 2],
    /// Reads that took longer than `--warning-apply-duration`.
    pub slow_reads: Tally,
    /// Streams of the data file to clients.
    pub snapshots: Histogram,
    /// Hashes of the data file.
    pub hashes: Histogram,
    /// Hashes of the keys up to a revision.
    pub hashes_of_revisions: Histogram,
    /// Batches of events made ready for a client.
    pub watch_events: Histogram,
    /// The same, by event.
    pub watch_per_event: Histogram,
    /// Other answers of watch streams made ready.
    pub watch_control: Histogram,
    /// Progress notifications made.
    pub watch_progress: Histogram,
}

impl FrontMetrics {
    /// Nothing counted yet.
    pub fn new(extensive: bool) -> FrontMetrics {
        FrontMetrics {
            calls: (0..ROUTES)
                .map(|_| MethodCalls {
                    handling: extensive.then(|| Histogram::new(HANDLING)),
                    ..MethodCalls::default()
                })
                .collect(),
            received_bytes: Tally::default(),
            sent_bytes: Tally::default(),
            by_version: (0..=VERSIONS_MAX).map(|_| <[Tally; 2]>::default()).collect(),
            not_promoted: Default::default(),
            requests: (0..REQUESTS)
                .map(|_| [Histogram::new(USUAL), Histogram::new(USUAL)])
                .collect(),
            ranges: [Histogram::new(APPLY), Histogram::new(APPLY)],
            slow_reads: Tally::default(),
            snapshots: Histogram::new(SNAPSHOT),
            hashes: Histogram::new(HASH),
            hashes_of_revisions: Histogram::new(HASH),
            watch_events: Histogram::new(USUAL),
            watch_per_event: Histogram::new(USUAL),
            watch_control: Histogram::new(USUAL),
            watch_progress: Histogram::new(USUAL),
        }
    }

    fn of(&self, route: Route) -> &MethodCalls {
        &self.calls[number_of(route)]
    }

    /// A call has begun.
    pub fn started(&self, route: Route) {
        self.of(route).started.add(1);
    }

    /// A message of a client has come.
    pub fn received(&self, route: Route, bytes: usize) {
        self.of(route).received.add(1);
        self.received_bytes.add(bytes as u64);
    }

    /// A message to a client is on its way.
    pub fn sent(&self, route: Route, bytes: usize) {
        self.of(route).sent.add(1);
        self.sent_bytes.add(bytes as u64);
    }

    /// A unary call has its answer. One that failed counts as a message without bytes, once its request
    /// was `read`: the library that counts for etcd says so of whatever a handler gave back
    /// (go-grpc-middleware: interceptors/server.go).
    pub fn answered(&self, route: Route, result: &Result<Bytes, Status>, read: bool) {
        match result {
            Ok(answer) => self.sent(route, answer.len()),
            Err(_) if read => self.of(route).sent.add(1),
            Err(_) => {}
        }
        if let (Route::Member(Method::MemberPromote), Err(status)) = (route, result) {
            let known = NOT_PROMOTED.iter().position(|(text, _)| *text == status.message);
            self.not_promoted[known.unwrap_or(NOT_PROMOTED.len() - 1)].add(1);
        }
    }

    /// A call has ended.
    pub fn handled(&self, route: Route, code: Code) {
        self.of(route).handled[usize::from(code.number()).min(CODES - 1)].add(1);
    }

    /// Whether the times of calls are wanted.
    pub fn is_extensive(&self) -> bool {
        self.calls.first().is_some_and(|calls| calls.handling.is_some())
    }

    /// How long a call took.
    pub fn took(&self, route: Route, span: Duration) {
        if let Some(handling) = &self.of(route).handling {
            handling.observe_alone(span);
        }
    }

    /// How long a request took, and whether it was answered.
    pub fn request(&self, kind: RequestKind, answered: bool, span: Duration) {
        self.requests[kind.number()][usize::from(answered)].observe_alone(span);
    }

    /// A call of a client whose version has this number.
    pub fn by_version(&self, version: usize, shape: Shape) {
        let is_stream = usize::from(shape != Shape::Unary);
        self.by_version[version.min(VERSIONS_MAX)][is_stream].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_numbers_and_labels() {
        for number in 0..ROUTES {
            assert_eq!(number_of(route_of(number)), number);
        }
        assert_eq!(
            labels(Route::Member(Method::Watch)),
            "grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\""
        );
        assert_eq!(
            labels(route_of(ROUTES_SHOWN - 1)),
            "grpc_method=\"Watch\",grpc_service=\"grpc.health.v1.Health\",grpc_type=\"server_stream\""
        );
    }

    #[test]
    fn answers_are_counted_as_messages_even_where_they_are_refusals() {
        let metrics = FrontMetrics::new(false);
        let promote = Route::Member(Method::MemberPromote);
        let refused = |text| Err(Status::new(Code::NotFound, text));
        metrics.answered(promote, &Ok(Bytes::from_static(b"abc")), true);
        metrics.answered(promote, &refused("etcdserver: member not found"), true);
        metrics.answered(promote, &refused("something else"), true);
        metrics.answered(promote, &refused("EOF"), false);
        assert_eq!(metrics.of(promote).sent.get(), 3);
        assert_eq!(metrics.sent_bytes.get(), 3);
        let counts: Vec<u64> = metrics.not_promoted.iter().map(Tally::get).collect();
        assert_eq!(counts, [1, 0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn every_unary_write_is_a_kind_of_request() {
        let kind = |method| RequestKind::of(method).map(|kind| RequestKind::label(kind.number()));
        assert_eq!(kind(Method::Put), Some("Put"));
        assert_eq!(kind(Method::AuthStatus), Some("AuthStatus"));
        assert_eq!(kind(Method::Status), None);
        assert_eq!(
            RequestKind::label(RequestKind::ReadonlyTxn.number()),
            "ReadonlyTxn"
        );
    }
}
