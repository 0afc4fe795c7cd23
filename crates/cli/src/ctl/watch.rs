//! watch: prints events as they come; may run a command for each; reads watches from the standard
//! input in interactive mode.

use std::convert::Infallible;
use std::process::Command as Process;

use api::error::{NO_LEADER, Status};
use api::etcdserverpb::{self as pb, watch_request::RequestUnion};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Context, TOOL, decode, link, prefix_end};
use crate::flags::{Command, Flag, Kind, Line, Parsed, flag};
use crate::text::{quote, split_words};
use crate::{EXIT_ERROR, EXIT_INTERRUPTED, EXIT_INVALID_INPUT, Failure};
use client::{Client, Stream};

pub(super) const WATCH: Command = Command {
    path: &["watch"],
    usage: "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    help: "Watches events stream on keys or prefixes",
    flags: &[
        Flag {
            name: "interactive",
            short: Some('i'),
            kind: Kind::Bool,
            default: "false",
            help: "Interactive mode",
        },
        flag(
            "prefix",
            Kind::Bool,
            "false",
            "Watch on a prefix if prefix is set",
        ),
        flag("rev", Kind::Int, "0", "Revision to start watching"),
        flag(
            "prev-kv",
            Kind::Bool,
            "false",
            "get the previous key-value pair before the event happens",
        ),
        flag(
            "progress-notify",
            Kind::Bool,
            "false",
            "get periodic watch progress notification from server",
        ),
    ],
};

const PATH: &str = "/etcdserverpb.Watch/Watch";
const REQUIRE_LEADER: (&str, &str) = ("hasleader", "true");

pub(super) async fn watch(context: &Context) -> Result<(), Failure> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (key, range_end) = (env("ETCDCTL_WATCH_KEY"), env("ETCDCTL_WATCH_RANGE_END"));
    if let (None, Some(range_end)) = (&key, &range_end) {
        return Err(Failure::bad_args(format!(
            "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={range_end:?}"
        )));
    }
    let from_env: Vec<String> = key.into_iter().chain(range_end).collect();
    let mut client = context.connect().await?;
    if context.parsed.is("interactive") {
        let stream = client.stream(PATH, &[REQUIRE_LEADER]).await?;
        return interactive(context, &client, stream, &from_env).await;
    }
    let (mut create, exec) = request(&context.parsed, &from_env)?;
    loop {
        match follow(context, &client, &mut create, &exec).await {
            // The member has gone, or the way to it: another may be there, or it again.
            Err(Lost::Way(status)) => {
                let text = "the way to the member is lost; watching again";
                match create.start_revision {
                    0 => eprintln!("{status}; {text}"),
                    from => eprintln!("{status}; {text} from revision {from}"),
                }
                client = context.reconnect().await;
            }
            Err(Lost::Watch(reason)) => {
                if let Some(reason) = reason {
                    eprintln!("watch was canceled ({reason})");
                }
                return Err(Failure::new(EXIT_INTERRUPTED, "watch is canceled by the server"));
            }
            Err(Lost::For(failure)) => return Err(failure),
            Ok(never) => match never {},
        }
    }
}

/// Why a watch does not go on.
enum Lost {
    /// It can go on at another member.
    Way(Status),
    /// The server has ended it, with a reason that is not printed yet.
    Watch(Option<String>),
    For(Failure),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Lost {
        Lost::For(failure)
    }
}

impl From<Status> for Lost {
    /// That there is no leader ends a watch that demands one.
    fn from(status: Status) -> Lost {
        if status.message == NO_LEADER.message {
            return Lost::Watch(Some(status.message.into_owned()));
        }
        match link::Lost::from(status) {
            link::Lost::Way(status) => Lost::Way(status),
            link::Lost::For(failure) => Lost::For(failure),
        }
    }
}

/// Prints what comes. `create` begins behind that afterwards, so that a next watch tells nothing twice.
async fn follow(
    context: &Context,
    client: &Client,
    create: &mut pb::WatchCreateRequest,
    exec: &[String],
) -> Result<Infallible, Lost> {
    let mut stream = client.stream(PATH, &[REQUIRE_LEADER]).await?;
    stream.send(&asking(create.clone())).await?;
    loop {
        let Some(answer) = stream.next().await? else {
            return Err(Lost::Watch(None));
        };
        let message: pb::WatchResponse = decode(&answer)?;
        print(context, &answer, exec)?;
        if message.canceled {
            return Err(Lost::Watch(None));
        }
        if let Some(next) = next_revision(create.start_revision, &message) {
            create.start_revision = next;
        }
    }
}

/// Where a watch goes on after an answer (etcd: client/v3/watch.go, serveSubstream).
pub(super) fn next_revision(start: i64, answer: &pb::WatchResponse) -> Option<i64> {
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    match answer.events.last() {
        Some(event) => Some(event.kv.as_ref()?.mod_revision + 1),
        // What happened before the watch was made is not asked for, unless a revision is.
        None if answer.created => (start == 0).then_some(revision + 1),
        None => Some(revision + 1),
    }
}

fn asking(create: pb::WatchCreateRequest) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

/// The watch that a parsed line asks for, and the command to run for each event.
fn request(parsed: &Parsed, from_env: &[String]) -> Result<(pb::WatchCreateRequest, Vec<String>), Failure> {
    let (mut keys, exec) = match parsed.separator {
        Some(at) => (parsed.args[..at].to_vec(), parsed.args[at..].to_vec()),
        None => (parsed.args.clone(), Vec::new()),
    };
    if parsed.separator.is_some() && exec.is_empty() {
        return Err(Failure::bad_args(
            "bad number of arguments (found separator --, but no commands)",
        ));
    }
    if !from_env.is_empty() {
        if !keys.is_empty() {
            return Err(Failure::bad_args(
                "bad number of arguments (found conflicting environment key)",
            ));
        }
        keys = from_env.to_vec();
    }
    let (Some(key), true) = (keys.first(), keys.len() <= 2) else {
        return Err(Failure::bad_args("bad number of arguments"));
    };
    let prefix = parsed.is("prefix");
    if prefix && keys.len() == 2 {
        return Err(Failure::bad_args(
            "`range_end` and `--prefix` are mutually exclusive",
        ));
    }
    let (key, range_end) = match (prefix, keys.get(1)) {
        (true, _) if key.is_empty() => (vec![0], vec![0]),
        (true, _) => (key.clone().into_bytes(), prefix_end(key.as_bytes())),
        (false, end) => (
            key.clone().into_bytes(),
            end.cloned().unwrap_or_default().into_bytes(),
        ),
    };
    let create = pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: parsed.int("rev"),
        progress_notify: parsed.is("progress-notify"),
        prev_kv: parsed.is("prev-kv"),
        ..pb::WatchCreateRequest::default()
    };
    Ok((create, exec))
}

/// Prints one answer, and runs the command for each of its events.
fn print(context: &Context, answer: &[u8], exec: &[String]) -> Result<(), Failure> {
    let message: pb::WatchResponse = decode(answer)?;
    if message.created && !message.canceled {
        return Ok(());
    }
    let revision = message.header.as_ref().map_or(0, |header| header.revision);
    if message.canceled {
        let why = match message.compact_revision {
            0 if message.cancel_reason.is_empty() => api::error::FUTURE_REV.message.into_owned(),
            0 => message.cancel_reason.clone(),
            _ => api::error::COMPACTED.message.into_owned(),
        };
        eprintln!("watch was canceled ({why})");
    } else if message.events.is_empty() && message.compact_revision == 0 && revision != 0 {
        say!("progress notify: {revision}");
    }
    context.printer.watch(answer, &message)?;
    let Some((program, args)) = exec.split_first() else {
        return Ok(());
    };
    for event in &message.events {
        let kind = if event.r#type == 0 { "PUT" } else { "DELETE" };
        let kv = event.kv.clone().unwrap_or_default();
        let status = Process::new(program)
            .args(args)
            .env("ETCD_WATCH_REVISION", revision.to_string())
            .env("ETCD_WATCH_EVENT_TYPE", format!("{kind:?}"))
            .env("ETCD_WATCH_KEY", quote(&kv.key))
            .env("ETCD_WATCH_VALUE", quote(&kv.value))
            .status();
        let why = match status {
            Ok(status) if status.success() => continue,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        eprintln!("command {exec:?} error ({why})");
        return Err(Failure::new(EXIT_ERROR, ""));
    }
    Ok(())
}

/// Reads `watch ...` and `progress` lines while events are printed. All watches share the stream.
async fn interactive(
    context: &Context,
    _client: &Client,
    mut stream: Stream,
    from_env: &[String],
) -> Result<(), Failure> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut exec = Vec::new();
    loop {
        tokio::select! {
            answer = stream.next() => match answer? {
                Some(answer) => print(context, &answer, &exec)?,
                None => return Err(Failure::new(EXIT_INTERRUPTED, "watch is canceled by the server")),
            },
            line = lines.next_line() => {
                let Some(line) = line? else {
                    return Err(Failure::new(EXIT_INVALID_INPUT, "error reading watch request line: EOF"));
                };
                if let Some((request, command)) = interactive_line(&line, from_env)? {
                    stream.send(&request).await?;
                    exec = command.unwrap_or(exec);
                }
            }
        }
    }
}

type LineRequest = Option<(pb::WatchRequest, Option<Vec<String>>)>;

fn interactive_line(line: &str, from_env: &[String]) -> Result<LineRequest, Failure> {
    let words = split_words(line).unwrap_or_default();
    match words.first().map(String::as_str) {
        None => eprintln!("Invalid command: {line} (watch and progress supported)"),
        Some("progress") => {
            let union = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            return Ok(Some((
                pb::WatchRequest {
                    request_union: Some(union),
                },
                None,
            )));
        }
        Some("watch") if words.len() < 2 && from_env.is_empty() => {
            eprintln!("Invalid command {line} (command type or key is not provided)");
        }
        Some("watch") => {
            let parsed = match TOOL.parse(&words, &|_| None) {
                Ok(Line::Run(parsed)) => parsed,
                Ok(Line::Help(text)) => {
                    eprintln!("{text}");
                    return Ok(None);
                }
                Err(failure) => return Err(Failure::bad_args(failure.text)),
            };
            let (create, exec) = request(&parsed, from_env)?;
            return Ok(Some((asking(create), Some(exec))));
        }
        Some(_) => eprintln!("Invalid command {line} (only support watch)"),
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use api::error::Code;

    use super::*;

    fn answer(revision: i64, created: bool, events: &[i64]) -> pb::WatchResponse {
        let event = |mod_revision: &i64| api::mvccpb::Event {
            kv: Some(api::mvccpb::KeyValue {
                mod_revision: *mod_revision,
                ..Default::default()
            }),
            ..Default::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader {
                revision,
                ..Default::default()
            }),
            created,
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_watch_goes_on_behind_what_it_has_told() {
        assert_eq!(next_revision(0, &answer(7, true, &[])), Some(8), "from now on");
        assert_eq!(
            next_revision(3, &answer(7, true, &[])),
            None,
            "from where it was asked for"
        );
        assert_eq!(
            next_revision(3, &answer(9, false, &[4, 5])),
            Some(6),
            "9 is not told yet"
        );
        assert_eq!(
            next_revision(6, &answer(9, false, &[])),
            Some(10),
            "told of progress"
        );
    }

    #[test]
    fn what_comes_back_is_waited_for() {
        let lost = |status: Status| match Lost::from(status) {
            Lost::Way(_) => "way",
            Lost::Watch(_) => "watch",
            Lost::For(_) => "all",
        };
        assert_eq!(lost(Status::new(Code::Unavailable, "broken")), "way");
        assert_eq!(lost(NO_LEADER), "watch");
        assert_eq!(lost(Status::new(Code::PermissionDenied, "no")), "all");
    }
}
