//! Whether two lists of URLs lead to the same places: by their texts, else by the addresses of their names.
//! Looks names up through a function, so that it can be tried without a network.
//!
//! etcd: pkg/netutil, URLStringsEqual.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use api::url::{self, Scheme, Url};
use member::{Log, LogLine};

use crate::config::quote;

/// Pause between attempts to look a name up (etcd: netutil.go, retryInterval).
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a comparison of two clusters may look names up (etcd: membership/cluster.go,
/// ValidateClusterAndAssignIDs).
const LOOK_UP_MAX: Duration = Duration::from_secs(30);

/// Looks names up.
pub trait Resolver {
    /// The first address of a host.
    ///
    /// # Errors
    /// Why there is none.
    fn find(&self, host: &str) -> Result<IpAddr, String>;
    /// Waits before another attempt; `false` if there is to be none.
    fn wait(&self) -> bool;
}

/// The names of this machine, for a limited time.
pub struct System {
    until: Instant,
}

impl System {
    /// The time begins.
    pub fn new() -> System {
        System {
            until: Instant::now() + LOOK_UP_MAX,
        }
    }
}

impl Resolver for System {
    fn find(&self, host: &str) -> Result<IpAddr, String> {
        let unknown = |_| format!("lookup {host}: no such host");
        let mut found = (host, 0).to_socket_addrs().map_err(unknown)?;
        let first = found.next();
        first
            .map(|address| address.ip())
            .ok_or_else(|| format!("lookup {host}: no such host"))
    }

    fn wait(&self) -> bool {
        let goes_on = Instant::now() + RETRY_PAUSE < self.until;
        if goes_on {
            std::thread::sleep(RETRY_PAUSE);
        }
        goes_on
    }
}

/// A URL as it is compared: `host:port` in one spelling.
type Place = (Scheme, String);

/// Compares two lists.
///
/// # Errors
/// In what they differ, in etcd's words.
pub fn same_urls(
    one: &[String],
    other: &[String],
    resolver: &dyn Resolver,
    log: &dyn Log,
) -> Result<(), String> {
    if one.len() != other.len() {
        return Err(format!("len({}) != len({})", quoted(one), quoted(other)));
    }
    let (one, other) = (parse(one)?, parse(other)?);
    if places(&one) == places(&other) {
        return Ok(());
    }
    let (one, other) = (resolve(&one, resolver, log)?, resolve(&other, resolver, log)?);
    match one.iter().zip(&other).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => Err(format!(
            "resolved urls: {} != {}",
            quote(&text_of(a)),
            quote(&text_of(b))
        )),
    }
}

fn parse(texts: &[String]) -> Result<Vec<Url>, String> {
    let failed = |text: &str| format!("failed to parse string to URL: {}", quote(text));
    let urls = texts.iter().map(|text| {
        let urls = url::parse_all([text.as_str()]).map_err(|_| failed(text))?;
        urls.into_iter().next().ok_or_else(|| failed(text))
    });
    urls.collect()
}

fn places(urls: &[Url]) -> Vec<Place> {
    let mut places: Vec<Place> = urls
        .iter()
        .map(|url| {
            let address: Result<SocketAddr, _> = url.address().parse();
            let text = address.map_or_else(|_| url.address().to_owned(), |address| address.to_string());
            (url.scheme(), text)
        })
        .collect();
    places.sort();
    places
}

fn resolve(urls: &[Url], resolver: &dyn Resolver, log: &dyn Log) -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for url in urls {
        let resolved = resolve_one(url, resolver, log)
            .map_err(|error| format!("failed to resolve {} ({error})", quote(&url.to_string())))?;
        places.push((url.scheme(), resolved));
    }
    places.sort();
    Ok(places)
}

/// Sockets in the file system and this machine's own name are left as they are.
fn resolve_one(url: &Url, resolver: &dyn Resolver, log: &dyn Log) -> Result<String, String> {
    let is_file = matches!(url.scheme(), Scheme::Unix | Scheme::Unixs);
    let port = url.port().parse::<u16>();
    let port = match port {
        _ if is_file || url.host() == "localhost" => return Ok(url.address().to_owned()),
        Ok(port) => port,
        Err(_) => return Err(format!("lookup tcp/{}: unknown port", url.port())),
    };
    let line = |line: LogLine| {
        line.with("url", url.to_string())
            .with("host", url.address().to_owned())
    };
    loop {
        match url.host().parse().or_else(|_| resolver.find(url.host())) {
            Ok(ip) => {
                let address = SocketAddr::new(ip, port).to_string();
                log.log(line(LogLine::info("resolved URL Host")).with("resolved-addr", address.clone()));
                return Ok(address);
            }
            Err(error) => {
                let warn = |text: &'static str| {
                    let line = line(LogLine::warn(text)).with("retry-interval", RETRY_PAUSE);
                    log.log(line.with("error", error.clone()));
                };
                warn("failed to resolve URL Host");
                if !resolver.wait() {
                    warn("failed to resolve URL Host; returning");
                    return Err(error);
                }
            }
        }
    }
}

fn text_of((scheme, address): &Place) -> String {
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Unix => "unix",
        Scheme::Unixs => "unixs",
    };
    format!("{scheme}://{address}")
}

/// A list as Go's `%q` prints it.
fn quoted(list: &[String]) -> String {
    let all: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", all.join(" "))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;

    /// Knows a name from the attempt on that is given with it.
    pub(crate) struct Book {
        pub(crate) names: &'static [(&'static str, &'static str, u32)],
        pub(crate) waits: Cell<u32>,
    }

    impl Resolver for Book {
        fn find(&self, host: &str) -> Result<IpAddr, String> {
            let known = |(name, _, from): &&(&str, &str, u32)| *name == host && *from <= self.waits.get();
            let found = self.names.iter().find(known);
            found
                .map(|(_, address, _)| address.parse().unwrap())
                .ok_or_else(|| format!("lookup {host}: no such host"))
        }

        fn wait(&self) -> bool {
            self.waits.set(self.waits.get() + 1);
            self.waits.get() < 5
        }
    }

    struct Deaf;

    impl Log for Deaf {
        fn log(&self, _: LogLine) {}
    }

    /// Texts as etcd 3.7.1 has them.
    #[test]
    fn urls_are_the_same_if_they_lead_to_the_same_place() {
        let texts = |list: &str| -> Vec<String> { list.split_whitespace().map(str::to_owned).collect() };
        #[rustfmt::skip]
        let table = [
            ("http://a:1", "http://a:1", ""),
            ("http://nobody:1", "http://nobody:1", ""),
            ("http://a:1 http://b:2", "http://b:2 http://a:1", ""),
            ("http://a:1", "http://192.0.2.1:1", ""),
            ("http://a:1", "http://also-a:1", ""),
            ("http://late:1", "http://192.0.2.3:1", ""),
            ("http://[2001:db8:0::1]:1", "http://[2001:db8::1]:1", ""),
            ("unix://a:1", "unix://a:1", ""),
            ("http://a:1", "http://a:1 http://b:1", r#"len(["http://a:1"]) != len(["http://a:1" "http://b:1"])"#),
            ("http://a:1", "http://b:1", r#"resolved urls: "http://192.0.2.1:1" != "http://192.0.2.2:1""#),
            ("http://a:1", "https://a:1", r#"resolved urls: "http://192.0.2.1:1" != "https://192.0.2.1:1""#),
            ("http://a:1", "http://a:2", r#"resolved urls: "http://192.0.2.1:1" != "http://192.0.2.1:2""#),
            ("http://localhost:1", "http://127.0.0.1:1", r#"resolved urls: "http://localhost:1" != "http://127.0.0.1:1""#),
            ("http://a:1", "http://nobody:1", r#"failed to resolve "http://nobody:1" (lookup nobody: no such host)"#),
            ("http://a", "http://b:1", r#"failed to parse string to URL: "http://a""#),
        ];
        for (one, other, wanted) in table {
            let book = Book {
                names: &[
                    ("a", "192.0.2.1", 0),
                    ("also-a", "192.0.2.1", 0),
                    ("b", "192.0.2.2", 0),
                    ("late", "192.0.2.3", 3),
                ],
                waits: Cell::new(0),
            };
            let found = same_urls(&texts(one), &texts(other), &book, &Deaf);
            let text = found.err().unwrap_or_default();
            assert_eq!(text, wanted, "{one}, {other}");
        }
    }
}
