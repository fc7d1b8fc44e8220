//! Request statistics of one generation, by which the guard and the canary compare versions.
//!
//! A version is judged by the outcomes and durations of its guest. Requests that the host rejects, and delays by slow
//! clients, are ignored. Recording is one or two relaxed additions; a snapshot is not exact while requests run, which
//! is sufficient for a comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::durations::{DurationCounts, Durations};

/// Who is responsible for the outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered with any status but 5xx.
    Success,
    /// The guest answered with a 5xx, trapped, timed out, or returned an invalid HTTP response.
    GuestFault,
    /// The host answered: no route, concurrency limit, body too large, call loop.
    HostRefusal,
    /// The client disconnected while the guest ran.
    ClientGone,
}

/// Counts requests by outcome, and records the duration of the guest.
#[derive(Debug, Default)]
pub struct RequestStats {
    faults: AtomicU64,
    refused: AtomicU64,
    answered: DurationCounts,
    abandoned: DurationCounts,
}

/// The statistics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests that the guest answered or failed.
    pub requests: u64,
    /// Those of them that the guest failed.
    pub errors: u64,
    /// Requests that the host answered without the guest.
    pub refused: u64,
    /// Requests whose client disconnected while the guest ran.
    pub abandoned: u64,
    answered: Durations,
    given_up: Durations,
}

impl RequestStats {
    /// Records one request. `guest_time` is how long the guest ran for it.
    pub fn count(&self, outcome: Outcome, guest_time: Duration) {
        match outcome {
            Outcome::Success => self.answered.count(guest_time),
            Outcome::GuestFault => {
                self.faults.fetch_add(1, Ordering::Relaxed);
                self.answered.count(guest_time);
            }
            Outcome::HostRefusal => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::ClientGone => self.abandoned.count(guest_time),
        }
    }

    /// The current statistics.
    pub fn snapshot(&self) -> StatsSnapshot {
        let (answered, given_up) = (self.answered.snapshot(), self.abandoned.snapshot());
        StatsSnapshot {
            requests: answered.total(),
            errors: self.faults.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            abandoned: given_up.total(),
            answered,
            given_up,
        }
    }
}

impl StatsSnapshot {
    /// The difference between `earlier` and this snapshot.
    pub fn since(&self, earlier: &StatsSnapshot) -> StatsSnapshot {
        StatsSnapshot {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            refused: self.refused.saturating_sub(earlier.refused),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            answered: self.answered.since(&earlier.answered),
            given_up: self.given_up.since(&earlier.given_up),
        }
    }

    /// The same statistics, with requests that the client cancelled after more than `limit` counted as failed by the
    /// guest: how long they would have taken is unknown.
    pub fn with_hung(&self, limit: Duration) -> StatsSnapshot {
        let hung = self.given_up.longer_than(limit);
        StatsSnapshot {
            requests: self.requests.saturating_add(hung.total()),
            errors: self.errors.saturating_add(hung.total()),
            answered: self.answered.and(&hung),
            ..self.clone()
        }
    }

    /// The sum of both.
    pub fn plus(&self, other: &StatsSnapshot) -> StatsSnapshot {
        StatsSnapshot {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            refused: self.refused.saturating_add(other.refused),
            abandoned: self.abandoned.saturating_add(other.abandoned),
            answered: self.answered.and(&other.answered),
            given_up: self.given_up.and(&other.given_up),
        }
    }

    /// The share of requests that the guest failed, from 0 to 1.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The quantile of the guest's duration for this share of the requests (0.99 for p99), accurate to 10 %; `None`
    /// without requests.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.answered.quantile(q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_guest_did_is_in_rates_and_quantiles() {
        let stats = RequestStats::default();
        assert_eq!(stats.snapshot().quantile(0.5), None);
        for _ in 0..98 {
            stats.count(Outcome::Success, Duration::from_millis(1));
            stats.count(Outcome::HostRefusal, Duration::ZERO);
            stats.count(Outcome::ClientGone, Duration::from_secs(1));
        }
        let earlier = stats.snapshot();
        stats.count(Outcome::GuestFault, Duration::from_millis(50));
        stats.count(Outcome::GuestFault, Duration::from_secs(3600));
        let now = stats.snapshot();
        assert_eq!((now.requests, now.errors, now.refused, now.abandoned), (100, 2, 98, 98));
        let near = |q: f64, milliseconds: f64| {
            let told = now.quantile(q).unwrap().as_secs_f64() * 1e3;
            assert!((told / milliseconds - 1.0).abs() < 0.1, "{told}");
        };
        near(0.5, 1.0);
        near(0.99, 50.0);
        near(1.0, 3_600_000.0);
        assert_eq!(now.error_rate(), 0.02);
        assert_eq!(now.since(&earlier).error_rate(), 1.0);
    }

    #[test]
    fn a_request_that_was_given_up_late_counts_as_failed_and_one_given_up_early_does_not() {
        let stats = RequestStats::default();
        stats.count(Outcome::Success, Duration::from_millis(1));
        stats.count(Outcome::ClientGone, Duration::from_millis(1));
        stats.count(Outcome::ClientGone, Duration::from_secs(2));
        let judged = stats.snapshot().with_hung(Duration::from_secs(1));
        assert_eq!((judged.requests, judged.errors), (2, 1));
        assert!(judged.quantile(1.0).unwrap() > Duration::from_secs(1));
    }
}
