//! The file as numbered pages: reads through the cache, writes of whole runs. Knows nothing of trees.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use disk::File;

use crate::cache::Cache;
use crate::page::{HEADER_BYTES, Page, read_u32};
use crate::{Error, Wait};

/// Adjacent pages are written together up to this many bytes.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// An open file, its page size, its cached pages.
pub(crate) struct Pager {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) page_size: usize,
    pub(crate) cache: Cache,
}

/// New pages that are not in the file yet: number of the first, and the bytes of the run.
pub(crate) struct Dirty {
    pub(crate) id: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Pager {
    /// A branch or leaf page with its overflow.
    pub(crate) fn page(&self, id: u64, high_water: u64, wait: Wait) -> Result<Page, Error> {
        if let Some(page) = self.cache.get(id) {
            return Ok(page);
        }
        let page = self.page_from_file(id, high_water, wait)?;
        self.cache.insert(id, page.clone());
        Ok(page)
    }

    /// A child of a branch, which must hold the keys that the branch says.
    pub(crate) fn child(&self, branch: &Page, at: usize, high_water: u64, wait: Wait) -> Result<Page, Error> {
        let page = self.page(branch.child(at), high_water, wait)?;
        self.check_child(branch, at, &page, high_water, wait)?;
        Ok(page)
    }

    /// Whether a page can be the child of a branch: its keys are not below its own key in the branch, and below
    /// the next. A key of the branch that is not the child's first one is compared with the child before, too:
    /// bbolt writes them equal (node.go spill), but only demands that they part the children.
    pub(crate) fn check_child(
        &self,
        branch: &Page,
        at: usize,
        page: &Page,
        high_water: u64,
        wait: Wait,
    ) -> Result<(), Error> {
        let Some(last) = page.len().checked_sub(1) else {
            return Ok(());
        };
        let key = branch.key(at);
        if at + 1 < branch.len() && page.key(last) >= branch.key(at + 1) {
            return Err(self.corrupt(branch.child(at), "keys that belong to the page after it"));
        }
        if page.key(0) == key {
            return Ok(());
        }
        if page.key(0) < key {
            return Err(self.corrupt(branch.child(at), "keys that belong to the page before it"));
        }
        if at > 0 {
            let before = self.page(branch.child(at - 1), high_water, wait)?;
            if before.len() > 0 && before.key(before.len() - 1) >= key {
                return Err(self.corrupt(branch.child(at - 1), "keys that belong to the page after it"));
            }
        }
        Ok(())
    }

    /// As `page`, past the cache both ways: walks over the whole file must not empty it.
    pub(crate) fn page_from_file(&self, id: u64, high_water: u64, wait: Wait) -> Result<Page, Error> {
        let run = self.run(id, high_water, wait)?;
        Page::parse(run, id, high_water).map_err(|what| self.corrupt(id, what))
    }

    /// Several pages, ascending and near each other, by one read past the cache; the first one comes last.
    /// The list ends
    /// before a page that is damaged or not wholly within the read: who asks for it alone learns what is
    /// wrong.
    pub(crate) fn pages_from_file(&self, ids: &[u64], high_water: u64) -> Result<Vec<(u64, Page)>, Error> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(Vec::new());
        };
        let mut window = vec![0; (last - first + 1) as usize * self.page_size];
        self.read(&mut window, first * self.page_size as u64, Wait::Yes)?;
        let window = Bytes::from(window);
        let mut pages = Vec::with_capacity(ids.len());
        for id in ids {
            let from = (id - first) as usize * self.page_size;
            let overflow = read_u32(&window[from..], 12) as usize;
            let Some(run) = window.get(from..from + (overflow + 1) * self.page_size) else {
                break;
            };
            match Page::parse(window.slice_ref(run), *id, high_water) {
                Ok(page) => pages.push((*id, page)),
                Err(_) => break,
            }
        }
        pages.reverse();
        Ok(pages)
    }

    /// The bytes of a page with its overflow, not validated.
    pub(crate) fn run(&self, id: u64, high_water: u64, wait: Wait) -> Result<Bytes, Error> {
        if !(2..high_water).contains(&id) {
            return Err(self.corrupt(id, "beyond the high-water mark"));
        }
        let offset = id * self.page_size as u64;
        let mut bytes = vec![0; self.page_size];
        self.read(&mut bytes, offset, wait)?;
        let overflow = u64::from(read_u32(&bytes[..HEADER_BYTES], 12));
        if overflow >= high_water - id {
            return Err(self.corrupt(id, "overflow beyond the high-water mark"));
        }
        if overflow > 0 {
            bytes.resize((overflow as usize + 1) * self.page_size, 0);
            self.read(&mut bytes[self.page_size..], offset + self.page_size as u64, wait)?;
        }
        Ok(Bytes::from(bytes))
    }

    /// Fills `buf` from the file.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64, wait: Wait) -> Result<(), Error> {
        let read = match wait {
            Wait::Yes => self.file.read_at(buf, offset).map(Some),
            Wait::No => self.file.try_read_at(buf, offset),
        };
        match read.map_err(|source| self.io("read it", source))? {
            None => Err(Error::WouldBlock),
            Some(n) if n < buf.len() => Err(Error::Truncated {
                file: self.path.clone(),
                needs: offset + buf.len() as u64,
                has: offset + n as u64,
            }),
            Some(_) => Ok(()),
        }
    }

    /// Writes runs in the order of their numbers, adjacent ones together.
    pub(crate) fn write(&self, dirty: &mut [Dirty]) -> Result<(), Error> {
        dirty.sort_unstable_by_key(|run| run.id);
        let mut from = 0;
        let mut together = Vec::new();
        while from < dirty.len() {
            let offset = dirty[from].id * self.page_size as u64;
            let mut end = offset;
            let mut to = from;
            while to < dirty.len()
                && dirty[to].id * self.page_size as u64 == end
                && (to == from || (end - offset) as usize + dirty[to].bytes.len() <= WRITE_BYTES_MAX)
            {
                end += dirty[to].bytes.len() as u64;
                to += 1;
            }
            let result = if to == from + 1 {
                self.file.write_at(&dirty[from].bytes, offset)
            } else {
                together.clear();
                dirty[from..to]
                    .iter()
                    .for_each(|run| together.extend_from_slice(&run.bytes));
                self.file.write_at(&together, offset)
            };
            result.map_err(|source| self.io("write it", source))?;
            from = to;
        }
        Ok(())
    }

    pub(crate) fn corrupt(&self, page: u64, what: &'static str) -> Error {
        Error::Corrupt {
            file: self.path.clone(),
            page,
            what,
        }
    }

    pub(crate) fn incompatible(&self, name: &[u8]) -> Error {
        Error::Incompatible {
            file: self.path.clone(),
            name: name.to_vec(),
        }
    }

    pub(crate) fn io(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io {
            file: self.path.clone(),
            action,
            source,
        }
    }
}
