//! Frames of WebSocket (RFC 6455, 5): what a client sends, unmasked and joined, and what goes back. Does no
//! I/O.
//!
//! ```text
//!  end (1 bit) | 0 (3) | kind (4) | masked (1) | length (7, or 126 and 16 bits, or 127 and 64) | mask (32) | payload
//! ```

use bytes::{Buf, Bytes, BytesMut};

/// Kinds of frames.
pub mod kind {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// The most that control frames carry.
const CONTROL_MAX: usize = 125;

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// A whole message.
    Message(Bytes),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// No more comes.
    Close,
}

/// What no client may send.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong;

/// Joins what comes in.
#[derive(Debug)]
pub struct Joiner {
    buffer: BytesMut,
    /// The beginning of a message of which more must come.
    begun: Option<BytesMut>,
    message_bytes_max: usize,
}

impl Joiner {
    /// Nothing read.
    pub fn new(message_bytes_max: usize) -> Joiner {
        Joiner {
            buffer: BytesMut::new(),
            begun: None,
            message_bytes_max,
        }
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next that is whole; `None` if more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Sent>, Wrong> {
        loop {
            let Some((first, payload)) = self.frame()? else {
                return Ok(None);
            };
            let (ends, kind) = (first & 0x80 != 0, first & 0x0f);
            match (kind, &mut self.begun) {
                (kind::CLOSE, _) => return Ok(Some(Sent::Close)),
                (kind::PING, _) => return Ok(Some(Sent::Ping(payload.freeze()))),
                (kind::PONG, _) => {}
                (kind::TEXT | kind::BINARY, None) if ends => {
                    return Ok(Some(Sent::Message(payload.freeze())));
                }
                (kind::TEXT | kind::BINARY, begun @ None) => *begun = Some(payload),
                (kind::CONTINUATION, Some(begun)) => {
                    if begun.len() + payload.len() > self.message_bytes_max {
                        return Err(Wrong);
                    }
                    begun.extend_from_slice(&payload);
                    if let (true, Some(whole)) = (ends, self.begun.take_if(|_| ends)) {
                        return Ok(Some(Sent::Message(whole.freeze())));
                    }
                }
                _ => return Err(Wrong),
            }
        }
    }

    /// The first byte of the next frame and its payload.
    fn frame(&mut self) -> Result<Option<(u8, BytesMut)>, Wrong> {
        const MASK_LEN: usize = 4;
        let Some(&[first, second]) = self.buffer.first_chunk() else {
            return Ok(None);
        };
        let more = &self.buffer[2..];
        let (length, length_len) = match second & 0x7f {
            126 => match more.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            127 => match more.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            length => (u64::from(length), 0),
        };
        let is_control = first & 0x08 != 0;
        let bytes_max = if is_control {
            CONTROL_MAX
        } else {
            self.message_bytes_max
        };
        let length = usize::try_from(length).map_err(|_| Wrong)?;
        // Nothing is agreed on that would use the other bits, and clients mask.
        if length > bytes_max || first & 0x70 != 0 || second & 0x80 == 0 || (is_control && first & 0x80 == 0)
        {
            return Err(Wrong);
        }
        let head = 2 + length_len + MASK_LEN;
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        self.buffer.advance(2 + length_len);
        let mask = self.buffer.split_to(MASK_LEN);
        let mut payload = self.buffer.split_to(length);
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[index % MASK_LEN];
        }
        Ok(Some((first, payload)))
    }
}

/// One frame from the server.
pub fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    out.extend_from_slice(&[0x80 | kind]);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => out.extend_from_slice(&[length]),
        (_, Ok(length)) => {
            out.extend_from_slice(&[126]);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[127]);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            length @ 0..126 => out.push(0x80 | u8::try_from(length).unwrap()),
            length => {
                out.push(0x80 | 126);
                out.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(
            payload
                .iter()
                .enumerate()
                .map(|(index, byte)| byte ^ mask[index % 4]),
        );
        out
    }

    fn all(bytes: &[u8], piece: usize) -> Result<Vec<Sent>, Wrong> {
        let (mut joiner, mut sent) = (Joiner::new(1000), Vec::new());
        for part in bytes.chunks(piece) {
            joiner.push(part);
            while let Some(next) = joiner.next()? {
                sent.push(next);
            }
        }
        Ok(sent)
    }

    #[test]
    fn messages_are_joined_whatever_the_pieces() {
        let bytes = [
            masked(0x81, b"hello"),
            masked(0x01, b"in "),
            masked(0x89, b"ping"),
            masked(0x00, b"three "),
            masked(0x8a, b""),
            masked(0x80, b"parts"),
            masked(0x82, &[7; 500]),
            masked(0x88, b""),
        ]
        .concat();
        for piece in [1, 2, 7, 10_000] {
            let expect = vec![
                Sent::Message("hello".into()),
                Sent::Ping("ping".into()),
                Sent::Message("in three parts".into()),
                Sent::Message(vec![7; 500].into()),
                Sent::Close,
            ];
            assert_eq!(all(&bytes, piece), Ok(expect), "pieces of {piece}");
        }
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        for bytes in [
            vec![0x81, 0x05],
            vec![0x81, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0],
            vec![0xc1, 0x80, 0, 0, 0, 0],
            masked(0x80, b"of nothing"),
            [masked(0x01, b"a"), masked(0x81, b"b")].concat(),
            [masked(0x01, &[0; 900]), masked(0x80, &[0; 200])].concat(),
            masked(0x89, &[0; 126]),
            masked(0x83, b""),
        ] {
            assert_eq!(all(&bytes, 10_000), Err(Wrong), "{bytes:?}");
        }
    }

    #[test]
    fn frames_name_their_lengths() {
        assert_eq!(frame(kind::TEXT, b"hi"), &[0x81, 2, b'h', b'i'][..]);
        assert_eq!(frame(kind::TEXT, &[0; 200])[..4], [0x81, 126, 0, 200]);
        assert_eq!(
            frame(kind::TEXT, &[0; 70_000])[..10],
            [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
        );
    }

    #[test]
    fn the_joiner_takes_anything() {
        let mut random = fastrand::Rng::with_seed(31);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
            let _ = all(&bytes, random.usize(1..50));
        }
    }
}
