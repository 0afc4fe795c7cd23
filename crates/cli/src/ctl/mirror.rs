//! make-mirror: copies the keys of a prefix to another cluster, and then each change of them, until it is
//! stopped. What one revision changed is changed at once there too.

use std::cell::Cell;
use std::time::Duration;

use api::error::{COMPACTED, Code, Status};
use api::etcdserverpb::{
    self as pb, range_request::SortOrder, request_op::Request, watch_request::RequestUnion,
};
use api::mvccpb::{Event, event::EventType};
use bytes::Bytes;
use client::{Client, Config, Security, Stream};
use prost::Message;
use tokio::time::Instant;

use super::{Context, decode, password, prefix_end};
use crate::flags::{Command, Kind, Parsed, flag};
use crate::{EXIT_ERROR, Failure};

pub(super) const MAKE_MIRROR: Command = Command {
    path: &["make-mirror"],
    usage: "[options] <destination>",
    help: "Makes a mirror at the destination etcd cluster",
    flags: &[
        flag("prefix", Kind::Text, "", "Key-value prefix to mirror"),
        flag(
            "rev",
            Kind::Int,
            "0",
            "Specify the kv revision to start to mirror",
        ),
        flag(
            "max-txn-ops",
            Kind::Int,
            "128",
            "Maximum number of operations permitted in a transaction during syncing updates.",
        ),
        flag(
            "dest-prefix",
            Kind::Text,
            "",
            "destination prefix to mirror a prefix to a different prefix in the destination cluster",
        ),
        flag(
            "no-dest-prefix",
            Kind::Bool,
            "false",
            "mirror key-values to the root of the destination cluster",
        ),
        flag(
            "dest-cert",
            Kind::Text,
            "",
            "Identify secure client using this TLS certificate file for the destination cluster",
        ),
        flag(
            "dest-key",
            Kind::Text,
            "",
            "Identify secure client using this TLS key file",
        ),
        flag(
            "dest-cacert",
            Kind::Text,
            "",
            "Verify certificates of TLS enabled secure servers using this CA bundle",
        ),
        flag(
            "dest-insecure-transport",
            Kind::Bool,
            "true",
            "Disable transport security for client connections",
        ),
        flag(
            "dest-user",
            Kind::Text,
            "",
            "Destination username[:password] for authentication (prompt if password is not supplied)",
        ),
        flag(
            "dest-password",
            Kind::Text,
            "",
            "Destination password for authentication (if this option is used, --user option shouldn't include \
             password)",
        ),
    ],
};

/// Keys of one page of what is there at the start: client/v3/mirror/syncer.go batchLimit.
const PAGE_KEYS: i64 = 1000;
/// How often it is said how many changes were made.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The flags about TLS of the cluster that a mirror is made at.
fn of_destination(parsed: &Parsed) -> Security {
    let text = |name: &str| parsed.text(name).to_string();
    Security {
        info: tls::Info {
            cert_file: text("dest-cert"),
            key_file: text("dest-key"),
            trusted_ca_file: text("dest-cacert"),
            ..tls::Info::default()
        },
        insecure_transport: parsed.is("dest-insecure-transport"),
    }
}

pub(super) async fn make_mirror(context: &Context) -> Result<(), Failure> {
    let [destination] = context.args() else {
        return Err(Failure::bad_args("make-mirror takes one destination argument"));
    };
    let parsed = &context.parsed;
    let ops_max = usize::try_from(parsed.int("max-txn-ops"))
        .ok()
        .filter(|max| *max > 0)
        .ok_or_else(|| Failure::bad_args("--max-txn-ops must be at least 1"))?;
    let identity = match parsed.text("dest-user") {
        "" => None,
        user => Some(password::identity(
            user,
            parsed.text("dest-password"),
            "Destination Password: ",
        )?),
    };
    let config = Config {
        security: of_destination(parsed),
        identity,
        ..context.config(vec![destination.clone()])
    };
    let deadline = || Some(Instant::now() + context.timeout());
    let to = Client::connect(&config, deadline()).await?;
    let from = context.connect().await?;
    let (remove, given) = (parsed.is("no-dest-prefix"), parsed.text("dest-prefix"));
    if remove && !given.is_empty() {
        return Err(Failure::bad_args(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let prefix = parsed.text("prefix");
    let start = (parsed.int("rev") - 1).max(0);
    // Only a mirror that begins with all keys takes the prefix over by itself; one that begins at a revision
    // drops it (make_mirror_command.go makeMirror).
    let to_prefix = match (remove, given) {
        (false, "") if start == 0 => prefix,
        _ => given,
    };
    let mirror = Mirror {
        context,
        to,
        prefix: prefix.as_bytes(),
        to_prefix: to_prefix.as_bytes(),
        ops_max,
        total: Cell::new(0),
    };
    tokio::select! {
        result = mirror.run(from, start) => result,
        () = mirror.report() => Ok(()),
    }
}

struct Mirror<'a> {
    context: &'a Context,
    to: Client,
    prefix: &'a [u8],
    to_prefix: &'a [u8],
    ops_max: usize,
    /// Changes made so far.
    total: Cell<u64>,
}

impl Mirror<'_> {
    async fn report(&self) {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            say!("{}", self.total.get());
        }
    }

    async fn run(&self, from: Client, start: i64) -> Result<(), Failure> {
        let mut seen = match start {
            0 => self.copy_all(&from).await?,
            start => start,
        };
        let mut from = Some(from);
        loop {
            let client = match from.take() {
                Some(client) => client,
                None => self.context.reconnect().await,
            };
            match self.follow(&client, &mut seen).await {
                // The member has gone, or the way to it: another may be there, or it again.
                Err(Lost::Source(status)) if status.code == Code::Unavailable => {
                    eprintln!("{status}; watching again from revision {}", seen + 1);
                }
                Err(Lost::Source(status)) => return Err(status.into()),
                Err(Lost::For(failure)) => return Err(failure),
                Ok(()) => eprintln!("the watch has ended; watching again from revision {}", seen + 1),
            }
        }
    }

    /// The range of the prefix; all keys if it is empty.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        match self.prefix {
            [] => (vec![0], vec![0]),
            prefix => (prefix.to_vec(), prefix_end(prefix)),
        }
    }

    /// Copies what is there at one revision, which it returns.
    async fn copy_all(&self, from: &Client) -> Result<i64, Failure> {
        let path = "/etcdserverpb.KV/Range";
        // Any key tells the revision.
        let probe = pb::RangeRequest {
            key: match self.prefix {
                [] => Bytes::from_static(b"foo"),
                prefix => Bytes::copy_from_slice(prefix),
            },
            ..Default::default()
        };
        let answer: pb::RangeResponse = decode(&from.unary(path, &probe).await?)?;
        let revision = answer.header.unwrap_or_default().revision;
        let (mut key, range_end) = self.range();
        loop {
            let request = pb::RangeRequest {
                key: key.clone().into(),
                range_end: range_end.clone().into(),
                limit: PAGE_KEYS,
                revision,
                sort_order: SortOrder::None.into(),
                ..Default::default()
            };
            let page: pb::RangeResponse = decode(&from.unary(path, &request).await?)?;
            for kv in &page.kvs {
                let put = pb::PutRequest {
                    key: self.key(&kv.key),
                    value: kv.value.clone(),
                    ..Default::default()
                };
                self.to.unary("/etcdserverpb.KV/Put", &put).await?;
                self.total.set(self.total.get() + 1);
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [&last.key[..], &[0]].concat(),
                _ => return Ok(revision),
            }
        }
    }

    /// The key at the destination.
    fn key(&self, key: &Bytes) -> Bytes {
        let rest = key.strip_prefix(self.prefix).unwrap_or(key);
        Bytes::from([self.to_prefix, rest].concat())
    }

    /// Makes each change after `seen` there, and keeps account of how far it has come.
    async fn follow(&self, from: &Client, seen: &mut i64) -> Result<(), Lost> {
        let mut watch = self.watch(from, *seen + 1).await.map_err(Lost::Source)?;
        while let Some(answer) = watch.next().await.map_err(Lost::Source)? {
            let answer = pb::WatchResponse::decode(answer)
                .map_err(|error| Lost::For(Failure::new(EXIT_ERROR, error.to_string())))?;
            if answer.compact_revision != 0 {
                return Err(Lost::For(COMPACTED.into()));
            }
            if answer.canceled {
                return Err(Lost::For(Failure::new(EXIT_ERROR, answer.cancel_reason)));
            }
            for (revision, ops) in steps(&answer.events, self.ops_max, |key| self.key(key)) {
                self.total.set(self.total.get() + ops.len() as u64);
                self.change(ops).await.map_err(Lost::For)?;
                *seen = (*seen).max(revision);
            }
        }
        Ok(())
    }

    async fn watch(&self, from: &Client, start_revision: i64) -> Result<Stream, Status> {
        let (key, range_end) = self.range();
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            ..Default::default()
        };
        let mut stream = from.stream("/etcdserverpb.Watch/Watch", &[]).await?;
        let request_union = Some(RequestUnion::CreateRequest(create));
        stream.send(&pb::WatchRequest { request_union }).await?;
        Ok(stream)
    }

    async fn change(&self, ops: Vec<Request>) -> Result<(), Failure> {
        let request = pb::TxnRequest {
            success: ops
                .into_iter()
                .map(|op| pb::RequestOp { request: Some(op) })
                .collect(),
            ..Default::default()
        };
        self.to.unary("/etcdserverpb.KV/Txn", &request).await?;
        Ok(())
    }
}

/// Why following has ended.
enum Lost {
    /// The source says no more.
    Source(Status),
    /// There is no going on.
    For(Failure),
}

/// The transactions that make what the events tell: one a revision, or more where a revision has more
/// operations than a transaction may have. With the revision that each comes from; of one that takes
/// several, only the last counts as seen.
fn steps(events: &[Event], ops_max: usize, key: impl Fn(&Bytes) -> Bytes) -> Vec<(i64, Vec<Request>)> {
    let mut steps: Vec<(i64, Vec<Request>)> = Vec::new();
    let none = api::mvccpb::KeyValue::default();
    for event in events {
        let kv = event.kv.as_ref().unwrap_or(&none);
        let op = match event.r#type() {
            EventType::Put => Request::RequestPut(pb::PutRequest {
                key: key(&kv.key),
                value: kv.value.clone(),
                ..Default::default()
            }),
            EventType::Delete => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key(&kv.key),
                ..Default::default()
            }),
        };
        match steps.last_mut() {
            Some((revision, ops)) if *revision == kv.mod_revision && ops.len() < ops_max => ops.push(op),
            last => {
                // Not all of this revision is made with what came before.
                if let Some((revision, _)) = last
                    && *revision == kv.mod_revision
                {
                    *revision -= 1;
                }
                steps.push((kv.mod_revision, vec![op]));
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &'static str, revision: i64, is_delete: bool) -> Event {
        Event {
            r#type: if is_delete {
                EventType::Delete
            } else {
                EventType::Put
            }
            .into(),
            kv: Some(api::mvccpb::KeyValue {
                key: key.into(),
                mod_revision: revision,
                ..Default::default()
            }),
            prev_kv: None,
        }
    }

    #[test]
    fn what_one_revision_changed_is_changed_at_once() {
        let events = [
            event("a", 2, false),
            event("b", 2, false),
            event("a", 3, true),
            event("c", 4, false),
            event("d", 4, false),
            event("e", 4, false),
        ];
        let told: Vec<String> = steps(&events, 2, |key| key.clone())
            .into_iter()
            .map(|(revision, ops)| {
                let ops: String = ops
                    .iter()
                    .map(|op| match op {
                        Request::RequestPut(put) => {
                            format!("+{}", String::from_utf8_lossy(&put.key))
                        }
                        Request::RequestDeleteRange(delete) => {
                            format!("-{}", String::from_utf8_lossy(&delete.key))
                        }
                        other => format!("{other:?}"),
                    })
                    .collect();
                format!("{revision}:{ops}")
            })
            .collect();
        // The fourth revision is seen only with its last part.
        assert_eq!(told, ["2:+a+b", "3:-a", "3:+c+d", "4:+e"]);
    }
}
