//! Whom to trust, as Go decides it: a certificate is good if it comes from one of the authorities,
//! or is one of them itself. rustls refuses the second where the certificate is an authority's,
//! as self-signed ones usually are, and some shapes of the first.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as RustlsError, RootCertStore,
    SignatureScheme,
};

use crate::certificate::{Use, is_good_for, out_of_time};
use crate::error::Error;
use crate::files;
use crate::plain_chain;
use crate::provider;

/// The authorities of one side.
#[derive(Debug)]
struct Trust {
    store: Arc<RootCertStore>,
    all: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Those of a file, or of this machine if there is no file.
    fn load(ca_file: &str) -> Result<Trust, Error> {
        let (all, strict) = if ca_file.is_empty() {
            (rustls_native_certs::load_native_certs().certs, false)
        } else {
            (files::authorities(ca_file)?, true)
        };
        let mut store = RootCertStore::empty();
        for cert in &all {
            if let (Err(error), true) = (store.add(cert.clone()), strict) {
                return Err(Error::Content(format!(
                    "x509: malformed certificate in {ca_file}: {error}"
                )));
            }
        }
        Ok(Trust {
            store: Arc::new(store),
            all,
        })
    }

    /// Whether a certificate that rustls refuses is one that Go takes.
    fn has(&self, cert: &CertificateDer<'_>, wanted: Use, now: UnixTime) -> bool {
        let known = self.all.iter().any(|known| known == cert);
        known && is_good_for(cert, wanted, now) || plain_chain::is_issued(cert, &self.all, wanted, now)
    }
}

/// rustls names no reason of its own for an authority's certificate that is not trusted itself. To
/// Go it is one that nobody knows.
fn named(error: RustlsError) -> RustlsError {
    match error {
        RustlsError::InvalidCertificate(CertificateError::Other(_)) => unknown(),
        other => other,
    }
}

/// The times of a certificate that is out of time, where rustls names none: where its end lies before its
/// beginning.
fn dated(error: RustlsError, cert: &CertificateDer<'_>, now: UnixTime) -> RustlsError {
    match error {
        RustlsError::InvalidCertificate(CertificateError::Expired | CertificateError::NotValidYet) => {
            out_of_time(cert, now).map_or(error, RustlsError::InvalidCertificate)
        }
        other => other,
    }
}

fn unknown() -> RustlsError {
    RustlsError::InvalidCertificate(CertificateError::UnknownIssuer)
}

/// What a server asks of its clients.
#[derive(Debug)]
pub(crate) struct Clients {
    trust: Trust,
    /// `None` where nobody is trusted.
    inner: Option<Arc<dyn ClientCertVerifier>>,
}

impl Clients {
    pub(crate) fn new(ca_file: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<Clients>, Error> {
        let trust = Trust::load(ca_file)?;
        let builder = WebPkiClientVerifier::builder_with_provider(trust.store.clone(), provider.clone());
        let inner = builder.build().ok();
        Ok(Arc::new(Clients { trust, inner }))
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner
            .as_ref()
            .map_or(&[], |inner| inner.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, RustlsError> {
        let verified = match &self.inner {
            Some(inner) => inner.verify_client_cert(end_entity, intermediates, now),
            None => Err(unknown()),
        };
        match verified {
            Err(_) if self.trust.has(end_entity, Use::Client, now) => Ok(ClientCertVerified::assertion()),
            other => other.map_err(|error| named(dated(error, end_entity, now))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        plain_chain::verify_tls12(message, cert, signed)
            .unwrap_or_else(|| verify_tls12_signature(message, cert, signed, &provider::algorithms()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        plain_chain::verify_tls13(message, cert, signed)
            .unwrap_or_else(|| verify_tls13_signature(message, cert, signed, &provider::algorithms()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::algorithms().supported_schemes()
    }
}

/// What a client asks of a server.
#[derive(Debug)]
pub(crate) struct Servers {
    /// `None`: anybody will do.
    trust: Option<Trust>,
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// The name that the certificate must have, instead of the one dialled.
    name: Option<ServerName<'static>>,
}

impl Servers {
    pub(crate) fn new(
        ca_file: &str,
        name: Option<ServerName<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Servers>, Error> {
        let trust = Trust::load(ca_file)?;
        let builder = WebPkiServerVerifier::builder_with_provider(trust.store.clone(), provider.clone());
        Ok(Arc::new(Servers {
            inner: builder.build().ok(),
            trust: Some(trust),
            name,
        }))
    }

    /// Asks for nothing but that the server has the key of the certificate that it shows.
    pub(crate) fn anybody() -> Arc<Servers> {
        Arc::new(Servers {
            trust: None,
            inner: None,
            name: None,
        })
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let name = self.name.as_ref().unwrap_or(dialled);
        let verified = match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now),
            None => Err(unknown()),
        };
        match verified {
            Err(_) if trust.has(end_entity, Use::Server, now) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other.map_err(|error| named(dated(error, end_entity, now))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, cert, signed, &provider::algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, cert, signed, &provider::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::algorithms().supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_certificate_that_ends_before_it_begins_is_out_of_time_with_both_times() {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 2, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let told = |error| dated(RustlsError::InvalidCertificate(error), cert.der(), now);
        assert_eq!(
            told(CertificateError::Expired),
            RustlsError::InvalidCertificate(CertificateError::ExpiredContext {
                time: now,
                not_after: UnixTime::since_unix_epoch(Duration::from_secs(1_577_836_800)),
            })
        );
        let other = CertificateError::BadSignature;
        assert_eq!(told(other.clone()), RustlsError::InvalidCertificate(other));
    }
}
