//! Times in log lines: `2006-01-02T15:04:05.000000Z`, always UTC.

use std::time::SystemTime;

use time::OffsetDateTime;

/// The time with microseconds.
pub fn timestamp(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (date, month) = (time.date(), u8::from(time.month()));
    format!(
        "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}

/// The time with milliseconds in a form for names of files: `2006-01-02T15-04-05.000`.
pub fn for_names(time: SystemTime) -> String {
    let text = timestamp(time).replace(':', "-");
    // Without the last three digits and the Z.
    text[..text.len() - 4].to_string()
}

/// Whether a text is such a time.
pub fn is_for_names(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00-00-00.000";
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        shape => byte == *shape,
    };
    text.len() == SHAPE.len() && text.bytes().zip(SHAPE).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_are_those_of_the_calendar() {
        // Made with `date -u -d @N`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000007Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(7);
            assert_eq!(timestamp(time), text);
            let name = for_names(time);
            assert_eq!(name, text.replace(':', "-").replace("007Z", ""));
            assert!(is_for_names(&name) && !is_for_names(&name[1..]));
        }
    }
}
