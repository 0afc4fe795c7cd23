//! Holds the tree to its rules: the invariants of absence of ARCHITECTURE.md, file heads, words
//! that may not stay. Reads files as text; never changes one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{history, root};

/// Words that the code of a crate may not name, with the reason.
struct Absence {
    folders: &'static [&'static str],
    /// Folders within those that are left out.
    except: &'static [&'static str],
    words: &'static [&'static str],
    reason: &'static str,
}

const BELOW_SERVER: &[&str] = &[
    "crates/api/src",
    "crates/bbolt/src",
    "crates/disk/src",
    "crates/member/src",
    "crates/mvcc/src",
    "crates/raft/src",
    "crates/state/src",
    "crates/tls/src",
    "crates/wal/src",
];

const ABSENCES: &[Absence] = &[
    Absence {
        folders: BELOW_SERVER,
        except: &[],
        words: &[
            "tokio",
            "std::net",
            "TcpStream",
            "UnixStream",
            "thread::spawn",
            "thread::sleep",
            "std::thread",
            "SystemTime",
            "time::Instant",
            "Instant::now",
            "fastrand",
            "rand::",
        ],
        reason: "nothing below `server` knows tokio, sockets, threads, the time of day or chance",
    },
    Absence {
        folders: &["crates/server/src/services"],
        except: &[],
        words: &["tonic", "hyper", "h2::", "tokio"],
        reason: "service files do not name what carries gRPC",
    },
    Absence {
        folders: &["crates/raft/src"],
        except: &[],
        words: &["etcdserverpb", "mvcc", "bbolt"],
        reason: "`raft` knows nothing of etcd's store",
    },
    Absence {
        folders: &["crates/state/src"],
        except: &[],
        words: &["disk::", "std::fs"],
        reason: "`state` never reads a file",
    },
    Absence {
        folders: &["crates/bbolt/src", "crates/wal/src"],
        except: &[],
        words: &["mvccpb", "mvcc::"],
        reason: "`bbolt` and `wal` know nothing of keys and revisions of the store",
    },
    Absence {
        folders: &["crates/mvcc/src"],
        // The rows of the bucket `alarm` are such a message.
        except: &["crates/mvcc/src/schema"],
        words: &["etcdserverpb"],
        reason: "wire types of clients and peers do not reach `mvcc`",
    },
    Absence {
        folders: &[
            "crates/api/src",
            "crates/bbolt/src",
            "crates/cli/src",
            "crates/client/src",
            "crates/mainstay/src",
            "crates/member/src",
            "crates/mvcc/src",
            "crates/raft/src",
            "crates/server/src",
            "crates/state/src",
            "crates/tls/src",
            "crates/transport/src",
            "crates/wal/src",
        ],
        except: &[],
        words: &["unsafe {", "unsafe fn", "unsafe impl"],
        reason: "only `disk` has `unsafe`",
    },
];

/// Words that mark unfinished work.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!("];

/// Longest source file, in lines of code before its tests.
const LINES_MAX: usize = 1200;

/// Checks the whole tree; the error lists every violation.
pub fn run() -> Result<(), String> {
    let violations = violations(&root())?;
    if violations.is_empty() {
        return Ok(());
    }
    Err(format!("tidy:\n  {}", violations.join("\n  ")))
}

fn violations(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut files = Vec::new();
    for top in ["crates", "xtask"] {
        collect(&root.join(top), &mut files)?;
    }
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        check_file(&name, &text, &mut found);
    }
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))
        .map_err(|error| format!("ARCHITECTURE.md: {error}"))?;
    let crates = fs::read_dir(root.join("crates")).map_err(|error| format!("crates: {error}"))?;
    for entry in crates.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !map.contains(&format!("`{name}`")) {
            found.push(format!("ARCHITECTURE.md does not name crate `{name}`"));
        }
    }
    found.extend(history::violations(root)?);
    found.sort();
    Ok(found)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str, found: &mut Vec<String>) {
    let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
    let code = if is_test { "" } else { code_before_tests(text) };
    for absence in ABSENCES {
        let within = |folders: &[&str]| folders.iter().any(|folder| name.starts_with(folder));
        if !within(absence.folders) || within(absence.except) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            if let Some(word) = absence.words.iter().find(|word| line.contains(**word)) {
                found.push(format!(
                    "{name}:{}: names `{word}`: {}",
                    number + 1,
                    absence.reason
                ));
            }
        }
    }
    if name.starts_with("xtask/") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
            found.push(format!("{name}:{}: `{word}` marks unfinished work", number + 1));
        }
    }
    if name.contains("/src/") && !text.starts_with("//!") {
        found.push(format!("{name}: opens without saying what it is (`//! ...`)"));
    }
    let lines = code.lines().count();
    if lines > LINES_MAX {
        found.push(format!(
            "{name}: {lines} lines of code usually hold two nouns (at most {LINES_MAX})"
        ));
    }
}

/// What stands before the unit tests of a file.
fn code_before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        assert_eq!(violations(&root()), Ok(Vec::new()));
    }

    #[test]
    fn violations_are_seen() {
        let check = |name: &str, text: &str| {
            let mut found = Vec::new();
            check_file(name, text, &mut found);
            found.len()
        };
        assert_eq!(
            check("crates/raft/src/a.rs", "//! A.\nuse std::time::Instant;"),
            1
        );
        assert_eq!(check("crates/raft/src/a.rs", "//! A.\n// not std::thread"), 0);
        assert_eq!(
            check(
                "crates/raft/src/a.rs",
                "//! A.\n#[cfg(test)]\nmod tests { use std::thread; }"
            ),
            0
        );
        assert_eq!(
            check("crates/server/src/services/kv.rs", "//! A.\nuse tokio::io;"),
            1
        );
        assert_eq!(check("crates/server/src/front.rs", "//! A.\nuse tokio::io;"), 0);
        assert_eq!(check("crates/wal/src/a.rs", "fn a() {}"), 1);
        assert_eq!(check("crates/wal/src/a.rs", "//! A.\n// TODO later"), 1);
        assert_eq!(check("crates/wal/src/a.rs", "//! A.\nunsafe { x() }"), 1);
        assert_eq!(check("crates/disk/src/a.rs", "//! A.\nunsafe { x() }"), 0);
    }
}
