//! Parses sizes and durations with units.

use std::time::Duration;

/// The units of a size, in bytes.
const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// The units of a duration, in seconds.
const DURATIONS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// The longest duration, in seconds: a year. A longer one is a mistake and could overflow when added to a time.
const MAX_DURATION: f64 = 366.0 * 86_400.0;

/// The help text for a size.
pub(super) const SIZE_HELP: &str =
    "write a whole number and a unit of B, KB, MB, GB, KiB, MiB or GiB, as in \"64MiB\", or a plain number of bytes";
/// The help text for a duration.
pub(super) const DURATION_HELP: &str =
    "write a number and a unit of ms, s, m or h, as in \"250ms\" or \"10s\", up to a year";

/// Parses a size into bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, bytes) =
        SIZES.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), *bytes))).unwrap_or((text, 1));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(bytes)
}

/// Parses a duration of up to a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, seconds) = DURATIONS.iter().find_map(|(unit, one)| Some((text.strip_suffix(unit)?, *one)))?;
    let number = number.trim_end();
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let length = number.parse::<f64>().ok()? * seconds;
    (0.0..=MAX_DURATION).contains(&length).then(|| Duration::from_secs_f64(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_with_their_units() {
        let good = [
            ("64MiB", 64 << 20),
            ("1 KiB", 1024),
            ("4GiB", 4 << 30),
            ("8 MB", 8_000_000),
            ("1kB", 1000),
            ("1KB", 1000),
            ("2GB", 2_000_000_000),
            ("7B", 7),
            ("1024", 1024),
            (" 0 ", 0),
        ];
        for (text, expected) in good {
            assert_eq!(size(text), Some(expected), "{text}");
        }
        for bad in ["", "x", "-1", "+1", "1.5MiB", "64Mib", "64M", "MiB", "1 2B", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_parsed_with_their_units() {
        let good = [
            ("10s", 10_000),
            ("250ms", 250),
            ("1m", 60_000),
            ("1.5m", 90_000),
            ("2 h", 7_200_000),
            ("0s", 0),
            ("0.1s", 100),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "-1s", "+1s", "ten s", "1d", "NaNs", "infs", "1e3s", "s", ".s", "1..2s", "9999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
