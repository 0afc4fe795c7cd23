//! Messages of raft as raftpb has them on the wire, and back. Never looks at what a message means, beyond
//! telling those for raft from those for the link.
//!
//! All lines of etcd read what another one writes: fields that are zero may be there (3.5, 3.6) or not (3.7).

use api::raftpb;
use bytes::Bytes;
use prost::Message as _;
use raft::{ConfState, Entry, EntryKind, Message, MessageKind, NONE, Snapshot};

/// Entries that one message may have. Go sends at most 1 MiB of entries and one more, and an entry takes
/// at least four bytes.
const ENTRIES_MAX: usize = 1 << 20;
/// Bytes of what a snapshot message says of the membership: each number in it takes more in memory.
const METADATA_BYTES_MAX: usize = 1 << 20;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not protobuf, or fields of another kind than raftpb's.
    #[error("the bytes are not a raft message")]
    Bytes,
    /// More entries than any member sends.
    #[error("the message has more than {ENTRIES_MAX} entries")]
    Entries,
    /// An entry of a kind that no log can hold.
    #[error("the message has an entry of unknown kind {0}")]
    EntryKind(i32),
    /// A snapshot whose membership is larger than any cluster's.
    #[error("the message has a membership of more than {METADATA_BYTES_MAX} bytes")]
    Metadata,
    /// Fields of messages that never leave a member.
    #[error("the message has fields that never leave a member")]
    Local,
}

/// What came from another member.
#[allow(clippy::large_enum_variant)] // Nearly all are messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message for raft.
    Message(Message),
    /// The link lives: rafthttp/stream.go, linkHeartbeatMessage.
    LinkHeartbeat,
    /// A kind that only members send to themselves, or that is not known: Go drops those, too.
    Ignored(i32),
}

/// The bytes of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    to_wire(message).encode_to_vec()
}

/// Reads a message.
///
/// # Errors
/// If the bytes are none, or one that would take far more memory than it has bytes.
pub fn decode(bytes: Bytes) -> Result<Received, Malformed> {
    check_fields(&bytes)?;
    let wire = raftpb::Message::decode(bytes).map_err(|_| Malformed::Bytes)?;
    let number = wire.r#type.unwrap_or_default();
    let kind = u64::try_from(number).ok().and_then(MessageKind::from_wire);
    let Some(kind) = kind else {
        return Ok(Received::Ignored(number));
    };
    if kind == MessageKind::Heartbeat && wire.from() == NONE && wire.to() == NONE {
        return Ok(Received::LinkHeartbeat);
    }
    let mut message = Message::new(kind, wire.to(), wire.from(), wire.term());
    message.log_term = wire.log_term();
    message.index = wire.index();
    message.commit = wire.commit();
    message.reject = wire.reject();
    message.reject_hint = wire.reject_hint();
    message.context = wire.context.unwrap_or_default();
    message.entries = wire.entries.into_iter().map(entry_of).collect::<Result<_, _>>()?;
    // 3.5 has an empty one in every message.
    if kind == MessageKind::Snapshot {
        message.snapshot = wire.snapshot.map(snapshot_of);
    }
    Ok(Received::Message(message))
}

/// The bytes of an entry.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    entry_to_wire(entry).encode_to_vec()
}

/// Reads an entry.
pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, Malformed> {
    entry_of(raftpb::Entry::decode(bytes).map_err(|_| Malformed::Bytes)?)
}

fn to_wire(message: &Message) -> raftpb::Message {
    let number = |number: u64| (number != 0).then_some(number);
    raftpb::Message {
        r#type: Some(i32::from(message.kind.wire())),
        to: number(message.to),
        from: number(message.from),
        term: number(message.term),
        log_term: number(message.log_term),
        index: number(message.index),
        entries: message.entries.iter().map(entry_to_wire).collect(),
        commit: number(message.commit),
        vote: None,
        snapshot: message.snapshot.as_ref().map(snapshot_to_wire),
        reject: message.reject.then_some(true),
        reject_hint: number(message.reject_hint),
        context: Some(message.context.clone()).filter(|context| !context.is_empty()),
        responses: Vec::new(),
    }
}

/// With the kind, the term and the index also where they are zero, as they are in every line's log.
fn entry_to_wire(entry: &Entry) -> raftpb::Entry {
    raftpb::Entry {
        r#type: Some(i32::from(entry.kind.wire())),
        term: Some(entry.term),
        index: Some(entry.index),
        data: Some(entry.data.clone()).filter(|data| !data.is_empty()),
    }
}

fn entry_of(wire: raftpb::Entry) -> Result<Entry, Malformed> {
    let number = wire.r#type.unwrap_or_default();
    let kind = u64::try_from(number).ok().and_then(EntryKind::from_wire);
    Ok(Entry {
        kind: kind.ok_or(Malformed::EntryKind(number))?,
        term: wire.term(),
        index: wire.index(),
        data: wire.data.unwrap_or_default(),
    })
}

fn snapshot_to_wire(snapshot: &Snapshot) -> raftpb::Snapshot {
    let state = &snapshot.conf_state;
    raftpb::Snapshot {
        data: Some(snapshot.data.clone()),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(raftpb::ConfState {
                voters: state.voters.clone(),
                learners: state.learners.clone(),
                voters_outgoing: state.voters_outgoing.clone(),
                learners_next: state.learners_next.clone(),
                // There in all lines, also where it is false.
                auto_leave: Some(state.auto_leave),
            }),
            index: Some(snapshot.index),
            term: Some(snapshot.term),
        }),
    }
}

fn snapshot_of(wire: raftpb::Snapshot) -> Snapshot {
    let metadata = wire.metadata.unwrap_or_default();
    let state = metadata.conf_state.clone().unwrap_or_default();
    Snapshot {
        index: metadata.index(),
        term: metadata.term(),
        conf_state: ConfState {
            auto_leave: state.auto_leave(),
            voters: state.voters,
            learners: state.learners,
            voters_outgoing: state.voters_outgoing,
            learners_next: state.learners_next,
        },
        data: wire.data.unwrap_or_default(),
    }
}

/// Counts what takes more memory than bytes, before any is taken.
fn check_fields(bytes: &[u8]) -> Result<(), Malformed> {
    const ENTRIES: u64 = 7;
    const SNAPSHOT: u64 = 9;
    const RESPONSES: u64 = 14;
    const METADATA: u64 = 2;
    let (mut entries, mut metadata_bytes) = (0, 0);
    for field in Fields(bytes) {
        let (number, content) = field?;
        match number {
            ENTRIES => entries += 1,
            SNAPSHOT => {
                for inner in Fields(content) {
                    let (number, content) = inner?;
                    if number == METADATA {
                        metadata_bytes += content.len();
                    }
                }
            }
            RESPONSES => return Err(Malformed::Local),
            _ => {}
        }
        if entries > ENTRIES_MAX {
            return Err(Malformed::Entries);
        }
        if metadata_bytes > METADATA_BYTES_MAX {
            return Err(Malformed::Metadata);
        }
    }
    Ok(())
}

/// The fields of a message: numbers, and what is in those that have a length.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed::Bytes)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Bytes)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed::Bytes)?;
        let (content, rest) = self.0.split_at_checked(len).ok_or(Malformed::Bytes)?;
        self.0 = rest;
        Ok(content)
    }

    fn field(&mut self) -> Result<(u64, &'a [u8]), Malformed> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => {
                self.varint()?;
                &[]
            }
            1 => self.take(8)?,
            2 => {
                let len = self.varint()?;
                self.take(len)?
            }
            5 => self.take(4)?,
            _ => return Err(Malformed::Bytes),
        };
        Ok((key >> 3, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Link heartbeats as members of the three lines send them.
    #[test]
    fn link_heartbeats_of_all_lines_are_known() {
        for bytes in [
            &[0x08, 0x08][..],
            &[
                0x08, 0x08, 0x10, 0x00, 0x18, 0x00, 0x20, 0x00, 0x28, 0x00, 0x30, 0x00, 0x40, 0x00, 0x50,
                0x00, 0x58, 0x00, 0x68, 0x00,
            ],
            &[
                0x08, 0x08, 0x10, 0x00, 0x18, 0x00, 0x20, 0x00, 0x28, 0x00, 0x30, 0x00, 0x40, 0x00, 0x4a,
                0x0a, 0x12, 0x08, 0x0a, 0x00, 0x28, 0x00, 0x18, 0x00, 0x20, 0x00, 0x50, 0x00, 0x58, 0x00,
            ],
        ] {
            assert_eq!(decode(Bytes::copy_from_slice(bytes)), Ok(Received::LinkHeartbeat));
        }
    }

    #[test]
    fn what_never_leaves_a_member_is_told_apart() {
        let of_kind = |kind: u8| decode(Bytes::from(vec![0x08, kind, 0x10, 1, 0x18, 2]));
        for kind in [0, 1, 10, 11, 12, 19, 20, 21, 22, 23, 99] {
            assert_eq!(of_kind(kind), Ok(Received::Ignored(i32::from(kind))));
        }
        assert!(matches!(of_kind(8), Ok(Received::Message(_))));
        // An empty message is one of kind 0.
        assert_eq!(decode(Bytes::new()), Ok(Received::Ignored(0)));
        // Messages within messages.
        assert_eq!(decode(Bytes::from_static(&[0x72, 0])), Err(Malformed::Local));
    }

    #[test]
    fn messages_that_take_more_memory_than_bytes_are_refused() {
        let entries = |count| Bytes::from([0x3a, 0].repeat(count));
        assert!(decode(entries(1000)).is_ok());
        assert_eq!(decode(entries(ENTRIES_MAX + 1)), Err(Malformed::Entries));
        let mut snapshot = raftpb::Snapshot::default();
        snapshot.metadata.get_or_insert_default().conf_state = Some(raftpb::ConfState {
            voters: vec![1; METADATA_BYTES_MAX],
            ..raftpb::ConfState::default()
        });
        let message = raftpb::Message {
            r#type: Some(7),
            snapshot: Some(snapshot),
            ..raftpb::Message::default()
        };
        assert_eq!(
            decode(Bytes::from(message.encode_to_vec())),
            Err(Malformed::Metadata)
        );
    }

    #[test]
    fn garbage_is_refused() {
        for bytes in [
            // A field whose length goes beyond the end, a type of another kind, a group, a number of eleven bytes.
            &[0x3a, 0x05, 0x08][..],
            &[0x0a, 0x01, 0x08],
            &[0x0b, 0x0c],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x4a, 0x02, 0x12, 0x05],
        ] {
            assert_eq!(decode(Bytes::copy_from_slice(bytes)), Err(Malformed::Bytes));
        }
        assert_eq!(
            decode(Bytes::from_static(&[0x08, 3, 0x3a, 2, 0x08, 7])),
            Err(Malformed::EntryKind(7))
        );
    }
}
