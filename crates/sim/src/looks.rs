//! What is looked at when a member has had a turn: what it shows, what it says it has committed, whom it voted for.

use std::time::Duration;

use member::ToPeer;

use crate::model::Effect;
use crate::roster::Moved;
use crate::world::{Event, World};

impl World {
    /// The process ends right after its vote has left, and is soon there again: it must know whom it voted for.
    pub(crate) fn kill_voter(&mut self, place: usize) {
        self.trace.count("voters killed after their vote");
        self.trace
            .tell(self.now, format!("m{place} is killed right after its vote"));
        let mode = self.faults.crash_mode(&mut self.rng);
        self.crash(place, mode);
        let delay = Duration::from_millis(self.rng.u64(1..40));
        self.after(delay, Event::Start(place));
    }

    /// Holds what a member shows against the log, as far as it is new.
    pub(crate) fn check_state(&mut self, place: usize, view: &mvcc::View) -> Result<(), String> {
        let node = &self.nodes[place];
        let Some(running) = &node.running else {
            return Ok(());
        };
        let id = running.member.shared.member_id;
        self.truth.check_revision(id, view)?;
        let before = self.shown.get(&place).filter(|shown| shown.0 == node.life);
        let (index, revision) = before.map_or((u64::MAX, view.revision), |shown| (shown.1, shown.2));
        if index == view.applied_index {
            return Ok(());
        }
        let (facts, leases) = (running.member.shared.facts(), running.member.leases());
        self.truth.check_aside(id, view.applied_index, &facts, leases)?;
        if node.disk.stopped() {
            return Ok(());
        }
        match before {
            Some(_) => self.truth.check_changes(id, revision, view)?,
            None => self.truth.check_content(id, view)?,
        }
        let shown = (node.life, view.applied_index, view.revision);
        self.shown.insert(place, shown);
        Ok(())
    }

    /// Whom raft counts is whom the log says, after one of the entries that may have decided about it.
    pub(crate) fn check_members(&self, place: usize) -> Result<(), String> {
        let Some(running) = &self.nodes[place].running else {
            return Ok(());
        };
        let (counted, entries) = running.member.decide.members();
        // The first members are told to each other before anything is in the log, and who joins knows nobody.
        let first = self.nodes.len() as u64 - 1;
        let (from, to) = (*entries.start(), first.max(*entries.end()));
        if counted.voters.is_empty() || self.truth.entries() < self.nodes.len() {
            return Ok(());
        }
        let mut rosters = (from..=to).map_while(|index| self.truth.model.aside_at(index));
        if rosters.any(|aside| aside.roster.counts(&counted)) {
            return Ok(());
        }
        let id = running.member.shared.member_id;
        Err(format!(
            "member {id:x} counts {counted:?}, which is nobody's word after any of the entries {entries:?}"
        ))
    }

    pub(crate) fn takes_over(&mut self, place: usize, id: u64, term: u64) {
        self.led_since = self.now;
        self.trace
            .tell(self.now, format!("m{place} leads in term {term}"));
        let before = std::mem::replace(&mut self.last_leader, id);
        if before != 0 && before != id {
            self.trace.count("leaders that took over from another");
        }
    }

    /// What a newly committed entry did.
    pub(crate) fn note(&mut self, term: u64, effect: &Effect) {
        match effect.moved {
            Some(Moved::Learner) => self.trace.count("learners added"),
            Some(Moved::Voter) => self.trace.count("voters added"),
            Some(Moved::Promoted) => self.trace.count("learners promoted"),
            Some(Moved::Updated) => self.trace.count("members updated"),
            Some(Moved::Refused) => self.trace.count("changes of members refused by the log"),
            Some(Moved::Removed(id)) => {
                self.trace.count("members removed");
                if id == self.last_leader {
                    self.trace.count("leaders removed");
                }
            }
            None => {}
        }
        if let Some((id, _)) = effect.granted {
            self.granted_in.insert(id, term);
        }
        if let Some(id) = effect.revoked
            && !self.asked_revocations.contains(&id)
        {
            self.trace.count("leases expired");
            if self.granted_in.get(&id).is_some_and(|granted| *granted != term) {
                self.trace.count("leases expired under another leader");
            }
        }
        if let Some(id) = effect.revoked {
            self.lease_ended(id);
        }
        match effect.alarm {
            Some((kind, true)) if kind == crate::model::CORRUPT => self.trace.count("CORRUPT raised"),
            Some((_, true)) => self.trace.count("NOSPACE raised"),
            Some((_, false)) => self.trace.count("NOSPACE disarmed"),
            None => {}
        }
    }
}

/// Whether a message grants a vote.
pub(crate) fn is_vote(message: &ToPeer) -> bool {
    match message {
        ToPeer::Message(message) => message.kind == raft::MessageKind::VoteResponse && !message.reject,
        _ => false,
    }
}
