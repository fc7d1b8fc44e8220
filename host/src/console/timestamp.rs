//! RFC 3339 timestamps in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Formats a time as `2026-01-31T12:00:00.123Z`, with milliseconds. Spans of guests and of other processes may have any
/// time; one outside the range of the calendar yields an empty string.
pub(super) fn text(time: SystemTime) -> String {
    let milliseconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let nanoseconds = i128::try_from(milliseconds * 1_000_000).ok();
    let time = nanoseconds.and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Parses such a timestamp, with any offset.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_outside_the_calendar_is_an_empty_text() {
        assert_eq!(text(UNIX_EPOCH + Duration::from_nanos(u64::MAX)), "2554-07-21T23:34:33.709Z");
        assert_eq!(text(UNIX_EPOCH + Duration::from_secs(1 << 40)), "");
        assert_eq!(text(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn times_are_formatted_in_utc_and_parsed_with_any_offset() {
        let time = UNIX_EPOCH + Duration::from_millis(951_782_400_005);
        assert_eq!(text(time), "2000-02-29T00:00:00.005Z");
        assert_eq!(parse("2000-02-29T01:30:00.005+01:30"), Some(time));
        assert_eq!(parse("2000-02-30T00:00:00Z"), None);
        assert_eq!(parse(""), None);
    }
}
