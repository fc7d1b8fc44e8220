//! How the requests of one generation went: what the guard and the canary judge a version by.
//!
//! Counting is one relaxed addition per figure; reading is not exact while requests run, which is good enough to judge.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets double in width: the first ends at 64 microseconds, the last is open.
const BUCKETS: usize = 24;
/// The upper end of the first bucket, in microseconds.
const FIRST: u64 = 64;

/// Counts of requests, errors and durations.
#[derive(Debug, Default)]
pub struct RequestStats {
    requests: AtomicU64,
    errors: AtomicU64,
    durations: [AtomicU64; BUCKETS],
}

/// A stats at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests answered.
    pub requests: u64,
    /// Those that were answered with a 5xx.
    pub errors: u64,
    durations: [u64; BUCKETS],
}

impl RequestStats {
    /// Counts one request.
    pub fn count(&self, failed: bool, duration: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(bucket) = self.durations.get(bucket(duration)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The figures now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let mut durations = [0; BUCKETS];
        for (to, from) in durations.iter_mut().zip(&self.durations) {
            *to = from.load(Ordering::Relaxed);
        }
        StatsSnapshot {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            durations,
        }
    }
}

impl StatsSnapshot {
    /// What came between `earlier` and this.
    pub fn since(&self, earlier: &StatsSnapshot) -> StatsSnapshot {
        let mut durations = self.durations;
        for (to, from) in durations.iter_mut().zip(&earlier.durations) {
            *to = to.saturating_sub(*from);
        }
        StatsSnapshot {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            durations,
        }
    }

    /// The share of requests that failed, from 0 to 1.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The upper end of the bucket in which the `q`-quantile lies (0.99 for p99); none without requests.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total: u64 = self.durations.iter().sum();
        let rank = (total as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.durations.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return Some(Duration::from_micros(FIRST << index));
            }
        }
        None
    }
}

fn bucket(duration: Duration) -> usize {
    let steps = duration.as_micros() as u64 / FIRST;
    let index = (u64::BITS - steps.leading_zeros()) as usize;
    index.min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_rates_come_from_what_was_counted() {
        let stats = RequestStats::default();
        assert_eq!(stats.snapshot().quantile(0.5), None);
        for _ in 0..98 {
            stats.count(false, Duration::from_micros(100));
        }
        let earlier = stats.snapshot();
        stats.count(true, Duration::from_millis(50));
        stats.count(true, Duration::from_secs(3600));
        let now = stats.snapshot();
        assert_eq!(now.quantile(0.5), Some(Duration::from_micros(128)));
        assert_eq!(now.quantile(0.99), Some(Duration::from_micros(65_536)));
        assert_eq!(now.error_rate(), 0.02);
        assert_eq!(now.since(&earlier).error_rate(), 1.0);
    }
}
