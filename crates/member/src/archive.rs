//! Entries out of the log's files, for members that lack what is no longer in memory. Never writes, and reads
//! only what was synced before it was asked for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use disk::Disk;
use raft::Wanted;
use wal::{Record, Records};

use crate::message::ToDecide;
use crate::router::{Job, JobKind, Router};

/// The log's files, read in the order in which they were written.
pub(crate) struct Archive {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Where the last reading ended: the next one mostly goes on there.
    place: Arc<Mutex<Option<Place>>>,
}

/// A place in the log's files.
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
            place: Arc::default(),
        }
    }

    /// Reads what a member lacks, beside the stages.
    pub(crate) fn fetch(&self, wanted: Wanted, router: &dyn Router) {
        let (disk, dir, place) = (self.disk.clone(), self.dir.clone(), self.place.clone());
        router.job(Job::new(JobKind::Fetch, move |router: &dyn Router| {
            let last = place.lock().unwrap_or_else(PoisonError::into_inner).take();
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
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
                entries
            });
            router.to_decide(ToDecide::Fetched(Box::new(Fetched { wanted, entries })));
        }));
    }
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
    use std::path::Path;

    use bytes::Bytes;
    use disk::mem::MemDisk;
    use raft::Wanted;
    use wal::{Records, Wal};

    use super::{Place, read};

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
