//! The Host header of a request over HTTP/1.1, held to Go's rules before anything is served
//! (net/http/server.go readRequest, golang.org/x/net/http/httpguts ValidHostHeader). Pure.

use http::header::HOST;
use http::{Method, Request, Version};

/// What Go adds to "400 Bad Request" where it refuses a request for its Host header; `None` if it may be
/// served.
pub fn host_refusal<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some(""),
        (Some(host), None) if host.as_bytes().iter().all(|byte| is_of_host(*byte)) => None,
        (Some(_), None) => Some(": malformed Host header"),
        // HTTP/1.0 knows none, and what CONNECT asks for is its own host.
        (None, _) if request.version() < Version::HTTP_11 || request.method() == Method::CONNECT => None,
        (None, _) => Some(": missing required Host header"),
    }
}

/// What may stand in a host: RFC 3986's characters of names, addresses and ports.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}
