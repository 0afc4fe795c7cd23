//! The side that dials: its configuration, made anew when its files are other ones.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use crate::error::Error;
use crate::files::{self, Stamp};
use crate::info::Info;
use crate::provider;
use crate::server::check_pairs;
use crate::verify::Servers;

/// The side that dials (transport/listener.go `ClientConfig`).
#[derive(Debug)]
pub struct ClientSide {
    info: Info,
    alpn: Vec<Vec<u8>>,
    provider: Arc<CryptoProvider>,
    servers: Arc<Servers>,
    current: Mutex<(Option<[Stamp; 2]>, Arc<ClientConfig>)>,
}

impl ClientSide {
    /// Reads all files. Without certificate and key it shows none.
    pub fn new(info: &Info, alpn: &[&str]) -> Result<ClientSide, Error> {
        if !info.is_empty() {
            check_pairs(info)?;
        }
        let provider = provider::allowed(info)?;
        let servers = if info.insecure_skip_verify || info.self_cert {
            Servers::anybody()
        } else {
            let name = match info.server_name.as_str() {
                "" => None,
                name => Some(
                    ServerName::try_from(name.to_string())
                        .map_err(|_| Error::Settings(format!("{name:?} is not the name of a server")))?,
                ),
            };
            Servers::new(&info.trusted_ca_file, name, &provider)?
        };
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stamps = stamps(info)?;
        let config = make(info, &alpn, &provider, &servers)?;
        Ok(ClientSide {
            info: info.clone(),
            alpn,
            provider,
            servers,
            current: Mutex::new((stamps, config)),
        })
    }

    /// The configuration by the files as they are now.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let stamps = stamps(&self.info)?;
        {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.0 == stamps {
                return Ok(current.1.clone());
            }
        }
        let config = make(&self.info, &self.alpn, &self.provider, &self.servers)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (stamps, config.clone());
        Ok(config)
    }
}

fn stamps(info: &Info) -> Result<Option<[Stamp; 2]>, Error> {
    let (cert, key) = info.client_files();
    if cert.is_empty() {
        return Ok(None);
    }
    Ok(Some([Stamp::of(Path::new(cert))?, Stamp::of(Path::new(key))?]))
}

fn make(
    info: &Info,
    alpn: &[Vec<u8>],
    provider: &Arc<CryptoProvider>,
    servers: &Arc<Servers>,
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&info.versions())
        .map_err(|error| Error::Settings(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(servers.clone());
    let (cert, key) = info.client_files();
    let mut config = if cert.is_empty() {
        builder.with_no_client_auth()
    } else {
        let certified = files::certified_key(cert, key, provider)?;
        builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
    };
    config.alpn_protocols = alpn.to_vec();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
