//! What must hold for any bytes whatever: plain functions for tests and fuzzers. They panic if it does not.

use bytes::{Bytes, BytesMut};
use raft::Message;

use crate::framing::FrameError;
use crate::message::{self, Received};
use crate::{appends, framing};

/// Takes the bytes for a message. It is read or refused; what was read is the same after it was written
/// and read again.
pub fn fuzz_message(data: &[u8]) {
    if let Ok(Received::Message(read)) = message::decode(Bytes::copy_from_slice(data)) {
        let again = message::decode(Bytes::from(message::encode(&read)));
        assert_eq!(again, Ok(Received::Message(read)));
    }
}

/// Takes the bytes for a stream of messages, in pieces and at once: both read the same. What was read is
/// the same after it was written and read again.
pub fn fuzz_stream(data: &[u8]) {
    let at_once = read_stream(data, data.len().max(1));
    assert_eq!(at_once, read_stream(data, 3));
    let mut written = BytesMut::new();
    for message in &at_once.0 {
        framing::encode(message, &mut written);
    }
    assert_eq!(read_stream(&written, 100), (at_once.0, None));
}

/// As [`fuzz_stream`], for the stream of entries.
pub fn fuzz_appends(data: &[u8]) {
    let at_once = read_appends(data, data.len().max(1));
    assert_eq!(at_once, read_appends(data, 3));
    // Only what follows on in its places, as a sender's own appends do, may go short.
    let orderly = |message: &&Message| {
        let indices = message.entries.iter().map(|entry| entry.index);
        indices.eq((message.index..u64::MAX).skip(1).take(message.entries.len()))
            && message.kind == raft::MessageKind::Append
            && (message.from, message.to) == (1, 2)
            && !message.reject
            && message.reject_hint == 0
            && message.context.is_empty()
            && message.snapshot.is_none()
    };
    let messages: Vec<Message> = at_once.0.iter().filter(orderly).cloned().collect();
    let mut encoder = appends::Encoder::default();
    let mut written = BytesMut::new();
    for message in &messages {
        encoder.encode(message, &mut written);
    }
    assert_eq!(read_appends(&written, 100), (messages, None));
}

type Read = (Vec<Message>, Option<FrameError>);

fn read_stream(data: &[u8], size: usize) -> Read {
    use framing::Decoder;
    let decoder = Decoder::new(framing::MESSAGE_BYTES_MAX);
    read(decoder, Decoder::push, Decoder::next_message, data, size)
}

fn read_appends(data: &[u8], size: usize) -> Read {
    use appends::Decoder;
    let decoder = Decoder::new(1, 2);
    read(decoder, Decoder::push, Decoder::next_message, data, size)
}

/// What a decoder makes of pieces of a size, up to the first error.
fn read<D>(
    mut decoder: D,
    push: fn(&mut D, &[u8]),
    next_message: fn(&mut D) -> Result<Option<Received>, FrameError>,
    data: &[u8],
    size: usize,
) -> Read {
    let mut messages = Vec::new();
    for piece in data.chunks(size) {
        push(&mut decoder, piece);
        loop {
            match next_message(&mut decoder) {
                Ok(Some(Received::Message(message))) => messages.push(message),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
