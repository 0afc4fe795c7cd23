//! The faults of consensus: each breaks one promise of raft, or one duty of a member.

use super::Mutant;

/// None of them needs Go; `interactions` looks further where it is there.
pub const TESTS: &[&str] = &[
    "--lib",
    "--test=garbage",
    "--test=interactions",
    "--test=one_voter",
    "--test=safety",
    "--test=slow_disk",
    "--test=transcripts",
];

const CORE: &str = "crates/raft/src/core.rs";
const ELECTION: &str = "crates/raft/src/election.rs";
const LOG: &str = "crates/raft/src/log.rs";
const READING: &str = "crates/raft/src/reading.rs";
const READS: &str = "crates/raft/src/reads.rs";
const REPLICATION: &str = "crates/raft/src/replication.rs";
const STEP: &str = "crates/raft/src/step.rs";

const fn mutant(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, file, from, to }
}

pub const MUTANTS: &[Mutant] = &[
    mutant(
        "forget the vote on restart",
        CORE,
        "(hard_state.term, hard_state.vote)\n        };",
        "(hard_state.term, NONE)\n        };",
    ),
    mutant(
        "acknowledge before sync",
        CORE,
        "self.messages.push((message, true));",
        "self.messages.push((message, false));",
    ),
    mutant(
        "read without a quorum check",
        READING,
        "if self.is_lone_voter() {\n            self.answer_read",
        "if true {\n            self.answer_read",
    ),
    mutant(
        "reuse a read context: an old confirmation counts for a new read",
        READS,
        "if self.confirmed >= number {",
        "if number == 0 {",
    ),
    mutant(
        "read before the first commit of the term",
        READING,
        "if self.has_committed_in_term() {\n            self.begin_read",
        "if true {\n            self.begin_read",
    ),
    mutant(
        "count an unapplied membership change as applied when another is proposed",
        REPLICATION,
        "if pending > self.log.applied() {",
        "if pending > self.log.commit() {",
    ),
    mutant(
        "count an unapplied membership change as applied when campaigning",
        ELECTION,
        "|| self.log.has_unapplied_conf_change() {",
        "{",
    ),
    mutant(
        "commit an entry of an earlier term by counting",
        REPLICATION,
        "if reached <= before || !self.log.matches(reached, self.term) {",
        "if reached <= before {",
    ),
    mutant(
        "count the leader's entries before its disk has them",
        REPLICATION,
        "let durable = self.log.durable();",
        "let durable = self.log.last();",
    ),
    mutant(
        "take a lone voter's entries for committed on its disk before they are",
        ELECTION,
        "let durable = self.log.durable();",
        "let durable = self.log.last() + 1;",
    ),
    mutant(
        "a write proves entries that were replaced since",
        LOG,
        "write.last = write.last.min(from - 1);",
        "let _ = write;",
    ),
    mutant(
        "vote for a log that lacks entries",
        ELECTION,
        "let granted = free && self.log.is_up_to_date(message.index, message.log_term);",
        "let granted = free;",
    ),
    mutant(
        "vote twice in a term",
        ELECTION,
        "(self.vote == NONE && self.leader == NONE)",
        "(self.leader == NONE)",
    ),
    mutant(
        "lead before the own disk knows of the term",
        ELECTION,
        "(Tally::Won, Role::Candidate) if self.durable_term == self.term => {",
        "(Tally::Won, Role::Candidate) => {",
    ),
    mutant(
        "count learners",
        CORE,
        ".extend(self.peers.iter().filter(|peer| !peer.learner).map(number));",
        ".extend(self.peers.iter().map(number));",
    ),
    mutant(
        "tell a follower a commit that it may not hold",
        REPLICATION,
        "let commit = peer.matched.min(self.log.commit());",
        "let commit = self.log.commit();",
    ),
    mutant(
        "a snapshot leaves the membership as it was",
        REPLICATION,
        "self.restore_members(&conf_state);\n        Ok(())",
        "let _ = conf_state;\n        Ok(())",
    ),
    mutant(
        "forget entries that the own disk does not hold",
        LOG,
        "index.min(self.applied).min(self.durable);",
        "index.min(self.applied);",
    ),
    mutant(
        "a leader without a quorum stays",
        ELECTION,
        "if !active {",
        "if !active && self.peers.is_empty() {",
    ),
    mutant(
        "followers of a living leader elect another",
        STEP,
        "if asks_vote && message.context[..] != *TRANSFER_CONTEXT && self.is_loyal() {",
        "if asks_vote && self.is_loyal() && false {",
    ),
];
