//! What became of spans: counted here, read by metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why spans were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue was full.
    QueueFull,
    /// The collector refused them.
    Rejected,
    /// The host ended before they could leave.
    Shutdown,
}

/// The signals of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

/// How an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportOutcome {
    /// The collector took everything, or all but a part that was counted as dropped.
    Accepted,
    /// It is to be tried again.
    Failed,
    /// The collector will never take it.
    Rejected,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub struct Counters {
    exported: AtomicU64,
    dropped: [AtomicU64; 3],
    exports: [[(AtomicU64, AtomicU64); 3]; 3],
}

const REASONS: [(DropReason, &str); 3] =
    [(DropReason::QueueFull, "queue_full"), (DropReason::Rejected, "rejected"), (DropReason::Shutdown, "shutdown")];
const SIGNALS: [(SignalKind, &str); 3] =
    [(SignalKind::Traces, "traces"), (SignalKind::Metrics, "metrics"), (SignalKind::Logs, "logs")];
const OUTCOMES: [(ExportOutcome, &str); 3] =
    [(ExportOutcome::Accepted, "accepted"), (ExportOutcome::Failed, "failed"), (ExportOutcome::Rejected, "rejected")];

impl Counters {
    pub(super) fn exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, reason: DropReason, spans: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(spans, Ordering::Relaxed);
        }
    }

    pub(super) fn export(&self, signal: SignalKind, outcome: ExportOutcome, took: Duration) {
        if let Some((count, micros)) = self.exports.get(signal as usize).and_then(|row| row.get(outcome as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
            micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// Spans that the collector has taken.
    pub fn exported_spans(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that were lost, by reason.
    pub fn dropped_spans(&self) -> Vec<(&'static str, u64)> {
        let counts = REASONS.iter().zip(&self.dropped);
        counts.map(|((_, name), count)| (*name, count.load(Ordering::Relaxed))).collect()
    }

    /// Exports by signal and outcome: how many, and how long they took together.
    pub fn exports(&self) -> Vec<(&'static str, &'static str, u64, Duration)> {
        let mut all = Vec::new();
        for ((_, signal), row) in SIGNALS.iter().zip(&self.exports) {
            for ((_, outcome), (count, micros)) in OUTCOMES.iter().zip(row) {
                let took = Duration::from_micros(micros.load(Ordering::Relaxed));
                all.push((*signal, *outcome, count.load(Ordering::Relaxed), took));
            }
        }
        all
    }
}
