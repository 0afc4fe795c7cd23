//! Holds docs/bug-history.md against the sources: each test that it names is there and names its row. Reads files as
//! text; never changes one.

use std::fs;
use std::path::Path;

/// The page.
const PAGE: &str = "docs/bug-history.md";

/// What is wrong with the page, a line each.
pub fn violations(root: &Path) -> Result<Vec<String>, String> {
    let page = fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))?;
    let read = |path: &str| fs::read_to_string(root.join("crates").join(path)).ok();
    Ok(check(&page, read))
}

fn check(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for line in page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [row, _, tests] = cells[..] else {
            found.push(format!("{PAGE}: three cells a row: {line}"));
            continue;
        };
        // The number alone, without whose it is.
        let number = row.rsplit(' ').next().unwrap_or(row);
        for test in tests.split('`').skip(1).step_by(2) {
            let Some((path, name)) = test.split_once("::") else {
                found.push(format!("{PAGE}: {row}: `{test}` is no path and test"));
                continue;
            };
            match read(path).as_deref().and_then(|text| words_of(text, name)) {
                None => found.push(format!("{PAGE}: {row}: there is no test `{test}`")),
                Some(words) if !words.contains(number) => {
                    found.push(format!(
                        "{path}: the test `{name}` does not say that it is for {row}"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// Name and comment of a test; `None` if there is none of this name.
fn words_of(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let place = lines
        .iter()
        .position(|line| line.starts_with(&format!("fn {name}(")))?;
    let above = lines[..place].iter().rev();
    let above: Vec<&str> = above
        .take_while(|line| line.starts_with("///") || line.starts_with("#["))
        .copied()
        .collect();
    above
        .contains(&"#[test]")
        .then(|| format!("{name} {}", above.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_and_name_their_row() {
        let source =
            "/// etcd issue 12.\n#[test]\nfn one() {}\n\n#[test]\nfn etcd_34_two() {}\n\nfn three() {}\n";
        let read = |path: &str| (path == "a.rs").then(|| source.to_owned());
        let check =
            |row: &str| check(&format!("| issue | what | test |\n|---|---|---|\n{row}\n"), read).len();
        assert_eq!(check("| 12 | x | `a.rs::one` |"), 0);
        assert_eq!(
            check("| bbolt 34 | x | `a.rs::etcd_34_two`, `a.rs::one` |"),
            1,
            "one is for 12"
        );
        assert_eq!(check("| 12 | x | `a.rs::three` |"), 1, "it is no test");
        assert_eq!(check("| 12 | x | `b.rs::one` |"), 1);
        assert_eq!(check("| 12 | `a.rs::one` |"), 1);
    }
}
