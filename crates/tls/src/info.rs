//! The settings of one side of TLS, etcd's `transport.TLSInfo`. Never reads a file.

use std::fmt;

use rustls::SupportedProtocolVersion;

use crate::suites::CipherSuites;

/// A version of TLS that etcd can be told to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Its name in flags.
    pub fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "TLS1.2",
            Version::Tls13 => "TLS1.3",
        }
    }

    /// The version of a name, `None` for the empty one; the error is etcd's (tlsutil/versions.go).
    pub fn parse(name: &str) -> Result<Option<Version>, String> {
        match name {
            "" => Ok(None),
            "TLS1.2" => Ok(Some(Version::Tls12)),
            "TLS1.3" => Ok(Some(Version::Tls13)),
            _ => Err(format!(
                "unexpected TLS version {name:?} (must be one of: TLS1.2, TLS1.3)"
            )),
        }
    }
}

/// The settings of one side: of clients, or of members among each other.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// The certificate that this side shows.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// The certificate shown as a client, if it is another one.
    pub client_cert_file: String,
    /// Its key.
    pub client_key_file: String,
    /// The authorities that the other side's certificate must come from.
    pub trusted_ca_file: String,
    /// Whether clients must show a certificate.
    pub client_cert_auth: bool,
    /// Whether a client's certificate may name another address than the client's.
    pub skip_client_san_verify: bool,
    /// As a client: do not verify the server.
    pub insecure_skip_verify: bool,
    /// As a client: the name that the server's certificate must have, instead of the one dialled.
    pub server_name: String,
    /// The certificate was made by this program: nobody could verify it.
    pub self_cert: bool,
    /// Suites of TLS 1.2; all there are if nothing is given.
    pub cipher_suites: CipherSuites,
    /// Oldest version; TLS 1.2 if it is not given.
    pub min_version: Option<Version>,
    /// Newest version.
    pub max_version: Option<Version>,
}

impl Info {
    /// Whether there is neither certificate nor key.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }

    /// Whether a server asks its clients for certificates: one of both settings is enough.
    pub fn demands_certificates(&self) -> bool {
        !self.trusted_ca_file.is_empty() || self.client_cert_auth
    }

    /// The files of the certificate that a client shows.
    pub fn client_files(&self) -> (&str, &str) {
        if self.client_cert_file.is_empty() {
            (&self.cert_file, &self.key_file)
        } else {
            (&self.client_cert_file, &self.client_key_file)
        }
    }

    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let oldest = self.min_version.unwrap_or(Version::Tls12);
        let newest = self.max_version.unwrap_or(Version::Tls13);
        let all = [
            (Version::Tls13, &rustls::version::TLS13),
            (Version::Tls12, &rustls::version::TLS12),
        ];
        all.into_iter()
            .filter(|(version, _)| (oldest..=newest).contains(version))
            .map(|(_, rustls)| rustls)
            .collect()
    }
}

impl fmt::Display for Info {
    /// As etcd logs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = ",
            self.cert_file,
            self.key_file,
            self.client_cert_file,
            self.client_key_file,
            self.trusted_ca_file,
            self.client_cert_auth,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_etcd() {
        assert_eq!(Version::parse(""), Ok(None));
        assert_eq!(Version::parse("TLS1.3"), Ok(Some(Version::Tls13)));
        assert_eq!(
            Version::parse("TLS1.1"),
            Err("unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)".into())
        );
        let count = |min, max| {
            let info = Info {
                min_version: min,
                max_version: max,
                ..Info::default()
            };
            info.versions().len()
        };
        assert_eq!(count(None, None), 2);
        assert_eq!(count(Some(Version::Tls13), None), 1);
        assert_eq!(count(None, Some(Version::Tls12)), 1);
        assert_eq!(count(Some(Version::Tls13), Some(Version::Tls12)), 0);
    }
}
