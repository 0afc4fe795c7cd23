//! A copy of the whole file as one state of it, chunk by chunk. Holds the state's pages until dropped.

use bytes::Bytes;

use crate::Error;
use crate::meta::Meta;
use crate::snapshot::{Snapshot, Wait};

const CHUNK_BYTES: u64 = 64 << 10;

/// The bytes of a snapshot, chunk by chunk, exactly [`Snapshot::size`] of them. Waits for the device.
/// Both metas say the same state, the second one with the txid before, as bbolt's `Tx.WriteTo` has it.
pub struct Stream {
    snapshot: Snapshot,
    offset: u64,
}

impl Stream {
    pub(crate) fn new(snapshot: Snapshot) -> Stream {
        Stream { snapshot, offset: 0 }
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.snapshot.size()
    }

    /// The next at most 64 KiB; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let pager = &self.snapshot.pin.inner.pager;
        let meta = self.snapshot.pin.state.meta;
        let page_bytes = pager.page_size as u64;
        let chunk = match self.offset {
            0 => meta.encode(0),
            offset if offset == page_bytes => Meta {
                txid: meta.txid.wrapping_sub(1),
                ..meta
            }
            .encode(1),
            offset => {
                let mut chunk = vec![0; CHUNK_BYTES.min(self.size() - offset) as usize];
                if chunk.is_empty() {
                    return Ok(None);
                }
                pager.read(&mut chunk, offset, Wait::Yes)?;
                chunk
            }
        };
        self.offset += chunk.len() as u64;
        Ok(Some(Bytes::from(chunk)))
    }
}
