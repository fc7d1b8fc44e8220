//! Exemplars: for each bucket of a series, one measurement with the trace it came from.
//!
//! The SDK's metrics carry none, so exemplars are stored separately and merged when metrics are encoded. A bucket takes
//! the first sampled measurement after each collection; all others cost one atomic load.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::trace::{SpanId, TraceId};

use super::reader::HTTP_BUCKETS;
use crate::trace::MetricExemplar;

/// The exemplars of one series: a slot per bucket of [`HTTP_BUCKETS`] and one for the overflow bucket.
#[derive(Default)]
pub(super) struct Reservoir {
    slots: [Slot; HTTP_BUCKETS.len() + 1],
}

#[derive(Default)]
struct Slot {
    /// The collection period in which the slot was last filled; 0 means never.
    period: AtomicU64,
    stored: Mutex<Option<StoredExemplar>>,
}

struct StoredExemplar {
    exemplar: MetricExemplar,
    taken: bool,
}

impl Reservoir {
    /// Offers a measurement made in collection period `period`, counted from 1.
    pub(super) fn offer(&self, period: u64, value: f64, (trace_id, span_id): (TraceId, SpanId)) {
        let bucket = HTTP_BUCKETS.partition_point(|bound| *bound < value);
        let Some(slot) = self.slots.get(bucket) else {
            return;
        };
        if slot.period.load(Ordering::Relaxed) == period {
            return;
        }
        slot.period.store(period, Ordering::Relaxed);
        let exemplar = MetricExemplar { value, time: SystemTime::now(), trace_id, span_id };
        *slot.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(StoredExemplar { exemplar, taken: false });
    }

    /// The latest exemplar of each bucket.
    pub(super) fn peek(&self) -> Vec<MetricExemplar> {
        self.read(|stored| Some(stored.exemplar.clone()))
    }

    /// The exemplars that no earlier call has returned.
    pub(super) fn take(&self) -> Vec<MetricExemplar> {
        self.read(|stored| {
            let seen = std::mem::replace(&mut stored.taken, true);
            (!seen).then(|| stored.exemplar.clone())
        })
    }

    fn read(&self, read: impl Fn(&mut StoredExemplar) -> Option<MetricExemplar>) -> Vec<MetricExemplar> {
        self.slots
            .iter()
            .filter_map(|slot| {
                let mut stored = slot.stored.lock().unwrap_or_else(PoisonError::into_inner);
                stored.as_mut().and_then(&read)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(n: u8) -> (TraceId, SpanId) {
        (TraceId::from_bytes([n; 16]), SpanId::from_bytes([n; 8]))
    }

    #[test]
    fn a_bucket_keeps_the_first_measurement_of_each_period() {
        let reservoir = Reservoir::default();
        reservoir.offer(1, 0.001, span(1));
        reservoir.offer(1, 0.002, span(2));
        assert_eq!(reservoir.peek().len(), 1);
        assert_eq!(reservoir.peek()[0].trace_id, span(1).0);
        reservoir.offer(2, 0.003, span(3));
        assert_eq!(reservoir.peek()[0].value, 0.003);
    }

    #[test]
    fn an_exemplar_is_taken_once_and_can_be_read_repeatedly() {
        let reservoir = Reservoir::default();
        reservoir.offer(1, 0.001, span(1));
        reservoir.offer(1, 60.0, span(2));
        assert_eq!(reservoir.take().len(), 2);
        assert_eq!(reservoir.take().len(), 0);
        assert_eq!(reservoir.peek().len(), 2);
    }
}
