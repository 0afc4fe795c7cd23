//! Picks the personality by name or sub-command, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let called = if args.is_empty() {
        String::new()
    } else {
        args.remove(0)
    };
    let name = called.rsplit('/').next().unwrap_or_default();
    match (name, args.first().map(String::as_str)) {
        ("etcdctl", _) => cli::ctl(&args),
        ("etcdutl", _) => cli::utl(&args),
        ("etcd", _) => serve(&args),
        (_, Some("ctl")) => cli::ctl(&args[1..]),
        (_, Some("utl")) => cli::utl(&args[1..]),
        (_, Some("server")) => serve(&args[1..]),
        _ => serve(&args),
    }
}

fn serve(_args: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
