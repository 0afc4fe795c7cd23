//! `etcd gateway start`: passes TCP connections on to one of the members, byte for byte
//! (server/etcdmain/gateway.go). Never looks into what passes; TLS is between client and member.

mod discovered;
mod flags;
mod proxy;

use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;

use crate::config::quote;
use crate::log::Log;
use crate::run::notify_systemd;
use flags::{Line, Settings};
use proxy::{Proxy, Remote};

/// Runs the gateway until it is killed. `args` are those after the program's name, `gateway` first.
pub fn gateway(program: &str, args: &[String]) -> ExitCode {
    let settings = match flags::parse(args.get(1..).unwrap_or_default()) {
        Ok(Line::Start(settings)) => settings,
        Ok(Line::Help(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            return ExitCode::FAILURE;
        }
    };
    let Ok(log) = Log::early() else {
        return ExitCode::FAILURE;
    };
    let words = std::iter::once(program).chain(args.iter().map(String::as_str));
    log.info("Running: ").list("args", words).emit();
    let refused = start(&settings, &log).err();
    log.flush();
    if let Some(text) = refused {
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    ExitCode::FAILURE
}

/// Comes back only with a reason not to run; the text is for standard output, as etcd's is.
fn start(settings: &Settings, log: &Log) -> Result<(), String> {
    let found = discovered::remotes(settings, log).map_err(|text| {
        let _ = std::io::stderr().write_all(text.as_bytes());
        String::new()
    })?;
    let remotes = match found {
        found if !found.is_empty() => found,
        // Without a domain, or with one that names nobody who counts.
        _ => remotes(&settings.endpoints)?,
    };
    check_loop(&settings.listen_addr, &remotes)?;
    let listener = std::net::TcpListener::bind(&settings.listen_addr)
        .map_err(|error| format!("listen tcp {}: {error}\n", settings.listen_addr))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("{error}\n"))?;
    notify_systemd(log);
    let proxy = Proxy::new(remotes, settings.retry_delay, log.clone());
    runtime
        .block_on(proxy.run(listener))
        .map_err(|error| format!("{error}\n"))
}

/// Endpoints lose their schemes: what passes is not for the gateway to know.
fn remotes(endpoints: &[String]) -> Result<Vec<Remote>, String> {
    let mut remotes = Vec::new();
    for endpoint in endpoints {
        let bare = match endpoint.split_once("://") {
            Some((_, rest)) => rest.split(['/', '?', '#']).next().unwrap_or_default(),
            None => endpoint,
        };
        let (host, port) = split(bare).ok_or_else(|| format!("error parsing endpoint {}", quote(bare)))?;
        // What is no number counts as none, as with Go's Sscanf.
        remotes.push(Remote::new(host, port.parse().unwrap_or(0)));
    }
    if remotes.is_empty() {
        return Err("no endpoints found\n".into());
    }
    Ok(remotes)
}

/// Host and port of `host:port` or `[host]:port`.
fn split(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(inner) => Some((inner, port)),
        None if host.contains([':', '[', ']']) => None,
        None => Some((host, port)),
    }
}

/// Refuses to pass connections on to the gateway itself.
fn check_loop(listen_addr: &str, remotes: &[Remote]) -> Result<(), String> {
    let (host, port) =
        split(listen_addr).ok_or_else(|| format!("failed to validate listen address: {listen_addr}\n"))?;
    let own = resolve(host).ok_or_else(|| format!("failed to resolve listen host: {host}\n"))?;
    for remote in remotes {
        let (host, remote_port) = (&remote.host, remote.port);
        let theirs = resolve(host).ok_or_else(|| format!("failed to resolve endpoint host: {host}\n"))?;
        if remote_port.to_string() != port {
            continue;
        }
        if let Some(same) = theirs.iter().find(|address| own.contains(address)) {
            return Err(format!(
                "SRV or endpoint ({host}:{remote_port}->{same}:{remote_port}) should not resolve to the gateway listen addr ({listen_addr})\n"
            ));
        }
    }
    Ok(())
}

fn resolve(host: &str) -> Option<Vec<IpAddr>> {
    let found = (host, 0).to_socket_addrs().ok()?;
    let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    (!host.is_empty() && !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_become_addresses() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_string()).collect::<Vec<_>>();
        let named = |list: &[&str]| {
            remotes(&texts(list)).map(|found| found.iter().map(Remote::address).collect::<Vec<_>>())
        };
        assert_eq!(
            named(&["http://a:1", "https://[::1]:2/x", "b:3"]),
            Ok(texts(&["a:1", "[::1]:2", "b:3"]))
        );
        assert_eq!(named(&["a"]), Err("error parsing endpoint \"a\"".into()));
        assert_eq!(named(&[]), Err("no endpoints found\n".into()));
    }

    /// CVE-2020-15114.
    #[test]
    fn a_gateway_to_itself_is_refused() {
        let to = |host: &str, port| vec![Remote::new(host, port)];
        assert_eq!(check_loop("127.0.0.1:1", &to("127.0.0.1", 2)), Ok(()));
        let error = check_loop("127.0.0.1:1", &to("127.0.0.1", 1)).unwrap_err();
        assert!(
            error.contains("should not resolve to the gateway listen addr (127.0.0.1:1)"),
            "{error}"
        );
        assert_eq!(
            check_loop("x", &to("127.0.0.1", 1)).unwrap_err(),
            "failed to validate listen address: x\n"
        );
    }
}
