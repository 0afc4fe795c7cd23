//! `--config-file`: YAML whose keys are the flags' names (server/embed/config.go, `Config` and
//! `configYAML`). Never opens the file.

use yaml_rust2::{Yaml, YamlLoader};

use super::flags::Target;
use super::value::{self, Kind, Span, Value, quote};
use super::{ConfigError, Given, Notice};

/// Maps whose entries are flags under a prefix, and how an entry's name becomes the flag's.
const MAPS: [(&str, &str); 4] = [
    ("client-transport-security", ""),
    ("peer-transport-security", "peer-"),
    ("socket-options", "socket-"),
    ("discovery-config", "discovery-"),
];

/// Takes all settings from the text of a configuration file.
pub fn apply(text: &str, given: &mut Given, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    let documents = YamlLoader::load_from_str(text)
        .map_err(|error| ConfigError::Invalid(format!("error converting YAML to JSON: yaml: {error}")))?;
    let Some(Yaml::Hash(settings)) = documents.first() else {
        return match documents.first() {
            None | Some(Yaml::Null) => Ok(()),
            Some(_) => Err(ConfigError::Invalid(
                "the configuration file is not a map of settings".into(),
            )),
        };
    };
    for (key, value) in settings {
        let Some(key) = key.as_str() else { continue };
        match MAPS.iter().find(|(map, _)| *map == key) {
            Some((_, prefix)) => apply_map(key, prefix, value, given, notices)?,
            None => apply_one(key, key, value, given, notices)?,
        }
    }
    Ok(())
}

fn apply_map(
    map: &str,
    prefix: &str,
    value: &Yaml,
    given: &mut Given,
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    let Yaml::Hash(entries) = value else {
        return match value {
            Yaml::Null => Ok(()),
            _ => Err(ConfigError::Invalid(format!("invalid {map}"))),
        };
    };
    for (key, value) in entries {
        let Some(key) = key.as_str() else { continue };
        let flag = match (map, key) {
            ("client-transport-security", "allowed-hostname") => "client-cert-allowed-hostname".to_string(),
            ("peer-transport-security", "allowed-cn" | "allowed-hostname") => format!("peer-cert-{key}"),
            // Without "transport-security", as with the flags of the same names.
            _ => format!("{prefix}{key}"),
        };
        apply_one(key, &flag, value, given, notices)?;
    }
    Ok(())
}

/// One setting. Keys that are no flags are passed over: Go's decoder does so as well.
fn apply_one(
    key: &str,
    flag: &str,
    value: &Yaml,
    given: &mut Given,
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    let Some(target) = Target::find(flag) else {
        notices.push(Notice::warn("unknown setting in the configuration file").with("key", key));
        return Ok(());
    };
    if matches!(value, Yaml::Null) {
        return Ok(());
    }
    let bad = |reason: &str| ConfigError::Invalid(format!("invalid value for {key}: {reason}"));
    let value = match (target.kind, value) {
        // Go's decoder knows numbers only; people write what the flags take.
        (Kind::Span, Yaml::Integer(nanos)) => Value::Span(Span(*nanos)),
        (Kind::Bool, Yaml::Boolean(on)) => Value::Bool(*on),
        (Kind::Bool, _) => return Err(bad("expected true or false")),
        (_, Yaml::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            let joined = texts.ok_or_else(|| bad("expected a list of texts"))?.join(",");
            value::parse(target.kind, &joined).map_err(|error| bad(&error))?
        }
        (kind, scalar_value) => {
            let text = scalar(scalar_value).ok_or_else(|| bad("expected a single value"))?;
            value::parse(kind, &text).map_err(|error| bad(&format!("{}: {error}", quote(&text))))?
        }
    };
    target.give(value, given, notices);
    Ok(())
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Given, Vec<Notice>), ConfigError> {
        let (mut given, mut notices) = (Given::default(), Vec::new());
        apply(text, &mut given, &mut notices)?;
        Ok((given, notices))
    }

    #[test]
    fn settings_of_all_kinds_are_read() {
        let (given, notices) = read(
            "name: m1\nsnapshot-count: 10\nheartbeat-interval: 100\nlog-outputs: [stderr, /tmp/x]\n\
             watch-progress-notify-interval: 5000000000\nbackend-batch-interval: 50ms\n\
             listen-client-urls: http://127.0.0.1:2379,http://127.0.0.1:1\n\
             client-transport-security:\n  cert-file: /c\n  client-cert-auth: true\n\
             peer-transport-security:\n  cert-file: /p\n  allowed-cn: [a, b]\n\
             socket-options:\n  reuse-port: true\nsomething: else\nlogger:\n",
        )
        .unwrap();
        assert_eq!(given.get("name"), Some(&Value::Text("m1".into())));
        assert_eq!(given.get("snapshot-count"), Some(&Value::Uint(10)));
        assert_eq!(
            given.get("watch-progress-notify-interval"),
            Some(&Value::Span(Span::from_millis(5000)))
        );
        assert_eq!(
            given.get("backend-batch-interval"),
            Some(&Value::Span(Span::from_millis(50)))
        );
        assert_eq!(given.get("cert-file"), Some(&Value::Text("/c".into())));
        assert_eq!(given.get("client-cert-auth"), Some(&Value::Bool(true)));
        assert_eq!(given.get("peer-cert-file"), Some(&Value::Text("/p".into())));
        assert_eq!(
            given.get("peer-cert-allowed-cn"),
            Some(&Value::List(vec!["a".into(), "b".into()]))
        );
        assert_eq!(given.get("socket-reuse-port"), Some(&Value::Bool(true)));
        assert_eq!(
            given.get("log-outputs"),
            Some(&Value::List(vec!["/tmp/x".into(), "stderr".into()]))
        );
        assert_eq!(given.get("logger"), None);
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn wrong_files_are_refused() {
        for text in [
            "name: [",
            "- a\n- b",
            "pre-vote: maybe",
            "max-wals: x",
            "peer-transport-security: 3",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("").is_ok());
    }
}
