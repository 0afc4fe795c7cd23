//! The texts of `--help` and `--version`. Made from the table of flags.

use std::fmt::Write;

use api::version::Line;

use super::table::FLAGS;

/// What precedes the flags, and follows an error in them.
pub const USAGE: &str = "Usage:

  etcd [flags]
    Run a server.

  etcd --version
    Show the version.

  etcd -h | --help
    Show this help.

  etcd --config-file
    Run a server with the settings of a YAML file. Flags and environment variables are then ignored.
    Spans of time may be written as on the command line, or as a number of nanoseconds.
";

/// All flags with their defaults.
pub fn flags() -> String {
    let mut out = String::new();
    let mut section = "";
    for flag in FLAGS.iter().filter(|flag| !flag.section.is_empty()) {
        if flag.section != section {
            section = flag.section;
            let _ = write!(out, "\n{section}:\n");
        }
        let _ = writeln!(out, "  --{} '{}'\n    {}", flag.name, flag.default, flag.help);
    }
    out
}

/// What `--version` prints: the first line is etcd's, for programs that parse it.
pub fn version(line: Line) -> String {
    format!(
        "etcd Version: {}\nGit SHA: {}\nMainstay Version: {}\nOS/Arch: {}/{}\n",
        line.release(),
        option_env!("MAINSTAY_GIT_SHA").unwrap_or("Not provided"),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        arch(),
    )
}

/// The architecture by Go's name.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_flag_and_version_comes_first() {
        let text = flags();
        for flag in FLAGS.iter().filter(|flag| !flag.section.is_empty()) {
            assert!(text.contains(&format!("\n  --{} '", flag.name)), "{}", flag.name);
        }
        assert!(version(Line::V3_6).starts_with("etcd Version: 3.6.14\n"));
    }
}
