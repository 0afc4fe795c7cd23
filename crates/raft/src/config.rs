//! Settings, and the state with which a member starts.

use crate::core::NUMBER_MAX;
use crate::error::{Error, Fatal};
use crate::message::{ConfState, Entry, EntryKind, HardState, NONE};

/// How a member behaves. [`Config::new`] gives etcd's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This member; never [`NONE`].
    pub id: u64,
    /// Ticks without a leader after which a member campaigns; the actual time is drawn from `[n, 2n - 1]`.
    pub election_ticks: u32,
    /// Ticks between heartbeats of a leader; less than `election_ticks`.
    pub heartbeat_ticks: u32,
    /// Asks before it disturbs a working cluster with a new term.
    pub pre_vote: bool,
    /// A leader that hears of no quorum for an election timeout steps down, and votes are refused while a leader lives.
    pub check_quorum: bool,
    /// Decides the jitter of election timeouts. Members should have different seeds.
    pub seed: u64,
    /// Bytes of entries in one append message; at least one entry is always sent.
    pub message_bytes_max: u64,
    /// Bytes of committed entries in one [`crate::Output`]; at least one entry is always handed out.
    pub committed_bytes_max: u64,
    /// Append messages on their way to one follower.
    pub inflight_messages_max: usize,
    /// Bytes of entries on their way to one follower; at least `message_bytes_max`.
    pub inflight_bytes_max: u64,
    /// Bytes of data that are proposed but not yet committed, above which the leader drops proposals.
    pub uncommitted_bytes_max: u64,
    /// Read requests that a leader holds at a time, above which it drops them.
    pub reads_max: usize,
}

impl Config {
    /// etcd's settings: election after 10 ticks, heartbeat each tick, pre-vote, check-quorum, 1 MiB a message,
    /// 512 messages in flight, no limit to what is uncommitted (server/etcdserver/bootstrap.go, raftConfig).
    pub fn new(id: u64, seed: u64) -> Config {
        Config {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            check_quorum: true,
            seed,
            message_bytes_max: 1 << 20,
            committed_bytes_max: 1 << 20,
            inflight_messages_max: 512,
            inflight_bytes_max: u64::MAX,
            uncommitted_bytes_max: u64::MAX,
            reads_max: 1 << 16,
        }
    }

    /// Refuses settings that contradict each other.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |what| Err(Error::Config(what));
        if self.id == NONE {
            return refuse("the id must not be 0");
        }
        if self.heartbeat_ticks == 0 {
            return refuse("heartbeat_ticks must not be 0");
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return refuse("election_ticks must be greater than heartbeat_ticks");
        }
        if self.election_ticks > ELECTION_TICKS_MAX {
            return refuse("election_ticks is too large");
        }
        if self.inflight_messages_max == 0 {
            return refuse("inflight_messages_max must not be 0");
        }
        if self.inflight_bytes_max < self.message_bytes_max {
            return refuse("inflight_bytes_max must not be less than message_bytes_max");
        }
        if self.reads_max == 0 {
            return refuse("reads_max must not be 0");
        }
        Ok(())
    }
}

/// The longest election timeout: a day of milliseconds, so that sums of ticks cannot overflow.
const ELECTION_TICKS_MAX: u32 = 86_400_000;

/// What a member finds on its disk when it starts. All zero for a member that joins an existing cluster.
///
/// Both ways in which etcd restarts can be said with it:
/// - 3.5 and 3.6: `conf_state` is that of the snapshot, `applied` is the snapshot's index; every entry after it is
///   handed out again, and the caller gives every membership change among them to
///   [`crate::Raft::apply_conf_change`].
/// - 3.7: `conf_state` is the membership that the application has at its consistent index. Either `applied` is that
///   index; or it is the snapshot's index and the caller gives only the changes after the consistent index to
///   `apply_conf_change`.
///
/// A fresh cluster whose first entries the caller has written itself: entries 1..n with the membership changes in
/// term 1, `hard_state` {1, 0, n}, `conf_state` with the n voters and `applied` n. (Or see [`crate::Raft::bootstrap`].)
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Term, vote and commit. A commit below `applied` or the snapshot is raised to it, since what is applied was
    /// committed and the commit is not synced for its own sake. A term below that of the last entry is raised to it: a
    /// crash may keep the entries of a write and lose its hard state. (No vote can have left in that term, since it would
    /// have waited for the hard state.)
    pub hard_state: HardState,
    /// The membership, of the snapshot or of the application; see above.
    pub conf_state: ConfState,
    /// Index of the newest snapshot, after which the entries begin.
    pub snapshot_index: u64,
    /// Term of the entry at `snapshot_index`.
    pub snapshot_term: u64,
    /// The log after the snapshot, without a gap. All of it is durable.
    pub entries: Vec<Entry>,
    /// The last entry that shall not be handed out again; at least `snapshot_index` (a smaller value is raised to it).
    pub applied: u64,
}

impl Restored {
    /// Refuses what cannot be the log of a member.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::Restore(what));
        if self.conf_state.is_joint() {
            return Err(Fatal::JointConsensus {
                index: self.snapshot_index,
            }
            .into());
        }
        let (mut index, mut term) = (self.snapshot_index, self.snapshot_term);
        for entry in &self.entries {
            if index.checked_add(1) != Some(entry.index) {
                return refuse(format!("entry {} follows entry {index}", entry.index));
            }
            if entry.term < term {
                return refuse(format!(
                    "the term falls from {term} to {} at entry {}",
                    entry.term, entry.index
                ));
            }
            if entry.kind == EntryKind::ConfChangeV2 {
                return Err(Fatal::JointConsensus { index: entry.index }.into());
            }
            (index, term) = (entry.index, entry.term);
        }
        // Twice what is believed of a peer, since a log may have grown from there.
        let term = term.max(self.hard_state.term);
        if index.max(term) > NUMBER_MAX * 2 {
            return refuse(format!("entry {index} or term {term} is out of range"));
        }
        if self.hard_state.commit > index {
            return refuse(format!(
                "commit {} is beyond the last entry {index}",
                self.hard_state.commit
            ));
        }
        if self.applied > index {
            return refuse(format!(
                "applied {} is beyond the last entry {index}",
                self.applied
            ));
        }
        Ok(())
    }
}
