//! Which traces the store of recent traces takes in when more arrive than anybody could look at.
//!
//! As long as there are few, all. Beyond that a share, drawn by trace id so that a trace is taken whole: the store then
//! still reaches some seconds back instead of being rewritten many times a second, which costs as much as making the spans.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;

use super::identity;

/// How far back the store should reach at least.
const REACH: Duration = Duration::from_secs(5);
/// How often the share is set anew: a flood that begins has this long until only a share of it is taken.
const PERIOD: Duration = Duration::from_millis(250);

/// Decides trace by trace. The share follows what came in the period before.
pub(super) struct StoreSampler {
    /// Spans that are wanted in a period.
    wanted: u64,
    began: Instant,
    /// The period at hand, counted from `began`.
    period: AtomicU64,
    /// Spans that came in it.
    seen: AtomicU64,
    /// Traces whose draw is not above this are taken.
    share: AtomicU64,
}

impl StoreSampler {
    /// For a store of so many spans.
    pub fn new(capacity: usize) -> StoreSampler {
        StoreSampler {
            wanted: (capacity as u64 * PERIOD.as_millis() as u64 / REACH.as_millis() as u64).max(1),
            began: Instant::now(),
            period: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            share: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether spans of this trace are taken now.
    pub fn takes(&self, trace: TraceId, spans: usize, now: Instant) -> bool {
        let period = (now.saturating_duration_since(self.began).as_millis() / PERIOD.as_millis()) as u64;
        let last = self.period.load(Relaxed);
        if period != last && self.period.compare_exchange(last, period, Relaxed, Relaxed).is_ok() {
            let seen = self.seen.swap(0, Relaxed);
            self.share.store(self.share_after(if period == last + 1 { seen } else { 0 }), Relaxed);
        }
        self.seen.fetch_add(spans as u64, Relaxed);
        identity::draw(trace) <= self.share.load(Relaxed)
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
        traces.filter(|id| sampler.takes(TraceId::from(*id), 1, now)).count()
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
    fn segments_of_one_trace_share_its_fate() {
        let sampler = StoreSampler::new(20_000);
        taken(&sampler, 1..10_001, 0);
        let now = sampler.began + PERIOD;
        for id in 1..1_000_u128 {
            let first = sampler.takes(TraceId::from(id), 1, now);
            assert_eq!(sampler.takes(TraceId::from(id), 10, now), first);
        }
    }
}
