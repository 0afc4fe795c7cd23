//! When and how a client speaks TLS: client/v3/config.go `newTLSConfig` and client/v3/client.go
//! `credentialsForEndpoint`.

use std::sync::Arc;

use tls::{ClientSide, Info};

use crate::Error;

/// Whether and how connections are encrypted.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Certificates, and whom to trust.
    pub info: Info,
    /// Whether endpoints without scheme are reached in the clear.
    pub insecure_transport: bool,
}

impl Security {
    /// What connections to these endpoints need to carry `protocol`; `None` if they are in the clear. As
    /// in etcd the first endpoint decides for all.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn for_endpoints(
        &self,
        endpoints: &[String],
        protocol: &str,
    ) -> Result<Option<Arc<ClientSide>>, Error> {
        let info = &self.info;
        let asked = !info.is_empty()
            || !info.trusted_ca_file.is_empty()
            || !info.server_name.is_empty()
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
        let side = ClientSide::new(info, &[protocol]).map_err(|error| Error::Settings(error.to_string()))?;
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
            error.to_string(),
            "KeyFile and CertFile must both be present[key: , cert: x]"
        );
    }
}
