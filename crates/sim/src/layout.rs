//! Where in a data file what lies: pages, element tables, references, stored values. Reads bbolt's format by
//! itself, apart from the crate that is tested, and changes nothing.

use std::ops::Range;

use api::mvccpb::KeyValue;
use prost::Message;

const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const BUCKET: u32 = 1;

/// What the newest state of a data file reaches, as ranges of the file's bytes.
#[derive(Debug, Default)]
pub struct Layout {
    /// What the meta pages say: the newest first.
    pub metas: Vec<Range<usize>>,
    /// The headers of pages: number, kind, count, overflow.
    pub headers: Vec<Range<usize>>,
    /// The element tables of leaves.
    pub leaf_tables: Vec<Range<usize>>,
    /// The element tables of branches.
    pub branch_tables: Vec<Range<usize>>,
    /// The keys of branches.
    pub branch_keys: Vec<Range<usize>>,
    /// The numbers of the root pages of buckets.
    pub roots: Vec<Range<usize>>,
    /// The values (not the whole pairs) of the revisions in the bucket `key`.
    pub values: Vec<Range<usize>>,
}

/// Reads a file that is whole; of one that is not, as much as makes sense.
pub fn layout(file: &[u8]) -> Layout {
    let mut layout = Layout::default();
    let Some(page_bytes) = number(file, 24, 4).or_else(|| number(file, 4096 + 24, 4)) else {
        return layout;
    };
    let metas = [0, page_bytes];
    let mut metas: Vec<usize> = metas.into_iter().filter(|at| file.len() >= at + 80).collect();
    metas.sort_by_key(|at| std::cmp::Reverse(number(file, at + 64, 8)));
    layout.metas = metas.iter().map(|at| at + HEADER_BYTES..at + 80).collect();
    let Some(root) = metas.first().and_then(|at| number(file, at + 32, 8)) else {
        return layout;
    };
    let mut walk = Walk {
        file,
        page_bytes,
        layout,
        steps: 0,
    };
    walk.page(root, false);
    walk.layout
}

struct Walk<'a> {
    file: &'a [u8],
    page_bytes: usize,
    layout: Layout,
    /// Pages seen: a damaged file may lead in circles.
    steps: usize,
}

impl Walk<'_> {
    fn page(&mut self, id: usize, in_keys: bool) {
        let Some(at) = id.checked_mul(self.page_bytes) else {
            return;
        };
        self.steps += 1;
        if id < 2 || at + self.page_bytes > self.file.len() || self.steps > self.file.len() / self.page_bytes
        {
            return;
        }
        self.layout.headers.push(at..at + HEADER_BYTES);
        self.body(at, in_keys);
    }

    /// A page, or the image of one within a bucket's element.
    fn body(&mut self, at: usize, in_keys: bool) -> Option<()> {
        let flags = number(self.file, at + 8, 2)? as u16;
        let count = number(self.file, at + 10, 2)?;
        let table = at + HEADER_BYTES..at + HEADER_BYTES + ELEMENT_BYTES * count;
        self.file.get(table.clone())?;
        match flags {
            BRANCH => self.layout.branch_tables.push(table.clone()),
            LEAF => self.layout.leaf_tables.push(table.clone()),
            _ => return None,
        }
        for element in table.step_by(ELEMENT_BYTES) {
            if flags == BRANCH {
                let key = element + number(self.file, element, 4)?;
                let key_bytes = number(self.file, element + 4, 4)?;
                self.layout.branch_keys.push(key..key + key_bytes);
                self.page(number(self.file, element + 8, 8)?, in_keys);
                continue;
            }
            let key = element + number(self.file, element + 4, 4)?;
            let value = key + number(self.file, element + 8, 4)?;
            let end = value + number(self.file, element + 12, 4)?;
            let name = self.file.get(key..value)?;
            if number(self.file, element, 4)? as u32 == BUCKET {
                match number(self.file, value, 8)? {
                    0 => drop(self.body(value + 16, name == b"key")),
                    root => {
                        self.layout.roots.push(value..value + 8);
                        self.page(root, name == b"key");
                    }
                }
            } else if in_keys {
                self.value(value..end);
            }
        }
        Some(())
    }

    fn value(&mut self, pair: Range<usize>) -> Option<()> {
        let bytes = self.file.get(pair.clone())?;
        let decoded = KeyValue::decode(bytes).ok()?;
        let wanted = decoded.value.as_ref();
        if !wanted.is_empty() {
            let from = bytes.windows(wanted.len()).rposition(|part| part == wanted)?;
            let from = pair.start + from;
            self.layout.values.push(from..from + wanted.len());
        }
        Some(())
    }
}

/// A little-endian number.
fn number(file: &[u8], at: usize, bytes: usize) -> Option<usize> {
    let found = file.get(at..at.checked_add(bytes)?)?;
    let mut wide = [0; 8];
    wide[..bytes].copy_from_slice(found);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}
