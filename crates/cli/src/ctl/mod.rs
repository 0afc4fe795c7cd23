//! etcdctl: the commands, and what they share: a connection, a deadline, a printer.

mod auth;
mod check;
mod cluster;
mod kv;
mod lease;
mod link;
mod lock;
mod member;
mod mirror;
mod password;
mod print;
mod row;
mod snapshot;
mod txn;
mod watch;

use std::future::Future;
use std::time::Duration;

use client::{Client, Config, Identity, Keepalive, Security, prefix_end, srv};
use tokio::time::Instant;

use crate::completion::{self, COMPLETION};
use crate::flags::{Command, Flag, Kind, Line, Parsed, Tool, flag};
use crate::{EXIT_ERROR, Failure};
use print::Printer;

const RELEASE: api::version::Version = api::version::Line::V3_7.release();
const RECEIVE_BYTES_MAX: usize = i32::MAX as usize;

/// How long a command that stands waits before it tries again (etcd: client/v3/lease.go, retryConnWait).
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

const TOOL: Tool = Tool {
    name: "etcdctl",
    about: "A simple command line client for etcd3.",
    env_prefix: Some("ETCDCTL"),
    globals: &[
        flag(
            "endpoints",
            Kind::List,
            "127.0.0.1:2379",
            "gRPC endpoints, comma separated",
        ),
        Flag {
            name: "write-out",
            short: Some('w'),
            kind: Kind::Text,
            default: "simple",
            help: "set the output format (fields, json, protobuf, simple, table)",
        },
        flag(
            "hex",
            Kind::Bool,
            "false",
            "print byte strings as hex encoded strings",
        ),
        flag(
            "dial-timeout",
            Kind::Duration,
            "2s",
            "dial timeout for client connections",
        ),
        flag(
            "command-timeout",
            Kind::Duration,
            "5s",
            "timeout for short running command (excluding dial timeout)",
        ),
        flag(
            "keepalive-time",
            Kind::Duration,
            "2s",
            "keepalive time for client connections",
        ),
        flag(
            "keepalive-timeout",
            Kind::Duration,
            "6s",
            "keepalive timeout for client connections",
        ),
        flag(
            "max-request-bytes",
            Kind::Int,
            "0",
            "client-side request send limit in bytes",
        ),
        flag(
            "max-recv-bytes",
            Kind::Int,
            "0",
            "client-side response receive limit in bytes",
        ),
        flag("debug", Kind::Bool, "false", "enable client-side debug logging"),
        flag(
            "insecure-transport",
            Kind::Bool,
            "true",
            "disable transport security for client connections",
        ),
        flag(
            "insecure-discovery",
            Kind::Bool,
            "true",
            "accept insecure SRV records describing cluster endpoints",
        ),
        flag(
            "insecure-skip-tls-verify",
            Kind::Bool,
            "false",
            "skip server certificate verification",
        ),
        flag(
            "cert",
            Kind::Text,
            "",
            "identify secure client using this TLS certificate file",
        ),
        flag(
            "key",
            Kind::Text,
            "",
            "identify secure client using this TLS key file",
        ),
        flag(
            "cacert",
            Kind::Text,
            "",
            "verify certificates of TLS-enabled secure servers using this CA bundle",
        ),
        flag(
            "auth-jwt-token",
            Kind::Text,
            "",
            "JWT token used for authentication",
        ),
        flag("user", Kind::Text, "", "username[:password] for authentication"),
        flag("password", Kind::Text, "", "password for authentication"),
        Flag {
            name: "discovery-srv",
            short: Some('d'),
            kind: Kind::Text,
            default: "",
            help: "domain name to query for SRV records describing cluster endpoints",
        },
        flag(
            "discovery-srv-name",
            Kind::Text,
            "",
            "service name to query when using DNS discovery",
        ),
    ],
    commands: &[
        kv::GET,
        kv::PUT,
        kv::DEL,
        txn::TXN,
        kv::COMPACTION,
        watch::WATCH,
        lease::GRANT,
        lease::REVOKE,
        lease::TIME_TO_LIVE,
        lease::LIST,
        lease::KEEP_ALIVE,
        lock::LOCK,
        lock::ELECT,
        cluster::ALARM_LIST,
        cluster::ALARM_DISARM,
        cluster::DEFRAG,
        cluster::HEALTH,
        cluster::STATUS,
        cluster::HASHKV,
        cluster::MOVE_LEADER,
        cluster::DOWNGRADE_VALIDATE,
        cluster::DOWNGRADE_ENABLE,
        cluster::DOWNGRADE_CANCEL,
        member::LIST,
        member::ADD,
        member::REMOVE,
        member::UPDATE,
        member::PROMOTE,
        snapshot::SAVE,
        mirror::MAKE_MIRROR,
        auth::ENABLE,
        auth::DISABLE,
        auth::STATUS,
        auth::USER_ADD,
        auth::USER_DELETE,
        auth::USER_GET,
        auth::USER_LIST,
        auth::USER_PASSWD,
        auth::USER_GRANT_ROLE,
        auth::USER_REVOKE_ROLE,
        auth::ROLE_ADD,
        auth::ROLE_DELETE,
        auth::ROLE_GET,
        auth::ROLE_LIST,
        auth::ROLE_GRANT,
        auth::ROLE_REVOKE,
        check::PERF,
        check::DATASCALE,
        COMPLETION,
        OPTIONS,
        VERSION,
    ],
};

const VERSION: Command = Command {
    path: &["version"],
    usage: "",
    help: "Prints the version of etcdctl",
    flags: &[],
};

const OPTIONS: Command = Command {
    path: &["options"],
    usage: "",
    help: "Prints the global command-line options",
    flags: &[],
};

/// Runs one command line.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let parsed = match TOOL.parse(args, &|name| std::env::var(name).ok())? {
        Line::Help(text) => {
            say!("{text}");
            return Ok(());
        }
        Line::Run(parsed) => *parsed,
    };
    if parsed.command.path == VERSION.path {
        say!(
            "etcdctl version: {RELEASE}\nAPI version: {}.{}",
            RELEASE.major,
            RELEASE.minor
        );
        return Ok(());
    }
    if parsed.command.path == OPTIONS.path {
        say!(
            "The following options can be passed to any command:\n\n{}",
            TOOL.global_flags()
        );
        return Ok(());
    }
    if parsed.command.path == COMPLETION.path {
        return completion::print(&TOOL, &parsed.args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let context = Context {
        printer: Printer::new(&parsed)?,
        security: security(&parsed)?,
        identity: identity(&parsed)?,
        endpoints: endpoints(&parsed)?,
        parsed,
    };
    runtime.block_on(dispatch(&context))
}

async fn dispatch(context: &Context) -> Result<(), Failure> {
    match context.parsed.command.path {
        ["get"] => kv::get(context).await,
        ["put"] => kv::put(context).await,
        ["del"] => kv::del(context).await,
        ["txn"] => txn::txn(context).await,
        ["compaction"] => kv::compaction(context).await,
        ["watch"] => watch::watch(context).await,
        ["lease", "grant"] => lease::grant(context).await,
        ["lease", "revoke"] => lease::revoke(context).await,
        ["lease", "timetolive"] => lease::time_to_live(context).await,
        ["lease", "list"] => lease::list(context).await,
        ["lease", "keep-alive"] => lease::keep_alive(context).await,
        ["lock"] => lock::lock(context).await,
        ["elect"] => lock::elect(context).await,
        ["alarm", "list"] => cluster::alarm_list(context).await,
        ["alarm", "disarm"] => cluster::alarm_disarm(context).await,
        ["defrag"] => cluster::defrag(context).await,
        ["endpoint", "health"] => cluster::health(context).await,
        ["endpoint", "status"] => cluster::status(context).await,
        ["endpoint", "hashkv"] => cluster::hashkv(context).await,
        ["move-leader"] => cluster::move_leader(context).await,
        ["downgrade", _] => cluster::downgrade(context).await,
        ["member", "list"] => member::list(context).await,
        ["member", "add"] => member::add(context).await,
        ["member", "remove"] => member::remove(context).await,
        ["member", "update"] => member::update(context).await,
        ["member", "promote"] => member::promote(context).await,
        ["snapshot", "save"] => snapshot::save(context).await,
        ["make-mirror"] => mirror::make_mirror(context).await,
        ["auth", what] => auth::auth(context, what).await,
        ["user", what] => auth::user(context, what).await,
        ["role", what] => auth::role(context, what).await,
        ["check", "perf"] => check::perf(context).await,
        ["check", "datascale"] => check::datascale(context).await,
        path => Err(Failure::new(EXIT_ERROR, format!("no command {path:?}"))),
    }
}

/// What every command has at hand.
struct Context {
    parsed: Parsed,
    printer: Printer,
    security: Security,
    identity: Option<Identity>,
    endpoints: Vec<String>,
}

/// The flags about TLS.
fn security(parsed: &Parsed) -> Result<Security, Failure> {
    for name in ["cert", "key", "cacert"] {
        if parsed.given(name) && parsed.text(name).is_empty() {
            return Err(Failure::bad_args(format!(
                "empty string is passed to --{name} option"
            )));
        }
    }
    let text = |name: &str| parsed.text(name).to_string();
    // Records that anybody may have written are not to be trusted: servers must have a certificate of the domain.
    let server_name = match parsed.is("insecure-discovery") {
        true => String::new(),
        false => text("discovery-srv"),
    };
    Ok(Security {
        info: tls::Info {
            cert_file: text("cert"),
            key_file: text("key"),
            trusted_ca_file: text("cacert"),
            insecure_skip_verify: parsed.is("insecure-skip-tls-verify"),
            server_name,
            ..tls::Info::default()
        },
        insecure_transport: parsed.is("insecure-transport"),
    })
}

/// Those that the domain of `--discovery-srv` names; without one, or if it names none, those of `--endpoints`.
fn endpoints(parsed: &Parsed) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let domain = parsed.text("discovery-srv");
    if !domain.is_empty() {
        let answer = srv::clients(domain, parsed.text("discovery-srv-name"));
        found = answer.map_err(|error| Failure::new(EXIT_ERROR, error))?.endpoints;
        if !parsed.is("insecure-discovery") {
            found = secure_only(found);
        }
    }
    if found.is_empty() {
        let given = parsed.text("endpoints").split(',');
        found = given.map(|endpoint| endpoint.trim().to_string()).collect();
    }
    Ok(found)
}

/// Leaves out, and names, what is reached without TLS.
fn secure_only(endpoints: Vec<String>) -> Vec<String> {
    let (plain, secure): (Vec<String>, Vec<String>) = endpoints
        .into_iter()
        .partition(|endpoint| endpoint.starts_with("http://"));
    for endpoint in plain {
        eprintln!("ignoring discovered insecure endpoint {endpoint:?}");
    }
    secure
}

/// Who asks, as `--user`, `--password` and `--auth-jwt-token` say.
fn identity(parsed: &Parsed) -> Result<Option<Identity>, Failure> {
    match (parsed.text("user"), parsed.text("auth-jwt-token")) {
        ("", "") => Ok(None),
        (user, "") => password::identity(user, parsed.text("password"), "Password: ").map(Some),
        (_, token) => Ok(Some(Identity::Token(token.to_string()))),
    }
}

impl Context {
    fn args(&self) -> &[String] {
        &self.parsed.args
    }

    fn endpoints(&self) -> Vec<String> {
        self.endpoints.clone()
    }

    fn config(&self, endpoints: Vec<String>) -> Config {
        let receive = usize::try_from(self.parsed.int("max-recv-bytes")).unwrap_or(0);
        Config {
            endpoints,
            dial_timeout: self.parsed.duration("dial-timeout"),
            keepalive: Keepalive {
                time: self.parsed.duration("keepalive-time"),
                timeout: self.parsed.duration("keepalive-timeout"),
            },
            security: self.security.clone(),
            identity: self.identity.clone(),
            receive_bytes_max: if receive == 0 { RECEIVE_BYTES_MAX } else { receive },
        }
    }

    fn timeout(&self) -> Duration {
        self.parsed.duration("command-timeout")
    }

    /// A connection for a short command, to any endpoint.
    async fn connect(&self) -> Result<Client, Failure> {
        self.connect_to(self.endpoints()).await
    }

    async fn connect_to(&self, endpoints: Vec<String>) -> Result<Client, Failure> {
        let deadline = Instant::now() + self.timeout();
        Ok(Client::connect(&self.config(endpoints), Some(deadline)).await?)
    }

    /// Tries until somebody answers. Begins with a pause: who was just lost may answer and refuse at once.
    async fn reconnect(&self) -> Client {
        loop {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            if let Ok(client) = self.connect().await {
                return client;
            }
        }
    }

    /// One call within the command's time.
    async fn call<M: prost::Message>(
        &self,
        client: &Client,
        method: &str,
        message: &M,
    ) -> Result<bytes::Bytes, Failure> {
        within(self.timeout(), async {
            client.unary(method, message).await.map_err(Failure::from)
        })
        .await
    }
}

async fn within<T>(span: Duration, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(span, future).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(EXIT_ERROR, "context deadline exceeded")),
    }
}

/// Decodes an answer for a printer.
fn decode<M: prost::Message + Default>(answer: &[u8]) -> Result<M, Failure> {
    M::decode(answer)
        .map_err(|error| Failure::new(EXIT_ERROR, format!("the answer cannot be decoded: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        match TOOL.parse(&args, &|_| None).unwrap() {
            Line::Run(parsed) => *parsed,
            Line::Help(text) => panic!("{text}"),
        }
    }

    #[test]
    fn servers_of_a_domain_must_have_its_name_where_records_are_not_trusted() {
        let name = |line: &str| security(&parsed(line)).unwrap().info.server_name;
        assert_eq!(name("get a --discovery-srv=example.com"), "");
        assert_eq!(
            name("get a --discovery-srv=example.com --insecure-discovery=false"),
            "example.com"
        );
        assert_eq!(name("get a --insecure-discovery=false"), "");
    }

    #[test]
    fn endpoints_without_tls_are_left_out() {
        let found = vec!["http://a.:1".to_string(), "https://b.:1".to_string()];
        assert_eq!(secure_only(found), ["https://b.:1"]);
        assert_eq!(
            endpoints(&parsed("get a --endpoints=x:1,y:2")).unwrap(),
            ["x:1", "y:2"]
        );
    }
}
