//! Sizes and durations as people write them.

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

/// The units of a duration, in milliseconds.
const DURATIONS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6)];

/// What to write for a size.
pub(super) const SIZE_HELP: &str = "write a size such as \"64MiB\", \"8MB\" or a number of bytes";
/// What to write for a duration.
pub(super) const DURATION_HELP: &str = "write a duration such as \"250ms\", \"10s\", \"5m\" or \"1h\"";

/// A size in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    let (number, unit) = SIZES.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// A duration of up to a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = DURATIONS.iter().find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)))?;
    let number: f64 = number.trim().parse().ok()?;
    let millis = number * unit;
    (0.0..3.2e10).contains(&millis).then(|| Duration::from_secs_f64(millis / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_written() {
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("8 MB"), Some(8_000_000));
        assert_eq!(size("1024"), Some(1024));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Some(Duration::from_secs(90)));
        for bad in ["", "10", "-1s", "ten s", "1d", "NaNs"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for bad in ["", "x", "-1", "1.5MiB", "64Mib", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
