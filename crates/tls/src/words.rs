//! What went wrong in a handshake, in the words of Go's `crypto/tls` and `crypto/x509`, for which
//! people and scripts search logs.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Go's text for an error of rustls.
pub fn of(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("remote error: tls: {}", of_alert(*alert)),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_string(),
        Error::InvalidCertificate(error) => {
            format!("tls: failed to verify certificate: {}", of_certificate(error))
        }
        Error::NoApplicationProtocol => "tls: client requested unsupported application protocols".to_string(),
        Error::PeerIncompatible(why) => match why {
            PeerIncompatible::NoCipherSuitesInCommon => {
                "tls: no cipher suite supported by both client and server".to_string()
            }
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired => {
                "tls: client offered only unsupported versions".to_string()
            }
            PeerIncompatible::NoKxGroupsInCommon => {
                "tls: no key exchanges supported by both client and server".to_string()
            }
            PeerIncompatible::NoSignatureSchemesInCommon => {
                "tls: peer doesn't support any of the certificate's signature algorithms".to_string()
            }
            other => format!("tls: {other:?}"),
        },
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "tls: first record does not look like a TLS handshake".to_string()
        }
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => {
            "tls: oversized record received".to_string()
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "tls: unexpected message".to_string()
        }
        Error::DecryptError => "tls: bad record MAC".to_string(),
        other => format!("tls: {other}"),
    }
}

/// Go's text for what is wrong with a certificate.
pub fn of_certificate(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            return format!(
                "x509: certificate has expired or is not yet valid: {}",
                when(error)
            );
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage"
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().map(|name| plain(name)).collect();
            return match names.is_empty() {
                true => format!(
                    "x509: certificate is not valid for any names, but wanted to match {}",
                    expected.to_str()
                ),
                false => format!(
                    "x509: certificate is valid for {}, not {}",
                    names.join(", "),
                    expected.to_str()
                ),
            };
        }
        CertificateError::UnhandledCriticalExtension => "unhandled critical extension",
        CertificateError::BadEncoding => "malformed certificate",
        other => return format!("x509: {other}"),
    };
    format!("x509: {text}")
}

/// `DnsName("a")` and `IpAddress(1.2.3.4)`, as rustls describes names, without their wrapping.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"').to_string()
}

fn when(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!(
                "current time {} is after {}",
                date(time.as_secs()),
                date(not_after.as_secs())
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "current time {} is before {}",
                date(time.as_secs()),
                date(not_before.as_secs())
            )
        }
        _ => "the certificate does not say when".to_string(),
    }
}

/// A moment in RFC 3339, in UTC.
fn date(unix_seconds: u64) -> String {
    let time = i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_seconds} s after 1970"))
}

/// Go's text for an alert (crypto/tls/alert.go).
fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let text = match alert {
        A::CloseNotify => "close notify",
        A::UnexpectedMessage => "unexpected message",
        A::BadRecordMac => "bad record MAC",
        A::DecryptionFailed => "decryption failed",
        A::RecordOverflow => "record overflow",
        A::DecompressionFailure => "decompression failure",
        A::HandshakeFailure => "handshake failure",
        A::BadCertificate => "bad certificate",
        A::UnsupportedCertificate => "unsupported certificate",
        A::CertificateRevoked => "revoked certificate",
        A::CertificateExpired => "expired certificate",
        A::CertificateUnknown => "unknown certificate",
        A::IllegalParameter => "illegal parameter",
        A::UnknownCA => "unknown certificate authority",
        A::AccessDenied => "access denied",
        A::DecodeError => "error decoding message",
        A::DecryptError => "error decrypting message",
        A::ExportRestriction => "export restriction",
        A::ProtocolVersion => "protocol version not supported",
        A::InsufficientSecurity => "insufficient security level",
        A::InternalError => "internal error",
        A::InappropriateFallback => "inappropriate fallback",
        A::UserCanceled => "user canceled",
        A::NoRenegotiation => "no renegotiation",
        A::MissingExtension => "missing extension",
        A::UnsupportedExtension => "unsupported extension",
        A::CertificateUnobtainable => "certificate unobtainable",
        A::UnrecognisedName => "unrecognized name",
        A::BadCertificateStatusResponse => "bad certificate status response",
        A::BadCertificateHashValue => "bad certificate hash value",
        A::UnknownPSKIdentity => "unknown PSK identity",
        A::CertificateRequired => "certificate required",
        A::NoApplicationProtocol => "no application protocol",
        A::EncryptedClientHelloRequired => "encrypted client hello required",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    /// Texts taken from runs of etcd 3.7.1 and from Go 1.24.
    #[test]
    fn errors_have_gos_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for (error, text) in [
            (
                Error::AlertReceived(AlertDescription::BadCertificate),
                "remote error: tls: bad certificate",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "remote error: tls: unknown certificate authority",
            ),
            (
                Error::NoCertificatesPresented,
                "tls: client didn't provide a certificate",
            ),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
            (
                Error::InvalidCertificate(CertificateError::ExpiredContext {
                    time: at(1_709_164_799),
                    not_after: at(0),
                }),
                "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: \
                 current time 2024-02-28T23:59:59Z is after 1970-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(of(&error), text);
        }
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(4_102_444_799), "2099-12-31T23:59:59Z");
    }
}
