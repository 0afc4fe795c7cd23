//! TLS of the listeners: the settings of both sides, self-made certificates, and what etcd says
//! about them at the start (embed/etcd.go, transport/listener.go). Never touches a connection.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tls::{ClientSide, Info, ServerSide};

use crate::config::{Config, Scheme, Url};
use crate::log::Log;

/// What a listener asks of a connection before it is served.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The TLS of this listener.
    pub side: Arc<ServerSide>,
    /// Connections in the clear are welcome as well: two URLs share the address.
    pub plain_too: bool,
    /// A client's certificate must name the address that the client comes from.
    pub check_san: bool,
    /// The line in the log for those that are turned away.
    pub rejected: &'static str,
}

/// The TLS of all listeners; `None` where there are no certificates.
#[derive(Clone, Debug, Default)]
pub struct Guards {
    client: Option<Arc<ServerSide>>,
    peer: Option<Arc<ServerSide>>,
    /// The peers' settings, with self-made certificates.
    peer_info: Info,
    /// The client's settings, for the log.
    client_info: Info,
    skip_peer_san: bool,
}

const CLIENT_REJECTED: &str = "rejected connection on client endpoint";
const PEER_REJECTED: &str = "rejected connection on peer endpoint";
/// What HTTP clients and gRPC clients may choose from.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

impl Guards {
    /// Makes the peers' side.
    pub fn peers(&mut self, config: &Config, log: &Log) -> Result<(), String> {
        let mut info = config.peer_tls.clone();
        self.skip_peer_san = info.skip_client_san_verify;
        if config.peer_auto_tls {
            if info.is_empty() {
                let hosts = hosts(&[&config.listen_peer_urls]);
                let dir = config.data_dir.join("fixtures/peer");
                info = self_cert(&dir, &hosts, config, info, log)?;
            } else {
                log.warn("ignoring peer auto TLS since certs given").emit();
            }
        }
        if !info.is_empty() {
            log.info("starting with peer TLS")
                .show("tls-info", &info)
                .list("cipher-suites", &config.cipher_suites)
                .emit();
        }
        for url in config
            .listen_peer_urls
            .iter()
            .filter(|url| url.scheme() == Scheme::Http)
        {
            if !info.is_empty() {
                log.warn("scheme is HTTP while key and cert files are present; ignoring key and cert files")
                    .show("peer-url", url)
                    .emit();
            }
            if info.client_cert_auth {
                log.warn(
                    "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
                )
                .show("peer-url", url)
                .emit();
            }
        }
        // A unix socket of members has no TLS in etcd, whatever its scheme.
        let secure = config
            .listen_peer_urls
            .iter()
            .find(|url| url.scheme() == Scheme::Https);
        if let Some(url) = secure {
            if info.is_empty() {
                return Err(format!(
                    "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
                    url.address()
                ));
            }
            self.peer = Some(side(&info, log)?);
        }
        self.peer_info = info;
        Ok(())
    }

    /// How this member dials others, where there are settings for that. With a `server_name` their certificates must
    /// have that name.
    pub fn dialing(&self, server_name: &str) -> Result<Option<Arc<ClientSide>>, String> {
        let info = Info {
            server_name: server_name.to_owned(),
            ..self.peer_info.clone()
        };
        if info.is_empty() && info.trusted_ca_file.is_empty() && info.server_name.is_empty() {
            return Ok(None);
        }
        // The side that dials the others needs the files, whatever listens here. Members speak HTTP/1.1,
        // which goes without saying: what they offer beyond it they cannot serve.
        let side = ClientSide::new(&info, &[]).map_err(|error| error.to_string())?;
        Ok(Some(Arc::new(side)))
    }

    /// Makes the clients' side.
    pub fn clients(&mut self, config: &Config, log: &Log) -> Result<(), String> {
        let mut info = config.client_tls.clone();
        if config.client_auto_tls {
            if info.is_empty() {
                let hosts = hosts(&[&config.listen_client_urls, &config.listen_client_http_urls]);
                let dir = config.data_dir.join("fixtures/client");
                info = self_cert(&dir, &hosts, config, info, log)?;
            } else {
                log.warn("ignoring client auto TLS since certs given").emit();
            }
        }
        let urls = || {
            config
                .listen_client_urls
                .iter()
                .chain(&config.listen_client_http_urls)
        };
        for url in urls() {
            if !url.scheme().is_tls() {
                if !info.is_empty() {
                    log.warn(
                        "scheme is http or unix while key and cert files are present; ignoring key and cert files",
                    )
                    .show("client-url", url)
                    .emit();
                }
                if info.client_cert_auth {
                    log.warn(
                        "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
                    )
                    .show("client-url", url)
                    .emit();
                }
            } else if info.is_empty() {
                return Err(format!(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
                ));
            }
        }
        let grpc = |url: &Url| {
            config
                .listen_client_urls
                .iter()
                .any(|other| other.address() == url.address())
        };
        if let Some(url) = config.listen_client_http_urls.iter().find(|url| grpc(url)) {
            return Err(format!(
                "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
            ));
        }
        let metrics = config.listen_metrics_urls.iter().any(|url| url.scheme().is_tls());
        if metrics && info.is_empty() {
            return Err(
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
                    .into(),
            );
        }
        if metrics || urls().any(|url| url.scheme().is_tls()) {
            self.client = Some(side(&info, log)?);
        }
        self.client_info = info;
        Ok(())
    }

    /// Says what clients will meet.
    pub fn announce_clients(&self, config: &Config, log: &Log) {
        if !self.client_info.is_empty() {
            log.info("starting with client TLS")
                .show("tls-info", &self.client_info)
                .list("cipher-suites", &config.cipher_suites)
                .emit();
        }
    }

    /// The guard of a listener of clients, of which at least one URL is secure.
    pub fn of_clients(&self, plain_too: bool) -> Option<Guard> {
        self.client.as_ref().map(|side| Guard {
            side: side.clone(),
            plain_too,
            check_san: false,
            rejected: CLIENT_REJECTED,
        })
    }

    /// The guard of a secure listener for metrics.
    pub fn of_metrics(&self) -> Option<Guard> {
        self.client.as_ref().map(|side| Guard {
            side: side.clone(),
            plain_too: false,
            check_san: true,
            rejected: CLIENT_REJECTED,
        })
    }

    /// The guard of a secure listener for members.
    pub fn of_peers(&self) -> Option<Guard> {
        self.peer.as_ref().map(|side| Guard {
            side: side.clone(),
            plain_too: false,
            check_san: !self.skip_peer_san,
            rejected: PEER_REJECTED,
        })
    }
}

fn side(info: &Info, log: &Log) -> Result<Arc<ServerSide>, String> {
    if !info.trusted_ca_file.is_empty() {
        log.info("Loading cert pool")
            .list("cs", [&info.trusted_ca_file])
            .show("tlsinfo", info)
            .emit();
    }
    for name in &info.cipher_suites.absent {
        log.warn("cipher suite is known but not supported; it will not be offered")
            .text("cipher-suite", name)
            .emit();
    }
    let side = ServerSide::new(info, &ALPN).map_err(|error| error.to_string())?;
    Ok(Arc::new(side))
}

/// The hosts of URLs, each once. Sockets in the file system have none.
fn hosts(lists: &[&Vec<Url>]) -> Vec<String> {
    let mut hosts: Vec<String> = lists
        .iter()
        .flat_map(|urls| urls.iter())
        .filter(|url| matches!(url.scheme(), Scheme::Http | Scheme::Https))
        .map(|url| url.host().to_string())
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Certificate and key below `dir`, made if they are not both there (transport/listener.go
/// SelfCert). What else was set for this side does not count then: etcd forgets it, too.
fn self_cert(dir: &Path, hosts: &[String], config: &Config, info: Info, log: &Log) -> Result<Info, String> {
    let years = config.self_signed_cert_validity;
    if years == 0 {
        let error = "selfSignedCertValidity is invalid,it should be greater than 0";
        log.warn("cannot generate cert").error(error).emit();
        return Err(error.into());
    }
    if info.demands_certificates() {
        log.warn(
            "ignoring client cert auth and the trusted CA file since certificates are made automatically",
        )
        .emit();
    }
    let fail = |text: &str, error: &dyn std::fmt::Display| {
        log.warn(text).error(error).emit();
        error.to_string()
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| fail("cannot create cert directory", &error))?;
    let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !(cert.exists() && key.exists()) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let made = tls::make_self_signed(hosts, now, years)
            .map_err(|error| fail("cannot generate x509 certificate", &error))?;
        let not_after = UNIX_EPOCH + made.not_after;
        log.warn("automatically generate certificates")
            .text(
                "certificate-validity-bound-not-after",
                crate::log::timestamp(not_after),
            )
            .emit();
        write(&cert, &made.cert, 0o644).map_err(|error| fail("cannot cert file", &error))?;
        log.info("created cert file").show("path", cert.display()).emit();
        write(&key, &made.key, 0o600).map_err(|error| fail("cannot key file", &error))?;
        log.info("created key file").show("path", key.display()).emit();
    }
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    Ok(Info {
        cert_file: text(&cert),
        key_file: text(&key),
        client_cert_file: text(&cert),
        client_key_file: text(&key),
        self_cert: true,
        cipher_suites: info.cipher_suites,
        min_version: info.min_version,
        max_version: info.max_version,
        ..Info::default()
    })
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
