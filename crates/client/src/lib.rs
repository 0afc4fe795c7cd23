//! A client of members over gRPC: one connection, unary calls and streams over h2; and the look-ups that find
//! members by DNS. Tries the endpoints in turn until a deadline; never retries a request whose outcome is not known.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dial;
mod dns;
mod error;
mod security;
pub mod srv;
mod stream;

use std::time::Duration;

use api::error::{AUTH_NOT_ENABLED, Code, Status};
use api::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Request};
use prost::Message as _;
use tokio::time::Instant;

pub use dial::{Io, Opened, open};
pub use dns::LookupError;
pub use error::Error;
pub use security::Security;
pub use stream::Stream;

use dial::Dial;
use stream::broken;

/// How a client reaches members.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`, `http(s)://host:port` or `unix(s)://path`.
    pub endpoints: Vec<String>,
    /// How long a connection to one endpoint may take.
    pub dial_timeout: Duration,
    /// Looks now and then whether the server is still there.
    pub keepalive: Keepalive,
    /// What TLS needs, where it is asked for or the endpoints ask for it.
    pub security: Security,
    /// Who asks; `None` for nobody in particular.
    pub identity: Option<Identity>,
    /// Longest answer in bytes.
    pub receive_bytes_max: usize,
}

/// The client's pings.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// Time between them; grpc-go makes it ten seconds at least, since servers turn away who pings more often, and so
    /// does this client. 0 is never.
    pub time: Duration,
    /// How long an answer may take before the connection is given up.
    pub timeout: Duration,
}

/// Who asks.
#[derive(Clone)]
pub enum Identity {
    /// Name and password, exchanged for a token on each connection.
    User(String, String),
    /// A token made elsewhere.
    Token(String),
}

impl std::fmt::Debug for Identity {
    /// Without what must stay secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Identity::User(name, _) => write!(f, "user {name:?}"),
            Identity::Token(_) => f.write_str("token"),
        }
    }
}

/// A connection to one endpoint. Must be used within the runtime that made it.
pub struct Client {
    sender: SendRequest<Bytes>,
    authority: String,
    /// Goes with each call.
    token: Option<HeaderValue>,
    receive_bytes_max: usize,
}

const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Client {
    /// Connects to the first endpoint that answers before `deadline`; without one each is tried once.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(config: &Config, deadline: Option<Instant>) -> Result<Client, Error> {
        let tls = config.security.for_endpoints(&config.endpoints, "h2")?;
        let mut last = String::new();
        loop {
            for endpoint in &config.endpoints {
                let attempt = dial::connect(endpoint, tls.as_deref(), config);
                let attempt = tokio::time::timeout(config.dial_timeout, attempt);
                match attempt.await {
                    Ok(Ok(client)) => return client.identify(config.identity.as_ref(), deadline).await,
                    Ok(Err(Dial::Never(text))) => return Err(Error::Unreachable(text)),
                    Ok(Err(Dial::NotNow(text))) => last = format!("{endpoint}: {text}"),
                    Err(_) => last = format!("{endpoint}: no connection within {:?}", config.dial_timeout),
                }
            }
            if deadline.is_none_or(|deadline| Instant::now() + RETRY_PAUSE >= deadline) {
                return Err(Error::TimedOut { last });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Says who asks. A server that asks nobody is no failure: client/v3/client.go getToken.
    async fn identify(
        mut self,
        identity: Option<&Identity>,
        deadline: Option<Instant>,
    ) -> Result<Client, Error> {
        let token = match identity {
            None => return Ok(self),
            Some(Identity::Token(token)) => token.clone(),
            Some(Identity::User(name, password)) => {
                let request = AuthenticateRequest {
                    name: name.clone(),
                    password: password.clone(),
                };
                let asked = self.unary("/etcdserverpb.Auth/Authenticate", &request);
                let answered = match deadline {
                    None => asked.await,
                    Some(at) => tokio::time::timeout_at(at, asked)
                        .await
                        .unwrap_or(Err(Status::new(
                            Code::DeadlineExceeded,
                            "context deadline exceeded",
                        ))),
                };
                match answered {
                    Err(status) if status.message == AUTH_NOT_ENABLED.message => return Ok(self),
                    Err(status) => return Err(Error::Identity(status)),
                    Ok(answer) => {
                        AuthenticateResponse::decode(answer)
                            .map_err(|error| Error::Unreachable(error.to_string()))?
                            .token
                    }
                }
            }
        };
        let mut token = HeaderValue::from_str(&token)
            .map_err(|_| Error::Settings("the token has characters that no header may have".to_owned()))?;
        token.set_sensitive(true);
        self.token = Some(token);
        Ok(self)
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// The server's status, or what became of the connection.
    pub async fn unary<M: prost::Message>(&self, method: &str, message: &M) -> Result<Bytes, Status> {
        let mut stream = self.stream(method, &[]).await?;
        stream.send(message).await?;
        stream.finish()?;
        let mut answer = stream.next().await?;
        while let Some(more) = stream.next().await? {
            answer = Some(more);
        }
        answer.ok_or_else(|| Status::new(Code::Internal, "the answer held no message"))
    }

    /// Opens a stream; nothing is sent yet but the head.
    ///
    /// # Errors
    /// What became of the connection.
    pub async fn stream(&self, method: &str, metadata: &[(&str, &str)]) -> Result<Stream, Status> {
        let mut request = Request::post(format!("http://{}{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("mainstay/", env!("CARGO_PKG_VERSION")));
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("token", token);
        }
        let request = request
            .body(())
            .map_err(|error| Status::with(Code::Internal, error.to_string()))?;
        let mut sender = self.sender.clone().ready().await.map_err(broken)?;
        let (response, send) = sender.send_request(request, false).map_err(broken)?;
        Ok(Stream::new(send, response, self.receive_bytes_max))
    }
}

/// The end of the range of all keys with a prefix; `\0` (no end) when there is no greater key.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    #[test]
    fn prefix_ends() {
        assert_eq!(super::prefix_end(b"a"), b"b");
        assert_eq!(super::prefix_end(b"a\xff"), b"b");
        assert_eq!(super::prefix_end(b"\xff\xff"), b"\0");
    }
}
