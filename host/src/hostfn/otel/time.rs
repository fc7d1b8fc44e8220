//! Converts times of a guest. A time that `SystemTime` or the nanoseconds of OTLP cannot represent becomes the time of
//! receipt: 1970, or a time that wraps around, would distort the trace.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::component::standard_bindings::wasi::clocks::wall_clock::Datetime;

/// The time, if it can be represented: up to the year 2554.
pub(super) fn system_time(time: Datetime) -> Option<SystemTime> {
    let since_epoch = Duration::new(time.seconds, time.nanoseconds.min(999_999_999));
    u64::try_from(since_epoch.as_nanos()).ok()?;
    UNIX_EPOCH.checked_add(since_epoch)
}

/// Start and end of a span. The end is not before the start.
pub(super) fn interval(start: Datetime, end: Datetime, received: SystemTime) -> (SystemTime, SystemTime) {
    let end = system_time(end);
    match system_time(start) {
        Some(start) => (start, end.unwrap_or(received).max(start)),
        // The span has begun before it ended.
        None => (end.map_or(received, |end| end.min(received)), end.unwrap_or(received)),
    }
}

/// The time of a log record.
pub(super) fn log_time(timestamp: Option<Datetime>, observed: Option<Datetime>) -> SystemTime {
    [timestamp, observed].into_iter().flatten().find_map(system_time).unwrap_or_else(SystemTime::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Datetime = Datetime { seconds: u64::MAX, nanoseconds: u32::MAX };

    fn at(seconds: u64) -> Datetime {
        Datetime { seconds, nanoseconds: 0 }
    }

    fn since_epoch(time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn times_that_the_nanoseconds_of_otlp_cannot_represent_are_none() {
        let last = u64::MAX / 1_000_000_000;
        assert_eq!(system_time(at(last)).map(since_epoch), Some(last));
        for seconds in [last + 1, i64::MAX as u64, u64::MAX] {
            assert_eq!(system_time(at(seconds)), None, "{seconds}");
        }
        let nanoseconds = |nanoseconds| system_time(Datetime { seconds: 1, nanoseconds });
        assert_eq!(nanoseconds(u32::MAX), nanoseconds(999_999_999));
    }

    #[test]
    fn an_end_is_not_before_its_start() {
        let check = |start, end, expected| {
            let (start, end) = interval(start, end, UNIX_EPOCH + Duration::from_secs(100));
            assert_eq!((since_epoch(start), since_epoch(end)), expected);
        };
        check(at(1), at(2), (1, 2));
        check(at(2), at(1), (2, 2));
        check(NEVER, NEVER, (100, 100));
        check(at(1), NEVER, (1, 100));
        check(at(200), NEVER, (200, 200));
        check(NEVER, at(50), (50, 50));
        check(NEVER, at(200), (100, 200));
    }

    #[test]
    fn the_time_of_a_log_record_is_the_first_that_can_be_represented() {
        assert_eq!(since_epoch(log_time(Some(at(1)), Some(at(2)))), 1);
        assert_eq!(since_epoch(log_time(Some(NEVER), Some(at(2)))), 2);
        let before = SystemTime::now();
        for time in [log_time(None, None), log_time(Some(NEVER), Some(NEVER))] {
            assert!((before..=SystemTime::now()).contains(&time), "{time:?}");
        }
    }
}
