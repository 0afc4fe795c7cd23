//! Calls: how they wait, what they are answered, when they are given up.

use api::error;
use api::etcdserverpb as pb;

use super::*;

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        ..pb::RangeRequest::default()
    }
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..pb::RangeRequest::default()
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..pb::PutRequest::default()
    }
}

fn decode<M: Message + Default>(outcome: Outcome) -> M {
    match outcome {
        Outcome::Done(Ok(message)) => M::decode(message).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn proposals(rig: &mut Rig) -> Vec<(u64, pb::InternalRaftRequest)> {
    rig.decided()
        .into_iter()
        .map(|ask| match ask {
            AskDecide::Propose { id, data } => (id, pb::InternalRaftRequest::decode(data).unwrap()),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn questions(rig: &mut Rig) -> Vec<u64> {
    rig.decided()
        .into_iter()
        .map(|ask| match ask {
            AskDecide::ReadIndex { id } => id,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_put_is_proposed_and_answered_when_applied() {
    let mut rig = Rig::new();
    let request = put("k", "v");
    assert_eq!(rig.call(1, Method::Put, &request), Outcome::Pending);
    let (id, proposed) = proposals(&mut rig).remove(0);
    assert_eq!(proposed.put, Some(request));
    assert_eq!(proposed.header.unwrap().id, id);
    assert_eq!(RequestIds::slot_of(id, 2), 0);
    assert_eq!(rig.reply(1), None);
    let answer = Bytes::from_static(b"answer");
    rig.front.handle(
        Tell::Done {
            id,
            result: Ok(answer.clone()),
        },
        rig.now,
    );
    rig.drain();
    assert_eq!(rig.reply(1), Some(Ok(answer)));
    assert_eq!(rig.front.next_tick(), None, "no deadline is left behind");
}

/// Members of other versions read a oneof that is given twice in other ways, and cannot read what is no message at all.
#[test]
fn the_log_gets_what_was_understood_and_not_what_was_sent() {
    let mut rig = Rig::new();
    // success { put { key: "k" } put { value: "v" } }, and a field that nobody knows.
    let sent = b"\x12\x0a\x12\x03\x0a\x01k\x12\x03\x12\x01v\xa0\x06\x01";
    let outcome = rig.call_raw(1, Method::Txn, Bytes::from_static(sent), Context::default());
    assert_eq!(outcome, Outcome::Pending);
    let AskDecide::Propose { data, .. } = rig.decided().remove(0) else {
        panic!("not proposed");
    };
    let understood = b"\x32\x0a\x12\x08\x12\x06\x0a\x01k\x12\x01v";
    assert!(data.starts_with(understood), "{data:02x?}");
    assert_eq!(
        data[understood.len()..][..2],
        [0xa2, 0x06],
        "the header alone follows"
    );

    for (token, method) in [Method::AuthStatus, Method::Put, Method::Txn, Method::Alarm]
        .into_iter()
        .enumerate()
    {
        let garbage = Bytes::from_static(b"\x0a\xff");
        let outcome = rig.call_raw(2 + token as u64, method, garbage, Context::default());
        let Outcome::Done(Err(refusal)) = outcome else {
            panic!("{method:?}: {outcome:?}");
        };
        assert_eq!(refusal.code, error::Code::Internal, "{method:?}");
    }
    assert!(proposals(&mut rig).is_empty());
}

#[test]
fn calls_are_given_up_when_their_time_is_over() {
    let second = Duration::from_secs(1);
    let mut rig = Rig::new();
    let context = Context {
        deadline: Some(rig.now + second),
        ..Context::default()
    };
    rig.call(1, Method::Put, &put("k", "v"));
    rig.call_with(2, Method::Put, &put("k", "v"), context);
    rig.shared.pulse.set_read_gate(false);
    rig.call(3, Method::Range, &get("k"));
    rig.call_with(4, Method::Range, &get("k"), context);
    rig.pass(second);
    assert_eq!(rig.reply(2), Some(Err(error::TIMEOUT)));
    let gone = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
    assert_eq!(rig.reply(4), Some(Err(gone)));
    rig.pass(5 * second);
    assert_eq!((rig.reply(1), rig.reply(3)), (None, None));
    rig.pass(second);
    assert_eq!(rig.reply(1), Some(Err(error::TIMEOUT)));
    assert_eq!(rig.reply(3), Some(Err(error::TIMEOUT)));
}

/// The member's patience is for consensus, the client's for the compaction itself.
#[test]
fn a_physical_compaction_takes_what_it_takes_once_it_is_applied() {
    let second = Duration::from_secs(1);
    let mut rig = Rig::new();
    let request = pb::CompactionRequest {
        revision: 1,
        physical: true,
    };
    let context = Context {
        deadline: Some(rig.now + 60 * second),
        ..Context::default()
    };
    rig.call(1, Method::Compact, &request);
    rig.call(2, Method::Compact, &request);
    rig.call_with(3, Method::Compact, &request, context);
    rig.call_with(4, Method::Compact, &request, context);
    let ids: Vec<u64> = proposals(&mut rig).into_iter().map(|(id, _)| id).collect();
    let pending = |rig: &Rig| rig.shared.front_tallies[0].proposals_pending.get();
    assert_eq!(pending(&rig), 4);
    for at in [1, 2] {
        rig.front.handle(Tell::Compacting { id: ids[at] }, rig.now);
    }
    assert_eq!(pending(&rig), 2);
    rig.pass(7 * second);
    for lost in [1, 4] {
        assert_eq!(rig.reply(lost), Some(Err(error::TIMEOUT)));
    }
    rig.pass(60 * second);
    let gone = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
    assert_eq!(rig.reply(3), Some(Err(gone)));
    rig.pass(3600 * second);
    assert_eq!(rig.reply(2), None);
    let result = Ok(Bytes::new());
    rig.front.handle(Tell::Done { id: ids[1], result }, rig.now);
    rig.drain();
    let ended = rig.outputs.pop();
    assert!(
        matches!(
            &ended,
            Some(Output::Reply {
                token: Token(2),
                result: Ok(_),
                ending: Ending::Applied
            })
        ),
        "{ended:?}"
    );
    assert_eq!(pending(&rig), 0);
}

#[test]
fn a_timeout_names_the_leader_that_was_lost() {
    let mut rig = Rig::new();
    rig.call(1, Method::Put, &put("k", "v"));
    rig.pass(Duration::from_millis(1500));
    rig.front.handle(Tell::LeaderChanged, rig.now);
    rig.pass(Duration::from_secs(7));
    assert_eq!(rig.reply(1), Some(Err(error::TIMEOUT_DUE_TO_LEADER_FAIL)));
}

#[test]
fn a_cancelled_call_is_not_answered() {
    let mut rig = Rig::new();
    rig.call(1, Method::Put, &put("k", "v"));
    let (id, _) = proposals(&mut rig).remove(0);
    rig.front.cancel(Token(1));
    let result = Ok(Bytes::new());
    rig.front.handle(Tell::Done { id, result }, rig.now);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.reply(1), None);
}

#[test]
fn a_lone_voter_reads_what_is_committed_without_asking() {
    let mut rig = Rig::new();
    rig.put("k", "1");
    let response: pb::RangeResponse = decode(rig.call(1, Method::Range, &get("k")));
    assert_eq!(response.kvs[0].value, "1");
    assert_eq!((response.count, response.header.unwrap().revision), (1, 2));
    // Committed and not applied yet: the read waits for it, and sees it.
    rig.apply_unpublished(|txn| {
        txn.put(b"k", b"2", 0);
    });
    assert_eq!(rig.call(2, Method::Range, &get("k")), Outcome::Pending);
    assert_eq!(rig.reply(2), None);
    assert!(rig.shared.wants_views(0));
    let mut serializable = get("k");
    serializable.serializable = true;
    let now: pb::RangeResponse = decode(rig.call(3, Method::Range, &serializable));
    assert_eq!(now.kvs[0].value, "1");
    rig.publish();
    let response = pb::RangeResponse::decode(rig.reply(2).unwrap().unwrap()).unwrap();
    assert_eq!(response.kvs[0].value, "2");
    assert!(!rig.shared.wants_views(0), "nobody waits for views any more");
    assert!(questions(&mut rig).is_empty());
}

#[test]
fn reads_that_gather_share_one_question() {
    let mut rig = Rig::new();
    rig.put("k", "1");
    rig.shared.pulse.set_read_gate(false);
    rig.call(1, Method::Range, &get("k"));
    let first = questions(&mut rig);
    assert_eq!(first.len(), 1);
    for token in 2..10 {
        rig.call(token, Method::Range, &get("k"));
    }
    assert!(questions(&mut rig).is_empty(), "one question at a time");
    rig.front.handle(
        Tell::ReadIndex {
            id: first[0],
            index: rig.index,
        },
        rig.now,
    );
    rig.drain();
    assert!(rig.reply(1).is_some());
    assert_eq!(
        rig.reply(2),
        None,
        "an answer does not serve reads that came after its question"
    );
    let second = questions(&mut rig);
    // A late answer to the first question is not one to the second.
    rig.front.handle(
        Tell::ReadIndex {
            id: first[0],
            index: rig.index,
        },
        rig.now,
    );
    rig.drain();
    assert_eq!(rig.reply(2), None);
    rig.front.handle(
        Tell::ReadIndex {
            id: second[0],
            index: rig.index,
        },
        rig.now,
    );
    rig.drain();
    for token in 2..10 {
        assert!(rig.reply(token).is_some(), "{token}");
    }
}

/// etcd issue 20418: an answer to the first attempt is none to the second.
#[test]
fn an_unanswered_question_is_asked_again_under_a_new_id() {
    let mut rig = Rig::new();
    rig.shared.pulse.set_read_gate(false);
    rig.call(1, Method::Range, &get("k"));
    rig.pass(Duration::from_millis(1100));
    let ids = questions(&mut rig);
    assert_eq!(ids.len(), 3);
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    rig.front
        .handle(Tell::ReadIndex { id: ids[0], index: 0 }, rig.now);
    rig.drain();
    assert!(rig.reply(1).is_some(), "any of them came after the read");
    // When this member comes to be alone, it need not ask.
    rig.call(2, Method::Range, &get("k"));
    rig.shared.pulse.set_read_gate(true);
    rig.front.handle(Tell::FirstCommitInTerm, rig.now);
    rig.drain();
    assert!(rig.reply(2).is_some());
}

#[test]
fn cold_pages_move_a_read_to_the_pool() {
    let mut rig = Rig::new();
    for i in 0..100 {
        rig.put(&format!("k{i:03}"), "v");
    }
    rig.commit();
    rig.disk.set_cold(true);
    rig.hold_jobs = true;
    assert_eq!(rig.call(1, Method::Range, &all()), Outcome::Pending);
    assert_eq!(rig.jobs.len(), 1);
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(all())),
        }],
        ..pb::TxnRequest::default()
    };
    assert_eq!(rig.call(2, Method::Txn, &txn), Outcome::Pending);
    rig.hold_jobs = false;
    rig.drain();
    let range = pb::RangeResponse::decode(rig.reply(1).unwrap().unwrap()).unwrap();
    assert_eq!((range.kvs.len(), range.count), (100, 100));
    let txn = pb::TxnResponse::decode(rig.reply(2).unwrap().unwrap()).unwrap();
    let Some(pb::response_op::Response::ResponseRange(inner)) = &txn.responses[0].response else {
        panic!("{txn:?}");
    };
    assert_eq!(inner.kvs, range.kvs);
    assert_eq!(rig.front.next_tick(), None);
}

#[test]
fn a_large_range_is_read_in_the_pool() {
    let mut rig = Rig::new();
    rig.apply(|txn| {
        for i in 0..10_001 {
            txn.put(format!("k{i}").as_bytes(), b"v", 0);
        }
    });
    assert_eq!(rig.call(1, Method::Range, &all()), Outcome::Pending);
    let range = pb::RangeResponse::decode(rig.reply(1).unwrap().unwrap()).unwrap();
    assert_eq!(range.kvs.len(), 10_001);
    let page = pb::RangeRequest { limit: 500, ..all() };
    let range: pb::RangeResponse = decode(rig.call(2, Method::Range, &page));
    assert_eq!((range.kvs.len(), range.more, range.count), (500, true, 10_001));
}

/// What a transaction looks at is added up: all its comparisons and the ranges of both branches.
#[test]
fn a_large_txn_is_read_in_the_pool() {
    let mut rig = Rig::new();
    rig.apply(|txn| {
        for i in 0..4000 {
            txn.put(format!("k{i}").as_bytes(), b"v", 0);
        }
    });
    let old = rig.index as i64 + 1;
    let read = |request: pb::RangeRequest| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(request)),
    };
    let compare = pb::Compare {
        key: vec![0].into(),
        range_end: vec![0].into(),
        result: pb::compare::CompareResult::Greater as i32,
        target: pb::compare::CompareTarget::Version as i32,
        ..pb::Compare::default()
    };
    let of =
        |compares: usize, success: Vec<pb::RangeRequest>, failure: Vec<pb::RangeRequest>| pb::TxnRequest {
            compare: vec![compare.clone(); compares],
            success: success.into_iter().map(read).collect(),
            failure: failure.into_iter().map(read).collect(),
        };
    let keys_only = pb::RangeRequest {
        keys_only: true,
        ..all()
    };
    let limited = pb::RangeRequest { limit: 50, ..all() };
    let counted = pb::RangeRequest {
        count_only: true,
        ..all()
    };
    let counted_before = pb::RangeRequest {
        revision: old,
        ..counted.clone()
    };
    let cases = [
        ("two ranges", of(0, vec![keys_only.clone(); 2], vec![]), false),
        ("three ranges", of(0, vec![keys_only.clone(); 3], vec![]), true),
        (
            "both branches",
            of(0, vec![keys_only.clone()], vec![keys_only.clone(); 2]),
            true,
        ),
        ("two compares", of(2, vec![get("k1")], vec![]), false),
        ("three compares", of(3, vec![get("k1")], vec![]), true),
        (
            "compares and ranges",
            of(2, vec![keys_only.clone()], vec![]),
            true,
        ),
        ("few of many", of(0, vec![limited.clone(); 128], vec![]), false),
        (
            "more of many",
            of(0, vec![limited.clone(); 128], vec![limited; 128]),
            true,
        ),
        ("counts", of(0, vec![counted; 128], vec![]), false),
        (
            "counts of now",
            of(0, vec![counted_before.clone(); 128], vec![]),
            false,
        ),
    ];
    let check = |rig: &mut Rig, what: &str, txn: &pb::TxnRequest, is_large: bool| {
        let outcome = rig.call(1, Method::Txn, txn);
        assert_eq!(outcome == Outcome::Pending, is_large, "{what}");
        let response: pb::TxnResponse = match outcome {
            Outcome::Pending => pb::TxnResponse::decode(rig.reply(1).unwrap().unwrap()).unwrap(),
            done => decode(done),
        };
        assert_eq!(response.responses.len(), txn.success.len(), "{what}");
    };
    for (what, txn, is_large) in &cases {
        check(&mut rig, what, txn, *is_large);
    }
    // What has changed since must be looked at key by key.
    rig.apply(|txn| {
        for i in 0..4000 {
            txn.put(format!("k{i}").as_bytes(), b"w", 0);
        }
    });
    let counts = of(0, vec![counted_before; 128], vec![]);
    check(&mut rig, "counts of the past", &counts, true);
}

#[test]
fn a_txn_that_only_reads_is_not_proposed() {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    rig.put("b", "5");
    let compare = |key: &str, end: &str, result: CompareResult, target: CompareTarget, operand| pb::Compare {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        result: result as i32,
        target: target as i32,
        target_union: Some(operand),
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let text = |value: &str| TargetUnion::Value(value.to_owned().into());
    let cases = [
        (compare("a", "", Equal, Value, text("2")), true),
        (compare("a", "", Less, Value, text("2")), false),
        (compare("a", "", Greater, Value, text("1")), true),
        (compare("a", "c", Greater, Value, text("1")), true),
        (compare("a", "c", Less, Value, text("3")), false),
        (compare("a", "\0", NotEqual, Value, text("3")), true),
        (compare("x", "", Equal, Value, text("")), false),
        (compare("x", "", NotEqual, Value, text("1")), false),
        (compare("x", "", Equal, Version, TargetUnion::Version(0)), true),
        (compare("x", "", Greater, Mod, TargetUnion::ModRevision(0)), false),
        (compare("a", "", Equal, Version, TargetUnion::Version(2)), true),
        (
            compare("a", "", Equal, Create, TargetUnion::CreateRevision(2)),
            true,
        ),
        (compare("a", "", Equal, Mod, TargetUnion::ModRevision(3)), true),
        (compare("a", "", Equal, Lease, TargetUnion::Lease(0)), true),
        (compare("a", "", Equal, Mod, TargetUnion::Version(3)), false),
    ];
    let read = |request: pb::RangeRequest| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(request)),
    };
    for (i, (compare, holds)) in cases.into_iter().enumerate() {
        let txn = pb::TxnRequest {
            compare: vec![compare.clone()],
            success: vec![read(get("a")), read(all())],
            failure: vec![read(get("b"))],
        };
        let response: pb::TxnResponse = decode(rig.call(i as u64, Method::Txn, &txn));
        assert_eq!(response.succeeded, holds, "{compare:?}");
        assert_eq!(response.responses.len(), if holds { 2 } else { 1 });
        assert_eq!(response.header.unwrap().revision, 4);
        let Some(pb::response_op::Response::ResponseRange(inner)) = &response.responses[0].response else {
            panic!();
        };
        let revision = inner.header.as_ref().unwrap();
        assert_eq!((revision.revision, revision.member_id), (4, 0));
    }
    assert!(rig.decided().is_empty());
}

#[test]
fn a_full_member_raises_the_alarm_each_time() {
    let mut config = config(Line::V3_7);
    config.quota_bytes = 1;
    let mut rig = Rig::with(config);
    rig.commit();
    let lease = pb::LeaseGrantRequest { ttl: 5, id: 0 };
    let bad_put = put("", "");
    for (token, outcome) in [
        (1, rig.call(1, Method::Put, &bad_put)),
        (2, rig.call(2, Method::LeaseGrant, &lease)),
    ] {
        assert_eq!(
            outcome,
            Outcome::Pending,
            "{token}: space comes before all other checks"
        );
    }
    for (token, (id, proposed)) in (1..).zip(proposals(&mut rig)) {
        let alarm = proposed.alarm.unwrap();
        assert_eq!((alarm.action, alarm.member_id, alarm.alarm), (1, MEMBER, 1));
        rig.front.handle(
            Tell::Done {
                id,
                result: Ok(Bytes::new()),
            },
            rig.now,
        );
        rig.drain();
        assert_eq!(rig.reply(token), Some(Err(error::NO_SPACE)));
    }
    rig.call(
        3,
        Method::DeleteRange,
        &pb::DeleteRangeRequest {
            key: "k".into(),
            ..Default::default()
        },
    );
    assert!(
        proposals(&mut rig)[0].1.delete_range.is_some(),
        "a delete needs no space"
    );
}

#[test]
fn proposals_stop_while_apply_lags() {
    let mut rig = Rig::new();
    rig.put("k", "v");
    rig.shared.pulse.set_committed(rig.index + 5_000);
    assert_eq!(rig.call(1, Method::Put, &put("k", "v")), Outcome::Pending);
    rig.shared.pulse.set_committed(rig.index + 5_001);
    let refused = Outcome::Done(Err(error::REQUEST_TOO_MANY_REQUESTS));
    assert_eq!(rig.call(2, Method::Put, &put("k", "v")), refused);
}

#[test]
fn a_learner_serves_little_and_a_leader_may_be_required() {
    let mut rig = Rig::new();
    rig.shared.pulse.set_learner(true);
    let refused = Outcome::Done(Err(error::NOT_SUPPORTED_FOR_LEARNER));
    assert_eq!(rig.call(1, Method::Range, &get("k")), refused);
    assert_eq!(rig.call(1, Method::Put, &put("k", "v")), refused);
    // Its own look at whether it is well goes the way of any read.
    let of_member = Context {
        of_member: true,
        ..Context::default()
    };
    assert_ne!(rig.call_with(1, Method::Range, &get("k"), of_member), refused);
    let mut serializable = get("k");
    serializable.serializable = true;
    decode::<pb::RangeResponse>(rig.call(1, Method::Range, &serializable));
    assert!(decode::<pb::StatusResponse>(rig.call(1, Method::Status, &pb::StatusRequest {})).is_learner);
    let watch = rig
        .front
        .stream_open(Token(9), Method::Watch, Context::default(), rig.now);
    assert_eq!(watch, Err(error::NOT_SUPPORTED_FOR_LEARNER));
    rig.shared.pulse.set_learner(false);
    rig.shared.pulse.set_leader(3, 0);
    let context = Context {
        require_leader: true,
        ..Context::default()
    };
    let refused = Outcome::Done(Err(error::NO_LEADER));
    assert_eq!(rig.call_with(1, Method::Range, &serializable, context), refused);
}

#[test]
fn status_shows_what_the_line_knows() {
    for line in [Line::V3_5, Line::V3_6, Line::V3_7] {
        let mut rig = Rig::with(config(line));
        rig.put("k", "v");
        rig.commit();
        rig.shared.pulse.set_leader(2, 0);
        rig.shared.set_facts(Facts {
            alarms: vec![crate::Alarm {
                member_id: 5,
                kind: 1,
            }],
            ..facts()
        });
        let status: pb::StatusResponse = decode(rig.call(1, Method::Status, &pb::StatusRequest {}));
        assert_eq!(status.version, line.release().to_string());
        assert!(status.db_size > 0 && status.db_size_in_use > 0);
        assert_eq!(status.header.unwrap().revision, 2);
        // As Go etcd of each line printed them.
        let alarm = match line {
            Line::V3_7 => "memberID:5 alarm:NOSPACE",
            _ => "memberID:5 alarm:NOSPACE ",
        };
        assert_eq!(status.errors, ["etcdserver: no leader", alarm]);
        let newer = line >= Line::V3_6;
        assert_eq!(status.storage_version, if newer { "3.7.0" } else { "" });
        assert_eq!(status.db_size_quota, if newer { 2 << 30 } else { 0 });
        assert_eq!(status.downgrade_info.is_some(), newer);
    }
}

#[test]
fn leases_are_asked_of_the_apply_stage() {
    let mut rig = Rig::new();
    rig.put("k", "v");
    let request = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    rig.call(1, Method::LeaseTimeToLive, &request);
    rig.call(2, Method::LeaseTimeToLive, &request);
    rig.call(3, Method::LeaseLeases, &pb::LeaseLeasesRequest {});
    let mut ids = rig.asked_apply().into_iter().map(|ask| match ask {
        AskApply::TimeToLive {
            id,
            lease: 7,
            keys: true,
            of: Asker::Client,
        }
        | AskApply::Leases { id } => id,
        other => panic!("{other:?}"),
    });
    let info = LeaseInfo {
        remaining_seconds: -1,
        granted_seconds: 60,
        keys: vec!["k".into()],
    };
    let tell = |result| Tell::Lease {
        id: ids.next().unwrap(),
        result,
    };
    let tells = [Ok(Some(info)), Ok(None)].map(tell);
    let last = ids.next().unwrap();
    for tell in tells {
        rig.front.handle(tell, rig.now);
    }
    rig.front.handle(
        Tell::Leases {
            id: last,
            leases: vec![7, 8],
        },
        rig.now,
    );
    rig.drain();
    let found = pb::LeaseTimeToLiveResponse::decode(rig.reply(1).unwrap().unwrap()).unwrap();
    assert_eq!((found.ttl, found.granted_ttl, found.keys.len()), (-1, 60, 1));
    let gone = pb::LeaseTimeToLiveResponse::decode(rig.reply(2).unwrap().unwrap()).unwrap();
    assert_eq!((gone.ttl, gone.id, gone.header.unwrap().revision), (-1, 7, 2));
    let list = pb::LeaseLeasesResponse::decode(rig.reply(3).unwrap().unwrap()).unwrap();
    assert_eq!(list.leases.iter().map(|l| l.id).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn a_lease_without_an_id_gets_one() {
    let mut rig = Rig::new();
    rig.call(1, Method::LeaseGrant, &pb::LeaseGrantRequest { ttl: 5, id: 0 });
    rig.call(2, Method::LeaseGrant, &pb::LeaseGrantRequest { ttl: 5, id: 9 });
    let grants: Vec<_> = proposals(&mut rig)
        .into_iter()
        .map(|(_, request)| request.lease_grant.unwrap())
        .collect();
    assert!(grants[0].id > 0 && grants[0].ttl == 5);
    assert_eq!(grants[1].id, 9);
}

#[test]
fn hashes_are_made_in_the_pool_step_by_step() {
    let mut rig = Rig::new();
    rig.put("foo", "bar");
    assert_eq!(
        rig.call(1, Method::HashKv, &pb::HashKvRequest { revision: 0 }),
        Outcome::Pending
    );
    let response = pb::HashKvResponse::decode(rig.reply(1).unwrap().unwrap()).unwrap();
    // The value that Go etcd computes for a store with this one put.
    assert_eq!(
        (response.hash, response.compact_revision, response.hash_revision),
        (3_305_255_506, -1, 2)
    );
    rig.call(2, Method::Hash, &pb::HashRequest {});
    let [AskApply::Pin { id }] = rig.asked_apply()[..] else {
        panic!();
    };
    rig.commit();
    let snapshot = rig.views.load().db.clone();
    rig.front.handle(
        Tell::Pinned {
            id,
            result: Ok(snapshot),
        },
        rig.now,
    );
    rig.drain();
    let response = pb::HashResponse::decode(rig.reply(2).unwrap().unwrap()).unwrap();
    assert_ne!(response.hash, 0);
    assert_eq!(response.header.unwrap().revision, 2);
}

#[test]
fn a_downgrade_is_checked_against_what_the_log_says() {
    let mut rig = Rig::new();
    let request = |action: i32, version: &str| pb::DowngradeRequest {
        action,
        version: version.to_owned(),
    };
    let valid: pb::DowngradeResponse = decode_any(&mut rig, 1, &request(0, "3.6"));
    assert_eq!(valid.version, "3.7");
    assert_eq!(
        rig.call(2, Method::Downgrade, &request(1, "3.6.5")),
        Outcome::Pending
    );
    let (id, proposed) = proposals(&mut rig).remove(0);
    let set = proposed.downgrade_info_set.unwrap();
    assert_eq!((set.enabled, set.ver.as_str()), (true, "3.6.0"));
    rig.front.handle(
        Tell::Done {
            id,
            result: Ok(Bytes::new()),
        },
        rig.now,
    );
    rig.drain();
    let entered = pb::DowngradeResponse::decode(rig.reply(2).unwrap().unwrap()).unwrap();
    assert_eq!(entered.version, "3.7");
    rig.shared.set_facts(Facts {
        downgrade_target: Some(Version::new(3, 6, 0)),
        ..facts()
    });
    assert_eq!(
        rig.call(3, Method::Downgrade, &request(1, "3.6")),
        Outcome::Done(Err(error::DOWNGRADE_IN_PROCESS))
    );
    rig.call(4, Method::Downgrade, &request(2, ""));
    let (_, proposed) = proposals(&mut rig).remove(0);
    assert!(!proposed.downgrade_info_set.unwrap().enabled);
}

fn decode_any<M: Message + Default>(rig: &mut Rig, token: u64, request: &pb::DowngradeRequest) -> M {
    match rig.call(token, Method::Downgrade, request) {
        Outcome::Pending => M::decode(rig.reply(token).unwrap().unwrap()).unwrap(),
        done => decode(done),
    }
}

#[test]
fn a_stopped_member_refuses_who_waits_and_who_comes() {
    let mut rig = Rig::new();
    rig.call(1, Method::Put, &put("k", "v"));
    rig.open(2, Method::Watch);
    rig.front.handle(Tell::Stopped, rig.now);
    rig.drain();
    assert_eq!(rig.reply(1), Some(Err(error::STOPPED)));
    assert_eq!(rig.receive::<WatchResponse>(2).1, Some(Err(error::STOPPED)));
    assert_eq!(
        rig.call(3, Method::Put, &put("k", "v")),
        Outcome::Done(Err(error::STOPPED))
    );
}
