//! Words of Go for what its programs and ours have in common. Never decides anything.

use std::io;

/// An error of the system in Go's words: without its number, beginning small.
pub fn of_system(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_read_as_in_go() {
        for (code, text) in [
            (2, "no such file or directory"),
            (13, "permission denied"),
            (28, "no space left on device"),
        ] {
            assert_eq!(of_system(&io::Error::from_raw_os_error(code)), text);
        }
    }
}
