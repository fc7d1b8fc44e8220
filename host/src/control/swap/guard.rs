//! Automatic rollback: the guard watches a new generation and rolls back if it is clearly worse than the one before.
//!
//! Only outcomes that the guest is responsible for count: requests that the host rejects, and clients that disconnect
//! early, are ignored. "Clearly" means statistically significant and large: enough requests, and an error rate or a p99
//! that is both far from the old one and far above it. A service that is merely noisy is not rolled back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::services::{Generation, Service, StatsSnapshot};

/// How often the statistics are compared.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The fewest requests for a comparison of error rates.
const MIN_REQUESTS_FOR_ERRORS: u64 = 20;
/// The fewest requests for a comparison of p99.
const MIN_REQUESTS_FOR_P99: u64 = 500;
/// The least difference of two error rates, in standard errors.
const MIN_STANDARD_ERRORS: f64 = 4.0;
/// The least increase of the error rate, as a share of all requests.
const MIN_ERROR_RATE_INCREASE: f64 = 0.05;
/// The least factor by which p99 must have increased.
const MIN_P99_FACTOR: u32 = 4;
/// The least increase of p99.
const MIN_P99_INCREASE: Duration = Duration::from_millis(50);
/// A request that the client cancelled counts as failed if the guest had it for at least this time and for
/// [`MIN_P99_FACTOR`] times the old p99: clients also disconnect for reasons of their own.
const MIN_HUNG_TIME: Duration = Duration::from_millis(250);
/// The same if there are no statistics of the old version.
const MIN_HUNG_TIME_WITHOUT_BASELINE: Duration = Duration::from_secs(1);

/// Watches `new` for `window`, while it serves. Returns why it is clearly worse than `baseline` as soon as it is.
pub(super) async fn find_regression(
    service: &Service,
    new: &Arc<Generation>,
    baseline: &StatsSnapshot,
    window: Duration,
) -> Option<String> {
    let until = Instant::now() + window;
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    while Instant::now() < until && Arc::ptr_eq(&service.serving().stable, new) {
        ticks.tick().await;
        if let Some(reason) = regression(baseline, &new.stats.snapshot()) {
            return Some(reason);
        }
    }
    None
}

/// Why the new statistics are clearly worse than the old ones, if they are.
fn regression(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    let limit = hung_after(old);
    let (old, judged) = (&old.with_hung(limit), &new.with_hung(limit));
    let hung = judged.requests - new.requests;
    let reason = error_rate_regression(old, judged).or_else(|| latency_regression(old, judged))?;
    Some(if hung == 0 {
        reason
    } else {
        format!("{reason}; clients cancelled {hung} of them after more than {limit:?}")
    })
}

/// How long the guest may have a request before a cancelled one counts as failed.
fn hung_after(old: &StatsSnapshot) -> Duration {
    match old.quantile(0.99) {
        Some(p99) if old.requests >= MIN_REQUESTS_FOR_ERRORS => MIN_HUNG_TIME.max(p99 * MIN_P99_FACTOR),
        _ => MIN_HUNG_TIME_WITHOUT_BASELINE,
    }
}

fn error_rate_regression(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    if new.requests < MIN_REQUESTS_FOR_ERRORS {
        return None;
    }
    let (before, now) = (old.error_rate(), new.error_rate());
    let samples = 1.0 / old.requests.max(1) as f64 + 1.0 / new.requests as f64;
    let pooled = (old.errors + new.errors) as f64 / (old.requests + new.requests) as f64;
    let standard_error = (pooled * (1.0 - pooled) * samples).sqrt();
    // An old version without requests is assumed to have no errors; then only many errors are significant.
    let apart = if old.requests == 0 { now > 0.5 } else { now - before > MIN_STANDARD_ERRORS * standard_error };
    let worse = apart && now - before > MIN_ERROR_RATE_INCREASE;
    worse.then(|| {
        format!(
            "{:.1} % of its requests failed, compared with {:.1} % of the old version's",
            now * 100.0,
            before * 100.0
        )
    })
}

fn latency_regression(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    if new.requests < MIN_REQUESTS_FOR_P99 || old.requests < MIN_REQUESTS_FOR_P99 {
        return None;
    }
    let (before, now) = (old.quantile(0.99)?, new.quantile(0.99)?);
    let worse = now > before * MIN_P99_FACTOR && now > before + MIN_P99_INCREASE;
    worse.then(|| format!("its p99 is {now:?}, compared with {before:?} of the old version"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Outcome, RequestStats};

    fn stats(requests: u64, errors: u64, milliseconds: u64) -> StatsSnapshot {
        let stats = RequestStats::default();
        for index in 0..requests {
            let outcome = if index < errors { Outcome::GuestFault } else { Outcome::Success };
            stats.count(outcome, Duration::from_millis(milliseconds));
        }
        stats.snapshot()
    }

    #[test]
    fn a_much_higher_error_rate_is_a_regression() {
        assert!(regression(&stats(1000, 1, 1), &stats(100, 40, 1)).unwrap().contains("40.0 %"));
        assert!(regression(&stats(0, 0, 1), &stats(20, 20, 1)).is_some());
    }

    #[test]
    fn a_difference_by_chance_is_not_a_regression() {
        assert_eq!(regression(&stats(1000, 10, 1), &stats(100, 3, 1)), None);
        assert_eq!(regression(&stats(1000, 500, 1), &stats(100, 52, 1)), None);
        assert_eq!(regression(&stats(1000, 0, 1), &stats(10, 10, 1)), None, "ten requests are too few");
        assert_eq!(regression(&stats(0, 0, 1), &stats(20, 8, 1)), None);
    }

    #[test]
    fn a_much_higher_p99_is_a_regression() {
        assert!(regression(&stats(1000, 0, 2), &stats(1000, 0, 200)).unwrap().contains("p99"));
        assert_eq!(regression(&stats(1000, 0, 2), &stats(1000, 0, 20)), None);
        assert_eq!(regression(&stats(1000, 0, 200), &stats(1000, 0, 300)), None);
    }

    /// Statistics of `before` successful requests and `count` requests of one outcome.
    fn with(before: u64, outcome: Outcome, count: u64, milliseconds: u64) -> StatsSnapshot {
        let stats = RequestStats::default();
        (0..before).for_each(|_| stats.count(Outcome::Success, Duration::from_millis(1)));
        (0..count).for_each(|_| stats.count(outcome, Duration::from_millis(milliseconds)));
        stats.snapshot()
    }

    #[test]
    fn requests_that_the_host_rejects_are_not_a_regression() {
        let refused = with(0, Outcome::HostRejection, 1000, 0);
        assert_eq!(regression(&stats(1000, 0, 1), &refused), None);
        assert_eq!(regression(&stats(0, 0, 1), &refused), None);
        assert_eq!(regression(&stats(1000, 0, 1), &with(20, Outcome::HostRejection, 1000, 0)), None);
    }

    #[test]
    fn requests_that_clients_cancel_after_a_long_time_are_a_regression() {
        for old in [stats(1000, 0, 1), stats(0, 0, 1)] {
            let reason = regression(&old, &with(0, Outcome::ClientDisconnected, 20, 2000)).unwrap();
            assert!(reason.contains("clients cancelled 20 of them"), "{reason}");
        }
    }

    #[test]
    fn requests_that_clients_cancel_early_are_not_a_regression() {
        assert_eq!(regression(&stats(1000, 0, 1), &with(20, Outcome::ClientDisconnected, 1000, 100)), None);
        assert_eq!(
            regression(&stats(1000, 0, 200), &with(20, Outcome::ClientDisconnected, 1000, 500)),
            None,
            "it was slow before"
        );
    }
}
