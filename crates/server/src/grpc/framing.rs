//! gRPC's messages in the bytes of a stream: a flag, a length, the message.
//!
//! ```text
//!  compressed (1) | length (4, big-endian) | message
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};

use api::error::{Code, Status};
use bytes::{Buf, Bytes, BytesMut};
use member::frontend::Frame;

/// The longest message that is compressed on its way out: a longer one would hold up what else its thread
/// serves. Its flag says that it is not compressed.
const ZIPPED_MAX: usize = 1 << 20;

/// Bytes before a message.
pub const PREFIX_LEN: usize = 5;

/// Joins the pieces that come in into messages. A message that lies in one piece is not copied.
#[derive(Debug, Default)]
pub struct Joiner {
    /// Bytes of the next message, which does not lie in one piece.
    partial: BytesMut,
    /// Whole messages wait in here.
    piece: Bytes,
}

impl Joiner {
    /// Takes a piece. What `next` had to give must have been taken before.
    pub fn push(&mut self, piece: Bytes) {
        if self.partial.is_empty() && self.piece.is_empty() {
            self.piece = piece;
        } else {
            self.partial.extend_from_slice(&self.piece);
            self.piece = Bytes::new();
            self.partial.extend_from_slice(&piece);
        }
    }

    /// The next whole message, `None` if more bytes are needed. `bytes_max` bounds a message;
    /// `encoding` is the header `grpc-encoding`.
    pub fn next(&mut self, bytes_max: usize, encoding: Option<&str>) -> Result<Option<Bytes>, Status> {
        let bytes: &[u8] = if self.partial.is_empty() {
            &self.piece
        } else {
            &self.partial
        };
        let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > bytes_max {
            return Err(Status::with(
                Code::ResourceExhausted,
                format!("grpc: received message larger than max ({length} vs. {bytes_max})"),
            ));
        }
        if bytes.len() - PREFIX_LEN < length {
            if self.partial.is_empty() {
                self.partial.reserve(PREFIX_LEN + length);
                self.partial.extend_from_slice(&self.piece);
                self.piece = Bytes::new();
            }
            return Ok(None);
        }
        check_flag(flag, encoding)?;
        let message = self.split(length);
        match flag {
            0 => Ok(Some(message)),
            _ => unzip(&message, bytes_max).map(Some),
        }
    }

    fn split(&mut self, length: usize) -> Bytes {
        if self.partial.is_empty() {
            self.piece.advance(PREFIX_LEN);
            return self.piece.split_to(length);
        }
        self.partial.advance(PREFIX_LEN);
        let message = self.partial.split_to(length).freeze();
        if !self.partial.is_empty() {
            self.piece = self.partial.split().freeze();
        }
        message
    }

    /// Bytes of a message that is not complete.
    pub fn left(&self) -> usize {
        self.partial.len() + self.piece.len()
    }
}

fn check_flag(flag: u8, encoding: Option<&str>) -> Result<(), Status> {
    match (flag, encoding) {
        (0, _) | (1, Some("gzip")) => Ok(()),
        (1, None | Some("" | "identity")) => Err(Status::new(
            Code::Internal,
            "grpc: compressed flag set with identity or empty encoding",
        )),
        (1, Some(encoding)) => Err(no_decompressor(encoding)),
        (flag, _) => Err(Status::with(
            Code::Internal,
            format!("grpc: received unexpected payload format {flag}"),
        )),
    }
}

/// Whether messages in an encoding can be read: of compressions there is gzip, as in etcd's server.
pub fn check_encoding(encoding: Option<&str>) -> Result<(), Status> {
    match encoding {
        None | Some("" | "identity" | "gzip") => Ok(()),
        Some(encoding) => Err(no_decompressor(encoding)),
    }
}

/// The answer to an encoding that nobody can undo.
fn no_decompressor(encoding: &str) -> Status {
    Status::with(
        Code::Unimplemented,
        format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
    )
}

/// A message that came compressed: it takes no more room than one that did not, with grpc-go's words
/// (rpc_util.go decompress).
fn unzip(message: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    const HEADER_LEN: usize = 10;
    let refused = match message {
        [] => Some("EOF"),
        [0x1f, 0x8b, ..] if message.len() >= HEADER_LEN => None,
        _ if message.len() >= HEADER_LEN => Some("gzip: invalid header"),
        _ => Some("unexpected EOF"),
    };
    if let Some(reason) = refused {
        let text = format!("grpc: failed to decompress the message: {reason}");
        return Err(Status::with(Code::Internal, text));
    }
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    let read = flate2::read::GzDecoder::new(message)
        .take(limit)
        .read_to_end(&mut out);
    if let Err(error) = read {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "unexpected EOF",
            _ => "gzip: invalid checksum",
        };
        let text = format!("grpc: failed to read decompressed data: {reason}");
        return Err(Status::with(Code::Internal, text));
    }
    match out.len() > bytes_max {
        true => Err(Status::with(
            Code::ResourceExhausted,
            format!("grpc: received message after decompression larger than max {bytes_max}"),
        )),
        false => Ok(out.into()),
    }
}

/// A message on its way out: prefix and parts in one frame, without a copy.
#[derive(Debug)]
pub struct Piece {
    prefix: [u8; PREFIX_LEN],
    prefix_sent: usize,
    first: Bytes,
    rest: VecDeque<Bytes>,
}

impl Piece {
    /// A message in one part. Longer ones than gRPC can express do not arise: a range that long
    /// would not fit in memory.
    pub fn new(message: Bytes) -> Piece {
        Piece {
            prefix: prefix(message.len()),
            prefix_sent: 0,
            first: message,
            rest: VecDeque::new(),
        }
    }

    /// Bytes of an answer that is not gRPC's: without a prefix.
    pub fn raw(bytes: Bytes) -> Piece {
        Piece {
            prefix: [0; PREFIX_LEN],
            prefix_sent: PREFIX_LEN,
            first: bytes,
            rest: VecDeque::new(),
        }
    }

    /// A message in any number of parts.
    pub fn from_frame(frame: Frame) -> Piece {
        let prefix = prefix(frame.len());
        let mut parts = VecDeque::from(frame.parts);
        let first = parts.pop_front().unwrap_or_default();
        Piece {
            prefix,
            prefix_sent: 0,
            first,
            rest: parts,
        }
    }
}

impl Piece {
    /// The same message, compressed; empty ones and very long ones stay as they are.
    pub fn zipped(self) -> Piece {
        let length = self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>();
        if self.prefix_sent > 0 || length == 0 || length > ZIPPED_MAX {
            return self;
        }
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let written = std::iter::once(&self.first)
            .chain(&self.rest)
            .try_for_each(|part| zip.write_all(part));
        let zipped = written.and_then(|()| zip.finish());
        let zipped = Bytes::from(zipped.expect("writing to memory does not fail"));
        let mut prefix = prefix(zipped.len());
        prefix[0] = 1;
        Piece {
            prefix,
            prefix_sent: 0,
            first: zipped,
            rest: VecDeque::new(),
        }
    }
}

fn prefix(length: usize) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        let rest: usize = self.rest.iter().map(Bytes::len).sum();
        PREFIX_LEN - self.prefix_sent + self.first.len() + rest
    }

    fn chunk(&self) -> &[u8] {
        if self.prefix_sent < PREFIX_LEN {
            return &self.prefix[self.prefix_sent..];
        }
        &self.first
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let prefix = &self.prefix[self.prefix_sent..];
        let parts = std::iter::once(&self.first)
            .chain(&self.rest)
            .map(|part| &part[..]);
        let filled = std::iter::once(prefix)
            .chain(parts)
            .filter(|part| !part.is_empty());
        let mut count = 0;
        for (slot, part) in out.iter_mut().zip(filled) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        let of_prefix = count.min(PREFIX_LEN - self.prefix_sent);
        self.prefix_sent += of_prefix;
        count -= of_prefix;
        loop {
            let of_first = count.min(self.first.len());
            self.first.advance(of_first);
            count -= of_first;
            // An empty chunk would look like the end.
            if !self.first.is_empty() {
                return;
            }
            match self.rest.pop_front() {
                Some(next) => self.first = next,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            let mut piece = Piece::new(Bytes::copy_from_slice(message));
            while piece.has_remaining() {
                let chunk = piece.chunk().len();
                out.extend_from_slice(piece.chunk());
                piece.advance(chunk);
            }
        }
        out
    }

    fn join(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Vec<Bytes>, Status> {
        let (mut joiner, mut out, mut rest) = (Joiner::default(), Vec::new(), bytes);
        for cut in cuts {
            let (part, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            joiner.push(Bytes::copy_from_slice(part));
            while let Some(message) = joiner.next(1000, None)? {
                out.push(message);
            }
            if rest.is_empty() {
                break;
            }
        }
        Ok(out)
    }

    #[test]
    fn messages_come_out_as_they_went_in_whatever_the_pieces() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..300 {
            let messages: Vec<Vec<u8>> = (0..random.usize(1..6))
                .map(|_| (0..random.usize(..200)).map(|_| random.u8(..)).collect())
                .collect();
            let refs: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let bytes = encode(&refs);
            let size_max = random.usize(1..300);
            let joined = join(&bytes, std::iter::repeat_with(|| random.usize(1..=size_max))).unwrap();
            assert_eq!(joined, messages);
        }
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let piece = Bytes::from(encode(&[b"hello", b"world"]));
        let mut joiner = Joiner::default();
        joiner.push(piece.clone());
        let first = joiner.next(100, None).unwrap().unwrap();
        assert_eq!(first.as_ptr(), piece[5..].as_ptr());
        assert_eq!(joiner.next(100, None).unwrap().unwrap(), "world");
        assert_eq!(joiner.left(), 0);
    }

    #[test]
    fn what_is_not_grpc_has_no_prefix() {
        let mut piece = Piece::raw(Bytes::from_static(b"{}"));
        assert_eq!((piece.remaining(), piece.chunk()), (2, &b"{}"[..]));
        piece.advance(2);
        assert!(!piece.has_remaining());
    }

    #[test]
    fn wrong_messages_get_the_answers_of_grpc_go() {
        for (bytes, encoding, code, text) in [
            (
                &[0u8, 0, 0, 4, 1][..],
                None,
                Code::ResourceExhausted,
                "grpc: received message larger than max (1025 vs. 1024)",
            ),
            (
                &[1, 0, 0, 0, 0],
                None,
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                &[1, 0, 0, 0, 0],
                Some("zstd"),
                Code::Unimplemented,
                "grpc: Decompressor is not installed for grpc-encoding \"zstd\"",
            ),
            (
                &[1, 0, 0, 0, 0],
                Some("gzip"),
                Code::Internal,
                "grpc: failed to decompress the message: EOF",
            ),
            (
                &[1, 0, 0, 0, 3, 1, 2, 3],
                Some("gzip"),
                Code::Internal,
                "grpc: failed to decompress the message: unexpected EOF",
            ),
            (
                &[7, 0, 0, 0, 0],
                None,
                Code::Internal,
                "grpc: received unexpected payload format 7",
            ),
        ] {
            let mut joiner = Joiner::default();
            joiner.push(Bytes::copy_from_slice(bytes));
            let error = joiner.next(1024, encoding).unwrap_err();
            assert_eq!((error.code, &*error.message), (code, text));
        }
    }

    #[test]
    fn what_is_compressed_is_read_within_the_limit() {
        let zipped = |message: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut out, message).unwrap();
            out.finish().unwrap()
        };
        let read = |zipped: &[u8]| {
            let mut frame = vec![1];
            frame.extend_from_slice(&u32::try_from(zipped.len()).unwrap().to_be_bytes());
            frame.extend_from_slice(zipped);
            let mut joiner = Joiner::default();
            joiner.push(frame.into());
            joiner.next(1024, Some("gzip"))
        };
        assert_eq!(read(&zipped(b"hello")), Ok(Some(Bytes::from_static(b"hello"))));
        // A few bytes may stand for many.
        let bomb = read(&zipped(&[0; 1 << 20])).unwrap_err();
        assert_eq!(bomb.code, Code::ResourceExhausted);
        let mut cut = zipped(b"hello");
        cut.truncate(cut.len() - 4);
        assert_eq!(
            read(&cut).unwrap_err().message,
            "grpc: failed to read decompressed data: unexpected EOF"
        );
    }

    #[test]
    fn what_is_zipped_comes_out_as_it_went_in() {
        let frame = Frame {
            parts: vec![Bytes::from("abcabc"), Bytes::new(), Bytes::from("abc")],
        };
        let mut piece = Piece::from_frame(frame).zipped();
        let bytes = piece.copy_to_bytes(piece.remaining());
        assert_eq!(bytes[0], 1);
        let mut joiner = Joiner::default();
        joiner.push(bytes);
        assert_eq!(
            joiner.next(1000, Some("gzip")),
            Ok(Some(Bytes::from_static(b"abcabcabc")))
        );
        // Neither nothing, nor what would take long, nor what is not gRPC's.
        for piece in [
            Piece::new(Bytes::new()),
            Piece::new(Bytes::from(vec![0; ZIPPED_MAX + 1])),
            Piece::raw(Bytes::from_static(b"{}")),
        ] {
            let length = piece.remaining();
            assert_eq!(piece.zipped().remaining(), length);
        }
    }

    /// Any bytes at all may come from a client; no length is believed before it is bounded.
    #[test]
    fn the_joiner_takes_anything() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..500 {
            let bytes: Vec<u8> = (0..random.usize(..400)).map(|_| random.u8(..3)).collect();
            let cuts = std::iter::repeat_with(|| random.usize(1..50));
            if let Ok(messages) = join(&bytes, cuts) {
                assert!(messages.iter().all(|message| message.len() <= 1000));
            }
        }
    }

    #[test]
    fn parts_are_sent_as_one_message() {
        let frame = Frame {
            parts: vec![Bytes::from("ab"), Bytes::new(), Bytes::from("cde")],
        };
        for step in 1..12 {
            let mut piece = Piece::from_frame(frame.clone());
            let mut slices = [IoSlice::new(&[]); 8];
            assert_eq!(piece.chunks_vectored(&mut slices), 3);
            let mut out = Vec::new();
            while piece.has_remaining() {
                let take = step.min(piece.chunk().len());
                out.extend_from_slice(&piece.chunk()[..take]);
                piece.advance(take);
            }
            assert_eq!(out, b"\0\0\0\0\x05abcde", "steps of {step}");
        }
    }
}
