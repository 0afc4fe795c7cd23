//! Runs the commands of README.md and docs/*.md as a reader would, a document at a time, in a fresh folder.
//!
//! What stands behind ```` ```sh ```` says how: nothing: it must succeed, and what a ```` ```text ```` fence right
//! after it shows must be in its output; `server`: it goes on, and the document goes on when it serves;
//! `background`: it just goes on; `elsewhere`: it needs what no test has, so only its syntax is looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::{Home, Rig};

/// How a fence is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Through,
    Server,
    Background,
    Elsewhere,
}

#[derive(Debug, PartialEq, Eq)]
struct Fence {
    line: usize,
    way: Way,
    commands: String,
    /// What the document shows as output.
    shown: Option<String>,
}

/// The commands of a document, in order.
fn fences(text: &str) -> Result<Vec<Fence>, String> {
    let mut found: Vec<Fence> = Vec::new();
    let mut lines = text.lines().enumerate();
    // Whether nothing but blank lines came since the last fence of commands.
    let mut follows = false;
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            follows &= line.trim().is_empty();
            continue;
        };
        let body: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim() != "```")
            .collect();
        let body = body.join("\n");
        let way = match info.trim() {
            "sh" => Way::Through,
            "sh server" => Way::Server,
            "sh background" => Way::Background,
            "sh elsewhere" => Way::Elsewhere,
            info if info.starts_with("sh") || info.starts_with("bash") || info.starts_with("console") => {
                return Err(format!("line {}: no test knows how to run `{info}`", number + 1));
            }
            "text" if follows => {
                if let Some(fence) = found.last_mut() {
                    fence.shown = Some(body);
                }
                follows = false;
                continue;
            }
            _ => {
                follows = false;
                continue;
            }
        };
        follows = way == Way::Through;
        found.push(Fence {
            line: number + 1,
            way,
            commands: body,
            shown: None,
        });
    }
    Ok(found)
}

/// One script for a document; each fence's output goes to a file of its own.
fn script(fences: &[Fence]) -> String {
    let mut text = String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n");
    for (number, fence) in fences.iter().enumerate() {
        let commands = &fence.commands;
        text.push_str(&match fence.way {
            Way::Through => format!("{{\n{commands}\n}} > out.{number} 2>&1 < /dev/null\n"),
            Way::Background => format!("{{\n{commands}\n}} > out.{number} 2>&1 < /dev/null &\n"),
            Way::Server => format!(
                "{{\n{commands}\n}} > out.{number} 2>&1 < /dev/null &\n\
                 until grep -q 'ready to \\(serve\\|proxy\\) client requests' out.{number}; do\n\
                 kill -0 $! && [ $SECONDS -lt 60 ]; sleep 0.05\ndone\n"
            ),
            Way::Elsewhere => format!("never_called() {{\n{commands}\n}}\n"),
        });
    }
    text.push_str("exit 0\n");
    text
}

/// Whether the output has each shown line, in order; numbers, identifiers and times are any, `...` is
/// anything.
fn shows(output: &str, shown: &str) -> Result<(), String> {
    let mut rest = output.lines();
    for line in shown.lines().filter(|line| !line.trim().is_empty()) {
        if line.trim() == "..." {
            continue;
        }
        let wanted = loosely(line);
        let (start, end) = wanted.split_once("...").unwrap_or((&wanted, ""));
        let fits = |line: &str| {
            let line = loosely(line);
            line == wanted || (wanted.contains("...") && line.starts_with(start) && line.ends_with(end))
        };
        if !rest.any(fits) {
            return Err(format!("no line like {line:?}"));
        }
    }
    Ok(())
}

/// A line without what differs from run to run: each word with a digit becomes `N`, rulers are cut.
fn loosely(line: &str) -> String {
    line.split(|c: char| c.is_whitespace() || "|+-,:{}[]()\"".contains(c))
        .filter(|word| !word.is_empty())
        .map(|word| {
            if word.contains(|c: char| c.is_ascii_digit()) {
                "N"
            } else {
                word
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Words that give a script a network of its own, so that ports are as in the text; none where the
/// kernel does not let us.
fn alone() -> Vec<&'static str> {
    let words = vec![
        "unshare",
        "--map-root-user",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        "ip link set lo up && exec \"$@\"",
        "sh",
    ];
    let works = Command::new(words[0])
        .args(&words[1..])
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if works { words } else { Vec::new() }
}

fn run_document(rig: &Rig, path: &Path) {
    let name = path
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fences = fences(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if fences.is_empty() {
        return;
    }
    let home = Home::new(&format!("docs-{name}"));
    let bin = home.dir.join("bin");
    let built = home.dir.join("target/release");
    for folder in [&bin, &built] {
        fs::create_dir_all(folder).expect("a folder");
    }
    for link in ["etcd", "etcdctl", "etcdutl", "mainstay"].map(|name| bin.join(name)) {
        std::os::unix::fs::symlink(&rig.mainstay, link).expect("a link");
    }
    std::os::unix::fs::symlink(&rig.mainstay, built.join("mainstay")).expect("a link");
    fs::write(home.dir.join("script"), script(&fences)).expect("a script");
    let mut words = alone();
    // A server in a fence of commands that should end would wait for ever.
    words.extend(["timeout", "120", "bash", "script"]);
    let search = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(&home.dir)
        .env("PATH", format!("{}:{search}", bin.display()))
        .env("HOME", &home.dir)
        .output()
        .expect("bash runs");
    let said = |number: usize| {
        String::from_utf8_lossy(&fs::read(home.dir.join(format!("out.{number}"))).unwrap_or_default())
            .into_owned()
    };
    if !output.status.success() {
        let last = (0..fences.len())
            .rev()
            .find(|number| home.dir.join(format!("out.{number}")).exists())
            .unwrap_or_default();
        panic!(
            "{}:{}: {} {}\n{}\n{}",
            path.display(),
            fences[last].line,
            output.status,
            String::from_utf8_lossy(&output.stderr),
            fences[last].commands,
            said(last)
        );
    }
    for (number, fence) in fences.iter().enumerate() {
        if let Some(shown) = &fence.shown
            && let Err(error) = shows(&said(number), shown)
        {
            panic!("{}:{}: {error} in\n{}", path.display(), fence.line, said(number));
        }
    }
}

#[test]
fn commands_in_the_documents_work() {
    let Some(rig) = Rig::find("docs") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut documents: Vec<PathBuf> = fs::read_dir(root.join("docs"))
        .expect("the documents")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    documents.push(root.join("README.md"));
    documents.sort();
    for document in documents {
        eprintln!("{}", document.display());
        run_document(&rig, &document);
    }
}

#[test]
fn fences_are_found() {
    let text = "a\n```sh\none\ntwo\n```\n\n```text\n3\n```\n```text\nnot\n```\n```sh server\nserve\n```\nb\n```text\nnot\n```\n";
    let found = fences(text).expect("it is right");
    assert_eq!(
        found,
        [
            Fence {
                line: 2,
                way: Way::Through,
                commands: "one\ntwo".into(),
                shown: Some("3".into()),
            },
            Fence {
                line: 13,
                way: Way::Server,
                commands: "serve".into(),
                shown: None,
            },
        ]
    );
    assert!(fences("```bash\nx\n```\n").is_err());
}

#[test]
fn output_is_matched_loosely() {
    assert_eq!(
        shows("OK\nlease 7fa granted (3 s)\n", "lease 694d granted (60 s)"),
        Ok(())
    );
    assert_eq!(shows("| x1 | a |\n", "| 0 |   a   |"), Ok(()));
    assert_eq!(shows("x is a long story\n", "x is ... story"), Ok(()));
    assert!(shows("a\nb\n", "b\na").is_err());
    assert!(shows("OK\n", "FAIL").is_err());
}
