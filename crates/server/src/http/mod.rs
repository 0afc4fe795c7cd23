//! HTTP that is not gRPC: the gateway, health, version, metrics. One task a connection of HTTP/1.1, one a request of HTTP/2.

mod body;
mod frames;
mod gateway;
mod h2;
mod health;
mod host;
mod info;
mod io;
mod paths;
mod routes;
mod transcode;
mod vars;
mod websocket;

use std::convert::Infallible;
use std::rc::Rc;

use http::header::{ALLOW, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use transport::HyperIo;

use crate::front::Front;
use body::{Body, Inbound};
pub use h2::exchange;
pub use info::version_text;

/// Bytes of the head of a request over HTTP/1.1: net/http/server.go DefaultMaxHeaderBytes, and a little
/// that it adds.
const HEAD_BYTES_MAX: usize = (1 << 20) + (4 << 10);
/// Headers of such a request. Go counts bytes alone.
const HEADERS_MAX: usize = 1000;

/// What a listener offers over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All there is for clients.
    Client {
        /// On an encrypted connection, whose host a certificate vouches for.
        tls: bool,
    },
    /// Metrics and health alone: `--listen-metrics-urls`.
    Metrics,
}

/// Serves one connection to its end.
pub async fn serve<S>(front: Rc<Front>, socket: S, offer: Offer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = {
        let front = front.clone();
        service_fn(move |request: Request<Incoming>| {
            let front = front.clone();
            async move {
                Ok::<_, Infallible>(match host::refusal(&request) {
                    Some(refusal) => refusal,
                    None => respond(front, request.map(Inbound::Http1), offer).await,
                })
            }
        })
    };
    let connection = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // Go writes them so, and who reads an answer with `grep` may have relied on it.
        .title_case_headers(true)
        .serve_connection(HyperIo::new(socket, None), handler);
    let connection = connection.with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // Errors end the connection: the client has gone, or does not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = front.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn respond(front: Rc<Front>, request: Request<Inbound>, offer: Offer) -> Response<Body> {
    match offer {
        Offer::Client { tls } => guarded(front, request, tls).await,
        Offer::Metrics => endpoint(&front, &request).await.unwrap_or_else(not_found),
    }
}

/// embed/serve.go accessController: first the host, then the origin.
async fn guarded(front: Rc<Front>, request: Request<Inbound>, tls: bool) -> Response<Body> {
    let config = &front.common.config;
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    // HTTP/2 names the host beside the path.
    let host = request.uri().authority().map(|authority| authority.as_str());
    let host = host.or_else(|| header(HOST)).map(host_name).unwrap_or_default();
    let any = |list: &[String]| list.iter().any(|item| item == "*");
    let known = |list: &[String], text: &str| list.iter().any(|item| item == text);
    if !tls && !any(&config.host_whitelist) && !known(&config.host_whitelist, host) {
        front
            .common
            .log
            .warn("rejecting HTTP request to prevent DNS rebinding attacks")
            .text("host", host)
            .emit();
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "The Host header of the request is not one that this server knows (CVE-2018-5702). Add it: --host-whitelist {host:?}"
            ),
        );
    }
    let origin = header(ORIGIN).unwrap_or_default().to_string();
    // Without any origin given, all are allowed: pkg AccessController.OriginAllowed.
    let allowed = match (
        any(&config.cors) || config.cors.iter().all(String::is_empty),
        &*origin,
    ) {
        (true, _) => Some("*"),
        (false, origin) if known(&config.cors, origin) => Some(origin),
        (false, _) => None,
    };
    let allowed = allowed.and_then(|origin| HeaderValue::from_str(origin).ok());
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::empty())
    } else {
        route(front, request).await
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        let fixed = HeaderValue::from_static;
        headers.insert(
            "access-control-allow-methods",
            fixed("POST, GET, OPTIONS, PUT, DELETE"),
        );
        headers.insert("access-control-allow-origin", origin);
        headers.insert(
            "access-control-allow-headers",
            fixed("accept, content-type, authorization"),
        );
    }
    response
}

/// The host of a `Host` header, without port and brackets.
fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a path is the gateway's.
pub fn is_gateway(path: &str) -> bool {
    path.starts_with("/v3/") || path.starts_with("/v3beta/")
}

/// Whether a path is one that clients ask over HTTP.
pub fn is_known(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    let whole = matches!(path, "/metrics" | "/health" | "/version");
    whole || is_gateway(path) || matches!(first, "livez" | "readyz" | "debug")
}

async fn route(front: Rc<Front>, mut request: Request<Inbound>) -> Response<Body> {
    let config = &front.common.config;
    if let Some(elsewhere) = paths::redirect(&request, config.enable_grpc_gateway, config.emulated) {
        return elsewhere;
    }
    paths::decode(&mut request);
    let path = request.uri().path();
    let gateway = path
        .strip_prefix("/v3/")
        .or_else(|| path.strip_prefix("/v3beta/"));
    if let (Some(path), true) = (gateway, front.common.config.enable_grpc_gateway) {
        let path = path.to_string();
        if websocket::is_upgrade(&request) {
            return websocket::respond(front, path, request);
        }
        return gateway::respond(front, &path, request).await;
    }
    match path {
        "/version" => return only_get(&request, || info::version(&front)),
        "/debug/vars" => return only_get(&request, || vars::vars(&front)),
        _ => {}
    }
    endpoint(&front, &request).await.unwrap_or_else(not_found)
}

/// What both client and metrics listeners have.
async fn endpoint(front: &Rc<Front>, request: &Request<Inbound>) -> Result<Response<Body>, ()> {
    match request.uri().path() {
        "/metrics" => Ok(info::metrics(front, request)),
        "/health" => Ok(health::health(front, request).await),
        path if path.starts_with("/livez") || path.starts_with("/readyz") => {
            health::checks(front, request).await.ok_or(())
        }
        _ => Err(()),
    }
}

fn not_found((): ()) -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}

/// A text with Go's `http.Error` headers.
fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("{}\n", text.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn json(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn only_get(request: &Request<Inbound>, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    if request.method() == Method::GET {
        return answer();
    }
    method_not_allowed()
}

fn method_not_allowed() -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The values of a parameter of the query, undecoded: names of alarms and checks need no escapes.
fn query<'a>(request: &'a Request<Inbound>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_and_brackets() {
        for (host, name) in [
            ("localhost:2379", "localhost"),
            ("a.b", "a.b"),
            ("[::1]:2379", "::1"),
            ("[::1]", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), name);
        }
    }
}
