//! completion: scripts by which shells complete the words and flags of a tool, made from its table of
//! commands. Never asks a server.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::flags::{Command, Flag, Tool};
use crate::{EXIT_ERROR, Failure};

/// The command of both tools.
pub(crate) const COMPLETION: Command = Command {
    path: &["completion"],
    usage: "[bash|zsh|fish|powershell]",
    help: "Generate completion script",
    flags: &[],
};

const SHELLS: [&str; 4] = ["bash", "zsh", "fish", "powershell"];

/// Prints the script for a shell.
pub(crate) fn print(tool: &Tool, args: &[String]) -> Result<(), Failure> {
    let failed = |text: String| Err(Failure::new(EXIT_ERROR, text));
    let [shell] = args else {
        return failed(format!("accepts 1 arg(s), received {}", args.len()));
    };
    if !SHELLS.contains(&shell.as_str()) {
        return failed(format!(
            "invalid argument {shell:?} for \"{} completion\": give one of {}",
            tool.name,
            SHELLS.join(", ")
        ));
    }
    say!("{}", script(tool, shell).trim_end());
    Ok(())
}

fn script(tool: &Tool, shell: &str) -> String {
    let places = places(tool);
    match shell {
        "fish" => fish(tool, &places),
        "powershell" => powershell(tool, &places),
        "zsh" => format!(
            "#compdef {0}\nautoload -U +X bashcompinit && bashcompinit\n{1}",
            tool.name,
            bash(tool, &places)
        ),
        _ => bash(tool, &places),
    }
}

/// What may follow at one place of a line.
#[derive(Default)]
struct Place {
    words: Vec<&'static str>,
    flags: Vec<Flag>,
}

/// The places of a tool by the words before them: `""`, `"lease"`, `"lease grant"`.
fn places(tool: &Tool) -> BTreeMap<String, Place> {
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for command in tool.commands {
        for (depth, word) in command.path.iter().enumerate() {
            let words = &mut places.entry(command.path[..depth].join(" ")).or_default().words;
            if !words.contains(word) {
                words.push(word);
            }
        }
        let place = places.entry(command.path.join(" ")).or_default();
        place.flags.extend(command.flags);
        if command.path == COMPLETION.path {
            place.words.extend(SHELLS);
        }
    }
    places
}

fn flag_words(flags: &[Flag]) -> String {
    let words: Vec<String> = flags.iter().map(|flag| format!("--{}", flag.name)).collect();
    words.join(" ")
}

fn bash(tool: &Tool, places: &BTreeMap<String, Place>) -> String {
    let name = tool.name;
    let known: Vec<String> = places
        .keys()
        .filter(|path| !path.is_empty())
        .map(|path| format!("\" {path}\""))
        .collect();
    let mut cases = String::new();
    for (path, place) in places {
        let path = if path.is_empty() {
            String::new()
        } else {
            format!(" {path}")
        };
        let (words, flags) = (place.words.join(" "), flag_words(&place.flags));
        let _ = writeln!(
            cases,
            "        \"{path}\") words=\"{words}\"; flags=\"{flags}\" ;;"
        );
    }
    let globals = flag_words(tool.globals);
    let known = known.join(" | ");
    format!(
        "# bash completion for {name}\n\
         _{name}() {{\n\
         \x20   local cur=\"${{COMP_WORDS[COMP_CWORD]}}\" path=\"\" words=\"\" flags=\"\" at\n\
         \x20   for ((at = 1; at < COMP_CWORD; at++)); do\n\
         \x20       case \"$path ${{COMP_WORDS[at]}}\" in\n\
         \x20           {known}) path=\"$path ${{COMP_WORDS[at]}}\" ;;\n\
         \x20       esac\n\
         \x20   done\n\
         \x20   case \"$path\" in\n{cases}\x20   esac\n\
         \x20   case \"$cur\" in\n\
         \x20       -*) words=\"$flags {globals} --help\" ;;\n\
         \x20   esac\n\
         \x20   COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\
         }}\n\
         complete -o default -F _{name} {name}\n"
    )
}

fn fish(tool: &Tool, places: &BTreeMap<String, Place>) -> String {
    let name = tool.name;
    let mut out = format!("# fish completion for {name}\n");
    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut flag_line = |condition: &str, flag: &Flag| {
        let short = flag.short.map_or(String::new(), |letter| format!(" -s {letter}"));
        let _ = writeln!(
            out,
            "complete -c {name}{condition}{short} -l {} -d '{}'",
            flag.name,
            quote(flag.help)
        );
    };
    for flag in tool.globals {
        flag_line("", flag);
    }
    for (path, place) in places {
        let seen: Vec<String> = path
            .split_whitespace()
            .map(|word| format!("__fish_seen_subcommand_from {word}"))
            .collect();
        let here = match seen.is_empty() {
            true => "__fish_use_subcommand".to_string(),
            false => seen.join("; and "),
        };
        for flag in &place.flags {
            flag_line(&format!(" -n '{here}'"), flag);
        }
    }
    for (path, place) in places.iter().filter(|(_, place)| !place.words.is_empty()) {
        let seen: Vec<String> = path
            .split_whitespace()
            .map(|word| format!("__fish_seen_subcommand_from {word}"))
            .collect();
        let words = place.words.join(" ");
        let here = match seen.is_empty() {
            true => "__fish_use_subcommand".to_string(),
            false => format!(
                "{}; and not __fish_seen_subcommand_from {words}",
                seen.join("; and ")
            ),
        };
        let _ = writeln!(out, "complete -c {name} -f -n '{here}' -a '{words}'");
    }
    out
}

fn powershell(tool: &Tool, places: &BTreeMap<String, Place>) -> String {
    let name = tool.name;
    let list = |words: &str| {
        let words: Vec<String> = words.split_whitespace().map(|word| format!("'{word}'")).collect();
        format!("@({})", words.join(", "))
    };
    let (mut words, mut flags) = (String::new(), String::new());
    for (path, place) in places {
        let _ = writeln!(words, "    '{path}' = {}", list(&place.words.join(" ")));
        let _ = writeln!(flags, "    '{path}' = {}", list(&flag_words(&place.flags)));
    }
    let globals = list(&format!("{} --help", flag_words(tool.globals)));
    format!(
        "# powershell completion for {name}\n\
         Register-ArgumentCompleter -Native -CommandName '{name}' -ScriptBlock {{\n\
         \x20   param($wordToComplete, $commandAst, $cursorPosition)\n\
         \x20   $words = @{{\n{words}\x20   }}\n\
         \x20   $flags = @{{\n{flags}\x20   }}\n\
         \x20   $path = ''\n\
         \x20   foreach ($element in $commandAst.CommandElements | Select-Object -Skip 1) {{\n\
         \x20       $next = (\"$path $element\").Trim()\n\
         \x20       if ($words.ContainsKey($next) -and \"$element\" -ne $wordToComplete) {{ $path = $next }}\n\
         \x20   }}\n\
         \x20   $found = if ($wordToComplete.StartsWith('-')) {{ $flags[$path] + {globals} }} else {{ $words[$path] }}\n\
         \x20   $found | Where-Object {{ $_ -like \"$wordToComplete*\" }} | ForEach-Object {{\n\
         \x20       [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)\n\
         \x20   }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;
    use crate::flags::{Kind, flag};

    const TOOL: Tool = Tool {
        name: "tool",
        about: "",
        globals: &[flag("endpoints", Kind::List, "", "where")],
        commands: &[
            Command {
                path: &["lease", "grant"],
                usage: "",
                help: "",
                flags: &[flag("ttl", Kind::Int, "0", "it's time")],
            },
            Command {
                path: &["lease", "list"],
                usage: "",
                help: "",
                flags: &[],
            },
            COMPLETION,
        ],
        env_prefix: None,
    };

    /// What bash offers for the last word of a line.
    fn offered(line: &[&str]) -> String {
        let words: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
        let (words, at) = (words.join(" "), line.len() - 1);
        let ask = format!(
            "{}\nCOMP_WORDS=({words}); COMP_CWORD={at}; _tool; echo \"${{COMPREPLY[*]}}\"",
            script(&TOOL, "bash")
        );
        let output = Process::new("bash").args(["-c", &ask]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    #[test]
    fn bash_completes_words_and_flags() {
        for (line, expect) in [
            (&["tool", ""][..], "lease completion"),
            (&["tool", "le"], "lease"),
            (&["tool", "lease", ""], "grant list"),
            (&["tool", "--endpoints", "x", "lease", "g"], "grant"),
            (&["tool", "lease", "grant", "--t"], "--ttl"),
            (&["tool", "lease", "list", "--"], "--endpoints --help"),
            (&["tool", "completion", "z"], "zsh"),
        ] {
            assert_eq!(offered(line), expect, "{line:?}");
        }
    }

    #[test]
    fn every_shell_gets_every_word_and_flag() {
        for shell in SHELLS {
            let script = script(&TOOL, shell);
            for word in ["lease", "grant", "list", "completion", "ttl", "endpoints"] {
                assert!(script.contains(word), "{shell}: {word}\n{script}");
            }
        }
    }

    #[test]
    fn other_shells_are_refused() {
        let refused = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            print(&TOOL, &args).unwrap_err().text
        };
        assert_eq!(refused(&[]), "accepts 1 arg(s), received 0");
        assert!(refused(&["csh"]).starts_with("invalid argument \"csh\" for \"tool completion\""));
    }
}
