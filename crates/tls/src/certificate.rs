//! What a certificate says of its holder. Never decides whether to believe it.

use core::net::IpAddr;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The names and addresses of a certificate's holder (subject alternative names).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Names, with wildcards.
    pub dns: Vec<String>,
}

impl Names {
    /// Reads the names; none if it is no certificate.
    pub fn of(der: &CertificateDer<'_>) -> Names {
        let mut names = Names::default();
        let Ok((_, cert)) = X509Certificate::from_der(der) else {
            return names;
        };
        let Ok(Some(alternative)) = cert.subject_alternative_name() else {
            return names;
        };
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_string()),
                GeneralName::IPAddress(bytes) => names.ips.extend(ip(bytes)),
                _ => {}
            }
        }
        names
    }

    /// Whether the holder has an address; the error is Go's (`Certificate.VerifyHostname`).
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), String> {
        if self.ips.contains(&ip) {
            return Ok(());
        }
        if self.ips.is_empty() {
            return Err(format!(
                "x509: cannot validate certificate for {ip} because it doesn't contain any IP SANs"
            ));
        }
        let valid: Vec<String> = self.ips.iter().map(ToString::to_string).collect();
        Err(format!(
            "x509: certificate is valid for {}, not {ip}",
            valid.join(", ")
        ))
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// What a certificate that is trusted itself is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Client,
    Server,
}

/// Whether a certificate is valid now and may be used so; what cannot be read may not.
pub(crate) fn is_good_for(der: &CertificateDer<'_>, wanted: Use, now: UnixTime) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(der) else {
        return false;
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = cert.validity();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return false;
    }
    match cert.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => {
            let usage = usage.value;
            usage.any
                || match wanted {
                    Use::Client => usage.client_auth,
                    Use::Server => usage.server_auth,
                }
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_and_refused_in_gos_words() {
        let names = Names {
            ips: vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
            dns: Vec::new(),
        };
        assert_eq!(names.check_ip([10, 0, 0, 2].into()), Ok(()));
        assert_eq!(
            names.check_ip([127, 0, 0, 1].into()),
            Err("x509: certificate is valid for 10.0.0.1, 10.0.0.2, not 127.0.0.1".into())
        );
        assert_eq!(
            Names::default().check_ip([127, 0, 0, 1].into()),
            Err(
                "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
                    .into()
            )
        );
    }

    #[test]
    fn garbage_has_no_names() {
        assert_eq!(
            Names::of(&CertificateDer::from(vec![0x30, 0x82, 1])),
            Names::default()
        );
    }
}
