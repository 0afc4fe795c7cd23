//! Picks the personality by name or sub-command, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Arguments and variables that are no Unicode are nothing that etcd could name either.
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let program = args.first().map_or("mainstay", String::as_str);
    let rest = args.get(1..).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    match (name, rest.first().map(String::as_str)) {
        ("etcdctl", _) => cli::ctl(rest),
        ("etcdutl", _) => cli::utl(rest),
        ("etcd", _) => serve(program, rest),
        (_, Some("ctl")) => cli::ctl(&rest[1..]),
        (_, Some("utl")) => cli::utl(&rest[1..]),
        (_, Some("server")) => serve(program, &rest[1..]),
        _ => serve(program, rest),
    }
}

fn serve(program: &str, args: &[String]) -> ExitCode {
    if args.first().is_some_and(|word| word == "gateway") {
        return server::gateway(program, args);
    }
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let env: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    server::run(program, args, &env)
}
