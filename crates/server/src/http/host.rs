//! The Host header of a request over HTTP/1.1, held to Go's rules before anything is served
//! (net/http/server.go readRequest, golang.org/x/net/http/httpguts ValidHostHeader).

use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::body::Body;

/// The refusal of a request whose Host header is not as it must be; `None` if it may be served.
pub fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    let reason = transport::host_refusal(request)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HOST;
    use http::{Method, Version};

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
