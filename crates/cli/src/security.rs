//! When and how the tool speaks TLS: client/v3/config.go `newTLSConfig` and client/v3/client.go
//! `credentialsForEndpoint`.

use std::sync::Arc;

use tls::{ClientSide, Info};

use crate::Failure;
use crate::flags::Parsed;

/// The flags about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    info: Info,
    /// Whether endpoints without scheme are reached in the clear.
    insecure_transport: bool,
}

impl Security {
    /// Reads the flags.
    pub(crate) fn new(parsed: &Parsed) -> Result<Security, Failure> {
        for name in ["cert", "key", "cacert"] {
            if parsed.given(name) && parsed.text(name).is_empty() {
                return Err(Failure::bad_args(format!(
                    "empty string is passed to --{name} option"
                )));
            }
        }
        let text = |name: &str| parsed.text(name).to_string();
        Ok(Security {
            info: Info {
                cert_file: text("cert"),
                key_file: text("key"),
                trusted_ca_file: text("cacert"),
                insecure_skip_verify: parsed.is("insecure-skip-tls-verify"),
                ..Info::default()
            },
            insecure_transport: parsed.is("insecure-transport"),
        })
    }

    /// Reads the flags of the cluster that a mirror is made at.
    pub(crate) fn of_destination(parsed: &Parsed) -> Security {
        let text = |name: &str| parsed.text(name).to_string();
        Security {
            info: Info {
                cert_file: text("dest-cert"),
                key_file: text("dest-key"),
                trusted_ca_file: text("dest-cacert"),
                ..Info::default()
            },
            insecure_transport: parsed.is("dest-insecure-transport"),
        }
    }

    /// What connections to these endpoints need to carry `protocol`; `None` if they are in the clear. As
    /// in etcd the first endpoint decides for all.
    pub(crate) fn for_endpoints(
        &self,
        endpoints: &[String],
        protocol: &str,
    ) -> Result<Option<Arc<ClientSide>>, Failure> {
        let info = &self.info;
        let asked = !info.is_empty()
            || !info.trusted_ca_file.is_empty()
            || info.insecure_skip_verify
            || !self.insecure_transport;
        let first = endpoints.first().map_or("", |endpoint| scheme(endpoint).0);
        let needed = match first {
            "https" | "unixs" => true,
            "http" => false,
            _ => asked,
        };
        // Files are read even if the endpoint is in the clear, so that a wrong one is seen.
        if !asked && !needed {
            return Ok(None);
        }
        let side =
            ClientSide::new(info, &[protocol]).map_err(|error| Failure::bad_args(error.to_string()))?;
        Ok(needed.then(|| Arc::new(side)))
    }
}

/// The scheme of an endpoint, empty if there is none, and the rest.
pub(crate) fn scheme(endpoint: &str) -> (&str, &str) {
    let endpoint = endpoint.trim();
    for scheme in ["https", "http"] {
        if let Some(rest) = endpoint
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
        {
            return (scheme, rest);
        }
    }
    for scheme in ["unixs", "unix"] {
        if let Some(rest) = endpoint
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix(':'))
        {
            return (scheme, rest.strip_prefix("//").unwrap_or(rest));
        }
    }
    ("", endpoint)
}

/// Whether an endpoint is a socket in the file system.
pub(crate) fn is_socket(endpoint: &str) -> bool {
    scheme(endpoint).0.starts_with("unix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_apart() {
        for (endpoint, expect) in [
            ("a:1", ("", "a:1")),
            (" https://a:1", ("https", "a:1")),
            ("http://a:1/", ("http", "a:1/")),
            ("unix:///x/y", ("unix", "/x/y")),
            ("unix:x", ("unix", "x")),
            ("unixs://x", ("unixs", "x")),
        ] {
            assert_eq!(scheme(endpoint), expect, "{endpoint}");
        }
    }

    #[test]
    fn the_first_endpoint_decides() {
        let needed = |security: &Security, endpoint: &str| {
            let endpoints = [endpoint.to_string(), "b:1".to_string()];
            security.for_endpoints(&endpoints, "h2").unwrap().is_some()
        };
        let plain = Security {
            insecure_transport: true,
            ..Security::default()
        };
        assert!(!needed(&plain, "a:1") && !needed(&plain, "http://a:1"));
        assert!(needed(&plain, "https://a:1") && needed(&plain, "unixs://a"));
        let mut asked = plain.clone();
        asked.info.insecure_skip_verify = true;
        assert!(needed(&asked, "a:1") && needed(&asked, "unix://a"));
        assert!(!needed(&asked, "http://a:1"));
        let mut wrong = plain;
        wrong.info.cert_file = "x".into();
        let error = wrong.for_endpoints(&["a:1".into()], "h2").unwrap_err();
        assert_eq!(
            error.text,
            "KeyFile and CertFile must both be present[key: , cert: x]"
        );
    }
}
