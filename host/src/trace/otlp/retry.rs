//! Delays between attempts.

use std::time::Duration;

/// The first delay.
const INITIAL_DELAY: Duration = Duration::from_millis(500);
/// The longest delay that the host chooses.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The longest delay that a collector may request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The largest fraction of a requested delay that is added to it, so that exporters with the same delay do not retry
/// simultaneously.
const JITTER: f64 = 0.25;

/// Exponential backoff with jitter, so that many hosts do not retry simultaneously.
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: INITIAL_DELAY }
    }
}

impl Backoff {
    /// The delay before the next attempt: the one that the collector requested, but at least one of the backoff, so
    /// that a requested delay of zero does not cause a busy loop.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Duration {
        let own = self.next.mul_f64(0.5 + fastrand::f64() * 0.5);
        self.next = (self.next * 2).min(MAX_DELAY);
        match retry_after {
            Some(requested) => own.max(requested.min(MAX_RETRY_AFTER).mul_f64(1.0 + fastrand::f64() * JITTER)),
            None => own,
        }
    }
}

/// Parses the HTTP field `Retry-After`: seconds or a date.
pub(super) fn parse_retry_after(value: &str) -> Option<Duration> {
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
    fn delays_grow_to_a_limit_and_are_never_zero() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next_delay(None)).collect();
        assert!(pauses[0] >= INITIAL_DELAY / 2 && pauses[0] <= INITIAL_DELAY);
        assert!(pauses[19] >= MAX_DELAY / 2 && pauses[19] <= MAX_DELAY);
    }

    #[test]
    fn a_requested_delay_is_followed_up_to_a_limit() {
        let mut backoff = Backoff::default();
        for (asked, least) in [(Duration::from_secs(3), Duration::from_secs(3)), (Duration::MAX, MAX_RETRY_AFTER)] {
            let pause = backoff.next_delay(Some(asked));
            assert!(pause >= least && pause <= least.mul_f64(1.0 + JITTER), "{pause:?} for {asked:?}");
        }
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
    }

    #[test]
    fn a_requested_delay_of_zero_still_backs_off() {
        for value in ["0", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            let mut backoff = Backoff::default();
            let pauses: Vec<_> = (0..20).map(|_| backoff.next_delay(parse_retry_after(value))).collect();
            assert!(pauses[0] >= INITIAL_DELAY / 2 && pauses[19] >= MAX_DELAY / 2, "{pauses:?}");
        }
    }

    #[test]
    fn exporters_with_the_same_requested_delay_do_not_retry_simultaneously() {
        let asked = Some(Duration::from_secs(5));
        let pauses: std::collections::BTreeSet<_> = (0..8).map(|_| Backoff::default().next_delay(asked)).collect();
        assert!(pauses.len() > 1, "{pauses:?}");
    }
}
