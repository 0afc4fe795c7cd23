//! ECDSA on the curve P-521: etcd makes such keys for `--auto-tls`, and ring has no such curve.
//! Whoever comes from etcd has them in the data directory; whoever talks to etcd meets them.

use p521::SecretKey;
use p521::ecdsa::signature::{Signer as _, Verifier as _};
use p521::ecdsa::{Signature, SigningKey as Key, VerifyingKey};
use p521::elliptic_curve::sec1::ToEncodedPoint;
use p521::pkcs8::DecodePrivateKey;
use rustls::crypto::KeyProvider;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use std::sync::Arc;

/// Verifies signatures with SHA-512, the only hash that goes with this curve in TLS.
#[derive(Debug)]
pub struct Verification;

impl SignatureVerificationAlgorithm for Verification {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        key.verify(message, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

/// Loads what ring loads, and keys of this curve.
#[derive(Debug)]
pub struct Keys(
    /// Ring's own.
    pub &'static dyn KeyProvider,
);

impl KeyProvider for Keys {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let secret = match &der {
            PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()).ok(),
            _ => None,
        };
        match secret.and_then(|secret| P521Key::new(&secret)) {
            Some(key) => Ok(Arc::new(key)),
            None => self.0.load_private_key(der),
        }
    }
}

#[derive(Clone)]
struct P521Key {
    key: Key,
    spki: SubjectPublicKeyInfoDer<'static>,
}

impl std::fmt::Debug for P521Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P521Key").finish_non_exhaustive()
    }
}

impl P521Key {
    fn new(secret: &SecretKey) -> Option<P521Key> {
        let point = secret.public_key().to_encoded_point(false);
        Some(P521Key {
            key: Key::from_slice(&secret.to_bytes()).ok()?,
            spki: public_key_to_spki(&alg_id::ECDSA_P521, point.as_bytes()),
        })
    }
}

impl SigningKey for P521Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let fits = offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512);
        fits.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.spki.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P521Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed: Result<Signature, _> = self.key.try_sign(message);
        let signature = signed.map_err(|_| Error::General("signing failed".into()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;
    use rustls::pki_types::pem::PemObject;

    /// The key is one that etcd made.
    #[test]
    fn signatures_are_made_and_verified() {
        let pem = include_bytes!("../tests/golden/etcd-auto-tls-key.pem");
        let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
        let secret = match &key {
            PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()).unwrap(),
            other => panic!("{other:?}"),
        };
        let point = secret.public_key().to_encoded_point(false);
        let key = provider::full().key_provider.load_private_key(key).unwrap();
        assert!(key.choose_scheme(&[SignatureScheme::ED25519]).is_none());
        let signer = key
            .choose_scheme(&[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP521_SHA512])
            .unwrap();
        let mut signature = signer.sign(b"hello").unwrap();
        let verify = |message: &[u8], signature: &[u8]| {
            Verification
                .verify_signature(point.as_bytes(), message, signature)
                .is_ok()
        };
        assert!(verify(b"hello", &signature));
        assert!(!verify(b"hellO", &signature));
        *signature.last_mut().unwrap() ^= 1;
        assert!(!verify(b"hello", &signature));
        assert!(!verify(b"hello", b"no signature"));
        assert!(Verification.verify_signature(b"no key", b"", &signature).is_err());
    }
}
