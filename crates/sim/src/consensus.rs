//! What raft promises, looked for in every message that leaves a member: one vote a term over all restarts, logs that
//! agree where they have an entry in common, leaders that have all that was committed before them, one change of the
//! members at a time.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{EntryKind, Message, MessageKind};

use crate::truth::Truth;

/// An entry as it was sent: the term of the one before it, its kind and its data.
type Sent = (u64, EntryKind, Bytes);

/// See the module.
#[derive(Default)]
pub struct Consensus {
    /// Whom each member voted for in each term.
    votes: BTreeMap<(u64, u64), u64>,
    /// Entries by index and term.
    entries: BTreeMap<(u64, u64), Sent>,
    /// The newest change of the members that each leader proposed, by member and term.
    changes: BTreeMap<(u64, u64), u64>,
}

/// A message that tells of something that does not happen every day.
pub fn remarkable(message: &Message) -> Option<&'static str> {
    match message.kind {
        MessageKind::PreVoteResponse if message.reject => Some("pre-votes refused"),
        MessageKind::VoteResponse if message.reject => Some("votes refused"),
        MessageKind::AppendResponse if message.reject => Some("appends refused"),
        MessageKind::TimeoutNow => Some("leaders that handed over"),
        _ => None,
    }
}

impl Consensus {
    /// A message leaves a member that has applied up to `applied`.
    pub fn leaves(&mut self, message: &Message, applied: u64, truth: &Truth) -> Result<(), String> {
        match message.kind {
            MessageKind::Vote => self.votes_for(message.from, message.term, message.from),
            MessageKind::VoteResponse if !message.reject => {
                self.votes_for(message.from, message.term, message.to)
            }
            MessageKind::Append => self.appends(message, applied, truth),
            _ => Ok(()),
        }
    }

    /// How many entries lost their place to those of another term.
    pub fn replaced(&self) -> u64 {
        let indices = self.entries.keys().map(|(index, _)| index);
        let next = self.entries.keys().skip(1).map(|(index, _)| index);
        indices.zip(next).filter(|(one, other)| one == other).count() as u64
    }

    fn votes_for(&mut self, who: u64, term: u64, candidate: u64) -> Result<(), String> {
        let before = *self.votes.entry((who, term)).or_insert(candidate);
        match before == candidate {
            true => Ok(()),
            false => Err(format!(
                "member {who:x} votes for {candidate:x} in term {term}, in which it has voted for {before:x}"
            )),
        }
    }

    fn appends(&mut self, message: &Message, applied: u64, truth: &Truth) -> Result<(), String> {
        let (who, term) = (message.from, message.term);
        let mut before = message.log_term;
        for entry in &message.entries {
            let (index, data) = (entry.index, entry.data.clone());
            let sent = (before, entry.kind, data);
            let is_new = !self.entries.contains_key(&(index, entry.term));
            let known = self
                .entries
                .entry((index, entry.term))
                .or_insert_with(|| sent.clone());
            if *known != sent {
                return Err(format!(
                    "leader {who:x} of term {term} has another entry {index} of term {} than was seen before",
                    entry.term
                ));
            }
            // Committed in an earlier term than the leader's: it cannot lead without having it.
            if let Some((right, committed_in)) = truth.entry_terms(index)
                && right != entry.term
                && committed_in < term
            {
                return Err(format!(
                    "leader {who:x} of term {term} has entry {index} of term {}, but that of term {right} was \
                     committed in term {committed_in}",
                    entry.term
                ));
            }
            if is_new && entry.kind != EntryKind::Normal && entry.term == term {
                self.changes_members(who, term, index, applied)?;
            }
            before = entry.term;
        }
        Ok(())
    }

    fn changes_members(&mut self, who: u64, term: u64, index: u64, applied: u64) -> Result<(), String> {
        let before = self.changes.insert((who, term), index).unwrap_or(0);
        match before > applied {
            true => Err(format!(
                "leader {who:x} of term {term} changes the members at {index}, and has not applied its change at \
                 {before}"
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(from: u64, to: u64, term: u64) -> Message {
        Message::new(MessageKind::VoteResponse, to, from, term)
    }

    fn append(from: u64, term: u64, entries: &[(u64, u64, EntryKind, &'static str)]) -> Message {
        let mut message = Message::new(MessageKind::Append, 9, from, term);
        message.entries = entries
            .iter()
            .map(|(index, term, kind, data)| raft::Entry {
                index: *index,
                term: *term,
                kind: *kind,
                data: Bytes::from_static(data.as_bytes()),
            })
            .collect();
        message
    }

    fn check(applied: u64, messages: &[Message], wrong: Option<&str>) {
        let (mut consensus, mut truth) = (Consensus::default(), Truth::default());
        let committed = raft::Entry {
            index: 1,
            term: 1,
            ..raft::Entry::default()
        };
        truth
            .committed(1, 1, &[committed])
            .expect("nothing was committed before");
        let results = messages
            .iter()
            .map(|message| consensus.leaves(message, applied, &truth));
        let first = results.filter_map(Result::err).next();
        match (&first, wrong) {
            (Some(first), Some(wrong)) => assert!(first.contains(wrong), "{first}"),
            _ => assert_eq!(first.as_deref(), wrong),
        }
    }

    #[test]
    fn what_raft_forbids_is_seen() {
        const N: EntryKind = EntryKind::Normal;
        const C: EntryKind = EntryKind::ConfChange;
        check(0, &[vote(1, 2, 3), vote(1, 2, 3), vote(1, 3, 4)], None);
        check(0, &[vote(1, 2, 3), vote(1, 3, 3)], Some("has voted for 2"));
        // A candidate votes for itself.
        let asks = Message::new(MessageKind::Vote, 2, 1, 3);
        check(0, &[asks, vote(1, 3, 3)], Some("has voted for 1"));
        let good = append(1, 2, &[(1, 1, N, ""), (2, 2, N, "a")]);
        check(0, &[good.clone(), good.clone()], None);
        let other = append(1, 2, &[(1, 1, N, ""), (2, 2, N, "b")]);
        check(0, &[good, other], Some("another entry 2"));
        check(
            0,
            &[append(3, 2, &[(1, 2, N, "")])],
            Some("was committed in term 1"),
        );
        // One that led before the commit may not know of it.
        check(0, &[append(3, 1, &[(1, 0, N, "")])], None);
        let changes = append(1, 2, &[(1, 1, N, ""), (2, 2, C, "a"), (3, 2, C, "b")]);
        check(
            0,
            std::slice::from_ref(&changes),
            Some("has not applied its change at 2"),
        );
        check(2, &[changes], None);
    }
}
