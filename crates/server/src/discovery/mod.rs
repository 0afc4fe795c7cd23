//! Members of a new cluster that find each other: by a discovery service, which is another etcd, or by the SRV records
//! of a domain. Asked for once, before there is a log; what it comes to takes the place of `--initial-cluster`.
//!
//! etcd: server/embed/config.go, PeerURLsMapAndToken; server/etcdserver/api/v3discovery.

mod joining;
mod records;
mod registry;
mod service;

use std::net::{SocketAddr, ToSocketAddrs};

use client::srv;
use member::InitialMember;

use crate::config::{Config, Discovery};
use crate::log::Log;
use crate::server::initial_cluster;
use joining::Joining;
use service::Grpc;

/// Fills in the initial cluster of a member without a log, as far as it is known before others are asked: all of its
/// members if a domain names them, this one alone if a discovery service does.
///
/// # Errors
/// In etcd's words.
pub fn prepare(config: &mut Config, log: &Log) -> Result<(), String> {
    if config.discovery.is_asked_for() {
        let own = config.initial_advertise_peer_urls.iter();
        let mut own: Vec<String> = own.map(|url| format!("{}={url}", config.name)).collect();
        own.sort();
        config.initial_cluster = own.join(",");
        config.initial_cluster_token = config.discovery.token.clone();
    } else if !config.discovery_srv.is_empty() {
        let by_dns = records::Dns {
            lookup: &|service| srv::lookup(service, &config.discovery_srv).map_err(|error| error.to_string()),
            resolve: &resolve,
        };
        let failed = |error| format!("error setting up initial cluster: {error}");
        let nodes = by_dns.nodes(config, log).map_err(failed)?;
        let cluster = nodes.join(",");
        if cluster.contains("https://") && config.peer_tls.trusted_ca_file.is_empty() {
            // Whom the domain names must show a certificate of the domain.
            config.peer_tls.server_name = config.discovery_srv.clone();
        }
        let members = initial_cluster(&cluster)?;
        if !members.iter().any(|member| member.name == config.name) {
            return Err(failed(format!(
                "cannot find local etcd member {:?} in SRV records",
                config.name
            )));
        }
        config.initial_cluster = cluster;
    }
    Ok(())
}

/// The address that Go dials for `host:port`: the first of version 4, or else the first.
fn resolve(address: &str) -> Result<SocketAddr, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let missing = || format!("lookup {host}: no such host");
    let found = address.to_socket_addrs().map_err(|_| missing())?;
    let found: Vec<SocketAddr> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(missing)
}

/// Registers this member with the discovery service, waits for the others, and returns all of them.
///
/// # Errors
/// In etcd's words.
pub fn join(
    discovery: &Discovery,
    member_id: u64,
    own: &[InitialMember],
    log: &dyn member::Log,
) -> Result<Vec<InitialMember>, String> {
    log.log(member::LogLine::info("Bootstrapping cluster using v3 discovery."));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let found = runtime.block_on(async {
        let service = Grpc::new(discovery).await?;
        Joining::new(discovery, member_id, service, log)
            .join(&told(own))
            .await
    });
    let members = found.map_err(|error| format!("failed to join discovery cluster ({error})"))?;
    Ok(members)
}

/// Members as `--initial-cluster` names them, in etcd's order.
pub fn told(members: &[InitialMember]) -> String {
    let pairs = members.iter().flat_map(|member| {
        let urls = member.peer_urls.iter();
        urls.map(|url| format!("{}={url}", member.name))
    });
    let mut pairs: Vec<String> = pairs.collect();
    pairs.sort_unstable();
    pairs.join(",")
}
