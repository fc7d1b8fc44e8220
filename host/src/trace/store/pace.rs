//! Detects slow requests by comparison with the usual duration of requests of the same name.

use std::time::Duration;

/// A request that takes longer is always slow.
const ALWAYS_SLOW: Duration = Duration::from_secs(1);
/// A request that takes this many times the mean is slow.
const FACTOR: f64 = 4.0;
/// How many requests the mean needs before it is used.
const ENOUGH: u32 = 32;
/// The weight of a new request in the mean: about the last hundred requests count.
const WEIGHT: f64 = 0.02;

/// An exponential moving average.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    seconds: f64,
    requests: u32,
}

impl Pace {
    /// Whether a request is slow. The request updates the average.
    pub fn is_slow(&mut self, duration: Duration) -> bool {
        let seconds = duration.as_secs_f64();
        let slow = duration > ALWAYS_SLOW || (self.requests >= ENOUGH && seconds > self.seconds * FACTOR);
        let weight = WEIGHT.max(1.0 / f64::from(self.requests.saturating_add(1)));
        self.seconds += (seconds - self.seconds) * weight;
        self.requests = self.requests.saturating_add(1);
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_slow_by_what_is_usual_for_its_kind() {
        let (usual, slow) = (Duration::from_millis(10), Duration::from_millis(50));
        let mut pace = Pace::default();
        assert!(!pace.is_slow(slow), "nobody knows yet");
        assert!((0..100).all(|_| !pace.is_slow(usual)));
        assert!(pace.is_slow(slow));
        assert!(!pace.is_slow(usual));
    }

    #[test]
    fn what_takes_a_second_is_slow_at_once_and_what_slows_down_for_good_becomes_usual() {
        let mut pace = Pace::default();
        assert!(pace.is_slow(Duration::from_millis(1001)));
        let mut pace = Pace::default();
        (0..100).for_each(|_| _ = pace.is_slow(Duration::from_millis(1)));
        let slow = (0..1000).filter(|_| pace.is_slow(Duration::from_millis(100))).count();
        assert!((1..100).contains(&slow), "{slow}");
    }
}
