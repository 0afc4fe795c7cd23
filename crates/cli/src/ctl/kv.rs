//! get, put, del, compaction; the operations of `txn` are parsed here too.

use std::io::Read;
use std::time::Duration;

use api::etcdserverpb::{self as pb, request_op::Request};

use super::print::Format;
use super::{Context, prefix_end};
use crate::flags::{Command, Kind, Parsed, flag, parse_int, parse_radix};
use crate::{EXIT_BAD_FEATURE, EXIT_ERROR, Failure};

pub(super) const GET: Command = Command {
    path: &["get"],
    usage: "[options] <key> [range_end]",
    help: "Gets the key or a range of keys",
    flags: &[
        flag(
            "consistency",
            Kind::Text,
            "l",
            "Linearizable(l) or Serializable(s)",
        ),
        flag(
            "order",
            Kind::Text,
            "",
            "Order of results; ASCEND or DESCEND (ASCEND by default)",
        ),
        flag(
            "sort-by",
            Kind::Text,
            "",
            "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION",
        ),
        flag("limit", Kind::Int, "0", "Maximum number of results"),
        flag("prefix", Kind::Bool, "false", "Get keys with matching prefix"),
        flag(
            "from-key",
            Kind::Bool,
            "false",
            "Get keys that are greater than or equal to the given key",
        ),
        flag("rev", Kind::Int, "0", "Specify the kv revision"),
        flag("keys-only", Kind::Bool, "false", "Get only the keys"),
        flag("count-only", Kind::Bool, "false", "Get only the count"),
        flag(
            "print-value-only",
            Kind::Bool,
            "false",
            "Only write values when using the \"simple\" output format",
        ),
        flag("min-create-rev", Kind::Int, "0", "Minimum create revision"),
        flag("max-create-rev", Kind::Int, "0", "Maximum create revision"),
        flag("min-mod-rev", Kind::Int, "0", "Minimum modification revision"),
        flag("max-mod-rev", Kind::Int, "0", "Maximum modification revision"),
        flag("stream", Kind::Bool, "false", "Use the RangeStream RPC"),
    ],
};

pub(super) const PUT: Command = Command {
    path: &["put"],
    usage: "[options] <key> <value> (<value> can also be given from stdin)",
    help: "Puts the given key into the store",
    flags: &[
        flag(
            "lease",
            Kind::Text,
            "0",
            "lease ID (in hexadecimal) to attach to the key",
        ),
        flag(
            "prev-kv",
            Kind::Bool,
            "false",
            "return the previous key-value pair before modification",
        ),
        flag(
            "ignore-value",
            Kind::Bool,
            "false",
            "updates the key using its current value",
        ),
        flag(
            "ignore-lease",
            Kind::Bool,
            "false",
            "updates the key using its current lease",
        ),
    ],
};

pub(super) const DEL: Command = Command {
    path: &["del"],
    usage: "[options] <key> [range_end]",
    help: "Removes the specified key or range of keys [key, range_end)",
    flags: &[
        flag("prefix", Kind::Bool, "false", "delete keys with matching prefix"),
        flag("prev-kv", Kind::Bool, "false", "return deleted key-value pairs"),
        flag(
            "from-key",
            Kind::Bool,
            "false",
            "delete keys that are greater than or equal to the given key",
        ),
        flag("range", Kind::Bool, "false", "delete range of keys"),
    ],
};

pub(super) const COMPACTION: Command = Command {
    path: &["compaction"],
    usage: "[options] <revision>",
    help: "Compacts the event history in etcd",
    flags: &[flag(
        "physical",
        Kind::Bool,
        "false",
        "'true' to wait for compaction to physically remove all old revisions",
    )],
};

pub(super) async fn get(context: &Context) -> Result<(), Failure> {
    let parsed = &context.parsed;
    let request = get_request(parsed)?;
    let client = context.connect().await?;
    let answer = if parsed.is("stream") {
        super::within(context.timeout(), async {
            Ok(get_stream(&client, &request).await?)
        })
        .await?
    } else {
        context.call(&client, "/etcdserverpb.KV/Range", &request).await?
    };
    if parsed.is("count-only") && context.printer.format != Format::Fields {
        return Err(Failure::bad_args("--count-only is only for `--write-out=fields`"));
    }
    if parsed.is("print-value-only") && context.printer.format != Format::Simple {
        return Err(Failure::bad_args(
            "print-value-only is only for `--write-out=simple`",
        ));
    }
    context.printer.get(&answer)
}

/// Reads a range by chunks and joins them: header, count and more come with the last.
async fn get_stream(
    client: &client::Client,
    request: &pb::RangeRequest,
) -> Result<bytes::Bytes, api::error::Status> {
    use prost::Message;
    let mut stream = client.stream("/etcdserverpb.KV/RangeStream", &[]).await?;
    stream.send(request).await?;
    stream.finish()?;
    let mut whole = pb::RangeResponse::default();
    while let Some(answer) = stream.next().await? {
        let chunk = pb::RangeStreamResponse::decode(answer)
            .map_err(|error| api::error::Status::with(api::error::Code::Internal, error.to_string()))?;
        let Some(chunk) = chunk.range_response else {
            continue;
        };
        whole.kvs.extend(chunk.kvs);
        whole.header = chunk.header.or(whole.header);
        whole.more |= chunk.more;
        whole.count = whole.count.max(chunk.count);
    }
    Ok(whole.encode_to_vec().into())
}

pub(super) fn get_request(parsed: &Parsed) -> Result<pb::RangeRequest, Failure> {
    let Some(key) = parsed.args.first() else {
        return Err(Failure::bad_args(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    };
    if parsed.is("keys-only") && parsed.is("count-only") {
        return Err(Failure::bad_args(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let (key, range_end) = key_range(parsed, key)?;
    let bad = |text: String| Failure::new(EXIT_BAD_FEATURE, text);
    let order = match parsed.text("order").to_uppercase().as_str() {
        "" => pb::range_request::SortOrder::None,
        "ASCEND" => pb::range_request::SortOrder::Ascend,
        "DESCEND" => pb::range_request::SortOrder::Descend,
        _ => return Err(bad(format!("bad sort order {}", parsed.text("order")))),
    };
    let target = match parsed.text("sort-by").to_uppercase().as_str() {
        "" | "KEY" => pb::range_request::SortTarget::Key,
        "CREATE" => pb::range_request::SortTarget::Create,
        "MODIFY" => pb::range_request::SortTarget::Mod,
        "VALUE" => pb::range_request::SortTarget::Value,
        "VERSION" => pb::range_request::SortTarget::Version,
        _ => return Err(bad(format!("bad sort target {}", parsed.text("sort-by")))),
    };
    for (low, high, names) in [
        (
            "min-create-rev",
            "max-create-rev",
            ("getMinCreateRev", "getMaxCreateRev"),
        ),
        ("min-mod-rev", "max-mod-rev", ("getMinModRev", "getMaxModRev")),
    ] {
        let (low, high) = (parsed.int(low), parsed.int(high));
        if high > 0 && low > high {
            return Err(bad(format!("{}(={low}) > {}(={high})", names.0, names.1)));
        }
    }
    // Sorting by key upwards is what the store does by itself (etcd: client/v3/op.go WithSort).
    let order =
        if target == pb::range_request::SortTarget::Key && order == pb::range_request::SortOrder::Ascend {
            pb::range_request::SortOrder::None
        } else {
            order
        };
    let positive = |name: &str| parsed.int(name).max(0);
    Ok(pb::RangeRequest {
        key,
        range_end,
        limit: parsed.int("limit"),
        revision: positive("rev"),
        sort_order: order.into(),
        sort_target: target.into(),
        serializable: serializable(parsed.text("consistency"))?,
        keys_only: parsed.is("keys-only"),
        count_only: parsed.is("count-only"),
        min_create_revision: positive("min-create-rev"),
        max_create_revision: positive("max-create-rev"),
        min_mod_revision: positive("min-mod-rev"),
        max_mod_revision: positive("max-mod-rev"),
    })
}

/// Whether `--consistency` asks for a serializable read.
pub(super) fn serializable(text: &str) -> Result<bool, Failure> {
    match text {
        "s" => Ok(true),
        "l" => Ok(false),
        _ => Err(Failure::new(
            EXIT_BAD_FEATURE,
            format!("unknown consistency flag {text:?}"),
        )),
    }
}

/// Key and range end as `--prefix`, `--from-key` and a second argument say.
fn key_range(parsed: &Parsed, key: &str) -> Result<(bytes::Bytes, bytes::Bytes), Failure> {
    let (prefix, from_key) = (parsed.is("prefix"), parsed.is("from-key"));
    if prefix && from_key {
        return Err(Failure::bad_args(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    let mut key = key.as_bytes().to_vec();
    let mut end = Vec::new();
    if let Some(range_end) = parsed.args.get(1) {
        if prefix || from_key {
            return Err(Failure::bad_args(
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            ));
        }
        end = range_end.as_bytes().to_vec();
    }
    if (prefix || from_key) && key.is_empty() {
        key = vec![0];
        end = vec![0];
    } else if from_key {
        end = vec![0];
    } else if prefix {
        end = prefix_end(&key);
    }
    Ok((key.into(), end.into()))
}

pub(super) async fn put(context: &Context) -> Result<(), Failure> {
    let request = put_request(&context.parsed)?;
    let client = context.connect().await?;
    let answer = context.call(&client, "/etcdserverpb.KV/Put", &request).await?;
    context.printer.put(&answer)
}

pub(super) fn put_request(parsed: &Parsed) -> Result<pb::PutRequest, Failure> {
    let needs = || Failure::bad_args("put command needs 1 argument and input from stdin or 2 arguments");
    let key = parsed.args.first().ok_or_else(needs)?;
    let ignore_value = parsed.is("ignore-value");
    if ignore_value && parsed.args.len() > 1 {
        return Err(Failure::bad_args(
            "put command needs only 1 argument when 'ignore-value' is set",
        ));
    }
    let value = match parsed.args.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.as_bytes().to_vec(),
        None => {
            let mut value = Vec::new();
            std::io::stdin().read_to_end(&mut value)?;
            if value.is_empty() {
                return Err(needs());
            }
            value
        }
    };
    let lease = parse_radix(parsed.text("lease"), 16)
        .map_err(|error| Failure::bad_args(format!("bad lease ID ({error}), expecting ID in Hex")))?;
    Ok(pb::PutRequest {
        key: key.clone().into_bytes().into(),
        value: value.into(),
        lease,
        prev_kv: parsed.is("prev-kv"),
        ignore_value,
        ignore_lease: parsed.is("ignore-lease"),
    })
}

pub(super) async fn del(context: &Context) -> Result<(), Failure> {
    let request = del_request(&context.parsed)?;
    if let [from, to, ..] = context.args()
        && !context.parsed.is("range")
    {
        eprintln!(
            "Warning: Keys between {from:?} and {to:?} will be deleted. Please interrupt the command within next 2 \
             seconds to cancel. You can provide `--range` flag to avoid the delay."
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let client = context.connect().await?;
    let answer = context
        .call(&client, "/etcdserverpb.KV/DeleteRange", &request)
        .await?;
    context.printer.del(&answer)
}

pub(super) fn del_request(parsed: &Parsed) -> Result<pb::DeleteRangeRequest, Failure> {
    let (Some(key), true) = (parsed.args.first(), parsed.args.len() <= 2) else {
        return Err(Failure::bad_args(
            "del command needs one argument as key and an optional argument as range_end",
        ));
    };
    let (key, range_end) = key_range(parsed, key)?;
    Ok(pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv: parsed.is("prev-kv"),
    })
}

/// The operation of a parsed `get`, `put` or `del` line of a transaction.
pub(super) fn operation(parsed: &Parsed) -> Result<Request, Failure> {
    Ok(match parsed.command.path {
        ["get"] => Request::RequestRange(get_request(parsed)?),
        ["put"] => Request::RequestPut(put_request(parsed)?),
        _ => Request::RequestDeleteRange(del_request(parsed)?),
    })
}

pub(super) async fn compaction(context: &Context) -> Result<(), Failure> {
    let [revision] = context.args() else {
        return Err(Failure::bad_args("compaction command needs 1 argument"));
    };
    let revision = parse_int(revision).map_err(|error| Failure::new(EXIT_ERROR, error))?;
    let client = context.connect().await?;
    let request = pb::CompactionRequest {
        revision,
        physical: context.parsed.is("physical"),
    };
    context
        .call(&client, "/etcdserverpb.KV/Compact", &request)
        .await?;
    say!("compacted revision {revision}");
    Ok(())
}
