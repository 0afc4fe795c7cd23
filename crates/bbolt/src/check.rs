//! The judge of a file: reads every page of a state and names all that breaks a rule of the format.
//! Sources: bbolt tx_check.go; beyond it element bounds, equal depth and no empty leaf below a root. Never
//! writes, never uses the cache.

use bytes::Bytes;

use crate::meta::Meta;
use crate::open::read_freelist;
use crate::page::{BucketRoot, Page, parse_bucket};
use crate::pager::Pager;
use crate::space::{PageSet, Run};
use crate::tree::DEPTH_MAX;
use crate::{Error, Violation, Wait};

/// More than this many say nothing new.
const VIOLATIONS_MAX: usize = 1000;

/// One check of one state.
pub(crate) struct Checker<'a> {
    pager: &'a Pager,
    meta: Meta,
    reached: PageSet,
    /// Roots of buckets that were seen and not walked yet: buckets may nest as deep as the file is long.
    roots: Vec<u64>,
    violations: Vec<Violation>,
}

/// What the branch above says of the keys of a subtree, and where leaves were found.
struct Within<'a> {
    /// The keys are not below this.
    from: Option<&'a [u8]>,
    /// The keys are below this.
    to: Option<&'a [u8]>,
    depth: usize,
    leaf_depth: &'a mut Option<usize>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(pager: &'a Pager, meta: Meta) -> Checker<'a> {
        Checker {
            pager,
            meta,
            reached: PageSet::default(),
            roots: vec![meta.root],
            violations: Vec::new(),
        }
    }

    /// `unreached` is what the writer believes to be free or to become free; without it (a file opened for
    /// reading
    /// only), the stored freelist is used, if there is one. `freelist` is the run of the stored list.
    pub(crate) fn run(mut self, unreached: Option<PageSet>, freelist: Option<Run>) -> Vec<Violation> {
        self.stored_meta();
        let stored = match (unreached, self.meta.freelist) {
            (Some(unreached), _) => Some((unreached, freelist)),
            (None, Some(id)) => match read_freelist(self.pager, id, self.meta.high_water) {
                Ok((free, run)) => {
                    let mut set = PageSet::default();
                    free.into_iter().for_each(|id| {
                        set.insert(id);
                    });
                    Some((set, Some(run)))
                }
                Err(error) => {
                    self.report_error(id, &error);
                    None
                }
            },
            (None, None) => None,
        };
        if let Some(run) = stored.as_ref().and_then(|(_, run)| *run) {
            self.reached.insert_run(run);
        }
        while let Some(root) = self.roots.pop() {
            let mut leaf_depth = None;
            self.node(
                root,
                Within {
                    from: None,
                    to: None,
                    depth: 0,
                    leaf_depth: &mut leaf_depth,
                },
            );
        }
        if let Some((free, _)) = stored {
            self.account(&free);
        }
        self.violations
    }

    /// The file's own meta page says what this state says.
    fn stored_meta(&mut self) {
        let mut bytes = [0; crate::meta::META_BYTES];
        let mut stored = Vec::new();
        for slot in 0..2 {
            let offset = slot * self.pager.page_size as u64;
            if self.pager.read(&mut bytes, offset, Wait::Yes).is_ok() {
                stored.extend(Meta::decode(&bytes));
            }
        }
        if !stored.contains(&self.meta) {
            self.report(self.meta.txid % 2, "no meta page says the state that is open");
        }
    }

    /// Every page below the high-water mark is either reached or free.
    fn account(&mut self, free: &PageSet) {
        for id in 2..self.meta.high_water {
            match (self.reached.contains(id), free.contains(id)) {
                (true, true) => self.report(id, "reachable freed"),
                (false, false) => self.report(id, "unreachable unfreed"),
                _ => {}
            }
        }
    }

    /// Checks a subtree and gives its greatest key.
    fn node(&mut self, id: u64, mut within: Within) -> Option<Bytes> {
        if within.depth > DEPTH_MAX {
            self.report(id, "deeper than a tree can be");
            return None;
        }
        let page = match self.pager.page_from_file(id, self.meta.high_water, Wait::Yes) {
            Ok(page) => page,
            Err(error) => {
                self.report_error(id, &error);
                return None;
            }
        };
        let pages = (page.byte_len() / self.pager.page_size) as u64;
        if !self.reached.insert_run((id, pages)) {
            // Its subtree was walked where it was reached first.
            self.report(id, "multiple references");
            return None;
        }
        if page.len() > 0 {
            if within.from.is_some_and(|from| *page.key(0) < *from) {
                self.report(
                    id,
                    "first key below the one in the ancestor, or below the sibling's last",
                );
            }
            if within.to.is_some_and(|to| *page.key(page.len() - 1) >= *to) {
                self.report(id, "last key not below the next one in the ancestor");
            }
        }
        if page.is_leaf() {
            self.leaf(id, &page, &mut within);
            return page.len().checked_sub(1).map(|last| page.key_shared(last));
        }
        let mut greatest: Option<Bytes> = None;
        for at in 0..page.len() {
            if greatest
                .as_ref()
                .is_some_and(|greatest| *greatest >= page.key(at))
            {
                self.report(id, "a key not above all keys of the child before");
            }
            let last = at + 1 == page.len();
            let below = Within {
                from: Some(page.key(at)),
                to: if last { within.to } else { Some(page.key(at + 1)) },
                depth: within.depth + 1,
                leaf_depth: &mut *within.leaf_depth,
            };
            greatest = self.node(page.child(at), below).or(greatest);
        }
        greatest
    }

    fn leaf(&mut self, id: u64, page: &Page, within: &mut Within) {
        if page.len() == 0 && within.depth > 0 {
            self.report(id, "an empty leaf that is no root");
        }
        if *within.leaf_depth.get_or_insert(within.depth) != within.depth {
            self.report(id, "a leaf that is not as deep as the others");
        }
        for at in (0..page.len()).filter(|at| page.is_bucket(*at)) {
            match parse_bucket(&page.value_shared(at), self.meta.high_water) {
                Ok((BucketRoot::Tree(root), _)) => self.roots.push(root),
                Ok((BucketRoot::Inline(inner), _)) => {
                    if (0..inner.len()).any(|at| inner.is_bucket(at)) {
                        self.report(id, "an inline bucket that holds buckets");
                    }
                }
                Err(what) => self.report(id, what),
            }
        }
    }

    fn report(&mut self, page: u64, what: &str) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation {
                page,
                what: what.to_owned(),
            });
        }
    }

    fn report_error(&mut self, page: u64, error: &Error) {
        match error {
            Error::Corrupt { page, what, .. } => self.report(*page, what),
            other => self.report(page, &other.to_string()),
        }
    }
}
