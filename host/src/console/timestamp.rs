//! Times as RFC 3339 writes them, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as `2026-01-31T12:00:00.123Z`, its fraction of a second in milliseconds.
pub(super) fn text(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or_default());
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

/// Reads such a time, with any offset.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_with_any_offset() {
        let time = UNIX_EPOCH + Duration::from_millis(951_782_400_005);
        assert_eq!(text(time), "2000-02-29T00:00:00.005Z");
        assert_eq!(parse("2000-02-29T01:30:00.005+01:30"), Some(time));
        assert_eq!(parse("2000-02-30T00:00:00Z"), None);
        assert_eq!(parse(""), None);
    }
}
