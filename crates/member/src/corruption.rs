//! Whether the members' stores hold the same: what the leader makes of the hashes that it asked for.
//! Decides; never asks, reads or writes.
//!
//! etcd: server/etcdserver/corrupt.go.

use std::collections::BTreeMap;

use mvcc::KeyValueHash;

use crate::log::{Level, LogLine};

/// What another member says of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHash {
    /// Its revision when it answered.
    pub current_revision: i64,
    /// The compaction that the hash regards.
    pub compact_revision: i64,
    /// The hash at the revision that was asked for.
    pub hash: u32,
}

/// The answer to [`crate::ToPeer::AskHash`]; it always comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashAnswer {
    /// Who was asked.
    pub from: u64,
    /// The revision that was asked for.
    pub revision: i64,
    /// What it said; `None` if it could not be asked, or could not tell.
    pub hash: Option<PeerHash>,
}

/// The answers of all other members.
pub(crate) type Answers = BTreeMap<u64, Option<PeerHash>>;

/// What follows from a comparison.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    /// For the operator.
    pub(crate) lines: Vec<LogLine>,
    /// Whose data is corrupt; 0 stands for one that cannot be told.
    pub(crate) alarms: Vec<u64>,
    /// Whether all members were compared, or an alarm is raised: older hashes need no look.
    pub(crate) is_final: bool,
}

/// Compares a hash of the leader's store with those of the others at the same revision. `again` is the
/// leader's hash and revision after a linearizable read that followed the others' answers.
pub(crate) fn compare(
    leader: u64,
    first: KeyValueHash,
    again: KeyValueHash,
    current: i64,
    answers: &Answers,
) -> Finding {
    let mut finding = Finding::default();
    // One alarm a round: the next one finds what is left.
    let mut alarm = |lines: &mut Vec<LogLine>, id: u64, line: LogLine| {
        lines.push(line);
        if finding.alarms.is_empty() {
            finding.alarms.push(id);
        }
    };
    let lines = &mut finding.lines;
    let is_same_question =
        (again.revision, again.compact_revision) == (first.revision, first.compact_revision);
    if is_same_question && again.hash != first.hash {
        alarm(
            lines,
            leader,
            LogLine::warn("found hash mismatch")
                .with("revision-1", first.revision)
                .with("compact-revision-1", first.compact_revision)
                .with("hash-1", u64::from(first.hash))
                .with("revision-2", again.revision)
                .with("compact-revision-2", again.compact_revision)
                .with("hash-2", u64::from(again.hash)),
        );
    }
    let mut checked = 0;
    for (id, answer) in answers {
        let (Some(peer), hex) = (answer, format!("{id:x}")) else {
            continue;
        };
        checked += 1;
        if peer.current_revision > current {
            alarm(
                lines,
                *id,
                LogLine::warn("revision from follower must be less than or equal to leader's")
                    .with("leader-revision", current)
                    .with("follower-revision", peer.current_revision)
                    .with("follower-peer-id", hex.clone()),
            );
        }
        if peer.compact_revision > again.compact_revision {
            alarm(
                lines,
                *id,
                LogLine::warn("compact revision from follower must be less than or equal to leader's")
                    .with("leader-compact-revision", again.compact_revision)
                    .with("follower-compact-revision", peer.compact_revision)
                    .with("follower-peer-id", hex.clone()),
            );
        }
        if peer.compact_revision == first.compact_revision && peer.hash != first.hash {
            alarm(
                lines,
                *id,
                LogLine::warn("same compact revision then hashes must match")
                    .with("leader-compact-revision", again.compact_revision)
                    .with("leader-hash", u64::from(first.hash))
                    .with("follower-compact-revision", peer.compact_revision)
                    .with("follower-hash", u64::from(peer.hash))
                    .with("follower-peer-id", hex),
            );
        }
    }
    finding.lines.push(
        LogLine::info("finished peer corruption check").with("number-of-peers-checked", checked as u64),
    );
    finding.is_final = true;
    finding
}

/// Compares the hash of a compaction with those that the others found at the same one.
pub(crate) fn compare_compaction(leader: u64, own: KeyValueHash, answers: &Answers) -> Finding {
    let mut finding = Finding::default();
    let leader_id = format!("{leader:x}");
    let mut groups: BTreeMap<u32, Vec<u64>> = [(own.hash, vec![leader])].into();
    let mut checked = 0;
    for (id, answer) in answers {
        let reason = match answer {
            None => "no response".to_owned(),
            Some(peer) if peer.compact_revision != own.compact_revision => format!(
                "the peer's CompactRevision {} doesn't match leader's CompactRevision {}",
                peer.compact_revision, own.compact_revision
            ),
            Some(peer) => {
                checked += 1;
                groups.entry(peer.hash).or_default().push(*id);
                continue;
            }
        };
        finding.lines.push(
            LogLine::warn("Skipped peer's hash")
                .with("number-of-peers", answers.len() as u64)
                .with("leader-id", leader_id.clone())
                .with("peer-id", format!("{id:x}"))
                .with("reason", reason),
        );
    }
    if groups.len() == 1 {
        finding.is_final = checked == answers.len();
        let line = match finding.is_final {
            true => LogLine::info("successfully checked hash on whole cluster")
                .with("number-of-peers-checked", checked as u64),
            false => {
                LogLine::warn("skipped revision in compaction hash check; was not able to check all peers")
                    .with("number-of-peers-checked", checked as u64)
                    .with("number-of-peers", answers.len() as u64)
            }
        };
        finding.lines.push(
            line.with("revision", own.revision)
                .with("compactRevision", own.compact_revision),
        );
        return finding;
    }
    finding.is_final = true;
    let quorum = answers.len().div_ceil(2) + 1;
    let healthy = groups
        .iter()
        .find(|(_, ids)| ids.len() >= quorum)
        .map(|(hash, _)| *hash);
    let leaders = |line: LogLine| {
        line.with("leader-id", leader_id.clone())
            .with("leader-revision", own.revision)
            .with("leader-compact-revision", own.compact_revision)
            .with("leader-hash", u64::from(own.hash))
    };
    match healthy {
        Some(hash) => drop(groups.remove(&hash)),
        None => {
            finding.lines.push(leaders(LogLine::new(
                Level::Error,
                "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0",
            )));
            finding.alarms.push(0);
        }
    }
    for (hash, ids) in groups {
        let names: Vec<String> = ids.iter().map(|id| format!("{id:x}")).collect();
        finding.lines.push(
            leaders(LogLine::new(Level::Error, "Detected compaction hash mismatch"))
                .with("peer-hash", u64::from(hash))
                .with("peer-ids", names.join(","))
                .with("quorum-exist", healthy.is_some()),
        );
        if healthy.is_some() {
            finding.alarms.extend(ids);
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u64; 0] = [];

    const OWN: KeyValueHash = KeyValueHash {
        hash: 7,
        compact_revision: 10,
        revision: 20,
    };

    fn peer(hash: u32, compact_revision: i64, current_revision: i64) -> Option<PeerHash> {
        Some(PeerHash {
            current_revision,
            compact_revision,
            hash,
        })
    }

    fn alarms(again: KeyValueHash, answers: &[(u64, Option<PeerHash>)]) -> Vec<u64> {
        let answers = answers.iter().copied().collect();
        compare(1, OWN, again, again.revision, &answers).alarms
    }

    #[test]
    fn whose_store_differs_at_one_compaction_is_corrupt() {
        let good = peer(7, 10, 20);
        assert_eq!(alarms(OWN, &[(2, good), (3, good)]), NOBODY);
        assert_eq!(alarms(OWN, &[(2, good), (3, peer(8, 10, 20))]), [3]);
        // At an older compaction nothing can be said, nor of one that does not answer.
        assert_eq!(alarms(OWN, &[(2, peer(8, 9, 20)), (3, None)]), NOBODY);
        // Nobody is ahead of a leader that has just been confirmed.
        assert_eq!(alarms(OWN, &[(2, peer(7, 10, 21))]), [2]);
        assert_eq!(alarms(OWN, &[(2, peer(7, 11, 20))]), [2]);
        let later = KeyValueHash {
            revision: 21,
            hash: 9,
            ..OWN
        };
        assert_eq!(alarms(later, &[(2, peer(7, 10, 21))]), NOBODY);
        // The own store changed under the same question.
        assert_eq!(alarms(KeyValueHash { hash: 9, ..OWN }, &[(2, good)]), [1]);
        // One alarm a round.
        assert_eq!(alarms(OWN, &[(2, peer(8, 10, 20)), (3, peer(8, 10, 20))]), [2]);
    }

    fn compaction(answers: &[(u64, Option<PeerHash>)]) -> (Vec<u64>, bool) {
        let answers = answers.iter().copied().collect();
        let finding = compare_compaction(1, OWN, &answers);
        (finding.alarms, finding.is_final)
    }

    #[test]
    fn the_minority_of_a_compaction_is_corrupt_and_without_one_the_cluster() {
        let (good, bad) = (peer(7, 10, 20), peer(8, 10, 20));
        assert_eq!(compaction(&[(2, good), (3, good)]), (vec![], true));
        assert_eq!(compaction(&[(2, good), (3, None)]), (vec![], false));
        assert_eq!(compaction(&[(2, good), (3, peer(8, 9, 20))]), (vec![], false));
        assert_eq!(compaction(&[(2, good), (3, bad)]), (vec![3], true));
        // The leader itself may be the one.
        assert_eq!(compaction(&[(2, bad), (3, bad)]), (vec![1], true));
        assert_eq!(compaction(&[(2, bad)]), (vec![0], true));
        assert_eq!(compaction(&[(2, bad), (3, peer(9, 10, 20))]), (vec![0], true));
        assert_eq!(
            compaction(&[(2, bad), (3, good), (4, good), (5, bad)]),
            (vec![2, 5], true)
        );
        assert_eq!(compaction(&[]), (vec![], true));
    }
}
