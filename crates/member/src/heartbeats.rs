//! When a leader sent each member its last heartbeat: one that comes late is a sign of a machine or a disk that
//! is too slow (etcd: server/etcdserver/raft.go, processMessages; pkg/contention). Never sends anything.

use std::collections::BTreeMap;
use std::time::Duration;

use api::clock::Instant;

use crate::log::LogLine;

/// See the module.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    interval: Duration,
    last: BTreeMap<u64, Instant>,
}

impl Heartbeats {
    pub(crate) fn new(interval: Duration) -> Heartbeats {
        Heartbeats {
            interval,
            last: BTreeMap::new(),
        }
    }

    /// There is another leader, or another term.
    pub(crate) fn reset(&mut self) {
        self.last.clear();
    }

    /// A heartbeat goes to `to` now: what there is to be said if it should have gone before.
    pub(crate) fn sent(&mut self, to: u64, now: Instant) -> Option<LogLine> {
        let last = self.last.insert(to, now)?;
        let expected = self.interval * 2;
        let exceeded = now.since_start().saturating_sub(last.since_start() + expected);
        (!exceeded.is_zero()).then(|| {
            LogLine::warn(
                "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
            )
            .with("to", format!("{to:x}"))
            .with("heartbeat-interval", self.interval)
            .with("expected-duration", expected)
            .with("exceeded-duration", exceeded)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_heartbeat_after_more_than_two_intervals_is_late() {
        let at = |millis| Instant::default() + Duration::from_millis(millis);
        let mut heartbeats = Heartbeats::new(Duration::from_millis(100));
        let mut late = |to, millis| {
            let line = heartbeats.sent(to, at(millis))?;
            let exceeded = line
                .fields
                .into_iter()
                .find(|(name, _)| *name == "exceeded-duration");
            exceeded.map(|(_, value)| value)
        };
        assert_eq!(late(2, 1000), None, "the first one");
        assert_eq!(late(2, 1200), None);
        assert_eq!(late(3, 1401), None, "the first one to another member");
        assert_eq!(late(2, 1401), Some(Duration::from_millis(1).into()));
        assert_eq!(late(2, 1402), None);
        heartbeats.reset();
        assert_eq!(
            heartbeats.sent(2, at(9000)),
            None,
            "the first one of another term"
        );
    }
}
