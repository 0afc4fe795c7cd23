//! alarm, defrag, endpoint, move-leader, downgrade: what concerns members rather than keys.

use std::time::Instant;

use api::error::{PERMISSION_DENIED, Status};
use api::etcdserverpb as pb;
use serde_json::{Value, json};

use super::print::Format;
use super::{Context, decode, within};
use crate::flags::{Command, Flag, Kind, flag, parse_id};
use crate::text::{bytes, duration, quote};
use crate::{EXIT_ERROR, Failure, json};
use client::Client;

pub(super) const ALARM_LIST: Command = Command {
    path: &["alarm", "list"],
    usage: "",
    help: "Lists all alarms",
    flags: &[],
};
pub(super) const ALARM_DISARM: Command = Command {
    path: &["alarm", "disarm"],
    usage: "",
    help: "Disarms all alarms",
    flags: &[],
};
pub(super) const DEFRAG: Command = Command {
    path: &["defrag"],
    usage: "",
    help: "Defragments the storage of the etcd members with given endpoints",
    flags: &[CLUSTER],
};
pub(super) const HEALTH: Command = Command {
    path: &["endpoint", "health"],
    usage: "",
    help: "Checks the healthiness of endpoints specified in `--endpoints` flag",
    flags: &[CLUSTER],
};
pub(super) const STATUS: Command = Command {
    path: &["endpoint", "status"],
    usage: "",
    help: "Prints out the status of endpoints specified in `--endpoints` flag",
    flags: &[CLUSTER],
};
pub(super) const HASHKV: Command = Command {
    path: &["endpoint", "hashkv"],
    usage: "",
    help: "Prints the KV history hash for each endpoint in --endpoints",
    flags: &[
        CLUSTER,
        flag(
            "rev",
            Kind::Int,
            "0",
            "maximum revision to hash (default: latest revision)",
        ),
    ],
};
pub(super) const MOVE_LEADER: Command = Command {
    path: &["move-leader"],
    usage: "<transferee-member-id>",
    help: "Transfers leadership to another etcd cluster member.",
    flags: &[],
};
pub(super) const DOWNGRADE_VALIDATE: Command = Command {
    path: &["downgrade", "validate"],
    usage: "<TARGET_VERSION>",
    help: "Validate downgrade capability before starting downgrade",
    flags: &[],
};
pub(super) const DOWNGRADE_ENABLE: Command = Command {
    path: &["downgrade", "enable"],
    usage: "<TARGET_VERSION>",
    help: "Start a downgrade action to cluster",
    flags: &[],
};
pub(super) const DOWNGRADE_CANCEL: Command = Command {
    path: &["downgrade", "cancel"],
    usage: "",
    help: "Cancel the ongoing downgrade action to cluster",
    flags: &[],
};

const CLUSTER: Flag = flag(
    "cluster",
    Kind::Bool,
    "false",
    "use all endpoints from the cluster member list",
);

pub(super) async fn alarm_list(context: &Context) -> Result<(), Failure> {
    if !context.args().is_empty() {
        return Err(Failure::bad_args("alarm list command accepts no arguments"));
    }
    let client = context.connect().await?;
    let answer = context
        .call(
            &client,
            "/etcdserverpb.Maintenance/Alarm",
            &pb::AlarmRequest::default(),
        )
        .await?;
    print_alarms(context, &answer)
}

pub(super) async fn alarm_disarm(context: &Context) -> Result<(), Failure> {
    if !context.args().is_empty() {
        return Err(Failure::bad_args("alarm disarm command accepts no arguments"));
    }
    let client = context.connect().await?;
    let list = context
        .call(
            &client,
            "/etcdserverpb.Maintenance/Alarm",
            &pb::AlarmRequest::default(),
        )
        .await?;
    let list: pb::AlarmResponse = decode(&list)?;
    let mut done = pb::AlarmResponse::default();
    for alarm in &list.alarms {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let answer = context
            .call(&client, "/etcdserverpb.Maintenance/Alarm", &request)
            .await?;
        let answer: pb::AlarmResponse = decode(&answer)?;
        done.header = answer.header;
        done.alarms.extend(answer.alarms);
    }
    print_alarms(context, &prost::Message::encode_to_vec(&done))
}

fn alarm_name(alarm: i32) -> &'static str {
    match alarm {
        0 => "NONE",
        1 => "NOSPACE",
        2 => "CORRUPT",
        _ => "UNKNOWN",
    }
}

fn print_alarms(context: &Context, answer: &[u8]) -> Result<(), Failure> {
    if context.printer.raw("etcdserverpb.AlarmResponse", answer)? {
        return Ok(());
    }
    let alarms: pb::AlarmResponse = decode(answer)?;
    if context.printer.format == Format::Fields {
        context.printer.header(alarms.header.as_ref());
    }
    for alarm in &alarms.alarms {
        let name = alarm_name(alarm.alarm);
        if context.printer.format == Format::Fields {
            say!(
                "\"MemberID\" : {}\n\"AlarmType\" : {name}\n",
                context.printer.id(alarm.member_id)
            );
        } else {
            say!("memberID:{} alarm:{name} ", alarm.member_id);
        }
    }
    Ok(())
}

/// The endpoints that were given, or with `--cluster` those of all members.
async fn endpoints(context: &Context) -> Result<Vec<String>, Failure> {
    if !context.parsed.is("cluster") {
        return Ok(context.endpoints());
    }
    let wrap =
        |failure: Failure| failure.wrapped("failed to fetch endpoints from etcd cluster member list: ", "");
    let client = context.connect().await.map_err(wrap)?;
    let request = pb::MemberListRequest { linearizable: true };
    let answer = context
        .call(&client, "/etcdserverpb.Cluster/MemberList", &request)
        .await
        .map_err(wrap)?;
    let list: pb::MemberListResponse = decode(&answer)?;
    Ok(list
        .members
        .into_iter()
        .flat_map(|member| member.client_ur_ls)
        .collect())
}

pub(super) async fn defrag(context: &Context) -> Result<(), Failure> {
    let mut failures = false;
    for endpoint in endpoints(context).await? {
        let start = Instant::now();
        let outcome = match context.connect_to(vec![endpoint.clone()]).await {
            Ok(client) => {
                context
                    .call(
                        &client,
                        "/etcdserverpb.Maintenance/Defragment",
                        &pb::DefragmentRequest {},
                    )
                    .await
            }
            Err(failure) => Err(failure),
        };
        let took = duration(start.elapsed());
        match outcome {
            Ok(_) => say!("Finished defragmenting etcd member[{endpoint}]. took {took}"),
            Err(failure) => {
                eprintln!(
                    "Failed to defragment etcd member[{endpoint}]. took {took}. ({})",
                    failure.text
                );
                failures = true;
            }
        }
    }
    if failures {
        Err(Failure::new(EXIT_ERROR, ""))
    } else {
        Ok(())
    }
}

struct Health {
    endpoint: String,
    healthy: bool,
    took: String,
    error: String,
}

pub(super) async fn health(context: &Context) -> Result<(), Failure> {
    let mut found = Vec::new();
    for endpoint in endpoints(context).await? {
        found.push(probe(context, endpoint).await);
    }
    match context.printer.format {
        Format::Protobuf => return Err(context.printer.unsupported()),
        Format::Json => {
            let shown: Vec<Value> = found.iter().map(health_json).collect();
            say!("{}", json::line(&Value::Array(shown)));
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = found
                .iter()
                .map(|h| {
                    vec![
                        h.endpoint.clone(),
                        h.healthy.to_string(),
                        h.took.clone(),
                        h.error.clone(),
                    ]
                })
                .collect();
            context
                .printer
                .rows(&["endpoint", "health", "took", "error"], &rows);
        }
        Format::Fields => {
            for h in &found {
                say!("\"Endpoint\" : {}", quote(h.endpoint.as_bytes()));
                say!(
                    "\"Health\" : {}\n\"Took\" : {}\n\"Error\" : {}\n",
                    h.healthy,
                    h.took,
                    h.error
                );
            }
        }
        Format::Simple => {
            for h in &found {
                if h.error.is_empty() {
                    say!(
                        "{} is healthy: successfully committed proposal: took = {}",
                        h.endpoint,
                        h.took
                    );
                } else {
                    eprintln!(
                        "{} is unhealthy: failed to commit proposal: {}",
                        h.endpoint, h.error
                    );
                }
            }
        }
    }
    if found.iter().any(|h| !h.error.is_empty()) {
        return Err(Failure::new(EXIT_ERROR, "unhealthy cluster"));
    }
    Ok(())
}

fn health_json(health: &Health) -> Value {
    let mut shown = json!({"endpoint": health.endpoint, "health": health.healthy, "took": health.took});
    if let (false, Some(fields)) = (health.error.is_empty(), shown.as_object_mut()) {
        fields.insert("error".to_string(), json!(health.error));
    }
    shown
}

/// A linearizable read of any key, then a look at the alarms.
async fn probe(context: &Context, endpoint: String) -> Health {
    let start = Instant::now();
    let outcome = within(context.timeout(), async {
        let client = context.connect_to(vec![endpoint.clone()]).await?;
        let request = pb::RangeRequest {
            key: "health".into(),
            ..pb::RangeRequest::default()
        };
        match client.unary("/etcdserverpb.KV/Range", &request).await {
            // A denied read went through consensus as well.
            Ok(_) => {}
            Err(Status { message, .. }) if message == PERMISSION_DENIED.message => {}
            Err(status) => return Err(status.into()),
        }
        Ok(client)
    })
    .await;
    let took = duration(start.elapsed());
    let error = match outcome {
        Err(failure) => failure.text,
        Ok(client) => alarms_of(context, &client).await,
    };
    Health {
        endpoint,
        healthy: error.is_empty(),
        took,
        error,
    }
}

/// What is to be said of a member's alarms; nothing if there are none.
async fn alarms_of(context: &Context, client: &Client) -> String {
    let answer = context
        .call(
            client,
            "/etcdserverpb.Maintenance/Alarm",
            &pb::AlarmRequest::default(),
        )
        .await;
    let Ok(alarms) = answer.and_then(|answer| decode::<pb::AlarmResponse>(&answer)) else {
        return "Unable to fetch the alarm list".to_string();
    };
    if alarms.alarms.is_empty() {
        return String::new();
    }
    let names: String = alarms
        .alarms
        .iter()
        .map(|alarm| format!("{} ", alarm_name(alarm.alarm)))
        .collect();
    format!("Active Alarm(s): {names}")
}

/// Asks each endpoint; what failed is said at once and makes the command fail.
async fn ask_each<M: prost::Message>(
    context: &Context,
    method: &str,
    request: &M,
    what: &str,
) -> Result<(Vec<(String, bytes::Bytes)>, Option<Failure>), Failure> {
    let mut answers = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(context).await? {
        let outcome = match context.connect_to(vec![endpoint.clone()]).await {
            Ok(client) => context.call(&client, method, request).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(answer) => answers.push((endpoint, answer)),
            Err(failure) => {
                eprintln!(
                    "Failed to get the {what} of endpoint {endpoint} ({})",
                    failure.text
                );
                failed = Some(failure);
            }
        }
    }
    Ok((answers, failed))
}

const STATUS_HEAD: [&str; 16] = [
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

pub(super) async fn status(context: &Context) -> Result<(), Failure> {
    let (answers, failed) = ask_each(
        context,
        "/etcdserverpb.Maintenance/Status",
        &pb::StatusRequest {},
        "status",
    )
    .await?;
    if context.printer.format == Format::Protobuf {
        return Err(context.printer.unsupported());
    }
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for (endpoint, answer) in &answers {
        if context.printer.format == Format::Json {
            shown.push(json!({"Endpoint": endpoint, "Status": json::message("etcdserverpb.StatusResponse", answer)?}));
            continue;
        }
        let status: pb::StatusResponse = decode(answer)?;
        if context.printer.format == Format::Fields {
            status_fields(context, endpoint, &status);
        }
        rows.push(status_row(endpoint, &status));
    }
    match context.printer.format {
        Format::Json => say!("{}", json::line(&Value::Array(shown))),
        Format::Fields | Format::Protobuf => {}
        Format::Simple | Format::Table => context.printer.rows(&STATUS_HEAD, &rows),
    }
    if failed.is_some() {
        Err(Failure::new(EXIT_ERROR, ""))
    } else {
        Ok(())
    }
}

fn status_row(endpoint: &str, status: &pb::StatusResponse) -> Vec<String> {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    let size = |count: i64| bytes(u64::try_from(count).unwrap_or(0));
    let used = (status.db_size_in_use * 100)
        .checked_div(status.db_size)
        .unwrap_or(100);
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.to_string(),
        format!("{id:x}"),
        status.version.clone(),
        status.storage_version.clone(),
        size(status.db_size),
        size(status.db_size_in_use),
        format!("{}%", 100 - used),
        size(status.db_size_quota),
        (status.leader == id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn status_fields(context: &Context, endpoint: &str, status: &pb::StatusResponse) {
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    context.printer.header(status.header.as_ref());
    say!("\"Version\" : {}", quote(status.version.as_bytes()));
    say!(
        "\"StorageVersion\" : {}",
        quote(status.storage_version.as_bytes())
    );
    say!("\"DBSize\" : {}", status.db_size);
    say!("\"DBSizeInUse\" : {}", status.db_size_in_use);
    say!("\"DBSizeQuota\" : {}", status.db_size_quota);
    say!("\"Leader\" : {}", status.leader);
    say!("\"IsLearner\" : {}", status.is_learner);
    say!("\"RaftIndex\" : {}", status.raft_index);
    say!("\"RaftTerm\" : {}", status.raft_term);
    say!("\"RaftAppliedIndex\" : {}", status.raft_applied_index);
    say!("\"Errors\" : [{}]", status.errors.join(" "));
    say!("\"Endpoint\" : {}", quote(endpoint.as_bytes()));
    say!(
        "\"DowngradeTargetVersion\" : {}",
        quote(downgrade.target_version.as_bytes())
    );
    say!("\"DowngradeEnabled\" : {}\n", downgrade.enabled);
}

pub(super) async fn hashkv(context: &Context) -> Result<(), Failure> {
    let request = pb::HashKvRequest {
        revision: context.parsed.int("rev"),
    };
    let (answers, failed) = ask_each(context, "/etcdserverpb.Maintenance/HashKV", &request, "hash").await?;
    if context.printer.format == Format::Protobuf {
        return Err(context.printer.unsupported());
    }
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for (endpoint, answer) in &answers {
        let hash: pb::HashKvResponse = decode(answer)?;
        shown.push(
            json!({"Endpoint": endpoint, "HashKV": json::message("etcdserverpb.HashKVResponse", answer)?}),
        );
        if context.printer.format == Format::Fields {
            context.printer.header(hash.header.as_ref());
            say!("\"Endpoint\" : {}", quote(endpoint.as_bytes()));
            say!(
                "\"Hash\" : {}\n\"HashRevision\" : {}\n",
                hash.hash,
                hash.hash_revision
            );
        }
        rows.push(vec![
            endpoint.clone(),
            hash.hash.to_string(),
            hash.hash_revision.to_string(),
        ]);
    }
    match context.printer.format {
        Format::Json => say!("{}", json::line(&Value::Array(shown))),
        Format::Fields | Format::Protobuf => {}
        Format::Simple | Format::Table => context
            .printer
            .rows(&["endpoint", "hash", "hash_revision"], &rows),
    }
    // Said once more than by `status`: ep_command.go epHashKVCommandFunc.
    failed.map_or(Ok(()), |failure| Err(failure.with_code(EXIT_ERROR)))
}

/// Asks the endpoints in turn for the leader, and the leader to hand over.
pub(super) async fn move_leader(context: &Context) -> Result<(), Failure> {
    let [target] = context.args() else {
        return Err(Failure::bad_args("move-leader command needs 1 argument"));
    };
    let target = parse_id(target).map_err(Failure::bad_args)?;
    let endpoints = context.endpoints();
    for endpoint in &endpoints {
        let client = context.connect_to(vec![endpoint.clone()]).await?;
        let answer = context
            .call(&client, "/etcdserverpb.Maintenance/Status", &pb::StatusRequest {})
            .await?;
        let status: pb::StatusResponse = decode(&answer)?;
        let leader = status.leader;
        if status.header.is_none_or(|header| header.member_id != leader) {
            continue;
        }
        let request = pb::MoveLeaderRequest { target_id: target };
        let answer = context
            .call(&client, "/etcdserverpb.Maintenance/MoveLeader", &request)
            .await?;
        if context.printer.format == Format::Fields {
            return Err(context.printer.unsupported());
        }
        if !context.printer.raw("etcdserverpb.MoveLeaderResponse", &answer)? {
            say!("Leadership transferred from {leader:x} to {target:x}");
        }
        return Ok(());
    }
    Err(Failure::bad_args(format!(
        "no leader endpoint given at [{}]",
        endpoints.join(" ")
    )))
}

/// One of the three downgrade commands, which differ in a word and in the target.
pub(super) async fn downgrade(context: &Context) -> Result<(), Failure> {
    use pb::downgrade_request::DowngradeAction;
    let (action, word) = match context.parsed.command.path {
        ["downgrade", "validate"] => (DowngradeAction::Validate, "validate"),
        ["downgrade", "enable"] => (DowngradeAction::Enable, "enable"),
        _ => (DowngradeAction::Cancel, "cancel"),
    };
    let target = match (action, context.args()) {
        (DowngradeAction::Cancel, _) => "",
        (_, []) => return Err(Failure::bad_args("TARGET_VERSION not provided")),
        (_, [target]) if target.is_empty() => return Err(Failure::bad_args("target version not provided")),
        (_, [target]) => target,
        _ => return Err(Failure::bad_args("too many arguments")),
    };
    let request = pb::DowngradeRequest {
        action: action.into(),
        version: target.to_string(),
    };
    let client = context.connect().await?;
    let answer = context
        .call(&client, "/etcdserverpb.Maintenance/Downgrade", &request)
        .await?;
    if context.printer.format == Format::Fields {
        return Err(context.printer.unsupported());
    }
    if !context.printer.raw("etcdserverpb.DowngradeResponse", &answer)? {
        let answer: pb::DowngradeResponse = decode(&answer)?;
        say!("Downgrade {word} success, cluster version {}", answer.version);
    }
    Ok(())
}
