//! Says once when the collector goes away, once when spans begin to be lost, and once when it is back.

use std::sync::atomic::{AtomicU8, Ordering};

const UP: u8 = 0;
const DOWN: u8 = 1;
const LOSING: u8 = 2;

/// Whether the collector can be reached, as far as is known.
#[derive(Debug, Default)]
pub(in crate::trace) struct Outage {
    state: AtomicU8,
    silent: bool,
}

impl Outage {
    /// One that says nothing: for the signals that go along with spans.
    pub fn silent() -> Outage {
        Outage { silent: true, ..Outage::default() }
    }

    /// An export failed for now.
    pub fn failed(&self, reason: &str) {
        let first = self.state.compare_exchange(UP, DOWN, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first && !self.silent {
            tracing::warn!(reason, "the collector cannot be reached; spans are kept and tried again");
        }
    }

    /// A segment found the queue full.
    pub fn dropping(&self) {
        if self.state.swap(LOSING, Ordering::Relaxed) != LOSING && !self.silent {
            tracing::warn!("the span queue is full; spans are dropped and counted in spandrel.spans.dropped");
        }
    }

    /// An export got through.
    pub fn over(&self) {
        if self.state.swap(UP, Ordering::Relaxed) != UP && !self.silent {
            tracing::info!("the collector takes spans again");
        }
    }
}
