//! What a member without a log asks the others before it begins: whether it has been there before, or,
//! where it joins, which cluster it joins and as whom. Asks through a function, so that it can be tried
//! without sockets.
//!
//! etcd: server/etcdserver/bootstrap.go, bootstrapNewClusterNoWAL and bootstrapExistingClusterNoWAL;
//! cluster_util.go; api/membership/cluster.go, ValidateClusterAndAssignIDs.

use std::time::Duration;

use api::version::{MIN_CLUSTER_VERSION, Version};
use member::{InitialMember, Join, Log, LogLine};
use transport::{Answer, Call};

use super::same_urls::{Resolver, same_urls};
use super::words;

/// How long one member of a cluster that is joined may take to answer (etcd: cluster_util.go).
const JOIN_MAX: Duration = Duration::from_secs(10);
/// How long the check whether a member has been there before may wait for each URL (etcd:
/// config.go, BootstrapTimeoutEffective).
const BOOTSTRAPPED_MAX: Duration = Duration::from_secs(1);

/// Asks one URL.
pub type Ask<'a> = &'a dyn Fn(&str, Call) -> Result<Answer, String>;

/// A member that is about to begin, as `--initial-cluster` describes it.
pub struct Beginner<'a> {
    /// `--name`.
    pub name: &'a str,
    /// `--initial-cluster`.
    pub cluster: &'a [InitialMember],
    /// `--initial-cluster-token`.
    pub token: &'a str,
    /// The version of the release that this one shows.
    pub version: Version,
    /// How long a request may wait for consensus.
    pub request_timeout: Duration,
}

impl Beginner<'_> {
    /// This member's entry.
    pub fn own(&self) -> Option<&InitialMember> {
        self.cluster.iter().find(|member| member.name == self.name)
    }

    /// The URLs of all others, sorted.
    fn others(&self) -> Vec<&str> {
        let others = self.cluster.iter().filter(|member| member.name != self.name);
        let mut urls: Vec<&str> = others
            .flat_map(|member| &member.peer_urls)
            .map(String::as_str)
            .collect();
        urls.sort_unstable();
        urls
    }

    /// Refuses to begin anew if the others know this member as one that has served: it has lost its
    /// data, and with it votes that it gave.
    ///
    /// # Errors
    /// In etcd's words.
    pub fn check_new(&self, ask: Ask<'_>) -> Result<(), String> {
        let Some(own) = self.own() else { return Ok(()) };
        let id = state::member_id(&own.peer_urls, self.token, None);
        let Ok((_, members)) = self.fetch(ask, BOOTSTRAPPED_MAX, None) else {
            return Ok(());
        };
        let known = members.iter().find(|member| member.id == id);
        match known.is_some_and(|member| !member.client_urls.is_empty()) {
            true => Err(format!("member {id:x} has already been bootstrapped")),
            false => Ok(()),
        }
    }

    /// Finds out which cluster is joined.
    ///
    /// # Errors
    /// In etcd's words.
    pub fn join(&self, ask: Ask<'_>, resolver: &dyn Resolver, log: &dyn Log) -> Result<Join, String> {
        let (cluster_id, members) = self
            .fetch(ask, JOIN_MAX, Some(log))
            .map_err(|error| format!("cannot fetch cluster info from peer urls: {error}"))?;
        let own = self.check_members(&members, resolver, log).map_err(|error| {
            format!(
                "error validating peerURLs {}: {error}",
                told(cluster_id, &members)
            )
        })?;
        if !self.is_compatible(ask, &members, own, log) {
            return Err("incompatible with current running cluster".to_owned());
        }
        let members = members.into_iter().map(|member| state::Member {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        });
        Ok(Join {
            cluster_id,
            members: members.collect(),
        })
    }

    /// The cluster's id and members, from the first URL that tells them.
    fn fetch(
        &self,
        ask: Ask<'_>,
        patience: Duration,
        log: Option<&dyn Log>,
    ) -> Result<(u64, Vec<member::Member>), String> {
        let warn = |text: &'static str, url: &str, error: String| {
            if let Some(log) = log {
                let address = format!("{url}/members");
                log.log(LogLine::warn(text).with("address", address).with("error", error));
            }
        };
        for url in self.others() {
            let answer = match ask(url, Call::get("/members", patience)) {
                Ok(answer) => answer,
                Err(error) => {
                    warn("failed to get cluster response", url, error);
                    continue;
                }
            };
            let Some(mut members) = words::read_members(&answer.body) else {
                warn(
                    "failed to unmarshal cluster response",
                    url,
                    "not a list of members".to_owned(),
                );
                continue;
            };
            let id = answer.header("x-etcd-cluster-id").unwrap_or_default();
            let Ok(cluster_id) = u64::from_str_radix(id, 16) else {
                warn("failed to parse cluster ID", url, format!("{id:?} is no ID"));
                continue;
            };
            if members.is_empty() {
                return Err("failed to get raft cluster member(s) from the given URLs".to_owned());
            }
            members.sort_by_key(|member| member.id);
            return Ok((cluster_id, members));
        }
        Err("could not retrieve cluster information from the given URLs".to_owned())
    }

    /// Each member of the running cluster must be one of `--initial-cluster`, by its URLs. Returns the ID of
    /// this one, if the cluster has given it one.
    fn check_members(
        &self,
        members: &[member::Member],
        resolver: &dyn Resolver,
        log: &dyn Log,
    ) -> Result<Option<u64>, String> {
        if members.len() != self.cluster.len() {
            return Err("member count is unequal".to_owned());
        }
        let mut own = None;
        for member in members {
            let mut last = String::new();
            let found = self.cluster.iter().find(|other| {
                let same = same_urls(&member.peer_urls, &other.peer_urls, resolver, log);
                same.map_err(|error| last = error).is_ok()
            });
            match found {
                Some(found) if found.name == self.name => own = Some(member.id),
                Some(_) => {}
                None => {
                    return Err(format!(
                        "PeerURLs: no match found for existing member ({:x}, [{}]), last resolver error ({last})",
                        member.id,
                        member.peer_urls.join(" ")
                    ));
                }
            }
        }
        Ok(own)
    }

    /// Whether some other member serves a cluster version that this release can be part of, and none
    /// another one.
    fn is_compatible(
        &self,
        ask: Ask<'_>,
        members: &[member::Member],
        own: Option<u64>,
        log: &dyn Log,
    ) -> bool {
        let is_own = |member: &&member::Member| own == Some(member.id);
        let others: Vec<&member::Member> = members.iter().filter(|member| !is_own(member)).collect();
        let downgrading = others.iter().find_map(|member| {
            let mut urls = member.peer_urls.iter();
            urls.find_map(|url| {
                let answer = ask(url, Call::get("/downgrade/enabled", self.request_timeout)).ok()?;
                (answer.status == 200).then(|| &answer.body[..] == b"true")
            })
        });
        let newest = self.version.minor_only();
        let (lowest, highest) = match downgrading {
            Some(true) => {
                let above = Version::new(newest.major, newest.minor + 1, 0);
                (above, above)
            }
            _ => (MIN_CLUSTER_VERSION, newest),
        };
        let mut is_served = false;
        for member in others {
            let hex = format!("{:x}", member.id);
            let told = member.peer_urls.iter().find_map(|url| {
                let answer = ask(url, Call::get("/version", self.request_timeout));
                if let Err(error) = &answer {
                    log.log(
                        LogLine::warn("failed to reach the peer URL")
                            .with("address", format!("{url}/version"))
                            .with("remote-member-id", hex.clone())
                            .with("error", error.clone()),
                    );
                }
                words::read_versions(&answer.ok()?.body)
            });
            let Some((_, Some(cluster))) = told else { continue };
            let refuse = |text: &'static str, field: &'static str, bound: Version| {
                log.log(
                    LogLine::warn(text)
                        .with("remote-member-id", hex.clone())
                        .with("remote-member-cluster-version", cluster.to_string())
                        .with(field, bound.to_string()),
                );
            };
            if cluster < lowest {
                let text = "cluster version of remote member is not compatible; too low";
                refuse(text, "minimum-cluster-version-supported", lowest);
                return false;
            }
            if cluster > highest {
                let text = "cluster version of remote member is not compatible; too high";
                refuse(text, "maximum-cluster-version-supported", highest);
                return false;
            }
            is_served = true;
        }
        is_served
    }
}

/// A cluster in a message: membership/cluster.go, String.
fn told(cluster_id: u64, members: &[member::Member]) -> String {
    let member = |member: &member::Member| {
        format!(
            "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            member.id,
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" ")
        )
    };
    let members: Vec<String> = members.iter().map(member).collect();
    format!(
        "{{ClusterID:{cluster_id:x} Members:[{}] RemovedMemberIDs:[]}}",
        members.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::same_urls::tests::Book;
    use std::cell::Cell;

    struct Deaf;

    impl Log for Deaf {
        fn log(&self, _: LogLine) {}
    }

    fn member(name: &str, url: &str) -> InitialMember {
        InitialMember {
            name: name.into(),
            peer_urls: vec![url.into()],
        }
    }

    const MEMBERS: &str = r#"[{"id":2,"peerURLs":["http://b:1"]},
        {"id":1,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]}]"#;

    fn answer(body: &str) -> Answer {
        let header = ("x-etcd-cluster-id".to_owned(), "c1".to_owned());
        Answer {
            status: 200,
            headers: vec![header],
            body: body.to_owned().into(),
        }
    }

    fn join_with(cluster: &[InitialMember], versions: &str, downgrade: &str) -> Result<Join, String> {
        let beginner = Beginner {
            name: "b",
            cluster,
            token: "t",
            version: Version::new(3, 6, 14),
            request_timeout: Duration::from_secs(1),
        };
        let ask = |url: &str, call: Call| match (url, call.path.as_str()) {
            ("http://a:1", "/members") => Ok(answer(MEMBERS)),
            ("http://a:1", "/version") => Ok(answer(versions)),
            ("http://a:1", "/downgrade/enabled") => Ok(answer(downgrade)),
            _ => Err("connection refused".to_owned()),
        };
        let book = Book {
            names: &[
                ("a", "192.0.2.1", 0),
                ("b", "192.0.2.2", 0),
                ("c", "192.0.2.3", 0),
                ("also-b", "192.0.2.2", 0),
            ],
            waits: Cell::new(0),
        };
        beginner.join(&ask, &book, &Deaf)
    }

    #[test]
    fn who_joins_learns_the_cluster_and_its_members() {
        let cluster = [member("a", "http://a:1"), member("b", "http://b:1")];
        let joined = join_with(&cluster, r#"{"etcdcluster":"3.6.0"}"#, "false").unwrap();
        assert_eq!(joined.cluster_id, 0xc1);
        let ids: Vec<u64> = joined.members.iter().map(|member| member.id).collect();
        assert_eq!(ids, [1, 2]);
        // As etcd, members may be named otherwise than the cluster names them.
        let renamed = [member("a", "http://a:1"), member("b", "http://also-b:1")];
        assert!(join_with(&renamed, r#"{"etcdcluster":"3.6.0"}"#, "false").is_ok());
        // A cluster that goes down to 3.6 has 3.7 until all are there.
        for (cluster_version, downgrade, may) in [
            ("3.5.0", "false", true),
            ("3.7.0", "false", false),
            ("3.7.0", "true", true),
            ("3.6.0", "true", false),
            ("not_decided", "false", false),
        ] {
            let versions = format!(r#"{{"etcdcluster":"{cluster_version}"}}"#);
            let joined = join_with(&cluster, &versions, downgrade);
            assert_eq!(joined.is_ok(), may, "{cluster_version} {downgrade}: {joined:?}");
        }
    }

    #[test]
    fn who_is_not_awaited_does_not_join() {
        let versions = r#"{"etcdcluster":"3.6.0"}"#;
        let error = join_with(&[member("a", "http://a:1")], versions, "false").unwrap_err();
        assert!(
            error.contains("cannot fetch cluster info") || error.contains("member count is unequal"),
            "{error}"
        );
        let other = [member("a", "http://a:1"), member("b", "http://c:1")];
        let error = join_with(&other, versions, "false").unwrap_err();
        assert!(
            error.contains(
                "no match found for existing member (2, [http://b:1]), last resolver error \
                 (resolved urls: \"http://192.0.2.2:1\" != \"http://192.0.2.3:1\")"
            ),
            "{error}"
        );
        let alone = [member("b", "http://b:1"), member("x", "http://x:1")];
        let error = join_with(&alone, versions, "false").unwrap_err();
        assert_eq!(
            error,
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
        );
    }

    #[test]
    fn who_has_served_before_does_not_begin_anew() {
        let cluster = [member("a", "http://a:1"), member("b", "http://b:1")];
        let own = state::member_id(&["http://b:1".to_owned()], "t", None);
        let beginner = Beginner {
            name: "b",
            cluster: &cluster,
            token: "t",
            version: Version::new(3, 7, 1),
            request_timeout: Duration::from_secs(1),
        };
        let knows = |clients: &'static str| {
            move |_: &str, _: Call| {
                Ok(answer(&format!(
                    r#"[{{"id":{own},"peerURLs":["http://b:1"]{clients}}}]"#
                )))
            }
        };
        assert!(beginner.check_new(&knows("")).is_ok());
        let error = beginner
            .check_new(&knows(r#","clientURLs":["http://b:2"]"#))
            .unwrap_err();
        assert_eq!(error, format!("member {own:x} has already been bootstrapped"));
        let silent = |_: &str, _: Call| Err("refused".to_owned());
        assert!(beginner.check_new(&silent).is_ok());
    }
}
