//! Certificates, keys and authorities in PEM files, read as Go's `tls.X509KeyPair` and etcd's
//! `NewCertPool` read them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as RustlsError, InconsistentKeys};

use crate::error::Error;
use crate::plain_chain;

/// Largest PEM file that is read: bundles of all authorities of the world have a quarter of this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What tells that a file is another one than before, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(path: &Path) -> Result<Stamp, Error> {
        let meta = fs::metadata(path).map_err(|error| Error::file(path, &error))?;
        Ok(Stamp {
            inode: meta.ino(),
            bytes: meta.len(),
            modified_ns: (meta.mtime(), meta.mtime_nsec()),
            changed_ns: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::file(path, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let error = std::io::Error::other(format!("the file is larger than {FILE_BYTES_MAX} bytes"));
        return Err(Error::file(path, &error));
    }
    Ok(bytes)
}

/// The certificate with its chain, and the key.
pub(crate) fn certified_key(
    cert_file: &str,
    key_file: &str,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Error> {
    let (cert_pem, key_pem) = (read(Path::new(cert_file))?, read(Path::new(key_file))?);
    let chain = chain(&cert_pem)?;
    let key = key(&key_pem)?;
    let content = |text: &str| Error::Content(text.to_string());
    if let Some(public_key) = chain.first().and_then(plain_chain::public_key) {
        let loaded = provider.key_provider.load_private_key(key);
        let key = loaded.map_err(|_| content("tls: failed to parse private key"))?;
        if key.public_key() != Some(public_key) {
            return Err(content("tls: private key does not match public key"));
        }
        return Ok(Arc::new(CertifiedKey::new(chain, key)));
    }
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(content("tls: private key does not match public key"))
        }
        Err(RustlsError::InvalidCertificate(error)) => {
            Err(Error::Content(format!("x509: malformed certificate: {error:?}")))
        }
        Err(_) => Err(content("tls: failed to parse private key")),
    }
}

/// Kinds of the sections of a PEM text, in order.
fn kinds(pem: &[u8]) -> Vec<SectionKind> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .filter_map(|section| section.ok().map(|(kind, _)| kind))
        .collect()
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .collect();
    if !chain.is_empty() {
        return Ok(chain);
    }
    let kinds = kinds(pem);
    let text = if kinds.iter().any(is_key) {
        "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
    } else {
        "tls: failed to find any PEM data in certificate input"
    };
    Err(Error::Content(text.into()))
}

fn is_key(kind: &SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
    )
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    if let Ok(key) = PrivateKeyDer::from_pem_slice(pem) {
        return Ok(key);
    }
    let text = if kinds(pem).contains(&SectionKind::Certificate) {
        "tls: found a certificate rather than a key in the PEM for the private key"
    } else {
        "tls: failed to find any PEM data in key input"
    };
    Err(Error::Content(text.into()))
}

/// All certificates of a file; an empty list if there is none, as in etcd. Go takes every section
/// for a certificate, so that a key in the place of the authorities stops the start.
pub(crate) fn authorities(file: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(Path::new(file))?;
    if kinds(&pem).iter().any(|kind| *kind != SectionKind::Certificate) {
        return Err(Error::Content("x509: malformed tbs certificate".into()));
    }
    Ok(CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .collect())
}
