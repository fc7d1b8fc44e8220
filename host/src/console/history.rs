//! Request statistics of the services in the last minutes: a ring buffer of samples per service, filled by one task.
//!
//! A sample contains what the generations of a service counted in one interval. A replaced generation is no longer
//! sampled, so its last requests are not in the samples.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;

use super::pages::Sample;
use crate::control::Control;
use crate::services::{Generation, Service, StatsSnapshot};

/// The interval of a sample.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// How many samples are kept per service: ten minutes.
pub(super) const SAMPLES: usize = 120;
/// How many of the latest samples make up the current statistics.
const RECENT_SAMPLES: usize = 12;

/// The samples of all services.
#[derive(Default)]
pub(super) struct History {
    services: Mutex<BTreeMap<String, Series>>,
}

/// Request statistics of a service in the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct RecentStats {
    /// Requests per second in the last interval.
    pub rate: f64,
    /// The share of the last minute's requests with a 5xx status.
    pub error_rate: f64,
    /// The median duration in milliseconds, if there were requests, accurate to a factor of two.
    pub p50_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
}

/// The samples of one service.
#[derive(Default)]
struct Series {
    samples: VecDeque<Sample>,
    /// The counts of the last minute.
    minute: VecDeque<StatsSnapshot>,
    /// The counts of the generations when they were last sampled.
    counted: Vec<(Weak<Generation>, StatsSnapshot)>,
}

impl History {
    /// Takes samples until the control is dropped.
    pub async fn run(self: Arc<Self>, control: Weak<Control>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(control) = control.upgrade() else { return };
            self.sample(&control.catalog.services());
        }
    }

    /// Adds a sample to each service, and removes services that no longer exist.
    fn sample(&self, services: &[Arc<Service>]) {
        let mut all = self.lock();
        all.retain(|name, _| services.iter().any(|service| service.name.as_str() == name));
        for service in services {
            let serving = service.serving();
            let canary = serving.canary.iter().map(|canary| &canary.generation);
            let generations: Vec<_> = [&serving.stable].into_iter().chain(canary).collect();
            all.entry(service.name.to_string()).or_default().add(&generations);
        }
    }

    /// The samples of a service, oldest first.
    pub fn samples(&self, service: &str) -> Vec<Sample> {
        self.lock().get(service).map(|series| series.samples.iter().copied().collect()).unwrap_or_default()
    }

    /// The current statistics of a service.
    pub fn recent(&self, service: &str) -> RecentStats {
        let all = self.lock();
        let Some(series) = all.get(service) else { return RecentStats::default() };
        let minute = series.minute.iter().fold(StatsSnapshot::default(), |sum, counted| sum.plus(counted));
        let Sample { p50_ms, p99_ms, .. } = sample(&minute);
        let rate = series.samples.back().map_or(0.0, |last| last.rate);
        RecentStats { rate, error_rate: minute.error_rate(), p50_ms, p99_ms }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Series>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    /// Adds what the generations have counted since the last sample.
    fn add(&mut self, generations: &[&Arc<Generation>]) {
        let (mut sum, mut counted) = (StatsSnapshot::default(), Vec::new());
        for generation in generations {
            let now = generation.stats.snapshot();
            let known = self.counted.iter().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(generation)));
            let before = known.map(|(_, before)| before.clone()).unwrap_or_default();
            sum = sum.plus(&now.since(&before));
            counted.push((Arc::downgrade(generation), now));
        }
        self.counted = counted;
        self.push(sum);
    }

    fn push(&mut self, counted: StatsSnapshot) {
        self.samples.push_back(sample(&counted));
        self.minute.push_back(counted);
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        while self.minute.len() > RECENT_SAMPLES {
            self.minute.pop_front();
        }
    }
}

fn sample(counted: &StatsSnapshot) -> Sample {
    let per_second = |count: u64| count as f64 / INTERVAL.as_secs_f64();
    let milliseconds = |q| counted.quantile(q).map(|duration| duration.as_secs_f64() * 1e3);
    Sample {
        rate: per_second(counted.requests),
        errors: per_second(counted.errors),
        p50_ms: milliseconds(0.50),
        p99_ms: milliseconds(0.99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Outcome, RequestStats};

    fn counted(requests: u64, errors: u64, duration: Duration) -> StatsSnapshot {
        let stats = RequestStats::default();
        let outcome = |at| if at < errors { Outcome::GuestFault } else { Outcome::Success };
        (0..requests).for_each(|at| stats.count(outcome(at), duration));
        stats.snapshot()
    }

    fn history(samples: impl IntoIterator<Item = StatsSnapshot>) -> History {
        let history = History::default();
        let mut series = Series::default();
        samples.into_iter().for_each(|sample| series.push(sample));
        history.lock().insert("user".to_owned(), series);
        history
    }

    #[test]
    fn the_number_of_samples_is_bounded() {
        let history = history((0..1000).map(|at| counted(at, 0, Duration::ZERO)));
        let samples = history.samples("user");
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!(samples.last().map(|sample| sample.rate), Some(999.0 / 5.0));
    }

    #[test]
    fn recent_statistics_are_those_of_the_last_minute() {
        let old = (0..20).map(|_| counted(100, 100, Duration::from_secs(1)));
        let minute = (0..RECENT_SAMPLES).map(|_| counted(10, 1, Duration::from_micros(100)));
        let history = history(old.chain(minute));
        let recent = history.recent("user");
        assert_eq!((recent.rate, recent.error_rate), (2.0, 0.1));
        assert!(recent.p99_ms.is_some_and(|p99| p99 < 1.0), "samples older than a minute are excluded");
        assert_eq!(history.recent("other"), RecentStats::default());
    }
}
