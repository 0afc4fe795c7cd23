//! The stream that carries entries alone, "msgappv2": what a receiver knows already is left out. Pure; never
//! touches a connection (rafthttp/msgappv2_codec.go, the same in 3.5 to 3.7).
//!
//! ```text
//! | 0 |                                                           the link lives
//! | 1 | u64 count | count times: u64 length, entry | u64 commit |  entries that follow on the last ones
//! | 2 | u64 length | message |                                    any append, as a whole
//! ```
//!
//! Both sides keep the term and the place of the last entry. They begin at zero with each connection.

use bytes::{BufMut, BytesMut};
use raft::{Entry, Message, MessageKind};

use crate::framing::{FrameError, MESSAGE_BYTES_MAX};
use crate::gather::Gather;
use crate::message::{self, Malformed, Received};

const HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// Entries of one message: see `message.rs`.
const ENTRIES_MAX: u64 = 1 << 20;

/// The place that both sides know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    term: u64,
    index: u64,
}

impl Place {
    fn after(message: &Message) -> Place {
        Place {
            term: message.term,
            index: message.entries.last().map_or(message.index, |last| last.index),
        }
    }
}

/// The side that sends.
#[derive(Debug, Default)]
pub struct Encoder {
    place: Place,
}

impl Encoder {
    /// Puts an append behind what is in `out`.
    pub fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        let place = Place {
            term: message.log_term,
            index: message.index,
        };
        if place == self.place && message.log_term == message.term {
            out.put_u8(ENTRIES);
            out.put_u64(message.entries.len() as u64);
            for entry in &message.entries {
                let bytes = message::encode_entry(entry);
                out.put_u64(bytes.len() as u64);
                out.put_slice(&bytes);
            }
            out.put_u64(message.commit);
            self.place.index += message.entries.len() as u64;
        } else {
            let bytes = message::encode(message);
            out.put_u8(MESSAGE);
            out.put_u64(bytes.len() as u64);
            out.put_slice(&bytes);
            self.place = Place::after(message);
        }
    }

    /// Puts the sign of life of a link behind what is in `out`.
    pub fn encode_heartbeat(out: &mut BytesMut) {
        out.put_u8(HEARTBEAT);
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    Kind,
    Count,
    EntryLength { left: u64 },
    Entry { left: u64, len: usize },
    Commit,
    MessageLength,
    Message { len: usize },
}

/// The side that receives.
#[derive(Debug)]
pub struct Decoder {
    gather: Gather,
    /// The sender and the receiver, which frames of entries do not name.
    ends: (u64, u64),
    place: Place,
    part: Part,
    /// Of the frame that comes: the entries so far, and their bytes.
    entries: Vec<Entry>,
    bytes: u64,
}

impl Decoder {
    /// The beginning of a stream from one member to another.
    pub fn new(from: u64, to: u64) -> Decoder {
        Decoder {
            gather: Gather::default(),
            ends: (from, to),
            place: Place::default(),
            part: Part::Kind,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.gather.push(bytes);
    }

    /// Whether the stream may end here.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.part, Part::Kind) && self.gather.is_empty()
    }

    /// The next message, if all of it has come.
    ///
    /// # Errors
    /// If there is none: the rest of the stream means nothing then.
    pub fn next_message(&mut self) -> Result<Option<Received>, FrameError> {
        while let Some((next, received)) = self.step()? {
            self.part = next;
            if received.is_some() {
                return Ok(received);
            }
        }
        Ok(None)
    }

    /// One part further; `None` if it has not come as a whole.
    fn step(&mut self) -> Result<Option<(Part, Option<Received>)>, FrameError> {
        let next = match self.part {
            Part::Kind => self.gather.take_u8().map(of_kind).transpose()?,
            Part::Count => match self.gather.take_u64() {
                Some(count) if count > ENTRIES_MAX => return Err(Malformed::Entries.into()),
                count => count.map(|left| (entry_or_commit(left), None)),
            },
            Part::EntryLength { left } => match self.gather.take_u64() {
                Some(field) => {
                    self.bytes = self.bytes.saturating_add(field);
                    let len = length(self.bytes, field)?;
                    Some((Part::Entry { left, len }, None))
                }
                None => None,
            },
            Part::Entry { left, len } => match self.gather.take(len) {
                Some(bytes) => {
                    self.entries.push(message::decode_entry(bytes)?);
                    Some((entry_or_commit(left - 1), None))
                }
                None => None,
            },
            Part::Commit => self
                .gather
                .take_u64()
                .map(|commit| (Part::Kind, Some(self.entries_came(commit)))),
            Part::MessageLength => match self.gather.take_u64() {
                Some(field) => {
                    let len = length(field, field)?;
                    Some((Part::Message { len }, None))
                }
                None => None,
            },
            Part::Message { len } => match self.gather.take(len) {
                Some(bytes) => {
                    let received = message::decode(bytes)?;
                    if let Received::Message(message) = &received {
                        self.place = Place::after(message);
                    }
                    Some((Part::Kind, Some(received)))
                }
                None => None,
            },
        };
        Ok(next)
    }

    fn entries_came(&mut self, commit: u64) -> Received {
        let (from, to) = self.ends;
        let mut message = Message::new(MessageKind::Append, to, from, self.place.term);
        message.log_term = self.place.term;
        message.index = self.place.index;
        message.commit = commit;
        message.entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        // What makes no sense as a place is refused by raft.
        self.place.index = self.place.index.wrapping_add(message.entries.len() as u64);
        Received::Message(message)
    }
}

fn of_kind(kind: u8) -> Result<(Part, Option<Received>), FrameError> {
    match kind {
        HEARTBEAT => Ok((Part::Kind, Some(Received::LinkHeartbeat))),
        ENTRIES => Ok((Part::Count, None)),
        MESSAGE => Ok((Part::MessageLength, None)),
        kind => Err(FrameError::Kind(kind)),
    }
}

fn entry_or_commit(left: u64) -> Part {
    match left {
        0 => Part::Commit,
        left => Part::EntryLength { left },
    }
}

/// Go has no limit here; what its other stream takes is enough for both.
fn length(all: u64, field: u64) -> Result<usize, FrameError> {
    let len = usize::try_from(field).ok().filter(|_| all <= MESSAGE_BYTES_MAX);
    len.ok_or(FrameError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn append(term: u64, (log_term, index): (u64, u64), count: u64, commit: u64) -> Message {
        let mut message = Message::new(MessageKind::Append, 2, 1, term);
        message.log_term = log_term;
        message.index = index;
        message.commit = commit;
        message.entries = (1..=count)
            .map(|number| Entry {
                kind: raft::EntryKind::Normal,
                term,
                index: index + number,
                data: Bytes::from(vec![0xab; usize::try_from(number * 10).unwrap()]),
            })
            .collect();
        message
    }

    #[test]
    fn what_follows_is_short_and_all_arrives() {
        // What is sent, and whether it goes as a whole.
        let story = [
            (append(3, (2, 10), 2, 9), true),
            (append(3, (2, 10), 2, 9), true),
            (append(3, (3, 12), 0, 12), false),
            (append(3, (3, 12), 3, 12), false),
            (append(3, (3, 15), 1, 14), false),
            // A gap, a new term, and the first entries in it.
            (append(3, (3, 20), 1, 16), true),
            (append(4, (3, 21), 0, 16), true),
            (append(4, (3, 21), 2, 16), true),
            (append(4, (4, 23), 1, 16), false),
        ];
        let mut encoder = Encoder::default();
        let mut bytes = BytesMut::new();
        for (message, whole) in &story {
            let before = bytes.len();
            encoder.encode(message, &mut bytes);
            let kind = if *whole { MESSAGE } else { ENTRIES };
            assert_eq!(bytes[before], kind, "{message:?}");
            Encoder::encode_heartbeat(&mut bytes);
        }
        for size in [1, 3, 8, 17, bytes.len()] {
            let mut decoder = Decoder::new(1, 2);
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(received) = decoder.next_message().unwrap() {
                    if let Received::Message(message) = received {
                        found.push(message);
                    }
                }
            }
            assert!(decoder.is_between_messages());
            let sent: Vec<Message> = story.iter().map(|(message, _)| message.clone()).collect();
            assert_eq!(found, sent, "{size}");
        }
    }

    #[test]
    fn a_new_connection_knows_nothing() {
        let mut bytes = BytesMut::new();
        Encoder::default().encode(&append(3, (3, 12), 1, 0), &mut bytes);
        assert_eq!(bytes[0], MESSAGE);
        // But for the one place that both sides know at once.
        bytes.clear();
        Encoder::default().encode(&append(0, (0, 0), 0, 0), &mut bytes);
        assert_eq!(bytes[0], ENTRIES);
    }

    #[test]
    fn what_makes_no_sense_ends_the_stream() {
        let big = |number: u64| number.to_be_bytes().to_vec();
        let frame = |parts: &[Vec<u8>]| parts.concat();
        for (bytes, error) in [
            (vec![3], FrameError::Kind(3)),
            (frame(&[vec![1], big(u64::MAX)]), Malformed::Entries.into()),
            (frame(&[vec![1], big(ENTRIES_MAX + 1)]), Malformed::Entries.into()),
            (frame(&[vec![1], big(1), big(u64::MAX)]), FrameError::TooLong),
            (frame(&[vec![2], big(MESSAGE_BYTES_MAX + 1)]), FrameError::TooLong),
            (frame(&[vec![2], big(1), vec![0xff]]), Malformed::Bytes.into()),
            (
                frame(&[vec![1], big(1), big(2), vec![0x08, 9]]),
                Malformed::EntryKind(9).into(),
            ),
        ] {
            let mut decoder = Decoder::new(1, 2);
            decoder.push(&bytes);
            assert_eq!(decoder.next_message(), Err(error), "{bytes:?}");
        }
    }
}
