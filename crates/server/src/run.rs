//! From a command line to an exit code: what etcd's process does between its start and its end.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use disk::RealDisk;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use crate::config::{self, Config, ConfigError, Loaded, Notice, Sources, Url};
use crate::descriptors::{self, RESERVED};
use crate::driver::Event;
use crate::log::Log;
use crate::server::{self, Server, StartError};

/// Runs a server until it is told to stop. `args` are those after the program's name.
pub fn run(program: &str, args: &[String], env: &[(String, String)]) -> ExitCode {
    let mut notices = Vec::new();
    let sources = Sources {
        args,
        env,
        read_file: &|path| std::fs::read_to_string(path),
        default_host: &server::default_host,
    };
    let config = match config::load(&sources, &mut notices) {
        Ok(Loaded::Run(config)) => *config,
        Ok(Loaded::Print { out, err }) => {
            let _ = std::io::stderr().write_all(err.as_bytes());
            let _ = std::io::stdout().write_all(out.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error, program, args, &notices),
    };
    let log = match Log::start(&config.log) {
        Ok(log) => log,
        Err(error) => {
            let error = ConfigError::Invalid(error);
            return refuse(&error, program, args, &notices);
        }
    };
    log.notices(&notices);
    log.info("Running: ").list("args", told(program, args)).emit();
    report_panics(&log);
    descriptors::raise_limit();
    let code = serve(config, &log);
    log.flush();
    code
}

/// A broken invariant is a line like any other, before it ends the process.
fn report_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        log.fatal("the server broke an invariant of its own; please report this")
            .text("place", place)
            .show("error", panic)
            .emit();
        log.flush();
    }));
}

/// Says why there is no server, as etcd does.
fn refuse(error: &ConfigError, program: &str, args: &[String], notices: &[Notice]) -> ExitCode {
    if let ConfigError::Usage(text) = error {
        let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
        return ExitCode::from(2);
    }
    let Ok(log) = Log::early() else {
        return ExitCode::FAILURE;
    };
    log.notices(notices);
    if let ConfigError::Shadowed(variable) = error {
        log.fatal(&error.to_string())
            .text("environment-variable", variable)
            .emit();
    } else {
        log.info("Running: ").list("args", told(program, args)).emit();
        log.warn("failed to verify flags").error(error).emit();
    }
    log.flush();
    ExitCode::FAILURE
}

/// The command line without passwords.
fn told(program: &str, args: &[String]) -> Vec<String> {
    let mut words = vec![program.to_owned()];
    let mut hides_next = false;
    for word in args {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word.as_str(), None),
        };
        let is_secret = flag.starts_with('-') && flag.ends_with("password");
        words.push(match value {
            Some(_) if is_secret => format!("{flag}={}", config::HIDDEN),
            None if hides_next => config::HIDDEN.to_owned(),
            _ => word.clone(),
        });
        hides_next = is_secret && value.is_none();
    }
    words
}

fn serve(config: Config, log: &Log) -> ExitCode {
    let name = config.name.clone();
    let data_dir = config.data_dir.display().to_string();
    let (peers, clients) = (
        texts(&config.initial_advertise_peer_urls),
        texts(&config.advertise_client_urls),
    );
    let discovery = config.discovery.clone();
    let patience = Duration::from_secs(5) + 2 * Duration::from_millis(config.election_ms);
    let server = match Server::start(config, log.clone(), RealDisk::shared()) {
        Ok(server) => server,
        Err(StartError::Descriptors(error)) => {
            log.fatal(&error.to_string())
                .num("limit", error.limit)
                .num("recommended-limit", RESERVED)
                .emit();
            return ExitCode::FAILURE;
        }
        Err(error @ StartError::Discovery(_)) => {
            log.warn("failed to bootstrap; discovery token was already used")
                .text("discovery-token", &discovery.token)
                .list("discovery-endpoints", &discovery.endpoints)
                .error(&error)
                .emit();
            log.warn("do not reuse discovery token; generate a new one to bootstrap a cluster")
                .emit();
            return ExitCode::FAILURE;
        }
        Err(error) => {
            // etcd's word for all that can go wrong here: etcdmain/etcd.go.
            log.fatal("discovery failed").error(&error).emit();
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = watch_signals(&server, log) {
        log.fatal("failed to watch for signals").error(error).emit();
        return ExitCode::FAILURE;
    }
    let signal = loop {
        match server.next_event() {
            Event::Ready => {
                log.info("ready to serve client requests").emit();
                server.open_doors();
                notify_systemd(log);
            }
            Event::Signal(signal) => break signal,
            Event::Fatal(fatal) => return fail(log, &fatal),
            Event::Stopped => {
                log.info("the member has left the cluster; exiting").emit();
                return ExitCode::SUCCESS;
            }
            Event::Drained => {}
        }
    };
    let name_of = if signal == SIGINT {
        "interrupt"
    } else {
        "terminated"
    };
    log.info("received signal; shutting down")
        .text("signal", name_of)
        .emit();
    let closing = |text: &str| {
        log.info(text)
            .text("name", &name)
            .text("data-dir", &data_dir)
            .list("advertise-peer-urls", &peers)
            .list("advertise-client-urls", &clients)
            .emit();
    };
    closing("closing etcd server");
    if let Err(fatal) = server.stop(patience) {
        return fail(log, &fatal);
    }
    closing("closed etcd server");
    log.flush();
    if std::process::id() == 1 {
        // The kernel does not let the first process die by a signal.
        return ExitCode::SUCCESS;
    }
    let _ = emulate_default_handler(signal);
    ExitCode::FAILURE
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn fail(log: &Log, fatal: &member::Fatal) -> ExitCode {
    log.fatal("the member cannot go on; nothing more is acknowledged")
        .text("what", &fatal.what)
        .text("error", &fatal.reason)
        .emit();
    log.flush();
    ExitCode::FAILURE
}

/// The first signal stops the server in order, the second at once.
fn watch_signals(server: &Server, log: &Log) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let (events, log) = (server.events(), log.clone());
    std::thread::Builder::new().name("signal".into()).spawn(move || {
        let mut first = true;
        for signal in signals.forever() {
            if std::mem::take(&mut first) {
                let _ = events.send(Event::Signal(signal));
                continue;
            }
            log.warn("received a second signal; exiting at once").emit();
            log.flush();
            if std::process::id() == 1 {
                std::process::exit(1);
            }
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Tells systemd that the server serves, if systemd asked.
pub fn notify_systemd(log: &Log) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    log.info("notifying init daemon").emit();
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        log.info("successfully notified init daemon").emit();
        return;
    };
    let notify = || {
        let path = path.as_encoded_bytes();
        let address = match path.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(std::path::Path::new(&path_text(path)))?,
        };
        UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)
    };
    match notify() {
        Ok(_) => log.info("successfully notified init daemon").emit(),
        Err(error) => log
            .error("failed to notify systemd for readiness")
            .error(error)
            .emit(),
    }
}

fn path_text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn passwords_are_not_told() {
        let args = [
            "--name=a",
            "--discovery-password=x=y",
            "--discovery-password",
            "z",
            "--force-new-cluster",
        ];
        let expected = [
            "etcd",
            "--name=a",
            "--discovery-password=********",
            "--discovery-password",
            "********",
            "--force-new-cluster",
        ];
        assert_eq!(told("etcd", &args.map(str::to_owned)), expected);
    }
}
