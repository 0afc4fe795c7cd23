//! lease grant, revoke, timetolive, list, keep-alive.

use std::time::Duration;

use api::error::{Code, Status};
use api::etcdserverpb as pb;
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::link::Link;
use super::print::Format;
use super::{Context, decode};
use crate::flags::{Command, Kind, flag, parse_int, parse_radix};
use crate::{EXIT_BAD_CONNECTION, Failure, json};
use client::Client;

pub(super) const GRANT: Command = Command {
    path: &["lease", "grant"],
    usage: "<ttl>",
    help: "Creates leases",
    flags: &[],
};
pub(super) const REVOKE: Command = Command {
    path: &["lease", "revoke"],
    usage: "<leaseID>",
    help: "Revokes leases",
    flags: &[],
};
pub(super) const TIME_TO_LIVE: Command = Command {
    path: &["lease", "timetolive"],
    usage: "<leaseID> [options]",
    help: "Get lease information",
    flags: &[flag(
        "keys",
        Kind::Bool,
        "false",
        "Get keys attached to this lease",
    )],
};
pub(super) const LIST: Command = Command {
    path: &["lease", "list"],
    usage: "",
    help: "List all active leases",
    flags: &[],
};
pub(super) const KEEP_ALIVE: Command = Command {
    path: &["lease", "keep-alive"],
    usage: "[options] <leaseID>",
    help: "Keeps leases alive (renew)",
    flags: &[flag(
        "once",
        Kind::Bool,
        "false",
        "Resets the keep-alive time to its original value and exits immediately",
    )],
};

fn id_of(text: &str) -> Result<i64, Failure> {
    parse_radix(text, 16)
        .map_err(|error| Failure::bad_args(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}

/// JSON and protobuf of an answer whose header clientv3 flattens; `false` if the caller has to print.
fn raw(
    context: &Context,
    header: Option<&pb::ResponseHeader>,
    fields: Vec<(&str, Value)>,
) -> Result<bool, Failure> {
    match context.printer.format {
        Format::Json => {
            let header = header.map(Message::encode_to_vec).unwrap_or_default();
            let header = json::message("etcdserverpb.ResponseHeader", &header)?;
            say!("{}", json::line(&json::with_flat_header(&header, fields)));
            Ok(true)
        }
        Format::Protobuf | Format::Table => Err(context.printer.unsupported()),
        Format::Simple | Format::Fields => Ok(false),
    }
}

pub(super) async fn grant(context: &Context) -> Result<(), Failure> {
    let [ttl] = context.args() else {
        return Err(Failure::bad_args("lease grant command needs TTL argument"));
    };
    let ttl = parse_int(ttl).map_err(|error| Failure::bad_args(format!("bad TTL ({error})")))?;
    let client = context.connect().await?;
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let answer = context
        .call(&client, "/etcdserverpb.Lease/LeaseGrant", &request)
        .await
        .map_err(|failure| failure.wrapped("failed to grant lease (", ")"))?;
    let grant: pb::LeaseGrantResponse = decode(&answer)?;
    let fields = vec![
        ("ID", json!(grant.id)),
        ("TTL", json!(grant.ttl)),
        ("Error", json!(grant.error)),
    ];
    if raw(context, grant.header.as_ref(), fields)? {
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        context.printer.header(grant.header.as_ref());
        say!(
            "\"ID\" : {}\n\"TTL\" : {}",
            context.printer.lease_id(grant.id),
            grant.ttl
        );
    } else {
        say!("lease {:016x} granted with TTL({}s)", grant.id, grant.ttl);
    }
    Ok(())
}

pub(super) async fn revoke(context: &Context) -> Result<(), Failure> {
    let [id] = context.args() else {
        return Err(Failure::bad_args("lease revoke command needs 1 argument"));
    };
    let id = id_of(id)?;
    let client = context.connect().await?;
    let answer = context
        .call(
            &client,
            "/etcdserverpb.Lease/LeaseRevoke",
            &pb::LeaseRevokeRequest { id },
        )
        .await
        .map_err(|failure| failure.wrapped("failed to revoke lease (", ")"))?;
    if context.printer.raw("etcdserverpb.LeaseRevokeResponse", &answer)? {
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        let revoke: pb::LeaseRevokeResponse = decode(&answer)?;
        context.printer.header(revoke.header.as_ref());
    } else {
        say!("lease {id:016x} revoked");
    }
    Ok(())
}

pub(super) async fn time_to_live(context: &Context) -> Result<(), Failure> {
    let [id] = context.args() else {
        return Err(Failure::bad_args(
            "lease timetolive command needs lease ID as argument",
        ));
    };
    let keys = context.parsed.is("keys");
    let request = pb::LeaseTimeToLiveRequest { id: id_of(id)?, keys };
    let client = context.connect().await?;
    let answer = context
        .call(&client, "/etcdserverpb.Lease/LeaseTimeToLive", &request)
        .await
        .map_err(|failure| failure.with_code(EXIT_BAD_CONNECTION))?;
    let lease: pb::LeaseTimeToLiveResponse = decode(&answer)?;
    let shown = json::message("etcdserverpb.LeaseTimeToLiveResponse", &answer)?;
    let fields = vec![
        ("id", json!(lease.id)),
        ("ttl", json!(lease.ttl)),
        ("granted-ttl", json!(lease.granted_ttl)),
        ("keys", shown.get("keys").cloned().unwrap_or(Value::Null)),
    ];
    if raw(context, lease.header.as_ref(), fields)? {
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        context.printer.header(lease.header.as_ref());
        say!("\"ID\" : {}", context.printer.lease_id(lease.id));
        say!("\"TTL\" : {}\n\"GrantedTTL\" : {}", lease.ttl, lease.granted_ttl);
        lease
            .keys
            .iter()
            .for_each(|key| say!("\"Key\" : {}", crate::text::quote(key)));
    } else if lease.granted_ttl == 0 && lease.ttl == -1 {
        say!("lease {:016x} already expired", lease.id);
    } else {
        let attached: Vec<_> = lease
            .keys
            .iter()
            .map(|key| String::from_utf8_lossy(key))
            .collect();
        let attached = if keys {
            format!(", attached keys([{}])", attached.join(" "))
        } else {
            String::new()
        };
        say!(
            "lease {:016x} granted with TTL({}s), remaining({}s){attached}",
            lease.id,
            lease.granted_ttl,
            lease.ttl
        );
    }
    Ok(())
}

pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let client = context.connect().await?;
    let answer = context
        .call(
            &client,
            "/etcdserverpb.Lease/LeaseLeases",
            &pb::LeaseLeasesRequest {},
        )
        .await
        .map_err(|failure| failure.with_code(EXIT_BAD_CONNECTION))?;
    let list: pb::LeaseLeasesResponse = decode(&answer)?;
    let ids: Vec<Value> = list.leases.iter().map(|lease| json!({"id": lease.id})).collect();
    if raw(context, list.header.as_ref(), vec![("leases", Value::Array(ids))])? {
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        context.printer.header(list.header.as_ref());
        list.leases
            .iter()
            .for_each(|lease| say!("\"ID\" : {}", context.printer.lease_id(lease.id)));
    } else {
        say!("found {} leases", list.leases.len());
        list.leases.iter().for_each(|lease| say!("{:016x}", lease.id));
    }
    Ok(())
}

pub(super) async fn keep_alive(context: &Context) -> Result<(), Failure> {
    let [id] = context.args() else {
        return Err(Failure::bad_args(
            "lease keep-alive command needs lease ID as argument",
        ));
    };
    let id = id_of(id)?;
    let link = Link::open(context).await?;
    if context.parsed.is("once") {
        let client = link.client().await;
        let once = async { renew(&client, id).await.map_err(Failure::from) };
        let lease = super::within(context.timeout(), once)
            .await
            .map_err(|failure| failure.with_code(EXIT_BAD_CONNECTION))?
            .ok_or_else(|| Failure::from(api::error::LEASE_NOT_FOUND).with_code(EXIT_BAD_CONNECTION))?;
        return print(context, &lease);
    }
    // etcd: client/v3/lease.go, firstKeepAliveTimeout.
    let first = context.config(Vec::new()).dial_timeout + Duration::from_secs(1);
    keep(&link, id, first, |lease| print(context, lease)).await?;
    if context.printer.format == Format::Simple {
        say!("lease {id:016x} expired or revoked.");
    }
    Ok(())
}

/// Renews a lease, which may have ended after `first`, at a third of the time it gets, and hands over what it got. Tries
/// until that has passed, at another member where one is lost; returns when the lease is gone (etcd: client/v3/lease.go).
pub(super) async fn keep(
    link: &Link<'_>,
    id: i64,
    first: Duration,
    mut see: impl FnMut(&pb::LeaseKeepAliveResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut lives_until = Instant::now() + first;
    loop {
        let renewed = link.until_done(async |client| Ok(renew(client, id).await?));
        let Some(lease) = tokio::time::timeout_at(lives_until, renewed)
            .await
            .unwrap_or(Ok(None))?
        else {
            return Ok(());
        };
        see(&lease)?;
        let lives = Duration::from_secs(u64::try_from(lease.ttl).unwrap_or(1));
        lives_until = Instant::now() + lives;
        tokio::time::sleep(lives / 3).await;
    }
}

/// One renewal; `None` if the lease is gone.
async fn renew(client: &Client, id: i64) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
    let mut stream = client.stream("/etcdserverpb.Lease/LeaseKeepAlive", &[]).await?;
    stream.send(&pb::LeaseKeepAliveRequest { id }).await?;
    let answer: Bytes = stream.next().await?.unwrap_or_default();
    stream.finish()?;
    let lease = pb::LeaseKeepAliveResponse::decode(answer)
        .map_err(|error| Status::with(Code::Internal, format!("the answer cannot be decoded: {error}")))?;
    Ok((lease.ttl > 0).then_some(lease))
}

fn print(context: &Context, lease: &pb::LeaseKeepAliveResponse) -> Result<(), Failure> {
    let fields = vec![("ID", json!(lease.id)), ("TTL", json!(lease.ttl))];
    if raw(context, lease.header.as_ref(), fields)? {
        return Ok(());
    }
    if context.printer.format == Format::Fields {
        context.printer.header(lease.header.as_ref());
        say!(
            "\"ID\" : {}\n\"TTL\" : {}",
            context.printer.lease_id(lease.id),
            lease.ttl
        );
    } else {
        say!("lease {:016x} keepalived with TTL({})", lease.id, lease.ttl);
    }
    Ok(())
}
