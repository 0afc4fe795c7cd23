//! The gRPC client of the command-line tool: one connection, unary calls and streams over h2.
//! Tries the endpoints in turn until the command's time is over; never retries a write whose
//! outcome is not known.

use std::time::Duration;

use api::error::{AUTH_NOT_ENABLED, Code, Status};
use api::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use prost::Message as _;
use tls::rustls::{self, pki_types::ServerName};
use tls::{ClientSide, words};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::security::{Security, is_socket, scheme};
use crate::{EXIT_BAD_CONNECTION, EXIT_ERROR, Failure};

/// How a client reaches a member.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `host:port`, `http(s)://host:port` or `unix(s)://path`.
    pub(crate) endpoints: Vec<String>,
    pub(crate) dial_timeout: Duration,
    /// What TLS needs, where it is asked for or the endpoints ask for it.
    pub(crate) security: Security,
    /// Who asks; `None` for nobody in particular.
    pub(crate) identity: Option<Identity>,
    /// Longest answer in bytes.
    pub(crate) receive_bytes_max: usize,
}

/// Who asks.
#[derive(Clone)]
pub(crate) enum Identity {
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

/// A connection to one endpoint.
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    authority: String,
    /// Goes with each call.
    token: Option<HeaderValue>,
    receive_bytes_max: usize,
}

const RETRY_PAUSE: Duration = Duration::from_millis(50);
const WINDOW_BYTES: u32 = 4 << 20;

impl Client {
    /// Connects to the first endpoint that answers before `deadline`.
    pub(crate) async fn connect(config: &Config, deadline: Option<Instant>) -> Result<Client, Failure> {
        let tls = config.security.for_endpoints(&config.endpoints, "h2")?;
        let mut last = String::new();
        loop {
            for endpoint in &config.endpoints {
                let attempt = connect_one(endpoint, tls.as_deref(), config);
                let attempt = tokio::time::timeout(config.dial_timeout, attempt);
                match attempt.await {
                    Ok(Ok(client)) => return client.identify(config.identity.as_ref(), deadline).await,
                    Ok(Err(Dial::Never(text))) => return Err(Failure::new(EXIT_BAD_CONNECTION, text)),
                    Ok(Err(Dial::NotNow(text))) => last = format!("{endpoint}: {text}"),
                    Err(_) => last = format!("{endpoint}: no connection within {:?}", config.dial_timeout),
                }
            }
            if deadline.is_none_or(|deadline| Instant::now() + RETRY_PAUSE >= deadline) {
                eprintln!("{last}");
                return Err(Failure::new(EXIT_ERROR, "context deadline exceeded"));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Says who asks. A server that asks nobody is no failure: client/v3/client.go getToken.
    async fn identify(
        mut self,
        identity: Option<&Identity>,
        deadline: Option<Instant>,
    ) -> Result<Client, Failure> {
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
                    Err(status) => return Err(Failure::from(status).with_code(EXIT_BAD_CONNECTION)),
                    Ok(answer) => {
                        AuthenticateResponse::decode(answer)
                            .map_err(|error| Failure::new(EXIT_BAD_CONNECTION, error.to_string()))?
                            .token
                    }
                }
            }
        };
        let mut token = HeaderValue::from_str(&token)
            .map_err(|_| Failure::bad_args("the token has characters that no header may have"))?;
        token.set_sensitive(true);
        self.token = Some(token);
        Ok(self)
    }

    /// One request, one answer.
    pub(crate) async fn unary<M: prost::Message>(&self, method: &str, message: &M) -> Result<Bytes, Status> {
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
    pub(crate) async fn stream(&self, method: &str, metadata: &[(&str, &str)]) -> Result<Stream, Status> {
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
        Ok(Stream {
            send,
            answer: Answer::Waiting(response),
            buffer: BytesMut::new(),
            receive_bytes_max: self.receive_bytes_max,
        })
    }
}

enum Dial {
    Never(String),
    NotNow(String),
}

/// A connection that is ready to be spoken on.
pub(crate) struct Opened {
    pub(crate) io: Box<dyn Io>,
    /// What requests name as their host.
    pub(crate) authority: String,
}

/// What carries bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// Opens a connection to the first endpoint, for HTTP/1.
pub(crate) async fn open(config: &Config) -> Result<Opened, Failure> {
    let tls = config.security.for_endpoints(&config.endpoints, "http/1.1")?;
    let endpoint = config.endpoints.first().map_or("", String::as_str);
    open_one(endpoint, tls.as_deref())
        .await
        .map_err(|error| match error {
            Dial::Never(text) => Failure::new(EXIT_BAD_CONNECTION, text),
            Dial::NotNow(text) => Failure::new(EXIT_ERROR, text),
        })
}

async fn connect_one(endpoint: &str, tls: Option<&ClientSide>, config: &Config) -> Result<Client, Dial> {
    let opened = open_one(endpoint, tls).await?;
    handshake(opened, config).await
}

/// Connects to one endpoint: `host:port`, `http(s)://host:port`, `unix(s)://path`.
async fn open_one(endpoint: &str, tls: Option<&ClientSide>) -> Result<Opened, Dial> {
    let not_now = |error: &dyn std::fmt::Display| Dial::NotNow(error.to_string());
    let (_, rest) = scheme(endpoint);
    if is_socket(endpoint) {
        let stream = UnixStream::connect(rest).await.map_err(|error| not_now(&error))?;
        // The name of the file stands for the server's: client/v3/internal/endpoint.
        let file = rest.rsplit('/').next().unwrap_or_default();
        let name = file.split(':').next().unwrap_or_default();
        return secure(stream, name, "localhost", tls).await;
    }
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() {
        return Err(Dial::Never("etcdclient: no available endpoints".to_string()));
    }
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| not_now(&error))?;
    stream.set_nodelay(true).map_err(|error| not_now(&error))?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    secure(stream, host, authority, tls).await
}

async fn secure<S>(stream: S, server: &str, authority: &str, tls: Option<&ClientSide>) -> Result<Opened, Dial>
where
    S: Io + 'static,
{
    let authority = authority.to_string();
    let Some(tls) = tls else {
        return Ok(Opened {
            io: Box::new(stream),
            authority,
        });
    };
    let failed = |why: &dyn std::fmt::Display| {
        Dial::NotNow(format!(
            "connection error: desc = \"transport: authentication handshake failed: {why}\""
        ))
    };
    let name = ServerName::try_from(server.to_string()).map_err(|error| failed(&error))?;
    let connector = TlsConnector::from(tls.config().map_err(|error| failed(&error))?);
    let stream = connector.connect(name, stream).await.map_err(|error| {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.map_or_else(|| failed(&error), |error| failed(&words::of(error)))
    })?;
    Ok(Opened {
        io: Box::new(stream),
        authority,
    })
}

async fn handshake(opened: Opened, config: &Config) -> Result<Client, Dial> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(opened.io)
        .await
        .map_err(|error| Dial::NotNow(error.to_string()))?;
    tokio::spawn(connection);
    Ok(Client {
        sender,
        authority: opened.authority,
        token: None,
        receive_bytes_max: config.receive_bytes_max,
    })
}

enum Answer {
    Waiting(h2::client::ResponseFuture),
    Body(RecvStream),
    Ended,
}

/// A call in progress: messages out, messages in.
pub(crate) struct Stream {
    send: SendStream<Bytes>,
    answer: Answer,
    buffer: BytesMut,
    receive_bytes_max: usize,
}

impl Stream {
    /// Sends one message.
    pub(crate) async fn send<M: prost::Message>(&mut self, message: &M) -> Result<(), Status> {
        let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
        frame.put_u8(0);
        let length = u32::try_from(message.encoded_len()).map_err(|_| {
            Status::new(
                Code::ResourceExhausted,
                "the request is longer than gRPC can carry",
            )
        })?;
        frame.put_u32(length);
        message
            .encode(&mut frame)
            .map_err(|error| Status::with(Code::Internal, error.to_string()))?;
        self.send.send_data(frame.freeze(), false).map_err(broken)
    }

    /// Says that no more messages come.
    pub(crate) fn finish(&mut self) -> Result<(), Status> {
        self.send.send_data(Bytes::new(), true).map_err(broken)
    }

    /// The next message; `None` at a good end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match &mut self.answer {
                Answer::Ended => return Ok(None),
                Answer::Waiting(response) => {
                    let (head, body) = response.await.map_err(broken)?.into_parts();
                    if let Some(status) = status_of(&head.headers) {
                        self.answer = Answer::Ended;
                        status?;
                        continue;
                    }
                    if head.status != 200 {
                        return Err(Status::with(
                            Code::Unknown,
                            format!(
                                "unexpected HTTP status code received from server: {}",
                                head.status
                            ),
                        ));
                    }
                    self.answer = Answer::Body(body);
                }
                Answer::Body(body) => match body.data().await {
                    Some(chunk) => {
                        let chunk = chunk.map_err(broken)?;
                        body.flow_control()
                            .release_capacity(chunk.len())
                            .map_err(broken)?;
                        self.buffer.extend_from_slice(&chunk);
                    }
                    None => {
                        let trailers = body.trailers().await.map_err(broken)?.unwrap_or_default();
                        self.answer = Answer::Ended;
                        status_of(&trailers).unwrap_or_else(|| {
                            Err(Status::new(
                                Code::Internal,
                                "server closed the stream without sending trailers",
                            ))
                        })?;
                    }
                },
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(head) = self.buffer.get(..5) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 {
            return Err(Status::new(
                Code::Unimplemented,
                "the server compressed a message that was not to be",
            ));
        }
        if length > self.receive_bytes_max {
            let max = self.receive_bytes_max;
            return Err(Status::with(
                Code::ResourceExhausted,
                format!("grpc: received message larger than max ({length} vs. {max})"),
            ));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

fn broken(error: h2::Error) -> Status {
    Status::with(Code::Unavailable, format!("error reading from server: {error}"))
}

/// The outcome that headers or trailers carry, if they carry one.
fn status_of(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(2);
    let code = Code::from_number(code);
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let message = headers
        .get("grpc-message")
        .map(|value| percent_decode(value.as_bytes()))
        .unwrap_or_default();
    Some(Err(
        api::error::from_message(&message).unwrap_or(Status::with(code, message))
    ))
}

fn percent_decode(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl From<Status> for Failure {
    /// Prints a text of the table alone, and any other status as gRPC's clients do.
    fn from(status: Status) -> Failure {
        if api::error::from_message(&status.message).is_some() {
            Failure::new(EXIT_ERROR, status.message.into_owned())
        } else {
            Failure::new(EXIT_ERROR, status.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoded_messages() {
        assert_eq!(percent_decode(b"a%20b%zz%4"), "a b%zz%4");
        assert_eq!(percent_decode("gr%C3%BC%C3%9Fe".as_bytes()), "grüße");
    }
}
