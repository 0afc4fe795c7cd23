//! Finds the pages that a state reaches, level by level, in the order of the file. Reads past the cache, and
//! of
//! leaves only what says where their buckets and their overflow are.

use bytes::Bytes;

use crate::meta::Meta;
use crate::page::{
    BRANCH, BUCKET, BucketRoot, ELEMENT_BYTES, HEADER_BYTES, LEAF, Page, parse_bucket, read_u16, read_u32,
    read_u64,
};
use crate::pager::Pager;
use crate::space::PageSet;
use crate::{Error, Wait};

/// Pages nearer to each other than this are read in one go.
const GAP_BYTES_MAX: u64 = 64 << 10;
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// All pages that the state reaches through its tree, overflow included; not the metas and the freelist.
/// A page that is reached twice, or is no branch or leaf, is an error.
pub(crate) fn reached(pager: &Pager, meta: &Meta) -> Result<PageSet, Error> {
    let mut walk = Walk {
        pager,
        high_water: meta.high_water,
        reached: PageSet::default(),
        next: vec![meta.root],
    };
    while !walk.next.is_empty() {
        let mut level = std::mem::take(&mut walk.next);
        level.sort_unstable();
        walk.level(&level)?;
    }
    Ok(walk.reached)
}

struct Walk<'a> {
    pager: &'a Pager,
    high_water: u64,
    reached: PageSet,
    next: Vec<u64>,
}

impl Walk<'_> {
    fn level(&mut self, ids: &[u64]) -> Result<(), Error> {
        let page_bytes = self.pager.page_size as u64;
        let mut window = Vec::new();
        let mut from = 0;
        while from < ids.len() {
            let mut to = from + 1;
            while to < ids.len()
                && (ids[to] - ids[to - 1]) * page_bytes <= GAP_BYTES_MAX
                && (ids[to] - ids[from] + 1) * page_bytes <= WINDOW_BYTES_MAX
            {
                to += 1;
            }
            window.resize(((ids[to - 1] - ids[from] + 1) * page_bytes) as usize, 0);
            self.pager.read(&mut window, ids[from] * page_bytes, Wait::Yes)?;
            for id in &ids[from..to] {
                let offset = ((id - ids[from]) * page_bytes) as usize;
                self.page(*id, &window[offset..offset + self.pager.page_size])?;
            }
            from = to;
        }
        Ok(())
    }

    /// `first` is the page without its overflow.
    fn page(&mut self, id: u64, first: &[u8]) -> Result<(), Error> {
        if read_u64(first, 0) != id {
            return Err(self.pager.corrupt(id, "it names another page number"));
        }
        let pages = u64::from(read_u32(first, 12)) + 1;
        if pages > self.high_water - id {
            return Err(self.pager.corrupt(id, "overflow beyond the high-water mark"));
        }
        if !self.reached.insert_run((id, pages)) {
            return Err(self.pager.corrupt(id, "reached in two ways"));
        }
        match read_u16(first, 8) {
            BRANCH => {
                let run = if pages == 1 {
                    Bytes::copy_from_slice(first)
                } else {
                    self.pager.run(id, self.high_water, Wait::Yes)?
                };
                let page =
                    Page::parse(run, id, self.high_water).map_err(|what| self.pager.corrupt(id, what))?;
                self.next.extend((0..page.len()).map(|at| page.child(at)));
                Ok(())
            }
            LEAF if has_no_bucket(first) => Ok(()),
            LEAF => self.buckets(id),
            _ => Err(self.pager.corrupt(id, "neither branch nor leaf")),
        }
    }

    fn buckets(&mut self, id: u64) -> Result<(), Error> {
        let page = self.pager.page_from_file(id, self.high_water, Wait::Yes)?;
        for at in (0..page.len()).filter(|at| page.is_bucket(*at)) {
            let (root, _) = parse_bucket(&page.value_shared(at), self.high_water)
                .map_err(|what| self.pager.corrupt(id, what))?;
            if let BucketRoot::Tree(root) = root {
                self.next.push(root);
            }
        }
        Ok(())
    }
}

/// Whether a leaf surely holds keys alone, as nearly all do; element headers that lie in its overflow are not
/// seen here.
fn has_no_bucket(first: &[u8]) -> bool {
    let count = usize::from(read_u16(first, 10));
    HEADER_BYTES + ELEMENT_BYTES * count <= first.len()
        && (0..count).all(|at| read_u32(first, HEADER_BYTES + ELEMENT_BYTES * at) & BUCKET == 0)
}
