//! Asks the other members which versions they run, as long as this one leads: by them the leader sets the
//! version of the cluster (etcdserver/cluster_util.go, getMembersVersions).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::version::Version;
use member::{Router, ToApply};
use transport::{Answer, Call, CallError, Door};

use super::Peers;
use crate::driver::{Driver, lock};

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
    let others: Vec<(u64, Vec<api::url::Url>)> = facts
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
        match urls.into_iter().next() {
            Some(url) => {
                let call = Call::get("/version", PATIENCE);
                transport.call(url, call, move |answer| heard(version_of(answer)));
            }
            None => heard(None),
        }
    }
}

fn version_of(answer: Result<Answer, CallError>) -> Option<Version> {
    let answer = answer.ok().filter(|answer| answer.status == 200)?;
    let value: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    value["etcdserver"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_members_of_all_lines_answer() {
        let version = |status, body: &'static str| {
            version_of(Ok(Answer {
                status,
                body: body.into(),
                ..Answer::default()
            }))
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
        assert_eq!(version_of(Err(CallError::Timeout)), None);
    }
}
