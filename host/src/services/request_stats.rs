//! Request statistics of one generation. The guard and the canary compare versions by them.
//!
//! The statistics cover the outcomes and durations of the guest. They exclude requests that the host rejects, and
//! delays by slow clients. Recording is one or two relaxed atomic additions. A snapshot is not exact while requests
//! run, which is sufficient for a comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::durations::{DurationCounts, Durations};

/// Who is responsible for the outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest responded with a status other than 5xx.
    Success,
    /// The guest responded with a 5xx, trapped, timed out, or returned an invalid HTTP response.
    GuestFault,
    /// The host answered without the guest: no route, concurrency limit, body too large, call loop.
    HostRejection,
    /// The client disconnected while the guest ran.
    ClientDisconnected,
}

/// Counts requests by outcome, and records the duration of the guest.
#[derive(Debug, Default)]
pub struct RequestStats {
    faults: AtomicU64,
    rejected: AtomicU64,
    /// The guest's durations of requests that it answered or failed.
    completed: DurationCounts,
    /// The guest's durations of requests whose client disconnected.
    abandoned: DurationCounts,
}

/// A snapshot of the statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests that the guest answered or failed.
    pub requests: u64,
    /// Requests that the guest failed.
    pub errors: u64,
    /// Requests that the host answered without the guest.
    pub rejected: u64,
    /// Requests whose client disconnected while the guest ran.
    pub abandoned: u64,
    completed_durations: Durations,
    abandoned_durations: Durations,
}

impl RequestStats {
    /// Records one request. `guest_time` is how long the guest ran for it.
    pub fn count(&self, outcome: Outcome, guest_time: Duration) {
        match outcome {
            Outcome::Success => self.completed.count(guest_time),
            Outcome::GuestFault => {
                self.faults.fetch_add(1, Ordering::Relaxed);
                self.completed.count(guest_time);
            }
            Outcome::HostRejection => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::ClientDisconnected => self.abandoned.count(guest_time),
        }
    }

    /// The current statistics.
    pub fn snapshot(&self) -> StatsSnapshot {
        let (completed, abandoned) = (self.completed.snapshot(), self.abandoned.snapshot());
        StatsSnapshot {
            requests: completed.total(),
            errors: self.faults.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            abandoned: abandoned.total(),
            completed_durations: completed,
            abandoned_durations: abandoned,
        }
    }
}

impl StatsSnapshot {
    /// The difference between `earlier` and this snapshot.
    pub fn since(&self, earlier: &StatsSnapshot) -> StatsSnapshot {
        StatsSnapshot {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            completed_durations: self.completed_durations.since(&earlier.completed_durations),
            abandoned_durations: self.abandoned_durations.since(&earlier.abandoned_durations),
        }
    }

    /// The same statistics, with requests whose client disconnected after more than `limit` counted as failed by the
    /// guest. Their full duration is unknown.
    pub fn with_hung(&self, limit: Duration) -> StatsSnapshot {
        let hung = self.abandoned_durations.longer_than(limit);
        StatsSnapshot {
            requests: self.requests.saturating_add(hung.total()),
            errors: self.errors.saturating_add(hung.total()),
            completed_durations: self.completed_durations.plus(&hung),
            ..self.clone()
        }
    }

    /// The sum of two snapshots.
    pub fn plus(&self, other: &StatsSnapshot) -> StatsSnapshot {
        StatsSnapshot {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            rejected: self.rejected.saturating_add(other.rejected),
            abandoned: self.abandoned.saturating_add(other.abandoned),
            completed_durations: self.completed_durations.plus(&other.completed_durations),
            abandoned_durations: self.abandoned_durations.plus(&other.abandoned_durations),
        }
    }

    /// The share of requests that the guest failed, from 0 to 1.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The `q`-quantile of the guest's durations (0.99 for p99), accurate to 10 %. `None` without requests.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.completed_durations.quantile(q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_quantiles_cover_only_requests_that_the_guest_completed() {
        let stats = RequestStats::default();
        assert_eq!(stats.snapshot().quantile(0.5), None);
        for _ in 0..98 {
            stats.count(Outcome::Success, Duration::from_millis(1));
            stats.count(Outcome::HostRejection, Duration::ZERO);
            stats.count(Outcome::ClientDisconnected, Duration::from_secs(1));
        }
        let earlier = stats.snapshot();
        stats.count(Outcome::GuestFault, Duration::from_millis(50));
        stats.count(Outcome::GuestFault, Duration::from_secs(3600));
        let now = stats.snapshot();
        assert_eq!((now.requests, now.errors, now.rejected, now.abandoned), (100, 2, 98, 98));
        let near = |q: f64, milliseconds: f64| {
            let measured = now.quantile(q).unwrap().as_secs_f64() * 1e3;
            assert!((measured / milliseconds - 1.0).abs() < 0.1, "{measured}");
        };
        near(0.5, 1.0);
        near(0.99, 50.0);
        near(1.0, 3_600_000.0);
        assert_eq!(now.error_rate(), 0.02);
        assert_eq!(now.since(&earlier).error_rate(), 1.0);
    }

    #[test]
    fn a_request_that_the_client_cancelled_after_the_limit_counts_as_failed() {
        let stats = RequestStats::default();
        stats.count(Outcome::Success, Duration::from_millis(1));
        stats.count(Outcome::ClientDisconnected, Duration::from_millis(1));
        stats.count(Outcome::ClientDisconnected, Duration::from_secs(2));
        let snapshot = stats.snapshot().with_hung(Duration::from_secs(1));
        assert_eq!((snapshot.requests, snapshot.errors), (2, 1));
        assert!(snapshot.quantile(1.0).unwrap() > Duration::from_secs(1));
    }
}
