//! While authentication is on nobody is let in: whatever the method, and whoever came before.

use api::etcdserverpb::{self as pb, WatchCreateRequest, WatchResponse};

use super::super::calls::AUTH_NOT_ENFORCED;
use super::*;

/// CVE-2023-32082, CVE-2026-33413: not a single method is left out.
#[test]
fn nobody_is_let_in_while_authentication_is_on() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.shared.pulse.set_auth(true);
    for (token, &method) in (1..).zip(Method::ALL) {
        let context = Context::default();
        if method.shape() != Shape::Unary {
            let refused = rig.front.stream_open(Token(token), method, context, rig.now);
            assert_eq!(refused, Err(AUTH_NOT_ENFORCED), "{method:?}");
            continue;
        }
        let outcome = rig
            .front
            .call(Token(token), method, Bytes::new(), context, rig.now);
        assert_eq!(outcome, Outcome::Done(Err(AUTH_NOT_ENFORCED)), "{method:?}");
    }
    rig.shared.pulse.set_auth(false);
    assert!(matches!(
        rig.call(1000, Method::MemberList, &pb::MemberListRequest::default()),
        Outcome::Done(Ok(_))
    ));
}

#[test]
fn who_came_before_authentication_was_enabled_has_to_go() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(
        1,
        WatchCreateRequest {
            key: "a".into(),
            ..WatchCreateRequest::default()
        },
    );
    rig.open(2, Method::LeaseKeepAlive);
    // A read that waits for an index at which authentication is on already.
    rig.shared.pulse.set_read_gate(false);
    let range = pb::RangeRequest {
        key: "a".into(),
        ..pb::RangeRequest::default()
    };
    assert_eq!(rig.call(3, Method::Range, &range), Outcome::Pending);
    let index = rig.index + 1;
    for ask in rig.decided() {
        let AskDecide::ReadIndex { id } = ask else {
            panic!("{ask:?}");
        };
        rig.front.handle(Tell::ReadIndex { id, index }, rig.now);
    }
    rig.shared.pulse.set_auth(true);
    rig.put("a", "secret");
    assert_eq!(rig.reply(3), Some(Err(AUTH_NOT_ENFORCED)));
    let (seen, end) = rig.receive::<WatchResponse>(1);
    assert!(seen.iter().all(|response| response.events.is_empty()), "{seen:?}");
    assert_eq!(end, Some(Err(AUTH_NOT_ENFORCED)));
    let (_, end) = rig.receive::<pb::LeaseKeepAliveResponse>(2);
    assert_eq!(end, Some(Err(AUTH_NOT_ENFORCED)));
}

/// The stages' answer to what was asked before.
fn answer(ask: &AskApply, file: &bbolt::Snapshot) -> Tell {
    match *ask {
        AskApply::TimeToLive { id, .. } => Tell::Lease {
            id,
            result: Ok(Some(LeaseInfo {
                keys: vec!["secret".into()],
                ..LeaseInfo::default()
            })),
        },
        AskApply::Leases { id } => Tell::Leases { id, leases: vec![7] },
        AskApply::Renew { id, .. } => Tell::Renewed {
            id,
            result: Ok(Some(10)),
        },
        AskApply::Pin { id } => Tell::Pinned {
            id,
            result: Ok(file.clone()),
        },
        ref ask => panic!("{ask:?}"),
    }
}

/// What the stages and the pool tell may be of after authentication was enabled, by whatever way it comes.
#[test]
fn answers_that_come_after_authentication_was_enabled_are_for_members_alone() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let file = rig.views.load().db.clone();
    rig.hold_jobs = true;
    rig.call(1, Method::Hash, &pb::HashRequest {});
    for ask in rig.asked_apply() {
        rig.front.handle(answer(&ask, &file), rig.now);
    }
    rig.call(2, Method::HashKv, &pb::HashKvRequest::default());
    rig.call(3, Method::Hash, &pb::HashRequest {});
    rig.call(4, Method::LeaseLeases, &pb::LeaseLeasesRequest {});
    let lease = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    rig.call(5, Method::LeaseTimeToLive, &lease);
    let put = pb::PutRequest {
        key: "b".into(),
        ..pb::PutRequest::default()
    };
    rig.call(6, Method::Put, &put);
    let [AskDecide::Propose { id: proposed, .. }] = rig.decided()[..] else {
        panic!();
    };

    rig.shared.pulse.set_auth(true);
    let calls = [
        PeerCall::TimeToLive { lease: 7, keys: true },
        PeerCall::HashKv { revision: 0 },
        PeerCall::Renew { lease: 7 },
    ];
    let context = Context::default();
    for (token, call) in (11..).map(Token).zip(calls) {
        let outcome = rig.front.peer_call(token, call, &context, rig.now);
        assert_eq!(outcome, Outcome::Pending, "{call:?}");
    }
    rig.shared.pulse.set_read_gate(false);
    let call = PeerCall::DowngradeEnabled;
    let outcome = rig.front.peer_call(Token(14), call, &context, rig.now);
    assert_eq!(outcome, Outcome::Pending);
    rig.drain();
    let [AskDecide::ReadIndex { id }] = rig.decided()[..] else {
        panic!();
    };
    let index = rig.index;
    rig.front.handle(Tell::ReadIndex { id, index }, rig.now);
    for ask in rig.asked_apply() {
        rig.front.handle(answer(&ask, &file), rig.now);
    }
    // What was decided about a write is said: it was judged where all members judge it.
    let result = Ok(Bytes::new());
    rig.front.handle(Tell::Done { id: proposed, result }, rig.now);
    rig.hold_jobs = false;
    rig.drain();
    for token in 1..=5 {
        assert_eq!(rig.reply(token), Some(Err(AUTH_NOT_ENFORCED)), "{token}");
    }
    for token in [6, 11, 12, 13, 14] {
        let reply = rig.reply(token);
        assert!(matches!(reply, Some(Ok(_))), "{token}: {reply:?}");
    }
}

/// Between the look at whether authentication is on and the look at the store it may have been enabled.
#[test]
fn a_view_says_itself_whether_everybody_may_see_it() {
    let mut rig = Rig::new();
    rig.store.set_extra(Arc::new(state::Shared {
        auth_enabled: true,
        ..state::Shared::default()
    }));
    rig.put("a", "secret");
    for serializable in [true, false] {
        let range = pb::RangeRequest {
            key: "a".into(),
            serializable,
            ..pb::RangeRequest::default()
        };
        let found = rig.call(1, Method::Range, &range);
        assert_eq!(found, Outcome::Done(Err(AUTH_NOT_ENFORCED)));
        let txn = pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestRange(range)),
            }],
            ..pb::TxnRequest::default()
        };
        let found = rig.call(2, Method::Txn, &txn);
        assert_eq!(found, Outcome::Done(Err(AUTH_NOT_ENFORCED)));
    }
    let (call, context) = (PeerCall::DowngradeEnabled, Context::default());
    let outcome = rig.front.peer_call(Token(3), call, &context, rig.now);
    assert_eq!(outcome, Outcome::Done(Ok(Bytes::from_static(b"false"))));
}

/// A front that needs no views is not told when authentication is enabled.
#[test]
fn what_is_queued_for_a_stream_is_not_given_to_nobody() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(
        1,
        WatchCreateRequest {
            key: "a".into(),
            ..WatchCreateRequest::default()
        },
    );
    rig.put("a", "secret");
    rig.open(2, Method::RangeStream);
    let range = pb::RangeRequest {
        key: "a".into(),
        ..pb::RangeRequest::default()
    };
    rig.send(2, &range);
    rig.open(3, Method::LeaseKeepAlive);
    rig.send(3, &pb::LeaseKeepAliveRequest { id: 7 });
    let file = rig.views.load().db.clone();
    for ask in rig.asked_apply() {
        rig.front.handle(answer(&ask, &file), rig.now);
    }
    rig.settle();
    rig.shared.pulse.set_auth(true);
    for token in (1..=3).map(Token) {
        let poll = rig.front.stream_poll(token, 1000, rig.now);
        assert_eq!(poll.frames, [], "{token:?}");
        assert_eq!(poll.end, Some(Err(AUTH_NOT_ENFORCED)), "{token:?}");
        let poll = rig.front.stream_poll(token, 1000, rig.now);
        assert_eq!(poll, StreamPoll::default(), "{token:?}");
    }
}

/// A snapshot that has begun is of before authentication was enabled, and goes on; none begins after it.
#[test]
fn no_snapshot_begins_when_authentication_is_on() {
    let mut rig = Rig::new();
    for i in 0..300 {
        rig.put(&format!("k{i}"), &"v".repeat(5000));
    }
    rig.commit();
    let file = rig.views.load().db.clone();
    rig.open(1, Method::Watch);
    rig.watch(1, WatchCreateRequest::default());
    for token in 2..=4 {
        rig.open(token, Method::Snapshot);
    }
    rig.send(2, &pb::SnapshotRequest {});
    for ask in rig.asked_apply() {
        rig.front.handle(answer(&ask, &file), rig.now);
    }
    rig.send(3, &pb::SnapshotRequest {});
    rig.shared.pulse.set_auth(true);
    rig.put("a", "secret");
    for ask in rig.asked_apply() {
        rig.front.handle(answer(&ask, &file), rig.now);
    }
    rig.send(4, &pb::SnapshotRequest {});
    assert_eq!(rig.asked_apply(), []);
    let (messages, end) = rig.receive::<pb::SnapshotResponse>(2);
    assert_eq!(end, Some(Ok(())));
    assert!(messages.len() > 2);
    for token in 3..=4 {
        let (messages, end) = rig.receive::<pb::SnapshotResponse>(token);
        assert_eq!(messages, [], "{token}");
        assert_eq!(end, Some(Err(AUTH_NOT_ENFORCED)), "{token}");
    }
}
