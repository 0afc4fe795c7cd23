//! Passwords: from a flag, from a pipe, or asked for on the terminal without showing them. Never printed.

use std::io::{BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::{EXIT_ERROR, Failure};
use client::Identity;

/// The longest line that is taken for a password.
const BYTES_MAX: u64 = 4096;

/// Who asks: `name:password`, or a name whose password is given apart, or asked for.
pub(super) fn identity(user: &str, password: &str, prompt: &str) -> Result<Identity, Failure> {
    let (name, password) = match (user.split_once(':'), password) {
        (Some((name, password)), "") => (name, password.to_string()),
        (None, "") => {
            let asked = ask(prompt).map_err(|error| Failure::new(EXIT_ERROR, error))?;
            (user, asked)
        }
        (_, password) => (user, password.to_string()),
    };
    Ok(Identity::User(name.to_string(), password))
}

/// A new password, asked for twice.
pub(super) fn ask_twice(name: &str) -> Result<String, Failure> {
    let failed = |error| Failure::bad_args(format!("failed to ask password: {error}"));
    let first = ask(&format!("Password of {name}: ")).map_err(failed)?;
    if first.is_empty() {
        return Err(Failure::bad_args("empty password"));
    }
    let second = ask(&format!("Type password of {name} again for confirmation: ")).map_err(failed)?;
    if first != second {
        return Err(Failure::bad_args("given passwords are different"));
    }
    Ok(first)
}

/// The first word of the standard input.
pub(super) fn from_input() -> String {
    let line = read_line().unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default().to_string()
}

/// Asks on the terminal. Without one the line is read as it comes, as it is with etcd.
fn ask(prompt: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stdout = std::io::stdout();
    stdout.write_all(prompt.as_bytes()).map_err(failed)?;
    stdout.flush().map_err(failed)?;
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let line = read_line();
        let _ = stdout.write_all(b"\n");
        return line.map_err(failed);
    }
    let before = tcgetattr(&stdin).map_err(|error| error.to_string())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| error.to_string())?;
    let line = read_line();
    // Whatever came of it, the terminal shows again what is typed.
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    let _ = stdout.write_all(b"\n");
    restored.map_err(|error| error.to_string())?;
    line.map_err(failed)
}

fn read_line() -> std::io::Result<String> {
    use std::io::Read;
    let mut line = String::new();
    std::io::stdin().lock().take(BYTES_MAX).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_told_apart() {
        for (user, password, expect) in [
            ("root:secret", "", ("root", "secret")),
            ("root:a:b", "", ("root", "a:b")),
            ("root", "secret", ("root", "secret")),
            ("ro:ot", "secret", ("ro:ot", "secret")),
        ] {
            match identity(user, password, "") {
                Ok(Identity::User(name, password)) => {
                    assert_eq!((name.as_str(), password.as_str()), expect);
                }
                other => panic!("{user}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let shown = format!("{:?}", identity("root", "secret", "").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
