//! Streams: range streams, snapshots, lease renewals, and the watch rules that a random run does
//! not pin down.

use api::error;
use api::etcdserverpb as pb;
use sha2::Digest;

use super::*;

#[test]
fn a_range_stream_gives_everything_once_and_the_count_at_the_end() {
    let mut rig = Rig::new();
    rig.apply(|txn| {
        for i in 0..500 {
            txn.put(format!("k{i:04}").as_bytes(), &[b'v'; 100], 0);
        }
    });
    let mut token = 0;
    for cold in [false, true] {
        for (limit, keys, more) in [
            (0, 500, false),
            (7, 7, true),
            (10, 10, true),
            (499, 499, true),
            (500, 500, false),
            (-1, 500, false),
        ] {
            token += 1;
            rig.commit();
            rig.disk.set_cold(cold);
            rig.open(token, Method::RangeStream);
            rig.send(
                token,
                &pb::RangeRequest {
                    key: "k".into(),
                    range_end: "l".into(),
                    limit,
                    ..Default::default()
                },
            );
            // What is written meanwhile is not seen.
            rig.put("k0001", "new");
            let (messages, end) = rig.receive::<pb::RangeStreamResponse>(token);
            assert_eq!(end, Some(Ok(())));
            let chunks: Vec<_> = messages.into_iter().map(|m| m.range_response.unwrap()).collect();
            let (last, before) = chunks.split_last().unwrap();
            for chunk in before {
                assert!(chunk.header.is_none() && !chunk.more && chunk.count == 0 && !chunk.kvs.is_empty());
            }
            assert_eq!((last.count, last.more), (500, more), "limit {limit}");
            assert!(last.header.as_ref().unwrap().revision > 0);
            let got: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.kvs).collect();
            assert_eq!(got.len(), keys, "limit {limit}");
            assert!(got.windows(2).all(|pair| pair[0].key < pair[1].key));
            assert!(chunks[0].kvs.len() <= 10, "small chunks first");
        }
    }
    assert!(rig.jobs_run > 0, "cold pages are read in the pool");
    token += 1;
    rig.open(token, Method::RangeStream);
    let count_only = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        count_only: true,
        ..Default::default()
    };
    rig.send(token, &count_only);
    let (messages, _) = rig.receive::<pb::RangeStreamResponse>(token);
    assert_eq!(messages[0].range_response.as_ref().unwrap().count, 500);
}

#[test]
fn a_slow_range_stream_finds_its_revision_compacted() {
    let mut rig = Rig::new();
    rig.apply(|txn| {
        for i in 0..2000 {
            txn.put(format!("k{i:04}").as_bytes(), &[b'v'; 1000], 0);
        }
    });
    rig.open(1, Method::RangeStream);
    let all = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    rig.send(1, &all);
    let first = rig.front.stream_poll(Token(1), 1, rig.now);
    assert!(first.end.is_none());
    rig.put("k0000", "2");
    rig.put("k0000", "3");
    rig.compact(4);
    let (_, end) = rig.receive::<pb::RangeStreamResponse>(1);
    assert_eq!(end, Some(Err(error::COMPACTED)));
}

/// Whoever carries a stream looks at it when it likes: the client has half-closed, there is room again.
#[test]
fn a_range_stream_that_is_looked_at_early_waits_for_its_index() {
    let mut rig = Rig::new();
    rig.put("k", "1");
    rig.shared.pulse.set_read_gate(false);
    rig.open(1, Method::RangeStream);
    let range = pb::RangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    rig.send(1, &range);
    let asked = rig.decided();
    let [AskDecide::ReadIndex { id }] = asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(rig.receive::<pb::RangeStreamResponse>(1), (Vec::new(), None));
    rig.put("k", "2");
    let index = rig.index;
    rig.front.handle(Tell::ReadIndex { id, index }, rig.now);
    rig.drain();
    let (messages, end) = rig.receive::<pb::RangeStreamResponse>(1);
    assert_eq!(end, Some(Ok(())));
    let answer = messages[0].range_response.as_ref().unwrap();
    assert_eq!(answer.kvs[0].value, "2");
}

/// Tokens are used again: nothing that an earlier stream waited for may reach a later call.
#[test]
fn a_closed_stream_leaves_its_token_to_others() {
    let mut rig = Rig::new();
    for i in 0..300 {
        rig.put(&format!("k{i}"), &"v".repeat(1000));
    }
    rig.commit();
    rig.disk.set_cold(true);
    rig.hold_jobs = true;
    let range = pb::RangeRequest {
        key: "k7".into(),
        ..Default::default()
    };
    rig.open(1, Method::RangeStream);
    rig.send(1, &range);
    assert_eq!(rig.jobs.len(), 1);
    rig.front.stream_close(Token(1));
    rig.open(1, Method::RangeStream);
    rig.hold_jobs = false;
    rig.drain();
    assert_eq!(rig.receive::<pb::RangeStreamResponse>(1), (Vec::new(), None));
    rig.send(1, &range);
    assert_eq!(rig.receive::<pb::RangeStreamResponse>(1).0.len(), 1);

    rig.shared.pulse.set_read_gate(false);
    rig.open(2, Method::RangeStream);
    rig.send(2, &range);
    rig.open(3, Method::Snapshot);
    rig.send(3, &pb::SnapshotRequest {});
    rig.open(4, Method::LeaseKeepAlive);
    rig.send(4, &pb::LeaseKeepAliveRequest { id: 1 });
    for token in 2..5 {
        rig.front.stream_close(Token(token));
    }
    rig.drain();
    rig.outputs.clear();
    for token in 2..5 {
        // What has no deadline of its own.
        let request = pb::DefragmentRequest {};
        assert_eq!(rig.call(token, Method::Defragment, &request), Outcome::Pending);
    }
    rig.pass(Duration::from_secs(60));
    for token in 2..5 {
        assert_eq!(rig.reply(token), None, "{token}");
    }
}

/// A stream that ends gets nothing new, or it might never end.
#[test]
fn a_watch_stream_that_ends_stops_watching() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.front
        .stream_message(Token(1), Bytes::from_static(b"\xff"), rig.now);
    rig.put("k", "v");
    let (seen, end) = rig.receive::<WatchResponse>(1);
    assert_eq!(seen.len(), 1);
    assert_eq!(end.unwrap().unwrap_err().code, Code::Internal);
}

#[test]
fn older_lines_have_no_range_stream() {
    for line in [Line::V3_5, Line::V3_6] {
        let mut rig = Rig::with(config(line));
        let refused = rig
            .front
            .stream_open(Token(1), Method::RangeStream, Context::default(), rig.now)
            .unwrap_err();
        assert_eq!(refused.code, Code::Unimplemented);
        assert_eq!(
            refused.message,
            "unknown method RangeStream for service etcdserverpb.KV"
        );
    }
}

#[test]
fn a_snapshot_is_the_file_and_its_hash() {
    let mut rig = Rig::new();
    for i in 0..300 {
        rig.put(&format!("k{i}"), &"v".repeat(5000));
    }
    rig.open(1, Method::Snapshot);
    rig.send(1, &pb::SnapshotRequest {});
    let [AskApply::Pin { id }] = rig.asked_apply()[..] else {
        panic!();
    };
    rig.commit();
    let pinned = rig.views.load().db.clone();
    rig.front.handle(
        Tell::Pinned {
            id,
            result: Ok(pinned.clone()),
        },
        rig.now,
    );
    rig.hold_jobs = true;
    rig.drain();
    rig.put("later", "is not in it");
    rig.commit();
    assert_eq!(rig.jobs.len(), 1, "no more is read ahead than the client takes");
    rig.hold_jobs = false;
    let (messages, end) = rig.receive::<pb::SnapshotResponse>(1);
    assert_eq!(end, Some(Ok(())));
    let (last, blobs) = messages.split_last().unwrap();
    let mut file = Vec::new();
    let mut remaining = pinned.size();
    for message in blobs {
        file.extend_from_slice(&message.blob);
        remaining -= message.blob.len() as u64;
        assert_eq!(message.remaining_bytes, remaining);
        assert_eq!(message.version, "3.7.0");
    }
    assert_eq!((remaining, last.remaining_bytes), (0, 0));
    assert_eq!(last.blob[..], sha2::Sha256::digest(&file)[..]);
    let mut expected = Vec::new();
    let mut stream = pinned.stream();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        expected.extend_from_slice(&chunk);
    }
    assert!(file == expected);
}

#[test]
fn renewals_are_answered_in_the_order_of_the_requests() {
    let mut rig = Rig::new();
    rig.open(1, Method::LeaseKeepAlive);
    for lease in [7, 8, 9] {
        rig.send(1, &pb::LeaseKeepAliveRequest { id: lease });
    }
    let asks = rig.asked_apply();
    let renew = |at: usize, result| {
        let AskApply::Renew { id, .. } = asks[at] else {
            panic!();
        };
        Tell::Renewed { id, result }
    };
    rig.front.handle(renew(1, Ok(None)), rig.now);
    assert_eq!(rig.receive::<pb::LeaseKeepAliveResponse>(1).0, []);
    rig.front.handle(renew(0, Ok(Some(60))), rig.now);
    let (answers, _) = rig.receive::<pb::LeaseKeepAliveResponse>(1);
    let seen: Vec<_> = answers.iter().map(|a| (a.id, a.ttl)).collect();
    assert_eq!(seen, [(7, 60), (8, 0)], "a lease that is gone has no time left");
    rig.front.stream_finished(Token(1), rig.now);
    assert_eq!(rig.receive::<pb::LeaseKeepAliveResponse>(1).1, None);
    rig.front.handle(renew(2, Ok(Some(5))), rig.now);
    let (answers, end) = rig.receive::<pb::LeaseKeepAliveResponse>(1);
    assert_eq!((answers.len(), end), (1, Some(Ok(()))));

    rig.open(2, Method::LeaseKeepAlive);
    rig.send(2, &pb::LeaseKeepAliveRequest { id: 1 });
    rig.pass(Duration::from_secs(8));
    assert_eq!(
        rig.receive::<pb::LeaseKeepAliveResponse>(2).1,
        Some(Err(error::TIMEOUT))
    );
}

#[test]
fn a_client_that_floods_has_to_wait() {
    let mut rig = Rig::new();
    rig.open(1, Method::LeaseKeepAlive);
    rig.open(2, Method::Watch);
    let mut sent = 0;
    while rig.front.stream_is_ready(Token(1)) {
        rig.send(1, &pb::LeaseKeepAliveRequest { id: 1 });
        sent += 1;
    }
    assert!(sent < 1000);
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: "k".into(),
            start_revision: -1,
            ..Default::default()
        })),
    };
    let mut asked = 0;
    while rig.front.stream_is_ready(Token(2)) {
        rig.send(2, &request);
        asked += 1;
    }
    assert!(asked < 100_000);
    assert_eq!(rig.responses(2).len(), asked);
    assert!(rig.front.stream_is_ready(Token(2)));
}

#[test]
fn streams_that_require_a_leader_end_without_one() {
    let mut rig = Rig::new();
    let context = Context {
        require_leader: true,
        ..Context::default()
    };
    rig.front
        .stream_open(Token(1), Method::Watch, context, rig.now)
        .unwrap();
    rig.open(2, Method::Watch);
    rig.shared.pulse.set_leader(3, 0);
    rig.pass(Duration::from_millis(2900));
    assert_eq!(rig.receive::<WatchResponse>(1).1, None);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.receive::<WatchResponse>(1).1, Some(Err(error::NO_LEADER)));
    assert_eq!(rig.receive::<WatchResponse>(2).1, None);
    let refused = rig.front.stream_open(Token(3), Method::Watch, context, rig.now);
    assert_eq!(refused, Err(error::NO_LEADER));
}

fn everything(create: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..create
    }
}

#[test]
fn progress_is_reported_when_nothing_else_was() {
    let mut rig = Rig::new();
    rig.put("k", "1");
    rig.open(1, Method::Watch);
    let notify = everything(WatchCreateRequest {
        progress_notify: true,
        ..Default::default()
    });
    rig.watch(1, notify.clone());
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.watch(
        1,
        WatchCreateRequest {
            start_revision: 50,
            ..notify
        },
    );
    assert_eq!(rig.responses(1).len(), 3);
    let interval = Duration::from_secs(661);
    rig.pass(interval);
    let seen = rig.responses(1);
    assert_eq!(seen.len(), 1, "the one that asked for it and has begun");
    assert_eq!(
        (seen[0].watch_id, seen[0].header.as_ref().unwrap().revision),
        (0, 2)
    );
    rig.put("k", "2");
    rig.pass(interval);
    let seen = rig.responses(1);
    assert!(
        seen.iter().all(|r| r.events.len() == 1) && seen.len() == 2,
        "events say enough"
    );
    rig.pass(interval);
    assert_eq!(rig.responses(1)[0].header.as_ref().unwrap().revision, 3);
}

/// A client that reads nothing for a month: what it is told of progress is bounded, and is told again when it reads.
#[test]
fn progress_is_not_reported_to_a_full_stream() {
    let mut rig = Rig::new();
    rig.put("k", "1");
    rig.open(1, Method::Watch);
    for _ in 0..100 {
        rig.watch(
            1,
            everything(WatchCreateRequest {
                progress_notify: true,
                ..Default::default()
            }),
        );
    }
    rig.pass(Duration::from_secs(30 * 24 * 3600));
    let held = rig.front.hub.queued_bytes(Token(1));
    assert!(held < 1_100_000, "{held} bytes held");
    assert!(rig.responses(1).len() > 1000);
    rig.pass(Duration::from_secs(661));
    let seen = rig.responses(1);
    let watchers: Vec<i64> = seen.iter().map(|response| response.watch_id).collect();
    assert_eq!(watchers, (0..100).collect::<Vec<_>>());
}

/// etcd issue 15220: a client that does not read must not be told of progress past what waits for it.
#[test]
fn progress_never_overtakes_events() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(1, everything(WatchCreateRequest::default()));
    let progress = pb::WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
    };
    let big = "v".repeat(200_000);
    for _ in 0..20 {
        rig.put("k", &big);
        rig.send(1, &progress);
    }
    let mut seen = 1;
    let mut reports = 0;
    for response in rig.responses(1) {
        let header = response.header.unwrap();
        if let Some(event) = response.events.last() {
            seen = event.kv.as_ref().unwrap().mod_revision;
        } else if response.watch_id == -1 {
            assert!(
                header.revision <= seen,
                "{} reported, {seen} seen",
                header.revision
            );
            reports += 1;
        }
    }
    assert_eq!(seen, 21);
    assert!(reports > 0);
    rig.send(1, &progress);
    assert_eq!(rig.responses(1)[0].header.as_ref().unwrap().revision, 21);
}

#[test]
fn a_slow_watcher_costs_bounded_memory_and_delays_nobody() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.open(2, Method::Watch);
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.watch(2, everything(WatchCreateRequest::default()));
    let big = "v".repeat(100_000);
    for i in 0..100 {
        rig.put("k", &big);
        let seen: usize = rig.responses(2).iter().map(|r| r.events.len()).sum();
        assert_eq!(seen, 1, "put {i}");
    }
    let held = rig.front.hub.queued_bytes(Token(1));
    assert!(held < 1_200_000, "{held} bytes held for the slow one");
    rig.commit();
    rig.disk.set_cold(true);
    let seen: Vec<i64> = rig
        .responses(1)
        .iter()
        .flat_map(|r| r.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision))
        .collect();
    assert_eq!(seen, (2..102).collect::<Vec<_>>());
}

/// etcd issue 17529: who was starved past a compaction is told so, and skips nothing.
#[test]
fn a_watcher_starved_past_a_compaction_is_cancelled() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(1, everything(WatchCreateRequest::default()));
    let big = "v".repeat(500_000);
    for _ in 0..10 {
        rig.put("k", &big);
    }
    rig.compact(9);
    let responses = rig.responses(1);
    let seen: Vec<i64> = responses
        .iter()
        .flat_map(|r| r.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision))
        .collect();
    assert!(
        seen.len() < 8 && seen.iter().zip(2..).all(|(a, b)| *a == b),
        "{seen:?}"
    );
    let last = responses.last().unwrap();
    assert!(last.canceled);
    assert_eq!(last.compact_revision, 9);
}

/// Many that keep coming for old revisions must not keep one that is nearly there from the present.
#[test]
fn nobody_starves_behind_those_that_are_further_back() {
    let mut rig = Rig::new();
    for i in 0..3000 {
        rig.put(&format!("k{}", i % 7), &"v".repeat(500));
    }
    rig.open(1, Method::Watch);
    let from = |revision| {
        everything(WatchCreateRequest {
            start_revision: revision,
            ..Default::default()
        })
    };
    rig.open(2, Method::Watch);
    let create = |revision| -> Bytes {
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(from(revision))),
        };
        create.encode_to_vec().into()
    };
    rig.front.stream_message(Token(2), create(2900), rig.now);
    let mut seen = 0;
    for turn in 0.. {
        assert!(turn < 60, "{seen} events in {turn} turns");
        rig.front.stream_message(Token(1), create(2), rig.now);
        rig.front.stream_poll(Token(1), usize::MAX, rig.now);
        rig.front.tick(rig.now);
        rig.drain();
        let poll = rig.front.stream_poll(Token(2), usize::MAX, rig.now);
        for frame in poll.frames {
            let response = WatchResponse::decode(Bytes::from(frame.parts.concat())).unwrap();
            seen += response.events.len();
        }
        if seen == 102 {
            break;
        }
    }
}

/// etcd issues 15271, 15274, 20221: after a snapshot from the leader nobody sees anything twice,
/// misses anything, or gets what is before the start that was asked for.
/// etcd issues 8411 and 9281: nobody is forgotten either.
#[test]
fn watchers_survive_a_store_that_jumps() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.watch(
        1,
        everything(WatchCreateRequest {
            start_revision: 6,
            ..Default::default()
        }),
    );
    rig.watch(
        1,
        everything(WatchCreateRequest {
            start_revision: 9,
            ..Default::default()
        }),
    );
    rig.put("k", "2");
    assert_eq!(rig.responses(1).len(), 4);
    // Revisions 3 to 6 come without events, as the state of another member would.
    for _ in 3..7 {
        rig.apply_unpublished(|txn| {
            txn.put(b"k", b"jumped", 0);
        });
    }
    rig.store.publish();
    rig.put("k", "7");
    for _ in 8..11 {
        rig.put("k", "more");
    }
    let mut seen = std::collections::BTreeMap::<i64, Vec<i64>>::new();
    for response in rig.responses(1) {
        let revisions = response
            .events
            .iter()
            .map(|e| e.kv.as_ref().unwrap().mod_revision);
        seen.entry(response.watch_id).or_default().extend(revisions);
    }
    assert_eq!(seen[&0], (3..11).collect::<Vec<_>>());
    assert_eq!(seen[&1], (6..11).collect::<Vec<_>>());
    assert_eq!(seen[&2], [9, 10]);
}

/// etcd issue 19179: the last revision that a compaction leaves is seen, also where it is a deletion.
#[test]
fn etcd_19179_a_watch_from_the_compacted_revision_sees_its_deletion() {
    let mut rig = Rig::new();
    rig.put("k", "2");
    rig.apply(|txn| txn.delete_range(b"k", &[]));
    rig.put("other", "4");
    rig.compact(3);
    rig.open(1, Method::Watch);
    let create = WatchCreateRequest {
        start_revision: 3,
        ..Default::default()
    };
    rig.watch(1, everything(create));
    let events: Vec<(i32, i64)> = rig
        .responses(1)
        .iter()
        .flat_map(|response| &response.events)
        .map(|event| (event.r#type, event.kv.as_ref().unwrap().mod_revision))
        .collect();
    assert_eq!(events, [(1, 3), (0, 4)]);
}

/// A put that a client knows of is not "from now on", also where the hub has not got it yet.
#[test]
fn from_now_on_is_after_what_could_be_read() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.apply_unpublished(|txn| {
        txn.put(b"k", b"1", 0);
    });
    let published = rig.store.publish();
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.front
        .published(&published.view, Some(&published.events), rig.now);
    let events: Vec<(i64, usize)> = rig
        .responses(1)
        .iter()
        .filter(|r| !r.created)
        .map(|r| (r.watch_id, r.events.len()))
        .collect();
    assert_eq!(events, [(0, 1)]);
}

#[test]
fn an_event_is_encoded_once_for_all_who_see_it() {
    let mut rig = Rig::new();
    for token in 1..4 {
        rig.open(token, Method::Watch);
        rig.watch(token, everything(WatchCreateRequest::default()));
        rig.responses(token);
    }
    rig.put("k", &"v".repeat(50_000));
    let parts: Vec<Bytes> = (1..4)
        .map(|token| {
            let poll = rig.front.stream_poll(Token(token), usize::MAX, rig.now);
            poll.frames[0]
                .parts
                .iter()
                .max_by_key(|part| part.len())
                .unwrap()
                .clone()
        })
        .collect();
    assert!(parts[0].len() > 50_000);
    assert!(parts.iter().all(|part| part.as_ptr() == parts[0].as_ptr()));
}

#[test]
fn fragments_are_asked_for() {
    let mut rig = Rig::new();
    rig.open(1, Method::Watch);
    rig.watch(
        1,
        everything(WatchCreateRequest {
            fragment: true,
            ..Default::default()
        }),
    );
    rig.watch(1, everything(WatchCreateRequest::default()));
    rig.responses(1);
    rig.apply(|txn| {
        for i in 0..30 {
            txn.put(format!("k{i}").as_bytes(), &[b'v'; 100_000], 0);
        }
    });
    let (fragments, whole): (Vec<_>, Vec<_>) = rig.responses(1).into_iter().partition(|r| r.watch_id == 0);
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].events.len(), 30);
    let flags: Vec<bool> = fragments.iter().map(|r| r.fragment).collect();
    assert_eq!(flags, [true, false]);
    assert!(fragments.iter().all(|r| r.encoded_len() < 1_572_864 + 512 * 1024));
}

#[test]
fn closing_a_stream_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.put("k", "v");
    rig.open(1, Method::Watch);
    for start in [0, 1, 100] {
        rig.watch(
            1,
            everything(WatchCreateRequest {
                start_revision: start,
                ..Default::default()
            }),
        );
    }
    assert!(rig.shared.wants_views(0));
    rig.front.stream_close(Token(1));
    rig.drain();
    assert!(!rig.shared.wants_views(0));
    assert_eq!(rig.front.next_tick(), None);
    rig.put("k", "v");
    assert!(
        rig.outputs
            .iter()
            .all(|output| matches!(output, Output::Wake(Token(1))))
    );
}
