//! The command line of the gateway, read as Go's `pflag` reads it: flags stand before or behind the
//! word `start`.

use std::fmt::Write;
use std::time::Duration;

use crate::config::{Span, parse_span, quote};

/// What the gateway runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen_addr: String,
    /// Where the members are.
    pub endpoints: Vec<String>,
    /// How long an endpoint that failed is left alone.
    pub retry_delay: Duration,
    /// The domain whose SRV records name the members; empty for none.
    pub discovery_srv: String,
    /// The suffix of the service's name.
    pub discovery_srv_name: String,
    /// Whether records are believed without a look at the members' certificates.
    pub insecure_discovery: bool,
    /// Whose certificates are believed.
    pub trusted_ca_file: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen_addr: "127.0.0.1:23790".into(),
            endpoints: vec!["127.0.0.1:2379".into()],
            retry_delay: Duration::from_secs(60),
            discovery_srv: String::new(),
            discovery_srv_name: String::new(),
            insecure_discovery: false,
            trusted_ca_file: String::new(),
        }
    }
}

/// What a command line comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Run.
    Start(Settings),
    /// Print and exit with 0.
    Help(String),
}

/// Name, kind, default as the help shows it, help.
const FLAGS: [(&str, &str, &str, &str); 7] = [
    (
        "discovery-srv",
        "string",
        "",
        "DNS domain whose SRV records name the members",
    ),
    (
        "discovery-srv-name",
        "string",
        "",
        "suffix of the SRV service name",
    ),
    (
        "endpoints",
        "strings",
        "127.0.0.1:2379",
        "addresses of the members, comma separated",
    ),
    (
        "insecure-discovery",
        "",
        "",
        "accept SRV records of members without TLS",
    ),
    ("listen-addr", "string", "127.0.0.1:23790", "address to listen on"),
    (
        "retry-delay",
        "duration",
        "1m0s",
        "time after which an endpoint that failed is tried again",
    ),
    (
        "trusted-ca-file",
        "string",
        "",
        "authorities to verify discovered members by",
    ),
];

/// Reads the words after `gateway`. The error is for standard error, with its line ends.
pub fn parse(args: &[String]) -> Result<Line, String> {
    let mut settings = Settings::default();
    let (mut words, mut endpoints): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if matches!(arg.as_str(), "-h" | "--help") {
            return Ok(Line::Help(help()));
        }
        let Some(flag) = arg.strip_prefix("--") else {
            if arg.len() > 1 && arg.starts_with('-') {
                let letter = arg.chars().nth(1).unwrap_or_default();
                return Err(wrong(&format!("unknown shorthand flag: '{letter}' in {arg}")));
            }
            words.push(arg);
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (flag, None),
        };
        let known = FLAGS.iter().find(|(known, ..)| *known == name);
        let (name, kind, ..) = known.ok_or_else(|| wrong(&format!("unknown flag: --{name}")))?;
        let value = match inline {
            Some(value) => value,
            None if kind.is_empty() => "true".into(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| wrong(&format!("flag needs an argument: --{name}")))?,
        };
        match *name {
            "listen-addr" => settings.listen_addr = value,
            "endpoints" => endpoints.extend(value.split(',').map(str::to_string)),
            "retry-delay" => settings.retry_delay = delay(&value)?,
            "discovery-srv" => settings.discovery_srv = value,
            "discovery-srv-name" => settings.discovery_srv_name = value,
            "trusted-ca-file" => settings.trusted_ca_file = value,
            "insecure-discovery" => settings.insecure_discovery = boolean(&value)?,
            _ => {}
        }
    }
    if !endpoints.is_empty() {
        settings.endpoints = endpoints;
    }
    match words.as_slice() {
        ["start", ..] => Ok(Line::Start(settings)),
        [] => Ok(Line::Help(help())),
        [other, ..] => Err(wrong(&format!(
            "unknown command {} for \"etcd gateway\"",
            quote(other)
        ))),
    }
}

/// Zero stands for the proxy's own default: tcpproxy/userspace.go.
fn delay(text: &str) -> Result<Duration, String> {
    match parse_span(text) {
        Some(Span(0)) => Ok(Duration::from_secs(5 * 60)),
        Some(span) => Ok(span.duration()),
        None => {
            let quoted = quote(text);
            Err(wrong(&format!(
                "invalid argument {quoted} for \"--retry-delay\" flag: time: invalid duration {quoted}"
            )))
        }
    }
}

/// Go's `ParseBool`.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let quoted = quote(text);
            Err(wrong(&format!(
                "invalid argument {quoted} for \"--insecure-discovery\" flag: strconv.ParseBool: parsing {quoted}: invalid syntax"
            )))
        }
    }
}

fn wrong(text: &str) -> String {
    format!("Error: {text}\n{}", help())
}

fn help() -> String {
    let mut text = "Usage:\n  etcd gateway start [flags]\n\nFlags:\n".to_string();
    for (name, kind, default, help) in FLAGS {
        let flag = format!("--{name} {kind}");
        let default = match default {
            "" => String::new(),
            default => format!(" (default {default})"),
        };
        let _ = writeln!(text, "  {flag:<28} {help}{default}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Line, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        parse(&args)
    }

    #[test]
    fn flags_stand_before_and_behind_the_word() {
        let default = Settings::default();
        assert_eq!(read("start"), Ok(Line::Start(default.clone())));
        let given = Settings {
            listen_addr: "x:1".into(),
            endpoints: vec!["a:1".into(), "b:2".into(), "c:3".into()],
            retry_delay: Duration::from_millis(1500),
            discovery_srv: "d".into(),
            discovery_srv_name: "n".into(),
            insecure_discovery: true,
            trusted_ca_file: "/ca".into(),
        };
        assert_eq!(
            read(
                "--endpoints=a:1,b:2 start --listen-addr x:1 --endpoints c:3 --retry-delay=1.5s --discovery-srv d \
                 --discovery-srv-name=n --insecure-discovery --trusted-ca-file /ca"
            ),
            Ok(Line::Start(given))
        );
        assert!(matches!(read("start -h"), Ok(Line::Help(text)) if text.contains("--retry-delay duration")));
        assert!(matches!(read(""), Ok(Line::Help(_))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, text) in [
            ("start --x", "Error: unknown flag: --x\n"),
            (
                "start --listen-addr",
                "Error: flag needs an argument: --listen-addr\n",
            ),
            (
                "start --retry-delay x",
                "Error: invalid argument \"x\" for \"--retry-delay\" flag: time: invalid duration \"x\"\n",
            ),
            ("stop", "Error: unknown command \"stop\" for \"etcd gateway\"\n"),
            (
                "start --insecure-discovery=x",
                "Error: invalid argument \"x\" for \"--insecure-discovery\" flag: strconv.ParseBool",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(text), "{line}: {error}");
        }
    }
}
