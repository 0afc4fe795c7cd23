//! Go etcd's own log package on the same directories, by the program in `go/`. Name one or more builds
//! of it in `MAINSTAY_GO_WALTOOL`, separated by colons; without it these tests say so and pass.
//! `MAINSTAY_WALTOOL_ROUNDS` makes them longer.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use disk::{Disk, Open, RealDisk};
use wal::snapfile::{self, Snapshot};
use wal::{ConfState, Entry, EntryKind, Mark, Wal};

const ROUNDS: u64 = 40;

fn tools() -> Vec<PathBuf> {
    match std::env::var("MAINSTAY_GO_WALTOOL") {
        Ok(list) => list.split(':').map(PathBuf::from).collect(),
        Err(_) => {
            eprintln!("skipped: MAINSTAY_GO_WALTOOL names no build of tests/go");
            Vec::new()
        }
    }
}

fn rounds() -> u64 {
    let text = std::env::var("MAINSTAY_WALTOOL_ROUNDS");
    text.map_or(ROUNDS, |text| text.parse().unwrap())
}

/// Runs the tool: what it printed, and whether it was content.
fn run(tool: &Path, args: &[&str]) -> (String, bool) {
    let output = Command::new(tool).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{args:?}: {text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (text, output.status.success())
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A history that both sides can write a part of: always the same for a seed.
struct History {
    random: fastrand::Rng,
    term: u64,
    last: u64,
    commit: u64,
    mark: (u64, u64),
}

enum Act {
    /// Term, first index, count, bytes, commit.
    Save(u64, u64, u64, usize, u64),
    Commit(u64, u64),
    Mark(u64, u64),
}

impl History {
    fn next(&mut self) -> Act {
        let random = &mut self.random;
        match random.u8(..10) {
            0 => {
                self.commit = random.u64(self.commit..=self.last);
                Act::Commit(self.term, self.commit)
            }
            1 if self.commit > self.mark.1 => {
                self.mark = (self.term, self.commit);
                Act::Mark(self.term, self.commit)
            }
            kind => {
                // A new leader may replace what is not committed.
                let first = if kind == 2 {
                    self.term += 1;
                    random.u64(self.commit + 1..=self.last + 1)
                } else {
                    self.last + 1
                };
                let count = random.u64(1..4);
                self.last = first + count - 1;
                let bytes = [0, 3, 100, 700, 5000][random.usize(..5)];
                self.commit = random.u64(self.commit..=self.last);
                Act::Save(self.term, first, count, bytes, self.commit)
            }
        }
    }
}

fn write_ours(disk: &std::sync::Arc<dyn Disk>, dir: &Path, acts: &[Act], create: bool, from: (u64, u64)) {
    let mut wal = if create {
        Wal::create(disk, dir, b"metadata").unwrap()
    } else {
        let from = Mark {
            index: from.1,
            term: from.0,
            conf_state: None,
        };
        Wal::open(disk, dir, &from).unwrap().0
    };
    wal.set_segment_bytes(9000);
    for act in acts {
        match *act {
            Act::Save(term, first, count, bytes, commit) => {
                let entry = |i: u64| Entry {
                    kind: if i % 3 == 1 {
                        EntryKind::ConfChangeV2
                    } else {
                        EntryKind::Normal
                    },
                    ..entry(term, first + i, go_payload(first + i, bytes))
                };
                let entries: Vec<_> = (0..count).map(entry).collect();
                wal.save(Some(&state(term, 1, commit)), &entries).unwrap();
            }
            Act::Commit(term, commit) => drop(wal.save(Some(&state(term, 1, commit)), &[]).unwrap()),
            Act::Mark(term, index) => wal.save_mark(&two_voters(term, index)).unwrap(),
        }
    }
    wal.close().unwrap();
}

fn two_voters(term: u64, index: u64) -> Mark {
    let conf_state = ConfState {
        voters: vec![1, 2],
        ..ConfState::default()
    };
    Mark {
        index,
        term,
        conf_state: Some(conf_state),
    }
}

fn write_go(tool: &Path, dir: &Path, acts: &[Act], create: bool, from: (u64, u64)) {
    let mut ops = vec!["segment:9000".to_owned()];
    ops.push(if create {
        "create".into()
    } else {
        format!("open:{}:{}", from.1, from.0)
    });
    for act in acts {
        ops.push(match act {
            Act::Save(term, first, count, bytes, commit) => {
                format!("save:{term}:{first}:{count}:{bytes}:{commit}")
            }
            Act::Commit(term, commit) => format!("commit:{term}:{commit}"),
            Act::Mark(term, index) => format!("mark:{term}:{index}"),
        });
    }
    let mut args = vec!["write", utf8(dir)];
    args.extend(ops.iter().map(String::as_str));
    let (text, content) = run(tool, &args);
    assert!(content, "{text}");
}

/// What ours reads is what Go reads, from the start and from a mark.
fn check_same(tool: &Path, disk: &std::sync::Arc<dyn Disk>, dir: &Path, mark: (u64, u64)) {
    for (term, index) in [(0, 0), mark] {
        let from = Mark {
            index,
            term,
            conf_state: None,
        };
        let (wal, recovered) = Wal::open(disk, dir, &from).unwrap();
        drop(wal);
        let (go, content) = run(tool, &["dump", utf8(dir), &index.to_string(), &term.to_string()]);
        assert!(content, "{go}");
        assert_eq!(describe(&recovered), go);
        assert_eq!(recovered.repaired, None);
    }
    let (marks, _) = wal::valid_marks(&**disk, dir).unwrap();
    let (go, content) = run(tool, &["marks", utf8(dir)]);
    assert!(content, "{go}");
    assert_eq!(describe_marks(&marks), go);
}

#[test]
fn both_write_one_log_by_turns() {
    let disk = RealDisk::shared();
    for tool in tools() {
        for seed in 0..rounds() / 4 {
            let tmp = tempfile::tempdir().unwrap();
            let dir = tmp.path().join("wal");
            let mut history = History {
                random: fastrand::Rng::with_seed(seed),
                term: 1,
                last: 0,
                commit: 0,
                mark: (0, 0),
            };
            for turn in 0..4 {
                let from = history.mark;
                let acts: Vec<Act> = (0..8).map(|_| history.next()).collect();
                if (seed + turn) % 2 == 0 {
                    write_ours(&disk, &dir, &acts, turn == 0, from);
                } else {
                    write_go(&tool, &dir, &acts, turn == 0, from);
                }
                check_same(&tool, &disk, &dir, history.mark);
            }
        }
    }
}

/// Damages the last segment somewhere: ours repairs, opens and refuses what Go repairs, opens and
/// refuses, and cuts at the same byte.
#[test]
fn damage_is_judged_as_go_judges_it() {
    let disk = RealDisk::shared();
    for tool in tools() {
        let tmp = tempfile::tempdir().unwrap();
        let original = tmp.path().join("wal");
        let acts = [
            Act::Save(1, 1, 3, 700, 2),
            Act::Mark(1, 2),
            Act::Save(1, 4, 1, 3000, 2),
            Act::Save(2, 4, 3, 0, 4),
            Act::Save(2, 7, 2, 600, 8),
        ];
        write_ours(&disk, &original, &acts, true, (0, 0));
        let last = names(&*disk, &original).pop().unwrap();
        // Go compares with the size of the file; a small one is quicker to copy.
        let end = content(&*disk, &original.join(&last)).len() as u64;
        let file = disk.open(&original.join(&last), Open::Write).unwrap();
        file.set_len(end + 4096 - end % 8).unwrap();
        for seed in 0..rounds() {
            let (ours, theirs) = (
                tmp.path().join(format!("ours{seed}")),
                tmp.path().join(format!("go{seed}")),
            );
            for copy in [&ours, &theirs] {
                disk::copy_tree(&*disk, &original, &*disk, copy).unwrap();
                damage(&*disk, &copy.join(&last), end, seed);
            }
            check_judgement(&tool, &disk, &ours, &theirs, &last, seed);
        }
    }
}

fn check_judgement(
    tool: &Path,
    disk: &std::sync::Arc<dyn Disk>,
    ours: &Path,
    theirs: &Path,
    last: &str,
    seed: u64,
) {
    let (go, content) = run(tool, &["dump", utf8(theirs), "0", "0"]);
    match Wal::open(disk, ours, &Mark::default()) {
        Ok((wal, recovered)) => {
            drop(wal);
            let repaired = if recovered.repaired.is_some() {
                "repaired\n"
            } else {
                ""
            };
            assert_eq!(repaired.to_owned() + &describe(&recovered), go, "seed {seed}");
            assert!(content, "seed {seed}");
            if recovered.repaired.is_some() {
                let broken = format!("{last}.broken");
                let same = |name: &str| read(&**disk, &ours.join(name)) == read(&**disk, &theirs.join(name));
                assert!(same(last) && same(&broken), "seed {seed}");
            }
        }
        Err(error) => assert!(!content, "seed {seed}: Go reads on, we say {error}\n{go}"),
    }
}

fn damage(disk: &dyn Disk, path: &Path, end: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let file = disk.open(path, Open::Write).unwrap();
    let at = random.u64(200..end);
    match seed % 4 {
        0 => file.set_len(at).unwrap(),
        1 => {
            let sector = at / 512 * 512;
            file.write_at(&[0; 512], sector.max(200)).unwrap();
        }
        2 => {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ 1 << random.u8(..8)], at).unwrap();
        }
        _ => {
            let from = at / 512 * 512;
            file.set_len(from.max(200)).unwrap();
            file.set_len(end + 4096 - end % 8).unwrap();
        }
    }
}

#[test]
fn each_reads_the_others_snapshot_files() {
    let disk = RealDisk::shared();
    for tool in tools() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshot = Snapshot {
            index: 11,
            term: 2,
            conf_state: two_voters(2, 11).conf_state.unwrap(),
            data: "{\"Root\":{}}".into(),
        };
        let path = snapfile::write(&*disk, tmp.path(), &snapshot).unwrap();
        let (go, content) = run(&tool, &["snap", utf8(&path)]);
        assert!(content, "{go}");
        assert_eq!(go, describe_snapshot(&snapshot));
        let ours = read(&*disk, &path);
        disk.remove_file(&path).unwrap();
        let (text, content) = run(&tool, &["savesnap", utf8(tmp.path()), "2", "11", "{\"Root\":{}}"]);
        assert!(content, "{text}");
        assert_eq!(read(&*disk, &path), ours, "byte for byte");
    }
}
