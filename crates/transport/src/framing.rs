//! The stream of messages of any kind, and the head of a snapshot: a length and a message. Pure; never
//! touches a connection (rafthttp/msg_codec.go).
//!
//! ```text
//! | u64, big endian: bytes of the message | the message, protobuf |
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use raft::Message;

use crate::gather::Gather;
use crate::message::{self, Malformed, Received};

/// Bytes of a message on a stream: rafthttp/msg_codec.go, readBytesLimit.
pub const MESSAGE_BYTES_MAX: u64 = 512 << 20;
/// Bytes of the message before a data file: rafthttp/http.go, snapshotLimitByte.
pub const SNAPSHOT_MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame longer than any that is sent. Go's text.
    #[error("rafthttp: error limit exceeded")]
    TooLong,
    /// Go's text for a frame that is none.
    #[error("failed to parse type {0} in msgappv2 stream")]
    Kind(u8),
    /// What is in a frame is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Puts a message behind what is in `out`.
pub fn encode(message: &Message, out: &mut BytesMut) {
    let bytes = message::encode(message);
    out.put_u64(bytes.len() as u64);
    out.put_slice(&bytes);
}

/// Puts the sign of life of a link behind what is in `out`, as 3.7 writes it.
pub fn encode_heartbeat(out: &mut BytesMut) {
    const HEARTBEAT: [u8; 2] = [0x08, 0x08];
    out.put_u64(HEARTBEAT.len() as u64);
    out.put_slice(&HEARTBEAT);
}

/// Reads messages out of a stream, piece by piece.
#[derive(Debug)]
pub struct Decoder {
    gather: Gather,
    bytes_max: u64,
    /// Of the message that comes, once it is known.
    len: Option<usize>,
}

impl Decoder {
    /// The beginning of a stream whose messages have at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Decoder {
        Decoder {
            gather: Gather::default(),
            bytes_max,
            len: None,
        }
    }

    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.gather.push(bytes);
    }

    /// The next message, if all of it has come.
    ///
    /// # Errors
    /// If there is none: the rest of the stream means nothing then.
    pub fn next_message(&mut self) -> Result<Option<Received>, FrameError> {
        let len = match self.len {
            Some(len) => len,
            None => {
                let Some(field) = self.gather.take_u64() else {
                    return Ok(None);
                };
                let len = usize::try_from(field).ok().filter(|_| field <= self.bytes_max);
                let len = len.ok_or(FrameError::TooLong)?;
                self.len = Some(len);
                len
            }
        };
        let Some(bytes) = self.gather.take(len) else {
            return Ok(None);
        };
        self.len = None;
        Ok(Some(message::decode(bytes)?))
    }

    /// Whether the stream may end here.
    pub fn is_between_messages(&self) -> bool {
        self.len.is_none() && self.gather.is_empty()
    }

    /// What came behind the last message that was taken.
    pub fn take_rest(&mut self) -> Bytes {
        self.gather.take_rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::MessageKind;

    #[test]
    fn messages_come_in_pieces_of_any_size() {
        let messages: Vec<Message> = (1..40)
            .map(|number| {
                let mut message = Message::new(MessageKind::HeartbeatResponse, 2, 1, number);
                message.context = Bytes::from(vec![7; usize::try_from(number).unwrap()]);
                message
            })
            .collect();
        let mut bytes = BytesMut::new();
        for message in &messages {
            encode(message, &mut bytes);
            encode_heartbeat(&mut bytes);
        }
        for size in [1, 2, 7, 8, 9, 100, bytes.len()] {
            let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
            let mut found = Vec::new();
            let mut heartbeats = 0;
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(received) = decoder.next_message().unwrap() {
                    match received {
                        Received::Message(message) => found.push(message),
                        Received::LinkHeartbeat => heartbeats += 1,
                        Received::Ignored(kind) => panic!("{kind}"),
                    }
                }
            }
            assert!(decoder.is_between_messages());
            assert_eq!((found, heartbeats), (messages.clone(), messages.len()), "{size}");
        }
    }

    #[test]
    fn absurd_lengths_take_no_memory() {
        for (field, error) in [
            (MESSAGE_BYTES_MAX + 1, Some(FrameError::TooLong)),
            (0x007f_0000_0002_0000, Some(FrameError::TooLong)),
            (u64::MAX, Some(FrameError::TooLong)),
            // As long as nothing comes behind it, it costs nothing.
            (MESSAGE_BYTES_MAX, None),
        ] {
            let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
            decoder.push(&field.to_be_bytes());
            assert_eq!(decoder.next_message().err(), error, "{field}");
            assert!(!decoder.is_between_messages() || error.is_some());
        }
    }

    #[test]
    fn what_follows_a_snapshot_message_is_its_file() {
        let mut bytes = BytesMut::new();
        let mut message = Message::new(MessageKind::Snapshot, 2, 1, 3);
        message.snapshot = Some(raft::Snapshot {
            index: 7,
            ..raft::Snapshot::default()
        });
        encode(&message, &mut bytes);
        bytes.put_slice(b"the file");
        let mut decoder = Decoder::new(SNAPSHOT_MESSAGE_BYTES_MAX);
        decoder.push(&bytes);
        assert_eq!(decoder.next_message(), Ok(Some(Received::Message(message))));
        assert_eq!(decoder.take_rest(), "the file");
        assert!(decoder.is_between_messages());
    }
}
