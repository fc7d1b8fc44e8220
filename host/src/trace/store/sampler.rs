//! Samples the traces that the store takes under load.
//!
//! Under low load all traces are stored. Under high load a share of them is stored, chosen by trace id so that traces
//! stay complete. The store then covers several seconds instead of being overwritten many times a second, which would
//! cost as much as recording the spans. Traces outside the share are stored if they fail, within a budget of their own,
//! from their first failed part on: callers end after the services that they call.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;

use crate::trace::ids;

/// The least time that the stored traces should cover.
const MIN_HISTORY: Duration = Duration::from_secs(5);
/// How often the threshold is recomputed. A sudden load is limited after this time.
const PERIOD: Duration = Duration::from_millis(250);
/// Failed traces outside the share may take this fraction of the budget.
const ERROR_SHARE: u64 = 4;
/// The slots of the table of failed traces outside the share.
const FAILED_SLOTS: usize = 1024;

/// Decides per trace. The threshold is computed from the bytes of the previous period.
pub(super) struct StoreSampler {
    /// The bytes to store per period.
    budget: u64,
    started: Instant,
    /// The current period, counted from `started`.
    period: AtomicU64,
    /// Bytes that arrived in the current period.
    bytes_seen: AtomicU64,
    /// Bytes of failed traces outside the share that were stored in the current period.
    failed_bytes: AtomicU64,
    /// Traces whose hash is at most this are stored.
    threshold: AtomicU64,
    /// Hashes of traces that are stored because a part of them failed, in a hash table without collision handling.
    failed: Box<[AtomicU64]>,
}

impl StoreSampler {
    /// The sampler of a store with this capacity in bytes.
    pub fn new(capacity: usize) -> StoreSampler {
        StoreSampler {
            budget: (capacity as u64 * PERIOD.as_millis() as u64 / MIN_HISTORY.as_millis() as u64).max(1),
            started: Instant::now(),
            period: AtomicU64::new(0),
            bytes_seen: AtomicU64::new(0),
            failed_bytes: AtomicU64::new(0),
            threshold: AtomicU64::new(u64::MAX),
            failed: (0..FAILED_SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether to store a part of this trace.
    pub fn admits(&self, trace: TraceId, bytes: usize, failed: bool, now: Instant) -> bool {
        self.roll_period(now);
        self.bytes_seen.fetch_add(bytes as u64, Relaxed);
        let hash = ids::trace_hash(trace);
        hash <= self.threshold.load(Relaxed) || self.admits_failed(hash, bytes as u64, failed)
    }

    fn admits_failed(&self, hash: u64, bytes: u64, failed: bool) -> bool {
        let Some(slot) = self.failed.get(hash as usize % FAILED_SLOTS) else { return false };
        let known = slot.load(Relaxed) == hash;
        if !known && !failed {
            return false;
        }
        let fits = self.failed_bytes.fetch_add(bytes, Relaxed) <= self.budget / ERROR_SHARE;
        if fits && !known {
            slot.store(hash, Relaxed);
        }
        fits
    }

    /// Starts a new period if the current one has ended.
    fn roll_period(&self, now: Instant) {
        let period = (now.saturating_duration_since(self.started).as_millis() / PERIOD.as_millis()) as u64;
        let last = self.period.load(Relaxed);
        if period != last && self.period.compare_exchange(last, period, Relaxed, Relaxed).is_ok() {
            let seen = self.bytes_seen.swap(0, Relaxed);
            self.failed_bytes.store(0, Relaxed);
            self.threshold.store(self.threshold_after(if period == last + 1 { seen } else { 0 }), Relaxed);
        }
    }

    fn threshold_after(&self, seen: u64) -> u64 {
        if seen <= self.budget { u64::MAX } else { u64::MAX / seen * self.budget }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(sampler: &StoreSampler, traces: std::ops::Range<u128>, period: u32) -> usize {
        let now = sampler.started + period * PERIOD;
        traces.filter(|id| sampler.admits(TraceId::from(*id), 1, false, now)).count()
    }

    #[test]
    fn all_traces_are_admitted_under_low_load() {
        let sampler = StoreSampler::new(20_000);
        for period in 0..10 {
            assert_eq!(admitted(&sampler, 1..1_000, period), 999);
        }
    }

    #[test]
    fn under_high_load_a_share_is_admitted_until_the_load_drops() {
        let sampler = StoreSampler::new(20_000);
        admitted(&sampler, 1..10_001, 0);
        assert!((800..1_200).contains(&admitted(&sampler, 1..10_001, 1)), "a tenth");
        admitted(&sampler, 1..101, 2);
        assert_eq!(admitted(&sampler, 1..101, 3), 100);
        admitted(&sampler, 1..10_001, 4);
        assert_eq!(admitted(&sampler, 1..101, 60), 100, "after a pause");
    }

    #[test]
    fn all_parts_of_a_trace_get_the_same_decision() {
        let sampler = StoreSampler::new(20_000);
        admitted(&sampler, 1..10_001, 0);
        let now = sampler.started + PERIOD;
        for id in 1..1_000_u128 {
            let first = sampler.admits(TraceId::from(id), 1, false, now);
            assert_eq!(sampler.admits(TraceId::from(id), 10, false, now), first);
        }
    }

    #[test]
    fn failed_traces_outside_the_share_are_admitted_with_later_parts_within_a_budget() {
        let sampler = StoreSampler::new(20_000);
        admitted(&sampler, 1..1_000_001, 0);
        let now = sampler.started + PERIOD;
        let left_out = (1..).map(TraceId::from).find(|id: &TraceId| !sampler.admits(*id, 1, false, now)).unwrap();
        assert!(sampler.admits(left_out, 1, true, now) && sampler.admits(left_out, 1, false, now));
        let failed = (2_000_000_u128..2_010_000).filter(|id| sampler.admits(TraceId::from(*id), 1, true, now)).count();
        assert!((100..600).contains(&failed), "{failed} of a quarter of 1000");
    }
}
