//! The bytes of a file in memory: pages that copies share, holes that cost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// Length and content of one file. What no page holds reads as zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    len: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf` as far as the file reaches, and says how far that was.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (page, within, range) in spans(offset, n) {
            let target = &mut buf[range];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + target.len()]),
                None => target.fill(0),
            }
        }
        n
    }

    /// Writes `data` and extends the file to hold it.
    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        for (page, within, range) in spans(offset, data.len()) {
            let source = &data[range];
            let bytes = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(bytes)[within..within + source.len()].copy_from_slice(source);
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Where at or after `offset` the first page is that was written.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        let (page, _) = self.pages.range(offset / PAGE_BYTES..).next()?;
        Some(offset.max(page * PAGE_BYTES)).filter(|&found| found < self.len)
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            let within = (len % PAGE_BYTES) as usize;
            if let Some(bytes) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                Arc::make_mut(bytes)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// How many of the pages from `first` on hold bytes.
    pub(super) fn pages_from(&self, first: u64) -> u64 {
        self.pages.range(first..).count() as u64
    }

    pub(super) fn has_page(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }
}

/// Cuts `len` bytes at `offset` along pages: the page, where in it, and which of the bytes.
fn spans(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES) as usize;
        let n = (PAGE_BYTES as usize - within).min(len - done);
        let range = done..done + n;
        done += n;
        Some((at / PAGE_BYTES, within, range))
    })
}
