//! The faults of a whole member: each breaks a promise that only shows when machines die, messages are lost, or members
//! come and go.

use super::Mutant;

const fn mutant(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, file, from, to }
}

pub const MUTANTS: &[Mutant] = &[
    mutant(
        "acknowledge before sync",
        "crates/member/src/persist.rs",
        "match wal.sync() {",
        "match (|_: &Wal| Ok::<(), wal::Error>(()))(wal) {",
    ),
    mutant(
        "forget the vote on restart",
        "crates/raft/src/core.rs",
        "(hard_state.term, hard_state.vote)\n        };",
        "(hard_state.term, NONE)\n        };",
    ),
    mutant(
        "read without a quorum check",
        "crates/raft/src/reading.rs",
        "if self.is_lone_voter() {\n            self.answer_read",
        "if true {\n            self.answer_read",
    ),
    mutant(
        "reuse a read context: an old confirmation counts for a new read",
        "crates/raft/src/reads.rs",
        "if self.confirmed >= number {",
        "if number == 0 {",
    ),
    mutant(
        "apply twice after restart",
        "crates/mvcc/src/schema/meta.rs",
        "let index = number(CONSISTENT_INDEX)?;",
        "let index = number(CONSISTENT_INDEX)?.saturating_sub(1);",
    ),
    mutant(
        "count an unapplied membership change as applied",
        "crates/raft/src/replication.rs",
        "if pending > self.log.applied() {",
        "if pending > self.log.last() {",
    ),
    mutant(
        "drop one watch event: the last of a revision",
        "crates/member/src/frontend/watch/mod.rs",
        "for (at, event) in events.iter().enumerate() {",
        "for (at, event) in events.iter().enumerate().take(events.len().max(2) - 1) {",
    ),
    mutant(
        "free a page that is still read",
        "crates/bbolt/src/space.rs",
        "let keep = reaches(*freed, *born);",
        "let keep = reaches(*freed, *born) && false;",
    ),
    mutant(
        "lose the tail of a txn",
        "crates/state/src/txn.rs",
        "    for op in ops {\n        let response = match",
        "    for op in ops.iter().take(ops.len().max(2) - 1) {\n        let response = match",
    ),
    mutant(
        "compact the latest tombstone (etcd 17780)",
        "crates/mvcc/src/index/history.rs",
        "!self.is_tombstone() || self.main == at\n    }",
        "!self.is_tombstone() || self.main == at && false\n    }",
    ),
    mutant(
        "messages leave before what they promise is durable",
        "crates/member/src/decide.rs",
        "                _ => waiting.push(message),",
        "                _ => peer::send(message, router),",
    ),
    mutant(
        "the data file is committed ahead of the own log",
        "crates/member/src/apply/file.rs",
        "        if self.shared.ask_durable(index)\n            && let",
        "        if let",
    ),
    mutant(
        "watchers are not told of a replaced store",
        "crates/member/src/frontend/watch/mod.rs",
        "        self.demote_all(view.revision);\n    }\n\n    fn publish_revision",
        "        self.revision = self.revision.max(view.revision);\n    }\n\n    fn publish_revision",
    ),
    mutant(
        "a snapshot says more than it holds",
        "crates/member/src/apply/install.rs",
        "            index,\n            term,\n            conf_state: raft",
        "            index: index + 1,\n            term,\n            conf_state: raft",
    ),
    mutant(
        "the end of the log is trusted after a failed sync",
        "crates/wal/src/open.rs",
        "        wal.rewrite_tail()?;\n",
        "",
    ),
    mutant(
        "a leader renews leases without asking whether it still leads",
        "crates/member/src/apply/questions.rs",
        "self.lessor.is_primary() && self.shared.pulse.read_index().is_some()",
        "self.lessor.is_primary()",
    ),
    mutant(
        "what a leader decided is proposed after its time",
        "crates/member/src/decide.rs",
        "if !self.leads() || self.raft.term() != term {",
        "if term == 0 {",
    ),
    mutant(
        "two received states are opened at once",
        "crates/member/src/apply/install.rs",
        "            Installing::Opening { snapshot: older, .. } => Installing::Opening {\n                snapshot: older,\n                next: Some(snapshot),\n            },\n            Installing::No | Installing::Waiting(_) =>",
        "            _ =>",
    ),
    mutant(
        "a change of members from before a received state changes them again",
        "crates/raft/src/membership.rs",
        "if index <= self.members_index {",
        "if index == 0 && self.members_index == 0 {",
    ),
    mutant(
        "who applies does nothing but wake up while a scan is out",
        "crates/member/src/apply/compaction.rs",
        "self.next.filter(|_| !self.scanning)",
        "self.next",
    ),
];
