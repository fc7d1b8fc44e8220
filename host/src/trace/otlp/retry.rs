//! How long to wait before the next try.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause that is chosen here.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest pause that a collector may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

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
    /// The pause before the next try: what the collector asked for, or one of our own.
    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.next;
        self.next = (own * 2).min(LONGEST);
        match asked {
            Some(asked) => asked.min(LONGEST_ASKED),
            None => own.mul_f64(0.5 + fastrand::f64() * 0.5),
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
        assert_eq!(backoff.pause(Some(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(backoff.pause(Some(Duration::from_secs(86_400))), LONGEST_ASKED);
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
