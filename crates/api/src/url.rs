//! URLs of listeners and of members, by etcd's rules (client/pkg/types/urls.go).

use core::net::IpAddr;
use std::fmt;

/// How a URL is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP without TLS.
    Http,
    /// TCP with TLS.
    Https,
    /// A socket in the file system without TLS.
    Unix,
    /// A socket in the file system with TLS.
    Unixs,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }

    /// Whether TLS is asked for.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }
}

/// A URL without path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host_len: usize,
}

impl Url {
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port`, or the path of a socket.
    pub fn address(&self) -> &str {
        let rest = &self.text[self.scheme.name().len() + 1..];
        rest.strip_prefix("//").unwrap_or(rest)
    }

    /// The host without port and brackets.
    pub fn host(&self) -> &str {
        let host = &self.address()[..self.host_len];
        host.strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port's text.
    pub fn port(&self) -> &str {
        self.address().get(self.host_len + 1..).unwrap_or_default()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads URLs separated by commas; the result is sorted and has each once. Errors are Go's texts.
pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = parse_all(text.split(','))?;
    urls.dedup();
    Ok(urls)
}

/// Reads the URLs of one member, of which there must be one at least; the result is sorted
/// (client/pkg/types/urls.go NewURLs). Errors are Go's texts.
pub fn parse_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Url>, String> {
    let mut urls = texts
        .into_iter()
        .map(parse)
        .collect::<Result<Vec<Url>, String>>()?;
    if urls.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    urls.sort_by(|a, b| a.text.cmp(&b.text));
    Ok(urls)
}

fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let unknown_scheme = || format!("URL scheme must be http, https, unix, or unixs: {text}");
    let (scheme, rest) = text.split_once(':').ok_or_else(unknown_scheme)?;
    // Go's net/url takes what cannot be a scheme for the first segment of a path.
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let can_be_scheme =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(in_scheme);
    if !can_be_scheme && !scheme.contains('/') {
        let reason = match scheme {
            "" => "missing protocol scheme",
            _ => "first path segment in URL cannot contain colon",
        };
        return Err(format!("parse {text:?}: {reason}"));
    }
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "unix" => Scheme::Unix,
        "unixs" => Scheme::Unixs,
        _ => return Err(unknown_scheme()),
    };
    let host_len = match scheme {
        Scheme::Unix | Scheme::Unixs => 0,
        Scheme::Http | Scheme::Https => {
            let no_port = || format!("URL address does not have the form \"host:port\": {text}");
            let rest = rest.strip_prefix("//").ok_or_else(no_port)?;
            let (address, path) = rest
                .find(['/', '?', '#'])
                .map_or((rest, ""), |at| rest.split_at(at));
            let host_len = split_host_port(address).ok_or_else(no_port)?;
            if !path.is_empty() {
                return Err(format!("URL must not contain a path: {text}"));
            }
            host_len
        }
    };
    let text = format!("{}:{rest}", scheme.name());
    Ok(Url {
        text,
        scheme,
        host_len,
    })
}

/// How long the host is in `host:port`; `None` if there is no port or the host is not one.
fn split_host_port(address: &str) -> Option<usize> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let bad_host = host.contains(['[', ']', ':']) && !bracketed;
    let bad_port = !port.bytes().all(|b| b.is_ascii_digit());
    (!bad_host && !bad_port).then_some(host.len())
}

/// Refuses to bind to a domain name: embed/config.go checkBindURLs.
pub fn check_bind(urls: &[Url]) -> Result<(), String> {
    for url in urls {
        let is_socket = matches!(url.scheme, Scheme::Unix | Scheme::Unixs);
        if is_socket || url.host() == "localhost" || url.host().parse::<IpAddr>().is_ok() {
            continue;
        }
        return Err(format!("expected IP in URL for binding ({url})"));
    }
    Ok(())
}

/// Refuses an advertised URL without host: embed/config.go checkHostURLs.
pub fn check_host(urls: &[Url]) -> Result<(), String> {
    for url in urls {
        if matches!(url.scheme, Scheme::Http | Scheme::Https) && url.host().is_empty() {
            return Err(format!("unexpected empty host ({url})"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_unique() {
        let urls = parse_list(" http://b:1,http://a:2,http://b:1,unix://x.sock:0 ").unwrap();
        let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
        assert_eq!(texts, ["http://a:2", "http://b:1", "unix://x.sock:0"]);
        assert_eq!((urls[0].host(), urls[0].port()), ("a", "2"));
        assert_eq!(urls[2].address(), "x.sock:0");
        let v6 = parse_list("http://[::1]:2379").unwrap();
        assert_eq!((v6[0].host(), v6[0].port()), ("::1", "2379"));
    }

    #[test]
    fn the_urls_of_a_member_are_sorted_and_may_repeat() {
        let texts = |list: &[&str]| {
            let urls = parse_all(list.iter().copied())?;
            Ok::<Vec<String>, String>(urls.iter().map(Url::to_string).collect())
        };
        assert_eq!(
            texts(&["http://b:1", "http://a:2", "http://b:1"]),
            Ok(vec![
                "http://a:2".to_owned(),
                "http://b:1".to_owned(),
                "http://b:1".to_owned()
            ])
        );
        assert_eq!(texts(&[]), Err("no valid URLs given".to_owned()));
    }

    #[test]
    fn errors_are_those_of_go() {
        for (text, error) in [
            ("zz", "URL scheme must be http, https, unix, or unixs: zz"),
            (
                "ftp://a:1",
                "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            ),
            (
                "http://a",
                "URL address does not have the form \"host:port\": http://a",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (":2379", "parse \":2379\": missing protocol scheme"),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
        ] {
            assert_eq!(parse_list(text), Err(error.to_string()));
        }
    }
}
