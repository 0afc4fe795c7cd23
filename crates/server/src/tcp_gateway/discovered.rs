//! The members that a domain's SRV records name, for the gateway (etcdmain/util.go, discoverEndpoints). Without
//! `--insecure-discovery` only those count that show a certificate of the domain.

use std::time::Duration;

use client::srv::{self, Found};
use client::{Config, Keepalive, Security};

use super::flags::Settings;
use super::proxy::Remote;
use crate::config::quote;
use crate::log::Log;

/// How long a member may take to show its certificate: etcdmain/util.go passes it on.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// The members found; none without a domain. The error is for standard error.
pub fn remotes(settings: &Settings, log: &Log) -> Result<Vec<Remote>, String> {
    let domain = &settings.discovery_srv;
    if domain.is_empty() {
        return Ok(Vec::new());
    }
    let found = srv::clients(domain, &settings.discovery_srv_name).map_err(|error| format!("{error}\n"))?;
    let say = |text: &str, endpoints: &[String]| {
        log.info(text)
            .text("srv-server", domain)
            .list("endpoints", endpoints)
            .emit();
    };
    say("discovered cluster from SRV", &found.endpoints);
    let remotes = |found: &Found, keep: &dyn Fn(&String) -> bool| {
        let pairs = found.endpoints.iter().zip(&found.records);
        let kept = pairs.filter(|(endpoint, _)| keep(endpoint));
        kept.map(|(_, record)| Remote::new(&record.target, record.port))
            .collect()
    };
    if settings.insecure_discovery {
        return Ok(remotes(&found, &|_| true));
    }
    say("validating discovered SRV endpoints", &found.endpoints);
    let (good, errors) = validate(settings, &found.endpoints)?;
    if errors.is_empty() {
        say("using validated discovered SRV endpoints", &good);
    } else {
        log.warn("failed to validate discovered endpoints")
            .text("srv-server", domain)
            .list("endpoints", &good)
            .error(errors.join(","))
            .emit();
    }
    Ok(remotes(&found, &|endpoint| good.contains(endpoint)))
}

/// Those that show a certificate of the domain, and why the others do not count (client/pkg/transport/tls.go).
fn validate(settings: &Settings, endpoints: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("{error}\n"))?;
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        if !endpoint.starts_with("https://") {
            errors.push(format!("{} is insecure", quote(endpoint)));
            continue;
        }
        let config = Config {
            endpoints: vec![endpoint.clone()],
            dial_timeout: DIAL_MAX,
            keepalive: Keepalive {
                time: Duration::ZERO,
                timeout: Duration::ZERO,
            },
            security: Security {
                info: tls::Info {
                    trusted_ca_file: settings.trusted_ca_file.clone(),
                    server_name: settings.discovery_srv.clone(),
                    ..tls::Info::default()
                },
                insecure_transport: false,
            },
            identity: None,
            receive_bytes_max: 0,
        };
        let opened = runtime.block_on(async { tokio::time::timeout(DIAL_MAX, client::open(&config)).await });
        let failure = match opened {
            Ok(Ok(_)) => {
                good.push(endpoint.clone());
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "i/o timeout".to_owned(),
        };
        errors.push(format!("{} failed to dial ({failure})", quote(endpoint)));
    }
    Ok((good, errors))
}
