//! Two shapes of certificates that webpki does not take and Go does, both made by openssl when it is
//! told nothing else: X.509 version 1 (`openssl x509 -req`), and one that calls itself an authority's
//! (`openssl req -x509 -CA`). They are believed if a trusted authority has signed them itself; chains
//! with authorities between are left to webpki. Never looks at any other certificate.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error as RustlsError};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::certificate::{Use, is_good_for};
use crate::provider;

/// Whether a certificate has one of both shapes, is signed by one of the authorities, and may be used
/// so now.
pub(crate) fn is_issued(
    der: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    wanted: Use,
    now: UnixTime,
) -> bool {
    let Some(cert) = parse(der) else {
        return false;
    };
    if !has_shape(&cert) || !has_plain_end(der, &cert) || !is_good_for(der, wanted, now) {
        return false;
    }
    authorities.iter().any(|authority| {
        let good = is_good_for(authority, wanted, now);
        good && parse(authority).is_some_and(|authority| has_signed(&authority, &cert))
    })
}

/// The certificate, if it is one and nothing comes behind it.
fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, cert) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(cert)
}

fn has_shape(cert: &X509Certificate<'_>) -> bool {
    if cert.version() == X509Version::V1 {
        return cert.extensions().is_empty();
    }
    // What is critical and unknown may say that the certificate is for something else.
    let known = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    ];
    let understood = cert
        .extensions()
        .iter()
        .all(|extension| !extension.critical || known.contains(&extension.oid));
    understood && cert.version() == X509Version::V3 && cert.is_ca()
}

/// Whether what follows the signed part is written in the one way that DER allows: the parser reads
/// more than that, and no signature covers it.
fn has_plain_end(der: &[u8], cert: &X509Certificate<'_>) -> bool {
    let Some(algorithm) = content(&cert.signature_algorithm) else {
        return false;
    };
    let signature = &cert.signature_value.data;
    let mut end = vec![0x30];
    length(algorithm.len(), &mut end);
    end.extend_from_slice(&algorithm);
    end.push(0x03);
    length(signature.len() + 1, &mut end);
    end.push(0);
    end.extend_from_slice(signature);
    der.ends_with(&end)
}

/// A length in DER; those of signatures fit two bytes.
fn length(length: usize, out: &mut Vec<u8>) {
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    match (high, low) {
        (0, 0..=127) => out.push(low),
        (0, _) => out.extend_from_slice(&[0x81, low]),
        _ => out.extend_from_slice(&[0x82, high, low]),
    }
}

/// crypto/x509 `CheckSignatureFrom`, and no authority that may only sign for some names.
fn has_signed(authority: &X509Certificate<'_>, cert: &X509Certificate<'_>) -> bool {
    let may_sign = match authority.version() {
        X509Version::V1 => true,
        X509Version::V3 => {
            let signs = authority
                .key_usage()
                .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
            let limited = authority
                .name_constraints()
                .map_or(true, |limits| limits.is_some());
            authority.is_ca() && signs && !limited
        }
        _ => false,
    };
    may_sign
        && authority.subject().as_raw() == cert.issuer().as_raw()
        && cert.signature_algorithm == cert.tbs_certificate.signature
        && is_signed_with(authority.public_key(), cert)
}

fn is_signed_with(key: &SubjectPublicKeyInfo<'_>, cert: &X509Certificate<'_>) -> bool {
    let (Some(signature), Some(public_key)) = (content(&cert.signature_algorithm), content(&key.algorithm))
    else {
        return false;
    };
    provider::algorithms().all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signature
            && algorithm.public_key_alg_id().as_ref() == public_key
            && algorithm
                .verify_signature(
                    &key.subject_public_key.data,
                    cert.tbs_certificate.as_ref(),
                    &cert.signature_value.data,
                )
                .is_ok()
    })
}

/// An algorithm as rustls names it: what the SEQUENCE of its identifier holds.
fn content(algorithm: &AlgorithmIdentifier<'_>) -> Option<Vec<u8>> {
    let oid = algorithm.algorithm.as_bytes();
    // Longer ones belong to no algorithm that is known here.
    let mut content = vec![0x06, u8::try_from(oid.len()).ok().filter(|length| *length < 128)?];
    content.extend_from_slice(oid);
    if let Some(parameters) = &algorithm.parameters {
        let header = &parameters.header;
        let tag = u8::try_from(parameters.tag().0).ok().filter(|tag| *tag < 31)?;
        let constructed = if header.is_constructed() { 0x20 } else { 0 };
        content.push((header.class() as u8) << 6 | constructed | tag);
        content.push(
            u8::try_from(parameters.data.len())
                .ok()
                .filter(|length| *length < 128)?,
        );
        content.extend_from_slice(parameters.data);
    }
    Some(content)
}

/// The public key of a version 1 certificate; `None`: rustls can read it itself.
pub(crate) fn public_key<'a>(der: &'a CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'a>> {
    let cert = parse(der).filter(|cert| cert.version() == X509Version::V1)?;
    Some(SubjectPublicKeyInfoDer::from(
        cert.tbs_certificate.subject_pki.raw,
    ))
}

/// Whether the holder of a version 1 certificate has signed a handshake of TLS 1.2. `None`: webpki
/// can say it.
pub(crate) fn verify_tls12(
    message: &[u8],
    der: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Option<Result<HandshakeSignatureValid, RustlsError>> {
    let cert = parse(der).filter(|cert| cert.version() == X509Version::V1)?;
    let key = cert.public_key();
    let public_key = content(&key.algorithm)?;
    let supported = provider::algorithms();
    let verified = supported
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signed.scheme)
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == public_key
                && algorithm
                    .verify_signature(&key.subject_public_key.data, message, signed.signature())
                    .is_ok()
        });
    Some(match verified {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(RustlsError::InvalidCertificate(CertificateError::BadSignature)),
    })
}

/// The same for TLS 1.3.
pub(crate) fn verify_tls13(
    message: &[u8],
    der: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Option<Result<HandshakeSignatureValid, RustlsError>> {
    let key = public_key(der)?;
    Some(verify_tls13_signature_with_raw_key(
        message,
        &key,
        signed,
        &provider::algorithms(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use std::time::Duration;

    fn golden(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// Certificates that openssl 3.0 made.
    #[test]
    fn what_is_signed_by_an_authority_is_believed() {
        let ca = golden(include_str!("../tests/golden/openssl-ca.crt"));
        let old = golden(include_str!("../tests/golden/openssl-v1.crt"));
        let leaf = golden(include_str!("../tests/golden/openssl-ca-leaf.crt"));
        let stranger = golden(include_str!("../tests/golden/etcd-auto-tls-cert.pem"));
        let at = |year: u64| UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
        let good = |cert: &CertificateDer<'_>, authority: &CertificateDer<'_>, year| {
            is_issued(
                cert,
                &[stranger.clone(), authority.clone()],
                Use::Client,
                at(year),
            )
        };
        for cert in [&old, &leaf] {
            assert!(good(cert, &ca, 2030));
            assert!(!good(cert, &stranger, 2030), "nobody has signed it");
            assert!(!good(cert, &ca, 2020) && !good(cert, &ca, 2200), "not then");
            for at in 0..cert.len() {
                let mut other = cert.to_vec();
                other[at] ^= 1;
                assert!(!good(&other.into(), &ca, 2030), "byte {at} is another");
            }
            let mut longer = cert.to_vec();
            longer.push(0);
            assert!(!good(&longer.into(), &ca, 2030));
        }
        assert!(!good(&old, &leaf, 2030), "signed by another");
        assert!(!good(&stranger, &ca, 2030));
    }

    /// One thing is wrong with each but the first.
    #[test]
    fn neither_authority_nor_certificate_may_have_a_fault() {
        use rcgen::{
            BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
            ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
        };
        type Change = fn(&mut CertificateParams);
        let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let params = |name: &str, change: Change| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            change(&mut params);
            params
        };
        let check = |what: &str, authority: Change, cert: Change, expect: bool| {
            let shown = CertifiedIssuer::self_signed(params("ca", authority), &keys[0]).unwrap();
            // Who signs has the authority's key, and its name unless that is what is wrong.
            let signer = CertifiedIssuer::self_signed(params("ca", |_| {}), &keys[0]).unwrap();
            let cert = params("cert", cert).signed_by(&keys[1], &signer).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(60 * 31_557_600));
            let told = is_issued(cert.der(), &[shown.der().clone()], Use::Client, now);
            assert_eq!(told, expect, "{what}");
        };
        let expired: Change = |params| params.not_after = date_time_ymd(2000, 1, 1);
        let early: Change = |params| params.not_before = date_time_ymd(2040, 1, 1);
        let servers: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        check("nothing", |_| {}, |_| {}, true);
        check("the authority is over", expired, |_| {}, false);
        check("the authority is not yet", early, |_| {}, false);
        check("the authority is for servers", servers, |_| {}, false);
        check(
            "the authority is none",
            |params| params.is_ca = IsCa::ExplicitNoCa,
            |_| {},
            false,
        );
        let signs_nothing: Change = |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        check("the authority may not sign", signs_nothing, |_| {}, false);
        let limited: Change = |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("x".into())],
                excluded_subtrees: Vec::new(),
            });
        };
        check("the authority is limited", limited, |_| {}, false);
        let renamed: Change = |params| params.distinguished_name.push(DnType::CommonName, "other");
        check("the authority has another name", renamed, |_| {}, false);
        check("it is over", |_| {}, expired, false);
        check("it is not yet", |_| {}, early, false);
        check("it is for servers", |_| {}, servers, false);
        check(
            "it has no such shape",
            |_| {},
            |params| params.is_ca = IsCa::ExplicitNoCa,
            false,
        );
        let strange: Change = |params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        };
        check("it says what nobody understands", |_| {}, strange, false);
    }
}
