//! Human-readable durations, sizes, rates, shares and times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration with about three digits, such as `812 µs`, `1.24 ms` and `2 min 5 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_micros() {
        0..1_000 => format!("{} µs", duration.as_micros()),
        1_000..1_000_000 => format!("{} ms", digits(seconds * 1e3)),
        1_000_000..60_000_000 => format!("{} s", digits(seconds)),
        _ => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

/// A number with at most three significant digits, such as `1.24`, `12.4` and `124`.
fn digits(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// Milliseconds, if they were measured.
pub(crate) fn milliseconds(number: Option<f64>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| duration(Duration::from_secs_f64(number.max(0.0) / 1e3)))
}

/// A count with its noun, in the plural if needed.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

/// An integer with thousands separators.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Requests per second.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        ..0.05 => "0".to_owned(),
        ..100.0 => format!("{per_second:.1}"),
        _ => grouped(per_second.round() as u64),
    }
}

/// A share from 0 to 1 as a percentage. A non-zero share is never shown as zero.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        ..0.01 => "< 0.01 %".to_owned(),
        percent @ ..1.0 => format!("{percent:.2} %"),
        percent @ ..100.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// A size in bytes.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..10_240 => format!("{number} B"),
        10_240..10_485_760 => format!("{:.1} KiB", number as f64 / 1024.0),
        _ => format!("{:.1} MiB", number as f64 / 1_048_576.0),
    }
}

/// The time of day in UTC with milliseconds.
pub(crate) fn clock(time: SystemTime) -> String {
    let stamp = timestamp(time);
    stamp.get(11..23).unwrap_or_default().to_owned()
}

/// The time of day of an RFC 3339 time stamp in UTC, with milliseconds.
pub(crate) fn clock_of(stamp: &str) -> String {
    let time = stamp.split_once('T').map_or(stamp, |(_, time)| time).trim_end_matches('Z');
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{time}.{fraction:0<3.3}")
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, milli) = (second / 3600, second / 60 % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{milli:03}Z", second % 60)
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar, computed in eras of 400 years
/// that start in March, so that leap days come last.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_of_their_magnitude() {
        let shown = |micros| duration(Duration::from_micros(micros));
        assert_eq!(shown(812), "812 µs");
        assert_eq!(shown(1_240), "1.24 ms");
        assert_eq!(shown(124_000), "124 ms");
        assert_eq!(shown(1_500_000), "1.50 s");
        assert_eq!(shown(125_000_000), "2 min 5 s");
    }

    #[test]
    fn timestamps_follow_the_gregorian_calendar() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_millis(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(at(1_795_629_600_000), "2026-11-25T18:00:00.000Z");
        assert_eq!(clock_of("2026-11-25T18:00:00Z"), "18:00:00.000");
        assert_eq!(clock_of("2026-11-25T18:00:00.1234Z"), "18:00:00.123");
        assert_eq!(clock(UNIX_EPOCH + Duration::from_millis(3_661_007)), "01:01:01.007");
    }

    #[test]
    fn a_nonzero_share_is_never_shown_as_zero() {
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.000_001), "< 0.01 %");
        assert_eq!(percent(0.125), "12.5 %");
        assert_eq!(percent(1.0), "100 %");
    }
}
