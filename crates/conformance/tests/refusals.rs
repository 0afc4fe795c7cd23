//! Directories that must not be served: each is refused with an error that names the file, and is
//! left as it was. Locked ones are waited for.

use std::fs;
use std::path::{Path, PathBuf};

use conformance::{Home, Program, Question, Rig, Stop, copy, differences, eventually};

/// A damage, and what the last line of the log must name.
type Damage = (&'static str, fn(&Path), &'static [&'static str]);

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    found.sort();
    found
}

fn segments(data: &Path) -> Vec<PathBuf> {
    files(&data.join("member/wal"), ".wal")
}

fn db(data: &Path) -> PathBuf {
    data.join("member/snap/db")
}

/// Changes the bytes of a file; a segment keeps its length unless `change` cuts it.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file is read");
    change(&mut bytes);
    fs::write(path, bytes).expect("the file is written");
}

/// Where the records of a preallocated segment end.
fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| (last + 8) / 8 * 8)
}

/// How many pages the newer meta counts: what lies behind them is only reserved.
fn pages(bytes: &[u8]) -> usize {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (first, second) = (number(64), number(4096 + 64));
    let newer = if first > second { 0 } else { 4096 };
    usize::try_from(number(newer + 56)).expect("a small file")
}

fn newest_snapshot(data: &Path) -> PathBuf {
    let mut found = files(&data.join("member/snap"), ".snap");
    found.pop().expect("there is a snapshot file")
}

const DAMAGES: &[Damage] = &[
    (
        "the log is gone",
        |data| fs::remove_dir_all(data.join("member/wal")).expect("removed"),
        &["member/"],
    ),
    (
        "the log has no segments",
        |data| {
            for path in segments(data) {
                fs::remove_file(path).expect("removed");
            }
        },
        &["member/"],
    ),
    (
        "the first byte of the log's data is another",
        |data| change(&segments(data)[0], |bytes| bytes[64] ^= 0x10),
        &[".wal"],
    ),
    (
        "a byte in the middle of the log is another",
        |data| {
            change(&segments(data)[0], |bytes| {
                let at = used(bytes) / 2;
                bytes[at] ^= 0x01;
            });
        },
        // Where it hits a length, the log seems to end there.
        &["member/wal"],
    ),
    (
        "a record of the log is longer than the file",
        |data| change(&segments(data)[0], |bytes| bytes[6] = 0x7f),
        &[".wal"],
    ),
    (
        "the log ends before what the data file holds",
        |data| {
            change(&segments(data)[0], |bytes| {
                let half = used(bytes) / 2 / 8 * 8;
                bytes[half..].fill(0);
            });
        },
        &["member/wal"],
    ),
    (
        "the log is cut short, as a file",
        |data| {
            change(&segments(data)[0], |bytes| {
                // Never the end of a record: those begin at multiples of eight.
                let half = used(bytes) / 16 * 8 + 4;
                bytes.truncate(half);
            });
        },
        &["member/wal"],
    ),
    (
        "the data file is gone, the log begins after a snapshot",
        |data| fs::remove_file(db(data)).expect("removed"),
        &["snap/db"],
    ),
    (
        "the data file is empty",
        |data| change(&db(data), Vec::clear),
        &["snap/db"],
    ),
    (
        "the data file lacks its last page",
        |data| {
            change(&db(data), |bytes| {
                let pages = pages(bytes);
                bytes.truncate((pages - 1) * 4096);
            });
        },
        &["snap/db"],
    ),
    (
        "the data file has half of its pages",
        |data| {
            change(&db(data), |bytes| {
                let pages = pages(bytes);
                bytes.truncate(pages / 2 * 4096);
            });
        },
        &["snap/db"],
    ),
    (
        "both metas are damaged",
        |data| {
            change(&db(data), |bytes| {
                bytes[20] ^= 0xff;
                bytes[4096 + 20] ^= 0xff;
            });
        },
        &["snap/db"],
    ),
    (
        "all pages but the metas are zero",
        |data| change(&db(data), |bytes| bytes[8192..].fill(0)),
        &["snap/db"],
    ),
    (
        "all pages say that they are others",
        |data| {
            change(&db(data), |bytes| {
                for page in bytes[8192..].chunks_mut(4096) {
                    page[0] ^= 0x55;
                }
            });
        },
        &["snap/db"],
    ),
    (
        "all pages hold more elements than they have room for",
        |data| {
            change(&db(data), |bytes| {
                for page in bytes[8192..].chunks_mut(4096) {
                    page[10] = 0xff;
                    page[11] = 0xff;
                }
            });
        },
        &["snap/db"],
    ),
    (
        "the data file is of another kind",
        |data| change(&db(data), |bytes| bytes.fill(0x41)),
        &["snap/db"],
    ),
];

/// From 3.7 on nobody opens a snapshot file; before, it is what the member begins with.
const DAMAGES_OF_3_6: &[Damage] = &[
    (
        "the newest snapshot file has another byte",
        |data| change(&newest_snapshot(data), |bytes| bytes[40] ^= 1),
        &[".snap"],
    ),
    (
        "the newest snapshot file is cut short",
        |data| change(&newest_snapshot(data), |bytes| bytes.truncate(10)),
        &[".snap"],
    ),
    (
        "the newest snapshot file is empty",
        |data| change(&newest_snapshot(data), Vec::clear),
        &[".snap"],
    ),
];

/// A member's directory, with more than one snapshot behind it.
fn made(rig: &Rig, program: Program, home: &Home) {
    let server = home.start(rig, program, &["--snapshot-count=20"]);
    let mut load = rig.load(&home.endpoint(), &home.account(), &["-seed", "7"]);
    load.wait_for_lines(&home.account(), 400);
    load.end();
    server.stop(Stop::Term);
}

/// Starts ours on the directory: it must end, say why in its last line, and change nothing.
fn refused(rig: &Rig, home: &Home, line: &'static str, case: &str, words: &[&str]) -> Result<(), String> {
    let pristine = home.dir.join("pristine");
    copy(&home.data(), &pristine);
    let mut server = home.spawn(rig, Program::Ours(line), &[]);
    let mut healthy = false;
    let status = eventually(case, || {
        healthy |= home.healthy();
        if healthy {
            return Some(None);
        }
        server.ended().map(Some)
    });
    let log = server.log();
    let Some(status) = status else {
        return Err(format!("{case}: served:\n{log}"));
    };
    let last = log.lines().last().unwrap_or_default();
    eprintln!("{case}: {status}: {last}");
    if status.code() != Some(1) {
        return Err(format!("{case}: {status}:\n{log}"));
    }
    if log.contains("panicked") {
        return Err(format!("{case}: panicked:\n{log}"));
    }
    let changed = differences(&pristine, &home.data());
    if !changed.is_empty() {
        return Err(format!("{case}: changed:\n{changed}"));
    }
    if let Some(word) = words.iter().find(|word| !last.contains(**word)) {
        return Err(format!("{case}: the last line does not name {word}: {last}"));
    }
    Ok(())
}

fn refuses_damage(program: Program, damages: &[Damage], name: &str) {
    let Some(rig) = Rig::find("refusals") else { return };
    let home = Home::new(name);
    made(&rig, program, &home);
    let mut failures = Vec::new();
    let (Program::Go(line) | Program::Ours(line)) = program;
    for (case, damage, words) in damages {
        let twin = home.twin(&format!("{name}-damaged"));
        copy(&home.data(), &twin.data());
        damage(&twin.data());
        if let Err(failure) = refused(&rig, &twin, line, case, words) {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn damage_of_what_etcd_wrote_is_refused() {
    refuses_damage(Program::Go("3.7"), DAMAGES, "damage-go");
}

#[test]
fn damage_of_what_ours_wrote_is_refused() {
    refuses_damage(Program::Ours("3.7"), DAMAGES, "damage-ours");
}

#[test]
fn damage_of_snapshot_files_is_refused() {
    refuses_damage(Program::Go("3.6"), DAMAGES_OF_3_6, "damage-snap-go");
    refuses_damage(Program::Ours("3.6"), DAMAGES_OF_3_6, "damage-snap-ours");
}

/// Not the directory is refused, since others may need the member: its clients are.
#[test]
fn a_directory_with_auth_serves_no_client() {
    let Some(rig) = Rig::find("refusals") else { return };
    for line in ["3.5", "3.6", "3.7"] {
        let home = Home::new(&format!("auth-{line}"));
        let server = home.start(&rig, Program::Go(line), &[]);
        home.ctl(&rig, &["put", "a", "secret"]);
        home.ctl(&rig, &["user", "add", "root:root"]);
        home.ctl(&rig, &["user", "grant-role", "root", "root"]);
        home.ctl(&rig, &["auth", "enable"]);
        server.stop(Stop::Term);
        let server = home.start(&rig, Program::Ours(line), &[]);
        let range = Question::new("etcdserverpb.KV/Range", "key: 'a' serializable: true");
        let gateway = Question::new("POST /v3/kv/range", "{\"key\":\"YQ==\"}");
        for answer in rig.ask(&home.endpoint(), &[range, gateway]) {
            assert!(
                !matches!(answer.code.as_str(), "OK" | "200 OK"),
                "{line}: {answer:?}"
            );
            assert!(!format!("{answer:?}").contains("c2VjcmV0"), "{line}: {answer:?}");
        }
        server.stop(Stop::Kill);
        // And etcd goes on with its users.
        let server = home.start(&rig, Program::Go(line), &[]);
        let text = home.ctl(&rig, &["--user=root:root", "get", "a"]);
        assert!(text.contains("secret"), "{line}: {text}");
        server.stop(Stop::Term);
    }
}

#[test]
fn a_locked_directory_is_waited_for() {
    let Some(rig) = Rig::find("refusals") else { return };
    for (first, second) in [
        (Program::Go("3.7"), Program::Ours("3.7")),
        (Program::Ours("3.7"), Program::Go("3.7")),
        (Program::Ours("3.7"), Program::Ours("3.7")),
    ] {
        let home = Home::new("locked");
        let holder = home.start(&rig, first, &[]);
        home.ctl(&rig, &["put", "a", "1"]);
        let other = home.elsewhere();
        let mut waiter = other.spawn(&rig, second, &["--log-level=debug"]);
        // Real etcd warns after ten seconds, so only then is it known to be at the lock.
        eventually("the waiter warns", || {
            assert!(waiter.ended().is_none(), "{second:?} ended:\n{}", waiter.log());
            waiter
                .log()
                .contains("db file is flocked by another process")
                .then_some(())
        });
        home.ctl(&rig, &["put", "b", "2"]);
        holder.stop(Stop::Term);
        waiter.wait_until_ready();
        assert!(
            other.ctl(&rig, &["get", "b"]).contains('2'),
            "{first:?} {second:?}"
        );
        waiter.stop(Stop::Term);
    }
}

#[test]
fn an_unwritable_directory_is_refused() {
    let Some(rig) = Rig::find("refusals") else { return };
    // Root may write anywhere but where a file is in the way, or where no directory can be.
    for (case, program) in [("go", Program::Go("3.7")), ("ours", Program::Ours("3.7"))] {
        let home = Home::new(&format!("unwritable-{case}"));
        fs::write(home.data(), "a file").expect("written");
        let mut server = home.spawn(&rig, program, &[]);
        let status = server.wait();
        let log = server.log();
        let last = log.lines().last().unwrap_or_default();
        eprintln!("unwritable {case}: {status}: {last}");
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            last.contains(&*home.data().to_string_lossy()),
            "the last line names the directory: {last}"
        );
        assert_eq!(fs::read(home.data()).expect("still a file"), b"a file");
    }
}
