//! The settings of a server: from the command line, the environment or a file, as etcd takes
//! them. Never opens a file or a socket, and never reads the real environment: all are arguments.

mod discovery;
mod env;
mod file;
mod flags;
#[cfg(test)]
mod page;
mod resolve;
mod rotation;
mod table;
mod usage;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use api::version::Line;

pub use api::url::{Scheme, Url};
pub use discovery::Discovery;
pub use resolve::AutoCompaction;
pub use usage::arch;
use value::Value;
pub use value::{ALL_GATES, Span, parse_span, quote};

use crate::log::Level;
use crate::words::of_system;

/// Stands in the log for a password.
pub(crate) const HIDDEN: &str = "********";

/// The settings that a server runs with. All checked; spans that mean "default" are replaced.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // Each field is the flag of its name: see the table.
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub snapshot_count: u64,
    pub snapshot_catchup_entries: u64,
    pub heartbeat_ms: u64,
    pub election_ms: u64,
    pub initial_election_tick_advance: bool,
    pub pre_vote: bool,
    pub listen_peer_urls: Vec<Url>,
    pub listen_client_urls: Vec<Url>,
    pub listen_client_http_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    pub initial_advertise_peer_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    pub initial_cluster: String,
    pub initial_cluster_state: String,
    pub initial_cluster_token: String,
    pub discovery: Discovery,
    pub discovery_srv: String,
    pub discovery_srv_name: String,
    pub strict_reconfig_check: bool,
    pub max_snapshots: u64,
    pub max_wals: u64,
    pub quota_backend_bytes: i64,
    pub backend_batch_interval: Duration,
    pub backend_batch_limit: usize,
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub max_concurrent_streams: u32,
    pub grpc_keepalive_min_time: Duration,
    pub grpc_keepalive_interval: Duration,
    pub grpc_keepalive_timeout: Duration,
    pub socket_reuse_port: bool,
    pub socket_reuse_address: bool,
    pub enable_grpc_gateway: bool,
    pub emulated: Line,
    /// `--metrics=extensive`.
    pub metrics_extensive: bool,
    pub auto_compaction: AutoCompaction,
    /// As given, for the log.
    pub auto_compaction_mode: String,
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,
    pub compact_hash_check_time: Duration,
    pub corrupt_check_time: Duration,
    pub watch_progress_notify_interval: Duration,
    pub downgrade_check_time: Duration,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    pub max_learners: i64,
    pub bcrypt_cost: u64,
    pub auth_token_ttl: u64,
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub bootstrap_defrag_threshold_megabytes: u64,
    pub unsafe_no_fsync: bool,
    pub force_new_cluster: bool,
    pub gates: Gates,
    /// `cert-file`, `key-file` and their like.
    pub client_tls: tls::Info,
    pub client_auto_tls: bool,
    /// `peer-cert-file`, `peer-key-file` and their like.
    pub peer_tls: tls::Info,
    pub peer_auto_tls: bool,
    /// In years.
    pub self_signed_cert_validity: u64,
    /// As given, for the log.
    pub cipher_suites: Vec<String>,
    pub log: LogConfig,
}

/// The feature gates that are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    on: Vec<&'static str>,
    /// As given, for the log.
    pub given: String,
}

impl Gates {
    /// Whether a gate is on.
    pub fn is_on(&self, gate: &str) -> bool {
        self.on.contains(&gate)
    }
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least level written.
    pub level: Level,
    /// Whether lines are JSON, or text for people.
    pub json: bool,
    /// `default`, `stderr`, `stdout`, `systemd/journal`, or the path of a file.
    pub outputs: Vec<String>,
    /// `--enable-log-rotation`, for the file among the outputs.
    pub rotation: Option<Rotation>,
}

/// `--log-rotation-config-json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a file before it is put aside.
    pub bytes_max: u64,
    /// Days after which a file put aside is removed, 0 for never.
    pub age_days_max: u64,
    /// How many files put aside are kept, 0 for all.
    pub backups_max: u64,
    /// Whether files put aside are compressed.
    pub compress: bool,
}

/// What the settings amount to.
#[derive(Debug)]
pub enum Loaded {
    /// Run a server.
    Run(Box<Config>),
    /// Print and exit with 0.
    Print {
        /// For standard output.
        out: String,
        /// For standard error.
        err: String,
    },
}

/// Why there are no settings to run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong. To be printed before the usage; the exit code is 2.
    #[error("{0}")]
    Usage(String),
    /// A variable and its flag are both given: unset one of them. The exit code is 1.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
    )]
    Shadowed(
        /// The variable.
        String,
    ),
    /// A setting is wrong, or settings do not fit together. The exit code is 1.
    #[error("{0}")]
    Invalid(String),
}

/// Something to log once there is a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How grave it is.
    pub level: Level,
    /// The text.
    pub text: String,
    /// Fields, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    fn info(text: &str) -> Notice {
        Notice {
            level: Level::Info,
            text: text.to_string(),
            fields: Vec::new(),
        }
    }

    fn warn(text: &str) -> Notice {
        Notice {
            level: Level::Warn,
            ..Notice::info(text)
        }
    }

    fn with(mut self, key: &'static str, value: &str) -> Notice {
        self.fields.push((key, value.to_string()));
        self
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for (key, value) in &self.fields {
            write!(f, " {key}={value}")?;
        }
        Ok(())
    }
}

/// The settings that were given, by flag name.
#[derive(Clone, Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, Value>,
    retired: Vec<&'static str>,
    refused: Option<String>,
}

impl Given {
    fn set(&mut self, flag: &'static str, value: Value) {
        self.values.insert(flag, value);
    }

    fn mark(&mut self, retired: &'static str) {
        self.retired.push(retired);
    }

    /// There will be no settings to run with, for this reason: the first that is given counts.
    fn refuse(&mut self, reason: String) {
        self.refused.get_or_insert(reason);
    }

    fn get(&self, flag: &str) -> Option<&Value> {
        self.values.get(flag)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().chain(&self.retired).copied()
    }
}

/// What the settings are made from.
pub struct Sources<'a> {
    /// The arguments after the program's name.
    pub args: &'a [String],
    /// The environment.
    pub env: &'a [(String, String)],
    /// Reads the configuration file.
    pub read_file: &'a dyn Fn(&str) -> std::io::Result<String>,
    /// This machine's address on the network, asked for only where a URL leaves it open.
    pub default_host: &'a dyn Fn() -> Option<String>,
}

/// Makes the settings. What there is to warn of is added to `notices`, also if this fails.
pub fn load(sources: &Sources<'_>, notices: &mut Vec<Notice>) -> Result<Loaded, ConfigError> {
    let mut given = Given::default();
    let rest = match flags::parse(sources.args, &mut given, notices) {
        Ok(rest) => rest,
        Err(flags::FlagError::Help) => {
            return Ok(Loaded::Print {
                out: usage::flags(),
                err: usage::USAGE.to_string(),
            });
        }
        Err(flags::FlagError::Bad(text)) => {
            return Err(ConfigError::Usage(format!("{text}\n{}", usage::USAGE)));
        }
    };
    if let Some(first) = rest.first() {
        return Err(ConfigError::Invalid(no_flag(first)));
    }
    let variable = |flag: &str| {
        let name = env::variable(flag);
        let found = sources.env.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    };
    if given.get("version") == Some(&Value::Bool(true)) {
        let emulated = match given.get("emulated-version") {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => variable("emulated-version"),
        };
        return Ok(Loaded::Print {
            out: usage::version(resolve::line(emulated.as_deref().unwrap_or_default())),
            err: String::new(),
        });
    }
    let of_3_5 = {
        let given = match given.get("emulated-version") {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        given.or_else(|| variable("emulated-version")).as_deref() == Some("3.5")
    };
    if let (Some(error), false) = (not_yet(&given), of_3_5) {
        let error = format!("invalid value \"not-yet\" for flag -v2-deprecation: {error}");
        return Err(ConfigError::Usage(format!("{error}\n{}", usage::USAGE)));
    }
    let path = match given.get("config-file") {
        Some(Value::Text(path)) if !path.is_empty() => Some(path.clone()),
        _ => variable("config-file"),
    };
    let from_file = path.is_some();
    match path {
        None => {
            env::apply(sources.env, &mut given, notices)?;
            if let (Some(error), false) = (not_yet(&given), of_3_5) {
                let error = format!("invalid value \"not-yet\" for ETCD_V2_DEPRECATION: {error}");
                return Err(ConfigError::Invalid(error));
            }
        }
        Some(path) => {
            // etcd does not know this variable; a unit file that starts both sets it beside the file.
            let emulated = given.values.remove("emulated-version");
            given = Given::default();
            let text = (sources.read_file)(&path)
                .map_err(|error| ConfigError::Invalid(format!("open {path}: {}", of_system(&error))))?;
            file::apply(&text, &mut given, notices)?;
            let emulated = emulated.or(variable("emulated-version").map(Value::Text));
            if let (None, Some(emulated)) = (given.get("emulated-version"), emulated) {
                given.set("emulated-version", emulated);
            }
            notices.push(
                Notice::info(
                    "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided",
                )
                .with("path", &path),
            );
        }
    }
    resolve::resolve(&given, from_file, sources.default_host, notices)
        .map(|config| Loaded::Run(Box::new(config)))
}

/// What is said of a word that stands where only flags may.
fn no_flag(word: &str) -> String {
    let next = match word {
        "grpc-proxy" => {
            ": this program has no gRPC proxy; let clients connect to the members, pass connections on \
             with `etcd gateway start --endpoints=HOST:PORT`, or run the grpc-proxy of etcd itself, which serves in \
             front of this server as well"
        }
        _ => "",
    };
    format!("{} is not a valid flag{next}", value::quote(word))
}

/// What is wrong with the one value of `--v2-deprecation` that only 3.5 knows, if it is given.
fn not_yet(given: &Given) -> Option<&'static str> {
    match given.get("v2-deprecation") {
        Some(Value::Text(text)) if text.split(',').any(|item| item == "not-yet") => {
            Some("invalid value \"not-yet\"")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources_load(
        line: &str,
        env: &[(&str, &str)],
        notices: &mut Vec<Notice>,
    ) -> Result<Loaded, ConfigError> {
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let env: Vec<(String, String)> = env
            .iter()
            .map(|(k, v)| ((*k).to_string(), (*v).to_string()))
            .collect();
        let read_file = |path: &str| match path {
            "conf.yml" => Ok("name: filed\nlisten-client-urls: http://127.0.0.1:1\n".to_string()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        load(
            &Sources {
                args: &args,
                env: &env,
                read_file: &read_file,
                default_host: &|| Some("10.1.2.3".to_string()),
            },
            notices,
        )
    }

    fn run(line: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        match sources_load(line, env, &mut Vec::new())? {
            Loaded::Run(config) => Ok(*config),
            Loaded::Print { .. } => panic!("{line} prints"),
        }
    }

    #[test]
    fn defaults_are_those_of_etcd() {
        let config = run("", &[]).unwrap();
        assert_eq!(config.name, "default");
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(config.initial_cluster, "default=http://localhost:2380");
        assert_eq!((config.heartbeat_ms, config.election_ms), (100, 1000));
        assert_eq!(config.max_request_bytes, 1_572_864);
        assert_eq!(config.backend_batch_interval, Duration::from_millis(100));
        assert_eq!(config.backend_batch_limit, 10_000);
        assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
        assert_eq!(config.auto_compaction, AutoCompaction::Off);
        assert_eq!(config.emulated, Line::V3_7);
        assert!(config.gates.is_on("FastLeaseKeepAlive") && !config.gates.is_on("LeaseCheckpoint"));
    }

    #[test]
    fn settings_that_depend_on_others_follow_them() {
        let config = run("--name m1", &[]).unwrap();
        assert_eq!(config.initial_cluster, "m1=http://localhost:2380");
        assert_eq!(config.data_dir, PathBuf::from("m1.etcd"));
        let config = run(
            "--listen-peer-urls http://0.0.0.0:9 --name x --listen-client-urls http://0.0.0.0:8 \
             --advertise-client-urls http://localhost:2379",
            &[],
        )
        .unwrap();
        assert_eq!(config.initial_cluster, "x=http://10.1.2.3:9");
        assert_eq!(config.advertise_client_urls[0].to_string(), "http://10.1.2.3:8");
        let config = run("--initial-advertise-peer-urls= --listen-metrics-urls=", &[]).unwrap();
        assert_eq!(
            config.initial_advertise_peer_urls[0].to_string(),
            "http://localhost:2380"
        );
        assert_eq!(config.listen_metrics_urls, []);
        for (line, expect) in [
            ("--auto-compaction-retention=", AutoCompaction::Off),
            (
                "--auto-compaction-retention 5",
                AutoCompaction::Periodic(Duration::from_secs(5 * 3600)),
            ),
            (
                "--auto-compaction-retention 5m",
                AutoCompaction::Periodic(Duration::from_secs(300)),
            ),
            (
                "--auto-compaction-retention 7 --auto-compaction-mode revision",
                AutoCompaction::Revision(7),
            ),
        ] {
            assert_eq!(run(line, &[]).unwrap().auto_compaction, expect, "{line}");
        }
    }

    #[test]
    fn a_3_5_member_is_told_of_no_flag_that_3_5_has() {
        let gone = |line: &str| {
            let mut notices = Vec::new();
            sources_load(line, &[], &mut notices).unwrap();
            notices.iter().any(|notice| notice.text == flags::GONE)
        };
        let flag = "--experimental-initial-corrupt-check";
        assert!(gone(flag) && gone(&format!("{flag} --emulated-version=3.6")));
        assert!(!gone(&format!("{flag} --emulated-version=3.5")));
    }

    #[test]
    fn a_3_5_member_takes_what_3_5_takes() {
        let mut notices = Vec::new();
        let line = "--v2-deprecation=not-yet --discovery-fallback=proxy --max-snapshots=3 --name x";
        let loaded = sources_load(line, &[("ETCD_EMULATED_VERSION", "3.5")], &mut notices);
        assert!(loaded.is_ok(), "{loaded:?}");
        assert!(
            notices.iter().all(|notice| !notice.text.contains("deprecated")),
            "{notices:?}"
        );
        for line in [
            "--v2-deprecation=not-yet",
            "--v2-deprecation=not-yet --emulated-version=3.6",
        ] {
            let Err(ConfigError::Usage(text)) = run(line, &[]) else {
                panic!("{line} is taken");
            };
            assert!(
                text.starts_with(
                    "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"\n"
                ),
                "{text}"
            );
        }
        let not_yet = [("ETCD_V2_DEPRECATION", "not-yet")];
        let error = run("", &not_yet).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid value \"not-yet\" for ETCD_V2_DEPRECATION: invalid value \"not-yet\""
        );
        assert!(run("--emulated-version=3.5", &not_yet).is_ok());
    }

    /// Who is refused is told what to do instead.
    #[test]
    fn refusals_of_what_is_gone_say_the_next_step() {
        for (line, next) in [
            ("grpc-proxy start", "etcd gateway start"),
            ("--enable-v2", "use the v3 API"),
            ("--proxy=on", "etcd gateway start"),
            ("--proxy readonly --emulated-version=3.5", "etcd gateway start"),
        ] {
            let error = run(line, &[]).err().map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|error| error.contains(next)),
                "{line}: {error:?}"
            );
        }
        assert!(run("--enable-v2=false --proxy=off", &[]).is_ok());
    }

    #[test]
    fn the_environment_and_the_file_take_their_places() {
        assert_eq!(run("", &[("ETCD_NAME", "e")]).unwrap().name, "e");
        let shadowed = run("--name f", &[("ETCD_NAME", "e")]).err();
        assert_eq!(shadowed, Some(ConfigError::Shadowed("ETCD_NAME".into())));
        let filed = run(
            "--name f --config-file conf.yml",
            &[("ETCD_NAME", "e"), ("ETCD_EMULATED_VERSION", "3.5")],
        )
        .unwrap();
        assert_eq!((filed.name.as_str(), filed.emulated), ("filed", Line::V3_5));
        assert_eq!(
            run("", &[("ETCD_CONFIG_FILE", "conf.yml")]).unwrap().name,
            "filed"
        );
        assert!(run("--config-file no.yml", &[]).is_err());
    }

    #[test]
    fn what_is_not_there_is_refused_or_warned_of() {
        let error = run("--discovery=x --emulated-version=3.5", &[]).unwrap_err();
        assert!(error.to_string().starts_with("--discovery=x is not"), "{error}");
        for line in [
            "--client-crl-file x",
            "--peer-cert-allowed-cn x",
            "--client-cert-allowed-hostname x",
            "--auth-token jwt,pub-key=x",
        ] {
            let error = run(line, &[]).err().map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|e| e.contains("not supported yet")),
                "{line}: {error:?}"
            );
        }
        let mut notices = Vec::new();
        sources_load("--auto-tls=false --metrics basic", &[], &mut notices).unwrap();
        let idle = |notices: &[Notice]| notices.iter().filter(|n| n.text.contains("no effect")).count();
        assert_eq!(idle(&notices), 0, "{notices:?}");
        sources_load("--enable-pprof --metrics extensive", &[], &mut notices).unwrap();
        assert_eq!(idle(&notices), 1, "{notices:?}");
    }

    #[test]
    fn who_discovers_others_names_none() {
        let cluster = |line: &str| run(line, &[]).unwrap().initial_cluster;
        assert_eq!(cluster("--name x --discovery-srv d"), "");
        assert_eq!(
            cluster("--name x --discovery-token t --discovery-endpoints b,a"),
            ""
        );
        assert_eq!(cluster("--name x --initial-cluster= --discovery-srv d"), "");
        assert_ne!(cluster("--name x --discovery-dial-timeout 3s"), "");
        let config = run(
            "--discovery-token t --discovery-endpoints b,a --discovery-user u --discovery-insecure-transport=false",
            &[],
        );
        let discovery = config.unwrap().discovery;
        assert_eq!(discovery.endpoints, ["a", "b"]);
        assert_eq!((discovery.token.as_str(), discovery.user.as_str()), ("t", "u"));
        assert!(!discovery.insecure_transport);
        assert_eq!(discovery.dial_timeout, Duration::from_secs(2));
    }

    /// Texts of embed/config.go Validate.
    #[test]
    fn contradictions_are_refused_with_the_texts_of_etcd() {
        for (line, error) in [
            ("foo", "\"foo\" is not a valid flag"),
            (
                "--heartbeat-interval 0",
                "--heartbeat-interval must be >0 (set to 0ms)",
            ),
            (
                "--election-timeout 400",
                "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]",
            ),
            (
                "--election-timeout 60000",
                "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            ),
            (
                "--listen-client-urls http://127.0.0.1:1",
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            (
                "--listen-peer-urls http://foo.bar:1",
                "expected IP in URL for binding (http://foo.bar:1)",
            ),
            ("--auto-compaction-mode x", "unknown auto-compaction-mode \"x\""),
            (
                "--feature-gates LeaseCheckpointPersist=true",
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
            ),
            ("--logger capnslog", "--logger=capnslog is removed in v3.5"),
            (
                "--log-format x",
                "unknown log format: x, supported values json, console",
            ),
            (
                "--tls-min-version TLS1.1",
                "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
            ),
            (
                "--tls-min-version TLS1.3 --tls-max-version TLS1.2",
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
            (
                "--tls-min-version TLS1.3 --cipher-suites TLS_AES_128_GCM_SHA256",
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ),
            (
                "--discovery-srv d --initial-cluster a=http://a:1",
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
            ),
            (
                "--discovery-token t",
                "both --discovery-token and --discovery-endpoints must be set",
            ),
            (
                "--discovery-endpoints a",
                "both --discovery-token and --discovery-endpoints must be set",
            ),
            (
                "--discovery-token t --discovery-endpoints a,,b",
                "--discovery-endpoints must not contain empty endpoints",
            ),
            ("--cipher-suites=", "unexpected TLS cipher suite \"\""),
            ("--cipher-suites a,b", "unexpected TLS cipher suite \"a\""),
        ] {
            assert_eq!(
                run(line, &[]).err(),
                Some(ConfigError::Invalid(error.into())),
                "{line}"
            );
        }
    }

    #[test]
    fn help_and_version_print() {
        for (line, starts) in [("--version", "etcd Version: 3.7.1\n"), ("-h", "\nMember:\n")] {
            match sources_load(line, &[], &mut Vec::new()) {
                Ok(Loaded::Print { out, .. }) => assert!(out.starts_with(starts), "{out}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        let error = run("--bogus", &[]).err();
        assert!(matches!(error, Some(ConfigError::Usage(text)) if text.starts_with("flag provided")));
    }
}
