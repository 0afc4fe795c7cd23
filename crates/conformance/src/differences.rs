//! docs/differences.md as a test reads it: each difference to real etcd that a test finds must stand there
//! with its reason, and each that stands there must still be found. Never judges what a difference is.

use std::collections::BTreeMap;
use std::path::Path;

/// The differences of one kind that the page admits.
pub struct Differences {
    kind: String,
    /// What stands in the first column, without the kind; `*` stands for anything.
    patterns: Vec<String>,
}

impl Differences {
    /// Reads the rows whose first column is `` `KIND ...` ``.
    pub fn of(kind: &str) -> Differences {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences.md");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Differences {
            kind: kind.to_string(),
            patterns: patterns(&text, kind),
        }
    }

    /// Holds what a test found against the page: `found` has what real etcd and ours say, by name.
    pub fn settle(&self, found: &BTreeMap<String, (String, String)>) {
        let text = self.complaints(found);
        assert!(text.is_empty(), "docs/differences.md is not up to date:\n{text}");
    }

    fn complaints(&self, found: &BTreeMap<String, (String, String)>) -> String {
        let kind = &self.kind;
        let mut text = String::new();
        for (name, (theirs, ours)) in found {
            if !self.patterns.iter().any(|pattern| matches(pattern, name)) {
                text.push_str(&format!(
                    "not listed: `{kind} {name}`\n  etcd: {theirs}\n  ours: {ours}\n"
                ));
            }
        }
        for pattern in &self.patterns {
            if !found.keys().any(|name| matches(pattern, name)) {
                text.push_str(&format!("listed, but no longer there: `{kind} {pattern}`\n"));
            }
        }
        text
    }
}

fn patterns(page: &str, kind: &str) -> Vec<String> {
    page.lines()
        .filter_map(|line| {
            let mut columns = line.strip_prefix("| `")?.split(" | ");
            let name = columns.next()?.strip_suffix('`')?;
            let (row_kind, pattern) = name.split_once(' ')?;
            (row_kind == kind).then(|| {
                let reason = columns.last().unwrap_or_default().trim_end_matches('|').trim();
                assert!(!reason.is_empty(), "docs/differences.md: `{name}` has no reason");
                pattern.to_string()
            })
        })
        .collect()
}

/// Whether a pattern with `*` for anything fits the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|at| tail.is_char_boundary(*at))
                .any(|at| matches(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn both_sides_of_a_page_are_held() {
        let page = "| what | etcd | ours | why |\n|---|---|---|---|\n| `flag --a` | 1 | 2 | so |\n| `grpc A/* x` | 1 | 2 | so |\n";
        let listed = Differences {
            kind: "flag".into(),
            patterns: patterns(page, "flag"),
        };
        let found = |names: &[&str]| -> BTreeMap<String, (String, String)> {
            names
                .iter()
                .map(|name| ((*name).to_string(), ("1".into(), "2".into())))
                .collect()
        };
        assert_eq!(listed.complaints(&found(&["--a"])), "");
        assert!(
            listed
                .complaints(&found(&["--a", "--b"]))
                .contains("not listed: `flag --b`")
        );
        assert!(
            listed
                .complaints(&found(&[]))
                .contains("no longer there: `flag --a`")
        );
    }
}
