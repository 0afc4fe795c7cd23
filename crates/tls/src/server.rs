//! The side that listens: its configuration, made anew when its files are other ones.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;

use crate::error::Error;
use crate::files::{self, Stamp};
use crate::info::Info;
use crate::provider;
use crate::verify::Clients;

/// The side that listens. etcd reads certificate and key at every handshake; this looks at every
/// handshake whether they are other files than before. Authorities are read once, as in etcd.
#[derive(Debug)]
pub struct ServerSide {
    info: Info,
    alpn: Vec<Vec<u8>>,
    provider: Arc<CryptoProvider>,
    clients: Option<Arc<Clients>>,
    current: Mutex<([Stamp; 2], Arc<ServerConfig>)>,
}

impl ServerSide {
    /// Reads all files, so that what is wrong with them stops the start.
    pub fn new(info: &Info, alpn: &[&str]) -> Result<ServerSide, Error> {
        check_pairs(info)?;
        let provider = provider::allowed(info)?;
        if !info.client_cert_file.is_empty() {
            files::certified_key(&info.client_cert_file, &info.client_key_file, &provider)?;
        }
        let clients = match info.demands_certificates() {
            true => Some(Clients::new(&info.trusted_ca_file, &provider)?),
            false => None,
        };
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stamps = stamps(info)?;
        let config = make(info, &alpn, &provider, clients.as_ref())?;
        Ok(ServerSide {
            info: info.clone(),
            alpn,
            provider,
            clients,
            current: Mutex::new((stamps, config)),
        })
    }

    /// The settings.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The configuration by the files as they are now. An error is about the files; it lasts as
    /// long as they are wrong, and is no reason to stop.
    pub fn config(&self) -> Result<Arc<ServerConfig>, Error> {
        // The stamps are taken first: a file that changes while it is read is read again.
        let stamps = stamps(&self.info)?;
        {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.0 == stamps {
                return Ok(current.1.clone());
            }
        }
        let config = make(&self.info, &self.alpn, &self.provider, self.clients.as_ref())?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (stamps, config.clone());
        Ok(config)
    }
}

/// transport/listener.go baseConfig.
pub(crate) fn check_pairs(info: &Info) -> Result<(), Error> {
    if info.key_file.is_empty() || info.cert_file.is_empty() {
        return Err(Error::Half {
            key: info.key_file.clone(),
            cert: info.cert_file.clone(),
        });
    }
    if info.client_key_file.is_empty() != info.client_cert_file.is_empty() {
        return Err(Error::ClientHalf {
            key: info.client_key_file.clone(),
            cert: info.client_cert_file.clone(),
        });
    }
    Ok(())
}

fn stamps(info: &Info) -> Result<[Stamp; 2], Error> {
    Ok([
        Stamp::of(Path::new(&info.cert_file))?,
        Stamp::of(Path::new(&info.key_file))?,
    ])
}

fn make(
    info: &Info,
    alpn: &[Vec<u8>],
    provider: &Arc<CryptoProvider>,
    clients: Option<&Arc<Clients>>,
) -> Result<Arc<ServerConfig>, Error> {
    let certified = files::certified_key(&info.cert_file, &info.key_file, provider)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&info.versions())
        .map_err(|error| Error::Settings(error.to_string()))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.to_vec();
    // Clients of etcd keep no sessions, and a resumed one would pass by a certificate that has
    // been exchanged since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
