//! Command lines as the two tools take them: sub-commands, flags before and after them, `--f v` and
//! `--f=v`, short forms, a flag given twice (the last one wins), values from the environment.
//! Knows no command by itself.

use std::collections::BTreeMap;

use crate::{EXIT_ERROR, Failure};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--f`, `--f=true`.
    Bool,
    /// A text.
    Text,
    /// Texts, comma separated; given again, the flag adds to them.
    List,
    /// A decimal number.
    Int,
    /// A Go duration, `1m30s`.
    Duration,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Bool => "",
            Kind::Text => "string",
            Kind::List => "strings",
            Kind::Int => "int",
            Kind::Duration => "duration",
        }
    }
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

/// A flag without a short form.
pub(crate) const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        default,
        help,
    }
}

/// One command: its words, its flags, what it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    /// `&["lease", "grant"]`.
    pub(crate) path: &'static [&'static str],
    /// What stands behind the words, for people: `<ttl>`.
    pub(crate) usage: &'static str,
    pub(crate) help: &'static str,
    pub(crate) flags: &'static [Flag],
}

/// A tool: its name, its flags for all commands, its commands.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) globals: &'static [Flag],
    pub(crate) commands: &'static [Command],
    /// `ETCDCTL` lets `ETCDCTL_ENDPOINTS` stand for `--endpoints`.
    pub(crate) env_prefix: Option<&'static str>,
}

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) command: Command,
    /// What is neither a word of the command nor a flag, also all behind `--`.
    pub(crate) args: Vec<String>,
    /// How many of `args` stood before `--`; `None` if there was none.
    pub(crate) separator: Option<usize>,
    values: BTreeMap<&'static str, String>,
    defaults: BTreeMap<&'static str, &'static str>,
}

/// What a command line comes to.
#[derive(Debug)]
pub(crate) enum Line {
    /// Run this.
    Run(Box<Parsed>),
    /// Print this and succeed: help was asked for.
    Help(String),
}

impl Tool {
    /// Parses a command line, with `env` for what it leaves open.
    pub(crate) fn parse(
        &self,
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Line, Failure> {
        let words = self.words(args);
        let help = args
            .iter()
            .take_while(|arg| *arg != "--")
            .any(|arg| arg == "--help" || arg == "-h");
        let Some(command) = self.find(&words, help)? else {
            if !help {
                self.check_globals(args, &words)?;
            }
            return Ok(Line::Help(self.help(&words)));
        };
        let mut parsed = Parsed {
            command,
            args: Vec::new(),
            separator: None,
            values: BTreeMap::new(),
            defaults: self
                .globals
                .iter()
                .chain(command.flags)
                .map(|flag| (flag.name, flag.default))
                .collect(),
        };
        let mut words_left = command.path.len();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if arg == "--" {
                parsed.separator = Some(parsed.args.len());
                parsed.args.extend(rest.by_ref().cloned());
            } else if arg == "--help" || arg == "-h" {
                return Ok(Line::Help(self.command_help(&command)));
            } else if arg.len() > 1 && arg.starts_with('-') {
                self.parse_flag(arg, &mut rest, &mut parsed)?;
            } else if words_left > 0 {
                words_left -= 1;
            } else {
                parsed.args.push(arg.clone());
            }
        }
        self.take_env(env, &mut parsed)?;
        Ok(Line::Run(Box::new(parsed)))
    }

    /// The words of a line up to `--`, without flags and their values.
    fn words(&self, args: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        let mut rest = args.iter().take_while(|arg| *arg != "--");
        while let Some(arg) = rest.next() {
            if !arg.starts_with('-') || arg.len() == 1 {
                words.push(arg.clone());
                continue;
            }
            if arg.contains('=') {
                continue;
            }
            let flags = || {
                self.globals
                    .iter()
                    .chain(self.commands.iter().flat_map(|command| command.flags))
            };
            let known = match arg.strip_prefix("--") {
                Some(name) => flags().find(|flag| flag.name == name),
                None if arg.chars().count() == 2 => flags().find(|flag| flag.short == arg.chars().nth(1)),
                None => None,
            };
            if known.is_some_and(|flag| flag.kind != Kind::Bool) {
                rest.next();
            }
        }
        words
    }

    /// Finds fault with the flags of a line without a command: a script must not take help on the
    /// standard output for work that was done.
    fn check_globals(&self, args: &[String], words: &[String]) -> Result<(), Failure> {
        let usage = |text: String| Err(Failure::new(EXIT_ERROR, format!("{text}\n{}", self.help(words))));
        let mut rest = args.iter().take_while(|arg| *arg != "--");
        while let Some(arg) = rest.next() {
            if arg.len() == 1 || !arg.starts_with('-') {
                continue;
            }
            let (name, inline) = arg
                .split_once('=')
                .map_or((arg.as_str(), false), |(name, _)| (name, true));
            let known = match name.strip_prefix("--") {
                Some(long) => self.globals.iter().find(|flag| flag.name == long),
                None => {
                    let letter = name.chars().nth(1);
                    let Some(flag) = self.globals.iter().find(|flag| flag.short == letter) else {
                        let letter = letter.map(String::from).unwrap_or_default();
                        return usage(format!("unknown shorthand flag: '{letter}' in {arg}"));
                    };
                    Some(flag)
                }
            };
            let Some(flag) = known else {
                return usage(format!("unknown flag: {name}"));
            };
            let inline = inline || (!name.starts_with("--") && name.chars().count() > 2);
            if !inline && flag.kind != Kind::Bool && rest.next().is_none() {
                return usage(format!("flag needs an argument: {name}"));
            }
        }
        Ok(())
    }

    /// The command that the words begin with; `None` if they only ask for help. Any beginning of a
    /// name will do that no other has (etcd: `cobra.EnablePrefixMatching`). A word that no command
    /// of a group has is an error, where Go's tool shows the group's help and succeeds: it may be
    /// a command that is not there.
    fn find(&self, words: &[String], help: bool) -> Result<Option<Command>, Failure> {
        let mut path: Vec<&'static str> = Vec::new();
        for word in words {
            let mut names: Vec<&'static str> = self
                .commands
                .iter()
                .filter(|command| command.path.starts_with(&path))
                .filter_map(|command| command.path.get(path.len()).copied())
                .filter(|name| name.starts_with(word.as_str()))
                .collect();
            names.dedup();
            match (names.iter().find(|name| *name == word), names.as_slice()) {
                (Some(name), _) | (None, [name]) => path.push(name),
                _ => break,
            }
        }
        if let Some(command) = self.commands.iter().find(|command| command.path == path) {
            return Ok(Some(*command));
        }
        let Some(first) = words.first() else {
            return Ok(None);
        };
        if first == "help" {
            return Ok(None);
        }
        let Some(unknown) = words.get(path.len()).filter(|_| path.is_empty() || !help) else {
            return Ok(None);
        };
        let name = [&[self.name][..], &path].concat().join(" ");
        Err(Failure::new(
            EXIT_ERROR,
            format!("unknown command {unknown:?} for {name:?}\nRun '{name} --help' for usage."),
        ))
    }

    fn parse_flag<'a>(
        &self,
        arg: &str,
        rest: &mut impl Iterator<Item = &'a String>,
        parsed: &mut Parsed,
    ) -> Result<(), Failure> {
        let usage = |text: String| {
            Failure::new(
                EXIT_ERROR,
                format!("{text}\n{}", self.command_help(&parsed.command)),
            )
        };
        let flags = || parsed.command.flags.iter().chain(self.globals);
        let (flag, inline, shown) = if let Some(long) = arg.strip_prefix("--") {
            let (name, inline) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (long, None),
            };
            (
                flags().find(|flag| flag.name == name),
                inline,
                format!("--{name}"),
            )
        } else {
            let mut letters = arg[1..].chars();
            let letter = letters.next();
            let tail = letters.as_str();
            let inline = (!tail.is_empty()).then(|| tail.strip_prefix('=').unwrap_or(tail).to_string());
            let letter_text = letter.map(String::from).unwrap_or_default();
            let flag = flags().find(|flag| flag.short == letter);
            if flag.is_none() {
                return Err(usage(format!("unknown shorthand flag: '{letter_text}' in {arg}")));
            }
            (flag, inline, format!("-{letter_text}"))
        };
        let Some(flag) = flag else {
            return Err(usage(format!("unknown flag: {shown}")));
        };
        let value = match (inline, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_string(),
            (None, _) => match rest.next() {
                Some(value) => value.clone(),
                None => return Err(usage(format!("flag needs an argument: {shown}"))),
            },
        };
        check(flag, &value).map_err(|why| {
            let shown = flag
                .short
                .map_or(format!("--{}", flag.name), |s| format!("-{s}, --{}", flag.name));
            usage(format!("invalid argument {value:?} for {shown:?} flag: {why}"))
        })?;
        if let (Kind::List, Some(before)) = (flag.kind, parsed.values.get_mut(flag.name)) {
            before.push(',');
            before.push_str(&value);
        } else {
            parsed.values.insert(flag.name, value);
        }
        Ok(())
    }

    fn take_env(&self, env: &dyn Fn(&str) -> Option<String>, parsed: &mut Parsed) -> Result<(), Failure> {
        let Some(prefix) = self.env_prefix else {
            return Ok(());
        };
        for flag in self.globals {
            let name = format!("{prefix}_{}", flag.name.to_uppercase().replace('-', "_"));
            let Some(value) = env(&name).filter(|value| !value.is_empty()) else {
                continue;
            };
            if parsed.values.contains_key(flag.name) {
                return Err(Failure::new(
                    EXIT_ERROR,
                    format!(
                        "conflicting environment variable {name:?} is shadowed by corresponding command-line flag \
                         (either unset environment variable or disable flag)"
                    ),
                ));
            }
            check(flag, &value).map_err(|why| {
                Failure::new(EXIT_ERROR, format!("invalid value {value:?} for {name}: {why}"))
            })?;
            parsed.values.insert(flag.name, value);
        }
        Ok(())
    }

    fn help(&self, words: &[String]) -> String {
        let group: Vec<&String> = words.iter().filter(|word| *word != "help").collect();
        let mut text = format!(
            "{}\n\nUsage:\n  {} [command]\n\nCommands:\n",
            self.about, self.name
        );
        let begins = |command: &&Command| {
            group.iter().zip(command.path).all(|(word, part)| *word == part) || group.is_empty()
        };
        let shown: Vec<&Command> = self.commands.iter().filter(begins).collect();
        let width = shown
            .iter()
            .map(|command| command.path.join(" ").len())
            .max()
            .unwrap_or(0);
        for command in shown {
            text.push_str(&format!(
                "  {:width$}  {}\n",
                command.path.join(" "),
                command.help
            ));
        }
        text.push_str("\nGlobal flags:\n");
        text.push_str(&flag_lines(self.globals));
        text.push_str(&format!(
            "\nUse \"{} [command] --help\" for more information about a command.",
            self.name
        ));
        text
    }

    /// The flags of all commands, a line each.
    pub(crate) fn global_flags(&self) -> String {
        flag_lines(self.globals)
    }

    fn command_help(&self, command: &Command) -> String {
        let mut text = format!(
            "Usage:\n  {} {} {} [flags]\n",
            self.name,
            command.path.join(" "),
            command.usage
        );
        if !command.flags.is_empty() {
            text.push_str("\nFlags:\n");
            text.push_str(&flag_lines(command.flags));
        }
        text
    }
}

fn flag_lines(flags: &[Flag]) -> String {
    let left = |flag: &Flag| {
        let short = flag
            .short
            .map_or("    ".to_string(), |letter| format!("-{letter}, "));
        format!("  {short}--{} {}", flag.name, flag.kind.name())
    };
    let width = flags.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    let mut text = String::new();
    for flag in flags {
        let default = if matches!(flag.default, "" | "0" | "false") {
            String::new()
        } else {
            format!(" (default {})", flag.default)
        };
        text.push_str(&format!("{:width$}  {}{default}\n", left(flag), flag.help));
    }
    text
}

fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match flag.kind {
        Kind::Text | Kind::List => Ok(()),
        Kind::Bool => parse_bool(value)
            .map(|_| ())
            .ok_or_else(|| format!("strconv.ParseBool: parsing {value:?}: invalid syntax")),
        Kind::Int => parse_int(value).map(|_| ()),
        Kind::Duration => crate::text::parse_duration(value)
            .map(|_| ())
            .ok_or_else(|| format!("time: invalid duration {value:?}")),
    }
}

fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A decimal number, with Go's words for what is not one.
pub(crate) fn parse_int(value: &str) -> Result<i64, String> {
    parse_radix(value, 10)
}

/// A number of the given base, with Go's words for what is not one.
pub(crate) fn parse_radix(value: &str, radix: u32) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    i64::from_str_radix(value, radix).map_err(|error| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {value:?}: {why}")
    })
}

/// A member's ID in hex digits, with Go's words for what is not one.
pub(crate) fn parse_id(value: &str) -> Result<u64, String> {
    let error = match u64::from_str_radix(value, 16) {
        Ok(id) if !value.starts_with('+') => return Ok(id),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    Err(format!("strconv.ParseUint: parsing {value:?}: {error}"))
}

impl Parsed {
    /// The value of a flag, or its default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(value) => value,
            None => self.defaults.get(name).copied().unwrap_or_default(),
        }
    }

    /// Whether the flag was given.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A boolean flag.
    pub(crate) fn is(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// A number; its syntax was checked when it was parsed.
    pub(crate) fn int(&self, name: &str) -> i64 {
        parse_int(self.text(name)).unwrap_or(0)
    }

    /// A duration; its syntax was checked when it was parsed.
    pub(crate) fn duration(&self, name: &str) -> std::time::Duration {
        crate::text::parse_duration(self.text(name)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool = Tool {
        name: "tool",
        about: "A tool.",
        globals: &[
            Flag {
                name: "write-out",
                short: Some('w'),
                kind: Kind::Text,
                default: "simple",
                help: "format",
            },
            flag("endpoints", Kind::List, "127.0.0.1:2379", "endpoints"),
            flag("command-timeout", Kind::Duration, "5s", "timeout"),
        ],
        commands: &[
            Command {
                path: &["get"],
                usage: "<key>",
                help: "Gets",
                flags: &[
                    flag("prefix", Kind::Bool, "false", "prefix"),
                    flag("rev", Kind::Int, "0", "revision"),
                ],
            },
            Command {
                path: &["lease", "grant"],
                usage: "<ttl>",
                help: "Grants",
                flags: &[],
            },
        ],
        env_prefix: Some("TOOL"),
    };

    fn parse(line: &str, env: &[(&str, &str)]) -> Result<Line, Failure> {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        TOOL.parse(&args, &|name| {
            env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
        })
    }

    #[track_caller]
    fn check(line: &str, env: &[(&str, &str)], expected: &str) {
        let shown = match parse(line, env) {
            Ok(Line::Run(parsed)) => format!(
                "{} {:?} {:?}",
                parsed.command.path.join(" "),
                parsed.args,
                parsed.values
            ),
            Ok(Line::Help(text)) => text.lines().next().unwrap_or_default().to_string(),
            Err(failure) => format!(
                "{}: {}",
                failure.code,
                failure.text.lines().next().unwrap_or_default()
            ),
        };
        assert_eq!(shown, expected, "{line}");
    }

    #[test]
    fn lines() {
        check("get a", &[], r#"get ["a"] {}"#);
        check(
            "get a -w json -w=fields --rev 3",
            &[],
            r#"get ["a"] {"rev": "3", "write-out": "fields"}"#,
        );
        check("-wjson get a b", &[], r#"get ["a", "b"] {"write-out": "json"}"#);
        check("--endpoints get get a", &[], r#"get ["a"] {"endpoints": "get"}"#);
        check("get --prefix a", &[], r#"get ["a"] {"prefix": "true"}"#);
        check("get a -- --rev", &[], r#"get ["a", "--rev"] {}"#);
        check("lease grant 60", &[], r#"lease grant ["60"] {}"#);
        check("get -", &[], r#"get ["-"] {}"#);
        check("get --nope", &[], "1: unknown flag: --nope");
        check("get -x", &[], "1: unknown shorthand flag: 'x' in -x");
        check("get --rev", &[], "1: flag needs an argument: --rev");
        check(
            "get --rev=x",
            &[],
            r#"1: invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        );
        check("lease g 60", &[], r#"lease grant ["60"] {}"#);
        check("le grant 60", &[], r#"lease grant ["60"] {}"#);
        check("getting a", &[], r#"1: unknown command "getting" for "tool""#);
        check(
            "get a --endpoints x --endpoints=y,z",
            &[],
            r#"get ["a"] {"endpoints": "x,y,z"}"#,
        );
        check("nope", &[], r#"1: unknown command "nope" for "tool""#);
        check("", &[], "A tool.");
        check("lease", &[], "A tool.");
        check("lease nope", &[], r#"1: unknown command "nope" for "tool lease""#);
        check("lease nope --help", &[], "A tool.");
        check("help nope", &[], "A tool.");
        check("-w json", &[], "A tool.");
        check("--nosuch", &[], "1: unknown flag: --nosuch");
        check("lease --nosuch=1", &[], "1: unknown flag: --nosuch");
        check("-z", &[], "1: unknown shorthand flag: 'z' in -z");
        check("--endpoints", &[], "1: flag needs an argument: --endpoints");
        check("--nosuch get a", &[], "1: unknown flag: --nosuch");
        check("get -h", &[], "Usage:");
        check(
            "get a",
            &[("TOOL_ENDPOINTS", "x:1")],
            r#"get ["a"] {"endpoints": "x:1"}"#,
        );
        check(
            "get a --endpoints y",
            &[("TOOL_ENDPOINTS", "x:1")],
            "1: conflicting environment variable \"TOOL_ENDPOINTS\" is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag)",
        );
    }
}
