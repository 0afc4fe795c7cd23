//! How a member joins by a discovery service: it looks whether there is room, registers, and waits for the others. Asks
//! through a [`Service`], so that it can be tried without one.
//!
//! etcd: server/etcdserver/api/v3discovery/discovery.go, JoinCluster.

use std::time::Duration;

use member::{InitialMember, Level, Log, LogLine};

use super::registry::{self, Entry, Registry};
use crate::config::Discovery;

/// The wait between attempts doubles so often (maxExponentialRetries).
const DOUBLINGS_MAX: u32 = 8;

/// A discovery service. Errors are those of one attempt.
pub trait Service {
    /// The value of a key, if it is there.
    async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, String>;
    /// All keys with a prefix, and the revision at which they are so.
    async fn list(&mut self, prefix: &str) -> Result<(Vec<Entry>, i64), String>;
    /// Writes a key.
    async fn put(&mut self, key: &str, value: &str) -> Result<(), String>;
    /// Waits for changes below a prefix, from a revision on. Asked again, it goes on where it was.
    async fn changes(&mut self, prefix: &str, from: i64) -> Result<Vec<Entry>, String>;
    /// Waits.
    async fn pause(&mut self, span: Duration);
}

/// See the module.
pub struct Joining<'a, S> {
    token: &'a str,
    /// As the log shows them.
    endpoints: String,
    member_id: u64,
    service: S,
    log: &'a dyn Log,
    retries: u32,
}

/// What a look at the service shows.
struct Seen {
    registry: Registry,
    size: usize,
    revision: i64,
}

impl<'a, S: Service> Joining<'a, S> {
    /// A member that will ask `service`.
    pub fn new(discovery: &'a Discovery, member_id: u64, service: S, log: &'a dyn Log) -> Joining<'a, S> {
        Joining {
            token: &discovery.token,
            endpoints: discovery.endpoints.join(","),
            member_id,
            service,
            log,
            retries: 0,
        }
    }

    /// Joins as `own` (`name=url,name=url`) and returns all members. Tries again as long as it takes where the service
    /// does not answer.
    ///
    /// # Errors
    /// In etcd's words, if what the service holds does not let this member in.
    pub async fn join(mut self, own: &str) -> Result<Vec<InitialMember>, String> {
        let (cluster, joined) = match self.try_join(own).await {
            Ok((cluster, members)) => (cluster, Ok(members)),
            Err((cluster, error)) => (cluster, Err(error)),
        };
        let (level, text) = match &joined {
            Ok(_) => (Level::Info, "discovery joined cluster successfully"),
            Err(_) => (Level::Error, "discovery failed to join cluster"),
        };
        let line = self.line(level, text).with("cluster", cluster);
        self.log.log(match &joined {
            Ok(_) => line,
            Err(error) => line.with("error", *error),
        });
        joined.map_err(str::to_owned)
    }

    async fn try_join(&mut self, own: &str) -> Result<(String, Vec<InitialMember>), (String, &'static str)> {
        let fail = |error| (String::new(), error);
        self.look().await.map_err(fail)?;
        self.register(own).await;
        let mut seen = self.look().await.map_err(fail)?;
        while seen.registry.len() < seen.size {
            seen = self.wait(seen).await.map_err(fail)?;
        }
        let cluster = seen.registry.cluster(seen.size);
        match seen.registry.members(seen.size) {
            Ok(members) => Ok((cluster, members)),
            Err(error) => Err((cluster, error)),
        }
    }

    /// Size and members, as soon as the service tells them.
    async fn look(&mut self) -> Result<Seen, &'static str> {
        loop {
            if let Some(seen) = self.try_look().await? {
                self.retries = 0;
                return match seen.registry.has_room_for(self.member_id, seen.size) {
                    true => Ok(seen),
                    false => Err("discovery: cluster is full"),
                };
            }
            self.back_off("cluster status check").await;
        }
    }

    async fn try_look(&mut self) -> Result<Option<Seen>, &'static str> {
        let size_key = registry::size_key(self.token);
        let size = match self.service.get(&size_key).await {
            Ok(None) => return Err("discovery: size key not found"),
            Ok(Some(value)) => registry::read_size(&value).ok_or("discovery: size key is bad")?,
            Err(error) => {
                let line = self.line(Level::Warn, "failed to get cluster size from discovery service");
                self.log
                    .log(line.with("clusterSizeKey", size_key).with("error", error));
                return Ok(None);
            }
        };
        let prefix = registry::members_prefix(self.token);
        let (entries, revision) = match self.service.list(&prefix).await {
            Ok(listed) => listed,
            Err(error) => {
                let line = self.line(
                    Level::Warn,
                    "failed to get cluster members from discovery service",
                );
                self.log
                    .log(line.with("membersKeyPrefix", prefix).with("error", error));
                return Ok(None);
            }
        };
        let mut registry = Registry::new(self.token);
        for entry in entries {
            self.add(&mut registry, entry);
        }
        Ok(Some(Seen {
            registry,
            size,
            revision,
        }))
    }

    fn add(&self, registry: &mut Registry, entry: Entry) {
        let (key, value) = (entry.key.clone(), entry.value.clone());
        let line = match registry.add(entry) {
            Ok(()) => self.line(Level::Info, "found peer from discovery service"),
            Err(error) => self.line(Level::Warn, error),
        };
        self.log
            .log(line.with("memberKey", key).with("memberInfo", value));
    }

    async fn register(&mut self, own: &str) {
        let key = registry::member_key(self.token, self.member_id);
        while let Err(error) = self.service.put(&key, own).await {
            let text = "failed to register members itself to the discovery service";
            let line = self.line(Level::Warn, text);
            self.log
                .log(line.with("memberKey", key.as_str()).with("error", error));
            self.back_off("register member itself").await;
        }
        self.retries = 0;
        let line = self.line(Level::Info, "register member itself successfully");
        self.log.log(line.with("memberKey", key).with("memberInfo", own));
    }

    /// Waits until all have registered. If the service breaks off, what was missed meanwhile is looked up.
    async fn wait(&mut self, mut seen: Seen) -> Result<Seen, &'static str> {
        self.tell_count("waiting for peers from discovery service", &seen);
        let prefix = registry::members_prefix(self.token);
        while seen.registry.len() < seen.size {
            match self.service.changes(&prefix, seen.revision + 1).await {
                Err(_) => {
                    // A service that breaks watches off at once is not to be asked without end.
                    self.back_off("wait for peers").await;
                    return self.look().await;
                }
                Ok(entries) => {
                    for entry in entries {
                        self.add(&mut seen.registry, entry);
                    }
                }
            }
        }
        self.tell_count("found all needed peers from discovery service", &seen);
        Ok(seen)
    }

    async fn back_off(&mut self, step: &'static str) {
        self.retries = self.retries.saturating_add(1);
        let span = Duration::from_secs(1 << self.retries.min(DOUBLINGS_MAX));
        let line = self.line(Level::Warn, "retry connecting to discovery service");
        self.log.log(line.with("reason", step).with("backoff", span));
        self.service.pause(span).await;
    }

    fn tell_count(&self, text: &'static str, seen: &Seen) {
        let number = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let line = self
            .line(Level::Info, text)
            .with("clusterSize", number(seen.size))
            .with("found-peers", number(seen.registry.len()));
        self.log.log(line);
    }

    /// A line that tells this discovery from others.
    fn line(&self, level: Level, text: &'static str) -> LogLine {
        LogLine::new(level, text)
            .with("discovery-token", self.token)
            .with("discovery-endpoints", self.endpoints.as_str())
    }
}

#[cfg(test)]
mod tests;
