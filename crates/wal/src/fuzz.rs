//! What must hold for any bytes whatever: plain functions for tests and fuzzers. They panic if it
//! does not.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use disk::mem::MemDisk;
use disk::{Disk, Open};

use crate::{Entry, EntryKind, Error, Mark, Record, Records, Wal, snapfile};

const FIRST_SEGMENT: &str = "w/0000000000000000-0000000000000000.wal";

/// Takes the bytes for the only segment of a log. It can be read or is refused; what can be read can
/// be opened or is refused; what was opened takes an entry, and that entry and all before it are there
/// when it is opened again.
pub fn fuzz_segment(data: &[u8]) {
    let memory = MemDisk::new();
    let disk = memory.shared();
    let written = write_file(&disk, FIRST_SEGMENT, data);
    if written.is_err() {
        return;
    }
    if let Ok(mut records) = Records::open(&*disk, Path::new("w")) {
        while let Ok(Some(located)) = records.next() {
            let _ = located.record();
        }
    }
    let _ = crate::check(&*disk, Path::new("w"));
    let _ = crate::valid_marks(&*disk, Path::new("w"));
    let Ok((mut wal, before)) = open(&disk) else {
        return;
    };
    let entry = Entry {
        kind: EntryKind::Normal,
        term: before.hard_state.term,
        index: before.entries.last().map_or(1, |last| last.index + 1),
        data: Bytes::from_static(b"appended"),
    };
    wal.save(None, std::slice::from_ref(&entry))
        .expect("a log that was opened takes an entry");
    drop(wal);
    let (_, after) = open(&disk).expect("a log that was opened once opens again");
    let mut want = before.entries;
    want.push(entry);
    assert_eq!(after.entries, want);
    assert_eq!(after.hard_state, before.hard_state);
    assert_eq!(after.repaired, None, "one repair is enough");
}

fn open(disk: &Arc<dyn Disk>) -> Result<(Wal, crate::Recovered), Error> {
    Wal::open(disk, Path::new("w"), &Mark::default())
}

/// Takes the bytes for a `.snap` file. It is read or refused; what was read is the same after it was
/// written and read again.
pub fn fuzz_snapshot(data: &[u8]) {
    let Ok(mut snapshot) = snapfile::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    let memory = MemDisk::new();
    let disk = memory.shared();
    let path = snapfile::write(&*disk, Path::new("/"), &snapshot).expect("memory takes it");
    let again = snapfile::read(&*disk, &path).expect("what was written can be read");
    snapshot.conf_state.auto_leave.get_or_insert(false);
    assert_eq!(again, snapshot);
}

/// Takes the bytes for the data of each kind of record: decoded or refused.
pub fn fuzz_record(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(entry) = crate::wire::decode_entry(&bytes) {
        assert!(entry.data.len() <= data.len());
    }
    let _ = crate::wire::decode_state(data);
    if let Ok(raw) = crate::wire::decode_record(data) {
        assert!(raw.data.end <= data.len());
    }
    if let Ok(mark) = crate::wire::decode_mark(data) {
        let record = Record::Mark(mark);
        assert_eq!(record, record.clone());
    }
}

fn write_file(disk: &Arc<dyn Disk>, path: &str, data: &[u8]) -> std::io::Result<()> {
    let path = Path::new(path);
    disk.create_dir_all(&disk::parent(path))?;
    disk.open(path, Open::CreateNew)?.write_at(data, 0)
}
