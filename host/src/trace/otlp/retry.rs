//! How long to wait before the next try.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause that is chosen here.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest pause that a collector may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// How much of an asked pause is added to it at most: whoever was told the same would come back at the same time.
const SPREAD: f64 = 0.25;

/// Pauses that grow from try to try, with jitter, so that many hosts do not come back all at once.
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: FIRST }
    }
}

impl Backoff {
    /// The pause before the next try: what the collector asked for, but never less than one of our own. One that asks
    /// for no pause at all is not to be asked again and again.
    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.next.mul_f64(0.5 + fastrand::f64() * 0.5);
        self.next = (self.next * 2).min(LONGEST);
        match asked {
            Some(asked) => own.max(asked.min(LONGEST_ASKED).mul_f64(1.0 + fastrand::f64() * SPREAD)),
            None => own,
        }
    }
}

/// The pause that an HTTP `Retry-After` field asks for: seconds, or a date.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_never_vanish() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause(None)).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[19] >= LONGEST / 2 && pauses[19] <= LONGEST);
    }

    #[test]
    fn a_collector_is_heard_within_reason() {
        let mut backoff = Backoff::default();
        for (asked, least) in [(Duration::from_secs(3), Duration::from_secs(3)), (Duration::MAX, LONGEST_ASKED)] {
            let pause = backoff.pause(Some(asked));
            assert!(pause >= least && pause <= least.mul_f64(1.0 + SPREAD), "{pause:?} for {asked:?}");
        }
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn a_collector_that_asks_for_no_pause_gets_one_that_grows() {
        for value in ["0", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            let mut backoff = Backoff::default();
            let pauses: Vec<_> = (0..20).map(|_| backoff.pause(retry_after(value))).collect();
            assert!(pauses[0] >= FIRST / 2 && pauses[19] >= LONGEST / 2, "{pauses:?}");
        }
    }

    #[test]
    fn those_who_are_asked_for_the_same_pause_do_not_come_back_together() {
        let asked = Some(Duration::from_secs(5));
        let pauses: std::collections::BTreeSet<_> = (0..8).map(|_| Backoff::default().pause(asked)).collect();
        assert!(pauses.len() > 1, "{pauses:?}");
    }
}
