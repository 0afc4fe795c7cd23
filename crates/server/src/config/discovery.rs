//! The settings of a discovery service (server/etcdserver/api/v3discovery, DiscoveryConfig). Never asks it.

use std::time::Duration;

use super::{Config, ConfigError};

/// How a discovery service is reached.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // Each field is the flag of its name with `discovery-` before it: see the table.
pub struct Discovery {
    pub endpoints: Vec<String>,
    pub token: String,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    pub insecure_transport: bool,
    pub insecure_skip_tls_verify: bool,
    pub cert: String,
    pub key: String,
    pub cacert: String,
    pub user: String,
    pub password: String,
}

impl Discovery {
    /// Whether there is a service to ask.
    pub fn is_asked_for(&self) -> bool {
        !self.endpoints.is_empty()
    }
}

/// embed/config.go Validate: one source of members at most, and what belongs together.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let invalid = |text: &str| Err(ConfigError::Invalid(text.to_owned()));
    let discovery = &config.discovery;
    let sources = [
        !config.initial_cluster.is_empty(),
        !config.discovery_srv.is_empty(),
        discovery.is_asked_for(),
    ];
    if sources.iter().filter(|given| **given).count() > 1 {
        return invalid(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
        );
    }
    if discovery.token.is_empty() == discovery.is_asked_for() {
        return invalid("both --discovery-token and --discovery-endpoints must be set");
    }
    if discovery
        .endpoints
        .iter()
        .any(|endpoint| endpoint.trim().is_empty())
    {
        return invalid("--discovery-endpoints must not contain empty endpoints");
    }
    Ok(())
}
