//! Meta pages and the layout of a fresh file. Does no I/O.
//!
//! ```text
//!  0  page header: id u64 | flags u16 = 4 | count u16 | overflow u32
//! 16  magic u32 | version u32 | page size u32 | flags u32
//! 32  root page u64 | sequence u64
//! 48  freelist page u64, all ones if the freelist is not stored
//! 56  high-water mark u64 | txid u64
//! 72  FNV-1a 64 over bytes 16..72, u64            (all little-endian)
//! ```
//! Source: bbolt internal/common/meta.go.

use crate::page::{FREELIST, HEADER_BYTES, LEAF, META, read_u32, read_u64, write_header};

/// Bytes of a meta page that mean something.
pub(crate) const META_BYTES: usize = 80;
/// Pages of a fresh file: two metas, an empty freelist, an empty leaf.
pub(crate) const FRESH_PAGES: u64 = 4;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const NO_FREELIST: u64 = u64::MAX;

/// One state of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    /// Root page of the tree of buckets.
    pub(crate) root: u64,
    pub(crate) sequence: u64,
    /// First page of the stored freelist.
    pub(crate) freelist: Option<u64>,
    /// First page that was never allocated.
    pub(crate) high_water: u64,
    pub(crate) txid: u64,
}

impl Meta {
    /// Reads a meta page; `Err` says why it is not one.
    pub(crate) fn decode(page: &[u8]) -> Result<Meta, &'static str> {
        if page.len() < META_BYTES {
            return Err("shorter than a meta page");
        }
        if read_u32(page, 16) != MAGIC {
            return Err("not a bbolt meta page");
        }
        if read_u32(page, 20) != VERSION {
            return Err("unknown bbolt version");
        }
        if read_u64(page, 72) != fnv1a(&page[HEADER_BYTES..72]) {
            return Err("wrong checksum");
        }
        let freelist = read_u64(page, 48);
        Ok(Meta {
            page_size: read_u32(page, 24),
            root: read_u64(page, 32),
            sequence: read_u64(page, 40),
            freelist: (freelist != NO_FREELIST).then_some(freelist),
            high_water: read_u64(page, 56),
            txid: read_u64(page, 64),
        })
    }

    /// A whole page that says this, numbered `id`.
    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        let mut page = vec![0; self.page_size as usize];
        write_header(&mut page, id, META, 0, 0);
        page[16..20].copy_from_slice(&MAGIC.to_le_bytes());
        page[20..24].copy_from_slice(&VERSION.to_le_bytes());
        page[24..28].copy_from_slice(&self.page_size.to_le_bytes());
        page[32..40].copy_from_slice(&self.root.to_le_bytes());
        page[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        page[48..56].copy_from_slice(&self.freelist.unwrap_or(NO_FREELIST).to_le_bytes());
        page[56..64].copy_from_slice(&self.high_water.to_le_bytes());
        page[64..72].copy_from_slice(&self.txid.to_le_bytes());
        let sum = fnv1a(&page[HEADER_BYTES..72]);
        page[72..80].copy_from_slice(&sum.to_le_bytes());
        page
    }
}

/// Whether bbolt could have made a file with pages of this size that we support.
pub(crate) fn page_size_is_valid(page_size: u32) -> bool {
    page_size.is_power_of_two() && (1024..=65536).contains(&page_size)
}

/// The first bytes of a fresh file (bbolt db.go init).
pub(crate) fn fresh_file(page_size: u32) -> Vec<u8> {
    let mut file = Vec::with_capacity(FRESH_PAGES as usize * page_size as usize);
    for txid in 0..2 {
        let meta = Meta {
            page_size,
            root: 3,
            sequence: 0,
            freelist: Some(2),
            high_water: FRESH_PAGES,
            txid,
        };
        file.extend(meta.encode(txid));
    }
    for (id, flags) in [(2, FREELIST), (3, LEAF)] {
        let mut page = vec![0; page_size as usize];
        write_header(&mut page, id, flags, 0, 0);
        file.extend(page);
    }
    file
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_a_file_made_by_bbolt() {
        let file = fresh_file(4096);
        assert_eq!(read_u64(&file, 72), 0x0751_6E11_4689_FDEE);
        assert_eq!(read_u64(&file, 4096 + 72), 0x264C_351A_5179_480F);
    }

    #[test]
    fn what_is_encoded_is_decoded_and_a_flip_is_seen() {
        let meta = Meta {
            page_size: 1024,
            root: 7,
            sequence: 9,
            freelist: None,
            high_water: 12,
            txid: 5,
        };
        let page = meta.encode(1);
        assert_eq!(Meta::decode(&page), Ok(meta));
        for at in HEADER_BYTES..META_BYTES {
            let mut flipped = page.clone();
            flipped[at] ^= 0x10;
            assert!(Meta::decode(&flipped).is_err(), "byte {at}");
        }
    }
}
