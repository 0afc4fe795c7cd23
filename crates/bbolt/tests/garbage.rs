//! Damaged files: opening, reading, checking and writing end in an answer or an error, never in a panic, an
//! endless
//! walk or an allocation larger than the file.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bbolt::{Batch, Db, Options, Wait};
use bytes::Bytes;
use disk::{Dir, Disk, Entry, File, Lock, Metadata, Open};

/// One file in memory. Memory for a page is taken in order to read it, so the reads show what is allocated.
#[derive(Clone)]
struct OneFile(Arc<Mutex<Vec<u8>>>);

impl Disk for OneFile {
    fn open(&self, _: &Path, _: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.clone()))
    }
    fn metadata(&self, _: &Path) -> io::Result<Option<Metadata>> {
        Ok(None)
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn open_dir(&self, _: &Path) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Dir for OneFile {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File for OneFile {
    fn next_data(&self, offset: u64) -> std::io::Result<Option<u64>> {
        Ok((offset < self.len()?).then_some(offset))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        // A meta page is read into a place of fixed size.
        assert!(
            buf.len() <= bytes.len().max(80),
            "{} bytes are read from a file of {}",
            buf.len(),
            bytes.len()
        );
        let from = bytes.len().min(offset as usize);
        let read = buf.len().min(bytes.len() - from);
        buf[..read].copy_from_slice(&bytes[from..from + read]);
        Ok(read)
    }
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let end = offset as usize + buf.len();
        assert!(end <= 64 << 20, "a write far beyond the file");
        if end > bytes.len() {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(buf);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        assert!(len <= 64 << 20, "a file of {} bytes grows to {len}", bytes.len());
        let longer = bytes.len().max(len as usize);
        bytes.resize(longer, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn try_lock(&self, _: Lock) -> io::Result<bool> {
        Ok(true)
    }
}

/// Everything that can be done with a file. Gives whether something was found wrong.
fn fuzz_body(bytes: Vec<u8>, options: &Options) -> bool {
    let disk: Arc<dyn Disk> = Arc::new(OneFile(Arc::new(Mutex::new(bytes))));
    let Ok(db) = Db::open(&disk, Path::new("db"), options.clone()) else {
        return true;
    };
    let mut wrong = db.find_free_pages().is_err() | !db.check().is_empty();
    let snapshot = db.snapshot();
    let Ok(names) = snapshot.buckets(Wait::Yes) else {
        return true;
    };
    let keys: Vec<Vec<u8>> = (0..300).step_by(7).map(common::key).collect();
    let mut batch = Batch::new();
    for name in &names {
        let mut rows = 0;
        match snapshot.cursor(name, Wait::Yes) {
            Err(_) => wrong = true,
            Ok(mut cursor) => {
                let mut row = cursor.first();
                while let Ok(Some(_)) = row {
                    rows += 1;
                    assert!(rows <= 5_000_000, "an endless walk");
                    if rows > 100_000 {
                        break;
                    }
                    row = cursor.next();
                }
                wrong |= row.is_err()
                    | cursor.last().is_err()
                    | cursor.seek(b"00000100").is_err()
                    | cursor.prev().is_err();
            }
        }
        wrong |= snapshot.get_many(name, &keys, Wait::No, |_, _| ()).is_err();
        wrong |= snapshot.get(name, &keys[5], Wait::No).is_err();
        for key in &keys {
            batch.put(name, Bytes::from(key.clone()), Bytes::from_static(b"new"));
        }
    }
    let mut stream = snapshot.stream();
    while let Ok(Some(_)) = stream.next_chunk() {}
    let _ = db.commit(&batch);
    let mut batch = Batch::new();
    names.iter().for_each(|name| batch.delete_bucket(name));
    let _ = db.commit(&batch);
    let _ = db.check();
    wrong
}

fn golden() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

fn rounds() -> u64 {
    std::env::var("MAINSTAY_BBOLT_ROUNDS").map_or(150, |rounds| rounds.parse().unwrap())
}

#[test]
fn random_flips() {
    let options = |later| Options {
        growth_bytes: 1 << 12,
        find_free_pages_later: later,
        ..Options::default()
    };
    let mut found_wrong = 0;
    for (name, bytes) in golden() {
        assert!(
            name.starts_with("fresh") || !fuzz_body(bytes.clone(), &options(false)),
            "{name} is sound"
        );
        let page_size: usize = name.split(['-', '.']).nth(1).unwrap().parse().unwrap();
        for round in 0..rounds() {
            let mut random = fastrand::Rng::with_seed(round);
            let mut damaged = bytes.clone();
            for _ in 0..random.usize(1..6) {
                // Mostly where the structure is: page headers and element headers.
                let page = random.usize(0..bytes.len() / page_size) * page_size;
                let at = page
                    + if random.u8(0..4) == 0 {
                        random.usize(0..page_size)
                    } else {
                        random.usize(0..200)
                    };
                damaged[at] = match random.u8(0..4) {
                    0 => 0xFF,
                    1 => 0,
                    2 => damaged[at] ^ (1 << random.u8(0..8)),
                    _ => random.u8(..),
                };
            }
            if random.u8(0..20) == 0 {
                damaged.truncate(random.usize(0..damaged.len()));
            }
            found_wrong += u64::from(fuzz_body(damaged, &options(random.bool())));
        }
    }
    assert!(found_wrong > 5 * rounds() / 2, "{found_wrong}");
}

/// Branches that lead back up, to a sibling, or into another bucket's tree.
#[test]
fn wrong_turns() {
    let (mut turns, mut found_wrong) = (0, 0);
    for (name, bytes) in golden() {
        let page_size: usize = name.split(['-', '.']).nth(1).unwrap().parse().unwrap();
        for page in 2..bytes.len() / page_size {
            let child = page * page_size + 24;
            let is_branch = bytes[page * page_size + 8] == 1;
            let turn = |target: u64, find_free_pages_later| {
                let mut damaged = bytes.clone();
                damaged[child..child + 8].copy_from_slice(&target.to_le_bytes());
                fuzz_body(
                    damaged,
                    &Options {
                        growth_bytes: 1 << 12,
                        find_free_pages_later,
                        ..Options::default()
                    },
                )
            };
            // What nobody reaches any more may say what it likes.
            if !is_branch || !turn(u64::MAX, false) {
                continue;
            }
            for target in 2..(bytes.len() / page_size) as u64 {
                turns += 1;
                // A turn to a page that was freed, and is still a whole page with fitting keys, cannot be
                // told from the truth.
                found_wrong += u64::from(turn(target, false));
                turn(target, true);
            }
        }
    }
    assert!(
        turns > 500 && found_wrong * 10 > turns * 8,
        "{found_wrong} of {turns}"
    );
}

/// The keys of a branch say which child holds what. Where a bit of one flips, a walk either fails or still finds
/// every row, also after a commit that went the wrong way.
#[test]
fn a_flipped_key_of_a_branch_never_hides_a_row() {
    const PAGE: usize = 1024;
    let options = Options {
        page_size: Some(PAGE as u32),
        growth_bytes: 1 << 10,
        find_free_pages_later: true,
        ..Options::default()
    };
    let file = OneFile(Arc::default());
    let open = |bytes: Vec<u8>| {
        let disk: Arc<dyn Disk> = Arc::new(OneFile(Arc::new(Mutex::new(bytes))));
        Db::open(&disk, Path::new("db"), options.clone())
    };
    let mut batch = Batch::new();
    batch.create_bucket(b"b");
    let put = |batch: &mut Batch, n: u64| batch.put(b"b", common::key(n).into(), Bytes::from(vec![b'v'; 50]));
    let numbers: Vec<u64> = (0..240).filter(|n| n % 3 > 0).collect();
    numbers.iter().for_each(|n| put(&mut batch, *n));
    let rows: Vec<Vec<u8>> = numbers.iter().map(|n| common::key(*n)).collect();
    let disk: Arc<dyn Disk> = Arc::new(file.clone());
    Db::open(&disk, Path::new("db"), options.clone())
        .unwrap()
        .commit(&batch)
        .unwrap();
    let bytes = file.0.lock().unwrap().clone();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let branch = (2..bytes.len() / PAGE)
        .map(|page| page * PAGE)
        .find(|page| bytes[page + 8] == 1);
    let branch = branch.expect("a tree of two levels");
    let (mut flips, mut found) = (0, 0);
    for element in (0..usize::from(bytes[branch + 10])).map(|at| branch + 16 + 16 * at) {
        let key = element + number(element);
        for (at, bit) in (key..key + number(element + 4)).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let db = open(damaged).unwrap();
            // All rows up to the error, if there is one, and none out of its turn.
            let check = |rows: &[Vec<u8>]| {
                let mut cursor = db.snapshot().cursor(b"b", Wait::Yes).unwrap();
                let mut row = cursor.first();
                let mut seen = 0;
                while let Ok(Some((key, _))) = row {
                    assert_eq!(key, rows[seen], "byte {at} bit {bit}");
                    seen += 1;
                    row = cursor.next();
                }
                assert!(
                    row.is_err() || seen == rows.len(),
                    "byte {at} bit {bit}: {seen} rows"
                );
                row.is_err()
            };
            flips += 1;
            found += u64::from(check(&rows));
            // A row where the way may be wrong now, and one more at the end.
            let mut batch = Batch::new();
            let (one, other) = (3 * (flips % 80), 999);
            put(&mut batch, one);
            put(&mut batch, other);
            if db.commit(&batch).is_ok() {
                let mut rows = rows.clone();
                rows.extend([common::key(one), common::key(other)]);
                rows.sort();
                check(&rows);
            }
        }
    }
    assert!(found * 2 > flips, "{found} of {flips}");
}
