//! The time of day as members tell it each other: RFC 3339 with up to nine digits of a second, in UTC. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment, as Go's `time.RFC3339Nano` has it. Before 1970 it is 1970.
pub(crate) fn format(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time.max(UNIX_EPOCH));
    time.format(&Rfc3339).unwrap_or_default()
}

/// Reads such a moment, in any zone.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (time.unix_timestamp() >= 0).then(|| SystemTime::from(time))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_read_as_go_writes_them() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500_000_000),
            ("2026-11-21T19:12:01.123456789Z", 1_795_288_321_123_456_789),
            ("2100-03-01T00:00:00.000000001Z", 4_107_542_400_000_000_001u64),
        ] {
            let time = UNIX_EPOCH + Duration::from_nanos(nanos);
            assert_eq!(parse(text), Some(time), "{text}");
            assert_eq!(format(time), text);
        }
        let utc = parse("2026-11-21T19:12:01Z");
        assert_eq!(parse("2026-11-21T21:12:01+02:00"), utc);
        assert_eq!(parse("2026-11-21T13:42:01-05:30"), utc);
        for text in [
            "",
            "2026-11-21",
            "2026-13-21T19:12:01Z",
            "2026-11-21T19:12:01",
            "2026-11-21T19:12:01+0200",
            "2026-11-21T25:12:01Z",
            "+026-11-21T19:12:01Z",
            "1969-11-21T19:12:01Z",
            "2026-11-21T19:12:01.Z",
            "2026-11-21Ä19:12:01Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
