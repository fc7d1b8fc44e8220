//! Detects slow requests by comparison with the usual duration of requests of the same name.

use std::time::Duration;

/// A request that takes longer is always slow.
const ALWAYS_SLOW: Duration = Duration::from_secs(1);
/// A request that takes this many times the mean is slow.
const SLOW_FACTOR: f64 = 4.0;
/// How many requests the mean needs before it is used.
const MIN_REQUESTS: u32 = 32;
/// The weight of a new request in the mean: about the last hundred requests count.
const WEIGHT: f64 = 0.02;

/// An exponential moving average of request durations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatencyBaseline {
    mean_seconds: f64,
    requests: u32,
}

impl LatencyBaseline {
    /// Whether a request of this duration is slow. The duration updates the average.
    pub fn observe(&mut self, duration: Duration) -> bool {
        let seconds = duration.as_secs_f64();
        let slow =
            duration > ALWAYS_SLOW || (self.requests >= MIN_REQUESTS && seconds > self.mean_seconds * SLOW_FACTOR);
        let weight = WEIGHT.max(1.0 / f64::from(self.requests.saturating_add(1)));
        self.mean_seconds += (seconds - self.mean_seconds) * weight;
        self.requests = self.requests.saturating_add(1);
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_slow_compared_with_the_usual_duration_of_its_name() {
        let (usual, slow) = (Duration::from_millis(10), Duration::from_millis(50));
        let mut baseline = LatencyBaseline::default();
        assert!(!baseline.observe(slow), "there is no baseline yet");
        assert!((0..100).all(|_| !baseline.observe(usual)));
        assert!(baseline.observe(slow));
        assert!(!baseline.observe(usual));
    }

    #[test]
    fn a_request_over_one_second_is_slow_and_a_lasting_slowdown_becomes_usual() {
        let mut baseline = LatencyBaseline::default();
        assert!(baseline.observe(Duration::from_millis(1001)));
        let mut baseline = LatencyBaseline::default();
        (0..100).for_each(|_| _ = baseline.observe(Duration::from_millis(1)));
        let slow = (0..1000).filter(|_| baseline.observe(Duration::from_millis(100))).count();
        assert!((1..100).contains(&slow), "{slow}");
    }
}
