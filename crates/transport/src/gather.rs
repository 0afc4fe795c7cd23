//! Bytes of a connection until there are enough of them. Takes no memory for what has not come.

use bytes::{Buf, Bytes, BytesMut};

/// Frames below this are copied out, so that a small one does not hold on to what came with it.
const COPY_MAX: usize = 64 << 10;

/// Bytes that came and were not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    pending: BytesMut,
}

impl Gather {
    /// More came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether all that came was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is left, when what follows is no frame any more.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.pending.split().freeze()
    }

    pub(crate) fn take_u8(&mut self) -> Option<u8> {
        (!self.pending.is_empty()).then(|| self.pending.get_u8())
    }

    pub(crate) fn take_u64(&mut self) -> Option<u64> {
        (self.pending.len() >= 8).then(|| self.pending.get_u64())
    }

    /// The next `len` bytes, if they are there.
    pub(crate) fn take(&mut self, len: usize) -> Option<Bytes> {
        if self.pending.len() < len {
            return None;
        }
        if len >= COPY_MAX {
            return Some(self.pending.split_to(len).freeze());
        }
        let bytes = Bytes::copy_from_slice(&self.pending[..len]);
        self.pending.advance(len);
        Some(bytes)
    }
}
