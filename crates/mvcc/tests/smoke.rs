//! The first write, as etcd makes it.

use std::path::Path;
use std::sync::Arc;

use disk::Disk;
use disk::mem::MemDisk;
use mvcc::{RangeOptions, Store, StoreOptions, Wait};

fn open(disk: &Arc<dyn Disk>) -> (Store, mvcc::ViewSource) {
    let db = bbolt::Db::open(disk, Path::new("/d/db"), bbolt::Options::default()).unwrap();
    Store::open(db, StoreOptions::default()).unwrap()
}

#[test]
fn puts_deletes_and_hashes() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir_all(Path::new("/d")).unwrap();
    let (mut store, source) = open(&disk);
    assert_eq!((store.revision(), store.compact_revision()), (1, -1));
    let put = store.begin().put(b"foo", b"bar", 0);
    assert_eq!(put.revision, 2);
    assert_eq!(
        put.record.as_ref(),
        b"\x0a\x03foo\x10\x02\x18\x02\x20\x01\x2a\x03bar"
    );
    store.publish();
    let hash =
        |source: &mvcc::ViewSource, at| source.load().hash_kv(at).unwrap().finish(Wait::Yes).unwrap().hash;
    assert_eq!(hash(&source, 2), 3_305_255_506);
    store.set_consistent(5, 2);
    let done = store.take_commit(false).unwrap().run();
    store.committed(done).unwrap();
    assert_eq!(store.begin().delete_range(b"foo", b"").len(), 1);
    store.publish();
    assert_eq!(hash(&source, 0), 2_489_925_301);
    let done = store.take_commit(false).unwrap().run();
    store.committed(done).unwrap();
    store.publish();
    assert_eq!(hash(&source, 3), 2_489_925_301);
    drop((store, source));
    let (store, source) = open(&disk);
    assert_eq!((store.revision(), store.consistent()), (3, (5, 2)));
    assert_eq!(hash(&source, 2), 3_305_255_506);
    assert_eq!(hash(&source, 3), 2_489_925_301);
    let old = RangeOptions {
        key: b"foo",
        revision: 2,
        ..RangeOptions::default()
    };
    assert_eq!(source.load().range(&old, Wait::Yes).unwrap().kvs.len(), 1);
    let now = RangeOptions { revision: 0, ..old };
    assert_eq!(source.load().range(&now, Wait::Yes).unwrap().kvs.len(), 0);
}
