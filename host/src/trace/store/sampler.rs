//! Samples the traces that the store takes under load.
//!
//! Under low load all traces are stored. Beyond that a share of them is, chosen by trace id so that traces stay
//! complete: the store then still reaches back several seconds instead of being overwritten many times a second, which
//! costs as much as recording the spans. Traces outside the share are stored if they fail, within a budget of their
//! own, from their first failed part on: callers end after the services that they call.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;

use crate::trace::identity;

/// The least time that the store should reach back.
const REACH: Duration = Duration::from_secs(5);
/// How often the share is recomputed: a sudden load is limited after this time.
const PERIOD: Duration = Duration::from_millis(250);
/// Failed traces outside the share may take this fraction of the wanted bytes.
const ERRORS: u64 = 4;
/// How many failed traces outside the share are remembered.
const REMEMBERED: usize = 1024;

/// Decides per trace. The share is computed from the previous period.
pub(super) struct StoreSampler {
    /// The bytes wanted per period.
    wanted: u64,
    began: Instant,
    /// The current period, counted from `began`.
    period: AtomicU64,
    /// Bytes that arrived in it.
    seen: AtomicU64,
    /// Bytes of failed traces outside the share that were stored in it.
    errors: AtomicU64,
    /// Traces whose draw is at most this are stored.
    share: AtomicU64,
    /// Draws of traces that are stored because a part of them failed, in a hash table without collision handling.
    failed: Box<[AtomicU64]>,
}

impl StoreSampler {
    /// The sampler of a store with this capacity in bytes.
    pub fn new(capacity: usize) -> StoreSampler {
        StoreSampler {
            wanted: (capacity as u64 * PERIOD.as_millis() as u64 / REACH.as_millis() as u64).max(1),
            began: Instant::now(),
            period: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            share: AtomicU64::new(u64::MAX),
            failed: (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether to store a part of this trace.
    pub fn takes(&self, trace: TraceId, bytes: usize, failed: bool, now: Instant) -> bool {
        self.turn(now);
        self.seen.fetch_add(bytes as u64, Relaxed);
        let draw = identity::draw(trace);
        draw <= self.share.load(Relaxed) || self.takes_failed(draw, bytes as u64, failed)
    }

    fn takes_failed(&self, draw: u64, bytes: u64, failed: bool) -> bool {
        let Some(place) = self.failed.get(draw as usize % REMEMBERED) else { return false };
        let known = place.load(Relaxed) == draw;
        if !known && !failed {
            return false;
        }
        let fits = self.errors.fetch_add(bytes, Relaxed) <= self.wanted / ERRORS;
        if fits && !known {
            place.store(draw, Relaxed);
        }
        fits
    }

    /// Starts a new period if the current one has ended.
    fn turn(&self, now: Instant) {
        let period = (now.saturating_duration_since(self.began).as_millis() / PERIOD.as_millis()) as u64;
        let last = self.period.load(Relaxed);
        if period != last && self.period.compare_exchange(last, period, Relaxed, Relaxed).is_ok() {
            let seen = self.seen.swap(0, Relaxed);
            self.errors.store(0, Relaxed);
            self.share.store(self.share_after(if period == last + 1 { seen } else { 0 }), Relaxed);
        }
    }

    fn share_after(&self, seen: u64) -> u64 {
        if seen <= self.wanted { u64::MAX } else { u64::MAX / seen * self.wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sampler: &StoreSampler, traces: std::ops::Range<u128>, period: u32) -> usize {
        let now = sampler.began + period * PERIOD;
        traces.filter(|id| sampler.takes(TraceId::from(*id), 1, false, now)).count()
    }

    #[test]
    fn few_traces_are_all_taken() {
        let sampler = StoreSampler::new(20_000);
        for period in 0..10 {
            assert_eq!(taken(&sampler, 1..1_000, period), 999);
        }
    }

    #[test]
    fn of_many_a_share_is_taken_until_there_are_few_again() {
        let sampler = StoreSampler::new(20_000);
        taken(&sampler, 1..10_001, 0);
        assert!((800..1_200).contains(&taken(&sampler, 1..10_001, 1)), "a tenth");
        taken(&sampler, 1..101, 2);
        assert_eq!(taken(&sampler, 1..101, 3), 100);
        taken(&sampler, 1..10_001, 4);
        assert_eq!(taken(&sampler, 1..101, 60), 100, "after a silence");
    }

    #[test]
    fn parts_of_one_trace_share_its_fate() {
        let sampler = StoreSampler::new(20_000);
        taken(&sampler, 1..10_001, 0);
        let now = sampler.began + PERIOD;
        for id in 1..1_000_u128 {
            let first = sampler.takes(TraceId::from(id), 1, false, now);
            assert_eq!(sampler.takes(TraceId::from(id), 10, false, now), first);
        }
    }

    #[test]
    fn failed_traces_are_taken_beyond_the_share_with_the_rest_of_them_and_not_without_end() {
        let sampler = StoreSampler::new(20_000);
        taken(&sampler, 1..1_000_001, 0);
        let now = sampler.began + PERIOD;
        let left_out = (1..).map(TraceId::from).find(|id: &TraceId| !sampler.takes(*id, 1, false, now)).unwrap();
        assert!(sampler.takes(left_out, 1, true, now) && sampler.takes(left_out, 1, false, now));
        let failed = (2_000_000_u128..2_010_000).filter(|id| sampler.takes(TraceId::from(*id), 1, true, now)).count();
        assert!((100..600).contains(&failed), "{failed} of a quarter of 1000");
    }
}
