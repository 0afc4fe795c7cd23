//! Messages and states as the oracle reads and writes them.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use raft::{Entry, Message, MessageKind, PeerState, Role};

pub fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn ids(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join("+")
}

pub fn entries_text(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "-".to_owned();
    }
    let text = |entry: &Entry| {
        format!(
            "{}:{}:{}:{}",
            entry.kind.wire(),
            entry.term,
            entry.index,
            hex(&entry.data)
        )
    };
    entries.iter().map(text).collect::<Vec<_>>().join(",")
}

pub fn message_text(message: &Message) -> String {
    let Message {
        kind,
        to,
        from,
        term,
        log_term,
        index,
        commit,
        reject,
        reject_hint,
        ..
    } = message;
    let context = if message.context.is_empty() {
        "-".to_owned()
    } else {
        hex(&message.context)
    };
    let snapshot = message.snapshot.as_ref().map_or("-".to_owned(), |snapshot| {
        let members = &snapshot.conf_state;
        format!(
            "{}:{}:{}:{}",
            snapshot.index,
            snapshot.term,
            ids(&members.voters),
            ids(&members.learners)
        )
    });
    let (kind, reject) = (kind.wire(), u8::from(*reject));
    let entries = entries_text(&message.entries);
    format!(
        "{kind} {from} {to} {term} {log_term} {index} {commit} {reject} {reject_hint} {context} {snapshot} {entries}"
    )
}

/// Answers that wait for a disk; the others are compared when they come out.
pub fn is_promise(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::AppendResponse | MessageKind::VoteResponse | MessageKind::PreVoteResponse
    )
}

pub fn state_text(raft: &raft::Raft) -> Vec<String> {
    let status = raft.status();
    let role = match status.soft_state.role {
        Role::Follower => 0,
        Role::Candidate => 1,
        Role::Leader => 2,
        Role::PreCandidate => 3,
    };
    let (hard_state, members) = (status.hard_state, raft.conf_state());
    let mut line = format!(
        "s {role} {} {} {}",
        hard_state.term, hard_state.vote, status.soft_state.leader
    );
    write!(
        line,
        " {} {} {}",
        hard_state.commit, status.applied, status.last_index
    )
    .unwrap();
    write!(
        line,
        " {} {}|{}",
        status.transferee,
        ids(&members.voters),
        ids(&members.learners)
    )
    .unwrap();
    let mut lines = vec![line];
    if role == 2 {
        for peer in status.peers.iter().filter(|peer| peer.id != status.id) {
            let state = match peer.state {
                PeerState::Probe => 0,
                PeerState::Replicate => 1,
                PeerState::Snapshot => 2,
            };
            let mut line = format!(
                "p {} {} {} {state} {}",
                peer.id, peer.matched, peer.next, peer.paused
            );
            write!(
                line,
                " {} {} {}",
                peer.pending_snapshot, peer.recent_active, peer.inflight_messages
            )
            .unwrap();
            lines.push(line);
        }
    }
    lines
}

/// Sorts lines by what they are, keeping the order of messages, and drops all but the last heartbeat to a member.
pub fn normalize(mut lines: Vec<String>) -> Vec<String> {
    let heartbeat = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[0] == "m" && fields[1] == "8").then(|| fields[3].to_owned())
    };
    for place in (0..lines.len()).rev() {
        if let Some(to) = heartbeat(&lines[place])
            && lines[place + 1..]
                .iter()
                .any(|later| heartbeat(later).as_ref() == Some(&to))
        {
            lines.remove(place);
        }
    }
    lines.sort_by_key(|line| line.split(' ').next().unwrap().to_owned());
    lines
}
