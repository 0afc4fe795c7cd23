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
    (DISCOVERY, "discovery-"),
];

/// Within it its client's settings are a map, of which two are maps again (client/v3/config.go, ConfigSpec).
const DISCOVERY: &str = "discovery-config";

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
        if matches!((map, key), (DISCOVERY, "client") | ("client", "secure" | "auth")) {
            apply_map(key, prefix, value, given, notices)?;
            continue;
        }
        let flag = match (map, key) {
            ("auth", "username") => "discovery-user".to_string(),
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
    let mistyped = || ConfigError::Invalid(type_error(key, target, value));
    let parse = |text: &str| match value::parse(target.kind, text) {
        Ok(value) => Ok(value),
        Err(error) => Err(match target.kind {
            Kind::Bool | Kind::Uint | Kind::Uint32 | Kind::Int | Kind::Span => mistyped(),
            Kind::Gates => ConfigError::Invalid(error),
            // embed/config.go and its users check these by themselves.
            Kind::OneOf(_) if key == "initial-cluster-state" => {
                ConfigError::Invalid(format!("unexpected clusterState {}", quote(text)))
            }
            _ => ConfigError::Invalid(format!("invalid value for {key}: {}: {error}", quote(text))),
        }),
    };
    let value = match (target.kind, value) {
        // Go's decoder knows numbers only; people write what the flags take.
        (Kind::Span, Yaml::Integer(nanos)) => Value::Span(Span(*nanos)),
        (Kind::Bool, Yaml::Boolean(on)) => Value::Bool(*on),
        (Kind::Bool, _) => return Err(mistyped()),
        // etcd looks at this one on the command line alone.
        (Kind::SomeOf(choices), _) => Value::Text(choices.first().copied().unwrap_or_default().to_string()),
        (Kind::Set | Kind::List | Kind::Urls | Kind::Origins, Yaml::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            parse(&texts.ok_or_else(mistyped)?.join(","))?
        }
        (_, single) => parse(&scalar(single).ok_or_else(mistyped)?)?,
    };
    target.give(value, given, notices);
    Ok(())
}

/// The words of Go's decoder for a value of the wrong type (encoding/json, UnmarshalTypeError).
fn type_error(key: &str, target: Target, value: &Yaml) -> String {
    let found = match value {
        Yaml::String(_) => "string".to_string(),
        Yaml::Boolean(_) => "bool".to_string(),
        Yaml::Array(_) => "array".to_string(),
        Yaml::Hash(_) => "object".to_string(),
        Yaml::Integer(number) if matches!(target.kind, Kind::Uint | Kind::Uint32 | Kind::Int) => {
            format!("number {number}")
        }
        Yaml::Real(number) if matches!(target.kind, Kind::Uint | Kind::Uint32 | Kind::Int) => {
            format!("number {number}")
        }
        _ => "number".to_string(),
    };
    let wanted = match (target.kind, target.name) {
        (_, "snapshot-count" | "snapshot-catchup-entries") => "uint64",
        (_, "quota-backend-bytes") => "int64",
        (Kind::Bool, _) => "bool",
        (Kind::Uint, _) => "uint",
        (Kind::Uint32, _) => "uint32",
        (Kind::Int, _) => "int",
        (Kind::Span, _) => "time.Duration",
        (Kind::List | Kind::Set, "log-outputs" | "cipher-suites" | "discovery-endpoints") => "[]string",
        _ => "string",
    };
    format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go struct field configYAML.Config.{key} of type {wanted}"
    )
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

    /// Texts of etcd 3.7.1.
    #[test]
    fn values_of_the_wrong_type_are_refused_in_the_words_of_go() {
        for (text, error) in [
            (
                "snapshot-count: abc",
                "cannot unmarshal string into Go struct field configYAML.Config.snapshot-count of type uint64",
            ),
            (
                "pre-vote: \"false\"",
                "cannot unmarshal string into Go struct field configYAML.Config.pre-vote of type bool",
            ),
            (
                "max-snapshots: -1",
                "cannot unmarshal number -1 into Go struct field configYAML.Config.max-snapshots of type uint",
            ),
            (
                "max-learners: 1.5",
                "cannot unmarshal number 1.5 into Go struct field configYAML.Config.max-learners of type int",
            ),
            (
                "name: [a]",
                "cannot unmarshal array into Go struct field configYAML.Config.name of type string",
            ),
        ] {
            let error = format!("error unmarshaling JSON: while decoding JSON: json: {error}");
            assert_eq!(read(text).err(), Some(ConfigError::Invalid(error)), "{text}");
        }
        for (text, error) in [
            ("feature-gates: Foo=true", "unrecognized feature gate: Foo"),
            ("initial-cluster-state: zz", "unexpected clusterState \"zz\""),
        ] {
            assert_eq!(
                read(text).err(),
                Some(ConfigError::Invalid(error.to_string())),
                "{text}"
            );
        }
        let (given, _) = read("v2-deprecation: not-yet").unwrap();
        assert_eq!(
            given.get("v2-deprecation"),
            Some(&Value::Text("write-only".into()))
        );
    }

    #[test]
    fn the_discovery_service_is_read() {
        let (given, notices) = read(
            "discovery-config:\n  token: t\n  client:\n    endpoints: [b:1, a:1]\n    dial-timeout: 3000000000\n\
             \x20   secure:\n      cert: /c\n      insecure-transport: false\n    auth:\n      username: u\n      password: p\n",
        )
        .unwrap();
        for (flag, expect) in [
            ("discovery-token", Value::Text("t".into())),
            (
                "discovery-endpoints",
                Value::List(vec!["a:1".into(), "b:1".into()]),
            ),
            ("discovery-dial-timeout", Value::Span(Span::from_millis(3000))),
            ("discovery-cert", Value::Text("/c".into())),
            ("discovery-insecure-transport", Value::Bool(false)),
            ("discovery-user", Value::Text("u".into())),
            ("discovery-password", Value::Text("p".into())),
        ] {
            assert_eq!(given.get(flag), Some(&expect), "{flag}");
        }
        assert_eq!(notices.len(), 0, "{notices:?}");
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
