//! A system that has no file descriptor left for a while: what needs a new file is late, and nothing ends.
#![allow(clippy::unwrap_used)]

mod driver;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::etcdserverpb::{InternalRaftRequest, PutRequest};
use disk::mem::MemDisk;
use disk::{Dir, Disk, Entry, File, Metadata, Open};
use driver::Driver;
use member::Config;

const EMFILE: i32 = 24;

/// A disk on which at times no file can be opened.
struct Scarce {
    disk: MemDisk,
    used_up: AtomicBool,
    /// Segments that could not be opened.
    segments: AtomicUsize,
    /// Directories: that of the snapshot files is opened before the file.
    directories: AtomicUsize,
}

impl Disk for Scarce {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        if self.used_up.load(Ordering::Relaxed) {
            self.segments.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.disk.open(path, open)
    }
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.disk.metadata(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Arc<dyn Dir>> {
        if self.used_up.load(Ordering::Relaxed) {
            self.directories.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.disk.open_dir(dir)
    }
}

fn write(driver: &mut Driver, count: usize) {
    for _ in 0..count {
        let put = InternalRaftRequest {
            put: Some(PutRequest {
                key: "a".into(),
                value: vec![b'x'; 1000].into(),
                ..PutRequest::default()
            }),
            ..InternalRaftRequest::default()
        };
        driver.call(put).expect("an answer").expect("written");
        driver.advance(Duration::from_millis(500));
    }
}

#[test]
fn segments_and_snapshots_wait_for_descriptors() {
    let scarce = Arc::new(Scarce {
        disk: MemDisk::new(),
        used_up: AtomicBool::new(false),
        segments: AtomicUsize::new(0),
        directories: AtomicUsize::new(0),
    });
    let config = Config {
        data_dir: PathBuf::from("/data"),
        segment_bytes: 4_000,
        snapshot_count: 10,
        ..Config::default()
    };
    let disk: Arc<dyn Disk> = scarce.clone();
    let mut driver = Driver::open(&disk, &config, 1).unwrap();
    assert!(driver.until_ready());
    write(&mut driver, 10);
    scarce.used_up.store(true, Ordering::Relaxed);
    write(&mut driver, 40);
    assert_eq!(*driver.queues.fatal.borrow(), None);
    assert!(scarce.segments.load(Ordering::Relaxed) > 0, "none was asked for");
    assert!(
        scarce.directories.load(Ordering::Relaxed) > 0,
        "none was asked for"
    );

    let saved = |driver: &Driver| {
        let texts = driver.log_texts();
        let of = |text: &str| texts.iter().filter(|line| *line == text).count();
        (of("saved snapshot to disk"), of("created a new WAL segment"))
    };
    let before = saved(&driver);
    scarce.used_up.store(false, Ordering::Relaxed);
    write(&mut driver, 40);
    let after = saved(&driver);
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    assert_eq!(driver.member.views.load().revision, 91);
    driver.stop();
    let mut driver = Driver::open(&disk, &config, 1).unwrap();
    assert!(driver.until_ready());
    assert_eq!(driver.member.views.load().revision, 91);
}
