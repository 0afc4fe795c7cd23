//! `/version` and `/metrics`.

use std::io::Write;

use api::version::{Line, Version};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use member::Shared;

use super::body::{Body, Inbound};
use super::json as json_response;
use crate::front::Front;

/// `/version`.
pub fn version(front: &Front) -> Response<Body> {
    json_response(StatusCode::OK, version_text(&front.common.shared))
}

/// The versions of the member, the cluster and the data file.
pub fn version_text(shared: &Shared) -> String {
    let facts = shared.facts();
    let line = shared.line;
    let text = |version: Option<Version>, none: &str| {
        version.map_or(none.to_string(), |version| version.to_string())
    };
    let server = line.release();
    let cluster = text(facts.cluster_version, "not_decided");
    let storage = text(facts.storage_version, "unknown");
    // In this order, as etcd's.
    match line {
        Line::V3_5 => format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}"}}"#),
        Line::V3_6 | Line::V3_7 => {
            format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#)
        }
    }
}

/// `/metrics`, whatever the method, as Go's handler for it.
pub fn metrics(front: &Front, request: &Request<Inbound>) -> Response<Body> {
    let common = &front.common;
    let page = common.metrics.making_page(|| crate::metrics::page(common));
    let accepted = request
        .headers()
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    let zipped = match accepted.is_some_and(accepts_gzip) {
        true => gzip(page.as_bytes()).ok(),
        false => None,
    };
    let is_zipped = zipped.is_some();
    let mut response = Response::new(Body::full(zipped.unwrap_or(page.into_bytes())));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
    );
    if is_zipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether a client takes gzip: named, and not with a weight of zero.
fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_gzip = matches!(parts.next(), Some("gzip" | "*"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .is_some_and(|weight| weight.parse::<f32>() == Ok(0.0))
        });
        is_gzip && !refused
    })
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (accepted, expect) in [
            ("gzip", true),
            ("identity, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(accepted), expect, "{accepted}");
        }
        let mut text = String::new();
        let zipped = gzip(b"some text").unwrap();
        flate2::read::GzDecoder::new(&zipped[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "some text");
    }
}
