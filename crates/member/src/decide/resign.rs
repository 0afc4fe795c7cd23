//! Why a leader asks another member to lead: the disk of its log is stuck, its data file finds no room, or it stops. Never
//! decides who leads: that is an election.

use std::collections::BTreeMap;

use api::clock::Instant;
use api::error;

use super::{Decide, Stopping};
use crate::log::LogLine;
use crate::router::Router;

/// A leader whose log's disk is stuck asks another member to lead once in so many election timeouts: an attempt that fails
/// takes one, and is one without proposals. One whose data file finds no room does the same.
const ATTEMPT_TIMEOUTS: u64 = 3;

/// For so many election timeouts a leader waits for room for its data file before it asks another member to lead.
const ROOM_TIMEOUTS: u64 = 3;

/// A leader without room for its data file asks nobody twice within so many election timeouts, not even whom it was
/// elected after, and hands over at most once in them. Where nobody has room the leader changes no more often than that.
const ASK_AGAIN_TIMEOUTS: u64 = 100;

/// What a member without room for its data file has done to be led by another. Nobody tells the others how full its disk
/// is; that is found out by asking them to lead, each once in a while. Time is counted in ticks.
#[derive(Debug)]
pub(super) struct NoRoom {
    election_ticks: u64,
    now: u64,
    /// Since when there has been no room while this member led.
    since: Option<u64>,
    /// Who led last, as long as another one did.
    other: Option<u64>,
    /// Another one was asked, and it has not shown yet whether it leads.
    asked: bool,
    /// From this tick on somebody may be asked.
    next: u64,
    /// Who is not asked before which tick.
    spared: BTreeMap<u64, u64>,
}

impl NoRoom {
    pub(super) fn new(election_ticks: u64) -> NoRoom {
        NoRoom {
            election_ticks,
            now: 0,
            since: None,
            other: None,
            asked: false,
            next: 0,
            spared: BTreeMap::new(),
        }
    }

    /// A tick has passed. `leader` is who leads now, if somebody does, `leads` whether that is this member, and `full`
    /// whether its data file finds no room.
    fn tick(&mut self, leader: Option<u64>, leads: bool, full: bool) {
        self.now += 1;
        let later = self.now + ASK_AGAIN_TIMEOUTS * self.election_ticks;
        if !leads {
            self.since = None;
            self.other = leader.or(self.other);
            if std::mem::take(&mut self.asked) {
                self.next = later;
            }
            return;
        }
        // It may have handed over for the same reason.
        if let Some(before) = self.other.take() {
            self.spared.insert(before, later);
        }
        self.asked &= full;
        self.since = full.then(|| self.since.unwrap_or(self.now));
    }

    /// Whether another one should lead.
    fn is_due(&self) -> bool {
        let patience = ROOM_TIMEOUTS * self.election_ticks;
        self.now >= self.next && self.since.is_some_and(|since| self.now - since > patience)
    }

    fn may_ask(&self, id: u64) -> bool {
        self.spared.get(&id).is_none_or(|until| *until <= self.now)
    }

    /// This member is asked to lead.
    fn asks(&mut self, id: u64) {
        self.spared.retain(|_, until| *until > self.now);
        let later = self.now + ASK_AGAIN_TIMEOUTS * self.election_ticks;
        self.spared.insert(id, later);
        self.asked = true;
        self.next = self.now + ATTEMPT_TIMEOUTS * self.election_ticks;
    }
}

/// Who can lead at once: a voter that was heard of, and of those the one with the longest log. Who does not get what it is
/// sent comes last: a member that has just ended counts as heard of until the next check of the quorum.
fn heir(status: &raft::Status, may: impl Fn(&raft::PeerStatus) -> bool) -> Option<u64> {
    let others = status.peers.iter().filter(|peer| peer.id != status.id);
    others
        .filter(|peer| !peer.learner && peer.recent_active && may(peer))
        .max_by_key(|peer| (peer.state == raft::PeerState::Replicate, peer.matched))
        .map(|peer| peer.id)
}

impl Decide {
    /// Hands leadership on when this member's own disk does not come back from a write: its heartbeats would keep the
    /// others from electing one whose disk works (etcd issue 13527). Only where the disks of the others have committed
    /// what this one has not taken: then they can elect, and this one's word is not needed.
    pub(super) fn leave_stuck_disk(&mut self, router: &dyn Router) {
        if self.stopping != Stopping::No || !self.leads() || !self.unwritten.is_stuck(self.election_ticks) {
            return;
        }
        let (durable, status) = (self.raft.durable_index(), self.raft.status());
        if status.transferee != raft::NONE {
            // Somebody is about to take over already.
            return;
        }
        let heir = heir(&status, |peer| peer.matched > durable);
        let Some(heir) = heir.filter(|_| status.hard_state.commit > durable) else {
            return;
        };
        router.log(
            LogLine::warn("the disk of the log is stuck; leadership transfer starting")
                .with("local-member-id", format!("{:x}", status.id))
                .with("transferee-member-id", format!("{heir:x}"))
                .with("durable-index", durable)
                .with("commit-index", status.hard_state.commit),
        );
        self.unwritten.complained(ATTEMPT_TIMEOUTS * self.election_ticks);
        self.raft.transfer(heir);
    }

    /// Hands leadership on when there is no room for this member's data file: as a leader it would take no proposals,
    /// although others may have room. What it applies as a follower waits in memory, as it does for a leader.
    pub(super) fn leave_full_disk(&mut self, router: &dyn Router) {
        let soft_state = self.raft.soft_state();
        let leader = Some(soft_state.leader).filter(|id| *id != raft::NONE);
        self.no_room.tick(leader, self.leads(), self.file_full);
        if self.stopping != Stopping::No || !self.no_room.is_due() {
            return;
        }
        let status = self.raft.status();
        if status.transferee != raft::NONE {
            // Somebody is about to take over already.
            return;
        }
        let Some(heir) = heir(&status, |peer| self.no_room.may_ask(peer.id)) else {
            return;
        };
        router.log(
            LogLine::warn("no space for the data file; leadership transfer starting")
                .with("local-member-id", format!("{:x}", status.id))
                .with("transferee-member-id", format!("{heir:x}")),
        );
        self.no_room.asks(heir);
        self.raft.transfer(heir);
    }

    /// Hands leadership on before the stop, if there is somebody to take it (etcd: server.go,
    /// TryTransferLeadershipOnShutdown). Whether the wait for that has ended.
    pub(super) fn hand_over(&mut self, now: Instant, router: &dyn Router) {
        let Stopping::HandingOver { until, asked } = self.stopping else {
            return;
        };
        let status = self.raft.status();
        match heir(&status, |_| true) {
            Some(heir) if status.soft_state.role == raft::Role::Leader && now < until => {
                if !asked {
                    router.log(
                        LogLine::info("leadership transfer starting")
                            .with("local-member-id", format!("{:x}", status.id))
                            .with("current-leader-member-id", format!("{:x}", status.id))
                            .with("transferee-member-id", format!("{heir:x}")),
                    );
                    self.raft.transfer(heir);
                    self.stopping = Stopping::HandingOver { until, asked: true };
                }
            }
            _ => {
                self.tell_handed_over(asked, router);
                self.stopping = Stopping::Draining;
            }
        }
    }

    /// How the hand-over ended.
    fn tell_handed_over(&self, asked: bool, router: &dyn Router) {
        let own = format!("{:x}", self.raft.id());
        let soft_state = self.raft.soft_state();
        let leads = soft_state.role == raft::Role::Leader;
        let leader = format!("{:x}", soft_state.leader);
        router.log(match (asked, leads) {
            (true, false) => LogLine::info("leadership transfer finished")
                .with("local-member-id", own.clone())
                .with("old-leader-member-id", own)
                .with("new-leader-member-id", leader),
            (true, true) => LogLine::warn("leadership transfer failed")
                .with("local-member-id", own)
                .with("error", error::TIMEOUT.message.to_string()),
            (false, false) => LogLine::info("skipped leadership transfer; local server is not leader")
                .with("local-member-id", own)
                .with("current-leader-member-id", leader),
            (false, true) if self.raft.conf_state().voters.len() < 2 => {
                LogLine::info("skipped leadership transfer for single voting member cluster")
                    .with("local-member-id", own)
                    .with("current-leader-member-id", leader)
            }
            (false, true) => LogLine::warn("leadership transfer failed")
                .with("local-member-id", own)
                .with("error", error::UNHEALTHY.message.to_string()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 1;
    /// Of one tick each.
    const ELECTION_TICKS: u64 = 1;

    fn pass(no_room: &mut NoRoom, ticks: u64, leader: u64, full: bool) {
        let known = (leader != raft::NONE).then_some(leader);
        (0..ticks).for_each(|_| no_room.tick(known, leader == OWN, full));
    }

    #[test]
    fn who_does_not_get_what_it_is_sent_leads_last() {
        let peer = |id: u64, matched: u64, state: raft::PeerState| raft::PeerStatus {
            id,
            learner: false,
            matched,
            next: matched + 1,
            state,
            recent_active: true,
            paused: false,
            pending_snapshot: 0,
            inflight_messages: 0,
        };
        let (gets, lost) = (raft::PeerState::Replicate, raft::PeerState::Probe);
        let mut status = raft::Status {
            id: OWN,
            hard_state: raft::HardState::default(),
            soft_state: raft::SoftState::default(),
            applied: 0,
            last_index: 9,
            transferee: raft::NONE,
            election_timeout: 10,
            peers: vec![
                peer(OWN, 9, gets),
                peer(2, 7, gets),
                peer(3, 8, gets),
                peer(4, 8, lost),
            ],
        };
        assert_eq!(heir(&status, |_| true), Some(3));
        assert_eq!(heir(&status, |peer| peer.id > 3), Some(4), "better than nobody");
        status.peers[2].learner = true;
        assert_eq!(heir(&status, |_| true), Some(2));
        status.peers[1].recent_active = false;
        assert_eq!(heir(&status, |_| true), Some(4));
        assert_eq!(heir(&status, |_| false), None);
    }

    #[test]
    fn room_is_waited_for_by_who_leads() {
        let mut no_room = NoRoom::new(ELECTION_TICKS);
        pass(&mut no_room, 50, OWN, false);
        pass(&mut no_room, 50, 2, true);
        assert!(!no_room.is_due(), "another one leads");
        pass(&mut no_room, ROOM_TIMEOUTS + 1, OWN, true);
        assert!(!no_room.is_due());
        pass(&mut no_room, 1, OWN, false);
        pass(&mut no_room, ROOM_TIMEOUTS + 1, OWN, true);
        assert!(!no_room.is_due(), "there was room meanwhile");
        pass(&mut no_room, 1, OWN, true);
        assert!(no_room.is_due());
    }

    #[test]
    fn each_is_asked_once_in_a_while() {
        let mut no_room = NoRoom::new(ELECTION_TICKS);
        pass(&mut no_room, 10, OWN, true);
        no_room.asks(2);
        pass(&mut no_room, ATTEMPT_TIMEOUTS - 1, OWN, true);
        assert!(!no_room.is_due());
        pass(&mut no_room, 1, OWN, true);
        assert!(no_room.is_due());
        assert_eq!([2, 3].map(|id| no_room.may_ask(id)), [false, true]);
        no_room.asks(3);
        pass(&mut no_room, ASK_AGAIN_TIMEOUTS - ATTEMPT_TIMEOUTS, OWN, true);
        assert_eq!([2, 3].map(|id| no_room.may_ask(id)), [true, false]);
    }

    #[test]
    fn who_handed_over_waits_before_it_does_so_again() {
        let mut no_room = NoRoom::new(ELECTION_TICKS);
        pass(&mut no_room, 10, OWN, true);
        no_room.asks(2);
        pass(&mut no_room, 1, 2, true);
        pass(&mut no_room, 1, raft::NONE, true);
        pass(&mut no_room, ASK_AGAIN_TIMEOUTS - 2, OWN, true);
        assert!(!no_room.is_due());
        pass(&mut no_room, 1, OWN, true);
        assert!(no_room.is_due());
        // It led before this one did, and was asked before that.
        assert!(!no_room.may_ask(2));
        pass(&mut no_room, 2, OWN, true);
        assert!(no_room.may_ask(2));
    }

    /// An attempt that has failed, and room after it, are no hand-over.
    #[test]
    fn who_has_room_again_has_handed_over_to_nobody() {
        let mut no_room = NoRoom::new(ELECTION_TICKS);
        pass(&mut no_room, 10, OWN, true);
        no_room.asks(2);
        pass(&mut no_room, 10, OWN, false);
        pass(&mut no_room, 1, 3, false);
        pass(&mut no_room, ROOM_TIMEOUTS + 2, OWN, true);
        assert!(no_room.is_due());
    }
}
