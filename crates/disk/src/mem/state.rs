//! The tree of a disk in memory: what programs see, what is durable, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::content::{Content, PAGE_BYTES};
use crate::Lock;

pub(super) const ROOT: u64 = 0;

/// A change of a file that no sync has covered yet.
#[derive(Clone)]
pub(super) enum Op {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

/// A change of names that no directory sync has covered yet.
#[derive(Clone)]
pub(super) enum NameOp {
    Link {
        dir: u64,
        name: String,
        id: u64,
    },
    Unlink {
        dir: u64,
        name: String,
    },
    Rename {
        from: (u64, String),
        to: (u64, String),
        id: u64,
    },
}

impl NameOp {
    fn touches(&self, wanted: u64) -> bool {
        match self {
            NameOp::Link { dir, .. } | NameOp::Unlink { dir, .. } => *dir == wanted,
            NameOp::Rename { from, to, .. } => from.0 == wanted || to.0 == wanted,
        }
    }

    /// Does it to the durable names. Whatever it needs may have been lost; then it does what it can.
    pub(super) fn apply(&self, nodes: &mut BTreeMap<u64, Node>) {
        match self {
            NameOp::Link { dir, name, id } => {
                durable_names(nodes, *dir, |names| names.insert(name.clone(), *id));
            }
            NameOp::Unlink { dir, name } => {
                durable_names(nodes, *dir, |names| names.remove(name));
            }
            NameOp::Rename { from, to, id } => {
                durable_names(nodes, from.0, |names| names.remove(&from.1));
                durable_names(nodes, to.0, |names| names.insert(to.1.clone(), *id));
            }
        }
    }
}

fn durable_names(
    nodes: &mut BTreeMap<u64, Node>,
    dir: u64,
    change: impl FnOnce(&mut BTreeMap<String, u64>) -> Option<u64>,
) {
    if let Some(Node::Dir(found)) = nodes.get_mut(&dir) {
        change(&mut found.durable);
    }
}

#[derive(Clone, Default)]
pub(super) struct FileNode {
    pub(super) live: Content,
    pub(super) durable: Content,
    pub(super) pending: Vec<Op>,
    pub(super) locks: Vec<(u64, Lock)>,
    /// Up to where space was reserved.
    pub(super) reserved: u64,
    pub(super) links: usize,
    pub(super) handles: usize,
}

impl FileNode {
    fn used_bytes(&self) -> u64 {
        let reserved_pages = self.reserved.div_ceil(PAGE_BYTES);
        (reserved_pages + self.live.pages_from(reserved_pages)) * PAGE_BYTES
    }

    /// Whether writing this page takes space that the file does not have yet.
    fn page_is_new(&self, page: u64) -> bool {
        page >= self.reserved.div_ceil(PAGE_BYTES) && !self.live.has_page(page)
    }

    pub(super) fn settle(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            match op {
                Op::Write { offset, data } => self.durable.write(&data, offset),
                Op::SetLen(len) => self.durable.set_len(len),
            }
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct DirNode {
    pub(super) live: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
}

#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// How a step fails.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    /// After half of it.
    Halfway(i32),
    /// Before any of it.
    Refused(i32),
}

/// What happens at the n-th sync.
#[derive(Clone, Copy)]
pub(super) enum SyncFault {
    Skip,
    Fail(i32),
}

pub(super) struct State {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_id: u64,
    pub(super) next_handle: u64,
    pub(super) names: Vec<NameOp>,
    pub(super) steps: u64,
    pub(super) syncs: u64,
    pub(super) opens: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) stopped: bool,
    pub(super) failures: BTreeMap<u64, Failure>,
    /// What the n-th opening of a file or directory fails with.
    pub(super) failed_opens: BTreeMap<u64, i32>,
    pub(super) all_opens_fail: Option<i32>,
    /// From each of these steps on one change finds no room.
    pub(super) lacks: BTreeSet<u64>,
    /// How many have found none.
    pub(super) lacked: u64,
    pub(super) sync_faults: BTreeMap<u64, SyncFault>,
    pub(super) all_syncs_fail: Option<i32>,
    pub(super) lies_below: Option<PathBuf>,
    pub(super) space_bytes: Option<u64>,
    /// Whether a write over what is there takes a page of its own.
    pub(super) copies_on_write: bool,
    pub(super) bad_reads: Vec<(u64, Range<u64>)>,
    pub(super) cold: bool,
    pub(super) trace: Option<Vec<String>>,
}

/// Marks the errors of a disk that was stopped.
#[derive(Debug)]
pub(super) struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the disk was stopped here on purpose")
    }
}

impl std::error::Error for Stopped {}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl State {
    pub(super) fn new() -> State {
        State {
            nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]),
            next_id: ROOT + 1,
            next_handle: 0,
            names: Vec::new(),
            steps: 0,
            syncs: 0,
            opens: 0,
            stop_at: None,
            stopped: false,
            failures: BTreeMap::new(),
            failed_opens: BTreeMap::new(),
            all_opens_fail: None,
            lacks: BTreeSet::new(),
            lacked: 0,
            sync_faults: BTreeMap::new(),
            all_syncs_fail: None,
            lies_below: None,
            space_bytes: None,
            copies_on_write: false,
            bad_reads: Vec::new(),
            cold: false,
            trace: None,
        }
    }

    /// Whether anything still works.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.stopped {
            return Err(io::Error::other(Stopped));
        }
        Ok(())
    }

    /// Counts a change; stops or fails if that was ordered for this one. `Some` is the error to return
    /// after having done half of it.
    pub(super) fn step(&mut self, what: impl FnOnce() -> String) -> io::Result<Option<io::Error>> {
        self.alive()?;
        if self.stop_at == Some(self.steps + 1) {
            self.stopped = true;
            return Err(io::Error::other(Stopped));
        }
        self.steps += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", self.steps, what()));
        }
        match self.failures.get(&self.steps) {
            Some(&Failure::Refused(code)) => Err(errno(code)),
            Some(&Failure::Halfway(code)) => Ok(Some(errno(code))),
            None => Ok(None),
        }
    }

    /// Counts the taking of a descriptor, which is no change.
    pub(super) fn take_descriptor(&mut self) -> io::Result<()> {
        self.alive()?;
        self.opens += 1;
        match self
            .failed_opens
            .get(&self.opens)
            .copied()
            .or(self.all_opens_fail)
        {
            Some(code) => Err(errno(code)),
            None => Ok(()),
        }
    }

    /// As `whole_step`, for what takes space.
    pub(super) fn taking_step(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        self.whole_step(what)?;
        match self.is_lacking() {
            true => Err(errno(libc::ENOSPC)),
            false => Ok(()),
        }
    }

    /// Whether this step, which takes space, is to find none.
    pub(super) fn is_lacking(&mut self) -> bool {
        let due = self.lacks.first().is_some_and(|from| *from <= self.steps);
        if due {
            self.lacks.pop_first();
            self.lacked += 1;
        }
        due
    }

    /// As `step`, for what happens wholly or not at all.
    pub(super) fn whole_step(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        self.step(what)?.map_or(Ok(()), Err)
    }

    /// Counts a sync. `Ok(false)`: say that it worked, and do nothing.
    pub(super) fn sync_step(&mut self, what: impl FnOnce() -> String) -> io::Result<bool> {
        let nth = self.syncs + 1;
        let failed = self.step(|| format!("{} (sync {nth})", what()));
        self.syncs += u64::from(!self.stopped);
        let failed = failed?;
        match (failed, self.sync_faults.get(&nth), self.all_syncs_fail) {
            (Some(error), _, _) => Err(error),
            (None, Some(&SyncFault::Fail(code)), _) | (None, None, Some(code)) => Err(errno(code)),
            (None, Some(SyncFault::Skip), _) => Ok(false),
            (None, None, None) => Ok(true),
        }
    }

    /// Whether the syncs of a file or directory are lies.
    pub(super) fn lies_about(&self, path: &Path) -> bool {
        self.lies_below.as_ref().is_some_and(|dir| path.starts_with(dir))
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut at = ROOT;
        for name in components(path)? {
            let Some(Node::Dir(dir)) = self.nodes.get(&at) else {
                return Err(errno(libc::ENOTDIR));
            };
            match dir.live.get(&name) {
                Some(&id) => at = id,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    pub(super) fn must_lookup(&self, path: &Path) -> io::Result<u64> {
        self.lookup(path)?.ok_or_else(|| errno(libc::ENOENT))
    }

    /// The directory that holds `path`, and its name there.
    pub(super) fn place(&self, path: &Path) -> io::Result<(u64, String)> {
        let mut names = components(path)?;
        let name = names.pop().ok_or_else(|| errno(libc::EINVAL))?;
        let mut at = ROOT;
        for name in names {
            at = *self.dir(at)?.live.get(&name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    /// Where a directory is now; one that was removed is nowhere.
    pub(super) fn path_of(&self, dir: u64) -> PathBuf {
        let mut todo = vec![(ROOT, PathBuf::from("/"))];
        while let Some((at, path)) = todo.pop() {
            if at == dir {
                return path;
            }
            if let Some(Node::Dir(found)) = self.nodes.get(&at) {
                todo.extend(found.live.iter().map(|(name, id)| (*id, path.join(name))));
            }
        }
        PathBuf::new()
    }

    pub(super) fn dir(&self, id: u64) -> io::Result<&DirNode> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    pub(super) fn file(&self, id: u64) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(errno(libc::EISDIR)),
        }
    }

    pub(super) fn file_mut(&mut self, id: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(errno(libc::EISDIR)),
        }
    }

    /// Enters `id` under a name: live now, durable when the directory is synced.
    pub(super) fn link(&mut self, dir: u64, name: String, node: Node) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        if let Some(Node::Dir(found)) = self.nodes.get_mut(&dir) {
            found.live.insert(name.clone(), id);
        }
        if let Some(Node::File(file)) = self.nodes.get_mut(&id) {
            file.links += 1;
        }
        self.names.push(NameOp::Link { dir, name, id });
        id
    }

    pub(super) fn unlink(&mut self, dir: u64, name: &str) {
        let removed = match self.nodes.get_mut(&dir) {
            Some(Node::Dir(found)) => found.live.remove(name),
            _ => None,
        };
        if let Some(id) = removed {
            self.drop_link(id);
            self.names.push(NameOp::Unlink {
                dir,
                name: name.to_owned(),
            });
        }
    }

    fn drop_link(&mut self, id: u64) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&id) {
            file.links = file.links.saturating_sub(1);
        }
    }

    pub(super) fn rename(&mut self, from: (u64, String), to: (u64, String)) -> io::Result<()> {
        let id = *self
            .dir(from.0)?
            .live
            .get(&from.1)
            .ok_or_else(|| errno(libc::ENOENT))?;
        let replaced = self.dir(to.0)?.live.get(&to.1).copied();
        if replaced == Some(id) {
            return Ok(());
        }
        match (replaced.and_then(|old| self.nodes.get(&old)), &self.nodes[&id]) {
            (Some(Node::Dir(_)), Node::File(_)) => return Err(errno(libc::EISDIR)),
            (Some(Node::File(_)), Node::Dir(_)) => return Err(errno(libc::ENOTDIR)),
            (Some(Node::Dir(old)), Node::Dir(_)) if !old.live.is_empty() => {
                return Err(errno(libc::ENOTEMPTY));
            }
            _ => {}
        }
        if let Some(old) = replaced {
            self.drop_link(old);
        }
        if let Some(Node::Dir(dir)) = self.nodes.get_mut(&from.0) {
            dir.live.remove(&from.1);
        }
        if let Some(Node::Dir(dir)) = self.nodes.get_mut(&to.0) {
            dir.live.insert(to.1.clone(), id);
        }
        self.names.push(NameOp::Rename { from, to, id });
        Ok(())
    }

    /// Makes the names of a directory durable. A rename between two directories counts for both.
    pub(super) fn settle_names(&mut self, dir: u64) {
        let (done, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.names)
            .into_iter()
            .partition(|op| op.touches(dir));
        self.names = left;
        for op in done {
            op.apply(&mut self.nodes);
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match node {
            Node::File(file) if file.links > 0 || file.handles > 0 => Some(file.used_bytes()),
            _ => None,
        });
        files.sum()
    }

    pub(super) fn removed_bytes(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match node {
            Node::File(file) if file.links == 0 && file.handles > 0 => Some(file.used_bytes()),
            _ => None,
        });
        files.sum()
    }

    /// How many of the bytes of a write find room.
    pub(super) fn room_for(&self, id: u64, offset: u64, len: usize) -> io::Result<usize> {
        let Some(space) = self.space_bytes else {
            return Ok(len);
        };
        let file = self.file(id)?;
        let mut left = space.saturating_sub(self.used_bytes()) / PAGE_BYTES;
        let end = offset + len as u64;
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let is_new = file.page_is_new(page);
            if !is_new && !self.copies_on_write {
                continue;
            }
            if left == 0 {
                return Ok((page * PAGE_BYTES).saturating_sub(offset) as usize);
            }
            // The old page is free again as soon as the new one is there.
            left -= u64::from(is_new);
        }
        Ok(len)
    }

    /// Whether the file can be reserved up to `len`.
    pub(super) fn reserve(&mut self, id: u64, len: u64) -> io::Result<()> {
        let used = self.used_bytes();
        let space = self.space_bytes;
        let file = self.file_mut(id)?;
        if file.reserved >= len {
            return Ok(());
        }
        let before = file.used_bytes();
        let reserved = std::mem::replace(&mut file.reserved, len);
        let after = file.used_bytes();
        if space.is_some_and(|space| used - before + after > space) {
            file.reserved = reserved;
            return Err(errno(libc::ENOSPC));
        }
        Ok(())
    }
}

fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(utf8(name)?),
            Component::ParentDir => {
                names.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

fn utf8(name: &OsStr) -> io::Result<String> {
    name.to_str()
        .map(str::to_owned)
        .ok_or_else(|| errno(libc::EINVAL))
}
