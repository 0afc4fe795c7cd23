//! The members of a cluster that the SRV records of a domain name. Looks up through functions, so that it can be
//! tried without name servers.
//!
//! etcd: server/embed/config.go, GetDNSClusterNames; client/pkg/srv/srv.go, GetCluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use client::srv::{self, Record};

use crate::config::{Config, Url};
use crate::log::Log;

/// The name servers.
pub struct Dns<'a> {
    /// The records of a service of the domain.
    pub lookup: &'a dyn Fn(&str) -> Result<Vec<Record>, String>,
    /// The address of `host:port`.
    pub resolve: &'a dyn Fn(&str) -> Result<SocketAddr, String>,
}

impl Dns<'_> {
    /// `name=url` of each member: those with TLS first. This member goes by its own name, the others by numbers.
    ///
    /// # Errors
    /// If there are none.
    pub fn nodes(&self, config: &Config, log: &Log) -> Result<Vec<String>, String> {
        let urls = config.initial_advertise_peer_urls.iter();
        let urls: Vec<String> = urls.map(Url::to_string).collect();
        let (mut nodes, mut errors) = (Vec::new(), Vec::new());
        for scheme in ["https", "http"] {
            let service = srv::service("etcd-server", &config.discovery_srv_name, scheme);
            let found = self.nodes_of(scheme, &service, config);
            let error = found.as_ref().err().cloned();
            let found = found.unwrap_or_default();
            let text = match scheme {
                "https" => "get cluster for etcd-server-ssl SRV",
                _ => "get cluster for etcd-server SRV",
            };
            let line = log
                .info(text)
                .text("service-scheme", scheme)
                .text("service-name", &service)
                .text("server-name", &config.name)
                .text("discovery-srv", &config.discovery_srv)
                .list("advertise-peer-urls", &urls)
                .list("found-cluster", &found);
            nodes.extend(found);
            match &error {
                Some(error) => line.error(error).emit(),
                None => line.emit(),
            }
            errors.extend(error);
        }
        let errors = errors.join("\n");
        if !errors.is_empty() {
            log.warn("failed to resolve during SRV discovery")
                .error(&errors)
                .emit();
        }
        if nodes.is_empty() {
            return Err(errors);
        }
        for node in &nodes {
            log.info("got bootstrap from DNS for etcd-server")
                .text("node", node)
                .emit();
        }
        Ok(nodes)
    }

    /// The members of one scheme; each is a member of its own.
    fn nodes_of(&self, scheme: &str, service: &str, config: &Config) -> Result<Vec<String>, String> {
        let mut own = BTreeMap::new();
        for url in &config.initial_advertise_peer_urls {
            own.insert((self.resolve)(url.address())?, url);
        }
        let failed = |error| format!("error querying DNS SRV records for _{service} {error}");
        let records = (self.lookup)(service).map_err(failed)?;
        let (mut nodes, mut unnamed, mut failure) = (Vec::new(), 0, None);
        for record in &records {
            let address = match (self.resolve)(&record.address()) {
                Ok(address) => address,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            // URLs have no dot at their end.
            let host = record.target.strip_suffix('.').unwrap_or(&record.target);
            let url = format!("{scheme}://{host}:{}", record.port);
            match own.get(&address) {
                Some(expected) if !expected.to_string().starts_with(&format!("{scheme}://")) => {
                    failure = Some(format!(
                        "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {expected}"
                    ));
                }
                Some(_) if !config.name.is_empty() => nodes.push(format!("{}={url}", config.name)),
                _ => {
                    nodes.push(format!("{unnamed}={url}"));
                    unnamed += 1;
                }
            }
        }
        match failure {
            Some(error) if nodes.is_empty() => Err(failed(error)),
            _ => Ok(nodes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, Sources, load};

    fn config(line: &str) -> Config {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let sources = Sources {
            args: &args,
            env: &[],
            read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
            default_host: &|| None,
        };
        match load(&sources, &mut Vec::new()).unwrap() {
            Loaded::Run(config) => *config,
            Loaded::Print { .. } => panic!("{line}"),
        }
    }

    fn record(target: &str, port: u16) -> Record {
        Record {
            target: target.to_owned(),
            port,
            priority: 0,
            weight: 0,
        }
    }

    /// Hosts are `hN.`, at 10.0.0.N.
    fn resolve(address: &str) -> Result<SocketAddr, String> {
        let (host, port) = address.rsplit_once(':').ok_or("no port")?;
        let number = host.trim_start_matches('h').trim_end_matches('.');
        format!("10.0.0.{number}:{port}")
            .parse()
            .map_err(|_| format!("lookup {host}: no such host"))
    }

    type Lookup = fn(&str) -> Result<Vec<Record>, String>;

    fn nodes(line: &str, lookup: Lookup) -> Result<Vec<String>, String> {
        let dns = Dns {
            lookup: &lookup,
            resolve: &resolve,
        };
        let log = Log::early().unwrap();
        dns.nodes(&config(&format!("--name me --discovery-srv d {line}")), &log)
    }

    fn missing(service: &str) -> Result<Vec<Record>, String> {
        Err(format!("lookup _{service}._tcp.d: no such host"))
    }

    const PLAIN: Lookup = |service| match service {
        "etcd-server" => Ok(vec![record("h1.", 1), record("h2.", 1), record("h3.", 1)]),
        other => missing(other),
    };

    fn texts(list: &[&str]) -> Result<Vec<String>, String> {
        Ok(list.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_member_knows_itself_by_its_address() {
        assert_eq!(
            nodes("--initial-advertise-peer-urls http://h2:1", PLAIN),
            texts(&["0=http://h1:1", "me=http://h2:1", "1=http://h3:1"])
        );
        let named: Lookup = |service| match service {
            "etcd-server-ssl-x" => Ok(vec![record("h1.", 1)]),
            "etcd-server-x" => Ok(vec![record("h2.", 2)]),
            other => missing(other),
        };
        assert_eq!(
            nodes(
                "--initial-advertise-peer-urls http://h2:2 --discovery-srv-name x",
                named
            ),
            texts(&["0=https://h1:1", "me=http://h2:2"])
        );
    }

    #[test]
    fn no_members_are_an_error_in_the_words_of_etcd() {
        assert_eq!(
            nodes("--initial-advertise-peer-urls http://h2:1", missing),
            Err(
                "error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.d: no such host\n\
                 error querying DNS SRV records for _etcd-server lookup _etcd-server._tcp.d: no such host"
                    .to_owned()
            )
        );
        let alone: Lookup = |service| match service {
            "etcd-server" => Ok(vec![record("h2.", 1)]),
            other => missing(other),
        };
        let error = nodes("--initial-advertise-peer-urls https://h2:1", alone).unwrap_err();
        assert!(
            error.ends_with(
                "bootstrap at http://h2:1 from DNS for etcd-server has scheme mismatch with expected peer https://h2:1"
            ),
            "{error}"
        );
        let error = nodes("--initial-advertise-peer-urls http://x:1", PLAIN).unwrap_err();
        assert_eq!(error, "lookup x: no such host\nlookup x: no such host");
    }

    #[test]
    fn hosts_without_an_address_are_left_out() {
        let partly: Lookup = |service| match service {
            "etcd-server" => Ok(vec![record("nowhere.", 1), record("h2.", 1)]),
            other => missing(other),
        };
        assert_eq!(
            nodes("--initial-advertise-peer-urls http://h2:1", partly),
            texts(&["me=http://h2:1"])
        );
    }
}
