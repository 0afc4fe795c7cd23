//! The Host header of a request over HTTP/1.1, held to Go's rules before anything is served
//! (net/http/server.go readRequest, golang.org/x/net/http/httpguts ValidHostHeader).

use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::body::Body;

/// The refusal of a request whose Host header is not as it must be; `None` if it may be served.
pub fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let reason = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => "",
        (Some(host), None) if host.as_bytes().iter().all(|byte| is_of_host(*byte)) => return None,
        (Some(_), None) => ": malformed Host header",
        // HTTP/1.0 knows none, and what CONNECT asks for is its own host.
        (None, _) if request.version() < Version::HTTP_11 || request.method() == Method::CONNECT => {
            return None;
        }
        (None, _) => ": missing required Host header",
    };
    let mut response = Response::new(Body::full(format!("400 Bad Request{reason}")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(phrase) = ReasonPhrase::try_from(format!("Bad Request{reason}")) {
        response.extensions_mut().insert(phrase);
    }
    Some(response)
}

/// What may stand in a host: RFC 3986's characters of names, addresses and ports.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, method: Method, hosts: &[&str], expect: Option<&str>) {
        let mut request = Request::builder().version(version).method(method);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let told = refusal(&request.body(()).unwrap());
        let told = told.map(|response| {
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
            String::from_utf8_lossy(phrase.as_bytes()).into_owned()
        });
        assert_eq!(told.as_deref(), expect, "{version:?} {hosts:?}");
    }

    /// Taken from runs of etcd 3.7.1.
    #[test]
    fn a_request_names_one_host() {
        let get = |version, hosts, expect| check(version, Method::GET, hosts, expect);
        get(Version::HTTP_11, &["a:1"], None);
        get(Version::HTTP_11, &[""], None);
        get(Version::HTTP_10, &[], None);
        get(
            Version::HTTP_11,
            &[],
            Some("Bad Request: missing required Host header"),
        );
        get(Version::HTTP_11, &["a", "b"], Some("Bad Request"));
        get(
            Version::HTTP_10,
            &["a/b"],
            Some("Bad Request: malformed Host header"),
        );
        check(Version::HTTP_11, Method::CONNECT, &[], None);
    }
}
