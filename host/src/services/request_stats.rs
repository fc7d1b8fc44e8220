//! How the requests of one generation went: what the guard and the canary judge a version by.
//!
//! A version is judged by what its guest did and how long that took. What the host refused in its stead, and what a
//! slow client adds, says nothing about it. Counting is one or two relaxed additions; reading is not exact while
//! requests run, which is good enough to judge.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::durations::{DurationCounts, Durations};

/// Whose doing it was how a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered, with anything but a 5xx.
    Success,
    /// The guest answered with a 5xx, trapped, took too long, or answered with what is no HTTP response.
    GuestFault,
    /// The host answered: no route, too many requests, too large a body, a circle of calls.
    HostRefusal,
    /// The client went away while the guest ran.
    ClientGone,
}

/// Counts requests by their outcome, and how long the guest took for them.
#[derive(Debug, Default)]
pub struct RequestStats {
    faults: AtomicU64,
    refused: AtomicU64,
    answered: DurationCounts,
    abandoned: DurationCounts,
}

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests that the guest answered or failed at.
    pub requests: u64,
    /// Those of them that it failed at.
    pub errors: u64,
    /// Requests that the host answered in the guest's stead.
    pub refused: u64,
    /// Requests whose client went away while the guest ran.
    pub abandoned: u64,
    answered: Durations,
    given_up: Durations,
}

impl RequestStats {
    /// Counts one request. `guest_time` is how long the guest ran for it.
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

    /// The figures now.
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
    /// What came between `earlier` and this.
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

    /// The same where a request that its client gave up after more than `limit` counts as one that the guest failed at:
    /// nobody knows how long it would have taken.
    pub fn with_hung(&self, limit: Duration) -> StatsSnapshot {
        let hung = self.given_up.longer_than(limit);
        StatsSnapshot {
            requests: self.requests.saturating_add(hung.total()),
            errors: self.errors.saturating_add(hung.total()),
            answered: self.answered.and(&hung),
            ..self.clone()
        }
    }

    /// What this and `other` counted together.
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

    /// The share of requests that the guest failed at, from 0 to 1.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The time within which the guest was done with this share of the requests (0.99 for p99), to within 10 %; none
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
