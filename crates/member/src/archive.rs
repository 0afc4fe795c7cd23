//! Entries out of the log's files, for members that lack what is no longer in memory. Never writes, and reads
//! only what was synced before it was asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disk::Disk;
use raft::Wanted;
use wal::{Record, Records};

use crate::message::ToDecide;
use crate::router::{Job, JobKind, Router};

/// So many members have a place of their own at the same time. For others each reading begins with a segment.
const PLACES_MAX: usize = 4;

/// The log's files, read in the order in which they were written.
pub(crate) struct Archive {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    places: Arc<Mutex<Places>>,
}

/// Where the last reading for each member ended: the next one mostly goes on there. `None` while one is under way.
type Places = BTreeMap<u64, Option<Place>>;

/// A place in the log's files. Keeps them open from there on, also those that were purged since.
struct Place {
    records: Records,
    term: u64,
    /// The last entry of that term before it.
    index: u64,
}

/// What was found for a member.
pub struct Fetched {
    pub(crate) wanted: Wanted,
    pub(crate) entries: Vec<raft::Entry>,
}

impl Fetched {
    /// Whether the log has nothing of it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Archive {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Archive {
        Archive {
            disk,
            dir,
            places: Arc::default(),
        }
    }

    /// Gives up the places of all members that need nothing more.
    pub(crate) fn release(&self, needs: impl Fn(u64) -> bool, router: &dyn Router) {
        let mut released = Vec::new();
        lock(&self.places).retain(|id, place| {
            let kept = needs(*id);
            if !kept {
                released.extend(place.take());
            }
            kept
        });
        if !released.is_empty() {
            // To close the last handle of a file that was removed frees its blocks, which takes its time.
            router.job(Job::new(JobKind::Fetch, move |_: &dyn Router| drop(released)));
        }
    }

    /// Reads what a member lacks, beside the stages.
    pub(crate) fn fetch(&self, wanted: Wanted, router: &dyn Router) {
        let (disk, dir, places) = (self.disk.clone(), self.dir.clone(), self.places.clone());
        let mut all = lock(&places);
        if all.len() < PLACES_MAX {
            all.entry(wanted.id).or_default();
        }
        drop(all);
        router.job(Job::new(JobKind::Fetch, move |router: &dyn Router| {
            let last = lock(&places).get_mut(&wanted.id).and_then(Option::take);
            let last = last.filter(|last| last.term == wanted.term && last.index == wanted.previous);
            let mut found = last.and_then(|last| read(last, wanted));
            if found.is_none() {
                // A segment that was begun after the files were opened is not among them: once more.
                let first = Records::open_from(&*disk, &dir, wanted.previous).ok();
                found = first.and_then(|records| {
                    let (term, index) = (wanted.term, wanted.previous);
                    read(Place { records, term, index }, wanted)
                });
            }
            let entries = found.map_or_else(Vec::new, |(next, entries)| {
                // If it was released meanwhile, nobody goes on there.
                if let Some(place) = lock(&places).get_mut(&wanted.id) {
                    *place = Some(next);
                }
                entries
            });
            router.to_decide(ToDecide::Fetched(Box::new(Fetched { wanted, entries })));
        }));
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At least one of the wanted entries, and the place after the last; `None` if the files do not have them. In one
/// term there is one version of each.
fn read(mut place: Place, wanted: Wanted) -> Option<(Place, Vec<raft::Entry>)> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    while place.index < wanted.last && bytes < wanted.bytes_max {
        let Ok(Some(record)) = place.records.next() else {
            break;
        };
        let Ok(Record::Entry(entry)) = record.record() else {
            continue;
        };
        if entry.term != wanted.term || entry.index <= place.index {
            continue;
        }
        if entry.index != place.index + 1 {
            return None;
        }
        place.index = entry.index;
        let entry = crate::open::raft_entry(entry);
        bytes += entry.encoded_bytes();
        entries.push(entry);
    }
    (!entries.is_empty()).then_some((place, entries))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::{Path, PathBuf};

    use bytes::Bytes;
    use disk::Disk;
    use disk::mem::MemDisk;
    use raft::Wanted;
    use wal::{Records, Wal};

    use super::{Archive, PLACES_MAX, Place, read};
    use crate::error::Fatal;
    use crate::message::{ToApply, ToCommitter, ToDecide, ToFront, ToPersist};
    use crate::peer::ToPeer;
    use crate::router::{Job, Router};

    /// Keeps jobs until they are run, and what they found.
    #[derive(Default)]
    struct Pool {
        jobs: RefCell<Vec<Job>>,
        found: RefCell<Vec<(u64, Vec<u64>)>>,
    }

    impl Pool {
        fn run(&self) {
            for job in self.jobs.take() {
                job.run(self);
            }
        }
    }

    impl crate::log::Log for Pool {
        fn log(&self, _line: crate::log::LogLine) {}
    }

    impl Router for Pool {
        fn to_decide(&self, message: ToDecide) {
            if let ToDecide::Fetched(found) = message {
                let indexes = found.entries.iter().map(|entry| entry.index).collect();
                self.found.borrow_mut().push((found.wanted.id, indexes));
            }
        }
        fn to_persist(&self, _message: ToPersist) {}
        fn to_apply(&self, _message: ToApply) {}
        fn to_committer(&self, _message: ToCommitter) {}
        fn to_front(&self, _front: usize, _message: ToFront) {}
        fn to_peer(&self, _message: ToPeer) {}
        fn job(&self, job: Job) {
            self.jobs.borrow_mut().push(job);
        }
        fn fatal(&self, fatal: Fatal) {
            panic!("{fatal:?}");
        }
        fn stopped(&self) {}
    }

    /// What a member is given after an index.
    fn fetch(archive: &Archive, pool: &Pool, id: u64, previous: u64) -> Vec<u64> {
        let wanted = Wanted {
            id,
            term: 1,
            previous,
            last: 10,
            bytes_max: 150,
        };
        archive.fetch(wanted, pool);
        pool.run();
        let (to, found) = pool.found.borrow_mut().pop().unwrap();
        assert_eq!(to, id);
        found
    }

    /// A log of ten entries, one or two in a segment.
    fn archive() -> (MemDisk, Archive) {
        let disk = MemDisk::new();
        let dir = PathBuf::from("/wal");
        let mut wal = Wal::create(&disk.shared(), &dir, b"").unwrap();
        wal.set_segment_bytes(300);
        for index in 1..=10 {
            wal.save(None, &entries(1, index..=index)).unwrap();
            wal.cut_if_full().unwrap();
        }
        wal.close().unwrap();
        let archive = Archive::new(disk.shared(), dir);
        (disk, archive)
    }

    fn remove_all(disk: &MemDisk) {
        for entry in disk.list(Path::new("/wal")).unwrap() {
            disk.remove_file(&Path::new("/wal").join(entry.name)).unwrap();
        }
    }

    #[test]
    fn each_member_goes_on_where_it_was() {
        let (disk, archive) = archive();
        let pool = Pool::default();
        assert_eq!(fetch(&archive, &pool, 2, 1), [2, 3]);
        assert_eq!(fetch(&archive, &pool, 3, 4), [5, 6]);
        // Nobody could begin anew.
        remove_all(&disk);
        assert_eq!(fetch(&archive, &pool, 2, 3), [4, 5]);
        assert_eq!(fetch(&archive, &pool, 3, 6), [7, 8]);
        assert_eq!(fetch(&archive, &pool, 2, 5), [6, 7]);
        assert!(fetch(&archive, &pool, 4, 5).is_empty());
    }

    #[test]
    fn who_needs_nothing_more_keeps_no_file_open() {
        let (disk, archive) = archive();
        let pool = Pool::default();
        for id in [2, 3] {
            assert_eq!(fetch(&archive, &pool, id, 1), [2, 3]);
        }
        remove_all(&disk);
        archive.release(|id| id == 3, &pool);
        assert!(disk.used_bytes() > 0, "closing is a job too");
        pool.run();
        assert!(disk.used_bytes() > 0);
        assert!(fetch(&archive, &pool, 2, 3).is_empty());
        assert_eq!(fetch(&archive, &pool, 3, 3), [4, 5]);
        // It reads while it is released.
        let wanted = Wanted {
            id: 3,
            term: 1,
            previous: 5,
            last: 10,
            bytes_max: 150,
        };
        archive.fetch(wanted, &pool);
        archive.release(|_| false, &pool);
        pool.run();
        assert_eq!(disk.used_bytes(), 0);
    }

    #[test]
    fn places_are_bounded() {
        let (disk, archive) = archive();
        let pool = Pool::default();
        let ids = 2..2 + PLACES_MAX as u64;
        for id in ids.clone().chain([99]) {
            assert_eq!(fetch(&archive, &pool, id, 1), [2, 3]);
        }
        assert_eq!(fetch(&archive, &pool, 99, 3), [4, 5], "it begins anew each time");
        remove_all(&disk);
        assert!(fetch(&archive, &pool, 99, 5).is_empty());
        for id in ids {
            assert_eq!(fetch(&archive, &pool, id, 3), [4, 5]);
        }
    }

    fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<wal::Entry> {
        indexes
            .map(|index| wal::Entry {
                kind: wal::EntryKind::Normal,
                term,
                index,
                data: Bytes::from(vec![b'x'; 100]),
            })
            .collect()
    }

    /// What the files have after an entry of term 2, up to 10 and to so many bytes; the last is where to go on.
    fn check(previous: u64, bytes_max: u64, expected: Option<std::ops::RangeInclusive<u64>>) {
        let disk = MemDisk::new().shared();
        let dir = Path::new("/wal");
        let mut wal = Wal::create(&disk, dir, b"").unwrap();
        // What a leader of term 1 wrote is replaced from entry 4 on.
        wal.save(None, &entries(1, 1..=6)).unwrap();
        wal.save(None, &entries(2, 4..=9)).unwrap();
        wal.save(None, &entries(2, 10..=12)).unwrap();
        let records = Records::open_from(&*disk, dir, previous).unwrap();
        let wanted = Wanted {
            id: 2,
            term: 2,
            previous,
            last: 10,
            bytes_max,
        };
        let place = Place {
            records,
            term: 2,
            index: previous,
        };
        let found = read(place, wanted).map(|(place, entries)| {
            assert!(entries.iter().all(|entry| entry.term == 2));
            assert_eq!(entries.last().map(|entry| entry.index), Some(place.index));
            entries.iter().map(|entry| entry.index).collect::<Vec<_>>()
        });
        assert_eq!(found, expected.map(Iterator::collect));
    }

    #[test]
    fn it_gives_what_was_written_in_the_term() {
        check(4, 1 << 20, Some(5..=10));
        check(9, 1 << 20, Some(10..=10));
    }

    #[test]
    fn it_gives_no_more_than_is_wanted() {
        check(4, 150, Some(5..=6));
        check(4, 1, Some(5..=5));
    }

    #[test]
    fn it_leaves_no_gap() {
        check(1, 1 << 20, None);
    }
}
