//! The time of day as members tell it each other: RFC 3339 with up to nine digits of a second, in UTC. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_SECONDS: u64 = 86_400;

/// A moment, as Go's `time.RFC3339Nano` has it. Before 1970 it is 1970.
pub(crate) fn format(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (year, month, day) = civil(since.as_secs() / DAY_SECONDS);
    let second = since.as_secs() % DAY_SECONDS;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!("{:09}", since.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}Z")
}

/// Reads such a moment, in any zone.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
        digits.parse().ok()
    };
    let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if separators.iter().any(|(at, c)| text.get(*at..at + 1) != Some(c)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !valid {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let digits = fraction.get(..len.min(9))?;
        nanos = digits.parse::<u64>().ok()? * 10u64.pow(9 - u32::try_from(digits.len()).ok()?);
        rest = fraction.get(len..)?;
    }
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    let local = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanos);
    if rest == "Z" {
        return Some(local);
    }
    let zone = |at: usize| rest.get(at..at + 2).and_then(|two| two.parse::<u64>().ok());
    let offset = Duration::from_secs(zone(1)? * 3600 + zone(4)? * 60);
    match (rest.as_bytes(), rest.len()) {
        ([b'+', ..], 6) => local.checked_sub(offset),
        ([b'-', ..], 6) => local.checked_add(offset),
        _ => None,
    }
}

/// Days from 1970 to a date (Howard Hinnant's days_from_civil, from 1970 on).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days after 1970 began.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let of_400 = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_400 + of_400 / 4 - of_400 / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + of_400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
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
