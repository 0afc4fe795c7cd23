//! One branch or leaf page, validated. Does no I/O.
//!
//! ```text
//!  0  id u64 | flags u16 | count u16 | overflow u32
//! 16  count elements of 16 bytes:
//!       branch: pos u32 | ksize u32 | page u64
//!       leaf:   flags u32 | pos u32 | ksize u32 | vsize u32
//!     then keys and values; pos counts from the start of its element, the value follows the key
//! ```
//! Source: bbolt internal/common/{page,inode}.go.

use bytes::Bytes;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// Leaf element flag: the value is a bucket header.
pub(crate) const BUCKET: u32 = 0x01;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ELEMENT_BYTES: usize = 16;
/// Bytes of a bucket header: root page, sequence.
pub(crate) const BUCKET_BYTES: usize = 16;

/// A validated branch or leaf page with its overflow, or an inline leaf. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    bytes: Bytes,
    count: usize,
    leaf: bool,
}

impl Page {
    /// Validates a page that was read as number `id` with all its overflow. `Err` says what is wrong.
    pub(crate) fn parse(bytes: Bytes, id: u64, high_water: u64) -> Result<Page, &'static str> {
        if read_u64(&bytes, 0) != id {
            return Err("it names another page number");
        }
        let overflow = read_u32(&bytes, 12) as usize;
        let page = Page::parse_body(bytes)?;
        // The last page is begun, or (as older releases of bbolt did it) the one before it is just full.
        if overflow > 0 && page.used() < overflow * (page.bytes.len() / (overflow + 1)) {
            return Err("more overflow than it needs");
        }
        if !page.leaf {
            if page.count == 0 {
                return Err("a branch without children");
            }
            for at in 0..page.count {
                if !(2..high_water).contains(&page.child(at)) {
                    return Err("a child beyond the high-water mark");
                }
            }
        }
        Ok(page)
    }

    /// Validates the page image of an inline bucket.
    pub(crate) fn parse_inline(bytes: Bytes) -> Result<Page, &'static str> {
        if bytes.len() < HEADER_BYTES {
            return Err("an inline bucket without a page");
        }
        let page = Page::parse_body(bytes)?;
        if !page.leaf {
            return Err("an inline bucket that is no leaf");
        }
        Ok(page)
    }

    /// A page that this process has just made.
    pub(crate) fn trusted(bytes: Bytes) -> Page {
        let count = usize::from(read_u16(&bytes, 10));
        let leaf = read_u16(&bytes, 8) == LEAF;
        Page { bytes, count, leaf }
    }

    fn parse_body(bytes: Bytes) -> Result<Page, &'static str> {
        let leaf = match read_u16(&bytes, 8) {
            BRANCH => false,
            LEAF => true,
            _ => return Err("neither branch nor leaf"),
        };
        let page = Page {
            count: usize::from(read_u16(&bytes, 10)),
            bytes,
            leaf,
        };
        let data_from = HEADER_BYTES + ELEMENT_BYTES * page.count;
        if data_from > page.bytes.len() {
            return Err("more elements than fit");
        }
        let mut before: &[u8] = &[];
        // Keys and values lie one after the other, without gaps (bbolt: internal/common/page.go writes them so).
        let mut expected = data_from;
        for at in 0..page.count {
            let (pos, key_bytes, value_bytes) = page.bounds(at);
            let Some(end) = pos
                .checked_add(key_bytes)
                .and_then(|end| end.checked_add(value_bytes))
            else {
                return Err("an element outside of the page");
            };
            if pos < data_from || end > page.bytes.len() {
                return Err("an element outside of the page");
            }
            if pos != expected {
                return Err("an element that does not begin where the one before ends");
            }
            expected = end;
            let key = &page.bytes[pos..pos + key_bytes];
            // An empty key is below every key, so this refuses both.
            if key <= before {
                return Err("keys that are empty or not ascending");
            }
            before = key;
            if leaf {
                match page.flags(at) {
                    0 => {}
                    BUCKET if value_bytes >= BUCKET_BYTES => {}
                    BUCKET => return Err("a bucket without a header"),
                    _ => return Err("an element of unknown kind"),
                }
            }
        }
        // An empty page is written with zeros to its end: bytes where the first element would be are those of
        // elements that a damaged count hides. With any other count the first element's place shows it.
        let hidden = data_from..page.bytes.len().min(data_from + ELEMENT_BYTES);
        if page.count == 0 && page.bytes[hidden].iter().any(|byte| *byte != 0) {
            return Err("elements that its count does not tell of");
        }
        Ok(page)
    }

    /// Bytes up to the end of the last element.
    fn used(&self) -> usize {
        match self.count.checked_sub(1) {
            Some(last) => {
                let (pos, key_bytes, value_bytes) = self.bounds(last);
                pos + key_bytes + value_bytes
            }
            None => HEADER_BYTES,
        }
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes, overflow included.
    pub(crate) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn key(&self, at: usize) -> &[u8] {
        let (pos, key_bytes, _) = self.bounds(at);
        &self.bytes[pos..pos + key_bytes]
    }

    pub(crate) fn key_shared(&self, at: usize) -> Bytes {
        let (pos, key_bytes, _) = self.bounds(at);
        self.bytes.slice(pos..pos + key_bytes)
    }

    /// Key and value, one after the other, as they lie in the page.
    pub(crate) fn key_and_value(&self, at: usize) -> &[u8] {
        let (pos, key_bytes, value_bytes) = self.bounds(at);
        &self.bytes[pos..pos + key_bytes + value_bytes]
    }

    pub(crate) fn value_shared(&self, at: usize) -> Bytes {
        let (pos, key_bytes, value_bytes) = self.bounds(at);
        self.bytes.slice(pos + key_bytes..pos + key_bytes + value_bytes)
    }

    /// Bytes of key and value.
    pub(crate) fn sizes(&self, at: usize) -> (usize, usize) {
        let (_, key_bytes, value_bytes) = self.bounds(at);
        (key_bytes, value_bytes)
    }

    /// Whether a leaf element is a bucket.
    pub(crate) fn is_bucket(&self, at: usize) -> bool {
        self.flags(at) & BUCKET != 0
    }

    /// Flags of a leaf element.
    pub(crate) fn flags(&self, at: usize) -> u32 {
        read_u32(&self.bytes, HEADER_BYTES + ELEMENT_BYTES * at)
    }

    /// Page number of a branch element.
    #[inline]
    pub(crate) fn child(&self, at: usize) -> u64 {
        read_u64(&self.bytes, HEADER_BYTES + ELEMENT_BYTES * at + 8)
    }

    /// Finds a key from element `from` on: `Ok` where it is, `Err` where it would be.
    pub(crate) fn search(&self, from: usize, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (from, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The child of a branch that would hold the key: the last one whose key is not above it, or the first.
    pub(crate) fn child_for(&self, key: &[u8]) -> usize {
        match self.search(0, key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    /// Where an element's key lies in the bytes, and the sizes of key and value.
    #[inline]
    fn bounds(&self, at: usize) -> (usize, usize, usize) {
        let element = HEADER_BYTES + ELEMENT_BYTES * at;
        let read = |offset| read_u32(&self.bytes, element + offset) as usize;
        if self.leaf {
            (element + read(4), read(8), read(12))
        } else {
            (element + read(0), read(4), 0)
        }
    }
}

/// Where a bucket's keys are.
#[derive(Clone, Debug)]
pub(crate) enum BucketRoot {
    /// In a tree with this root page.
    Tree(u64),
    /// In the bucket's own element.
    Inline(Page),
}

/// Reads the value of a bucket element: its root and its sequence number.
pub(crate) fn parse_bucket(value: &Bytes, high_water: u64) -> Result<(BucketRoot, u64), &'static str> {
    if value.len() < BUCKET_BYTES {
        return Err("a bucket without a header");
    }
    let (root, sequence) = (read_u64(value, 0), read_u64(value, 8));
    let root = match root {
        0 => BucketRoot::Inline(Page::parse_inline(value.slice(BUCKET_BYTES..))?),
        id if (2..high_water).contains(&id) => BucketRoot::Tree(id),
        _ => return Err("a bucket beyond the high-water mark"),
    };
    Ok((root, sequence))
}

/// Pages that `bytes` take.
pub(crate) fn pages_for(bytes: usize, page_size: usize) -> usize {
    bytes.div_ceil(page_size).max(1)
}

pub(crate) fn write_header(page: &mut [u8], id: u64, flags: u16, count: usize, overflow: usize) {
    let count = u16::try_from(count).expect("splitting keeps pages far below 65,535 elements");
    let overflow = u32::try_from(overflow).expect("a value has at most 2^31 bytes");
    page[0..8].copy_from_slice(&id.to_le_bytes());
    page[8..10].copy_from_slice(&flags.to_le_bytes());
    page[10..12].copy_from_slice(&count.to_le_bytes());
    page[12..16].copy_from_slice(&overflow.to_le_bytes());
}

#[inline]
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

#[inline]
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page 7 with these elements; branch elements take their value's length as child.
    fn build(flags: u16, rows: &[(&str, &str)]) -> Vec<u8> {
        let mut page = vec![0; 1024];
        write_header(&mut page, 7, flags, rows.len(), 0);
        let mut data = HEADER_BYTES + ELEMENT_BYTES * rows.len();
        for (at, (key, value)) in rows.iter().enumerate() {
            let element = HEADER_BYTES + ELEMENT_BYTES * at;
            let words = if flags == LEAF {
                [0, data - element, key.len(), value.len()]
            } else {
                [data - element, key.len(), value.len(), 0]
            };
            for (word, value) in words.into_iter().enumerate() {
                page[element + 4 * word..element + 4 * word + 4]
                    .copy_from_slice(&(value as u32).to_le_bytes());
            }
            let value = if flags == LEAF { value } else { "" };
            let both = [key.as_bytes(), value.as_bytes()].concat();
            page[data..data + both.len()].copy_from_slice(&both);
            data += both.len();
        }
        page
    }

    /// `change` is bytes put at an offset; `want` is what is wrong then.
    fn check(flags: u16, rows: &[(&str, &str)], change: (usize, &[u8]), want: &str) {
        let mut page = build(flags, rows);
        page[change.0..change.0 + change.1.len()].copy_from_slice(change.1);
        let found = Page::parse(Bytes::from(page), 7, 100).err().unwrap_or("");
        assert_eq!(found, want, "{rows:?} {change:?}");
    }

    #[test]
    fn a_page_that_breaks_a_rule_is_refused() {
        let leaf: &[(&str, &str)] = &[("a", "x"), ("b", "y")];
        let branch: &[(&str, &str)] = &[("a", "xx"), ("b", "yyy")];
        check(LEAF, leaf, (0, &[7]), "");
        check(BRANCH, branch, (0, &[7]), "");
        check(LEAF, leaf, (0, &[8]), "it names another page number");
        check(
            LEAF,
            leaf,
            (8, &[LEAF as u8 | BRANCH as u8]),
            "neither branch nor leaf",
        );
        check(LEAF, leaf, (10, &[64]), "more elements than fit");
        check(LEAF, leaf, (10, &[0]), "elements that its count does not tell of");
        check(LEAF, &[], (0, &[7]), "");
        check(LEAF, leaf, (20, &[31]), "an element outside of the page");
        let gap = "an element that does not begin where the one before ends";
        check(LEAF, leaf, (20, &[33]), gap);
        check(LEAF, leaf, (28, &[2]), gap);
        check(BRANCH, branch, (32, &[18]), gap);
        check(LEAF, leaf, (12, &[1]), "more overflow than it needs");
        check(LEAF, leaf, (28, &[0xFF; 4]), "an element outside of the page");
        check(LEAF, leaf, (24, &[0xFF; 8]), "an element outside of the page");
        check(
            LEAF,
            &[("a", ""), ("a", "")],
            (0, &[7]),
            "keys that are empty or not ascending",
        );
        check(
            LEAF,
            &[("b", ""), ("a", "")],
            (0, &[7]),
            "keys that are empty or not ascending",
        );
        check(
            LEAF,
            &[("", "x")],
            (0, &[7]),
            "keys that are empty or not ascending",
        );
        check(LEAF, leaf, (16, &[1]), "a bucket without a header");
        check(LEAF, leaf, (16, &[2]), "an element of unknown kind");
        check(BRANCH, &[], (0, &[7]), "a branch without children");
        check(BRANCH, branch, (24, &[100]), "a child beyond the high-water mark");
        check(BRANCH, branch, (24, &[1]), "a child beyond the high-water mark");
    }
}
