//! How many bytes of other members' messages may wait for raft. What finds no room is lost: raft sends it again.
//! Never waits.

use std::sync::atomic::{AtomicU64, Ordering};

use member::ToDecide;
use raft::Message;

/// Bytes of messages that may wait. etcd has room for 4096 messages of about a megabyte; a leader has a few
/// hundred on their way to a member at most.
const BYTES_MAX: u64 = 128 << 20;
/// What a message and an entry take beside their bytes.
const MESSAGE_BYTES: u64 = 256;
const ENTRY_BYTES: u64 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PeerRoom {
    taken: AtomicU64,
}

impl PeerRoom {
    /// Whether there is room for a message: then it is taken. A message alone always has it.
    pub(super) fn enter(&self, message: &Message) -> bool {
        let bytes = weight(message);
        let before = self.taken.fetch_add(bytes, Ordering::SeqCst);
        if before == 0 || before.saturating_add(bytes) <= BYTES_MAX {
            return true;
        }
        self.taken.fetch_sub(bytes, Ordering::SeqCst);
        false
    }

    /// Takes room in any case: for the message of a snapshot whose file is there already.
    pub(super) fn push_in(&self, message: &Message) {
        self.taken.fetch_add(weight(message), Ordering::SeqCst);
    }

    /// Messages leave the queue: each has entered.
    pub(super) fn leave(&self, batch: &[ToDecide]) {
        let bytes: u64 = batch
            .iter()
            .map(|input| match input {
                ToDecide::Peer(message) => weight(message),
                _ => 0,
            })
            .sum();
        if bytes > 0 {
            self.taken.fetch_sub(bytes, Ordering::SeqCst);
        }
    }
}

fn weight(message: &Message) -> u64 {
    let entries: u64 = message
        .entries
        .iter()
        .map(|entry| ENTRY_BYTES + entry.data.len() as u64)
        .sum();
    MESSAGE_BYTES + message.context.len() as u64 + entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Entry, MessageKind};

    fn append(bytes: usize) -> Message {
        let mut message = Message::new(MessageKind::Append, 1, 2, 5);
        message.entries.push(Entry {
            data: vec![0; bytes].into(),
            ..Entry::default()
        });
        message
    }

    #[test]
    fn who_floods_gets_no_more_room_until_raft_has_seen_it() {
        let room = PeerRoom::default();
        let megabyte = append(1 << 20);
        let entered = (0..1000).take_while(|_| room.enter(&megabyte)).count();
        assert_eq!(entered, 127, "with what each takes beside its bytes");
        let heartbeat = Message::new(MessageKind::Heartbeat, 1, 2, 5);
        assert!(room.enter(&heartbeat), "what is small still finds room");
        let mut batch = vec![ToDecide::Tick, ToDecide::Peer(Box::new(heartbeat))];
        batch.extend((0..entered).map(|_| ToDecide::Peer(Box::new(megabyte.clone()))));
        room.leave(&batch);
        assert_eq!(room.taken.load(Ordering::SeqCst), 0);
        assert!(room.enter(&append(200 << 20)), "the largest comes alone");
        assert!(!room.enter(&append(0)));
        room.push_in(&append(0));
    }
}
