//! Who asks, in the headers of requests between members (rafthttp/util.go, http.go). Pure.

use api::version::{MIN_CLUSTER_VERSION, Version};
use http::HeaderMap;
use http::header::HeaderValue;
use member::LogLine;

pub(crate) const FROM: &str = "x-server-from";
pub(crate) const VERSION: &str = "x-server-version";
pub(crate) const MIN_VERSION: &str = "x-min-cluster-version";
pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
pub(crate) const PEER_URLS: &str = "x-peerurls";
pub(crate) const TO: &str = "x-raft-to";

/// Go's text for versions that do not go together.
pub(crate) const INCOMPATIBLE_VERSION: &str = "incompatible version";
/// Go's text for a member of another cluster.
pub(crate) const CLUSTER_MISMATCH: &str = "cluster ID mismatch";

/// Who this member is to others.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) version: Version,
    pub(crate) peer_urls: Vec<String>,
}

impl Identity {
    /// What each request of this member to another one has.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        put(headers, FROM, &format!("{:x}", self.id));
        put(headers, VERSION, &self.version.to_string());
        put(headers, MIN_VERSION, &MIN_CLUSTER_VERSION.to_string());
        put(headers, CLUSTER_ID, &format!("{:x}", self.cluster_id));
        put(headers, PEER_URLS, &self.peer_urls.join(","));
    }

    /// Whether a request comes from a member of this cluster with whom this one can speak. The error is
    /// the body of a 412.
    pub(crate) fn check(&self, headers: &HeaderMap, log: &dyn member::Log) -> Result<(), &'static str> {
        let name = get(headers, FROM).unwrap_or_default().to_owned();
        // 2.0 did not say it; what is no version is older still.
        let version = |header| match get(headers, header) {
            None | Some("") => Version::new(2, 0, 0),
            Some(text) => text.parse().unwrap_or(Version::new(0, 0, 0)),
        };
        let (remote, remote_min) = (version(VERSION), version(MIN_VERSION));
        let line = |text: &'static str| {
            LogLine::warn(text)
                .with("local-member-id", format!("{:x}", self.id))
                .with("local-member-cluster-id", format!("{:x}", self.cluster_id))
                .with("local-member-server-version", self.version.to_string())
                .with(
                    "local-member-server-minimum-cluster-version",
                    MIN_CLUSTER_VERSION.to_string(),
                )
                .with("remote-peer-server-name", name.clone())
                .with("remote-peer-server-version", remote.to_string())
                .with(
                    "remote-peer-server-minimum-cluster-version",
                    remote_min.to_string(),
                )
        };
        let low = match (remote, remote_min) {
            (remote, _) if remote.minor_only() < MIN_CLUSTER_VERSION => Some("remote"),
            (_, min) if min.minor_only() > self.version.minor_only() => Some("local"),
            _ => None,
        };
        if let Some(low) = low {
            let error = format!(
                "{low} version is too low: remote[{name}]={remote}, local={}",
                self.version
            );
            log.log(line("failed version compatibility check").with("error", error));
            return Err(INCOMPATIBLE_VERSION);
        }
        let cluster = get(headers, CLUSTER_ID).unwrap_or_default();
        if cluster != format!("{:x}", self.cluster_id) {
            log.log(line("request cluster ID mismatch").with("remote-peer-cluster-id", cluster.to_owned()));
            return Err(CLUSTER_MISMATCH);
        }
        Ok(())
    }
}

/// A member's ID as text.
pub(crate) fn parse_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16)
        .ok()
        .filter(|_| !text.starts_with('+'))
}

pub(crate) fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Sets a header; what cannot be the value of one is left out.
pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Lines(RefCell<Vec<LogLine>>);

    impl member::Log for Lines {
        fn log(&self, line: LogLine) {
            self.0.borrow_mut().push(line);
        }
    }

    /// rafthttp/util_test.go, TestCheckVersionCompatibility, and http_test.go.
    #[test]
    fn members_of_other_times_and_clusters_are_turned_away() {
        let identity = Identity {
            id: 0x1a,
            cluster_id: 0xc1,
            version: Version::new(3, 7, 1),
            peer_urls: vec!["http://a:1".into(), "http://b:2".into()],
        };
        let check = |changes: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            identity.write(&mut headers);
            assert_eq!(get(&headers, PEER_URLS), Some("http://a:1,http://b:2"));
            for (name, value) in changes {
                match value.is_empty() {
                    true => drop(headers.remove(*name)),
                    false => put(&mut headers, name, value),
                }
            }
            let lines = Lines::default();
            let told = identity.check(&headers, &lines).err();
            assert_eq!(lines.0.borrow().len(), usize::from(told.is_some()));
            told
        };
        assert_eq!(check(&[]), None);
        for version in ["3.0.0", "3.5.33", "3.8.0-alpha.0", "4.0.0"] {
            assert_eq!(check(&[(VERSION, version)]), None, "{version}");
        }
        for version in ["2.3.0", "", "what", "3"] {
            assert_eq!(
                check(&[(VERSION, version)]),
                Some(INCOMPATIBLE_VERSION),
                "{version}"
            );
        }
        assert_eq!(check(&[(MIN_VERSION, "3.7.9")]), None);
        assert_eq!(check(&[(MIN_VERSION, "3.8.0")]), Some(INCOMPATIBLE_VERSION));
        assert_eq!(check(&[(CLUSTER_ID, "c2")]), Some(CLUSTER_MISMATCH));
        assert_eq!(check(&[(CLUSTER_ID, "")]), Some(CLUSTER_MISMATCH));
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(parse_id("8e9e05c52164694d"), Some(0x8e9e_05c5_2164_694d));
        for text in ["", "+1", "-1", "g", "18e9e05c52164694d", "0x1"] {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
