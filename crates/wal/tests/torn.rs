//! Ends of a log that a crash leaves, and damage that it does not: which is repaired, which refused.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use disk::mem::MemDisk;
use disk::{Disk, Open};
use wal::{Error, Mark, Wal};

/// A log of three entries, the last 2000 bytes long; and where the last record begins and ends.
fn sample() -> (MemDisk, u64, u64) {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), b"metadata").unwrap();
    wal.save(Some(&state(1, 1, 1)), &[entry(1, 1, "a"), entry(1, 2, "b")])
        .unwrap();
    let start = content(&memory, &segment(FIRST)).len() as u64;
    wal.save(None, &[entry(1, 3, payload(3, 2000))]).unwrap();
    let end = content(&memory, &segment(FIRST)).len() as u64;
    drop(wal);
    // Less to compare than 64 MB.
    cut(&memory, 100_000);
    memory.settle();
    (memory, start, end)
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// Opens with so many entries, nothing repaired.
    Opens(usize),
    /// Opens with so many entries, the end cut off.
    Repaired(usize),
    Refused(&'static str),
}

fn check(what: &str, damage: impl Fn(&MemDisk, u64, u64), want: Outcome) {
    let (memory, start, end) = sample();
    damage(&memory, start, end);
    let before = read(&memory, &segment(FIRST));
    let outcome = match open(&memory.shared()) {
        Ok((wal, recovered)) => {
            drop(wal);
            let n = recovered.entries.len();
            check_goes_on(&memory, n);
            match recovered.repaired {
                Some(copy) => {
                    assert!(read(&memory, &copy) == before, "{what}: the copy is exact");
                    Outcome::Repaired(n)
                }
                None => Outcome::Opens(n),
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(DIR), "{what}: {text}");
            assert!(read(&memory, &segment(FIRST)) == before, "{what}: left as it is");
            assert_eq!(names(&memory, dir()), [FIRST], "{what}");
            Outcome::Refused(match error {
                Error::Checksum { .. } => "checksum",
                Error::Truncated { .. } => "truncated",
                Error::Undecodable { .. } => "undecodable",
                Error::UnknownRecord { .. } => "unknown record",
                _ => "other",
            })
        }
    };
    assert_eq!(outcome, want, "{what}");
}

/// What was opened takes another entry, durably, and is not repaired a second time.
fn check_goes_on(memory: &MemDisk, n: usize) {
    let (mut wal, recovered) = open(&memory.shared()).unwrap();
    assert_eq!((recovered.entries.len(), &recovered.repaired), (n, &None));
    wal.save(None, &[entry(2, n as u64 + 1, payload(9, 700))])
        .unwrap();
    drop(wal);
    let (_, recovered) = open(&memory.crash(0, disk::mem::CrashMode::LoseUnsynced).shared()).unwrap();
    assert_eq!(recovered.entries.len(), n + 1);
}

fn write(memory: &MemDisk, offset: u64, bytes: &[u8]) {
    let file = memory.open(&segment(FIRST), Open::Write).unwrap();
    file.write_at(bytes, offset).unwrap();
}

fn cut(memory: &MemDisk, len: u64) {
    memory
        .open(&segment(FIRST), Open::Write)
        .unwrap()
        .set_len(len)
        .unwrap();
}

#[test]
fn unfinished_ends_are_cut_off() {
    use Outcome::Repaired;
    let zero_sector = |memory: &MemDisk, start: u64, _| {
        write(memory, (start / 512 + 2) * 512, &[0; 512]);
    };
    check("a zero sector within", zero_sector, Repaired(2));
    let zero_tail = |memory: &MemDisk, start: u64, end: u64| {
        let from = (start / 512 + 1) * 512;
        write(memory, from, &vec![0; (end - from) as usize]);
    };
    check("zero from the second sector on", zero_tail, Repaired(2));
    let mid = |memory: &MemDisk, start: u64, _| cut(memory, start + 999);
    check("cut within the record", mid, Repaired(2));
    let in_length = |memory: &MemDisk, start: u64, _| cut(memory, start + 3);
    check("cut within the length", in_length, Repaired(2));
    let too_long = |memory: &MemDisk, start: u64, _| write(memory, start + 4, &[1]);
    check("a length beyond the file", too_long, Repaired(2));
    let huge = |memory: &MemDisk, start: u64, _| write(memory, start, &[0xff; 8]);
    check("the longest length", huge, Repaired(2));
}

/// Where there is no room for a copy of what is cut off, there is none.
#[test]
fn an_unfinished_end_is_cut_off_beside_a_full_disk() {
    let (memory, start, _) = sample();
    cut(&memory, start + 999);
    memory.settle();
    memory.set_space(Some(memory.used_bytes()));
    let (wal, recovered) = open(&memory.shared()).unwrap();
    assert_eq!((recovered.entries.len(), recovered.repaired), (2, None));
    assert_eq!(names(&memory, dir()), [FIRST]);
    drop(wal);
    memory.set_space(None);
    check_goes_on(&memory, 2);
}

#[test]
fn finished_ends_open_as_they_are() {
    use Outcome::Opens;
    check("untouched", |_, _, _| {}, Opens(3));
    check(
        "cut at the frame",
        |memory, start, _| cut(memory, start),
        Opens(2),
    );
    check("cut at the end", |memory, _, end| cut(memory, end), Opens(3));
    let zero_length = |memory: &MemDisk, start: u64, _| write(memory, start, &[0; 8]);
    check("the length lost, the rest there", zero_length, Opens(2));
    let garbage = |memory: &MemDisk, _, end: u64| write(memory, end + 8, &[7; 3000]);
    check("garbage after a zero length", garbage, Opens(3));
    let far = |memory: &MemDisk, _, end: u64| write(memory, end + 80_000, b"far");
    check("garbage far behind", far, Opens(3));
    let padding = |memory: &MemDisk, _, end: u64| write(memory, end - 1, &[1]);
    check("padding that is not zero", padding, Opens(3));
}

#[test]
fn damage_is_refused_and_left_as_it_is() {
    use Outcome::Refused;
    let flip = |at: fn(u64, u64) -> u64| {
        move |memory: &MemDisk, start: u64, end: u64| {
            memory.flip(&segment(FIRST), at(start, end), 1).unwrap();
        }
    };
    check(
        "a bit of the last entry",
        flip(|start, _| start + 1000),
        Refused("checksum"),
    );
    check(
        "a bit of its checksum",
        flip(|start, _| start + 12),
        Refused("checksum"),
    );
    check("a bit of the metadata", flip(|_, _| 16 + 20), Refused("checksum"));
    check("a bit of the first entry", flip(|_, _| 92), Refused("checksum"));
    check(
        "a field's wire type",
        flip(|start, _| start + 8),
        Refused("undecodable"),
    );
    check(
        "cut within the head",
        |memory, _, _| cut(memory, 20),
        Refused("truncated"),
    );
    check("empty", |memory, _, _| cut(memory, 0), Refused("truncated"));
    check(
        "a zero head",
        |memory, _, _| write(memory, 0, &[0; 64]),
        Refused("truncated"),
    );
}

/// A log of several segments, the second damaged.
fn check_middle(damage: impl Fn(&MemDisk, &std::path::Path), want: &str) {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), b"metadata").unwrap();
    wal.set_segment_bytes(1000);
    for index in 1..=6 {
        wal.save(Some(&state(1, 1, index)), &[entry(1, index, payload(index, 600))])
            .unwrap();
    }
    drop(wal);
    let middle = segment("0000000000000001-0000000000000003.wal");
    damage(&memory, &middle);
    let before: Vec<_> = names(&memory, dir())
        .iter()
        .map(|name| read(&memory, &segment(name)))
        .collect();
    let error = open(&disk).map(drop).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
    let after: Vec<_> = names(&memory, dir())
        .iter()
        .map(|name| read(&memory, &segment(name)))
        .collect();
    assert!(before == after, "left as it is");
    assert!(wal::check(&memory, dir()).is_err());
    assert!(wal::valid_marks(&memory, dir()).is_err());
}

#[test]
fn a_segment_in_the_middle_is_never_repaired() {
    let second = "0000000000000001-0000000000000003.wal";
    check_middle(
        |memory, path| memory.flip(path, 300, 4).unwrap(),
        "checksum mismatch",
    );
    let zero = |memory: &MemDisk, path: &std::path::Path| {
        memory
            .open(path, Open::Write)
            .unwrap()
            .write_at(&[0; 512], 512)
            .unwrap();
    };
    check_middle(zero, "checksum mismatch");
    let shorten = |by| {
        move |memory: &MemDisk, path: &std::path::Path| {
            let file = memory.open(path, Open::Write).unwrap();
            file.set_len(file.len().unwrap() - by).unwrap();
        }
    };
    check_middle(shorten(5), &format!("{second} at byte"));
    check_middle(shorten(5), "cut short");
    // Cut at a frame's start the segment itself looks whole; the next one's head tells.
    check_middle(shorten(24), "checksum mismatch");
    let foreign = |memory: &MemDisk, path: &std::path::Path| {
        let bytes = read(memory, path);
        let at = bytes.windows(8).position(|w| w == b"metadata").unwrap();
        memory
            .open(path, Open::Write)
            .unwrap()
            .write_at(b"METADATA", at as u64)
            .unwrap();
    };
    check_middle(foreign, "checksum mismatch");
}

#[test]
fn an_empty_last_segment_gets_its_head_back() {
    let memory = memory();
    let disk = memory.shared();
    let mut wal = Wal::create(&disk, dir(), b"metadata").unwrap();
    wal.set_segment_bytes(100);
    wal.save(Some(&state(1, 1, 1)), &[entry(1, 1, payload(1, 600))])
        .unwrap();
    drop(wal);
    let last = segment("0000000000000001-0000000000000002.wal");
    memory.open(&last, Open::Truncate).unwrap();
    let (mut wal, _) = open(&disk).unwrap();
    wal.save(Some(&state(1, 1, 2)), &[entry(1, 2, "b")]).unwrap();
    drop(wal);
    let (_, recovered) = Wal::open(&disk, dir(), &mark(1, 2)).unwrap();
    assert_eq!(
        recovered.hard_state,
        state(1, 1, 2),
        "the last segment stands alone"
    );
    assert_eq!(open(&disk).unwrap().1.entries.len(), 2);
}

#[test]
fn logs_of_two_members_do_not_mix() {
    let memory = memory();
    let disk = memory.shared();
    for (dir, metadata) in [("/data/wal", &b"metadata"[..]), ("/data/other", b"METADATA")] {
        let mut wal = Wal::create(&disk, std::path::Path::new(dir), metadata).unwrap();
        wal.set_segment_bytes(100);
        wal.save(None, &[entry(1, 1, payload(1, 600))]).unwrap();
    }
    let name = "0000000000000001-0000000000000002.wal";
    disk::copy_file(
        &memory,
        &std::path::Path::new("/data/other").join(name),
        &memory,
        &segment(name),
    )
    .unwrap();
    // The chain of checksums tells first; a log that begins with the foreign segment cannot.
    let error = open(&disk).map(drop).unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
}

#[test]
fn a_missing_entry_is_a_gap() {
    let disk = memory().shared();
    let mut wal = Wal::create(&disk, dir(), b"metadata").unwrap();
    wal.save(None, &[entry(1, 1, "a"), entry(1, 3, "c")]).unwrap();
    drop(wal);
    let error = open(&disk).map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Gap {
                last: 1,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
    // From a mark behind the gap nothing is missing.
    let from = Mark {
        index: 2,
        term: 1,
        conf_state: None,
    };
    assert_eq!(
        Wal::open(&disk, dir(), &from).unwrap().1.entries,
        [entry(1, 3, "c")]
    );
}

#[test]
fn unreadable_and_foreign_things_are_named() {
    let (memory, _, _) = sample();
    memory.fail_reads(&segment(FIRST), 0..1).unwrap();
    let error = open(&memory.shared()).map(drop).unwrap_err().to_string();
    assert!(error.starts_with(&format!("read {DIR}/{FIRST}: ")), "{error}");
    memory.heal_reads();

    let record = |kind: u8, data: &[u8]| {
        let mut bytes = vec![0x08, kind, 0x10, 0x00, 0x1a, data.len() as u8];
        bytes.extend_from_slice(data);
        bytes
    };
    for (bytes, want) in [
        (record(6, b"?"), "unexpected record type 6"),
        (record(2, &[0x08]), "the entry cannot be decoded"),
        (record(2, &[0x08, 0x03]), "the entry cannot be decoded"),
        (record(3, &[0x0a]), "the hard state cannot be decoded"),
        (record(5, &[0x1a, 0x7f]), "the snapshot mark cannot be decoded"),
    ] {
        let (memory, _, end) = sample();
        let data = &bytes[6..];
        let crc = crc32c::crc32c_append(running_crc(&memory), data);
        let mut fixed = bytes[..3].to_vec();
        let mut rest = crc;
        while rest >= 0x80 {
            fixed.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        fixed.push(rest as u8);
        fixed.extend_from_slice(&bytes[4..]);
        let padding = (8 - fixed.len() % 8) % 8;
        let top = if padding == 0 { 0 } else { 0x80 | padding as u64 };
        let mut frame = (fixed.len() as u64 | top << 56).to_le_bytes().to_vec();
        frame.extend_from_slice(&fixed);
        write(&memory, end, &frame);
        let error = open(&memory.shared()).map(drop).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(error.contains(&format!("{FIRST} at byte {end}")), "{error}");
    }
}

/// The checksum at the end of a log: that of all records' data.
fn running_crc(memory: &MemDisk) -> u32 {
    let bytes = content(memory, &segment(FIRST));
    // The last record's own field: after its length and type, five bytes at most.
    let mut records = wal::Records::open(memory, dir()).unwrap();
    let mut last = 0;
    while let Some(located) = records.next().unwrap() {
        last = located.offset as usize;
    }
    let mut crc = 0;
    for (shift, byte) in bytes[last + 11..].iter().enumerate() {
        crc |= u32::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            break;
        }
    }
    crc
}
