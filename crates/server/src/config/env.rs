//! `ETCD_*` variables, by etcd's rules (pkg/flags/flag.go). Never reads the real environment: it
//! is an argument.

use super::flags::Target;
use super::value::{self, quote};
use super::{ConfigError, Given, HIDDEN, Notice};

/// The variable of a flag: `ETCD_DATA_DIR` of `data-dir`.
pub fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

/// Variables that programs set for etcd and that are no flags.
const KNOWN: [&str; 2] = ["ETCD_VERIFY", "ETCD_UNSUPPORTED_ARCH"];

/// Takes settings from variables. A flag and its variable both given are an error, as they are
/// for etcd; an unknown variable is a warning.
pub fn apply(
    env: &[(String, String)],
    given: &mut Given,
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    for (name, _) in env {
        if given.names().any(|flag| variable(flag) == *name) {
            return Err(ConfigError::Shadowed(name.clone()));
        }
    }
    let mut used = Vec::new();
    let mut failure = None;
    for flag in Target::all() {
        let name = variable(flag);
        let found = env.iter().find(|(key, value)| *key == name && !value.is_empty());
        let (Some((_, text)), Some(target)) = (found, Target::find(flag)) else {
            continue;
        };
        used.push(name.clone());
        match value::parse(target.kind, text) {
            Ok(value) => {
                notices.push(
                    Notice::info("recognized and used environment variable")
                        .with("variable-name", &name)
                        .with(
                            "variable-value",
                            if name.ends_with("PASSWORD") { HIDDEN } else { text },
                        ),
                );
                target.give(value, given, notices);
            }
            Err(error) => {
                failure = Some(format!("invalid value {} for {name}: {error}", quote(text)));
            }
        }
    }
    for (name, value) in env {
        let known = used.contains(name) || KNOWN.contains(&name.as_str());
        if name.starts_with("ETCD_") && !known {
            let variable = format!("{name}={value}");
            notices.push(
                Notice::warn("unrecognized environment variable").with("environment-variable", &variable),
            );
        }
    }
    failure.map_or(Ok(()), |text| Err(ConfigError::Invalid(text)))
}

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_string(), (*v).to_string()))
            .collect()
    }

    #[test]
    fn variables_are_used_warned_of_or_refused() {
        let (mut given, mut notices) = (Given::default(), Vec::new());
        let vars = env(&[
            ("ETCD_NAME", "x"),
            ("ETCD_FOO", "3"),
            ("ETCD_VERIFY", "all"),
            ("ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "1s"),
            ("ETCD_MAX_WALS", ""),
            ("PATH", "/bin"),
        ]);
        apply(&vars, &mut given, &mut notices).unwrap();
        assert_eq!(given.get("name"), Some(&Value::Text("x".into())));
        assert_eq!(
            given.get("corrupt-check-time"),
            Some(&Value::Span(value::Span::from_millis(1000)))
        );
        assert_eq!(given.get("max-wals"), None);
        let warned: Vec<String> = notices.iter().map(Notice::to_string).collect();
        assert!(
            warned.contains(&"unrecognized environment variable environment-variable=ETCD_FOO=3".to_string()),
            "{warned:?}"
        );
        // etcd itself warns of an empty variable of a flag, too; of VERIFY it knows.
        assert_eq!(warned.iter().filter(|w| w.starts_with("unrecognized")).count(), 2);

        let mut given = Given::default();
        given.set("name", Value::Text("y".into()));
        let shadowed = apply(&vars, &mut given, &mut Vec::new());
        assert_eq!(shadowed, Err(ConfigError::Shadowed("ETCD_NAME".into())));

        let bad = apply(
            &env(&[("ETCD_HEARTBEAT_INTERVAL", "x")]),
            &mut Given::default(),
            &mut Vec::new(),
        );
        let text = "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error";
        assert_eq!(bad, Err(ConfigError::Invalid(text.into())));
    }
}
