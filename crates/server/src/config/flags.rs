//! The command line, read by the rules of Go's `flag` package. Never reads the environment.

use super::table::{self, FLAGS, Heir, RETIRED, Standing};
use super::value::{self, Kind, Value, quote};
use super::{Given, Notice};

/// Why a command line is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    /// Help was asked for.
    Help,
    /// It is wrong; the text is Go's, printed before the usage line, and the exit code is 2.
    Bad(String),
}

/// What a name on the command line, in the environment or in a file stands for.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The flag's own name.
    pub name: &'static str,
    /// How its value is written.
    pub kind: Kind,
    heir: Option<Heir>,
}

impl Target {
    /// Finds a flag of 3.7, or one of an older release.
    pub fn find(name: &str) -> Option<Target> {
        if let Some(flag) = table::find(name) {
            return Some(Target {
                name: flag.name,
                kind: flag.kind,
                heir: None,
            });
        }
        let (name, kind, heir) = RETIRED.iter().find(|(retired, _, _)| *retired == name)?;
        Some(Target {
            name,
            kind: *kind,
            heir: Some(*heir),
        })
    }

    /// Every name that is known.
    pub fn all() -> impl Iterator<Item = &'static str> {
        let retired = RETIRED.iter().map(|(name, _, _)| *name);
        FLAGS.iter().map(|flag| flag.name).chain(retired)
    }

    /// Takes a value that was read, or hands it on to what replaces this flag.
    pub fn give(self, value: Value, given: &mut Given, notices: &mut Vec<Notice>) {
        match self.heir {
            None => {
                let ignored = table::find(self.name).is_some_and(|f| f.standing == Standing::Ignored);
                if ignored {
                    notices.push(
                        Notice::warn("flag is no longer supported - ignoring").with("flag-name", self.name),
                    );
                    return;
                }
                given.set(self.name, value);
            }
            Some(heir) => {
                given.mark(self.name);
                give_to_heir(self.name, heir, value, given, notices);
            }
        }
    }
}

/// What is said of a flag that only older releases have.
pub(super) const GONE: &str = "flag is gone in etcd 3.7";

/// Passes the value of a retired flag on. What replaces it wins if both are given.
fn give_to_heir(name: &str, heir: Heir, value: Value, given: &mut Given, notices: &mut Vec<Notice>) {
    let notice = Notice::warn(GONE).with("flag-name", name);
    match (heir, value) {
        (Heir::Flag(to), value) => {
            notices.push(notice.with("instead", &format!("--{to}")));
            if given.get(to).is_none() {
                given.set(to, value);
            }
        }
        (Heir::Gate(gate), Value::Bool(on)) => {
            notices.push(notice.with("instead", &format!("--feature-gates={gate}={on}")));
            let mut gates = match given.get("feature-gates") {
                Some(Value::Gates(gates)) => gates.clone(),
                _ => Vec::new(),
            };
            if gates.iter().all(|(known, _)| *known != gate) {
                gates.push((gate, on));
            }
            given.set("feature-gates", Value::Gates(gates));
        }
        (Heir::Gone { harmless, advice }, value) => match value {
            Value::Bool(on) if on.to_string() != harmless => {
                given.refuse(format!("--{name}={on} is not supported: {advice}"));
            }
            Value::Text(text) if text != harmless => {
                given.refuse(format!("--{name}={text} is not supported: {advice}"));
            }
            _ => notices.push(notice.with("instead", "nothing")),
        },
        (Heir::Gate(_) | Heir::None, _) => notices.push(notice.with("instead", "nothing")),
    }
}

/// Reads the arguments after the program's name, and returns those that are no flags.
pub fn parse(
    args: &[String],
    given: &mut Given,
    notices: &mut Vec<Notice>,
) -> Result<Vec<String>, FlagError> {
    let mut retired = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.as_slice().first() {
        let dashes = arg.len() - arg.trim_start_matches('-').len();
        if arg.len() < 2 || dashes == 0 {
            break;
        }
        args.next();
        if arg == "--" {
            break;
        }
        let (name, inline) = split(arg)?;
        let Some(target) = Target::find(name) else {
            return Err(match name {
                "help" | "h" => FlagError::Help,
                _ => FlagError::Bad(format!("flag provided but not defined: -{name}")),
            });
        };
        let text = match inline {
            Some(text) => text.to_string(),
            None if target.kind.is_bare() => "true".to_string(),
            None => match args.next() {
                Some(next) => next.clone(),
                None => return Err(FlagError::Bad(format!("flag needs an argument: -{name}"))),
            },
        };
        let value = parse_given(target, &text).map_err(|error| {
            let what = if target.kind == Kind::Bool {
                "boolean value"
            } else {
                "value"
            };
            let flag = if target.kind == Kind::Bool { "" } else { "flag " };
            FlagError::Bad(format!(
                "invalid {what} {} for {flag}-{name}: {error}",
                quote(&text)
            ))
        })?;
        match target.heir {
            // Values for heirs wait until all is read, so that the order does not matter.
            Some(_) => retired.push((target, value)),
            None => target.give(value, given, notices),
        }
    }
    for (target, value) in retired {
        target.give(value, given, notices);
    }
    Ok(args.cloned().collect())
}

/// Reads a value of the command line, where two flags take no empty text (etcd: pkg/flags): a
/// variable or a file may hold one.
fn parse_given(target: Target, text: &str) -> Result<Value, String> {
    match (target.name, text) {
        ("cors", "") => Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        ("cipher-suites", "") => Ok(Value::List(vec![String::new()])),
        _ => value::parse(target.kind, text),
    }
}

fn split(arg: &str) -> Result<(&str, Option<&str>), FlagError> {
    let rest = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
    let rest = rest.unwrap_or_default();
    if rest.is_empty() || rest.starts_with(['-', '=']) {
        return Err(FlagError::Bad(format!("bad flag syntax: {arg}")));
    }
    Ok(match rest.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (rest, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(Given, Vec<Notice>, Vec<String>), FlagError> {
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let (mut given, mut notices) = (Given::default(), Vec::new());
        let rest = parse(&args, &mut given, &mut notices)?;
        Ok((given, notices, rest))
    }

    /// Texts taken from runs of etcd 3.7.1.
    #[test]
    fn errors_are_those_of_go() {
        for (line, error) in [
            ("--bogus", "flag provided but not defined: -bogus"),
            ("--name", "flag needs an argument: -name"),
            (
                "--heartbeat-interval=x",
                "invalid value \"x\" for flag -heartbeat-interval: parse error",
            ),
            (
                "--pre-vote=zz",
                "invalid boolean value \"zz\" for -pre-vote: parse error",
            ),
            (
                "--grpc-keepalive-min-time=5",
                "invalid value \"5\" for flag -grpc-keepalive-min-time: parse error",
            ),
            (
                "--cors=",
                "invalid value \"\" for flag -cors: URL scheme must be http, https, unix, or unixs: ",
            ),
            ("--=3", "bad flag syntax: --=3"),
            ("---x", "bad flag syntax: ---x"),
            (
                "--initial-cluster-state=zz",
                "invalid value \"zz\" for flag -initial-cluster-state: invalid value",
            ),
            (
                "--listen-client-urls=zz",
                "invalid value \"zz\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: zz",
            ),
        ] {
            assert_eq!(
                read(line).err(),
                Some(FlagError::Bad(error.to_string())),
                "{line}"
            );
        }
        for line in ["-h", "--help", "--name x -help"] {
            assert_eq!(read(line).err(), Some(FlagError::Help), "{line}");
        }
    }

    #[test]
    fn all_spellings_are_read_and_the_last_wins() {
        let (given, notices, rest) =
            read("-name a --name b --name=c --pre-vote=false --unsafe-no-fsync --max-wals=0x10 -- foo")
                .unwrap();
        assert_eq!(given.get("name"), Some(&Value::Text("c".into())));
        assert_eq!(given.get("pre-vote"), Some(&Value::Bool(false)));
        assert_eq!(given.get("unsafe-no-fsync"), Some(&Value::Bool(true)));
        assert_eq!(given.get("max-wals"), Some(&Value::Uint(16)));
        assert_eq!((notices.len(), rest), (0, vec!["foo".to_string()]));
        let (_, _, rest) = read("foo --name x").unwrap();
        assert_eq!(rest, ["foo", "--name", "x"]);
    }

    #[test]
    fn retired_flags_reach_their_heirs() {
        let (given, notices, _) = read(
            "--experimental-initial-corrupt-check --experimental-watch-progress-notify-interval=5s \
             --max-learners=2 --experimental-max-learners=7 --enable-v2=false",
        )
        .unwrap();
        assert_eq!(
            given.get("feature-gates"),
            Some(&Value::Gates(vec![("InitialCorruptCheck", true)]))
        );
        assert_eq!(
            given.get("watch-progress-notify-interval"),
            Some(&Value::Span(value::Span::from_millis(5000)))
        );
        assert_eq!(given.get("max-learners"), Some(&Value::Int(2)));
        assert_eq!(notices.len(), 4);
    }
}
