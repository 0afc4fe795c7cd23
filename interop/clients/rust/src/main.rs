//! Drives a server of etcd's API with the Rust client `etcd-client`; ends at the first difference.

use std::time::{Duration, Instant};

use etcd_client::*;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const WAIT: Duration = Duration::from_secs(10);

/// The status of an error as `code: message`.
fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
        Err(other) => format!("{other}"),
        Ok(_) => "not refused".to_string(),
    }
}

async fn kv(client: &mut Client) -> Outcome {
    let first = client.put("rs/kv/a", "1", None).await?;
    let first = first.header().expect("header").revision();
    let put = client
        .put("rs/kv/a", "2", Some(PutOptions::new().with_prev_key()))
        .await?;
    assert_eq!(put.prev_key().map(KeyValue::value), Some(b"1".as_slice()));
    client.put("rs/kv/b", [0, 255], None).await?;
    client.put("rs/kv0", "outside", None).await?;
    let found = client.get("rs/kv/a", None).await?;
    let [kv] = found.kvs() else { panic!("{found:?}") };
    assert_eq!((kv.value(), kv.version()), (b"2".as_slice(), 2));
    assert_eq!((kv.create_revision(), kv.mod_revision()), (first, first + 1));
    let past = client
        .get("rs/kv/a", Some(GetOptions::new().with_revision(first)))
        .await?;
    assert_eq!(past.kvs()[0].value(), b"1");
    let descending = GetOptions::new()
        .with_prefix()
        .with_limit(1)
        .with_sort(SortTarget::Key, SortOrder::Descend);
    let found = client.get("rs/kv/", Some(descending)).await?;
    assert_eq!(
        (found.kvs()[0].value(), found.more(), found.count()),
        ([0, 255].as_slice(), true, 2)
    );
    let counted = client
        .get("rs/kv/", Some(GetOptions::new().with_prefix().with_count_only()))
        .await?;
    assert_eq!((counted.kvs().len(), counted.count()), (0, 2));
    let deleted = client
        .delete("rs/kv/a", Some(DeleteOptions::new().with_prev_key()))
        .await?;
    assert_eq!(
        (deleted.deleted(), deleted.prev_kvs()[0].value()),
        (1, b"2".as_slice())
    );
    assert_eq!(client.delete("rs/kv/a", None).await?.deleted(), 0);
    let deleted = client
        .delete("rs/kv", Some(DeleteOptions::new().with_prefix()))
        .await?;
    assert_eq!(deleted.deleted(), 2);
    Ok(())
}

async fn txn(client: &mut Client) -> Outcome {
    client.put("rs/txn/a", "1", None).await?;
    let txn = Txn::new()
        .when([
            Compare::value("rs/txn/a", CompareOp::Equal, "1"),
            Compare::version("rs/txn/a", CompareOp::Greater, 0),
            Compare::create_revision("rs/txn/b", CompareOp::Equal, 0),
        ])
        .and_then([TxnOp::put("rs/txn/a", "2", None), TxnOp::get("rs/txn/a", None)])
        .or_else([
            TxnOp::delete("rs/txn/a", None),
            TxnOp::txn(Txn::new().and_then([TxnOp::get("rs/txn/a", None)])),
        ]);
    let then = client.txn(txn.clone()).await?;
    let answers = then.op_responses();
    let [TxnOpResponse::Put(_), TxnOpResponse::Get(found)] = answers.as_slice() else {
        panic!("{then:?}")
    };
    assert!(then.succeeded());
    assert_eq!(found.kvs()[0].value(), b"2");
    assert_eq!(
        found.kvs()[0].mod_revision(),
        then.header().expect("header").revision()
    );
    let other = client.txn(txn).await?;
    let answers = other.op_responses();
    let [TxnOpResponse::Delete(deleted), TxnOpResponse::Txn(inner)] = answers.as_slice() else {
        panic!("{other:?}")
    };
    assert_eq!(
        (other.succeeded(), deleted.deleted(), inner.succeeded()),
        (false, 1, true)
    );
    let twice = [
        TxnOp::put("rs/txn/a", "1", None),
        TxnOp::put("rs/txn/a", "2", None),
    ];
    assert_eq!(
        refusal(client.txn(Txn::new().and_then(twice)).await),
        "InvalidArgument: etcdserver: duplicate key given in txn request"
    );
    Ok(())
}

async fn watch(client: &mut Client) -> Outcome {
    client
        .delete("rs/watch/", Some(DeleteOptions::new().with_prefix()))
        .await?;
    let start = client.put("rs/watch/a", "1", None).await?;
    let start = start.header().expect("header").revision();
    client.put("rs/watch/a", "2", None).await?;
    client.delete("rs/watch/a", None).await?;
    let options = WatchOptions::new()
        .with_prefix()
        .with_prev_key()
        .with_start_revision(start)
        .with_watch_id(7);
    let mut stream = client.watch("rs/watch/", Some(options)).await?;
    let created = stream.message().await?.ok_or("the watch has ended")?;
    assert_eq!(
        (created.created(), created.canceled(), created.watch_id()),
        (true, false, 7)
    );
    let last = client.put("rs/watch/b", "3", None).await?;
    let mut events = Vec::new();
    while events.len() < 4 {
        for event in stream.message().await?.ok_or("the watch has ended")?.events() {
            let kv = event.kv().ok_or("an event without a key")?;
            events.push((
                event.event_type(),
                kv.key_str()?.to_string(),
                kv.value_str()?.to_string(),
                event.prev_kv().map(|kv| kv.value().to_vec()),
                kv.mod_revision() - start,
            ));
        }
    }
    let event = |kind, key: &str, value: &str, prev: Option<&[u8]>, revision| {
        (
            kind,
            key.to_string(),
            value.to_string(),
            prev.map(<[u8]>::to_vec),
            revision,
        )
    };
    assert_eq!(
        events,
        [
            event(EventType::Put, "rs/watch/a", "1", None, 0),
            event(EventType::Put, "rs/watch/a", "2", Some(b"1"), 1),
            event(EventType::Delete, "rs/watch/a", "", Some(b"2"), 2),
            event(EventType::Put, "rs/watch/b", "3", None, 3),
        ]
    );
    stream.request_progress().await?;
    let progress = stream.message().await?.ok_or("the watch has ended")?;
    assert_eq!((progress.events().len(), progress.watch_id()), (0, -1));
    let header = progress.header().ok_or("no header")?;
    assert_eq!(header.revision(), last.header().expect("header").revision());
    stream.cancel(7).await?;
    let canceled = stream.message().await?.ok_or("the watch has ended")?;
    assert_eq!((canceled.canceled(), canceled.watch_id()), (true, 7));
    Ok(())
}

async fn lease(client: &mut Client) -> Outcome {
    let missing = "NotFound: etcdserver: requested lease not found";
    let granted = client
        .lease_grant(30, Some(LeaseGrantOptions::new().with_id(815)))
        .await?;
    assert_eq!((granted.id(), granted.ttl()), (815, 30));
    let again = client
        .lease_grant(30, Some(LeaseGrantOptions::new().with_id(815)))
        .await;
    assert_eq!(
        refusal(again),
        "FailedPrecondition: etcdserver: lease already exists"
    );
    client
        .put("rs/lease/a", "1", Some(PutOptions::new().with_lease(815)))
        .await?;
    assert_eq!(client.get("rs/lease/a", None).await?.kvs()[0].lease(), 815);
    let (mut keeper, mut answers) = client.lease_keep_alive(815).await?;
    keeper.keep_alive().await?;
    let answer = answers.message().await?.ok_or("the stream has ended")?;
    assert_eq!((answer.id(), answer.ttl()), (815, 30));
    let keys = || Some(LeaseTimeToLiveOptions::new().with_keys());
    let left = client.lease_time_to_live(815, keys()).await?;
    assert_eq!(
        (left.granted_ttl(), left.keys()),
        (30, [b"rs/lease/a".to_vec()].as_slice())
    );
    assert!((29..=30).contains(&left.ttl()));
    assert!(
        client
            .leases()
            .await?
            .leases()
            .iter()
            .any(|lease| lease.id() == 815)
    );
    client.lease_revoke(815).await?;
    assert_eq!(client.get("rs/lease/a", None).await?.kvs().len(), 0);
    assert_eq!(client.lease_time_to_live(815, keys()).await?.ttl(), -1);
    assert_eq!(refusal(client.lease_revoke(815).await), missing);
    let put = client
        .put("rs/lease/a", "1", Some(PutOptions::new().with_lease(815)))
        .await;
    assert_eq!(refusal(put), missing);
    let brief = client.lease_grant(1, None).await?.id();
    let mut stream = client.watch("rs/lease/brief", None).await?;
    client
        .put("rs/lease/brief", "1", Some(PutOptions::new().with_lease(brief)))
        .await?;
    loop {
        let response = stream.message().await?.ok_or("the watch has ended")?;
        if response
            .events()
            .iter()
            .any(|event| event.event_type() == EventType::Delete)
        {
            return Ok(());
        }
    }
}

async fn compaction(client: &mut Client) -> Outcome {
    let gone = "OutOfRange: etcdserver: mvcc: required revision has been compacted";
    let old = client.put("rs/compact/a", "1", None).await?;
    let old = old.header().expect("header").revision();
    let now = client.put("rs/compact/a", "2", None).await?;
    let now = now.header().expect("header").revision();
    client
        .compact(now, Some(CompactionOptions::new().with_physical()))
        .await?;
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    assert_eq!(refusal(client.get("rs/compact/a", at(old)).await), gone);
    assert_eq!(refusal(client.compact(old, None).await), gone);
    assert_eq!(
        refusal(client.get("rs/compact/a", at(now + 1000)).await),
        "OutOfRange: etcdserver: mvcc: required revision is a future revision"
    );
    let mut stream = client
        .watch("rs/compact/a", Some(WatchOptions::new().with_start_revision(old)))
        .await?;
    loop {
        let response = stream.message().await?.ok_or("the watch has ended")?;
        if response.canceled() {
            assert_eq!(response.compact_revision(), now);
            return Ok(());
        }
    }
}

async fn cluster(client: &mut Client) -> Outcome {
    let members = client.member_list().await?;
    let [member] = members.members() else {
        panic!("{members:?}")
    };
    assert_eq!((member.name(), member.is_learner()), ("default", false));
    assert_eq!((member.peer_urls().len(), member.client_urls().len()), (1, 1));
    let status = client.status().await?;
    assert_eq!((status.leader(), status.errors().len()), (member.id(), 0));
    assert!(status.db_size() > 0 && status.raft_index() > 0 && status.raft_applied_index() > 0);
    assert!(
        ["3.5.", "3.6.", "3.7."]
            .iter()
            .any(|line| status.version().starts_with(line))
    );
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    assert_eq!(alarms.alarms().len(), 0);
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let endpoint = std::env::var("ENDPOINT")?;
    let client = &mut Client::connect([endpoint], None).await?;
    macro_rules! run {
        ($($part:ident)*) => {$(
            let started = Instant::now();
            tokio::time::timeout(WAIT, $part(client)).await??;
            println!("ok rust {} ({:.1} s)", stringify!($part), started.elapsed().as_secs_f64());
        )*};
    }
    run!(kv txn watch lease compaction cluster);
    Ok(())
}
