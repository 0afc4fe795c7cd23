//! Messages and states as a person reads them.

use std::fmt::Write;

use raft::{ConfState, Entry, EntryKind, Message, MessageKind, PeerState, Raft, Role};

use super::decode_change;

pub fn entry(entry: &Entry) -> String {
    let data = match entry.kind {
        EntryKind::ConfChange => {
            let change = decode_change(&entry.data);
            format!("{:?}({})", change.kind, change.node_id)
        }
        _ if entry.data.len() > 20 => format!("{} bytes", entry.data.len()),
        _ => format!("{:?}", String::from_utf8_lossy(&entry.data)),
    };
    if entry.index == 0 {
        data
    } else {
        format!("{}/{} {data}", entry.index, entry.term)
    }
}

pub fn entries(list: &[Entry]) -> String {
    format!("[{}]", list.iter().map(entry).collect::<Vec<_>>().join(", "))
}

pub fn members(members: &ConfState) -> String {
    let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("voters {}", list(&members.voters));
    if !members.learners.is_empty() {
        write!(text, " learners {}", list(&members.learners)).unwrap();
    }
    text
}

pub fn message(message: &Message) -> String {
    let mut text = format!("{}->{} {:?}", message.from, message.to, message.kind);
    if message.term > 0 {
        write!(text, " term {}", message.term).unwrap();
    }
    match message.kind {
        MessageKind::Append => {
            write!(
                text,
                " after {}/{} {}",
                message.index,
                message.log_term,
                entries(&message.entries)
            )
            .unwrap();
            write!(text, " commit {}", message.commit).unwrap();
        }
        MessageKind::AppendResponse if message.reject => {
            write!(
                text,
                " rejects {} hint {}/{}",
                message.index, message.reject_hint, message.log_term
            )
            .unwrap();
        }
        MessageKind::AppendResponse => write!(text, " index {}", message.index).unwrap(),
        MessageKind::Vote | MessageKind::PreVote => {
            write!(text, " log {}/{}", message.index, message.log_term).unwrap();
        }
        MessageKind::VoteResponse | MessageKind::PreVoteResponse => {
            text += if message.reject { " no" } else { " yes" };
        }
        MessageKind::Heartbeat => write!(text, " commit {}", message.commit).unwrap(),
        MessageKind::Snapshot => {
            let snapshot = message.snapshot.as_ref().unwrap();
            write!(
                text,
                " {}/{} {}",
                snapshot.index,
                snapshot.term,
                members(&snapshot.conf_state)
            )
            .unwrap();
        }
        MessageKind::Propose => write!(text, " {}", entries(&message.entries)).unwrap(),
        MessageKind::ReadIndex => write!(text, " {:?}", &message.entries[0].data[..]).unwrap(),
        MessageKind::ReadIndexResponse => {
            write!(
                text,
                " {:?} index {}",
                &message.entries[0].data[..],
                message.index
            )
            .unwrap();
        }
        MessageKind::HeartbeatResponse | MessageKind::TransferLeader | MessageKind::TimeoutNow => {}
    }
    if let Ok(number) = message.context[..].try_into() {
        write!(text, " context {}", u64::from_le_bytes(number)).unwrap();
    } else if !message.context.is_empty() {
        write!(text, " context {:?}", String::from_utf8_lossy(&message.context)).unwrap();
    }
    text
}

pub fn state(raft: &Raft) -> String {
    let status = raft.status();
    let hard_state = status.hard_state;
    let mut text = format!("{} {:?}", status.id, status.soft_state.role);
    write!(
        text,
        " term {} vote {} leader {}",
        hard_state.term, hard_state.vote, status.soft_state.leader
    )
    .unwrap();
    write!(text, " commit {} applied {}", hard_state.commit, status.applied).unwrap();
    write!(
        text,
        " log {}..{} durable {}",
        raft.first_index(),
        status.last_index,
        raft.durable_index()
    )
    .unwrap();
    write!(text, " {}", members(&raft.conf_state())).unwrap();
    if status.transferee != 0 {
        write!(text, " transfers to {}", status.transferee).unwrap();
    }
    if status.soft_state.role == Role::Leader {
        for peer in status.peers.iter().filter(|peer| peer.id != status.id) {
            write!(
                text,
                "\n  {} {:?} matched {} next {}",
                peer.id, peer.state, peer.matched, peer.next
            )
            .unwrap();
            if peer.paused && peer.state != PeerState::Snapshot {
                text += " paused";
            }
            if !peer.recent_active {
                text += " silent";
            }
            if peer.pending_snapshot > 0 {
                write!(text, " waits for {}", peer.pending_snapshot).unwrap();
            }
            if peer.inflight_messages > 0 {
                write!(text, " inflight {}", peer.inflight_messages).unwrap();
            }
        }
    }
    text
}
