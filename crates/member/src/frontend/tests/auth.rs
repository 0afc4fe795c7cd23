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
