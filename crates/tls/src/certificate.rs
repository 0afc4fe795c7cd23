//! What a certificate says of its holder. Never decides whether to believe it.

use core::net::IpAddr;
use core::time::Duration;

use rustls::CertificateError;
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

/// What is wrong with the time of a certificate, with both times, in the order in which Go looks.
pub(crate) fn out_of_time(der: &CertificateDer<'_>, now: UnixTime) -> Option<CertificateError> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let at =
        |moment: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(moment).unwrap_or(0)));
    let validity = cert.validity();
    let (not_before, not_after) = (
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    );
    if now < not_before {
        Some(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        })
    } else if now > not_after {
        Some(CertificateError::ExpiredContext { time: now, not_after })
    } else {
        None
    }
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
    fn times_are_told_with_the_bounds_that_they_miss() {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let told = |seconds| out_of_time(cert.der(), at(seconds));
        let (not_before, not_after) = (1_577_836_800, 1_580_515_200);
        assert_eq!(told(not_before), None);
        assert_eq!(told(not_after), None);
        assert_eq!(
            told(not_before - 1),
            Some(CertificateError::NotValidYetContext {
                time: at(not_before - 1),
                not_before: at(not_before),
            })
        );
        assert_eq!(
            told(not_after + 1),
            Some(CertificateError::ExpiredContext {
                time: at(not_after + 1),
                not_after: at(not_after),
            })
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
