//! Stories: a script of requests, and what is answered, left as effects and stored.
//!
//! A line is a command; `?` before it means that nobody waits for the answer. `rows BUCKET` prints
//! what is stored, `restart` opens the machine anew. What comes out is a line for each command.

#![allow(clippy::unwrap_used)]

mod common;

use api::etcdserverpb::{self as pb, AlarmType, InternalRaftRequest as Request};
use api::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use api::raftpb::{ConfChange, ConfChangeType};
use api::version::Line;
use bytes::Bytes;
use common::{MEMBER, Rig, options};
use prost::Message;
use state::{Applied, ChangeContext, Effect, Hold, Member, Options, Quota};

fn check(options: Options, script: &str, expected: &str) {
    let mut rig = Rig::with(options.clone());
    let mut out = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.trim_start_matches('?').split_whitespace().collect();
        if words[0] == "restart" {
            match rig.restart(options.clone()) {
                Ok(started) => rig = started,
                Err(error) => {
                    out.push(format!("restart: {error}"));
                    break;
                }
            }
            continue;
        }
        out.push(command(&mut rig, &words, !line.starts_with('?')));
    }
    let expected: Vec<&str> = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(out, expected, "\nscript:\n{script}");
}

fn command(rig: &mut Rig, words: &[&str], waits: bool) -> String {
    match words[0] {
        "rows" => return rows(rig, words[1]),
        "leases" => return leases(rig),
        "add" | "learn" | "promote" | "remove" | "update" => {
            return told(rig.apply_conf_change(change(words), waits), |bytes| {
                let response = pb::MemberRemoveResponse::decode(bytes).unwrap();
                assert_eq!(response.header.unwrap().revision, 0);
                let member = |m: &pb::Member| format!("{:x}{}", m.id, if m.is_learner { "L" } else { "" });
                response.members.iter().map(member).collect::<Vec<_>>().join(" ")
            });
        }
        _ => {}
    }
    let request = request(words);
    let decode = answer_of(&request);
    told(rig.apply(request, waits), decode)
}

/// The reply and the effects of an entry on one line.
fn told(applied: Result<Applied, state::Error>, decode: impl Fn(Bytes) -> String) -> String {
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => return format!("fatal: {error}"),
    };
    let mut out = match applied.reply {
        None => "-".to_string(),
        Some(reply) => {
            let hold = match reply.hold {
                Hold::No => "",
                Hold::Compacted(_) => " (after compaction)",
                Hold::NoSpaceRaised => " (after alarm)",
            };
            match reply.result {
                Ok(bytes) => format!("{}{hold}", decode(bytes)),
                Err(status) => format!("{}{hold}", status.message),
            }
        }
    };
    for effect in applied.effects {
        out.push_str(&match effect {
            Effect::TermStarted { term } => format!("; term {term}"),
            Effect::ConfChange(change) => format!("; raft {:?} {:x}", change.r#type(), change.node_id()),
            Effect::MembershipChanged(_) => "; membership".to_string(),
            Effect::SelfRemoved => "; self removed".to_string(),
            Effect::ClusterVersionLowered { from, to } => format!("; lowered {from} to {to}"),
            Effect::RaiseNoSpace => "; raise NOSPACE".to_string(),
            Effect::AlarmsChanged => "; alarms".to_string(),
            Effect::AuthChanged => "; auth".to_string(),
            Effect::LeaseGranted { id, ttl } => format!("; granted {id} for {ttl}"),
            Effect::LeaseRevoked { id } => format!("; revoked {id}"),
            Effect::LeaseCheckpointed { id, remaining } => format!("; lease {id} has {remaining}"),
            Effect::CompactionScheduled { revision } => format!("; compact {revision}"),
        });
    }
    out
}

fn answer_of(request: &Request) -> fn(Bytes) -> String {
    fn rev(header: Option<pb::ResponseHeader>) -> String {
        let header = header.unwrap();
        assert_eq!((header.cluster_id, header.member_id), (common::CLUSTER, MEMBER));
        format!("rev {}", header.revision)
    }
    fn pairs(kvs: &[api::mvccpb::KeyValue]) -> String {
        let pair =
            |kv: &api::mvccpb::KeyValue| format!(" {}={}", kv.key.escape_ascii(), kv.value.escape_ascii());
        kvs.iter().map(pair).collect()
    }
    if request.put.is_some() {
        return |bytes| {
            let response = pb::PutResponse::decode(bytes).unwrap();
            format!("{}{}", rev(response.header), pairs(response.prev_kv.as_slice()))
        };
    }
    if request.delete_range.is_some() {
        return |bytes| {
            let response = pb::DeleteRangeResponse::decode(bytes).unwrap();
            format!(
                "{} deleted {}{}",
                rev(response.header),
                response.deleted,
                pairs(&response.prev_kvs)
            )
        };
    }
    if request.range.is_some() {
        return |bytes| {
            let response = pb::RangeResponse::decode(bytes).unwrap();
            format!(
                "{} count {}{}",
                rev(response.header),
                response.count,
                pairs(&response.kvs)
            )
        };
    }
    if request.txn.is_some() {
        return |bytes| {
            let response = pb::TxnResponse::decode(bytes).unwrap();
            format!(
                "{} {} ops {}",
                rev(response.header),
                response.succeeded,
                response.responses.len()
            )
        };
    }
    if request.lease_grant.is_some() {
        return |bytes| {
            let response = pb::LeaseGrantResponse::decode(bytes).unwrap();
            format!(
                "{} lease {} ttl {}",
                rev(response.header),
                response.id,
                response.ttl
            )
        };
    }
    if request.alarm.is_some() {
        return |bytes| {
            let response = pb::AlarmResponse::decode(bytes).unwrap();
            let alarms = response
                .alarms
                .iter()
                .map(|a| format!(" {}:{}", a.member_id, a.alarm));
            format!("{}{}", rev(response.header), alarms.collect::<String>())
        };
    }
    if request.auth_status.is_some() {
        return |bytes| {
            let response = pb::AuthStatusResponse::decode(bytes).unwrap();
            format!(
                "{} enabled {} revision {}",
                rev(response.header),
                response.enabled,
                response.auth_revision
            )
        };
    }
    if request.cluster_version_set.is_some() || request.downgrade_info_set.is_some() {
        return |bytes| format!("done{}", String::from_utf8_lossy(&bytes));
    }
    // Revocations, checkpoints, compactions: nothing but a header.
    |bytes| match bytes.is_empty() {
        true => "done".to_string(),
        false => rev(pb::LeaseRevokeResponse::decode(bytes).unwrap().header),
    }
}

fn number(words: &[&str], name: &str) -> i64 {
    let found = words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map_or(0, |number| number.parse().unwrap())
}

fn has(words: &[&str], flag: &str) -> bool {
    words.contains(&flag)
}

fn put(words: &[&str]) -> pb::PutRequest {
    let plain = words.get(2).filter(|word| !word.contains('='));
    pb::PutRequest {
        key: words[1].to_string().into(),
        value: plain.map(|word| word.to_string()).unwrap_or_default().into(),
        lease: number(words, "lease"),
        prev_kv: has(words, "prev"),
        ignore_value: has(words, "ignore_value"),
        ignore_lease: has(words, "ignore_lease"),
    }
}

fn range(words: &[&str]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: words[1].to_string().into(),
        range_end: words
            .get(2)
            .filter(|word| !word.contains('='))
            .map(|word| word.to_string())
            .unwrap_or_default()
            .into(),
        revision: number(words, "rev"),
        ..Default::default()
    }
}

/// `txn put a 1 | range a rev=9 | del b`: no compares, so always the first branch.
fn txn(words: &[&str]) -> pb::TxnRequest {
    use pb::request_op::Request as Op;
    let ops = words[1..].split(|word| *word == "|").map(|words| match words[0] {
        "put" => Op::RequestPut(put(words)),
        "range" => Op::RequestRange(range(words)),
        _ => Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: words[1].to_string().into(),
            ..Default::default()
        }),
    });
    pb::TxnRequest {
        success: ops.map(|op| pb::RequestOp { request: Some(op) }).collect(),
        ..Default::default()
    }
}

fn request(words: &[&str]) -> Request {
    let argument = |at: usize| {
        words
            .get(at)
            .and_then(|word| word.parse::<i64>().ok())
            .unwrap_or(0)
    };
    let mut request = Request::default();
    match words[0] {
        "put" => request.put = Some(put(words)),
        "range" => request.range = Some(range(words)),
        "txn" => request.txn = Some(txn(words)),
        "del" => {
            let range_end = words
                .get(2)
                .filter(|word| **word != "prev")
                .map(|word| word.replace("\\0", "\0"));
            request.delete_range = Some(pb::DeleteRangeRequest {
                key: words[1].to_string().into(),
                range_end: range_end.unwrap_or_default().into(),
                prev_kv: has(words, "prev"),
            });
        }
        "grant" => {
            request.lease_grant = Some(pb::LeaseGrantRequest {
                id: argument(1),
                ttl: argument(2),
            })
        }
        "revoke" => request.lease_revoke = Some(pb::LeaseRevokeRequest { id: argument(1) }),
        "checkpoint" => {
            let checkpoint = |pair: &[&str]| pb::LeaseCheckpoint {
                id: pair[0].parse().unwrap(),
                remaining_ttl: pair[1].parse().unwrap(),
            };
            let checkpoints = words[1..].chunks(2).map(checkpoint).collect();
            request.lease_checkpoint = Some(pb::LeaseCheckpointRequest { checkpoints });
        }
        "compact" => {
            request.compaction = Some(pb::CompactionRequest {
                revision: argument(1),
                physical: has(words, "physical"),
            });
        }
        "alarm" => {
            let alarm = if has(words, "corrupt") {
                AlarmType::Corrupt
            } else {
                AlarmType::Nospace
            };
            let action = ["get", "on", "off"].iter().position(|action| *action == words[1]);
            request.alarm = Some(pb::AlarmRequest {
                action: action.unwrap() as i32,
                member_id: argument(2) as u64,
                alarm: if has(words, "any") { 0 } else { alarm as i32 },
            });
        }
        "auth_status" => request.auth_status = Some(Default::default()),
        "auth_enable" => request.auth_enable = Some(Default::default()),
        "user_list" => request.auth_user_list = Some(Default::default()),
        "version" => {
            request.cluster_version_set = Some(ClusterVersionSetRequest {
                ver: words[1].to_string(),
            })
        }
        "attributes" => {
            request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                member_id: u64::from_str_radix(words[1], 16).unwrap(),
                member_attributes: Some(Attributes {
                    name: words[2].to_string(),
                    client_urls: vec![words[3].to_string()],
                }),
            });
        }
        "downgrade" => {
            request.downgrade_info_set = Some(DowngradeInfoSetRequest {
                enabled: words[1] != "off",
                ver: words[1].to_string(),
            });
        }
        other => panic!("no command {other}"),
    }
    request
}

fn change(words: &[&str]) -> ConfChange {
    let id = u64::from_str_radix(words[1], 16).unwrap();
    let member = Member {
        id,
        peer_urls: words[2..].iter().map(|url| url.to_string()).collect(),
        is_learner: words[0] == "learn",
        ..Member::default()
    };
    let kind = match words[0] {
        "add" | "promote" => ConfChangeType::ConfChangeAddNode,
        "learn" => ConfChangeType::ConfChangeAddLearnerNode,
        "remove" => ConfChangeType::ConfChangeRemoveNode,
        _ => ConfChangeType::ConfChangeUpdateNode,
    };
    let context = ChangeContext {
        member,
        is_promote: words[0] == "promote",
    };
    ConfChange {
        id: Some(77),
        r#type: Some(kind as i32),
        node_id: Some(id),
        context: (words[0] != "remove").then(|| context.to_json().into()),
    }
}

fn rows(rig: &mut Rig, bucket: &str) -> String {
    let known = mvcc::schema::BUCKETS
        .into_iter()
        .find(|name| *name == bucket)
        .unwrap();
    let rows = rig.rows(known);
    let row = |(key, value): &(Bytes, Bytes)| format!("{}={}", key.escape_ascii(), value.escape_ascii());
    rows.iter().map(row).collect::<Vec<_>>().join(" ")
}

fn leases(rig: &mut Rig) -> String {
    let lease = |(id, lease): (i64, &state::Lease)| {
        let keys: Vec<String> = lease
            .keys
            .iter()
            .map(|key| key.escape_ascii().to_string())
            .collect();
        format!("{id}({} {}):{}", lease.ttl, lease.remaining, keys.join(","))
    };
    rig.machine
        .leases()
        .iter()
        .map(lease)
        .collect::<Vec<_>>()
        .join(" ")
}

fn v3_7() -> Options {
    options(Line::V3_7)
}

#[test]
fn puts_and_deletes() {
    check(
        v3_7(),
        "put a 1
         put a 2 prev
         put a ignore_value lease=5
         put b ignore_value
         put a 9 lease=5
         range a
         del b
         ?put b 3 prev
         del a z prev
         range a rev=2",
        r#"rev 2
         rev 3 a=1
         etcdserver: requested lease not found
         etcdserver: key not found
         etcdserver: requested lease not found
         rev 3 count 1 a=2
         rev 3 deleted 0
         -
         rev 5 deleted 2 a=2 b=3
         rev 5 count 1 a=1"#,
    );
}

/// etcd issue 11689: in one revision on every member, in the order of the keys.
#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision() {
    check(
        v3_7(),
        "grant 7 100
         grant 8 1
         grant 7 5
         grant 0 5
         grant 9 9000000001
         put b 1 lease=7
         put a 1 lease=7
         put c 1 lease=7
         put c 2 lease=8
         put a 2 ignore_lease
         leases
         revoke 7
         revoke 7
         put c 3
         leases
         rows lease
         range a z rev=6
         revoke 8",
        r#"rev 1 lease 7 ttl 100; granted 7 for 100
         rev 1 lease 8 ttl 2; granted 8 for 2
         etcdserver: lease already exists
         etcdserver: requested lease not found
         etcdserver: too large lease TTL
         rev 2
         rev 3
         rev 4
         rev 5
         rev 6
         7(100 0):a,b 8(2 0):c
         rev 7; revoked 7
         etcdserver: requested lease not found
         rev 8
         8(2 0):
         \x00\x00\x00\x00\x00\x00\x00\x08=\x08\x08\x10\x02
         rev 8 count 3 a=2 b=1 c=2
         rev 8; revoked 8"#,
    );
}

#[test]
fn leases_and_their_keys_are_there_after_a_restart() {
    check(
        v3_7(),
        "grant 7 100
         put a 1 lease=7
         put b 1 lease=7
         put b 2
         del a
         put a 2 lease=7
         restart
         leases
         revoke 7
         range a z",
        r#"rev 1 lease 7 ttl 100; granted 7 for 100
         rev 2
         rev 3
         rev 4
         rev 5 deleted 1
         rev 6
         7(100 0):a
         rev 7; revoked 7
         rev 7 count 1 b=2"#,
    );
}

#[test]
fn checkpoints_are_stored_from_3_6_on() {
    let script = "version VERSION
        grant 7 100
        checkpoint 7 40 8 1
        restart
        leases";
    let answers = "done; membership
        rev 1 lease 7 ttl 100; granted 7 for 100
        rev 1; lease 7 has 40
        7(100 REMAINING):";
    let persist = Options {
        checkpoint_persist: true,
        ..v3_7()
    };
    for (options, version, remaining) in [
        (v3_7(), "3.6.0", "40"),
        (v3_7(), "3.5.0", "0"),
        (persist, "3.5.0", "40"),
    ] {
        check(
            options,
            &script.replace("VERSION", version),
            &answers.replace("REMAINING", remaining),
        );
    }
}

#[test]
fn alarms_stop_what_etcd_stops() {
    check(
        v3_7(),
        "alarm on 7
         alarm on 7
         put a 1
         txn put a 1 | del b
         txn del a | range a
         grant 5 5
         del a
         compact 1
         alarm on 0 corrupt
         alarm get any
         put a 1
         del a
         range a
         txn del a
         grant 5 5
         revoke 5
         compact 1
         checkpoint 5 1
         rows alarm
         restart
         put a 1
         alarm off 0 corrupt
         put a 1
         alarm off 7
         alarm off 7
         alarm get any
         alarm on 7 any
         put a 1",
        r"rev 1 7:1; alarms
         rev 1 7:1
         etcdserver: mvcc: database space exceeded
         etcdserver: mvcc: database space exceeded
         rev 1 true ops 2
         etcdserver: mvcc: database space exceeded
         rev 1 deleted 0
         rev 1; compact 1
         rev 1 0:2; alarms
         rev 1 7:1 0:2
         etcdserver: corrupt cluster
         etcdserver: corrupt cluster
         etcdserver: corrupt cluster
         etcdserver: corrupt cluster
         etcdserver: corrupt cluster
         etcdserver: corrupt cluster
         etcdserver: corrupt cluster
         rev 1
         \x08\x07\x10\x01= \x10\x02=
         etcdserver: corrupt cluster
         rev 1 0:2; alarms
         etcdserver: mvcc: database space exceeded
         rev 1 7:1; alarms
         rev 1
         rev 1
         rev 1
         rev 2",
    );
}

#[test]
fn the_quota_spoils_the_answer_and_not_the_write() {
    check(
        Options {
            quota: Quota::from_config(1),
            ..v3_7()
        },
        "put a 1
         ?put b 1
         txn put c 1
         txn range a
         grant 5 5
         del c
         alarm on 7
         put d 1
         alarm off 7
         range a z",
        r#"etcdserver: mvcc: database space exceeded (after alarm); raise NOSPACE
         -; raise NOSPACE
         etcdserver: mvcc: database space exceeded (after alarm); raise NOSPACE
         rev 4 true ops 1
         etcdserver: mvcc: database space exceeded (after alarm); granted 5 for 5; raise NOSPACE
         rev 5 deleted 1
         rev 5 7:1; alarms
         etcdserver: mvcc: database space exceeded
         rev 5 7:1; alarms
         rev 5 count 2 a=1 b=1"#,
    );
}

/// etcd issue 18667: what fails for who waits fails for all, by the version of the cluster.
#[test]
fn ranges_of_a_txn_that_nobody_waits_for() {
    // Members up to 3.6 leave out ranges before the checks, so the write is done; 3.7 checks them.
    let script = "version VERSION
        ?txn put a 1 | range b rev=99
        range a
        ?txn range a rev=99 | put b ignore_value
        txn put c 1 | range a rev=99";
    let answers = "done; membership
        -
        RESULT
        -
        etcdserver: mvcc: required revision is a future revision";
    // 3.0.0 is what a leader sets as long as it does not know what the others run.
    for (version, result) in [
        ("3.6.0", r#"rev 2 count 1 a=1"#),
        ("3.7.0", "rev 1 count 0"),
        ("3.0.0", "rev 1 count 0"),
    ] {
        check(
            v3_7(),
            &script.replace("VERSION", version),
            &answers.replace("RESULT", result),
        );
    }
}

#[test]
fn compactions() {
    check(
        v3_7(),
        "put a 1
         put a 2
         compact 4
         compact 2
         compact 2
         compact 3 physical
         range a rev=2
         ?compact 3",
        "rev 2
         rev 3
         etcdserver: mvcc: required revision is a future revision
         rev 3; compact 2
         etcdserver: mvcc: required revision has been compacted
         rev 3 (after compaction); compact 3
         etcdserver: mvcc: required revision has been compacted
         -",
    );
}

#[test]
fn members_come_and_go() {
    check(
        v3_7(),
        r#"add 8e9e05c52164694d http://localhost:2380
         attributes 8e9e05c52164694d n1 http://localhost:2379
         rows members
         learn a http://a:2380
         learn b http://b:2380
         add a http://c:2380
         promote a
         update a http://a:2381
         update a http://localhost:2380
         ?add c http://c:2380
         remove a
         add a http://d:1
         attributes a gone http://x:1
         rows members
         rows members_removed
         rows meta
         attributes d never http://x:1
         remove 8e9e05c52164694d"#,
        r#"8e9e05c52164694d; raft ConfChangeAddNode 8e9e05c52164694d; membership
         done; membership
         8e9e05c52164694d={\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"n1\",\"clientURLs\":[\"http://localhost:2379\"]}
         aL 8e9e05c52164694d; raft ConfChangeAddLearnerNode a; membership
         etcdserver: too many learner members in cluster; raft ConfChangeAddLearnerNode 0
         etcdserver: member ID already exist; raft ConfChangeAddNode 0
         a 8e9e05c52164694d; raft ConfChangeAddNode a; membership
         a 8e9e05c52164694d; raft ConfChangeUpdateNode a; membership
         etcdserver: Peer URLs already exists; raft ConfChangeUpdateNode 0
         -; raft ConfChangeAddNode c; membership
         c 8e9e05c52164694d; raft ConfChangeRemoveNode a; membership
         etcdserver: member not found; raft ConfChangeAddNode 0
         done
         8e9e05c52164694d={\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"n1\",\"clientURLs\":[\"http://localhost:2379\"]} c={\"id\":12,\"peerURLs\":[\"http://c:2380\"]}
         a=removed
         confState={\"voters\":[12,10276657743932975437],\"auto_leave\":false}
         fatal: entry 13: attributes of member d, which was never part of the cluster
         c; raft ConfChangeRemoveNode 8e9e05c52164694d; membership; self removed"#,
    );
}

#[test]
fn the_cluster_version_goes_up_and_down() {
    check(
        v3_7(),
        r#"version 3.6.0
         version 3.7.0
         downgrade 3.6.0
         rows cluster
         version 3.6.0
         downgrade off
         rows cluster
         restart
         rows cluster
         version 3.8.0
         version x"#,
        r#"done; membership
         done; membership
         done; membership
         clusterVersion=3.7.0 downgrade={\"target-version\":\"3.6.0\",\"enabled\":true}
         done; lowered 3.7.0 to 3.6.0; membership
         done; membership
         clusterVersion=3.6.0 downgrade={\"target-version\":\"\",\"enabled\":false}
         clusterVersion=3.6.0 downgrade={\"target-version\":\"\",\"enabled\":false}
         fatal: invalid downgrade; server version 3.7.1 is lower than determined cluster version 3.8.0
         fatal: entry 7: "x" is not a version"#,
    );
}

/// etcd issue 14239: the row's key is the number's eight bytes, and comes back as the same number.
#[test]
fn etcd_14239_a_lease_may_have_a_negative_id() {
    check(
        v3_7(),
        r"grant -5 100
         put a 1 lease=-5
         rows lease
         restart
         leases
         revoke -5
         range a",
        r"rev 1 lease -5 ttl 100; granted -5 for 100
         rev 2
         \xff\xff\xff\xff\xff\xff\xff\xfb=\x08\xfb\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10d
         -5(100 0):a
         rev 3; revoked -5
         rev 3 count 0",
    );
}

/// etcd issue 21694: new URLs leave a learner a learner, in memory and in its row.
#[test]
fn etcd_21694_an_update_leaves_a_learner_a_learner() {
    check(
        v3_7(),
        r#"add 8e9e05c52164694d http://localhost:2380
         learn a http://a:2380
         update a http://a:2381
         rows members
         rows meta
         restart
         add b http://b:2380"#,
        r#"8e9e05c52164694d; raft ConfChangeAddNode 8e9e05c52164694d; membership
         aL 8e9e05c52164694d; raft ConfChangeAddLearnerNode a; membership
         aL 8e9e05c52164694d; raft ConfChangeUpdateNode a; membership
         8e9e05c52164694d={\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"]} a={\"id\":10,\"peerURLs\":[\"http://a:2381\"],\"isLearner\":true}
         confState={\"voters\":[10276657743932975437],\"learners\":[10],\"auto_leave\":false}
         aL b 8e9e05c52164694d; raft ConfChangeAddNode b; membership"#,
    );
}

#[test]
fn authentication_is_told_of() {
    check(
        v3_7(),
        r"rows auth
         auth_status
         ?auth_status
         user_list
         auth_enable",
        r"authRevision=\x00\x00\x00\x00\x00\x00\x00\x01
         rev 1 enabled false revision 1
         -
         etcdserver: authentication is not enabled
         etcdserver: root user does not exist",
    );
}
