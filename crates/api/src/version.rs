//! Versions: of the release that a member reports, of the cluster, of the storage.

use std::fmt;
use std::str::FromStr;

/// A semantic version without suffix, `X.Y.Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// X.
    pub major: u32,
    /// Y.
    pub minor: u32,
    /// Z; 0 in cluster and storage versions.
    pub patch: u32,
}

impl Version {
    /// The version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Version {
        Version { major, minor, patch }
    }

    /// The same version with patch 0, the form of cluster and storage versions.
    pub const fn minor_only(self) -> Version {
        Version { patch: 0, ..self }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that is not a version `X.Y.Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseVersionError(String);

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a version of the form X.Y.Z", self.0)
    }
}

impl std::error::Error for ParseVersionError {}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Accepts `X.Y.Z`, also with a `-pre` or `+build` suffix, which is dropped.
    fn from_str(text: &str) -> Result<Version, ParseVersionError> {
        let error = || ParseVersionError(text.chars().take(64).collect());
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(error());
            }
            part.parse::<u32>().map_err(|_| error())
        });
        let mut next = || parts.next().unwrap_or_else(|| Err(error()));
        let version = Version::new(next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(version)
    }
}

/// The release line whose behaviour a member shows: `--emulated-version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// etcd 3.5.
    V3_5,
    /// etcd 3.6.
    V3_6,
    /// etcd 3.7: what a member is when nothing else is asked for.
    #[default]
    V3_7,
}

impl Line {
    /// The release that a member of this line reports in everything it advertises.
    pub const fn release(self) -> Version {
        match self {
            Line::V3_5 => Version::new(3, 5, 33),
            Line::V3_6 => Version::new(3, 6, 14),
            Line::V3_7 => Version::new(3, 7, 1),
        }
    }

    /// The highest cluster and storage version that a member of this line accepts, `X.Y.0`.
    pub const fn version(self) -> Version {
        self.release().minor_only()
    }
}

/// The oldest cluster version that a member works with.
pub const MIN_CLUSTER_VERSION: Version = Version::new(3, 0, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_and_print() {
        for text in ["3.7.1", "3.0.0", "10.20.30"] {
            assert_eq!(
                text.parse::<Version>().map(|v| v.to_string()),
                Ok(text.to_string())
            );
        }
        assert_eq!("3.6.0-alpha.0".parse(), Ok(Version::new(3, 6, 0)));
        for text in [
            "",
            "3",
            "3.7",
            "3.7.1.2",
            "a.b.c",
            "3.-1.0",
            "3..0",
            "99999999999.0.0",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
