//! The cryptography of rustls: ring's, and the one curve of etcd's own keys that ring lacks.

use std::sync::{Arc, OnceLock};

use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::SignatureVerificationAlgorithm;

use crate::error::Error;
use crate::info::{Info, Version};
use crate::p521::{Keys, Verification};

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

static P521: &[&dyn SignatureVerificationAlgorithm] = &[&Verification];
static KEYS: OnceLock<Keys> = OnceLock::new();
static ALGORITHMS: OnceLock<WebPkiSupportedAlgorithms> = OnceLock::new();

/// Ring's algorithms and P-521. rustls wants them to live as long as the process: they are made once.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    *ALGORITHMS.get_or_init(|| {
        let ring = ring::default_provider().signature_verification_algorithms;
        let all: Vec<_> = ring.all.iter().chain(P521).copied().collect();
        let mut mapping: Vec<(SignatureScheme, Algorithms)> = ring.mapping.to_vec();
        mapping.push((SignatureScheme::ECDSA_NISTP521_SHA512, P521));
        WebPkiSupportedAlgorithms {
            all: all.leak(),
            mapping: mapping.leak(),
        }
    })
}

/// All that there is.
pub(crate) fn full() -> CryptoProvider {
    let ring = ring::default_provider();
    CryptoProvider {
        signature_verification_algorithms: algorithms(),
        key_provider: KEYS.get_or_init(|| Keys(ring.key_provider)),
        ..ring
    }
}

/// What the settings allow. As in Go, a list of suites leaves those of TLS 1.3 alone.
pub(crate) fn allowed(info: &Info) -> Result<Arc<CryptoProvider>, Error> {
    let mut provider = full();
    let suites = &info.cipher_suites;
    if suites.given {
        provider.cipher_suites.retain(|suite| {
            let is_new = suite.tls13().is_some();
            is_new || suites.allowed.contains(&suite.suite())
        });
    }
    let newest = info.max_version.unwrap_or(Version::Tls13);
    if newest == Version::Tls12 && provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
        return Err(Error::Settings(format!(
            "none of --cipher-suites is supported for TLS1.2, and --tls-max-version allows nothing newer: {}",
            suites.absent.join(",")
        )));
    }
    Ok(Arc::new(provider))
}
