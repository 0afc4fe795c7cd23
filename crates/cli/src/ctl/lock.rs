//! lock and elect: both hold on until a signal comes.

use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{Command as Process, ExitStatus};

use prost::Message;
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::sync::oneshot;

use super::Context;
use super::link::Link;
use super::row::{self, Place, Session};
use crate::flags::{Command, Flag, Kind, flag};
use crate::{EXIT_ERROR, Failure};

pub(super) const LOCK: Command = Command {
    path: &["lock"],
    usage: "<lockname> [exec-command arg1 arg2 ...]",
    help: "Acquires a named lock",
    flags: &[flag("ttl", Kind::Int, "10", "timeout for session")],
};
pub(super) const ELECT: Command = Command {
    path: &["elect"],
    usage: "<election-name> [proposal]",
    help: "Observes and participates in leader election",
    flags: &[Flag {
        name: "listen",
        short: Some('l'),
        kind: Kind::Bool,
        default: "false",
        help: "observation mode",
    }],
};

/// Seconds of the lease of who stands for election.
const ELECT_SECONDS: i64 = 60;

pub(super) async fn lock(context: &Context) -> Result<(), Failure> {
    let Some((name, command)) = context.args().split_first() else {
        return Err(Failure::bad_args(
            "lock takes a lock name argument and an optional command to execute",
        ));
    };
    let mut signal = signal()?;
    let link = Link::open(context).await?;
    let client = link.client().await;
    let session = Session::begin(&client, context.parsed.int("ttl")).await?;
    let place = Place::take(&client, &session, name, "").await?;
    let expired = || Failure::new(EXIT_ERROR, "session expired");
    let mut kept = pin!(session.keep(&link));
    let revision = tokio::select! {
        held = hold(context, &link, &place, &mut signal) => held?,
        () = &mut kept => return Err(expired()),
    };
    if let Some((program, args)) = command.split_first() {
        let mut ran = pin!(run(program, args, &place, revision));
        // A command that runs is waited for also when the lease is gone: nobody else would.
        let status = tokio::select! {
            status = &mut ran => status,
            () = &mut kept => ran.await,
        };
        leave(context, &link, &place).await?;
        return judge(status?);
    }
    let held = async {
        let own = place.read(&link).await?;
        if own.kvs.is_empty() {
            return Err(Failure::new(EXIT_ERROR, "lock lost on init"));
        }
        context.printer.get(&own.encode_to_vec())?;
        let _ = (&mut signal).await;
        leave(context, &link, &place).await
    };
    tokio::select! {
        result = held => result,
        () = &mut kept => Err(expired()),
    }
}

/// Waits until the lock is held; the store's revision then.
async fn hold(
    context: &Context,
    link: &Link<'_>,
    place: &Place,
    signal: &mut oneshot::Receiver<()>,
) -> Result<i64, Failure> {
    if !wait(context, link, place, signal).await? {
        return Ok(place.seen);
    }
    let own = place.read(link).await?;
    match own.kvs.is_empty() {
        true => Err(Failure::new(EXIT_ERROR, "mutex: session is expired")),
        false => Ok(own.header.unwrap_or_default().revision),
    }
}

/// Waits for one's turn; whether there was something to wait for. Who is interrupted leaves the row.
async fn wait(
    context: &Context,
    link: &Link<'_>,
    place: &Place,
    signal: &mut oneshot::Receiver<()>,
) -> Result<bool, Failure> {
    let waited = tokio::select! {
        waited = place.wait(link) => waited,
        _ = signal => Err(Failure::new(EXIT_ERROR, "context canceled")),
    };
    if waited.is_err() {
        leave(context, link, place).await?;
    }
    waited
}

/// Gives a place up within the command's time; after that its lease does.
async fn leave(context: &Context, link: &Link<'_>, place: &Place) -> Result<(), Failure> {
    super::within(context.timeout(), place.leave(link)).await
}

async fn run(program: &str, args: &[String], place: &Place, revision: i64) -> Result<ExitStatus, Failure> {
    let mut process = Process::new(program);
    process
        .args(args)
        .env("ETCD_LOCK_KEY", String::from_utf8_lossy(&place.key).into_owned())
        .env("ETCD_LOCK_REV", revision.to_string());
    let ran = tokio::task::spawn_blocking(move || process.status()).await;
    match ran {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(
            EXIT_ERROR,
            format!("exec: {program:?}: executable file not found in $PATH"),
        )),
        Ok(Err(error)) => Err(Failure::new(EXIT_ERROR, format!("exec: {program:?}: {error}"))),
        Err(error) => Err(Failure::new(EXIT_ERROR, error.to_string())),
    }
}

/// The command's exit code is ours: lock_command.go getExitCodeFromError.
fn judge(status: ExitStatus) -> Result<(), Failure> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => {
            let code = u8::try_from(code & 0xff).unwrap_or(EXIT_ERROR);
            Err(Failure::new(code, format!("exit status {code}")))
        }
        (None, signal) => {
            let text = format!("signal: {}", signal.unwrap_or_default());
            Err(Failure::new(u8::MAX, text))
        }
    }
}

pub(super) async fn elect(context: &Context) -> Result<(), Failure> {
    let listen = context.parsed.is("listen");
    match (context.args(), listen) {
        ([name], true) => observe(context, name).await,
        ([_], false) => Err(Failure::bad_args("no proposal argument but -l not set")),
        ([name, proposal], false) => campaign(context, name, proposal).await,
        ([_, _], true) => Err(Failure::bad_args("proposal given but -l is set")),
        _ => Err(Failure::bad_args(
            "elect takes one election name argument and an optional proposal argument",
        )),
    }
}

async fn campaign(context: &Context, name: &str, proposal: &str) -> Result<(), Failure> {
    let mut signal = signal()?;
    let link = Link::open(context).await?;
    let client = link.client().await;
    let session = Session::begin(&client, ELECT_SECONDS).await?;
    let place = Place::take(&client, &session, name, proposal).await?;
    let elected = async {
        wait(context, &link, &place, &mut signal).await?;
        let own = place.read(&link).await?;
        context.printer.get(&own.encode_to_vec())?;
        let _ = (&mut signal).await;
        leave(context, &link, &place).await
    };
    tokio::select! {
        result = elected => result,
        () = session.keep(&link) => Err(Failure::new(EXIT_ERROR, "elect: session expired")),
    }
}

async fn observe(context: &Context, name: &str) -> Result<(), Failure> {
    let signal = signal()?;
    let link = Link::open(context).await?;
    let observed = row::observe(&link, name, |found| context.printer.get(&found.encode_to_vec()));
    tokio::select! {
        lost = observed => lost.and(Err(Failure::new(EXIT_ERROR, "elect: observer lost"))),
        _ = signal => Ok(()),
    }
}

/// Completes at the first signal to end.
pub(super) fn signal() -> Result<oneshot::Receiver<()>, Failure> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("signal".into()).spawn(move || {
        if signals.forever().next().is_some() {
            // An error means that the command has ended.
            let _ = tell.send(());
        }
    })?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands() {
        let after = |raw| judge(ExitStatus::from_raw(raw));
        assert_eq!(after(0), Ok(()));
        assert_eq!(after(3 << 8), Err(Failure::new(3, "exit status 3")));
        assert_eq!(after(9), Err(Failure::new(255, "signal: 9")));
    }
}
