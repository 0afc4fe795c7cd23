//! member: who belongs to the cluster, and changes of that.

use api::etcdserverpb as pb;
use bytes::Bytes;
use serde_json::{Value, json};

use super::print::Format;
use super::{Context, decode, kv};
use crate::flags::{Command, Flag, Kind, flag, parse_id};
use crate::text::quote;
use crate::{EXIT_ERROR, Failure, json};

pub(super) const LIST: Command = Command {
    path: &["member", "list"],
    usage: "",
    help: "Lists all members in the cluster",
    flags: &[flag(
        "consistency",
        Kind::Text,
        "l",
        "Linearizable(l) or Serializable(s)",
    )],
};

pub(super) const ADD: Command = Command {
    path: &["member", "add"],
    usage: "<memberName> [options]",
    help: "Adds a member into the cluster",
    flags: &[
        PEER_URLS,
        flag(
            "learner",
            Kind::Bool,
            "false",
            "indicates if the new member is raft learner",
        ),
    ],
};
pub(super) const REMOVE: Command = Command {
    path: &["member", "remove"],
    usage: "<memberID>",
    help: "Removes a member from the cluster",
    flags: &[],
};
pub(super) const UPDATE: Command = Command {
    path: &["member", "update"],
    usage: "<memberID> [options]",
    help: "Updates a member in the cluster",
    flags: &[PEER_URLS],
};
pub(super) const PROMOTE: Command = Command {
    path: &["member", "promote"],
    usage: "<memberID>",
    help: "Promotes a non-voting member in the cluster",
    flags: &[],
};

const PEER_URLS: Flag = flag(
    "peer-urls",
    Kind::Text,
    "",
    "comma separated peer URLs of the member",
);

pub(super) async fn add(context: &Context) -> Result<(), Failure> {
    let name = match context.args() {
        [] => return Err(Failure::bad_args("member name not provided")),
        [name] => name,
        args => return Err(Failure::bad_args(too_many(args))),
    };
    let urls = peer_urls(context)?;
    // Looked at before anybody is asked: clientv3/cluster.go MemberAdd.
    api::url::parse_list(&urls.join(",")).map_err(|error| Failure::new(EXIT_ERROR, error))?;
    let request = pb::MemberAddRequest {
        peer_ur_ls: urls,
        is_learner: context.parsed.is("learner"),
    };
    let client = context.connect().await?;
    let answer = context
        .call(&client, "/etcdserverpb.Cluster/MemberAdd", &request)
        .await?;
    if print_raw(context, "etcdserverpb.MemberAddResponse", &answer)? {
        return Ok(());
    }
    let added: pb::MemberAddResponse = decode(&answer)?;
    let member = added.member.unwrap_or_default();
    let cluster = added.header.map_or(0, |header| header.cluster_id);
    let kind = if member.is_learner { " as learner " } else { " " };
    say!("Member {:16x} added{kind}to cluster {cluster:16x}\n", member.id);
    let shown = |text: &str| quote(text.as_bytes());
    say!("ETCD_NAME={}", shown(name));
    say!(
        "ETCD_INITIAL_CLUSTER={}",
        shown(&initial_cluster(&added.members, member.id, name))
    );
    say!(
        "ETCD_INITIAL_ADVERTISE_PEER_URLS={}",
        shown(context.parsed.text("peer-urls"))
    );
    say!("ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    Ok(())
}

/// What the new member's `--initial-cluster` has to be; it alone has no name yet in the answer.
fn initial_cluster(members: &[pb::Member], new_id: u64, new_name: &str) -> String {
    let mut parts = Vec::new();
    for member in members {
        let name = if member.id == new_id {
            new_name
        } else {
            &member.name
        };
        parts.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    parts.join(",")
}

fn too_many(args: &[String]) -> String {
    let mut text = "too many arguments".to_string();
    for arg in args {
        if arg.to_lowercase().starts_with("http") {
            text.push_str(&format!(", did you mean --peer-urls={arg}"));
        }
    }
    text
}

pub(super) async fn remove(context: &Context) -> Result<(), Failure> {
    let id = only_id(context)?;
    change(context, "Remove", &pb::MemberRemoveRequest { id }, |header| {
        format!("Member {id:16x} removed from cluster {:16x}", header.cluster_id)
    })
    .await
}

pub(super) async fn update(context: &Context) -> Result<(), Failure> {
    let id = only_id(context)?;
    let peer_ur_ls = peer_urls(context)?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls };
    change(context, "Update", &request, |header| {
        format!("Member {id:16x} updated in cluster {:16x}", header.cluster_id)
    })
    .await
}

pub(super) async fn promote(context: &Context) -> Result<(), Failure> {
    let id = only_id(context)?;
    change(context, "Promote", &pb::MemberPromoteRequest { id }, |header| {
        format!("Member {id:16x} promoted in cluster {:16x}", header.cluster_id)
    })
    .await
}

/// One change of a member. The three answers hold the same: a header and the members.
async fn change<M: prost::Message>(
    context: &Context,
    what: &str,
    request: &M,
    line: impl FnOnce(&pb::ResponseHeader) -> String,
) -> Result<(), Failure> {
    let client = context.connect().await?;
    let method = format!("/etcdserverpb.Cluster/Member{what}");
    let answer = context.call(&client, &method, request).await?;
    if !print_raw(context, &format!("etcdserverpb.Member{what}Response"), &answer)? {
        let changed: pb::MemberRemoveResponse = decode(&answer)?;
        say!("{}", line(&changed.header.unwrap_or_default()));
    }
    Ok(())
}

/// Prints all but the simple format; `false` if the caller has to print that, or the fields of the
/// one answer that has them.
fn print_raw(context: &Context, name: &str, answer: &Bytes) -> Result<bool, Failure> {
    if context.printer.format == Format::Json && context.printer.hex {
        say!("{}", json::line(&hex_ids(json::message(name, answer)?)));
        return Ok(true);
    }
    if context.printer.format == Format::Fields && name != LIST_ANSWER {
        return Err(context.printer.unsupported());
    }
    context.printer.raw(name, answer)
}

fn only_id(context: &Context) -> Result<u64, Failure> {
    let [id] = context.args() else {
        return Err(Failure::bad_args("member ID is not provided"));
    };
    parse_id(id).map_err(|why| Failure::bad_args(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

fn peer_urls(context: &Context) -> Result<Vec<String>, Failure> {
    match context.parsed.text("peer-urls") {
        "" => Err(Failure::bad_args("member peer urls not provided")),
        urls => Ok(urls.split(',').map(str::to_string).collect()),
    }
}

pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let linearizable = !kv::serializable(context.parsed.text("consistency"))?;
    let client = context.connect().await?;
    let answer = context
        .call(
            &client,
            "/etcdserverpb.Cluster/MemberList",
            &pb::MemberListRequest { linearizable },
        )
        .await?;
    let list: pb::MemberListResponse = decode(&answer)?;
    match context.printer.format {
        Format::Json | Format::Protobuf => {
            print_raw(context, LIST_ANSWER, &answer)?;
        }
        Format::Fields => {
            context.printer.header(list.header.as_ref());
            for member in &list.members {
                say!(
                    "\"ID\" : {}\n\"Name\" : {}",
                    context.printer.id(member.id),
                    quote(member.name.as_bytes())
                );
                member
                    .peer_ur_ls
                    .iter()
                    .for_each(|url| say!("\"PeerURL\" : {}", quote(url.as_bytes())));
                member
                    .client_ur_ls
                    .iter()
                    .for_each(|url| say!("\"ClientURL\" : {}", quote(url.as_bytes())));
                say!("\"IsLearner\" : {}\n", member.is_learner);
            }
        }
        Format::Simple | Format::Table => {
            let rows: Vec<Vec<String>> = list.members.iter().map(member_row).collect();
            let head = ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"];
            context.printer.rows(&head, &rows);
        }
    }
    Ok(())
}

fn member_row(member: &pb::Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        }
        .to_string(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

const LIST_ANSWER: &str = "etcdserverpb.MemberListResponse";

/// With `--hex`, IDs are strings of hex digits.
fn hex_ids(mut shown: Value) -> Value {
    let hex = |object: &mut Value, name: &str| {
        if let Some(field) = object.as_object_mut() {
            let id = field.get(name).and_then(Value::as_u64).unwrap_or(0);
            field.insert(name.to_string(), json!(format!("{id:x}")));
        }
    };
    if let Some(header) = shown.get_mut("header") {
        hex(header, "cluster_id");
        hex(header, "member_id");
    }
    if let Some(member) = shown.get_mut("member") {
        hex(member, "ID");
    }
    if let Some(members) = shown.get_mut("members").and_then(Value::as_array_mut) {
        members.iter_mut().for_each(|member| hex(member, "ID"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_hex_are_texts() {
        let shown = json!({"header": {"cluster_id": 255u64, "member_id": u64::MAX}, "member": {"ID": 16},
            "members": [{"ID": 17, "name": "a"}]});
        assert_eq!(
            hex_ids(shown),
            json!({"header": {"cluster_id": "ff", "member_id": "ffffffffffffffff"}, "member": {"ID": "10"},
            "members": [{"ID": "11", "name": "a"}]})
        );
    }

    #[test]
    fn the_new_members_cluster() {
        let member = |id, name: &str, urls: &[&str]| pb::Member {
            id,
            name: name.to_string(),
            peer_ur_ls: urls.iter().map(ToString::to_string).collect(),
            ..pb::Member::default()
        };
        let members = [
            member(1, "a", &["http://a:1", "http://b:1"]),
            member(2, "", &["http://c:1"]),
        ];
        assert_eq!(
            initial_cluster(&members, 2, "new"),
            "a=http://a:1,a=http://b:1,new=http://c:1"
        );
    }

    #[test]
    fn too_many_arguments_hint_at_the_flag() {
        let args = ["x".to_string(), "HTTP://a:1".to_string()];
        assert_eq!(
            too_many(&args),
            "too many arguments, did you mean --peer-urls=HTTP://a:1"
        );
    }
}
