//! Asks the other members which versions they run, as long as this one leads: by them the leader sets the
//! version of the cluster (etcdserver/cluster_util.go, getMembersVersions).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use api::url::Url;
use api::version::Version;
use member::{Router, ToApply};
use serde_json::Value;
use transport::{Answer, Call, Door};

use super::Peers;
use crate::config::quote;
use crate::driver::{Driver, lock};
use crate::log::Log;

/// Pause between rounds: server.go, monitorVersionInterval.
const ROUND_PAUSE: Duration = Duration::from_secs(4);
/// How often this looks whether there is a new leader or a new member.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// How long a member may take for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who leads, in which term, and the members: when one of these is new, all are asked at once.
type Occasion = (u64, u64, Vec<u64>);

/// The task, for the transport's thread.
pub fn task(peers: Arc<Peers>) -> Door {
    Box::new(move |_| {
        Box::pin(async move {
            let mut asked: Option<(Occasion, Instant)> = None;
            loop {
                tokio::time::sleep(LOOK_PAUSE).await;
                let Some(driver) = peers.driver.upgrade() else {
                    return;
                };
                let shared = &peers.shared;
                let (term, leader) = (shared.pulse.term(), shared.pulse.leader());
                let facts = shared.facts();
                let members: Vec<u64> = facts.members.iter().map(|member| member.id).collect();
                if leader != shared.member_id || members.len() < 2 {
                    asked = None;
                    continue;
                }
                let occasion = (term, leader, members);
                let is_due = asked
                    .as_ref()
                    .is_none_or(|(before, at)| *before != occasion || at.elapsed() >= ROUND_PAUSE);
                if is_due {
                    asked = Some((occasion, Instant::now()));
                    ask_all(&driver, &peers);
                }
            }
        })
    })
}

/// A round: the answers so far, and how many are still awaited.
struct Round {
    versions: BTreeMap<u64, Version>,
    awaited: usize,
}

fn ask_all(driver: &Arc<Driver>, peers: &Peers) {
    let Some(transport) = driver.transport() else {
        return;
    };
    let facts = peers.shared.facts();
    let others: Vec<(u64, Vec<Url>)> = facts
        .members
        .iter()
        .filter(|member| member.id != peers.shared.member_id)
        .map(|member| (member.id, transport.urls_of(member.id)))
        .collect();
    let round = Arc::new(Mutex::new(Round {
        versions: BTreeMap::new(),
        awaited: others.len(),
    }));
    for (id, urls) in others {
        let (round, driver) = (round.clone(), Arc::downgrade(driver));
        let driver_of_round = driver.clone();
        let heard = move |version: Option<Version>| {
            let mut round = lock(&round);
            round.awaited -= 1;
            if let Some(version) = version {
                round.versions.insert(id, version);
            }
            if round.awaited == 0
                && let Some(driver) = driver.upgrade()
            {
                driver.to_apply(ToApply::PeerVersions(std::mem::take(&mut round.versions)));
                driver.settle();
            }
        };
        let asker = Asker {
            driver: driver_of_round.clone(),
            log: peers.log.clone(),
            id,
        };
        asker.ask(urls.into(), Box::new(heard), "it has no URL".to_owned());
    }
}

/// Asks one member, URL by URL (etcd: cluster_util.go, getVersion).
struct Asker {
    driver: Weak<Driver>,
    log: Log,
    id: u64,
}

type Heard = Box<dyn FnOnce(Option<Version>) + Send>;

impl Asker {
    fn ask(self, mut urls: VecDeque<Url>, heard: Heard, last: String) {
        let hex = format!("{:x}", self.id);
        let driver = self.driver.upgrade();
        let transport = driver.as_ref().and_then(|driver| driver.transport());
        let (Some(url), Some(transport)) = (urls.pop_front(), transport) else {
            let line = self.log.warn("failed to get version");
            line.text("remote-member-id", &hex).error(last).emit();
            return heard(None);
        };
        let address = format!("{url}/version");
        let call = Call::get("/version", PATIENCE);
        transport.call(url, call, move |answer| {
            let (text, error) = match answer {
                Ok(answer) => match version_of(&answer) {
                    Some(version) => return heard(Some(version)),
                    None => {
                        let error = format!("it says no version, with status {}", answer.status);
                        ("failed to unmarshal response", error)
                    }
                },
                Err(error) => {
                    let error = format!("Get {}: {error}", quote(&address));
                    ("failed to reach the peer URL", error)
                }
            };
            let line = self.log.warn(text).text("address", &address);
            line.text("remote-member-id", &hex).error(&error).emit();
            self.ask(urls, heard, error);
        });
    }
}

fn version_of(answer: &Answer) -> Option<Version> {
    let value: Value = serde_json::from_slice(&answer.body).ok()?;
    let version = value["etcdserver"].as_str().filter(|_| answer.status == 200)?;
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_members_of_all_lines_answer() {
        let version = |status, body: &'static str| {
            version_of(&Answer {
                status,
                body: body.into(),
                ..Answer::default()
            })
        };
        assert_eq!(
            version(200, r#"{"etcdserver":"3.5.33","etcdcluster":"3.5.0"}"#),
            Some(Version::new(3, 5, 33))
        );
        assert_eq!(
            version(
                200,
                r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"3.5.0"}"#
            ),
            Some(Version::new(3, 7, 1))
        );
        assert_eq!(version(404, r#"{"etcdserver":"3.7.1"}"#), None);
        for body in ["", "[]", "{}", r#"{"etcdserver":"what"}"#] {
            assert_eq!(version(200, body), None, "{body}");
        }
    }
}
