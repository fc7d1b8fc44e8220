//! A histogram of durations whose quantiles are accurate to 10 %.
//!
//! Buckets are logarithmic with linear steps in between, as in HdrHistogram: eight per doubling, from one microsecond
//! to hours. Recording is one relaxed atomic addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per doubling, as a power of two: a bucket's width is at most an eighth of its lower bound.
const STEPS_LOG2: u32 = 3;
const STEPS: u64 = 1 << STEPS_LOG2;
/// The last doubling starts at 2^32 microseconds, more than an hour.
const LAST_DOUBLING: u32 = 32;
const BUCKETS: usize = bucket_at(LAST_DOUBLING, STEPS - 1) + 1;

/// A histogram of durations.
#[derive(Debug)]
pub(super) struct DurationCounts([AtomicU64; BUCKETS]);

impl Default for DurationCounts {
    fn default() -> DurationCounts {
        DurationCounts([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl DurationCounts {
    /// Counts a duration.
    pub fn count(&self, duration: Duration) {
        if let Some(bucket) = self.0.get(bucket(duration)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The current counts. They are not exact while other threads record.
    pub fn snapshot(&self) -> Durations {
        Durations(self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }
}

/// A snapshot of the counts. The default has no durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Durations(Box<[u64]>);

impl Durations {
    /// The number of durations.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The durations that were counted between `earlier` and this snapshot.
    pub fn since(&self, earlier: &Durations) -> Durations {
        let before = earlier.0.iter().copied().chain(std::iter::repeat(0));
        Durations(self.0.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect())
    }

    /// The sum of two snapshots.
    pub fn plus(&self, other: &Durations) -> Durations {
        let (long, short) = if self.0.len() < other.0.len() { (other, self) } else { (self, other) };
        let more = short.0.iter().copied().chain(std::iter::repeat(0));
        Durations(long.0.iter().zip(more).map(|(count, more)| count.saturating_add(more)).collect())
    }

    /// The durations in buckets above the bucket of `limit`, which are longer than `limit`.
    pub fn longer_than(&self, limit: Duration) -> Durations {
        let last = bucket(limit);
        let count = |(index, count): (usize, &u64)| if index > last { *count } else { 0 };
        Durations(self.0.iter().enumerate().map(count).collect())
    }

    /// The `q`-quantile (0.99 for p99), accurate to 10 %. `None` without durations.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((self.total() as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(midpoint)
    }
}

/// The bucket of the `step`-th step after 2^`doubling` microseconds.
const fn bucket_at(doubling: u32, step: u64) -> usize {
    ((doubling - STEPS_LOG2 + 1) as u64 * STEPS + step) as usize
}

fn bucket(duration: Duration) -> usize {
    let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    match microseconds.checked_ilog2() {
        Some(doubling) if doubling > LAST_DOUBLING => BUCKETS - 1,
        Some(doubling) if doubling >= STEPS_LOG2 => {
            bucket_at(doubling, (microseconds >> (doubling - STEPS_LOG2)) & (STEPS - 1))
        }
        _ => microseconds as usize,
    }
}

/// The midpoint of a bucket.
fn midpoint(bucket: usize) -> Duration {
    let (row, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match row.checked_sub(1) {
        None => Duration::from_micros(step),
        Some(shift) => Duration::from_nanos(((STEPS + step) << shift) * 1000 + 500 * (1 << shift)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_ten_percent() {
        for microseconds in (0..7_200_000_000_u64).step_by(7_919_993).chain(1..5000) {
            let counts = DurationCounts::default();
            counts.count(Duration::from_micros(microseconds));
            let measured = counts.snapshot().quantile(0.5).unwrap().as_secs_f64() * 1e6;
            let error = (measured - microseconds as f64).abs();
            assert!(error <= 0.1 * microseconds as f64 || error <= 1.0, "{microseconds} is measured as {measured}");
        }
    }

    #[test]
    fn durations_beyond_the_last_bucket_are_counted_in_it() {
        let counts = DurationCounts::default();
        counts.count(Duration::MAX);
        assert_eq!(counts.snapshot().total(), 1);
        assert!(counts.snapshot().quantile(0.99).unwrap() > Duration::from_secs(3600));
    }

    #[test]
    fn snapshots_are_added_subtracted_and_filtered() {
        let counts = DurationCounts::default();
        counts.count(Duration::from_millis(1));
        let earlier = counts.snapshot();
        counts.count(Duration::from_secs(1));
        let now = counts.snapshot();
        assert_eq!(now.since(&earlier).total(), 1);
        assert_eq!(now.since(&Durations::default()), now);
        assert_eq!(Durations::default().plus(&now), now);
        assert_eq!(now.plus(&earlier).total(), 3);
        assert_eq!(now.longer_than(Duration::from_millis(100)).total(), 1);
        assert_eq!(Durations::default().quantile(0.5), None);
    }
}
