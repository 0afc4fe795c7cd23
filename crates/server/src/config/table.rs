//! Every flag that etcd 3.7 knows, with its default (server/embed/config.go, etcdmain/config.go),
//! and what this server makes of it. Never reads a value.

use super::value::Kind;

/// What a flag does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes effect, or there is nothing that it could change.
    Used,
    /// It is accepted, but what it asks for is not there: a warning if it is given.
    Idle,
    /// What it asks for is not there, and to go on without it would be unsafe: an error if it is
    /// given a value that asks for it.
    Refused,
    /// etcd itself ignores it with a warning.
    Ignored,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The heading that it stands under in the help text.
    pub section: &'static str,
    /// Its name without dashes.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Its default, in the syntax of the command line; empty for none.
    pub default: &'static str,
    /// What it does here.
    pub standing: Standing,
    /// One sentence for the help text.
    pub help: &'static str,
}

/// The flag of a name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// What to do instead of giving a flag that is refused.
pub fn instead(name: &str) -> &'static str {
    match name {
        "client-crl-file" | "peer-crl-file" => {
            "revoked certificates would be let in; remove the flag and replace the authority of those that were \
             revoked, or run etcd itself"
        }
        "client-cert-allowed-hostname" | "peer-cert-allowed-cn" | "peer-cert-allowed-hostname" => {
            "any name would be let in; remove the flag and trust only an authority that signs for nobody else, or \
             run etcd itself"
        }
        "auth-token" => "there is no authentication yet; remove the flag, or run etcd itself",
        "force-new-cluster-bump-amount" => {
            "the revision would not be raised; take a snapshot and restore it by `etcdutl snapshot restore \
             --bump-revision=N --mark-compacted`"
        }
        _ => "remove the flag, or run etcd itself",
    }
}

/// What replaces a flag that 3.5 or 3.6 knew and 3.7 does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heir {
    /// A flag with the same values.
    Flag(&'static str),
    /// A feature gate; the old flag was a boolean.
    Gate(&'static str),
    /// Nothing.
    None,
    /// Nothing; one value asks for what is the case anyway, the others for what is not there.
    Gone {
        /// The value that asks for nothing.
        harmless: &'static str,
        /// What to do instead of asking for more.
        advice: &'static str,
    },
}

/// The flags of 3.5 and 3.6 that 3.7 no longer knows, with the kind that they had.
pub const RETIRED: &[(&str, Kind, Heir)] = &[
    (
        "experimental-bootstrap-defrag-threshold-megabytes",
        Kind::Uint,
        Heir::Flag("bootstrap-defrag-threshold-megabytes"),
    ),
    (
        "experimental-compact-hash-check-enabled",
        Kind::Bool,
        Heir::Gate("CompactHashCheck"),
    ),
    (
        "experimental-compact-hash-check-time",
        Kind::Span,
        Heir::Flag("compact-hash-check-time"),
    ),
    (
        "experimental-compaction-batch-limit",
        Kind::Int,
        Heir::Flag("compaction-batch-limit"),
    ),
    (
        "experimental-compaction-sleep-interval",
        Kind::Span,
        Heir::Flag("compaction-sleep-interval"),
    ),
    (
        "experimental-corrupt-check-time",
        Kind::Span,
        Heir::Flag("corrupt-check-time"),
    ),
    (
        "experimental-distributed-tracing-address",
        Kind::Text,
        Heir::Flag("distributed-tracing-address"),
    ),
    (
        "experimental-distributed-tracing-instance-id",
        Kind::Text,
        Heir::Flag("distributed-tracing-instance-id"),
    ),
    (
        "experimental-distributed-tracing-sampling-rate",
        Kind::Int,
        Heir::Flag("distributed-tracing-sampling-rate"),
    ),
    (
        "experimental-distributed-tracing-service-name",
        Kind::Text,
        Heir::Flag("distributed-tracing-service-name"),
    ),
    (
        "experimental-downgrade-check-time",
        Kind::Span,
        Heir::Flag("downgrade-check-time"),
    ),
    (
        "experimental-enable-distributed-tracing",
        Kind::Bool,
        Heir::Flag("enable-distributed-tracing"),
    ),
    (
        "experimental-enable-lease-checkpoint",
        Kind::Bool,
        Heir::Gate("LeaseCheckpoint"),
    ),
    (
        "experimental-enable-lease-checkpoint-persist",
        Kind::Bool,
        Heir::Gate("LeaseCheckpointPersist"),
    ),
    ("experimental-enable-v2v3", Kind::Text, Heir::None),
    (
        "experimental-initial-corrupt-check",
        Kind::Bool,
        Heir::Gate("InitialCorruptCheck"),
    ),
    ("experimental-max-learners", Kind::Int, Heir::Flag("max-learners")),
    (
        "experimental-memory-mlock",
        Kind::Bool,
        Heir::Flag("memory-mlock"),
    ),
    (
        "experimental-peer-skip-client-san-verification",
        Kind::Bool,
        Heir::Flag("peer-skip-client-san-verification"),
    ),
    (
        "experimental-set-member-localaddr",
        Kind::Bool,
        Heir::Gate("SetMemberLocalAddr"),
    ),
    (
        "experimental-snapshot-catchup-entries",
        Kind::Uint,
        Heir::Flag("snapshot-catchup-entries"),
    ),
    (
        "experimental-stop-grpc-service-on-defrag",
        Kind::Bool,
        Heir::Gate("StopGRPCServiceOnDefrag"),
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        Kind::Bool,
        Heir::Gate("TxnModeWriteWithSharedBuffer"),
    ),
    (
        "experimental-warning-apply-duration",
        Kind::Span,
        Heir::Flag("warning-apply-duration"),
    ),
    (
        "experimental-warning-unary-request-duration",
        Kind::Span,
        Heir::Flag("warning-unary-request-duration"),
    ),
    (
        "experimental-watch-progress-notify-interval",
        Kind::Span,
        Heir::Flag("watch-progress-notify-interval"),
    ),
    // 3.5 only.
    (
        "enable-v2",
        Kind::Bool,
        Heir::Gone {
            harmless: "false",
            advice: "the v2 API is not served: remove the flag and let clients use the v3 API, or run etcd 3.5, the last to serve v2",
        },
    ),
    (
        "proxy",
        Kind::OneOf(&["off", "readonly", "on"]),
        Heir::Gone {
            harmless: "off",
            advice: "there is no v2 proxy: remove the flag to run a member, or pass connections on to the members with `etcd gateway start --endpoints=HOST:PORT`",
        },
    ),
    ("proxy-failure-wait", Kind::Uint, Heir::None),
    ("proxy-refresh-interval", Kind::Uint, Heir::None),
    ("proxy-dial-timeout", Kind::Uint, Heir::None),
    ("proxy-write-timeout", Kind::Uint, Heir::None),
    ("proxy-read-timeout", Kind::Uint, Heir::None),
    (
        "discovery",
        Kind::Text,
        Heir::Gone {
            harmless: "",
            advice: "its service has the v2 API; use another etcd as the service, with --discovery-endpoints and \
                     --discovery-token",
        },
    ),
    (
        "discovery-proxy",
        Kind::Text,
        Heir::Gone {
            harmless: "",
            advice: "it stood before a service with the v2 API; use --discovery-endpoints and --discovery-token",
        },
    ),
];

const BOOL: Kind = Kind::Bool;
const UINT: Kind = Kind::Uint;
const INT: Kind = Kind::Int;
const TEXT: Kind = Kind::Text;
const SPAN: Kind = Kind::Span;
const URLS: Kind = Kind::Urls;
const LIST: Kind = Kind::List;
const SET: Kind = Kind::Set;
const USED: Standing = Standing::Used;
const IDLE: Standing = Standing::Idle;
const REFUSED: Standing = Standing::Refused;

type Row = (&'static str, Kind, &'static str, Standing, &'static str);

const fn section<const N: usize>(section: &'static str, rows: [Row; N]) -> [Flag; N] {
    let mut flags = [Flag {
        section,
        name: "",
        kind: Kind::Nothing,
        default: "",
        standing: Standing::Used,
        help: "",
    }; N];
    let mut at = 0;
    while at < N {
        let (name, kind, default, standing, help) = rows[at];
        flags[at] = Flag {
            section,
            name,
            kind,
            default,
            standing,
            help,
        };
        at += 1;
    }
    flags
}

#[rustfmt::skip]
const MEMBER: [Flag; 30] = section("Member", [
    ("name", TEXT, "default", USED, "Name of this member, for people."),
    ("data-dir", TEXT, "", USED, "Directory of the data; ${name}.etcd if not given."),
    ("wal-dir", TEXT, "", USED, "Directory of the log, if it is to lie elsewhere than under the data directory."),
    ("snapshot-count", UINT, "10000", USED, "How many applied entries after which a snapshot is written."),
    ("heartbeat-interval", UINT, "100", USED, "Milliseconds between heartbeats."),
    ("election-timeout", UINT, "1000", USED, "Milliseconds without a leader after which an election starts."),
    ("initial-election-tick-advance", BOOL, "true", USED, "Start with most of the election timeout already gone by."),
    ("listen-peer-urls", URLS, "http://localhost:2380", USED, "Where to listen for other members."),
    ("listen-client-urls", URLS, "http://localhost:2379", USED, "Where to listen for clients: gRPC, and HTTP unless --listen-client-http-urls is given."),
    ("listen-client-http-urls", URLS, "", USED, "Where to listen for clients that speak plain HTTP; the client URLs then serve gRPC alone."),
    ("max-snapshots", UINT, "5", USED, "How many snapshot files to keep, 0 for all. Deprecated in 3.6."),
    ("max-wals", UINT, "5", USED, "How many log files to keep, 0 for all."),
    ("memory-mlock", BOOL, "false", IDLE, "Kept for compatibility: the data file is read, not mapped into memory."),
    ("quota-backend-bytes", INT, "0", USED, "Bytes that the data file may have before writes are refused; 0 for 2 GiB, negative for no limit."),
    ("backend-bbolt-freelist-type", TEXT, "map", IDLE, "Kept for compatibility: there is one kind of freelist."),
    ("backend-batch-interval", SPAN, "0s", USED, "Longest time before writes are committed to the data file; 0 for 100ms."),
    ("backend-batch-limit", INT, "0", USED, "Most writes before they are committed to the data file; 0 for 10000."),
    ("max-txn-ops", UINT, "128", USED, "Most operations of one transaction."),
    ("max-request-bytes", UINT, "1572864", USED, "Largest request in bytes."),
    ("max-concurrent-streams", Kind::Uint32, "4294967295", USED, "Most streams that a client may have open on one connection."),
    ("grpc-keepalive-min-time", SPAN, "5s", USED, "Shortest time between two pings of a client."),
    ("grpc-keepalive-interval", SPAN, "2h0m0s", USED, "Time without traffic after which the server pings a client, 0 for never."),
    ("grpc-keepalive-timeout", SPAN, "20s", USED, "How long the server waits for the answer to its ping, 0 for no limit."),
    ("socket-reuse-port", BOOL, "false", USED, "Set SO_REUSEPORT on listeners."),
    ("socket-reuse-address", BOOL, "false", USED, "Set SO_REUSEADDR on listeners."),
    ("enable-grpc-gateway", BOOL, "true", USED, "Serve the JSON gateway under /v3."),
    ("raft-read-timeout", SPAN, "5s", USED, "Read timeout of connections between members."),
    ("raft-write-timeout", SPAN, "5s", USED, "Write timeout of connections between members."),
    ("feature-gates", Kind::Gates, "", USED, "Feature gates, as Name=true,Other=false."),
    ("emulated-version", Kind::OneOf(&["", "3.5", "3.6", "3.7"]), "", USED, "The etcd release line to behave as: 3.5, 3.6 or 3.7."),
]);

#[rustfmt::skip]
const CLUSTERING: [Flag; 25] = section("Clustering", [
    ("initial-advertise-peer-urls", URLS, "http://localhost:2380", USED, "This member's peer URLs, as the others reach them."),
    ("initial-cluster", TEXT, "default=http://localhost:2380", USED, "The members of a new cluster, as name=url,name=url."),
    ("initial-cluster-state", Kind::OneOf(&["new", "existing"]), "new", USED, "Whether a member without data starts a new cluster or joins an existing one."),
    ("initial-cluster-token", TEXT, "etcd-cluster", USED, "What tells clusters with the same members apart."),
    ("advertise-client-urls", URLS, "http://localhost:2379", USED, "This member's client URLs, as clients reach them."),
    ("discovery-token", TEXT, "", USED, "Discovery: token of the new cluster."),
    ("discovery-endpoints", SET, "", USED, "Discovery: endpoints of the service."),
    ("discovery-dial-timeout", SPAN, "2s", USED, "Discovery: timeout for connecting."),
    ("discovery-request-timeout", SPAN, "5s", USED, "Discovery: timeout of a request."),
    ("discovery-keepalive-time", SPAN, "2s", USED, "Discovery: time between pings."),
    ("discovery-keepalive-timeout", SPAN, "6s", USED, "Discovery: how long to wait for the answer to a ping."),
    ("discovery-insecure-transport", BOOL, "true", USED, "Discovery: connect without TLS."),
    ("discovery-insecure-skip-tls-verify", BOOL, "false", USED, "Discovery: do not verify the server."),
    ("discovery-cert", TEXT, "", USED, "Discovery: client certificate."),
    ("discovery-key", TEXT, "", USED, "Discovery: key of the client certificate."),
    ("discovery-cacert", TEXT, "", USED, "Discovery: certificates to verify the server by."),
    ("discovery-user", TEXT, "", USED, "Discovery: the user's name."),
    ("discovery-password", TEXT, "", USED, "Discovery: password."),
    ("discovery-fallback", Kind::OneOf(&["exit", "proxy"]), "exit", USED, "What to do if discovery fails: exit."),
    ("discovery-srv", TEXT, "", USED, "DNS domain whose SRV records name the members of a new cluster."),
    ("discovery-srv-name", TEXT, "", USED, "Suffix of the SRV service name."),
    ("strict-reconfig-check", BOOL, "true", USED, "Refuse changes of the membership that would cost the quorum."),
    ("pre-vote", BOOL, "true", USED, "Ask for votes tentatively before an election."),
    ("auto-compaction-retention", TEXT, "0", USED, "How much history to keep, 0 for all."),
    ("auto-compaction-mode", TEXT, "periodic", USED, "What --auto-compaction-retention counts: 'periodic' for time (hours if there is no unit), 'revision' for revisions."),
]);

#[rustfmt::skip]
const SECURITY: [Flag; 30] = section("Security", [
    ("cert-file", TEXT, "", USED, "Certificate of the client port."),
    ("key-file", TEXT, "", USED, "Key of the client port's certificate."),
    ("client-cert-auth", BOOL, "false", USED, "Demand certificates of clients."),
    ("client-cert-file", TEXT, "", USED, "Certificate that this member shows as a client of itself."),
    ("client-key-file", TEXT, "", USED, "Key of that certificate."),
    ("client-crl-file", TEXT, "", REFUSED, "Revoked client certificates."),
    ("client-cert-allowed-hostname", LIST, "", REFUSED, "Names that client certificates may have."),
    ("trusted-ca-file", TEXT, "", USED, "Certificates to verify clients by."),
    ("auto-tls", BOOL, "false", USED, "Make a certificate for the client port."),
    ("peer-cert-file", TEXT, "", USED, "Certificate of the peer port."),
    ("peer-key-file", TEXT, "", USED, "Key of the peer port's certificate."),
    ("peer-client-cert-auth", BOOL, "false", USED, "Demand certificates of other members."),
    ("peer-client-cert-file", TEXT, "", USED, "Certificate that this member shows to others."),
    ("peer-client-key-file", TEXT, "", USED, "Key of that certificate."),
    ("peer-trusted-ca-file", TEXT, "", USED, "Certificates to verify other members by."),
    ("peer-cert-allowed-cn", LIST, "", REFUSED, "Common names that other members may have."),
    ("peer-cert-allowed-hostname", LIST, "", REFUSED, "Names that the certificates of other members may have."),
    ("peer-auto-tls", BOOL, "false", USED, "Make a certificate for the peer port."),
    ("self-signed-cert-validity", UINT, "1", USED, "Years that a made certificate is valid."),
    ("peer-crl-file", TEXT, "", REFUSED, "Revoked certificates of members."),
    ("peer-skip-client-san-verification", BOOL, "false", USED, "Do not compare the address in the certificate of another member with where it comes from."),
    ("cipher-suites", LIST, "", USED, "TLS 1.2 cipher suites to offer, by the names that Go gives them; all if empty."),
    ("cors", Kind::Origins, "*", USED, "Origins that a browser may call from; * for all."),
    ("host-whitelist", SET, "*", USED, "Names that HTTP requests may give as Host; * for all."),
    ("tls-min-version", TEXT, "TLS1.2", USED, "Oldest TLS version to speak."),
    ("tls-max-version", TEXT, "", USED, "Newest TLS version to speak."),
    ("auth-token", TEXT, "simple", REFUSED, "Kind of authentication tokens."),
    ("bcrypt-cost", UINT, "10", USED, "Cost of hashing a password."),
    ("auth-token-ttl", UINT, "300", USED, "Seconds that a token lives."),
    ("force-new-cluster-bump-amount", UINT, "0", REFUSED, "How far --force-new-cluster raises the revision."),
]);

#[rustfmt::skip]
const OBSERVING: [Flag; 17] = section("Observing", [
    ("enable-pprof", BOOL, "false", IDLE, "Kept for compatibility: /debug/pprof is of programs in Go."),
    ("metrics", TEXT, "basic", USED, "How much to measure: basic or extensive."),
    ("listen-metrics-urls", URLS, "", USED, "Where else to serve /metrics and /health."),
    ("logger", TEXT, "zap", USED, "Kind of log: zap."),
    ("log-outputs", SET, "default", USED, "Where the log goes: default, stderr, stdout, or files."),
    ("log-level", TEXT, "info", USED, "What is logged: debug, info, warn, error, panic or fatal."),
    ("log-format", TEXT, "json", USED, "Form of the log: json or console."),
    ("enable-log-rotation", BOOL, "false", USED, "Rotate the log file."),
    ("log-rotation-config-json", TEXT, "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", USED, "How to rotate the log file."),
    ("warning-unary-request-duration", SPAN, "300ms", USED, "Log requests that take longer than this."),
    ("warning-apply-duration", SPAN, "100ms", USED, "Log entries whose application takes longer than this."),
    ("enable-distributed-tracing", BOOL, "false", IDLE, "Send traces."),
    ("distributed-tracing-address", TEXT, "localhost:4317", IDLE, "Where traces go."),
    ("distributed-tracing-service-name", TEXT, "etcd", IDLE, "Service name in traces."),
    ("distributed-tracing-instance-id", TEXT, "", IDLE, "Instance name in traces."),
    ("distributed-tracing-sampling-rate", INT, "0", IDLE, "Traces kept of a million."),
    ("v2-deprecation", Kind::SomeOf(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone", "not-yet"]), "write-only", USED, "Kept for compatibility, without effect as in etcd 3.7."),
]);

#[rustfmt::skip]
const FEATURES: [Flag; 13] = section("Features", [
    ("corrupt-check-time", SPAN, "0s", USED, "Time between two comparisons of the members' data, 0 for none."),
    ("compact-hash-check-time", SPAN, "1m0s", USED, "Time between two comparisons of compaction hashes."),
    ("compaction-batch-limit", INT, "0", USED, "Most revisions that one step of a compaction removes; 0 for 1000."),
    ("compaction-sleep-interval", SPAN, "0s", USED, "Pause between steps of a compaction; 0 for 10ms."),
    ("watch-progress-notify-interval", SPAN, "0s", USED, "Time between progress notifications of a watch; 0 for 10m."),
    ("downgrade-check-time", SPAN, "5s", USED, "Time between two looks at a downgrade."),
    ("bootstrap-defrag-threshold-megabytes", UINT, "0", USED, "Defragment at the start if it frees at least so much."),
    ("max-learners", INT, "1", USED, "Most learners in the cluster."),
    ("snapshot-catchup-entries", UINT, "5000", USED, "Entries kept for slow members after a snapshot."),
    ("unsafe-no-fsync", BOOL, "false", USED, "UNSAFE: never sync; a power failure loses data."),
    ("force-new-cluster", BOOL, "false", USED, "UNSAFE: make a cluster of this member alone out of its data."),
    ("config-file", TEXT, "", USED, "Take all settings from this YAML file and none from elsewhere."),
    ("version", BOOL, "false", USED, "Print the version and exit."),
]);

#[rustfmt::skip]
const IGNORED: [Flag; 15] = section("", [
    ("cluster-active-size", Kind::Nothing, "", Standing::Ignored, ""),
    ("cluster-remove-delay", Kind::Nothing, "", Standing::Ignored, ""),
    ("cluster-sync-interval", Kind::Nothing, "", Standing::Ignored, ""),
    ("config", Kind::Nothing, "", Standing::Ignored, ""),
    ("force", Kind::Nothing, "", Standing::Ignored, ""),
    ("max-result-buffer", Kind::Nothing, "", Standing::Ignored, ""),
    ("max-retry-attempts", Kind::Nothing, "", Standing::Ignored, ""),
    ("peer-heartbeat-interval", Kind::Nothing, "", Standing::Ignored, ""),
    ("peer-election-timeout", Kind::Nothing, "", Standing::Ignored, ""),
    ("retry-interval", Kind::Nothing, "", Standing::Ignored, ""),
    ("snapshot", Kind::Nothing, "", Standing::Ignored, ""),
    ("v", Kind::Nothing, "", Standing::Ignored, ""),
    ("vv", Kind::Nothing, "", Standing::Ignored, ""),
    ("test.coverprofile", Kind::Nothing, "", Standing::Ignored, ""),
    ("test.outputdir", Kind::Nothing, "", Standing::Ignored, ""),
]);

const LEN: usize = 30 + 25 + 30 + 17 + 13 + 15;

/// All flags, in the order of the help text.
pub static FLAGS: [Flag; LEN] = {
    let mut flags = [MEMBER[0]; LEN];
    let sections: [&[Flag]; 6] = [&MEMBER, &CLUSTERING, &SECURITY, &OBSERVING, &FEATURES, &IGNORED];
    let (mut section, mut at) = (0, 0);
    while section < sections.len() {
        let mut row = 0;
        while row < sections[section].len() {
            flags[at] = sections[section][row];
            row += 1;
            at += 1;
        }
        section += 1;
    }
    flags
};

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_parse() {
        for (at, flag) in FLAGS.iter().enumerate() {
            assert!(
                FLAGS[..at].iter().all(|other| other.name != flag.name),
                "{}",
                flag.name
            );
            assert!(
                RETIRED.iter().all(|(name, _, _)| *name != flag.name),
                "{}",
                flag.name
            );
            let parsed = value::parse(flag.kind, flag.default);
            assert!(parsed.is_ok(), "{}: {parsed:?}", flag.name);
        }
    }

    #[test]
    fn what_is_refused_has_a_next_step_of_its_own() {
        let refused = FLAGS.iter().filter(|flag| flag.standing == Standing::Refused);
        for flag in refused {
            assert_ne!(instead(flag.name), instead("name"), "{}", flag.name);
        }
    }

    #[test]
    fn heirs_exist() {
        for (name, _, heir) in RETIRED {
            match heir {
                Heir::Flag(to) => assert!(find(to).is_some(), "{name}"),
                Heir::Gate(gate) => {
                    assert!(value::ALL_GATES.iter().any(|known| known.name == *gate), "{name}");
                }
                Heir::None | Heir::Gone { .. } => {}
            }
        }
    }
}
