//! The watch over a fresh generation: where it is clearly worse than the one before, the host goes back by itself.
//!
//! "Clearly" means more than chance and more than a little: enough requests, and an error rate or a p99 that is both
//! far from the old one's and far above it. A service that is merely noisy is left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::services::{Generation, Service, StatsSnapshot};

/// How often the figures are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// Fewer requests than this say nothing about errors.
const REQUESTS_FOR_ERRORS: u64 = 20;
/// Fewer requests than this say nothing about a p99.
const REQUESTS_FOR_P99: u64 = 500;
/// How many standard errors apart two error rates must be.
const STANDARD_ERRORS: f64 = 4.0;
/// How much higher an error rate must be, as a share of all requests.
const WORSE_BY: f64 = 0.05;
/// How many times as high a p99 must be.
const SLOWER_BY: u32 = 4;
/// How much higher a p99 must be.
const SLOWER_AT_LEAST: Duration = Duration::from_millis(50);

/// Watches `new` for `window`, as long as it serves. Says why it is clearly worse than `baseline` as soon as it is.
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

/// Why the new figures are clearly worse than the old ones, if they are.
fn verdict(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    errors(old, new).or_else(|| slowness(old, new))
}

fn errors(old: &StatsSnapshot, new: &StatsSnapshot) -> Option<String> {
    if new.requests < REQUESTS_FOR_ERRORS {
        return None;
    }
    let (before, now) = (old.error_rate(), new.error_rate());
    let samples = 1.0 / old.requests.max(1) as f64 + 1.0 / new.requests as f64;
    let pooled = (old.errors + new.errors) as f64 / (old.requests + new.requests) as f64;
    let standard_error = (pooled * (1.0 - pooled) * samples).sqrt();
    // A version that nobody used yet is taken to be faultless, but then only many errors count.
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
    use crate::services::RequestStats;

    fn stats(requests: u64, errors: u64, milliseconds: u64) -> StatsSnapshot {
        let stats = RequestStats::default();
        for index in 0..requests {
            stats.count(index < errors, Duration::from_millis(milliseconds));
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
}
