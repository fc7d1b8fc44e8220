//! Automatic rollback: the guard watches a new generation and rolls back if it is clearly worse than the one before.
//!
//! Only outcomes that the guest is responsible for count: requests that the host rejects, and clients that disconnect
//! early, are ignored. "Clearly" means statistically significant and large: enough requests, and an error rate or a p99
//! that is both far from the old one and far above it. A service that is merely noisy is not rolled back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::services::{Generation, Service, StatsSnapshot};

/// How often the statistics are compared.
const PERIOD: Duration = Duration::from_millis(200);
/// The fewest requests for a comparison of error rates.
const REQUESTS_FOR_ERRORS: u64 = 20;
/// The fewest requests for a comparison of p99.
const REQUESTS_FOR_P99: u64 = 500;
/// The least difference of two error rates, in standard errors.
const STANDARD_ERRORS: f64 = 4.0;
/// The least increase of the error rate, as a share of all requests.
const WORSE_BY: f64 = 0.05;
/// The least factor by which p99 must have increased.
const SLOWER_BY: u32 = 4;
/// The least increase of p99.
const SLOWER_AT_LEAST: Duration = Duration::from_millis(50);
/// A request that the client cancelled counts as failed if the guest had it for at least this time and for
/// [`SLOWER_BY`] times the old p99: clients also disconnect for reasons of their own.
const HUNG_AT_LEAST: Duration = Duration::from_millis(250);
/// The same if there are no statistics of the old version.
const HUNG_AT_LEAST_WHERE_NEW: Duration = Duration::from_secs(1);

/// Watches `new` for `window`, while it serves. Returns why it is clearly worse than `baseline` as soon as it is.
pub(super) async fn judge(
    service: &Service,
    new: &Arc<Generation>,
    baseline: &StatsSnapshot,
    window: Duration,
) -> Option<String> {
    let until = Instant::now() + window;
    let mut ticks = tokio::time::interval(PERIOD);
    while Instant::now() < until && Arc::ptr_eq(&service.serving().stable, new) {
        ticks.tick().await;
        if let Some(reason) = verdict(baseline, &new.stats.snapshot()) {
            return Some(reason);
        }
    }
    None
}

/// Why the new statistics are clearly worse than the old ones, if they are.
fn verdict(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    let limit = hung_after(old);
    let (old, judged) = (&old.with_hung(limit), &new.with_hung(limit));
    let hung = judged.requests - new.requests;
    let reason = errors(old, judged).or_else(|| slowness(old, judged))?;
    Some(if hung == 0 { reason } else { format!("{reason}; {hung} were given up after more than {limit:?}") })
}

/// How long the guest may have a request before a cancelled one counts as failed.
fn hung_after(old: &StatsSnapshot) -> Duration {
    match old.quantile(0.99) {
        Some(p99) if old.requests >= REQUESTS_FOR_ERRORS => HUNG_AT_LEAST.max(p99 * SLOWER_BY),
        _ => HUNG_AT_LEAST_WHERE_NEW,
    }
}

fn errors(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    if new.requests < REQUESTS_FOR_ERRORS {
        return None;
    }
    let (before, now) = (old.error_rate(), new.error_rate());
    let samples = 1.0 / old.requests.max(1) as f64 + 1.0 / new.requests as f64;
    let pooled = (old.errors + new.errors) as f64 / (old.requests + new.requests) as f64;
    let standard_error = (pooled * (1.0 - pooled) * samples).sqrt();
    // An old version without requests is assumed to have no errors; then only many errors are significant.
    let apart = if old.requests == 0 { now > 0.5 } else { now - before > STANDARD_ERRORS * standard_error };
    let worse = apart && now - before > WORSE_BY;
    worse.then(|| format!("{:.1} % of its requests failed, {:.1} % of the old one's", now * 100.0, before * 100.0))
}

fn slowness(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    if new.requests < REQUESTS_FOR_P99 || old.requests < REQUESTS_FOR_P99 {
        return None;
    }
    let (before, now) = (old.quantile(0.99)?, new.quantile(0.99)?);
    let worse = now > before * SLOWER_BY && now > before + SLOWER_AT_LEAST;
    worse.then(|| format!("its p99 is {now:?}, the old one's was {before:?}"))
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
    fn a_version_that_fails_is_clearly_worse() {
        assert!(verdict(&stats(1000, 1, 1), &stats(100, 40, 1)).unwrap().contains("40.0 %"));
        assert!(verdict(&stats(0, 0, 1), &stats(20, 20, 1)).is_some());
    }

    #[test]
    fn chance_is_not_clearly_worse() {
        assert_eq!(verdict(&stats(1000, 10, 1), &stats(100, 3, 1)), None);
        assert_eq!(verdict(&stats(1000, 500, 1), &stats(100, 52, 1)), None);
        assert_eq!(verdict(&stats(1000, 0, 1), &stats(10, 10, 1)), None, "ten requests say nothing");
        assert_eq!(verdict(&stats(0, 0, 1), &stats(20, 8, 1)), None);
    }

    #[test]
    fn a_version_that_is_far_slower_is_clearly_worse() {
        assert!(verdict(&stats(1000, 0, 2), &stats(1000, 0, 200)).unwrap().contains("p99"));
        assert_eq!(verdict(&stats(1000, 0, 2), &stats(1000, 0, 20)), None);
        assert_eq!(verdict(&stats(1000, 0, 200), &stats(1000, 0, 300)), None);
    }

    /// Statistics with more requests of one outcome.
    fn with(before: u64, outcome: Outcome, count: u64, milliseconds: u64) -> StatsSnapshot {
        let stats = RequestStats::default();
        (0..before).for_each(|_| stats.count(Outcome::Success, Duration::from_millis(1)));
        (0..count).for_each(|_| stats.count(outcome, Duration::from_millis(milliseconds)));
        stats.snapshot()
    }

    #[test]
    fn what_the_host_refuses_is_no_fault_of_the_version() {
        let refused = with(0, Outcome::HostRefusal, 1000, 0);
        assert_eq!(verdict(&stats(1000, 0, 1), &refused), None);
        assert_eq!(verdict(&stats(0, 0, 1), &refused), None);
        assert_eq!(verdict(&stats(1000, 0, 1), &with(20, Outcome::HostRefusal, 1000, 0)), None);
    }

    #[test]
    fn a_version_that_hangs_until_its_clients_leave_is_clearly_worse() {
        for old in [stats(1000, 0, 1), stats(0, 0, 1)] {
            let reason = verdict(&old, &with(0, Outcome::ClientGone, 20, 2000)).unwrap();
            assert!(reason.contains("20 were given up"), "{reason}");
        }
    }

    #[test]
    fn clients_that_leave_soon_cannot_veto_a_version() {
        assert_eq!(verdict(&stats(1000, 0, 1), &with(20, Outcome::ClientGone, 1000, 100)), None);
        assert_eq!(
            verdict(&stats(1000, 0, 200), &with(20, Outcome::ClientGone, 1000, 500)),
            None,
            "it was slow before"
        );
    }
}
