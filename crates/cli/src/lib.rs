//! etcdctl and etcdutl: the online client and the offline tool. Never serves.
#![cfg_attr(test, allow(clippy::unwrap_used))]

/// Prints a line on the standard output, as `println!` does, but ends quietly when nobody reads.
macro_rules! say {
    ($($arg:tt)*) => { $crate::say_line(format_args!($($arg)*)) };
}

mod completion;
mod ctl;
mod fetch;
mod flags;
mod json;
mod log;
mod table;
mod text;
mod utl;

use std::process::ExitCode;

/// Runs `etcdctl` with the arguments after the program's name.
pub fn ctl(args: &[String]) -> ExitCode {
    finish(ctl::run(args))
}

/// Runs `etcdutl` with the arguments after the program's name.
pub fn utl(args: &[String]) -> ExitCode {
    finish(utl::run(args))
}

/// The exit code of a program that a closed pipe ended: 128 and SIGPIPE's number.
const EXIT_PIPE: i32 = 141;

fn say_line(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    if stdout
        .write_fmt(line)
        .and_then(|()| stdout.write_all(b"\n"))
        .is_err()
    {
        std::process::exit(EXIT_PIPE);
    }
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    if !failure.text.is_empty() {
        eprintln!("Error: {}", failure.text);
    }
    ExitCode::from(failure.code)
}

/// Why a command ends: what it says, and the exit code (etcd: pkg/cobrautl/error.go).
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    text: String,
}

const EXIT_ERROR: u8 = 1;
const EXIT_BAD_CONNECTION: u8 = 2;
const EXIT_INVALID_INPUT: u8 = 3;
const EXIT_BAD_FEATURE: u8 = 4;
const EXIT_INTERRUPTED: u8 = 5;
const EXIT_BAD_ARGS: u8 = 128;

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure {
            code,
            text: text.into(),
        }
    }

    fn bad_args(text: impl Into<String>) -> Failure {
        Failure::new(EXIT_BAD_ARGS, text)
    }

    /// The same failure with another exit code.
    fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// The same failure with `prefix` before and `suffix` behind its text.
    fn wrapped(self, prefix: &str, suffix: &str) -> Failure {
        Failure {
            text: format!("{prefix}{}{suffix}", self.text),
            ..self
        }
    }
}

impl From<api::error::Status> for Failure {
    /// Prints a text of the table alone, and any other status as gRPC's clients do.
    fn from(status: api::error::Status) -> Failure {
        if api::error::from_message(&status.message).is_some() {
            Failure::new(EXIT_ERROR, status.message.into_owned())
        } else {
            Failure::new(EXIT_ERROR, status.to_string())
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        match error {
            client::Error::Settings(text) => Failure::bad_args(text),
            client::Error::Unreachable(text) => Failure::new(EXIT_BAD_CONNECTION, text),
            client::Error::Identity(status) => Failure::from(status).with_code(EXIT_BAD_CONNECTION),
            client::Error::Failed(text) => Failure::new(EXIT_ERROR, text),
            client::Error::TimedOut { ref last } => {
                // The cause in a line before, as etcdctl's client logs it.
                eprintln!("{last}");
                Failure::new(EXIT_ERROR, error.to_string())
            }
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(EXIT_ERROR, text::of_system(&error))
    }
}
