//! Members found by the SRV records of a domain, as etcd's clients and gateways find them (client/pkg/srv/srv.go).
//! Blocks while it asks.

use crate::dns::{LookupError, Resolver};

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The host; it ends in a dot.
    pub target: String,
    /// Its port.
    pub port: u16,
    /// Lower ones come first.
    pub priority: u16,
    /// The greater, the more often it comes first among those of its priority.
    pub weight: u16,
}

impl Record {
    /// `host:port` as Go joins them.
    pub fn address(&self) -> String {
        format!("{}:{}", self.target, self.port)
    }
}

/// What a domain says of members that clients reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// `scheme://host:port`, one a record.
    pub endpoints: Vec<String>,
    /// The records.
    pub records: Vec<Record>,
}

/// Looks up `_service._tcp.domain`, in the order of priorities and, among equal ones, by chance as the weights say.
///
/// # Errors
/// In the words of Go.
pub fn lookup(service: &str, domain: &str) -> Result<Vec<Record>, LookupError> {
    Resolver::of_system().srv(service, domain)
}

/// Looks up the members that clients of a domain reach: first those with TLS, then those without.
///
/// # Errors
/// If neither kind is there.
pub fn clients(domain: &str, suffix: &str) -> Result<Found, String> {
    clients_by(&|service| lookup(service, domain), suffix)
}

fn clients_by(
    lookup: &dyn Fn(&str) -> Result<Vec<Record>, LookupError>,
    suffix: &str,
) -> Result<Found, String> {
    let mut found = Found::default();
    let mut errors = Vec::new();
    for scheme in ["https", "http"] {
        match lookup(&service("etcd-client", suffix, scheme)) {
            Err(error) => errors.push(error.to_string()),
            Ok(records) => {
                let urls = records
                    .iter()
                    .map(|record| format!("{scheme}://{}", record.address()));
                found.endpoints.extend(urls);
                found.records.extend(records);
            }
        }
    }
    match errors.as_slice() {
        [secure, plain] => Err(format!("dns lookup errors: {secure} and {plain}")),
        _ => Ok(found),
    }
}

/// The name of a service for a scheme, with the suffix of `--discovery-srv-name`.
pub fn service(service: &str, suffix: &str, scheme: &str) -> String {
    let secure = if scheme == "https" { "-ssl" } else { "" };
    match suffix {
        "" => format!("{service}{secure}"),
        suffix => format!("{service}{secure}-{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_the_names_of_etcd() {
        for (suffix, scheme, expect) in [
            ("", "http", "etcd-client"),
            ("", "https", "etcd-client-ssl"),
            ("foo", "http", "etcd-client-foo"),
            ("foo", "https", "etcd-client-ssl-foo"),
        ] {
            assert_eq!(service("etcd-client", suffix, scheme), expect);
        }
    }

    #[test]
    fn one_kind_of_members_is_enough() {
        let record = |target: &str, port| Record {
            target: target.to_owned(),
            port,
            priority: 0,
            weight: 0,
        };
        let none = |service: &str| LookupError::new(service, "no such host");
        let plain = |service: &str| match service {
            "etcd-client" => Ok(vec![record("a.", 1), record("b.", 2)]),
            other => Err(none(other)),
        };
        let found = clients_by(&plain, "").unwrap();
        assert_eq!(found.endpoints, ["http://a.:1", "http://b.:2"]);
        assert_eq!(found.records.len(), 2);
        let both = |service: &str| match service {
            "etcd-client" => Ok(vec![record("a.", 1)]),
            _ => Ok(vec![record("b.", 2)]),
        };
        assert_eq!(
            clients_by(&both, "").unwrap().endpoints,
            ["https://b.:2", "http://a.:1"]
        );
        let neither = |service: &str| Err(none(service));
        assert_eq!(
            clients_by(&neither, "x").unwrap_err(),
            "dns lookup errors: lookup etcd-client-ssl-x: no such host and lookup etcd-client-x: no such host"
        );
    }
}
