//! Which traces the store of recent traces takes in when more arrive than anybody could look at.
//!
//! As long as there are few, all. Beyond that a share, drawn by trace id so that a trace is taken whole: the store then
//! still reaches some seconds back instead of being rewritten many times a second, which costs as much as making the spans.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use opentelemetry::trace::TraceId;

use super::identity;

/// How many seconds the store should reach back at least.
const REACH: u64 = 5;

/// Decides trace by trace. The share follows what came in the second before.
pub(super) struct Intake {
    /// Spans that are wanted in a second.
    wanted: u64,
    began: Instant,
    /// The second at hand, counted from `began`.
    second: AtomicU64,
    /// Spans that came in it.
    seen: AtomicU64,
    /// Traces whose draw is not above this are taken.
    share: AtomicU64,
}

impl Intake {
    /// For a store of so many spans.
    pub fn new(capacity: usize) -> Intake {
        Intake {
            wanted: (capacity as u64 / REACH).max(1),
            began: Instant::now(),
            second: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            share: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether spans of this trace are taken now.
    pub fn takes(&self, trace: TraceId, spans: usize, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.began).as_secs();
        let last = self.second.load(Relaxed);
        if second != last && self.second.compare_exchange(last, second, Relaxed, Relaxed).is_ok() {
            let seen = self.seen.swap(0, Relaxed);
            self.share.store(self.share_after(if second == last + 1 { seen } else { 0 }), Relaxed);
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
    use std::time::Duration;

    use super::*;

    fn taken(intake: &Intake, traces: std::ops::Range<u128>, second: u64) -> usize {
        let now = intake.began + Duration::from_secs(second);
        traces.filter(|id| intake.takes(TraceId::from(*id), 1, now)).count()
    }

    #[test]
    fn few_traces_are_all_taken() {
        let intake = Intake::new(5_000);
        for second in 0..10 {
            assert_eq!(taken(&intake, 1..1_000, second), 999);
        }
    }

    #[test]
    fn of_many_a_share_is_taken_until_there_are_few_again() {
        let intake = Intake::new(5_000);
        taken(&intake, 1..10_001, 0);
        assert!((800..1_200).contains(&taken(&intake, 1..10_001, 1)), "a tenth");
        taken(&intake, 1..101, 2);
        assert_eq!(taken(&intake, 1..101, 3), 100);
        taken(&intake, 1..10_001, 4);
        assert_eq!(taken(&intake, 1..101, 60), 100, "after a silence");
    }

    #[test]
    fn segments_of_one_trace_share_its_fate() {
        let intake = Intake::new(5_000);
        taken(&intake, 1..10_001, 0);
        let now = intake.began + Duration::from_secs(1);
        for id in 1..1_000_u128 {
            let first = intake.takes(TraceId::from(id), 1, now);
            assert_eq!(intake.takes(TraceId::from(id), 10, now), first);
        }
    }
}
