//! Opening a file: lock, make if missing, choose the meta page, read a stored freelist, make durable what was found.
//! Never changes a byte of a file that holds anything.

use std::path::Path;
use std::sync::Arc;

use disk::{Disk, File, Lock, Open};

use crate::cache::Cache;
use crate::error::is_out_of_space;
use crate::meta::{FRESH_PAGES, META_BYTES, Meta, fresh_file, page_size_is_valid};
use crate::page::{FREELIST, HEADER_BYTES, read_u16, read_u64};
use crate::pager::Pager;
use crate::space::{PageSet, Run};
use crate::{Error, Options, Wait};

/// A file whose state is known.
pub(crate) struct Opened {
    pub(crate) pager: Pager,
    pub(crate) meta: Meta,
    pub(crate) file_bytes: u64,
    /// Free pages by the stored freelist, and where that list lies.
    pub(crate) free: Vec<u64>,
    pub(crate) freelist_run: Option<Run>,
    /// There was no room to make durable what was found.
    pub(crate) unsettled: Option<FoundMeta>,
}

/// A meta page as it was found, and where it lies.
#[derive(PartialEq, Eq)]
pub(crate) struct FoundMeta {
    at: u64,
    bytes: Vec<u8>,
}

impl FoundMeta {
    pub(crate) fn read(file: &dyn File, at: u64) -> std::io::Result<FoundMeta> {
        let mut bytes = vec![0; META_BYTES];
        let read = file.read_at(&mut bytes, at)?;
        bytes.truncate(read);
        Ok(FoundMeta { at, bytes })
    }

    /// Writes it once more, without a sync.
    pub(crate) fn rewrite(&self, file: &dyn File) -> std::io::Result<()> {
        file.write_at(&self.bytes, self.at)
    }
}

pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, options: &Options) -> Result<Opened, Error> {
    let page_size = options.page_size.unwrap_or(4096);
    if !page_size_is_valid(page_size) {
        return Err(Error::PageSize(page_size));
    }
    let io = |action, source| Error::Io {
        file: path.to_path_buf(),
        action,
        source,
    };
    let how = if options.read_only {
        Open::Read
    } else {
        Open::WriteOrCreate
    };
    let file = disk.open(path, how).map_err(|source| io("open it", source))?;
    let kind = if options.read_only {
        Lock::Shared
    } else {
        Lock::Exclusive
    };
    if !file.try_lock(kind).map_err(|source| io("lock it", source))? {
        return Err(Error::Locked {
            file: path.to_path_buf(),
        });
    }
    let made = !options.read_only
        && make_if_fresh(&**disk, &*file, path, page_size).map_err(|source| io("make it", source))?;
    let file_bytes = file.len().map_err(|source| io("read its length", source))?;
    let (at, meta) = choose_meta(&*file, path, file_bytes)?;
    let page_size = meta.page_size;
    let pager = Pager {
        file,
        path: path.to_path_buf(),
        page_size: page_size as usize,
        cache: Cache::new(options.cache_bytes_max),
    };
    let mut opened = Opened {
        pager,
        meta,
        file_bytes,
        free: Vec::new(),
        freelist_run: None,
        unsettled: None,
    };
    check_meta(&opened)?;
    if let Some(id) = meta.freelist
        && !options.read_only
    {
        let (free, run) = read_freelist(&opened.pager, id, meta.high_water)?;
        (opened.free, opened.freelist_run) = (free, Some(run));
    }
    if options.sync && !options.read_only && !made {
        let file = &*opened.pager.file;
        opened.unsettled =
            make_durable(file, at).map_err(|source| io("make durable what was found in it", source))?;
    }
    Ok(opened)
}

/// Whoever wrote the meta page may have been killed before its sync, or seen it fail: then it may be in the memory of
/// the system alone, even marked as written. From now on it counts, so it is written once more. What it reaches was
/// synced before it.
///
/// A full file system that copies on write has no room for that. The sync alone is enough after a kill, and after a
/// failed sync the file can be read: what must not be done before there is room is to build on what was found, and
/// to let go of what could bring it back. So the next commit begins with this, and the page is given back for it.
fn make_durable(file: &dyn File, at: u64) -> std::io::Result<Option<FoundMeta>> {
    let found = FoundMeta::read(file, at)?;
    let unsettled = match found.rewrite(file) {
        Ok(()) => None,
        Err(error) if is_out_of_space(&error) => Some(found),
        Err(error) => return Err(error),
    };
    file.sync_data()?;
    Ok(unsettled)
}

/// Writes a fresh file over nothing, or over what a crash left of writing one: sectors that are
/// either what a fresh file has or zero. Tells whether it did.
fn make_if_fresh(disk: &dyn Disk, file: &dyn File, path: &Path, page_size: u32) -> std::io::Result<bool> {
    const SECTOR_BYTES: usize = 512;
    let fresh = fresh_file(page_size);
    let length = file.len()?;
    if length > FRESH_PAGES * u64::from(page_size) {
        return Ok(false);
    }
    let mut there = vec![0; length as usize];
    let read = file.read_at(&mut there, 0)?;
    there.truncate(read);
    let is_rest = there
        .chunks(SECTOR_BYTES)
        .zip(fresh.chunks(SECTOR_BYTES))
        .all(|(there, fresh)| there == &fresh[..there.len()] || there.iter().all(|byte| *byte == 0));
    if !is_rest {
        return Ok(false);
    }
    file.write_at(&fresh, 0)?;
    file.sync_all()?;
    disk::sync_parent(disk, path)?;
    Ok(true)
}

/// The valid meta with the higher txid, and where it lies. bbolt db.go getPageSize: the first page says how large
/// pages are; if that one is bad, the second one is looked for where each page size would put it.
fn choose_meta(file: &dyn File, path: &Path, file_bytes: u64) -> Result<(u64, Meta), Error> {
    let read = |offset: u64| -> Result<Result<Meta, &'static str>, Error> {
        let mut bytes = [0; META_BYTES];
        let n = file.read_at(&mut bytes, offset).map_err(|source| Error::Io {
            file: path.to_path_buf(),
            action: "read it",
            source,
        })?;
        Ok(Meta::decode(&bytes[..n]).and_then(|meta| {
            if page_size_is_valid(meta.page_size) {
                Ok(meta)
            } else {
                Err("a page size that is not supported")
            }
        }))
    };
    let first = read(0)?;
    let mut second = Err("not found at any page size");
    match &first {
        Ok(meta) => second = read(u64::from(meta.page_size))?,
        Err(_) => {
            for page_size in (10..=16).map(|shift| 1u32 << shift) {
                if u64::from(page_size) + META_BYTES as u64 > file_bytes {
                    break;
                }
                match read(u64::from(page_size))? {
                    Ok(meta) if meta.page_size == page_size => {
                        second = Ok(meta);
                        break;
                    }
                    Ok(_) => {}
                    Err("not a bbolt meta page") => {}
                    Err(what) => second = Err(what),
                }
            }
        }
    }
    match (first, second) {
        (Ok(first), Ok(second)) if first.page_size == second.page_size && second.txid > first.txid => {
            Ok((u64::from(second.page_size), second))
        }
        (Ok(first), _) => Ok((0, first)),
        (Err(_), Ok(second)) => Ok((u64::from(second.page_size), second)),
        (Err(meta0), Err(meta1)) => Err(Error::BadMetas {
            file: path.to_path_buf(),
            meta0,
            meta1,
        }),
    }
}

/// Whether what the meta says can be true of this file; all later bounds rest on it.
fn check_meta(opened: &Opened) -> Result<(), Error> {
    let Opened {
        pager,
        meta,
        file_bytes,
        ..
    } = opened;
    let corrupt = |what| Err(pager.corrupt(meta.txid % 2, what));
    let Some(needs) = meta.high_water.checked_mul(pager.page_size as u64) else {
        return corrupt("an impossible high-water mark");
    };
    if needs > *file_bytes {
        return Err(Error::Truncated {
            file: pager.path.clone(),
            needs,
            has: *file_bytes,
        });
    }
    if !(2..meta.high_water).contains(&meta.root) {
        return corrupt("the root page is beyond the high-water mark");
    }
    if meta
        .freelist
        .is_some_and(|id| !(2..meta.high_water).contains(&id))
    {
        return corrupt("the freelist is beyond the high-water mark");
    }
    if meta.txid == u64::MAX {
        return corrupt("an impossible txid");
    }
    Ok(())
}

/// The stored freelist: page numbers, ascending, from byte 16 on; with 65,535 or more of them
/// the first number is their count (bbolt internal/freelist/shared.go).
pub(crate) fn read_freelist(pager: &Pager, id: u64, high_water: u64) -> Result<(Vec<u64>, Run), Error> {
    let page = pager.run(id, high_water, Wait::Yes)?;
    if read_u64(&page, 0) != id || read_u16(&page, 8) != FREELIST {
        return Err(pager.corrupt(id, "it is not the freelist that the meta page names"));
    }
    let (mut count, mut from) = (u64::from(read_u16(&page, 10)), HEADER_BYTES);
    if count == 0xFFFF {
        (count, from) = (read_u64(&page, from), from + 8);
    }
    if count > ((page.len() - from) / 8) as u64 {
        return Err(pager.corrupt(id, "a freelist with more entries than fit"));
    }
    let run = (id, (page.len() / pager.page_size) as u64);
    let mut seen = PageSet::default();
    let mut free = Vec::with_capacity(count as usize);
    for at in 0..count as usize {
        let page_id = read_u64(&page, from + 8 * at);
        let in_list = (run.0..run.0 + run.1).contains(&page_id);
        if !(2..high_water).contains(&page_id) || in_list || !seen.insert(page_id) {
            return Err(pager.corrupt(id, "a freelist entry that is out of bounds or there twice"));
        }
        free.push(page_id);
    }
    Ok((free, run))
}
