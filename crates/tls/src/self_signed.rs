//! Certificates that a program makes for itself: `--auto-tls` and `--peer-auto-tls`
//! (transport/listener.go `SelfCert`).

use core::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Most years that are written into a certificate: more than anybody will keep one.
pub const PERIODS_MAX: u64 = 1000;

/// A certificate and its key as PEM texts.
pub struct SelfSigned {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// The end of its validity, since 1970.
    pub not_after: Duration,
}

/// Makes a certificate for `hosts`, valid from `now` (since 1970) for so many years of 365 days.
///
/// The key is on the curve P-256, where etcd takes P-521: every TLS library has the first, and
/// it costs a handshake a hundredth.
pub fn make_self_signed(hosts: &[String], now: Duration, years: u64) -> Result<SelfSigned, String> {
    let day = 24 * 60 * 60;
    let not_after = now + Duration::from_secs(years.clamp(1, PERIODS_MAX) * 365 * day);
    let mut params = CertificateParams::default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now;
    params.not_after = epoch + not_after;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in hosts {
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => match host.as_str().try_into() {
                Ok(name) => SanType::DnsName(name),
                Err(_) => continue,
            },
        };
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let cert = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok(SelfSigned {
        cert: cert.pem(),
        key: key.serialize_pem(),
        not_after,
    })
}
