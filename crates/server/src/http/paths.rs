//! Paths as Go's http.ServeMux sees them: decoded, and sent back clean where they are not. Knows no handler
//! but the gateway's folder.

use api::version::Line;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::body::{Body, Inbound};

/// Where a client should have asked, if not where it did. `gateway` says whether there is one.
pub fn redirect(request: &Request<Inbound>, gateway: bool, line: Line) -> Option<Response<Body>> {
    let path = request.uri().path();
    let cleaned = clean(path);
    let place = match gateway && cleaned == "/v3" {
        true => "/v3/".to_string(),
        false => cleaned,
    };
    if place == path || request.method() == Method::CONNECT {
        return None;
    }
    let place = match request.uri().query() {
        Some(query) => format!("{place}?{query}"),
        None => place,
    };
    // Go 1.26, which builds 3.7, asks for the same method again; those before said that it is so for ever.
    let (status, reason) = match line {
        Line::V3_7 => (StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect"),
        Line::V3_5 | Line::V3_6 => (StatusCode::MOVED_PERMANENTLY, "Moved Permanently"),
    };
    let mut response = Response::new(Body::empty());
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let html = place
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&#34;");
        response = Response::new(Body::full(format!("<a href=\"{html}\">{reason}</a>.\n\n")));
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_str(&place).ok()?);
    Some(response)
}

/// Without empty parts and dots; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut out = format!("/{}", parts.join("/"));
    if path.ends_with('/') && out != "/" {
        out.push('/');
    }
    out
}

/// The request with its path decoded, where that is a path again.
pub fn decode(request: &mut Request<Inbound>) {
    if !request.uri().path().contains('%') {
        return;
    }
    let Some(path) = decoded(request.uri().path()) else {
        return;
    };
    let whole = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = match whole.parse() {
        Ok(whole) => Some(whole),
        Err(_) => return,
    };
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn decoded(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        // A question mark or a hash would be the end of the path.
        match u8::try_from(high << 4 | low).ok()? {
            b'?' | b'#' => return None,
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, cleaned) in [
            ("/", "/"),
            ("//", "/"),
            ("/v3//kv/range", "/v3/kv/range"),
            ("/v3/x/../kv/./range/", "/v3/kv/range/"),
            ("/../a", "/a"),
            ("/v3", "/v3"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn clients_are_sent_to_the_clean_path() {
        let ask = |verb: Method, path: &str, line| {
            let request = Request::builder()
                .method(verb)
                .uri(path)
                .body(Inbound::Empty)
                .unwrap();
            let response = redirect(&request, true, line)?;
            let place = response.headers()[LOCATION].to_str().unwrap().to_string();
            Some((response.status().as_u16(), place))
        };
        let post = |path| ask(Method::POST, path, Line::V3_7);
        assert_eq!(post("/v3/kv/range"), None);
        assert_eq!(post("/v3//kv/range?a=b"), Some((307, "/v3/kv/range?a=b".into())));
        assert_eq!(post("/v3"), Some((307, "/v3/".into())));
        assert_eq!(
            ask(Method::GET, "//health", Line::V3_6),
            Some((301, "/health".into()))
        );
    }

    #[test]
    fn paths_are_decoded() {
        let decode = |path: &str| {
            let mut request = Request::builder().uri(path).body(Inbound::Empty).unwrap();
            super::decode(&mut request);
            request.uri().to_string()
        };
        assert_eq!(decode("/v3/kv%2Fr%61nge?x=%61"), "/v3/kv/range?x=%61");
        assert_eq!(decode("/a%3fb"), "/a%3fb");
        assert_eq!(decode("/a%zz"), "/a%zz");
    }
}
