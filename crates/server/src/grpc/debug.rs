//! The headers that clients send, on the standard error and in the words of Go, where the environment asks for
//! it as with Go's HTTP/2 (`GODEBUG=http2debug=2`). Never tells what proves who asks.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;

use http::Request;

/// Settings of Go's runtime.
const VARIABLE: &str = "GODEBUG";

/// Headers whose values stay secret.
const SECRET: [&str; 2] = ["authorization", "token"];

static IS_ASKED: LazyLock<bool> = LazyLock::new(|| asks(&std::env::var(VARIABLE).unwrap_or_default()));

/// golang.org/x/net/http2/http2.go, init.
fn asks(settings: &str) -> bool {
    settings.contains("http2debug=2")
}

/// Tells the headers of a request, if that is asked for.
pub(super) fn tell<B>(request: &Request<B>) {
    if *IS_ASKED {
        // Nobody need read it.
        let _ = std::io::stderr().write_all(lines(request).as_bytes());
    }
}

/// golang.org/x/net/http2/frame.go, readMetaFrame.
fn lines<B>(request: &Request<B>) -> String {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":path", path),
        (":authority", uri.authority().map_or("", |name| name.as_str())),
    ];
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(
            text,
            "http2: decoded hpack field header field {name:?} = {value:?}"
        );
    };
    for (name, value) in pseudo.iter().filter(|(_, value)| !value.is_empty()) {
        line(name, value);
    }
    for (name, value) in request.headers() {
        match SECRET.contains(&name.as_str()) {
            true => line(name.as_str(), "(not shown)"),
            false => line(name.as_str(), &String::from_utf8_lossy(value.as_bytes())),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_is_asked_in_the_same_way() {
        for (settings, expect) in [
            ("http2debug=2", true),
            ("gctrace=1,http2debug=2", true),
            ("http2debug=1", false),
            ("", false),
        ] {
            assert_eq!(asks(settings), expect, "{settings}");
        }
    }

    #[test]
    fn headers_are_told_as_go_tells_them() {
        let request = Request::post("http://localhost:20000/etcdserverpb.KV/Put")
            .header("te", "trailers")
            .header("token", "secret")
            .body(())
            .unwrap();
        let expect = "http2: decoded hpack field header field \":method\" = \"POST\"\n\
                      http2: decoded hpack field header field \":scheme\" = \"http\"\n\
                      http2: decoded hpack field header field \":path\" = \"/etcdserverpb.KV/Put\"\n\
                      http2: decoded hpack field header field \":authority\" = \"localhost:20000\"\n\
                      http2: decoded hpack field header field \"te\" = \"trailers\"\n\
                      http2: decoded hpack field header field \"token\" = \"(not shown)\"\n";
        assert_eq!(lines(&request), expect);
    }
}
