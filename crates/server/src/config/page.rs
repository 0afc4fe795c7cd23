//! docs/flags.md, held to the table of flags: made from it, and compared with what is there.

use std::fmt::Write;
use std::path::Path;

use super::env::variable;
use super::table::{self, FLAGS, Heir, RETIRED, Standing};
use super::value::{self, ALL_GATES};

const HEAD: &str = "\
# Flags

Every flag of etcd 3.7 is read, with etcd's precedence and errors (see [running.md](running.md)). Each has a class:

- **works**: it does what it does in etcd, or there is nothing that it could change.
- **no meaning here**: accepted, with one warning in the log if it asks for something.
- **refused**: what it asks for is not there yet, and to go on without it would change safety or security; an error if it is given.
- **ignored**: etcd itself warns and ignores it.

The variable of a flag is `ETCD_` and its name in capitals with `_` for `-`: `ETCD_SNAPSHOT_COUNT` for `--snapshot-count`. A flag may
be given more than once: the last one counts. This page is made from the program's own table, and a test holds it there.
";

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Used => "works",
        Standing::Idle => "no meaning here",
        Standing::Refused => "refused",
        Standing::Ignored => "ignored",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

fn page() -> String {
    let mut out = String::from(HEAD);
    let mut section = None;
    for flag in &FLAGS {
        if section != Some(flag.section) {
            section = Some(flag.section);
            let title = if flag.section.is_empty() {
                "Gone long ago"
            } else {
                flag.section
            };
            let _ = write!(
                out,
                "\n## {title}\n\n| flag | default | class | what it does |\n|---|---|---|---|\n"
            );
        }
        let default = match flag.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let instead = match flag.standing {
            Standing::Refused => format!(" {}.", sentence(table::instead(flag.name))),
            _ => String::new(),
        };
        let (class, help) = (class(flag.standing), cell(&format!("{}{instead}", flag.help)));
        let _ = writeln!(out, "| `--{}` | {default} | {class} | {help} |", flag.name);
    }
    out.push_str(
        "\n## Spellings of 3.5 and 3.6\n\nAccepted with a warning, and passed on to what has replaced them. \
         If both are given, the new one counts.\n\n| flag | now |\n|---|---|\n",
    );
    for (name, _, heir) in RETIRED {
        let now = match heir {
            Heir::Flag(flag) => format!("`--{flag}`"),
            Heir::Gate(gate) => format!("`--feature-gates={gate}=…`"),
            Heir::None => "nothing".to_string(),
            Heir::Gone { harmless, advice } => {
                format!("nothing for `{harmless}`; else refused, since {advice}")
            }
        };
        let _ = writeln!(out, "| `--{name}` | {now} |");
    }
    out.push_str(
        "\n## Feature gates\n\n`--feature-gates=Name=true,Other=false`; a name that is not listed is an error. `AllAlpha` and \
         `AllBeta` set all of their stage that are not set themselves.\n\n| gate | stage | default | here |\n|---|---|---|---|\n",
    );
    let on = value::gates_on(&[]);
    for gate in ALL_GATES {
        let here = match gate.name {
            "AllAlpha" | "AllBeta" | "LeaseCheckpoint" | "LeaseCheckpointPersist" => "works",
            "CompactHashCheck" | "InitialCorruptCheck" | "SetMemberLocalAddr" => {
                "of members that are not alone"
            }
            "FastLeaseKeepAlive" => "renewals are always fast",
            "StopGRPCServiceOnDefrag" => "a defragmentation stops nobody",
            _ => "no meaning here",
        };
        let (stage, default) = (gate.stage.label(), on.contains(&gate.name));
        let _ = writeln!(out, "| `{}` | {stage} | {default} | {here} |", gate.name);
    }
    out
}

/// To write the page anew: `MAINSTAY_WRITE_DOCS=1 cargo test -p server the_page_of_flags`.
#[test]
fn the_page_of_flags_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
    if std::env::var_os("MAINSTAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page(),
        "docs/flags.md is not that of the table: MAINSTAY_WRITE_DOCS=1 cargo test -p server the_page_of_flags"
    );
    assert_eq!(variable("snapshot-count"), "ETCD_SNAPSHOT_COUNT");
}
