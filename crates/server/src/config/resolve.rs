//! From what was given to what a server runs with: defaults, checks, refusals
//! (server/embed/config.go `Validate`, `UpdateDefaultClusterFromName`). Never reads a source itself.

use std::path::PathBuf;
use std::time::Duration;

use api::version::Line;

use super::discovery;
use super::rotation;
use super::table::{self, FLAGS, Heir, RETIRED, Standing};
use super::value::{self, Span, Value, quote};
use super::{Config, ConfigError, Discovery, Gates, Given, LogConfig, Notice};
use crate::log::Level;
use api::url::{self, Url};

/// What is compacted without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Nothing.
    Off,
    /// What is older than this.
    Periodic(Duration),
    /// All but so many revisions.
    Revision(i64),
}

const JOURNAL: &str = "systemd/journal";

const MAX_SNAPSHOTS: &str = "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.";
const V2_DEPRECATION: &str = "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.";

/// Longest election timeout: embed/config.go maxElectionMs.
const ELECTION_MS_MAX: u64 = 50_000;

/// The release line of `--emulated-version`.
pub fn line(text: &str) -> Line {
    match text {
        "3.5" => Line::V3_5,
        "3.6" => Line::V3_6,
        _ => Line::V3_7,
    }
}

fn invalid(text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(text.into())
}

/// Values by flag name, given or default.
struct Settings<'a>(&'a Given);

impl Settings<'_> {
    fn value(&self, name: &str) -> Value {
        if let Some(value) = self.0.get(name) {
            return value.clone();
        }
        self.default(name)
    }

    fn default(&self, name: &str) -> Value {
        let flag = table::find(name).expect("settings are asked for by names of the table");
        value::parse(flag.kind, flag.default).expect("defaults of the table parse: a test holds it")
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name) == Value::Bool(true)
    }

    fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(number) => number,
            _ => 0,
        }
    }

    fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(number) => number,
            _ => 0,
        }
    }

    fn span(&self, name: &str) -> Span {
        match self.value(name) {
            Value::Span(span) => span,
            _ => Span(0),
        }
    }

    /// A span for which zero means a default.
    fn span_or(&self, name: &str, default_ms: u64) -> Duration {
        match self.span(name).duration() {
            Duration::ZERO => Duration::from_millis(default_ms),
            span => span,
        }
    }

    /// An empty text leaves the default (etcd: pkg/flags/unique_urls.go Set).
    fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) if !urls.is_empty() => urls,
            _ => match self.default(name) {
                Value::Urls(urls) => urls,
                _ => Vec::new(),
            },
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(list) => list,
            _ => Vec::new(),
        }
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.uint(name)).unwrap_or(usize::MAX)
    }
}

/// Makes the settings of a server out of what was given.
pub fn resolve(
    given: &Given,
    from_file: bool,
    default_host: &dyn Fn() -> Option<String>,
    notices: &mut Vec<Notice>,
) -> Result<Config, ConfigError> {
    let settings = Settings(given);
    let mut config = assemble(&settings)?;
    let discovers = config.discovery.is_asked_for()
        || !config.discovery_srv.is_empty()
        || (!from_file && !config.discovery_srv_name.is_empty());
    let is_default = config.initial_cluster == "default=http://localhost:2380";
    if discovers && (given.get("initial-cluster").is_none() || (from_file && is_default)) {
        config.initial_cluster.clear();
    }
    check_urls(&config, notices)?;
    discovery::check(&config)?;
    check_times(&config)?;
    // An empty list that is given counts as given.
    if !from_file && given.get("listen-client-urls").is_some() && given.get("advertise-client-urls").is_none()
    {
        return Err(invalid(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    check_gates(&config, notices)?;
    check_tls(&config)?;
    // etcd looks at this only on the command line; its sample file says `proxy`.
    // For 3.5 it is the default.
    let proxies = config.emulated == Line::V3_5;
    if !from_file && !proxies && settings.text("discovery-fallback") == "proxy" {
        return Err(invalid(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ));
    }
    refuse(given, notices)?;
    follow_name_and_host(&mut config, default_host, notices);
    if config.emulated == Line::V3_5 {
        // A 3.5 member has these flags, and does not know what replaces them.
        notices.retain(|notice| {
            notice.text != super::flags::GONE && notice.text != MAX_SNAPSHOTS && notice.text != V2_DEPRECATION
        });
    }
    Ok(config)
}

fn assemble(s: &Settings<'_>) -> Result<Config, ConfigError> {
    let name = s.text("name");
    let data_dir = match s.text("data-dir") {
        dir if dir.is_empty() => PathBuf::from(format!("{name}.etcd")),
        dir => PathBuf::from(dir),
    };
    Ok(Config {
        data_dir,
        wal_dir: Some(s.text("wal-dir"))
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from),
        snapshot_count: s.uint("snapshot-count"),
        snapshot_catchup_entries: s.uint("snapshot-catchup-entries"),
        heartbeat_ms: s.uint("heartbeat-interval"),
        election_ms: s.uint("election-timeout"),
        initial_election_tick_advance: s.flag("initial-election-tick-advance"),
        pre_vote: s.flag("pre-vote"),
        listen_peer_urls: s.urls("listen-peer-urls"),
        listen_client_urls: s.urls("listen-client-urls"),
        listen_client_http_urls: s.urls("listen-client-http-urls"),
        listen_metrics_urls: s.urls("listen-metrics-urls"),
        initial_advertise_peer_urls: s.urls("initial-advertise-peer-urls"),
        advertise_client_urls: s.urls("advertise-client-urls"),
        initial_cluster: s.text("initial-cluster"),
        initial_cluster_state: s.text("initial-cluster-state"),
        initial_cluster_token: s.text("initial-cluster-token"),
        discovery: discovery_of(s),
        discovery_srv: s.text("discovery-srv"),
        discovery_srv_name: s.text("discovery-srv-name"),
        strict_reconfig_check: s.flag("strict-reconfig-check"),
        max_snapshots: s.uint("max-snapshots"),
        max_wals: s.uint("max-wals"),
        quota_backend_bytes: s.int("quota-backend-bytes"),
        backend_batch_interval: s.span_or("backend-batch-interval", 100),
        backend_batch_limit: positive_or(s.int("backend-batch-limit"), 10_000),
        max_txn_ops: s.size("max-txn-ops"),
        max_request_bytes: s.size("max-request-bytes"),
        max_concurrent_streams: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        grpc_keepalive_min_time: s.span("grpc-keepalive-min-time").duration(),
        grpc_keepalive_interval: s.span("grpc-keepalive-interval").duration(),
        grpc_keepalive_timeout: s.span("grpc-keepalive-timeout").duration(),
        socket_reuse_port: s.flag("socket-reuse-port"),
        socket_reuse_address: s.flag("socket-reuse-address"),
        enable_grpc_gateway: s.flag("enable-grpc-gateway"),
        emulated: line(&s.text("emulated-version")),
        metrics_extensive: s.text("metrics") == "extensive",
        auto_compaction: auto_compaction(s)?,
        auto_compaction_mode: s.text("auto-compaction-mode"),
        compaction_batch_limit: positive_or(s.int("compaction-batch-limit"), 1000),
        compaction_sleep_interval: s.span_or("compaction-sleep-interval", 10),
        compact_hash_check_time: s.span("compact-hash-check-time").duration(),
        corrupt_check_time: s.span("corrupt-check-time").duration(),
        watch_progress_notify_interval: s.span_or("watch-progress-notify-interval", 600_000),
        downgrade_check_time: s.span("downgrade-check-time").duration(),
        warning_apply_duration: s.span("warning-apply-duration").duration(),
        warning_unary_request_duration: s.span_or("warning-unary-request-duration", 300),
        max_learners: s.int("max-learners"),
        bcrypt_cost: s.uint("bcrypt-cost"),
        auth_token_ttl: s.uint("auth-token-ttl"),
        cors: s.list("cors"),
        host_whitelist: s.list("host-whitelist"),
        bootstrap_defrag_threshold_megabytes: s.uint("bootstrap-defrag-threshold-megabytes"),
        unsafe_no_fsync: s.flag("unsafe-no-fsync"),
        force_new_cluster: s.flag("force-new-cluster"),
        gates: gates(s),
        client_tls: tls_info(s, "")?,
        client_auto_tls: s.flag("auto-tls"),
        peer_tls: tls_info(s, "peer-")?,
        peer_auto_tls: s.flag("peer-auto-tls"),
        self_signed_cert_validity: s.uint("self-signed-cert-validity"),
        cipher_suites: s.list("cipher-suites"),
        log: log_config(s)?,
        name,
    })
}

fn discovery_of(s: &Settings<'_>) -> Discovery {
    let text = |name: &str| s.text(&format!("discovery-{name}"));
    let span = |name: &str| s.span(&format!("discovery-{name}")).duration();
    // The default of a set is one empty text; given, that is an endpoint.
    let endpoints = match s.0.get("discovery-endpoints") {
        Some(_) => s.list("discovery-endpoints"),
        None => Vec::new(),
    };
    Discovery {
        endpoints,
        token: text("token"),
        dial_timeout: span("dial-timeout"),
        request_timeout: span("request-timeout"),
        keepalive_time: span("keepalive-time"),
        keepalive_timeout: span("keepalive-timeout"),
        insecure_transport: s.flag("discovery-insecure-transport"),
        insecure_skip_tls_verify: s.flag("discovery-insecure-skip-tls-verify"),
        cert: text("cert"),
        key: text("key"),
        cacert: text("cacert"),
        user: text("user"),
        password: text("password"),
    }
}

/// The TLS settings of one side; its flags begin with `prefix`.
fn tls_info(s: &Settings<'_>, prefix: &str) -> Result<tls::Info, ConfigError> {
    let text = |name: &str| s.text(&format!("{prefix}{name}"));
    let version = |name: &str| tls::Version::parse(&s.text(name)).map_err(invalid);
    Ok(tls::Info {
        cert_file: text("cert-file"),
        key_file: text("key-file"),
        client_cert_file: text("client-cert-file"),
        client_key_file: text("client-key-file"),
        trusted_ca_file: text("trusted-ca-file"),
        client_cert_auth: s.flag(&format!("{prefix}client-cert-auth")),
        skip_client_san_verify: !prefix.is_empty() && s.flag("peer-skip-client-san-verification"),
        cipher_suites: tls::cipher_suites(&s.list("cipher-suites")).map_err(invalid)?,
        min_version: version("tls-min-version")?,
        max_version: version("tls-max-version")?,
        ..tls::Info::default()
    })
}

fn positive_or(number: i64, default: usize) -> usize {
    match usize::try_from(number) {
        Ok(0) | Err(_) => default,
        Ok(number) => number,
    }
}

fn gates(s: &Settings<'_>) -> Gates {
    let Value::Gates(given) = s.value("feature-gates") else {
        return Gates::default();
    };
    let on = value::gates_on(&given);
    let mut texts: Vec<String> = given.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
    texts.sort();
    Gates {
        on,
        given: texts.join(","),
    }
}

/// embed/etcd.go parseCompactionRetention.
fn auto_compaction(s: &Settings<'_>) -> Result<AutoCompaction, ConfigError> {
    let (mode, retention) = (
        s.text("auto-compaction-mode"),
        s.text("auto-compaction-retention"),
    );
    let retention = if retention.is_empty() {
        "0".to_string()
    } else {
        retention
    };
    let number = retention.parse::<i64>().ok().filter(|number| *number >= 0);
    match mode.as_str() {
        "periodic" => {
            let span = match number {
                Some(hours) => Duration::from_secs(u64::try_from(hours).unwrap_or(0).saturating_mul(3600)),
                None => parse_retention(&retention)?.duration(),
            };
            Ok(if span.is_zero() {
                AutoCompaction::Off
            } else {
                AutoCompaction::Periodic(span)
            })
        }
        "revision" => {
            let kept = match number {
                Some(revisions) => revisions,
                None => parse_retention(&retention)?.0,
            };
            Ok(if kept <= 0 {
                AutoCompaction::Off
            } else {
                AutoCompaction::Revision(kept)
            })
        }
        "" => Err(invalid("undefined auto-compaction-mode")),
        _ => Err(invalid(format!("unknown auto-compaction-mode {}", quote(&mode)))),
    }
}

fn parse_retention(text: &str) -> Result<Span, ConfigError> {
    value::parse_span(text).ok_or_else(|| {
        let quoted = quote(text);
        invalid(format!(
            "error parsing CompactionRetention: time: invalid duration {quoted}"
        ))
    })
}

fn log_config(s: &Settings<'_>) -> Result<LogConfig, ConfigError> {
    match s.text("logger").as_str() {
        "zap" => {}
        "capnslog" => return Err(invalid("--logger=capnslog is removed in v3.5")),
        other => return Err(invalid(format!("unknown logger option {}", quote(other)))),
    }
    let outputs = s.list("log-outputs");
    if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        return Err(invalid("multi logoutput for \"default\" is not supported yet"));
    }
    if outputs.len() > 1 && outputs.iter().any(|output| output == JOURNAL) {
        let quoted: Vec<String> = outputs.iter().map(|output| quote(output)).collect();
        let quoted = quoted.join(" ");
        return Err(invalid(format!(
            "running with systemd/journal but other '--log-outputs' values ([{quoted}]) are configured with 'default'; override 'default' value with something else"
        )));
    }
    let rotation = match s.flag("enable-log-rotation") {
        true => Some(rotation::read(&outputs, &s.text("log-rotation-config-json")).map_err(invalid)?),
        false => None,
    };
    let level = s.text("log-level");
    let json = match s.text("log-format").as_str() {
        "json" | "" => true,
        "console" => false,
        other => {
            return Err(invalid(format!(
                "unknown log format: {other}, supported values json, console"
            )));
        }
    };
    Ok(LogConfig {
        level: Level::parse(&level).ok_or_else(|| invalid(format!("unknown level: {level}")))?,
        json,
        outputs,
        rotation,
    })
}

fn check_urls(config: &Config, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    url::check_bind(&config.listen_peer_urls).map_err(invalid)?;
    url::check_bind(&config.listen_client_urls).map_err(invalid)?;
    url::check_bind(&config.listen_client_http_urls).map_err(invalid)?;
    if config.listen_client_http_urls.is_empty() {
        notices.push(Notice::warn(
            "Running http and grpc server on single port. This is not recommended for production.",
        ));
    }
    url::check_bind(&config.listen_metrics_urls).map_err(invalid)?;
    url::check_host(&config.initial_advertise_peer_urls).map_err(|error| {
        let urls = quote(&join(&config.initial_advertise_peer_urls));
        invalid(format!(
            "--initial-advertise-peer-urls {urls} must be \"host:port\" ({error})"
        ))
    })?;
    url::check_host(&config.advertise_client_urls).map_err(|error| {
        let urls = quote(&join(&config.advertise_client_urls));
        invalid(format!(
            "--advertise-client-urls {urls} must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({error})"
        ))
    })
}

fn join(urls: &[Url]) -> String {
    let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.join(",")
}

fn check_times(config: &Config) -> Result<(), ConfigError> {
    let (heartbeat, election) = (config.heartbeat_ms, config.election_ms);
    if heartbeat == 0 {
        return Err(invalid("--heartbeat-interval must be >0 (set to 0ms)"));
    }
    if election == 0 {
        return Err(invalid("--election-timeout must be >0 (set to 0ms)"));
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(invalid(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        )));
    }
    if election > ELECTION_MS_MAX {
        return Err(invalid(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )));
    }
    if config.compact_hash_check_time.is_zero() {
        return Err(invalid("--compact-hash-check-time must be >0 (set to 0s)"));
    }
    Ok(())
}

fn check_gates(config: &Config, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    let (checkpoint, persist) = (
        config.gates.is_on("LeaseCheckpoint"),
        config.gates.is_on("LeaseCheckpointPersist"),
    );
    if checkpoint && !persist {
        notices.push(Notice::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist",
        ));
    }
    if persist && !checkpoint {
        return Err(invalid(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ));
    }
    if config.name == "default" {
        notices.push(
            Notice::warn(
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name",
            )
            .with("name", "default"),
        );
    }
    Ok(())
}

fn check_tls(config: &Config) -> Result<(), ConfigError> {
    let info = &config.client_tls;
    if let (Some(min), Some(max)) = (info.min_version, info.max_version)
        && min > max
    {
        return Err(invalid(format!(
            "min version ({}) is greater than max version ({})",
            min.name(),
            max.name()
        )));
    }
    // Go cannot choose suites of TLS 1.3, and etcd says so.
    if info.min_version == Some(tls::Version::Tls13) && info.cipher_suites.given {
        return Err(invalid(
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ));
    }
    Ok(())
}

/// Refuses what would be unsafe to go on without, and warns of what has no effect.
fn refuse(given: &Given, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    if let Some(reason) = &given.refused {
        return Err(invalid(reason));
    }
    for flag in &FLAGS {
        let Some(value) = given.get(flag.name) else {
            continue;
        };
        let default = value::parse(flag.kind, flag.default);
        let is_default = default.as_ref() == Ok(value) || *value == Value::List(vec![String::new()]);
        match flag.standing {
            Standing::Refused if !is_default => {
                return Err(invalid(format!(
                    "--{} is not supported yet: {}",
                    spelling(given, flag.name),
                    table::instead(flag.name)
                )));
            }
            Standing::Idle if !is_default => {
                notices.push(
                    Notice::warn("flag is accepted but has no effect here").with("flag-name", flag.name),
                );
            }
            _ => {}
        }
        if flag.name == "max-snapshots" {
            notices.push(Notice::warn(MAX_SNAPSHOTS));
        }
        if flag.name == "v2-deprecation" {
            notices.push(Notice::warn(V2_DEPRECATION));
        }
    }
    Ok(())
}

/// The name that a flag was given by: that of 3.7, or one of an older line.
fn spelling(given: &Given, name: &'static str) -> &'static str {
    let old = RETIRED
        .iter()
        .find(|(old, _, heir)| *heir == Heir::Flag(name) && given.names().any(|given| given == *old));
    old.map_or(name, |(old, _, _)| old)
}

/// Advertises this machine's address where the listener is open to all and nothing else was
/// said, and names the cluster after the member.
fn follow_name_and_host(
    config: &mut Config,
    default_host: &dyn Fn() -> Option<String>,
    notices: &mut Vec<Notice>,
) {
    let open = |listen: &[Url], advertise: &[Url], default: &str| {
        listen.first().is_some_and(|url| url.host() == "0.0.0.0")
            && advertise.len() == 1
            && advertise[0].to_string() == default
    };
    let peer = open(
        &config.listen_peer_urls,
        &config.initial_advertise_peer_urls,
        "http://localhost:2380",
    );
    let client = open(
        &config.listen_client_urls,
        &config.advertise_client_urls,
        "http://localhost:2379",
    );
    let host = if peer || client { default_host() } else { None };
    let advertise = |urls: &mut Vec<Url>, listen: &[Url], host: &str| {
        let port = listen.first().map_or("", Url::port);
        let bracketed = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_string()
        };
        if let Ok(url) = url::parse_list(&format!("http://{bracketed}:{port}")) {
            *urls = url;
        }
    };
    if let Some(host) = &host {
        if peer {
            advertise(
                &mut config.initial_advertise_peer_urls,
                &config.listen_peer_urls,
                host,
            );
        }
        if client {
            advertise(
                &mut config.advertise_client_urls,
                &config.listen_client_urls,
                host,
            );
        }
        notices.push(Notice::info("detected default host for advertise").with("host", host));
    }
    if config.name != "default" && config.initial_cluster == "default=http://localhost:2380" {
        let named: Vec<String> = config
            .initial_advertise_peer_urls
            .iter()
            .map(|url| format!("{}={url}", config.name))
            .collect();
        config.initial_cluster = named.join(",");
    }
}
